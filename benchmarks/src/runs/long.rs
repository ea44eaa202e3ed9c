//! A training step over long sequences, with gradient checkpointing and without: does its time per
//! step of the sequence stay level, and how much memory does it take?

use crate::error::BenchmarkError;
use crate::memory;
use crate::probe::{Footprint, Model, Probe};
use crate::report::long::{HEAD, verdict};
use crate::session::Session;
use crate::statistics::median;
use crate::workload::Size;

/// `T`.
pub const LENGTHS: [usize; 5] = [100, 300, 1000, 3000, 10_000];

/// A round times a training step for this long, after a first one.
const LEAST_SECONDS: f64 = 0.5;

/// A training step at one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// The size.
    pub size: Size,
    /// Whether gradient checkpointing was on.
    pub checkpointing: bool,
    /// Median seconds of a training step.
    pub seconds: f64,
    /// The most bytes it needed beyond the idle process.
    pub beyond: u64,
    /// The most bytes that were resident.
    pub resident: u64,
}

/// Measures every length, with and without, in each of `--pairs` rounds; they alternate, so that a
/// slow spell of the machine meets all of them.
///
/// # Errors
///
/// If memory cannot be measured here, or a process fails.
pub fn run(session: &Session) -> Result<(), BenchmarkError> {
    let report = &session.report;
    memory::check(session.chosen.backend)?;
    report.head(&session.head(&[]))?;
    let cases: Vec<(Size, bool)> = LENGTHS
        .into_iter()
        .map(|steps| Size::new(16, steps, 64, 256))
        .flat_map(|size| [(size, true), (size, false)])
        .collect();
    let mut found = vec![Vec::new(); cases.len()];
    let rounds = session.args.pairs;
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds} …");
        for (&(size, checkpointing), found) in cases.iter().zip(&mut found) {
            let probe = Probe {
                model: Model::Scratch,
                size,
                checkpointing,
                least_seconds: LEAST_SECONDS,
            };
            found.push(session.probe(session.chosen.backend, &probe)?);
        }
    }
    report.note(HEAD)?;
    let cases = cases.into_iter().zip(&found);
    let stretches: Vec<Stretch> = cases
        .map(|((size, checkpointing), found)| stretch(size, checkpointing, found))
        .collect();
    for stretch in &stretches {
        report.row(stretch)?;
    }
    report.note(&verdict(&stretches))
}

fn stretch(size: Size, checkpointing: bool, found: &[Footprint]) -> Stretch {
    let seconds: Vec<f64> = found.iter().map(|found| found.seconds).collect();
    let most = |bytes: fn(&Footprint) -> u64| found.iter().map(bytes).max().unwrap_or(0);
    Stretch {
        size,
        checkpointing,
        seconds: median(&seconds),
        beyond: most(Footprint::beyond),
        resident: most(|found| found.peak),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_give_the_median_time_and_the_highest_peak() {
        let round = |seconds, idle, peak| Footprint {
            idle,
            peak,
            seconds,
        };
        let rounds = [round(3.0, 10, 15), round(1.0, 8, 14), round(2.0, 12, 16)];
        let found = stretch(Size::new(16, 100, 64, 256), true, &rounds);
        assert_eq!(found.seconds, 2.0);
        assert_eq!((found.beyond, found.resident), (6, 16));
    }
}
