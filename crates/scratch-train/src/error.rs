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
    /// A loss or a gradient is not finite.
    #[error(
        "the {what} became {value} at step {step}; {}",
        match last_good { Some(path) => format!("the last good checkpoint is {}", path.display()), None => "no checkpoint had been written".into() }
    )]
    Diverged {
        /// What is not finite.
        what: &'static str,
        /// Not a number or infinite.
        value: f64,
        /// The optimizer step.
        step: u64,
        /// The newest checkpoint from before.
        last_good: Option<PathBuf>,
    },
    /// A signal, or another thread, asked the run to end. It can go on from its last checkpoint.
    #[error("interrupted by {} after step {step}; {}", signal_name(*signal),
        match last_good { Some(path) => format!("all is saved in {}", path.display()), None => "nothing is saved, for there is no place for checkpoints".into() }
    )]
    Interrupted {
        /// The signal's number.
        signal: i32,
        /// Steps of the optimizer that were done.
        step: u64,
        /// The newest checkpoint.
        last_good: Option<PathBuf>,
    },
    /// Too many gradients in a row were not finite.
    #[error(
        "{steps} steps in a row up to step {step} had a gradient that is not finite; {}",
        match last_good { Some(path) => format!("the last good checkpoint is {}", path.display()), None => "no checkpoint had been written".into() }
    )]
    Skipping {
        /// The optimizer step.
        step: u64,
        /// How many were skipped one after another.
        steps: u64,
        /// The newest checkpoint.
        last_good: Option<PathBuf>,
    },
    /// What the run shares with the one it goes on from is not the same any more.
    #[error("the run cannot go on as it was: {}", changes.join("; "))]
    Changed {
        /// What differs: then and now.
        changes: Vec<String>,
    },
    /// The newest checkpoint cannot be read.
    #[error(
        "{reason}; {}",
        match previous { Some(path) => format!("the checkpoint before it is good: {}", path.display()), None => "there is no good checkpoint before it".into() }
    )]
    NewestDamaged {
        /// What is wrong with it.
        reason: Box<CheckpointError>,
        /// The newest one that can be read.
        previous: Option<PathBuf>,
    },
    /// A bug in the model, the data or a backend, or a device that was lost.
    #[error(
        "the training panicked after step {step}: {message}; {}",
        match last_good { Some(path) => format!("the last checkpoint is {}", path.display()), None => "no checkpoint had been written".into() }
    )]
    Panicked {
        /// Steps of the optimizer that were done.
        step: u64,
        /// What the panic said.
        message: String,
        /// The newest checkpoint.
        last_good: Option<PathBuf>,
    },
    /// A callback could not save or take back what it remembers.
    #[error("callback `{name}`: {reason}")]
    Callback {
        /// Which one.
        name: String,
        /// What did not work.
        reason: String,
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

fn signal_name(signal: i32) -> String {
    match signal {
        2 => "Ctrl-C".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
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
    #[error("{}: expected a checkpoint, found {found}", path.display())]
    NotACheckpoint {
        /// Where it was looked for.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A checkpoint whose model was never validated.
    #[error("{}: expected a model that was validated, found a checkpoint from before the first \
             validation", path.display())]
    NotValidated {
        /// The checkpoint.
        path: PathBuf,
    },
    /// Another run's checkpoints are there.
    #[error("{}: expected no checkpoints of another run, found {found}", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
        /// The newest one.
        found: String,
    },
    /// Another process writes there.
    #[error("{}: expected checkpoints that nobody writes, found them in use by {holder}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Which process.
        holder: String,
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
    /// Written by another version of this library.
    #[error("{}: expected a checkpoint of format {expected}, found format {found}", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// What this version reads and writes.
        expected: u32,
        /// What is there.
        found: u32,
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
