//! The built-in tasks from data to results, one file each: settings, training into a run folder,
//! going on with a run, evaluation, and what else the task is for.

pub mod classify;
pub mod forecast;
mod samples;
mod session;
pub mod text;

use thiserror::Error;

use crate::data::DataError;
use crate::error::{CheckpointError, TrainError};
use crate::generate::SamplingError;
use crate::report::ReportError;
use crate::run::RunError;

pub use session::{Ended, Session};

/// What can end a task.
#[derive(Debug, Error)]
pub enum TaskError {
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The run folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A plot.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Choosing from logits.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// What a task was asked for.
    #[error("{what}: expected {expected}, found {found}")]
    Request {
        /// Which argument.
        what: &'static str,
        /// What it accepts.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl From<CheckpointError> for TaskError {
    fn from(error: CheckpointError) -> Self {
        Self::Train(error.into())
    }
}

impl From<scratch_lstm::ConfigError> for TaskError {
    fn from(error: scratch_lstm::ConfigError) -> Self {
        Self::Train(error.into())
    }
}
