//! Numbers of a tensor in an ONNX file, whose claims are checked before anything is made of them.

use burn::tensor::{DType, TensorData};

use super::proto::{self, element};

/// Why a tensor cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It has other elements: their type.
    Elements(String),
    /// What was found in place of its numbers.
    Damaged(String),
}

/// Its shape.
pub(super) fn shape(tensor: &proto::Tensor) -> Result<Vec<usize>, Unreadable> {
    let sizes = tensor.dims.iter().map(|&size| usize::try_from(size));
    sizes
        .collect::<Result<_, _>>()
        .map_err(|_| Unreadable::Damaged(format!("the shape {:?}", tensor.dims)))
}

/// The type of its floats.
pub(super) fn float_type(tensor: &proto::Tensor) -> Result<DType, Unreadable> {
    match tensor.element {
        element::FLOAT => Ok(DType::F32),
        element::DOUBLE => Ok(DType::F64),
        element::FLOAT16 => Ok(DType::F16),
        element::BFLOAT16 => Ok(DType::BF16),
        other => Err(Unreadable::Elements(type_name(other))),
    }
}

/// Its floats in the element type that the file has.
pub(super) fn floats(tensor: &proto::Tensor) -> Result<TensorData, Unreadable> {
    let dtype = float_type(tensor)?;
    let shape = shape(tensor)?;
    let bytes = match (dtype, raw(tensor)?) {
        (_, Some(raw)) => native(raw.to_vec(), dtype.size()),
        (DType::F64, None) => bytes(&tensor.doubles, |number| number.to_ne_bytes()),
        (DType::F32, None) => bytes(&tensor.floats, |number| number.to_ne_bytes()),
        // The bits of a 16-bit float as a whole number.
        (_, None) => bytes(&tensor.ints, |number| (number as u16).to_ne_bytes()),
    };
    check_count(&shape, bytes.len(), dtype.size())?;
    TensorData::try_from_bytes_vec(bytes, shape, dtype)
        .map_err(|error| Unreadable::Damaged(error.to_string()))
}

/// Its whole numbers, whatever its shape.
pub(super) fn ints(tensor: &proto::Tensor) -> Result<Vec<i64>, Unreadable> {
    let shape = shape(tensor)?;
    let raw = raw(tensor)?;
    match (tensor.element, raw) {
        (element::INT64, Some(raw)) => {
            check_count(&shape, raw.len(), 8)?;
            Ok(numbers(raw, i64::from_le_bytes))
        }
        (element::INT64, None) => {
            check_count(&shape, tensor.longs.len(), 1)?;
            Ok(tensor.longs.clone())
        }
        (element::INT32, Some(raw)) => {
            check_count(&shape, raw.len(), 4)?;
            let numbers = numbers(raw, i32::from_le_bytes);
            Ok(numbers.into_iter().map(i64::from).collect())
        }
        (element::INT32, None) => {
            check_count(&shape, tensor.ints.len(), 1)?;
            Ok(tensor.ints.iter().copied().map(i64::from).collect())
        }
        (other, _) => Err(Unreadable::Elements(type_name(other))),
    }
}

/// A tensor of whole numbers, one axis.
pub(super) fn of_ints(name: &str, numbers: Vec<i64>) -> proto::Tensor {
    proto::Tensor {
        name: name.into(),
        dims: vec![numbers.len() as i64],
        element: element::INT64,
        longs: numbers,
        ..proto::Tensor::default()
    }
}

/// The tensor of these floats; the error is their type if ONNX has none for it.
pub(super) fn of_floats(name: &str, data: &TensorData) -> Result<proto::Tensor, DType> {
    let dtype = data.dtype();
    let element = element_of(dtype).ok_or(dtype)?;
    let raw = native(data.as_bytes().to_vec(), dtype.size());
    Ok(proto::Tensor {
        name: name.into(),
        dims: data.shape().iter().map(|&size| size as i64).collect(),
        element,
        raw: Some(raw.into()),
        ..proto::Tensor::default()
    })
}

/// The number by which an ONNX file of ours names a type of floats.
pub(super) fn element_of(dtype: DType) -> Option<i32> {
    match dtype {
        DType::F32 | DType::Flex32 => Some(element::FLOAT),
        DType::F64 => Some(element::DOUBLE),
        DType::F16 => Some(element::FLOAT16),
        _ => None,
    }
}

/// The numbers' bytes if they lie in the file and in one piece.
fn raw(tensor: &proto::Tensor) -> Result<Option<&[u8]>, Unreadable> {
    // A path in a file is not followed: it may lead anywhere.
    if tensor.location != 0 || !tensor.external.is_empty() {
        let found = "its numbers in another file (external data), which is not opened";
        return Err(Unreadable::Damaged(found.into()));
    }
    Ok(tensor.raw.as_deref())
}

/// That there are as many numbers as the shape has places.
fn check_count(shape: &[usize], found: usize, size: usize) -> Result<(), Unreadable> {
    let expected = shape
        .iter()
        .try_fold(size, |bytes, &axis| bytes.checked_mul(axis));
    if expected == Some(found) {
        return Ok(());
    }
    let unit = if size == 1 { "numbers" } else { "bytes" };
    let found = format!("{found} {unit} for the shape {shape:?}");
    Err(Unreadable::Damaged(found))
}

/// Numbers of `size` bytes from the file's order to the machine's, or back.
fn native(mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
    if cfg!(target_endian = "big") {
        for number in bytes.chunks_exact_mut(size) {
            number.reverse();
        }
    }
    bytes
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], write: fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| write(number)).collect()
}

fn numbers<T, const N: usize>(raw: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = raw.as_chunks::<N>();
    chunks.iter().map(|&chunk| read(chunk)).collect()
}

/// ONNX's name of an element type.
fn type_name(element: i32) -> String {
    const NAMES: [&str; 17] = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
    ];
    let name = usize::try_from(element).ok().and_then(|at| NAMES.get(at));
    name.map_or_else(|| format!("number {element}"), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(element: i32, dims: &[i64]) -> proto::Tensor {
        proto::Tensor {
            element,
            dims: dims.to_vec(),
            ..proto::Tensor::default()
        }
    }

    fn values(tensor: &proto::Tensor) -> Vec<f64> {
        floats(tensor).unwrap().iter::<f64>().collect()
    }

    fn why(error: Unreadable) -> String {
        match error {
            Unreadable::Elements(found) | Unreadable::Damaged(found) => found,
        }
    }

    #[test]
    fn floats_of_every_type_as_bytes_and_as_a_list() {
        let expected = [1.5, -0.25, 96.0];
        // Their upper two bytes are those of f32.
        let bf16 = [0x3fc0, 0xbe80, 0x42c0];
        let f16 = [0x3e00, 0xb400, 0x5600];
        for (element, bits) in [(element::BFLOAT16, bf16), (element::FLOAT16, f16)] {
            let mut of = tensor(element, &[3, 1]);
            of.ints = bits.to_vec();
            assert_eq!(values(&of), expected);
            of.ints.clear();
            of.raw = Some(bytes(&bits, |bits| (bits as u16).to_le_bytes()).into());
            assert_eq!(values(&of), expected);
        }
        let mut double = tensor(element::DOUBLE, &[3]);
        double.doubles = expected.to_vec();
        assert_eq!(values(&double), expected);
        let mut float = tensor(element::FLOAT, &[3]);
        float.floats = expected.map(|number| number as f32).to_vec();
        assert_eq!(values(&float), expected);
        float.raw = Some(bytes(&float.floats, f32::to_le_bytes).into());
        float.floats.clear();
        assert_eq!(values(&float), expected);
        assert_eq!(floats(&float).unwrap().shape().to_vec(), [3]);
    }

    #[test]
    fn whole_numbers_of_both_types_as_bytes_and_as_a_list() {
        let mut long = of_ints("axes", vec![3, -1, 1 << 40]);
        assert_eq!(ints(&long).unwrap(), [3, -1, 1 << 40]);
        long.raw = Some(bytes(&long.longs, i64::to_le_bytes).into());
        long.longs.clear();
        assert_eq!(ints(&long).unwrap(), [3, -1, 1 << 40]);
        let mut int = tensor(element::INT32, &[2]);
        int.ints = vec![3, -1];
        assert_eq!(ints(&int).unwrap(), [3, -1]);
        int.raw = Some(bytes(&int.ints, i32::to_le_bytes).into());
        assert_eq!(ints(&int).unwrap(), [3, -1]);
    }

    #[test]
    fn what_is_written_is_read() {
        let numbers = TensorData::new(vec![1.5f64, -0.1, 1e-300, 7.0], [2, 2]);
        let written = of_floats("W", &numbers).unwrap();
        assert_eq!(floats(&written).unwrap(), numbers);
        assert_eq!(of_floats("W", &numbers.convert::<i64>()), Err(DType::I64));
    }

    #[test]
    fn claims_that_the_numbers_do_not_bear_out() {
        let mut of = tensor(element::FLOAT, &[2, 3]);
        of.floats = vec![0.0; 5];
        assert_eq!(
            why(floats(&of).unwrap_err()),
            "20 bytes for the shape [2, 3]"
        );
        of.dims = vec![i64::MAX, i64::MAX];
        assert!(why(floats(&of).unwrap_err()).starts_with("20 bytes"));
        of.dims = vec![5, -1];
        assert_eq!(why(floats(&of).unwrap_err()), "the shape [5, -1]");
        of.dims = vec![5];
        of.location = 1;
        assert!(why(floats(&of).unwrap_err()).contains("another file"));
        let of = tensor(element::INT64, &[1 << 40]);
        assert!(why(ints(&of).unwrap_err()).starts_with("0 numbers"));
        assert_eq!(why(floats(&of).unwrap_err()), "INT64");
        assert_eq!(why(ints(&tensor(99, &[])).unwrap_err()), "number 99");
    }
}
