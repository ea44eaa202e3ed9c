//! The LSTM of the built-in models: what it can be besides its sizes.

use burn::tensor::Tensor;
use scratch_lstm::config::{CellConfig, InitConfig, LayerConnection, RegularizationConfig};
use scratch_lstm::{ConfigError, Key, ScratchLstm, ScratchLstmConfig, dropout, locked_dropout};
use serde::{Deserialize, Serialize};

use crate::loss::at_least_f32;

/// Settings of a model's LSTM besides its sizes, `[model.lstm]` in a settings file; the fields of
/// the same names of [`ScratchLstmConfig`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LstmSettings {
    /// Width that the hidden state is projected to, if it is.
    pub d_proj: Option<usize>,
    /// What a layer above the first reads besides the layer below it.
    pub connection: LayerConnection,
    /// Whether the state in which a sequence starts is learned.
    pub learned_state: bool,
    /// What a step computes.
    pub cell: CellConfig,
    /// What is done against overfitting, besides the model's `dropout`.
    pub regularization: RegularizationConfig,
    /// How the weights begin.
    pub init: InitConfig,
}

impl LstmSettings {
    /// The whole of an LSTM's settings; `dropout` lies between layers.
    ///
    /// # Errors
    ///
    /// If `regularization.dropout` is set besides.
    pub(super) fn config(
        &self,
        [d_input, d_hidden, num_layers]: [usize; 3],
        dropout: f64,
    ) -> Result<ScratchLstmConfig, ConfigError> {
        let Self {
            d_proj,
            connection,
            learned_state,
            cell,
            regularization,
            init,
        } = self.clone();
        if regularization.dropout != 0.0 {
            return Err(ConfigError {
                field: "lstm.regularization.dropout",
                expected: "0 here: the model's `dropout` is it".into(),
                found: regularization.dropout.to_string(),
            });
        }
        Ok(ScratchLstmConfig::new(d_input, d_hidden)
            .with_projection(d_proj)
            .with_num_layers(num_layers)
            .with_connection(connection)
            .with_learned_state(learned_state)
            .with_cell(cell)
            .with_regularization(regularization)
            .with_init(init)
            .with_dropout(dropout))
    }
}

/// What an LSTM shows to the rest of a model.
pub(super) struct Shown {
    /// After dropout, `[B, T, _]`.
    pub(super) dropped: Tensor<3>,
    /// What its activations add to the loss, in training only.
    pub(super) penalty: Option<Tensor<1>>,
}

/// Dropout of an LSTM's output as its settings have it between layers, and the penalty of its
/// activations.
pub(super) fn shown(lstm: &ScratchLstm, output: Tensor<3>, rate: f64, key: &Key) -> Shown {
    let config = lstm.config();
    let key = &key.child("head");
    let dropped = match config.regularization.dropout_locked {
        true => locked_dropout(output.clone(), config.batch_first, rate, key),
        false => dropout(output.clone(), rate, key),
    };
    let trains = output.device().is_autodiff();
    Shown {
        penalty: trains.then(|| lstm.penalty(&output, &dropped)).flatten(),
        dropped,
    }
}

/// The loss with what activations add to it.
pub(super) fn penalized(loss: Tensor<1>, penalty: Option<Tensor<1>>) -> Tensor<1> {
    match penalty {
        Some(penalty) => loss + at_least_f32(penalty),
        None => loss,
    }
}
