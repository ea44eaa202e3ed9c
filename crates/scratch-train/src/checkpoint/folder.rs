//! Reading a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device, Tensor};
use scratch_lstm::RecurrentState;
use serde::Deserialize;

use super::content::{
    AVERAGE, BEST, CALLBACKS, CARRIED, CLOCK, GRADIENTS, MODEL, OPTIMIZER, PROGRESS, format,
    named_tensors,
};
use super::manifest::{Entry, Manifest};
use super::{damaged, io};
use crate::backend::contained;
use crate::callback::SavedStates;
use crate::disk::read_exactly;
use crate::error::CheckpointError;
use crate::gradients;
use crate::progress::{BestWeights, Clock, Progress};

/// A checkpoint whose files are those of its manifest.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
}

impl Checkpoint {
    /// Reads a checkpoint folder and compares every file with the manifest.
    ///
    /// # Errors
    ///
    /// If the folder is none, was written by another version, or a file is missing or damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let manifest = Manifest::read(path)?;
        let mut files = BTreeMap::new();
        for (name, expected) in &manifest.files {
            // No file of ours is below or above the folder.
            if Path::new(name).file_name().map(|file| file.to_str()) != Some(Some(name)) {
                let found = format!("the name {name:?}");
                return Err(damaged(path, "names of files in the manifest", found));
            }
            let file = path.join(name);
            let bytes = match read_exactly(&file, expected.bytes).map_err(io(&file))? {
                Ok(bytes) => bytes,
                Err(found) => {
                    return Err(damaged(
                        &file,
                        format!("{} bytes", expected.bytes),
                        format!("{found} bytes"),
                    ));
                }
            };
            let found = Entry::of(&bytes);
            if found != *expected {
                return Err(damaged(&file, expected.to_string(), found));
            }
            files.insert(name.clone(), bytes);
        }
        let checkpoint = Self {
            path: path.into(),
            manifest,
            files,
        };
        checkpoint.check_step()?;
        Ok(checkpoint)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is made of, where and for what it was written.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The place of the run.
    ///
    /// # Errors
    ///
    /// If the file is of another form.
    pub fn progress(&self) -> Result<Progress, CheckpointError> {
        self.json(PROGRESS)
    }

    /// `model` with the checkpoint's weights.
    ///
    /// # Errors
    ///
    /// If the weights are those of another architecture; `model` is lost then, so give a copy.
    pub fn load_model<M: Module>(&self, model: M) -> Result<M, CheckpointError> {
        self.load_weights(MODEL, model)
    }

    /// `model` with the weights of the run's best validation up to here; the checkpoint's own if
    /// there was none yet.
    ///
    /// # Errors
    ///
    /// As [`load_model`](Self::load_model).
    pub fn load_best_model<M: Module>(&self, model: M) -> Result<M, CheckpointError> {
        let weights = match self.progress()?.best_weights {
            BestWeights::None | BestWeights::Model => MODEL,
            BestWeights::Average => AVERAGE,
            BestWeights::Own => BEST,
        };
        self.load_weights(weights, model)
    }

    /// `model` with the averaged weights, if there are any.
    pub(crate) fn load_average<M: Module>(&self, model: M) -> Result<Option<M>, CheckpointError> {
        match self.files.contains_key(AVERAGE) {
            true => self.load_weights(AVERAGE, model).map(Some),
            false => Ok(None),
        }
    }

    /// `optimizer` with the checkpoint's state.
    pub(crate) fn load_optimizer(
        &self,
        optimizer: ModuleOptimizer,
    ) -> Result<ModuleOptimizer, CheckpointError> {
        let path = self.path.join(OPTIMIZER);
        let bytes = self.bytes(OPTIMIZER)?;
        // burn puts the tensors on its default device first, which can be one that this machine
        // lacks (a binary with CUDA on a machine without).
        if contained(|| Tensor::<1>::zeros([1], &Device::default()).into_data()).is_err() {
            return Err(CheckpointError::Format {
                path,
                reason: "burn's default device does not work here; name one that does in the \
                         environment variable BURN_DEVICE (flex, say)"
                    .into(),
            });
        }
        let (optimizer, expected, found) = decoded(&path, || {
            let record = OptimizerRecord::from_bytes(bytes).map_err(format(&path))?;
            let expected = record.len();
            let optimizer = optimizer.load_record(record);
            let found = optimizer.to_record().len();
            Ok((optimizer, expected, found))
        })?;
        // burn skips state that it cannot rebuild without a word.
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
        if !self.files.contains_key(CARRIED) {
            return Ok(None);
        }
        let path = self.path.join(CARRIED);
        let bytes = self.bytes(CARRIED)?;
        decoded(&path, || {
            let tensors = named_tensors(bytes, &path)?;
            let state = S::try_from_named(&tensors, device);
            state.map(Some).map_err(|source| CheckpointError::State {
                path: path.clone(),
                source,
            })
        })
    }

    /// The sum of gradients of windows that are no whole step yet.
    pub(crate) fn load_gradients<M: Module>(
        &self,
        model: &M,
        device: &Device,
    ) -> Result<Option<GradientsParams>, CheckpointError> {
        if !self.files.contains_key(GRADIENTS) {
            return Ok(None);
        }
        let path = self.path.join(GRADIENTS);
        let bytes = self.bytes(GRADIENTS)?;
        decoded(&path, || {
            let tensors = named_tensors(bytes, &path)?;
            let grads = gradients::from_named(tensors, model, device);
            grads
                .map(Some)
                .map_err(|error| CheckpointError::Architecture {
                    path: path.clone(),
                    reason: error.to_string(),
                })
        })
    }

    /// What callbacks remember.
    pub(crate) fn callbacks(&self) -> Result<SavedStates, CheckpointError> {
        self.json(CALLBACKS)
    }

    /// The time spent until then.
    pub(crate) fn clock(&self) -> Result<Clock, CheckpointError> {
        self.json(CLOCK)
    }

    /// A folder under the name of another step, or whose place is that of another, was put together
    /// by hand.
    fn check_step(&self) -> Result<(), CheckpointError> {
        let step = self.manifest.step;
        let progress = self.progress()?.step;
        if progress != step {
            let path = self.path.join(PROGRESS);
            return Err(damaged(
                &path,
                format!("step {step}"),
                format!("step {progress}"),
            ));
        }
        let name = self
            .path
            .file_name()
            .and_then(|name| super::parse(name.to_str()?));
        match name {
            Some((name, _)) if name != step => Err(damaged(
                &self.path,
                format!("the checkpoint of step {name}"),
                format!("that of step {step}"),
            )),
            _ => Ok(()),
        }
    }

    fn load_weights<M: Module>(&self, file: &str, model: M) -> Result<M, CheckpointError> {
        let path = self.path.join(file);
        let bytes = self.bytes(file)?;
        decoded(&path, || {
            let record = ModuleRecord::from_bytes(bytes).map_err(format(&path))?;
            let loaded = model.try_load_record(record);
            loaded.map_err(|error| CheckpointError::Architecture {
                path: path.clone(),
                reason: error.to_string(),
            })
        })
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, CheckpointError> {
        let path = self.path.join(name);
        serde_json::from_slice(self.file(name)?).map_err(format(&path))
    }

    fn bytes(&self, name: &str) -> Result<Bytes, CheckpointError> {
        Ok(Bytes::from_bytes_vec(self.file(name)?.to_vec()))
    }

    fn file(&self, name: &str) -> Result<&[u8], CheckpointError> {
        self.files
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| CheckpointError::Format {
                path: self.path.clone(),
                reason: format!("expected a file {name} in the manifest, found none"),
            })
    }
}

/// What burn makes of a file. Sizes and hashes say that it is what was written, not that burn can
/// take it: tensors of another type or rank make it panic.
fn decoded<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    contained(read).unwrap_or_else(|reason| Err(format(path)(reason)))
}
