//! What a plateau schedule remembers.

use serde::{Deserialize, Serialize};

use crate::goal::Goal;

/// What a schedule remembers of the validations; of all but plateau, nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleState {
    /// What is left of the learning rate.
    share: f64,
    /// The best value so far.
    best: Option<f64>,
    /// Validations since then, or since the last fall.
    without_gain: usize,
    /// Validations that will not count.
    cooldown: usize,
}

impl Default for ScheduleState {
    fn default() -> Self {
        Self {
            share: 1.0,
            best: None,
            without_gain: 0,
            cooldown: 0,
        }
    }
}

/// The settings of a plateau schedule.
pub(super) struct Patience {
    pub(super) factor: f64,
    pub(super) patience: usize,
    pub(super) threshold: f64,
    pub(super) cooldown: usize,
    pub(super) floor: f64,
}

impl ScheduleState {
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// PyTorch's `ReduceLROnPlateau.step`, in its order.
    pub(super) fn observe(&mut self, metric: f64, goal: Goal, settings: &Patience) {
        if self.is_gain(metric, goal, settings.threshold) {
            self.best = Some(metric);
            self.without_gain = 0;
        } else {
            self.without_gain += 1;
        }
        if self.cooldown > 0 {
            self.cooldown -= 1;
            self.without_gain = 0;
        }
        if self.without_gain > settings.patience {
            self.share = (self.share * settings.factor).max(settings.floor);
            self.cooldown = settings.cooldown;
            self.without_gain = 0;
        }
    }

    fn is_gain(&self, metric: f64, goal: Goal, threshold: f64) -> bool {
        let Some(best) = self.best else {
            return metric.is_finite();
        };
        // PyTorch takes the threshold of a negative best value the other way round, so that it
        // calls losses a gain; shares of its size are meant.
        let margin = threshold * best.abs();
        let needed = match goal {
            Goal::Minimize => best - margin,
            Goal::Maximize => best + margin,
        };
        metric.is_finite() && goal.is_better(metric, needed)
    }
}
