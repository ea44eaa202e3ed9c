//! A [`ScratchLstm`] as an ONNX model: one LSTM node for each layer, and what it takes around them.
//!
//! Inside the graph everything is time first, `[T, B, _]`. The outputs of a node, `[T, K, B, H]`,
//! become `[T, B, K*H]` by a Squeeze, or with two directions by a Transpose and a Reshape.

use std::path::Path;

use burn::tensor::{DType, TensorData};

use crate::cell::CellWeights;
use crate::config::{LayerConnection, ScratchLstmConfig};
use crate::lstm::ScratchLstm;
use crate::state::LstmState;

use super::super::disk;
use super::super::error::WeightsError;
use super::super::expressible::Abilities;
use super::activations::{self, Listed};
use super::builder::{self, Builder, Size};
use super::cells::to_node;
use super::node::Input;
use super::parts::tensor_name;
use super::proto;
use super::tensor::element_of;

/// What a model that is written takes as inputs, besides `input`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxExport {
    /// Whether the state to begin with is `h_0`, `c_0`, both `[L*K, B, H]`; true by default.
    /// Without them every sequence starts as it does here without a state: with zeros, or with the
    /// state that was learned.
    pub states: bool,
    /// Whether there is an input `lengths` `[B]` of 32-bit whole numbers, the valid steps of each
    /// row; false by default.
    pub lengths: bool,
}

impl Default for OnnxExport {
    fn default() -> Self {
        Self {
            states: true,
            lengths: false,
        }
    }
}

impl ScratchLstm {
    /// An ONNX model that computes what [`forward`](Self::forward) does outside of training.
    ///
    /// | | | shape |
    /// |---|---|---|
    /// | input | `input` | `[B, T, D]`, or `[T, B, D]` without `batch_first` |
    /// | inputs, if `options` have them | `h_0`, `c_0` | `[L*K, B, H]` |
    /// | | `lengths` | `[B]` |
    /// | outputs | `output` | `[B, T, K*H]`, or `[T, B, K*H]` |
    /// | | `h_n`, `c_n` | `[L*K, B, H]` |
    ///
    /// `B` and `T` are whatever a call brings. The weights keep their element type; numbers among
    /// the settings (bounds, parameters of activation functions) are rounded to 32 bits, as the
    /// format has them. A state that was learned stands in for `h_0` and `c_0` where a call does
    /// not bring them. A row of length 0 ends with its initial state here, and with zeros in ONNX
    /// Runtime.
    ///
    /// # Errors
    ///
    /// If there is something in the settings that ONNX has not (all of it is named): a projection,
    /// layer normalization, a bound of the cell state, zoneout, independent stacks of two
    /// directions; if the weights are neither f32 nor f64 nor f16.
    pub fn to_onnx(&self, options: &OnnxExport) -> Result<Vec<u8>, WeightsError> {
        check_expressible(self.config())?;
        let dtype = self.layers[0].forward.weight_hh.val().dtype();
        let mut export = Export {
            lstm: self,
            options,
            builder: Builder::default(),
            element: element_of(dtype).ok_or_else(|| unknown_type("weights", dtype))?,
        };
        export.write()?;
        Ok(export.builder.finish("lstm"))
    }

    /// Writes [`to_onnx`](Self::to_onnx) as a file. A file at `path` is replaced only once the new
    /// one is complete and on disk.
    ///
    /// # Errors
    ///
    /// Where [`to_onnx`](Self::to_onnx) has one, and if the file cannot be written.
    pub fn save_onnx(
        &self,
        path: impl AsRef<Path>,
        options: &OnnxExport,
    ) -> Result<(), WeightsError> {
        disk::replace(path.as_ref(), &self.to_onnx(options)?)
    }
}

const INPUT: &str = "input";
const OUTPUT: &str = "output";
const LENGTHS: &str = "lengths";
const BATCH: Size = Size::Named("batch");
const TIME: Size = Size::Named("time");
/// Initial and final states: the hidden one, the cell.
const INITIAL: [&str; 2] = ["h_0", "c_0"];
const FINAL: [&str; 2] = ["h_n", "c_n"];

/// A model that is being written.
struct Export<'a> {
    lstm: &'a ScratchLstm,
    options: &'a OnnxExport,
    builder: Builder,
    /// The element type of weights and inputs.
    element: i32,
}

impl Export<'_> {
    fn write(&mut self) -> Result<(), WeightsError> {
        let config = self.lstm.config();
        self.interface(config);
        let mut steps = INPUT;
        if config.batch_first {
            steps = "steps";
            self.transposed(INPUT, steps, &[1, 0, 2]);
        }
        let begin = self.begin(config)?;
        self.constants(config);
        let mut below = steps.to_string();
        for layer in 0..config.num_layers {
            let mut read = below.clone();
            if layer > 0 && config.connection == LayerConnection::Skip {
                read = format!("read.{layer}");
                let axis = [builder::int("axis", 2)];
                let parts = [below.as_str(), steps];
                let node = format!("skip.{layer}");
                self.builder.node(&node, "Concat", &parts, &[&read], &axis);
            }
            self.layer(layer, &read, begin.as_deref())?;
            let is_residual = layer > 0 && config.connection == LayerConnection::Residual;
            let is_last = layer + 1 == config.num_layers;
            let shown = match is_last && !is_residual && !config.batch_first {
                true => OUTPUT.into(),
                false => format!("hidden.{layer}"),
            };
            self.join_directions(config, layer, &shown);
            below = shown;
            if is_residual {
                let sum = match is_last && !config.batch_first {
                    true => OUTPUT.into(),
                    false => format!("sum.{layer}"),
                };
                let parts = [below.as_str(), read.as_str()];
                let node = format!("residual.{layer}");
                self.builder.node(&node, "Add", &parts, &[&sum], &[]);
                below = sum;
            }
        }
        if config.batch_first {
            self.transposed(&below, OUTPUT, &[1, 0, 2]);
        }
        self.end(config);
        Ok(())
    }

    /// The inputs and outputs of the graph.
    fn interface(&mut self, config: &ScratchLstmConfig) {
        let series = |width| match config.batch_first {
            true => [BATCH, TIME, Size::Fixed(width)],
            false => [TIME, BATCH, Size::Fixed(width)],
        };
        let state = [
            Size::Fixed(config.num_layers * config.num_directions()),
            BATCH,
            Size::Fixed(config.d_hidden),
        ];
        let Self {
            builder, element, ..
        } = self;
        builder.input(INPUT, *element, &series(config.d_input));
        if self.options.states {
            for name in INITIAL {
                builder.input(name, *element, &state);
            }
        }
        if self.options.lengths {
            builder.input(LENGTHS, builder::LENGTHS, &[BATCH]);
        }
        builder.output(OUTPUT, *element, &series(config.d_output()));
        for name in FINAL {
            builder.output(name, *element, &state);
        }
    }

    /// Numbers that several nodes read.
    fn constants(&mut self, config: &ScratchLstmConfig) {
        match config.num_directions() {
            1 => self.builder.ints("directions", &[1]),
            // Time and batch as they are, all else side by side.
            _ => self.builder.ints("joined", &[0, 0, -1]),
        }
    }

    /// The nodes up to the initial states of each layer, which are named for the two tensors and
    /// the layer; `None` if they are zeros.
    fn begin(
        &mut self,
        config: &ScratchLstmConfig,
    ) -> Result<Option<Vec<[String; 2]>>, WeightsError> {
        let learned = self.learned(config)?;
        if !learned && !self.options.states {
            return Ok(None);
        }
        let mut whole = INITIAL.map(String::from);
        if learned {
            // One row for all, or as many as a call brings: the batch's in both cases.
            let batch = match config.batch_first {
                true => 0,
                false => 1,
            };
            let range = [builder::int("start", batch), builder::int("end", batch + 1)];
            let builder = &mut self.builder;
            builder.node("rows", "Shape", &[INPUT], &["rows"], &range);
            builder.ints("one", &[1]);
            let axis = [builder::int("axis", 0)];
            builder.node(
                "row_shape",
                "Concat",
                &["one", "rows", "one"],
                &["row_shape"],
                &axis,
            );
            for name in &mut whole {
                let expanded = format!("{name}.rows");
                let inputs = [name.as_str(), "row_shape"];
                builder.node(&expanded, "Expand", &inputs, &[&expanded], &[]);
                *name = expanded;
            }
        }
        let layers = config.num_layers;
        if layers == 1 {
            return Ok(Some(vec![whole]));
        }
        let sizes = vec![config.num_directions() as i64; layers];
        self.builder.ints("state_sizes", &sizes);
        let axis = [builder::int("axis", 0)];
        for (name, whole) in INITIAL.iter().zip(&whole) {
            let parts: Vec<String> = (0..layers).map(|layer| format!("{name}.{layer}")).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let node = format!("{name}.split");
            self.builder
                .node(&node, "Split", &[whole, "state_sizes"], &parts, &axis);
        }
        let of_layer = |layer| INITIAL.map(|name| format!("{name}.{layer}"));
        Ok(Some((0..layers).map(of_layer).collect()))
    }

    /// The state that was learned, `[L*K, 1, H]`, as what `h_0` and `c_0` are unless a call brings
    /// them; whether there is one.
    fn learned(&mut self, config: &ScratchLstmConfig) -> Result<bool, WeightsError> {
        if !config.learned_state {
            return Ok(false);
        }
        let states = self.lstm.cells().map(|cell| cell.initial_state(1));
        let states = LstmState::stack(states.collect());
        for (name, tensor) in INITIAL.iter().zip([states.hidden, states.cell]) {
            self.floats(name, &tensor.into_data())?;
        }
        Ok(true)
    }

    /// The node of a layer: from `read` `[T, B, _]` to `Y` `[T, K, B, H]` and the final states.
    fn layer(
        &mut self,
        layer: usize,
        read: &str,
        begin: Option<&[[String; 2]]>,
    ) -> Result<(), WeightsError> {
        let config = self.lstm.config();
        let cells = self.lstm.layers[layer].directions();
        let weights: Vec<CellWeights> = cells.map(|(_, cell)| cell.weights()).collect();
        let mut inputs = vec![String::new(); Input::COUNT];
        inputs[0] = read.into();
        for (input, data) in to_node(&weights) {
            let name = tensor_name(layer, input);
            self.floats(&name, &data)?;
            inputs[input as usize] = name;
        }
        if self.options.lengths {
            inputs[Input::Lengths as usize] = LENGTHS.into();
        }
        if let Some(begin) = begin {
            let [hidden, cell] = begin[layer].clone();
            inputs[Input::Hidden as usize] = hidden;
            inputs[Input::Cell as usize] = cell;
        }
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        let [hidden, cell] = FINAL.map(|name| final_state(config, name, layer));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let outputs = [&outputs_of(layer), hidden.as_str(), &cell];
        let attributes = attributes(config);
        let node = format!("layers.{layer}");
        self.builder
            .node(&node, "LSTM", &inputs, &outputs, &attributes);
        Ok(())
    }

    /// From `Y` `[T, K, B, H]` of a layer to `shown` `[T, B, K*H]`.
    fn join_directions(&mut self, config: &ScratchLstmConfig, layer: usize, shown: &str) {
        let outputs = outputs_of(layer);
        let node = format!("join.{layer}");
        if config.num_directions() == 1 {
            let inputs = [outputs.as_str(), "directions"];
            self.builder.node(&node, "Squeeze", &inputs, &[shown], &[]);
            return;
        }
        let side_by_side = format!("side_by_side.{layer}");
        self.transposed(&outputs, &side_by_side, &[0, 2, 1, 3]);
        let inputs = [side_by_side.as_str(), "joined"];
        self.builder.node(&node, "Reshape", &inputs, &[shown], &[]);
    }

    /// The nodes that put the final states of the layers together.
    fn end(&mut self, config: &ScratchLstmConfig) {
        if config.num_layers == 1 {
            return;
        }
        for whole in FINAL {
            let parts: Vec<String> = (0..config.num_layers)
                .map(|layer| final_state(config, whole, layer))
                .collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let axis = [builder::int("axis", 0)];
            self.builder.node(whole, "Concat", &parts, &[whole], &axis);
        }
    }

    fn transposed(&mut self, from: &str, to: &str, order: &[i64]) {
        let order = [builder::ints("perm", order)];
        self.builder.node(to, "Transpose", &[from], &[to], &order);
    }

    fn floats(&mut self, name: &str, data: &TensorData) -> Result<(), WeightsError> {
        let put = self.builder.floats(name, data);
        put.map_err(|dtype| unknown_type(name, dtype))
    }
}

/// Of a layer, `[T, K, B, H]`.
fn outputs_of(layer: usize) -> String {
    format!("layers.{layer}.Y")
}

/// A final state of a layer: with one layer that of the graph.
fn final_state(config: &ScratchLstmConfig, whole: &str, layer: usize) -> String {
    match config.num_layers {
        1 => whole.into(),
        _ => format!("{whole}.{layer}"),
    }
}

/// The settings of a node, those that are not ONNX's defaults.
fn attributes(config: &ScratchLstmConfig) -> Vec<proto::Attribute> {
    let cell = &config.cell;
    let mut attributes = vec![builder::int("hidden_size", config.d_hidden as i64)];
    if config.bidirectional {
        attributes.push(builder::string("direction", "bidirectional"));
    }
    if cell.coupled {
        attributes.push(builder::int("input_forget", 1));
    }
    if let Some(bound) = cell.clip_gates {
        attributes.push(builder::float("clip", bound as f32));
    }
    let Listed {
        names,
        alphas,
        betas,
    } = activations::export(cell.activations, config.num_directions());
    if !names.is_empty() {
        attributes.push(builder::strings("activations", names));
    }
    for (name, numbers) in [("activation_alpha", alphas), ("activation_beta", betas)] {
        if !numbers.is_empty() {
            attributes.push(builder::floats(name, numbers));
        }
    }
    attributes
}

/// What ONNX's operators have.
const ONNX: Abilities = Abilities {
    connection: true,
    learned_state: true,
    peepholes: true,
    coupled: true,
    clip_gates: true,
    activations: |_| true,
    ..Abilities::plain("ONNX")
};

/// That ONNX's operators have all of these settings.
fn check_expressible(config: &ScratchLstmConfig) -> Result<(), WeightsError> {
    ONNX.check(config)?;
    match config.cell.clip_gates {
        Some(bound) if !is_bound(bound as f32) => Err(WeightsError::Setting {
            name: "cell.clip_gates".into(),
            expected: "a bound that 32 bits have".into(),
            found: bound.to_string(),
        }),
        _ => Ok(()),
    }
}

fn is_bound(bound: f32) -> bool {
    bound.is_finite() && bound > 0.0
}

fn unknown_type(name: &str, dtype: DType) -> WeightsError {
    WeightsError::DType {
        name: name.into(),
        expected: "F32, F64 or F16".into(),
        found: format!("{dtype:?}"),
    }
}
