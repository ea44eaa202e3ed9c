//! `scratch train`.

use std::path::PathBuf;

use scratch_train::tasks::{Session, TaskError, classify, forecast, text};
use serde::Serialize;

use super::{choose_device_and_watch, failed, session};
use crate::args::{RunArgs, TrainTask};
use crate::config;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::summary::Summary;

/// Trains a model in a new run folder.
pub fn run(task: TrainTask, output: Output) -> Result<(), Failure> {
    match task {
        TrainTask::Forecast(args) => Training {
            task: forecast::TASK,
            loss: forecast::LOSS,
            config: config::forecast(&args)?,
            args: &args.run,
        }
        .run(output, forecast::train),
        TrainTask::Text(args) => Training {
            task: text::TASK,
            loss: text::LOSS,
            config: config::text(&args)?,
            args: &args.run,
        }
        .run(output, text::train),
        TrainTask::Classify(args) => Training {
            task: classify::TASK,
            loss: classify::LOSS,
            config: config::classify(&args)?,
            args: &args.run,
        }
        .run(output, classify::train),
    }
}

/// A training whatever the task.
struct Training<'a, C> {
    task: &'static str,
    loss: &'static str,
    config: C,
    args: &'a RunArgs,
}

impl<C: Serialize> Training<'_, C> {
    fn run<R: Serialize + Summary>(
        self,
        output: Output,
        train: impl FnOnce(&C, PathBuf, Session<'_>) -> Result<R, TaskError>,
    ) -> Result<(), Failure> {
        if self.args.print_config {
            return print_config(&self.config, output);
        }
        let (device, observer) = choose_device_and_watch(&self.args.device)?;
        let folder = match &self.args.out {
            Some(folder) => folder.clone(),
            None => first_free(self.task),
        };
        let mut observer = observer
            .with_heading(format!("run: {}", folder.display()))
            .with_loss_unit(self.loss);
        let session = session(&device, &mut observer)?;
        let report = train(&self.config, folder.clone(), session)
            .map_err(|error| failed(&error, &folder, &observer))?;
        output.report(&report)
    }
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
