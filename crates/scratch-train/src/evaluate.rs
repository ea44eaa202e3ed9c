//! Loss and metrics of a model over some data.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};

use crate::data::SequenceData;
use crate::error::TrainError;
use crate::loss::side_by_side;
use crate::model::{SequenceModel, StepOutput};
use crate::step::enter;

/// Means over all targets of some data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// The model's own metrics, by name; see [`SequenceModel::measure`].
    #[serde(with = "numbers")]
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
    let mut sums = Sums::default();
    for index in 0..data.windows() {
        let window = data.window(0, index, device);
        let output = model.step(&window.batch, enter(model, &window.start, carried), &key);
        let weight = output.targets as f64;
        targets += weight;
        sums.add(output.loss.clone(), weight, None);
        for (name, sum) in model.measure(&window.batch, &output) {
            sums.add(sum, 1.0, Some(name));
        }
        look(&window.batch, &output);
        carried = Some(output.state);
    }
    sums.read();
    if targets == 0.0 {
        return Err(TrainError::NoData { what: "evaluation" });
    }
    Ok(Evaluation {
        loss: sums.loss / targets,
        metrics: sums
            .metrics
            .into_iter()
            .map(|(name, sum)| (name, sum / targets))
            .collect(),
    })
}

/// What windows add up to. It is read many windows at a time: reading waits for the device.
#[derive(Default)]
struct Sums {
    /// Numbers on the device, `[1]`, with their weights and the metric's name; none for the loss.
    pending: Vec<(Tensor<1>, f64, Option<&'static str>)>,
    loss: f64,
    metrics: BTreeMap<String, f64>,
}

/// Numbers that are read at once.
const TOGETHER: usize = 128;

impl Sums {
    fn add(&mut self, number: Tensor<1>, weight: f64, metric: Option<&'static str>) {
        self.pending.push((number, weight, metric));
        if self.pending.len() >= TOGETHER {
            self.read();
        }
    }

    fn read(&mut self) {
        let numbers = self.pending.iter().map(|(one, ..)| one.clone());
        let Some(numbers) = side_by_side(numbers.collect()) else {
            return;
        };
        let numbers = numbers.into_data();
        let pending = self.pending.drain(..);
        for (number, (_, weight, metric)) in numbers.iter::<f64>().zip(pending) {
            match metric {
                None => self.loss += weight * number,
                Some(name) => {
                    *self.metrics.entry(name.to_string()).or_default() += weight * number;
                }
            }
        }
    }
}

/// Numbers that need not be finite: JSON has no word for those that are not, and a checkpoint must
/// be read as it was written.
mod numbers {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Other(String),
    }

    pub(super) fn serialize<S: Serializer>(
        numbers: &BTreeMap<String, f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let number = |value: f64| match value.is_finite() {
            true => Number::Finite(value),
            false => Number::Other(value.to_string()),
        };
        let entries = numbers.iter();
        serializer.collect_map(entries.map(|(name, value)| (name, number(*value))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let entries = BTreeMap::<String, Number>::deserialize(deserializer)?;
        let entries = entries.into_iter().map(|(name, number)| {
            let value = match number {
                Number::Finite(value) => Ok(value),
                Number::Other(text) => text.parse().map_err(serde::de::Error::custom),
            };
            value.map(|value| (name, value))
        });
        entries.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_that_are_not_finite_are_read_as_they_were_written() {
        let metrics = [("a", 0.1), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY)];
        let evaluation = Evaluation {
            loss: 0.3,
            metrics: metrics
                .map(|(name, value)| (name.to_string(), value))
                .into(),
        };
        let text = serde_json::to_string(&evaluation).unwrap();
        assert_eq!(
            serde_json::from_str::<Evaluation>(&text).unwrap(),
            evaluation
        );
        let text = text.replace("\"inf\"", "\"NaN\"");
        let found: Evaluation = serde_json::from_str(&text).unwrap();
        assert!(found.metrics["b"].is_nan());
        assert!(serde_json::from_str::<Evaluation>(&text.replace("NaN", "much")).is_err());
    }
}
