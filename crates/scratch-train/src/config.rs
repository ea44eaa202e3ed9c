//! How a model is trained, whatever the model and the task.

use serde::{Deserialize, Serialize};

use crate::average::AverageConfig;
use crate::best_by::BestBy;
use crate::error::TrainError;
use crate::optimizer::{GroupConfig, OptimizerConfig};
use crate::precision::Precision;
use crate::schedule::{Schedule, ScheduleConfig};

/// Settings of the training loop. Serializes with serde; an unknown key is an error and a missing
/// one has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Passes over the training data; with `max_time` the run may end before.
    pub epochs: usize,
    /// Seconds the run may take, validation included. The schedule then follows the clock, so
    /// that the learning rate has come down when time is up.
    pub max_time: Option<f64>,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// What moves the weights.
    pub optimizer: OptimizerConfig,
    /// Whether parameters of one dimension have the optimizer's weight decay, too.
    pub decay_biases: bool,
    /// Learning rates and weight decay of single parameters.
    pub groups: Vec<GroupConfig>,
    /// How the learning rate moves.
    pub schedule: ScheduleConfig,
    /// Longest global norm of the gradient; longer ones are shortened to it.
    pub clip_norm: Option<f64>,
    /// Largest entry of the gradient; larger ones are set to it, before `clip_norm`.
    pub clip_value: Option<f64>,
    /// Windows whose gradients are averaged into one step of the optimizer.
    pub accumulate: usize,
    /// Validate every so many steps; at the end of each epoch if absent.
    pub validate_every: Option<usize>,
    /// Stop after so many validations without a better one.
    pub patience: Option<usize>,
    /// Which validation is the best.
    pub best_by: BestBy,
    /// What is done about gradients that are not finite.
    pub non_finite: NonFinite,
    /// What the model computes in. The weights that are trained are always f32.
    pub precision: Precision,
    /// Averaged weights, by which the model is validated and which it ends with.
    pub average: Option<AverageConfig>,
    /// Steps between two rows of the record of steps.
    pub log_every: usize,
    /// When checkpoints are written and which are kept.
    pub checkpoints: CheckpointConfig,
    /// Of weights, masks and shuffles.
    pub seed: u64,
}

/// What is done about a gradient that is not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// The run ends; the last checkpoint is from before.
    #[default]
    Stop,
    /// The step is left out and counted, and the carried state starts anew. The run ends after
    /// [`MOST_SKIPPED`] in a row. Each step waits for the device to see whether it is finite.
    Skip,
}

/// After so many skipped steps in a row the weights are past saving.
pub const MOST_SKIPPED: u64 = 100;

/// When checkpoints are written and which are kept. One is written after each validation, at the
/// end of each epoch and at the end of the run, whatever is set here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between two checkpoints.
    pub every_steps: Option<usize>,
    /// Minutes between two checkpoints.
    pub every_minutes: Option<f64>,
    /// How many of the newest are kept, beside the best and those that are pinned.
    pub keep_last: usize,
    /// If the newest is damaged, the run goes on from the one before it. Otherwise it asks.
    pub fall_back: bool,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every_steps: None,
            every_minutes: Some(10.0),
            keep_last: 2,
            fall_back: false,
        }
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 20,
            max_time: None,
            learning_rate: 3e-3,
            optimizer: OptimizerConfig::default(),
            decay_biases: false,
            groups: Vec::new(),
            schedule: ScheduleConfig::default(),
            clip_norm: Some(1.0),
            clip_value: None,
            accumulate: 1,
            validate_every: None,
            patience: None,
            best_by: BestBy::default(),
            non_finite: NonFinite::default(),
            precision: Precision::default(),
            average: None,
            log_every: 10,
            checkpoints: CheckpointConfig::default(),
            seed: 0,
        }
    }
}

impl TrainingConfig {
    /// Whether a run can be made of these settings.
    ///
    /// # Errors
    ///
    /// Names the first field of which none can.
    pub fn validate(&self) -> Result<(), TrainError> {
        let at_least_one = |field, value: Option<usize>| match value {
            Some(0) => Err(TrainError::config(field, "at least 1", 0)),
            _ => Ok(()),
        };
        at_least_one("epochs", Some(self.epochs))?;
        at_least_one("accumulate", Some(self.accumulate))?;
        at_least_one("validate_every", self.validate_every)?;
        at_least_one("patience", self.patience)?;
        at_least_one("log_every", Some(self.log_every))?;
        at_least_one("checkpoints.every_steps", self.checkpoints.every_steps)?;
        at_least_one("checkpoints.keep_last", Some(self.checkpoints.keep_last))?;
        let positive = |field, value: Option<f64>| match value {
            Some(value) if !(value > 0.0 && value.is_finite()) => {
                Err(TrainError::config(field, "a positive number", value))
            }
            _ => Ok(()),
        };
        positive("max_time", self.max_time)?;
        positive("clip_norm", self.clip_norm)?;
        positive("clip_value", self.clip_value)?;
        positive("checkpoints.every_minutes", self.checkpoints.every_minutes)?;
        if !(self.best_by.min_gain >= 0.0 && self.best_by.min_gain.is_finite()) {
            let found = self.best_by.min_gain;
            return Err(TrainError::config("best_by.min_gain", "0 or more", found));
        }
        if self.epochs > MOST_EPOCHS {
            let expected = format!("at most {MOST_EPOCHS}");
            return Err(TrainError::config("epochs", expected, self.epochs));
        }
        if let Some(average) = &self.average {
            average.validate()?;
        }
        self.optimizer.validate()?;
        self.groups.iter().try_for_each(GroupConfig::validate)?;
        Schedule::new(&self.schedule, self.learning_rate).map(drop)
    }
}

/// More are taken for a mistake, and their windows could not be counted.
const MOST_EPOCHS: usize = 1_000_000_000;
