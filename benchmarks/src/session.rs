//! What every kind of run starts from: the device, its threads, the path, and where results go.

use std::env;
use std::process::{Command, Stdio};

use scratch_lstm::{Path, PathChoice};
use scratch_train::{Backend, Chosen, backend};

use crate::args::{Args, PeerName};
use crate::error::BenchmarkError;
use crate::machine;
use crate::peers::{Pytorch, path};
use crate::probe::{Footprint, Probe};
use crate::report::{Place, Report};

/// A run on one device.
#[derive(Debug)]
pub struct Session<'a> {
    /// What was asked for.
    pub args: &'a Args,
    /// The device.
    pub chosen: Chosen,
    /// Threads for each side on the CPU.
    pub threads: usize,
    /// Where results go.
    pub report: Report,
    path: Path,
}

impl<'a> Session<'a> {
    /// Chooses the device and starts the threads.
    ///
    /// # Errors
    ///
    /// If there is no such device, none for a peer, or no fused operation to compare raw ones with.
    pub fn start(args: &'a Args) -> Result<Self, BenchmarkError> {
        let chosen = backend::choose(args.backend)?;
        let threads = args.threads.map_or_else(machine::cores, usize::from);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| BenchmarkError::Threads {
                threads,
                reason: error.to_string(),
            })?;
        for other in args.peers.iter().filter_map(|peer| peer.backend()) {
            backend::choose(Some(other))?;
        }
        let path = if args.peers.contains(&PeerName::Raw) {
            path(PathChoice::Fused, &chosen.device).map_err(BenchmarkError::NotFused)?
        } else {
            path(PathChoice::Auto, &chosen.device)?
        };
        let place = Place {
            backend: chosen.backend.name(),
            path: path.to_string(),
        };
        Ok(Self {
            args,
            report: Report::new(args.json, place),
            chosen,
            threads,
            path,
        })
    }

    /// What every number depends on.
    pub fn head(&self, pytorch: Option<&Pytorch>) -> String {
        let threads = machine::count(self.threads, "thread");
        let (machine, burn) = (machine::describe(), machine::burn_version());
        let mut head = format!("{machine}; {threads}; burn {burn}, {}", self.chosen);
        if let Some(pytorch) = pytorch {
            head += &format!("; {pytorch}");
        }
        format!("{head}\nScratchLstm: {}", self.path)
    }

    /// PyTorch, if it is wanted and there; whoever did not ask for it by name does without.
    ///
    /// # Errors
    ///
    /// If it was asked for by name and is not there.
    pub fn pytorch(&self) -> Result<Option<Pytorch>, BenchmarkError> {
        let args = self.args;
        if !args.peers().contains(&PeerName::Pytorch) {
            return Ok(None);
        }
        match Pytorch::start(&args.python, self.threads) {
            Ok(pytorch) => Ok(Some(pytorch)),
            Err(error) if args.peers.contains(&PeerName::Pytorch) => {
                Err(BenchmarkError::NoPytorch(error))
            }
            Err(error) => {
                eprintln!(
                    "without PyTorch: {error} (`--python PATH` names a Python that has torch)"
                );
                Ok(None)
            }
        }
    }

    /// Measures in a process of its own, with as many threads.
    ///
    /// # Errors
    ///
    /// If the process cannot be started or fails; its complaints go to stderr.
    pub fn probe(&self, backend: Backend, probe: &Probe) -> Result<Footprint, BenchmarkError> {
        let task = serde_json::to_string(probe).expect("a plain struct");
        let failed = |reason: String| BenchmarkError::Probe { reason };
        let output = Command::new(env::current_exe()?)
            .args(["--backend", backend.name(), "--probe", &task])
            .args(["--threads", &self.threads.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(failed(output.status.to_string()));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| failed(format!("it gave no valid answer: {error}")))
    }
}
