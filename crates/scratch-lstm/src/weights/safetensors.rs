//! The container of `.safetensors` files: a length, a JSON header, then the tensors' bytes.
//!
//! Reading goes by the header, whose claims are checked against the file's size before anything
//! is allocated for them; nothing is memory-mapped, so a file that shrinks meanwhile is an error.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};

use super::disk;
use super::error::WeightsError;

/// Writes named tensors of any shape and element type as a `.safetensors` file, which replaces
/// the one at `path` only once it is complete and on disk.
///
/// With [`ScratchLstm::to_pytorch`](crate::ScratchLstm::to_pytorch) and tensors of one's own,
/// this saves a whole model for PyTorch:
///
/// ```no_run
/// # fn example(lstm: scratch_lstm::ScratchLstm, embed: burn::tensor::Tensor<2>)
/// # -> Result<(), scratch_lstm::WeightsError> {
/// let mut tensors = lstm.to_pytorch("encoder.lstm")?;
/// tensors.insert("embed.weight".into(), embed.into_data());
/// scratch_lstm::weights::save_safetensors("model.safetensors", &tensors)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If an element type has no counterpart in the format, or the file cannot be written.
pub fn save_safetensors(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, TensorData>,
) -> Result<(), WeightsError> {
    let path = path.as_ref();
    let failed = |reason: String| WeightsError::File {
        path: path.into(),
        expected: "to write the tensors".into(),
        found: reason,
    };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        let dtype = to_safetensors(data.dtype()).ok_or_else(|| WeightsError::DType {
            name: name.clone(),
            expected: "floats, whole numbers or booleans".into(),
            found: format!("{:?}", data.dtype()),
        })?;
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
        views.push((name, view.map_err(|error| failed(error.to_string()))?));
    }
    // What PyTorch's own tools write, and ask for when they read.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| failed(error.to_string()))?;

    disk::replace(path, &bytes)
}

/// Whether a file that begins so is meant to be one of these: JSON follows the length.
pub(super) fn looks_like(start: &[u8]) -> bool {
    start.get(LENGTH as usize) == Some(&b'{')
}

/// An open file.
#[derive(Debug)]
pub(super) struct Container {
    file: Mutex<File>,
    header: Metadata,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

impl Container {
    /// Reads the header of a file of `size` bytes; the error is what was found instead.
    pub(super) fn open(mut file: File, size: u64) -> Result<Self, String> {
        file.rewind().map_err(|e| e.to_string())?;
        let mut length = [0; LENGTH as usize];
        file.read_exact(&mut length).map_err(|e| e.to_string())?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length > size.saturating_sub(LENGTH) {
            return Err(format!(
                "a header said to have {length} bytes in a file of {size}"
            ));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(|e| e.to_string())?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| format!("a damaged header ({e})"))?;
        let data_start = LENGTH + length;
        let expected = data_start.checked_add(header.data_len() as u64);
        if expected != Some(size) {
            let (claimed, found) = (header.data_len(), size - data_start);
            return Err(format!(
                "a header that claims {claimed} bytes of tensors where there are {found}"
            ));
        }
        Ok(Self {
            file: Mutex::new(file),
            header,
            data_start,
        })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.header.info(name)?.shape.clone())
    }

    /// The element type of a tensor, or what it is called if burn has no such type.
    pub(super) fn dtype(&self, name: &str) -> Option<Result<DType, String>> {
        let dtype = self.header.info(name)?.dtype;
        Some(from_safetensors(dtype).ok_or_else(|| format!("{dtype:?}")))
    }

    /// The bytes of a tensor.
    pub(super) fn bytes(&self, name: &str) -> Option<std::io::Result<Vec<u8>>> {
        let info = self.header.info(name)?;
        Some(self.read(info))
    }

    fn read(&self, info: &TensorInfo) -> std::io::Result<Vec<u8>> {
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.data_start + start as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Bytes of the header's length.
const LENGTH: u64 = 8;

/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;

fn from_safetensors(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U16 => DType::U16,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool(BoolStore::Native),
        _ => return None,
    })
}

fn to_safetensors(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 | DType::Flex32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool(BoolStore::Native) => Dtype::BOOL,
        _ => return None,
    })
}
