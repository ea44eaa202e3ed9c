//! How a model is trained, whatever the model and the task.

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::optimizer::{GroupConfig, OptimizerConfig};
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
    /// Windows whose gradients are averaged into one step of the optimizer.
    pub accumulate: usize,
    /// Validate every so many steps; at the end of each epoch if absent.
    pub validate_every: Option<usize>,
    /// Stop after so many validations without a better one.
    pub patience: Option<usize>,
    /// Of weights, masks and shuffles.
    pub seed: u64,
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
            accumulate: 1,
            validate_every: None,
            patience: None,
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
        let positive = |field, value: Option<f64>| match value {
            Some(value) if !(value > 0.0 && value.is_finite()) => {
                Err(TrainError::config(field, "a positive number", value))
            }
            _ => Ok(()),
        };
        positive("max_time", self.max_time)?;
        positive("clip_norm", self.clip_norm)?;
        if self.epochs > MOST_EPOCHS {
            let expected = format!("at most {MOST_EPOCHS}");
            return Err(TrainError::config("epochs", expected, self.epochs));
        }
        self.optimizer.validate()?;
        self.groups.iter().try_for_each(GroupConfig::validate)?;
        Schedule::new(&self.schedule, self.learning_rate).map(drop)
    }
}

/// More are taken for a mistake, and their windows could not be counted.
const MOST_EPOCHS: usize = 1_000_000_000;
