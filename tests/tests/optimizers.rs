//! Proves that optimizers take PyTorch's steps (or, where it has none, their papers'), that a record is all of their state, and what
//! decays.

use burn::module::{Module, Param};
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{DType, Device, Tensor, TensorData};
use scratch_lstm::Key;
use scratch_tests::probe::parameters;
use scratch_tests::toy::{Toy, ToyData};
use scratch_tests::{Named, Tolerance, Values, assert_all_same, assert_close, device, dtypes};
use scratch_train::SequenceModel;
use scratch_train::optimizer::{GroupConfig, OptimizerConfig, ParameterGroups, with_path_ids};
use serde_json::{Value, json};

#[derive(Module, Debug)]
struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

const WEIGHT: [f64; 6] = [0.3, -0.8, 1.7, 2.0, -0.1, 0.5];
const BIAS: [f64; 3] = [0.4, -0.9, 1.2];

fn layer(device: &Device, dtype: DType) -> Layer {
    let weight = TensorData::new(WEIGHT.to_vec(), [2, 3]);
    let bias = TensorData::new(BIAS.to_vec(), [3]);
    let weight = Tensor::from_data(weight, (device, dtype));
    let bias = Tensor::from_data(bias, (device, dtype));
    with_path_ids(Layer {
        weight: Param::from_tensor(weight),
        bias: Param::from_tensor(bias),
    })
}

fn all_values(layer: &Layer) -> Vec<f64> {
    let weight: Values = layer.weight.val().into();
    let bias: Values = layer.bias.val().into();
    [weight.values, bias.values].concat()
}

#[test]
fn steps_are_pytorchs_or_the_papers() {
    let golden = include_str!("../goldens/pytorch/training.json");
    let golden: Value = serde_json::from_str(golden).unwrap();
    let cases = golden["optimizers"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let config: OptimizerConfig = serde_json::from_value(case["settings"].clone()).unwrap();
        config.validate().unwrap();
        for dtype in dtypes() {
            let mut layer = layer(&device().autodiff(), dtype);
            // PyTorch's optimizers let biases decay.
            let groups = ParameterGroups::new(&layer, &config, &[], true).unwrap();
            let mut optimizer = config.init(&groups);
            for (step, after) in case["after"].as_array().unwrap().iter().enumerate() {
                let loss = (layer.weight.val() - 1.0).powi_scalar(4).sum()
                    + layer.bias.val().square().sum();
                let grads = GradientsParams::from_grads(loss.backward(), &layer);
                let rate = groups.learning_rate(case["rate"].as_f64().unwrap());
                layer = optimizer.step(rate, layer, grads);
                let expected: Vec<f64> = serde_json::from_value(after.clone()).unwrap();
                // Their settings are f32.
                let tolerance = Tolerance::of(DType::F32);
                assert_close(
                    &format!("{config:?} in {dtype:?}, step {step}"),
                    Values::new([9], all_values(&layer)),
                    Values::new([9], expected),
                    tolerance,
                );
            }
        }
    }
}

/// One of each kind, with everything that has a state of its own.
fn every_kind() -> Vec<OptimizerConfig> {
    [
        json!({ "kind": "adam", "amsgrad": true, "weight_decay": 0.01 }),
        json!({ "kind": "adam" }),
        json!({ "kind": "adam_w", "amsgrad": true }),
        json!({ "kind": "adam_w", "cautious": true, "weight_decay": 0.3 }),
        json!({ "kind": "sgd" }),
        json!({ "kind": "sgd", "momentum": 0.9, "nesterov": true, "weight_decay": 0.01 }),
        json!({ "kind": "rms_prop" }),
        json!({ "kind": "rms_prop", "momentum": 0.9, "centered": true }),
        json!({ "kind": "adagrad", "lr_decay": 0.1 }),
        json!({ "kind": "adan", "weight_decay": 0.02 }),
        json!({ "kind": "lion", "weight_decay": 0.1 }),
        json!({ "kind": "lamb", "weight_decay": 0.02 }),
        json!({ "kind": "adafactor" }),
        json!({ "kind": "adafactor", "scale_parameter": true, "weight_decay": 0.02 }),
    ]
    .into_iter()
    .map(|settings| serde_json::from_value(settings).unwrap())
    .collect()
}

fn groups(model: &Toy, config: &OptimizerConfig) -> ParameterGroups {
    let special = [
        GroupConfig::new("lstm.*.weight_hh").with_learning_rate_factor(0.5),
        GroupConfig::new("head.weight").with_weight_decay(0.125),
    ];
    ParameterGroups::new(model, config, &special, false).unwrap()
}

fn step(
    model: Toy,
    optimizer: &mut ModuleOptimizer,
    groups: &ParameterGroups,
    index: usize,
) -> Toy {
    let data = ToyData::new(9, 2, 5, 31);
    let batch = data.batch(index, &device().autodiff());
    let loss = model.step(&batch, None, &Key::new(0)).loss;
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    optimizer.step(groups.learning_rate(0.01), model, grads)
}

#[test]
fn a_record_is_all_of_the_state() {
    for config in every_kind() {
        config.validate().unwrap();
        let what = format!("{config:?}");
        let mut model = with_path_ids(Toy::new(3, 0.0, &device().autodiff()));
        let groups = groups(&model, &config);
        let mut through = config.init(&groups);
        let start = parameters(&model);
        for index in 0..4 {
            model = step(model, &mut through, &groups, index);
        }
        let record = through.to_record();
        let tensors = record.len();
        let bytes = record.into_bytes().unwrap();
        let loaded = config
            .init(&groups)
            .load_record(OptimizerRecord::from_bytes(bytes).unwrap());
        assert_eq!(loaded.to_record().len(), tensors, "{what}");
        let mut resumed = loaded;
        let mut again = model.clone();
        for index in 4..9 {
            model = step(model, &mut through, &groups, index);
            again = step(again, &mut resumed, &groups, index);
        }
        let expected = parameters(&model);
        assert_all_same(&what, &parameters(&again), &expected);
        // Everything moved, and nothing to where it is no number.
        for (name, values) in &expected {
            assert_ne!(values, &start[name], "{what}: {name}");
            assert!(values.values.iter().all(|value| value.is_finite()));
        }
    }
}

/// A record without its tensors is not enough: the test above would fail for what has a state.
#[test]
fn a_fresh_optimizer_goes_another_way() {
    let stateful = |config: &OptimizerConfig| config != &OptimizerConfig::sgd(0.0);
    for config in every_kind().into_iter().filter(stateful) {
        let mut model = with_path_ids(Toy::new(3, 0.0, &device().autodiff()));
        let groups = groups(&model, &config);
        let mut optimizer = config.init(&groups);
        for index in 0..4 {
            model = step(model, &mut optimizer, &groups, index);
        }
        let through = step(model.clone(), &mut optimizer, &groups, 4);
        let fresh = step(model, &mut config.init(&groups), &groups, 4);
        assert_ne!(parameters(&through), parameters(&fresh), "{config:?}");
    }
}

/// Without a gradient there is nothing but decay: by hand, `weight * (1 - rate * decay)`.
#[test]
fn weights_decay_and_biases_do_not() {
    let rate = 0.5;
    let decayed = |special: &[GroupConfig], decay_biases: bool, kind: &str| -> Vec<f64> {
        let config = json!({ "kind": kind, "weight_decay": 0.25 });
        let config: OptimizerConfig = serde_json::from_value(config).unwrap();
        let layer = layer(&device().autodiff(), DType::F32);
        let groups = ParameterGroups::new(&layer, &config, special, decay_biases).unwrap();
        let mut grads = GradientsParams::new();
        grads.register(layer.weight.id, layer.weight.val().inner().zeros_like());
        grads.register(layer.bias.id, layer.bias.val().inner().zeros_like());
        let mut optimizer = config.init(&groups);
        all_values(&optimizer.step(groups.learning_rate(rate), layer, grads))
    };
    let by_hand = |weight: f64, bias: f64| -> Vec<f64> {
        let weights = WEIGHT.iter().map(|value| weight * value);
        weights
            .chain(BIAS.iter().map(|value| bias * value))
            .collect()
    };
    let check = |found: Vec<f64>, expected: Vec<f64>| {
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    };
    let left = |decay: f64| 1.0 - rate * decay;
    for kind in ["sgd", "adam_w", "lion", "adafactor"] {
        check(decayed(&[], false, kind), by_hand(left(0.25), 1.0));
        check(decayed(&[], true, kind), by_hand(left(0.25), left(0.25)));
        let special = [
            GroupConfig::new("bias").with_weight_decay(0.125),
            GroupConfig::new("weight").with_learning_rate_factor(0.5),
        ];
        check(
            decayed(&special, false, kind),
            by_hand(left(0.125), left(0.125)),
        );
        let frozen = [GroupConfig::new("*").with_learning_rate_factor(0.0)];
        check(decayed(&frozen, true, kind), by_hand(1.0, 1.0));
    }
}

/// The factor of a group is that of the learning rate: plain descent by hand.
#[test]
fn a_group_has_its_own_learning_rate() {
    let config = OptimizerConfig::sgd(0.0);
    let layer = layer(&device().autodiff(), DType::F32);
    let special = [GroupConfig::new("bias").with_learning_rate_factor(3.0)];
    let groups = ParameterGroups::new(&layer, &config, &special, false).unwrap();
    let mut grads = GradientsParams::new();
    grads.register(layer.weight.id, layer.weight.val().inner().ones_like());
    grads.register(layer.bias.id, layer.bias.val().inner().ones_like());
    let moved = config
        .init(&groups)
        .step(groups.learning_rate(0.01), layer, grads);
    let expected: Vec<f64> = WEIGHT
        .iter()
        .map(|value| value - 0.01)
        .chain(BIAS.iter().map(|value| value - 0.03))
        .collect();
    let named = |values: Vec<f64>| Named::from([("all".to_string(), Values::new([9], values))]);
    let tolerance = Tolerance::of(DType::F32);
    scratch_tests::assert_all_close(
        "one step",
        &named(all_values(&moved)),
        &named(expected),
        tolerance,
    );
}
