//! burn's own LSTMs: `burn::nn::Lstm` and `burn::nn::BiLstm`.
//!
//! burn keeps two linear layers and two biases for each gate, one layer and direction at a time.
//! Its settings that have no counterpart here (`reverse`, `clip`, `input_forget`, other
//! activations) are errors.

use burn::nn::activation::Activation;
use burn::nn::{BiLstm, GateController, Lstm, Sigmoid, Tanh};

use crate::cell::CellWeights;
use crate::config::{DirectionJoin, ScratchLstmConfig};
use crate::gates::Gates;
use crate::lstm::ScratchLstm;
use crate::random::Key;

use super::error::WeightsError;
use super::linears::EightLinears;

impl CellWeights {
    /// The weights of burn's LSTM, biases summed; gradients flow through them.
    ///
    /// # Errors
    ///
    /// If it computes something else than [`cell`](crate::cell) does, in any of the ways named at
    /// [`ScratchLstm::try_from_burn`], or its tensors do not fit each other.
    pub fn try_from_burn(lstm: &Lstm) -> Result<Self, WeightsError> {
        check_settings(lstm)?;
        let Some(forget_gate) = &lstm.forget_gate else {
            return Err(setting("forget_gate", "a gate", "none"));
        };
        let gates = Gates {
            input: &lstm.input_gate,
            forget: forget_gate,
            cell: &lstm.cell_gate,
            output: &lstm.output_gate,
        };
        EightLinears {
            on_input: gates.clone().map(|gate| gate.input_transform.clone()),
            on_hidden: gates.map(|gate| gate.hidden_transform.clone()),
        }
        .try_into_cell()
    }

    /// burn's LSTM with these weights: the bias on the input, zeros on the hidden state. Its
    /// parameters are leaves of their own.
    ///
    /// # Errors
    ///
    /// If the weights do not fit each other.
    pub fn try_into_burn(self, batch_first: bool) -> Result<Lstm, WeightsError> {
        let [_, d_hidden] = self.weight_hh.dims();
        let EightLinears {
            on_input,
            on_hidden,
        } = EightLinears::try_from_cell(self)?;
        let gate = |(input_transform, hidden_transform)| GateController {
            input_transform,
            hidden_transform,
        };
        Ok(Lstm {
            input_gate: gate((on_input.input, on_hidden.input)),
            forget_gate: Some(gate((on_input.forget, on_hidden.forget))),
            output_gate: gate((on_input.output, on_hidden.output)),
            cell_gate: gate((on_input.cell, on_hidden.cell)),
            d_hidden,
            batch_first,
            reverse: false,
            clip: None,
            input_forget: false,
            gate_activation: Activation::Sigmoid(Sigmoid::new()),
            cell_activation: Activation::Tanh(Tanh::new()),
            hidden_activation: Activation::Tanh(Tanh::new()),
        })
    }
}

impl ScratchLstm {
    /// A stack of burn's LSTMs, from the input upwards; parameter identities follow from `key`.
    ///
    /// ```
    /// # #[cfg(feature = "flex")] {
    /// use burn::nn::LstmConfig;
    /// use burn::tensor::Device;
    /// use scratch_lstm::{Key, ScratchLstm};
    ///
    /// let theirs = LstmConfig::new(5, 11, true).init(&Device::flex());
    /// let ours = ScratchLstm::try_from_burn(&[theirs], &Key::new(0).child("lstm"))?;
    /// let theirs = ours.try_to_burn()?.remove(0);
    /// assert_eq!(theirs.d_hidden, 11);
    /// # }
    /// # Ok::<(), scratch_lstm::WeightsError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no layer, if one has a setting without a counterpart here (`reverse`, `clip`,
    /// `input_forget`, another activation than sigmoid for the gates and tanh for the rest), or if
    /// the layers do not fit each other.
    pub fn try_from_burn(layers: &[Lstm], key: &Key) -> Result<Self, WeightsError> {
        let weights = layers.iter().map(CellWeights::try_from_burn);
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        let batch_first = agreed_batch_first(layers.iter().map(|layer| layer.batch_first))?;
        let config = config_of(&weights, layers.len(), false, batch_first);
        Self::from_weights(&config, weights, key)
    }

    /// A stack of burn's bidirectional LSTMs, from the input upwards; each layer but the first
    /// reads both directions of the one below. Parameter identities follow from `key`.
    ///
    /// # Errors
    ///
    /// As for [`try_from_burn`](Self::try_from_burn).
    pub fn try_from_burn_bidirectional(layers: &[BiLstm], key: &Key) -> Result<Self, WeightsError> {
        let mut weights = Vec::with_capacity(2 * layers.len());
        for layer in layers {
            // `BiLstm` transposes for itself and hands its forward LSTM `[B, T, _]`.
            if !layer.forward.batch_first {
                return Err(setting("forward.batch_first", true, false));
            }
            weights.push(CellWeights::try_from_burn(&layer.forward)?);
            weights.push(CellWeights::try_from_burn(&layer.reverse)?);
        }
        let batch_first = agreed_batch_first(layers.iter().map(|layer| layer.batch_first))?;
        let config = config_of(&weights, layers.len(), true, batch_first);
        Self::from_weights(&config, weights, key)
    }

    /// One of burn's LSTMs for each layer. burn has no dropout between them.
    ///
    /// # Errors
    ///
    /// If this LSTM is bidirectional.
    pub fn try_to_burn(&self) -> Result<Vec<Lstm>, WeightsError> {
        let config = self.config();
        if config.bidirectional {
            return Err(setting("bidirectional", false, true));
        }
        self.layers
            .iter()
            .map(|layer| layer.forward.weights().try_into_burn(config.batch_first))
            .collect()
    }

    /// One of burn's bidirectional LSTMs for each layer. burn has no dropout between them.
    ///
    /// # Errors
    ///
    /// If this LSTM has one direction, or its directions are independent stacks.
    pub fn try_to_burn_bidirectional(&self) -> Result<Vec<BiLstm>, WeightsError> {
        let config = self.config();
        check_joined_each_layer(config)?;
        let layers = self.layers.iter().map(|layer| {
            let Some(reverse) = &layer.reverse else {
                return Err(setting("bidirectional", true, false));
            };
            Ok(BiLstm {
                forward: layer.forward.weights().try_into_burn(true)?,
                reverse: reverse.weights().try_into_burn(true)?,
                d_hidden: config.d_hidden,
                batch_first: config.batch_first,
            })
        });
        layers.collect()
    }
}

/// That both directions of a layer read both of the layer below: what burn and PyTorch have.
pub(super) fn check_joined_each_layer(config: &ScratchLstmConfig) -> Result<(), WeightsError> {
    let apart =
        config.bidirectional && config.num_layers > 1 && config.join == DirectionJoin::AtEnd;
    if apart {
        let (expected, found) = (DirectionJoin::EachLayer, DirectionJoin::AtEnd);
        let [expected, found] = [expected, found].map(|join| format!("{join:?}"));
        return Err(setting("join", expected, found));
    }
    Ok(())
}

fn check_settings(lstm: &Lstm) -> Result<(), WeightsError> {
    if lstm.reverse {
        return Err(setting("reverse", false, true));
    }
    if let Some(clip) = lstm.clip {
        return Err(setting("clip", "none", clip));
    }
    if lstm.input_forget {
        return Err(setting("input_forget", false, true));
    }
    let activation = |name: &str, expected: &str, activation: &Activation| {
        Err(setting(name, expected, format!("{activation:?}")))
    };
    if !matches!(lstm.gate_activation, Activation::Sigmoid(_)) {
        return activation("gate_activation", "Sigmoid", &lstm.gate_activation);
    }
    if !matches!(lstm.cell_activation, Activation::Tanh(_)) {
        return activation("cell_activation", "Tanh", &lstm.cell_activation);
    }
    if !matches!(lstm.hidden_activation, Activation::Tanh(_)) {
        return activation("hidden_activation", "Tanh", &lstm.hidden_activation);
    }
    Ok(())
}

/// The `batch_first` of all layers.
fn agreed_batch_first(mut layers: impl Iterator<Item = bool>) -> Result<bool, WeightsError> {
    let Some(first) = layers.next() else {
        return Err(setting("layers", "at least 1", 0));
    };
    match layers.all(|other| other == first) {
        true => Ok(first),
        false => Err(setting("batch_first", "the same in all layers", "both")),
    }
}

/// What the first cell and the number of layers say of the stack; the rest is checked against it.
fn config_of(
    weights: &[CellWeights],
    num_layers: usize,
    bidirectional: bool,
    batch_first: bool,
) -> ScratchLstmConfig {
    let first = &weights[0];
    let mut config = ScratchLstmConfig::new(first.weight_ih.dims()[1], first.weight_hh.dims()[1])
        .with_num_layers(num_layers)
        .with_bidirectional(bidirectional)
        .with_batch_first(batch_first);
    config.bias = first.bias.is_some();
    config
}

fn setting(name: &str, expected: impl ToString, found: impl ToString) -> WeightsError {
    WeightsError::Setting {
        name: name.into(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::LstmState;
    use crate::weights::testing::{B, D, H, T, assert_close, filled};
    use burn::nn::activation::ActivationConfig;
    use burn::nn::{BiLstmConfig, LstmConfig};
    use burn::tensor::Tensor;

    fn key() -> Key {
        Key::new(3).child("lstm")
    }

    fn stack_state(count: usize) -> LstmState {
        LstmState {
            hidden: filled([count, B, H], 31),
            cell: filled([count, B, H], 32),
        }
    }

    /// burn's layers one after the other, each with its part of the state.
    fn run_stack(layers: &[Lstm], input: Tensor<3>, state: LstmState) -> (Tensor<3>, LstmState) {
        let mut output = input;
        let mut states = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let before = state.of_layer(index).into();
            let (next, after) = layer.forward(output, Some(before));
            output = next;
            states.push(after.into());
        }
        (output, LstmState::stack(states))
    }

    #[test]
    fn outputs_are_burns_both_ways() {
        let device = crate::testing::device();
        for (bias, batch_first) in [(true, true), (false, true), (true, false)] {
            let config = |d_input| LstmConfig::new(d_input, H, bias).with_batch_first(batch_first);
            let theirs = [config(D).init(&device), config(H).init(&device)];
            let shape = if batch_first { [B, T, D] } else { [T, B, D] };
            let (input, state) = (filled(shape, 30), stack_state(2));
            let (expected, last) = run_stack(&theirs, input.clone(), state.clone());

            let ours = ScratchLstm::try_from_burn(&theirs, &key()).unwrap();
            let (output, after) = ours.forward(input.clone(), Some(state.clone()));
            assert_close(output, expected.clone());
            assert_close(after.hidden, last.hidden);
            assert_close(after.cell, last.cell);

            let back = ours.try_to_burn().unwrap();
            let (output, _) = run_stack(&back, input, state);
            assert_close(output, expected);
        }
    }

    #[test]
    fn bidirectional_outputs_are_burns_both_ways() {
        let device = crate::testing::device();
        for batch_first in [true, false] {
            let config = BiLstmConfig::new(D, H, true).with_batch_first(batch_first);
            let theirs = config.init(&device);
            let shape = if batch_first { [B, T, D] } else { [T, B, D] };
            let (input, state) = (filled(shape, 33), stack_state(2));
            let (expected, last) = theirs.forward(input.clone(), Some(state.clone().into()));

            let ours = ScratchLstm::try_from_burn_bidirectional(&[theirs], &key()).unwrap();
            let (output, after) = ours.forward(input.clone(), Some(state.clone()));
            assert_close(output, expected.clone());
            assert_close(after.hidden, last.hidden);
            assert_close(after.cell, last.cell);

            let back = ours.try_to_burn_bidirectional().unwrap().remove(0);
            let (output, _) = back.forward(input, Some(state.into()));
            assert_close(output, expected);
        }
    }

    #[test]
    fn two_bidirectional_layers() {
        let device = crate::testing::device();
        let theirs = [D, 2 * H].map(|width| BiLstmConfig::new(width, H, true).init(&device));
        let input = filled([B, T, D], 34);
        let (between, _) = theirs[0].forward(input.clone(), None);
        let (expected, _) = theirs[1].forward(between, None);
        let ours = ScratchLstm::try_from_burn_bidirectional(&theirs, &key()).unwrap();
        let (output, _) = ours.forward(input, None);
        assert_close(output, expected);
        assert_eq!(ours.try_to_burn_bidirectional().unwrap().len(), 2);
    }

    #[test]
    fn a_trained_lstm_gives_leaves() {
        let device = crate::testing::device().autodiff();
        let theirs = LstmConfig::new(D, H, true).init(&device);
        let ours = ScratchLstm::try_from_burn(&[theirs], &key()).unwrap();
        let weight = ours.layers[0].forward.weight_ih.val();
        let (output, _) = ours.forward(Tensor::ones([B, T, D], &device), None);
        let gradients = output.sum().backward();
        assert!(weight.grad(&gradients).is_some());
        let back = ours.try_to_burn().unwrap();
        assert!(back[0].cell_gate.hidden_transform.weight.is_require_grad());
    }

    #[test]
    fn settings_without_a_counterpart_are_errors() {
        let device = crate::testing::device();
        let base = LstmConfig::new(D, H, true);
        let error = |lstm: Lstm| {
            let error = ScratchLstm::try_from_burn(&[lstm], &key()).unwrap_err();
            error.to_string()
        };
        let cases = [
            (
                base.clone().with_reverse(true),
                "reverse: expected false, found true",
            ),
            (
                base.clone().with_clip(Some(3.5)),
                "clip: expected none, found 3.5",
            ),
            (
                base.clone().with_input_forget(true),
                "input_forget: expected false, found true",
            ),
            (
                base.clone().with_gate_activation(ActivationConfig::Tanh),
                "gate_activation: expected Sigmoid, found Tanh",
            ),
            (
                base.clone().with_hidden_activation(ActivationConfig::Relu),
                "hidden_activation: expected Tanh, found Relu",
            ),
        ];
        for (config, expected) in cases {
            let found = error(config.init(&device));
            assert!(found.starts_with(expected), "{found}");
        }
        let layers = [
            base.init(&device),
            LstmConfig::new(H + 1, H, true).init(&device),
        ];
        assert_eq!(
            ScratchLstm::try_from_burn(&layers, &key())
                .unwrap_err()
                .to_string(),
            "layers.1.forward.weight_ih: expected shape [4H=44, D=11], found [44, 12]"
        );
        let mixed = [
            base.init(&device),
            LstmConfig::new(H, H, false).init(&device),
        ];
        assert_eq!(
            ScratchLstm::try_from_burn(&mixed, &key())
                .unwrap_err()
                .to_string(),
            "layers.1.forward.bias: expected a bias, found no bias"
        );
        assert_eq!(
            ScratchLstm::try_from_burn(&[], &key())
                .unwrap_err()
                .to_string(),
            "layers: expected at least 1, found 0"
        );
    }

    #[test]
    fn what_burn_does_not_have_is_an_error() {
        let device = crate::testing::device();
        let both = ScratchLstmConfig::new(D, H)
            .with_num_layers(2)
            .with_bidirectional(true);
        let ours = both.init_with(&key(), &device);
        let error = ours.try_to_burn().unwrap_err().to_string();
        assert_eq!(error, "bidirectional: expected false, found true");
        let apart = both.with_join(DirectionJoin::AtEnd);
        let error = apart.init_with(&key(), &device).try_to_burn_bidirectional();
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "join: expected EachLayer, found AtEnd");
    }
}
