//! The program `scratch`: trains LSTM models and puts them to use.

mod args;
mod commands;
mod config;
mod failure;
mod output;
mod panics;
mod summary;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    panics::print_one_line();
    match commands::run(args::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}
