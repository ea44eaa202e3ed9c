//! A trained LSTM step by step, for generation and online forecasting.

use burn::tensor::{Device, Tensor, TensorData};
use scratch_lstm_kernels::{Activations, InstructionSet, LayerNorm, Stream, StreamCell};

use crate::cell::{CellWeights, LayerNormWeights, ScratchLstmCell};
use crate::config::{CellConfig, LAYER_NORM_EPSILON, LayerConnection, ScratchLstmConfig};
use crate::error::StreamError;
use crate::lstm::ScratchLstm;
use crate::state::LstmState;

/// A trained LSTM that takes one step of one sequence at a time, on the CPU in f32.
///
/// It owns a copy of the weights, packed for the processor, and its state. A step allocates
/// nothing, and takes close to the time of reading the weights once.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::Device;
/// use scratch_lstm::ScratchLstmConfig;
///
/// let lstm = ScratchLstmConfig::new(5, 11).with_num_layers(2).init(&Device::flex());
/// let mut stream = lstm.stream();
/// let mut output = [0.0; 11];
/// for _ in 0..3 {
///     stream.step(&[0.1, 0.2, 0.3, 0.4, 0.5], &mut output); // [D] to [H]
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LstmStream {
    /// From the input upwards.
    layers: Vec<Layer>,
    connection: LayerConnection,
    /// The state in which a sequence starts, of each layer.
    initial: Vec<[Vec<f32>; 2]>,
}

/// A layer, and what it reads and shows where it is connected to more than the one below.
#[derive(Debug, Clone)]
struct Layer {
    stream: Stream,
    read: Vec<f32>,
    shown: Vec<f32>,
}

impl ScratchLstm {
    /// This LSTM step by step, as a sequence starts, whatever device its weights are on.
    ///
    /// # Panics
    ///
    /// Where [`try_stream`](Self::try_stream) has an error.
    pub fn stream(&self) -> LstmStream {
        self.try_stream().unwrap_or_else(|error| panic!("{error}"))
    }

    /// This LSTM step by step, as a sequence starts, whatever device its weights are on. Weights of
    /// another float type are rounded to f32. Nothing is dropped out, and zoneout is what it is
    /// outside of training.
    ///
    /// # Errors
    ///
    /// If it is bidirectional, so that its output depends on steps that are yet to come; or if the
    /// environment asks for an instruction set that the processor has not.
    pub fn try_stream(&self) -> Result<LstmStream, StreamError> {
        let config = self.config();
        if config.bidirectional {
            return Err(StreamError::Bidirectional);
        }
        let set = InstructionSet::chosen().map_err(StreamError::InstructionSet)?;
        let layers = self.cells().map(|cell| {
            let stream = stream_of(cell, config, set);
            Layer {
                read: vec![0.0; stream.d_input()],
                shown: vec![0.0; stream.d_output()],
                stream,
            }
        });
        let initial = self.cells().map(|cell| {
            let LstmState { hidden, cell } = cell.initial_state(1);
            [numbers(hidden), numbers(cell)]
        });
        let mut stream = LstmStream {
            layers: layers.collect(),
            connection: config.connection,
            initial: initial.collect(),
        };
        stream.reset();
        Ok(stream)
    }
}

impl LstmStream {
    /// `D`, the width of the input.
    pub fn d_input(&self) -> usize {
        self.layers[0].stream.d_input()
    }

    /// `H`, the width of the cell state.
    pub fn d_hidden(&self) -> usize {
        self.layers[0].stream.d_hidden()
    }

    /// `P`, the width of the hidden state and of the output: `H` without a projection.
    pub fn d_output(&self) -> usize {
        self.layers[0].stream.d_output()
    }

    /// Bytes of the packed weights: what a step has to read.
    pub fn weight_bytes(&self) -> usize {
        let layers = self.layers.iter();
        layers.map(|layer| layer.stream.weight_bytes()).sum()
    }

    /// One step: `input [D]` to `output [P]`, what the last layer shows.
    ///
    /// # Panics
    ///
    /// Where [`try_step`](Self::try_step) has an error.
    pub fn step(&mut self, input: &[f32], output: &mut [f32]) {
        self.try_step(input, output)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// One step: `input [D]` to `output [P]`, what the last layer shows.
    ///
    /// # Errors
    ///
    /// If input or output are of another length; the state is as it was then.
    pub fn try_step(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), StreamError> {
        check("input", input.len(), self.d_input())?;
        check("output", output.len(), self.d_output())?;
        let (first, above) = self.layers.split_first_mut().expect("at least one layer");
        first.shown.copy_from_slice(first.stream.step(input));
        let mut below = &first.shown;
        for layer in above {
            layer.step(self.connection, below, input);
            below = &layer.shown;
        }
        output.copy_from_slice(below);
        Ok(())
    }

    /// Back to the state in which a sequence starts.
    pub fn reset(&mut self) {
        for (layer, [hidden, cell]) in self.layers.iter_mut().zip(&self.initial) {
            layer.stream.set_state(hidden, cell);
        }
    }

    /// The state as the module has it, `[L, 1, P]` and `[L, 1, H]`, on `device`.
    pub fn state(&self, device: &Device) -> LstmState {
        let tensor = |of_layer: fn(&Stream) -> &[f32], width: usize| {
            let layers = self.layers.iter();
            let numbers = layers.flat_map(|layer| of_layer(&layer.stream));
            let numbers: Vec<f32> = numbers.copied().collect();
            let shape = [self.layers.len(), 1, width];
            Tensor::from_data(TensorData::new(numbers, shape), device)
        };
        LstmState {
            hidden: tensor(Stream::hidden, self.d_output()),
            cell: tensor(Stream::cell, self.d_hidden()),
        }
    }

    /// Goes on from `state`, `[L, 1, P]` and `[L, 1, H]`.
    ///
    /// # Panics
    ///
    /// Where [`try_set_state`](Self::try_set_state) has an error.
    pub fn set_state(&mut self, state: &LstmState) {
        self.try_set_state(state)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Goes on from `state`, `[L, 1, P]` and `[L, 1, H]`.
    ///
    /// # Errors
    ///
    /// If it is of another shape; the state is as it was then.
    pub fn try_set_state(&mut self, state: &LstmState) -> Result<(), StreamError> {
        let (d_output, d_hidden) = (self.d_output(), self.d_hidden());
        for (what, tensor, width) in [
            ("state.hidden", &state.hidden, d_output),
            ("state.cell", &state.cell, d_hidden),
        ] {
            let expected = [self.layers.len(), 1, width];
            if tensor.dims() != expected {
                return Err(StreamError::State {
                    what,
                    expected,
                    found: tensor.dims(),
                });
            }
        }
        let (hidden, cell) = (numbers(state.hidden.clone()), numbers(state.cell.clone()));
        let states = hidden.chunks(d_output).zip(cell.chunks(d_hidden));
        for (layer, (hidden, cell)) in self.layers.iter_mut().zip(states) {
            layer.stream.set_state(hidden, cell);
        }
        Ok(())
    }
}

impl Layer {
    /// One step of a layer above the first: `below` is what the layer below it shows, `input` that
    /// of the stack.
    fn step(&mut self, connection: LayerConnection, below: &[f32], input: &[f32]) {
        let (on_below, on_input) = self.read.split_at_mut(below.len());
        on_below.copy_from_slice(below);
        if connection == LayerConnection::Skip {
            on_input.copy_from_slice(input);
        }
        self.shown.copy_from_slice(self.stream.step(&self.read));
        if connection == LayerConnection::Residual {
            for (shown, below) in self.shown.iter_mut().zip(below) {
                *shown += below;
            }
        }
    }
}

/// A layer's cell step by step.
fn stream_of(cell: &ScratchLstmCell, config: &ScratchLstmConfig, set: InstructionSet) -> Stream {
    let sizes = [cell.d_input(), cell.d_hidden(), cell.d_state()];
    let CellWeights {
        weight_ih,
        weight_hh,
        bias,
        weight_hr,
        peephole,
        layer_norm,
    } = cell.weights();
    let bias = match bias {
        Some(bias) => numbers(bias),
        None => vec![0.0; weight_hh.dims()[0]],
    };
    let (weight_ih, weight_hh) = (numbers(weight_ih), numbers(weight_hh));
    let (weight_hr, peephole) = (weight_hr.map(numbers), peephole.map(numbers));
    let layer_norm = layer_norm.map(|norm| {
        let LayerNormWeights {
            input,
            hidden,
            cell,
            cell_bias,
        } = norm;
        [input, hidden, cell, cell_bias].map(numbers)
    });
    let CellConfig {
        coupled,
        clip_gates,
        clip_cell,
        activations,
        ..
    } = *cell.config();
    let regularization = &config.regularization;
    let kept = |rate: f64| (rate > 0.0).then_some(rate as f32);
    let cell = StreamCell {
        weight_hr: weight_hr.as_deref(),
        peephole: peephole.as_deref(),
        coupled,
        clip_gates: clip_gates.map(|bound| bound as f32),
        clip_cell: clip_cell.map(|bound| bound as f32),
        layer_norm: layer_norm
            .as_ref()
            .map(|[input, hidden, cell, cell_bias]| LayerNorm {
                input,
                hidden,
                cell,
                cell_bias,
                epsilon: LAYER_NORM_EPSILON as f32,
            }),
        zoneout_hidden: kept(regularization.zoneout_hidden),
        zoneout_cell: kept(regularization.zoneout_cell),
        activations: (activations != Activations::default()).then_some(activations),
    };
    Stream::new(set, sizes, &weight_ih, &weight_hh, &bias, cell)
}

fn check(what: &'static str, found: usize, expected: usize) -> Result<(), StreamError> {
    if found == expected {
        Ok(())
    } else {
        Err(StreamError::Length {
            what,
            expected,
            found,
        })
    }
}

fn numbers<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
