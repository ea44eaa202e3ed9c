//! The operation in tensor operations beside the kernels.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, TensorData};
use rand::Rng;

use super::*;
use crate::config::CellConfig;
use crate::fused::LstmKernels;
use crate::random::Key;
use crate::valid::Valid;

type Tensor = FloatTensor<Flex>;

fn tensor(name: &str, shape: &[usize], dtype: DType) -> Tensor {
    let mut rng = Key::new(3).child(name).rng();
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5)
        .collect();
    let data = TensorData::new(values, shape.to_vec()).convert_dtype(dtype);
    Flex::float_from_data(data, &Default::default())
}

fn close(what: &str, found: Tensor, expected: Tensor, tolerance: f64) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let numbers =
        |tensor: Tensor| -> Vec<f64> { tensor.to_contiguous().into_data().iter::<f64>().collect() };
    for (found, expected) in numbers(found).into_iter().zip(numbers(expected)) {
        let difference = (found - expected).abs();
        assert!(
            difference <= tolerance,
            "{what}: {found}, expected {expected}"
        );
    }
}

/// The two rungs of the ladder that no test of a whole module sets side by side.
#[test]
fn tensor_operations_and_kernels_agree() {
    let (b, t, d, h) = (3, 7, 5, 11);
    for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 1e-13)] {
        for (number, keep) in [Keep::Everything, Keep::Boundaries].into_iter().enumerate() {
            for (batch_first, reverse) in [(true, false), (false, true)] {
                let series = |width: usize| match batch_first {
                    true => [b, t, width],
                    false => [t, b, width],
                };
                let call = LstmCall {
                    batch_first,
                    reverse,
                    valid: match number {
                        1 => Valid::Lengths([7, 0, 4].into()),
                        _ => Valid::All,
                    },
                    cell: CellConfig::default(),
                    segment: std::num::NonZeroUsize::new(3),
                    checkpoint: keep == Keep::Boundaries,
                };
                let inputs = LstmInputs::<Flex>::new(
                    tensor("x", &series(d), dtype),
                    tensor("weight_ih", &[4 * h, d], dtype),
                    tensor("weight_hh", &[4 * h, h], dtype),
                    tensor("bias", &[4 * h], dtype),
                    tensor("h0", &[b, h], dtype),
                    tensor("c0", &[b, h], dtype),
                );
                let cotangents = LstmCotangents::<Flex> {
                    output: Some(tensor("d_output", &series(h), dtype)),
                    hidden: Some(tensor("d_hidden", &[b, h], dtype)),
                    cell: None,
                };
                let wanted = Wanted {
                    x: true,
                    weight_ih: true,
                    weight_hh: true,
                    bias: true,
                    h0: true,
                    c0: true,
                    weight_hr: false,
                    peephole: false,
                    layer_norm: false,
                };
                let (outputs, saved) = forward(inputs.clone(), &call, keep);
                let gradients = backward(inputs.clone(), saved, cotangents.clone(), &call, wanted);
                let (expected, saved) = Flex::lstm_forward(inputs.clone(), &call, keep);
                let shown = expected.output.clone();
                let kernels = Flex::lstm_backward(inputs, shown, saved, cotangents, &call, wanted);
                for (what, found, expected) in [
                    ("output", Some(outputs.output), Some(expected.output)),
                    ("hidden", Some(outputs.hidden), Some(expected.hidden)),
                    ("cell", Some(outputs.cell), Some(expected.cell)),
                    ("d_x", gradients.x, kernels.x),
                    ("d_weight_ih", gradients.weight_ih, kernels.weight_ih),
                    ("d_weight_hh", gradients.weight_hh, kernels.weight_hh),
                    ("d_bias", gradients.bias, kernels.bias),
                    ("d_h0", gradients.h0, kernels.h0),
                    ("d_c0", gradients.c0, kernels.c0),
                ] {
                    let what = format!("{what} in {dtype:?}, {call:?}");
                    close(&what, found.unwrap(), expected.unwrap(), tolerance);
                }
            }
        }
    }
}
