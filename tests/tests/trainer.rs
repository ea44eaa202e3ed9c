//! Proves what the training loop promises: every parameter has a gradient and moves; windows
//! accumulate to the batch they are parts of; the same seed writes the same bytes; a run that was
//! cut off and resumed is the run that was not; validation disturbs nothing; and how a run ends:
//! early, in time, or with an error that keeps the last good checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use scratch_lstm::Key;
use scratch_tests::backend::{Kind, all};
use scratch_tests::probe::{parameters, parameters_without_gradient};
use scratch_tests::toy::{D_HIDDEN, Starts, Toy, ToyBatch, ToyData};
use scratch_tests::{Named, Tolerance, Values, assert_all_close, assert_all_same, device};
use scratch_train::checkpoint::{Checkpoint, Checkpoints};
use scratch_train::data::{ForecastBatch, LabelledBatch, SequenceData, Start, TextBatch, Window};
use scratch_train::models::{CharLmConfig, ClassifierConfig, ForecasterConfig};
use scratch_train::optimizer::OptimizerConfig;
use scratch_train::progress::Validation;
use scratch_train::schedule::ScheduleConfig;
use scratch_train::{
    Callback, CheckpointError, Ending, Outcome, SequenceModel, TrainError, Trainer, TrainingConfig,
};
use tempfile::TempDir;

const WINDOWS: usize = 5;

fn constant() -> ScheduleConfig {
    ScheduleConfig::constant()
}

fn sgd() -> OptimizerConfig {
    OptimizerConfig::sgd(0.0)
}

/// Plain gradient descent.
fn plain(epochs: usize) -> TrainingConfig {
    TrainingConfig {
        epochs,
        learning_rate: 0.1,
        optimizer: sgd(),
        schedule: constant(),
        clip_norm: None,
        ..TrainingConfig::default()
    }
}

/// Everything at once: AdamW, clipping, warm-up and a cosine, accumulation, validation in the
/// middle of epochs.
fn everything() -> TrainingConfig {
    TrainingConfig {
        epochs: 4,
        learning_rate: 0.02,
        accumulate: 2,
        validate_every: Some(2),
        clip_norm: Some(0.5),
        seed: 11,
        ..TrainingConfig::default()
    }
}

/// A stream of which some rows start anew in the middle.
fn train_data() -> ToyData {
    ToyData::new(WINDOWS, 3, 4, 21).with_starts(Starts::Rows)
}

fn valid_data() -> ToyData {
    ToyData::new(2, 2, 6, 22)
}

fn model(device: &Device) -> Toy {
    Toy::new(3, 0.3, device)
}

fn trained(config: TrainingConfig) -> (Trainer<Toy>, Outcome) {
    let mut trainer = Trainer::new(model(&device()), config, &device()).unwrap();
    let outcome = trainer.fit(&train_data(), &valid_data(), &mut ()).unwrap();
    (trainer, outcome)
}

/// All files below a folder but the clocks, by path.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "clock.json" {
                let name = path.strip_prefix(folder).unwrap().to_path_buf();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[track_caller]
fn assert_same_files(found: &Path, expected: &Path) {
    let (found, expected) = (files(found), files(expected));
    assert!(
        found.keys().eq(expected.keys()),
        "{:?} and {:?}",
        found.keys(),
        expected.keys()
    );
    for (name, bytes) in &expected {
        if &found[name] != bytes {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let shown = match name.extension() {
                Some(ending) if ending == "json" => {
                    format!(": expected {}, found {}", text(bytes), text(&found[name]))
                }
                _ => String::new(),
            };
            panic!("{} differs{shown}", name.display());
        }
    }
}

/// Windows that a function makes.
struct Made<F>(usize, F);

impl<B, F: Fn(usize, &Device) -> B> SequenceData for Made<F> {
    type Batch = B;

    fn windows(&self) -> usize {
        self.0
    }

    fn window(&self, _epoch: usize, index: usize, device: &Device) -> Window<B> {
        Window {
            batch: (self.1)(index, device),
            start: Start::Fresh,
        }
    }
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
    let data = Made(1, |_: usize, device: &Device| batch(device));
    let mut trainer = Trainer::new(model, plain(1), &device()).unwrap();
    trainer.fit(&data, &data, &mut ()).unwrap();
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
    };
    let model = config.try_init(7, 4, &key, &device).unwrap();
    check_moves("classifier", model, |device| LabelledBatch {
        inputs: integers(&[0, 1, 2, 3, 4, 0], [2, 3], device),
        lengths: vec![3, 2],
        labels: integers(&[0, 3], [2], device),
    });
}

/// Windows of different numbers of rows weigh as much as they have targets.
#[test]
fn accumulated_windows_are_the_batch_they_are_parts_of() {
    let all_rows = ToyData::new(1, 6, 4, 21);
    let weights = |parts: &'static [usize], clip_norm: Option<f64>| -> Named {
        let rows = all_rows.clone();
        let data = Made(parts.len(), move |index: usize, device: &Device| {
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
        let outcome = trainer.fit(&data, &data, &mut ()).unwrap();
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

// Repeating and resuming.

fn fit(trainer: &mut Trainer<Toy>, observer: &mut dyn Callback) -> Result<Outcome, TrainError> {
    trainer.fit(&train_data(), &valid_data(), observer)
}

fn checkpoints(folder: &TempDir) -> Checkpoints {
    Checkpoints::new(folder.path().join("checkpoints"))
}

/// A run from beginning to end, with its checkpoints.
fn run(config: TrainingConfig, device: &Device) -> (TempDir, Trainer<Toy>, Outcome) {
    let folder = TempDir::new().unwrap();
    let trainer = Trainer::new(model(device), config, device).unwrap();
    let mut trainer = trainer.with_checkpoints(checkpoints(&folder));
    let outcome = fit(&mut trainer, &mut ()).unwrap();
    (folder, trainer, outcome)
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    for cpu in all()
        .into_iter()
        .filter(|chosen| Kind::of(chosen) == Kind::Cpu)
    {
        let (one, ..) = run(everything(), &cpu.device);
        let (other, ..) = run(everything(), &cpu.device);
        assert_same_files(other.path(), one.path());
        // Something was compared: two checkpoints at most, of seven files each with the clock.
        let count = files(one.path()).len();
        assert!([6, 11].contains(&count), "{:?}", files(one.path()).keys());

        let config = TrainingConfig {
            seed: 12,
            ..everything()
        };
        let (third, ..) = run(config, &cpu.device);
        let weights = |folder: &TempDir| {
            let last = checkpoints(folder).last().unwrap();
            fs::read(last.join("model.bpk")).unwrap()
        };
        assert_ne!(
            weights(&third),
            weights(&one),
            "another seed drops other units"
        );
    }
}

/// Dies right after the checkpoint of that number, as a process can at any time.
struct DiesAfter(usize);

impl Callback for DiesAfter {
    fn saved(&mut self, _folder: &Path) {
        self.0 -= 1;
        assert!(self.0 > 0, "the process dies here");
    }
}

#[test]
fn a_run_that_died_and_was_resumed_is_the_run_that_did_not() {
    let (expected_folder, expected, outcome) = run(everything(), &device());
    // Three steps an epoch, four epochs, one validation every two steps, and one more checkpoint
    // that says that the run is finished.
    assert_eq!(outcome.steps, 12);
    let expected_progress = expected.progress().clone();
    let weights = parameters(expected.model());
    let best = parameters(&expected.into_best_model());

    for death in 1..=6 {
        let folder = TempDir::new().unwrap();
        let trainer = Trainer::new(model(&device()), everything(), &device()).unwrap();
        let mut trainer = trainer.with_checkpoints(checkpoints(&folder));
        let died = catch_unwind(AssertUnwindSafe(|| {
            fit(&mut trainer, &mut DiesAfter(death))
        }));
        assert!(died.is_err());
        assert_eq!(trainer.progress().step, 2 * death as u64);
        drop(trainer);

        // The architecture is all that is taken of the model.
        let other = Toy::new(99, 0.3, &device());
        let mut resumed =
            Trainer::resume(other, everything(), &device(), checkpoints(&folder)).unwrap();
        assert_eq!(resumed.progress().step, 2 * death as u64);
        let found = fit(&mut resumed, &mut ()).unwrap();

        assert_eq!(resumed.progress(), &expected_progress, "died after {death}");
        assert_eq!((found.ending, found.steps), (outcome.ending, outcome.steps));
        assert_eq!(found.best, outcome.best);
        let what = format!("died after {death}");
        assert_all_same(&what, &parameters(resumed.model()), &weights);
        assert_all_same(&what, &parameters(&resumed.into_best_model()), &best);
        assert_same_files(folder.path(), expected_folder.path());
    }
}

#[test]
fn a_finished_run_goes_on_to_more_epochs() {
    for optimizer in [
        OptimizerConfig::default(),
        OptimizerConfig::sgd(0.9),
        OptimizerConfig::RmsProp {
            alpha: 0.99,
            momentum: 0.5,
            epsilon: 1e-8,
            centered: false,
            weight_decay: 0.0,
        },
        OptimizerConfig::Adam {
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
            amsgrad: false,
            weight_decay: 0.01,
        },
    ] {
        // The learning rate must not know how long the run will be.
        let config = |epochs| TrainingConfig {
            optimizer: optimizer.clone(),
            learning_rate: 0.003,
            schedule: constant(),
            clip_norm: Some(1.0),
            ..plain(epochs)
        };
        let (_expected_folder, expected, outcome) = run(config(5), &device());
        let (folder, first, _) = run(config(2), &device());
        drop(first);
        let mut resumed =
            Trainer::resume(model(&device()), config(5), &device(), checkpoints(&folder)).unwrap();
        let found = fit(&mut resumed, &mut ()).unwrap();
        let what = format!("{optimizer:?}");
        assert_eq!(found.best, outcome.best, "{what}");
        assert_eq!(resumed.progress(), expected.progress(), "{what}");
        assert_all_same(
            &what,
            &parameters(resumed.model()),
            &parameters(expected.model()),
        );
    }
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let (folder, trainer, outcome) = run(everything(), &device());
    let mut resumed = Trainer::resume(
        model(&device()),
        everything(),
        &device(),
        checkpoints(&folder),
    )
    .unwrap();
    let before = files(folder.path());
    let found = fit(&mut resumed, &mut ()).unwrap();
    assert_eq!((found.ending, found.steps), (outcome.ending, outcome.steps));
    assert_eq!(found.best, outcome.best);
    assert_eq!(resumed.progress(), trainer.progress());
    let weights = parameters(trainer.model());
    assert_all_same("weights", &parameters(resumed.model()), &weights);
    assert_eq!(files(folder.path()), before);
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
    let mut trainer = Trainer::new(start(), config(1000), &device()).unwrap();
    let mut log = Log::default();
    let outcome = trainer.fit(&data, &opposite, &mut log).unwrap();
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
    short.fit(&data, &opposite, &mut ()).unwrap();
    let then = parameters(short.model());
    assert_all_same("best", &parameters(&trainer.into_best_model()), &then);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint() {
    let good = train_data();
    // The third window of the second epoch.
    let poisoned = good.clone().with_poison(1, 2);
    let folder = TempDir::new().unwrap();
    let trainer = Trainer::new(model(&device()), plain(5), &device()).unwrap();
    let mut trainer = trainer.with_checkpoints(checkpoints(&folder));
    let error = trainer.fit(&poisoned, &valid_data(), &mut ()).unwrap_err();
    let text = error.to_string();
    let TrainError::Diverged {
        step,
        loss,
        last_good,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(step, WINDOWS as u64 + 3);
    assert!(loss.is_nan());
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
    let mut resumed =
        Trainer::resume(model(&device()), plain(5), &device(), checkpoints(&folder)).unwrap();
    resumed.fit(&good, &valid_data(), &mut ()).unwrap();
    let (expected, _) = trained(plain(5));
    let weights = parameters(expected.model());
    assert_all_same("mended", &parameters(resumed.model()), &weights);
}

#[test]
fn a_validation_that_is_no_number_ends_the_run() {
    let poisoned = valid_data().with_poison(0, 1);
    let mut trainer = Trainer::new(model(&device()), plain(2), &device()).unwrap();
    let error = trainer.fit(&train_data(), &poisoned, &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the loss became NaN at step 5; no checkpoint had been written"
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
    let mut log = Log::default();
    let outcome = fit(&mut trainer, &mut log).unwrap();
    assert_eq!(outcome.ending, Ending::OutOfTime);
    let (last, _) = log.validations.last().unwrap();
    assert_eq!(last.step, outcome.steps);
    assert!(trainer.progress().finished);
    assert!(Checkpoint::open(&checkpoints(&folder).best().unwrap()).is_ok());
}

#[test]
fn data_without_a_window_are_an_error() {
    let nothing = ToyData::new(0, 3, 4, 21);
    let mut trainer = Trainer::new(model(&device()), plain(1), &device()).unwrap();
    let error = trainer.fit(&nothing, &valid_data(), &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "training: expected at least one window of data, found none"
    );
    let error = trainer.fit(&train_data(), &nothing, &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "validation: expected at least one window of data, found none"
    );
}

// Checkpoints that do not fit.

fn resume(
    model: Toy,
    config: TrainingConfig,
    checkpoints: &Checkpoints,
) -> Result<Trainer<Toy>, TrainError> {
    Trainer::resume(model, config, &device(), checkpoints.clone())
}

#[track_caller]
fn checkpoint_error(result: Result<Trainer<Toy>, TrainError>) -> CheckpointError {
    match result.err() {
        Some(TrainError::Checkpoint(error)) => error,
        other => panic!("expected an error of the checkpoint, found {other:?}"),
    }
}

#[test]
fn a_checkpoint_of_another_architecture() {
    let (folder, ..) = run(plain(1), &device());
    let wider = Toy::with_hidden(D_HIDDEN + 1, 3, 0.3, &device());
    let error = checkpoint_error(resume(wider, plain(2), &checkpoints(&folder)));
    assert!(
        matches!(error, CheckpointError::Architecture { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("the weights are those of another model"),
        "{text}"
    );
    assert!(text.contains("lstm.layers.0.forward.weight_ih"), "{text}");
}

#[test]
fn a_checkpoint_of_another_optimizer() {
    let adam = TrainingConfig {
        optimizer: OptimizerConfig::default(),
        ..plain(1)
    };
    let (folder, ..) = run(adam, &device());
    let error = checkpoint_error(resume(model(&device()), plain(2), &checkpoints(&folder)));
    assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
}

#[test]
fn a_damaged_checkpoint() {
    let (folder, ..) = run(everything(), &device());
    let checkpoints = checkpoints(&folder);
    let last = checkpoints.last().unwrap();
    let try_resume = || checkpoint_error(resume(model(&device()), everything(), &checkpoints));
    for name in ["model.bpk", "optimizer.bpk", "carried.bpk", "progress.json"] {
        let path = last.join(name);
        let bytes = fs::read(&path).unwrap();

        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&path, &flipped).unwrap();
        let error = try_resume();
        assert!(matches!(&error, CheckpointError::Damaged { path: found, .. } if *found == path));
        let text = error.to_string();
        assert!(
            text.contains("damaged: expected") && text.contains("SHA-256"),
            "{text}"
        );

        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(
            matches!(try_resume(), CheckpointError::Damaged { .. }),
            "{name}"
        );

        fs::remove_file(&path).unwrap();
        let error = try_resume();
        assert!(matches!(&error, CheckpointError::Io { path: found, .. } if *found == path));

        fs::write(&path, &bytes).unwrap();
    }
    // The clock is not part of the run's results, but must be there and be one.
    let clock = last.join("clock.json");
    let bytes = fs::read(&clock).unwrap();
    fs::write(&clock, b"{").unwrap();
    try_resume();
    fs::remove_file(&clock).unwrap();
    try_resume();
    fs::write(&clock, bytes).unwrap();

    let manifest = last.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    let error = try_resume().to_string();
    assert!(error.contains("expected format 1, found 2"), "{error}");
    fs::write(&manifest, text.replace("\"carried.bpk\"", "\"other.bpk\"")).unwrap();
    assert!(matches!(try_resume(), CheckpointError::Io { .. }));
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    assert!(matches!(try_resume(), CheckpointError::Format { .. }));
    fs::write(&manifest, &text).unwrap();

    assert!(resume(model(&device()), everything(), &checkpoints).is_ok());
}

#[test]
fn what_is_no_checkpoint() {
    let folder = TempDir::new().unwrap();
    let nothing = Checkpoints::new(folder.path().join("nowhere"));
    let error = checkpoint_error(resume(model(&device()), plain(1), &nothing));
    assert!(
        matches!(error, CheckpointError::NotACheckpoint { .. }),
        "{error}"
    );

    let error = Checkpoint::open(folder.path()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("expected a checkpoint folder, found a folder without manifest"),
        "{text}"
    );
    let file = folder.path().join("file");
    fs::write(&file, b"x").unwrap();
    let text = Checkpoint::open(&file).unwrap_err().to_string();
    assert!(
        text.contains("expected a checkpoint folder, found a file"),
        "{text}"
    );

    // An index that names a checkpoint that is gone.
    let (folder, ..) = run(plain(1), &device());
    let checkpoints = checkpoints(&folder);
    fs::remove_dir_all(checkpoints.last().unwrap()).unwrap();
    let error = checkpoint_error(resume(model(&device()), plain(2), &checkpoints));
    assert!(
        matches!(error, CheckpointError::NotACheckpoint { .. }),
        "{error}"
    );
    // And one that is none.
    fs::write(folder.path().join("checkpoints/index.json"), b"[]").unwrap();
    let error = checkpoint_error(resume(model(&device()), plain(2), &checkpoints));
    assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
}

#[test]
fn last_and_best_are_kept_and_nothing_else() {
    let (folder, trainer, outcome) = run(everything(), &device());
    let checkpoints = checkpoints(&folder);
    let step = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let best = format!("step-{:08}", outcome.best.step);
    assert_eq!(
        step(checkpoints.last().unwrap()),
        format!("step-{:08}", outcome.steps)
    );
    assert_eq!(step(checkpoints.best().unwrap()), best);
    let entries = fs::read_dir(folder.path().join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut expected = vec![
        "index.json".to_string(),
        best,
        format!("step-{:08}", outcome.steps),
    ];
    expected.sort();
    expected.dedup();
    assert_eq!(names, expected);

    let load = |path: PathBuf| -> Named {
        let checkpoint = Checkpoint::open(&path).unwrap();
        parameters(&checkpoint.load_model(model(&device())).unwrap())
    };
    assert_all_same(
        "last",
        &load(checkpoints.last().unwrap()),
        &parameters(trainer.model()),
    );
    let best: Named = parameters(&trainer.into_best_model());
    assert_all_same("best", &load(checkpoints.best().unwrap()), &best);
    assert!(
        best.values()
            .all(|Values { values, .. }| values.iter().all(|x| x.is_finite()))
    );
}
