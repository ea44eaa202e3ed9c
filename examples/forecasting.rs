//! Forecasting a series one step ahead, and whether that was worth a model.
//!
//! The monthly sunspot numbers from 1749 to 1983, or a CSV file's last column of numbers. The
//! series is divided in time: the model learns from the first 64 %, is chosen by the next 16 %,
//! and the last 20 % are looked at once, at the end. Beside it stand two forecasts that need no
//! model: the last value stays (persistence), and last season comes again (seasonal naive).
//!
//! ```text
//! cargo run --release --example forecasting
//! cargo run --release --example forecasting -- series.csv
//! ```

use std::error::Error;

use scratch_examples::device_and_arguments;
use scratch_lstm::Key;
use scratch_train::baselines::{persistence, season_length, seasonal_naive};
use scratch_train::data::{
    Columns, Forecasts, Scaler, Series, SeriesWindows, SplitConfig, WindowConfig, embedded,
};
use scratch_train::metrics::ForecastScores;
use scratch_train::models::ForecasterConfig;
use scratch_train::optimizer::OptimizerConfig;
use scratch_train::terminal::TerminalObserver;
use scratch_train::{Trainer, TrainingConfig, evaluate_with};

fn main() -> Result<(), Box<dyn Error>> {
    let (device, arguments) = device_and_arguments()?;
    let series = match arguments.first() {
        Some(path) => Series::from_csv(path, &Columns::Last)?,
        None => embedded::sunspots()?,
    };

    // The scaler is fitted on the training part only: mean and deviation of the whole series
    // would tell the model about the future.
    let split = SplitConfig::SERIES.split(series.len())?;
    let scaler = Scaler::fit(&series.values[split.train.clone()]);

    // In training, windows of 48 months start at every month, shuffled. In evaluation there is
    // one for each month to forecast; only what is said after its last step counts.
    let key = Key::new(0);
    let windows = WindowConfig::default();
    let part = split.train.clone();
    let train = SeriesWindows::train(&series, part, &scaler, &windows, &key.child("data"))?;
    let valid = SeriesWindows::eval(&series, split.valid.clone(), &scaler, &windows)?;
    let test = SeriesWindows::eval(&series, split.test.clone(), &scaler, &windows)?;

    // A series is short and noisy: a small model, few passes over the data, and a strong pull
    // towards small weights.
    let model = ForecasterConfig::default().try_init(
        series.columns(),
        windows.horizon,
        &key.child("model"),
        &device,
    )?;
    let config = TrainingConfig {
        epochs: 8,
        optimizer: OptimizerConfig::adam_w(0.3),
        ..TrainingConfig::default()
    };
    let progress = TerminalObserver::new().with_loss_unit("mean squared error, scaled");
    let mut trainer = Trainer::new(model, config, &device)?.with_callback(progress);
    trainer.fit(&train, &valid)?;
    let model = trainer.into_best_model();

    // The test part, window by window, back in the series' own units.
    let mut outputs: Vec<f32> = Vec::new();
    evaluate_with(&model, &test, &device, |_, output| {
        outputs.extend(output.outputs.to_data().iter::<f32>());
    })?;
    let (origins, horizon) = (test.origins(), windows.horizon);
    let forecasts = Forecasts::from_outputs(origins.clone(), horizon, &outputs, &scaler);
    let truth = Forecasts::truth(&series, origins.clone(), horizon).column(0);

    // MASE is the mean absolute error as a multiple of the one persistence makes in training.
    let known = &series.column(0)[split.train.clone()];
    let print = |name: &str, forecasts: &Forecasts| {
        let scores = ForecastScores::of(&truth, &forecasts.column(0), known);
        let mase = scores.mase.map_or("-".into(), |mase| format!("{mase:.3}"));
        println!(
            "{name:<22} {:>7.2} {:>7.2} {mase:>7}",
            scores.rmse, scores.mae
        );
    };
    println!("{}: the last {} rows", series.names[0], truth.len());
    println!("{:<22} {:>7} {:>7} {:>7}", "", "RMSE", "MAE", "MASE");
    print("ScratchLstm", &forecasts);
    print(
        "persistence",
        &persistence(&series, origins.clone(), horizon),
    );
    // The season, too, is estimated on the training part alone.
    if let Some(season) = season_length(known) {
        let name = format!("seasonal naive ({season})");
        print(&name, &seasonal_naive(&series, origins, horizon, season));
    }
    Ok(())
}
