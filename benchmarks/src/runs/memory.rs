//! The memory of a training step, ours against the peers', each in a process of its own.

use scratch_train::Backend;

use crate::args::PeerName;
use crate::error::BenchmarkError;
use crate::memory;
use crate::peers::Pytorch;
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
    let pytorch = session.pytorch()?;
    report.head(&session.head(pytorch.as_ref()))?;
    report.note(HEAD)?;
    let mut peers = args.peers();
    peers.retain(|&peer| peer != PeerName::Pytorch || pytorch.is_some());
    // From here on each measurement has a process of its own.
    drop(pytorch);
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
        PeerName::Pytorch => {
            let mut pytorch = Pytorch::start(&session.args.python, session.threads)?;
            Ok(pytorch.footprint(size)?)
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
