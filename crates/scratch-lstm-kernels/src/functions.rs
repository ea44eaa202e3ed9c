//! Activation functions by name, for cells that were trained with others than σ and tanh.
//!
//! They are those of ONNX's `LSTM` operator, which calls them `activations`, and run number by
//! number; `activation.rs` has σ and tanh for vectors.

use serde::{Deserialize, Serialize};

/// A function of one number. NaN stays NaN.
///
/// Serializes as a map of its name in snake case and its parameters: `{ "kind": "tanh" }`,
/// `{ "kind": "leaky_relu", "alpha": 0.01 }`. A missing parameter has its default, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Activation {
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `(e^x - e^-x) / (e^x + e^-x)`
    Tanh,
    /// `max(0, x)`
    Relu,
    /// `x`
    Identity,
    /// `alpha x + beta`, kept within 0 and 1.
    HardSigmoid {
        /// The slope; 0.2 by default.
        #[serde(default = "a_fifth")]
        alpha: f64,
        /// The value at 0; 0.5 by default.
        #[serde(default = "half")]
        beta: f64,
    },
    /// `x` from 0 on, `alpha x` below.
    LeakyRelu {
        /// The slope below 0; 0.01 by default.
        #[serde(default = "a_hundredth")]
        alpha: f64,
    },
    /// `x` from 0 on, `alpha (e^x - 1)` below.
    Elu {
        /// What it tends to far below 0, with the sign changed; 1 by default.
        #[serde(default = "one")]
        alpha: f64,
    },
    /// `x / (1 + |x|)`
    Softsign,
    /// `ln(1 + e^x)`
    Softplus,
    /// `alpha tanh(beta x)`
    ScaledTanh {
        /// The largest value.
        alpha: f64,
        /// The scale of `x`.
        beta: f64,
    },
    /// `alpha x + beta`
    Affine {
        /// The slope.
        alpha: f64,
        /// The value at 0.
        beta: f64,
    },
    /// `x` above `alpha`, 0 up to there.
    ThresholdedRelu {
        /// The threshold; 1 by default.
        #[serde(default = "one")]
        alpha: f64,
    },
}

impl Activation {
    /// Its parameters, by name.
    pub fn parameters(self) -> impl Iterator<Item = (&'static str, f64)> {
        let (alpha, beta) = match self {
            Self::Sigmoid
            | Self::Tanh
            | Self::Relu
            | Self::Identity
            | Self::Softsign
            | Self::Softplus => (None, None),
            Self::LeakyRelu { alpha } | Self::Elu { alpha } | Self::ThresholdedRelu { alpha } => {
                (Some(alpha), None)
            }
            Self::HardSigmoid { alpha, beta }
            | Self::ScaledTanh { alpha, beta }
            | Self::Affine { alpha, beta } => (Some(alpha), Some(beta)),
        };
        let named = |name, value: Option<f64>| value.map(|value| (name, value));
        named("alpha", alpha).into_iter().chain(named("beta", beta))
    }

    /// The function at `x`.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Relu => below(0.0, x, 0.0),
            Self::Identity => x,
            Self::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
            Self::LeakyRelu { alpha } => below(0.0, x, alpha * x),
            Self::Elu { alpha } => below(0.0, x, alpha * x.exp_m1()),
            // Far out the quotient would be ∞ / ∞.
            Self::Softsign if x.is_infinite() => x.signum(),
            Self::Softsign => x / (1.0 + x.abs()),
            // e^x alone would overflow.
            Self::Softplus => below(0.0, x, 0.0) + (-x.abs()).exp().ln_1p(),
            Self::ScaledTanh { alpha, beta } => alpha * (beta * x).tanh(),
            Self::Affine { alpha, beta } => alpha * x + beta,
            Self::ThresholdedRelu { alpha } if x == alpha => 0.0,
            Self::ThresholdedRelu { alpha } => below(alpha, x, 0.0),
        }
    }
}

/// The three functions of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Activations {
    /// Of the input, forget and output gates; σ by default.
    pub gate: Activation,
    /// Of the candidate, the cell gate; tanh by default.
    pub cell: Activation,
    /// On the cell state, before it is shown; tanh by default.
    pub hidden: Activation,
}

impl Default for Activations {
    fn default() -> Self {
        Self {
            gate: Activation::Sigmoid,
            cell: Activation::Tanh,
            hidden: Activation::Tanh,
        }
    }
}

/// `x` from `bound` on, `otherwise` below it. Unlike with `max`, NaN stays.
fn below(bound: f64, x: f64, otherwise: f64) -> f64 {
    if x < bound { otherwise } else { x }
}

fn a_fifth() -> f64 {
    0.2
}

fn a_hundredth() -> f64 {
    0.01
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::Activation::*;
    use super::*;

    #[test]
    fn functions_of_known_numbers() {
        let e = std::f64::consts::E;
        for (function, x, expected) in [
            (Sigmoid, 0.0, 0.5),
            (Sigmoid, 1.0, e / (e + 1.0)),
            (Tanh, -1.0, (1.0 - e * e) / (e * e + 1.0)),
            (Relu, 1.25, 1.25),
            (Relu, -1.25, 0.0),
            (Identity, -1.25, -1.25),
            (hard_sigmoid(), 1.0, 0.7),
            (hard_sigmoid(), 3.0, 1.0),
            (hard_sigmoid(), -2.6, 0.0),
            (LeakyRelu { alpha: 0.25 }, -2.0, -0.5),
            (LeakyRelu { alpha: 0.25 }, 2.0, 2.0),
            (Elu { alpha: 2.0 }, -1.0, 2.0 / e - 2.0),
            (Elu { alpha: 2.0 }, 3.0, 3.0),
            (Softsign, -3.0, -0.75),
            (Softsign, f64::NEG_INFINITY, -1.0),
            (Softplus, 0.0, 2f64.ln()),
            (Softplus, 1.0, (1.0 + e).ln()),
            (Softplus, 800.0, 800.0),
            (
                ScaledTanh {
                    alpha: 3.0,
                    beta: 0.5,
                },
                2.0,
                3.0 * (e * e - 1.0) / (e * e + 1.0),
            ),
            (
                Affine {
                    alpha: 2.0,
                    beta: -0.5,
                },
                3.0,
                5.5,
            ),
            (ThresholdedRelu { alpha: 1.5 }, 1.5, 0.0),
            (ThresholdedRelu { alpha: 1.5 }, 1.75, 1.75),
            (ThresholdedRelu { alpha: -1.5 }, -2.0, 0.0),
        ] {
            let found = function.apply(x);
            let difference = (found - expected).abs();
            assert!(
                difference <= 4.0 * f64::EPSILON * expected.abs().max(1.0),
                "{function:?} of {x} is {found}, expected {expected}"
            );
            assert!(function.apply(f64::NAN).is_nan(), "{function:?} of NaN");
        }
    }

    #[test]
    fn names_and_defaults() {
        for (text, expected) in [
            (r#"{"kind":"softsign"}"#, Softsign),
            (r#"{"kind":"hard_sigmoid"}"#, hard_sigmoid()),
            (r#"{"kind":"leaky_relu"}"#, LeakyRelu { alpha: 0.01 }),
            (r#"{"kind":"elu"}"#, Elu { alpha: 1.0 }),
            (
                r#"{"kind":"thresholded_relu"}"#,
                ThresholdedRelu { alpha: 1.0 },
            ),
            (
                r#"{"kind":"scaled_tanh","alpha":1.5,"beta":0.25}"#,
                ScaledTanh {
                    alpha: 1.5,
                    beta: 0.25,
                },
            ),
        ] {
            let found: Activation = serde_json::from_str(text).unwrap();
            assert_eq!(found, expected, "{text}");
            let written = serde_json::to_string(&found).unwrap();
            assert_eq!(
                serde_json::from_str::<Activation>(&written).unwrap(),
                expected
            );
        }
        for text in [
            r#"{"kind":"sine"}"#,
            r#"{"kind":"affine","alpha":1.0}"#,
            r#"{"kind":"elu","gamma":1.0}"#,
        ] {
            assert!(serde_json::from_str::<Activation>(text).is_err(), "{text}");
        }
        let found: Activations = serde_json::from_str(r#"{"cell":{"kind":"relu"}}"#).unwrap();
        let expected = Activations {
            cell: Relu,
            ..Activations::default()
        };
        assert_eq!(found, expected);
    }

    fn hard_sigmoid() -> Activation {
        HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        }
    }
}
