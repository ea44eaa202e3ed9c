//! Proves that an LSTM that was brought from one kind of file to another computes what it did, and
//! that the plan of it says of each tensor where it comes from.

use std::path::Path;

use burn::module::Module;
use burn::nn::{BiLstmConfig, LstmConfig};
use burn::tensor::{DType, Tensor};
use scratch_lstm::weights::{
    Change, Conversion, ConvertOptions, PytorchFile, PytorchOptions, TargetKind, WeightsError,
    WeightsFile,
};
use scratch_lstm::{Key, LstmState, ScratchLstm};
use scratch_tests::golden::Golden;
use scratch_tests::random::tensor;
use scratch_tests::{Tolerance, assert_close, device};
use tempfile::TempDir;

fn options(prefixes: &[&str]) -> ConvertOptions {
    ConvertOptions {
        prefixes: prefixes.iter().map(ToString::to_string).collect(),
        to_prefix: "encoder.lstm".into(),
        ..ConvertOptions::default()
    }
}

/// Converts, writes, and reads what was written.
fn converted(path: &Path, prefixes: &[&str]) -> (Conversion, ScratchLstm) {
    let file = WeightsFile::open(path).unwrap();
    let options = options(prefixes);
    let conversion = Conversion::new(&file, TargetKind::Pytorch, &options, &device()).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lstm.safetensors");
    conversion.save(&path).unwrap();

    let file = PytorchFile::open(&path).unwrap();
    let mut names: Vec<&str> = conversion
        .tensors
        .iter()
        .map(|tensor| tensor.to.name.as_str())
        .collect();
    names.sort();
    assert_eq!(names, file.names());
    for tensor in &conversion.tensors {
        assert_eq!(tensor.to.shape, file.shape(&tensor.to.name).unwrap());
        let dtype = file.dtype(&tensor.to.name).unwrap();
        assert_eq!(tensor.to.dtype, format!("{dtype:?}"));
    }
    let lstm = file.lstm("encoder.lstm", &PytorchOptions::default(), &device());
    (conversion, lstm.unwrap())
}

/// What happens to the tensor of that name, and how many it is made of.
fn changes_of(conversion: &Conversion, name: &str) -> (Vec<Change>, usize) {
    let name = format!("encoder.lstm.{name}");
    let tensor = conversion.tensors.iter().find(|one| one.to.name == name);
    let tensor = tensor.unwrap_or_else(|| panic!("{name} in {:?}", conversion.tensors));
    (tensor.changes.clone(), tensor.from.len())
}

#[test]
fn from_keras() {
    let golden = Golden::keras("bidirectional");
    let path = Golden::keras_path("bidirectional.weights.h5");
    let (conversion, lstm) = converted(&path, &["bidirectional", "layers/bidirectional_1"]);
    let read = |name: &str| golden.tensor::<3>(name, &device(), DType::F32);
    let state = LstmState {
        hidden: read("h_0"),
        cell: read("c_0"),
    };
    let (output, _) = lstm.forward(read("input"), Some(state));
    let tolerance = Tolerance::of(DType::F32);
    assert_close("output", output, golden.values("output"), tolerance);

    let changes = |name| changes_of(&conversion, name);
    assert_eq!(
        changes("weight_ih_l1_reverse"),
        (vec![Change::Transposed], 1)
    );
    assert_eq!(changes("bias_ih_l0"), (vec![], 1));
    assert_eq!(changes("bias_hh_l0"), (vec![Change::Zeros], 0));
    let left_over = conversion.left_over.iter().map(|tensor| &tensor.name);
    assert_eq!(
        left_over.collect::<Vec<_>>(),
        ["optimizer/vars/0", "optimizer/vars/1"]
    );
}

#[test]
fn from_pytorch() {
    let golden = Golden::open("inside_model_io");
    let path = Golden::path("inside_model").with_extension("pt");
    // There is one LSTM in the file.
    let (conversion, lstm) = converted(&path, &[]);
    assert_eq!(conversion.prefixes, ["encoder.lstm"]);
    let input = golden.tensor::<3>("input", &device(), DType::F32);
    let (output, _) = lstm.forward(input, None);
    let tolerance = Tolerance::of(DType::F32);
    assert_close("output", output, golden.values("output"), tolerance);
    let changes = |name| changes_of(&conversion, name);
    assert_eq!(changes("weight_hh_l1"), (vec![], 1));
    assert_eq!(changes("bias_ih_l1"), (vec![Change::BiasesSummed], 2));
    assert_eq!(conversion.left_over.len(), 3);
}

#[test]
fn projections_come_along() {
    let (conversion, lstm) = converted(&Golden::path("lstm_projected"), &[""]);
    assert_eq!(lstm.config().d_proj, Some(4));
    assert_eq!(changes_of(&conversion, "weight_hr_l1"), (vec![], 1));
}

#[test]
fn element_types_stay() {
    if !device().supports_dtype(DType::F16) {
        return;
    }
    let path = Golden::keras_path("float16.weights.h5");
    let (conversion, _) = converted(&path, &[]);
    assert!(conversion.tensors.iter().all(|one| one.to.dtype == "F16"));
    // f32 and f64 in one file.
    let path = Golden::keras_path("newest_format.weights.h5");
    let (conversion, _) = converted(&path, &["layers/bidirectional"]);
    assert!(conversion.tensors.iter().all(|one| one.to.dtype == "F32"));
    let changes = changes_of(&conversion, "weight_hh_l0");
    assert_eq!(changes, (vec![Change::Transposed, Change::Converted], 1));
}

mod by_way_of_onnx {
    use super::*;
    use scratch_lstm::weights::{KerasOptions, OnnxFile, OnnxOptions, keras_activation};

    /// An ONNX model of layers in a file of Keras's.
    fn from_keras(name: &str, prefixes: &[&str], keras: KerasOptions) -> (Conversion, TempDir) {
        let file = WeightsFile::open(Golden::keras_path(name)).unwrap();
        let options = ConvertOptions {
            prefixes: prefixes.iter().map(ToString::to_string).collect(),
            to_prefix: String::new(),
            keras,
        };
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.onnx");
        let target = TargetKind::of_path(&path).unwrap();
        let conversion = Conversion::new(&file, target, &options, &device()).unwrap();
        conversion.save(&path).unwrap();
        (conversion, folder)
    }

    fn changes(conversion: &Conversion, name: &str) -> (Vec<Change>, Vec<usize>, usize) {
        let tensor = conversion.tensors.iter().find(|one| one.to.name == name);
        let tensor = tensor.unwrap_or_else(|| panic!("{name} in {:?}", conversion.tensors));
        let shape = tensor.to.shape.clone();
        (tensor.changes.clone(), shape, tensor.from.len())
    }

    #[test]
    fn the_weights_stay() {
        use Change::{
            BiasesSummed, DirectionsJoined, DirectionsSplit, GatesReordered, Transposed, Zeros,
        };
        let prefixes = ["bidirectional", "bidirectional_1"];
        let keras = KerasOptions::default();
        let (to_onnx, folder) = from_keras("bidirectional.weights.h5", &prefixes, keras);
        let joined = vec![Transposed, GatesReordered, DirectionsJoined];
        assert_eq!(
            changes(&to_onnx, "layers.1.W"),
            (joined, vec![2, 44, 22], 2)
        );
        let joined = vec![GatesReordered, DirectionsJoined];
        assert_eq!(changes(&to_onnx, "layers.0.B"), (joined, vec![2, 88], 2));

        let path = folder.path().join("model.onnx");
        let (back, lstm) = converted(&path, &[]);
        assert_eq!(back.prefixes, ["layers.0"]);
        let path = Golden::keras_path("bidirectional.weights.h5");
        let (_, expected) = converted(&path, &prefixes);
        let numbers = |lstm: &ScratchLstm| lstm.to_pytorch("").unwrap();
        assert_eq!(numbers(&lstm), numbers(&expected));
        let changes = |name| changes_of(&back, name);
        let split = vec![GatesReordered, DirectionsSplit];
        assert_eq!(changes("weight_hh_l1_reverse"), (split, 1));
        let summed = vec![GatesReordered, DirectionsSplit, BiasesSummed];
        assert_eq!(changes("bias_ih_l0"), (summed, 1));
        assert_eq!(changes("bias_hh_l0"), (vec![Zeros], 0));
    }

    #[test]
    fn activations_come_along() {
        let keras = KerasOptions {
            recurrent_activation: keras_activation("hard_sigmoid").unwrap(),
            ..KerasOptions::default()
        };
        let (_, folder) = from_keras("hard_sigmoid.weights.h5", &[], keras);
        let file = OnnxFile::open(folder.path().join("model.onnx")).unwrap();
        let lstm = file.lstm(None, &OnnxOptions::default(), &device()).unwrap();
        let golden = Golden::keras("hard_sigmoid");
        let read = |name: &str| golden.tensor::<3>(name, &device(), DType::F32);
        let state = LstmState {
            hidden: read("h_0"),
            cell: read("c_0"),
        };
        let (output, _) = lstm.forward(read("input"), Some(state));
        let tolerance = Tolerance::of(DType::F32);
        assert_close("output", output, golden.values("output"), tolerance);
    }

    #[test]
    fn a_model_is_one_lstm_alone() {
        let file = WeightsFile::open(Golden::keras_path("single.weights.h5")).unwrap();
        let conversion = Conversion::new(&file, TargetKind::Onnx, &options(&[]), &device());
        assert_eq!(
            conversion.unwrap_err().to_string(),
            "to_prefix: expected none for an ONNX model, which is one LSTM alone, found \
             encoder.lstm"
        );
    }

    #[test]
    fn what_onnx_has_not_is_named() {
        let file = WeightsFile::open(Golden::path("lstm_projected")).unwrap();
        let options = ConvertOptions {
            prefixes: vec![String::new()],
            ..ConvertOptions::default()
        };
        let error = Conversion::new(&file, TargetKind::Onnx, &options, &device()).unwrap_err();
        assert!(error.to_string().contains("d_proj = 4"), "{error}");
    }
}

mod from_burn {
    use super::*;

    fn record(module: impl Module, folder: &TempDir) -> std::path::PathBuf {
        let path = folder.path().join("model.bpk");
        let bytes = module.into_record().into_bytes().unwrap();
        std::fs::write(&path, &bytes[..]).unwrap();
        path
    }

    #[test]
    fn one_direction() {
        let folder = TempDir::new().unwrap();
        let theirs = LstmConfig::new(5, 11, true).init(&device());
        let (conversion, lstm) = converted(&record(theirs.clone(), &folder), &[]);
        let input: Tensor<3> = tensor(
            [3, 7, 5],
            &Key::new(1).child("input"),
            &device(),
            DType::F32,
        );
        let (expected, _) = theirs.forward(input.clone(), None);
        let (output, _) = lstm.forward(input, None);
        assert_close("output", output, expected, Tolerance::of(DType::F32));
        let changes = |name| changes_of(&conversion, name);
        let joined = vec![Change::Transposed, Change::GatesJoined];
        assert_eq!(changes("weight_ih_l0"), (joined, 4));
        let summed = vec![Change::GatesJoined, Change::BiasesSummed];
        assert_eq!(changes("bias_ih_l0"), (summed, 8));
        assert!(conversion.left_over.is_empty());
    }

    #[test]
    fn a_stack_of_both_directions() {
        let folder = TempDir::new().unwrap();
        let theirs = vec![
            BiLstmConfig::new(5, 11, false).init(&device()),
            BiLstmConfig::new(22, 11, false).init(&device()),
        ];
        let path = record(theirs.clone(), &folder);
        let (_, lstm) = converted(&path, &["0", "1"]);
        let input: Tensor<3> = tensor(
            [3, 7, 5],
            &Key::new(1).child("input"),
            &device(),
            DType::F32,
        );
        let (between, _) = theirs[0].forward(input.clone(), None);
        let (expected, _) = theirs[1].forward(between, None);
        let (output, _) = lstm.forward(input, None);
        assert_close("output", output, expected, Tolerance::of(DType::F32));

        let file = WeightsFile::open(&path).unwrap();
        let convert = |prefixes: &[&str]| {
            Conversion::new(&file, TargetKind::Pytorch, &options(prefixes), &device())
        };
        let error = convert(&[]).unwrap_err();
        let WeightsError::ManyLstms { found, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(found, ["0", "1"]);
        let error = convert(&["2"]).unwrap_err();
        assert!(matches!(error, WeightsError::NoLstm { .. }), "{error}");
    }

    #[test]
    fn coupled_gates_are_seen() {
        let folder = TempDir::new().unwrap();
        let theirs = LstmConfig::new(5, 11, true).with_input_forget(true);
        let path = record(theirs.init(&device()), &folder);
        let file = WeightsFile::open(&path).unwrap();
        let error = Conversion::new(&file, TargetKind::Pytorch, &options(&[]), &device());
        assert_eq!(
            error.unwrap_err().to_string(),
            "PyTorch has no cell.coupled = true"
        );
    }

    #[test]
    fn a_damaged_record_is_an_error() {
        let folder = TempDir::new().unwrap();
        let theirs = LstmConfig::new(5, 11, true).init(&device());
        let path = record(theirs, &folder);
        let bytes = std::fs::read(&path).unwrap();
        for length in (8..bytes.len()).step_by(211) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = WeightsFile::open(&path).unwrap_err();
            assert!(matches!(error, WeightsError::File { .. }), "{error}");
        }
    }
}
