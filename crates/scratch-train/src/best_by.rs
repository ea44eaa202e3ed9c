//! What the best model is best in.

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::evaluate::Evaluation;
use crate::goal::Goal;

/// The number by which validations are compared: for the best model, patience, and whatever else
/// waits for a gain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BestBy {
    /// `loss`, or a metric of the model by its name.
    pub metric: String,
    /// Whether less or more of it is better.
    pub goal: Goal,
    /// By how much a validation must be better than the best to count as better.
    pub min_gain: f64,
}

impl Default for BestBy {
    fn default() -> Self {
        Self {
            metric: LOSS.into(),
            goal: Goal::Minimize,
            min_gain: 0.0,
        }
    }
}

impl BestBy {
    /// The number of a validation.
    ///
    /// # Errors
    ///
    /// If the validation has no such metric.
    pub fn value(&self, evaluation: &Evaluation) -> Result<f64, TrainError> {
        if self.metric == LOSS {
            return Ok(evaluation.loss);
        }
        let metrics = &evaluation.metrics;
        metrics.get(&self.metric).copied().ok_or_else(|| {
            let names: Vec<&str> = metrics.keys().map(String::as_str).collect();
            let expected = format!("one of {}", [&[LOSS], &names[..]].concat().join(", "));
            TrainError::config("best_by.metric", expected, &self.metric)
        })
    }

    /// Whether a validation of the number `value` is better than one of `best`.
    pub fn is_better(&self, value: f64, best: f64) -> bool {
        let least = match self.goal {
            Goal::Minimize => best - self.min_gain,
            Goal::Maximize => best + self.min_gain,
        };
        best.is_nan() && !value.is_nan() || self.goal.is_better(value, least)
    }
}

const LOSS: &str = "loss";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_metric_in_any_direction() {
        let evaluation = Evaluation {
            loss: 2.0,
            metrics: [("accuracy".to_string(), 0.75)].into(),
        };
        let by = |metric: &str, goal| BestBy {
            metric: metric.into(),
            goal,
            min_gain: 0.1,
        };
        let accuracy = by("accuracy", Goal::Maximize);
        assert_eq!(accuracy.value(&evaluation).unwrap(), 0.75);
        assert!(accuracy.is_better(0.75, 0.6) && accuracy.is_better(0.1, f64::NAN));
        assert!(!accuracy.is_better(0.75, 0.7) && !accuracy.is_better(f64::NAN, 0.7));
        let loss = by("loss", Goal::Minimize);
        assert!(loss.is_better(2.0, 2.2) && !loss.is_better(2.0, 2.05));
        assert_eq!(BestBy::default().value(&evaluation).unwrap(), 2.0);
        let error = by("f1", Goal::Maximize).value(&evaluation).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("one of loss, accuracy, found f1"), "{text}");
    }
}
