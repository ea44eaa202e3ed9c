//! Losses over sequences, in f32 at least whatever the model computes in.

use burn::tensor::{DType, FloatDType, Int, Tensor, activation};

/// Mean cross entropy in nats of `logits` `[N, C]` against the classes `targets` `[N]`
/// (`torch.nn.functional.cross_entropy`).
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let log_probabilities = activation::log_softmax(at_least_f32(logits), 1);
    of_targets(log_probabilities, targets)
}

/// [`cross_entropy`] against targets of which each class has the share `smoothing / C` and the
/// right one the rest besides (Szegedy et al. 2016; PyTorch's `label_smoothing`): it keeps a model
/// from being too sure. Without autodiff it is the plain one, so that validation losses of
/// different smoothing can be compared.
///
/// # Panics
///
/// If `smoothing` is not at least 0 and at most 1.
pub fn smoothed_cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    smoothing: f64,
) -> Tensor<1> {
    assert!(
        (0.0..=1.0).contains(&smoothing),
        "label smoothing: expected at least 0 and at most 1, found {smoothing}"
    );
    if smoothing == 0.0 || !logits.device().is_autodiff() {
        return cross_entropy(logits, targets);
    }
    let log_probabilities = activation::log_softmax(at_least_f32(logits), 1);
    let of_all = log_probabilities.clone().mean().neg();
    let of_targets = of_targets(log_probabilities, targets);
    of_targets.mul_scalar(1.0 - smoothing) + of_all.mul_scalar(smoothing)
}

/// Mean squared error of two tensors of one shape (`torch.nn.functional.mse_loss`).
pub fn mean_squared_error<const R: usize>(predictions: Tensor<R>, targets: Tensor<R>) -> Tensor<1> {
    (at_least_f32(predictions) - at_least_f32(targets))
        .square()
        .mean()
}

/// The tensor in f32 if its own type is shorter: sums over many targets, and small differences,
/// need more than eight bits.
pub fn at_least_f32<const R: usize>(tensor: Tensor<R>) -> Tensor<R> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.cast(FloatDType::F32),
        _ => tensor,
    }
}

/// Single numbers below each other in one tensor, to be read together; in f64 if one of them is.
///
/// # Panics
///
/// If one is not a single number: whoever reads them would take one for another.
pub(crate) fn side_by_side(numbers: Vec<Tensor<1>>) -> Option<Tensor<1>> {
    let is_wide = |number: &Tensor<1>| number.dtype() == DType::F64;
    let dtype = match numbers.iter().any(is_wide) {
        true => FloatDType::F64,
        false => FloatDType::F32,
    };
    let numbers = numbers.into_iter().map(|number| {
        assert_eq!(number.dims(), [1], "a loss or metric: expected one number");
        number.cast(dtype)
    });
    let numbers: Vec<_> = numbers.collect();
    (!numbers.is_empty()).then(|| Tensor::cat(numbers, 0))
}

fn of_targets(log_probabilities: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_probabilities
        .gather(1, targets.unsqueeze_dim(1))
        .mean()
        .neg()
}
