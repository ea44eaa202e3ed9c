//! burn's own LSTMs: `burn::nn::Lstm` and `burn::nn::BiLstm`.
//!
//! burn keeps two linear layers and two biases for each gate, one layer and direction at a time.
//! Its `clip` is a bound of the cell state, and with `input_forget` it has no forget gate. What has
//! no counterpart here (`reverse`, some activations) is an error.

use burn::module::Param;
use burn::nn::{BiLstm, GateController, Linear, Lstm};

use crate::cell::CellWeights;
use crate::config::{Activations, CellConfig, ScratchLstmConfig};
use crate::gates::Gates;
use crate::lstm::ScratchLstm;
use crate::random::Key;

use super::burn_activation;
use super::error::{Problems, WeightsError};
use super::expressible::Abilities;
use super::linears::EightLinears;

impl CellWeights {
    /// The weights of burn's LSTM, biases summed, and what it computes with them; gradients flow
    /// through the weights.
    ///
    /// # Errors
    ///
    /// If it has something without a counterpart here, all of which is named at
    /// [`ScratchLstm::try_from_burn`], or its tensors do not fit each other.
    pub fn try_from_burn(lstm: &Lstm) -> Result<(Self, CellConfig), WeightsError> {
        let config = cell_config(lstm)?;
        let gates = Gates {
            input: lstm.input_gate.clone(),
            forget: match &lstm.forget_gate {
                Some(gate) => gate.clone(),
                None => zeros_like(&lstm.input_gate),
            },
            cell: lstm.cell_gate.clone(),
            output: lstm.output_gate.clone(),
        };
        let weights = EightLinears {
            on_input: gates.clone().map(|gate| gate.input_transform),
            on_hidden: gates.map(|gate| gate.hidden_transform),
        };
        Ok((weights.try_into_cell()?, config))
    }

    /// burn's LSTM with these weights that computes what `config` says: the bias on the input,
    /// zeros on the hidden state. Its parameters are leaves of their own.
    ///
    /// # Errors
    ///
    /// If burn has no counterpart for something in `config`, or the weights do not fit each other.
    pub fn try_into_burn(
        self,
        config: &CellConfig,
        batch_first: bool,
    ) -> Result<Lstm, WeightsError> {
        let (d_input, d_hidden) = (self.d_input(), self.d_hidden());
        let stack = ScratchLstmConfig::new(d_input, d_hidden).with_cell(config.clone());
        BURN.check(&stack)?;
        let EightLinears {
            on_input,
            on_hidden,
        } = EightLinears::try_from_cell(self)?;
        let gate = |(input_transform, hidden_transform)| GateController {
            input_transform,
            hidden_transform,
        };
        let activation = |ours| burn_activation::export(ours).expect("checked above");
        let forget = gate((on_input.forget, on_hidden.forget));
        Ok(Lstm {
            input_gate: gate((on_input.input, on_hidden.input)),
            forget_gate: (!config.coupled).then_some(forget),
            output_gate: gate((on_input.output, on_hidden.output)),
            cell_gate: gate((on_input.cell, on_hidden.cell)),
            d_hidden,
            batch_first,
            reverse: false,
            clip: config.clip_cell,
            input_forget: config.coupled,
            gate_activation: activation(config.activations.gate),
            cell_activation: activation(config.activations.cell),
            hidden_activation: activation(config.activations.hidden),
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
    /// If there is no layer; if one is run in `reverse`, has a `clip` that is no bound, lacks a
    /// forget gate without `input_forget`, or has an activation without a counterpart in
    /// [`Activation`](crate::config::Activation); if the layers differ in their settings or do not
    /// fit each other.
    pub fn try_from_burn(layers: &[Lstm], key: &Key) -> Result<Self, WeightsError> {
        let cells = layers.iter().map(CellWeights::try_from_burn);
        let cells = cells.collect::<Result<Vec<_>, _>>()?;
        let batch_first = agreed("batch_first", layers.iter().map(|layer| layer.batch_first))?;
        assemble(cells, layers.len(), false, batch_first, key)
    }

    /// A stack of burn's bidirectional LSTMs, from the input upwards; each layer but the first
    /// reads both directions of the one below. Parameter identities follow from `key`.
    ///
    /// # Errors
    ///
    /// As for [`try_from_burn`](Self::try_from_burn).
    pub fn try_from_burn_bidirectional(layers: &[BiLstm], key: &Key) -> Result<Self, WeightsError> {
        let mut cells = Vec::with_capacity(2 * layers.len());
        for layer in layers {
            // `BiLstm` transposes for itself and hands its forward LSTM `[B, T, _]`.
            if !layer.forward.batch_first {
                return Err(setting("forward.batch_first", true, false));
            }
            cells.push(CellWeights::try_from_burn(&layer.forward)?);
            cells.push(CellWeights::try_from_burn(&layer.reverse)?);
        }
        let batch_first = agreed("batch_first", layers.iter().map(|layer| layer.batch_first))?;
        assemble(cells, layers.len(), true, batch_first, key)
    }

    /// One of burn's LSTMs for each layer. burn has no dropout between them.
    ///
    /// # Errors
    ///
    /// If this LSTM is bidirectional, or has something that burn's has not, all of which is named:
    /// projections, connections between layers, a learned state, peepholes, a bound of the gates,
    /// layer normalization, some activations.
    pub fn try_to_burn(&self) -> Result<Vec<Lstm>, WeightsError> {
        let config = self.config();
        if config.bidirectional {
            return Err(setting("bidirectional", false, true));
        }
        BURN.check(config)?;
        let layers = self.layers.iter().map(|layer| {
            let weights = layer.forward.weights();
            weights.try_into_burn(&config.cell, config.batch_first)
        });
        layers.collect()
    }

    /// One of burn's bidirectional LSTMs for each layer. burn has no dropout between them.
    ///
    /// # Errors
    ///
    /// If this LSTM has one direction, or its directions are independent stacks; otherwise as for
    /// [`try_to_burn`](Self::try_to_burn).
    pub fn try_to_burn_bidirectional(&self) -> Result<Vec<BiLstm>, WeightsError> {
        let config = self.config();
        BURN.check(config)?;
        let layers = self.layers.iter().map(|layer| {
            let Some(reverse) = &layer.reverse else {
                return Err(setting("bidirectional", true, false));
            };
            Ok(BiLstm {
                forward: layer.forward.weights().try_into_burn(&config.cell, true)?,
                reverse: reverse.weights().try_into_burn(&config.cell, true)?,
                d_hidden: config.d_hidden,
                batch_first: config.batch_first,
            })
        });
        layers.collect()
    }
}

/// What burn's LSTM has.
const BURN: Abilities = Abilities {
    coupled: true,
    clip_cell: true,
    activations: |activation| burn_activation::export(activation).is_some(),
    ..Abilities::plain("burn")
};

/// What burn's LSTM computes, if it can be computed here.
fn cell_config(lstm: &Lstm) -> Result<CellConfig, WeightsError> {
    let mut problems = Problems::default();
    if lstm.reverse {
        problems.add(setting("reverse", false, true));
    }
    if lstm.forget_gate.is_none() && !lstm.input_forget {
        problems.add(setting("forget_gate", "a gate", "none"));
    }
    let mut activation = |name: &str, theirs| {
        let ours = burn_activation::import(theirs);
        if ours.is_none() {
            let expected = "one with a counterpart";
            problems.add(setting(name, expected, format!("{theirs:?}")));
        }
        ours
    };
    let gate = activation("gate_activation", &lstm.gate_activation);
    let cell = activation("cell_activation", &lstm.cell_activation);
    let hidden = activation("hidden_activation", &lstm.hidden_activation);
    problems.into_result()?;
    let usual = Activations::default();
    Ok(CellConfig {
        coupled: lstm.input_forget,
        clip_cell: lstm.clip,
        activations: Activations {
            gate: gate.unwrap_or(usual.gate),
            cell: cell.unwrap_or(usual.cell),
            hidden: hidden.unwrap_or(usual.hidden),
        },
        ..CellConfig::default()
    })
}

/// A gate that has no influence.
fn zeros_like(gate: &GateController) -> GateController {
    let zeros = |linear: &Linear| Linear {
        weight: Param::from_tensor(linear.weight.val().zeros_like()),
        bias: None,
    };
    GateController {
        input_transform: zeros(&gate.input_transform),
        hidden_transform: zeros(&gate.hidden_transform),
    }
}

/// The value of all layers.
fn agreed<T: PartialEq + Copy>(
    name: &str,
    mut layers: impl Iterator<Item = T>,
) -> Result<T, WeightsError> {
    let Some(first) = layers.next() else {
        return Err(setting("layers", "at least 1", 0));
    };
    match layers.all(|other| other == first) {
        true => Ok(first),
        false => Err(setting(name, "the same in all layers", "both")),
    }
}

/// A stack of cells. What the first of them says of it is checked against the others.
fn assemble(
    cells: Vec<(CellWeights, CellConfig)>,
    num_layers: usize,
    bidirectional: bool,
    batch_first: bool,
    key: &Key,
) -> Result<ScratchLstm, WeightsError> {
    let (first, cell) = &cells[0];
    if let Some((_, other)) = cells.iter().find(|(_, other)| other != cell) {
        let (expected, found) = (format!("{cell:?} as in the first"), format!("{other:?}"));
        return Err(setting("settings of a layer", expected, found));
    }
    let config = ScratchLstmConfig::new(first.d_input(), first.d_hidden())
        .with_num_layers(num_layers)
        .with_bidirectional(bidirectional)
        .with_batch_first(batch_first)
        .with_bias(first.bias.is_some())
        .with_cell(cell.clone());
    let weights = cells.into_iter().map(|(weights, _)| weights).collect();
    ScratchLstm::from_weights(&config, weights, key)
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
    use crate::config::DirectionJoin;
    use crate::fused::PathChoice;
    use crate::options::ForwardOptions;
    use crate::state::LstmState;
    use crate::weights::testing::{B, D, H, T, assert_close, filled};
    use burn::nn::activation::{ActivationConfig, EluConfig, HardSigmoidConfig};
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

    /// That both ways through `ours` give these outputs and this final state.
    fn check_both_paths(
        ours: &ScratchLstm,
        (input, state): (&Tensor<3>, &LstmState),
        (expected, last): (&Tensor<3>, &LstmState),
    ) {
        for path in [PathChoice::Auto, PathChoice::Raw] {
            let options = ForwardOptions::new()
                .with_state(state.clone())
                .with_path(path);
            let (output, after) = ours.forward_with(input.clone(), options);
            assert_close(output, expected.clone());
            assert_close(after.hidden, last.hidden.clone());
            assert_close(after.cell, last.cell.clone());
        }
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

    /// Each of burn's settings, and all of them together, in both directions of two layers.
    #[test]
    fn settings_are_burns_both_ways() {
        let device = crate::testing::device();
        let base = |d_input| LstmConfig::new(d_input, H, true);
        let settings: [fn(LstmConfig) -> LstmConfig; 5] = [
            |config| config.with_clip(Some(0.15)),
            |config| config.with_input_forget(true),
            |config| {
                let hard = HardSigmoidConfig::new().with_alpha(0.3);
                config.with_gate_activation(ActivationConfig::HardSigmoid(hard))
            },
            |config| {
                config
                    .with_cell_activation(ActivationConfig::Softsign)
                    .with_hidden_activation(ActivationConfig::Relu)
            },
            |config| {
                let elu = EluConfig::new().with_alpha(0.7);
                config
                    .with_clip(Some(0.2))
                    .with_input_forget(true)
                    .with_gate_activation(ActivationConfig::HardSigmoid(HardSigmoidConfig::new()))
                    .with_cell_activation(ActivationConfig::Elu(elu))
            },
        ];
        let plain = [base(D), base(H)].map(|config| config.init(&device));
        for (index, setting) in settings.into_iter().enumerate() {
            let mut theirs = [base(D), base(H)].map(|config| setting(config).init(&device));
            for (lstm, plain) in theirs.iter_mut().zip(&plain) {
                lstm.input_gate = plain.input_gate.clone();
                lstm.cell_gate = plain.cell_gate.clone();
                lstm.output_gate = plain.output_gate.clone();
                lstm.forget_gate = lstm.forget_gate.take().and(plain.forget_gate.clone());
            }
            let (input, state) = (filled([B, T, D], 40) * 4.0, stack_state(2));
            let (expected, last) = run_stack(&theirs, input.clone(), state.clone());
            let (unset, _) = run_stack(&plain, input.clone(), state.clone());
            let difference = (unset - expected.clone()).abs().max().into_scalar::<f32>();
            assert!(difference > 1e-3, "setting {index} makes no difference");

            let ours = ScratchLstm::try_from_burn(&theirs, &key()).unwrap();
            check_both_paths(&ours, (&input, &state), (&expected, &last));

            let back = ours.try_to_burn().unwrap();
            assert_eq!(back[1].clip, theirs[1].clip);
            assert_eq!(
                back[1].forget_gate.is_some(),
                theirs[1].forget_gate.is_some()
            );
            let (output, _) = run_stack(&back, input, state);
            assert_close(output, expected);
        }
    }

    #[test]
    fn bidirectional_outputs_are_burns_both_ways() {
        let device = crate::testing::device();
        for batch_first in [true, false] {
            let config = BiLstmConfig::new(D, H, true).with_batch_first(batch_first);
            let mut theirs = config.init(&device);
            theirs.forward.clip = Some(0.2);
            theirs.reverse.clip = Some(0.2);
            let shape = if batch_first { [B, T, D] } else { [T, B, D] };
            let (input, state) = (filled(shape, 33), stack_state(2));
            let (expected, last) = theirs.forward(input.clone(), Some(state.clone().into()));

            let ours = ScratchLstm::try_from_burn_bidirectional(&[theirs], &key()).unwrap();
            let last = last.into();
            check_both_paths(&ours, (&input, &state), (&expected, &last));

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
                base.clone().with_gate_activation(ActivationConfig::Gelu),
                "gate_activation: expected one with a counterpart, found Gelu",
            ),
            (
                base.clone()
                    .with_reverse(true)
                    .with_hidden_activation(ActivationConfig::Selu),
                "2 things do not fit: reverse: expected false, found true; \
                 hidden_activation: expected one with a counterpart, found Selu",
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
    fn layers_of_other_settings_are_an_error() {
        let device = crate::testing::device();
        let mut theirs = [D, H].map(|width| LstmConfig::new(width, H, true).init(&device));
        theirs[1].clip = Some(0.5);
        let error = ScratchLstm::try_from_burn(&theirs, &key()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("settings of a layer: expected"),
            "{error}"
        );
        assert!(error.contains("clip_cell: Some(0.5)"), "{error}");
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
        assert_eq!(error, "burn has no join = AtEnd");
        let ours = ScratchLstmConfig::new(D, H)
            .with_projection(4)
            .with_cell(CellConfig {
                peepholes: true,
                clip_cell: Some(0.5),
                ..CellConfig::default()
            });
        let error = ours.init_with(&key(), &device).try_to_burn().unwrap_err();
        assert_eq!(
            error.to_string(),
            "burn has no d_proj = 4, cell.peepholes = true"
        );
    }
}
