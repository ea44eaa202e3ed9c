//! The LSTM against its peers, in pairs.

use scratch_lstm::ScratchLstm;
use scratch_train::{Backend, backend};

use crate::args::PeerName;
use crate::error::BenchmarkError;
use crate::matmul::Rates;
use crate::pairs::{self, Comparison};
use crate::peers::{BurnLstm, OnBurn, Peer, Pytorch, RawLstm};
use crate::report::compare::{Row, head, summaries};
use crate::report::published;
use crate::session::Session;

/// Compares every size, mode and peer.
///
/// # Errors
///
/// If a peer that was asked for is not there, or fails.
pub fn run(session: &Session) -> Result<(), BenchmarkError> {
    let pytorches = session.pytorches()?;
    let report = &session.report;
    report.head(&session.head(&pytorches))?;
    let mut ours = OnBurn::<ScratchLstm>::new(&session.chosen.device);
    let mut peers = peers(session, pytorches)?;
    let mut rates = Rates::new(&mut ours)?;

    let mut found = Vec::new();
    let outcome = measure(session, &mut ours, &mut peers, &mut rates, &mut found);
    // The rates are known only now; what was measured before something failed is still good.
    report.note(&head(usize::from(session.args.pairs)))?;
    let matmul = rates.largest();
    for comparison in &found {
        let path = &session.path_of(comparison.size)?;
        report.row(&Row {
            comparison,
            path,
            matmul,
        })?;
    }
    outcome?;
    report.note("")?;
    for summary in summaries(&found) {
        report.row(&summary)?;
    }
    for rate in rates.all() {
        report.row(&rate)?;
    }
    if session.args.published {
        report.note(&published::head())?;
        for row in &published::TIMES {
            report.row(row)?;
        }
    }
    Ok(())
}

/// The rates of large products before the first size and after each.
fn measure(
    session: &Session,
    ours: &mut dyn Peer,
    peers: &mut [Box<dyn Peer>],
    rates: &mut Rates,
    found: &mut Vec<Comparison>,
) -> Result<(), BenchmarkError> {
    let pairs = usize::from(session.args.pairs);
    probe(rates, ours, peers)?;
    for size in session.args.sizes() {
        // Something that was asked for by name and cannot be had in this size.
        session.path_of(size)?;
        for mode in session.args.modes() {
            for peer in peers.iter_mut() {
                let row = pairs::compare(ours, peer.as_mut(), size, mode, pairs)?;
                let (peer, ratio) = (row.peer, row.ratio.median);
                eprintln!("{size} {mode} against {peer}: {ratio:.2}");
                found.push(row);
            }
        }
        probe(rates, ours, peers)?;
    }
    Ok(())
}

fn probe<'a>(
    rates: &mut Rates,
    ours: &'a mut dyn Peer,
    peers: &'a mut [Box<dyn Peer>],
) -> Result<(), BenchmarkError> {
    let peers = peers.iter_mut().map(|peer| peer.as_mut() as &mut dyn Peer);
    Ok(rates.probe(std::iter::once(ours).chain(peers))?)
}

/// Those that were asked for; PyTorch if it is there.
fn peers(
    session: &Session,
    mut pytorches: Vec<Pytorch>,
) -> Result<Vec<Box<dyn Peer>>, BenchmarkError> {
    let device = &session.chosen.device;
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    for name in session.peers() {
        match name {
            PeerName::Burn => peers.push(Box::new(OnBurn::<BurnLstm>::new(device))),
            PeerName::Raw => peers.push(Box::new(OnBurn::<RawLstm>::new(device))),
            PeerName::Flex => peers.push(ours_on(Backend::Flex)?),
            PeerName::Ndarray => peers.push(ours_on(Backend::NdArray)?),
            PeerName::Pytorch | PeerName::Cudnn | PeerName::CudnnTf32 => {
                let is_it = |pytorch: &mut Pytorch| pytorch.peer() == name;
                let there = pytorches.extract_if(.., is_it);
                peers.extend(there.map(|peer| Box::new(peer) as _));
            }
        }
    }
    Ok(peers)
}

fn ours_on(backend: Backend) -> Result<Box<dyn Peer>, BenchmarkError> {
    let device = backend::choose(Some(backend))?.device;
    let peer = OnBurn::<ScratchLstm>::elsewhere(backend.name(), &device);
    Ok(Box::new(peer))
}
