//! What the user is told when something does not work: one line of cause, one of what to do, and
//! an exit code.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use scratch_train::data::DataError;
use scratch_train::run::RunError;
use scratch_train::tasks::TaskError;
use scratch_train::{BackendError, CheckpointError, TrainError};

use crate::summary::shell_word;

/// Why the program ends without a result.
#[derive(Debug)]
pub struct Failure {
    cause: String,
    help: String,
    code: u8,
}

/// Where something went wrong: a file that cannot be written is the fault of `--out` before the
/// training begins, and a failed run afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Input and settings are being read.
    Preparing,
    /// The model is being trained.
    Training,
}

/// Exit code for input, settings, backends and run folders that do not fit.
const INPUT: u8 = 2;
/// Exit code for runs that fail on their way.
const RUNNING: u8 = 1;

impl Failure {
    /// Something that was given does not fit.
    pub fn input(cause: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            help: help.into(),
            code: INPUT,
        }
    }

    /// What was given fits, but the work could not be done.
    pub fn running(cause: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code: RUNNING,
            ..Self::input(cause, help)
        }
    }

    /// Names the run in what is to be done: `RUN` stands for it.
    pub fn of_run(mut self, run: &Path) -> Self {
        let run = shell_word(&run.display().to_string());
        self.help = self.help.replace("RUN", &run);
        self
    }

    /// The error of a task.
    pub fn task(error: &TaskError, phase: Phase) -> Self {
        let help = help(error);
        if let TaskError::Train(TrainError::Interrupted { signal, .. }) = error {
            return Self {
                cause: error.to_string(),
                help,
                code: 128 + *signal as u8,
            };
        }
        if phase == Phase::Training || matches!(error, TaskError::Report(_)) {
            Self::running(error.to_string(), help)
        } else {
            Self::input(error.to_string(), help)
        }
    }

    /// Writes both lines to the standard error stream.
    pub fn print(&self) -> ExitCode {
        let mut stderr = std::io::stderr();
        // Nobody is left to be told if this fails.
        let word = if self.code > 128 { "stopped" } else { "error" };
        let _ = writeln!(stderr, "{word}: {}", one_line(&self.cause));
        let _ = writeln!(stderr, "help: {}", one_line(&self.help));
        ExitCode::from(self.code)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::task(&error.into(), Phase::Preparing)
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        let help = match &error {
            BackendError::Unknown { .. } | BackendError::NoDevice { .. } => {
                "scratch devices lists what there is; without --backend one is chosen".into()
            }
            BackendError::NotBuiltIn { backend } => format!(
                "cargo run --release --features {backend} -- ...; scratch devices lists what \
                 there is"
            ),
            BackendError::None => "build with the default features".into(),
        };
        Self::input(error.to_string(), help)
    }
}

/// `text` in one line, whatever a library put into its message.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn help(error: &TaskError) -> String {
    match error {
        TaskError::Data(DataError::Setting { field, .. }) => setting_help(field),
        TaskError::Data(error) => data_help(error).into(),
        TaskError::Train(error) => train_help(error),
        TaskError::Run(error) => run_help(error).into(),
        TaskError::Report(_) => "the model is saved; check the folder's permissions and the space \
                                 left, then: scratch evaluate RUN"
            .into(),
        TaskError::Sampling(_) => "change --temperature or --top-k".into(),
        TaskError::Request { what: "epochs", .. } => {
            "--epochs counts those already done: give more, or none".into()
        }
        TaskError::Request { what, .. } => setting_help(what),
    }
}

fn data_help(error: &DataError) -> &'static str {
    match error {
        DataError::NotFound { .. } => {
            "give --data something that exists; a run's own data are named in its config.toml"
        }
        DataError::Directory { .. } => "name a file of that folder with --data",
        DataError::NotADirectory { .. } => "correct the path given with --data",
        DataError::Io { .. } => "check that the file can be read",
        DataError::Empty { .. } | DataError::NoRows { .. } => {
            "check that it is the right file: there is nothing to learn from"
        }
        DataError::NotUtf8 { .. } => {
            "convert the file to UTF-8 (iconv -f LATIN1 -t UTF-8), or leave it out"
        }
        DataError::NoFiles { .. } => {
            "name other files or folders with --data; of a folder, train text reads the endings \
             given with --extension"
        }
        DataError::TooMuch { .. } => "give a part of the data",
        DataError::Fields { .. } | DataError::NoLabel { .. } => "correct that line of the file",
        DataError::Column { .. } => {
            "choose columns that are there with --column; train classify reads `text` and `label`"
        }
        DataError::NoNumericColumn { .. } => "give a CSV with numbers, or choose with --column",
        DataError::NotANumber { .. } => {
            "correct or remove that line, or choose other columns with --column"
        }
        DataError::TooShort { .. } => {
            "give more data, or make --window, --horizon or --batch-size smaller"
        }
        DataError::Setting { .. } => "change the setting",
        DataError::BatchTooLarge { .. } => "make --batch-size, --window or --horizon smaller",
        DataError::OutOfScale { .. } => "correct or remove that row",
        DataError::TooFewLabels { .. } | DataError::NoTrainingExample { .. } => {
            "give more sequences, or leave that label out"
        }
    }
}

/// Where a setting is changed, by its name: `model.d_hidden`.
fn setting_help(field: &str) -> String {
    const FLAGS: [&str; 14] = [
        "window",
        "horizon",
        "season",
        "batch_size",
        "d_embedding",
        "d_hidden",
        "num_layers",
        "dropout",
        "epochs",
        "max_time",
        "patience",
        "learning_rate",
        "length",
        "units",
    ];
    let name = field.rsplit('.').next().unwrap_or(field);
    if FLAGS.contains(&name) {
        let flag = name.replace('_', "-");
        format!("change --{flag}, or `{name}` in the settings")
    } else {
        format!("change `{field}` in the settings; --print-config shows all")
    }
}

/// The same for the field of an LSTM's settings, which a model has under `model.lstm`, but for those
/// of the model itself.
fn lstm_help(field: &str) -> String {
    let of_model = ["d_hidden", "num_layers", "regularization.dropout"].contains(&field);
    let nested = ["cell.", "init.", "regularization.", "d_proj", "connection"];
    if !of_model && nested.iter().any(|start| field.starts_with(start)) {
        setting_help(&format!("model.lstm.{field}"))
    } else if field.starts_with("lstm.") {
        setting_help(&format!("model.{field}"))
    } else {
        setting_help(field)
    }
}

fn train_help(error: &TrainError) -> String {
    match error {
        TrainError::Config { field, .. } => setting_help(field),
        TrainError::Lstm(error) => lstm_help(error.field),
        TrainError::NoData { .. } => "give more data".into(),
        TrainError::Diverged {
            last_good: Some(_), ..
        } => {
            "train again with a lower --learning-rate; scratch checkpoints RUN lists what was saved"
                .into()
        }
        TrainError::Diverged { .. } => "train again with a lower --learning-rate".into(),
        TrainError::Interrupted { .. } => "go on with: scratch resume RUN".into(),
        TrainError::Skipping { .. } => "train again with a lower --learning-rate".into(),
        TrainError::Changed { .. } => {
            "restore what differs, or, if it is meant so: scratch resume RUN --accept-changes"
                .into()
        }
        TrainError::NewestDamaged {
            previous: Some(_), ..
        } => "scratch resume RUN --fall-back goes on from the one before".into(),
        TrainError::NewestDamaged { .. } => "restore the file from a copy, or train again".into(),
        TrainError::Panicked { .. } => {
            "scratch resume RUN goes on from the last checkpoint; report it if it happens again"
                .into()
        }
        TrainError::Callback { .. } => "please report it".into(),
        TrainError::Checkpoint(error) => checkpoint_help(error).into(),
        TrainError::Io { .. } => DISK.into(),
    }
}

fn checkpoint_help(error: &CheckpointError) -> &'static str {
    match error {
        CheckpointError::Io { .. } => DISK,
        CheckpointError::NotACheckpoint { .. } => {
            "name a run that was trained; one that has lost its checkpoints must be trained again"
        }
        CheckpointError::NotValidated { .. } => "go on with: scratch resume RUN",
        CheckpointError::Taken { .. } => "go on with that run, or give another folder",
        CheckpointError::Locked { .. } => {
            "wait until it ends, or end it; a run is trained by one at a time"
        }
        CheckpointError::Version { .. } => {
            "go on with the version of the program that wrote it, or train again"
        }
        CheckpointError::Damaged { .. } | CheckpointError::Format { .. } => {
            "restore the file from a copy, or go on from the checkpoint before it: scratch resume \
             RUN --fall-back"
        }
        CheckpointError::Architecture { .. } | CheckpointError::State { .. } => {
            "the run's config.toml or its data are not those it was trained with: restore them"
        }
    }
}

fn run_help(error: &RunError) -> &'static str {
    match error {
        RunError::Taken { .. } => {
            "choose another folder with --out; scratch resume RUN goes on with a run"
        }
        RunError::NotARun { .. } => "name a folder that scratch train has made: runs/forecast-1",
        RunError::Config { .. } => "correct or restore the file",
        RunError::OtherTask { .. } => "name a run of that task",
        RunError::Io { .. } => DISK,
        RunError::Locked { .. } => {
            "wait until it ends, or end it; a run is trained by one at a time"
        }
    }
}

const DISK: &str = "check the path, its permissions and the space left";
