//! Stacked and bidirectional LSTMs.

use std::sync::Arc;

use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};

use crate::cell::{CellWeights, ScratchLstmCell};
use crate::config::{DirectionJoin, ScratchLstmConfig};
use crate::error::{ConfigError, ForwardError};
use crate::fused::{Fused, Path};
use crate::layer::{LstmLayer, Passage, Sequence, join_directions};
use crate::options::ForwardOptions;
use crate::random::Key;
use crate::reference::{self, Lengths, Raw};
use crate::shapes;
use crate::state::{LstmState, RecurrentState};
use crate::weights::{self, WeightsError};

/// A stack of LSTM layers, in one direction or two, whose cell is written from raw tensor
/// operations (`torch.nn.LSTM`).
///
/// It holds weights and no state: the state goes in and comes out with each call.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Distribution, Tensor};
/// use scratch_lstm::{Key, ScratchLstmConfig};
///
/// let device = Device::flex();
/// let lstm = ScratchLstmConfig::new(5, 11).init_with(&Key::new(42).child("lstm"), &device);
///
/// let input = Tensor::<3>::random([3, 7, 5], Distribution::Default, &device);
/// let (output, state) = lstm.forward(input.clone(), None);
/// assert_eq!(output.dims(), [3, 7, 11]); // [B, T, K*H]
/// assert_eq!(state.hidden.dims(), [1, 3, 11]); // [L*K, B, H]
///
/// // The next window of the same sequences.
/// let (output, _state) = lstm.forward(input, Some(state));
/// assert_eq!(output.dims(), [3, 7, 11]);
/// # }
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct ScratchLstm {
    /// From the input upwards.
    pub layers: Vec<LstmLayer>,
    /// Whether dropout applies; burn's `valid()` and `freeze()` clear it.
    pub training: Param<Flag>,
    #[module(skip)]
    config: ScratchLstmConfig,
}

impl ScratchLstmConfig {
    /// An LSTM with weights that nobody can draw again; [`init_with`](Self::init_with) is the
    /// reproducible form.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) has an error.
    pub fn init(&self, device: &Device) -> ScratchLstm {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// An LSTM with weights that nobody can draw again.
    ///
    /// # Errors
    ///
    /// If the settings are invalid; see [`validate`](Self::validate).
    pub fn try_init(&self, device: &Device) -> Result<ScratchLstm, ConfigError> {
        // The parameters' identities must not repeat either: two LSTMs of one model would share
        // their gradients.
        let path = burn::module::ParamId::new();
        self.try_init_with(&Key::from_entropy().child(path), device)
    }

    /// An LSTM whose weights and parameter identities follow from `key` alone, on every backend.
    ///
    /// Give each module of a model a path of its own: `Key::new(seed).child("encoder")`.
    ///
    /// # Panics
    ///
    /// Where [`try_init_with`](Self::try_init_with) has an error.
    pub fn init_with(&self, key: &Key, device: &Device) -> ScratchLstm {
        self.try_init_with(key, device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// An LSTM whose weights and parameter identities follow from `key` alone.
    ///
    /// # Errors
    ///
    /// If the settings are invalid; see [`validate`](Self::validate).
    pub fn try_init_with(&self, key: &Key, device: &Device) -> Result<ScratchLstm, ConfigError> {
        self.validate()?;
        Ok(self.assemble(key, |layer, key| {
            CellWeights::init(
                self.layer_input(layer),
                self.d_hidden,
                self.bias,
                &self.init,
                key,
                device,
            )
        }))
    }

    /// An LSTM whose cells have the weights that `weights` gives for a layer and the key of its
    /// direction; the order of calls is that of the state, `L*K`.
    fn assemble(
        &self,
        key: &Key,
        mut weights: impl FnMut(usize, &Key) -> CellWeights,
    ) -> ScratchLstm {
        let mut cell = |layer: usize, direction: &str| {
            let key = key.child("layers").child(layer).child(direction);
            ScratchLstmCell::from_weights(weights(layer, &key), &key)
        };
        let layers = (0..self.num_layers)
            .map(|layer| LstmLayer {
                forward: cell(layer, "forward"),
                reverse: self.bidirectional.then(|| cell(layer, "reverse")),
            })
            .collect();
        ScratchLstm {
            layers,
            training: Param::from_bool(true),
            config: self.clone(),
        }
    }
}

impl ScratchLstm {
    /// An LSTM with these weights, in the order of the state, `L*K`: layer by layer, forward
    /// before reverse. The parameters are leaves of their own: no gradient flows on into what the
    /// weights were computed from.
    ///
    /// # Errors
    ///
    /// If the settings are invalid or the weights do not fit them.
    pub(crate) fn from_weights(
        config: &ScratchLstmConfig,
        weights: Vec<CellWeights>,
        key: &Key,
    ) -> Result<Self, WeightsError> {
        config.validate()?;
        weights::check_stack(config, &weights)?;
        let mut weights = weights.into_iter();
        Ok(config.assemble(key, |_, _| {
            let weights = weights.next().expect("counted above");
            weights.detach()
        }))
    }

    /// The settings it was made from.
    pub fn config(&self) -> &ScratchLstmConfig {
        &self.config
    }

    /// Runs over a batch of sequences.
    ///
    /// | | shape |
    /// |---|---|
    /// | `input` | `[B, T, D]`, or `[T, B, D]` without `batch_first` |
    /// | `state` | `[L*K, B, H]` both; zeros if absent |
    /// | output | `[B, T, K*H]`, or `[T, B, K*H]`: the last layer's hidden states, forward then reverse |
    /// | next state | `[L*K, B, H]` both (PyTorch's `h_n`, `c_n`) |
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](Self::try_forward) has an error.
    pub fn forward(&self, input: Tensor<3>, state: Option<LstmState>) -> (Tensor<3>, LstmState) {
        self.forward_with(input, ForwardOptions::new().with_state(state))
    }

    /// [`forward`](Self::forward) with an error instead of a panic.
    ///
    /// # Errors
    ///
    /// If the input or the state does not fit; see [`ForwardError`].
    pub fn try_forward(
        &self,
        input: Tensor<3>,
        state: Option<LstmState>,
    ) -> Result<(Tensor<3>, LstmState), ForwardError> {
        self.try_forward_with(input, ForwardOptions::new().with_state(state))
    }

    /// [`forward`](Self::forward) with lengths, resets and a stream for the dropout masks.
    ///
    /// # Panics
    ///
    /// Where [`try_forward_with`](Self::try_forward_with) has an error.
    pub fn forward_with(
        &self,
        input: Tensor<3>,
        options: ForwardOptions<'_>,
    ) -> (Tensor<3>, LstmState) {
        self.try_forward_with(input, options)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`forward_with`](Self::forward_with) with an error instead of a panic.
    ///
    /// # Errors
    ///
    /// If the input or an option does not fit; see [`ForwardError`].
    pub fn try_forward_with(
        &self,
        input: Tensor<3>,
        options: ForwardOptions<'_>,
    ) -> Result<(Tensor<3>, LstmState), ForwardError> {
        let config = &self.config;
        let (batch, steps) = shapes::check_input(&input, config.d_input, config.batch_first)?;
        let (dtype, device) = self.kind();
        shapes::check_kind("input", &input, dtype, &device)?;
        let state = self.initial_state(options.state, options.resets, batch)?;
        if let Some(lengths) = options.lengths {
            shapes::check_lengths(lengths, batch, steps)?;
        }

        let choice = options.path.unwrap_or(config.path);
        if Path::of(choice, &device, dtype)?.is_fused() {
            let passage = Fused {
                batch_first: config.batch_first,
                lengths: options.lengths.map(Arc::from),
                segment: options.segment,
            };
            return Ok(self.run(&passage, input, state, batch, options.key));
        }
        let lengths = options.lengths.map(|lengths| Lengths::new(lengths, &input));
        let time_first = if config.batch_first {
            input.swap_dims(0, 1)
        } else {
            input
        };
        let mut input = reference::split_steps(time_first);
        if let Some(lengths) = &lengths {
            lengths.clear(&mut input);
        }
        let (output, state) = self.run(&Raw { lengths }, input, state, batch, options.key);
        let time = if config.batch_first { 1 } else { 0 };
        Ok((Tensor::stack(output, time), state))
    }

    /// The way a call takes, and why; a call's [`options`](ForwardOptions::path) can ask for another.
    ///
    /// ```
    /// # #[cfg(feature = "flex")] {
    /// use burn::tensor::Device;
    /// use scratch_lstm::{PathChoice, ScratchLstmConfig};
    ///
    /// let lstm = ScratchLstmConfig::new(5, 11).init(&Device::flex());
    /// assert!(lstm.path().unwrap().is_fused());
    /// let raw = ScratchLstmConfig::new(5, 11).with_path(PathChoice::Raw);
    /// let path = raw.init(&Device::flex()).path().unwrap();
    /// assert_eq!(path.to_string(), "raw (as asked for)");
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the configuration asks for the fused operation and it cannot be had, or the environment
    /// asks for an instruction set that the processor has not.
    pub fn path(&self) -> Result<Path, ForwardError> {
        let (dtype, device) = self.kind();
        Path::of(self.config.path, &device, dtype)
    }

    /// Runs over one sequence without a batch axis: `[T, D]` to `[T, K*H]`, state `[L*K, H]`.
    ///
    /// # Panics
    ///
    /// Where [`try_forward_with`](Self::try_forward_with) has an error.
    pub fn forward_unbatched(
        &self,
        input: Tensor<2>,
        state: Option<LstmState<2>>,
    ) -> (Tensor<2>, LstmState<2>) {
        let batch = if self.config.batch_first { 0 } else { 1 };
        let state = state.map(|state| state.map(|tensor| tensor.unsqueeze_dim(1)));
        let (output, state) = self.forward(input.unsqueeze_dim(batch), state);
        (
            output.squeeze_dim(batch),
            state.map(|tensor| tensor.squeeze_dim(1)),
        )
    }

    fn run<P: Passage>(
        &self,
        passage: &P,
        input: P::Series,
        state: Option<LstmState>,
        batch: usize,
        key: Option<&Key>,
    ) -> (P::Series, LstmState) {
        let config = &self.config;
        let directions = config.num_directions();
        let dropout = self.dropout_stream(key);
        let mut sequence = Sequence::Shared(input);
        let mut states = Vec::with_capacity(self.layers.len() * directions);
        let mut outputs = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                sequence = self.between_layers(passage, std::mem::take(&mut outputs));
                if let Some(key) = &dropout {
                    let rate = config.regularization.dropout;
                    let key = key.child("dropout").child(index - 1);
                    sequence = sequence
                        .map(|place, series| passage.drop_out(series, rate, &key.child(place)));
                }
            }
            let before = (index * directions..(index + 1) * directions).map(|place| match &state {
                Some(state) => state.of_layer(place),
                None => {
                    let (dtype, device) = self.kind();
                    LstmState::zeros([batch, config.d_hidden], (&device, dtype))
                }
            });
            let after;
            (outputs, after) = layer.run(passage, &sequence, before);
            states.extend(after);
        }
        (join_directions(passage, outputs), LstmState::stack(states))
    }

    /// What the next layer reads of a layer's outputs.
    fn between_layers<P: Passage>(
        &self,
        passage: &P,
        mut outputs: Vec<P::Series>,
    ) -> Sequence<P::Series> {
        if self.config.join == DirectionJoin::AtEnd && outputs.len() == 2 {
            let reverse = outputs.swap_remove(1);
            let forward = outputs.swap_remove(0);
            Sequence::PerDirection { forward, reverse }
        } else {
            Sequence::Shared(join_directions(passage, outputs))
        }
    }

    /// The stream of the dropout masks if dropout applies: the layer takes part in training and
    /// its device differentiates.
    fn dropout_stream(&self, key: Option<&Key>) -> Option<Key> {
        let applies = self.config.regularization.dropout > 0.0
            && self.layers.len() > 1
            && self.training.is_enabled()
            && self.kind().1.is_autodiff();
        applies.then(|| key.cloned().unwrap_or_else(Key::from_entropy))
    }

    /// The state to begin with, checked; zeros if absent.
    fn initial_state(
        &self,
        state: Option<LstmState>,
        resets: Option<&[bool]>,
        batch: usize,
    ) -> Result<Option<LstmState>, ForwardError> {
        let config = &self.config;
        let (dtype, device) = self.kind();
        let count = config.num_layers * config.num_directions();
        if let Some(resets) = resets {
            shapes::check_rows("resets", resets.len(), batch)?;
        }
        let Some(state) = state else {
            return Ok(None);
        };
        for (what, tensor) in [("state.hidden", &state.hidden), ("state.cell", &state.cell)] {
            shapes::check_state(what, tensor, count, batch, config.d_hidden)?;
            shapes::check_kind(what, tensor, dtype, &device)?;
        }
        Ok(Some(match resets {
            Some(rows) => state.reset_rows(rows),
            None => state,
        }))
    }

    /// Element type and device of the weights.
    fn kind(&self) -> (burn::tensor::DType, Device) {
        let weight = &self.layers[0].forward.weight_hh;
        (weight.dtype(), weight.device())
    }
}

impl ModuleDisplay for ScratchLstm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let config = &self.config;
        content
            .add("d_input", &config.d_input)
            .add("d_hidden", &config.d_hidden)
            .add("num_layers", &config.num_layers)
            .add("bidirectional", &config.bidirectional)
            .add("bias", &config.bias)
            .optional()
    }
}
