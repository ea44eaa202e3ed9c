//! Layer normalization, there and back.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use super::arithmetic::{columns, mul, row};
use crate::config::LAYER_NORM_EPSILON;
use crate::fused::OptionalLayerNorm;
use crate::gates::COUNT;

/// Gains and shift, as rows.
#[derive(Debug)]
pub(super) struct Norm<B: Backend> {
    /// Of the input's part of the gates, `[1, 4H]`.
    pub(super) input: FloatTensor<B>,
    /// Of the hidden state's part, `[1, 4H]`.
    pub(super) hidden: FloatTensor<B>,
    /// Of the cell state, `[1, H]`.
    pub(super) cell: FloatTensor<B>,
    /// `[1, H]`
    pub(super) cell_bias: FloatTensor<B>,
    /// Whether there are three gates, the second block being none.
    coupled: bool,
}

/// Rows of mean 0 and variance 1, but for the epsilon.
#[derive(Debug, Clone)]
pub(super) struct Standard<B: Backend> {
    /// `[N, width]`
    pub(super) rows: FloatTensor<B>,
    /// What their numbers were divided by, `[N, 1]`.
    pub(super) deviation: FloatTensor<B>,
}

impl<B: Backend> Norm<B> {
    pub(super) fn new(norm: &OptionalLayerNorm<B>, coupled: bool) -> Option<Self> {
        match norm {
            OptionalLayerNorm::Absent => None,
            OptionalLayerNorm::Present {
                input,
                hidden,
                cell,
                cell_bias,
            } => Some(Self {
                input: row::<B>(input),
                hidden: row::<B>(hidden),
                cell: row::<B>(cell),
                cell_bias: row::<B>(cell_bias),
                coupled,
            }),
        }
    }

    /// One part of all gates, `[N, 4H]`, over the gates that there are.
    pub(super) fn standardize(&self, sums: FloatTensor<B>) -> Standard<B> {
        let standard = standardize::<B>(self.narrowed(sums));
        Standard {
            rows: self.widened(standard.rows),
            ..standard
        }
    }

    /// From the gradient of what [`standardize`](Self::standardize) returned to that of what it
    /// was given, `[N, 4H]` both.
    pub(super) fn back(&self, gradient: FloatTensor<B>, standard: &Standard<B>) -> FloatTensor<B> {
        let standard = Standard::<B> {
            rows: self.narrowed(standard.rows.clone()),
            deviation: standard.deviation.clone(),
        };
        self.widened(standard.back(self.narrowed(gradient)))
    }

    /// Without the forget gate, if it is none.
    fn narrowed(&self, joined: FloatTensor<B>) -> FloatTensor<B> {
        if !self.coupled {
            return joined;
        }
        let [_, width] = joined.shape().dims();
        let d_hidden = width / COUNT;
        let parts = [0..d_hidden, 2 * d_hidden..width].map(|part| columns::<B>(&joined, part));
        B::float_cat(parts.to_vec(), 1)
    }

    /// With zeros in the place of the forget gate, if it is none.
    fn widened(&self, joined: FloatTensor<B>) -> FloatTensor<B> {
        if !self.coupled {
            return joined;
        }
        let [rows, width] = joined.shape().dims();
        let d_hidden = width / (COUNT - 1);
        let shape = Shape::new([rows, d_hidden]);
        let zeros = B::float_zeros(shape, &joined.device(), joined.dtype().into());
        let [input, rest] = [0..d_hidden, d_hidden..width].map(|part| columns::<B>(&joined, part));
        B::float_cat(vec![input, zeros, rest], 1)
    }
}

/// Each row of `[N, width]` for itself.
pub(super) fn standardize<B: Backend>(rows: FloatTensor<B>) -> Standard<B> {
    let mean = B::float_mean_dim(rows.clone(), 1);
    let centred = B::float_sub(rows, mean);
    let variance = B::float_mean_dim(mul::<B>(&centred, &centred), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, LAYER_NORM_EPSILON.into()));
    Standard {
        rows: B::float_div(centred, deviation.clone()),
        deviation,
    }
}

impl<B: Backend> Standard<B> {
    /// From the gradient of these rows to that of the rows they were made of: what changes neither
    /// mean nor variance is what gets through.
    pub(super) fn back(&self, gradient: FloatTensor<B>) -> FloatTensor<B> {
        let mean = B::float_mean_dim(gradient.clone(), 1);
        let along = B::float_mean_dim(mul::<B>(&gradient, &self.rows), 1);
        let centred = B::float_sub(gradient, mean);
        let rest = B::float_sub(centred, mul::<B>(&self.rows, &along));
        B::float_div(rest, self.deviation.clone())
    }
}
