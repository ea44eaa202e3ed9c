//! The four gates by name, and tensors of all of them split and joined.
//!
//! They lie side by side in the order input, forget, cell, output, as PyTorch has them
//! (`torch.nn.LSTM`'s `weight_ih_l[k]`: `W_ii|W_if|W_ig|W_io`). Other orders exist only in
//! [`weights`](crate::weights).

use burn::tensor::Tensor;

pub use scratch_lstm_kernels::gates::{COUNT, Gate};

/// One value for each gate, always by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Gates<T> {
    /// For the input gate.
    pub input: T,
    /// For the forget gate.
    pub forget: T,
    /// For the cell gate (the candidate).
    pub cell: T,
    /// For the output gate.
    pub output: T,
}

impl<T> Gates<T> {
    /// Makes the four values, each from its gate.
    pub fn from_fn(mut make: impl FnMut(Gate) -> T) -> Self {
        Self {
            input: make(Gate::Input),
            forget: make(Gate::Forget),
            cell: make(Gate::Cell),
            output: make(Gate::Output),
        }
    }

    /// Applies `map` to each value.
    pub fn map<U>(self, mut map: impl FnMut(T) -> U) -> Gates<U> {
        Gates {
            input: map(self.input),
            forget: map(self.forget),
            cell: map(self.cell),
            output: map(self.output),
        }
    }

    /// The values in the gate order.
    pub fn into_order(self) -> [T; COUNT] {
        [self.input, self.forget, self.cell, self.output]
    }
}

/// Splits the gates along `dim`: `[.., 4H, ..]` into four `[.., H, ..]`.
pub fn split<const R: usize>(joined: Tensor<R>, dim: usize) -> Gates<Tensor<R>> {
    let d_hidden = joined.dims()[dim] / COUNT;
    Gates::from_fn(|gate| joined.clone().narrow(dim, gate.offset(d_hidden), d_hidden))
}

/// Joins the gates along `dim`, the inverse of [`split`].
pub fn join<const R: usize>(gates: Gates<Tensor<R>>, dim: usize) -> Tensor<R> {
    Tensor::cat(gates.into_order().to_vec(), dim)
}

/// Blocks of `d_hidden` along `dim` as they are with a forget gate, from those of coupled gates:
/// zeros in the second place, which have no influence then.
pub(crate) fn with_forget<const R: usize>(
    joined: Tensor<R>,
    dim: usize,
    d_hidden: usize,
) -> Tensor<R> {
    let input = joined.clone().narrow(dim, 0, d_hidden);
    let options = (&joined.device().without_autodiff(), joined.dtype());
    let zeros = Tensor::zeros(input.dims(), options);
    let rest = joined.dims()[dim] - d_hidden;
    Tensor::cat(vec![input, zeros, joined.narrow(dim, d_hidden, rest)], dim)
}

/// The blocks of coupled gates, without the second one; the inverse of [`with_forget`].
pub(crate) fn without_forget<const R: usize>(
    joined: Tensor<R>,
    dim: usize,
    d_hidden: usize,
) -> Tensor<R> {
    let input = joined.clone().narrow(dim, 0, d_hidden);
    let rest = joined.dims()[dim] - 2 * d_hidden;
    Tensor::cat(vec![input, joined.narrow(dim, 2 * d_hidden, rest)], dim)
}
