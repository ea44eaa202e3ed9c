//! What the training of every task has in common.

use std::path::PathBuf;

use burn::tensor::Device;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::callback::Callback;
use crate::config::TrainingConfig;
use crate::data::SequenceData;
use crate::model::SequenceModel;
use crate::progress::Validation;
use crate::report::{self, LossPlot};
use crate::run::{Recorder, RunFolder};
use crate::tasks::TaskError;
use crate::trainer::{Outcome, Trainer};
use crate::{Checkpoint, Ending};

/// How the training of a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Why: `finished`, `out_of_time`, `no_gain`, `stopped` or `interrupted`.
    pub ending: String,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Seconds spent, over all resumptions.
    pub seconds: f64,
    /// The validation by which the model was chosen.
    pub best: Validation,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        let ending = match outcome.ending {
            Ending::Finished => "finished",
            Ending::OutOfTime => "out_of_time",
            Ending::NoGain => "no_gain",
            Ending::Stopped => "stopped",
            Ending::Interrupted(_) => "interrupted",
        };
        Self {
            ending: ending.into(),
            steps: outcome.steps,
            seconds: outcome.seconds,
            best: outcome.best,
        }
    }
}

/// A task with its data read, checked and cut: what differs between the tasks. What they share,
/// the order in which a run is checked, written, trained and scored, is in the functions below.
pub(super) trait Job: Sized {
    /// The name of the task in `config.toml`.
    const TASK: &'static str;
    /// What the loss is.
    const LOSS: &'static str;
    type Config: Serialize + DeserializeOwned + Clone;
    type Model: SequenceModel;
    type Data: SequenceData<Batch = <Self::Model as SequenceModel>::Batch>;
    type Report;

    fn training(config: &mut Self::Config) -> &mut TrainingConfig;

    /// Reads and checks the data; `run` is there if the run began before.
    fn prepare(config: Self::Config, run: Option<&RunFolder>) -> Result<Self, TaskError>;

    /// A model that has learned nothing.
    fn model(&self, device: &Device) -> Result<Self::Model, TaskError>;

    /// Training and validation.
    fn parts(&self) -> [&Self::Data; 2];

    /// Writes what a run needs beside its settings.
    fn begin(&self, _run: &RunFolder) -> Result<(), TaskError> {
        Ok(())
    }

    /// Scores and plots of the best model.
    fn report(
        &self,
        run: &RunFolder,
        model: &Self::Model,
        device: &Device,
        training: Option<Ended>,
    ) -> Result<Self::Report, TaskError>;
}

/// Trains into a new run folder. Settings and data are checked before a file is written.
pub(super) fn train<J: Job>(
    config: &J::Config,
    folder: impl Into<PathBuf>,
    device: &Device,
    observer: &mut dyn Callback,
) -> Result<J::Report, TaskError> {
    let training = J::training(&mut config.clone()).clone();
    training.validate()?;
    let job = J::prepare(config.clone(), None)?;
    let model = job.model(device)?;
    let run = RunFolder::create(folder, J::TASK, config)?;
    job.begin(&run)?;
    let trainer = Trainer::new(model, training, device)?.with_checkpoints(run.checkpoints());
    finish(&job, &run, trainer, device, observer)
}

/// Goes on from a run's last checkpoint.
pub(super) fn resume<J: Job>(
    run: &RunFolder,
    device: &Device,
    change: impl FnOnce(&mut TrainingConfig),
    observer: &mut dyn Callback,
) -> Result<J::Report, TaskError> {
    let mut config: J::Config = run.config(J::TASK)?;
    change(J::training(&mut config));
    let training = J::training(&mut config).clone();
    let job = J::prepare(config.clone(), Some(run))?;
    let checkpoints = run.checkpoints();
    let trainer = Trainer::resume(job.model(device)?, training.clone(), device, checkpoints)?;
    let done = trainer.progress().epoch;
    if training.epochs < done {
        return Err(TaskError::Request {
            what: "epochs",
            expected: format!("at least {done} in all (so many are done)"),
            found: training.epochs.to_string(),
        });
    }
    run.update_config(J::TASK, &config)?;
    finish(&job, run, trainer, device, observer)
}

/// Scores a run's best model.
pub(super) fn evaluate<J: Job>(run: &RunFolder, device: &Device) -> Result<J::Report, TaskError> {
    let job = open::<J>(run)?;
    let model = best_model(run, job.model(device)?)?;
    job.report(run, &model, device, None)
}

/// A run's data, read again.
pub(super) fn open<J: Job>(run: &RunFolder) -> Result<J, TaskError> {
    J::prepare(run.config(J::TASK)?, Some(run))
}

/// `model` with the weights of a run's best validation, in its form without autodiff.
pub(super) fn best_model<M: SequenceModel>(run: &RunFolder, model: M) -> Result<M, TaskError> {
    let checkpoint = Checkpoint::open(&run.checkpoints().best()?)?;
    Ok(checkpoint.load_model(model.valid())?)
}

fn finish<J: Job>(
    job: &J,
    run: &RunFolder,
    mut trainer: Trainer<J::Model>,
    device: &Device,
    observer: &mut dyn Callback,
) -> Result<J::Report, TaskError> {
    let mut recorder = Recorder::new(run, trainer.progress().step, observer)?;
    let [train, valid] = job.parts();
    let outcome = trainer.fit(train, valid, &mut recorder)?;
    recorder.finish()?;
    plot_loss(run, J::LOSS)?;
    job.report(
        run,
        &trainer.into_best_model(),
        device,
        Some(outcome.into()),
    )
}

fn plot_loss(run: &RunFolder, loss: &str) -> Result<(), TaskError> {
    let curve = run.curve()?;
    let train: Vec<_> = curve.iter().map(|row| (row.step, row.train_loss)).collect();
    let valid: Vec<_> = curve.iter().map(|row| (row.step, row.valid_loss)).collect();
    let plot = LossPlot {
        title: "Loss",
        y_axis: loss,
        train: &train,
        valid: &valid,
    };
    report::save(run.plots().join("loss.svg"), &plot.to_svg()?)?;
    Ok(())
}
