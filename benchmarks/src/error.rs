//! What can end a run of the benchmarks.

use std::io;

use scratch_train::{BackendError, TrainError};
use thiserror::Error;

use crate::args::PeerName;
use crate::dtype::Dtype;
use crate::memory::MemoryError;
use crate::peers::PeerError;

/// A run that could not start or go on.
#[derive(Debug, Error)]
pub enum BenchmarkError {
    /// The backend cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The device does not compute in the type.
    #[error("`--dtype {dtype}`: expected a type that {device} computes in; {reason}")]
    Dtype {
        /// What was asked for.
        dtype: Dtype,
        /// The device.
        device: String,
        /// What it has, or what is wrong.
        reason: String,
    },
    /// PyTorch was asked for and is not there.
    #[error("`--peer {}`: {source}; name a Python that has torch with `--python PATH`", peer.name())]
    NoPytorch {
        /// On which device.
        peer: PeerName,
        /// What is missing.
        source: PeerError,
    },
    /// A way to compute in f32 was asked for in another type.
    #[error("`--peer {}` is a way to multiply in f32: expected --dtype f32, found {dtype}", peer.name())]
    OnlyInF32 {
        /// The peer.
        peer: PeerName,
        /// What was asked for.
        dtype: Dtype,
    },
    /// Raw operations were asked for as a peer, and there is no fused one.
    #[error("`--peer raw` compares the fused operation with raw ones: {0}")]
    NotFused(#[source] PeerError),
    /// Memory cannot be measured.
    #[error("cannot measure memory: {0}")]
    Memory(#[from] MemoryError),
    /// A measurement in a process of its own came to nothing.
    #[error("the process that measures failed: {reason}")]
    Probe {
        /// How it ended or what it said.
        reason: String,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// A peer failed on the way.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The training loop ended with an error.
    #[error("training: {0}")]
    Training(#[from] TrainError),
    /// The results could not be written, or a process not started.
    #[error("input or output failed: {0}")]
    Output(#[from] io::Error),
}

impl BenchmarkError {
    /// What the process ends with: 2 for what was asked for, as for unknown flags; 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Backend(_)
            | Self::Dtype { .. }
            | Self::NoPytorch { .. }
            | Self::OnlyInF32 { .. }
            | Self::NotFused(_)
            | Self::Memory(_) => 2,
            Self::Probe { .. }
            | Self::Threads { .. }
            | Self::Peer(_)
            | Self::Training(_)
            | Self::Output(_) => 1,
        }
    }

    /// Whether the reader of the results has gone (`| head`), which is no fault.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
