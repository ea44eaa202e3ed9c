//! Which way a metric gets better.

use serde::{Deserialize, Serialize};

/// Which way a metric gets better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Less is better: losses and errors.
    #[default]
    Minimize,
    /// More is better: accuracies.
    Maximize,
}

impl Goal {
    /// Whether `value` is better than `than`; what is no number is better than nothing.
    pub fn is_better(self, value: f64, than: f64) -> bool {
        match self {
            Self::Minimize => value < than,
            Self::Maximize => value > than,
        }
    }
}
