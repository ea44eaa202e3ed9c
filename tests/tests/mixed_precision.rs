//! Proves that models run in bf16 over weights in f32: which of their parts are in which type, that
//! losses and gradients are those of f32 within bf16's rounding, and what a device without it says.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use scratch_lstm::{Key, LstmState, PathChoice, RecurrentState, ScratchLstmConfig};
use scratch_tests::backend::all;
use scratch_tests::random::tensor;
use scratch_tests::{Named, PATHS, Values, device, say};
use scratch_train::Backend;
use scratch_train::data::{ForecastBatch, LabelledBatch, TextBatch};
use scratch_train::models::{CharLm, CharLmConfig, ClassifierConfig, ForecasterConfig};
use scratch_train::models::{embedding, linear};
use scratch_train::optimizer::with_path_ids;
use scratch_train::precision::{self, Precision, lowered, raised};
use scratch_train::{SequenceModel, gradients};

/// Whether the device of the tests computes in bf16; says that it does not.
fn has_bf16(test: &str) -> bool {
    let checked = precision::check(Precision::Bf16, &device());
    checked
        .inspect_err(|error| say(&format!("skipped: {test}, {error}")))
        .is_ok()
}

fn integers<const R: usize>(values: &[i64], shape: [usize; R], device: &Device) -> Tensor<R, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// Identity, element type, and whether it is to have a gradient, of every parameter.
#[derive(Default)]
struct Kinds(Vec<(ParamId, DType, bool)>);

impl ModuleVisitor for Kinds {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.0
            .push((param.id, value.dtype(), value.is_require_grad()));
    }
}

fn kinds<M: Module>(module: &M) -> Vec<(ParamId, DType, bool)> {
    let mut kinds = Kinds::default();
    module.visit(&mut kinds);
    kinds.0
}

fn named(grads: &GradientsParams, module: &impl Module) -> Named {
    gradients::to_named(grads, module)
        .into_iter()
        .map(|(name, data)| {
            assert_eq!(data.dtype(), DType::F32, "{name}");
            (name, Values::from(data))
        })
        .collect()
}

/// The distance of two tensors as a share of the second's length.
fn relative_distance(found: &Values, expected: &Values) -> f64 {
    assert_eq!(found.shape, expected.shape);
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let pairs = found.values.iter().zip(&expected.values);
    let distance = length(&mut pairs.map(|(found, expected)| found - expected));
    distance / length(&mut expected.values.iter().copied())
}

/// That a model does in bf16 what it does in f32. Returns the state it leaves in bf16.
fn check<M: SequenceModel>(what: &str, model: M, batch: impl Fn(&Device) -> M::Batch) -> M::State {
    let device = device();
    let autodiff = device.clone().autodiff();
    let master = with_path_ids(model.to_device(&device).valid().train());
    let batch = batch(&autodiff);
    let key = Key::new(3);

    let low = lowered(&master, FloatDType::BF16);
    let expected = kinds(&master);
    assert!(!expected.is_empty() && expected.iter().all(|kind| kind.1 == DType::F32 && kind.2));
    let cast: Vec<_> = expected
        .iter()
        .map(|&(id, _, tracked)| (id, DType::BF16, tracked))
        .collect();
    assert_eq!(kinds(&low), cast, "{what}");

    let exact = master.step(&batch, None, &key);
    let rough = low.step(&batch, None, &key);
    for output in [&exact, &rough] {
        assert_eq!(output.loss.dtype(), DType::F32, "{what}");
        assert_eq!(output.outputs.dtype(), DType::F32, "{what}");
    }
    let losses = [&exact, &rough].map(|output| output.loss.clone().into_scalar::<f64>());
    let error = (losses[1] - losses[0]).abs() / losses[0];
    assert!(error < 0.02 && error > 0.0, "{what}: {losses:?}");

    let state = rough.state.detach();
    // The next window begins with the state of this one.
    let next = low.step(&batch, Some(state.clone()), &key);
    assert!(next.loss.into_scalar::<f64>().is_finite());

    let exact = GradientsParams::from_grads(exact.loss.backward(), &master);
    let rough = GradientsParams::from_grads(rough.loss.backward(), &low);
    assert_eq!(rough.len(), expected.len(), "{what}");
    let (exact, rough) = (
        named(&exact, &master),
        named(&raised(rough, &master), &master),
    );
    for (name, expected) in &exact {
        let distance = relative_distance(&rough[name], expected);
        assert!(distance < 0.05, "{what}, {name}: {distance}");
    }
    state
}

fn assert_state_in_bf16(state: &LstmState) {
    assert_eq!(state.hidden.dtype(), DType::BF16);
    assert_eq!(state.cell.dtype(), DType::BF16);
    // As a checkpoint keeps it.
    let again = LstmState::try_from_named(&state.to_named(), &device()).unwrap();
    assert_eq!(again.cell.dtype(), DType::BF16);
    assert_eq!(again.cell.into_data(), state.cell.to_data());
}

fn char_lm(path: PathChoice, device: &Device) -> CharLm {
    let key = Key::new(1);
    let mut config = ScratchLstmConfig::new(3, 13).with_num_layers(2);
    config.path = path;
    CharLm::from_parts(
        embedding(7, 3, &key.child("embed"), device),
        config.init_with(&key.child("lstm"), device),
        linear(13, 7, &key.child("head"), device),
        0.2,
    )
}

#[test]
fn character_models_on_both_paths() {
    if !has_bf16("character models in bf16") {
        return;
    }
    for path in PATHS {
        let model = char_lm(path, &device());
        let state = check(&format!("{path:?}"), model, |device| TextBatch {
            inputs: integers(&[0, 1, 2, 3, 4, 5, 6, 2, 1, 0], [2, 5], device),
            targets: integers(&[1, 2, 3, 4, 5, 6, 2, 1, 0, 3], [2, 5], device),
        });
        assert_state_in_bf16(&state);
    }
}

#[test]
fn forecasters_and_classifiers() {
    if !has_bf16("forecasters and classifiers in bf16") {
        return;
    }
    let key = Key::new(2);
    let config = ForecasterConfig {
        d_hidden: 11,
        num_layers: 2,
        dropout: 0.2,
        ..ForecasterConfig::default()
    };
    let model = config.try_init(2, 3, &key, &device()).unwrap();
    let state = check("forecaster", model, |device| ForecastBatch {
        inputs: tensor([3, 5, 2], &Key::new(4), device, DType::F32),
        targets: tensor([3, 5, 6], &Key::new(5), device, DType::F32),
        skip: 1,
    });
    assert_state_in_bf16(&state);

    let config = ClassifierConfig {
        d_embedding: 3,
        d_hidden: 5,
        num_layers: 2,
        bidirectional: true,
        dropout: 0.2,
        label_smoothing: 0.1,
        ..ClassifierConfig::default()
    };
    let model = config.try_init(7, 4, &key, &device()).unwrap();
    check("classifier", model, |device| LabelledBatch {
        inputs: integers(&[0, 1, 2, 3, 4, 0], [2, 3], device),
        lengths: vec![3, 2],
        labels: integers(&[0, 3], [2], device),
    });
}

/// A model off the graph has a lowered copy off the graph, for generating.
#[test]
fn a_model_without_autodiff_is_lowered_too() {
    if !has_bf16("lowering without autodiff") {
        return;
    }
    let config = CharLmConfig {
        d_hidden: 5,
        ..CharLmConfig::default()
    };
    let model = config.try_init(7, &Key::new(1), &device()).unwrap();
    let low = lowered(&model.valid(), FloatDType::BF16);
    let symbols = integers(&[1, 2, 3], [1, 3], &device());
    let (logits, state) = low.predict(symbols, None, &Key::new(0));
    assert_eq!(logits.dtype(), DType::F32);
    assert!(!logits.is_autodiff());
    assert_state_in_bf16(&state);
}

#[test]
fn a_device_without_bf16_says_so() {
    let mut seen = 0;
    for chosen in all() {
        precision::check(Precision::F32, &chosen.device).unwrap();
        if chosen.backend == Backend::Flex {
            precision::check(Precision::Bf16, &chosen.device).unwrap();
        }
        seen += 1;
        if chosen.device.supports_dtype(DType::BF16) {
            continue;
        }
        let error = precision::check(Precision::Bf16, &chosen.device).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`precision`") && text.contains("bf16"),
            "{text}"
        );
    }
    assert!(seen > 0);
}
