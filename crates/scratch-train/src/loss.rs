//! Losses over sequences.

use burn::tensor::{Int, Tensor, activation};

/// Mean cross entropy in nats of `logits` `[N, C]` against the classes `targets` `[N]`
/// (`torch.nn.functional.cross_entropy`).
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let log_probabilities = activation::log_softmax(logits, 1);
    log_probabilities
        .gather(1, targets.unsqueeze_dim(1))
        .mean()
        .neg()
}

/// Mean squared error of two tensors of one shape (`torch.nn.functional.mse_loss`).
pub fn mean_squared_error<const R: usize>(predictions: Tensor<R>, targets: Tensor<R>) -> Tensor<1> {
    (predictions - targets).square().mean()
}
