//! How weights begin: the settings.

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::init::Initializer;

/// How the weights begin. Peepholes begin with 0, the gains of layer normalization with 1, a
/// learned initial state with 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InitConfig {
    /// Of the weights on the input.
    pub input: Initializer,
    /// Of the weights on the hidden state.
    pub recurrent: Initializer,
    /// Of the projection of the hidden state.
    pub projection: Initializer,
    /// What the biases begin with, before the settings below.
    pub bias: BiasInitializer,
    /// What is added to the forget gate's bias. With 1, the cell state lasts from the first step on
    /// (Gers et al. 2000; Jozefowicz et al. 2015).
    pub forget_bias: f64,
    /// The longest time span that the data are thought to have, in steps, at least 2: biases are
    /// drawn so that units forget over all of them, `b_f = ln(u)`, `b_i = -b_f` with `u` uniform in
    /// `[1, chrono - 1]` (Tallec & Ollivier 2018), instead of [`forget_bias`](Self::forget_bias).
    pub chrono: Option<f64>,
}

/// What biases begin with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BiasInitializer {
    /// 0.
    #[default]
    Zeros,
    /// The sum of two numbers, uniform in `±1/√H` each: what `torch.nn.LSTM`'s two biases are.
    PyTorch,
}

impl Default for InitConfig {
    fn default() -> Self {
        Self {
            input: Initializer::default(),
            recurrent: Initializer::default(),
            projection: Initializer::default(),
            bias: BiasInitializer::default(),
            forget_bias: 1.0,
            chrono: None,
        }
    }
}

impl InitConfig {
    /// What `torch.nn.LSTM` begins with: everything uniform in `±1/√H`, biases too.
    pub fn pytorch() -> Self {
        Self {
            bias: BiasInitializer::PyTorch,
            forget_bias: 0.0,
            ..Self::default()
        }
    }

    /// What Keras's `LSTM` begins with: Glorot's uniform distribution on the input, an orthogonal
    /// matrix on the hidden state, both over the four gates together, and a forget bias of 1.
    pub fn keras() -> Self {
        Self {
            input: Initializer::XavierUniformJoined,
            recurrent: Initializer::OrthogonalJoined,
            ..Self::default()
        }
    }

    pub(super) fn validate(&self, bias: bool) -> Result<(), ConfigError> {
        if !self.forget_bias.is_finite() {
            let found = self.forget_bias;
            return Err(ConfigError::new(
                "init.forget_bias",
                "a finite number",
                found,
            ));
        }
        match self.chrono {
            Some(steps) if !(steps.is_finite() && steps >= 2.0) => Err(ConfigError::new(
                "init.chrono",
                "a finite number of steps, at least 2",
                steps,
            )),
            Some(steps) if !bias => Err(ConfigError::new(
                "init.chrono",
                "absent without `bias`, which it is about",
                steps,
            )),
            _ => Ok(()),
        }
    }
}
