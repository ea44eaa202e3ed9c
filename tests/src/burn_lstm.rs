//! burn's own LSTMs as a stack, and their gradients in this project's layout.

use burn::module::Module;
use burn::nn::{BiLstm, BiLstmConfig, GateController, Linear, Lstm, LstmConfig};
use burn::tensor::{DType, Gradients, Tensor};
use scratch_lstm::{ForwardOptions, Key, LstmState, PathChoice, ScratchLstm, ScratchLstmConfig};
use scratch_train::Backend;

use crate::backend::{chosen, is_gpu};
use crate::compare::{Named, Tolerance, Values, assert_all_close, assert_close};
use crate::probe::{Case, PATHS, Sequence, WEIGHT_BOUND, observe, probe};
use crate::random::randomize;

/// burn's LSTMs, from the input upwards.
#[derive(Module, Debug)]
pub enum BurnStack {
    /// One direction.
    One(Vec<Lstm>),
    /// Both directions, joined at each layer.
    Both(Vec<BiLstm>),
}

impl BurnStack {
    /// With random weights, all biases among them.
    pub fn random(case: &Case) -> Self {
        let config = &case.config;
        let (d_hidden, device) = (config.d_hidden, case.device());
        let widths = (0..config.num_layers).map(|layer| config.layer_input(layer));
        let stack = if config.bidirectional {
            let layer = |width| {
                BiLstmConfig::new(width, d_hidden, config.bias)
                    .with_batch_first(config.batch_first)
                    .init(&device)
            };
            Self::Both(widths.map(layer).collect())
        } else {
            let layer = |width| {
                LstmConfig::new(width, d_hidden, config.bias)
                    .with_batch_first(config.batch_first)
                    .init(&device)
            };
            Self::One(widths.map(layer).collect())
        };
        randomize(stack, WEIGHT_BOUND, &case.key("burn"), case.dtype)
    }

    /// The same weights in this project's LSTM.
    pub fn to_scratch(&self) -> ScratchLstm {
        let key = Key::new(0).child("lstm");
        match self {
            Self::One(layers) => ScratchLstm::try_from_burn(layers, &key),
            Self::Both(layers) => ScratchLstm::try_from_burn_bidirectional(layers, &key),
        }
        .expect("weights that fit")
    }

    /// One layer after the other, each from its part of the state `[L*K, B, H]`.
    pub fn forward(&self, input: Tensor<3>, state: Option<LstmState>) -> (Tensor<3>, LstmState) {
        let mut output = input;
        let mut states = Vec::new();
        let part = |index: usize, count: usize| {
            let state = state.clone()?;
            Some(state.map(|tensor| tensor.narrow(0, index * count, count)))
        };
        match self {
            Self::One(layers) => {
                for (index, layer) in layers.iter().enumerate() {
                    let before = part(index, 1).map(|one| one.map(|t| t.squeeze_dim::<2>(0)));
                    let (next, after) = layer.forward(output, before.map(Into::into));
                    output = next;
                    let after = LstmState::from(after);
                    states.push(after.map(|tensor| tensor.unsqueeze_dim::<3>(0)));
                }
            }
            Self::Both(layers) => {
                for (index, layer) in layers.iter().enumerate() {
                    let (next, after) = layer.forward(output, part(index, 2).map(Into::into));
                    output = next;
                    states.push(after.into());
                }
            }
        }
        let hidden = states.iter().map(|state| state.hidden.clone()).collect();
        let cell = states.iter().map(|state| state.cell.clone()).collect();
        let state = LstmState {
            hidden: Tensor::cat(hidden, 0),
            cell: Tensor::cat(cell, 0),
        };
        (output, state)
    }

    /// The gradients under the names and in the layout of [`ScratchLstm`]'s: both biases of a gate
    /// have the gradient of their sum.
    pub fn gradients(&self, gradients: &Gradients) -> Named {
        let mut named = Named::new();
        let mut add = |layer: usize, direction: &str, lstm: &Lstm| {
            let path = format!("grad.layers.{layer}.{direction}");
            for (name, values) in of_lstm(lstm, gradients) {
                named.insert(format!("{path}.{name}"), values);
            }
        };
        match self {
            Self::One(layers) => {
                for (index, layer) in layers.iter().enumerate() {
                    add(index, "forward", layer);
                }
            }
            Self::Both(layers) => {
                for (index, layer) in layers.iter().enumerate() {
                    add(index, "forward", &layer.forward);
                    add(index, "reverse", &layer.reverse);
                }
            }
        }
        named
    }

    /// The second bias of each gate zero and out of training: what is left is this project's LSTM.
    pub fn with_second_bias_frozen(mut self) -> Self {
        let freeze = |lstm: &mut Lstm| {
            let gates = [
                Some(&mut lstm.input_gate),
                lstm.forget_gate.as_mut(),
                Some(&mut lstm.cell_gate),
                Some(&mut lstm.output_gate),
            ];
            for gate in gates.into_iter().flatten() {
                let linear = gate.hidden_transform.clone();
                gate.hidden_transform = Linear {
                    weight: linear.weight,
                    bias: linear
                        .bias
                        .map(|bias| bias.map(|t| t.zeros_like()).set_require_grad(false)),
                };
            }
        };
        match &mut self {
            Self::One(layers) => layers.iter_mut().for_each(freeze),
            Self::Both(layers) => layers.iter_mut().for_each(|layer| {
                freeze(&mut layer.forward);
                freeze(&mut layer.reverse);
            }),
        }
        self
    }
}

/// `weight_ih`, `weight_hh` and `bias` of one of burn's LSTMs, gates input, forget, cell, output.
fn of_lstm(lstm: &Lstm, gradients: &Gradients) -> Vec<(&'static str, Values)> {
    let forget_gate = lstm.forget_gate.as_ref().expect("not coupled");
    let gates = [
        &lstm.input_gate,
        forget_gate,
        &lstm.cell_gate,
        &lstm.output_gate,
    ];
    let weight = |linear: fn(&GateController) -> &Linear| -> Values {
        let grads = gates.map(|gate| {
            let weight = linear(gate).weight.val();
            weight.grad(gradients).expect("a gradient").transpose()
        });
        Tensor::cat(grads.to_vec(), 0).into()
    };
    let bias = |linear: fn(&GateController) -> &Linear| -> Option<Values> {
        let grads = gates.map(|gate| {
            let bias = linear(gate).bias.as_ref()?;
            Some(bias.val().grad(gradients).expect("a gradient"))
        });
        let grads: Option<Vec<Tensor<1>>> = grads.into_iter().collect();
        grads.map(|grads| Tensor::cat(grads, 0).into())
    };
    let mut named = vec![
        ("weight_ih", weight(|gate| &gate.input_transform)),
        ("weight_hh", weight(|gate| &gate.hidden_transform)),
    ];
    let biases = bias(|gate| &gate.input_transform).zip(bias(|gate| &gate.hidden_transform));
    if let Some((on_input, on_hidden)) = biases {
        let tolerance = Tolerance::of(lstm.input_gate.input_transform.weight.dtype());
        assert_close(
            "gradients of both biases",
            on_hidden,
            on_input.clone(),
            tolerance,
        );
        named.push(("bias", on_input));
    }
    named
}

/// Sizes (B, T, D, H) for comparisons: odd ones, and 1 for each.
pub fn sizes() -> Vec<(usize, usize, usize, usize)> {
    if is_gpu() {
        return vec![(3, 7, 5, 11), (1, 1, 1, 1)];
    }
    vec![
        (3, 7, 5, 11),
        (1, 7, 5, 11),
        (3, 1, 5, 11),
        (3, 7, 1, 11),
        (3, 7, 5, 1),
        (1, 1, 1, 1),
        (2, 19, 7, 3),
        (5, 8, 3, 2),
        (2, 17, 13, 33),
    ]
}

/// Large enough for the gates to be computed one by one. For f64: sums this long differ in f32 by
/// the order in which they are formed.
const LARGE: (usize, usize, usize, usize) = (33, 3, 7, 181);

/// Compares this project's LSTM with burn's over all sizes, layer counts, directions, with and
/// without bias, batch first and time first, in `dtype`: outputs, both final states and every
/// gradient by name. Returns how many cases there were.
pub fn check_parity(dtype: DType, bidirectional: bool) -> usize {
    let mut cases = 0;
    let large = (dtype == DType::F64).then_some(LARGE);
    for (batch, steps, d_input, d_hidden) in sizes().into_iter().chain(large) {
        for num_layers in if is_gpu() { vec![2] } else { vec![1, 2, 3] } {
            for (bias, batch_first) in [(true, true), (false, true), (true, false), (false, false)]
            {
                let config = ScratchLstmConfig::new(d_input, d_hidden)
                    .with_num_layers(num_layers)
                    .with_bidirectional(bidirectional)
                    .with_bias(bias)
                    .with_batch_first(batch_first);
                cases += 1;
                let case = Case::new(config)
                    .with_sizes(batch, steps)
                    .with_dtype(dtype)
                    .with_seed(cases);
                check_case(&case);
            }
        }
    }
    cases as usize
}

fn check_case(case: &Case) {
    let theirs = BurnStack::random(case);
    let ours = theirs.to_scratch();
    assert_eq!(
        ours.config(),
        &case.config,
        "what the weights say of the LSTM"
    );
    let (sequence, cotangents) = (case.sequence(), case.cotangents());
    let tolerance = Tolerance::of(case.dtype);

    let (output, state) = theirs.forward(sequence.input.clone(), sequence.state.clone());
    let (mut expected, gradients) = observe(&sequence, output, state, &cotangents);
    expected.extend(theirs.gradients(&gradients));
    let check = |what: String, sequence: &Sequence, expected: &Named| {
        for path in PATHS {
            let options = ForwardOptions::new().with_path(path);
            let found = probe(&ours, &sequence.fresh(), &cotangents, options);
            // On NdArray burn's own products and the kernels' round differently, and small entries of
            // large gradients show the errors of both. Raw operations are made of the same products
            // as burn's LSTM.
            let on_ndarray = chosen().backend == Backend::NdArray;
            let tolerance = match (path, case.dtype) {
                (PathChoice::Fused, DType::F32) if on_ndarray => tolerance.times(2.0),
                _ => tolerance,
            };
            assert_all_close(&format!("{what}, {path:?}"), &found, expected, tolerance);
        }
    };
    check(case.to_string(), &sequence, &expected);

    // Without a state both begin with zeros.
    let sequence = Sequence {
        state: None,
        ..sequence.fresh()
    };
    let (output, state) = theirs.forward(sequence.input.clone(), None);
    let (mut expected, gradients) = observe(&sequence, output, state, &cotangents);
    expected.extend(theirs.gradients(&gradients));
    check(format!("{case}, without a state"), &sequence, &expected);
}
