//! Two peers timed in alternating pairs.
//!
//! A machine's speed drifts by more than what is to be measured: other programs, clocks, heat. Two
//! timings right after each other see nearly the same machine, so that their ratio is steadier
//! than either. The order changes from pair to pair, so that whoever comes second is not always
//! the same.

use crate::peers::{Peer, PeerError};
use crate::statistics::{Spread, median, spread};
use crate::workload::{Mode, Size};

/// What the pairs of one size and mode say.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The size.
    pub size: Size,
    /// The mode.
    pub mode: Mode,
    /// Who was compared with.
    pub peer: &'static str,
    /// The peer's time over ours: above 1 we are faster.
    pub ratio: Spread,
    /// Median seconds of our iteration.
    pub our_seconds: f64,
    /// Median seconds of the peer's iteration.
    pub peer_seconds: f64,
    /// Number of pairs.
    pub pairs: usize,
}

impl Comparison {
    /// How fast ours was, in 10⁹ needed floating-point operations a second.
    pub fn gflops(&self) -> f64 {
        self.size.flops(self.mode) / self.our_seconds / 1e9
    }
}

/// Times `ours` against `peer`.
///
/// # Errors
///
/// If one of them cannot run.
pub fn compare(
    ours: &mut dyn Peer,
    peer: &mut dyn Peer,
    size: Size,
    mode: Mode,
    pairs: usize,
) -> Result<Comparison, PeerError> {
    let our_iterations = iterations(ours, size, mode)?;
    let peer_iterations = iterations(peer, size, mode)?;
    let (mut our_seconds, mut peer_seconds) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let (first, second);
        if pair % 2 == 0 {
            first = ours.time(size, mode, our_iterations)?;
            second = peer.time(size, mode, peer_iterations)?;
            our_seconds.push(first);
            peer_seconds.push(second);
        } else {
            first = peer.time(size, mode, peer_iterations)?;
            second = ours.time(size, mode, our_iterations)?;
            peer_seconds.push(first);
            our_seconds.push(second);
        }
    }
    let ratios: Vec<f64> = peer_seconds
        .iter()
        .zip(&our_seconds)
        .map(|(peer, ours)| peer / ours)
        .collect();
    Ok(Comparison {
        size,
        mode,
        peer: peer.name(),
        ratio: spread(&ratios),
        our_seconds: median(&our_seconds),
        peer_seconds: median(&peer_seconds),
        pairs,
    })
}

/// A timing shorter than this says more about the clock and the caches than about the LSTM.
const LEAST_SECONDS: f64 = 0.05;
const MOST_ITERATIONS: f64 = 1000.0;

/// How many iterations make a timing of [`LEAST_SECONDS`], after a first one that does not count:
/// it allocates, starts threads and compiles kernels.
fn iterations(peer: &mut dyn Peer, size: Size, mode: Mode) -> Result<usize, PeerError> {
    peer.time(size, mode, 1)?;
    let seconds = peer.time(size, mode, 1)?;
    Ok((LEAST_SECONDS / seconds).ceil().clamp(1.0, MOST_ITERATIONS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    const SIZE: Size = Size::new(3, 7, 5, 11);

    /// Takes the given seconds in a row, and writes down that it was called.
    struct Scripted {
        name: &'static str,
        seconds: Vec<f64>,
        calls: Rc<RefCell<Vec<(&'static str, usize)>>>,
    }

    impl Peer for Scripted {
        fn name(&self) -> &'static str {
            self.name
        }

        fn library(&self) -> &'static str {
            self.name
        }

        fn multiply(&mut self, _: usize, _: usize) -> Result<f64, PeerError> {
            unreachable!("pairs time the LSTM alone")
        }

        fn time(&mut self, _: Size, _: Mode, iterations: usize) -> Result<f64, PeerError> {
            self.calls.borrow_mut().push((self.name, iterations));
            Ok(self.seconds.remove(0))
        }
    }

    #[test]
    fn pairs_alternate_and_each_has_its_own_ratio() {
        let calls = Rc::default();
        let scripted = |name, seconds: &[f64]| Scripted {
            name,
            seconds: seconds.to_vec(),
            calls: Rc::clone(&calls),
        };
        // The first two are warm-up and trial; the machine gets slower from pair to pair.
        let mut ours = scripted("ours", &[9.0, 0.01, 1.0, 2.0, 4.0]);
        let mut peer = scripted("theirs", &[9.0, 0.02, 3.0, 4.0, 8.0]);
        let comparison = compare(&mut ours, &mut peer, SIZE, Mode::Train, 3).unwrap();

        assert_eq!(comparison.peer, "theirs");
        let expected = Spread {
            median: 2.0,
            low: 2.0,
            high: 3.0,
        };
        assert_eq!(comparison.ratio, expected);
        assert_eq!(
            (comparison.our_seconds, comparison.peer_seconds),
            (2.0, 4.0)
        );
        let (ours, theirs) = (("ours", 5), ("theirs", 3));
        assert_eq!(
            calls.borrow()[4..],
            [ours, theirs, theirs, ours, ours, theirs]
        );
    }

    #[test]
    fn what_is_slow_runs_once_and_what_takes_no_time_is_bounded() {
        let count = |trial: f64| {
            let mut peer = Scripted {
                name: "any",
                seconds: vec![9.0, trial],
                calls: Rc::default(),
            };
            iterations(&mut peer, SIZE, Mode::Forward).unwrap()
        };
        assert_eq!(count(3.0), 1);
        assert_eq!(count(0.025), 2);
        assert_eq!(count(0.0), 1000);
    }
}
