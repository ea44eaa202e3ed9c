//! The models of the built-in tasks, one file each.

pub mod char_lm;
pub mod classifier;
pub mod forecaster;
mod layers;
mod lstm;

pub use char_lm::{CharLm, CharLmConfig};
pub use classifier::{Classifier, ClassifierConfig};
pub use forecaster::{Forecaster, ForecasterConfig};
pub use layers::{embedding, linear};
pub use lstm::LstmSettings;
