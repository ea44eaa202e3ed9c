//! What the best model is best in.

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::evaluate::Evaluation;

/// The number by which validations are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Goal {
    /// `loss`, or a metric of the model by its name.
    pub metric: String,
    /// Whether less or more of it is better.
    pub direction: Direction,
    /// By how much a validation must be better than the best to count as better.
    pub min_gain: f64,
}

/// Which of two numbers is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The lower one.
    #[default]
    Minimize,
    /// The higher one.
    Maximize,
}

impl Default for Goal {
    fn default() -> Self {
        Self {
            metric: LOSS.into(),
            direction: Direction::Minimize,
            min_gain: 0.0,
        }
    }
}

impl Goal {
    /// The number of a validation that is to be minimized: the metric, with its sign turned if more
    /// of it is better.
    ///
    /// # Errors
    ///
    /// If the validation has no such metric.
    pub fn cost(&self, evaluation: &Evaluation) -> Result<f64, TrainError> {
        let value = match self.metric.as_str() {
            LOSS => evaluation.loss,
            name => *evaluation.metrics.get(name).ok_or_else(|| {
                let names: Vec<&str> = evaluation.metrics.keys().map(String::as_str).collect();
                let expected = format!("one of {}", [&[LOSS], &names[..]].concat().join(", "));
                TrainError::config("best_by.metric", expected, name)
            })?,
        };
        Ok(match self.direction {
            Direction::Minimize => value,
            Direction::Maximize => -value,
        })
    }

    /// Whether the cost `new` is better than the cost `best`.
    pub fn is_better(&self, new: f64, best: f64) -> bool {
        new < best - self.min_gain
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
        let goal = |metric: &str, direction| Goal {
            metric: metric.into(),
            direction,
            min_gain: 0.1,
        };
        let accuracy = goal("accuracy", Direction::Maximize);
        assert_eq!(accuracy.cost(&evaluation).unwrap(), -0.75);
        assert!(accuracy.is_better(-0.75, -0.6));
        assert!(!accuracy.is_better(-0.75, -0.7));
        assert_eq!(Goal::default().cost(&evaluation).unwrap(), 2.0);
        let error = goal("f1", Direction::Maximize).cost(&evaluation);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("one of loss, accuracy, found f1"), "{text}");
    }
}
