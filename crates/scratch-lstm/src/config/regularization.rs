//! What is done against overfitting.

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// What is done against overfitting; in training only, except where it says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegularizationConfig {
    /// Probability with which an output of every layer but the last is dropped
    /// (`torch.nn.LSTM`'s `dropout`).
    pub dropout: f64,
    /// Whether [`dropout`](Self::dropout) drops the same units of a row at every step ("locked" or
    /// "variational", Gal & Ghahramani 2016) instead of others at each.
    pub dropout_locked: bool,
    /// Probability with which a unit of the hidden state is dropped where the gates read it, the
    /// same units of a row at every step (Gal & Ghahramani 2016). The state that is carried and
    /// shown is whole.
    pub recurrent_dropout: f64,
    /// Probability with which an entry of `weight_hh` is dropped, for a whole call: DropConnect
    /// (Wan et al. 2013) as in AWD-LSTM (Merity, Keskar & Socher 2018).
    pub weight_dropout: f64,
    /// Probability with which a unit of the hidden state keeps its old value in a step (Krueger et
    /// al. 2017). Outside of training every unit keeps this share of it.
    pub zoneout_hidden: f64,
    /// The same of the cell state.
    pub zoneout_cell: f64,
    /// `α` of [`ScratchLstm::penalty`](crate::ScratchLstm::penalty): activation regularization
    /// (Merity, McCann & Socher 2017).
    pub activation_penalty: f64,
    /// `β` of [`ScratchLstm::penalty`](crate::ScratchLstm::penalty): temporal activation
    /// regularization (Merity, McCann & Socher 2017).
    pub temporal_activation_penalty: f64,
}

impl RegularizationConfig {
    /// Whether a call in training draws random numbers for it.
    pub fn is_random(&self) -> bool {
        self.rates().iter().any(|&(_, rate)| rate > 0.0)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (field, rate) in self.rates() {
            if !(0.0..1.0).contains(&rate) {
                return Err(ConfigError::new(field, "at least 0 and less than 1", rate));
            }
        }
        for (field, factor) in [
            ("regularization.activation_penalty", self.activation_penalty),
            (
                "regularization.temporal_activation_penalty",
                self.temporal_activation_penalty,
            ),
        ] {
            if !(factor.is_finite() && factor >= 0.0) {
                return Err(ConfigError::new(field, "a finite number from 0", factor));
            }
        }
        Ok(())
    }

    fn rates(&self) -> [(&'static str, f64); 5] {
        [
            ("regularization.dropout", self.dropout),
            ("regularization.recurrent_dropout", self.recurrent_dropout),
            ("regularization.weight_dropout", self.weight_dropout),
            ("regularization.zoneout_hidden", self.zoneout_hidden),
            ("regularization.zoneout_cell", self.zoneout_cell),
        ]
    }
}
