//! Proves that the same seed writes the same bytes, and that a run that was cut off anywhere and goes
//! on is the run that was not.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use burn::tensor::Device;
use scratch_tests::backend::{Kind, all};
use scratch_tests::probe::parameters;
use scratch_tests::runs::{
    InterruptsAt, WINDOWS, assert_same_files, checkpoints, constant, everything, files, fit, model,
    plain, resumed, run, train_data, trainer, valid_data,
};
use scratch_tests::toy::{ToyBatch, ToyData};
use scratch_tests::{assert_all_same, device, is_gpu};
use scratch_train::callback::{Control, Saved, SavedStates};
use scratch_train::data::{SequenceData, Window};
use scratch_train::optimizer::OptimizerConfig;
use scratch_train::{
    Callback, CheckpointError, Interrupt, ResumeOptions, StepRow, TrainError, Trainer,
    TrainingConfig,
};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn the_same_seed_writes_the_same_bytes() {
    for cpu in all()
        .into_iter()
        .filter(|chosen| Kind::of(chosen) == Kind::Cpu)
    {
        let (one, ..) = run(everything(), &cpu.device);
        let (other, ..) = run(everything(), &cpu.device);
        assert_same_files(other.path(), one.path());
        // Something was compared: two checkpoints or three, of five files at least without clock
        // and manifest.
        let count = files(one.path()).len();
        assert!(count >= 10, "{:?}", files(one.path()).keys());

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

    // At the beginning, every two steps, and where an epoch ends.
    for (death, saved_at) in [0, 2, 3, 4, 6, 8, 9, 10, 12].into_iter().enumerate() {
        let death = death + 1;
        let folder = TempDir::new().unwrap();
        let mut killed = trainer(everything(), &device(), &folder).with_callback(DiesAfter(death));
        let error = fit(&mut killed).unwrap_err();
        let TrainError::Panicked {
            step,
            message,
            last_good,
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(*step, saved_at);
        assert_eq!(message, "the process dies here");
        assert_eq!(
            last_good.as_ref(),
            checkpoints(&folder).last().ok().as_ref()
        );
        // What is half done is not gone on with.
        assert!(matches!(fit(&mut killed), Err(TrainError::Panicked { .. })));
        drop(killed);

        let mut resumed = resumed(everything(), &folder, ()).unwrap();
        assert_eq!(resumed.progress().step, saved_at);
        let found = fit(&mut resumed).unwrap();

        assert_eq!(resumed.progress(), &expected_progress, "died after {death}");
        assert_eq!((found.ending, found.steps), (outcome.ending, outcome.steps));
        assert_eq!(found.best, outcome.best);
        let what = format!("died after {death}");
        assert_all_same(&what, &parameters(resumed.model()), &weights);
        assert_all_same(&what, &parameters(&resumed.into_best_model()), &best);
        assert_same_files(folder.path(), expected_folder.path());
    }
}

/// Also amid a step, with gradients that are summed up already.
#[test]
fn an_interrupt_after_any_window_changes_nothing() {
    let (expected_folder, expected, outcome) = run(everything(), &device());
    let last = |folder: &TempDir| checkpoints(folder).last().unwrap();
    let mut amid_a_step = 0;
    for at in 0..4 * WINDOWS {
        let folder = TempDir::new().unwrap();
        let interrupt = Interrupt::new();
        let data = InterruptsAt {
            data: train_data(),
            interrupt: interrupt.clone(),
            at,
        };
        let mut first = trainer(everything(), &device(), &folder).with_interrupt(interrupt);
        let result = first.fit(&data, &valid_data());
        // The last window ends the run anyway.
        if at + 1 < 4 * WINDOWS {
            let error = result.unwrap_err();
            let TrainError::Interrupted {
                signal: 15,
                step,
                last_good: Some(saved),
            } = &error
            else {
                panic!("{error}")
            };
            assert_eq!(*saved, last(&folder));
            assert_eq!(*step, first.progress().step);
            amid_a_step += usize::from(saved.join("gradients.bpk").exists());
        }
        drop(first);
        let mut second = resumed(everything(), &folder, ()).unwrap();
        let found = fit(&mut second).unwrap();
        let what = format!("interrupted at window {at}");
        assert_eq!(second.progress(), expected.progress(), "{what}");
        assert_eq!(found.best, outcome.best, "{what}");
        assert_same_files(&last(&folder), &last(&expected_folder));
    }
    // Five windows an epoch, two a step: after the first and the third of each.
    assert_eq!(amid_a_step, 8);
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
        let mut resumed = resumed(config(5), &folder, ()).unwrap();
        let found = fit(&mut resumed).unwrap();
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
    let mut resumed = resumed(everything(), &folder, ()).unwrap();
    let before = files(folder.path());
    let found = fit(&mut resumed).unwrap();
    assert_eq!((found.ending, found.steps), (outcome.ending, outcome.steps));
    assert_eq!(found.best, outcome.best);
    assert_eq!(resumed.progress(), trainer.progress());
    let weights = parameters(trainer.model());
    assert_all_same("weights", &parameters(resumed.model()), &weights);
    assert_eq!(files(folder.path()), before);
}

/// Settings with everything that remembers something, each once.
fn features() -> Vec<Value> {
    vec![
        json!({"schedule": {"kind": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.9}}),
        json!({"schedule": {"kind": "cosine_restarts", "cycle": 1.5, "multiplier": 2}}),
        json!({"schedule": {"kind": "one_cycle"}, "optimizer": {"kind": "sgd", "momentum": 0.9}}),
        json!({"schedule": {"kind": "noam", "warmup_steps": 5}, "optimizer": {"kind": "adan"}}),
        json!({"schedule": {"kind": "step", "every": 2}, "optimizer": {"kind": "lion"}}),
        json!({"schedule": {"kind": "exponential", "warmup": {"steps": 4}},
               "optimizer": {"kind": "adagrad"}}),
        json!({"schedule": {"kind": "linear"}, "optimizer": {"kind": "lamb"}, "clip_value": 0.01}),
        json!({"schedule": {"kind": "constant"}, "optimizer": {"kind": "adafactor"}}),
        json!({"optimizer": {"kind": "adam", "amsgrad": true}, "average": {"kind": "ema"}}),
        json!({"optimizer": {"kind": "rms_prop", "momentum": 0.5, "centered": true},
               "average": {"kind": "swa", "start": 0.4, "every": 2}}),
        json!({"average": {"kind": "nt_asgd", "non_monotone": 1}, "learning_rate": 0.3,
               "optimizer": {"kind": "sgd"}, "validate_every": 1}),
        json!({"groups": [{"match": "head.*", "learning_rate_factor": 0.1}], "patience": 3}),
        json!({"non_finite": "skip", "log_every": 2}),
        json!({"precision": "bf16"}),
    ]
}

/// [`everything`] with some settings replaced.
fn with(changes: &Value) -> TrainingConfig {
    let mut config = serde_json::to_value(everything()).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}

#[test]
fn whatever_remembers_something_goes_on_where_it_was() {
    // A software GPU takes ten seconds for each, and what is saved does not depend on it.
    let every = if is_gpu() { 5 } else { 1 };
    for changes in features().into_iter().step_by(every) {
        let config = with(&changes);
        // A gradient that is not finite, for those that skip it.
        let data = match changes.get("non_finite") {
            Some(_) => train_data().with_poison(1, 2),
            None => train_data(),
        };
        let start = |folder: &TempDir| {
            let trainer = Trainer::new(model(&device()), config.clone(), &device());
            trainer.map(|trainer| trainer.with_checkpoints(checkpoints(folder)))
        };
        let expected = TempDir::new().unwrap();
        let mut through = match start(&expected) {
            Ok(trainer) => trainer,
            // The only one of these settings that not every device has.
            Err(error) => {
                assert!(
                    error.to_string().contains("precision"),
                    "{changes}: {error}"
                );
                continue;
            }
        };
        let outcome = through.fit(&data, &valid_data()).unwrap();
        assert_eq!(outcome.skipped > 0, changes.get("non_finite").is_some());
        let last = |folder: &TempDir| checkpoints(folder).last().unwrap();
        let averaged = last(&expected).join("average.bpk").exists();
        assert_eq!(averaged, changes.get("average").is_some(), "{changes}");

        // Cut off three times, the second time soon after the first.
        let folder = TempDir::new().unwrap();
        let mut trainer = start(&folder).unwrap();
        for at in [6, 7, 12] {
            let interrupt = Interrupt::new();
            let cut = InterruptsAt {
                data: data.clone(),
                interrupt: interrupt.clone(),
                at,
            };
            let mut first = trainer.with_interrupt(interrupt);
            let error = first.fit(&cut, &valid_data()).err();
            let is_cut = matches!(error, Some(TrainError::Interrupted { .. }));
            assert!(
                is_cut || changes.get("patience").is_some(),
                "{changes}: {error:?}"
            );
            trainer = resumed(config.clone(), &folder, ()).unwrap();
        }
        trainer.fit(&data, &valid_data()).unwrap();
        assert_eq!(trainer.progress(), through.progress(), "{changes}");
        assert_same_files(&last(&folder), &last(&expected));
    }
}

/// Counts what it is told, steers, and keeps its count in checkpoints.
#[derive(Default)]
struct Counter {
    count: u64,
    loaded: Option<u64>,
    rows: Rc<RefCell<Vec<StepRow>>>,
    stop_at: Option<u64>,
}

impl Callback for Counter {
    fn stepped(&mut self, step: u64) -> Control {
        self.count += 1;
        match self.stop_at == Some(step) {
            true => Control::Stop,
            false => Control::Continue,
        }
    }

    fn logged(&mut self, row: &StepRow) {
        self.rows.borrow_mut().push(row.clone());
    }

    fn save(&mut self) -> Result<Option<Saved>, TrainError> {
        Ok(Some(Saved {
            name: "counter".into(),
            value: json!(self.count),
        }))
    }

    fn load(&mut self, saved: &SavedStates) -> Result<(), TrainError> {
        self.loaded = saved["counter"].as_u64();
        self.count = self.loaded.unwrap();
        Ok(())
    }
}

#[test]
fn callbacks_steer_and_get_back_what_they_remember() {
    let config = || TrainingConfig {
        log_every: 3,
        ..everything()
    };
    let rows = |counter: &Counter| counter.rows.clone();
    let mut through = Counter::default();
    let all = rows(&through);
    let folder = TempDir::new().unwrap();
    fit(&mut trainer(config(), &device(), &folder).with_callback(&mut through)).unwrap();
    assert_eq!(through.count, 12);
    let steps: Vec<u64> = all.borrow().iter().map(|row| row.step).collect();
    assert_eq!(steps, [3, 6, 9, 12]);

    // Stopped amid two rows.
    let mut first = Counter {
        stop_at: Some(7),
        ..Counter::default()
    };
    let before = rows(&first);
    let folder = TempDir::new().unwrap();
    let mut stopped = trainer(config(), &device(), &folder).with_callback(&mut first);
    let outcome = fit(&mut stopped).unwrap();
    assert_eq!(outcome.ending, scratch_train::Ending::Stopped);
    assert_eq!(outcome.steps, 7);
    drop(stopped);
    let mut second = Counter::default();
    let after = rows(&second);
    let mut resumed = resumed(config(), &folder, &mut second).unwrap();
    fit(&mut resumed).unwrap();
    drop(resumed);
    assert_eq!((second.loaded, second.count), (Some(7), 12));
    let found = [before.take(), after.take()].concat();
    assert_eq!(found, all.take());
}

/// Data that say what they are.
struct Known(ToyData, &'static str);

impl SequenceData for Known {
    type Batch = ToyBatch;

    fn windows(&self) -> usize {
        self.0.windows()
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.1.into())
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<ToyBatch> {
        self.0.window(epoch, index, device)
    }
}

#[test]
fn other_data_and_settings_are_refused_unless_they_are_meant() {
    let folder = TempDir::new().unwrap();
    let valid = || Known(valid_data(), "valid");
    let mut first = trainer(plain(2), &device(), &folder);
    first.fit(&Known(train_data(), "train"), &valid()).unwrap();

    let changed = || TrainingConfig {
        learning_rate: 0.05,
        patience: Some(7),
        ..plain(4)
    };
    let other = Known(train_data(), "other");
    let before = files(folder.path());
    // When the run ends may change, and does not count.
    let error = resumed(changed(), &folder, ()).err().unwrap();
    let TrainError::Changed { changes } = &error else {
        panic!("{error}")
    };
    assert_eq!(*changes, ["training.learning_rate (0.1 then, 0.05 now)"]);
    let mut refused = resumed(plain(4), &folder, ()).unwrap();
    let error = refused.fit(&other, &valid()).unwrap_err();
    let TrainError::Changed { changes } = &error else {
        panic!("{error}")
    };
    assert_eq!(*changes, ["training data (train then, other now)"]);
    assert_eq!(files(folder.path()), before);

    let warnings: Rc<RefCell<Vec<String>>> = Rc::default();
    let options = ResumeOptions {
        accept_changes: true,
        ..ResumeOptions::default()
    };
    let accepted = trainer(changed(), &device(), &folder).resume(&options);
    let mut accepted = accepted
        .unwrap()
        .with_callback(Warned(Rc::clone(&warnings)));
    let outcome = accepted.fit(&other, &valid()).unwrap();
    assert_eq!(outcome.steps, 4 * WINDOWS as u64);
    let warnings = warnings.take();
    assert_eq!(warnings.len(), 1);
    for change in ["training.learning_rate", "training data (train then"] {
        assert!(warnings[0].contains(change), "{warnings:?}");
    }
}

/// Data with fewer windows, of fewer rows, where the run stands amid a step.
#[test]
fn changes_that_are_meant_do_not_trip_over_what_was_carried() {
    let folder = TempDir::new().unwrap();
    let interrupt = Interrupt::new();
    let data = InterruptsAt {
        data: train_data(),
        interrupt: interrupt.clone(),
        at: WINDOWS + 2,
    };
    let mut first = trainer(everything(), &device(), &folder).with_interrupt(interrupt);
    first.fit(&data, &valid_data()).unwrap_err();
    assert_eq!(first.progress().accumulated.windows, 1);
    drop(first);
    let other = ToyData::new(2, 2, 4, 5);
    let config = TrainingConfig {
        accumulate: 1,
        ..everything()
    };
    let options = ResumeOptions {
        accept_changes: true,
        ..ResumeOptions::default()
    };
    let mut second = trainer(config, &device(), &folder)
        .resume(&options)
        .unwrap();
    let outcome = second.fit(&other, &valid_data()).unwrap();
    // Three steps of the first epoch, one of the second, then three epochs of two windows.
    assert_eq!(outcome.steps, 3 + 1 + 3 * 2);
}

/// A refusal stays one, and records are not begun anew when somebody tries again.
#[test]
fn a_refused_run_is_refused_again() {
    let folder = TempDir::new().unwrap();
    let mut first = trainer(plain(1), &device(), &folder);
    first
        .fit(&Known(train_data(), "train"), &valid_data())
        .unwrap();
    let mut refused = resumed(plain(2), &folder, ()).unwrap();
    for _ in 0..2 {
        let error = refused.fit(&Known(train_data(), "other"), &valid_data());
        assert!(
            matches!(error, Err(TrainError::Changed { .. })),
            "{error:?}"
        );
    }
}

/// Ends the run after so many steps.
struct EndAfter(u64);

impl Callback for EndAfter {
    fn stepped(&mut self, step: u64) -> Control {
        match step == self.0 {
            true => Control::Stop,
            false => Control::Continue,
        }
    }
}

/// The place in the epoch is none in other data, and could be beyond their last window.
#[test]
fn other_data_begin_the_epoch_anew() {
    let folder = TempDir::new().unwrap();
    let mut first = trainer(plain(2), &device(), &folder).with_callback(EndAfter(4));
    assert_eq!(fit(&mut first).unwrap().steps, 4);
    drop(first);
    let options = ResumeOptions {
        accept_changes: true,
        ..ResumeOptions::default()
    };
    let second = trainer(plain(2), &device(), &folder).resume(&options);
    let shorter = ToyData {
        windows: 3,
        ..train_data()
    };
    let outcome = second.unwrap().fit(&shorter, &valid_data()).unwrap();
    assert_eq!(outcome.steps, 4 + 2 * 3);
}

/// Keeps warnings.
struct Warned(Rc<RefCell<Vec<String>>>);

impl Callback for Warned {
    fn warned(&mut self, warning: &str) {
        self.0.borrow_mut().push(warning.into());
    }
}

#[test]
fn a_damaged_newest_checkpoint_is_named_and_the_one_before_used_by_consent() {
    let (folder, expected, _) = run(everything(), &device());
    let list = checkpoints(&folder).list().unwrap();
    let [.., previous, newest] = &list[..] else {
        panic!("{list:?}")
    };
    let damaged = newest.path.join("model.bpk");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100] ^= 4;
    fs::write(&damaged, &bytes).unwrap();

    let error = resumed(everything(), &folder, ()).err().unwrap();
    let TrainError::NewestDamaged {
        reason,
        previous: Some(found),
    } = &error
    else {
        panic!("{error}")
    };
    assert!(matches!(&**reason, CheckpointError::Damaged { path, .. } if *path == damaged));
    assert_eq!(*found, previous.path);
    // Nothing has happened.
    assert_eq!(fs::read(&damaged).unwrap(), bytes);

    let by_config = TrainingConfig {
        checkpoints: scratch_train::CheckpointConfig {
            fall_back: true,
            ..Default::default()
        },
        ..everything()
    };
    let warnings = Rc::default();
    let mut again = resumed(by_config, &folder, Warned(Rc::clone(&warnings))).unwrap();
    assert_eq!(again.progress().step, previous.step);
    fit(&mut again).unwrap();
    assert_all_same(
        "weights",
        &parameters(again.model()),
        &parameters(expected.model()),
    );
    let warnings = warnings.take().join("\n");
    assert!(warnings.contains("model.bpk: damaged"), "{warnings}");
    // It is still there, under another name.
    let aside = newest.path.with_file_name("step-00000012.damaged");
    assert_eq!(fs::read(aside.join("model.bpk")).unwrap(), bytes);

    // With none before it there is nothing to consent to.
    for one in checkpoints(&folder).list().unwrap() {
        fs::write(one.path.join("model.bpk"), b"x").unwrap();
    }
    let options = ResumeOptions {
        fall_back: true,
        ..ResumeOptions::default()
    };
    let error = trainer(everything(), &device(), &folder).resume(&options);
    let error = error.err().unwrap();
    assert!(
        matches!(error, TrainError::NewestDamaged { previous: None, .. }),
        "{error}"
    );
}
