//! What the tests of the layouts share.

use burn::tensor::{Device, Tensor, TensorData, Tolerance};

use crate::cell::CellWeights;
use crate::functional;
use crate::random::Key;
use crate::state::LstmState;
use rand::Rng;

pub(crate) const B: usize = 3;
pub(crate) const T: usize = 7;
pub(crate) const D: usize = 5;
pub(crate) const H: usize = 11;

/// Distinct values in ±0.5.
pub(crate) fn filled<const R: usize>(shape: [usize; R], seed: u64) -> Tensor<R> {
    filled_on(shape, seed, &crate::testing::device())
}

/// [`filled`] on a device of choice.
pub(crate) fn filled_on<const R: usize>(
    shape: [usize; R],
    seed: u64,
    device: &Device,
) -> Tensor<R> {
    let mut rng = Key::new(seed).rng();
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| (f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5) as f32)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Weights of distinct values.
pub(crate) fn weights(d_input: usize, d_hidden: usize) -> CellWeights {
    CellWeights::new(
        filled([4 * d_hidden, d_input], 101),
        filled([4 * d_hidden, d_hidden], 102),
        Some(filled([4 * d_hidden], 103)),
    )
}

/// A state `[B, H]` whose two tensors differ.
pub(crate) fn state() -> LstmState<2> {
    LstmState {
        hidden: filled([B, H], 104),
        cell: filled([B, H], 105),
    }
}

/// The crate's LSTM over `input [T, B, D]`.
pub(crate) fn run(
    weights: &CellWeights,
    input: Tensor<3>,
    state: LstmState<2>,
) -> (Tensor<3>, LstmState<2>) {
    let CellWeights {
        weight_ih,
        weight_hh,
        bias,
        ..
    } = weights.clone();
    functional::lstm(input, state, weight_ih, weight_hh, bias, None)
}

pub(crate) fn assert_close<const R: usize>(found: Tensor<R>, expected: Tensor<R>) {
    let tolerance = Tolerance::<f32>::absolute(1e-5);
    found
        .into_data()
        .assert_approx_eq::<f32>(&expected.into_data(), tolerance);
}

/// Bit for bit.
pub(crate) fn assert_same(found: CellWeights, expected: CellWeights) {
    let data = |weights: CellWeights| {
        (
            weights.weight_ih.into_data(),
            weights.weight_hh.into_data(),
            weights.bias.map(Tensor::into_data),
        )
    };
    assert_eq!(data(found), data(expected));
}

/// That weights get through `convert` the gradients that they get without it.
pub(crate) fn check_gradients(convert: impl Fn(CellWeights) -> CellWeights) {
    let device = crate::testing::device().autodiff();
    let gradients = |convert: &dyn Fn(CellWeights) -> CellWeights| {
        let leaves = CellWeights::new(
            filled_on([4 * H, D], 101, &device).require_grad(),
            filled_on([4 * H, H], 102, &device).require_grad(),
            Some(filled_on([4 * H], 103, &device).require_grad()),
        );
        let state = LstmState::zeros([B, H], &device);
        let input = filled_on([T, B, D], 106, &device);
        let (output, _) = run(&convert(leaves.clone()), input, state);
        let cotangent = filled_on([T, B, H], 107, &device);
        let gradients = (output * cotangent).sum().backward();
        CellWeights::new(
            leaves.weight_ih.grad(&gradients).unwrap(),
            leaves.weight_hh.grad(&gradients).unwrap(),
            leaves.bias.map(|bias| bias.grad(&gradients).unwrap()),
        )
    };
    let (found, expected) = (gradients(&convert), gradients(&|weights| weights));
    assert_close(found.weight_ih, expected.weight_ih);
    assert_close(found.weight_hh, expected.weight_hh);
    assert_close(found.bias.unwrap(), expected.bias.unwrap());
}
