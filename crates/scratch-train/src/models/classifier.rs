//! Classification of whole sequences.

use burn::module::Module;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Int, Tensor};
use scratch_lstm::{ConfigError, ForwardOptions, Key, ScratchLstm, ScratchLstmConfig, dropout};
use serde::{Deserialize, Serialize};

use crate::data::LabelledBatch;
use crate::loss::{at_least_f32, smoothed_cross_entropy};
use crate::model::{SequenceModel, StepOutput};
use crate::models::layers::check_smoothing;
use crate::models::{embedding, linear};

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
        let config = ScratchLstmConfig::new(self.d_embedding, self.d_hidden)
            .with_num_layers(self.num_layers)
            .with_bidirectional(self.bidirectional)
            .with_dropout(self.dropout);
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
        let embedded = dropout(
            self.embed.forward(symbols),
            self.dropout,
            &key.child("embed"),
        );
        let options = ForwardOptions::new().with_lengths(lengths).with_key(key);
        let (_, state) = self.lstm.forward_with(embedded, options);
        // The last layer's directions side by side: [K, B, H] to [B, K*H].
        let directions = self.lstm.config().num_directions();
        let [count, rows, width] = state.hidden.dims();
        let last = state.hidden.narrow(0, count - directions, directions);
        let features = last.swap_dims(0, 1).reshape([rows, directions * width]);
        let features = dropout(features, self.dropout, &key.child("head"));
        at_least_f32(self.head.forward(features))
    }
}

impl SequenceModel for Classifier {
    type Batch = LabelledBatch;
    type State = ();

    fn step(&self, batch: &LabelledBatch, _state: Option<()>, key: &Key) -> StepOutput<()> {
        let logits = self.predict(batch.inputs.clone(), &batch.lengths, key);
        StepOutput {
            loss: smoothed_cross_entropy(
                logits.clone(),
                batch.labels.clone(),
                self.label_smoothing,
            ),
            targets: batch.lengths.len(),
            outputs: logits.unsqueeze_dim(1),
            state: (),
        }
    }

    fn measure(&self, batch: &LabelledBatch, output: &StepOutput<()>) -> Vec<(&'static str, f64)> {
        let guessed: Tensor<1, Int> = output.outputs.clone().argmax(2).reshape([-1]);
        let right = guessed.equal(batch.labels.clone()).int().sum();
        vec![("accuracy", right.into_scalar::<i64>() as f64)]
    }
}
