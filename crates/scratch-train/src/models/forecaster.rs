//! Forecasting numeric series.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use scratch_lstm::{
    ConfigError, ForwardOptions, Key, LstmState, ScratchLstm, ScratchLstmConfig, dropout,
};
use serde::{Deserialize, Serialize};

use crate::data::ForecastBatch;
use crate::loss::{at_least_f32, mean_squared_error};
use crate::model::{SequenceModel, StepOutput};
use crate::models::layers::in_type_of;
use crate::models::linear;

/// Settings of a [`Forecaster`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForecasterConfig {
    /// Width of the hidden state.
    pub d_hidden: usize,
    /// Layers of the LSTM.
    pub num_layers: usize,
    /// Dropout between layers and before the head.
    pub dropout: f64,
}

impl Default for ForecasterConfig {
    fn default() -> Self {
        Self {
            d_hidden: 16,
            num_layers: 1,
            dropout: 0.2,
        }
    }
}

/// An LSTM that reads a series step by step and says after each step by how much each of the next
/// `horizon` values will differ from the present one. (Differences from the present value: a
/// forecaster that has learned nothing yet is the persistence forecast.)
#[derive(Module, Debug)]
pub struct Forecaster {
    /// Reads the series.
    pub lstm: ScratchLstm,
    /// From the hidden state to `horizon * columns` differences.
    pub head: Linear,
    horizon: usize,
    dropout: f64,
}

impl ForecasterConfig {
    /// A forecaster of `horizon` steps of a series with `columns` columns.
    ///
    /// # Errors
    ///
    /// If the settings describe no LSTM.
    pub fn try_init(
        &self,
        columns: usize,
        horizon: usize,
        key: &Key,
        device: &Device,
    ) -> Result<Forecaster, ConfigError> {
        let lstm = ScratchLstmConfig::new(columns, self.d_hidden)
            .with_num_layers(self.num_layers)
            .with_dropout(self.dropout)
            .try_init_with(&key.child("lstm"), device)?;
        Ok(Forecaster {
            lstm,
            head: linear(self.d_hidden, horizon * columns, &key.child("head"), device),
            horizon,
            dropout: self.dropout,
        })
    }
}

impl Forecaster {
    /// After every step of `inputs` `[B, T, C]`, the next `horizon` values of each column,
    /// `[B, T, horizon * C]`, the nearest step first, in f32 at least. Inputs are read in the weights'
    /// own type; the present values, which forecasts are differences from, are not rounded to it.
    pub fn predict(
        &self,
        inputs: Tensor<3>,
        state: Option<LstmState>,
        key: &Key,
    ) -> (Tensor<3>, LstmState) {
        let options = ForwardOptions::new().with_state(state).with_key(key);
        let read = in_type_of(inputs.clone(), &self.head);
        let (hidden, state) = self.lstm.forward_with(read, options);
        let hidden = dropout(hidden, self.dropout, &key.child("head"));
        let present = at_least_f32(inputs).repeat_dim(2, self.horizon);
        (present + at_least_f32(self.head.forward(hidden)), state)
    }
}

impl SequenceModel for Forecaster {
    type Batch = ForecastBatch;
    type State = LstmState;

    fn step(
        &self,
        batch: &ForecastBatch,
        state: Option<LstmState>,
        key: &Key,
    ) -> StepOutput<LstmState> {
        let (outputs, state) = self.predict(batch.inputs.clone(), state, key);
        let [_, steps, _] = outputs.dims();
        let counted = steps - batch.skip;
        let outputs = outputs.narrow(1, batch.skip, counted);
        let targets = batch.targets.clone().narrow(1, batch.skip, counted);
        StepOutput {
            loss: mean_squared_error(outputs.clone(), targets.clone()),
            targets: targets.shape().num_elements(),
            outputs,
            state,
        }
    }
}
