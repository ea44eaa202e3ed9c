//! A small model and endless data for tests of the training loop.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor};
use scratch_lstm::{ForwardOptions, Key, LstmState, ScratchLstm, ScratchLstmConfig};
use scratch_train::data::{SequenceData, Start, Window};
use scratch_train::loss::{at_least_f32, mean_squared_error};
use scratch_train::models::linear;
use scratch_train::{SequenceModel, StepOutput};

use crate::random::tensor;

/// Width of the input.
pub const D_INPUT: usize = 3;
/// Width of the hidden state.
pub const D_HIDDEN: usize = 5;
/// Width of the targets.
pub const D_TARGET: usize = 2;

/// An LSTM of two layers and a linear layer, trained on a mean squared error.
#[derive(Module, Debug)]
pub struct Toy {
    /// Reads the sequence.
    pub lstm: ScratchLstm,
    /// From the hidden state to the targets.
    pub head: Linear,
}

impl Toy {
    /// A model by its seed.
    pub fn new(seed: u64, dropout: f64, device: &Device) -> Self {
        Self::with_hidden(D_HIDDEN, seed, dropout, device)
    }

    /// A model of another width.
    pub fn with_hidden(d_hidden: usize, seed: u64, dropout: f64, device: &Device) -> Self {
        let key = Key::new(seed);
        let config = ScratchLstmConfig::new(D_INPUT, d_hidden)
            .with_num_layers(2)
            .with_dropout(dropout);
        Self {
            lstm: config.init_with(&key.child("lstm"), device),
            head: linear(d_hidden, D_TARGET, &key.child("head"), device),
        }
    }
}

/// A window for [`Toy`].
#[derive(Debug, Clone)]
pub struct ToyBatch {
    /// `[B, T, D_INPUT]`.
    pub inputs: Tensor<3>,
    /// `[B, T, D_TARGET]`.
    pub targets: Tensor<3>,
}

impl SequenceModel for Toy {
    type Batch = ToyBatch;
    type State = LstmState;

    fn step(&self, batch: &ToyBatch, state: Option<LstmState>, key: &Key) -> StepOutput<LstmState> {
        let options = ForwardOptions::new().with_state(state).with_key(key);
        // In bf16, as the weights may be.
        let dtype = self.lstm.layers[0].forward.weight_hh.val().dtype();
        let inputs = batch.inputs.clone().cast(dtype);
        let (hidden, state) = self.lstm.forward_with(inputs, options);
        let outputs = at_least_f32(self.head.forward(hidden));
        StepOutput {
            loss: mean_squared_error(outputs.clone(), batch.targets.clone()),
            targets: batch.targets.shape().num_elements(),
            outputs,
            state,
        }
    }
}

/// Random sequences: row `r` of window `i` is the same in every epoch and for every batch size.
#[derive(Debug, Clone)]
pub struct ToyData {
    /// Windows in an epoch.
    pub windows: usize,
    /// Rows.
    pub batch: usize,
    /// Time steps of a window.
    pub steps: usize,
    /// Of inputs and targets.
    pub seed: u64,
    /// How windows begin.
    pub starts: Starts,
    /// What targets are multiplied with.
    pub scale: f64,
    /// Epoch and window whose inputs are no numbers.
    pub poison: Option<(usize, usize)>,
}

/// How the windows of [`ToyData`] begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
    /// The first anew, the others where the one before ended.
    Stream,
    /// All anew.
    Fresh,
    /// As a stream, but row `i` starts anew in every window `i` modulo the batch.
    Rows,
}

impl ToyData {
    /// A stream.
    pub fn new(windows: usize, batch: usize, steps: usize, seed: u64) -> Self {
        Self {
            windows,
            batch,
            steps,
            seed,
            starts: Starts::Stream,
            scale: 1.0,
            poison: None,
        }
    }

    /// Sets how windows begin.
    pub fn with_starts(mut self, starts: Starts) -> Self {
        self.starts = starts;
        self
    }

    /// Sets what targets are multiplied with.
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Sets the window whose inputs are no numbers.
    pub fn with_poison(mut self, epoch: usize, window: usize) -> Self {
        self.poison = Some((epoch, window));
        self
    }

    /// Window `index` as one tensor for each of inputs and targets.
    pub fn batch(&self, index: usize, device: &Device) -> ToyBatch {
        let rows = |name: &str, width: usize| -> Tensor<3> {
            let rows = (0..self.batch).map(|row| {
                // Numbered through all windows, so that a wide batch has the rows of narrow ones.
                let row = index * self.batch + row;
                let key = Key::new(self.seed).child(name).child(row);
                tensor([1, self.steps, width], &key, device, DType::F32)
            });
            Tensor::cat(rows.collect(), 0)
        };
        ToyBatch {
            inputs: rows("input", D_INPUT),
            targets: rows("target", D_TARGET) * self.scale,
        }
    }
}

impl SequenceData for ToyData {
    type Batch = ToyBatch;

    fn windows(&self) -> usize {
        self.windows
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<ToyBatch> {
        let mut batch = self.batch(index, device);
        if self.poison == Some((epoch, index)) {
            batch.inputs = batch.inputs * f64::NAN;
        }
        let start = match (self.starts, index) {
            (Starts::Fresh, _) | (_, 0) => Start::Fresh,
            (Starts::Stream, _) => Start::Continue,
            (Starts::Rows, _) => Start::Rows(
                (0..self.batch)
                    .map(|row| row == index % self.batch)
                    .collect(),
            ),
        };
        Window { batch, start }
    }
}
