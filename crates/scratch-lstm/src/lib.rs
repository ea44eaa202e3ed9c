//! An LSTM for burn whose cell is written from raw tensor operations, and the same as one fused
//! operation with a backward pass by hand.
//!
//! Start with [`ScratchLstmConfig`], which makes a [`ScratchLstm`]; [`ScratchLstmCell`] is one
//! step, [`LstmStream`] a trained LSTM step by step. The axes are named in [`shapes`]; the
//! equations are at the top of [`cell`]; [`fused`] is the whole sequence at once; [`weights`]
//! brings weights from PyTorch, burn and hand-written LSTMs and takes them back; [`gradcheck`]
//! checks gradients of any module.

// burn deprecates the whole of its NdArray backend.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

pub mod bptt;
pub mod cell;
pub mod config;
mod dropout;
pub mod error;
pub mod functional;
pub mod fused;
pub mod gates;
pub mod gradcheck;
mod init;
mod layer;
mod lstm;
mod options;
pub mod penalty;
mod random;
mod recurrence;
mod reference;
pub mod shapes;
mod state;
mod stream;
mod valid;
pub mod weights;

pub use cell::{CellWeights, LayerNormWeights, ScratchLstmCell};
pub use config::ScratchLstmConfig;
pub use dropout::{dropout, locked_dropout};
pub use error::{ConfigError, ForwardError, StateError, StreamError};
pub use fused::{Path, PathChoice};
pub use init::Initializer;
pub use layer::LstmLayer;
pub use lstm::ScratchLstm;
pub use options::ForwardOptions;
pub use random::{Key, param_id};
pub use state::{LstmState, RecurrentState};
pub use stream::LstmStream;
pub use valid::{Padding, Valid};
pub use weights::WeightsError;

#[cfg(test)]
mod testing;

/// The README's library example is compiled and run with the tests.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
