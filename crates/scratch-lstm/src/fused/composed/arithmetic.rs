//! Tensor operations in the terms of the files beside this one.

use std::ops::Range;

use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, TensorMetadata, get_device_settings};
use burn::tensor::{DType, Shape, Slice};

pub(super) fn mul<B: Backend>(a: &FloatTensor<B>, b: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(a.clone(), b.clone())
}

/// `x` times a factor, if there is one.
pub(super) fn scaled<B: Backend>(
    x: FloatTensor<B>,
    factor: Option<&FloatTensor<B>>,
) -> FloatTensor<B> {
    match factor {
        Some(factor) => B::float_mul(x, factor.clone()),
        None => x,
    }
}

/// `sum` and another term, if there is one.
pub(super) fn plus<B: Backend>(
    sum: FloatTensor<B>,
    term: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    match term {
        Some(term) => B::float_add(sum, term),
        None => sum,
    }
}

pub(super) fn add_to<B: Backend>(sum: &mut Option<FloatTensor<B>>, term: FloatTensor<B>) {
    *sum = Some(plus::<B>(term, sum.take()));
}

/// `1 - x`.
pub(super) fn one_minus<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_add_scalar(B::float_neg(x), 1.0.into())
}

/// `σ(x)`; in f64 by `tanh`, for most backends' own rounds to f32.
pub(super) fn sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() != DType::F64 {
        return B::sigmoid(x);
    }
    let half = B::float_tanh(B::float_mul_scalar(x, 0.5.into()));
    B::float_add_scalar(B::float_mul_scalar(half, 0.5.into()), 0.5.into())
}

/// `σ'` from `σ`.
pub(super) fn slope<B: Backend>(activated: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_sub(activated.clone(), mul::<B>(activated, activated))
}

/// `tanh'` from `tanh`.
pub(super) fn one_minus_square<B: Backend>(activated: &FloatTensor<B>) -> FloatTensor<B> {
    one_minus::<B>(mul::<B>(activated, activated))
}

/// Where a number lies outside of ±`bound`. On the bound it does not, as for autodiff's clamp.
pub(super) fn outside<B: Backend>(x: &FloatTensor<B>, bound: f64) -> BoolTensor<B> {
    // Booleans are of another size on GPUs.
    let dtype = get_device_settings::<B>(&x.device()).bool_dtype;
    B::float_greater_elem(B::float_abs(x.clone()), bound.into(), dtype)
}

/// Zeros where `mask` is true, which may lack columns.
pub(super) fn clear<B: Backend>(x: FloatTensor<B>, mask: Option<&BoolTensor<B>>) -> FloatTensor<B> {
    match mask {
        Some(mask) => {
            let mask = B::bool_expand(mask.clone(), x.shape());
            B::float_mask_fill(x, mask, 0.0.into())
        }
        None => x,
    }
}

/// `old` in the rows that are true in `ended`, `[B, 1]`.
pub(super) fn hold<B: Backend>(
    new: FloatTensor<B>,
    ended: &BoolTensor<B>,
    old: &FloatTensor<B>,
) -> FloatTensor<B> {
    let ended = B::bool_expand(ended.clone(), new.shape());
    B::float_mask_where(new, ended, old.clone())
}

/// Batch and time change places.
pub(super) fn swap_if<B: Backend>(batch_first: bool, series: FloatTensor<B>) -> FloatTensor<B> {
    if batch_first {
        B::float_swap_dims(series, 0, 1)
    } else {
        series
    }
}

/// Some entries of the first of three axes.
pub(super) fn slice<B: Backend>(series: &FloatTensor<B>, range: Range<usize>) -> FloatTensor<B> {
    let [_, rows, width] = series.shape().dims();
    let slices = [range, 0..rows, 0..width].map(Slice::from);
    B::float_slice(series.clone(), &slices)
}

/// One entry of the first of three axes, `[B, width]`.
pub(super) fn at<B: Backend>(series: &FloatTensor<B>, place: usize) -> FloatTensor<B> {
    let [_, rows, width] = series.shape().dims();
    B::float_reshape(
        slice::<B>(series, place..place + 1),
        Shape::new([rows, width]),
    )
}

/// Some columns of a matrix.
pub(super) fn columns<B: Backend>(matrix: &FloatTensor<B>, range: Range<usize>) -> FloatTensor<B> {
    let [rows, _] = matrix.shape().dims();
    B::float_slice(matrix.clone(), &[0..rows, range].map(Slice::from))
}

/// A matrix of one row, `[1, N]`, of `[N]`.
pub(super) fn row<B: Backend>(vector: &FloatTensor<B>) -> FloatTensor<B> {
    let [width] = vector.shape().dims();
    B::float_reshape(vector.clone(), Shape::new([1, width]))
}

/// The sum of all rows of a matrix, `[N]`.
pub(super) fn sum_rows<B: Backend>(matrix: FloatTensor<B>) -> FloatTensor<B> {
    let [_, width] = matrix.shape().dims();
    B::float_reshape(B::float_sum_dim(matrix, 0), Shape::new([width]))
}

/// A series `[S, B, width]` of the rows of `[S*B, width]`.
pub(super) fn series<B: Backend>(rows: FloatTensor<B>, steps: usize) -> FloatTensor<B> {
    let [count, width] = rows.shape().dims();
    B::float_reshape(rows, Shape::new([steps, count / steps, width]))
}
