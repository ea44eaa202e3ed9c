//! How far a run has come: everything about it that is not a tensor.

use serde::{Deserialize, Serialize};

use crate::average::AverageState;
use crate::evaluate::Evaluation;
use crate::schedule::ScheduleState;

/// How far a run has come. Randomness needs no entry: it follows from the seed and from here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps of the optimizer, those included that were skipped.
    pub step: u64,
    /// The epoch under way, from 0.
    pub epoch: usize,
    /// The next window of it.
    pub window: usize,
    /// Windows and targets of the step under way.
    pub accumulated: Accumulated,
    /// Losses since the last validation, weighted by their targets.
    pub train: RunningMean,
    /// Losses since the last row of the record of steps.
    pub row: RunningMean,
    /// The last validation, with the step it was made at.
    pub last: Option<Validation>,
    /// The best validation.
    pub best: Option<Validation>,
    /// Where a checkpoint has the weights of the best validation.
    pub best_weights: BestWeights,
    /// Validations since the best.
    pub without_gain: usize,
    /// Steps skipped because a gradient was not finite.
    pub skipped: u64,
    /// How many of them came last, one after another.
    pub skipped_in_a_row: u64,
    /// What the schedule remembers.
    pub schedule: ScheduleState,
    /// What the average of the weights remembers.
    pub average: Option<AverageState>,
    /// Whether the run came to its end.
    pub finished: bool,
}

/// Windows whose gradients are summed up until they make a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accumulated {
    /// Windows.
    pub windows: usize,
    /// Targets in them.
    pub targets: u64,
}

/// Where a checkpoint has the weights of the best validation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BestWeights {
    /// There was no validation yet.
    #[default]
    None,
    /// They are the model's.
    Model,
    /// They are the average.
    Average,
    /// In a file of their own.
    Own,
}

/// Time spent on a run, over all resumptions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// A validation and when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// The optimizer step.
    pub step: u64,
    /// The epoch under way, from 0.
    pub epoch: usize,
    /// Mean training loss since the validation before.
    pub train_loss: f64,
    /// Loss and metrics on the validation data.
    pub valid: Evaluation,
}

/// A weighted mean.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningMean {
    sum: f64,
    weight: f64,
}

impl RunningMean {
    /// Whether nothing was taken in.
    pub fn is_empty(&self) -> bool {
        self.weight == 0.0
    }

    /// Takes in a value with a weight.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    /// The mean, 0 of nothing.
    pub fn mean(&self) -> f64 {
        if self.weight > 0.0 {
            self.sum / self.weight
        } else {
            0.0
        }
    }
}
