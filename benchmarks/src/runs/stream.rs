//! One step of one sequence, against the time of reading its weights once and against a call of the
//! module for a single step.

use std::hint::black_box;
use std::time::Instant;

use scratch_lstm::{Key, LstmStream, ScratchLstm, ScratchLstmConfig};

use crate::error::BenchmarkError;
use crate::peers::{input, median_seconds};
use crate::report::stream::{HEAD, TITLE};
use crate::session::Session;
use crate::statistics::median;

/// Widths of input and state of one layer.
const SIZES: [[usize; 2]; 5] = [[32, 32], [64, 128], [128, 256], [256, 512], [650, 650]];

/// A timing repeats a step for so long.
const LEAST_SECONDS: f64 = 0.02;

/// One size.
#[derive(Debug, Clone, PartialEq)]
pub struct Streamed {
    /// `D`.
    pub d: usize,
    /// `H`.
    pub h: usize,
    /// Bytes of the packed weights.
    pub bytes: usize,
    /// Median seconds of a step.
    pub step: f64,
    /// Median seconds of reading as many bytes.
    pub read: f64,
    /// Median seconds of a call of the module with `B = T = 1`.
    pub module: f64,
}

/// Times every size in `--pairs` rounds.
///
/// # Errors
///
/// If the device fails.
pub fn run(session: &Session) -> Result<(), BenchmarkError> {
    let report = &session.report;
    report.head(&session.head(&[]))?;
    report.note(&format!("{TITLE}\n\n{HEAD}"))?;
    for [d, h] in SIZES {
        eprintln!("D = {d}, H = {h} …");
        report.row(&measure(session, d, h)?)?;
    }
    Ok(())
}

fn measure(session: &Session, d: usize, h: usize) -> Result<Streamed, BenchmarkError> {
    let device = &session.chosen.device;
    let lstm: ScratchLstm = ScratchLstmConfig::new(d, h)
        .try_init_with(&Key::new(0).child("lstm"), device)
        .map_err(crate::peers::PeerError::from)?;
    let mut stream: LstmStream = lstm.stream();
    let bytes = stream.weight_bytes();
    let weights = vec![1u64; bytes / size_of::<u64>()];
    let (x, mut output) = (vec![0.5; d], vec![0.0; h]);
    let sequence = input([1, 1, d], device);
    let (mut steps, mut reads, mut modules) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..session.args.pairs {
        steps.push(seconds(|| stream.step(black_box(&x), &mut output)));
        reads.push(seconds(|| {
            black_box(read(black_box(&weights)));
        }));
        modules.push(median_seconds(device, 20, || {
            lstm.forward(sequence.clone(), None).0
        })?);
    }
    Ok(Streamed {
        d,
        h,
        bytes,
        step: median(&steps),
        read: median(&reads),
        module: median(&modules),
    })
}

/// Reads all numbers, with as little work beside that as can be.
fn read(numbers: &[u64]) -> u64 {
    const LANES: usize = 16;
    let mut sums = [0u64; LANES];
    for chunk in numbers.chunks_exact(LANES) {
        for (sum, number) in sums.iter_mut().zip(chunk) {
            *sum |= number;
        }
    }
    sums.iter().fold(0, |all, sum| all | sum)
}

/// Seconds of one call, over as many as it takes.
fn seconds(mut call: impl FnMut()) -> f64 {
    call();
    let (start, mut calls) = (Instant::now(), 0);
    loop {
        for _ in 0..10 {
            call();
        }
        calls += 10;
        let seconds = start.elapsed().as_secs_f64();
        if seconds > LEAST_SECONDS {
            return seconds / f64::from(calls);
        }
    }
}
