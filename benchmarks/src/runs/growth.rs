//! Time and memory of a training step as the sequence grows.
//!
//! Two layers and a tracked input, as behind an embedding: where an implementation whose backward
//! pass is quadratic in `T` gives itself away. (In burn the gradient of a slice is as large as the
//! tensor it was cut from.)

use burn::tensor::Device;
use scratch_lstm::{Key, ScratchLstm, ScratchLstmConfig};
use scratch_train::Chosen;

use crate::error::BenchmarkError;
use crate::memory;
use crate::peers::{PeerError, input, mean_of_squares, median_seconds};
use crate::report::growth::{HEAD, title, verdict};
use crate::session::Session;
use crate::statistics::median;

/// The lengths, each twice the one before.
pub const LENGTHS: [usize; 5] = [64, 128, 256, 512, 1024];
/// `B`.
pub const BATCH: usize = 16;
/// `D`.
pub const D_INPUT: usize = 64;
/// `H`.
pub const D_HIDDEN: usize = 128;
/// `L`.
pub const LAYERS: usize = 2;

/// A training step at one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Grown {
    /// `T`.
    pub steps: usize,
    /// Median seconds of a training step.
    pub seconds: f64,
    /// The most memory it took beyond what was there before, in bytes, if the system says and
    /// tensors lie in the process's own memory.
    pub peak: Option<u64>,
}

/// Times every length in each of `--pairs` rounds.
///
/// # Errors
///
/// If the device fails.
pub fn run(session: &Session) -> Result<(), BenchmarkError> {
    let report = &session.report;
    report.head(&session.head(&[]))?;
    let rounds = usize::from(session.args.pairs);
    let rows = measure(&session.chosen, rounds, |what| eprintln!("{what} …"))?;
    report.note(&format!("{}\n\n{HEAD}", title()))?;
    for row in &rows {
        report.row(row)?;
    }
    report.note(&verdict(&rows))
}

/// Times every length in each of `rounds` rounds; lengths alternate, so that a slow spell of the
/// machine meets all of them.
fn measure(
    chosen: &Chosen,
    rounds: usize,
    mut progress: impl FnMut(&str),
) -> Result<Vec<Grown>, PeerError> {
    let device = chosen.device.clone().autodiff();
    let lstm = ScratchLstmConfig::new(D_INPUT, D_HIDDEN)
        .with_num_layers(LAYERS)
        .try_init_with(&Key::new(0).child("lstm"), &device)?;
    let can_tell = memory::check(chosen.backend).is_ok();
    let before = memory::resident().filter(|_| can_tell);

    // From short to long: the peak of the process is that of the longest sequence so far.
    let mut peaks = Vec::new();
    for steps in LENGTHS {
        progress(&format!("T = {steps}, first step"));
        seconds(&lstm, steps, &device)?;
        let beyond = |before| memory::peak().map(|peak| peak.saturating_sub(before));
        peaks.push(before.and_then(beyond));
    }
    let mut timings = vec![Vec::new(); LENGTHS.len()];
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}"));
        for (steps, timings) in LENGTHS.into_iter().zip(&mut timings) {
            timings.push(seconds(&lstm, steps, &device)?);
        }
    }
    let rows = LENGTHS.into_iter().zip(timings).zip(peaks);
    Ok(rows
        .map(|((steps, timings), peak)| Grown {
            steps,
            seconds: median(&timings),
            peak,
        })
        .collect())
}

/// Of one training step, without making its input.
fn seconds(lstm: &ScratchLstm, steps: usize, device: &Device) -> Result<f64, PeerError> {
    let input = input([BATCH, steps, D_INPUT], device).require_grad();
    let plain = device.clone().without_autodiff();
    median_seconds(&plain, 1, || {
        let (output, _) = lstm.forward(input.clone(), None);
        mean_of_squares(output).backward()
    })
}
