//! Stacked and bidirectional LSTMs.

use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param};
use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::cell::{CellWeights, ScratchLstmCell};
use crate::config::{DirectionJoin, LayerConnection, ScratchLstmConfig};
use crate::dropout::{Dropout, mask};
use crate::error::{ConfigError, ForwardError};
use crate::fused::{Fused, Path, room};
use crate::layer::{LstmLayer, Passage, Sequence, join_directions};
use crate::options::ForwardOptions;
use crate::penalty::{activation_penalty, temporal_activation_penalty};
use crate::random::Key;
use crate::recurrence::{MaskSizes, Masks, Recurrence};
use crate::reference::{self, Ended, Raw};
use crate::shapes;
use crate::state::{LstmState, RecurrentState};
use crate::valid::{Padding, Valid};
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
            CellWeights::init(self, layer, key, device)
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
            let cell = ScratchLstmCell::with_config(weights(layer, &key), &self.cell, &key);
            match self.learned_state {
                true => cell.with_learned_state(&key),
                false => cell,
            }
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
    /// | `state` | `[L*K, B, H]` both; if absent zeros, or the learned one |
    /// | output | `[B, T, K*H]`, or `[T, B, K*H]`: the last layer's hidden states, forward then reverse |
    /// | next state | `[L*K, B, H]` both (PyTorch's `h_n`, `c_n`) |
    ///
    /// With a projection the hidden state and the output are narrower: `P` in the place of `H`.
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
        let choice = options.path.unwrap_or(config.path);
        let sizes = Some(config.layer_sizes());
        let path = Path::of(choice, &device, dtype, &config.cell, sizes)?;
        room::check(&device, dtype, config, [batch, steps], &path)?;
        let valid = self.valid(&options, batch, steps)?;
        let states = self.initial_states(options.state, options.resets, batch)?;
        let recurrences = self.recurrences([batch, steps], options.key);
        let call = StackCall {
            recurrences,
            states,
            dropout: self.dropout(options.key),
        };

        if path.is_fused() {
            let passage = Fused {
                batch_first: config.batch_first,
                valid,
                segment: options.segment,
            };
            return Ok(self.run(&passage, input, call));
        }
        let ended = Ended::new(&valid, steps, batch, &device);
        let time_first = if config.batch_first {
            input.swap_dims(0, 1)
        } else {
            input
        };
        let mut input = reference::split_steps(time_first);
        if let Some(ended) = &ended {
            ended.clear(&mut input);
        }
        let (output, state) = self.run(&Raw { ended }, input, call);
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
    /// asks for an instruction set or a rung that cannot be had.
    pub fn path(&self) -> Result<Path, ForwardError> {
        let (dtype, device) = self.kind();
        let config = &self.config;
        let sizes = Some(config.layer_sizes());
        Path::of(config.path, &device, dtype, &config.cell, sizes)
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

    /// Rows marked `true` of `state` as a sequence starts: zeros, or the learned state. For callers
    /// who carry states of rows that start anew one by one.
    ///
    /// # Panics
    ///
    /// If `rows` has another number of entries than the state has rows.
    pub fn restart(&self, state: LstmState, rows: &[bool]) -> LstmState {
        if !self.config.learned_state {
            return state.reset_rows(rows);
        }
        let [_, batch, _] = state.hidden.dims();
        assert_eq!(rows.len(), batch, "one entry for each row of the batch");
        let mask = TensorData::new(rows.to_vec(), [1, batch, 1]);
        let mask = Tensor::<3, Bool>::from_data(mask, &state.hidden.device());
        let start = LstmState::stack(self.cells().map(|cell| cell.initial_state(batch)).collect());
        let put = |old: Tensor<3>, new: Tensor<3>| {
            let mask = mask.clone().expand(old.dims());
            old.mask_where(mask, new)
        };
        LstmState {
            hidden: put(state.hidden, start.hidden),
            cell: put(state.cell, start.cell),
        }
    }

    /// What activation regularization and temporal activation regularization add to the loss,
    /// `α mean(d²) + β mean((y_t+1 - y_t)²)`; `None` if the settings ask for neither.
    ///
    /// `output` is what [`forward`](Self::forward) returned, `dropped` the same after dropout, if
    /// the model has any on it (Merity, McCann & Socher 2017).
    ///
    /// # Panics
    ///
    /// If the two are of different shapes.
    pub fn penalty(&self, output: &Tensor<3>, dropped: &Tensor<3>) -> Option<Tensor<1>> {
        assert_eq!(output.dims(), dropped.dims(), "the output, after dropout");
        let regularization = &self.config.regularization;
        let activation = regularization.activation_penalty;
        let temporal = regularization.temporal_activation_penalty;
        let time = if self.config.batch_first { 1 } else { 0 };
        let terms = [
            (activation > 0.0).then(|| activation_penalty(dropped) * activation),
            (temporal > 0.0).then(|| temporal_activation_penalty(output, time) * temporal),
        ];
        terms.into_iter().flatten().reduce(|a, b| a + b)
    }

    /// The cells in the order of the state, `L*K`.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &ScratchLstmCell> {
        let layers = self.layers.iter();
        layers.flat_map(|layer| layer.directions().map(|(_, cell)| cell))
    }

    fn run<P: Passage>(
        &self,
        passage: &P,
        input: P::Series,
        call: StackCall,
    ) -> (P::Series, LstmState) {
        let mut places = call.recurrences.iter().zip(call.states);
        let mut sequence = Sequence::Shared(input.clone());
        let mut states = Vec::with_capacity(call.recurrences.len());
        for (index, layer) in self.layers.iter().enumerate() {
            // What a residual connection adds is whole.
            let below = sequence.clone();
            if index > 0 {
                if let Some((dropout, key)) = &call.dropout {
                    let key = key.child(index - 1);
                    sequence = sequence
                        .map(|place, series| passage.drop_out(series, *dropout, &key.child(place)));
                }
                if self.config.connection == LayerConnection::Skip {
                    sequence = sequence.map(|_, series| passage.join(vec![series, input.clone()]));
                }
            }
            let mut outputs = Vec::with_capacity(2);
            for (direction, _) in layer.directions() {
                let (recurrence, state) = places.next().expect("one for each direction");
                let read = sequence.of(direction);
                let (output, after) = passage.run(recurrence, read, state, direction);
                outputs.push(output);
                states.push(after);
            }
            sequence = self.shown(passage, outputs);
            if index > 0 && self.config.connection == LayerConnection::Residual {
                sequence = sequence.zip(&below, |shown, read| passage.add(shown, read));
            }
        }
        let output = match sequence {
            Sequence::Shared(series) => series,
            Sequence::PerDirection { forward, reverse } => passage.join(vec![forward, reverse]),
        };
        (output, LstmState::stack(states))
    }

    /// What a layer shows to the next one.
    fn shown<P: Passage>(&self, passage: &P, mut outputs: Vec<P::Series>) -> Sequence<P::Series> {
        if self.config.join == DirectionJoin::AtEnd && outputs.len() == 2 {
            let reverse = outputs.swap_remove(1);
            let forward = outputs.swap_remove(0);
            Sequence::PerDirection { forward, reverse }
        } else {
            Sequence::Shared(join_directions(passage, outputs))
        }
    }

    /// What each layer and direction computes with, in the order of the state.
    fn recurrences(&self, [batch, steps]: [usize; 2], key: Option<&Key>) -> Vec<Recurrence> {
        let regularization = &self.config.regularization;
        let (dtype, device) = self.kind();
        let stream = self.random_stream(key);
        let of_cell = |(place, cell): (usize, &ScratchLstmCell)| {
            let sizes = MaskSizes {
                batch,
                steps,
                d_state: cell.d_state(),
                d_hidden: cell.d_hidden(),
            };
            let stream = stream.as_ref().map(|key| key.child(place));
            let masks = Masks::draw(regularization, sizes, stream.as_ref(), &device, dtype);
            let mut weights = cell.weights();
            if let Some(key) = stream.filter(|_| regularization.weight_dropout > 0.0) {
                let (rate, shape) = (regularization.weight_dropout, weights.weight_hh.dims());
                let mask = mask(shape, rate, &key.child("weight_hh"), &device, dtype);
                weights.weight_hh = weights.weight_hh * mask;
            }
            Recurrence {
                weights,
                cell: self.config.cell.clone(),
                masks,
            }
        };
        self.cells().enumerate().map(of_cell).collect()
    }

    /// Dropout between layers and its stream, if it applies.
    fn dropout(&self, key: Option<&Key>) -> Option<(Dropout, Key)> {
        let regularization = &self.config.regularization;
        let dropout = Dropout {
            rate: regularization.dropout,
            locked: regularization.dropout_locked,
        };
        let applies = dropout.rate > 0.0 && self.layers.len() > 1;
        let stream = applies.then(|| self.random_stream(key)).flatten()?;
        Some((dropout, stream.child("dropout")))
    }

    /// The stream of the masks if there are any: the module takes part in training and its device
    /// differentiates.
    fn random_stream(&self, key: Option<&Key>) -> Option<Key> {
        let applies = self.config.regularization.is_random()
            && self.training.is_enabled()
            && self.kind().1.is_autodiff();
        applies.then(|| key.cloned().unwrap_or_else(Key::from_entropy))
    }

    /// The steps that are there, checked.
    fn valid(
        &self,
        options: &ForwardOptions<'_>,
        batch: usize,
        steps: usize,
    ) -> Result<Valid, ForwardError> {
        if let Some(lengths) = options.lengths {
            shapes::check_lengths(lengths, batch, steps)?;
        }
        match (options.lengths, options.mask) {
            (Some(_), Some(_)) => Err(ForwardError::LengthsAndMask),
            (Some(lengths), None) => Ok(match options.padding {
                Padding::Right => Valid::first(lengths, steps),
                Padding::Left => Valid::last(lengths, steps),
            }),
            (None, Some(mask)) => {
                shapes::check_mask(mask.len(), batch, steps)?;
                if mask.iter().all(|&valid| valid) {
                    return Ok(Valid::All);
                }
                let batch_first = self.config.batch_first;
                let place = |time: usize, row: usize| match batch_first {
                    true => mask[row * steps + time],
                    false => mask[time * batch + row],
                };
                let time_first =
                    (0..steps).flat_map(|time| (0..batch).map(move |row| place(time, row)));
                Ok(Valid::Mask(time_first.collect()))
            }
            (None, None) => Ok(Valid::All),
        }
    }

    /// The states to begin with in the order of the state, checked.
    fn initial_states(
        &self,
        state: Option<LstmState>,
        resets: Option<&[bool]>,
        batch: usize,
    ) -> Result<Vec<LstmState<2>>, ForwardError> {
        let config = &self.config;
        let (dtype, device) = self.kind();
        let count = config.num_layers * config.num_directions();
        if let Some(resets) = resets {
            shapes::check_rows("resets", resets.len(), batch)?;
        }
        let Some(state) = state else {
            return Ok(self.cells().map(|cell| cell.initial_state(batch)).collect());
        };
        for (what, tensor, width) in [
            ("state.hidden", &state.hidden, config.d_state()),
            ("state.cell", &state.cell, config.d_hidden),
        ] {
            shapes::check_state(what, tensor, count, batch, width)?;
            shapes::check_kind(what, tensor, dtype, &device)?;
        }
        let state = match resets {
            Some(rows) => self.restart(state, rows),
            None => state,
        };
        Ok((0..count).map(|place| state.of_layer(place)).collect())
    }

    /// Element type and device of the weights.
    fn kind(&self) -> (burn::tensor::DType, Device) {
        let weight = &self.layers[0].forward.weight_hh;
        (weight.dtype(), weight.device())
    }
}

/// One call of a stack, whichever way it is run.
struct StackCall {
    /// Of each layer and direction, in the order of the state.
    recurrences: Vec<Recurrence>,
    /// The states to begin with, in the same order.
    states: Vec<LstmState<2>>,
    /// Between layers, and the stream of its masks.
    dropout: Option<(Dropout, Key)>,
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
