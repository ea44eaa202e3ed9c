//! Windows of series, for forecasting.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rand::seq::SliceRandom;
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};

use super::error::{check_elements, check_positive};
use super::fingerprint::Fingerprint;
use super::order::EpochOrder;
use super::{DataError, Scaler, SequenceData, Series, Start, Window};

/// How a series is cut into windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Rows the model reads before the forecast that counts.
    pub window: usize,
    /// Rows it forecasts.
    pub horizon: usize,
    /// Rows from the beginning of a training window to that of the next.
    pub stride: usize,
    /// Time steps at the beginning of a training window whose forecasts do not count: the state
    /// knows too little yet.
    pub warmup: usize,
    /// Windows in a batch.
    pub batch_size: usize,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            window: 48,
            horizon: 1,
            stride: 1,
            warmup: 0,
            batch_size: 32,
        }
    }
}

/// A batch of windows, scaled.
#[derive(Debug, Clone)]
pub struct ForecastBatch {
    /// The rows to read, `[B, T, C]`.
    pub inputs: Tensor<3>,
    /// What follows, `[B, T, K*C]`: for each time step the next `K` rows, the nearest first, each
    /// with its `C` columns.
    pub targets: Tensor<3>,
    /// Time steps at the beginning whose forecasts do not count: the warm-up in training, all but
    /// the last in evaluation.
    pub skip: usize,
}

/// A part of a series as windows, each a sequence of its own ([`Start::Fresh`]).
#[derive(Debug)]
pub struct SeriesWindows {
    /// The whole series, scaled: by time, then column.
    values: Arc<[f32]>,
    columns: usize,
    config: WindowConfig,
    skip: usize,
    /// The row on which the first window starts.
    first: usize,
    stride: usize,
    count: usize,
    shuffle: Option<Shuffle>,
}

impl SeriesWindows {
    /// The windows of the training part: every one that starts a multiple of the stride after its
    /// beginning and whose targets end within it, in an order that `key` and the epoch determine.
    ///
    /// # Errors
    ///
    /// If a size is zero or too large, or the part is shorter than window and horizon.
    ///
    /// # Panics
    ///
    /// If `part` is no part of the series or the scaler fits another number of columns.
    pub fn train(
        series: &Series,
        part: Range<usize>,
        scaler: &Scaler,
        config: &WindowConfig,
        key: &Key,
    ) -> Result<Self, DataError> {
        config.validate()?;
        let needed = config.window.saturating_add(config.horizon);
        let Some(slack) = part.len().checked_sub(needed) else {
            return Err(DataError::TooShort {
                what: "the training part of the series".into(),
                expected: needed,
                unit: "rows",
                reason: format!("window {} + horizon {}", config.window, config.horizon),
                found: part.len(),
            });
        };
        let count = slack / config.stride + 1;
        config.check_batch(series.columns(), count)?;
        Ok(Self {
            values: scaled(series, scaler)?,
            columns: series.columns(),
            config: config.clone(),
            skip: config.warmup,
            first: part.start,
            stride: config.stride,
            count,
            shuffle: Some(Shuffle {
                key: key.child("shuffle"),
                order: EpochOrder::new(),
            }),
        })
    }

    /// One window for each origin in a part for validation or test, in the order of time: the
    /// `window` rows before it, of which the first may lie in the part before (a forecaster knows
    /// the past), and the `horizon` rows from it on. Only the last step's forecast counts.
    ///
    /// # Errors
    ///
    /// If a size is zero or too large, if there are fewer rows before the part than the window
    /// has, or the part is shorter than the horizon.
    ///
    /// # Panics
    ///
    /// As [`train`](Self::train).
    pub fn eval(
        series: &Series,
        part: Range<usize>,
        scaler: &Scaler,
        config: &WindowConfig,
    ) -> Result<Self, DataError> {
        config.validate()?;
        let Some(first) = part.start.checked_sub(config.window) else {
            return Err(DataError::TooShort {
                what: "the series before the part to forecast".into(),
                expected: config.window,
                unit: "rows",
                reason: format!("window {}", config.window),
                found: part.start,
            });
        };
        let Some(slack) = part.len().checked_sub(config.horizon) else {
            return Err(DataError::TooShort {
                what: "the part of the series to forecast".into(),
                expected: config.horizon,
                unit: "rows",
                reason: format!("horizon {}", config.horizon),
                found: part.len(),
            });
        };
        config.check_batch(series.columns(), slack + 1)?;
        Ok(Self {
            values: scaled(series, scaler)?,
            columns: series.columns(),
            config: config.clone(),
            skip: config.window - 1,
            first,
            stride: 1,
            count: slack + 1,
            shuffle: None,
        })
    }

    /// The rows that the first step of each evaluation forecast is about, in the order of the
    /// windows.
    pub fn origins(&self) -> Range<usize> {
        let first = self.first + self.config.window;
        first..first + self.count
    }

    /// The windows that start on these rows.
    fn gather(&self, starts: &[usize], device: &Device) -> ForecastBatch {
        let WindowConfig {
            window, horizon, ..
        } = self.config;
        let (columns, rows) = (self.columns, starts.len());
        let mut inputs = Vec::with_capacity(rows * window * columns);
        let mut targets = Vec::with_capacity(rows * window * horizon * columns);
        for &start in starts {
            inputs.extend_from_slice(self.rows(start, window));
            for step in 0..window {
                targets.extend_from_slice(self.rows(start + step + 1, horizon));
            }
        }
        let inputs = TensorData::new(inputs, [rows, window, columns]);
        let targets = TensorData::new(targets, [rows, window, horizon * columns]);
        ForecastBatch {
            inputs: Tensor::from_data(inputs, device),
            targets: Tensor::from_data(targets, device),
            skip: self.skip,
        }
    }

    fn rows(&self, first: usize, count: usize) -> &[f32] {
        &self.values[first * self.columns..(first + count) * self.columns]
    }
}

impl SequenceData for SeriesWindows {
    type Batch = ForecastBatch;

    fn windows(&self) -> usize {
        self.count.div_ceil(self.config.batch_size)
    }

    fn fingerprint(&self) -> Option<String> {
        let config = &self.config;
        let sizes = [
            self.columns,
            config.window,
            config.horizon,
            config.batch_size,
            self.skip,
            self.first,
            self.stride,
            self.count,
        ];
        let print = Fingerprint::default().sizes(&sizes).values(&self.values);
        Some(print.finish())
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<ForecastBatch> {
        assert!(
            index < self.windows(),
            "window {index} of {}",
            self.windows()
        );
        let from = index * self.config.batch_size;
        let to = self.count.min(from.saturating_add(self.config.batch_size));
        let start = |position: usize| self.first + position * self.stride;
        let starts: Vec<_> = match &self.shuffle {
            Some(shuffle) => {
                let order = shuffle.epoch(epoch, self.count);
                order[from..to].iter().copied().map(start).collect()
            }
            None => (from..to).map(start).collect(),
        };
        Window {
            batch: self.gather(&starts, device),
            start: Start::Fresh,
        }
    }
}

impl WindowConfig {
    /// Checks the settings by themselves.
    ///
    /// # Errors
    ///
    /// If a size is zero or the warm-up leaves no step of the window.
    pub fn validate(&self) -> Result<(), DataError> {
        check_positive("window", self.window)?;
        check_positive("horizon", self.horizon)?;
        check_positive("stride", self.stride)?;
        check_positive("batch_size", self.batch_size)?;
        if self.warmup >= self.window {
            return Err(DataError::setting(
                "warmup",
                format!("less than the window of {}", self.window),
                self.warmup,
            ));
        }
        Ok(())
    }

    fn check_batch(&self, columns: usize, windows: usize) -> Result<(), DataError> {
        check_elements(&[
            ("batch", self.batch_size.min(windows)),
            ("window", self.window),
            ("horizon", self.horizon),
            ("columns", columns),
        ])
    }
}

#[derive(Debug)]
struct Shuffle {
    key: Key,
    order: EpochOrder<Vec<usize>>,
}

impl Shuffle {
    fn epoch(&self, epoch: usize, count: usize) -> Arc<Vec<usize>> {
        self.order.get(epoch, || {
            let mut order: Vec<_> = (0..count).collect();
            order.shuffle(&mut self.key.child(epoch).rng());
            order
        })
    }
}

fn scaled(series: &Series, scaler: &Scaler) -> Result<Arc<[f32]>, DataError> {
    let values = scaler.scale(&series.values);
    if let Some(position) = values.iter().position(|value| !value.is_finite()) {
        let (row, column) = (position / series.columns(), position % series.columns());
        return Err(DataError::OutOfScale {
            column: series.names[column].clone(),
            row,
            found: series.values[row][column],
        });
    }
    Ok(values.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row `t` holds `t` and `100 + t`.
    fn series(rows: u32) -> Series {
        let row = |t| vec![f64::from(t), f64::from(100 + t)];
        Series {
            names: vec!["a".into(), "b".into()],
            values: (0..rows).map(row).collect(),
            times: None,
        }
    }

    fn unscaled() -> Scaler {
        Scaler {
            mean: vec![0.0; 2],
            std: vec![1.0; 2],
        }
    }

    fn config() -> WindowConfig {
        WindowConfig {
            window: 3,
            horizon: 2,
            stride: 1,
            warmup: 0,
            batch_size: 4,
        }
    }

    fn numbers(tensor: Tensor<3>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn each_step_is_followed_by_its_horizon() {
        let device = Device::flex();
        let config = WindowConfig {
            warmup: 1,
            batch_size: 100,
            ..config()
        };
        let data =
            SeriesWindows::train(&series(5), 0..5, &unscaled(), &config, &Key::new(1)).unwrap();
        assert_eq!(data.windows(), 1);
        let Window { batch, start } = data.window(0, 0, &device);
        assert_eq!(start, Start::Fresh);
        assert_eq!(batch.skip, 1);
        assert_eq!(numbers(batch.inputs), [0., 100., 1., 101., 2., 102.]);
        assert_eq!(batch.targets.dims(), [1, 3, 4]);
        // After step 0 come rows 1 and 2, after step 1 rows 2 and 3, after step 2 rows 3 and 4.
        let firsts = batch.targets.narrow(2, 0, 3);
        assert_eq!(numbers(firsts), [1., 101., 2., 2., 102., 3., 3., 103., 4.]);
    }

    #[test]
    fn an_epoch_visits_every_window_once_in_its_own_order() {
        let device = Device::flex();
        let series = series(30);
        let data =
            SeriesWindows::train(&series, 5..25, &unscaled(), &config(), &Key::new(1)).unwrap();
        // 20 rows - 5 + 1 = 16 windows in 4 batches.
        assert_eq!(data.windows(), 4);
        let starts = |epoch: usize| -> Vec<f32> {
            let batches = (0..4).map(|index| data.window(epoch, index, &device).batch.inputs);
            let first = batches.flat_map(|inputs| numbers(inputs.narrow(1, 0, 1).narrow(2, 0, 1)));
            first.collect()
        };
        let (zero, one) = (starts(0), starts(1));
        assert_ne!(zero, one);
        assert_eq!(zero, starts(0));
        for mut epoch in [zero, one] {
            epoch.sort_by(f32::total_cmp);
            assert_eq!(
                epoch,
                (5..=20).map(|start| start as f32).collect::<Vec<_>>()
            );
        }

        let strided = WindowConfig {
            stride: 7,
            ..config()
        };
        let data = SeriesWindows::train(&series, 5..25, &unscaled(), &strided, &Key::new(1));
        // Starts 5, 12 and 19.
        assert_eq!(data.unwrap().count, 3);
    }

    #[test]
    fn evaluation_looks_back_and_never_ahead() {
        let device = Device::flex();
        let data = SeriesWindows::eval(&series(12), 6..12, &unscaled(), &config()).unwrap();
        // The last of the two values of origin 10 is row 11.
        assert_eq!(data.origins(), 6..11);
        assert_eq!(data.windows(), 2);
        let last = data.window(7, 1, &device).batch;
        assert_eq!(last.skip, 2);
        assert_eq!(numbers(last.inputs), [7., 107., 8., 108., 9., 109.]);
        assert_eq!(last.targets.dims(), [1, 3, 4]);
        let counted = last.targets.narrow(1, 2, 1);
        assert_eq!(numbers(counted), [10., 110., 11., 111.]);
    }

    #[test]
    fn too_little_data_and_absurd_sizes_are_errors() {
        let (series, scaler, key) = (series(100), unscaled(), Key::new(1));
        let error = |config: WindowConfig, part: Range<usize>| {
            let train = SeriesWindows::train(&series, part.clone(), &scaler, &config, &key);
            let eval = SeriesWindows::eval(&series, part, &scaler, &config);
            (
                train.err().map(|error| error.to_string()),
                eval.err().map(|error| error.to_string()),
            )
        };
        let with = |change: fn(&mut WindowConfig)| {
            let mut config = config();
            change(&mut config);
            config
        };
        for (field, config) in [
            ("`window`", with(|config| config.window = 0)),
            ("`horizon`", with(|config| config.horizon = 0)),
            ("`stride`", with(|config| config.stride = 0)),
            ("`batch_size`", with(|config| config.batch_size = 0)),
            ("`warmup`", with(|config| config.warmup = 3)),
        ] {
            let (train, eval) = error(config, 50..100);
            assert!(train.unwrap().contains(field) && eval.unwrap().contains(field));
        }
        for size in [1_000_000_000, usize::MAX] {
            let mut config = config();
            config.window = size;
            let (train, eval) = error(config.clone(), 50..100);
            assert!(train.unwrap().contains("too short"));
            assert!(eval.unwrap().contains("too short"));
            config.window = 3;
            config.horizon = size;
            assert!(matches!(error(config.clone(), 50..100), (Some(_), Some(_))));
            config.horizon = 2;
            (config.stride, config.batch_size) = (size, size);
            assert!(matches!(error(config, 50..100), (None, None)));
        }
        let (train, _) = error(config(), 0..4);
        assert_eq!(
            train.unwrap(),
            "the training part of the series is too short: \
             expected at least 5 rows (window 3 + horizon 2), found 4"
        );
    }

    #[test]
    fn values_that_f32_cannot_hold_are_errors() {
        let mut series = series(20);
        series.values[13][1] = 1e300;
        let error = SeriesWindows::eval(&series, 10..20, &unscaled(), &config()).unwrap_err();
        assert!(error.to_string().contains("column `b`, row 13"));
    }
}
