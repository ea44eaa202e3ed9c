//! What one step computes.

use scratch_lstm_kernels::Activations;
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Which LSTM: what a step computes besides the equations of [`cell`](crate::cell).
///
/// All of it is off by default and can be combined. `docs/features.md` has the equation, the source
/// and the order in which they apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CellConfig {
    /// Whether the gates see the cell state, each unit its own (Gers, Schraudolph & Schmidhuber
    /// 2002): the input and forget gates the one before the step, the output gate the one after it.
    pub peepholes: bool,
    /// Whether the forget gate is `1 - i` instead of a gate with weights of its own (Greff et al.
    /// 2017): three quarters of the parameters. ONNX's and burn's `input_forget`.
    pub coupled: bool,
    /// Bound of the gates' numbers before their activations: `clip` of an ONNX `LSTM`.
    pub clip_gates: Option<f64>,
    /// Bound of the cell state: `clip` of burn's LSTM, `cell_clip` of TensorFlow 1.
    pub clip_cell: Option<f64>,
    /// Layer normalization of the input's and the hidden state's part of the gates, and of the
    /// cell state where it is shown (Ba, Kiros & Hinton 2016).
    pub layer_norm: bool,
    /// The functions of the gates, of the candidate and of the cell state where it is shown.
    pub activations: Activations,
}

/// What layer normalization adds to a variance.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

impl CellConfig {
    /// Whether it is the LSTM of [`cell`](crate::cell) and nothing else.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (field, clip) in [
            ("cell.clip_gates", self.clip_gates),
            ("cell.clip_cell", self.clip_cell),
        ] {
            if let Some(clip) = clip
                && !(clip.is_finite() && clip > 0.0)
            {
                return Err(ConfigError::new(field, "a finite number above 0", clip));
            }
        }
        let Activations { gate, cell, hidden } = self.activations;
        for (field, activation) in [
            ("cell.activations.gate", gate),
            ("cell.activations.cell", cell),
            ("cell.activations.hidden", hidden),
        ] {
            if let Some((name, value)) = activation
                .parameters()
                .find(|(_, value)| !value.is_finite())
            {
                let found = format!("{name} {value}");
                return Err(ConfigError::new(field, "of finite parameters", found));
            }
        }
        Ok(())
    }
}
