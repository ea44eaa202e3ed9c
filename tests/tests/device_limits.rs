//! Proves that sizes beyond the buffers of a GPU are split where they can be, and a typed error
//! where they cannot.

use burn::tensor::{DType, Distribution, Tensor};
use scratch_lstm::{ForwardError, ForwardOptions, PathChoice, ScratchLstmConfig};
use scratch_tests::{Tolerance, assert_close, device, is_gpu};

/// The gates of all steps have 151 MB, more than the 134 MB that a buffer of a software adapter or
/// of a browser has: the sequence is walked over in segments. On other devices they fit.
#[test]
fn gates_that_fit_no_buffer_are_split() {
    if !is_gpu() {
        return;
    }
    let device = device().autodiff();
    let [batch, steps, d_hidden] = [16_384, 9, 64];
    let lstm = ScratchLstmConfig::new(2, d_hidden)
        .with_path(PathChoice::Fused)
        .init(&device);
    let input = Tensor::<3>::random([batch, steps, 2], Distribution::Uniform(-1.0, 1.0), &device)
        .require_grad();
    let (output, _) = lstm.forward(input.clone(), None);
    // Another factor for each step.
    let factors = Tensor::arange(0..steps as i64, &device).float();
    let weights = factors.reshape([1, steps, 1]);
    let gradients = (output.clone() * weights.clone()).sum().backward();
    let gradient = input.grad(&gradients).unwrap();

    // Rows do not know of each other.
    for row in [0, batch / 2, batch - 1] {
        let alone = input.clone().narrow(0, row, 1).detach().require_grad();
        let (expected, _) = lstm.forward(alone.clone(), None);
        let gradients = (expected.clone() * weights.clone()).sum().backward();
        let pairs = [
            ("output", output.clone().inner(), expected.inner()),
            (
                "gradient",
                gradient.clone(),
                alone.grad(&gradients).unwrap(),
            ),
        ];
        for (name, found, expected) in pairs {
            let what = format!("{name} of row {row}");
            let tolerance = Tolerance::of(DType::F32);
            assert_close(&what, found.narrow(0, row, 1), expected, tolerance);
        }
    }
}

#[test]
fn what_fits_no_device_is_a_typed_error() {
    if !is_gpu() {
        return;
    }
    let device = device();
    let lstm = ScratchLstmConfig::new(1, 64).init(&device);
    // One number, seen as many: no memory is needed to ask.
    let input = Tensor::<3>::zeros([1, 1, 1], &device).expand([1_i64 << 40, 1, 1]);
    for path in [PathChoice::Fused, PathChoice::Raw] {
        let options = ForwardOptions::new().with_path(path);
        let error = lstm.try_forward_with(input.clone(), options).unwrap_err();
        match &error {
            ForwardError::TooLarge { what, bytes, most } => {
                assert_eq!((*what, *bytes), ("input", 4 << 40));
                assert!(most < bytes);
            }
            other => panic!("{other:?}"),
        }
        let text = error.to_string();
        assert!(text.contains("the largest buffer of this device"), "{text}");
    }
}
