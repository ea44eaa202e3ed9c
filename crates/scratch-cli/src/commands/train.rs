//! `scratch train`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use scratch_train::RangeTest;
use scratch_train::models::LstmSettings;
use scratch_train::report::{self, RangePlot};
use scratch_train::tasks::{Session, TaskError, classify, forecast, text};
use serde::Serialize;

use super::{choose_device, choose_device_to_train, failed, session};
use crate::args::{RunArgs, TrainTask};
use crate::config;
use crate::failure::{Failure, Phase};
use crate::output::{self, Output};
use crate::summary::Summary;
use crate::watch::Watch;

/// Trains a model in a new run folder.
pub fn run(task: TrainTask, output: Output) -> Result<(), Failure> {
    match task {
        TrainTask::Forecast(args) => Training {
            task: forecast::TASK,
            loss: forecast::LOSS,
            targets: forecast::TARGETS,
            lstm: |config: &forecast::ForecastConfig| (&config.model.lstm, config.model.d_hidden),
            config: config::forecast(&args)?,
            args: &args.run,
        }
        .run(output, forecast::train, forecast::range_test),
        TrainTask::Text(args) => Training {
            task: text::TASK,
            loss: text::LOSS,
            targets: text::TARGETS,
            lstm: |config: &text::TextConfig| (&config.model.lstm, config.model.d_hidden),
            config: config::text(&args)?,
            args: &args.run,
        }
        .run(output, text::train, text::range_test),
        TrainTask::Classify(args) => Training {
            task: classify::TASK,
            loss: classify::LOSS,
            targets: classify::TARGETS,
            lstm: |config: &classify::ClassifyConfig| (&config.model.lstm, config.model.d_hidden),
            config: config::classify(&args)?,
            args: &args.run,
        }
        .run(output, classify::train, classify::range_test),
    }
}

/// A training whatever the task.
struct Training<'a, C> {
    task: &'static str,
    loss: &'static str,
    targets: &'static str,
    /// Where its settings have the LSTM's.
    lstm: fn(&C) -> (&LstmSettings, usize),
    config: C,
    args: &'a RunArgs,
}

impl<C: Serialize> Training<'_, C> {
    fn run<R: Serialize + Summary>(
        self,
        output: Output,
        train: impl FnOnce(&C, PathBuf, Session<'_>) -> Result<R, TaskError>,
        range_test: impl FnOnce(&C, &Device) -> Result<RangeTest, TaskError>,
    ) -> Result<(), Failure> {
        let args = self.args;
        if args.print_config {
            return print_config(&self.config, output);
        }
        if let Some(plot) = &args.find_learning_rate {
            let device = choose_device(&args.device)?;
            let test = range_test(&self.config, &device)
                .map_err(|error| Failure::task(&error, Phase::Preparing))?;
            return self.suggest(&test, plot, output);
        }
        let lstm = (self.lstm)(&self.config);
        let (device, lines) = choose_device_to_train(&args.device, lstm)?;
        let folder = match &args.out {
            Some(folder) => folder.clone(),
            None => first_free(self.task),
        };
        let mut watch = Watch::new(&args.watch, self.loss, self.targets)?;
        for line in lines {
            watch = watch.with_heading(line);
        }
        watch = watch.with_heading(format!("run: {}", folder.display()));
        let session = session(&device, &mut watch, &args.watch, &folder)?;
        let report = train(&self.config, folder.clone(), session)
            .map_err(|error| failed(&error, &folder, &watch))?;
        output.report(&report)
    }

    /// What a range test found, and its plot.
    fn suggest(&self, test: &RangeTest, plot: &Path, output: Output) -> Result<(), Failure> {
        let svg = RangePlot {
            title: "Range test",
            y_axis: self.loss,
            test,
        };
        let saved = svg.to_svg().and_then(|svg| report::save(plot, &svg));
        saved.map_err(|error| {
            let help = "give --find-learning-rate a file that can be written";
            Failure::running(error.to_string(), help)
        })?;
        if output.json {
            return output.object(&Suggestion {
                learning_rate: test.suggestion,
                plot,
                test,
            });
        }
        let found = match test.suggestion {
            Some(rate) => format!("--learning-rate {rate:.1e}"),
            None => "none: the loss did not fall; look at the plot".into(),
        };
        output::text(&format!(
            "suggested  {found}\nplot       {}\n",
            plot.display()
        ));
        Ok(())
    }
}

#[derive(Serialize)]
struct Suggestion<'a> {
    learning_rate: Option<f64>,
    plot: &'a Path,
    #[serde(flatten)]
    test: &'a RangeTest,
}

/// `runs/TASK-N` with the first number that is free.
fn first_free(task: &str) -> PathBuf {
    (1u64..)
        .map(|number| PathBuf::from(format!("runs/{task}-{number}")))
        .find(|folder| folder.symlink_metadata().is_err())
        .expect("a disk holds fewer folders than there are numbers")
}

fn print_config(config: &impl Serialize, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.object(config);
    }
    let text = toml::to_string(config).map_err(|error| {
        Failure::input(
            format!("the settings have no TOML form: {error}"),
            "change them",
        )
    })?;
    output::text(&text);
    Ok(())
}
