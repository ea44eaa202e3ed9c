//! Watching a run.

use std::path::Path;

use crate::progress::Validation;

/// What is told while a model is trained. Every method has an empty default.
pub trait Observer {
    /// The run begins, or goes on.
    fn started(&mut self, _plan: &Plan) {}

    /// Some steps were made; called a few times a second at most.
    fn stepped(&mut self, _report: &StepReport) {}

    /// The model was validated; `best` if never better.
    fn validated(&mut self, _validation: &Validation, _best: bool) {}

    /// A checkpoint was written.
    fn saved(&mut self, _folder: &Path) {}

    /// The run is over.
    fn ended(&mut self, _ending: Ending) {}
}

/// Watches nothing.
impl Observer for () {}

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
}
