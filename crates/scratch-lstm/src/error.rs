//! The errors of this crate: each names the thing, what was expected and what was found.

use scratch_lstm_kernels::InstructionSetError;
use thiserror::Error;

use crate::fused::RawReason;

/// A configuration that describes no LSTM.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("invalid configuration: `{field}` must be {expected}, found {found}")]
pub struct ConfigError {
    /// The field, with the section it is nested in: `init.forget_bias`.
    pub field: &'static str,
    /// What the field accepts.
    pub expected: String,
    /// What it holds.
    pub found: String,
}

impl ConfigError {
    pub(crate) fn new(
        field: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self {
            field,
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

/// An input, state or option that does not fit the module it was given to.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ForwardError {
    /// A tensor of another shape than the module and the rest of the call imply.
    #[error("{what}: expected shape {expected}, found {found:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// The shape by axis names and sizes: `[B=3, T, D=5]`.
        expected: String,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A per-row list with another number of entries than the batch has rows.
    #[error(
        "{what}: expected one entry for each of the {expected} rows of the batch, found {found}"
    )]
    Rows {
        /// Which list.
        what: &'static str,
        /// Rows of the batch.
        expected: usize,
        /// Entries of the list.
        found: usize,
    },
    /// A sequence said to be longer than the input.
    #[error(
        "lengths: expected at most {steps} (the time steps of the input), found {found} in row {row}"
    )]
    Length {
        /// The row of the batch.
        row: usize,
        /// Time steps of the input.
        steps: usize,
        /// The length given for the row.
        found: usize,
    },
    /// A mask with another number of entries than the input has rows and steps.
    #[error("mask: expected one entry for each of {batch} rows and {steps} steps, found {found}")]
    Mask {
        /// Rows of the batch.
        batch: usize,
        /// Time steps of the input.
        steps: usize,
        /// Entries of the mask.
        found: usize,
    },
    /// Two answers to the same question.
    #[error("lengths, mask: expected one of them, found both")]
    LengthsAndMask,
    /// A tensor of another element type than the weights.
    #[error("{what}: expected element type {expected} (that of the weights), found {found}")]
    DType {
        /// Which tensor.
        what: &'static str,
        /// The weights' element type.
        expected: String,
        /// Its own.
        found: String,
    },
    /// A tensor on another device than the weights.
    #[error("{what}: expected device {expected} (that of the weights), found {found}")]
    Device {
        /// Which tensor.
        what: &'static str,
        /// The weights' device.
        expected: String,
        /// Its own.
        found: String,
    },
    /// The fused operation is asked for where it cannot be had.
    #[error("path: expected the fused operation, which cannot be had here: {reason}")]
    Fused {
        /// Why not.
        reason: RawReason,
    },
    /// A tensor that no buffer of the device has room for.
    #[error(
        "{what}: expected at most {most} bytes, the largest buffer of this device, found {bytes}: \
         take fewer rows or shorter windows"
    )]
    TooLarge {
        /// Which tensor.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The device's limit.
        most: u64,
    },
    /// A tensor without rows or without time steps.
    #[error("{what}: expected at least one row and one time step, found shape {found:?}")]
    Empty {
        /// Which tensor.
        what: &'static str,
        /// The shape it has.
        found: Vec<usize>,
    },
}

/// A recurrent state that could not be rebuilt from saved tensors.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum StateError {
    /// A tensor of the state is missing.
    #[error("saved state: expected a tensor named `{name}`, found {found:?}")]
    Missing {
        /// The name looked for.
        name: String,
        /// The names that are there.
        found: Vec<String>,
    },
    /// A tensor of the state has another rank.
    #[error("saved state: expected `{name}` to have {expected} axes, found shape {found:?}")]
    Rank {
        /// The tensor.
        name: String,
        /// Axes expected.
        expected: usize,
        /// Shape found.
        found: Vec<usize>,
    },
}

/// An LSTM that cannot go step by step, or a step that does not fit it.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum StreamError {
    /// The LSTM reads the sequence backward too.
    #[error("stream: expected an LSTM of one direction, found a bidirectional one")]
    Bidirectional,
    /// The CPU kernels cannot run as the environment asks.
    #[error("stream: {0}")]
    InstructionSet(InstructionSetError),
    /// An input or output of another width.
    #[error("stream {what}: expected {expected} numbers, found {found}")]
    Length {
        /// Input or output.
        what: &'static str,
        /// The LSTM's width.
        expected: usize,
        /// The slice's length.
        found: usize,
    },
    /// A state of another shape.
    #[error("{what}: expected shape [L, 1, H] = {expected:?}, found {found:?}")]
    State {
        /// Hidden or cell state.
        what: &'static str,
        /// The stream's.
        expected: [usize; 3],
        /// Its own.
        found: [usize; 3],
    },
}
