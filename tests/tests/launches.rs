//! Proves how many kernels a sequence launches on a GPU: two for each step forward and two back on
//! the stepwise rung, four where the hidden state is projected, none on the persistent one.
//!
//! The runtime logs every kernel that it launches, matrix products among them. A process of its own
//! runs a sequence with the log switched on; what a longer sequence launches more than a shorter
//! one is what its steps launch.
//!
//! ```sh
//! SCRATCH_TEST_BACKEND=wgpu cargo test --release -p scratch-tests --features wgpu-untuned --test launches -- --nocapture
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use burn::tensor::Tensor;
use scratch_lstm::config::CellConfig;
use scratch_lstm::{ForwardOptions, PathChoice, ScratchLstmConfig};
use scratch_tests::{device, is_gpu, say};
use tempfile::TempDir;

/// Set in the process that runs a sequence, to its steps and what is asked of it.
const STEPS: &str = "SCRATCH_LAUNCHES_STEPS";
const TRAINS: &str = "SCRATCH_LAUNCHES_TRAINS";
const VARIANT: &str = "SCRATCH_LAUNCHES_VARIANT";

/// CubeCL's own.
const LOG: &str = "CUBECL_DEBUG_LOG";

/// Steps of the two sequences.
const SHORT: usize = 5;
const LONG: usize = 13;

#[test]
fn launches_for_each_step() {
    if !is_gpu() || std::env::var_os(STEPS).is_some() {
        return;
    }
    for (rung, variant, of_step) in [
        ("stepwise", "plain", 2),
        ("stepwise", "lengths", 2),
        ("stepwise", "layer_norm", 2),
        ("stepwise", "projection", 4),
        ("stepwise", "layer_norm and projection", 4),
        ("persistent", "plain", 0),
        ("persistent", "lengths", 0),
    ] {
        for (trains, expected) in [(false, of_step), (true, 2 * of_step)] {
            let count = |steps| launches(rung, steps, trains, variant);
            let (short, long) = std::thread::scope(|scope| {
                let short = scope.spawn(|| count(SHORT));
                let long = count(LONG);
                (short.join().unwrap(), long)
            });
            let (more, steps) = (long - short, LONG - SHORT);
            let way = if trains {
                "forward and back"
            } else {
                "forward"
            };
            let what = format!("{rung}, {way}, {variant}");
            say(&format!(
                "{what}: {short} launches for {SHORT} steps, {long} for {LONG}"
            ));
            assert_eq!(more, expected * steps, "{what}");
        }
    }
}

/// What the other process does.
#[test]
fn a_sequence() {
    let Some(steps) = std::env::var_os(STEPS) else {
        return;
    };
    let steps: usize = steps.to_str().unwrap().parse().unwrap();
    let trains = std::env::var(TRAINS).unwrap() == "true";
    let variant = std::env::var(VARIANT).unwrap();
    let device = match trains {
        true => device().autodiff(),
        false => device(),
    };
    let config = ScratchLstmConfig::new(5, 11).with_path(PathChoice::Fused);
    let config = config
        .with_projection(variant.contains("projection").then_some(6))
        .with_cell(CellConfig {
            layer_norm: variant.contains("layer_norm"),
            ..CellConfig::default()
        });
    let lstm = config.init(&device);
    let input = Tensor::ones([3, steps, 5], &device);
    let lengths = [SHORT, 1, 3];
    let options = match variant.as_str() {
        "lengths" => ForwardOptions::new().with_lengths(&lengths[..]),
        _ => ForwardOptions::new(),
    };
    let (output, _) = lstm.forward_with(input, options);
    let loss = output.sum();
    if trains {
        let gradients = loss.backward();
        let weight = &lstm.layers[0].forward.weight_hh;
        let gradient = weight.grad(&gradients).unwrap();
        assert!(gradient.sum().into_scalar::<f32>().is_finite());
    } else {
        assert!(loss.into_scalar::<f32>().is_finite());
    }
    // The log is written by a thread that the end of the process would not wait for.
    let log = PathBuf::from(std::env::var_os(LOG).unwrap());
    let length = || fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let mut before = 0;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(300));
        let now = length();
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
}

/// The kernels that a sequence of so many steps launches.
fn launches(rung: &str, steps: usize, trains: bool, variant: &str) -> usize {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_sequence"])
        .env(STEPS, steps.to_string())
        .env(TRAINS, trains.to_string())
        .env(VARIANT, variant)
        .env("SCRATCH_LSTM_GPU_RUNG", rung)
        .env(LOG, &log)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    logged(&log)
}

/// Lines such as `| 73.038µs | KernelBinop | AddOp_82136cde`.
fn logged(log: &Path) -> usize {
    let text = fs::read_to_string(log).unwrap();
    let is_launch = |line: &&str| {
        let mut parts = line.split('|').map(str::trim);
        let (before, time) = (parts.next(), parts.next());
        before == Some("") && time.is_some_and(|time| time.ends_with('s') && is_number(time))
    };
    let count = text.lines().filter(is_launch).count();
    assert!(count > 0, "nothing is logged");
    count
}

fn is_number(time: &str) -> bool {
    time.starts_with(|first: char| first.is_ascii_digit())
}
