//! The machine's own rate: how fast a library multiplies two large matrices here and now.
//!
//! An LSTM consists of matrix products, smaller ones; this rate is what it could hope for. It is
//! measured in the same run as the rates it is compared with, spread over the whole run: the
//! machine's speed drifts.

use crate::peers::{Peer, PeerError};
use crate::statistics::median;

/// What the libraries of some peers reach.
#[derive(Debug)]
pub struct Rates {
    width: usize,
    /// By library, one for each probe, in 10⁹ operations a second.
    found: Vec<(&'static str, Vec<f64>)>,
}

/// What one library reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// The library.
    pub library: &'static str,
    /// Rows and columns of both matrices.
    pub width: usize,
    /// Median of the probes, in 10⁹ operations a second.
    pub gflops: f64,
    /// The slowest probe.
    pub low: f64,
    /// The fastest probe.
    pub high: f64,
    /// How often it was measured.
    pub probes: usize,
}

impl Rates {
    /// Looks for matrices that are large for the library of `peer` on its device.
    ///
    /// # Errors
    ///
    /// If it cannot run.
    pub fn new(peer: &mut dyn Peer) -> Result<Self, PeerError> {
        let mut width = SMALLEST;
        while width < LARGEST {
            // The first product of a size compiles kernels and starts threads.
            peer.multiply(width, 1)?;
            if peer.multiply(width, 1)? >= LARGE_SECONDS {
                break;
            }
            width *= 2;
        }
        Ok(Self {
            width,
            found: Vec::new(),
        })
    }

    /// Measures each library among the peers once.
    ///
    /// # Errors
    ///
    /// If one of them cannot run.
    pub fn probe<'a>(
        &mut self,
        peers: impl IntoIterator<Item = &'a mut dyn Peer>,
    ) -> Result<(), PeerError> {
        let mut done = Vec::new();
        for peer in peers {
            let library = peer.library();
            if done.contains(&library) {
                continue;
            }
            done.push(library);
            let rate = rate(peer, self.width)?;
            match self.found.iter_mut().find(|(of, _)| *of == library) {
                Some((_, rates)) => rates.push(rate),
                None => self.found.push((library, vec![rate])),
            }
        }
        Ok(())
    }

    /// Of each library that was measured.
    pub fn all(&self) -> Vec<Rate> {
        let rates = self.found.iter().map(|(library, rates)| Rate {
            library,
            width: self.width,
            gflops: median(rates),
            low: rates.iter().copied().fold(f64::INFINITY, f64::min),
            high: rates.iter().copied().fold(0.0, f64::max),
            probes: rates.len(),
        });
        rates.collect()
    }

    /// The largest, in 10⁹ operations a second, if one was measured.
    pub fn largest(&self) -> Option<f64> {
        let rates = self.all().into_iter().map(|rate| rate.gflops);
        rates.max_by(f64::total_cmp)
    }
}

const SMALLEST: usize = 512;
/// Two operands and a product of 256 MiB each.
const LARGEST: usize = 8192;
/// A product that takes as long has left the caches and the start of threads behind.
const LARGE_SECONDS: f64 = 0.05;
const PROBE_SECONDS: f64 = 0.3;

fn rate(peer: &mut dyn Peer, width: usize) -> Result<f64, PeerError> {
    let trial = peer.multiply(width, 1)?;
    let iterations = (PROBE_SECONDS / trial).ceil().clamp(3.0, 100.0) as usize;
    let seconds = peer.multiply(width, iterations)?;
    Ok(2.0 * (width as f64).powi(3) / seconds / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Mode, Size};

    /// A library with a rate, the same for every size.
    struct Steady {
        library: &'static str,
        gflops: f64,
    }

    impl Peer for Steady {
        fn name(&self) -> &'static str {
            "any"
        }

        fn library(&self) -> &'static str {
            self.library
        }

        fn time(&mut self, _: Size, _: Mode, _: usize) -> Result<f64, PeerError> {
            unreachable!("no LSTM here")
        }

        fn multiply(&mut self, width: usize, _: usize) -> Result<f64, PeerError> {
            Ok(2.0 * (width as f64).powi(3) / self.gflops / 1e9)
        }
    }

    #[test]
    fn each_library_once_a_probe_and_the_larger_rate_counts() {
        let mut ours = Steady {
            library: "burn",
            gflops: 100.0,
        };
        let mut rates = Rates::new(&mut ours).unwrap();
        assert_eq!(rates.width, 2048, "the first that takes 50 ms");
        assert_eq!(rates.largest(), None);

        let mut again = Steady {
            library: "burn",
            gflops: 7.0,
        };
        let mut pytorch = Steady {
            library: "pytorch",
            gflops: 110.0,
        };
        for gflops in [90.0, 100.0, 20.0] {
            ours.gflops = gflops;
            let peers: [&mut dyn Peer; 3] = [&mut ours, &mut again, &mut pytorch];
            rates.probe(peers).unwrap();
        }
        let all = rates.all();
        let libraries: Vec<_> = all.iter().map(|rate| (rate.library, rate.probes)).collect();
        assert_eq!(libraries, [("burn", 3), ("pytorch", 3)]);
        let burn = [all[0].low, all[0].gflops, all[0].high].map(f64::round);
        assert_eq!(burn, [20.0, 90.0, 100.0], "the median between the extremes");
        assert!((rates.largest().unwrap() - 110.0).abs() < 1e-9);
    }

    #[test]
    fn a_fast_device_gets_the_largest_and_a_slow_one_the_smallest() {
        for (gflops, width) in [(1e6, LARGEST), (1.0, SMALLEST)] {
            let mut peer = Steady {
                library: "burn",
                gflops,
            };
            assert_eq!(Rates::new(&mut peer).unwrap().width, width);
        }
    }
}
