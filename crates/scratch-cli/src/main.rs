//! The program `scratch`: trains LSTM models and puts them to use.

mod args;
mod commands;
mod config;
mod failure;
mod output;
mod panics;
mod summary;
mod watch;

use std::panic;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    panics::keep_quiet();
    match panic::catch_unwind(|| commands::run(cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.print(),
        Err(_) => panics::failure().print(),
    }
}
