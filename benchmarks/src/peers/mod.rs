//! Who is timed: this project's LSTM, burn's own, PyTorch's. A peer is a file here.

mod burn;
mod on_burn;
mod pytorch;
mod scratch;

pub use self::burn::BurnLstm;
pub use on_burn::{OnBurn, input, mean_of_squares, median_seconds};
pub use pytorch::Pytorch;

use std::io;
use std::time::Duration;

use scratch_lstm::{ConfigError, WeightsError};
use thiserror::Error;

use crate::workload::{Mode, Size};

/// An implementation of the LSTM that can be timed.
pub trait Peer {
    /// What it is called in results.
    fn name(&self) -> &'static str;

    /// Median seconds of one of `iterations` iterations, run in a row.
    ///
    /// # Errors
    ///
    /// If it cannot run.
    fn time(&mut self, size: Size, mode: Mode, iterations: usize) -> Result<f64, PeerError>;
}

/// A peer that cannot run.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The settings describe no LSTM.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights have no counterpart.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// burn's device failed.
    #[error("the device failed: {0}")]
    Device(String),
    /// There is no such program.
    #[error("cannot start `{python}`: {source}")]
    Start {
        /// The program.
        python: String,
        /// What the system said.
        source: io::Error,
    },
    /// Python went away.
    #[error("`{python}` ended: {reason}")]
    Ended {
        /// The program.
        python: String,
        /// The last line of its complaints.
        reason: String,
    },
    /// Python does not answer.
    #[error("`{python}` gave no answer within {} seconds", limit.as_secs())]
    Silent {
        /// The program.
        python: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// PyTorch could not do it.
    #[error("PyTorch: {0}")]
    Refused(String),
    /// Something that is no answer.
    #[error("`{python}` gave no valid answer: {line}")]
    Garbled {
        /// The program.
        python: String,
        /// What it said.
        line: String,
    },
}
