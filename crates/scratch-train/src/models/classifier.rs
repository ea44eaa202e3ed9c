//! Classification of whole sequences.

use burn::module::Module;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Int, Tensor};
use scratch_lstm::{ConfigError, ForwardOptions, Key, ScratchLstm, dropout};
use serde::{Deserialize, Serialize};

use crate::data::LabelledBatch;
use crate::loss::{at_least_f32, smoothed_cross_entropy};
use crate::model::{SequenceModel, StepOutput};
use crate::models::layers::check_smoothing;
use crate::models::lstm::penalized;
use crate::models::{LstmSettings, embedding, linear};

/// Settings of a [`Classifier`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifierConfig {
    /// Width of a symbol's embedding.
    pub d_embedding: usize,
    /// Width of the hidden state of each direction.
    pub d_hidden: usize,
    /// Layers of the LSTM.
    pub num_layers: usize,
    /// Whether the sequence is read from its end, too.
    pub bidirectional: bool,
    /// Dropout on the embedding, between layers and before the head.
    pub dropout: f64,
    /// Share of each target that all classes have equal parts of, in training only; see
    /// [`smoothed_cross_entropy`].
    pub label_smoothing: f64,
    /// The LSTM besides its sizes.
    pub lstm: LstmSettings,
}

impl Default for ClassifierConfig {
    fn default() -> Self {
        Self {
            d_embedding: 32,
            d_hidden: 96,
            num_layers: 1,
            bidirectional: true,
            dropout: 0.3,
            label_smoothing: 0.0,
            lstm: LstmSettings::default(),
        }
    }
}

/// An LSTM that reads a sequence and names its class from the final states of its last layer.
#[derive(Module, Debug)]
pub struct Classifier {
    /// Of the symbols, `[symbols, d_embedding]`.
    pub embed: Embedding,
    /// Reads the sequence.
    pub lstm: ScratchLstm,
    /// From the final states to a logit for each class.
    pub head: Linear,
    dropout: f64,
    label_smoothing: f64,
}

impl ClassifierConfig {
    /// A classifier of sequences over `symbols` symbols into `classes` classes.
    ///
    /// # Errors
    ///
    /// If the settings describe no LSTM, or label smoothing is not at least 0 and less than 1.
    pub fn try_init(
        &self,
        symbols: usize,
        classes: usize,
        key: &Key,
        device: &Device,
    ) -> Result<Classifier, ConfigError> {
        check_smoothing(self.label_smoothing)?;
        let sizes = [self.d_embedding, self.d_hidden, self.num_layers];
        let config = self.lstm.config(sizes, self.dropout)?;
        let config = config.with_bidirectional(self.bidirectional);
        let lstm = config.try_init_with(&key.child("lstm"), device)?;
        Ok(Classifier {
            embed: embedding(symbols, self.d_embedding, &key.child("embed"), device),
            lstm,
            head: linear(config.d_output(), classes, &key.child("head"), device),
            dropout: self.dropout,
            label_smoothing: self.label_smoothing,
        })
    }
}

impl Classifier {
    /// Logits `[B, classes]`, in f32 at least, of sequences `[B, T]` of these lengths.
    pub fn predict(&self, symbols: Tensor<2, Int>, lengths: &[usize], key: &Key) -> Tensor<2> {
        self.read(symbols, lengths, key).0
    }

    /// [`predict`](Self::predict), and what the activations add to the loss.
    fn read(
        &self,
        symbols: Tensor<2, Int>,
        lengths: &[usize],
        key: &Key,
    ) -> (Tensor<2>, Option<Tensor<1>>) {
        let embedded = dropout(
            self.embed.forward(symbols),
            self.dropout,
            &key.child("embed"),
        );
        let options = ForwardOptions::new().with_lengths(lengths).with_key(key);
        let (output, state) = self.lstm.forward_with(embedded, options);
        // The last layer's directions side by side: [K, B, H] to [B, K*H].
        let directions = self.lstm.config().num_directions();
        let [count, rows, width] = state.hidden.dims();
        let last = state.hidden.narrow(0, count - directions, directions);
        let features = last.swap_dims(0, 1).reshape([rows, directions * width]);
        let features = dropout(features, self.dropout, &key.child("head"));
        let trains = output.device().is_autodiff();
        let penalty = trains.then(|| self.lstm.penalty(&output, &output));
        (at_least_f32(self.head.forward(features)), penalty.flatten())
    }
}

impl SequenceModel for Classifier {
    type Batch = LabelledBatch;
    type State = ();

    fn step(&self, batch: &LabelledBatch, _state: Option<()>, key: &Key) -> StepOutput<()> {
        let (logits, penalty) = self.read(batch.inputs.clone(), &batch.lengths, key);
        let labels = batch.labels.clone();
        let loss = smoothed_cross_entropy(logits.clone(), labels, self.label_smoothing);
        StepOutput {
            loss: penalized(loss, penalty),
            targets: batch.lengths.len(),
            outputs: logits.unsqueeze_dim(1),
            state: (),
        }
    }

    fn measure(
        &self,
        batch: &LabelledBatch,
        output: &StepOutput<()>,
    ) -> Vec<(&'static str, Tensor<1>)> {
        let guessed: Tensor<1, Int> = output.outputs.clone().argmax(2).reshape([-1]);
        let right = guessed.equal(batch.labels.clone()).int().sum();
        vec![("accuracy", right.float())]
    }
}
