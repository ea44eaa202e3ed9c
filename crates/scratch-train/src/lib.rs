//! Training sequence models on burn: data, loop, checkpoints, metrics.
//!
//! A model implements [`SequenceModel`], data implement [`data::SequenceData`], and a [`Trainer`]
//! brings them together on any backend.

pub mod backend;
pub mod baselines;
pub mod callback;
pub mod checkpoint;
pub mod clip;
mod config;
#[cfg(feature = "tui")]
pub mod dashboard;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod generate;
pub mod loss;
pub mod metrics;
mod model;
pub mod models;
pub mod optimizer;
pub mod progress;
pub mod report;
pub mod run;
pub mod schedule;
pub mod settings;
mod step;
pub mod tasks;
pub mod tensorboard;
pub mod terminal;
mod trainer;

pub use backend::{Backend, BackendError, Chosen};
pub use callback::{Callback, Ending, Plan, StepReport};
pub use checkpoint::{Checkpoint, Checkpoints};
pub use config::TrainingConfig;
pub use error::{CheckpointError, TrainError};
pub use evaluate::{Evaluation, evaluate, evaluate_with};
pub use model::{SequenceModel, StepOutput};
pub use run::RunFolder;
pub use trainer::{Outcome, Trainer};
