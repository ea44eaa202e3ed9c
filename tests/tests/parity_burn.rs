//! Proves that with the same weights this project's LSTM and burn's own `Lstm` and `BiLstm` give
//! the same outputs, final states and gradients (of every parameter by name, of the input and of
//! both initial states, under random cotangents), in f32, over a grid of odd sizes with T, B, D and
//! H down to 1. `parity_burn_f64` is the same in f64.

use burn::tensor::DType;
use scratch_tests::burn_lstm::check_parity;

#[test]
fn one_direction() {
    assert!(check_parity(DType::F32, false) >= 8);
}

#[test]
fn both_directions() {
    assert!(check_parity(DType::F32, true) >= 8);
}
