//! Proves that weights and identities follow from seed and path alone: equal on every backend that
//! is built in, different on different paths, and in records byte for byte.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
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
