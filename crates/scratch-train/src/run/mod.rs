//! The folder of a run.
//!
//! ```text
//! RUN/
//!   config.toml     every setting, resolved
//!   metrics.csv     a row for each validation: step, epoch, train_loss, valid_loss, valid_*
//!   steps.csv       a row every so many steps: loss, learning rate, norm of the gradient
//!   log.jsonl       both, as lines of JSON
//!   timing.csv      step, seconds, targets_per_second: what no two runs share
//!   system.json     program, machine, data and seed: what it takes to repeat the run
//!   checkpoints/    see `checkpoint`
//!   plots/
//!   lock            held by the process that trains; free again when it ends, however it ends
//! ```

mod record;
mod recorder;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoint::Checkpoints;
use crate::disk::{PARTIAL, read_bounded, write_atomically};
use crate::error::TrainError;
use crate::lock::{FolderLock, LOCK, LockError};
use crate::settings::Settings;

pub use recorder::Recorder;

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
    /// Another process trains in the folder.
    #[error("{}: expected a run that nobody trains, found it in use by {holder}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Which process.
        holder: String,
    },
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

/// What may lie in the folder before `config.toml` makes it a run.
const BEFORE_CONFIG: [&str; 2] = [LOCK, "vocabulary.json"];

/// More is taken for a mistake.
const MOST_CONFIG: u64 = 1 << 20;
const MOST_JSON: u64 = 1 << 28;

impl RunFolder {
    /// A new, empty folder for a run at `root`, and the right to train in it. It becomes a run with
    /// [`write_config`](Self::write_config), which comes after whatever else a run needs.
    ///
    /// # Errors
    ///
    /// If something is there already, or the folder cannot be made.
    pub fn create(root: impl Into<PathBuf>) -> Result<(Self, FolderLock), RunError> {
        let run = Self { root: root.into() };
        let taken = |found: &str| RunError::Taken {
            path: run.root.clone(),
            found: found.into(),
        };
        if run.root.is_file() {
            return Err(taken("a file"));
        }
        if let Some(found) = run.occupied()? {
            return Err(taken(found));
        }
        fs::create_dir_all(&run.root).map_err(io(&run.root))?;
        let lock = run.lock()?;
        // Somebody else may have been faster.
        match run.occupied()? {
            Some(found) => Err(taken(found)),
            None => Ok((run, lock)),
        }
    }

    /// The right to train in the folder, for one process at a time. It ends with the process.
    ///
    /// # Errors
    ///
    /// If another process has it, or the lock cannot be had.
    pub fn lock(&self) -> Result<FolderLock, RunError> {
        FolderLock::acquire(&self.root).map_err(|error| match error {
            LockError::Held { by } => RunError::Locked {
                path: self.root.clone(),
                holder: by,
            },
            LockError::Io(error) => io(&self.root.join(LOCK))(error),
        })
    }

    /// Writes the settings of a run, in place of those that were there.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_config(&self, task: &str, config: &impl Serialize) -> Result<(), RunError> {
        let path = self.config_path();
        let header = Header {
            format: FORMAT,
            task: task.into(),
        };
        let text = to_toml(&path, &header)? + &to_toml(&path, config)?;
        write_atomically(&path, text.as_bytes()).map_err(io(&path))
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

    /// Makes the folder of plots, if it is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub(crate) fn make_plots(&self) -> Result<(), RunError> {
        let folder = self.plots();
        fs::create_dir_all(&folder).map_err(io(&folder))
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
        write_atomically(&path, &bytes).map_err(io(&path))
    }

    /// Reads what [`write_json`](Self::write_json) wrote.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is of another form.
    pub fn read_json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, RunError> {
        let path = self.root.join(name);
        let bytes = match read_bounded(&path, MOST_JSON) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(RunError::Config {
                    path,
                    reason: "expected a file of the run, found nothing of that name".into(),
                });
            }
            read => read.map_err(io(&path))?,
        };
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

    /// Whether anything was recorded.
    pub(crate) fn has_records(&self) -> bool {
        let records = [recorder::METRICS, recorder::STEPS, recorder::LOG];
        let sizes =
            records.map(|name| self.root.join(name).metadata().map_or(0, |meta| meta.len()));
        sizes.iter().any(|&size| size > 0)
    }

    fn metrics_path(&self) -> PathBuf {
        self.root.join(recorder::METRICS)
    }

    /// What is in the folder that a new run would not have made.
    fn occupied(&self) -> Result<Option<&'static str>, RunError> {
        if self.config_path().exists() {
            return Ok(Some("another run"));
        }
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&self.root)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(io(&self.root))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // What a run that was cut off before its settings were written has left.
            if !BEFORE_CONFIG.contains(&&*name) && !name.ends_with(PARTIAL) {
                return Ok(Some("files"));
            }
        }
        Ok(None)
    }

    fn read_config(&self) -> Result<(Header, Settings), RunError> {
        let path = self.config_path();
        let bytes = read_bounded(&path, MOST_CONFIG).map_err(io(&path))?;
        let text = String::from_utf8(bytes).map_err(|error| RunError::Config {
            path: path.clone(),
            reason: error.to_string(),
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

fn to_toml(path: &Path, value: &impl Serialize) -> Result<String, RunError> {
    toml::to_string(value).map_err(|error| RunError::Config {
        path: path.into(),
        reason: error.to_string(),
    })
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.to_path_buf();
    move |source| RunError::Io { path, source }
}

fn csv_error(path: &Path, error: csv::Error) -> TrainError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    TrainError::io(path, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_did_not_become_a_run_is_free() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunFolder::create(folder.path()).unwrap());
        fs::write(folder.path().join("config.toml.partial"), "format").unwrap();
        drop(RunFolder::create(folder.path()).unwrap());
        fs::write(folder.path().join("mine"), []).unwrap();
        let error = RunFolder::create(folder.path()).unwrap_err().to_string();
        assert!(error.contains("found files"), "{error}");
    }
}
