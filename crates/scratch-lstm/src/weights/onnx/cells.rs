//! The tensors of LSTM nodes: gates and peepholes in ONNX's orders, both directions in one tensor.

use burn::tensor::{Tensor, TensorCreationOptions, TensorData};

use crate::cell::CellWeights;
use crate::config::ScratchLstmConfig;
use crate::gates::COUNT;
use crate::state::LstmState;

use super::super::error::WeightsError;
use super::super::order::GateOrder;
use super::super::shapes::check_dims;
use super::file::OnnxFile;
use super::node::{Input, OnnxLstm};
use super::tensor;

/// Sizes and names of the axes of a tensor.
type Axes<const R: usize> = [(&'static str, usize); R];

impl OnnxFile {
    /// The weights of a node's directions. What `config` has and the node has not is zeros.
    pub(super) fn cells(
        &self,
        node: usize,
        layer: &OnnxLstm,
        config: &ScratchLstmConfig,
        creation: &TensorCreationOptions,
    ) -> Result<Vec<CellWeights>, WeightsError> {
        let (directions, d_hidden) = (("K", layer.direction.count()), layer.d_hidden);
        // The settings are valid: all of their parameters have been counted.
        let gates = ("4H", COUNT * d_hidden);
        let weight_ih = [directions, gates, ("D", layer.d_input)];
        let weight_ih = self.required(node, Input::Weights, weight_ih, creation)?;
        let weight_hh = [directions, gates, ("H", d_hidden)];
        let weight_hh = self.required(node, Input::Recurrence, weight_hh, creation)?;
        let bias = [directions, ("8H", 2 * COUNT * d_hidden)];
        let bias = self.optional(node, Input::Bias, bias, creation)?;
        let peephole = [directions, ("3H", 3 * d_hidden)];
        let peephole = self.optional(node, Input::Peepholes, peephole, creation)?;

        let zeros = |of: &Tensor<3>, count: usize| {
            Tensor::<1>::zeros([count * d_hidden], (&of.device(), of.dtype()))
        };
        let cells = (0..directions.1).map(|direction| {
            let bias = match &bias {
                Some(bias) => sum_of_biases(row(bias, direction)),
                None => zeros(&weight_ih, COUNT),
            };
            let peephole = match &peephole {
                Some(peephole) => reorder_peepholes(row(peephole, direction)),
                None => zeros(&weight_ih, PEEPHOLES),
            };
            CellWeights {
                weight_ih: GateOrder::IOFG.import(matrix(&weight_ih, direction), 0),
                weight_hh: GateOrder::IOFG.import(matrix(&weight_hh, direction), 0),
                bias: config.bias.then_some(bias),
                peephole: config.cell.peepholes.then_some(peephole),
                weight_hr: None,
                layer_norm: None,
            }
        });
        Ok(cells.collect())
    }

    /// What these nodes begin with, `[L*K, B, H]`; zeros where a node has no tensor in the file.
    pub(super) fn states(
        &self,
        layers: &[(usize, OnnxLstm)],
        creation: &TensorCreationOptions,
    ) -> Result<LstmState, WeightsError> {
        let rows = layers.iter().find_map(|(index, layer)| {
            let node = &self.graph.nodes[*index];
            let axis = if layer.batch_first { 0 } else { 1 };
            [Input::Hidden, Input::Cell].into_iter().find_map(|input| {
                let shape = tensor::shape(self.graph.constant(input.of(node)?)?).ok()?;
                shape.get(axis).copied()
            })
        });
        let rows = rows.unwrap_or(1);
        let numbers = layers.iter().try_fold(0usize, |sum, (_, layer)| {
            let width = layer.d_hidden.checked_mul(2 * layer.direction.count())?;
            sum.checked_add(width.checked_mul(rows)?)
        });
        self.check_numbers(numbers)?;
        let of_all = |input| -> Result<Tensor<3>, WeightsError> {
            let states = layers.iter().map(|(index, layer)| {
                let (directions, hidden) = (("K", layer.direction.count()), ("H", layer.d_hidden));
                if layer.batch_first {
                    let axes = [("B", rows), directions, hidden];
                    let state = self.state(*index, input, axes, creation)?;
                    return Ok(state.swap_dims(0, 1));
                }
                self.state(*index, input, [directions, ("B", rows), hidden], creation)
            });
            Ok(Tensor::cat(states.collect::<Result<_, WeightsError>>()?, 0))
        };
        Ok(LstmState {
            hidden: of_all(Input::Hidden)?,
            cell: of_all(Input::Cell)?,
        })
    }

    /// One of the tensors that a node begins with; zeros if it is not in the file.
    fn state(
        &self,
        node: usize,
        input: Input,
        axes: Axes<3>,
        creation: &TensorCreationOptions,
    ) -> Result<Tensor<3>, WeightsError> {
        match self.constant(node, input)? {
            Some(data) => float(&self.input_name(node, input), data, axes, creation),
            None => Ok(Tensor::zeros(axes.map(|(_, size)| size), creation.clone())),
        }
    }

    /// An input that must be in the file.
    fn required<const R: usize>(
        &self,
        node: usize,
        input: Input,
        axes: Axes<R>,
        creation: &TensorCreationOptions,
    ) -> Result<Tensor<R>, WeightsError> {
        let tensor = self.optional(node, input, axes, creation)?;
        tensor.ok_or_else(|| self.not_constant(node, input))
    }

    /// An input that a node may be without.
    fn optional<const R: usize>(
        &self,
        node: usize,
        input: Input,
        axes: Axes<R>,
        creation: &TensorCreationOptions,
    ) -> Result<Option<Tensor<R>>, WeightsError> {
        if input.of(&self.graph.nodes[node]).is_none() {
            return Ok(None);
        }
        match self.constant(node, input)? {
            Some(data) => float(&self.input_name(node, input), data, axes, creation).map(Some),
            None => Err(self.not_constant(node, input)),
        }
    }

    fn not_constant(&self, node: usize, input: Input) -> WeightsError {
        WeightsError::Unsupported {
            name: self.label(node),
            found: vec![format!("{} that is not in the file", input.name())],
        }
    }
}

/// The tensors of a node with these directions, as ONNX has them: `W [K, 4H, D]`, `R [K, 4H, H]`,
/// `B [K, 8H]` of the bias and zeros, `P [K, 3H]`.
pub(super) fn to_node(directions: &[CellWeights]) -> Vec<(Input, TensorData)> {
    let matrices = |of: fn(&CellWeights) -> &Tensor<2>| {
        let cells = directions.iter();
        let blocks = cells.map(|cell| GateOrder::IOFG.export(of(cell).clone(), 0));
        Tensor::stack::<3>(blocks.collect(), 0).into_data()
    };
    let rows = |of: fn(&CellWeights) -> Option<Tensor<1>>| {
        let rows: Option<Vec<Tensor<1>>> = directions.iter().map(of).collect();
        rows.map(|rows| Tensor::stack::<2>(rows, 0).into_data())
    };
    let bias = rows(|cell| {
        let bias = GateOrder::IOFG.export(cell.bias.clone()?, 0);
        Some(Tensor::cat(vec![bias.clone(), bias.zeros_like()], 0))
    });
    let peephole = rows(|cell| cell.peephole.clone().map(reorder_peepholes));
    let mut tensors = vec![
        (Input::Weights, matrices(|cell| &cell.weight_ih)),
        (Input::Recurrence, matrices(|cell| &cell.weight_hh)),
    ];
    tensors.extend(bias.map(|data| (Input::Bias, data)));
    tensors.extend(peephole.map(|data| (Input::Peepholes, data)));
    tensors
}

/// How many gates see the cell state through peepholes.
const PEEPHOLES: usize = 3;

/// `[3H]` from ONNX's order, input, output, forget, to ours, input, forget, output, or back: it is
/// the same exchange.
fn reorder_peepholes(joined: Tensor<1>) -> Tensor<1> {
    let [count] = joined.dims();
    let d_hidden = count / PEEPHOLES;
    let blocks = [0, 2, 1].map(|place| joined.clone().narrow(0, place * d_hidden, d_hidden));
    Tensor::cat(blocks.to_vec(), 0)
}

/// `[8H]`, the bias on the input and the one on the hidden state, to their sum in our order.
fn sum_of_biases(both: Tensor<1>) -> Tensor<1> {
    let [count] = both.dims();
    let half = count / 2;
    let sum = both.clone().narrow(0, 0, half) + both.narrow(0, half, half);
    GateOrder::IOFG.import(sum, 0)
}

fn matrix(all: &Tensor<3>, direction: usize) -> Tensor<2> {
    all.clone().narrow(0, direction, 1).squeeze_dim(0)
}

fn row(all: &Tensor<2>, direction: usize) -> Tensor<1> {
    all.clone().narrow(0, direction, 1).squeeze_dim(0)
}

/// Numbers of a file as a tensor of these axes, in the element type that is asked for.
fn float<const R: usize>(
    name: &str,
    data: TensorData,
    axes: Axes<R>,
    creation: &TensorCreationOptions,
) -> Result<Tensor<R>, WeightsError> {
    check_dims(name, data.shape(), &axes)?;
    let dtype = match creation.dtype {
        Some(dtype) => dtype,
        None => creation.device.settings().float_dtype.into(),
    };
    let unusable = |found: String| WeightsError::DType {
        name: name.into(),
        expected: format!("floats that {:?} supports", creation.device),
        found,
    };
    if !dtype.is_float() || !creation.device.supports_dtype(dtype) {
        return Err(unusable(format!("{dtype:?}")));
    }
    let data = data
        .try_cast(dtype)
        .map_err(|error| unusable(error.to_string()))?;
    Ok(Tensor::from_data(data, (&creation.device, dtype)))
}
