//! A chain of LSTM nodes as one LSTM.

use std::collections::HashSet;

use burn::module::ParamId;
use burn::tensor::{DType, Device, TensorCreationOptions};

use crate::config::{CellConfig, LayerConnection, ScratchLstmConfig};
use crate::lstm::ScratchLstm;
use crate::random::Key;
use crate::state::LstmState;

use super::super::error::WeightsError;
use super::chain::{self, Outputs};
use super::file::OnnxFile;
use super::node::{self, OnnxDirection, OnnxLstm, OnnxState, sequence_of};

/// What the LSTM nodes of an ONNX file do not say, and how many of them are taken.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// Whether input and output are `[B, T, _]`; true by default, as everywhere in this crate. The
    /// nodes themselves are time first almost always, with a Transpose before and after the first
    /// and the last of them.
    pub batch_first: bool,
    /// How many nodes to take as layers; as many as read each other's outputs if absent.
    pub layers: Option<usize>,
    /// Dropout between layers; 0 by default.
    pub dropout: f64,
    /// Element type of the module; the device's default (f32 unless configured otherwise) if
    /// absent.
    pub dtype: Option<DType>,
    /// Where parameter identities come from; ones that nobody can repeat if absent.
    pub key: Option<Key>,
}

impl Default for OnnxOptions {
    fn default() -> Self {
        Self {
            batch_first: true,
            layers: None,
            dropout: 0.0,
            dtype: None,
            key: None,
        }
    }
}

impl OnnxFile {
    /// The LSTM that begins at a node, or, without a name, at the only node that reads no other
    /// LSTM's outputs: its layers are that node and those that follow it through nodes that only
    /// rearrange (Transpose, Reshape, Squeeze, Unsqueeze, Identity, and Dropout). Connections of
    /// layers are recognized where they are as in the models that are written here: an Add of what
    /// each layer but the first reads, or a Concat with the input of the stack.
    ///
    /// The module computes what the nodes compute, on `[B, T, D]` or `[T, B, D]` as `options` have
    /// it. What it begins with and lengths come with each call, as everywhere in this crate:
    /// [`initial_state`](Self::initial_state) has what a file says of the one,
    /// [`describe`](Self::describe) whether there are the others. For a row of length 0 the final
    /// state is the initial one here, and zero in ONNX Runtime.
    ///
    /// # Errors
    ///
    /// If there is no such node, or several to begin with; if a node has settings that no LSTM of
    /// this crate has, or the nodes differ in their settings; if weights are no constants, have
    /// other shapes than their node implies, or are not in this file.
    pub fn lstm(
        &self,
        node: Option<&str>,
        options: &OnnxOptions,
        device: &Device,
    ) -> Result<ScratchLstm, WeightsError> {
        let stack = self.stack(node, options.layers)?;
        let config = stack
            .config()
            .with_batch_first(options.batch_first)
            .with_dropout(options.dropout);
        config.validate()?;
        self.check_numbers(config.num_parameters())?;
        let creation = creation(options, device);
        let mut weights = Vec::new();
        for (index, layer) in &stack.layers {
            weights.extend(self.cells(*index, layer, &config, &creation)?);
        }
        let key = options.key.clone().unwrap_or_else(|| {
            let path = ParamId::new();
            Key::new(0).child(path)
        });
        ScratchLstm::from_weights(&config, weights, &key)
    }

    /// The nodes that [`lstm`](Self::lstm) takes, from the input upwards.
    ///
    /// # Errors
    ///
    /// If there is no such node, or several to begin with, or one of them cannot be described.
    pub fn layers(
        &self,
        node: Option<&str>,
        options: &OnnxOptions,
    ) -> Result<Vec<OnnxLstm>, WeightsError> {
        let chain = self.chain(node, options.layers)?;
        Ok(chain.layers.into_iter().map(|(_, layer)| layer).collect())
    }

    /// What the nodes that [`lstm`](Self::lstm) takes begin with, `[L*K, B, H]`, if it is in the
    /// file: `None` if they begin with zeros or with what a call brings. `B` is the file's.
    ///
    /// # Errors
    ///
    /// Where [`lstm`](Self::lstm) has one for the nodes, and if only some of them, or of the two
    /// tensors, are in the file.
    pub fn initial_state(
        &self,
        node: Option<&str>,
        options: &OnnxOptions,
        device: &Device,
    ) -> Result<Option<LstmState>, WeightsError> {
        let stack = self.stack(node, options.layers)?;
        let states = stack.layers.iter().flat_map(|(index, layer)| {
            let states = node::states(&self.graph, &self.graph.nodes[*index]);
            states.map(|state| (&layer.name, state))
        });
        let states: Vec<_> = states.collect();
        if states
            .iter()
            .all(|(_, state)| *state != OnnxState::Constant)
        {
            return Ok(None);
        }
        let given = states.iter().find(|(_, state)| *state == OnnxState::Given);
        if let Some((name, _)) = given {
            return Err(WeightsError::Setting {
                name: format!("initial state of \"{name}\""),
                expected: "constants, as there are some, or zeros".into(),
                found: "one that a call brings or that is computed".into(),
            });
        }
        let creation = creation(options, device);
        self.states(&stack.layers, &creation).map(Some)
    }

    /// The nodes of a stack, which fit each other.
    fn stack(&self, node: Option<&str>, count: Option<usize>) -> Result<Stack, WeightsError> {
        let chain = self.chain(node, count)?;
        let mut problems = differences(&chain.layers);
        let connection = chain.connection();
        if connection.is_none() {
            problems.push("layers that are connected in different ways".into());
        }
        match connection {
            Some(connection) if problems.is_empty() => Ok(Stack {
                layers: chain.layers,
                connection,
            }),
            _ => Err(WeightsError::Unsupported {
                name: format!(
                    "{}: the stack of {} from the LSTM node \"{}\" on",
                    self.path().display(),
                    chain.layers.len(),
                    chain.layers[0].1.name
                ),
                found: problems,
            }),
        }
    }

    /// The nodes from `node` upwards: `count` of them, or as far as they go.
    fn chain(&self, node: Option<&str>, count: Option<usize>) -> Result<Chain, WeightsError> {
        if count == Some(0) {
            return Err(WeightsError::Setting {
                name: "layers".into(),
                expected: "at least 1".into(),
                found: "0".into(),
            });
        }
        let first = match node {
            Some(name) => self.find(name)?,
            None => self.only_first()?,
        };
        let input = sequence_of(&self.graph.nodes[first]).unwrap_or_default();
        let mut chain = Chain {
            layers: vec![(first, self.described(first)?)],
            steps: Vec::new(),
            is_last_added_to: false,
        };
        loop {
            let (index, layer) = &chain.layers[chain.layers.len() - 1];
            let above = chain::follow(&self.graph, *index, outputs(layer, Some(input)));
            chain.is_last_added_to = above.is_added_to;
            match above.readers[..] {
                [(next, step)] if count.is_none_or(|count| chain.layers.len() < count) => {
                    chain.layers.push((next, self.described(next)?));
                    chain.steps.push(step);
                }
                _ => break,
            }
        }
        match count {
            Some(count) if chain.layers.len() < count => Err(WeightsError::Setting {
                name: format!(
                    "layers from the LSTM node \"{}\" on",
                    chain.layers[0].1.name
                ),
                expected: count.to_string(),
                found: format!("{} that read each other's outputs", chain.layers.len()),
            }),
            _ => Ok(chain),
        }
    }

    /// The only LSTM node that reads no other's outputs.
    fn only_first(&self) -> Result<usize, WeightsError> {
        let mut above = HashSet::new();
        for index in self.nodes() {
            // One that cannot be described may be one that is not meant.
            if let Ok(layer) = self.described(index) {
                let found = chain::follow(&self.graph, index, outputs(&layer, None));
                above.extend(found.readers.into_iter().map(|(reader, _)| reader));
            }
        }
        let mut first = self.nodes().filter(|index| !above.contains(index));
        match (first.next(), first.next()) {
            (Some(index), None) => Ok(index),
            (None, _) => Err(self.no_node("an LSTM node")),
            _ => Err(self.no_node("one LSTM node to begin with, or the name of one")),
        }
    }
}

/// LSTM nodes that read each other's outputs.
struct Chain {
    /// By their places in the graph, from the input upwards.
    layers: Vec<(usize, OnnxLstm)>,
    /// What lies between each of them and the next.
    steps: Vec<LayerConnection>,
    /// Whether what the last one reads is added to its outputs.
    is_last_added_to: bool,
}

impl Chain {
    /// How the layers of an LSTM are connected that is these nodes; `None` if there is none.
    fn connection(&self) -> Option<LayerConnection> {
        use LayerConnection::{Plain, Residual, Skip};
        let [first, above @ ..] = &self.steps[..] else {
            return Some(Plain);
        };
        let all = |step| above.iter().all(|&other| other == step);
        match first {
            Skip if all(Skip) => Some(Skip),
            // The first layer reads what is of another width, as a rule, and adds nothing.
            Plain if all(Residual) && self.is_last_added_to => Some(Residual),
            Plain if all(Plain) => Some(Plain),
            _ => None,
        }
    }
}

/// The nodes of a stack by their places in the graph, from the input upwards.
struct Stack {
    layers: Vec<(usize, OnnxLstm)>,
    connection: LayerConnection,
}

impl Stack {
    /// The settings of all of them.
    fn config(&self) -> ScratchLstmConfig {
        let (_, first) = &self.layers[0];
        let any = |of: fn(&OnnxLstm) -> bool| self.layers.iter().any(|(_, layer)| of(layer));
        let mut config = ScratchLstmConfig::new(first.d_input, first.d_hidden)
            .with_num_layers(self.layers.len())
            .with_bidirectional(first.direction == OnnxDirection::Bidirectional)
            .with_connection(self.connection)
            .with_bias(any(|layer| layer.bias));
        config.cell = CellConfig {
            peepholes: any(|layer| layer.cell.peepholes),
            ..first.cell.clone()
        };
        config
    }
}

/// What keeps these nodes from being the layers of one LSTM.
fn differences(layers: &[(usize, OnnxLstm)]) -> Vec<String> {
    let (_, first) = &layers[0];
    let mut problems = Vec::new();
    for (place, (_, layer)) in layers.iter().enumerate() {
        let name = &layer.name;
        if layer.direction == OnnxDirection::Reverse {
            problems.push(format!("\"{name}\" runs in reverse alone"));
        }
        if place == 0 {
            continue;
        }
        let mut differ = |what: &str| {
            let first = &first.name;
            problems.push(format!("\"{name}\" has another {what} than \"{first}\""));
        };
        if layer.d_hidden != first.d_hidden {
            differ("hidden_size");
        }
        if layer.direction != first.direction {
            differ("direction");
        }
        if layer.lengths != first.lengths {
            differ("use of sequence_lens");
        }
        // Peepholes that are missing are zeros.
        let peepholes = first.cell.peepholes;
        if (CellConfig {
            peepholes,
            ..layer.cell.clone()
        }) != first.cell
        {
            differ("input_forget, clip or activations");
        }
    }
    problems
}

fn outputs<'a>(layer: &OnnxLstm, stack_input: Option<&'a str>) -> Outputs<'a> {
    Outputs {
        directions: layer.direction.count(),
        d_hidden: layer.d_hidden,
        batch_first: layer.batch_first,
        stack_input,
    }
}

fn creation(options: &OnnxOptions, device: &Device) -> TensorCreationOptions {
    TensorCreationOptions {
        device: device.clone(),
        dtype: options.dtype,
    }
}
