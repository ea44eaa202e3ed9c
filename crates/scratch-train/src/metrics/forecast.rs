//! Errors of forecasts.

use serde::{Deserialize, Serialize};

/// How far forecasts of one series are from what came, in its units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastScores {
    /// Root mean squared error.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Mean absolute scaled error; `None` where the training part is constant.
    pub mase: Option<f64>,
}

impl ForecastScores {
    /// Compares forecasts with what came; `train` is the training part of the series.
    ///
    /// # Panics
    ///
    /// If there are none, or of `truth` and `forecasts` not the same number.
    pub fn of(truth: &[f64], forecasts: &[f64], train: &[f64]) -> Self {
        Self {
            rmse: rmse(truth, forecasts),
            mae: mae(truth, forecasts),
            mase: mase(truth, forecasts, train),
        }
    }
}

/// Root mean squared error.
///
/// # Panics
///
/// If there are no values, or not the same number of both.
///
/// ```
/// // Errors 1, -1 and 2: sqrt((1 + 1 + 4) / 3) = sqrt(2).
/// let rmse = scratch_train::metrics::rmse(&[1.0, 2.0, 3.0], &[2.0, 1.0, 5.0]);
/// assert!((rmse - 2f64.sqrt()).abs() < 1e-12);
/// ```
pub fn rmse(truth: &[f64], forecasts: &[f64]) -> f64 {
    mean(errors(truth, forecasts).map(|error| error * error)).sqrt()
}

/// Mean absolute error.
///
/// # Panics
///
/// As [`rmse`].
///
/// ```
/// // Errors 1, -1 and 2: (1 + 1 + 2) / 3.
/// let mae = scratch_train::metrics::mae(&[1.0, 2.0, 3.0], &[2.0, 1.0, 5.0]);
/// assert!((mae - 4.0 / 3.0).abs() < 1e-12);
/// ```
pub fn mae(truth: &[f64], forecasts: &[f64]) -> f64 {
    mean(errors(truth, forecasts).map(f64::abs))
}

/// Mean absolute scaled error (Hyndman & Koehler 2006): [`mae`] as a multiple of [`naive_mae`],
/// the error that persistence makes one step ahead within the training part. `None` if that is 0
/// or the training part has less than two values.
///
/// # Panics
///
/// As [`rmse`].
///
/// ```
/// // The training part moves by 2, 4 and 3: 3 on average. The forecasts are 1 and 2 off.
/// let mase = scratch_train::metrics::mase(&[9.0, 9.0], &[10.0, 7.0], &[1.0, 3.0, 7.0, 4.0]);
/// assert_eq!(mase, Some(1.5 / 3.0));
/// ```
pub fn mase(truth: &[f64], forecasts: &[f64], train: &[f64]) -> Option<f64> {
    let error = mae(truth, forecasts);
    let scale = naive_mae(train).filter(|&scale| scale > 0.0)?;
    Some(error / scale)
}

/// The mean absolute change from one value to the next; `None` for less than two values.
pub fn naive_mae(values: &[f64]) -> Option<f64> {
    let changes = values.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    (values.len() > 1).then(|| mean(changes))
}

fn errors(truth: &[f64], forecasts: &[f64]) -> impl ExactSizeIterator<Item = f64> {
    assert_eq!(
        truth.len(),
        forecasts.len(),
        "one forecast for each value that came"
    );
    assert!(!truth.is_empty(), "at least one forecast");
    forecasts
        .iter()
        .zip(truth)
        .map(|(forecast, truth)| forecast - truth)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scale_no_scaled_error() {
        assert_eq!(mase(&[1.0], &[2.0], &[5.0, 5.0, 5.0]), None);
        assert_eq!(mase(&[1.0], &[2.0], &[5.0]), None);
        let scores = ForecastScores::of(&[1.0], &[2.0], &[]);
        assert_eq!((scores.rmse, scores.mae, scores.mase), (1.0, 1.0, None));
    }

    #[test]
    #[should_panic(expected = "one forecast for each value")]
    fn lengths_must_agree() {
        rmse(&[1.0], &[1.0, 2.0]);
    }
}
