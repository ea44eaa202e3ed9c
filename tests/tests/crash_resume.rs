//! Proves that a run can be killed at any instant, and that the run that goes on is, byte for byte,
//! the run that was never killed: weights, optimizer, averages and the records of steps and
//! validations.
//!
//! ```sh
//! CRASHES=200 cargo test --release -p scratch-tests --test crash_resume
//! ```
//!
//! The run is a process of its own, this same test program, which goes on with whatever it finds in
//! its folder.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use rand::{Rng as _, RngExt as _};
use scratch_lstm::Key;
use scratch_tests::runs::{everything, files, model, train_data, valid_data};
use scratch_tests::toy::{ToyBatch, ToyData};
use scratch_tests::{device, is_gpu, say};
use scratch_train::data::{SequenceData, Window};
use scratch_train::run::Recorder;
use scratch_train::{
    AverageConfig, CheckpointConfig, Checkpoints, Interrupt, NonFinite, ResumeOptions, RunFolder,
    TrainError, Trainer, TrainingConfig,
};
use tempfile::TempDir;

/// The folder of the child's run; what makes this program a child.
const FOLDER: &str = "SCRATCH_CRASH_FOLDER";

/// As much as there is to lose: accumulation, averages, a schedule, clipping, records of each step,
/// and a checkpoint after every other step, so that a run is saving most of the time.
fn config() -> TrainingConfig {
    TrainingConfig {
        epochs: 24,
        accumulate: 2,
        validate_every: Some(5),
        log_every: 1,
        average: Some(AverageConfig::Swa {
            start: 0.3,
            every: 2,
        }),
        non_finite: NonFinite::Skip,
        checkpoints: CheckpointConfig {
            every_steps: Some(2),
            keep_last: 3,
            ..CheckpointConfig::default()
        },
        ..everything()
    }
}

/// Window at whose beginning the child waits, saying so with a file in its folder: long enough to
/// see what it does meanwhile.
const WAITS: &str = "SCRATCH_CRASH_WAITS";

/// The usual data, at one of whose windows the child may wait.
struct Waiting {
    data: ToyData,
    at: Option<usize>,
    mark: PathBuf,
}

impl SequenceData for Waiting {
    type Batch = ToyBatch;

    fn windows(&self) -> usize {
        self.data.windows()
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<ToyBatch> {
        if self.at == Some(epoch * self.windows() + index) {
            fs::write(&self.mark, []).expect("a mark");
            std::thread::sleep(Duration::from_secs(60));
        }
        self.data.window(epoch, index, device)
    }
}

/// What the child does: begins or goes on, to the end.
fn train(folder: &Path) -> Result<(), TrainError> {
    let run = match RunFolder::open(folder) {
        Ok(run) => run,
        Err(_) => {
            let (run, _) = RunFolder::create(folder).expect("a folder for the run");
            run.write_config("toy", &config()).expect("settings");
            run
        }
    };
    let _lock = run.lock().expect("nobody else trains");
    let checkpoints = Checkpoints::new(folder.join("checkpoints"));
    let is_new = checkpoints.list()?.is_empty();
    let interrupt = Interrupt::on_signals().expect("signals can be handled");
    let mut trainer = Trainer::new(model(&device()), config(), &device())?
        .with_checkpoints(checkpoints)
        .with_callback(Recorder::new(&run))
        .with_interrupt(interrupt);
    if !is_new {
        trainer = trainer.resume(&ResumeOptions::default())?;
    }
    let waits = std::env::var(WAITS).ok();
    let data = Waiting {
        data: train_data(),
        at: waits.map(|window| window.parse().expect("a window")),
        mark: folder.join("waits"),
    };
    trainer.fit(&data, &valid_data()).map(drop)
}

/// Not a test by itself: what the children run.
#[test]
fn the_child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    match train(Path::new(&folder)) {
        Ok(()) => {}
        Err(TrainError::Interrupted { signal, .. }) => std::process::exit(128 + signal),
        Err(error) => panic!("{error}"),
    }
}

fn child(folder: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command
        .args(["the_child", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn spawn(folder: &Path) -> Child {
    child(folder).spawn().unwrap()
}

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(sent.unwrap().success());
}

/// Sends `signal` after `delay`, unless the child ends before.
fn signal_after(child: &mut Child, delay: Duration, signal: &str) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < delay {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_micros(200).min(delay));
    }
    send(child, signal);
    None
}

fn errors(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The last checkpoint and the records, by name.
fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let checkpoints = Checkpoints::new(folder.join("checkpoints"));
    let last = checkpoints.last().unwrap();
    let mut found: BTreeMap<String, Vec<u8>> = files(&last)
        .into_iter()
        .map(|(name, bytes)| (name.display().to_string(), bytes))
        .collect();
    for name in ["metrics.csv", "steps.csv", "log.jsonl"] {
        found.insert(name.into(), fs::read(folder.join(name)).unwrap());
    }
    found
}

#[track_caller]
fn assert_same_results(folder: &Path, expected: &BTreeMap<String, Vec<u8>>) {
    let found = results(folder);
    let names = |results: &BTreeMap<String, Vec<u8>>| results.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected));
    for (name, bytes) in expected {
        assert!(
            found[name] == *bytes,
            "{name} differs: {} bytes, expected {}",
            found[name].len(),
            bytes.len()
        );
    }
}

/// A run that nobody disturbs: what it leaves, and how long it takes.
fn undisturbed() -> (BTreeMap<String, Vec<u8>>, Duration) {
    let folder = TempDir::new().unwrap();
    let began = Instant::now();
    let mut child = spawn(folder.path());
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", errors(child));
    let results = results(folder.path());
    for name in ["model.bpk", "optimizer.bpk", "average.bpk", "carried.bpk"] {
        assert!(results.contains_key(name), "{name}");
    }
    (results, began.elapsed())
}

fn crashes() -> usize {
    match std::env::var("CRASHES") {
        Ok(text) => text.parse().expect("CRASHES is a number"),
        Err(_) => 24,
    }
}

/// Kills runs until there were so many crashes; every run is brought to its end then.
fn disturb(signal: &str, code: impl Fn(&ExitStatus) -> bool) {
    if is_gpu() {
        return say("GPUs take seconds to start, and promise no bits: not killed");
    }
    let (expected, takes) = undisturbed();
    let wanted = crashes();
    let mut rng = Key::new(wanted as u64).child(signal).rng();
    let (mut sent, mut staged, mut runs) = (0, 0, 0);
    while sent < wanted {
        let folder = TempDir::new().unwrap();
        runs += 1;
        loop {
            let mut child = spawn(folder.path());
            // Some at once, some while it starts, most on the way.
            let delay = takes.mul_f64(rng.random_range(0.0..0.6));
            let delay = match rng.next_u32() % 8 {
                0 => delay / 20,
                _ => delay,
            };
            let ended = match sent < wanted {
                true => signal_after(&mut child, delay, signal),
                false => Some(child.wait().unwrap()),
            };
            if let Some(status) = ended {
                assert!(status.success(), "{}", errors(child));
                break;
            }
            let status = child.wait().unwrap();
            // It may have come to its end in the meantime.
            if status.success() {
                break;
            }
            assert!(code(&status), "{status}: {}", errors(child));
            sent += 1;
            staged += usize::from(is_amid_a_save(folder.path()));
        }
        assert_same_results(folder.path(), &expected);
    }
    say(&format!(
        "{sent} x {signal} in {runs} runs, {staged} of them amid a save: nothing lost"
    ));
}

/// Whether a folder is there that was being written or removed.
fn is_amid_a_save(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder.join("checkpoints")) else {
        return false;
    };
    let mut names = entries.map(|entry| entry.unwrap().file_name());
    names.any(|name| name.to_string_lossy().ends_with(".partial"))
}

#[test]
fn a_run_that_is_killed_at_any_instant_loses_nothing() {
    use std::os::unix::process::ExitStatusExt as _;
    if std::env::var_os(FOLDER).is_none() {
        disturb("KILL", |status| status.signal() == Some(9));
    }
}

/// Ends by itself with the exit code of the signal; so does a child that is still starting.
#[test]
fn a_run_that_is_terminated_saves_and_loses_nothing() {
    use std::os::unix::process::ExitStatusExt as _;
    if std::env::var_os(FOLDER).is_none() {
        disturb("TERM", |status| {
            // Before the handler is there, the system ends the process.
            status.code() == Some(143) || status.signal() == Some(15)
        });
    }
}

/// The first signal waits for the window under way, the second does not; what is saved stays.
#[test]
fn the_second_signal_ends_the_process_at_once() {
    if std::env::var_os(FOLDER).is_some() || is_gpu() {
        return;
    }
    let (expected, _) = undisturbed();
    let folder = TempDir::new().unwrap();
    let mut command = child(folder.path());
    let mut child = command.env(WAITS, "31").spawn().unwrap();
    let began = Instant::now();
    while !folder.path().join("waits").exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "no window 31");
        std::thread::sleep(Duration::from_millis(1));
    }
    let last = || Checkpoints::new(folder.path().join("checkpoints")).last();
    let saved = last().unwrap();
    send(&child, "INT");
    // Long enough for a checkpoint, far too short for the window.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None, "the first signal waits");
    send(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(last().unwrap(), saved);

    let mut child = spawn(folder.path());
    assert!(child.wait().unwrap().success(), "{}", errors(child));
    assert_same_results(folder.path(), &expected);
}
