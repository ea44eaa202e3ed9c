//! Proves that a run needs as much memory at its end as near its beginning: the resident set after
//! 20,000 windows of truncated backpropagation is within 5 % of that after a tenth of them, with a
//! carried state, records, checkpoints, validations and an average of the weights on the way. (A
//! state that kept its graph, losses that nobody reads, or a list of checkpoints in memory would
//! each be seen.)
//!
//! ```sh
//! WINDOWS=200000 cargo test --release -p scratch-tests --test flat_memory -- --nocapture
//! ```
//!
//! The resident set is that of the process, so that this file has one test alone.

#![cfg(target_os = "linux")]

use std::fs;
use std::hint::black_box;

use scratch_tests::backend::{Kind, chosen};
use scratch_tests::runs::{everything, model, valid_data};
use scratch_tests::toy::{Starts, ToyData};
use scratch_tests::{device, say};
use scratch_train::run::Recorder;
use scratch_train::{
    AverageConfig, Callback, CheckpointConfig, Control, Ending, RunFolder, Trainer, TrainingConfig,
};
use tempfile::TempDir;

/// Windows in an epoch.
const EPOCH: usize = 500;
/// What the resident set may differ by.
const SHARE: f64 = 0.05;

/// Resident now, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB"));
    number.unwrap().trim().parse().unwrap()
}

/// Looks at the resident set after `early` steps, and at the end.
struct Watch {
    early: u64,
    found: Vec<u64>,
}

impl Callback for Watch {
    fn stepped(&mut self, step: u64) -> Control {
        if step == self.early {
            self.found.push(resident());
        }
        Control::Continue
    }

    fn ended(&mut self, _ending: Ending) {
        self.found.push(resident());
    }
}

fn config(epochs: usize) -> TrainingConfig {
    TrainingConfig {
        epochs,
        accumulate: 1,
        validate_every: Some(250),
        log_every: 1,
        average: Some(AverageConfig::Ema {
            decay: 0.99,
            warmup: false,
        }),
        checkpoints: CheckpointConfig {
            every_steps: Some(100),
            ..CheckpointConfig::default()
        },
        ..everything()
    }
}

#[test]
fn the_end_needs_no_more_than_the_beginning() {
    if Kind::of(chosen()) != Kind::Cpu {
        say("skipped: flat memory, this backend's memory is not the host's");
        return;
    }
    let windows: usize = match std::env::var("WINDOWS") {
        Ok(windows) => windows.parse().expect("WINDOWS is a number"),
        Err(_) => 20_000,
    };
    let epochs = (windows / EPOCH).max(4);
    let steps = (epochs * EPOCH) as u64;
    let train = ToyData::new(EPOCH, 3, 4, 21).with_starts(Starts::Stream);
    let folder = TempDir::new().unwrap();
    let (run, _lock) = RunFolder::create(folder.path().join("run")).unwrap();
    let mut watch = Watch {
        early: (steps / 10).max(100),
        found: Vec::new(),
    };
    let mut trainer = Trainer::new(model(&device()), config(epochs), &device())
        .unwrap()
        .with_checkpoints(run.checkpoints())
        .with_callback(Recorder::new(&run))
        .with_callback(&mut watch);
    let outcome = trainer.fit(&train, &valid_data()).unwrap();
    assert_eq!(outcome.steps, steps);
    drop(trainer);
    let [early, late] = watch.found[..] else {
        panic!("{:?}", watch.found)
    };
    let growth = late as f64 / early as f64 - 1.0;
    say(&format!(
        "resident {early} KiB after {} windows, {late} KiB after {steps}: {:+.2} %",
        watch.early,
        100.0 * growth
    ));
    assert!(growth.abs() < SHARE, "{early} KiB, then {late} KiB");

    // That the measure sees what it is there to see.
    let before = resident();
    let kept = black_box(vec![1u8; (1024.0 * early as f64 * 2.0 * SHARE) as usize]);
    let after = resident();
    drop(kept);
    assert!(
        after as f64 > (1.0 + SHARE) * before as f64,
        "{before}, {after}"
    );
}
