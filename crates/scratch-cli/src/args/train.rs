//! The options of `train`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use scratch_train::data::Units;

use super::values::{seconds, seed, size};
use super::{DeviceArgs, WatchArgs};

#[derive(Debug, Subcommand)]
pub enum TrainTask {
    /// Forecast numeric series from a CSV file
    Forecast(ForecastArgs),
    /// Learn to write text, character by character
    Text(TextArgs),
    /// Tell which label a sequence of characters has
    Classify(ClassifyArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch train forecast
  scratch train forecast --data sales.csv --column revenue --horizon 3 --season 12
  scratch train forecast --epochs 50 --d-hidden 64 --seed 7 --out runs/wide
  scratch train forecast --print-config > mine.toml
  scratch train forecast --config mine.toml
  scratch train forecast --find-learning-rate
  scratch train forecast --set training.schedule.kind=one_cycle --set training.average.kind=ema

Without --data it learns from the monthly sunspot numbers of 1749 to 1983. The CSV has the oldest row
first. The last fifth of the rows is the test part, which is scored once, at the end.
--print-config shows every setting with its default. Relative paths, in the file of --config too,
start from the current folder.")]
pub struct ForecastArgs {
    /// A CSV file
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// A column by name or position; repeatable [default: the last that holds numbers]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub column: Vec<String>,
    /// Forecast all columns that hold numbers
    #[arg(long, help_heading = "Data", conflicts_with = "column")]
    pub all_columns: bool,
    /// Rows that the model reads before it forecasts
    #[arg(
        long,
        value_name = "N",
        help_heading = "Data",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub window: Option<usize>,
    /// Rows that it forecasts at once
    #[arg(
        long,
        value_name = "N",
        help_heading = "Data",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub horizon: Option<usize>,
    /// Rows of a season, for the seasonal naive forecast [default: estimated]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Data",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub season: Option<usize>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch train text
  scratch train text --data book.txt --max-time 5m
  scratch train text --data notes/ --extension md --extension txt
  scratch train text --data chapters/*.txt --units bytes --d-hidden 512 --dropout 0.2

Without --data it learns from the .rs and .md files below the current folder.
--print-config shows every setting with its default. Relative paths, in the file of --config too,
start from the current folder.")]
pub struct TextArgs {
    /// Files, and folders whose files with one of the extensions are read
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Data")]
    pub data: Vec<PathBuf>,
    /// Which files of a folder are read; repeatable [default: rs, md, with --data also txt]
    #[arg(long, value_name = "EXT", help_heading = "Data")]
    pub extension: Vec<String>,
    /// What the text is made of
    #[arg(long, help_heading = "Data")]
    pub units: Option<UnitsArg>,
    /// Steps of truncated backpropagation through time
    #[arg(
        long,
        value_name = "N",
        help_heading = "Data",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub window: Option<usize>,
    #[command(flatten)]
    pub embedding: EmbeddingArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch train classify
  scratch train classify --data authors/ --epochs 5
  scratch train classify --data reviews.csv --units bytes --max-time 3m

--data is a folder of files LABEL.txt with one sequence a line, or a CSV file with the columns `text`
and `label`. Without it the language of surnames is told.
--print-config shows every setting with its default. Relative paths, in the file of --config too,
start from the current folder.")]
pub struct ClassifyArgs {
    /// A folder of LABEL.txt files, or a CSV file
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// What the sequences are made of
    #[arg(long, help_heading = "Data")]
    pub units: Option<UnitsArg>,
    #[command(flatten)]
    pub embedding: EmbeddingArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
#[group(skip)]
pub struct EmbeddingArgs {
    /// Width of a character's embedding
    #[arg(
        long,
        value_name = "N",
        help_heading = "Model",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub d_embedding: Option<usize>,
}

#[derive(Debug, Args)]
#[group(skip)]
pub struct ModelArgs {
    /// Width of the hidden state
    #[arg(
        long,
        value_name = "N",
        help_heading = "Model",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub d_hidden: Option<usize>,
    /// Layers of the LSTM
    #[arg(
        long,
        value_name = "N",
        help_heading = "Model",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub num_layers: Option<usize>,
    /// Share of the outputs that is dropped in training, 0 to less than 1
    #[arg(
        long,
        value_name = "P",
        help_heading = "Model",
        allow_negative_numbers = true
    )]
    pub dropout: Option<f64>,
}

#[derive(Debug, Args)]
#[group(skip)]
pub struct TrainingArgs {
    /// Passes over the training data
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub epochs: Option<usize>,
    /// The best model within so much time (90s, 3m, 1h30m); the only limit without --epochs
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Training",
        value_parser = seconds,
        allow_negative_numbers = true
    )]
    pub max_time: Option<f64>,
    /// Stop after so many validations without a better one
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub patience: Option<usize>,
    /// The highest learning rate
    #[arg(
        long,
        value_name = "X",
        help_heading = "Training",
        allow_negative_numbers = true
    )]
    pub learning_rate: Option<f64>,
    /// Sequences that are learned from at once
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        value_parser = size,
        allow_negative_numbers = true
    )]
    pub batch_size: Option<usize>,
    /// Of weights, dropout and shuffles
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        value_parser = seed,
        allow_negative_numbers = true
    )]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
#[group(skip)]
pub struct RunArgs {
    /// The run folder, new or empty [default: runs/TASK-N]
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub out: Option<PathBuf>,
    /// Settings in TOML (or another run's config.toml); flags go before them
    #[arg(long, value_name = "FILE.toml", help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// Any setting by its name; repeatable: training.schedule.kind=one_cycle
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Run")]
    pub set: Vec<String>,
    /// Print the settings that result from defaults, file and flags, and do nothing
    #[arg(long, help_heading = "Run")]
    pub print_config: bool,
    /// Do not train: try rising learning rates on a copy, suggest one, and plot the losses
    #[arg(long, value_name = "FILE.svg", num_args = 0..=1, default_missing_value = "learning-rate.svg", help_heading = "Run")]
    pub find_learning_rate: Option<PathBuf>,
    #[command(flatten)]
    pub watch: WatchArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum UnitsArg {
    // Comments, for documentation would make --help twice as long.
    // Unicode characters seen in the training part.
    Chars,
    // Bytes: any text can be read and written.
    Bytes,
}

impl From<UnitsArg> for Units {
    fn from(units: UnitsArg) -> Self {
        match units {
            UnitsArg::Chars => Self::Chars,
            UnitsArg::Bytes => Self::Bytes,
        }
    }
}
