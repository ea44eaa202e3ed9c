//! A trained LSTM step by step, for generation and online forecasting.

use burn::tensor::{Device, Tensor, TensorData};
use scratch_lstm_kernels::{InstructionSet, Stream};

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
    layers: Vec<Stream>,
}

impl ScratchLstm {
    /// This LSTM step by step, in the zero state, whatever device its weights are on.
    ///
    /// # Panics
    ///
    /// Where [`try_stream`](Self::try_stream) has an error.
    pub fn stream(&self) -> LstmStream {
        self.try_stream().unwrap_or_else(|error| panic!("{error}"))
    }

    /// This LSTM step by step, in the zero state, whatever device its weights are on. Weights of
    /// another float type are rounded to f32. Nothing is dropped out.
    ///
    /// # Errors
    ///
    /// If it is bidirectional, so that its output depends on steps that are yet to come; or if the
    /// environment asks for an instruction set that the processor has not.
    pub fn try_stream(&self) -> Result<LstmStream, StreamError> {
        if self.config().bidirectional {
            return Err(StreamError::Bidirectional);
        }
        let set = InstructionSet::chosen().map_err(StreamError::InstructionSet)?;
        let layers = self.layers.iter().map(|layer| {
            let weights = layer.forward.weights();
            let sizes = [layer.forward.d_input(), layer.forward.d_hidden()];
            let bias = match weights.bias {
                Some(bias) => numbers(bias),
                None => vec![0.0; weights.weight_hh.dims()[0]],
            };
            let (weight_ih, weight_hh) = (numbers(weights.weight_ih), numbers(weights.weight_hh));
            Stream::new(set, sizes, &weight_ih, &weight_hh, &bias)
        });
        Ok(LstmStream {
            layers: layers.collect(),
        })
    }
}

impl LstmStream {
    /// `D`, the width of the input.
    pub fn d_input(&self) -> usize {
        self.layers[0].d_input()
    }

    /// `H`, the width of the output.
    pub fn d_hidden(&self) -> usize {
        self.layers[0].d_hidden()
    }

    /// Bytes of the packed weights: what a step has to read.
    pub fn weight_bytes(&self) -> usize {
        self.layers.iter().map(Stream::weight_bytes).sum()
    }

    /// One step: `input [D]` to `output [H]`, the last layer's hidden state.
    ///
    /// # Panics
    ///
    /// Where [`try_step`](Self::try_step) has an error.
    pub fn step(&mut self, input: &[f32], output: &mut [f32]) {
        self.try_step(input, output)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// One step: `input [D]` to `output [H]`, the last layer's hidden state.
    ///
    /// # Errors
    ///
    /// If input or output are of another length; the state is as it was then.
    pub fn try_step(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), StreamError> {
        check("input", input.len(), self.d_input())?;
        check("output", output.len(), self.d_hidden())?;
        self.layers[0].step(input);
        for layer in 1..self.layers.len() {
            let (below, above) = self.layers.split_at_mut(layer);
            above[0].step(below[layer - 1].hidden());
        }
        output.copy_from_slice(self.layers[self.layers.len() - 1].hidden());
        Ok(())
    }

    /// Back to the state in which a sequence starts.
    pub fn reset(&mut self) {
        let zeros = vec![0.0; self.d_hidden()];
        for layer in &mut self.layers {
            layer.set_state(&zeros, &zeros);
        }
    }

    /// The state as the module has it, `[L, 1, H]`, on `device`.
    pub fn state(&self, device: &Device) -> LstmState {
        let shape = [self.layers.len(), 1, self.d_hidden()];
        let tensor = |of_layer: fn(&Stream) -> &[f32]| {
            let numbers: Vec<f32> = self.layers.iter().flat_map(of_layer).copied().collect();
            Tensor::from_data(TensorData::new(numbers, shape), device)
        };
        LstmState {
            hidden: tensor(Stream::hidden),
            cell: tensor(Stream::cell),
        }
    }

    /// Goes on from `state`, `[L, 1, H]`.
    ///
    /// # Panics
    ///
    /// Where [`try_set_state`](Self::try_set_state) has an error.
    pub fn set_state(&mut self, state: &LstmState) {
        self.try_set_state(state)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Goes on from `state`, `[L, 1, H]`.
    ///
    /// # Errors
    ///
    /// If it is of another shape; the state is as it was then.
    pub fn try_set_state(&mut self, state: &LstmState) -> Result<(), StreamError> {
        let expected = [self.layers.len(), 1, self.d_hidden()];
        for (what, tensor) in [("state.hidden", &state.hidden), ("state.cell", &state.cell)] {
            if tensor.dims() != expected {
                return Err(StreamError::State {
                    what,
                    expected,
                    found: tensor.dims(),
                });
            }
        }
        let (hidden, cell) = (numbers(state.hidden.clone()), numbers(state.cell.clone()));
        let d_hidden = self.d_hidden();
        let states = hidden.chunks(d_hidden).zip(cell.chunks(d_hidden));
        for (layer, (hidden, cell)) in self.layers.iter_mut().zip(states) {
            layer.set_state(hidden, cell);
        }
        Ok(())
    }
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
