//! Proves that LSTM layers from files that Keras has saved give Keras's numbers: outputs and final
//! states, one layer, stacked, bidirectional, inside a bigger model, with other activations, with
//! padding; and that files and layers that do not fit are typed errors. The goldens and the script
//! that made them are in `goldens/keras/`.

use burn::tensor::{DType, Tensor};
use scratch_lstm::config::Activation;
use scratch_lstm::weights::{KerasFile, KerasLayer, KerasOptions, WeightsError, keras_activation};
use scratch_lstm::{ForwardOptions, Key, LstmState, Padding, ScratchLstm};
use scratch_tests::golden::Golden;
use scratch_tests::{Tolerance, Values, assert_close, device, dtypes};

/// The goldens are in f32 whatever the module computes in.
fn tolerance() -> Tolerance {
    Tolerance::of(DType::F32)
}

fn open(name: &str) -> KerasFile {
    KerasFile::open(Golden::keras_path(name)).unwrap()
}

/// An LSTM in the element type `dtype`.
fn import(file: &KerasFile, layers: &[&str], options: &KerasOptions, dtype: DType) -> ScratchLstm {
    let options = KerasOptions {
        dtype: Some(dtype),
        ..options.clone()
    };
    file.lstm(layers, &options, &device()).unwrap()
}

/// That `lstm` computes what a golden of a stack holds.
fn check_stack(name: &str, golden: &Golden, lstm: &ScratchLstm, dtype: DType) {
    let tensor = |name: &str| golden.tensor::<3>(name, &device(), dtype);
    let state = LstmState {
        hidden: tensor("h_0"),
        cell: tensor("c_0"),
    };
    let (output, after) = lstm.forward(tensor("input"), Some(state));
    for (found, expected) in [
        (output, "output"),
        (after.hidden, "h_n"),
        (after.cell, "c_n"),
    ] {
        let what = format!("{name}: {expected} in {dtype:?}");
        assert_close(&what, found, golden.values(expected), tolerance());
    }
}

#[test]
fn outputs_and_states() {
    let plain = KerasOptions::default();
    let hard_sigmoid = KerasOptions {
        recurrent_activation: keras_activation("hard_sigmoid").unwrap(),
        ..plain.clone()
    };
    let softsign = KerasOptions {
        activation: keras_activation("softsign").unwrap(),
        ..plain.clone()
    };
    let one: &[&str] = &["layers/lstm"];
    let two: &[&str] = &["layers/lstm", "layers/lstm_1"];
    let both: &[&str] = &["layers/bidirectional", "layers/bidirectional_1"];
    for (name, file, layers, options) in [
        ("single", "single.weights.h5", one, &plain),
        ("stacked", "stacked.weights.h5", two, &plain),
        ("stacked", "keras_2.h5", &["lstm", "lstm_1"], &plain),
        ("bidirectional", "bidirectional.weights.h5", both, &plain),
        (
            "bidirectional",
            "bidirectional.h5",
            &["bidirectional", "bidirectional_1"],
            &plain,
        ),
        ("bidirectional", "newest_format.weights.h5", both, &plain),
        ("no_bias", "no_bias.weights.h5", one, &plain),
        (
            "hard_sigmoid",
            "hard_sigmoid.weights.h5",
            one,
            &hard_sigmoid,
        ),
        ("softsign", "softsign.weights.h5", one, &softsign),
    ] {
        let golden = Golden::keras(name);
        let file = open(file);
        for dtype in dtypes() {
            let lstm = import(&file, layers, options, dtype);
            let mut expected = golden.lstm_config();
            expected.cell.activations = lstm.config().cell.activations;
            assert_eq!(lstm.config(), &expected, "{name}");
            check_stack(name, &golden, &lstm, dtype);
        }
    }
}

#[test]
fn activations_are_those_of_the_options() {
    let golden = Golden::keras("hard_sigmoid");
    let file = open("hard_sigmoid.weights.h5");
    let lstm = import(&file, &["lstm"], &KerasOptions::default(), DType::F32);
    let state = LstmState {
        hidden: golden.tensor("h_0", &device(), DType::F32),
        cell: golden.tensor("c_0", &device(), DType::F32),
    };
    let input = golden.tensor("input", &device(), DType::F32);
    let output: Values = lstm.forward(input, Some(state)).0.into();
    let expected = golden.values("output").values;
    let near = output.values.iter().zip(&expected);
    assert!(near.clone().any(|(a, b)| (a - b).abs() > 1e-2));
}

/// Keras repeats the last output at steps that are padded; here they are 0.
#[test]
fn padding_on_either_side() {
    for (name, layer) in [
        ("masked", "layers/lstm"),
        ("masked_bidirectional", "layers/bidirectional"),
    ] {
        let golden = Golden::keras(name);
        let file = open(&format!("{name}.weights.h5"));
        let lengths = golden.values("lengths").values;
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        for (side, padding) in [("right", Padding::Right), ("left", Padding::Left)] {
            let mask = golden.values(&format!("{side}.mask")).values;
            let mask: Vec<bool> = mask.into_iter().map(|valid| valid > 0.0).collect();
            for dtype in dtypes() {
                let lstm = import(&file, &[layer], &KerasOptions::default(), dtype);
                let by_lengths = ForwardOptions::new()
                    .with_lengths(&lengths[..])
                    .with_padding(padding);
                let by_mask = ForwardOptions::new().with_mask(&mask[..]);
                for options in [by_lengths, by_mask] {
                    let input = golden.tensor(&format!("{side}.input"), &device(), dtype);
                    let (output, state) = lstm.forward_with(input, options);
                    check_valid_steps(name, side, &golden, output);
                    check_states(name, side, &golden, state);
                }
            }
        }
    }
}

fn check_valid_steps(name: &str, side: &str, golden: &Golden, output: Tensor<3>) {
    let width = output.dims()[2];
    let mask = golden.values(&format!("{side}.mask")).values;
    let keep = |values: Values| {
        let rows = values.values.chunks(width).zip(&mask);
        let kept = rows.filter(|(_, valid)| **valid > 0.0);
        let kept: Vec<f64> = kept.flat_map(|(row, _)| row.to_vec()).collect();
        Values::new([kept.len() / width, width], kept)
    };
    let expected = keep(golden.values(&format!("{side}.output")));
    assert_eq!(expected.shape[0], 5 + 7 + 1);
    let what = format!("{name}, {side}: output");
    assert_close(&what, keep(output.into()), expected, tolerance());
}

fn check_states(name: &str, side: &str, golden: &Golden, state: LstmState) {
    for (found, expected) in [(state.hidden, "h_n"), (state.cell, "c_n")] {
        let expected = format!("{side}.{expected}");
        let what = format!("{name}: {expected}");
        assert_close(&what, found, golden.values(&expected), tolerance());
    }
}

mod inside_a_model {
    use super::*;

    fn file() -> KerasFile {
        open("inside_model.weights.h5")
    }

    #[test]
    fn layers_are_listed_by_path_and_name() {
        let layer = |path: &str, name: &str, d_input, d_hidden, bidirectional| KerasLayer {
            path: path.into(),
            name: Some(name.into()),
            d_input,
            d_hidden,
            bidirectional,
        };
        let reader = "layers/functional/layers/bidirectional";
        // The GRU is none, nor is the embedding or the dense layer.
        let expected = [
            layer(reader, "reader", 11, 4, true),
            layer("layers/lstm", "encoder", 5, 11, false),
        ];
        assert_eq!(file().lstm_layers(), expected);
        assert_eq!(
            expected[0].to_string(),
            "layers/functional/layers/bidirectional \"reader\": \
             Bidirectional(LSTM) of 4 units on 11 inputs"
        );
    }

    #[test]
    fn each_gives_kerass_numbers() {
        let golden = Golden::keras("inside_model");
        for dtype in dtypes() {
            let read = |layer: &str, name: &str| {
                let lstm = import(&file(), &[layer], &KerasOptions::default(), dtype);
                let input = golden.tensor(&format!("{name}.input"), &device(), dtype);
                lstm.forward(input, None)
            };
            for layer in ["encoder", "layers/lstm", "/layers/lstm/"] {
                let (output, _) = read(layer, "encoder");
                let expected = golden.values("encoder.output");
                assert_close("encoder", output, expected, tolerance());
            }
            // Without `return_sequences`, the last step of each direction.
            let (_, state) = read("reader", "reader");
            let last: Vec<Tensor<2>> = state.hidden.iter_dim(0).map(|h| h.squeeze_dim(0)).collect();
            let expected = golden.values("reader.output");
            assert_close("reader", Tensor::cat(last, 1), expected, tolerance());
        }
    }

    #[test]
    fn other_arrays_can_be_read() {
        let file = file();
        assert!(file.names().contains(&"layers/dense/vars/1".to_string()));
        let embedding = file
            .tensor::<2>("layers/embedding/vars/0", &device())
            .unwrap();
        assert_eq!(embedding.dims(), [13, 5]);
        let error = file
            .tensor::<1>("layers/embedding/vars/0", &device())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "layers/embedding/vars/0: expected shape of 1 axes, found [13, 5]"
        );
        let error = file.data("optimizer/vars/0").unwrap_err();
        assert_eq!(
            error.to_string(),
            "optimizer/vars/0: expected elements of type F64, F32, F16 or BF16, found i32"
        );
        let error = file.shape("layers/dense/vars/7").unwrap_err();
        assert!(matches!(error, WeightsError::Missing { .. }), "{error}");
    }
}

#[test]
fn other_floats() {
    let arrays = ["kernel", "recurrent_kernel", "bias"];
    for (name, dtype) in [("float16", DType::F16), ("bfloat16", DType::BF16)] {
        let golden = Golden::keras(name);
        let file = open(&format!("{name}.weights.h5"));
        for (index, array) in arrays.iter().enumerate() {
            let path = format!("layers/lstm/cell/vars/{index}");
            let data = file.data(&path).unwrap();
            assert_eq!(data.dtype(), dtype);
            let found = Values::from(data.convert_dtype(DType::F32));
            assert_eq!(found, golden.values(array), "{name}: {array}");
        }
        let lstm = file.lstm(&["lstm"], &KerasOptions::default(), &device());
        assert_eq!(lstm.unwrap().config().d_hidden, 11);
    }
}

#[test]
fn options_say_what_the_file_does_not() {
    let options = KerasOptions {
        batch_first: false,
        dropout: 0.25,
        key: Some(Key::new(0).child("encoder")),
        ..KerasOptions::default()
    };
    let import = || {
        let file = open("stacked.weights.h5");
        file.lstm(&["lstm", "lstm_1"], &options, &device()).unwrap()
    };
    let (one, other) = (import(), import());
    assert!(!one.config().batch_first);
    assert_eq!(one.config().regularization.dropout, 0.25);
    let id = |lstm: &ScratchLstm| lstm.layers[1].forward.weight_hh.id;
    assert_eq!(id(&one), id(&other));
    assert_eq!(
        keras_activation("hard_sigmoid").unwrap(),
        Activation::HardSigmoid {
            alpha: 1.0 / 6.0,
            beta: 0.5
        }
    );
    let error = keras_activation("gelu").unwrap_err().to_string();
    assert!(error.starts_with("activation: expected tanh, sigmoid, hard_sigmoid, "));
    assert!(error.ends_with("found gelu"), "{error}");
}

mod errors {
    use super::*;
    use std::path::Path;

    fn error(file: &str, layers: &[&str]) -> String {
        let file = open(file);
        let error = file.lstm(layers, &KerasOptions::default(), &device());
        let text = error.unwrap_err().to_string();
        text.replace(&file.path().display().to_string(), "FILE")
    }

    fn open_error(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.weights.h5");
        std::fs::write(&path, bytes).unwrap();
        let text = KerasFile::open(&path).unwrap_err().to_string();
        text.replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn an_unknown_layer_lists_those_that_are_there() {
        assert_eq!(
            error("inside_model.weights.h5", &["decoder"]),
            "FILE: expected an LSTM with the prefix \"decoder\" (a tensor \
             \"decoder/cell/vars/0\"), found LSTMs with the prefixes \
             \"layers/functional/layers/bidirectional\", \"layers/lstm\""
        );
        let none: [&str; 0] = [];
        assert_eq!(
            error("single.weights.h5", &none),
            "layers: expected at least 1, found 0"
        );
    }

    #[test]
    fn layers_that_do_not_fit_on_each_other_are_all_named() {
        // Both layers are the first.
        let path = "layers/bidirectional";
        let twice = error("bidirectional.weights.h5", &[path, path]);
        assert_eq!(
            twice,
            "2 things do not fit: layers/bidirectional/forward_layer/cell/vars/0: expected shape \
             [D=22, 4H=44], found [5, 44]; layers/bidirectional/backward_layer/cell/vars/0: \
             expected shape [D=22, 4H=44], found [5, 44]"
        );
        assert_eq!(
            error("inside_model.weights.h5", &["encoder", "reader"]),
            "layers/functional/layers/bidirectional: expected one direction as in layers/lstm, \
             found two directions"
        );
    }

    #[test]
    fn what_is_no_file_of_keras_says_what_it_is() {
        let expected = "FILE: expected weights that Keras has saved (.weights.h5 or .h5), found";
        assert_eq!(open_error(b""), format!("{expected} an empty file"));
        assert_eq!(
            open_error(b"PK\x03\x04, and so on"),
            format!("{expected} a zip archive; of a .keras file unzip model.weights.h5")
        );
        assert_eq!(
            open_error(b"hello"),
            format!("{expected} something that is no HDF5")
        );
        let folder = KerasFile::open(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(folder.unwrap_err().to_string().ends_with("found a folder"));
        let missing = KerasFile::open("no/such/file.h5").unwrap_err();
        assert!(matches!(missing, WeightsError::Io { .. }), "{missing}");
    }

    #[test]
    fn types_within_types_need_no_stack_of_the_callers() {
        let open = || {
            let file = open("deep_type.h5");
            let error = file.data("layers/lstm/cell/vars/0").unwrap_err();
            assert!(matches!(error, WeightsError::DType { .. }), "{error}");
            assert!(error.to_string().len() < 300, "{error}");
            assert!(file.lstm_layers().is_empty());
        };
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        thread.spawn(open).unwrap().join().unwrap();
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let bytes = std::fs::read(Golden::keras_path("stacked.weights.h5")).unwrap();
        for length in (8..bytes.len()).step_by(97) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("cut.weights.h5");
            std::fs::write(&path, &bytes[..length]).unwrap();
            let options = KerasOptions::default();
            let read = KerasFile::open(&path)
                .and_then(|file| file.lstm(&["lstm", "lstm_1"], &options, &device()));
            assert!(read.is_err(), "cut to {length} bytes of {}", bytes.len());
        }
    }
}
