//! A file of named tensors that PyTorch users pass around: a state dict.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::module::ParamId;
use burn::store::pytorch_reader::{self as checkpoint, PytorchReader};
use burn::tensor::{BoolStore, DType, Tensor, TensorCreationOptions, TensorData};

use crate::random::Key;

use super::error::WeightsError;
use super::safetensors;

/// Keys under which training scripts put the state dict into a checkpoint.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// A PyTorch state dict in a `.safetensors` or `.pt` file, whichever the content says; tensors are
/// read when asked for.
///
/// A `.pt` file may hold more than the state dict: its dictionaries are joined by dots
/// (`state_dict.embed.weight`). Names are looked up as they are and then below `state_dict`,
/// `model_state_dict` and `model`, so that `embed.weight` is found in both.
///
/// ```no_run
/// use burn::tensor::Device;
/// use scratch_lstm::weights::{PytorchFile, PytorchOptions};
///
/// let device = Device::default();
/// let file = PytorchFile::open("model.pt")?;
/// let lstm = file.lstm("encoder.lstm", &PytorchOptions::default(), &device)?;
/// let embed = file.tensor::<2>("embed.weight", &device)?;
/// # Ok::<(), scratch_lstm::WeightsError>(())
/// ```
#[derive(Debug)]
pub struct PytorchFile {
    path: PathBuf,
    /// Bytes in the file.
    size: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Safetensors(safetensors::Container),
    Checkpoint(BTreeMap<String, checkpoint::Tensor>),
}

impl PytorchFile {
    /// Opens a file and reads what it says of its tensors.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is a folder, empty, cut short or damaged, or no state dict.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let Regular { file, size, start } = open_regular(path, EXPECTED)?;
        let content = if safetensors::looks_like(&start) {
            guarded(|| safetensors::Container::open(file, size)).map(Content::Safetensors)
        } else {
            guarded(|| open_checkpoint(path)).map(Content::Checkpoint)
        };
        Ok(Self {
            content: content.map_err(|found| WeightsError::File {
                path: path.into(),
                expected: EXPECTED.into(),
                found,
            })?,
            path: path.into(),
            size,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        match &self.content {
            Content::Safetensors(container) => {
                let mut names = container.names();
                names.sort();
                names
            }
            Content::Checkpoint(tensors) => tensors.keys().cloned().collect(),
        }
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    ///
    /// If there is no such tensor.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, WeightsError> {
        let name = self.find(name)?;
        Ok(self.exact_shape(&name).expect("found above"))
    }

    /// The element type of a tensor.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, or burn has no such element type.
    pub fn dtype(&self, name: &str) -> Result<DType, WeightsError> {
        let name = self.find(name)?;
        self.exact_dtype(&name)
    }

    /// A tensor's values in the element type that the file has.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, if burn has no such element type, or if the file does not hold
    /// all of it.
    pub fn data(&self, name: &str) -> Result<TensorData, WeightsError> {
        let name = self.find(name)?;
        let dtype = self.exact_dtype(&name)?;
        let shape = self.exact_shape(&name).expect("found above");
        let bytes = self.exact_bytes(&name)?;
        TensorData::try_from_bytes_vec(bytes, shape, dtype)
            .map_err(|error| self.damaged(&name, error))
    }

    /// A tensor of floats (f64, f32, f16 or bf16), converted to the element type that `options`
    /// ask for, or else to the device's (f32 unless configured otherwise).
    ///
    /// # Errors
    ///
    /// Where [`data`](Self::data) has one; if it has other elements or another number of axes, or
    /// the device does not support the element type.
    pub fn tensor<const R: usize>(
        &self,
        name: &str,
        options: impl Into<TensorCreationOptions>,
    ) -> Result<Tensor<R>, WeightsError> {
        let options = options.into();
        let name = self.find(name)?;
        self.check_float(&name)?;
        float_tensor(&self.path, &name, &options, || self.data(&name))
    }

    /// The full name of the tensor that `name` finds.
    pub(super) fn find(&self, name: &str) -> Result<String, WeightsError> {
        self.candidates(name)
            .find(|name| self.exact_shape(name).is_some())
            .ok_or_else(|| WeightsError::Missing {
                path: self.path.clone(),
                missing: vec![name.into()],
                found: self.names(),
            })
    }

    /// `name` itself, then below each of the usual wrappers.
    pub(super) fn candidates(&self, name: &str) -> impl Iterator<Item = String> {
        let wrapped = WRAPPERS.map(|wrapper| super::error::joined(wrapper, name));
        std::iter::once(name.to_string()).chain(wrapped)
    }

    /// The shape of the tensor of exactly this name.
    pub(super) fn exact_shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.content {
            Content::Safetensors(container) => container.shape(name),
            Content::Checkpoint(tensors) => Some(tensors.get(name)?.shape().to_vec()),
        }
    }

    /// That the tensor of exactly this name has floats.
    pub(super) fn check_float(&self, name: &str) -> Result<(), WeightsError> {
        let dtype = self.exact_dtype(name)?;
        if dtype.is_float() {
            return Ok(());
        }
        Err(WeightsError::DType {
            name: name.into(),
            expected: FLOATS.into(),
            found: format!("{dtype:?}"),
        })
    }

    fn exact_dtype(&self, name: &str) -> Result<DType, WeightsError> {
        let dtype = match &self.content {
            Content::Safetensors(container) => container.dtype(name).expect("looked up before"),
            Content::Checkpoint(tensors) => Ok(from_checkpoint(tensors[name].dtype())),
        };
        dtype.map_err(|found| WeightsError::DType {
            name: name.into(),
            expected: FLOATS.into(),
            found,
        })
    }

    fn exact_bytes(&self, name: &str) -> Result<Vec<u8>, WeightsError> {
        let bytes = match &self.content {
            Content::Safetensors(container) => container.bytes(name).expect("looked up before"),
            Content::Checkpoint(tensors) => {
                let tensor = &tensors[name];
                // A view may claim any number of elements of a small storage.
                if tensor.byte_len() as u64 > self.size {
                    let (claimed, size) = (tensor.byte_len(), self.size);
                    let found = format!("{claimed} bytes in a file of {size}");
                    return Err(self.damaged(name, found));
                }
                match guarded(|| Ok(tensor.read())) {
                    Ok(bytes) => bytes,
                    Err(found) => return Err(self.damaged(name, found)),
                }
            }
        };
        bytes.map_err(|error| self.damaged(name, error))
    }

    fn damaged(&self, name: &str, found: impl ToString) -> WeightsError {
        WeightsError::damaged(&self.path, name, found)
    }
}

const EXPECTED: &str = "a state dict in a .safetensors or .pt file";

/// The element types that weights may have in a file.
pub(super) const FLOATS: &str = "F64, F32, F16 or BF16";

/// A file to read from.
pub(super) struct Regular {
    pub(super) file: File,
    /// Bytes in it.
    pub(super) size: u64,
    /// The first of them.
    pub(super) start: Vec<u8>,
}

/// Opens a file that is expected to hold something; its position is anywhere.
pub(super) fn open_regular(path: &Path, expected: &str) -> Result<Regular, WeightsError> {
    let not_a_file = |found: &str| WeightsError::File {
        path: path.into(),
        expected: expected.into(),
        found: found.into(),
    };
    let io = |source| WeightsError::Io {
        path: path.into(),
        source,
    };
    // Before it is opened: opening a pipe would wait for a writer.
    let kind = std::fs::metadata(path).map_err(io)?;
    if kind.is_dir() {
        return Err(not_a_file("a folder"));
    }
    if !kind.is_file() {
        return Err(not_a_file("something that is not a regular file"));
    }
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size == 0 {
        return Err(not_a_file("an empty file"));
    }
    let mut start = Vec::new();
    (&file).take(16).read_to_end(&mut start).map_err(io)?;
    Ok(Regular { file, size, start })
}

/// A tensor of the floats that `read` gives, converted to the element type that `options` ask for,
/// or else to the device's; nothing is read if the device does not support it.
pub(super) fn float_tensor<const R: usize>(
    path: &Path,
    name: &str,
    options: &TensorCreationOptions,
    read: impl FnOnce() -> Result<TensorData, WeightsError>,
) -> Result<Tensor<R>, WeightsError> {
    let dtype = match options.dtype {
        Some(dtype) => dtype,
        None => options.device.settings().float_dtype.into(),
    };
    if !dtype.is_float() || !options.device.supports_dtype(dtype) {
        return Err(WeightsError::DType {
            name: name.into(),
            expected: format!("floats that {:?} supports", options.device),
            found: format!("{dtype:?}"),
        });
    }
    let data = read()?;
    if data.rank() != R {
        return Err(WeightsError::Shape {
            name: name.into(),
            expected: format!("of {R} axes"),
            found: data.shape().to_vec(),
        });
    }
    let data = data
        .try_cast(dtype)
        .map_err(|error| WeightsError::damaged(path, name, error))?;
    Ok(Tensor::from_data(data, (&options.device, dtype)))
}

/// Where parameter identities come from that nobody can repeat.
pub(super) fn unrepeatable_key() -> Key {
    Key::new(0).child(ParamId::new())
}

fn open_checkpoint(path: &Path) -> Result<BTreeMap<String, checkpoint::Tensor>, String> {
    let reader = PytorchReader::new(path).map_err(|error| error.to_string())?;
    Ok(reader.into_tensors().into_iter().collect())
}

/// Runs a reader over a file that may hold anything; should it panic, that is an error too.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| text.to_string())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!(
            "something that the reader failed on ({})",
            text.as_deref().unwrap_or("no reason given")
        ))
    })
}

fn from_checkpoint(dtype: checkpoint::DType) -> DType {
    match dtype {
        checkpoint::DType::F64 => DType::F64,
        checkpoint::DType::F32 => DType::F32,
        checkpoint::DType::F16 => DType::F16,
        checkpoint::DType::BF16 => DType::BF16,
        checkpoint::DType::I64 => DType::I64,
        checkpoint::DType::I32 => DType::I32,
        checkpoint::DType::I16 => DType::I16,
        checkpoint::DType::I8 => DType::I8,
        checkpoint::DType::U64 => DType::U64,
        checkpoint::DType::U32 => DType::U32,
        checkpoint::DType::U16 => DType::U16,
        checkpoint::DType::U8 => DType::U8,
        checkpoint::DType::Bool => DType::Bool(BoolStore::Native),
    }
}
