//! Forecasting numeric series.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use scratch_lstm::{ConfigError, ForwardOptions, Key, LstmState, ScratchLstm};
use serde::{Deserialize, Serialize};

use crate::data::ForecastBatch;
use crate::loss::{at_least_f32, mean_squared_error};
use crate::model::{SequenceModel, StepOutput};
use crate::models::layers::in_type_of;
use crate::models::lstm::{Shown, penalized, shown};
use crate::models::{LstmSettings, linear};

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
    /// The LSTM besides its sizes.
    pub lstm: LstmSettings,
}

impl Default for ForecasterConfig {
    fn default() -> Self {
        Self {
            d_hidden: 16,
            num_layers: 1,
            dropout: 0.2,
            lstm: LstmSettings::default(),
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
        let sizes = [columns, self.d_hidden, self.num_layers];
        let config = self.lstm.config(sizes, self.dropout)?;
        let lstm = config.try_init_with(&key.child("lstm"), device)?;
        Ok(Forecaster {
            lstm,
            head: linear(
                config.d_output(),
                horizon * columns,
                &key.child("head"),
                device,
            ),
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
        let (outputs, state, _) = self.read(inputs, state, key);
        (outputs, state)
    }

    /// [`predict`](Self::predict), and what the activations add to the loss.
    fn read(
        &self,
        inputs: Tensor<3>,
        state: Option<LstmState>,
        key: &Key,
    ) -> (Tensor<3>, LstmState, Option<Tensor<1>>) {
        let options = ForwardOptions::new().with_state(state).with_key(key);
        let read = in_type_of(inputs.clone(), &self.head);
        let (hidden, state) = self.lstm.forward_with(read, options);
        let Shown { dropped, penalty } = shown(&self.lstm, hidden, self.dropout, key);
        let present = at_least_f32(inputs).repeat_dim(2, self.horizon);
        let outputs = present + at_least_f32(self.head.forward(dropped));
        (outputs, state, penalty)
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
        let (outputs, state, penalty) = self.read(batch.inputs.clone(), state, key);
        let [_, steps, _] = outputs.dims();
        let counted = steps - batch.skip;
        let outputs = outputs.narrow(1, batch.skip, counted);
        let targets = batch.targets.clone().narrow(1, batch.skip, counted);
        StepOutput {
            loss: penalized(
                mean_squared_error(outputs.clone(), targets.clone()),
                penalty,
            ),
            targets: targets.shape().num_elements(),
            outputs,
            state,
        }
    }

    fn restart(&self, state: LstmState, rows: &[bool]) -> LstmState {
        self.lstm.restart(state, rows)
    }
}
