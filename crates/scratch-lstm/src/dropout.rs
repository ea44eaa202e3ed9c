//! Dropout with masks from the host's generator: the same on every backend.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::Rng;

use crate::random::Key;

/// Drops entries of `tensor` with probability `rate` and scales the others by `1 / (1 - rate)`
/// (Srivastava et al. 2014), by the stream of `key`. What it returns without autodiff, or at a
/// rate of 0, is the tensor itself.
///
/// # Panics
///
/// If `rate` is not at least 0 and less than 1.
pub fn dropout<const R: usize>(tensor: Tensor<R>, rate: f64, key: &Key) -> Tensor<R> {
    assert!(
        (0.0..1.0).contains(&rate),
        "dropout rate: expected at least 0 and less than 1, found {rate}"
    );
    if rate == 0.0 || !tensor.device().is_autodiff() {
        return tensor;
    }
    let mask = mask(tensor.dims(), rate, key, &tensor.device(), tensor.dtype());
    tensor * mask
}

/// As [`dropout`], but drops the same entries of a row at every step: `[B, T, width]`, or `[T, B,
/// width]` without `batch_first` ("locked" or "variational" dropout, Gal & Ghahramani 2016).
///
/// # Panics
///
/// If `rate` is not at least 0 and less than 1.
pub fn locked_dropout(tensor: Tensor<3>, batch_first: bool, rate: f64, key: &Key) -> Tensor<3> {
    assert!(
        (0.0..1.0).contains(&rate),
        "dropout rate: expected at least 0 and less than 1, found {rate}"
    );
    if rate == 0.0 || !tensor.device().is_autodiff() {
        return tensor;
    }
    let dropout = Dropout { rate, locked: true };
    drop_series(tensor, batch_first, dropout, key)
}

/// Dropout of a sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    pub(crate) rate: f64,
    /// Whether a row loses the same entries at every step.
    pub(crate) locked: bool,
}

/// Drops entries of the step tensors `[B, width]` as [`dropout`] does, with one mask for all.
pub(crate) fn drop_steps(steps: Vec<Tensor<2>>, dropout: Dropout, key: &Key) -> Vec<Tensor<2>> {
    let Some(first) = steps.first() else {
        return steps;
    };
    let (device, dtype) = (first.device(), first.dtype());
    let [batch, width] = first.dims();
    if dropout.locked {
        let mask = mask([batch, width], dropout.rate, key, &device, dtype);
        return steps.into_iter().map(|step| step * mask.clone()).collect();
    }
    let shape = [steps.len(), batch, width];
    let mask = mask(shape, dropout.rate, key, &device, dtype);
    steps
        .into_iter()
        .enumerate()
        .map(|(time, step)| step * mask.clone().narrow(0, time, 1).squeeze_dim(0))
        .collect()
}

/// Drops entries of `[B, T, width]`, or `[T, B, width]`, with the mask that [`drop_steps`] has for
/// the same steps.
pub(crate) fn drop_series(
    series: Tensor<3>,
    batch_first: bool,
    dropout: Dropout,
    key: &Key,
) -> Tensor<3> {
    let (device, dtype) = (series.device(), series.dtype());
    let [first, second, width] = series.dims();
    let [steps, batch] = if batch_first {
        [second, first]
    } else {
        [first, second]
    };
    let steps = if dropout.locked { 1 } else { steps };
    let mask = mask([steps, batch, width], dropout.rate, key, &device, dtype);
    series
        * if batch_first {
            mask.swap_dims(0, 1)
        } else {
            mask
        }
}

/// `1` with probability `rate`, else `0`: what keeps its old value.
pub(crate) fn kept<const R: usize>(
    shape: [usize; R],
    rate: f64,
    key: &Key,
    device: &Device,
    dtype: DType,
) -> Tensor<R> {
    draw(shape, rate, [1.0, 0.0], key, device, dtype)
}

/// `0` with probability `rate`, else `1 / (1 - rate)`.
pub(crate) fn mask<const R: usize>(
    shape: [usize; R],
    rate: f64,
    key: &Key,
    device: &Device,
    dtype: DType,
) -> Tensor<R> {
    let whole = (1.0 / (1.0 - rate)) as f32;
    draw(shape, rate, [0.0, whole], key, device, dtype)
}

/// The first of `values` with probability `rate`, else the second. Without a graph.
fn draw<const R: usize>(
    shape: [usize; R],
    rate: f64,
    [drawn, other]: [f32; 2],
    key: &Key,
    device: &Device,
    dtype: DType,
) -> Tensor<R> {
    // The comparison is made in whole numbers: 32 random bits against a threshold.
    let threshold = (rate * f64::from(u32::MAX)).round() as u32;
    let mut rng = key.rng();
    let values = (0..shape.iter().product())
        .map(|_| {
            if rng.next_u32() < threshold {
                drawn
            } else {
                other
            }
        })
        .collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_the_mean_and_can_be_repeated() {
        let device = crate::testing::device();
        let key = Key::new(5).child("dropout");
        let draw = |key: &Key| mask([10, 20, 50], 0.3, key, &device, DType::F32).into_data();
        let values = draw(&key);
        values.assert_eq(&draw(&key), true);
        let values = values.try_to_vec::<f32>().unwrap();
        assert_ne!(values, draw(&key.child(1)).try_to_vec::<f32>().unwrap());
        let dropped = values.iter().filter(|&&x| x == 0.0).count() as f64 / values.len() as f64;
        assert!((dropped - 0.3).abs() < 0.02, "{dropped}");
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
    }
}
