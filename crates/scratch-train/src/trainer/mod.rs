//! The training loop: one for every model, task and backend.
//!
//! ```text
//! window -> state in -> model -> loss -> backward -> (mean over windows) -> clip -> optimizer
//!        -> state out, detached -> next window
//! ```

mod budget;
mod fit;
mod losses;
mod reader;
mod resume;
mod step;

use std::collections::BTreeMap;

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use scratch_lstm::Key;
use serde::Serialize;
use serde_json::Value;

use crate::average::Average;
use crate::callback::{Callback, Ending};
use crate::checkpoint::Checkpoints;
use crate::config::TrainingConfig;
use crate::data::SequenceData;
use crate::environment::{Environment, System};
use crate::error::TrainError;
use crate::interrupt::Interrupt;
use crate::model::SequenceModel;
use crate::optimizer::{ParameterGroups, with_path_ids};
use crate::precision;
use crate::progress::{Clock, Progress, Validation};
use crate::schedule::Schedule;

pub use resume::ResumeOptions;
use resume::Resumed;

/// Trains a model.
///
/// ```no_run
/// # use scratch_train::{SequenceModel, Trainer, TrainingConfig, TrainError, data::SequenceData};
/// # use scratch_train::{Checkpoints, terminal::TerminalObserver};
/// # fn example<M: SequenceModel>(
/// #     model: M,
/// #     train: impl SequenceData<Batch = M::Batch>,
/// #     valid: impl SequenceData<Batch = M::Batch>,
/// #     device: burn::tensor::Device,
/// # ) -> Result<(), TrainError> {
/// let mut trainer = Trainer::new(model, TrainingConfig::default(), &device)?
///     .with_checkpoints(Checkpoints::new("runs/mine/checkpoints"))
///     .with_callback(TerminalObserver::new());
/// let outcome = trainer.fit(&train, &valid)?;
/// println!("{} steps, {:?}", outcome.steps, outcome.ending);
/// let model = trainer.into_best_model();
/// # let _ = model;
/// # Ok(())
/// # }
/// ```
///
/// The state of a run is one value, of which a checkpoint is the copy on the disk: weights,
/// optimizer, averaged and best weights, the sum of gradients that is no whole step yet, the carried
/// recurrent state, the place in the data, the schedule's and the callbacks' memories. Randomness
/// is none of it: each mask and shuffle follows from the seed and the place.
pub struct Trainer<'a, M: SequenceModel> {
    config: TrainingConfig,
    device: Device,
    key: Key,
    model: M,
    optimizer: ModuleOptimizer,
    groups: ParameterGroups,
    schedule: Schedule,
    average: Option<Average<M>>,
    best_model: Option<M>,
    gradients: Option<GradientsParams>,
    carried: Option<M::State>,
    progress: Progress,
    clock: Clock,
    checkpoints: Option<Checkpoints>,
    callbacks: Vec<Box<dyn Callback + 'a>>,
    interrupt: Option<Interrupt>,
    facts: BTreeMap<String, Value>,
    /// Whether the checkpoints that are there are this run's.
    owns_checkpoints: bool,
    resumed: Option<Resumed>,
    panicked: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Why.
    pub ending: Ending,
    /// The best validation, that of [`Trainer::into_best_model`].
    pub best: Validation,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Steps among them that were skipped because a gradient was not finite.
    pub skipped: u64,
    /// Seconds spent, over all resumptions.
    pub seconds: f64,
}

impl<'a, M: SequenceModel> Trainer<'a, M> {
    /// A run from the beginning, on `device` (with or without autodiff: training adds it).
    ///
    /// # Errors
    ///
    /// If a setting is outside what it accepts, or the device lacks the precision.
    pub fn new(model: M, config: TrainingConfig, device: &Device) -> Result<Self, TrainError> {
        config.validate()?;
        let device = device.clone().without_autodiff();
        precision::check(config.precision, &device)?;
        let model = with_path_ids(model.to_device(&device).valid().train());
        let groups = ParameterGroups::new(
            &model,
            &config.optimizer,
            &config.groups,
            config.decay_biases,
        )?;
        let average = config.average.clone().map(Average::new).transpose()?;
        Ok(Self {
            key: Key::new(config.seed),
            optimizer: config.optimizer.init(&groups),
            groups,
            schedule: Schedule::new(&config.schedule, config.learning_rate)?,
            average,
            model,
            best_model: None,
            gradients: None,
            carried: None,
            progress: Progress::default(),
            clock: Clock::default(),
            checkpoints: None,
            callbacks: Vec::new(),
            interrupt: None,
            facts: BTreeMap::new(),
            owns_checkpoints: false,
            resumed: None,
            panicked: None,
            config,
            device,
        })
    }

    /// Writes checkpoints there, when [`CheckpointConfig`](crate::CheckpointConfig) says.
    pub fn with_checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = Some(checkpoints.with_keep_last(self.config.checkpoints.keep_last));
        self
    }

    /// Tells `callback` of the run; a `&mut` reference will do. Callbacks are told in the order in
    /// which they were added.
    pub fn with_callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Ends the run when `interrupt` is raised: after the window under way, with a checkpoint.
    pub fn with_interrupt(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// Something that must be the same when the run goes on: settings of the data or the model that
    /// the trainer does not know. Kept in each checkpoint.
    ///
    /// # Errors
    ///
    /// If `value` has no form in JSON.
    pub fn with_fact(
        mut self,
        name: impl Into<String>,
        value: impl Serialize,
    ) -> Result<Self, TrainError> {
        let name = name.into();
        let value = serde_json::to_value(value).map_err(|error| TrainError::Callback {
            name: name.clone(),
            reason: error.to_string(),
        })?;
        self.facts.insert(name, value);
        Ok(self)
    }

    /// Trains until an end; see [`Ending`].
    ///
    /// # Errors
    ///
    /// If there is no data, or other data than the run began with; the loss or the gradient is not
    /// finite; a checkpoint or record cannot be written; the model, the data or the device
    /// panicked; or the run was [interrupted](TrainError::Interrupted). The last checkpoint is whole whatever happens.
    pub fn fit(
        &mut self,
        train: &impl SequenceData<Batch = M::Batch>,
        valid: &impl SequenceData<Batch = M::Batch>,
    ) -> Result<Outcome, TrainError> {
        self.check(train, valid)?;
        self.guarded(|trainer| trainer.run(train, valid))
    }

    /// What it takes to repeat the run on these data.
    pub fn system(
        &self,
        command: Option<String>,
        train: &impl SequenceData<Batch = M::Batch>,
        valid: &impl SequenceData<Batch = M::Batch>,
    ) -> System {
        System {
            command,
            environment: Environment::current(&self.device),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            seed: self.config.seed,
            training_data: train.fingerprint(),
            validation_data: valid.fingerprint(),
        }
    }

    /// How far the run has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The model as it is now, in its form for training.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model of the best validation, in its form without autodiff; the current one before any
    /// validation.
    pub fn into_best_model(self) -> M {
        self.best_model.unwrap_or_else(|| self.model.valid())
    }

    fn tell(&mut self, mut what: impl FnMut(&mut dyn Callback)) {
        for callback in &mut self.callbacks {
            what(&mut **callback);
        }
    }

    fn last_checkpoint(&self) -> Option<std::path::PathBuf> {
        self.checkpoints.as_ref().and_then(|all| all.last().ok())
    }
}
