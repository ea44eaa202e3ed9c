//! The commands, one file each.

mod checkpoints;
mod convert;
mod devices;
mod evaluate;
mod forecast;
mod generate;
mod report;
mod resume;
mod train;

use std::path::Path as FilePath;

use burn::tensor::{DType, Device};
use scratch_lstm::config::CellConfig;
use scratch_lstm::fused::LayerSizes;
use scratch_lstm::{Path, PathChoice};
use scratch_train::Interrupt;
use scratch_train::backend::{self, Backend, Chosen};
use scratch_train::models::LstmSettings;
use scratch_train::tasks::{Session, TaskError};
use scratch_train::tensorboard::TensorBoard;

use crate::args::{Cli, Command, DeviceArgs, WatchArgs};
use crate::failure::{Failure, Phase};
use crate::output::{Output, note};
use crate::watch::Watch;

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let output = Output { json: cli.json };
    match cli.command {
        Command::Train(args) => train::run(args.task, output),
        Command::Resume(args) => resume::run(&args, output),
        Command::Evaluate(args) => evaluate::run(&args, output),
        Command::Forecast(args) => forecast::run(&args, output),
        Command::Generate(args) => generate::run(&args, output),
        Command::Report(args) => report::run(&args, output),
        Command::Checkpoints(args) => checkpoints::run(&args, output),
        Command::Convert(args) => convert::run(&args, output),
        Command::Devices => devices::run(output),
    }
}

/// The device to work on; which and why is said.
fn choose_device(args: &DeviceArgs) -> Result<Device, Failure> {
    let chosen = backend::choose(args.backend)?;
    note(&describe(&chosen));
    lstm_path(&chosen, &CellConfig::default(), None)?;
    Ok(chosen.device)
}

/// The device to train on, and the lines that say which it is and why, and the way of an LSTM with
/// these settings and so many units.
fn choose_device_to_train(
    args: &DeviceArgs,
    (lstm, d_hidden): (&LstmSettings, usize),
) -> Result<(Device, Vec<String>), Failure> {
    let chosen = backend::choose(args.backend)?;
    let sizes = LayerSizes {
        d_hidden,
        d_proj: lstm.d_proj,
    };
    let path = lstm_path(&chosen, &lstm.cell, Some(sizes))?;
    let mut lines = vec![describe(&chosen), format!("lstm: {path}")];
    if matches!(
        chosen.backend,
        Backend::Cuda | Backend::Vulkan | Backend::Wgpu
    ) {
        let kept = match cfg!(any(feature = "wgpu", feature = "vulkan", feature = "cuda")) {
            true => " and tries out the fastest, which is kept for the next run",
            false => "",
        };
        lines.push(format!(
            "note: the first step compiles the GPU's kernels{kept}"
        ));
    }
    Ok((chosen.device, lines))
}

/// The way an LSTM with this cell takes on the device.
fn lstm_path(
    chosen: &Chosen,
    cell: &CellConfig,
    sizes: Option<LayerSizes>,
) -> Result<Path, Failure> {
    Path::of(PathChoice::Auto, &chosen.device, DType::F32, cell, sizes).map_err(|error| {
        Failure::input(
            error.to_string(),
            "unset SCRATCH_LSTM_INSTRUCTIONS and SCRATCH_LSTM_GPU_RUNG: the best is taken then",
        )
    })
}

fn describe(chosen: &Chosen) -> String {
    format!("device: {chosen}")
}

/// What a training on `device` into `run` goes with: who watches, and signals that end it.
fn session<'a>(
    device: &'a Device,
    watch: &'a mut Watch,
    args: &WatchArgs,
    run: &FilePath,
) -> Result<Session<'a>, Failure> {
    let mut session = Session::new(device).with_callback(watch);
    if args.tensorboard {
        session = session.with_callback(TensorBoard::new(run.join("tensorboard")));
    }
    session.interrupt = Interrupt::on_signals().map_err(|error| {
        Failure::running(
            format!("signals cannot be handled: {error}"),
            "run it where processes may handle Ctrl-C",
        )
    })?;
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    session.command = Some(words.collect::<Vec<_>>().join(" "));
    Ok(session)
}

/// Says which of its phases a training failed in.
fn failed(error: &TaskError, run: &FilePath, watch: &Watch) -> Failure {
    let phase = match watch.plan() {
        Some(_) => Phase::Training,
        None => Phase::Preparing,
    };
    Failure::task(error, phase).of_run(run)
}

/// A task that this program does not have.
fn unknown_task(run: &scratch_train::RunFolder, task: &str) -> Failure {
    Failure::input(
        format!(
            "{}: expected a run of the task `forecast`, `text` or `classify`, found `{task}`",
            run.config_path().display()
        ),
        "correct or restore the file, or use the program that made the run",
    )
}
