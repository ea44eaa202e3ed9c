//! Going on from a checkpoint.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Trainer;
use crate::average::Average;
use crate::callback::SavedStates;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::config::TrainingConfig;
use crate::data::SequenceData;
use crate::environment::Environment;
use crate::error::{CheckpointError, TrainError};
use crate::model::SequenceModel;

/// What a resumed run may differ in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResumeOptions {
    /// Goes on with other data, settings or records than the run began with, and warns instead of
    /// refusing.
    pub accept_changes: bool,
    /// Goes on from the newest checkpoint that can be read if later ones are damaged; these are set
    /// aside.
    pub fall_back: bool,
}

/// What is left to do for a run that goes on when `fit` is called.
pub(super) struct Resumed {
    pub(super) callbacks: SavedStates,
    pub(super) warnings: Vec<String>,
    facts: BTreeMap<String, Value>,
    accept_changes: bool,
}

impl<M: SequenceModel> Trainer<'_, M> {
    /// Goes on from the newest of the checkpoints; the model that was given counts for its
    /// architecture alone. On the same program, device, instruction set and number of threads the
    /// run is, to the last bit, what it would have been; elsewhere it is within rounding, and a
    /// warning says so.
    ///
    /// # Errors
    ///
    /// If there is no checkpoint, or it is damaged or of another architecture. Whether the data and
    /// the settings are those it was written with, [`check`](Self::check) and
    /// [`fit`](Self::fit) say.
    pub fn resume(mut self, options: &ResumeOptions) -> Result<Self, TrainError> {
        let Some(checkpoints) = &self.checkpoints else {
            let found = "none; give them with `with_checkpoints`";
            return Err(TrainError::config("checkpoints", "a folder of them", found));
        };
        let fall_back = options.fall_back || self.config.checkpoints.fall_back;
        let (checkpoint, mut warnings) = newest(checkpoints, fall_back)?;
        let progress = checkpoint.progress()?;
        let template = self.model.valid();
        if progress.best.is_some() {
            self.best_model = Some(checkpoint.load_best_model(template.clone())?);
        }
        let averaged = checkpoint.load_average(template)?;
        self.model = checkpoint.load_model(self.model)?;
        self.optimizer = checkpoint.load_optimizer(self.optimizer)?;
        self.carried = checkpoint.load_carried(&self.device.clone().autodiff())?;
        self.gradients = checkpoint.load_gradients(&self.model, &self.device)?;
        self.schedule.restore(progress.schedule.clone());
        if let (Some(config), Some(state)) = (&self.config.average, &progress.average) {
            let average = Average::restored(config.clone(), state.clone(), averaged)?;
            self.average = Some(average);
        }
        self.clock = checkpoint.clock()?;
        self.progress = progress;

        let manifest = checkpoint.manifest();
        let here = Environment::current(&self.device);
        let differences = manifest.environment.differences(&here);
        if !differences.is_empty() {
            warnings.push(format!(
                "the run goes on within rounding, not to the last bit: {}",
                differences.join(", ")
            ));
        }
        self.resumed = Some(Resumed {
            callbacks: checkpoint.callbacks()?,
            warnings,
            facts: manifest.facts.clone(),
            accept_changes: options.accept_changes,
        });
        Ok(self)
    }

    /// Whether the run can be trained on these data: that there are some, and, if it goes on, that
    /// they and the settings are those it began with. Nothing is written.
    ///
    /// # Errors
    ///
    /// As [`fit`](Self::fit).
    pub fn check(
        &mut self,
        train: &impl SequenceData<Batch = M::Batch>,
        valid: &impl SequenceData<Batch = M::Batch>,
    ) -> Result<(), TrainError> {
        for (what, windows) in [
            ("training", train.windows()),
            ("validation", valid.windows()),
        ] {
            if windows == 0 {
                return Err(TrainError::NoData { what });
            }
        }
        let facts = [
            ("training", settings(&self.config)?),
            ("training windows", train.windows().into()),
            ("training data", train.fingerprint().into()),
            ("validation windows", valid.windows().into()),
            ("validation data", valid.fingerprint().into()),
        ];
        self.facts
            .extend(facts.map(|(name, value)| (name.to_string(), value)));
        let Some(resumed) = &mut self.resumed else {
            return Ok(());
        };
        let changes = changes(&resumed.facts, &self.facts);
        // Asked once: `fit` asks again.
        resumed.facts.clone_from(&self.facts);
        if changes.is_empty() {
            return Ok(());
        }
        if !resumed.accept_changes {
            return Err(TrainError::Changed { changes });
        }
        let warning = format!("the run goes on with changes: {}", changes.join("; "));
        resumed.warnings.push(warning);
        Ok(())
    }
}

/// The newest checkpoint that can be read, with what there is to say about later ones.
fn newest(
    checkpoints: &Checkpoints,
    fall_back: bool,
) -> Result<(Checkpoint, Vec<String>), TrainError> {
    let mut list = checkpoints.list()?;
    let newest = checkpoints.last()?;
    let reason = match Checkpoint::open(&newest) {
        Ok(checkpoint) => return Ok((checkpoint, Vec::new())),
        // Not damaged: the older ones will not be of this version either.
        Err(error @ CheckpointError::Version { .. }) => return Err(error.into()),
        Err(reason) => reason,
    };
    let mut damaged = Vec::new();
    while let Some(one) = list.pop() {
        let Ok(checkpoint) = Checkpoint::open(&one.path) else {
            damaged.push(one.path);
            continue;
        };
        if !fall_back {
            return Err(TrainError::NewestDamaged {
                reason: Box::new(reason),
                previous: Some(one.path),
            });
        }
        let mut warnings = Vec::new();
        for path in damaged {
            let aside = checkpoints.set_aside(&path)?;
            warnings.push(format!(
                "{} is damaged and now called {}",
                path.display(),
                aside.display()
            ));
        }
        warnings.push(format!("{reason}; going on from {}", one.path.display()));
        return Ok((checkpoint, warnings));
    }
    Err(TrainError::NewestDamaged {
        reason: Box::new(reason),
        previous: None,
    })
}

/// The settings that a resumed run must share: all but those that say when it ends, what it writes
/// down and which checkpoints it keeps.
fn settings(config: &TrainingConfig) -> Result<Value, TrainError> {
    let mut value = serde_json::to_value(config).map_err(|error| TrainError::Callback {
        name: "training".into(),
        reason: error.to_string(),
    })?;
    if let Value::Object(fields) = &mut value {
        for field in ["epochs", "max_time", "patience", "checkpoints"] {
            fields.remove(field);
        }
    }
    Ok(value)
}

/// What differs between two sets of facts, field by field: `training.seed (1 then, 2 now)`.
fn changes(then: &BTreeMap<String, Value>, now: &BTreeMap<String, Value>) -> Vec<String> {
    let mut changes = Vec::new();
    let mut names: Vec<&String> = then.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let value = |facts: &BTreeMap<String, Value>| facts.get(name).cloned();
        compare(
            name,
            &value(then).unwrap_or_default(),
            &value(now).unwrap_or_default(),
            &mut changes,
        );
    }
    changes
}

fn compare(name: &str, then: &Value, now: &Value, changes: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let value = |fields: &serde_json::Map<String, Value>| {
                    fields.get(key).cloned().unwrap_or_default()
                };
                compare(
                    &format!("{name}.{key}"),
                    &value(one),
                    &value(other),
                    changes,
                );
            }
        }
        (one, other) if one != other => {
            changes.push(format!(
                "{name} ({} then, {} now)",
                short(one),
                short(other)
            ));
        }
        _ => {}
    }
}

/// A value in few words; of a hash the beginning says enough.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) if text.chars().count() > 40 => {
            format!("{}…", text.chars().take(12).collect::<String>())
        }
        Value::String(text) => text.clone(),
        // Settings in f32 are written with the digits of an f64.
        other => match other.as_f64() {
            Some(number) if other.is_f64() && f64::from(number as f32) == number => {
                (number as f32).to_string()
            }
            _ => other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_named_field_by_field() {
        let facts =
            |value: Value| -> BTreeMap<String, Value> { serde_json::from_value(value).unwrap() };
        let then =
            facts(json!({"training": {"seed": 1, "optimizer": {"kind": "sgd"}}, "data": "ab"}));
        assert!(changes(&then, &then).is_empty());
        let now = facts(json!({
            "training": {"seed": 2, "optimizer": {"kind": "adam"}, "clip_norm": 1.0},
        }));
        assert_eq!(
            changes(&then, &now),
            [
                "data (ab then, none now)",
                "training.clip_norm (none then, 1 now)",
                "training.optimizer.kind (sgd then, adam now)",
                "training.seed (1 then, 2 now)"
            ]
        );
    }
}
