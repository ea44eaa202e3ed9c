//! The graph of an ONNX file: which node makes a value, which nodes read it, and what is constant.

use std::collections::HashMap;
use std::fmt;

use prost::Message;
use prost::bytes::Bytes;

use super::proto::{self, kind};
use super::tensor;

/// More nodes, or more tensors, than this are taken for a mistake.
const MAX_ENTRIES: usize = 1 << 20;

/// A decoded graph.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// In an order in which they can be computed, as ONNX has them.
    pub(super) nodes: Vec<proto::Node>,
    /// By the name of an output, the node that makes it.
    makers: HashMap<String, usize>,
    /// By the name of a value, the nodes that read it and as which of their inputs.
    readers: HashMap<String, Vec<(usize, usize)>>,
    /// By name, tensors whose numbers are in the file: initializers and what Constant nodes hold.
    constants: HashMap<String, proto::Tensor>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Float(f32),
    Int(i64),
    String(String),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<String>),
    Tensor(proto::Tensor),
    /// Of a kind that no LSTM has.
    Other(i32),
}

/// Where a value comes from.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// Numbers in the file.
    Constant(&'a proto::Tensor),
    /// A node.
    Node(&'a proto::Node),
    /// None of the two: an input of the graph, or of a graph around it.
    Outside,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(number) => write!(f, "{number}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Floats(numbers) => write!(f, "a list of {} floats", numbers.len()),
            Self::Ints(numbers) => write!(f, "a list of {} whole numbers", numbers.len()),
            Self::Strings(texts) => write!(f, "a list of {} texts", texts.len()),
            Self::Tensor(tensor) => write!(f, "a tensor of shape {:?}", tensor.dims),
            Self::Other(kind) => write!(f, "a value of kind {kind}"),
        }
    }
}

impl Graph {
    /// The graph in the bytes of a file; the error is what was found instead.
    pub(super) fn decode(file: Bytes) -> Result<Self, String> {
        let model = proto::Model::decode(file).map_err(damaged)?;
        let graph = model.graph.ok_or("a file without a graph")?;
        let graph = proto::Graph::decode(graph).map_err(damaged)?;
        for (what, count) in [
            ("nodes", graph.nodes.len()),
            ("initializers", graph.initializers.len()),
        ] {
            if count > MAX_ENTRIES {
                return Err(format!("{count} {what}, more than {MAX_ENTRIES}"));
            }
        }
        check_operators(model.operator_sets)?;
        let mut found = Self::default();
        for tensor in graph.initializers {
            let tensor = proto::Tensor::decode(tensor).map_err(damaged)?;
            // What has no name is read by nobody.
            if !tensor.name.is_empty() {
                found.constants.insert(tensor.name.clone(), tensor);
            }
        }
        for node in graph.nodes {
            found.add(proto::Node::decode(node).map_err(damaged)?)?;
        }
        Ok(found)
    }

    /// Puts a node behind the others.
    fn add(&mut self, node: proto::Node) -> Result<(), String> {
        let index = self.nodes.len();
        if let Some((name, tensor)) = held(&node)? {
            self.constants.insert(name, tensor);
        }
        let outputs = node.outputs.iter().filter(|name| !name.is_empty());
        let mut makes_something = false;
        for name in outputs {
            makes_something = true;
            if self.makers.insert(name.clone(), index).is_some() {
                return Err(format!("two nodes with the output {name:?}"));
            }
        }
        if !makes_something {
            return Ok(());
        }
        for (place, name) in node.inputs.iter().enumerate() {
            if !name.is_empty() {
                let readers = self.readers.entry(name.clone()).or_default();
                readers.push((index, place));
            }
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The nodes that read a value, each with the place of the input it is.
    pub(super) fn readers(&self, name: &str) -> &[(usize, usize)] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Where a value comes from.
    pub(super) fn source(&self, name: &str) -> Source<'_> {
        match (self.constants.get(name), self.makers.get(name)) {
            (Some(tensor), _) => Source::Constant(tensor),
            (None, Some(&maker)) => Source::Node(&self.nodes[maker]),
            (None, None) => Source::Outside,
        }
    }

    /// The names of the values that are constant.
    pub(super) fn constants(&self) -> impl Iterator<Item = &str> {
        self.constants.keys().map(String::as_str)
    }

    /// The numbers of a value that is constant.
    pub(super) fn constant(&self, name: &str) -> Option<&proto::Tensor> {
        self.constants.get(name)
    }

    /// The whole numbers of a value that is a constant list of at most `most`.
    pub(super) fn ints(&self, name: &str, most: usize) -> Option<Vec<i64>> {
        let tensor = self.constants.get(name)?;
        // Many nodes may read one list: it is not copied before its length is known.
        match tensor.dims[..] {
            [count] if usize::try_from(count).is_ok_and(|count| count <= most) => {}
            _ => return None,
        }
        tensor::ints(tensor).ok()
    }
}

/// Whether a node is this one of ONNX's own operators.
pub(super) fn is(node: &proto::Node, operator: &str) -> bool {
    node.operator == operator && is_own(&node.domain)
}

/// The attributes of a node by name; the error is what was found instead.
pub(super) fn attributes(node: &proto::Node) -> Result<HashMap<String, Value>, String> {
    let attributes = node.attributes.iter().cloned();
    attributes
        .map(|bytes| {
            let attribute = proto::Attribute::decode(bytes).map_err(damaged)?;
            Ok((attribute.name.clone(), value(attribute)?))
        })
        .collect()
}

/// What a Constant node holds, under the name of its output.
fn held(node: &proto::Node) -> Result<Option<(String, proto::Tensor)>, String> {
    let (true, Some(name)) = (is(node, "Constant"), node.outputs.first()) else {
        return Ok(None);
    };
    for bytes in node.attributes.iter().cloned() {
        let attribute = proto::Attribute::decode(bytes).map_err(damaged)?;
        let tensor = match (attribute.name.as_str(), attribute.tensor) {
            ("value", Some(tensor)) => proto::Tensor::decode(tensor).map_err(damaged)?,
            ("value_ints", _) => tensor::of_ints(name, attribute.ints),
            _ => continue,
        };
        return Ok(Some((name.clone(), tensor)));
    }
    Ok(None)
}

fn value(attribute: proto::Attribute) -> Result<Value, String> {
    let text = |bytes: &Bytes| {
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| format!("attribute {:?}: bytes, no text", attribute.name));
        text.map(ToString::to_string)
    };
    Ok(match attribute.kind {
        kind::FLOAT => Value::Float(attribute.float),
        kind::INT => Value::Int(attribute.int),
        kind::STRING => Value::String(text(&attribute.string)?),
        kind::TENSOR => {
            let tensor = attribute.tensor.unwrap_or_default();
            Value::Tensor(proto::Tensor::decode(tensor).map_err(damaged)?)
        }
        kind::FLOATS => Value::Floats(attribute.floats),
        kind::INTS => Value::Ints(attribute.ints),
        kind::STRINGS => Value::Strings(
            attribute
                .strings
                .iter()
                .map(text)
                .collect::<Result<_, _>>()?,
        ),
        other => Value::Other(other),
    })
}

/// Whether operators of that domain are ONNX's own.
fn is_own(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// That a file names a version of ONNX's own operators, which may follow all else in it.
fn check_operators(sets: Vec<Bytes>) -> Result<(), String> {
    for set in sets {
        let set = proto::OperatorSet::decode(set).map_err(damaged)?;
        if is_own(&set.domain) {
            return Ok(());
        }
    }
    Err("a file that names no version of ONNX's operators".into())
}

fn damaged(error: prost::DecodeError) -> String {
    format!("damage ({error})")
}
