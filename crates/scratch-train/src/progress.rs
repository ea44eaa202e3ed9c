//! How far a run has come: everything about it that is not a tensor.

use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluation;

/// How far a run has come. Randomness needs no entry: it follows from the seed and from here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps of the optimizer.
    pub step: u64,
    /// The epoch under way, from 0.
    pub epoch: usize,
    /// The next window of it.
    pub window: usize,
    /// Losses since the last validation, weighted by their targets.
    pub train: RunningMean,
    /// The last validation, with the step it was made at.
    pub last: Option<Validation>,
    /// The best validation.
    pub best: Option<Validation>,
    /// Validations since the best.
    pub without_gain: usize,
    /// Whether the run came to its end.
    pub finished: bool,
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
