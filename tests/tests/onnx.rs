//! Proves that LSTM nodes of ONNX models compute here what ONNX Runtime computes, that exported
//! models compute there what the module computes here, and that what does not fit is a typed error.
//!
//! The goldens and the scripts that made them are in `goldens/onnx/`.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor};
use scratch_lstm::config::{
    Activation, Activations, CellConfig, DirectionJoin, LayerConnection, ScratchLstmConfig,
};
use scratch_lstm::weights::{
    OnnxDirection, OnnxExport, OnnxFile, OnnxOptions, OnnxState, WeightsError,
};
use scratch_lstm::{ForwardOptions, Key, LstmState, PathChoice, ScratchLstm};
use scratch_tests::random::randomize;
use scratch_tests::{Golden, Tolerance, assert_close, device, dtypes};
use tempfile::TempDir;

/// A file of `goldens/onnx/`.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens/onnx")
        .join(name)
}

fn open(name: &str) -> OnnxFile {
    OnnxFile::open(path(&format!("{name}.onnx"))).unwrap()
}

/// Inputs and outputs beside a model.
fn golden(name: &str) -> Golden {
    Golden::open(&format!("../onnx/{name}"))
}

fn options() -> OnnxOptions {
    OnnxOptions {
        batch_first: false,
        key: Some(Key::new(0).child("lstm")),
        ..OnnxOptions::default()
    }
}

fn import(file: &OnnxFile, node: Option<&str>) -> Result<ScratchLstm, WeightsError> {
    file.lstm(node, &options(), &device())
}

/// Models beside which the outputs of ONNX Runtime lie, by the folder of `goldens/onnx/`.
fn cases(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter_map(|name| Some(name.strip_suffix(".onnx")?.to_string()))
        .collect();
    names.sort();
    names
}

/// How far from ONNX Runtime's numbers: a half-precision model is computed in f32 there too, and
/// its outputs are rounded.
fn tolerance(name: &str) -> Tolerance {
    match name {
        "half" => Tolerance::of(DType::F16),
        _ => Tolerance::of(DType::F32),
    }
}

/// That a module computes what ONNX Runtime has, both ways that there are.
fn check_forward(name: &str, lstm: &ScratchLstm, golden: &Golden, prefix: &str) {
    let device = device();
    let dtype = lstm.layers[0].forward.weight_hh.val().dtype();
    let tensor = |name: &str| golden.tensor::<3>(name, &device, dtype);
    let lengths = golden.has("lengths").then(|| {
        let lengths = golden.values("lengths").values;
        lengths.iter().map(|&length| length as usize).collect()
    });
    let lengths: Option<Vec<usize>> = lengths;
    let has_state = prefix.is_empty() && golden.has("h_0");
    let state = has_state.then(|| LstmState {
        hidden: tensor("h_0"),
        cell: tensor("c_0"),
    });
    for path in [PathChoice::Raw, PathChoice::Auto] {
        let call = ForwardOptions::new()
            .with_state(state.clone())
            .with_lengths(lengths.as_deref())
            .with_path(path);
        let (output, state) = lstm.forward_with(tensor("input"), call);
        for (part, found) in [
            ("output", output),
            ("h_n", state.hidden),
            ("c_n", state.cell),
        ] {
            let expected = golden.values(&format!("{prefix}{part}"));
            let what = format!("{name}, {path:?}: {prefix}{part}");
            assert_close(&what, found, expected, tolerance(name));
        }
    }
}

mod import {
    use super::*;

    #[test]
    fn outputs_are_onnx_runtimes() {
        let names = cases("");
        let names: Vec<&String> = names.iter().filter(|name| *name != "functions").collect();
        assert_eq!(names.len(), 21, "{names:?}");
        for name in names {
            for dtype in dtypes() {
                let golden = golden(name);
                let settings = golden.lstm_config();
                let options = OnnxOptions {
                    batch_first: settings.batch_first,
                    dtype: Some(dtype),
                    ..options()
                };
                let file = open(name);
                let lstm = file.lstm(None, &options, &device()).unwrap();
                let expected = ScratchLstmConfig {
                    cell: lstm.config().cell.clone(),
                    ..settings
                };
                assert_eq!(lstm.config(), &expected, "{name}");
                check_forward(name, &lstm, &golden, "");
            }
        }
    }

    #[test]
    fn every_activation_in_every_place() {
        let file = open("functions");
        let golden = golden("functions");
        let names = file.names();
        assert_eq!(names.len(), 33);
        for name in names {
            let lstm = import(&file, Some(&name)).unwrap();
            let input = golden.tensor::<3>("input", &device(), DType::F32);
            let (output, _) = lstm.forward(input, None);
            let expected = golden.values(&name);
            assert_close(&name, output, expected, Tolerance::of(DType::F32));
        }
    }

    #[test]
    fn nodes_say_what_they_are() {
        let node = open("everything").describe("lstm_1").unwrap();
        assert_eq!(
            (node.name.as_str(), node.d_input, node.d_hidden),
            ("lstm_1", 22, 11)
        );
        assert_eq!(node.direction, OnnxDirection::Bidirectional);
        assert_eq!(node.state, OnnxState::Given);
        assert!(node.bias && node.lengths && !node.batch_first);
        let activations = Activations {
            gate: Activation::HardSigmoid {
                alpha: 0.3,
                beta: 0.6,
            },
            cell: Activation::ScaledTanh {
                alpha: 1.2,
                beta: 0.8,
            },
            hidden: Activation::Softsign,
        };
        let expected = CellConfig {
            peepholes: true,
            coupled: true,
            clip_gates: Some(0.9),
            activations,
            ..CellConfig::default()
        };
        assert_eq!(node.cell, expected);
        assert!(open("layout").describe("lstm_0").unwrap().batch_first);
        let parameters = open("default_parameters").describe("lstm_0").unwrap();
        let expected = Activations {
            gate: Activation::HardSigmoid {
                alpha: 0.2,
                beta: 0.5,
            },
            cell: Activation::Elu { alpha: 1.0 },
            hidden: Activation::LeakyRelu { alpha: 0.01 },
        };
        assert_eq!(parameters.cell.activations, expected);
    }

    #[test]
    fn states_in_the_file_are_reported() {
        let state_of = |name: &str, node: &str| open(name).describe(node).unwrap().state;
        assert_eq!(state_of("constant_state", "lstm_1"), OnnxState::Constant);
        assert_eq!(state_of("no_state", "lstm_0"), OnnxState::Zeros);
        assert_eq!(state_of("plain", "lstm_0"), OnnxState::Given);
        // Zeros of a batch that a call brings, cut to each layer.
        assert_eq!(state_of("torch_no_bias", "/LSTM_1"), OnnxState::Zeros);
        assert_eq!(state_of("torch_stacked", "/LSTM_1"), OnnxState::Given);

        let golden = golden("constant_state");
        let state = open("constant_state").initial_state(None, &options(), &device());
        let state = state.unwrap().unwrap();
        let exact = Tolerance {
            absolute: 0.0,
            relative: 0.0,
        };
        assert_close("h_0", state.hidden, golden.values("h_0"), exact);
        assert_close("c_0", state.cell, golden.values("c_0"), exact);
        for name in ["plain", "no_state", "torch_no_bias"] {
            let state = open(name).initial_state(None, &options(), &device());
            assert!(state.unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn a_stack_can_be_taken_in_parts() {
        let file = open("torch_deep_bidirectional");
        assert_eq!(file.names(), ["/LSTM", "/LSTM_1"]);
        let whole = import(&file, None).unwrap();
        let first = OnnxOptions {
            layers: Some(1),
            ..options()
        };
        let first = file.lstm(None, &first, &device()).unwrap();
        let second = import(&file, Some("/LSTM_1")).unwrap();
        assert_eq!(first.config().d_input, 5);
        assert_eq!(second.config().d_input, 22);
        let input = golden("torch_deep_bidirectional").tensor::<3>("input", &device(), DType::F32);
        let input = input.swap_dims(0, 1);
        let (between, _) = first.forward(input.clone(), None);
        let (found, _) = second.forward(between, None);
        let (expected, _) = whole.forward(input, None);
        assert_close("output", found, expected, Tolerance::of(DType::F32));
        // By an output, too.
        let names = file.layers(Some("/LSTM_1_output_0"), &options()).unwrap();
        assert_eq!(names[0].name, "/LSTM_1");
    }

    #[test]
    fn what_was_asked_for_and_is_not_there() {
        let file = open("torch_stacked");
        let layers = |layers| OnnxOptions {
            layers: Some(layers),
            ..options()
        };
        let error = |node: Option<&str>, options: &OnnxOptions| {
            let result = file.lstm(node, options, &device());
            result.unwrap_err().to_string()
        };
        let found = error(None, &layers(3));
        assert!(
            found.contains("expected 3, found 2 that read each other"),
            "{found}"
        );
        let found = error(Some("/LSTM_1"), &layers(2));
        assert!(found.contains("expected 2, found 1"), "{found}");
        let found = error(None, &layers(0));
        assert!(found.contains("at least 1"), "{found}");
        let found = error(Some("lstm"), &options());
        assert!(
            found.contains(r#"an LSTM node "lstm", found the LSTM nodes "/LSTM", "/LSTM_1""#),
            "{found}"
        );
        let found = import(&open("functions"), None).unwrap_err().to_string();
        assert!(found.contains("one LSTM node to begin with"), "{found}");
        assert!(found.contains("and 21 more"), "{found}");
    }

    #[test]
    fn the_module_has_what_the_options_say() {
        let key = Key::new(0).child("lstm");
        let given = OnnxOptions {
            batch_first: true,
            dropout: 0.25,
            dtype: Some(DType::F32),
            key: Some(key),
            ..OnnxOptions::default()
        };
        let file = open("torch_stacked");
        let lstm = file.lstm(None, &given, &device()).unwrap();
        assert!(lstm.config().batch_first);
        assert_eq!(lstm.config().regularization.dropout, 0.25);
        let again = file.lstm(None, &given, &device()).unwrap();
        assert_eq!(
            lstm.layers[1].forward.weight_ih.id,
            again.layers[1].forward.weight_ih.id
        );
        let other = file.lstm(None, &OnnxOptions::default(), &device()).unwrap();
        assert_ne!(
            lstm.layers[1].forward.weight_ih.id,
            other.layers[1].forward.weight_ih.id
        );
        // Something that is trained on has gradients.
        let device = device().autodiff();
        let lstm = file.lstm(None, &given, &device).unwrap();
        let (output, _) = lstm.forward(Tensor::ones([3, 7, 5], &device), None);
        let gradients = output.sum().backward();
        assert!(
            lstm.layers[0]
                .forward
                .weight_ih
                .val()
                .grad(&gradients)
                .is_some()
        );
    }
}

mod refused {
    use super::*;

    fn error(name: &str) -> String {
        let file = OnnxFile::open(path(&format!("refused/{name}.onnx")));
        let result = file.and_then(|file| import(&file, None));
        result.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn all_settings_without_a_counterpart_are_named_at_once() {
        let found = error("settings");
        for part in [
            r#"the LSTM node "the_lstm""#,
            r#"direction "sideways""#,
            "input_forget 2",
            "clip -1",
            r#"the activation "Sine""#,
            r#"the activation "Affine" without its number in activation_alpha"#,
            "hidden_size 3 with weights of 2 hidden units",
            r#"the attribute "slope""#,
        ] {
            assert!(found.contains(part), "{part} in: {found}");
        }
    }

    #[test]
    fn directions_and_weights() {
        for (name, part) in [
            ("reverse", r#""the_lstm" runs in reverse alone"#),
            ("huge_hidden_size", "hidden_size 4611686018427387904 with"),
            ("weights_from_outside", "R that is no constant"),
            ("external", "its numbers in another file"),
            ("shape_negative", "the shape [1, 8, -3]"),
            (
                "shape_overflow",
                "for the shape [4611686018427387904, 8, 3]",
            ),
            ("shape_too_few", "found 96 bytes for the shape [1, 8, 4]"),
        ] {
            let found = error(name);
            assert!(found.contains(part), "{name}: {found}");
        }
        assert_eq!(cases("refused").len(), 9);
    }

    #[test]
    fn nodes_that_are_not_the_layers_of_one_lstm() {
        let found = error("stack");
        for part in [
            "the stack of 2 from the LSTM node \"lower\" on",
            r#""upper" has another hidden_size than "lower""#,
            r#""upper" has another use of sequence_lens than "lower""#,
            r#""upper" has another input_forget, clip or activations than "lower""#,
        ] {
            assert!(found.contains(part), "{part} in: {found}");
        }
        // Each of them by itself is one.
        let file = open("refused/stack");
        let alone = OnnxOptions {
            layers: Some(1),
            ..options()
        };
        let lower = file.lstm(Some("lower"), &alone, &device()).unwrap();
        assert_eq!(lower.config().d_hidden, 2);
        let upper = import(&file, Some("upper")).unwrap();
        assert_eq!(upper.config().cell.clip_gates, Some(2.0));
        // Of its state one half is in the file, and the other is not.
        let error = file.initial_state(Some("upper"), &options(), &device());
        let found = error.unwrap_err().to_string();
        assert!(found.contains(r#"initial state of "upper""#), "{found}");
    }

    #[test]
    fn no_model() {
        let folder = TempDir::new().unwrap();
        let error = |path: &Path| OnnxFile::open(path).unwrap_err().to_string();
        assert!(error(folder.path()).contains("found a folder"));
        let missing = folder.path().join("missing.onnx");
        assert!(matches!(
            OnnxFile::open(&missing),
            Err(WeightsError::Io { .. })
        ));
        let file = folder.path().join("file.onnx");
        for (bytes, part) in [
            (&b""[..], "found an empty file"),
            (b"\x08\x08", "found a file without a graph"),
            (b"\x3a\x00", "names no version of ONNX's operators"),
            (b"not a model at all", "found damage"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            assert!(error(&file).contains(part), "{}", error(&file));
        }
        // Larger than the format allows, whatever is in it.
        let large = std::fs::File::create(&file).unwrap();
        large.set_len(1 << 31).unwrap();
        assert!(error(&file).contains("found 2147483648 bytes"));
        // A graph, and no LSTM in it.
        std::fs::write(&file, b"\x3a\x00\x42\x02\x10\x11").unwrap();
        let found = import(&OnnxFile::open(&file).unwrap(), None).unwrap_err();
        assert!(found.to_string().contains("found no LSTM node"), "{found}");
    }
}

mod export {
    use super::*;

    /// What is exported: the module and the inputs of its model.
    fn module(name: &str) -> (ScratchLstm, OnnxExport) {
        let plain = OnnxExport::default();
        let with_lengths = OnnxExport {
            lengths: true,
            ..OnnxExport::default()
        };
        let without_states = OnnxExport {
            states: false,
            ..OnnxExport::default()
        };
        let imported = |name: &str| {
            let options = OnnxOptions {
                batch_first: golden(name).lstm_config().batch_first,
                ..options()
            };
            open(name).lstm(None, &options, &device()).unwrap()
        };
        let drawn = |config: ScratchLstmConfig| {
            let key = Key::new(7).child(name);
            randomize(config.init_with(&key, &device()), 0.7, &key, DType::F32)
        };
        let config = ScratchLstmConfig::new(5, 11);
        let stacked = |layers| config.clone().with_num_layers(layers);
        match name {
            "trained" => (imported("torch_single"), plain),
            "trained_stack" => (imported("torch_deep_bidirectional"), with_lengths),
            "no_bias" => (imported("torch_no_bias"), without_states),
            "everything" => (imported("everything"), with_lengths),
            "residual" => {
                let config = stacked(3)
                    .with_bidirectional(true)
                    .with_connection(LayerConnection::Residual);
                (drawn(config), with_lengths)
            }
            "residual_time_first" => {
                let config = stacked(2)
                    .with_batch_first(false)
                    .with_connection(LayerConnection::Residual);
                (drawn(config), without_states)
            }
            "skip" => {
                let config = stacked(3)
                    .with_bidirectional(true)
                    .with_connection(LayerConnection::Skip);
                (drawn(config), plain)
            }
            "learned" => {
                let config = stacked(2).with_bidirectional(true);
                (drawn(config.with_learned_state(true)), plain)
            }
            "learned_inside" => {
                let config = config.with_batch_first(false).with_learned_state(true);
                (drawn(config), without_states)
            }
            other => panic!("no module {other}"),
        }
    }

    const MODULES: [&str; 9] = [
        "everything",
        "learned",
        "learned_inside",
        "no_bias",
        "residual",
        "residual_time_first",
        "skip",
        "trained",
        "trained_stack",
    ];

    fn bytes(name: &str) -> Vec<u8> {
        let (lstm, options) = module(name);
        lstm.to_onnx(&options).unwrap()
    }

    #[test]
    #[ignore = "writes goldens/onnx/export/*.onnx anew; check.py runs them then"]
    fn write_models() {
        for name in MODULES {
            let (lstm, options) = module(name);
            let path = path(&format!("export/{name}.onnx"));
            lstm.save_onnx(path, &options).unwrap();
        }
    }

    /// The stored files are those that ONNX Runtime has run.
    #[test]
    fn models_are_the_stored_ones_byte_for_byte() {
        assert_eq!(cases("export"), MODULES);
        for name in MODULES {
            let stored = std::fs::read(path(&format!("export/{name}.onnx"))).unwrap();
            assert!(bytes(name) == stored, "{name}");
        }
    }

    #[test]
    fn onnx_runtime_computes_what_the_module_computes() {
        for name in MODULES {
            let (lstm, _) = module(name);
            let golden = golden(&format!("export/{name}"));
            check_forward(name, &lstm, &golden, "");
            if name == "learned" {
                // The same without states: those that were learned.
                check_forward(name, &lstm, &golden, "start.");
            }
        }
    }

    /// Every parameter by its path.
    fn weights(lstm: &ScratchLstm) -> Vec<(usize, burn::tensor::TensorData)> {
        let cells = lstm
            .layers
            .iter()
            .flat_map(|layer| std::iter::once(&layer.forward).chain(&layer.reverse));
        let tensors = cells.flat_map(|cell| {
            let weights = cell.weights();
            let rows = [weights.bias, weights.peephole];
            [weights.weight_ih, weights.weight_hh]
                .map(Tensor::into_data)
                .into_iter()
                .chain(rows.into_iter().flatten().map(Tensor::into_data))
                .collect::<Vec<_>>()
        });
        tensors.enumerate().collect()
    }

    #[test]
    fn weights_come_back_bit_for_bit() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("lstm.onnx");
        for name in MODULES {
            let (lstm, export) = module(name);
            lstm.save_onnx(&file, &export).unwrap();
            let options = OnnxOptions {
                batch_first: lstm.config().batch_first,
                ..options()
            };
            let again = OnnxFile::open(&file).unwrap();
            let again = again.lstm(None, &options, &device()).unwrap();
            let expected = lstm.config().clone().with_learned_state(false);
            assert_eq!(again.config(), &expected, "{name}");
            assert_eq!(weights(&again), weights(&lstm), "{name}");
        }
    }

    #[test]
    fn element_types_stay() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("lstm.onnx");
        let config = ScratchLstmConfig::new(5, 11).with_bidirectional(true);
        let key = Key::new(3);
        let dtypes = [DType::F64, DType::F16].into_iter();
        for dtype in dtypes.filter(|&dtype| device().supports_dtype(dtype)) {
            let lstm = randomize(config.init_with(&key, &device()), 0.7, &key, dtype);
            lstm.save_onnx(&file, &OnnxExport::default()).unwrap();
            let options = OnnxOptions {
                dtype: Some(dtype),
                batch_first: true,
                ..options()
            };
            let again = OnnxFile::open(&file).unwrap();
            let again = again.lstm(None, &options, &device()).unwrap();
            assert_eq!(weights(&again), weights(&lstm), "{dtype:?}");
        }
        if device().supports_dtype(DType::BF16) {
            let lstm = randomize(config.init_with(&key, &device()), 0.7, &key, DType::BF16);
            let error = lstm.to_onnx(&OnnxExport::default()).unwrap_err();
            assert!(matches!(error, WeightsError::DType { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_is_replaced_once_it_is_complete() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("lstm.onnx");
        std::fs::write(&file, "before").unwrap();
        let (lstm, options) = module("trained");
        lstm.save_onnx(&file, &options).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), bytes("trained"));
        let entries = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(entries.count(), 1);
        let nowhere = folder.path().join("missing/lstm.onnx");
        assert!(lstm.save_onnx(nowhere, &options).is_err());
    }

    #[test]
    fn all_settings_without_a_counterpart_are_named_at_once() {
        let mut config = ScratchLstmConfig::new(5, 11)
            .with_num_layers(2)
            .with_bidirectional(true)
            .with_join(DirectionJoin::AtEnd);
        config.d_proj = Some(7);
        config.cell.layer_norm = true;
        config.cell.clip_cell = Some(3.0);
        config.regularization.zoneout_hidden = 0.1;
        config.regularization.zoneout_cell = 0.2;
        let lstm = config.init_with(&Key::new(0), &device());
        let error = lstm.to_onnx(&OnnxExport::default()).unwrap_err();
        assert!(matches!(error, WeightsError::Inexpressible { .. }));
        let found = error.to_string();
        for part in [
            "d_proj = 7",
            "join = AtEnd",
            "cell.layer_norm",
            "cell.clip_cell = 3",
            "regularization.zoneout_hidden = 0.1",
            "regularization.zoneout_cell = 0.2",
        ] {
            assert!(found.contains(part), "{part} in: {found}");
        }
        // What only training has is no obstacle.
        let mut config = ScratchLstmConfig::new(5, 11)
            .with_num_layers(2)
            .with_dropout(0.5);
        config.regularization.recurrent_dropout = 0.3;
        config.regularization.weight_dropout = 0.2;
        let lstm = config.init_with(&Key::new(0), &device());
        assert!(lstm.to_onnx(&OnnxExport::default()).is_ok());
    }

    #[test]
    fn weights_on_a_device_that_differentiates_are_the_same() {
        let config = ScratchLstmConfig::new(5, 11).with_num_layers(2);
        let of = |device| {
            let lstm = config.init_with(&Key::new(5), device);
            lstm.to_onnx(&OnnxExport::default()).unwrap()
        };
        assert!(of(&device().autodiff()) == of(&device()));
    }
}
