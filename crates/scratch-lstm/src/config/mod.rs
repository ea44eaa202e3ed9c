//! What an LSTM is, before it has weights.

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::fused::{LayerSizes, PathChoice};
use crate::gates;
use crate::init::Initializer;

mod cell;
mod init;
mod regularization;

pub use cell::{CellConfig, LAYER_NORM_EPSILON};
pub use init::{BiasInitializer, InitConfig};
pub use regularization::RegularizationConfig;
pub use scratch_lstm_kernels::{Activation, Activations};

/// More parameters than this in one module are taken for a mistake (8 GiB in f32).
const MAX_PARAMETERS: usize = 1 << 31;

/// Configuration of a [`ScratchLstm`](crate::ScratchLstm); `torch.nn.LSTM`'s arguments under
/// burn's names, and how the weights begin.
///
/// Serializes with serde; an unknown key is an error and a missing one has its default.
///
/// ```
/// use scratch_lstm::ScratchLstmConfig;
///
/// let config = ScratchLstmConfig::new(5, 11)
///     .with_num_layers(2)
///     .with_bidirectional(true)
///     .with_dropout(0.2);
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScratchLstmConfig {
    /// `D`, the width of the input (`input_size`).
    pub d_input: usize,
    /// `H`, the width of the gates and of the cell state, and without a projection of the hidden
    /// state (`hidden_size`).
    pub d_hidden: usize,
    /// `P`, the width that the hidden state is projected to, if it is (`proj_size`; Sak, Senior &
    /// Beaufays 2014).
    #[serde(default)]
    pub d_proj: Option<usize>,
    /// `L`, how many layers are stacked.
    #[serde(default = "one")]
    pub num_layers: usize,
    /// Whether each layer also runs backward in time.
    #[serde(default)]
    pub bidirectional: bool,
    /// Where the two directions of a stack meet; no effect with one direction.
    #[serde(default)]
    pub join: DirectionJoin,
    /// What a layer above the first reads besides the layer below it.
    #[serde(default)]
    pub connection: LayerConnection,
    /// Whether the gates have a bias.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether the state in which a sequence starts is learned; zeros otherwise.
    #[serde(default)]
    pub learned_state: bool,
    /// Whether input and output are `[B, T, _]`; `[T, B, _]` otherwise.
    #[serde(default = "yes")]
    pub batch_first: bool,
    /// Which way a call takes, fused or raw.
    #[serde(default)]
    pub path: PathChoice,
    /// What a step computes.
    #[serde(default)]
    pub cell: CellConfig,
    /// What is done against overfitting.
    #[serde(default)]
    pub regularization: RegularizationConfig,
    /// How the weights begin.
    #[serde(default)]
    pub init: InitConfig,
}

/// Where the two directions of a bidirectional stack meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectionJoin {
    /// Both directions of a layer see both directions of the layer below, as in PyTorch.
    #[default]
    EachLayer,
    /// Two independent stacks, one forward and one backward, joined after the last layer.
    AtEnd,
}

/// What a layer above the first reads, and shows, besides what an LSTM does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerConnection {
    /// It reads the layer below and shows its hidden states.
    #[default]
    Plain,
    /// It shows the sum of what it reads and its hidden states (He et al. 2016; Wu et al. 2016).
    Residual,
    /// It reads the layer below and, behind it, the input of the stack (Graves 2013).
    Skip,
}

impl ScratchLstmConfig {
    /// One layer, one direction, with bias, `[B, T, D]`, no dropout.
    pub fn new(d_input: usize, d_hidden: usize) -> Self {
        Self {
            d_input,
            d_hidden,
            d_proj: None,
            num_layers: 1,
            bidirectional: false,
            join: DirectionJoin::default(),
            connection: LayerConnection::default(),
            bias: true,
            learned_state: false,
            batch_first: true,
            path: PathChoice::default(),
            cell: CellConfig::default(),
            regularization: RegularizationConfig::default(),
            init: InitConfig::default(),
        }
    }

    /// Sets [`num_layers`](Self::num_layers).
    pub fn with_num_layers(mut self, num_layers: usize) -> Self {
        self.num_layers = num_layers;
        self
    }

    /// Sets [`bidirectional`](Self::bidirectional).
    pub fn with_bidirectional(mut self, bidirectional: bool) -> Self {
        self.bidirectional = bidirectional;
        self
    }

    /// Sets [`join`](Self::join).
    pub fn with_join(mut self, join: DirectionJoin) -> Self {
        self.join = join;
        self
    }

    /// Sets [`d_proj`](Self::d_proj).
    pub fn with_projection(mut self, d_proj: impl Into<Option<usize>>) -> Self {
        self.d_proj = d_proj.into();
        self
    }

    /// Sets [`connection`](Self::connection).
    pub fn with_connection(mut self, connection: LayerConnection) -> Self {
        self.connection = connection;
        self
    }

    /// Sets [`learned_state`](Self::learned_state).
    pub fn with_learned_state(mut self, learned_state: bool) -> Self {
        self.learned_state = learned_state;
        self
    }

    /// Sets [`cell`](Self::cell).
    pub fn with_cell(mut self, cell: CellConfig) -> Self {
        self.cell = cell;
        self
    }

    /// Sets [`regularization`](Self::regularization).
    pub fn with_regularization(mut self, regularization: RegularizationConfig) -> Self {
        self.regularization = regularization;
        self
    }

    /// Sets [`init`](Self::init).
    pub fn with_init(mut self, init: InitConfig) -> Self {
        self.init = init;
        self
    }

    /// Sets [`bias`](Self::bias).
    pub fn with_bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets [`batch_first`](Self::batch_first).
    pub fn with_batch_first(mut self, batch_first: bool) -> Self {
        self.batch_first = batch_first;
        self
    }

    /// Sets [`path`](Self::path).
    pub fn with_path(mut self, path: PathChoice) -> Self {
        self.path = path;
        self
    }

    /// Sets [`regularization.dropout`](RegularizationConfig::dropout).
    pub fn with_dropout(mut self, dropout: f64) -> Self {
        self.regularization.dropout = dropout;
        self
    }

    /// Sets [`init.forget_bias`](InitConfig::forget_bias).
    pub fn with_forget_bias(mut self, forget_bias: f64) -> Self {
        self.init.forget_bias = forget_bias;
        self
    }

    /// Sets [`init.input`](InitConfig::input) and [`init.recurrent`](InitConfig::recurrent).
    pub fn with_initializers(mut self, input: Initializer, recurrent: Initializer) -> Self {
        self.init.input = input;
        self.init.recurrent = recurrent;
        self
    }

    /// `K`, the number of directions: 1 or 2.
    pub fn num_directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// Width of the hidden state: `P`, which is `H` without a projection.
    pub fn d_state(&self) -> usize {
        self.d_proj.unwrap_or(self.d_hidden)
    }

    /// Widths of each layer and direction.
    pub fn layer_sizes(&self) -> LayerSizes {
        LayerSizes {
            d_hidden: self.d_hidden,
            d_proj: self.d_proj,
        }
    }

    /// Width of the output, `K*P`.
    pub fn d_output(&self) -> usize {
        self.num_directions() * self.d_state()
    }

    /// Width of what layer `layer` reads.
    pub fn layer_input(&self, layer: usize) -> usize {
        let below = match (layer, self.join) {
            (0, _) => return self.d_input,
            (_, DirectionJoin::EachLayer) => self.d_output(),
            (_, DirectionJoin::AtEnd) => self.d_state(),
        };
        match self.connection {
            LayerConnection::Plain | LayerConnection::Residual => below,
            LayerConnection::Skip => below + self.d_input,
        }
    }

    /// Whether these settings describe an LSTM.
    ///
    /// # Errors
    ///
    /// Names the first field that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, size) in [
            ("d_input", self.d_input),
            ("d_hidden", self.d_hidden),
            ("d_proj", self.d_state()),
            ("num_layers", self.num_layers),
        ] {
            if size == 0 {
                return Err(ConfigError::new(field, "at least 1", size));
            }
        }
        if self.connection != LayerConnection::Plain && self.num_layers == 1 {
            return Err(ConfigError::new(
                "connection",
                "`plain` with one layer, which has none below it",
                format!("{:?}", self.connection),
            ));
        }
        self.cell.validate()?;
        if self.path == PathChoice::Fused && self.cell.activations != Activations::default() {
            return Err(ConfigError::new(
                "path",
                "`auto` or `raw` with `cell.activations` of one's own",
                "`fused`",
            ));
        }
        self.regularization.validate()?;
        self.init.validate(self.bias)?;
        match self.num_parameters() {
            Some(count) if count <= MAX_PARAMETERS => Ok(()),
            count => Err(ConfigError::new(
                "d_hidden",
                format!("small enough for {MAX_PARAMETERS} parameters in all"),
                match count {
                    Some(count) => format!(
                        "{count} parameters (d_input {}, d_hidden {}, num_layers {})",
                        self.d_input, self.d_hidden, self.num_layers
                    ),
                    None => format!("d_hidden {}, more than can be counted", self.d_hidden),
                },
            )),
        }
    }

    /// Number of parameters; `None` if it cannot be counted.
    pub(crate) fn num_parameters(&self) -> Option<usize> {
        // `layer_input` multiplies and adds without a check.
        self.d_state().checked_mul(2)?.checked_add(self.d_input)?;
        let above = self
            .direction_parameters(self.layer_input(1))?
            .checked_mul(self.num_layers - 1)?;
        self.direction_parameters(self.d_input)?
            .checked_add(above)?
            .checked_mul(self.num_directions())
    }

    /// Those of one layer and direction that reads `width` numbers.
    fn direction_parameters(&self, width: usize) -> Option<usize> {
        let gates = gates::COUNT - usize::from(self.cell.coupled);
        let of_gate = width
            .checked_add(self.d_state())?
            .checked_add(usize::from(self.bias))?
            // The gains of the input's and of the hidden state's part.
            .checked_add(2 * usize::from(self.cell.layer_norm))?;
        let of_unit = of_gate
            .checked_mul(gates)?
            .checked_add(self.d_proj.unwrap_or(0))?
            .checked_add(usize::from(self.cell.peepholes) * (gates - 1))?
            .checked_add(2 * usize::from(self.cell.layer_norm))?
            .checked_add(usize::from(self.learned_state))?;
        of_unit
            .checked_mul(self.d_hidden)?
            .checked_add(usize::from(self.learned_state) * self.d_state())
    }
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_name_the_field() {
        let base = ScratchLstmConfig::new(5, 11);
        let field = |config: &ScratchLstmConfig| config.validate().unwrap_err().field;
        assert_eq!(field(&ScratchLstmConfig::new(0, 11)), "d_input");
        assert_eq!(field(&ScratchLstmConfig::new(5, 0)), "d_hidden");
        assert_eq!(field(&base.clone().with_num_layers(0)), "num_layers");
        for dropout in [1.0, -0.1, f64::NAN] {
            let config = base.clone().with_dropout(dropout);
            assert_eq!(field(&config), "regularization.dropout");
        }
        let config = base.clone().with_forget_bias(f64::INFINITY);
        assert_eq!(field(&config), "init.forget_bias");
        for d_hidden in [1 << 20, usize::MAX / 2, usize::MAX] {
            assert_eq!(field(&ScratchLstmConfig::new(5, d_hidden)), "d_hidden");
        }
        assert_eq!(field(&base.clone().with_num_layers(1 << 40)), "d_hidden");
        assert_eq!(field(&base.with_projection(0)), "d_proj");
    }

    #[test]
    fn unknown_keys_are_errors_and_missing_ones_have_defaults() {
        let parse = serde_json::from_str::<ScratchLstmConfig>;
        let config = parse(r#"{"d_input": 5, "d_hidden": 11}"#).unwrap();
        assert_eq!(config, ScratchLstmConfig::new(5, 11));
        let config =
            parse(r#"{"d_input": 5, "d_hidden": 11, "init": {"recurrent": "orthogonal"}}"#)
                .unwrap();
        assert_eq!(config.init.recurrent, Initializer::Orthogonal);
        assert_eq!(config.init.forget_bias, 1.0);
        let error = parse(r#"{"d_input": 5, "d_hidden": 11, "hidden": 3}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `hidden`"));
    }
}
