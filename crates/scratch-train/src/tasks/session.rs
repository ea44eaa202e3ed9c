//! What the training of every task has in common.

use std::path::PathBuf;

use burn::tensor::Device;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::callback::{Callback, Ending};
use crate::checkpoint::Checkpoint;
use crate::config::TrainingConfig;
use crate::data::SequenceData;
use crate::error::CheckpointError;
use crate::interrupt::Interrupt;
use crate::model::SequenceModel;
use crate::progress::Validation;
use crate::range_test::{RangeTest, RangeTestConfig};
use crate::report::{self, LossPlot};
use crate::run::{Recorder, RunFolder};
use crate::tasks::TaskError;
use crate::trainer::{Outcome, ResumeOptions, Trainer};

/// How the training of a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Why: `finished`, `out_of_time`, `no_gain`, `stopped` or `interrupted`.
    pub ending: String,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Steps among them that were skipped because a gradient was not finite.
    #[serde(default)]
    pub skipped: u64,
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
            skipped: outcome.skipped,
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

/// What a task is trained with beside its settings.
pub struct Session<'a> {
    /// The device to train on.
    pub device: &'a Device,
    /// Raised, it ends the training after the window under way.
    pub interrupt: Interrupt,
    /// Who is told of the training.
    pub callbacks: Vec<Box<dyn Callback + 'a>>,
    /// What a resumed run may differ in.
    pub resume: ResumeOptions,
    /// The command line, for the record.
    pub command: Option<String>,
}

impl<'a> Session<'a> {
    /// On `device`, with nobody watching.
    pub fn new(device: &'a Device) -> Self {
        Self {
            device,
            interrupt: Interrupt::new(),
            callbacks: Vec::new(),
            resume: ResumeOptions::default(),
            command: None,
        }
    }

    /// Sets what a resumed run may differ in.
    pub fn with_resume(mut self, options: ResumeOptions) -> Self {
        self.resume = options;
        self
    }

    /// Tells `callback` of the training.
    pub fn with_callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }
}

/// Trains into a new run folder. Settings and data are checked before a file is written.
pub(super) fn train<J: Job>(
    config: &J::Config,
    folder: impl Into<PathBuf>,
    session: Session<'_>,
) -> Result<J::Report, TaskError> {
    let training = J::training(&mut config.clone()).clone();
    training.validate()?;
    let job = J::prepare(config.clone(), None)?;
    let trainer = Trainer::new(job.model(session.device)?, training, session.device)?;
    let (run, _lock) = RunFolder::create(folder)?;
    job.begin(&run)?;
    let trainer = trainer
        .with_checkpoints(run.checkpoints())
        .with_fact(SETTINGS, settings(config)?)?;
    finish(&job, config, &run, trainer, session)
}

/// Goes on from a run's last checkpoint; from the beginning if it was cut off before the first.
pub(super) fn resume<J: Job>(
    run: &RunFolder,
    change: impl FnOnce(&mut TrainingConfig),
    session: Session<'_>,
) -> Result<J::Report, TaskError> {
    let _lock = run.lock()?;
    let mut config: J::Config = run.config(J::TASK)?;
    change(J::training(&mut config));
    let training = J::training(&mut config).clone();
    let job = J::prepare(config.clone(), Some(run))?;
    let checkpoints = run.checkpoints();
    // The first checkpoint comes before the first record: without both nothing is lost.
    let is_new = checkpoints.list()?.is_empty() && !run.has_records();
    let mut trainer = Trainer::new(job.model(session.device)?, training.clone(), session.device)?
        .with_checkpoints(checkpoints)
        .with_fact(SETTINGS, settings(&config)?)?;
    if !is_new {
        trainer = trainer.resume(&session.resume)?;
    }
    let done = trainer.progress().epoch;
    if training.epochs < done {
        return Err(TaskError::Request {
            what: "epochs",
            expected: format!("at least {done} in all (so many are done)"),
            found: training.epochs.to_string(),
        });
    }
    finish(&job, &config, run, trainer, session)
}

/// Tries rising learning rates on a copy of a new model.
pub(super) fn range_test<J: Job>(
    config: &J::Config,
    device: &Device,
) -> Result<RangeTest, TaskError> {
    let mut config = config.clone();
    let training = J::training(&mut config).clone();
    training.validate()?;
    let job = J::prepare(config, None)?;
    let [train, _] = job.parts();
    let range = RangeTestConfig::default();
    let model = job.model(device)?;
    Ok(crate::range_test(&model, &training, train, device, &range)?)
}

/// Scores a run's best model.
pub(super) fn evaluate<J: Job>(run: &RunFolder, device: &Device) -> Result<J::Report, TaskError> {
    let job = open::<J>(run)?;
    let model = best_model(run, job.model(device)?)?;
    run.make_plots()?;
    job.report(run, &model, device, None)
}

/// A run's data, read again.
pub(super) fn open<J: Job>(run: &RunFolder) -> Result<J, TaskError> {
    J::prepare(run.config(J::TASK)?, Some(run))
}

/// `model` with the weights of a run's best validation, in its form without autodiff.
pub(super) fn best_model<M: SequenceModel>(run: &RunFolder, model: M) -> Result<M, TaskError> {
    let checkpoint = Checkpoint::open(&run.checkpoints().last()?)?;
    if checkpoint.progress()?.best.is_none() {
        let path = checkpoint.path().into();
        return Err(CheckpointError::NotValidated { path }.into());
    }
    Ok(checkpoint.load_best_model(model.valid())?)
}

fn finish<'a, J: Job>(
    job: &J,
    config: &J::Config,
    run: &RunFolder,
    trainer: Trainer<'a, J::Model>,
    session: Session<'a>,
) -> Result<J::Report, TaskError> {
    let recorder = Recorder::new(run).accept_changes(session.resume.accept_changes);
    let mut trainer = trainer
        .with_interrupt(session.interrupt)
        .with_callback(recorder);
    for callback in session.callbacks {
        trainer = trainer.with_callback(callback);
    }
    let [train, valid] = job.parts();
    // Before a file is written: it may be that the run cannot go on.
    trainer.check(train, valid)?;
    trainer.load_callbacks()?;
    run.write_config(J::TASK, config)?;
    run.make_plots()?;
    // Of a run that goes on, that of its beginning stays.
    if !run.root().join(SYSTEM).exists() {
        let system = trainer.system(session.command, train, valid);
        run.write_json(SYSTEM, &system)?;
    }
    let outcome = trainer.fit(train, valid)?;
    plot_loss(run, J::LOSS)?;
    job.report(
        run,
        &trainer.into_best_model(),
        session.device,
        Some(outcome.into()),
    )
}

/// What it takes to repeat a run.
const SYSTEM: &str = "system.json";

/// The settings of data and model among the facts of a checkpoint.
const SETTINGS: &str = "settings";

/// The settings of the data and the model, which a run that goes on must not change. Where the data
/// lie does not matter: their content is compared.
fn settings(config: &impl Serialize) -> Result<Value, TaskError> {
    let value = serde_json::to_value(config).map_err(|error| TaskError::Request {
        what: "settings",
        expected: "a form in JSON".into(),
        found: error.to_string(),
    })?;
    let Value::Object(mut sections) = value else {
        return Ok(value);
    };
    sections.remove("training");
    if let Some(Value::Object(data)) = sections.get_mut("data") {
        for place in ["path", "paths", "extensions"] {
            data.remove(place);
        }
    }
    Ok(Value::Object(sections))
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
