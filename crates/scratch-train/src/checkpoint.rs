//! Checkpoints: everything a run needs to go on, in one folder.
//!
//! ```text
//! checkpoints/
//!   index.json            which folder is the last and which the best
//!   step-00000120/
//!     model.bpk           weights (burnpack, by path)
//!     optimizer.bpk       the optimizer's state, in the order of names
//!     carried.bpk         the recurrent state at this place in the data
//!     progress.json       the place in the data, best and last validation
//!     clock.json          seconds spent; the only file that differs between two equal runs
//!     manifest.json       sizes and SHA-256 of the files above but the clock, written last
//! ```
//!
//! A folder is written beside its final name and renamed, so that it is there whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device, TensorData};
use burn_pack::{Reader, Writer};
use scratch_lstm::RecurrentState;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::backend::quietly;
use crate::error::CheckpointError;
use crate::progress::{Clock, Progress};

const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const CARRIED: &str = "carried.bpk";
const PROGRESS: &str = "progress.json";
const CLOCK: &str = "clock.json";
const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";

/// Version of the layout; a folder of another is refused.
const FORMAT: u32 = 1;

/// The checkpoints of a run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// Which checkpoints there are to go back to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    last: Option<String>,
    best: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    sha256: String,
}

impl Checkpoints {
    /// Those in `folder`, which is made when the first is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The newest one.
    ///
    /// # Errors
    ///
    /// If there is none or the index cannot be read.
    pub fn last(&self) -> Result<PathBuf, CheckpointError> {
        self.indexed("last", |index| index.last)
    }

    /// The one with the best validation.
    ///
    /// # Errors
    ///
    /// If there is none or the index cannot be read.
    pub fn best(&self) -> Result<PathBuf, CheckpointError> {
        self.indexed("best", |index| index.best)
    }

    /// Writes a checkpoint and makes it the last, and the best if `best`; folders that are
    /// neither any more are removed.
    pub(crate) fn save<M: Module, S: RecurrentState>(
        &self,
        model: &M,
        optimizer: &ModuleOptimizer,
        carried: Option<&S>,
        progress: &Progress,
        clock: Clock,
        best: bool,
    ) -> Result<PathBuf, CheckpointError> {
        let name = format!("step-{:08}", progress.step);
        let files = [
            (MODEL, model_bytes(model)?),
            (OPTIMIZER, optimizer_bytes(optimizer)?),
            (CARRIED, state_bytes(carried)?),
            (PROGRESS, json_bytes(progress)),
            (CLOCK, json_bytes(&clock)),
        ];
        let path = self.publish(&name, &files)?;
        let mut index = self.read_index()?.unwrap_or_default();
        index.last = Some(name.clone());
        if best {
            index.best = Some(name);
        }
        write_atomically(&self.folder.join(INDEX), &json_bytes(&index))?;
        self.prune(&index)?;
        Ok(path)
    }

    /// Writes the files beside the final name, syncs them, and renames the folder.
    fn publish(&self, name: &str, files: &[(&str, Vec<u8>)]) -> Result<PathBuf, CheckpointError> {
        let path = self.folder.join(name);
        let staging = self.folder.join(format!(".{name}.partial"));
        fs::create_dir_all(&self.folder).map_err(io(&self.folder))?;
        remove_if_there(&staging)?;
        fs::create_dir(&staging).map_err(io(&staging))?;
        let mut manifest = Manifest {
            format: FORMAT,
            files: BTreeMap::new(),
        };
        for (file, bytes) in files {
            write_synced(&staging.join(file), bytes)?;
            if *file != CLOCK {
                manifest.files.insert((*file).into(), Entry::of(bytes));
            }
        }
        write_synced(&staging.join(MANIFEST), &json_bytes(&manifest))?;
        sync_folder(&staging)?;
        // A resumed run can come to the same step again.
        remove_if_there(&path)?;
        fs::rename(&staging, &path).map_err(io(&path))?;
        sync_folder(&self.folder)?;
        Ok(path)
    }

    fn prune(&self, index: &Index) -> Result<(), CheckpointError> {
        let keep = [&index.last, &index.best];
        for entry in fs::read_dir(&self.folder).map_err(io(&self.folder))? {
            let entry = entry.map_err(io(&self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kept = keep.iter().any(|kept| kept.as_deref() == Some(&name));
            if name.starts_with("step-") && !kept {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    fn indexed(
        &self,
        which: &str,
        pick: impl Fn(Index) -> Option<String>,
    ) -> Result<PathBuf, CheckpointError> {
        let missing = |found: &str| CheckpointError::NotACheckpoint {
            path: self.folder.join(which),
            found: found.into(),
        };
        let index = self.read_index()?;
        let index = index.ok_or_else(|| missing("no index.json in the folder of checkpoints"))?;
        let name = pick(index).ok_or_else(|| missing("none in index.json"))?;
        Ok(self.folder.join(name))
    }

    fn read_index(&self) -> Result<Option<Index>, CheckpointError> {
        let path = self.folder.join(INDEX);
        match fs::read(&path) {
            Ok(bytes) => parse_json(&path, &bytes).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(&path)(error)),
        }
    }
}

/// A checkpoint whose files are those of its manifest.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl Checkpoint {
    /// Reads a checkpoint folder and compares every file with the manifest.
    ///
    /// # Errors
    ///
    /// If the folder is none, or a file is missing or damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let manifest_path = path.join(MANIFEST);
        let manifest = match fs::read(&manifest_path) {
            Ok(bytes) => bytes,
            Err(_) => {
                return Err(CheckpointError::NotACheckpoint {
                    path: path.into(),
                    found: match path.metadata() {
                        Ok(meta) if meta.is_dir() => "a folder without manifest.json".into(),
                        Ok(_) => "a file".into(),
                        Err(error) => error.to_string(),
                    },
                });
            }
        };
        let manifest: Manifest = parse_json(&manifest_path, &manifest)?;
        if manifest.format != FORMAT {
            return Err(CheckpointError::Format {
                path: manifest_path,
                reason: format!("expected format {FORMAT}, found {}", manifest.format),
            });
        }
        let mut files = BTreeMap::new();
        for (name, expected) in manifest.files {
            let file = path.join(&name);
            let bytes = fs::read(&file).map_err(io(&file))?;
            let found = Entry::of(&bytes);
            if found != expected {
                return Err(CheckpointError::Damaged {
                    path: file,
                    expected: expected.to_string(),
                    found: found.to_string(),
                });
            }
            files.insert(name, bytes);
        }
        Ok(Self {
            path: path.into(),
            files,
        })
    }

    /// `model` with the checkpoint's weights.
    ///
    /// # Errors
    ///
    /// If the weights are those of another architecture; `model` is lost then, so give a copy.
    pub fn load_model<M: Module>(&self, model: M) -> Result<M, CheckpointError> {
        let path = self.path.join(MODEL);
        let record = ModuleRecord::from_bytes(self.bytes(MODEL)?).map_err(format(&path))?;
        model
            .try_load_record(record)
            .map_err(|error| CheckpointError::Architecture {
                path,
                reason: error.to_string(),
            })
    }

    /// `optimizer` with the checkpoint's state.
    pub(crate) fn load_optimizer(
        &self,
        optimizer: ModuleOptimizer,
    ) -> Result<ModuleOptimizer, CheckpointError> {
        let path = self.path.join(OPTIMIZER);
        let record = OptimizerRecord::from_bytes(self.bytes(OPTIMIZER)?).map_err(format(&path))?;
        let expected = record.len();
        // burn puts the tensors on its default device first, which can be one that this machine
        // lacks (a binary with CUDA on a machine without).
        let loaded = quietly(|| optimizer.load_record(record));
        let optimizer = loaded.ok_or_else(|| CheckpointError::Format {
            path: path.clone(),
            reason: "burn's default device does not work here; name one that does in the \
                     environment variable BURN_DEVICE (flex, say)"
                .into(),
        })?;
        // burn skips state that it cannot rebuild without a word.
        let found = optimizer.to_record().len();
        if found != expected {
            return Err(CheckpointError::Format {
                path,
                reason: format!(
                    "expected {expected} tensors of the optimizer, found {found} that fit"
                ),
            });
        }
        Ok(optimizer)
    }

    /// The recurrent state at the checkpoint's place in the data.
    pub(crate) fn load_carried<S: RecurrentState>(
        &self,
        device: &Device,
    ) -> Result<Option<S>, CheckpointError> {
        let path = self.path.join(CARRIED);
        let reader = Reader::from_bytes(self.bytes(CARRIED)?).map_err(format(&path))?;
        if reader.metadata().get(CARRIED_KEY).map(String::as_str) != Some("yes") {
            return Ok(None);
        }
        let mut tensors = BTreeMap::new();
        for tensor in reader.into_tensors().map_err(format(&path))? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(format(&path))?;
            tensors.insert(name, TensorData::from_bytes(bytes, shape, dtype));
        }
        S::try_from_named(&tensors, device)
            .map(Some)
            .map_err(|source| CheckpointError::State { path, source })
    }

    /// The place in the data.
    pub(crate) fn progress(&self) -> Result<Progress, CheckpointError> {
        parse_json(&self.path.join(PROGRESS), self.file(PROGRESS)?)
    }

    /// The time spent until then.
    pub(crate) fn clock(&self) -> Result<Clock, CheckpointError> {
        let path = self.path.join(CLOCK);
        let bytes = fs::read(&path).map_err(io(&path))?;
        parse_json(&path, &bytes)
    }

    fn bytes(&self, name: &str) -> Result<Bytes, CheckpointError> {
        Ok(Bytes::from_bytes_vec(self.file(name)?.to_vec()))
    }

    fn file(&self, name: &str) -> Result<&[u8], CheckpointError> {
        self.files
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| CheckpointError::Format {
                path: self.path.join(MANIFEST),
                reason: format!("expected an entry for {name}, found none"),
            })
    }
}

const CARRIED_KEY: &str = "carried";

impl Entry {
    fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        Self {
            bytes: bytes.len() as u64,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes with SHA-256 {}", self.bytes, self.sha256)
    }
}

fn model_bytes<M: Module>(model: &M) -> Result<Vec<u8>, CheckpointError> {
    let bytes = model.clone().into_record().into_bytes();
    Ok(bytes.map_err(format(Path::new(MODEL)))?.to_vec())
}

/// burn collects the optimizer's state from a hash map; written again by name, the same run gives
/// the same bytes.
fn optimizer_bytes(optimizer: &ModuleOptimizer) -> Result<Vec<u8>, CheckpointError> {
    let path = Path::new(OPTIMIZER);
    let bytes = optimizer.into_bytes().map_err(format(path))?;
    let reader = Reader::from_bytes(bytes).map_err(format(path))?;
    let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
    let mut writer = Writer::new(reader.into_tensors().map_err(format(path))?);
    for (name, value) in scalars {
        writer = writer.with_scalar(&name, value);
    }
    for (name, value) in metadata {
        writer = writer.with_metadata(&name, &value);
    }
    Ok(writer.into_bytes().map_err(format(path))?.to_vec())
}

fn state_bytes<S: RecurrentState>(carried: Option<&S>) -> Result<Vec<u8>, CheckpointError> {
    let tensors = carried.map(S::to_named).unwrap_or_default();
    let tensors = tensors
        .into_iter()
        .map(|(name, data)| {
            let (bytes, shape, dtype) = data.into_parts();
            burn_pack::Tensor::new(name, dtype, shape, None, bytes)
        })
        .collect();
    let there = if carried.is_some() { "yes" } else { "no" };
    let writer = Writer::new(tensors).with_metadata(CARRIED_KEY, there);
    Ok(writer
        .into_bytes()
        .map_err(format(Path::new(CARRIED)))?
        .to_vec())
}

fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain structs serialize");
    bytes.push(b'\n');
    bytes
}

fn parse_json<T: for<'a> Deserialize<'a>>(path: &Path, bytes: &[u8]) -> Result<T, CheckpointError> {
    serde_json::from_slice(bytes).map_err(format(path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut file = File::create(path).map_err(io(path))?;
    file.write_all(bytes).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}

/// Writes a file beside its final name and renames it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    let staging = path.with_file_name(name);
    write_synced(&staging, bytes)?;
    fs::rename(&staging, path).map_err(io(path))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let folder = File::open(path).map_err(io(path))?;
    folder.sync_all().map_err(io(path))
}

fn remove_if_there(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_path_buf();
    move |source| CheckpointError::Io { path, source }
}

fn format<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> CheckpointError {
    let path = path.to_path_buf();
    move |error| CheckpointError::Format {
        path,
        reason: error.to_string(),
    }
}
