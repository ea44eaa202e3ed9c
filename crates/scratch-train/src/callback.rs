//! Callbacks: what watches a run, and what steers it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrainError;
use crate::progress::Validation;

/// What is told while a model is trained, and may steer the run. Every method has an empty default.
///
/// A callback with a memory of its own puts it into each checkpoint ([`save`](Self::save)) and
/// takes it back when the run goes on ([`load`](Self::load)), so that a run that was cut off and
/// resumed is the run that was not.
pub trait Callback {
    /// The run begins, or goes on.
    fn started(&mut self, _plan: &Plan) {}

    /// After each step of the optimizer: whether the run is to go on as it would.
    fn stepped(&mut self, _step: u64) -> Control {
        Control::Continue
    }

    /// A row of the record of steps, every `log_every` steps:
    /// the same rows in every run of one seed.
    fn logged(&mut self, _row: &StepRow) {}

    /// Where the run is, a few times a second at most: for somebody who looks on.
    fn progressed(&mut self, _report: &StepReport) {}

    /// The model was validated; `best` if never better.
    fn validated(&mut self, _validation: &Validation, _best: bool) {}

    /// A checkpoint was written.
    fn saved(&mut self, _folder: &Path) {}

    /// Something the user should know that does not end the run.
    fn warned(&mut self, _warning: &str) {}

    /// The run is over. A run that failed ends without.
    fn ended(&mut self, _ending: Ending) {}

    /// What this callback needs to go on from here, for the checkpoint that is being written. What
    /// it has written itself must be on the disk when it returns.
    ///
    /// # Errors
    ///
    /// If it cannot be had; the checkpoint is not written then, and the run ends.
    fn save(&mut self) -> Result<Option<Saved>, TrainError> {
        Ok(None)
    }

    /// Gets back what [`save`](Self::save) gave to the checkpoint the run goes on from; called
    /// before [`started`](Self::started).
    ///
    /// # Errors
    ///
    /// If the callback cannot go on from it; the run does not start then.
    fn load(&mut self, _saved: &SavedStates) -> Result<(), TrainError> {
        Ok(())
    }
}

/// Watches nothing.
impl Callback for () {}

/// What points to a callback is one.
macro_rules! through_pointer {
    ($pointer:ty) => {
        impl<C: Callback + ?Sized> Callback for $pointer {
            fn started(&mut self, plan: &Plan) {
                (**self).started(plan);
            }

            fn stepped(&mut self, step: u64) -> Control {
                (**self).stepped(step)
            }

            fn logged(&mut self, row: &StepRow) {
                (**self).logged(row);
            }

            fn progressed(&mut self, report: &StepReport) {
                (**self).progressed(report);
            }

            fn validated(&mut self, validation: &Validation, best: bool) {
                (**self).validated(validation, best);
            }

            fn saved(&mut self, folder: &Path) {
                (**self).saved(folder);
            }

            fn warned(&mut self, warning: &str) {
                (**self).warned(warning);
            }

            fn ended(&mut self, ending: Ending) {
                (**self).ended(ending);
            }

            fn save(&mut self) -> Result<Option<Saved>, TrainError> {
                (**self).save()
            }

            fn load(&mut self, saved: &SavedStates) -> Result<(), TrainError> {
                (**self).load(saved)
            }
        }
    };
}

through_pointer!(&mut C);
through_pointer!(Box<C>);

/// What a callback leaves in a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Tells it from those of other callbacks.
    pub name: String,
    /// Anything that JSON can say.
    pub value: Value,
}

/// What all callbacks left in a checkpoint, by name.
pub type SavedStates = std::collections::BTreeMap<String, Value>;

/// What a callback wants of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    /// Nothing special.
    #[default]
    Continue,
    /// A checkpoint after this step.
    Save,
    /// A validation, and with it a checkpoint, after this step.
    Validate,
    /// An end after this step, with a validation and a checkpoint. The validation counts: a run
    /// that was stopped and goes on is not the run that was never stopped; see
    /// [`Interrupt`](crate::Interrupt) for that.
    Stop,
}

/// What a run is going to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Windows in an epoch.
    pub windows: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Seconds at most.
    pub max_time: Option<f64>,
    /// Steps made before, in a resumed run.
    pub resumed_at: u64,
}

/// A row of the record of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRow {
    /// Steps of the optimizer so far.
    pub step: u64,
    /// The epoch under way, from 0.
    pub epoch: usize,
    /// Mean loss since the row before, over targets.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Global norm of the last step's gradient before clipping.
    pub grad_norm: Option<f64>,
    /// Steps skipped so far because a gradient was not finite.
    pub skipped: u64,
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Steps of the optimizer so far.
    pub step: u64,
    /// The epoch under way, from 0.
    pub epoch: usize,
    /// The share of the run that is done, 0 to 1.
    pub progress: f64,
    /// Mean loss of the steps since the last report.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Global norm of the last step's gradient before clipping.
    pub grad_norm: Option<f64>,
    /// Targets learned from each second since the last report.
    pub targets_per_second: f64,
    /// Seconds spent so far.
    pub seconds: f64,
}

/// Why a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Finished,
    /// Time is up.
    OutOfTime,
    /// No better validation for as long as was asked.
    NoGain,
    /// A callback asked for it.
    Stopped,
    /// A signal asked for it, by its number; the run can go on.
    Interrupted(i32),
}
