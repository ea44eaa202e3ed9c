//! Weights from and to PyTorch files: parity with PyTorch, every kind of unfit file.
//!
//! The goldens and the scripts that made them are in `goldens/pytorch/` and
//! `goldens/pytorch_files/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData, Tolerance};
use scratch_lstm::config::DirectionJoin;
use scratch_lstm::weights::{PytorchFile, PytorchOptions, WeightsError, save_safetensors};
use scratch_lstm::{Key, ScratchLstm, ScratchLstmConfig};

const PREFIX: &str = "encoder.lstm";
const MODELS: [&str; 3] = [
    "inside_model.pt",
    "inside_model.safetensors",
    "inside_model_nested.pt",
];

type Tensors = BTreeMap<String, TensorData>;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens/pytorch")
        .join(name)
}

/// A file of `goldens/pytorch_files/`.
fn saved(name: &str) -> PathBuf {
    golden("../pytorch_files").join(name)
}

/// The LSTM at the top of a file of `goldens/pytorch_files/`.
fn import_top(name: &str) -> Result<ScratchLstm, WeightsError> {
    let options = PytorchOptions::default();
    ScratchLstm::try_from_pytorch_file(saved(name), "", &options, &device())
}

fn device() -> Device {
    Device::default()
}

fn import(path: impl AsRef<Path>) -> Result<ScratchLstm, WeightsError> {
    ScratchLstm::try_from_pytorch_file(path, PREFIX, &PytorchOptions::default(), &device())
}

fn config() -> ScratchLstmConfig {
    ScratchLstmConfig::new(5, 11)
        .with_num_layers(2)
        .with_bidirectional(true)
}

fn fresh() -> ScratchLstm {
    config().init_with(&Key::new(1).child("lstm"), &device())
}

/// All tensors of the golden model.
fn golden_tensors() -> Tensors {
    let file = PytorchFile::open(golden("inside_model.safetensors")).unwrap();
    let names = file.names().into_iter();
    names
        .map(|name| (name.clone(), file.data(&name).unwrap()))
        .collect()
}

/// A file in a folder that lives as long as it.
struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn save(&self, tensors: &Tensors) -> PathBuf {
        let path = self.path("model.safetensors");
        save_safetensors(&path, tensors).unwrap();
        path
    }
}

/// The golden model with one change; what importing it says.
fn import_error(change: impl FnOnce(&mut Tensors)) -> String {
    let scratch = Scratch::new();
    let mut tensors = golden_tensors();
    change(&mut tensors);
    let path = scratch.save(&tensors);
    let text = import(&path).unwrap_err().to_string();
    text.replace(&path.display().to_string(), "FILE")
}

fn zeros(shape: impl Into<Vec<usize>>) -> TensorData {
    TensorData::zeros::<f32, _>(shape.into())
}

fn assert_close(found: TensorData, expected: &TensorData, tolerance: f64) {
    found.assert_approx_eq::<f32>(expected, Tolerance::absolute(tolerance));
}

fn bytes_of(lstm: &ScratchLstm) -> Tensors {
    lstm.to_pytorch("").unwrap()
}

mod import {
    use super::*;

    #[test]
    fn every_way_of_torch_save_gives_the_same_lstm() {
        let expected = import_top("zip.pt").unwrap();
        assert_eq!(expected.config(), &ScratchLstmConfig::new(3, 4));
        for name in ["legacy.pt", "whole_module.pt"] {
            let found = import_top(name).unwrap();
            assert_eq!(bytes_of(&found), bytes_of(&expected), "{name}");
        }
    }

    /// PyTorch's output and final states for `lstm`'s input, from zero states.
    fn check_outputs(lstm: &ScratchLstm, tolerance: f64) {
        let io = PytorchFile::open(golden("inside_model_io.safetensors")).unwrap();
        let dtype = lstm.layers[0].forward.weight_ih.dtype();
        let input = io.tensor::<3>("input", (&device(), dtype)).unwrap();
        let (output, state) = lstm.forward(input, None);
        for (found, name) in [
            (output, "output"),
            (state.hidden, "h_n"),
            (state.cell, "c_n"),
        ] {
            let found = found.into_data().convert_dtype(DType::F32);
            assert_close(found, &io.data(name).unwrap(), tolerance);
        }
    }

    #[test]
    fn outputs_are_pytorchs() {
        for model in MODELS {
            let lstm = import(golden(model)).unwrap();
            assert_eq!(lstm.config(), &config(), "{model}");
            check_outputs(&lstm, 1e-5);
        }
    }

    #[test]
    fn projections_follow_from_the_tensors() {
        let lstm = import_top("projected.pt").unwrap();
        let expected = ScratchLstmConfig::new(3, 4).with_projection(2);
        assert_eq!(lstm.config(), &expected);
        let file = PytorchFile::open(saved("projected.pt")).unwrap();
        assert_eq!(file.lstm_prefixes(), [""]);
        let weight_hr = lstm.layers[0].forward.weight_hr.as_ref().unwrap();
        let expected = file.data("weight_hr_l0").unwrap();
        weight_hr.to_data().assert_eq(&expected, true);
    }

    #[test]
    fn a_nested_prefix_may_be_written_out() {
        let options = PytorchOptions::default();
        let file = PytorchFile::open(golden("inside_model_nested.pt")).unwrap();
        let full = format!("state_dict.{PREFIX}");
        assert_eq!(file.lstm_prefixes(), [full.as_str()]);
        let lstm = file.lstm(&full, &options, &device()).unwrap();
        check_outputs(&lstm, 1e-5);
    }

    #[test]
    fn other_tensors_of_the_model_can_be_read() {
        let expected = golden_tensors();
        assert_eq!(expected["embed.weight"].shape().to_vec(), [13, 5]);
        for model in MODELS {
            let file = PytorchFile::open(golden(model)).unwrap();
            assert_eq!(file.names().len(), expected.len(), "{model}");
            for (name, expected) in &expected {
                file.data(name).unwrap().assert_eq(expected, true);
                assert_eq!(file.shape(name).unwrap(), expected.shape().to_vec());
            }
            let head = file.tensor::<2>("head.weight", &device()).unwrap();
            assert_eq!(head.dims(), [3, 22]);
        }
    }

    #[test]
    fn an_lstm_at_the_top_without_bias() {
        let path = golden("lstm_no_bias.safetensors");
        let options = PytorchOptions::default();
        let lstm = ScratchLstm::try_from_pytorch_file(&path, "", &options, &device()).unwrap();
        assert!(!lstm.config().bias);
        assert_eq!(lstm.config().num_layers, 1);
        let file = PytorchFile::open(&path).unwrap();
        // The gradients in this file have the names of an LSTM too.
        assert_eq!(file.lstm_prefixes(), ["", "grad"]);
        let read = |name| file.tensor::<3>(name, &device()).unwrap();
        let state = scratch_lstm::LstmState {
            hidden: read("h_0"),
            cell: read("c_0"),
        };
        let (output, _) = lstm.forward(read("input"), Some(state));
        assert_close(output.into_data(), &file.data("output").unwrap(), 1e-5);
    }

    #[test]
    fn every_float_type_is_taken() {
        for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F16, 1e-2), (DType::BF16, 5e-2)] {
            let scratch = Scratch::new();
            let tensors = golden_tensors().into_iter();
            let tensors = tensors.map(|(name, data)| (name, data.convert_dtype(dtype)));
            let lstm = import(scratch.save(&tensors.collect())).unwrap();
            assert_eq!(lstm.layers[0].forward.weight_ih.dtype(), DType::F32);
            check_outputs(&lstm, tolerance);
        }
    }

    #[test]
    fn the_module_has_the_element_type_asked_for() {
        if !device().supports_dtype(DType::BF16) {
            return;
        }
        let options = PytorchOptions {
            dtype: Some(DType::BF16),
            ..Default::default()
        };
        let path = golden("inside_model.pt");
        let lstm = ScratchLstm::try_from_pytorch_file(path, PREFIX, &options, &device()).unwrap();
        assert_eq!(lstm.layers[1].forward.weight_hh.dtype(), DType::BF16);
        check_outputs(&lstm, 5e-2);

        let scratch = Scratch::new();
        let path = scratch.path("bf16.safetensors");
        lstm.save_pytorch_safetensors(&path, PREFIX).unwrap();
        let file = PytorchFile::open(path).unwrap();
        let bias = file.data("encoder.lstm.bias_hh_l1_reverse").unwrap();
        assert_eq!(bias.dtype(), DType::BF16);
    }

    #[test]
    fn options_say_what_the_file_does_not() {
        let options = PytorchOptions {
            batch_first: false,
            dropout: 0.25,
            key: Some(Key::new(0).child("decoder")),
            ..Default::default()
        };
        let import = || {
            let path = golden("inside_model.pt");
            ScratchLstm::try_from_pytorch_file(path, PREFIX, &options, &device()).unwrap()
        };
        let (one, other) = (import(), import());
        let expected = config().with_batch_first(false).with_dropout(0.25);
        assert_eq!(one.config(), &expected);
        let id = |lstm: &ScratchLstm| lstm.layers[1].forward.weight_hh.id;
        assert_eq!(id(&one), id(&other));
        let unkeyed = || super::import(golden("inside_model.pt")).unwrap();
        assert_ne!(id(&unkeyed()), id(&unkeyed()));

        let wrong = PytorchOptions {
            dropout: 1.0,
            ..options.clone()
        };
        let path = golden("inside_model.pt");
        let error = ScratchLstm::try_from_pytorch_file(path, PREFIX, &wrong, &device());
        assert!(matches!(error, Err(WeightsError::Config(_))));
    }

    #[test]
    fn the_parameters_can_be_trained() {
        let device = device().autodiff();
        let options = PytorchOptions::default();
        let path = golden("inside_model.pt");
        let lstm = ScratchLstm::try_from_pytorch_file(path, PREFIX, &options, &device).unwrap();
        let (output, _) = lstm.forward(Tensor::ones([3, 7, 5], &device), None);
        let gradients = output.sum().backward();
        let bias = lstm.layers[0].reverse.as_ref().unwrap().bias.as_ref();
        assert!(bias.unwrap().grad(&gradients).is_some());
    }
}

mod unfit_models {
    use super::*;

    #[test]
    fn a_tensor_larger_than_its_file_is_refused() {
        let path = saved("huge_view.pt");
        let file = PytorchFile::open(&path).unwrap();
        assert_eq!(file.shape("weight_ih_l0").unwrap(), [44, 5_000_000]);
        let error = file.data("weight_ih_l0").unwrap_err().to_string();
        assert!(
            error.contains("found 880000000 bytes in a file of"),
            "{error}"
        );
        let error = import_top("huge_view.pt").unwrap_err().to_string();
        assert!(
            error.contains("found 880000000 bytes in a file of"),
            "{error}"
        );
    }

    #[test]
    fn another_prefix_lists_those_that_are_there() {
        for model in MODELS {
            let path = golden(model);
            let options = PytorchOptions::default();
            let error = ScratchLstm::try_from_pytorch_file(&path, "lstm", &options, &device());
            let error = error.unwrap_err();
            let WeightsError::NoLstm { found, .. } = &error else {
                panic!("{error}");
            };
            assert!(found[0].ends_with(PREFIX), "{found:?}");
            let text = error.to_string();
            assert!(
                text.contains("expected an LSTM with the prefix \"lstm\""),
                "{text}"
            );
            assert!(text.contains("found LSTMs with the prefixes"), "{text}");
        }
    }

    #[test]
    fn missing_tensors_are_listed() {
        let error = import_error(|tensors| {
            tensors.remove("encoder.lstm.weight_hh_l1_reverse").unwrap();
            tensors.remove("encoder.lstm.bias_ih_l0").unwrap();
        });
        let expected = "FILE: expected the tensors \"encoder.lstm.bias_ih_l0\", \
                        \"encoder.lstm.weight_hh_l1_reverse\", found only";
        assert!(error.starts_with(expected), "{error}");

        let file = PytorchFile::open(golden(MODELS[0])).unwrap();
        let error = file.tensor::<2>("tail.weight", &device()).unwrap_err();
        assert!(matches!(error, WeightsError::Missing { .. }), "{error}");
    }

    #[test]
    fn a_stray_layer_number_asks_for_few_names() {
        for layer in ["7", "18446744073709551615", "+1", "99999999999999999999999"] {
            let scratch = Scratch::new();
            let mut tensors = golden_tensors();
            tensors.insert(format!("{PREFIX}.weight_ih_l{layer}"), zeros([44, 22]));
            let result = import(scratch.save(&tensors));
            match layer.parse::<usize>() {
                Ok(_) if !layer.starts_with('+') => {
                    let error = result.unwrap_err();
                    let WeightsError::Missing { missing, .. } = &error else {
                        panic!("{error}");
                    };
                    assert!(missing[0].ends_with(".weight_ih_l2"), "{missing:?}");
                    assert!(missing.len() <= 64);
                }
                // Not a layer of an LSTM: some other tensor of the model.
                _ => assert_eq!(result.unwrap().config(), &config()),
            }
        }
    }

    #[test]
    fn a_wrong_shape_is_named() {
        let error = import_error(|tensors| {
            tensors.insert("encoder.lstm.weight_ih_l1".into(), zeros([44, 11]));
        });
        assert_eq!(
            error,
            "encoder.lstm.weight_ih_l1: expected shape [4H=44, D=22], found [44, 11]"
        );
        let error = import_error(|tensors| {
            tensors.insert("encoder.lstm.weight_ih_l0".into(), zeros([220]));
        });
        assert_eq!(
            error,
            "encoder.lstm.weight_ih_l0: expected shape of two axes, found [220]"
        );
        let error = import_error(|tensors| {
            tensors.insert("encoder.lstm.weight_ih_l0".into(), zeros([44, 0]));
        });
        assert!(error.contains("d_input"), "{error}");
    }

    #[test]
    fn a_gru_is_not_an_lstm() {
        let error = import_error(|tensors| {
            tensors.clear();
            tensors.insert("encoder.lstm.weight_ih_l0".into(), zeros([33, 5]));
            tensors.insert("encoder.lstm.weight_hh_l0".into(), zeros([33, 11]));
        });
        assert_eq!(
            error,
            "2 things do not fit: \
             encoder.lstm.weight_ih_l0: expected shape [4H=44, D=5], found [33, 5]; \
             encoder.lstm.weight_hh_l0: expected shape [4H=44, H=11], found [33, 11]"
        );
    }

    #[test]
    fn integers_are_no_weights() {
        let error = import_error(|tensors| {
            let data = TensorData::zeros::<i32, _>([44, 11]);
            tensors.insert("encoder.lstm.weight_hh_l0".into(), data);
        });
        assert_eq!(
            error,
            "encoder.lstm.weight_hh_l0: expected elements of type F64, F32, F16 or BF16, found I32"
        );
    }

    #[test]
    fn a_stray_projection_asks_for_the_others() {
        let error = import_error(|tensors| {
            tensors.insert("encoder.lstm.weight_hr_l0".into(), zeros([4, 11]));
        });
        assert!(
            error.starts_with(
                "2 things do not fit: FILE: expected the tensors \
                 \"encoder.lstm.weight_hr_l0_reverse\", \"encoder.lstm.weight_hr_l1\", \
                 \"encoder.lstm.weight_hr_l1_reverse\", found only"
            ),
            "{error}"
        );
        assert!(
            error.ends_with(
                "; encoder.lstm.weight_hr_l0: expected shape [P=11, H=11], found [4, 11]"
            ),
            "{error}"
        );
    }

    #[test]
    fn everything_that_does_not_fit_is_named() {
        let error = import_error(|tensors| {
            tensors.remove("encoder.lstm.bias_ih_l0").unwrap();
            tensors.insert("encoder.lstm.weight_ih_l1".into(), zeros([44, 11]));
            let data = TensorData::zeros::<i32, _>([44, 12]);
            tensors.insert("encoder.lstm.weight_hh_l1".into(), data);
        });
        assert!(
            error.starts_with("4 things do not fit: FILE: expected the tensors"),
            "{error}"
        );
        assert!(
            error.ends_with(
                "; encoder.lstm.weight_ih_l1: expected shape [4H=44, D=22], found [44, 11]; \
                 encoder.lstm.weight_hh_l1: expected shape [4H=44, H=11], found [44, 12]; \
                 encoder.lstm.weight_hh_l1: expected elements of type F64, F32, F16 or BF16, \
                 found I32"
            ),
            "{error}"
        );
    }
}

mod load {
    use super::*;

    #[test]
    fn all_weights_are_replaced() {
        for model in MODELS {
            let mut lstm = fresh();
            lstm.load_pytorch_file(golden(model), PREFIX).unwrap();
            assert_eq!(bytes_of(&lstm), bytes_of(&import(golden(model)).unwrap()));
        }
    }

    #[test]
    fn parameters_keep_their_identities_and_frozen_ones_stay_frozen() {
        let device = device().autodiff();
        let mut lstm = config().init_with(&Key::new(1).child("lstm"), &device);
        let frozen = &mut lstm.layers[0].forward.weight_hh;
        *frozen = frozen.clone().set_require_grad(false);
        let id = frozen.id;
        lstm.load_pytorch_file(golden(MODELS[0]), PREFIX).unwrap();
        let cell = &lstm.layers[0].forward;
        assert_eq!(cell.weight_hh.id, id);
        assert!(!cell.weight_hh.is_require_grad());
        assert!(cell.weight_ih.is_require_grad());
        assert!(
            cell.bias
                .as_ref()
                .is_some_and(|bias| bias.is_require_grad())
        );
        assert_eq!(cell.weight_ih.device(), device);
    }

    #[test]
    fn projections_are_replaced_too() {
        let config = ScratchLstmConfig::new(3, 4).with_projection(2);
        let mut lstm = config.init_with(&Key::new(6).child("lstm"), &device());
        lstm.load_pytorch_file(saved("projected.pt"), "").unwrap();
        let expected = import_top("projected.pt").unwrap();
        assert_eq!(bytes_of(&lstm), bytes_of(&expected));
    }

    #[test]
    fn another_lstm_is_refused_and_nothing_changes() {
        let cases = [
            (
                ScratchLstmConfig::new(5, 11).with_bidirectional(true),
                "num_layers: expected 1 as in the module, found 2 in the file",
            ),
            (
                config().with_bidirectional(false),
                "bidirectional: expected false as in the module, found true in the file",
            ),
            (
                ScratchLstmConfig {
                    d_hidden: 12,
                    ..config()
                },
                "d_hidden: expected 12 as in the module, found 11 in the file",
            ),
            (
                ScratchLstmConfig {
                    d_input: 6,
                    ..config()
                },
                "d_input: expected 6 as in the module, found 5 in the file",
            ),
            (
                ScratchLstmConfig {
                    bias: false,
                    ..config()
                },
                "bias: expected no bias as in the module, found a bias in the file",
            ),
            (
                config().with_join(DirectionJoin::AtEnd),
                "PyTorch has no join = AtEnd",
            ),
            (
                ScratchLstmConfig::new(6, 11).with_projection(4),
                "4 things do not fit: d_input: expected 6 as in the module, found 5 in the file; \
                 d_proj: expected 4 as in the module, found none in the file; num_layers: expected \
                 1 as in the module, found 2 in the file; bidirectional: expected false as in the \
                 module, found true in the file",
            ),
        ];
        for (config, expected) in cases {
            let mut lstm = config.init_with(&Key::new(2).child("lstm"), &device());
            let cell = |lstm: &ScratchLstm| lstm.layers[0].forward.weight_hh.to_data();
            let before = cell(&lstm);
            let error = lstm
                .load_pytorch_file(golden(MODELS[1]), PREFIX)
                .unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert_eq!(cell(&lstm), before);
        }
    }

    #[test]
    fn a_file_damaged_in_its_last_tensor_changes_nothing() {
        // The checksum of one storage fails, after others have been read.
        let mut bytes = std::fs::read(golden(MODELS[0])).unwrap();
        let last = golden_tensors()["encoder.lstm.bias_hh_l1_reverse"].clone();
        let needle = &last.as_bytes()[..32];
        let at = bytes
            .windows(32)
            .position(|window| window == needle)
            .unwrap();
        bytes[at + 5] ^= 0x10;
        let scratch = Scratch::new();
        let path = scratch.write("model.pt", &bytes);

        let mut lstm = fresh();
        let before = bytes_of(&lstm);
        let error = lstm.load_pytorch_file(&path, PREFIX).unwrap_err();
        assert!(error.to_string().contains("bias_hh_l1_reverse"), "{error}");
        assert_eq!(bytes_of(&lstm), before);
    }
}

mod save {
    use super::*;

    #[test]
    fn names_and_shapes_are_pytorchs() {
        let scratch = Scratch::new();
        let path = scratch.path("model.safetensors");
        import(golden(MODELS[0]))
            .unwrap()
            .save_pytorch_safetensors(&path, PREFIX)
            .unwrap();
        let file = PytorchFile::open(&path).unwrap();
        let mut expected = golden_tensors();
        expected.retain(|name, _| name.starts_with(PREFIX));
        assert_eq!(file.names(), expected.keys().cloned().collect::<Vec<_>>());
        for (name, expected) in &expected {
            let found = file.data(name).unwrap();
            assert_eq!(found.shape(), expected.shape());
            assert_eq!(found.dtype(), expected.dtype());
            if name.contains("bias_hh") {
                assert_eq!(found, zeros([44]), "{name}");
            } else if name.contains("weight") {
                assert_eq!(&found, expected, "{name}");
            }
        }
        // `format: pt` is what PyTorch's tools look for.
        let bytes = std::fs::read(&path).unwrap();
        let header = String::from_utf8_lossy(&bytes[8..64]);
        assert!(
            header.starts_with(r#"{"__metadata__":{"format":"pt"}"#),
            "{header}"
        );
    }

    #[test]
    fn weights_come_back_bit_for_bit() {
        for config in [
            ScratchLstmConfig::new(5, 11),
            config(),
            ScratchLstmConfig {
                bias: false,
                ..config()
            },
            config().with_num_layers(1).with_join(DirectionJoin::AtEnd),
            config().with_projection(4),
        ] {
            let lstm = config.init_with(&Key::new(3).child("lstm"), &device());
            let scratch = Scratch::new();
            let path = scratch.path("lstm.safetensors");
            lstm.save_pytorch_safetensors(&path, "").unwrap();
            let options = PytorchOptions::default();
            let back = ScratchLstm::try_from_pytorch_file(&path, "", &options, &device()).unwrap();
            assert_eq!(bytes_of(&back), bytes_of(&lstm));
        }
    }

    #[test]
    fn the_same_weights_give_the_same_bytes_and_replace_the_file() {
        let scratch = Scratch::new();
        let path = scratch.write("lstm.safetensors", b"an older file");
        let lstm = fresh();
        lstm.save_pytorch_safetensors(&path, PREFIX).unwrap();
        let first = std::fs::read(&path).unwrap();
        lstm.save_pytorch_safetensors(&path, PREFIX).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        let files = std::fs::read_dir(scratch.folder.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_saved_is_an_error() {
        let scratch = Scratch::new();
        let path = scratch.path("no such folder/lstm.safetensors");
        let error = fresh().save_pytorch_safetensors(&path, "").unwrap_err();
        assert!(error.to_string().contains("no such folder"), "{error}");
        let error = fresh().save_pytorch_safetensors(scratch.folder.path(), "");
        assert!(error.is_err());

        let apart = config().with_join(DirectionJoin::AtEnd);
        let lstm = apart.init_with(&Key::new(4).child("lstm"), &device());
        let path = scratch.path("lstm.safetensors");
        let error = lstm.save_pytorch_safetensors(&path, "").unwrap_err();
        assert_eq!(error.to_string(), "PyTorch has no join = AtEnd");
        assert!(!path.exists());

        let wide = ScratchLstmConfig::new(5, 11).with_projection(11);
        let lstm = wide.init_with(&Key::new(5).child("lstm"), &device());
        let error = lstm.save_pytorch_safetensors(&path, "").unwrap_err();
        assert_eq!(error.to_string(), "PyTorch has no d_proj = 11");
    }

    #[test]
    fn a_model_with_other_tensors() {
        let mut tensors = fresh().to_pytorch("lstm").unwrap();
        let steps = TensorData::new(vec![7i64], [1]);
        tensors.insert("steps".into(), steps.clone());
        let scratch = Scratch::new();
        let file = PytorchFile::open(scratch.save(&tensors)).unwrap();
        file.data("steps").unwrap().assert_eq(&steps, true);
        let error = file.tensor::<1>("steps", &device()).unwrap_err();
        assert!(matches!(error, WeightsError::DType { .. }), "{error}");
        let error = file
            .tensor::<3>("lstm.weight_ih_l0", &device())
            .unwrap_err();
        assert!(matches!(error, WeightsError::Shape { .. }), "{error}");
    }
}

mod unfit_files {
    use super::*;

    fn text(path: &Path) -> String {
        let error = import(path).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn no_file() {
        let scratch = Scratch::new();
        let error = import(scratch.path("missing.pt")).unwrap_err();
        let WeightsError::Io { source, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing.pt"), "{error}");
    }

    #[test]
    fn not_a_state_dict() {
        let scratch = Scratch::new();
        let expected = "FILE: expected a state dict in a .safetensors or .pt file, found";
        assert_eq!(text(scratch.folder.path()), format!("{expected} a folder"));
        let cases: [(&str, &[u8], &str); 5] = [
            ("empty.pt", b"", "an empty file"),
            ("empty.safetensors", b"", "an empty file"),
            ("text.pt", b"hello, this is not a model", ""),
            ("braces.safetensors", b"12345678{", "a header said to have"),
            ("short.pt", b"PK\x03\x04", ""),
        ];
        for (name, bytes, found) in cases {
            let text = text(&scratch.write(name, bytes));
            assert!(
                text.starts_with(&format!("{expected} {found}")),
                "{name}: {text}"
            );
        }
    }

    #[test]
    fn a_header_that_claims_more_than_the_file_holds() {
        let scratch = Scratch::new();
        let with_header = |length: u64, header: &str, data: &[u8]| {
            let bytes = [&length.to_le_bytes(), header.as_bytes(), data].concat();
            text(&scratch.write("claims.safetensors", &bytes))
        };
        let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let length = header.len() as u64;
        let found = with_header(length, header, &[0; 4]);
        assert!(
            found.contains("claims 8 bytes of tensors where there are 4"),
            "{found}"
        );
        let found = with_header(u64::MAX, header, &[0; 8]);
        assert!(
            found.contains("said to have 18446744073709551615 bytes"),
            "{found}"
        );
        let found = with_header(90_000_000, header, &[0; 8]);
        assert!(found.contains("said to have 90000000 bytes"), "{found}");
        for shape in ["[4294967296,4294967296]", "[2,2]", "[-1]"] {
            let header = header.replace("[2]", shape);
            let found = with_header(header.len() as u64, &header, &[0; 8]);
            assert!(found.contains("a damaged header"), "{found}");
        }
        // Whole, but of other tensors.
        let found = with_header(length, header, &[0; 8]);
        assert!(
            found.contains("expected an LSTM with the prefix"),
            "{found}"
        );
    }

    const DAMAGED: [&str; 4] = [
        MODELS[0],
        MODELS[1],
        MODELS[2],
        "../pytorch_files/legacy.pt",
    ];

    /// Reads everything that a damaged file still offers; whether the LSTM was whole.
    fn read_all(path: &Path, lstm: &mut ScratchLstm) -> bool {
        let Ok(file) = PytorchFile::open(path) else {
            return false;
        };
        for name in file.names() {
            let _ = file.data(&name);
        }
        file.load_lstm(PREFIX, lstm).is_ok()
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let (scratch, mut lstm) = (Scratch::new(), fresh());
        for model in DAMAGED {
            let bytes = std::fs::read(golden(model)).unwrap();
            for length in (0..bytes.len()).step_by(97) {
                let path = scratch.write("damaged", &bytes[..length]);
                assert!(!read_all(&path, &mut lstm), "{model} cut to {length} bytes");
            }
        }
    }

    #[test]
    fn flipped_bits_never_panic() {
        let (scratch, mut lstm) = (Scratch::new(), fresh());
        for model in DAMAGED {
            let whole = std::fs::read(golden(model)).unwrap();
            // The first two kilobytes hold the headers and much of the pickle.
            let start = whole.len().min(2048);
            for place in (0..start)
                .step_by(3)
                .chain((start..whole.len()).step_by(97))
            {
                for flip in [0x01, 0x80, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[place] ^= flip;
                    read_all(&scratch.write("damaged", &bytes), &mut lstm);
                }
            }
        }
    }
}

/// Loading leaves a module that is otherwise what it was.
#[test]
fn a_loaded_module_is_the_same_module() {
    let mut lstm = fresh();
    lstm.load_pytorch_file(golden(MODELS[0]), PREFIX).unwrap();
    assert_eq!(lstm.config(), &config());
    assert!(lstm.training.is_enabled());
    assert_eq!(lstm.num_params(), fresh().num_params());
    let ids = |lstm: &ScratchLstm| burn::module::list_param_ids(lstm);
    assert_eq!(ids(&lstm), ids(&fresh()));
}
