//! Forecasts side by side with what came.

use std::ops::Range;

use super::{Scaler, Series};

/// Values for the `horizon` times after each of consecutive origins, in the series' own units.
///
/// The origin `t` is a forecaster who knows the rows before `t`; its step 0 is row `t`. What a
/// model says, what a baseline says and what came have the same form, and are compared column by
/// column.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecasts {
    origins: Range<usize>,
    horizon: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Forecasts {
    /// Forecasts from flat values: by origin, then step, then column.
    ///
    /// # Panics
    ///
    /// If there are not `origins x horizon x columns` values.
    pub fn new(origins: Range<usize>, horizon: usize, columns: usize, values: Vec<f64>) -> Self {
        assert_eq!(
            values.len(),
            origins.len() * horizon * columns,
            "one value for each origin, step and column"
        );
        Self {
            origins,
            horizon,
            columns,
            values,
        }
    }

    /// Forecasts from a model's outputs: `[origins, K*C]`, flat and scaled.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn from_outputs(
        origins: Range<usize>,
        horizon: usize,
        outputs: &[f32],
        scaler: &Scaler,
    ) -> Self {
        Self::new(origins, horizon, scaler.columns(), scaler.unscale(outputs))
    }

    /// What came.
    ///
    /// # Panics
    ///
    /// If the series ends before the last origin's horizon.
    pub fn truth(series: &Series, origins: Range<usize>, horizon: usize) -> Self {
        let values = origins
            .clone()
            .flat_map(|origin| series.values[origin..origin + horizon].concat())
            .collect();
        Self::new(origins, horizon, series.columns(), values)
    }

    /// The rows that step 0 of each forecast is about.
    pub fn origins(&self) -> Range<usize> {
        self.origins.clone()
    }

    /// Steps of a forecast.
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// Columns of the series.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values of a column: by origin, then step.
    ///
    /// # Panics
    ///
    /// If there is no such column.
    pub fn column(&self, column: usize) -> Vec<f64> {
        assert!(column < self.columns, "column {column} of {}", self.columns);
        let values = self.values.iter().skip(column).step_by(self.columns);
        values.copied().collect()
    }

    /// The values of a column one number of steps ahead (0 for the next value): by origin. Value
    /// `i` is about row `origins().start + i + step`.
    ///
    /// # Panics
    ///
    /// If there is no such column or step.
    pub fn step(&self, column: usize, step: usize) -> Vec<f64> {
        assert!(step < self.horizon, "step {step} of {}", self.horizon);
        let steps = self.column(column);
        steps.into_iter().skip(step).step_by(self.horizon).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_column_and_step() {
        let series = Series {
            names: vec!["a".into(), "b".into()],
            values: (0..5)
                .map(|t| vec![f64::from(t), f64::from(10 * t)])
                .collect(),
            times: None,
        };
        let truth = Forecasts::truth(&series, 2..4, 2);
        assert_eq!(truth.column(0), [2.0, 3.0, 3.0, 4.0]);
        assert_eq!(truth.step(1, 0), [20.0, 30.0]);
        assert_eq!(truth.step(1, 1), [30.0, 40.0]);

        let scaler = Scaler {
            mean: vec![1.0, 0.0],
            std: vec![2.0, 10.0],
        };
        let outputs = [0.5, 2.0, 1.0, 3.0, 1.0, 3.0, 1.5, 4.0];
        assert_eq!(Forecasts::from_outputs(2..4, 2, &outputs, &scaler), truth);
    }
}
