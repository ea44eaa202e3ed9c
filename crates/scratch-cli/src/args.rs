//! The command line.

mod convert;
mod train;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use scratch_train::Backend;

pub use convert::ConvertArgs;
pub use train::{ClassifyArgs, ForecastArgs, RunArgs, TextArgs, TrainTask, TrainingArgs};
use values::{seconds, seed, size};

/// Train LSTM models written from raw tensor operations, on any of burn's backends.
#[derive(Debug, Parser)]
#[command(
    name = "scratch",
    version,
    after_help = "\
Examples:
  scratch train forecast                       learn to forecast the monthly sunspot numbers
  scratch forecast runs/forecast-1 --horizon 12
  scratch train text --data book.txt --max-time 5m
  scratch devices                              what there is to train on

Results go to standard output, progress and messages to standard error.
Exit code 2: something in the input, settings or run folder does not fit. 1: a run failed on its way.
130, 143: Ctrl-C or SIGTERM; all is saved, and scratch resume goes on."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print the result as one JSON object instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model in a new run folder
    Train(Box<TrainArgs>),
    /// Go on with the training of a run from its last checkpoint
    Resume(ResumeArgs),
    /// Score the best model of a run
    Evaluate(EvaluateArgs),
    /// Forecast what comes after the end of a run's data, as CSV
    Forecast(AheadArgs),
    /// Write text with the best model of a run
    Generate(GenerateArgs),
    /// Write a page about a run, or about several side by side
    Report(ReportArgs),
    /// List the checkpoints of a run, or keep one for good
    Checkpoints(CheckpointsArgs),
    /// Bring the weights of an LSTM from one kind of file to another
    Convert(ConvertArgs),
    /// List the backends and the devices they find
    #[command(after_help = "\
Examples:
  scratch devices
  scratch devices --json")]
    Devices,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch train forecast
  scratch train text --data book.txt
  scratch train classify
  scratch train forecast --help                the options of a task")]
pub struct TrainArgs {
    #[command(subcommand)]
    pub task: TrainTask,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch resume runs/forecast-1               finish a run that was cut off
  scratch resume runs/forecast-1 --epochs 50   train on, to 50 epochs in all
  scratch resume runs/text-1 --max-time 10m    train on, to 10 minutes in all
  scratch resume runs/text-1 --fall-back       go on although the newest checkpoint is damaged

A run goes on with the settings and the data named in its config.toml; the new limits are written
into it. On the same program and machine the result is, to the last bit, that of a run that was never
cut off.")]
pub struct ResumeArgs {
    /// The run folder
    pub run: PathBuf,
    /// Epochs in all, those already done included
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub epochs: Option<usize>,
    /// Time in all, that already spent included: 90s, 3m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = seconds, allow_negative_numbers = true)]
    pub max_time: Option<f64>,
    /// Go on although the data, the settings or the records are not those of the checkpoint
    #[arg(long)]
    pub accept_changes: bool,
    /// If the newest checkpoint is damaged, go on from the one before it
    #[arg(long)]
    pub fall_back: bool,
    #[command(flatten)]
    pub watch: WatchArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch evaluate runs/forecast-1
  scratch evaluate runs/forecast-1 --json")]
pub struct EvaluateArgs {
    /// The run folder
    pub run: PathBuf,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch forecast runs/forecast-1 --horizon 24
  scratch forecast runs/forecast-1 --horizon 24 > ahead.csv

The first column, `step`, counts the rows after the last one that is known. Beyond the horizon it was
trained for, the model goes on from its own forecasts.")]
pub struct AheadArgs {
    /// The run folder
    pub run: PathBuf,
    /// Rows to forecast
    #[arg(
        long,
        value_name = "N",
        default_value = "12",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub horizon: usize,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch generate runs/text-1 --prompt \"Once upon a time\" --length 1000
  scratch generate runs/text-1 --temperature 0.5 --top-k 10 --seed 7")]
pub struct GenerateArgs {
    /// The run folder
    pub run: PathBuf,
    /// What the text begins with
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prompt: String,
    /// Characters to write after the prompt (bytes, for a model of bytes)
    #[arg(
        long,
        value_name = "N",
        default_value = "400",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub length: usize,
    /// Below 1 for more regular text, above 1 for wilder; 0 takes the likeliest
    #[arg(
        long,
        value_name = "T",
        default_value = "0.8",
        allow_negative_numbers = true
    )]
    pub temperature: f64,
    /// Choose among so many of the likeliest only
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub top_k: Option<usize>,
    /// Of the choices: the same seed writes the same text
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        value_parser = seed,
        allow_negative_numbers = true
    )]
    pub seed: u64,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch report runs/forecast-1               writes runs/forecast-1/report.html
  scratch report runs/text-1 runs/text-2 --out texts.html

The page is one file that needs nothing beside itself. A run that is still going on can be looked at,
too. It prints where the page is.")]
pub struct ReportArgs {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The page [default: report.html, of one run in its folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch checkpoints runs/text-1
  scratch checkpoints runs/text-1 --pin 1200   keep that of step 1200 whatever comes

Of the others the newest two and the best are kept; `checkpoints` in the settings says how many.")]
pub struct CheckpointsArgs {
    /// The run folder
    pub run: PathBuf,
    /// Keep the checkpoint of that step whatever comes
    #[arg(long, value_name = "STEP", value_parser = seed, allow_negative_numbers = true)]
    pub pin: Option<u64>,
    /// Keep it no longer than the others
    #[arg(long, value_name = "STEP", value_parser = seed, allow_negative_numbers = true)]
    pub unpin: Option<u64>,
}

#[derive(Debug, Args)]
#[group(skip)]
pub struct WatchArgs {
    /// Watch on burn's terminal dashboard (built with --features tui); its keys end the run
    #[arg(long, help_heading = "Run")]
    pub tui: bool,
    /// Write TensorBoard event files to RUN/tensorboard
    #[arg(long, help_heading = "Run")]
    pub tensorboard: bool,
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// cuda, vulkan, wgpu, ndarray or flex [default: the first that is there]
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    pub backend: Option<Backend>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| help.contains("Examples:\n  scratch ")),
                "{}",
                command.get_name()
            );
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
