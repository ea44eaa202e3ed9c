//! The container of HDF5 files, as far as Keras needs it: arrays in groups within groups.
//!
//! A crate knows the format. What the file claims is checked against the file's size before
//! anything is allocated for it, and groups that hold themselves are not followed for ever. The
//! crate reads types within types by recursion, as deep as the file says, which the format bounds:
//! it runs on a stack that is deep enough.

use std::collections::BTreeMap;
use std::fs::File;

use burn::tensor::{DType, TensorData};
use hdf5_pure::{
    AttrValue, Dataset, Datatype, DatatypeByteOrder, FloatingPointLayout, Group, ReadSeekSource,
};

use super::file::guarded;

/// Whether a file that begins so is meant to be one of these.
pub(super) fn looks_like(start: &[u8]) -> bool {
    start.starts_with(b"\x89HDF\r\n\x1a\n")
}

/// An open file.
pub(super) struct Container {
    file: hdf5_pure::File,
    /// By their path without a slash at its beginning: `layers/lstm/cell/vars/0`.
    arrays: BTreeMap<String, Array>,
    /// The attribute `name` of the groups that have one, by their path.
    names: BTreeMap<String, String>,
}

/// What the file says of an array.
#[derive(Debug)]
struct Array {
    shape: Vec<usize>,
    /// Its elements, or what they are called if they are no floats.
    kind: Result<Kind, String>,
    /// Bytes of all its elements.
    size: u64,
}

/// Floats as they are stored.
#[derive(Debug, Clone, Copy)]
struct Kind {
    dtype: DType,
    big_endian: bool,
}

impl Container {
    /// Reads what a file of `size` bytes says of its arrays; the error is what was found instead.
    pub(super) fn open(file: File, size: u64) -> Result<Self, String> {
        on_deep_stack(|| {
            let source = ReadSeekSource::new(file).map_err(|e| e.to_string())?;
            let file = hdf5_pure::File::from_source(source).map_err(|e| e.to_string())?;
            let mut walk = Walk {
                arrays: BTreeMap::new(),
                names: BTreeMap::new(),
                // A header of an object is longer than its path, as a rule.
                budget: size.saturating_mul(PATHS).saturating_add(MIN_PATHS),
            };
            walk.group(&file.root(), "", MAX_DEPTH)?;
            let Walk { arrays, names, .. } = walk;
            Ok(Self {
                file,
                arrays,
                names,
            })
        })
    }

    /// The paths of all arrays, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    /// The attribute `name` of a group.
    pub(super) fn name_of(&self, group: &str) -> Option<&str> {
        self.names.get(group).map(String::as_str)
    }

    pub(super) fn shape(&self, path: &str) -> Option<&[usize]> {
        Some(&self.arrays.get(path)?.shape)
    }

    /// The element type of an array, or what it is called if it is none of floats.
    pub(super) fn dtype(&self, path: &str) -> Option<Result<DType, String>> {
        let kind = self.arrays.get(path)?.kind.clone();
        Some(kind.map(|kind| kind.dtype))
    }

    /// The values of an array in its element type; the error is what was found instead.
    pub(super) fn data(&self, path: &str, file_size: u64) -> Option<Result<TensorData, String>> {
        let array = self.arrays.get(path)?;
        Some(on_deep_stack(|| self.read(path, array, file_size)))
    }

    fn read(&self, path: &str, array: &Array, file_size: u64) -> Result<TensorData, String> {
        let kind = array.kind.clone()?;
        // An array may claim any number of elements that nobody has written.
        if array.size > file_size {
            let claimed = array.size;
            return Err(format!("{claimed} bytes in a file of {file_size}"));
        }
        let dataset = self.file.dataset(path).map_err(|e| e.to_string())?;
        let mut bytes = dataset.read_raw().map_err(|e| e.to_string())?;
        if kind.big_endian != cfg!(target_endian = "big") {
            for element in bytes.chunks_exact_mut(kind.dtype.size()) {
                element.reverse();
            }
        }
        TensorData::try_from_bytes_vec(bytes, array.shape.clone(), kind.dtype)
            .map_err(|e| e.to_string())
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("arrays", &self.arrays)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Groups nested deeper than this are taken for groups that hold themselves.
const MAX_DEPTH: usize = 64;
/// The paths of all objects may be as long as so many files.
const PATHS: u64 = 4;
/// And at least so many bytes.
const MIN_PATHS: u64 = 1 << 16;

/// What has been found so far.
struct Walk {
    arrays: BTreeMap<String, Array>,
    names: BTreeMap<String, String>,
    /// Bytes of paths that may still come.
    budget: u64,
}

impl Walk {
    fn group(&mut self, group: &Group, path: &str, depth: usize) -> Result<(), String> {
        for name in group.datasets().map_err(|e| e.to_string())? {
            let path = self.spend(path, &name)?;
            let dataset = group.dataset(&name).map_err(|e| e.to_string())?;
            let array = describe(&dataset)?;
            self.arrays.insert(path, array);
        }
        for name in group.groups().map_err(|e| e.to_string())? {
            let path = self.spend(path, &name)?;
            let Some(depth) = depth.checked_sub(1) else {
                return Err("groups nested too deep".into());
            };
            let inner = group.group(&name).map_err(|e| e.to_string())?;
            if name == NAMED {
                let attributes = inner.attrs().map_err(|e| e.to_string())?;
                if let Some(name) = attributes.get("name").and_then(text) {
                    self.names.insert(path.clone(), name);
                }
            }
            self.group(&inner, &path, depth)?;
        }
        Ok(())
    }

    /// The path of an object.
    fn spend(&mut self, path: &str, name: &str) -> Result<String, String> {
        let path = match path {
            "" => name.to_string(),
            path => format!("{path}/{name}"),
        };
        match self.budget.checked_sub(path.len() as u64) {
            Some(rest) => self.budget = rest,
            None => return Err("groups that hold themselves".into()),
        }
        Ok(path)
    }
}

/// The groups whose attribute `name` is read.
const NAMED: &str = "vars";

fn describe(dataset: &Dataset) -> Result<Array, String> {
    let extents = dataset.shape().map_err(|e| e.to_string())?;
    let datatype = dataset.datatype().map_err(|e| e.to_string())?;
    let element = dataset.element_size().map_err(|e| e.to_string())?;
    let too_large = || format!("an array of shape {extents:?}");
    let size = extents.iter().try_fold(element, |a, &b| a.checked_mul(b));
    let shape = extents.iter().map(|&size| usize::try_from(size));
    Ok(Array {
        size: size.ok_or_else(too_large)?,
        shape: shape.collect::<Result<_, _>>().map_err(|_| too_large())?,
        kind: kind(dataset, &datatype)?,
    })
}

/// The floats of a dataset; the inner error is what it holds instead.
fn kind(dataset: &Dataset, datatype: &Datatype) -> Result<Result<Kind, String>, String> {
    let found = match datatype {
        Datatype::FloatingPoint {
            size,
            byte_order,
            layout,
        } => {
            let dtype = match (*size, *layout) {
                (8, FloatingPointLayout::IEEE754_BINARY64) => Some(DType::F64),
                (4, FloatingPointLayout::IEEE754_BINARY32) => Some(DType::F32),
                (2, BINARY16) => Some(DType::F16),
                (2, BFLOAT16) => Some(DType::BF16),
                _ => None,
            };
            let big_endian = match byte_order {
                DatatypeByteOrder::LittleEndian => Some(false),
                DatatypeByteOrder::BigEndian => Some(true),
                _ => None,
            };
            dtype.zip(big_endian)
        }
        // HDF5 has no name for it: bytes, and an attribute that says what they are.
        Datatype::Opaque { size: 2, .. } => {
            let attributes = dataset.attrs().map_err(|e| e.to_string())?;
            let name = attributes.get("dtype").and_then(text);
            (name.as_deref() == Some("bfloat16")).then_some((DType::BF16, false))
        }
        _ => None,
    };
    let name = || {
        let name = dataset.dtype().map(|dtype| dtype.to_string());
        // Types within types have long names, and many arrays may have one type.
        let name = name.unwrap_or_else(|error| error.to_string());
        name.chars().take(MAX_NAME).collect::<String>()
    };
    Ok(found
        .map(|(dtype, big_endian)| Kind { dtype, big_endian })
        .ok_or_else(name))
}

/// Runs a reader on a stack of its own; should it panic, that is an error too.
fn on_deep_stack<T: Send>(read: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || guarded(read));
        let thread = thread.map_err(|error| format!("no thread to read it with ({error})"))?;
        let joined = thread.join();
        joined.unwrap_or_else(|_| Err("something that the reader failed on".into()))
    })
}

/// A type is at most 64 KiB, and a type within it at least 8 bytes: 8192 calls within each other,
/// each of less than a kibibyte when optimized. Only what is used of it becomes memory.
const STACK: usize = 64 << 20;

/// The longest name of a type that is no float.
const MAX_NAME: usize = 64;

/// IEEE 754's half precision.
const BINARY16: FloatingPointLayout = FloatingPointLayout {
    bit_offset: 0,
    bit_precision: 16,
    exponent_location: 10,
    exponent_size: 5,
    mantissa_location: 0,
    mantissa_size: 10,
    exponent_bias: 15,
};

/// The upper half of single precision.
const BFLOAT16: FloatingPointLayout = FloatingPointLayout {
    bit_offset: 0,
    bit_precision: 16,
    exponent_location: 7,
    exponent_size: 8,
    mantissa_location: 0,
    mantissa_size: 7,
    exponent_bias: 127,
};

/// The text of an attribute.
fn text(value: &AttrValue) -> Option<String> {
    match value {
        AttrValue::String(text)
        | AttrValue::AsciiString(text)
        | AttrValue::VarLenString(text)
        | AttrValue::VarLenAsciiString(text) => Some(text.clone()),
        _ => None,
    }
}
