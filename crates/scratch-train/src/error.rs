//! What can end a training run.

use std::path::{Path, PathBuf};

use scratch_lstm::{ConfigError, StateError};
use thiserror::Error;

/// A training run that could not start or go on.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A setting outside what it accepts.
    #[error("invalid configuration: `{field}` must be {expected}, found {found}")]
    Config {
        /// The field, with the section it is nested in.
        field: &'static str,
        /// What it accepts.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// Settings of the LSTM.
    #[error(transparent)]
    Lstm(#[from] ConfigError),
    /// The data have no window to train on.
    #[error("{what}: expected at least one window of data, found none")]
    NoData {
        /// Training or validation.
        what: &'static str,
    },
    /// The loss is no number any more.
    #[error(
        "the loss became {loss} at step {step}; {}",
        match last_good { Some(path) => format!("the last good checkpoint is {}", path.display()), None => "no checkpoint had been written".into() }
    )]
    Diverged {
        /// The optimizer step.
        step: u64,
        /// Not a number or infinite.
        loss: f64,
        /// The newest checkpoint from before.
        last_good: Option<PathBuf>,
    },
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run folder could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl TrainError {
    pub(crate) fn config(
        field: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Config {
            field,
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}

/// A checkpoint that could not be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no checkpoint of that name.
    #[error("{}: expected a checkpoint folder, found {found}", path.display())]
    NotACheckpoint {
        /// Where it was looked for.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A file differs from what the manifest says.
    #[error("{}: damaged: expected {expected}, found {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Size or hash in the manifest.
        expected: String,
        /// Size or hash of the file.
        found: String,
    },
    /// A file whose content is of another form.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Weights of another architecture.
    #[error("{}: the weights are those of another model: {reason}", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// Which tensors do not fit.
        reason: String,
    },
    /// The saved recurrent state does not fit.
    #[error("{}: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: StateError,
    },
}
