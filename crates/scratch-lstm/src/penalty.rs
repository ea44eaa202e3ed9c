//! What the size and the changes of activations add to a loss (Merity, McCann & Socher,
//! "Revisiting activation regularization for language RNNs", 2017).

use burn::tensor::Tensor;

/// The mean square of the activations, `[1]`: AR without its factor.
pub fn activation_penalty(output: &Tensor<3>) -> Tensor<1> {
    output.clone().square().mean()
}

/// The mean square of their changes from step to step along the axis `time`, `[1]`; 0 for a single
/// step: TAR without its factor.
///
/// # Panics
///
/// If there is no axis `time`.
pub fn temporal_activation_penalty(output: &Tensor<3>, time: usize) -> Tensor<1> {
    let steps = output.dims()[time];
    if steps < 2 {
        return Tensor::zeros([1], (&output.device(), output.dtype()));
    }
    let later = output.clone().narrow(time, 1, steps - 1);
    let earlier = output.clone().narrow(time, 0, steps - 1);
    (later - earlier).square().mean()
}
