//! An ONNX file that was read, and the names of what is in it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;

use super::super::error::WeightsError;
use super::graph::{Graph, is};
use super::node::{Input, OnnxLstm, describe, name_of};
use super::tensor::{self, Unreadable};

/// An ONNX model, of which the LSTM nodes are looked at.
///
/// ```no_run
/// use burn::tensor::Device;
/// use scratch_lstm::weights::{OnnxFile, OnnxOptions};
///
/// let file = OnnxFile::open("model.onnx")?;
/// println!("{:?}", file.names());
/// let lstm = file.lstm(None, &OnnxOptions::default(), &Device::default())?;
/// # Ok::<(), scratch_lstm::WeightsError>(())
/// ```
///
/// Nodes inside the bodies of loops, conditions and functions of a model are not looked at, and
/// numbers that lie in other files (external data) are not read.
#[derive(Debug)]
pub struct OnnxFile {
    path: PathBuf,
    /// Bytes in the file.
    size: usize,
    pub(super) graph: Graph,
}

impl OnnxFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is a folder, empty, larger than the format allows (2 GiB),
    /// cut short or damaged, or no ONNX model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let not_a_model = |found: String| WeightsError::File {
            path: path.into(),
            expected: format!("an ONNX model of at most {MAX_SIZE} bytes"),
            found,
        };
        let io = |source| WeightsError::Io {
            path: path.into(),
            source,
        };
        // Before it is opened: opening a pipe would wait for a writer.
        let kind = std::fs::metadata(path).map_err(io)?;
        if kind.is_dir() {
            return Err(not_a_model("a folder".into()));
        }
        if !kind.is_file() {
            return Err(not_a_model("something that is not a regular file".into()));
        }
        if kind.len() > MAX_SIZE {
            return Err(not_a_model(format!("{} bytes", kind.len())));
        }
        let mut bytes = Vec::with_capacity(kind.len() as usize);
        let file = File::open(path).map_err(io)?;
        // Should it grow meanwhile, it is cut short, and damaged.
        let limited = &mut file.take(MAX_SIZE);
        limited.read_to_end(&mut bytes).map_err(io)?;
        if bytes.is_empty() {
            return Err(not_a_model("an empty file".into()));
        }
        Ok(Self {
            path: path.into(),
            size: bytes.len(),
            graph: Graph::decode(bytes.into()).map_err(not_a_model)?,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the LSTM nodes, in the order of the file; a node without a name is known by
    /// its first output.
    pub fn names(&self) -> Vec<String> {
        let nodes = self.nodes().map(|index| name_of(&self.graph.nodes[index]));
        nodes.map(ToString::to_string).collect()
    }

    /// What an LSTM node says of itself.
    ///
    /// # Errors
    ///
    /// If there is no LSTM node of that name, or one with settings that no LSTM of this crate has
    /// (all of them are named), or whose weights are not in the file.
    pub fn describe(&self, name: &str) -> Result<OnnxLstm, WeightsError> {
        self.described(self.find(name)?)
    }

    /// The LSTM nodes by their places in the graph.
    pub(super) fn nodes(&self) -> impl Iterator<Item = usize> {
        let nodes = self.graph.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| is(node, "LSTM").then_some(index))
    }

    /// The place of the LSTM node of that name, or with an output of that name.
    pub(super) fn find(&self, name: &str) -> Result<usize, WeightsError> {
        let node = |index: &usize| &self.graph.nodes[*index];
        let named = self.nodes().find(|index| node(index).name == name);
        let made = |index: &usize| node(index).outputs.iter().any(|output| output == name);
        named
            .or_else(|| self.nodes().find(made))
            .filter(|_| !name.is_empty())
            .ok_or_else(|| self.no_node(&format!("an LSTM node \"{name}\"")))
    }

    /// [`describe`](Self::describe) by the node's place.
    pub(super) fn described(&self, index: usize) -> Result<OnnxLstm, WeightsError> {
        let node = &self.graph.nodes[index];
        describe(&self.graph, node).map_err(|found| WeightsError::Unsupported {
            name: self.label(index),
            found,
        })
    }

    /// How a message names a node.
    pub(super) fn label(&self, index: usize) -> String {
        let name = name_of(&self.graph.nodes[index]);
        format!("{}: the LSTM node \"{name}\"", self.path.display())
    }

    /// How a message names an input of a node.
    pub(super) fn input_name(&self, node: usize, input: Input) -> String {
        format!("{}.{}", name_of(&self.graph.nodes[node]), input.name())
    }

    /// The floats of an input that is in the file; `None` if the node has no such input, or one
    /// that is brought by a call or computed.
    pub(super) fn constant(
        &self,
        node: usize,
        input: Input,
    ) -> Result<Option<TensorData>, WeightsError> {
        let Some(value) = input.of(&self.graph.nodes[node]) else {
            return Ok(None);
        };
        let name = self.input_name(node, input);
        let damaged = |found| WeightsError::File {
            path: self.path.clone(),
            expected: format!("to read {name}"),
            found,
        };
        let Some(tensor) = self.graph.constant(value) else {
            return Ok(None);
        };
        let floats = tensor::floats(tensor).map_err(|error| match error {
            Unreadable::Damaged(found) => damaged(found),
            Unreadable::Elements(found) => WeightsError::DType {
                name: name.clone(),
                expected: "FLOAT, DOUBLE, FLOAT16 or BFLOAT16".into(),
                found,
            },
        });
        floats.map(Some)
    }

    /// That so many numbers may be made of the file: layers may share some, but not without limit.
    pub(super) fn check_numbers(&self, count: Option<usize>) -> Result<(), WeightsError> {
        let most = self.size.saturating_mul(SHARED);
        if count.is_some_and(|count| count <= most) {
            return Ok(());
        }
        Err(WeightsError::File {
            path: self.path.clone(),
            expected: format!("at most {most} numbers in LSTM nodes"),
            found: match count {
                Some(count) => format!("{count} in a file of {} bytes", self.size),
                None => "more than can be counted".into(),
            },
        })
    }

    /// That no LSTM node is what was asked for.
    pub(super) fn no_node(&self, expected: &str) -> WeightsError {
        let names = self.names();
        WeightsError::File {
            path: self.path.clone(),
            expected: expected.into(),
            found: match names.len() {
                0 => "no LSTM node".into(),
                _ => super::super::error::list("the LSTM nodes", &names),
            },
        }
    }
}

/// The largest size of a protocol buffer.
const MAX_SIZE: u64 = (1 << 31) - 1;

/// How many numbers a byte of the file may stand for, by way of layers that share their tensors.
const SHARED: usize = 16;
