//! What every kind of run starts from: the device, its threads, the path, and where results go.

use std::env;
use std::process::{Command, Stdio};

use scratch_lstm::{Path, PathChoice};
use scratch_train::{Backend, Chosen, backend};

use crate::args::{Args, PeerName};
use crate::dtype::Dtype;
use crate::error::BenchmarkError;
use crate::machine;
use crate::peers::{PeerError, Pytorch, Torch, path};
use crate::probe::{Footprint, Probe};
use crate::report::{Place, Report};
use crate::workload::Size;

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
    choice: PathChoice,
    path: Path,
}

impl<'a> Session<'a> {
    /// Chooses the device and starts the threads.
    ///
    /// # Errors
    ///
    /// If there is no such device, none for a peer, none of them computes in the type, or there is
    /// no fused operation to compare raw ones with.
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
        args.dtype.settle(&chosen)?;
        for other in args.peers.iter().filter_map(|peer| peer.backend()) {
            args.dtype.settle(&backend::choose(Some(other))?)?;
        }
        let (choice, path) = if args.peers.contains(&PeerName::Raw) {
            let choice = PathChoice::Fused;
            let path = path(choice, &chosen.device, None).map_err(BenchmarkError::NotFused)?;
            (choice, path)
        } else {
            let choice = PathChoice::Auto;
            (choice, path(choice, &chosen.device, None)?)
        };
        let place = Place {
            backend: chosen.backend.name(),
            path: path.to_string(),
            dtype: args.dtype,
            device: chosen.name.clone(),
        };
        Ok(Self {
            args,
            report: Report::new(args.json, place),
            chosen,
            threads,
            choice,
            path,
        })
    }

    /// The way that calls of one size take.
    ///
    /// # Errors
    ///
    /// If what was asked for cannot be had in this size.
    pub fn path_of(&self, size: Size) -> Result<Path, BenchmarkError> {
        Ok(path(self.choice, &self.chosen.device, Some(size))?)
    }

    /// Whom to compare with, PyTorch if it is there.
    pub fn peers(&self) -> Vec<PeerName> {
        self.args.peers(self.chosen.backend)
    }

    /// What every number depends on.
    pub fn head(&self, pytorches: &[Pytorch]) -> String {
        let threads = machine::count(self.threads, "thread");
        let (machine, burn) = (machine::describe(), machine::burn_version());
        let mut head = format!("{machine}; {threads}; burn {burn}, {}", self.chosen);
        for pytorch in pytorches {
            head += &format!("; {pytorch}");
        }
        format!("{head}\nScratchLstm: {}; in {}", self.path, self.args.dtype)
    }

    /// PyTorch on each device where it is wanted and there; whoever did not ask for it by name does
    /// without.
    ///
    /// # Errors
    ///
    /// If it was asked for by name and is not there.
    pub fn pytorches(&self) -> Result<Vec<Pytorch>, BenchmarkError> {
        let mut there = Vec::new();
        for torch in self.peers().into_iter().filter_map(PeerName::torch) {
            let peer = torch.peer();
            let dtype = self.args.dtype;
            if torch == Torch::CudnnTf32 && dtype != Dtype::F32 {
                return Err(BenchmarkError::OnlyInF32 { peer, dtype });
            }
            match self.pytorch(torch) {
                Ok(pytorch) => there.push(pytorch),
                Err(source) if self.args.peers.contains(&peer) => {
                    return Err(BenchmarkError::NoPytorch { peer, source });
                }
                Err(error) => eprintln!(
                    "without {}: {error} (`--python PATH` names a Python that has torch)",
                    peer.name()
                ),
            }
        }
        Ok(there)
    }

    /// A PyTorch of its own.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn pytorch(&self, torch: Torch) -> Result<Pytorch, PeerError> {
        Pytorch::start(&self.args.python, torch, self.args.dtype, self.threads)
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
