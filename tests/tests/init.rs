//! Proves that weights and identities follow from seed and path alone: equal on every backend that
//! is built in, different on different paths, and in records byte for byte.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use scratch_lstm::config::InitConfig;
use scratch_lstm::{Initializer, Key, ScratchLstm, ScratchLstmConfig, param_id};
use scratch_tests::backend::{all, chosen};
use scratch_tests::probe::parameters;
use scratch_tests::{Values, assert_all_same, device};
use scratch_train::models::{CharLmConfig, ClassifierConfig, ForecasterConfig};

fn config() -> ScratchLstmConfig {
    ScratchLstmConfig::new(5, 11)
        .with_num_layers(2)
        .with_bidirectional(true)
}

fn lstm(path: &str, seed: u64, device: &Device) -> ScratchLstm {
    config().init_with(&Key::new(seed).child(path), device)
}

fn bytes<M: Module>(module: M) -> Vec<u8> {
    module.into_record().into_bytes().unwrap().to_vec()
}

#[test]
fn one_key_gives_the_same_weights_on_every_backend() {
    let initializers = [
        Initializer::Uniform,
        Initializer::XavierUniform,
        Initializer::XavierNormal,
        Initializer::Orthogonal,
        Initializer::XavierUniformJoined,
        Initializer::OrthogonalJoined,
    ];
    for initializer in initializers {
        let config = config().with_initializers(initializer, initializer);
        let on = |device: &Device| parameters(&config.init_with(&Key::new(7).child("x"), device));
        let here = on(&device());
        assert_eq!(here.len(), 12);
        for other in all() {
            let what = format!(
                "{initializer:?} on {} and {}",
                other.backend,
                chosen().backend
            );
            assert_all_same(&what, &on(&other.device), &here);
            let autodiff = other.device.autodiff();
            assert_all_same(&what, &on(&autodiff), &here);
        }
    }
}

#[test]
fn the_models_of_the_tasks_are_the_same_on_every_backend() {
    let key = Key::new(7);
    let on = |device: &Device| {
        let mut named = parameters(&CharLmConfig::default().try_init(13, &key, device).unwrap());
        let classifier = ClassifierConfig::default()
            .try_init(13, 4, &key, device)
            .unwrap();
        let forecaster = ForecasterConfig::default()
            .try_init(2, 3, &key, device)
            .unwrap();
        for (name, more) in [
            ("classifier", parameters(&classifier)),
            ("forecaster", parameters(&forecaster)),
        ] {
            named.extend(
                more.into_iter()
                    .map(|(path, values)| (format!("{name}.{path}"), values)),
            );
        }
        named
    };
    let here = on(&device());
    for other in all() {
        assert_all_same(other.backend.name(), &on(&other.device), &here);
    }
}

#[test]
fn another_seed_or_path_gives_other_weights() {
    let of = |path, seed| parameters(&lstm(path, seed, &device()));
    let one = of("encoder", 7);
    for (what, other) in [("seed", of("encoder", 8)), ("path", of("decoder", 7))] {
        for (name, values) in &one {
            // Biases begin the same in all.
            assert_eq!(
                values == &other[name],
                name.ends_with("bias"),
                "{what}: {name}"
            );
        }
    }
    // No two matrices of one LSTM begin with the same number either.
    let matrices = one.iter().filter(|(name, _)| !name.ends_with("bias"));
    let first: BTreeSet<u64> = matrices
        .map(|(_, values)| values.values[0].to_bits())
        .collect();
    assert_eq!(first.len(), 8);
}

#[test]
fn without_a_key_every_lstm_is_another_one() {
    let build = || config().init(&device());
    let (one, other) = (build(), build());
    let weights = |lstm: &ScratchLstm| Values::from(lstm.layers[0].forward.weight_ih.val());
    assert_ne!(weights(&one), weights(&other));
    let of_one: BTreeSet<ParamId> = ids(&one).into_iter().map(|(_, id)| id).collect();
    assert!(ids(&other).iter().all(|(_, id)| !of_one.contains(id)));
}

#[test]
fn identities_follow_from_paths() {
    let encoder = lstm("encoder", 7, &device());
    for (path, id) in ids(&encoder) {
        assert_eq!(id, param_id(&format!("encoder.{path}")), "{path}");
    }
    // Whatever the seed.
    assert_eq!(ids(&encoder), ids(&lstm("encoder", 8, &device())));
    let decoder = lstm("decoder", 7, &device());
    let distinct: BTreeSet<ParamId> = [&encoder, &decoder]
        .into_iter()
        .flat_map(ids)
        .map(|(_, id)| id)
        .collect();
    assert_eq!(distinct.len(), 24);
}

#[test]
fn records_of_two_builds_are_the_same_bytes() {
    let record = |seed| bytes(lstm("encoder", seed, &device()));
    assert_eq!(record(7), record(7));
    assert_ne!(record(7), record(8));
}

#[test]
fn the_forget_gate_begins_open() {
    for forget_bias in [1.0, 0.0, -2.5] {
        let lstm = config()
            .with_forget_bias(forget_bias)
            .init_with(&Key::new(7), &device());
        let biases = parameters(&lstm)
            .into_iter()
            .filter(|(name, _)| name.ends_with("bias"));
        let mut count = 0;
        for (name, bias) in biases {
            count += 1;
            // Gates input, forget, cell, output, eleven units each.
            for (index, &value) in bias.values.iter().enumerate() {
                let expected = if index / 11 == 1 { forget_bias } else { 0.0 };
                assert_eq!(value, expected, "{name} at {index}");
            }
        }
        assert_eq!(count, 4);
    }
}

/// Every parameter's path and identity.
fn ids<M: Module>(module: &M) -> Vec<(String, ParamId)> {
    struct Ids {
        path: Vec<String>,
        found: Vec<(String, ParamId)>,
    }
    impl ModuleVisitor for Ids {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push((self.path.join("."), param.id));
        }
    }
    let mut ids = Ids {
        path: Vec::new(),
        found: Vec::new(),
    };
    module.visit(&mut ids);
    ids.found
}

/// The bias of the gate at `place`, `[H]`, of `init`.
fn bias(init: InitConfig, coupled: bool, place: usize) -> Vec<f64> {
    let mut config = ScratchLstmConfig::new(5, 1000).with_init(init);
    config.cell.coupled = coupled;
    let lstm = config.init_with(&Key::new(3), &device());
    let Values { values, .. } = lstm.layers[0].forward.bias.as_ref().unwrap().val().into();
    values[place * 1000..(place + 1) * 1000].to_vec()
}

/// Tallec & Ollivier 2018: `b_f = ln(U[1, T - 1])`, `b_i = -b_f`, the others 0.
#[test]
fn chrono_biases_span_the_time_scales() {
    let init = || InitConfig {
        chrono: Some(50.0),
        ..InitConfig::default()
    };
    let [input, forget, cell, output] = [0, 1, 2, 3].map(|gate| bias(init(), false, gate));
    assert!(input.iter().zip(&forget).all(|(i, f)| *i == -f));
    assert!(cell.iter().chain(&output).all(|&b| b == 0.0));
    // exp(b_f) is uniform between 1 and 49: mean 25, deviation 48/√12.
    let spans: Vec<f64> = forget.iter().map(|b| b.exp()).collect();
    let mean = spans.iter().sum::<f64>() / 1000.0;
    assert!(
        (mean - 25.0).abs() < 4.0 * 48.0 / 12f64.sqrt() / 1000f64.sqrt(),
        "{mean}"
    );
    assert!(spans.iter().all(|span| (0.999..=49.001).contains(span)));
    // Where `f = 1 - i` the input gate's bias says it all.
    assert_eq!(bias(init(), true, 0), input);
    assert!(bias(init(), true, 1).iter().all(|&b| b == 0.0));
}

#[test]
fn a_coupled_input_gate_opens_as_little_as_the_forget_gate_would() {
    assert!(
        bias(InitConfig::default(), false, 1)
            .iter()
            .all(|&b| b == 1.0)
    );
    assert!(
        bias(InitConfig::default(), true, 0)
            .iter()
            .all(|&b| b == -1.0)
    );
}

/// PyTorch's two biases are uniform in ±1/√H each; their sum has the variance 2/(3H).
#[test]
fn biases_as_pytorch_begins() {
    for gate in 0..4 {
        let values = bias(InitConfig::pytorch(), false, gate);
        let variance = values.iter().map(|b| b * b).sum::<f64>() / 1000.0;
        assert!(
            (variance * 3.0 * 1000.0 / 2.0 - 1.0).abs() < 0.2,
            "{variance}"
        );
    }
}

/// Keras: Glorot's bound over `D` and `4H`, and `W_hhᵀ [H, 4H]` with orthonormal rows.
#[test]
fn weights_as_keras_begins() {
    let config = ScratchLstmConfig::new(33, 67).with_init(InitConfig::keras());
    let lstm = config.init_with(&Key::new(3), &device());
    let cell = &lstm.layers[0].forward;
    let Values { values, .. } = cell.weight_ih.val().into();
    let bound = (6.0 / (33.0 + 4.0 * 67.0f64)).sqrt();
    let largest = values.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    assert!(
        largest <= bound && largest > 0.99 * bound,
        "{largest} of {bound}"
    );
    let weight = cell.weight_hh.val();
    let Values { values, .. } = weight.clone().transpose().matmul(weight).into();
    for (place, product) in values.into_iter().enumerate() {
        let expected = if place % 68 == 0 { 1.0 } else { 0.0 };
        assert!((product - expected).abs() < 1e-5, "{place}: {product}");
    }
}

/// What is learned besides begins so that the LSTM is the plain one.
#[test]
fn peepholes_gains_and_initial_states_begin_neutral() {
    let mut config = config().with_learned_state(true);
    config.cell.peepholes = true;
    let with = config.init_with(&Key::new(3), &device());
    let without = self::config().init_with(&Key::new(3), &device());
    let input = || Tensor::<3>::ones([3, 7, 5], &device());
    let run = |lstm: &ScratchLstm| Values::from(lstm.forward(input(), None).0);
    assert_eq!(run(&with).shape, run(&without).shape);
    let (found, expected) = (run(&with), run(&without));
    for (found, expected) in found.values.iter().zip(&expected.values) {
        assert!((found - expected).abs() < 1e-6);
    }
    config.cell.layer_norm = true;
    let lstm = config.init_with(&Key::new(3), &device());
    for (name, Values { values, .. }) in parameters(&lstm) {
        let expected = match name.rsplit('.').next().unwrap() {
            "peephole" | "cell_bias" => 0.0,
            "input" | "hidden" | "cell" if name.contains("layer_norm") => 1.0,
            "hidden" | "cell" => 0.0,
            _ => continue,
        };
        assert!(values.iter().all(|&x| x == expected), "{name}");
    }
}
