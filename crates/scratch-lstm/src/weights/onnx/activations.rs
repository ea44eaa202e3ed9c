//! ONNX's names of activation functions and the two lists of their parameters, to and from
//! [`Activations`].
//!
//! A node has three names for each direction: of the gates, of the candidate, of the cell state.
//! `activation_alpha` and `activation_beta` have a number for each function that takes one, in the
//! order of the names; the numbers of those past the end of a list are defaults.

use scratch_lstm_kernels::{Activation, Activations};

/// What stands in the attributes of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Listed {
    /// `activations`.
    pub(super) names: Vec<String>,
    /// `activation_alpha`.
    pub(super) alphas: Vec<f32>,
    /// `activation_beta`.
    pub(super) betas: Vec<f32>,
}

/// The functions of each of a node's directions; the error is everything that has no counterpart.
pub(super) fn import(listed: &Listed, directions: usize) -> Result<Vec<Activations>, Vec<String>> {
    if listed.names.is_empty() {
        return Ok(vec![Activations::default(); directions]);
    }
    if listed.names.len() != 3 * directions {
        let (names, expected) = (&listed.names, 3 * directions);
        return Err(vec![format!(
            "activations {names:?}, where {expected} are expected"
        )]);
    }
    let mut alphas = listed.alphas.iter().copied();
    let mut betas = listed.betas.iter().copied();
    let mut problems = Vec::new();
    let functions: Vec<Activation> = listed
        .names
        .iter()
        .filter_map(|name| match named(name, &mut alphas, &mut betas) {
            Ok(function) => Some(function),
            Err(problem) => {
                problems.push(problem);
                None
            }
        })
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let (functions, _) = functions.as_chunks();
    let of_direction = |&[gate, cell, hidden]: &[Activation; 3]| Activations { gate, cell, hidden };
    Ok(functions.iter().map(of_direction).collect())
}

/// The lists for a node whose directions all have these functions; empty ones for ONNX's own.
pub(super) fn export(activations: Activations, directions: usize) -> Listed {
    let mut listed = Listed::default();
    if activations == Activations::default() {
        return listed;
    }
    let Activations { gate, cell, hidden } = activations;
    for _ in 0..directions {
        for function in [gate, cell, hidden] {
            let (name, alpha, beta) = described(function);
            listed.names.push(name.into());
            listed.alphas.extend(alpha.map(|alpha| alpha as f32));
            listed.betas.extend(beta.map(|beta| beta as f32));
        }
    }
    listed
}

/// The number that is meant by a 32-bit one: 0.2, not what 0.2 is rounded to.
pub(super) fn meant(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// The function of that name, which takes its parameters off the lists.
fn named(
    name: &str,
    alphas: &mut impl Iterator<Item = f32>,
    betas: &mut impl Iterator<Item = f32>,
) -> Result<Activation, String> {
    // ONNX Runtime does not mind capitals.
    let lower = name.to_ascii_lowercase();
    let mut alpha = |default: Option<f64>| match alphas.next() {
        Some(alpha) => finite(name, "alpha", alpha),
        None => default.ok_or_else(|| without(name, "activation_alpha")),
    };
    let mut beta = |default: Option<f64>| match betas.next() {
        Some(beta) => finite(name, "beta", beta),
        None => default.ok_or_else(|| without(name, "activation_beta")),
    };
    Ok(match lower.as_str() {
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        "relu" => Activation::Relu,
        "softsign" => Activation::Softsign,
        "softplus" => Activation::Softplus,
        "leakyrelu" => Activation::LeakyRelu {
            alpha: alpha(Some(0.01))?,
        },
        "elu" => Activation::Elu {
            alpha: alpha(Some(1.0))?,
        },
        "hardsigmoid" => Activation::HardSigmoid {
            alpha: alpha(Some(0.2))?,
            beta: beta(Some(0.5))?,
        },
        // Of these three ONNX names no defaults for an LSTM, or ONNX Runtime has others.
        "thresholdedrelu" => Activation::ThresholdedRelu {
            alpha: alpha(None)?,
        },
        "scaledtanh" => Activation::ScaledTanh {
            alpha: alpha(None)?,
            beta: beta(None)?,
        },
        "affine" => match (alpha(None)?, beta(None)?) {
            (1.0, 0.0) => Activation::Identity,
            (alpha, beta) => Activation::Affine { alpha, beta },
        },
        _ => return Err(format!("the activation {name:?}")),
    })
}

/// A function's name and parameters in ONNX.
fn described(function: Activation) -> (&'static str, Option<f64>, Option<f64>) {
    match function {
        Activation::Sigmoid => ("Sigmoid", None, None),
        Activation::Tanh => ("Tanh", None, None),
        Activation::Relu => ("Relu", None, None),
        Activation::Softsign => ("Softsign", None, None),
        Activation::Softplus => ("Softplus", None, None),
        Activation::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
        Activation::Elu { alpha } => ("Elu", Some(alpha), None),
        Activation::HardSigmoid { alpha, beta } => ("HardSigmoid", Some(alpha), Some(beta)),
        Activation::ThresholdedRelu { alpha } => ("ThresholdedRelu", Some(alpha), None),
        Activation::ScaledTanh { alpha, beta } => ("ScaledTanh", Some(alpha), Some(beta)),
        Activation::Affine { alpha, beta } => ("Affine", Some(alpha), Some(beta)),
        Activation::Identity => ("Affine", Some(1.0), Some(0.0)),
    }
}

fn finite(name: &str, parameter: &str, number: f32) -> Result<f64, String> {
    if number.is_finite() {
        Ok(meant(number))
    } else {
        Err(format!("the activation {name:?} with {parameter} {number}"))
    }
}

fn without(name: &str, list: &str) -> String {
    format!("the activation {name:?} without its number in {list}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_by_the_functions_that_have_some() {
        let listed = Listed {
            names: [
                "HardSigmoid",
                "TANH",
                "LeakyRelu",
                "affine",
                "Elu",
                "Softsign",
            ]
            .map(String::from)
            .to_vec(),
            alphas: vec![0.25, 0.1, 2.0, 0.7],
            betas: vec![0.4, -0.5],
        };
        let expected = [
            Activations {
                gate: Activation::HardSigmoid {
                    alpha: 0.25,
                    beta: 0.4,
                },
                cell: Activation::Tanh,
                hidden: Activation::LeakyRelu { alpha: 0.1 },
            },
            Activations {
                gate: Activation::Affine {
                    alpha: 2.0,
                    beta: -0.5,
                },
                cell: Activation::Elu { alpha: 0.7 },
                hidden: Activation::Softsign,
            },
        ];
        assert_eq!(import(&listed, 2).unwrap(), expected);
    }

    #[test]
    fn every_function_comes_back() {
        for function in [
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::Relu,
            Activation::Identity,
            Activation::HardSigmoid {
                alpha: 0.3,
                beta: 0.6,
            },
            Activation::LeakyRelu { alpha: 0.03 },
            Activation::Elu { alpha: 0.9 },
            Activation::Softsign,
            Activation::Softplus,
            Activation::ScaledTanh {
                alpha: 1.7,
                beta: 0.66,
            },
            Activation::Affine {
                alpha: 0.5,
                beta: 0.1,
            },
            Activation::ThresholdedRelu { alpha: 0.3 },
        ] {
            let activations = Activations {
                gate: function,
                cell: Activation::Elu { alpha: 0.8 },
                hidden: function,
            };
            let imported = import(&export(activations, 2), 2).unwrap();
            assert_eq!(imported, [activations; 2]);
        }
        let listed = export(Activations::default(), 2);
        assert_eq!(listed, Listed::default());
        assert_eq!(import(&listed, 1).unwrap(), [Activations::default()]);
    }

    #[test]
    fn what_has_no_counterpart_is_listed() {
        let listed = |names: [&str; 3]| Listed {
            names: names.map(String::from).to_vec(),
            ..Listed::default()
        };
        let problems = import(&listed(["Sine", "Affine", "Cosine"]), 1).unwrap_err();
        assert_eq!(
            problems,
            [
                "the activation \"Sine\"",
                "the activation \"Affine\" without its number in activation_alpha",
                "the activation \"Cosine\"",
            ]
        );
        let problems = import(&listed(["Sigmoid", "Tanh", "Tanh"]), 2).unwrap_err();
        assert!(problems[0].contains("6 are expected"), "{problems:?}");
    }
}
