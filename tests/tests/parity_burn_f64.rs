//! Proves in f64 what `parity_burn` proves in f32: the two implementations differ by rounding and
//! nothing else. A file of its own, because burn's LSTM collects its outputs in the device's default
//! element type, and a process has one of those.

use burn::tensor::DType;
use scratch_tests::backend::{burn_has_f64, device_of_f64};
use scratch_tests::burn_lstm::check_parity;

#[test]
fn one_direction() {
    if device_of_f64("one_direction").is_some() && burn_has_f64("one_direction") {
        assert!(check_parity(DType::F64, false) >= 8);
    }
}

#[test]
fn both_directions() {
    if device_of_f64("both_directions").is_some() && burn_has_f64("both_directions") {
        assert!(check_parity(DType::F64, true) >= 8);
    }
}
