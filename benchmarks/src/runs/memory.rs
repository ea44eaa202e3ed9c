//! The memory of a training step, ours against the peers', each in a process of its own.

use scratch_train::Backend;

use crate::args::PeerName;
use crate::error::BenchmarkError;
use crate::memory::{self, MemoryError};
use crate::peers::Torch;
use crate::probe::{Footprint, Model, Probe};
use crate::report::memory::HEAD;
use crate::session::Session;
use crate::workload::Size;

/// What a training step of one size needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Needed {
    /// The size.
    pub size: Size,
    /// Who was compared with.
    pub peer: &'static str,
    /// Bytes that ours needs beyond the idle process.
    pub ours: u64,
    /// Bytes that the peer's needs beyond the idle process.
    pub theirs: u64,
}

impl Needed {
    /// The peer's bytes over ours, if ours needs any.
    pub fn ratio(&self) -> Option<f64> {
        (self.ours > 0).then(|| self.theirs as f64 / self.ours as f64)
    }
}

/// Compares every size and peer.
///
/// # Errors
///
/// If memory cannot be measured here, or a process fails.
pub fn run(session: &Session) -> Result<(), BenchmarkError> {
    let (args, report) = (session.args, &session.report);
    memory::check(session.chosen.backend)?;
    let mut peers = session.peers();
    let pytorches = session.pytorches()?;
    report.head(&session.head(&pytorches))?;
    report.note(HEAD)?;
    peers.retain(|&peer| {
        let is_there = || pytorches.iter().any(|pytorch| pytorch.peer() == peer);
        peer.torch().is_none() || is_there()
    });
    // From here on each measurement has a process of its own.
    drop(pytorches);
    for size in args.sizes() {
        let ours = on_burn(session, session.chosen.backend, Model::Scratch, size)?;
        for &peer in &peers {
            let theirs = footprint(session, peer, size)?;
            report.row(&Needed {
                size,
                peer: peer.name(),
                ours: ours.beyond(),
                theirs: theirs.beyond(),
            })?;
        }
    }
    Ok(())
}

fn footprint(session: &Session, peer: PeerName, size: Size) -> Result<Footprint, BenchmarkError> {
    let backend = session.chosen.backend;
    match peer {
        PeerName::Burn => on_burn(session, backend, Model::Burn, size),
        PeerName::Raw => on_burn(session, backend, Model::Raw, size),
        PeerName::Flex => on_burn(session, Backend::Flex, Model::Scratch, size),
        PeerName::Ndarray => on_burn(session, Backend::NdArray, Model::Scratch, size),
        PeerName::Pytorch => Ok(session.pytorch(Torch::Cpu)?.footprint(size)?),
        PeerName::Cudnn | PeerName::CudnnTf32 => {
            Err(MemoryError::Peer { peer: peer.name() }.into())
        }
    }
}

/// Two training steps.
fn on_burn(
    session: &Session,
    backend: Backend,
    model: Model,
    size: Size,
) -> Result<Footprint, BenchmarkError> {
    let probe = Probe {
        model,
        size,
        checkpointing: false,
        least_seconds: 0.0,
    };
    session.probe(backend, &probe)
}
