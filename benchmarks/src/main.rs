//! Side-by-side runs of this project's LSTM, burn's own and PyTorch's; see `README.md`.

mod args;
mod error;
mod growth;
mod json;
mod machine;
mod memory;
mod pairs;
mod peers;
mod statistics;
mod table;
mod workload;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use scratch_lstm::ScratchLstm;
use scratch_train::{Chosen, backend};

use args::{Args, PeerName};
use error::BenchmarkError;
use peers::{BurnLstm, OnBurn, Peer, Pytorch};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<(), BenchmarkError> {
    let chosen = backend::choose(args.backend)?;
    let threads = args.threads.map_or_else(machine::cores, usize::from);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| BenchmarkError::Threads {
            threads,
            reason: error.to_string(),
        })?;
    if args.growth {
        grow(args, &chosen, threads)
    } else {
        compare(args, &chosen, threads)
    }
}

/// The LSTM against its peers.
fn compare(args: &Args, chosen: &Chosen, threads: usize) -> Result<(), BenchmarkError> {
    let pytorch = pytorch(args, threads)?;
    let pairs = usize::from(args.pairs);
    let mut head = machine_head(chosen, threads);
    if let Some(pytorch) = &pytorch {
        head += &format!("; {pytorch}");
    }
    if args.json {
        eprintln!("{head}");
    } else {
        print(&format!("{head}\n{}", table::comparison_head(pairs)))?;
    }

    let mut ours = OnBurn::<ScratchLstm>::new(&chosen.device);
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if args.wants(PeerName::Burn) {
        peers.push(Box::new(OnBurn::<BurnLstm>::new(&chosen.device)));
    }
    peers.extend(pytorch.map(|pytorch| Box::new(pytorch) as Box<dyn Peer>));
    for size in args.sizes() {
        for mode in args.modes() {
            for peer in &mut peers {
                eprintln!("{size} {mode} against {} …", peer.name());
                let row = pairs::compare(&mut ours, peer.as_mut(), size, mode, pairs)?;
                print(&if args.json {
                    json::comparison(&row, chosen.backend.name())
                } else {
                    table::comparison(&row)
                })?;
            }
        }
    }
    Ok(())
}

/// The LSTM over longer and longer sequences.
fn grow(args: &Args, chosen: &Chosen, threads: usize) -> Result<(), BenchmarkError> {
    let head = machine_head(chosen, threads);
    if args.json {
        eprintln!("{head}");
    } else {
        print(&head)?;
    }
    let rounds = usize::from(args.pairs);
    let rows = growth::measure(chosen, rounds, |what| eprintln!("{what} …"))?;
    if !args.json {
        return print(&table::growth(&rows));
    }
    rows.iter()
        .try_for_each(|row| print(&json::growth(row, chosen.backend.name())))
}

/// PyTorch, if it is wanted and there; whoever did not ask for it by name does without.
fn pytorch(args: &Args, threads: usize) -> Result<Option<Pytorch>, BenchmarkError> {
    if !args.wants(PeerName::Pytorch) {
        return Ok(None);
    }
    match Pytorch::start(&args.python, threads) {
        Ok(pytorch) => Ok(Some(pytorch)),
        Err(error) if args.demands(PeerName::Pytorch) => Err(BenchmarkError::NoPytorch(error)),
        Err(error) => {
            eprintln!("without PyTorch: {error} (`--python PATH` names a Python that has torch)");
            Ok(None)
        }
    }
}

fn machine_head(chosen: &Chosen, threads: usize) -> String {
    let threads = machine::count(threads, "thread");
    let (machine, burn) = (machine::describe(), machine::burn_version());
    format!("{machine}; {threads}; burn {burn}, {chosen}")
}

/// `println!` panics when the reader has gone.
fn print(text: &str) -> Result<(), BenchmarkError> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
