//! Shape checks of weights, and of whole stacks of them.

use burn::tensor::Tensor;

use crate::cell::CellWeights;
use crate::config::ScratchLstmConfig;
use crate::gates::{self, Gates};

use super::error::{Problems, WeightsError};

/// That `tensor` has these axes, each a name and a size.
pub(super) fn check<const R: usize>(
    name: &str,
    tensor: &Tensor<R>,
    expected: [(&str, usize); R],
) -> Result<(), WeightsError> {
    check_dims(name, &tensor.dims(), &expected)
}

/// That `found` are the sizes of these axes, each a name and a size.
pub(super) fn check_dims(
    name: &str,
    found: &[usize],
    expected: &[(&str, usize)],
) -> Result<(), WeightsError> {
    if found.len() == expected.len() && found.iter().zip(expected).all(|(a, (_, b))| a == b) {
        return Ok(());
    }
    let axes: Vec<String> = expected
        .iter()
        .map(|(axis, size)| format!("{axis}={size}"))
        .collect();
    Err(WeightsError::Shape {
        name: name.into(),
        expected: format!("[{}]", axes.join(", ")),
        found: found.to_vec(),
    })
}

/// `D` and `H` of weights that fit each other.
pub(super) fn check_cell(weights: &CellWeights) -> Result<(usize, usize), WeightsError> {
    if weights.weight_hr.is_some() {
        return Err(not_plain("weight_hr", "a projection"));
    }
    check_projected_cell(weights)
}

/// `D` and `H` of weights, maybe with a projection, that fit each other.
pub(super) fn check_projected_cell(weights: &CellWeights) -> Result<(usize, usize), WeightsError> {
    let mut problems = Problems::default();
    if weights.peephole.is_some() {
        problems.add(not_plain("peephole", "peepholes"));
    }
    if weights.layer_norm.is_some() {
        problems.add(not_plain("layer_norm", "layer normalization"));
    }
    problems.into_result()?;
    let [_, d_input] = weights.weight_ih.dims();
    let [_, d_state] = weights.weight_hh.dims();
    let config = match &weights.weight_hr {
        Some(weight_hr) => {
            let [_, d_hidden] = weight_hr.dims();
            ScratchLstmConfig::new(d_input, d_hidden).with_projection(d_state)
        }
        None => ScratchLstmConfig::new(d_input, d_state),
    };
    check_cell_as("", weights, &config, d_input)?;
    Ok((d_input, config.d_hidden))
}

/// That a layout has no place for some weights.
fn not_plain(name: &str, found: &str) -> WeightsError {
    WeightsError::Setting {
        name: name.into(),
        expected: "weights of a plain cell".into(),
        found: found.into(),
    }
}

/// That a stack has a cell for each layer and direction of `config`, each in its shapes.
pub(crate) fn check_stack(
    config: &ScratchLstmConfig,
    weights: &[CellWeights],
) -> Result<(), WeightsError> {
    let directions = config.num_directions();
    let expected = config.num_layers * directions;
    if weights.len() != expected {
        return Err(WeightsError::Setting {
            name: "weights".into(),
            expected: format!("one set for each of {expected} layers and directions"),
            found: weights.len().to_string(),
        });
    }
    for (index, weights) in weights.iter().enumerate() {
        let layer = index / directions;
        let direction = ["forward", "reverse"][index % directions];
        let path = format!("layers.{layer}.{direction}.");
        check_cell_as(&path, weights, config, config.layer_input(layer))?;
        for (name, found, expected) in [
            (
                "weight_hr",
                weights.weight_hr.is_some(),
                config.d_proj.is_some(),
            ),
            (
                "peephole",
                weights.peephole.is_some(),
                config.cell.peepholes,
            ),
            (
                "layer_norm",
                weights.layer_norm.is_some(),
                config.cell.layer_norm,
            ),
        ] {
            if found != expected {
                let named = |is_there: bool| if is_there { "weights" } else { "none" };
                return Err(WeightsError::Setting {
                    name: format!("{path}{name}"),
                    expected: named(expected).into(),
                    found: named(found).into(),
                });
            }
        }
        if weights.bias.is_some() != config.bias {
            return Err(WeightsError::Setting {
                name: format!("{path}bias"),
                expected: presence(config.bias).into(),
                found: presence(weights.bias.is_some()).into(),
            });
        }
    }
    Ok(())
}

/// The values of the gates under their names in messages, in the gate order.
pub(super) fn named<'a, T>(field: &str, gates: &'a Gates<T>) -> [(String, &'a T); gates::COUNT] {
    [
        (format!("{field}.input"), &gates.input),
        (format!("{field}.forget"), &gates.forget),
        (format!("{field}.cell"), &gates.cell),
        (format!("{field}.output"), &gates.output),
    ]
}

/// How a message names a bias that is there or is not.
pub(super) fn presence(bias: bool) -> &'static str {
    if bias { "a bias" } else { "no bias" }
}

fn check_cell_as(
    path: &str,
    weights: &CellWeights,
    config: &ScratchLstmConfig,
    d_input: usize,
) -> Result<(), WeightsError> {
    let (d_hidden, d_state) = (config.d_hidden, config.d_state());
    let rows = ("4H", gates::COUNT * d_hidden);
    let units = ("H", d_hidden);
    let state = match config.d_proj {
        Some(d_proj) => ("P", d_proj),
        None => units,
    };
    let CellWeights {
        weight_ih,
        weight_hh,
        bias,
        weight_hr,
        peephole,
        layer_norm,
    } = weights;
    check(
        &format!("{path}weight_hh"),
        weight_hh,
        [rows, (state.0, d_state)],
    )?;
    if let Some(weight_hr) = weight_hr {
        check(&format!("{path}weight_hr"), weight_hr, [state, units])?;
    }
    if let Some(peephole) = peephole {
        let axes = [("3H", (gates::COUNT - 1) * d_hidden)];
        check(&format!("{path}peephole"), peephole, axes)?;
    }
    if let Some(norm) = layer_norm {
        for (name, tensor, axis) in [
            ("input", &norm.input, rows),
            ("hidden", &norm.hidden, rows),
            ("cell", &norm.cell, units),
            ("cell_bias", &norm.cell_bias, units),
        ] {
            check(&format!("{path}layer_norm.{name}"), tensor, [axis])?;
        }
    }
    check(
        &format!("{path}weight_ih"),
        weight_ih,
        [rows, ("D", d_input)],
    )?;
    match bias {
        Some(bias) => check(&format!("{path}bias"), bias, [rows]),
        None => Ok(()),
    }
}
