//! `scratch convert`: what it reads, writes and says.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::Scratch;

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens");
    path.join(name).display().to_string()
}

/// A folder with a file of the goldens in it.
fn with(golden_name: &str, name: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.write(name, fs::read(PathBuf::from(golden(golden_name))).unwrap());
    scratch
}

/// The names, shapes and values of a `.safetensors` file of floats.
fn tensors(scratch: &Scratch, name: &str) -> Vec<(String, Vec<u64>, Vec<u8>)> {
    let bytes = fs::read(scratch.path(name)).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let header: Value = serde_json::from_slice(header).unwrap();
    let mut tensors: Vec<_> = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, info)| {
            let numbers = |key: &str| -> Vec<u64> {
                let numbers = info[key].as_array().unwrap().iter();
                numbers.map(|number| number.as_u64().unwrap()).collect()
            };
            let [start, end] = numbers("data_offsets")[..] else {
                panic!("{info}")
            };
            let values = data[start as usize..end as usize].to_vec();
            (name.clone(), numbers("shape"), values)
        })
        .collect();
    tensors.sort();
    tensors
}

#[test]
fn a_layer_of_keras_becomes_pytorchs() {
    let scratch = with("keras/inside_model.weights.h5", "model.weights.h5");
    let line = "convert model.weights.h5 encoder.safetensors --prefix encoder --to-prefix enc";
    let answer = scratch.json(line);
    assert_eq!(answer["from_layout"], "Keras");
    assert_eq!(answer["to_layout"], "PyTorch");
    assert_eq!(answer["written"], true);
    assert_eq!(answer["lstm"]["d_hidden"], 11);
    let left_over = answer["left_over"].as_array().unwrap();
    let names: Vec<_> = left_over.iter().map(|tensor| &tensor["name"]).collect();
    assert!(names.contains(&&Value::from("layers/dense/vars/0")));
    assert!(!names.contains(&&Value::from("layers/lstm/cell/vars/0")));

    let found = tensors(&scratch, "encoder.safetensors");
    let shapes: Vec<_> = found
        .iter()
        .map(|(name, shape, _)| (name.as_str(), &shape[..]))
        .collect();
    let expected: [(&str, &[u64]); 4] = [
        ("enc.bias_hh_l0", &[44]),
        ("enc.bias_ih_l0", &[44]),
        ("enc.weight_hh_l0", &[44, 11]),
        ("enc.weight_ih_l0", &[44, 5]),
    ];
    assert_eq!(shapes, expected);
    assert!(found[0].2.iter().all(|&byte| byte == 0));

    // What was written can be read, and is written again as it was.
    let line = "convert encoder.safetensors again.safetensors --to-prefix enc";
    scratch.ok(line);
    assert_eq!(tensors(&scratch, "again.safetensors"), found);
}

#[test]
fn a_dry_run_says_what_comes_from_where_and_writes_nothing() {
    let scratch = with("keras/inside_model.weights.h5", "model.weights.h5");
    let before = scratch.snapshot();
    let line = "convert model.weights.h5 out.safetensors --prefix encoder --dry-run";
    let text = scratch.ok(line).stdout;
    for part in [
        "model.weights.h5 (Keras) -> out.safetensors (PyTorch)\n",
        "LSTM at encoder: 5 inputs, 11 hidden units, 1 layer, 1 direction, a bias\n",
        "layers/lstm/cell/vars/0 [5, 44] F32   -> weight_ih_l0 [44, 5] F32   transposed\n",
        "layers/lstm/cell/vars/2 [44] F32      -> bias_ih_l0 [44] F32\n",
        "nothing                               -> bias_hh_l0 [44] F32        zeros\n",
        "left over, 14 tensors:\n",
        "  layers/dense/vars/0 [8, 3] F32\n",
        "4 tensors to write; nothing was written\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(before == scratch.snapshot());
}

#[test]
fn biases_of_pytorch_are_summed() {
    let scratch = with("pytorch/inside_model.pt", "model.pt");
    let line = "convert model.pt lstm.safetensors --dry-run";
    let text = scratch.ok(line).stdout;
    for part in [
        "LSTM at encoder.lstm: 5 inputs, 11 hidden units, 2 layers, 2 directions, a bias\n",
        "encoder.lstm.bias_ih_l0 [44] F32                -> bias_ih_l0 [44] F32                \
         biases summed\n\
         encoder.lstm.bias_hh_l0 [44] F32                +\n\
         nothing                                         -> bias_hh_l0 [44] F32                \
         zeros\n",
        "left over, 3 tensors:\n  embed.weight [13, 5] F32\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let answer = scratch.json(line);
    let bias = answer["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tensor| tensor["to"]["name"] == "bias_ih_l0");
    let bias = bias.unwrap();
    assert_eq!(bias["changes"], serde_json::json!(["biases_summed"]));
    assert_eq!(bias["from"].as_array().unwrap().len(), 2);
}

#[test]
fn a_stack_of_keras_takes_a_prefix_for_each_layer() {
    let scratch = with("keras/bidirectional.weights.h5", "model.weights.h5");
    let line = "convert model.weights.h5 stack.safetensors --prefix bidirectional \
                --prefix layers/bidirectional_1";
    let text = scratch.ok(line).stdout;
    assert!(text.contains("2 layers, 2 directions"), "{text}");
    assert!(text.contains("16 tensors written to stack.safetensors"));
    let found = tensors(&scratch, "stack.safetensors");
    assert_eq!(found[15].0, "weight_ih_l1_reverse");
    assert_eq!(found[15].1, [44, 22]);
}

#[test]
fn to_onnx_and_back() {
    let scratch = with("keras/stacked.weights.h5", "model.weights.h5");
    let layers = "--prefix lstm --prefix lstm_1";
    let text = scratch.ok(&format!("convert model.weights.h5 model.onnx {layers}"));
    assert!(text.stdout.contains("6 tensors written to model.onnx\n"));
    let answer = scratch.json("convert model.onnx back.safetensors");
    assert_eq!(answer["from_layout"], "ONNX");
    assert_eq!(answer["lstm"]["num_layers"], 2);
    scratch.ok(&format!(
        "convert model.weights.h5 direct.safetensors {layers}"
    ));
    let direct = tensors(&scratch, "direct.safetensors");
    assert_eq!(tensors(&scratch, "back.safetensors"), direct);
}

mod refused {
    use super::*;

    /// Runs what must be refused with these parts in its two lines, leaving everything as it was.
    #[track_caller]
    fn refused(scratch: &Scratch, line: &str, parts: &[&str]) {
        let before = scratch.snapshot();
        let ran = scratch.run(line);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        assert!(ran.stderr.contains("\nhelp: "), "{}", ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "no `{part}` in\n{}", ran.stderr);
        }
        assert!(before == scratch.snapshot());
    }

    #[test]
    fn several_lstms_and_no_prefix() {
        let scratch = with("keras/inside_model.weights.h5", "model.weights.h5");
        refused(
            &scratch,
            "convert model.weights.h5 lstm.safetensors",
            &[
                "\"layers/functional/layers/bidirectional\", \"layers/lstm\"",
                "--prefix",
            ],
        );
        refused(
            &scratch,
            "convert model.weights.h5 lstm.safetensors --prefix decoder",
            &["\"decoder\"", "\"layers/lstm\""],
        );
    }

    #[test]
    fn a_file_that_is_there_unless_forced() {
        let scratch = with("pytorch/inside_model.pt", "model.pt");
        scratch.write("lstm.safetensors", "an older file");
        let line = "convert model.pt lstm.safetensors";
        refused(&scratch, line, &["lstm.safetensors", "--force"]);
        scratch.ok(&format!("{line} --force"));
        assert_eq!(tensors(&scratch, "lstm.safetensors").len(), 16);
    }

    #[test]
    fn what_pytorch_has_not() {
        let scratch = with("keras/hard_sigmoid.weights.h5", "model.weights.h5");
        refused(
            &scratch,
            "convert model.weights.h5 lstm.safetensors --recurrent-activation hard_sigmoid",
            &["PyTorch has no cell.activations.gate = HardSigmoid"],
        );
        refused(
            &scratch,
            "convert model.weights.h5 lstm.safetensors --activation gelu",
            &["expected tanh, sigmoid", "found gelu", "--activation"],
        );
    }

    #[test]
    fn files_that_are_none() {
        let scratch = with("pytorch/inside_model.pt", "model.pt");
        scratch.write("text.pt", "hello, this is not a model");
        for (line, part) in [
            ("convert no.pt out.safetensors", "no.pt: "),
            ("convert text.pt out.safetensors", "a state dict"),
            ("convert model.pt out.pt", "found .pt"),
            ("convert model.pt out", "found no ending"),
            ("convert model.pt out.onnx --to-prefix lstm", "--to-prefix"),
            (
                "convert model.pt out.safetensors --activation relu",
                "--activation: expected weights of Keras",
            ),
            (
                "convert model.pt out.safetensors --prefix a --prefix b",
                "prefixes: expected one",
            ),
        ] {
            refused(&scratch, line, &[part]);
        }
    }
}
