//! The folder of a run.
//!
//! ```text
//! RUN/
//!   config.toml     every setting, resolved
//!   metrics.csv     step, epoch, train_loss, valid_loss and the task's own metrics
//!   timing.csv      step, seconds, learning_rate, targets_per_second
//!   checkpoints/    see `checkpoint`
//!   plots/
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::callback::{Callback, Ending, Plan, StepReport};
use crate::checkpoint::{Checkpoints, write_atomically};
use crate::error::{CheckpointError, TrainError};
use crate::progress::Validation;
use crate::settings::Settings;

/// A folder that is no run, or cannot become one.
#[derive(Debug, Error)]
pub enum RunError {
    /// The place is taken.
    #[error("{}: expected a new or empty folder, found {found}", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The folder is no run.
    #[error("{}: expected a run folder with config.toml, found {found}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The settings cannot be read.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What does not fit, with its line.
        reason: String,
    },
    /// A run of another task.
    #[error("{}: expected a run of the task `{expected}`, found `{found}`", path.display())]
    OtherTask {
        /// The folder.
        path: PathBuf,
        /// The task asked for.
        expected: &'static str,
        /// The task of the run.
        found: String,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] CheckpointError),
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

/// What every run's settings begin with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    format: u32,
    task: String,
}

/// Version of the layout of `config.toml`.
const FORMAT: u32 = 1;

impl RunFolder {
    /// A new run at `root`, with its settings written.
    ///
    /// # Errors
    ///
    /// If something is there already, or the folder cannot be made.
    pub fn create(
        root: impl Into<PathBuf>,
        task: &str,
        config: &impl Serialize,
    ) -> Result<Self, RunError> {
        let root = root.into();
        match fs::read_dir(&root) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    let found = if root.join("config.toml").exists() {
                        "another run"
                    } else {
                        "files"
                    };
                    return Err(RunError::Taken {
                        path: root,
                        found: found.into(),
                    });
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) if root.is_file() => {
                return Err(RunError::Taken {
                    path: root,
                    found: "a file".into(),
                });
            }
            Err(source) => return Err(RunError::Io { path: root, source }),
        }
        let run = Self { root };
        let text = run.config_text(task, config)?;
        for folder in [&run.root, &run.plots()] {
            fs::create_dir_all(folder).map_err(|source| RunError::Io {
                path: folder.clone(),
                source,
            })?;
        }
        write_atomically(&run.config_path(), text.as_bytes())?;
        Ok(run)
    }

    /// Writes the settings of a run that goes on with others than it began with.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn update_config(&self, task: &str, config: &impl Serialize) -> Result<(), RunError> {
        let text = self.config_text(task, config)?;
        Ok(write_atomically(&self.config_path(), text.as_bytes())?)
    }

    /// The run at `root`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, RunError> {
        let run = Self { root: root.into() };
        if run.config_path().is_file() {
            return Ok(run);
        }
        let found = match run.root.metadata() {
            Ok(meta) if meta.is_dir() => "a folder without it".into(),
            Ok(_) => "a file".into(),
            Err(error) if error.kind() == ErrorKind::NotFound => "nothing of that name".into(),
            Err(error) => error.to_string(),
        };
        Err(RunError::NotARun {
            path: run.root,
            found,
        })
    }

    /// The task of the run.
    ///
    /// # Errors
    ///
    /// If the settings cannot be read.
    pub fn task(&self) -> Result<String, RunError> {
        Ok(self.read_config()?.0.task)
    }

    /// The settings of a run of `task`.
    ///
    /// # Errors
    ///
    /// If the run is of another task, or a key is unknown or does not fit.
    pub fn config<C: for<'a> Deserialize<'a>>(&self, task: &'static str) -> Result<C, RunError> {
        let (header, rest) = self.read_config()?;
        if header.task != task {
            return Err(RunError::OtherTask {
                path: self.root.clone(),
                expected: task,
                found: header.task,
            });
        }
        rest.read().map_err(|reason| RunError::Config {
            path: self.config_path(),
            reason,
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Where plots go.
    pub fn plots(&self) -> PathBuf {
        self.root.join("plots")
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.root.join("checkpoints"))
    }

    /// Writes `value` as JSON beside the settings.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RunError> {
        let path = self.root.join(name);
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| RunError::Config {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        Ok(write_atomically(&path, &bytes)?)
    }

    /// Reads what [`write_json`](Self::write_json) wrote.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is of another form.
    pub fn read_json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, RunError> {
        let path = self.root.join(name);
        let bytes = fs::read(&path).map_err(|source| RunError::Io {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|error| RunError::Config {
            path,
            reason: error.to_string(),
        })
    }

    /// The validations written so far.
    ///
    /// # Errors
    ///
    /// If `metrics.csv` cannot be read.
    pub fn curve(&self) -> Result<Vec<CurvePoint>, TrainError> {
        let path = self.metrics_path();
        let mut reader = csv::Reader::from_path(&path).map_err(|error| csv_error(&path, error))?;
        let rows = reader.deserialize();
        rows.collect::<Result<_, _>>()
            .map_err(|error| csv_error(&path, error))
    }

    fn metrics_path(&self) -> PathBuf {
        self.root.join("metrics.csv")
    }

    fn timing_path(&self) -> PathBuf {
        self.root.join("timing.csv")
    }

    fn config_text(&self, task: &str, config: &impl Serialize) -> Result<String, RunError> {
        let path = self.config_path();
        let header = Header {
            format: FORMAT,
            task: task.into(),
        };
        Ok(to_toml(&path, &header)? + &to_toml(&path, config)?)
    }

    fn read_config(&self) -> Result<(Header, Settings), RunError> {
        let path = self.config_path();
        let text = fs::read_to_string(&path).map_err(|source| RunError::Io {
            path: path.clone(),
            source,
        })?;
        let invalid = |reason| RunError::Config {
            path: path.clone(),
            reason,
        };
        let mut settings = Settings::parse(text).map_err(invalid)?;
        let header: Header = settings.take(&["format", "task"]).read().map_err(invalid)?;
        if header.format != FORMAT {
            return Err(RunError::Config {
                path: path.clone(),
                reason: format!("expected format {FORMAT}, found {}", header.format),
            });
        }
        Ok((header, settings))
    }
}

/// A row of `metrics.csv`, without the task's own metrics.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CurvePoint {
    /// The optimizer step.
    pub step: u64,
    /// Epochs done.
    pub epoch: usize,
    /// Mean training loss since the row before.
    pub train_loss: f64,
    /// Loss on the validation data.
    pub valid_loss: f64,
}

/// Writes `metrics.csv` and `timing.csv`, and tells another observer.
///
/// A file that cannot be written ends the recording, not the run; [`finish`](Self::finish) says so.
pub struct Recorder<'a> {
    next: &'a mut dyn Callback,
    metrics: RowWriter,
    timing: RowWriter,
    failure: Option<TrainError>,
}

impl<'a> Recorder<'a> {
    /// Goes on in the files of `run`; rows past `step` (of a run that was cut off after its last
    /// checkpoint) are taken out first.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn new(run: &RunFolder, step: u64, next: &'a mut dyn Callback) -> Result<Self, TrainError> {
        Ok(Self {
            next,
            metrics: RowWriter::open(run.metrics_path(), step)?,
            timing: RowWriter::open(run.timing_path(), step)?,
            failure: None,
        })
    }

    /// Whether all was written.
    ///
    /// # Errors
    ///
    /// The first file that could not be written.
    pub fn finish(self) -> Result<(), TrainError> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn note(&mut self, result: Result<(), TrainError>) {
        if let Err(failure) = result {
            self.failure.get_or_insert(failure);
        }
    }
}

impl Callback for Recorder<'_> {
    fn started(&mut self, plan: &Plan) {
        self.next.started(plan);
    }

    fn progressed(&mut self, report: &StepReport) {
        let row = [
            ("step", report.step.to_string()),
            ("seconds", format!("{:.3}", report.seconds)),
            ("learning_rate", format!("{:e}", report.learning_rate)),
            (
                "targets_per_second",
                format!("{:.1}", report.targets_per_second),
            ),
        ];
        let result = self.timing.write(&row);
        self.note(result);
        self.next.progressed(report);
    }

    fn validated(&mut self, validation: &Validation, best: bool) {
        let mut row = vec![
            ("step", validation.step.to_string()),
            ("epoch", validation.epoch.to_string()),
            ("train_loss", validation.train_loss.to_string()),
            ("valid_loss", validation.valid.loss.to_string()),
        ];
        let names: Vec<String> = validation
            .valid
            .metrics
            .keys()
            .map(|name| format!("valid_{name}"))
            .collect();
        row.extend(
            names
                .iter()
                .map(String::as_str)
                .zip(validation.valid.metrics.values().map(f64::to_string)),
        );
        let result = self.metrics.write(&row);
        self.note(result);
        self.next.validated(validation, best);
    }

    fn saved(&mut self, folder: &Path) {
        self.next.saved(folder);
    }

    fn ended(&mut self, ending: Ending) {
        self.next.ended(ending);
    }
}

/// A CSV file that grows row by row.
struct RowWriter {
    path: PathBuf,
    file: BufWriter<File>,
    is_empty: bool,
}

impl RowWriter {
    fn open(path: PathBuf, step: u64) -> Result<Self, TrainError> {
        let kept = rows_until(&path, step)?;
        let io = |source| TrainError::io(&path, source);
        let mut options = OpenOptions::new();
        let file = options.create(true).write(true).truncate(true).open(&path);
        let mut file = BufWriter::new(file.map_err(io)?);
        file.write_all(kept.as_bytes()).map_err(io)?;
        file.flush().map_err(io)?;
        Ok(Self {
            is_empty: kept.is_empty(),
            path,
            file,
        })
    }

    fn write(&mut self, row: &[(&str, String)]) -> Result<(), TrainError> {
        let mut writer = csv::Writer::from_writer(&mut self.file);
        let header = row.iter().map(|(name, _)| *name);
        let cells = row.iter().map(|(_, cell)| cell);
        let written = if self.is_empty {
            writer
                .write_record(header)
                .and_then(|()| writer.write_record(cells))
        } else {
            writer.write_record(cells)
        };
        written.map_err(|error| csv_error(&self.path, error))?;
        drop(writer);
        self.is_empty = false;
        self.file
            .flush()
            .map_err(|source| TrainError::io(&self.path, source))
    }
}

/// The header and the rows whose first cell, the step, is at most `step`.
fn rows_until(path: &Path, step: u64) -> Result<String, TrainError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(source) => return Err(TrainError::io(path, source)),
    };
    let of_row = |line: &str| {
        line.split(',')
            .next()
            .and_then(|cell| cell.parse::<u64>().ok())
    };
    // The header has no number, and a line without its end was cut off.
    let kept = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n') && of_row(line).is_none_or(|row| row <= step));
    Ok(kept.collect())
}

fn to_toml(path: &Path, value: &impl Serialize) -> Result<String, RunError> {
    toml::to_string(value).map_err(|error| RunError::Config {
        path: path.into(),
        reason: error.to_string(),
    })
}

fn csv_error(path: &Path, error: csv::Error) -> TrainError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    TrainError::io(path, source)
}
