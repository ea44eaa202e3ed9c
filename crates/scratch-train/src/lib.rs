//! Training sequence models on burn: data, loop, checkpoints, metrics.
//!
//! A model implements [`SequenceModel`], data implement [`data::SequenceData`], and a [`Trainer`]
//! brings them together on any backend.

pub mod average;
pub mod backend;
pub mod baselines;
mod best_by;
pub mod callback;
pub mod checkpoint;
mod config;
#[cfg(feature = "tui")]
pub mod dashboard;
pub mod data;
pub mod disk;
pub mod environment;
pub mod error;
pub mod evaluate;
pub mod generate;
mod goal;
pub mod gradients;
mod interrupt;
mod lock;
pub mod loss;
pub mod metrics;
mod model;
pub mod models;
pub mod optimizer;
pub mod precision;
pub mod progress;
pub mod range_test;
pub mod report;
pub mod run;
pub mod schedule;
pub mod settings;
mod step;
pub mod tasks;
pub mod tensorboard;
pub mod terminal;
mod trainer;

pub use average::AverageConfig;
pub use backend::{Backend, BackendError, Chosen};
pub use best_by::BestBy;
pub use callback::{Callback, Control, Ending, Plan, StepReport, StepRow};
pub use checkpoint::{Checkpoint, Checkpoints};
pub use config::{CheckpointConfig, MOST_SKIPPED, NonFinite, TrainingConfig};
pub use error::{CheckpointError, TrainError};
pub use evaluate::{Evaluation, evaluate, evaluate_with};
pub use goal::Goal;
pub use interrupt::Interrupt;
pub use lock::FolderLock;
pub use model::{SequenceModel, StepOutput};
pub use precision::Precision;
pub use range_test::{RangeTest, RangeTestConfig, range_test};
pub use run::RunFolder;
pub use trainer::{Outcome, ResumeOptions, Trainer};
