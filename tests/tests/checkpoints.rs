//! Proves what is kept of a run, and that files that are damaged, swapped or cannot be written are
//! a clear error that leaves the last good checkpoint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scratch_tests::probe::parameters;
use scratch_tests::runs::{
    InterruptsAt, assert_same_files, checkpoints, everything, fit, model, plain, resumed, run,
    train_data, trainer, valid_data,
};
use scratch_tests::toy::{D_HIDDEN, Toy};
use scratch_tests::{Named, assert_all_same, device};
use scratch_train::callback::Control;
use scratch_train::disk::{Disk, FileSystem};
use scratch_train::optimizer::OptimizerConfig;
use scratch_train::{
    AverageConfig, Callback, Checkpoint, CheckpointConfig, CheckpointError, Checkpoints, Interrupt,
    ResumeOptions, TrainError, Trainer, TrainingConfig,
};
use tempfile::TempDir;

fn resume(
    model: Toy,
    config: TrainingConfig,
    checkpoints: &Checkpoints,
) -> Result<Trainer<'static, Toy>, TrainError> {
    Trainer::new(model, config, &device())?
        .with_checkpoints(checkpoints.clone())
        .resume(&ResumeOptions::default())
}

#[track_caller]
fn checkpoint_error(result: Result<Trainer<'_, Toy>, TrainError>) -> CheckpointError {
    match result.err() {
        Some(TrainError::Checkpoint(error)) => error,
        Some(TrainError::NewestDamaged { reason, .. }) => *reason,
        other => panic!("expected an error of the checkpoint, found {other:?}"),
    }
}

// What is kept.

fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
    let list = checkpoints.list().unwrap();
    list.iter().map(|one| one.step).collect()
}

/// Twelve steps, a checkpoint after each, validated every four.
fn often(keep_last: usize) -> TrainingConfig {
    TrainingConfig {
        validate_every: Some(4),
        checkpoints: CheckpointConfig {
            every_steps: Some(1),
            keep_last,
            ..CheckpointConfig::default()
        },
        ..everything()
    }
}

#[test]
fn the_last_and_the_best_are_kept_and_nothing_else() {
    for keep_last in [1, 2, 3, 20] {
        let (folder, trainer, outcome) = run(often(keep_last), &device());
        let all = checkpoints(&folder);
        let best = outcome.best.step;
        let first = 13u64.saturating_sub(keep_last as u64);
        let mut expected: Vec<u64> = (first..=12).collect();
        expected.push(best);
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(steps(&all), expected, "keep_last {keep_last}");
        // Nothing else lies there.
        let entries = fs::read_dir(all.folder()).unwrap().count();
        assert_eq!(entries, expected.len() + 1, "and the lock");

        let load = |path: &Path| Checkpoint::open(path).unwrap();
        let last = load(&all.last().unwrap());
        let weights = |model: Toy| -> Named { parameters(&model) };
        let empty = || model(&device());
        assert_all_same(
            "last",
            &weights(last.load_model(empty()).unwrap()),
            &parameters(trainer.model()),
        );
        // The last one has the best weights, and the best one is that of the best step.
        let of_best = all.list().unwrap();
        let of_best = of_best.iter().find(|one| one.step == best).unwrap();
        let best = parameters(&trainer.into_best_model());
        let found = weights(last.load_best_model(empty()).unwrap());
        assert_all_same("best", &found, &best);
        let found = weights(load(&of_best.path).load_model(empty()).unwrap());
        assert_all_same("of the best step", &found, &best);
    }
}

/// Pins the checkpoint of a step when it is written.
struct Pins(Checkpoints, u64);

impl Callback for Pins {
    fn saved(&mut self, _folder: &Path) {
        if steps(&self.0).contains(&self.1) {
            self.0.pin(self.1, true).unwrap();
        }
    }
}

#[test]
fn pinned_checkpoints_stay() {
    let folder = TempDir::new().unwrap();
    let pins = Pins(checkpoints(&folder), 3);
    let mut trainer = trainer(often(1), &device(), &folder).with_callback(pins);
    fit(&mut trainer).unwrap();
    assert!(steps(&checkpoints(&folder)).contains(&3));
    checkpoints(&folder).pin(3, false).unwrap();
    drop(trainer);
    let more = TrainingConfig {
        epochs: 5,
        ..often(1)
    };
    fit(&mut resumed(more, &folder, ()).unwrap()).unwrap();
    assert!(!steps(&checkpoints(&folder)).contains(&3));
}

/// Asks for a checkpoint after one step.
struct SavesAt(u64);

impl Callback for SavesAt {
    fn stepped(&mut self, step: u64) -> Control {
        match step == self.0 {
            true => Control::Save,
            false => Control::Continue,
        }
    }
}

#[test]
fn checkpoints_come_when_a_callback_or_the_clock_asks() {
    let keep_all = |every_minutes| TrainingConfig {
        accumulate: 1,
        checkpoints: CheckpointConfig {
            every_minutes,
            keep_last: 100,
            ..CheckpointConfig::default()
        },
        ..plain(1)
    };
    let folder = TempDir::new().unwrap();
    let mut one = trainer(keep_all(None), &device(), &folder).with_callback(SavesAt(2));
    fit(&mut one).unwrap();
    assert_eq!(steps(&checkpoints(&folder)), [0, 2, 5]);
    // A minute is over at once.
    let folder = TempDir::new().unwrap();
    fit(&mut trainer(keep_all(Some(1e-12)), &device(), &folder)).unwrap();
    assert_eq!(steps(&checkpoints(&folder)), [0, 1, 2, 3, 4, 5]);
}

// A file system that fails.

/// Fails at the `at`th change, and at all that come after, as a disk does that is full or gone. A
/// write that fails leaves half of the file.
#[derive(Debug)]
struct Failing {
    changes: AtomicUsize,
    at: usize,
}

impl Failing {
    fn new(at: usize) -> Arc<Self> {
        Arc::new(Self {
            changes: AtomicUsize::new(0),
            at,
        })
    }

    fn next(&self) -> io::Result<()> {
        match self.changes.fetch_add(1, Ordering::Relaxed) >= self.at {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

impl Disk for Failing {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.next()?;
        FileSystem.create_folder(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.next() {
            // On a disk that was gone before, nothing can be left.
            let _ = FileSystem.write(path, &bytes[..bytes.len() / 2]);
            return Err(error);
        }
        FileSystem.write(path, bytes)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.next()?;
        FileSystem.sync_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.next()?;
        FileSystem.rename(from, to)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.next()?;
        FileSystem.remove_folder(path)
    }
}

/// Three steps, with a checkpoint before the first and after each.
fn short() -> TrainingConfig {
    TrainingConfig {
        epochs: 1,
        ..often(1)
    }
}

/// A run on `disk`.
fn run_on(disk: Arc<Failing>, folder: &TempDir) -> Result<(), TrainError> {
    let checkpoints = checkpoints(folder).with_disk(disk);
    let trainer = Trainer::new(model(&device()), short(), &device())?;
    fit(&mut trainer.with_checkpoints(checkpoints)).map(drop)
}

#[test]
fn a_disk_that_fails_at_any_change_ends_the_run_and_leaves_the_last_good_checkpoint() {
    let (expected, ..) = run(short(), &device());
    let disk = Failing::new(usize::MAX);
    run_on(disk.clone(), &TempDir::new().unwrap()).unwrap();
    let changes = disk.changes.load(Ordering::Relaxed);
    // Four checkpoints, each of ten changes at least.
    assert!(changes > 40, "{changes}");
    let mut resumable = 0;
    for at in 0..changes {
        let folder = TempDir::new().unwrap();
        let error = run_on(Failing::new(at), &folder).unwrap_err();
        let TrainError::Checkpoint(CheckpointError::Io { path, source }) = &error else {
            panic!("{error}")
        };
        assert!(path.starts_with(folder.path()), "{}", path.display());
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        // With space made, the run goes on from what is there, and is the run that never failed.
        let saved = checkpoints(&folder).list().unwrap();
        let mut trainer = match saved.last() {
            Some(last) => {
                resumable += 1;
                let trainer = resumed(short(), &folder, ()).unwrap();
                assert_eq!(trainer.progress().step, last.step);
                trainer
            }
            // Before the first checkpoint was whole.
            None => {
                assert!(at < changes / 4, "change {at}");
                trainer(short(), &device(), &folder)
            }
        };
        fit(&mut trainer).unwrap();
        let last = |folder: &TempDir| checkpoints(folder).last().unwrap();
        assert_same_files(&last(&folder), &last(&expected));
    }
    assert!(resumable > 20, "{resumable}");
}

/// Removes the folder of checkpoints after one step.
struct Vanishes(PathBuf, u64);

impl Callback for Vanishes {
    fn stepped(&mut self, step: u64) -> Control {
        if step == self.1 {
            fs::remove_dir_all(&self.0).unwrap();
        }
        Control::Continue
    }
}

#[test]
fn a_folder_that_vanishes_is_named_and_not_made_again() {
    let folder = TempDir::new().unwrap();
    let path = checkpoints(&folder).folder().to_path_buf();
    let mut trainer = trainer(short(), &device(), &folder).with_callback(Vanishes(path.clone(), 2));
    let text = fit(&mut trainer).unwrap_err().to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert_eq!(trainer.progress().step, 2);
    assert!(!path.exists());
}

#[test]
fn a_folder_that_is_none_is_named_before_the_first_step() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("checkpoints");
    fs::write(&path, b"a file").unwrap();
    let mut trainer = trainer(plain(1), &device(), &folder);
    let text = fit(&mut trainer).unwrap_err().to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert_eq!(trainer.progress().step, 0);
}

#[test]
fn checkpoints_are_written_by_one_run_and_one_process() {
    let (folder, ..) = run(plain(1), &device());
    let before = steps(&checkpoints(&folder));
    // A new run has no place where another has its checkpoints.
    let error = fit(&mut trainer(plain(1), &device(), &folder)).unwrap_err();
    let is_taken = matches!(error, TrainError::Checkpoint(CheckpointError::Taken { .. }));
    assert!(is_taken, "{error}");
    assert_eq!(steps(&checkpoints(&folder)), before);

    // Two at once: the other is a callback of the first.
    let folder = TempDir::new().unwrap();
    let mut second = None;
    let mut first = trainer(plain(1), &device(), &folder).with_callback(Meanwhile(|| {
        let resumed = resumed(plain(2), &folder, ());
        second = Some(fit(&mut resumed.unwrap()).unwrap_err());
    }));
    fit(&mut first).unwrap();
    drop(first);
    let second = second.unwrap();
    let is_locked = matches!(
        second,
        TrainError::Checkpoint(CheckpointError::Locked { .. })
    );
    assert!(is_locked, "{second}");
}

/// Does something after the third step.
struct Meanwhile<F>(F);

impl<F: FnMut()> Callback for Meanwhile<F> {
    fn stepped(&mut self, step: u64) -> Control {
        if step == 3 {
            self.0();
        }
        Control::Continue
    }
}

/// One weight becomes infinite after a step whose loss and gradient are finite.
#[test]
fn weights_that_are_not_finite_are_not_saved() {
    let config = TrainingConfig {
        learning_rate: 1e38,
        checkpoints: CheckpointConfig {
            every_steps: Some(1),
            ..CheckpointConfig::default()
        },
        ..plain(1)
    };
    let folder = TempDir::new().unwrap();
    let error = fit(&mut trainer(config, &device(), &folder)).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    for one in checkpoints(&folder).list().unwrap() {
        let checkpoint = Checkpoint::open(&one.path).unwrap();
        let kept = parameters(&checkpoint.load_model(model(&device())).unwrap());
        let mut values = kept.values().flat_map(|values| &values.values);
        assert!(values.all(|value| value.is_finite()), "step {}", one.step);
    }
}

// Checkpoints that do not fit.

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
    let error = resume(model(&device()), plain(2), &checkpoints(&folder)).err();
    let text = error.unwrap().to_string();
    assert!(text.contains("kind (adam_w then, sgd now)"), "{text}");
    // If it is meant, the optimizer begins anew.
    let options = ResumeOptions {
        accept_changes: true,
        ..ResumeOptions::default()
    };
    let accepted = trainer(plain(2), &device(), &folder).resume(&options);
    fit(&mut accepted.unwrap()).unwrap();
}

/// A checkpoint with every file there can be: amid a step, with an average, the best weights in a
/// file of their own.
fn full_checkpoint() -> (TempDir, Vec<PathBuf>) {
    let config = TrainingConfig {
        average: Some(AverageConfig::Swa {
            start: 0.0,
            every: 1,
        }),
        ..often(20)
    };
    let folder = TempDir::new().unwrap();
    let interrupt = Interrupt::new();
    let data = InterruptsAt {
        data: train_data(),
        interrupt: interrupt.clone(),
        at: 17,
    };
    let mut trainer = trainer(config, &device(), &folder).with_interrupt(interrupt);
    assert!(trainer.fit(&data, &valid_data()).is_err());
    let last = checkpoints(&folder).last().unwrap();
    let entries = fs::read_dir(&last).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 10, "{files:?}");
    (folder, files)
}

/// Tries to go on from a checkpoint that somebody has changed.
fn open_all(folder: &Path) -> Result<(), CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    checkpoint.load_model(model(&device()))?;
    checkpoint.load_best_model(model(&device()))?;
    Ok(())
}

#[test]
fn every_flipped_byte_and_every_length_is_found() {
    let (folder, files) = full_checkpoint();
    let last = checkpoints(&folder).last().unwrap();
    open_all(&last).unwrap();
    let mut changed = 0;
    for path in &files {
        let bytes = fs::read(path).unwrap();
        // Large files byte by byte at both ends, where headers are, and in steps between.
        let positions = (0..bytes.len()).filter(|k| {
            bytes.len() < 4000 || *k < 600 || bytes.len() - k < 300 || k.is_multiple_of(61)
        });
        for position in positions {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << (position % 8);
            fs::write(path, &flipped).unwrap();
            let error = open_all(&last).unwrap_err();
            let is_clear = matches!(
                error,
                CheckpointError::Damaged { .. } | CheckpointError::Version { .. }
            );
            assert!(is_clear, "{} at {position}: {error}", path.display());
            fs::write(path, &bytes[..position]).unwrap();
            let error = open_all(&last).unwrap_err();
            assert!(
                matches!(error, CheckpointError::Damaged { .. }),
                "{} cut at {position}: {error}",
                path.display()
            );
            changed += 2;
        }
        let longer = [&bytes[..], b"x"].concat();
        fs::write(path, &longer).unwrap();
        assert!(open_all(&last).is_err(), "{} longer", path.display());
        fs::remove_file(path).unwrap();
        let text = open_all(&last).unwrap_err().to_string();
        assert!(text.contains(&last.display().to_string()), "{text}");
        fs::write(path, &bytes).unwrap();
    }
    println!("{changed} changes of {} files", files.len());
    assert!(changed > 5000, "{changed}");
    open_all(&last).unwrap();
}

#[test]
fn files_of_another_checkpoint_are_found() {
    let (folder, files) = full_checkpoint();
    let list = checkpoints(&folder).list().unwrap();
    let last = list.last().unwrap();
    // That of the same step is from before the window under way.
    let before = list.iter().rfind(|one| one.step != last.step).unwrap();
    for path in &files {
        let name = path.file_name().unwrap();
        // The one before is at the end of a step.
        let Ok(other) = fs::read(before.path.join(name)) else {
            continue;
        };
        let own = fs::read(path).unwrap();
        if own == other {
            continue;
        }
        fs::write(path, &other).unwrap();
        let error = open_all(&last.path).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
        fs::write(path, &own).unwrap();
    }
    // A whole folder under another name.
    fs::rename(&last.path, folder.path().join("kept")).unwrap();
    fs::rename(&before.path, &last.path).unwrap();
    let text = open_all(&last.path).unwrap_err().to_string();
    let (step, other) = (last.step, before.step);
    let expected = format!("expected the checkpoint of step {step}, found that of step {other}");
    assert!(text.contains(&expected), "{text}");
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
        text.contains("expected a checkpoint, found a folder without manifest"),
        "{text}"
    );
    let file = folder.path().join("file");
    fs::write(&file, b"x").unwrap();
    let text = Checkpoint::open(&file).unwrap_err().to_string();
    assert!(
        text.contains("expected a checkpoint, found a file"),
        "{text}"
    );
}
