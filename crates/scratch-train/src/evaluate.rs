//! Loss and metrics of a model over some data.

use std::collections::BTreeMap;

use burn::tensor::Device;
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};

use crate::data::SequenceData;
use crate::error::TrainError;
use crate::model::{SequenceModel, StepOutput};
use crate::step::enter;

/// Means over all targets of some data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// The model's own metrics, by name; see [`SequenceModel::measure`].
    pub metrics: BTreeMap<String, f64>,
}

/// Runs `model` over `data` once, carrying a state of its own.
///
/// `model` is the form without autodiff (`valid()`), on `device`.
///
/// # Errors
///
/// If there is no window.
pub fn evaluate<M: SequenceModel>(
    model: &M,
    data: &impl SequenceData<Batch = M::Batch>,
    device: &Device,
) -> Result<Evaluation, TrainError> {
    evaluate_with(model, data, device, |_, _| {})
}

/// [`evaluate`], showing every window's output to `look`.
///
/// # Errors
///
/// If there is no window.
pub fn evaluate_with<M: SequenceModel>(
    model: &M,
    data: &impl SequenceData<Batch = M::Batch>,
    device: &Device,
    mut look: impl FnMut(&M::Batch, &StepOutput<M::State>),
) -> Result<Evaluation, TrainError> {
    // Nothing is random without autodiff; the key is there for the signature's sake.
    let key = Key::new(0).child("evaluate");
    let mut carried = None;
    let mut targets = 0.0;
    let mut loss = 0.0;
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for index in 0..data.windows() {
        let window = data.window(0, index, device);
        let output = model.step(&window.batch, enter(&window.start, carried), &key);
        let weight = output.targets as f64;
        targets += weight;
        loss += weight * output.loss.clone().into_scalar::<f64>();
        for (name, sum) in model.measure(&window.batch, &output) {
            *sums.entry(name.to_string()).or_default() += sum;
        }
        look(&window.batch, &output);
        carried = Some(output.state);
    }
    if targets == 0.0 {
        return Err(TrainError::NoData { what: "evaluation" });
    }
    Ok(Evaluation {
        loss: loss / targets,
        metrics: sums
            .into_iter()
            .map(|(name, sum)| (name, sum / targets))
            .collect(),
    })
}
