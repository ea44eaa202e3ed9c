//! Proves what the training loop promises: every parameter has a gradient and moves; windows
//! accumulate to the batch they are parts of; validation disturbs nothing; and how a run ends:
//! early, in time, or with an error that keeps the last good checkpoint.

use burn::tensor::{Device, Int, Tensor, TensorData};
use scratch_lstm::Key;
use scratch_lstm::config::{CellConfig, InitConfig, LayerConnection, RegularizationConfig};
use scratch_tests::probe::{parameters, parameters_without_gradient};
use scratch_tests::runs::{
    WINDOWS, checkpoints, everything, fit, model, plain, resumed, train_data, trained, valid_data,
};
use scratch_tests::toy::{Toy, ToyBatch, ToyData};
use scratch_tests::{Named, Tolerance, assert_all_close, assert_all_same, device};
use scratch_train::data::{
    ForecastBatch, Generated, LabelledBatch, SequenceData, Start, TextBatch, Window,
};
use scratch_train::models::{CharLmConfig, ClassifierConfig, ForecasterConfig, LstmSettings};
use scratch_train::progress::Validation;
use scratch_train::{
    Callback, Checkpoint, Ending, SequenceModel, TrainError, Trainer, TrainingConfig,
};
use tempfile::TempDir;

/// Windows that begin anew, the same in every epoch.
fn made<B>(windows: usize, batch: impl Fn(usize, &Device) -> B) -> impl SequenceData<Batch = B> {
    Generated::new(windows, move |_, index, device| Window {
        batch: batch(index, device),
        start: Start::Fresh,
    })
}

fn integers<const R: usize>(values: &[i64], shape: [usize; R], device: &Device) -> Tensor<R, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

// Gradients.

/// That every parameter of a model has a gradient, and moves when the trainer makes a step.
fn check_moves<M: SequenceModel>(name: &str, model: M, batch: impl Fn(&Device) -> M::Batch) {
    let autodiff = device().autodiff();
    let trained = model.clone().train();
    let output = trained.step(&batch(&autodiff), None, &Key::new(0));
    let gradients = output.loss.backward();
    let without = parameters_without_gradient(&trained, &gradients);
    assert_eq!(without, Vec::<String>::new(), "{name}");

    let before = parameters(&model);
    let data = made(1, |_: usize, device: &Device| batch(device));
    let mut trainer = Trainer::new(model, plain(1), &device()).unwrap();
    trainer.fit(&data, &data).unwrap();
    let after = parameters(trainer.model());
    assert!(before.len() >= 5, "{name}: {:?}", before.keys());
    for (parameter, before) in &before {
        assert_ne!(&after[parameter], before, "{name}: {parameter}");
        let values = &after[parameter].values;
        assert!(
            values.iter().all(|value| value.is_finite()),
            "{name}: {parameter}"
        );
    }
}

#[test]
fn every_parameter_has_a_gradient_and_moves() {
    let (key, device) = (Key::new(1), device());
    check_moves("toy", Toy::new(3, 0.3, &device), |device| {
        train_data().batch(0, device)
    });

    let config = CharLmConfig {
        d_embedding: 3,
        d_hidden: 5,
        num_layers: 2,
        dropout: 0.2,
        label_smoothing: 0.1,
        lstm: every_setting(),
    };
    let model = config.try_init(7, &key, &device).unwrap();
    check_moves("character model", model, |device| TextBatch {
        inputs: integers(&[0, 1, 2, 3, 4, 5], [2, 3], device),
        targets: integers(&[1, 2, 3, 4, 5, 6], [2, 3], device),
    });

    let config = ForecasterConfig {
        d_hidden: 5,
        num_layers: 2,
        dropout: 0.2,
        lstm: every_setting(),
    };
    let model = config.try_init(2, 3, &key, &device).unwrap();
    check_moves("forecaster", model, |device| ForecastBatch {
        inputs: Tensor::ones([2, 4, 2], device),
        targets: Tensor::zeros([2, 4, 6], device),
        skip: 1,
    });

    let config = ClassifierConfig {
        d_embedding: 3,
        d_hidden: 5,
        num_layers: 2,
        bidirectional: true,
        dropout: 0.2,
        label_smoothing: 0.1,
        lstm: every_setting(),
    };
    let model = config.try_init(7, 4, &key, &device).unwrap();
    check_moves("classifier", model, |device| LabelledBatch {
        inputs: integers(&[0, 1, 2, 3, 4, 0], [2, 3], device),
        lengths: vec![3, 2],
        labels: integers(&[0, 3], [2], device),
    });
}

/// An LSTM with all that has parameters or goes into the loss.
fn every_setting() -> LstmSettings {
    LstmSettings {
        d_proj: Some(4),
        connection: LayerConnection::Residual,
        learned_state: true,
        cell: CellConfig {
            peepholes: true,
            layer_norm: true,
            ..CellConfig::default()
        },
        regularization: RegularizationConfig {
            activation_penalty: 1e-2,
            temporal_activation_penalty: 1e-2,
            zoneout_hidden: 0.1,
            weight_dropout: 0.1,
            ..RegularizationConfig::default()
        },
        init: InitConfig::keras(),
    }
}

#[test]
fn dropout_between_layers_has_one_place() {
    let mut config = CharLmConfig::default();
    config.lstm.regularization.dropout = 0.1;
    let error = config.try_init(7, &Key::new(1), &device()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid configuration: `lstm.regularization.dropout` must be 0 here: the model's \
         `dropout` is it, found 0.1"
    );
}

/// Windows of different numbers of rows weigh as much as they have targets.
#[test]
fn accumulated_windows_are_the_batch_they_are_parts_of() {
    let all_rows = ToyData::new(1, 6, 4, 21);
    let weights = |parts: &'static [usize], clip_norm: Option<f64>| -> Named {
        let rows = all_rows.clone();
        let data = made(parts.len(), move |index: usize, device: &Device| {
            let ToyBatch { inputs, targets } = rows.batch(0, device);
            let from = parts[..index].iter().sum();
            let cut = |tensor: Tensor<3>| tensor.narrow(0, from, parts[index]);
            ToyBatch {
                inputs: cut(inputs),
                targets: cut(targets),
            }
        });
        let config = TrainingConfig {
            accumulate: parts.len(),
            clip_norm,
            ..plain(3)
        };
        let model = Toy::new(3, 0.0, &device());
        let mut trainer = Trainer::new(model, config, &device()).unwrap();
        let outcome = trainer.fit(&data, &data).unwrap();
        assert_eq!(outcome.steps, 3);
        parameters(trainer.model())
    };
    let tolerance = Tolerance::of(burn::tensor::DType::F32);
    for clip_norm in [None, Some(0.05)] {
        let whole = weights(&[6], clip_norm);
        for parts in [&[2, 2, 2][..], &[4, 2], &[1, 2, 3]] {
            let what = format!("parts {parts:?}, clipped to {clip_norm:?}");
            assert_all_close(&what, &weights(parts, clip_norm), &whole, tolerance);
        }
        assert_ne!(whole, parameters(&Toy::new(3, 0.0, &device())));
    }
}

#[test]
fn an_epoch_that_does_not_divide_ends_with_a_smaller_step() {
    let config = TrainingConfig {
        accumulate: 2,
        ..plain(3)
    };
    // Five windows: two, two and one.
    let (_, outcome) = trained(config);
    assert_eq!(outcome.steps, 9);
}

#[test]
fn clipping_bounds_the_step() {
    let length = |clip_norm: Option<f64>| -> f64 {
        let config = TrainingConfig {
            learning_rate: 1.0,
            accumulate: WINDOWS,
            clip_norm,
            ..plain(1)
        };
        let before = parameters(&model(&device()));
        let (trainer, _) = trained(config);
        let moved = parameters(trainer.model());
        let squares = moved.iter().flat_map(|(name, after)| {
            let pairs = after.values.iter().zip(&before[name].values);
            pairs
                .map(|(after, before)| (after - before).powi(2))
                .collect::<Vec<_>>()
        });
        squares.sum::<f64>().sqrt()
    };
    let free = length(None);
    let bound = free / 10.0;
    assert!(
        (length(Some(bound)) / bound - 1.0).abs() < 1e-3,
        "{}",
        length(Some(bound))
    );
    assert!((length(Some(free * 10.0)) / free - 1.0).abs() < 1e-6);
}

#[test]
fn validation_does_not_disturb_training() {
    let config = |validate_every| TrainingConfig {
        validate_every,
        accumulate: 1,
        ..everything()
    };
    let (often, outcome) = trained(config(Some(1)));
    let (seldom, _) = trained(config(None));
    assert_eq!(outcome.steps, 20);
    let weights = parameters(seldom.model());
    assert_all_same("every step", &parameters(often.model()), &weights);
    // At the very end only.
    let (once, _) = trained(config(Some(1000)));
    assert_all_same("once", &parameters(once.model()), &weights);
}

/// Remembers what it is told.
#[derive(Default)]
struct Log {
    validations: Vec<(Validation, bool)>,
    ending: Option<Ending>,
}

impl Callback for Log {
    fn validated(&mut self, validation: &Validation, best: bool) {
        self.validations.push((validation.clone(), best));
    }

    fn ended(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }
}

#[test]
fn the_validation_loss_is_that_of_the_best_model() {
    let (trainer, outcome) = trained(everything());
    let best = trainer.into_best_model();
    let evaluation = scratch_train::evaluate(&best, &valid_data(), &device()).unwrap();
    assert_eq!(evaluation, outcome.best.valid);
}

// How runs end.

/// What is learned makes this validation worse: its targets are the negatives of those trained on.
#[test]
fn without_a_better_validation_the_run_ends() {
    let data = ToyData::new(WINDOWS, 3, 4, 21).with_scale(2.0);
    let opposite = data.clone().with_scale(-2.0);
    let config = |epochs| TrainingConfig {
        patience: Some(3),
        ..plain(epochs)
    };
    let start = || Toy::new(3, 0.0, &device());
    let mut log = Log::default();
    let trainer = Trainer::new(start(), config(1000), &device()).unwrap();
    let mut trainer = trainer.with_callback(&mut log);
    let outcome = trainer.fit(&data, &opposite).unwrap();
    let found = parameters(&trainer.into_best_model());
    assert_eq!(outcome.ending, Ending::NoGain);
    assert_eq!(log.ending, Some(Ending::NoGain));
    // It gets better for some epochs at most, then three times worse than the best.
    let best: Vec<bool> = log.validations.iter().map(|(_, best)| *best).collect();
    let epochs = best.iter().filter(|best| **best).count();
    assert!((1..20).contains(&epochs), "{best:?}");
    assert_eq!(best[epochs..], [false; 3]);
    assert_eq!(outcome.steps, ((epochs + 3) * WINDOWS) as u64);
    assert_eq!(outcome.best.step, (epochs * WINDOWS) as u64);

    // The best model is the one of that time.
    let mut short = Trainer::new(start(), config(epochs), &device()).unwrap();
    short.fit(&data, &opposite).unwrap();
    let then = parameters(short.model());
    assert_all_same("best", &found, &then);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint() {
    let good = train_data();
    // The third window of the second epoch.
    let poisoned = good.clone().with_poison(1, 2);
    let folder = TempDir::new().unwrap();
    let trainer = Trainer::new(model(&device()), plain(5), &device()).unwrap();
    let mut trainer = trainer.with_checkpoints(checkpoints(&folder));
    let error = trainer.fit(&poisoned, &valid_data()).unwrap_err();
    let text = error.to_string();
    let TrainError::Diverged {
        step,
        value,
        last_good,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(step, WINDOWS as u64 + 3);
    assert!(value.is_nan());
    let last_good = last_good.unwrap();
    assert_eq!(last_good, checkpoints(&folder).last().unwrap());
    let expected = format!(
        "the loss became NaN at step 8; the last good checkpoint is {}",
        last_good.display()
    );
    assert_eq!(text, expected);

    // It is that of the first epoch, whole.
    let checkpoint = Checkpoint::open(&last_good).unwrap();
    let kept = checkpoint.load_model(Toy::new(99, 0.3, &device())).unwrap();
    let (after_one_epoch, _) = trained(plain(1));
    let weights = parameters(after_one_epoch.model());
    assert_all_same("kept", &parameters(&kept), &weights);

    // With the data mended, the run goes on from there as if nothing had happened.
    let mut resumed = resumed(plain(5), &folder, ()).unwrap();
    resumed.fit(&good, &valid_data()).unwrap();
    let (expected, _) = trained(plain(5));
    let weights = parameters(expected.model());
    assert_all_same("mended", &parameters(resumed.model()), &weights);
}

#[test]
fn a_validation_that_is_no_number_ends_the_run() {
    let poisoned = valid_data().with_poison(0, 1);
    let mut trainer = Trainer::new(model(&device()), plain(2), &device()).unwrap();
    let error = trainer.fit(&train_data(), &poisoned).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the validation loss became NaN at step 5; no checkpoint had been written"
    );
}

#[test]
fn a_budget_of_time_ends_the_run_with_a_validation() {
    let config = TrainingConfig {
        max_time: Some(0.5),
        ..plain(1_000_000_000)
    };
    let folder = TempDir::new().unwrap();
    let trainer = Trainer::new(model(&device()), config, &device()).unwrap();
    let mut trainer = trainer.with_checkpoints(checkpoints(&folder));
    let outcome = fit(&mut trainer).unwrap();
    assert_eq!(outcome.ending, Ending::OutOfTime);
    let progress = trainer.progress();
    assert_eq!(progress.last.as_ref().unwrap().step, outcome.steps);
    assert!(progress.finished);
    let last = Checkpoint::open(&checkpoints(&folder).last().unwrap()).unwrap();
    assert_eq!(&last.progress().unwrap(), progress);
}

#[test]
fn data_without_a_window_are_an_error() {
    let nothing = ToyData::new(0, 3, 4, 21);
    let mut trainer = Trainer::new(model(&device()), plain(1), &device()).unwrap();
    let error = trainer.fit(&nothing, &valid_data()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "training: expected at least one window of data, found none"
    );
    let error = trainer.fit(&train_data(), &nothing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "validation: expected at least one window of data, found none"
    );
}
