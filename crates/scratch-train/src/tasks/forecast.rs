//! Forecasting numeric series: a CSV in, forecasts and their errors out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};

use super::TaskError;
use super::samples;
use super::session::{self, Ended, Job, Session};
use crate::baselines;
use crate::config::TrainingConfig;
use crate::data::{
    Columns, Forecasts, Scaler, Series, SeriesWindows, Split, SplitConfig, WindowConfig, embedded,
};
use crate::evaluate::evaluate_with;
use crate::metrics::ForecastScores;
use crate::models::{Forecaster, ForecasterConfig};
use crate::optimizer::OptimizerConfig;
use crate::range_test::RangeTest;
use crate::report::{self, ForecastPlot, SAMPLES};
use crate::run::RunFolder;

/// The name of the task in `config.toml`.
pub const TASK: &str = "forecast";

/// What the loss is.
pub const LOSS: &str = "mean squared error of the scaled series";

/// What is counted as it is learned from.
pub const TARGETS: &str = "values";

/// Settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForecastConfig {
    /// The series and how it is cut.
    pub data: ForecastData,
    /// The model.
    pub model: ForecasterConfig,
    /// The training.
    pub training: TrainingConfig,
}

/// The series and how it is cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForecastData {
    /// A CSV file; the monthly sunspot numbers if absent.
    pub path: Option<PathBuf>,
    /// Rows of a season, for the seasonal naive forecast; estimated on the training part if
    /// absent.
    pub season: Option<usize>,
    /// The columns to forecast.
    pub columns: Columns,
    /// Shares of training, validation and test, in time.
    pub split: SplitConfig,
    /// Windows of the series.
    pub windows: WindowConfig,
}

impl Default for ForecastData {
    fn default() -> Self {
        Self {
            path: None,
            season: None,
            columns: Columns::default(),
            split: SplitConfig::SERIES,
            windows: WindowConfig::default(),
        }
    }
}

impl Default for ForecastConfig {
    fn default() -> Self {
        Self {
            data: ForecastData::default(),
            model: ForecasterConfig::default(),
            // Series are short and noisy: few passes and a strong pull towards small weights.
            training: TrainingConfig {
                epochs: 8,
                optimizer: OptimizerConfig::adam_w(0.3),
                ..TrainingConfig::default()
            },
        }
    }
}

/// The results of a run. With several columns, scores are means over the columns, which are of
/// use only if these have one scale; `columns` has each by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastReport {
    /// The run folder.
    pub run: PathBuf,
    /// How training ended; absent in an evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Ended>,
    /// Steps ahead.
    pub horizon: usize,
    /// Rows of training, validation and test.
    pub rows: [usize; 3],
    /// On the validation part, by which the model was chosen.
    pub valid: ForecastScores,
    /// On the test part.
    pub test: ForecastScores,
    /// What forecasts without a model reach on the test part.
    pub baselines: Baselines,
    /// On the test part, column by column.
    pub columns: BTreeMap<String, ColumnReport>,
}

/// Scores of forecasts without a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baselines {
    /// The last value stays.
    pub persistence: ForecastScores,
    /// The value of one season before comes again; absent if the series has no season.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seasonal_naive: Option<ForecastScores>,
    /// Rows of a season.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub season: Option<usize>,
}

/// Scores of one column on the test part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnReport {
    /// Of the model.
    pub test: ForecastScores,
    /// Of the forecasts without one.
    pub baselines: Baselines,
}

/// A forecast beyond the end of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ahead {
    /// The columns.
    pub columns: Vec<String>,
    /// The last row that is known, by its name in the data.
    pub last_time: Option<String>,
    /// The next rows, the nearest first.
    pub values: Vec<Vec<f64>>,
}

/// Trains a forecaster into a new run folder. Everything about the data is checked before a file
/// is written.
///
/// # Errors
///
/// If the data or a setting does not fit, or the run cannot be written.
pub fn train(
    config: &ForecastConfig,
    folder: impl Into<PathBuf>,
    session: Session<'_>,
) -> Result<ForecastReport, TaskError> {
    session::train::<Prepared>(config, folder, session)
}

/// Goes on with a run; `change` may alter its settings for the training (more epochs).
///
/// # Errors
///
/// If the run cannot be read, or as [`train`].
pub fn resume(
    run: &RunFolder,
    change: impl FnOnce(&mut TrainingConfig),
    session: Session<'_>,
) -> Result<ForecastReport, TaskError> {
    session::resume::<Prepared>(run, change, session)
}

/// Tries rising learning rates on a copy of the model.
///
/// # Errors
///
/// If the data or a setting does not fit.
pub fn range_test(config: &ForecastConfig, device: &Device) -> Result<RangeTest, TaskError> {
    session::range_test::<Prepared>(config, device)
}

/// Scores of a run's best model.
///
/// # Errors
///
/// If the run or its data cannot be read.
pub fn evaluate(run: &RunFolder, device: &Device) -> Result<ForecastReport, TaskError> {
    session::evaluate::<Prepared>(run, device)
}

/// The rows after the end of the data, by a run's best model. Beyond the horizon it was trained
/// for it goes on from its own forecasts.
///
/// # Errors
///
/// If the run or its data cannot be read, or `horizon` is not from 1 to 100,000.
pub fn forecast(run: &RunFolder, device: &Device, horizon: usize) -> Result<Ahead, TaskError> {
    const MOST: usize = 100_000;
    if !(1..=MOST).contains(&horizon) {
        return Err(TaskError::Request {
            what: "horizon",
            expected: format!("1 to {MOST}"),
            found: horizon.to_string(),
        });
    }
    let task: Prepared = session::open(run)?;
    let model = session::best_model(run, task.model(device)?)?;
    let values = task.ahead(&model, device, horizon)?;
    let times = task.series.times.as_ref();
    Ok(Ahead {
        columns: task.series.names.clone(),
        last_time: times.and_then(|times| times.last().cloned()),
        values,
    })
}

/// The data of a run, read, checked and cut.
struct Prepared {
    config: ForecastConfig,
    series: Series,
    split: Split,
    scaler: Scaler,
    train: SeriesWindows,
    valid: SeriesWindows,
    test: SeriesWindows,
    season: Option<usize>,
}

impl Job for Prepared {
    const TASK: &'static str = TASK;
    const LOSS: &'static str = LOSS;
    type Config = ForecastConfig;
    type Model = Forecaster;
    type Data = SeriesWindows;
    type Report = ForecastReport;

    fn training(config: &mut ForecastConfig) -> &mut TrainingConfig {
        &mut config.training
    }

    fn parts(&self) -> [&SeriesWindows; 2] {
        [&self.train, &self.valid]
    }

    fn prepare(config: ForecastConfig, _run: Option<&RunFolder>) -> Result<Self, TaskError> {
        let data = &config.data;
        let series = match &data.path {
            Some(path) => Series::from_csv(path, &data.columns)?,
            None => Series::parse(embedded::SUNSPOTS, embedded::SUNSPOTS_CSV, &data.columns)?,
        };
        let split = data.split.split(series.len())?;
        let scaler = Scaler::fit(&series.values[split.train.clone()]);
        let windows = &data.windows;
        let key = Key::new(config.training.seed).child("data");
        let train = SeriesWindows::train(&series, split.train.clone(), &scaler, windows, &key)?;
        let valid = SeriesWindows::eval(&series, split.valid.clone(), &scaler, windows)?;
        let test = SeriesWindows::eval(&series, split.test.clone(), &scaler, windows)?;
        let season = match data.season {
            Some(season) if season == 0 || season > split.train.len() => {
                return Err(TaskError::Request {
                    what: "data.season",
                    expected: format!("1 to {} (rows of the training part)", split.train.len()),
                    found: season.to_string(),
                });
            }
            Some(season) => Some(season),
            None => baselines::season_length(&series.column(0)[split.train.clone()]),
        };
        Ok(Self {
            config,
            series,
            split,
            scaler,
            train,
            valid,
            test,
            season,
        })
    }

    fn model(&self, device: &Device) -> Result<Forecaster, TaskError> {
        let key = Key::new(self.config.training.seed).child("model");
        let horizon = self.config.data.windows.horizon;
        Ok(self
            .config
            .model
            .try_init(self.series.columns(), horizon, &key, device)?)
    }

    fn report(
        &self,
        run: &RunFolder,
        model: &Forecaster,
        device: &Device,
        training: Option<Ended>,
    ) -> Result<ForecastReport, TaskError> {
        let valid = self.forecasts(model, &self.valid, device)?;
        let test = self.forecasts(model, &self.test, device)?;
        let columns: BTreeMap<_, _> = (0..self.series.columns())
            .map(|column| {
                let report = ColumnReport {
                    test: self.scores(&test, column),
                    baselines: self.baselines(test.origins(), column),
                };
                (self.series.names[column].clone(), report)
            })
            .collect();
        let of_columns = |of: &dyn Fn(&ColumnReport) -> Option<ForecastScores>| {
            mean_scores(&columns.values().filter_map(of).collect::<Vec<_>>())
        };
        let valid: Vec<_> = (0..self.series.columns())
            .map(|column| self.scores(&valid, column))
            .collect();
        let report = ForecastReport {
            run: run.root().to_path_buf(),
            training,
            horizon: self.config.data.windows.horizon,
            rows: [&self.split.train, &self.split.valid, &self.split.test].map(Range::len),
            valid: mean_scores(&valid).expect("a series has a column"),
            test: of_columns(&|column| Some(column.test)).expect("a series has a column"),
            baselines: Baselines {
                persistence: of_columns(&|column| Some(column.baselines.persistence))
                    .expect("a series has a column"),
                seasonal_naive: of_columns(&|column| column.baselines.seasonal_naive),
                season: self.season,
            },
            columns,
        };
        self.plot(run, &test, &report)?;
        run.write_json(SAMPLES, &samples::of_forecasts(&self.series, &test))?;
        Ok(report)
    }
}

impl Prepared {
    /// What the model says over a part.
    fn forecasts(
        &self,
        model: &Forecaster,
        part: &SeriesWindows,
        device: &Device,
    ) -> Result<Forecasts, TaskError> {
        let mut outputs: Vec<f32> = Vec::new();
        evaluate_with(&valid_form(model), part, device, |_, output| {
            outputs.extend(output.outputs.to_data().iter::<f32>());
        })?;
        let horizon = self.config.data.windows.horizon;
        Ok(Forecasts::from_outputs(
            part.origins(),
            horizon,
            &outputs,
            &self.scaler,
        ))
    }

    fn scores(&self, forecasts: &Forecasts, column: usize) -> ForecastScores {
        let truth = Forecasts::truth(&self.series, forecasts.origins(), forecasts.horizon());
        let train = &self.series.column(column)[self.split.train.clone()];
        ForecastScores::of(&truth.column(column), &forecasts.column(column), train)
    }

    fn baselines(&self, origins: Range<usize>, column: usize) -> Baselines {
        let horizon = self.config.data.windows.horizon;
        let persistence = baselines::persistence(&self.series, origins.clone(), horizon);
        let seasonal = self.season.map(|season| {
            baselines::seasonal_naive(&self.series, origins.clone(), horizon, season)
        });
        Baselines {
            persistence: self.scores(&persistence, column),
            seasonal_naive: seasonal.map(|seasonal| self.scores(&seasonal, column)),
            season: self.season,
        }
    }

    fn plot(
        &self,
        run: &RunFolder,
        test: &Forecasts,
        report: &ForecastReport,
    ) -> Result<(), TaskError> {
        let name = &self.series.names[0];
        let observed = self.series.column(0);
        let from = test.origins().start;
        let scores = &report.columns[name];
        let mut results = format!(
            "RMSE {:.2}, persistence {:.2}",
            scores.test.rmse, scores.baselines.persistence.rmse
        );
        if let Some(seasonal) = &scores.baselines.seasonal_naive {
            results += &format!(", seasonal naive {:.2}", seasonal.rmse);
        }
        let times = self.series.times.as_ref();
        let plot = ForecastPlot {
            title: &format!("{name}: test part, one step ahead"),
            results: &results,
            x_axis: "time",
            y_axis: name,
            times: times.map(|times| &times[from..]),
            first_row: from,
            observed: &observed[from..],
            forecast: &test.step(0, 0),
            forecast_from: 0,
            forecast_name: "ScratchLstm",
        };
        report::save(run.plots().join("forecast.svg"), &plot.to_svg()?)?;
        Ok(())
    }

    /// The next rows after the last, in the series' own units.
    fn ahead(
        &self,
        model: &Forecaster,
        device: &Device,
        horizon: usize,
    ) -> Result<Vec<Vec<f64>>, TaskError> {
        let columns = self.series.columns();
        let own = self.config.data.windows.horizon;
        let device = device.clone().without_autodiff();
        let model = valid_form(model);
        let key = Key::new(0);
        let mut input: Tensor<3> =
            self.series
                .last_context(self.config.data.windows.window, &self.scaler, &device)?;
        let mut state = None;
        let mut values = Vec::with_capacity(horizon + own);
        while values.len() < horizon {
            let [_, steps, _] = input.dims();
            let (outputs, next) = model.predict(input, state, &key);
            let last: Vec<f32> = outputs
                .narrow(1, steps - 1, 1)
                .into_data()
                .iter::<f32>()
                .collect();
            let rows = self.scaler.unscale(&last);
            values.extend(rows.chunks(columns).map(<[f64]>::to_vec));
            input = Tensor::from_data(TensorData::new(last, [1, own, columns]), &device);
            state = Some(next);
        }
        values.truncate(horizon);
        Ok(values)
    }
}

/// Without autodiff.
fn valid_form(model: &Forecaster) -> Forecaster {
    use burn::module::Module;
    model.valid()
}

fn mean_scores(scores: &[ForecastScores]) -> Option<ForecastScores> {
    let count = scores.len() as f64;
    if scores.is_empty() {
        return None;
    }
    let mases: Option<Vec<f64>> = scores.iter().map(|one| one.mase).collect();
    Some(ForecastScores {
        rmse: scores.iter().map(|one| one.rmse).sum::<f64>() / count,
        mae: scores.iter().map(|one| one.mae).sum::<f64>() / count,
        mase: mases.map(|mases| mases.iter().sum::<f64>() / count),
    })
}
