//! Checkpoints: everything a run needs to go on, in one folder.
//!
//! ```text
//! checkpoints/
//!   step-00000120/
//!     model.bpk         weights (burnpack, by path)
//!     optimizer.bpk     the optimizer's state, in the order of names
//!     carried.bpk       the recurrent state at this place in the data
//!     gradients.bpk     the sum of gradients of windows that are no whole step yet; if there are any
//!     average.bpk       averaged weights; if there are any
//!     best.bpk          weights of the best validation, if they are none of the above
//!     progress.json     the place in the data, best and last validation, state of the schedule
//!     callbacks.json    what callbacks remember, the length and hash of the records among it
//!     clock.json        seconds spent
//!     manifest.json     sizes and SHA-256 of the files above, the program, machine and settings
//!   step-00000120.pinned     an empty file: this checkpoint is never removed
//! ```
//!
//! A folder is written beside its final name, synced and renamed, so that it is there whole or not
//! at all, and it stands for itself: no file outside it is needed to go on. What is in the folder
//! `checkpoints` is all there is to know; no list beside it could say otherwise.

mod content;
mod folder;
mod manifest;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use scratch_lstm::RecurrentState;
use serde::Serialize;

use crate::disk::{Disk, FileSystem, PARTIAL as STAGING};
use crate::error::CheckpointError;
use crate::lock::{FolderLock, LOCK, LockError};

pub(crate) use content::Snapshot;
pub use folder::Checkpoint;
pub(crate) use manifest::hex;
pub use manifest::{Entry, Manifest};

/// The checkpoints of a run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    keep_last: usize,
    disk: Arc<dyn Disk>,
}

/// A checkpoint's folder, not yet looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The folder.
    pub path: PathBuf,
    /// Steps of the optimizer.
    pub step: u64,
    /// Which of several of the same step, from 0, the newest last.
    pub generation: u64,
    /// Whether it is kept whatever comes.
    pub pinned: bool,
}

impl Checkpoints {
    /// Those in `folder`, which is made when the first is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            keep_last: 2,
            disk: Arc::new(FileSystem),
        }
    }

    /// Keeps so many of the newest, at least 1, beside the best and those that are pinned; the
    /// trainer says how many, by [`CheckpointConfig`](crate::CheckpointConfig).
    pub(crate) fn with_keep_last(mut self, keep_last: usize) -> Self {
        self.keep_last = keep_last.max(1);
        self
    }

    /// Writes through `disk`.
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// The folder of all.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All there are, the oldest first.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read; none at all is no error.
    pub fn list(&self) -> Result<Vec<Listed>, CheckpointError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(&self.folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(io(&self.folder))?.path();
            if let Some((step, generation)) =
                path.file_name().and_then(|name| parse(name.to_str()?))
            {
                let pinned = pin_of(&path).exists();
                found.push(Listed {
                    path,
                    step,
                    generation,
                    pinned,
                });
            }
        }
        found.sort_by_key(|one| (one.step, one.generation));
        Ok(found)
    }

    /// The newest one.
    ///
    /// # Errors
    ///
    /// If there is none or the folder cannot be read.
    pub fn last(&self) -> Result<PathBuf, CheckpointError> {
        match self.list()?.pop() {
            Some(last) => Ok(last.path),
            None => Err(CheckpointError::NotACheckpoint {
                path: self.folder.clone(),
                found: "no folder of a checkpoint".into(),
            }),
        }
    }

    /// Keeps the checkpoint of that step whatever comes, or no more.
    ///
    /// # Errors
    ///
    /// If there is none of that step, or the folder cannot be written.
    pub fn pin(&self, step: u64, pinned: bool) -> Result<PathBuf, CheckpointError> {
        let list = self.list()?;
        let Some(one) = list.iter().rfind(|one| one.step == step) else {
            let steps: Vec<String> = list.iter().map(|one| one.step.to_string()).collect();
            return Err(CheckpointError::NotACheckpoint {
                path: self.folder.join(name(step, 0)),
                found: match steps.is_empty() {
                    true => "none at all".into(),
                    false => format!("those of the steps {}", steps.join(", ")),
                },
            });
        };
        let pin = pin_of(&one.path);
        let done = match pinned {
            true => fs::write(&pin, []),
            false if one.pinned => fs::remove_file(&pin),
            false => Ok(()),
        };
        done.map_err(io(&pin))?;
        Ok(one.path.clone())
    }

    /// Makes the folder, for one process at a time.
    pub(crate) fn begin(&self) -> Result<FolderLock, CheckpointError> {
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(io(folder))?;
        if let Some(above) = folder.parent().filter(|above| above.is_dir()) {
            FileSystem.sync_folder(above).map_err(io(above))?;
        }
        FolderLock::acquire(folder).map_err(|error| match error {
            LockError::Held { by } => CheckpointError::Locked {
                path: folder.clone(),
                holder: by,
            },
            LockError::Io(error) => io(&folder.join(LOCK))(error),
        })
    }

    /// Writes a checkpoint and removes those that are neither among the last, nor of the step
    /// `best`, nor pinned.
    pub(crate) fn save<M: Module, S: RecurrentState>(
        &self,
        snapshot: &Snapshot<'_, M, S>,
        best: Option<u64>,
    ) -> Result<PathBuf, CheckpointError> {
        let files = snapshot.to_files()?;
        let step = snapshot.progress.step;
        let manifest = Manifest::new(
            step,
            snapshot.environment.clone(),
            snapshot.facts.clone(),
            &files,
        );
        let manifest = manifest.to_bytes();
        if manifest.len() as u64 > manifest::MOST_BYTES {
            return Err(CheckpointError::Format {
                path: self.folder.clone(),
                reason: format!(
                    "expected facts of at most {} bytes in all, found {}",
                    manifest::MOST_BYTES,
                    manifest.len()
                ),
            });
        }
        // A run that was stopped amid a step can come to the same one again.
        let list = self.list()?;
        let same = list.iter().rfind(|one| one.step == step);
        let name = name(step, same.map_or(0, |one| one.generation + 1));
        let path = self.publish(&name, &files, &manifest)?;
        self.prune(best)?;
        Ok(path)
    }

    /// Takes checkpoints that cannot be read out of the list, without removing them.
    pub(crate) fn set_aside(&self, path: &Path) -> Result<PathBuf, CheckpointError> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".damaged");
        let mut aside = path.with_file_name(&name);
        for number in 1.. {
            if !aside.exists() {
                break;
            }
            let mut numbered = name.clone();
            numbered.push(format!("-{number}"));
            aside = path.with_file_name(numbered);
        }
        self.disk.rename(path, &aside).map_err(io(path))?;
        Ok(aside)
    }

    /// Writes the files beside the final name, syncs them, and renames the folder.
    fn publish(
        &self,
        name: &str,
        files: &[(&str, Vec<u8>)],
        manifest: &[u8],
    ) -> Result<PathBuf, CheckpointError> {
        let path = self.folder.join(name);
        let staging = self.folder.join(format!(".{name}{STAGING}"));
        let disk = &self.disk;
        disk.remove_folder(&staging).map_err(io(&staging))?;
        disk.create_folder(&staging).map_err(io(&staging))?;
        for (file, bytes) in files {
            let file = staging.join(file);
            disk.write(&file, bytes).map_err(io(&file))?;
        }
        let file = staging.join(manifest::MANIFEST);
        disk.write(&file, manifest).map_err(io(&file))?;
        disk.sync_folder(&staging).map_err(io(&staging))?;
        disk.rename(&staging, &path).map_err(io(&path))?;
        disk.sync_folder(&self.folder).map_err(io(&self.folder))?;
        Ok(path)
    }

    fn prune(&self, best: Option<u64>) -> Result<(), CheckpointError> {
        let list = self.list()?;
        let old = list.len().saturating_sub(self.keep_last);
        // Of several of the best step, the first was written when it was validated.
        let best = list.iter().position(|one| Some(one.step) == best);
        for (position, one) in list.iter().enumerate().take(old) {
            if one.pinned || Some(position) == best {
                continue;
            }
            // Renamed first, so that a crash leaves no folder that looks like a checkpoint.
            let name = one.path.file_name().unwrap_or_default().to_string_lossy();
            let removing = self.folder.join(format!(".{name}{STAGING}"));
            self.disk
                .rename(&one.path, &removing)
                .map_err(io(&one.path))?;
        }
        for entry in fs::read_dir(&self.folder).map_err(io(&self.folder))? {
            let entry = entry.map_err(io(&self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".step-") && name.ends_with(STAGING) {
                let path = entry.path();
                self.disk.remove_folder(&path).map_err(io(&path))?;
            }
        }
        Ok(())
    }
}

/// `step-00000120`, and `step-00000120-1` for the next of that step.
fn name(step: u64, generation: u64) -> String {
    match generation {
        0 => format!("step-{step:08}"),
        generation => format!("step-{step:08}-{generation}"),
    }
}

/// Step and generation of a name.
fn parse(folder: &str) -> Option<(u64, u64)> {
    let rest = folder.strip_prefix("step-")?;
    let (step, generation) = match rest.split_once('-') {
        Some((step, generation)) => (step, generation.parse().ok()?),
        None => (rest, 0),
    };
    let step = step.parse().ok()?;
    // Names that we would not write are none of ours.
    (name(step, generation) == folder).then_some((step, generation))
}

fn pin_of(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.file_name().unwrap_or_default().to_os_string();
    name.push(".pinned");
    checkpoint.with_file_name(name)
}

fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain structs serialize");
    bytes.push(b'\n');
    bytes
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_path_buf();
    move |source| CheckpointError::Io { path, source }
}

fn damaged(path: &Path, expected: impl Into<String>, found: impl ToString) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.into(),
        expected: expected.into(),
        found: found.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (step, generation) in [(0, 0), (120, 0), (120, 3), (123_456_789_012, 1)] {
            assert_eq!(parse(&name(step, generation)), Some((step, generation)));
        }
        for other in [
            "step-12",
            "step-00000012-0",
            "step-00000012-x",
            ".step-00000012.partial",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn pinned_ones_stay_listed_and_strangers_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path());
        assert!(checkpoints.last().is_err());
        for name in ["step-00000020", "step-00000003", "step-00000020-1", "mine"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let steps = || -> Vec<_> {
            let list = checkpoints.list().unwrap().into_iter();
            list.map(|one| (one.step, one.generation, one.pinned))
                .collect()
        };
        assert_eq!(steps(), [(3, 0, false), (20, 0, false), (20, 1, false)]);
        checkpoints.pin(3, true).unwrap();
        checkpoints.pin(20, true).unwrap();
        assert_eq!(steps(), [(3, 0, true), (20, 0, false), (20, 1, true)]);
        checkpoints.pin(3, false).unwrap();
        checkpoints.pin(3, false).unwrap();
        assert_eq!(steps()[0], (3, 0, false));
        let error = checkpoints.pin(4, true).unwrap_err().to_string();
        assert!(
            error.contains("found those of the steps 3, 20, 20"),
            "{error}"
        );
    }
}
