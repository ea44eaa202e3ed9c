//! The tensors of LSTM nodes by their names: where weights come from, and where they go.

use burn::tensor::DType;

use crate::lstm::ScratchLstm;

use super::super::error::WeightsError;
use super::cells::to_node;
use super::file::OnnxFile;
use super::node::Input;
use super::tensor::{self, Unreadable};

/// A tensor of an LSTM node.
pub(in crate::weights) struct NodeTensor {
    /// ONNX's name of the input: `W`, `R`, `B` or `P`.
    pub(in crate::weights) input: &'static str,
    pub(in crate::weights) name: String,
    pub(in crate::weights) shape: Vec<usize>,
    pub(in crate::weights) dtype: DType,
}

/// The inputs that hold weights.
const WEIGHTS: [Input; 4] = [
    Input::Weights,
    Input::Recurrence,
    Input::Bias,
    Input::Peepholes,
];

impl OnnxFile {
    /// The names of all tensors whose numbers are in the file, sorted.
    pub(in crate::weights) fn tensors(&self) -> Vec<String> {
        let mut names: Vec<String> = self.graph.constants().map(str::to_string).collect();
        names.sort();
        names
    }

    /// The shape and the element type of a tensor; `None` if there is none of that name, or its
    /// shape is none.
    pub(in crate::weights) fn tensor(&self, name: &str) -> Option<(Vec<usize>, String)> {
        let found = self.graph.constant(name)?;
        let shape = tensor::shape(found).ok()?;
        let dtype = match tensor::float_type(found) {
            Ok(dtype) => format!("{dtype:?}"),
            Err(Unreadable::Elements(other) | Unreadable::Damaged(other)) => other,
        };
        Some((shape, dtype))
    }

    /// The weights of an LSTM node that are in the file.
    pub(in crate::weights) fn node_tensors(
        &self,
        node: &str,
    ) -> Result<Vec<NodeTensor>, WeightsError> {
        let node = self.find(node)?;
        let found = WEIGHTS.into_iter().filter_map(|input| {
            let name = input.of(&self.graph.nodes[node])?;
            let found = self.graph.constant(name)?;
            Some(NodeTensor {
                input: input.name(),
                name: name.into(),
                shape: tensor::shape(found).ok()?,
                dtype: tensor::float_type(found).ok()?,
            })
        });
        Ok(found.collect())
    }
}

/// The weights of the nodes that an LSTM is written as, layer by layer.
pub(in crate::weights) fn layers(lstm: &ScratchLstm) -> Vec<Vec<NodeTensor>> {
    let layers = lstm.layers.iter().enumerate();
    let tensors = layers.map(|(index, layer)| {
        let cells = layer.directions().map(|(_, cell)| cell.weights());
        let tensors = to_node(&cells.collect::<Vec<_>>()).into_iter();
        let tensors = tensors.map(|(input, data)| NodeTensor {
            input: input.name(),
            name: tensor_name(index, input),
            shape: data.shape().to_vec(),
            dtype: data.dtype(),
        });
        tensors.collect()
    });
    tensors.collect()
}

/// What the tensor of a layer is called in the models that are written here.
pub(super) fn tensor_name(layer: usize, input: Input) -> String {
    format!("layers.{layer}.{}", input.name())
}
