//! What goes into the fused operation and what comes out, by name.

use std::any::Any;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use scratch_lstm_kernels::Sizes;

use super::LstmCall;
use crate::gates::COUNT;

/// What one layer and direction reads; shapes as in [`LstmOps`](super::LstmOps).
#[derive(Debug, Clone)]
pub struct LstmInputs<B: Backend> {
    /// `[B, T, D]` or `[T, B, D]`
    pub x: FloatTensor<B>,
    /// `[4H, D]`
    pub weight_ih: FloatTensor<B>,
    /// `[4H, H]`
    pub weight_hh: FloatTensor<B>,
    /// `[4H]`
    pub bias: FloatTensor<B>,
    /// `[B, H]`
    pub h0: FloatTensor<B>,
    /// `[B, H]`
    pub c0: FloatTensor<B>,
}

impl<B: Backend> LstmInputs<B> {
    /// The sizes, if they fit each other.
    ///
    /// # Panics
    ///
    /// If they do not: what computes with them relies on it.
    pub(crate) fn check(&self, call: &LstmCall) -> Sizes {
        let [first, second, d_input] = self.x.shape().dims();
        let (batch, steps) = if call.batch_first {
            (first, second)
        } else {
            (second, first)
        };
        let [gates, d_hidden] = self.weight_hh.shape().dims();
        assert!(
            batch > 0 && steps > 0 && d_input > 0 && d_hidden > 0,
            "fused LSTM: no axis may be empty"
        );
        assert_eq!(gates, COUNT * d_hidden, "fused LSTM: rows of weight_hh");
        for (name, tensor, shape) in [
            ("weight_ih", &self.weight_ih, &[gates, d_input][..]),
            ("bias", &self.bias, &[gates]),
            ("h0", &self.h0, &[batch, d_hidden]),
            ("c0", &self.c0, &[batch, d_hidden]),
        ] {
            let found = tensor.shape();
            assert_eq!(&found[..], shape, "fused LSTM: shape of {name}");
        }
        if let Some(lengths) = &call.lengths {
            assert_eq!(lengths.len(), batch, "fused LSTM: a length for each row");
            assert!(
                lengths.iter().all(|&length| length <= steps),
                "fused LSTM: lengths of at most {steps} steps"
            );
        }
        Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
        }
    }

    /// Applies `map` to each tensor.
    pub fn map(self, map: impl Fn(FloatTensor<B>) -> FloatTensor<B>) -> Self {
        Self {
            x: map(self.x),
            weight_ih: map(self.weight_ih),
            weight_hh: map(self.weight_hh),
            bias: map(self.bias),
            h0: map(self.h0),
            c0: map(self.c0),
        }
    }
}

/// What it writes.
#[derive(Debug, Clone)]
pub struct LstmOutputs<B: Backend> {
    /// `[B, T, H]` or `[T, B, H]`
    pub output: FloatTensor<B>,
    /// `[B, H]`
    pub hidden: FloatTensor<B>,
    /// `[B, H]`
    pub cell: FloatTensor<B>,
}

/// The gradients of what it wrote, in the same shapes; absent ones are zero.
#[derive(Debug, Clone)]
pub struct LstmCotangents<B: Backend> {
    /// Of the output.
    pub output: Option<FloatTensor<B>>,
    /// Of the final hidden state.
    pub hidden: Option<FloatTensor<B>>,
    /// Of the final cell state.
    pub cell: Option<FloatTensor<B>>,
}

impl<B: Backend> LstmCotangents<B> {
    /// Applies `map` to each tensor.
    pub fn map(self, map: impl Fn(FloatTensor<B>) -> FloatTensor<B>) -> Self {
        Self {
            output: self.output.map(&map),
            hidden: self.hidden.map(&map),
            cell: self.cell.map(&map),
        }
    }
}

/// The gradients that were wanted, in the shapes of [`LstmInputs`].
#[derive(Debug, Clone)]
pub struct LstmGradients<B: Backend> {
    /// Of the input.
    pub x: Option<FloatTensor<B>>,
    /// Of the weights on the input.
    pub weight_ih: Option<FloatTensor<B>>,
    /// Of the weights on the hidden state.
    pub weight_hh: Option<FloatTensor<B>>,
    /// Of the bias.
    pub bias: Option<FloatTensor<B>>,
    /// Of the hidden state before the first step.
    pub h0: Option<FloatTensor<B>>,
    /// Of the cell state before the first step.
    pub c0: Option<FloatTensor<B>>,
}

impl<B: Backend> LstmGradients<B> {
    /// Applies `map` to each tensor.
    pub fn map(self, map: impl Fn(FloatTensor<B>) -> FloatTensor<B>) -> Self {
        Self {
            x: self.x.map(&map),
            weight_ih: self.weight_ih.map(&map),
            weight_hh: self.weight_hh.map(&map),
            bias: self.bias.map(&map),
            h0: self.h0.map(&map),
            c0: self.c0.map(&map),
        }
    }
}

/// What a forward pass keeps for its own backward pass; nobody else's business.
#[derive(Debug, Clone)]
pub struct Saved(Arc<dyn Kept>);

trait Kept: Any + std::fmt::Debug + Send + Sync {}

impl<T: Any + std::fmt::Debug + Send + Sync> Kept for T {}

impl Saved {
    /// Keeps `value`.
    pub fn new<T: Any + std::fmt::Debug + Send + Sync>(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// What was kept.
    ///
    /// # Panics
    ///
    /// If it was kept by another forward pass than the caller's, or if there are copies: a node
    /// walks back once.
    pub fn into_inner<T: Any + std::fmt::Debug + Send + Sync>(self) -> T {
        let any: Arc<dyn Any + Send + Sync> = self.0;
        let kept = any.downcast::<T>();
        let kept = kept.unwrap_or_else(|_| panic!("expected what the same backend kept"));
        Arc::try_unwrap(kept)
            .unwrap_or_else(|_| panic!("expected to be the only one who walks back"))
    }
}
