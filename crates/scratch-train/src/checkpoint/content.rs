//! What is in a checkpoint, as bytes.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Bytes, TensorData};
use burn_pack::{Reader, Writer};
use scratch_lstm::RecurrentState;
use serde_json::Value;

use super::json_bytes;
use crate::callback::SavedStates;
use crate::environment::Environment;
use crate::error::CheckpointError;
use crate::gradients;
use crate::progress::{Clock, Progress};

pub(super) const MODEL: &str = "model.bpk";
pub(super) const OPTIMIZER: &str = "optimizer.bpk";
pub(super) const CARRIED: &str = "carried.bpk";
pub(super) const GRADIENTS: &str = "gradients.bpk";
pub(super) const AVERAGE: &str = "average.bpk";
pub(super) const BEST: &str = "best.bpk";
pub(super) const PROGRESS: &str = "progress.json";
pub(super) const CALLBACKS: &str = "callbacks.json";
pub(super) const CLOCK: &str = "clock.json";

/// A run at one instant.
pub(crate) struct Snapshot<'a, M, S> {
    pub(crate) model: &'a M,
    pub(crate) optimizer: &'a ModuleOptimizer,
    pub(crate) carried: Option<&'a S>,
    pub(crate) gradients: Option<&'a GradientsParams>,
    pub(crate) average: Option<&'a M>,
    /// Weights of the best validation, unless `progress` says that they are the model's or the
    /// average's.
    pub(crate) best: Option<&'a M>,
    pub(crate) progress: &'a Progress,
    pub(crate) callbacks: &'a SavedStates,
    pub(crate) clock: Clock,
    pub(crate) environment: &'a Environment,
    pub(crate) facts: &'a BTreeMap<String, Value>,
}

impl<M: Module, S: RecurrentState> Snapshot<'_, M, S> {
    /// The files of the checkpoint.
    pub(super) fn to_files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, CheckpointError> {
        let mut files = vec![
            (MODEL, model_bytes(self.model, MODEL)?),
            (OPTIMIZER, optimizer_bytes(self.optimizer)?),
            (PROGRESS, json_bytes(self.progress)),
            (CALLBACKS, json_bytes(self.callbacks)),
            (CLOCK, json_bytes(&self.clock)),
        ];
        if let Some(carried) = self.carried {
            files.push((CARRIED, tensor_bytes(carried.to_named(), CARRIED)?));
        }
        if let Some(grads) = self.gradients {
            let named = gradients::to_named(grads, self.model);
            files.push((GRADIENTS, tensor_bytes(named, GRADIENTS)?));
        }
        for (name, model) in [(AVERAGE, self.average), (BEST, self.best)] {
            if let Some(model) = model {
                files.push((name, model_bytes(model, name)?));
            }
        }
        Ok(files)
    }
}

/// Named tensors from burnpack.
pub(super) fn named_tensors(
    bytes: Bytes,
    path: &Path,
) -> Result<BTreeMap<String, TensorData>, CheckpointError> {
    let reader = Reader::from_bytes(bytes).map_err(format(path))?;
    let mut tensors = BTreeMap::new();
    for tensor in reader.into_tensors().map_err(format(path))? {
        let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(format(path))?;
        tensors.insert(name, TensorData::from_bytes(bytes, shape, dtype));
    }
    Ok(tensors)
}

pub(super) fn format<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> CheckpointError {
    let path = path.to_path_buf();
    move |error| CheckpointError::Format {
        path,
        reason: error.to_string(),
    }
}

fn model_bytes<M: Module>(model: &M, name: &str) -> Result<Vec<u8>, CheckpointError> {
    let bytes = model.clone().into_record().into_bytes();
    Ok(bytes.map_err(format(Path::new(name)))?.to_vec())
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

fn tensor_bytes(
    tensors: BTreeMap<String, TensorData>,
    name: &str,
) -> Result<Vec<u8>, CheckpointError> {
    let tensors = tensors
        .into_iter()
        .map(|(name, data)| {
            let (bytes, shape, dtype) = data.into_parts();
            burn_pack::Tensor::new(name, dtype, shape, None, bytes)
        })
        .collect();
    let bytes = Writer::new(tensors).into_bytes();
    Ok(bytes.map_err(format(Path::new(name)))?.to_vec())
}
