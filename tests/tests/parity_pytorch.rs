//! Proves that the LSTM, its functional form, the cell, global-norm clipping and the losses give
//! PyTorch's numbers: outputs, final states and every gradient, stacked, bidirectional, time first,
//! and with lengths against PyTorch's packed sequences. The goldens and the script that made them
//! are in `goldens/pytorch/`.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use scratch_lstm::weights::{PytorchFile, PytorchOptions, TwoBiasWeights};
use scratch_lstm::{ForwardOptions, Key, LstmState, ScratchLstm, ScratchLstmCell, functional};
use scratch_tests::golden::Golden;
use scratch_tests::probe::{Cotangents, Sequence, probe};
use scratch_tests::{
    Named, PATHS, Tolerance, Values, assert_all_close, assert_close, device, dtypes,
};
use scratch_train::gradients::clip_global_norm;
use scratch_train::loss::{cross_entropy, smoothed_cross_entropy};
use serde_json::Value;

/// The goldens are in f32 whatever the module computes in, and PyTorch's sigmoid and tanh are
/// other approximations.
fn tolerance() -> Tolerance {
    Tolerance::of(DType::F32).times(2.0)
}

fn lstm_of(golden: &Golden, name: &str, device: &Device, dtype: DType) -> ScratchLstm {
    let options = PytorchOptions {
        batch_first: golden.lstm_config().batch_first,
        dtype: Some(dtype),
        key: Some(Key::new(0).child("lstm")),
        ..PytorchOptions::default()
    };
    let file = PytorchFile::open(Golden::path(name)).unwrap();
    file.lstm("", &options, device).unwrap()
}

/// `bias_ih_l1_reverse` to `layers.1.reverse.bias`; `None` for the second bias, whose gradient is
/// the first's.
fn path_of(parameter: &str) -> Option<String> {
    let (part, place) = parameter.split_once("_l").unwrap();
    let (layer, direction) = match place.strip_suffix("_reverse") {
        Some(layer) => (layer, "reverse"),
        None => (place, "forward"),
    };
    let part = match part {
        "bias_ih" => "bias",
        "bias_hh" => return None,
        weight => weight,
    };
    Some(format!("layers.{layer}.{direction}.{part}"))
}

fn expected(golden: &Golden) -> Named {
    let mut named = Named::new();
    for name in golden.names() {
        if ["output", "h_n", "c_n", "grad.input", "grad.h_0", "grad.c_0"].contains(&name) {
            named.insert(name.into(), golden.values(name));
        } else if let Some(parameter) = name.strip_prefix("grad.")
            && let Some(path) = path_of(parameter)
        {
            named.insert(format!("grad.{path}"), golden.values(name));
        }
    }
    named
}

#[test]
fn outputs_states_and_gradients() {
    let folder = std::fs::read_dir(Golden::path("x").parent().unwrap()).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut cases: Vec<String> = names
        .filter_map(|name| Some(name.strip_suffix(".safetensors")?.to_string()))
        .filter(|name| name.starts_with("lstm_"))
        .collect();
    cases.sort();
    assert_eq!(cases.len(), 10, "{cases:?}");
    for name in cases {
        for dtype in dtypes() {
            check_lstm(&name, dtype);
        }
    }
}

fn check_lstm(name: &str, dtype: DType) {
    let golden = Golden::open(name);
    let device = device().autodiff();
    let lstm = lstm_of(&golden, name, &device, dtype);
    assert_eq!(lstm.config(), &golden.lstm_config(), "{name}");
    let constant = |name: &str| golden.tensor::<3>(name, &device, dtype);
    let leaf = |name: &str| constant(name).require_grad();
    let sequence = Sequence {
        input: leaf("input"),
        state: golden.has("h_0").then(|| LstmState {
            hidden: leaf("h_0"),
            cell: leaf("c_0"),
        }),
    };
    let cotangents = Cotangents {
        output: constant("d_output"),
        state: LstmState {
            hidden: constant("d_h_n"),
            cell: constant("d_c_n"),
        },
    };
    let lengths: Option<Vec<usize>> = golden.has("lengths").then(|| {
        let lengths = golden.values("lengths").values;
        lengths.into_iter().map(|length| length as usize).collect()
    });
    assert_eq!(lengths.is_some(), name.ends_with("packed"));
    for path in PATHS {
        let options = ForwardOptions::new()
            .with_lengths(lengths.as_deref())
            .with_path(path);
        let found = probe(&lstm, &sequence.fresh(), &cotangents, options);
        let what = format!("{name} in {dtype:?}, {path:?}");
        assert_all_close(&what, &found, &expected(&golden), tolerance());
    }
}

#[test]
fn as_a_function() {
    let golden = Golden::open("functional");
    let device = device();
    for dtype in dtypes() {
        let matrix = |name: &str| golden.tensor::<2>(name, &device, dtype);
        let bias = |name: &str| Some(golden.tensor::<1>(name, &device, dtype));
        // PyTorch's state has an axis for the layer.
        let state = LstmState {
            hidden: golden.tensor::<3>("h_0", &device, dtype).squeeze_dim(0),
            cell: golden.tensor::<3>("c_0", &device, dtype).squeeze_dim(0),
        };
        let (output, state) = functional::lstm(
            golden.tensor("input", &device, dtype),
            state,
            matrix("w_ih"),
            matrix("w_hh"),
            bias("b_ih"),
            bias("b_hh"),
        );
        assert_close("output", output, golden.values("output"), tolerance());
        let state = state.map(|tensor| tensor.unsqueeze_dim::<3>(0));
        assert_close("h_n", state.hidden, golden.values("h_n"), tolerance());
        assert_close("c_n", state.cell, golden.values("c_n"), tolerance());
    }
}

#[test]
fn one_step_of_the_cell() {
    let golden = Golden::open("cell");
    let device = device();
    for dtype in dtypes() {
        let weights = TwoBiasWeights {
            weight_ih: golden.tensor("weight_ih", &device, dtype),
            weight_hh: golden.tensor("weight_hh", &device, dtype),
            bias_ih: Some(golden.tensor("bias_ih", &device, dtype)),
            bias_hh: Some(golden.tensor("bias_hh", &device, dtype)),
            weight_hr: None,
        };
        let cell = ScratchLstmCell::from_weights(weights.try_into_cell().unwrap(), &Key::new(0));

        let state = LstmState {
            hidden: golden.tensor("h_0", &device, dtype),
            cell: golden.tensor("c_0", &device, dtype),
        };
        let after = cell.forward(golden.tensor("input", &device, dtype), Some(state));
        assert_close("h_1", after.hidden, golden.values("h_1"), tolerance());
        assert_close("c_1", after.cell, golden.values("c_1"), tolerance());

        let unbatched = |name: &str| golden.tensor(&format!("{name}_unbatched"), &device, dtype);
        let state = LstmState {
            hidden: unbatched("h_0"),
            cell: unbatched("c_0"),
        };
        let after = cell.forward_unbatched(unbatched("input"), Some(state));
        let expected = |name: &str| golden.values(&format!("{name}_unbatched"));
        assert_close("h_1 unbatched", after.hidden, expected("h_1"), tolerance());
        assert_close("c_1 unbatched", after.cell, expected("c_1"), tolerance());
    }
}

/// Parameters of the shapes in `clip_grad_norm`.
#[derive(Module, Debug)]
struct Three {
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
    cube: Param<Tensor<3>>,
}

#[test]
fn clipping_by_the_global_norm() {
    let golden = Golden::open("clip_grad_norm");
    let device = device();
    let three = Three {
        matrix: Param::from_tensor(Tensor::zeros([4, 3], &device)),
        vector: Param::from_tensor(Tensor::zeros([7], &device)),
        cube: Param::from_tensor(Tensor::zeros([2, 3, 5], &device)),
    };
    // Below, below and above the norm.
    for max_norm in ["0.5", "1.0", "100.0"] {
        let mut grads = GradientsParams::new();
        let grad = |index: usize| format!("grad.{index}");
        grads.register(
            three.matrix.id,
            golden.tensor::<2>(&grad(0), &device, DType::F32),
        );
        grads.register(
            three.vector.id,
            golden.tensor::<1>(&grad(1), &device, DType::F32),
        );
        grads.register(
            three.cube.id,
            golden.tensor::<3>(&grad(2), &device, DType::F32),
        );
        let (grads, norm) = clip_global_norm(grads, &three, max_norm.parse().unwrap());

        let tolerance = Tolerance::of(DType::F32);
        let norm: f64 = norm.unwrap().into_scalar();
        let expected = golden.scalar("norm");
        assert!(
            tolerance.allows(norm, expected),
            "norm: expected {expected}, found {norm}"
        );
        let check = |index: usize, found: Values| {
            let name = format!("clipped_{max_norm}.{index}");
            assert_close(&name, found, golden.values(&name), tolerance);
        };
        check(0, grads.get::<2>(three.matrix.id).unwrap().into());
        check(1, grads.get::<1>(three.vector.id).unwrap().into());
        check(2, grads.get::<3>(three.cube.id).unwrap().into());
    }
}

/// PyTorch leaves out targets of -100; this project's loss has no such number, so rows are left out
/// before.
#[test]
fn cross_entropy_of_the_targets_that_count() {
    let golden = Golden::open("losses");
    let device = device().autodiff();
    let targets: Vec<i64> = golden
        .values("targets")
        .values
        .iter()
        .map(|&t| t as i64)
        .collect();
    let ignored = golden.settings["ignore_index"].as_i64().unwrap();
    let kept: Vec<i64> = (0..targets.len() as i64)
        .filter(|&row| targets[row as usize] != ignored)
        .collect();
    assert!(!kept.is_empty() && kept.len() < targets.len());
    let integers = |values: Vec<i64>| {
        let count = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [count]), &device)
    };
    for dtype in dtypes() {
        let logits = golden.tensor::<3>("logits", &device, dtype).require_grad();
        let [batch, steps, classes] = logits.dims();
        let rows = logits.clone().reshape([batch * steps, classes]);
        let rows = rows.select(0, integers(kept.clone()));
        let targets = kept.iter().map(|&row| targets[row as usize]).collect();
        let loss = cross_entropy(rows, integers(targets));
        let gradients = loss.backward();
        let tolerance = tolerance();
        let loss: f64 = loss.into_scalar();
        let expected = golden.scalar("loss");
        assert!(
            tolerance.allows(loss, expected),
            "loss: expected {expected}, found {loss}"
        );
        let gradient = logits.grad(&gradients).unwrap();
        assert_close(
            "grad.logits",
            gradient,
            golden.values("grad.logits"),
            tolerance,
        );
    }
}

/// Without autodiff there is no smoothing, whatever is asked for.
#[test]
fn label_smoothing() {
    let golden = include_str!("../goldens/pytorch/training.json");
    let golden: Value = serde_json::from_str(golden).unwrap();
    let cases = golden["smoothing"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    let plain = cases[0]["loss"].as_f64().unwrap();
    for case in cases {
        let smoothing = case["smoothing"].as_f64().unwrap();
        let logits: Vec<f64> = serde_json::from_value(case["logits"].clone()).unwrap();
        let targets: Vec<i64> = serde_json::from_value(case["targets"].clone()).unwrap();
        let gradient: Vec<f64> = serde_json::from_value(case["gradient"].clone()).unwrap();
        let expected = case["loss"].as_f64().unwrap();
        assert!(smoothing == 0.0 || (expected - plain).abs() > 1e-3);
        for dtype in dtypes() {
            let tolerance = Tolerance::of(dtype);
            let run = |device: &Device| {
                let logits = TensorData::new(logits.clone(), [5, 7]);
                let logits = Tensor::<2>::from_data(logits, (device, dtype));
                let targets = TensorData::new(targets.clone(), [5]);
                let targets = Tensor::<1, Int>::from_data(targets, device);
                let logits = match device.is_autodiff() {
                    true => logits.require_grad(),
                    false => logits,
                };
                (
                    smoothed_cross_entropy(logits.clone(), targets, smoothing),
                    logits,
                )
            };
            let (loss, logits) = run(&device().autodiff());
            let gradients = loss.backward();
            let found: f64 = loss.into_scalar();
            assert!(tolerance.allows(found, expected), "{smoothing}: {found}");
            assert_close(
                &format!("gradient at {smoothing}"),
                logits.grad(&gradients).unwrap(),
                Values::new([5, 7], gradient.clone()),
                tolerance,
            );
            let (loss, _) = run(&device());
            assert!(tolerance.allows(loss.into_scalar(), plain));
        }
    }
}
