//! Side-by-side runs of this project's LSTM, burn's own and PyTorch's; see `README.md`.

mod args;
mod dtype;
mod error;
mod machine;
mod matmul;
mod memory;
mod pairs;
mod peers;
mod probe;
mod report;
mod runs;
mod session;
mod statistics;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Kind};
use error::BenchmarkError;
use session::Session;

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
    let session = Session::start(args)?;
    match args.kind() {
        Kind::Compare => runs::compare::run(&session),
        Kind::Growth => runs::growth::run(&session),
        Kind::Memory => runs::memory::run(&session),
        Kind::Long => runs::long::run(&session),
        Kind::Stream => runs::stream::run(&session),
        Kind::Loop => runs::training::run(&session),
        Kind::Probe(probe) => {
            let footprint = probe.run(&session.chosen.device)?;
            report::answer(&footprint)
        }
    }
}
