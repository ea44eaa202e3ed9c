//! Character and byte language models.

use burn::module::Module;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Int, Tensor};
use scratch_lstm::{ConfigError, ForwardOptions, Key, LstmState, ScratchLstm};
use serde::{Deserialize, Serialize};

use crate::data::TextBatch;
use crate::loss::{at_least_f32, smoothed_cross_entropy};
use crate::model::{SequenceModel, StepOutput};
use crate::models::layers::check_smoothing;
use crate::models::lstm::{Shown, penalized, shown};
use crate::models::{LstmSettings, embedding, linear};

/// Settings of a [`CharLm`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CharLmConfig {
    /// Width of a symbol's embedding.
    pub d_embedding: usize,
    /// Width of the hidden state.
    pub d_hidden: usize,
    /// Layers of the LSTM.
    pub num_layers: usize,
    /// Dropout between layers and before the head.
    pub dropout: f64,
    /// Share of each target that all classes have equal parts of, in training only; see
    /// [`smoothed_cross_entropy`].
    pub label_smoothing: f64,
    /// The LSTM besides its sizes.
    pub lstm: LstmSettings,
}

impl Default for CharLmConfig {
    fn default() -> Self {
        Self {
            d_embedding: 32,
            d_hidden: 256,
            num_layers: 1,
            dropout: 0.0,
            label_smoothing: 0.0,
            lstm: LstmSettings::default(),
        }
    }
}

/// An LSTM that says after each symbol which one comes next.
#[derive(Module, Debug)]
pub struct CharLm {
    /// Of the symbols, `[symbols, d_embedding]`.
    pub embed: Embedding,
    /// Reads the text.
    pub lstm: ScratchLstm,
    /// From the hidden state to a logit for each symbol.
    pub head: Linear,
    dropout: f64,
    label_smoothing: f64,
}

impl CharLmConfig {
    /// A model of text over `symbols` symbols.
    ///
    /// # Errors
    ///
    /// If the settings describe no LSTM, or label smoothing is not at least 0 and less than 1.
    pub fn try_init(
        &self,
        symbols: usize,
        key: &Key,
        device: &Device,
    ) -> Result<CharLm, ConfigError> {
        check_smoothing(self.label_smoothing)?;
        let sizes = [self.d_embedding, self.d_hidden, self.num_layers];
        let config = self.lstm.config(sizes, self.dropout)?;
        let lstm = config.try_init_with(&key.child("lstm"), device)?;
        Ok(CharLm {
            embed: embedding(symbols, self.d_embedding, &key.child("embed"), device),
            lstm,
            head: linear(config.d_output(), symbols, &key.child("head"), device),
            dropout: self.dropout,
            label_smoothing: self.label_smoothing,
        })
    }
}

impl CharLm {
    /// A model from its parts, weights from elsewhere for example.
    pub fn from_parts(embed: Embedding, lstm: ScratchLstm, head: Linear, dropout: f64) -> Self {
        Self {
            embed,
            lstm,
            head,
            dropout,
            label_smoothing: 0.0,
        }
    }

    /// Logits of the next symbol after each of `symbols` `[B, T]`: `[B, T, symbols]`, in f32 at
    /// least.
    pub fn predict(
        &self,
        symbols: Tensor<2, Int>,
        state: Option<LstmState>,
        key: &Key,
    ) -> (Tensor<3>, LstmState) {
        let (outputs, state, _) = self.read(symbols, state, key);
        (outputs, state)
    }

    /// [`predict`](Self::predict), and what the activations add to the loss.
    fn read(
        &self,
        symbols: Tensor<2, Int>,
        state: Option<LstmState>,
        key: &Key,
    ) -> (Tensor<3>, LstmState, Option<Tensor<1>>) {
        let options = ForwardOptions::new().with_state(state).with_key(key);
        let (hidden, state) = self.lstm.forward_with(self.embed.forward(symbols), options);
        let Shown { dropped, penalty } = shown(&self.lstm, hidden, self.dropout, key);
        (at_least_f32(self.head.forward(dropped)), state, penalty)
    }
}

impl SequenceModel for CharLm {
    type Batch = TextBatch;
    type State = LstmState;

    fn step(
        &self,
        batch: &TextBatch,
        state: Option<LstmState>,
        key: &Key,
    ) -> StepOutput<LstmState> {
        let (outputs, state, penalty) = self.read(batch.inputs.clone(), state, key);
        let [rows, steps, symbols] = outputs.dims();
        let logits = outputs.clone().reshape([rows * steps, symbols]);
        let targets = batch.targets.clone().reshape([rows * steps]);
        let loss = smoothed_cross_entropy(logits, targets, self.label_smoothing);
        StepOutput {
            loss: penalized(loss, penalty),
            targets: rows * steps,
            outputs,
            state,
        }
    }

    fn restart(&self, state: LstmState, rows: &[bool]) -> LstmState {
        self.lstm.restart(state, rows)
    }
}
