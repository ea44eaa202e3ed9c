//! Who is timed: this project's LSTM, its raw operations, burn's LSTM, PyTorch's. A peer is a file
//! here.

mod burn;
mod on_burn;
mod pytorch;
mod raw;
mod scratch;

pub use self::burn::BurnLstm;
pub use on_burn::{BurnModel, OnBurn, input, mean_of_squares, median_seconds};
pub use pytorch::{Pytorch, Torch};
pub use raw::RawLstm;
pub use scratch::path;

use std::io;
use std::time::Duration;

use scratch_lstm::{ConfigError, ForwardError, WeightsError};
use thiserror::Error;

use crate::workload::{Mode, Size};

/// An implementation of the LSTM that can be timed.
pub trait Peer {
    /// What it is called in results.
    fn name(&self) -> &'static str;

    /// Whose matrix products it is made of.
    fn library(&self) -> &'static str;

    /// Median seconds of one of `iterations` iterations, run in a row.
    ///
    /// # Errors
    ///
    /// If it cannot run.
    fn time(&mut self, size: Size, mode: Mode, iterations: usize) -> Result<f64, PeerError>;

    /// Median seconds of its library's product of two matrices `[width, width]`.
    ///
    /// # Errors
    ///
    /// If it cannot run.
    fn multiply(&mut self, width: usize, iterations: usize) -> Result<f64, PeerError>;
}

/// A peer that cannot run.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The settings describe no LSTM.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The path that was asked for cannot be had.
    #[error(transparent)]
    Path(#[from] ForwardError),
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
