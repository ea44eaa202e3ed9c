//! Going on from a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

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
use crate::progress::{Accumulated, BestWeights};

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
    callbacks: SavedStates,
    has_loaded: bool,
    warnings: Vec<String>,
    /// Checkpoints that cannot be read.
    damaged: Vec<PathBuf>,
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
        let (checkpoint, damaged) = newest(checkpoints, fall_back)?;
        let manifest = checkpoint.manifest();
        let mut warnings = damaged.warnings;

        // What can be told without the data, before it shows as tensors that do not fit.
        self.facts.insert(TRAINING.into(), settings(&self.config)?);
        let known = manifest.facts.clone().into_iter();
        let known = known.filter(|(name, _)| self.facts.contains_key(name));
        let changes = changes(&known.collect(), &self.facts);
        if !changes.is_empty() && !options.accept_changes {
            return Err(changed(&changes));
        }

        let progress = checkpoint.progress()?;
        let template = self.model.valid();
        if progress.best.is_some() {
            self.best_model = Some(checkpoint.load_best_model(template.clone())?);
        }
        let averaged = checkpoint.load_average(template)?;
        self.model = checkpoint.load_model(self.model)?;
        match checkpoint.load_optimizer(self.optimizer.clone()) {
            Ok(optimizer) => self.optimizer = optimizer,
            // Another optimizer, and it is meant.
            Err(error) if options.accept_changes => {
                warnings.push(format!("the optimizer begins anew: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
        self.carried = checkpoint.load_carried(&self.device.clone().autodiff())?;
        self.gradients = checkpoint.load_gradients(&self.model, &self.device)?;
        self.schedule.restore(progress.schedule.clone());
        self.clock = checkpoint.clock()?;
        self.progress = progress;
        match (&self.config.average, &self.progress.average) {
            (Some(config), Some(state)) => {
                let average = Average::restored(config.clone(), state.clone(), averaged)?;
                self.average = Some(average);
            }
            // Without the average, the best weights that were its are a file of their own.
            _ if self.progress.best_weights == BestWeights::Average => {
                self.progress.best_weights = BestWeights::Own;
            }
            _ => {}
        }

        let here = Environment::current(&self.device);
        let differences = manifest.environment.differences(&here);
        if !differences.is_empty() {
            warnings.push(format!(
                "the run goes on within rounding, not to the last bit: {}",
                differences.join(", ")
            ));
        }
        self.owns_checkpoints = true;
        self.resumed = Some(Resumed {
            callbacks: checkpoint.callbacks()?,
            has_loaded: false,
            warnings,
            damaged: damaged.paths,
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
            (TRAINING, settings(&self.config)?),
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
        if changes.is_empty() {
            return Ok(());
        }
        if !resumed.accept_changes {
            return Err(changed(&changes));
        }
        // Said once: `fit` asks again.
        resumed.facts.clone_from(&self.facts);
        let texts: Vec<String> = changes.iter().map(Change::to_string).collect();
        let warning = format!("the run goes on with changes: {}", texts.join("; "));
        resumed.warnings.push(warning);
        self.take_apart(&changes);
        Ok(())
    }

    /// Gives callbacks their memories back, once.
    pub(crate) fn load_callbacks(&mut self) -> Result<(), TrainError> {
        let Some(resumed) = &mut self.resumed else {
            return Ok(());
        };
        if !resumed.has_loaded {
            for callback in &mut self.callbacks {
                callback.load(&resumed.callbacks)?;
            }
            resumed.has_loaded = true;
        }
        Ok(())
    }

    /// The run goes on: damaged checkpoints are out of its way. What there is to say about it.
    pub(super) fn settle(&mut self) -> Result<Vec<String>, TrainError> {
        let (Some(resumed), Some(checkpoints)) = (self.resumed.take(), &self.checkpoints) else {
            return Ok(Vec::new());
        };
        let mut warnings = resumed.warnings;
        for path in resumed.damaged {
            let aside = checkpoints.set_aside(&path)?;
            let (path, aside) = (path.display(), aside.display());
            warnings.push(format!("{path} is damaged and now called {aside}"));
        }
        Ok(warnings)
    }

    /// Lets go of what does not fit changes that are meant.
    fn take_apart(&mut self, changes: &[Change]) {
        let has = |names: &[&str]| {
            let mut changes = changes.iter();
            changes.any(|change| names.iter().any(|name| change.name.starts_with(name)))
        };
        let is_other_data = has(&["training data", "training windows", "settings"]);
        if is_other_data {
            // The place in the epoch is none in these data.
            self.progress.window = 0;
        }
        if is_other_data || has(&["training.accumulate", "training.precision"]) {
            self.carried = None;
            self.gradients = None;
            self.progress.accumulated = Accumulated::default();
        }
    }
}

/// Checkpoints that cannot be read, and what is to be said about them.
#[derive(Default)]
struct Damaged {
    paths: Vec<PathBuf>,
    warnings: Vec<String>,
}

/// The newest checkpoint that can be read, with later ones that cannot. Nothing is changed.
fn newest(checkpoints: &Checkpoints, fall_back: bool) -> Result<(Checkpoint, Damaged), TrainError> {
    let mut list = checkpoints.list()?;
    let newest = checkpoints.last()?;
    let reason = match Checkpoint::open(&newest) {
        Ok(checkpoint) => return Ok((checkpoint, Damaged::default())),
        // The older ones will not be of this version either, and what could not be read now may be
        // whole.
        Err(error @ (CheckpointError::Version { .. } | CheckpointError::Io { .. }))
            if !is_missing(&error) =>
        {
            return Err(error.into());
        }
        Err(reason) => reason,
    };
    let mut paths = Vec::new();
    while let Some(one) = list.pop() {
        let checkpoint = match Checkpoint::open(&one.path) {
            Ok(checkpoint) => checkpoint,
            Err(_) => {
                paths.push(one.path);
                continue;
            }
        };
        if !fall_back {
            return Err(TrainError::NewestDamaged {
                reason: Box::new(reason),
                previous: Some(one.path),
            });
        }
        let warnings = vec![format!("{reason}; going on from {}", one.path.display())];
        return Ok((checkpoint, Damaged { paths, warnings }));
    }
    Err(TrainError::NewestDamaged {
        reason: Box::new(reason),
        previous: None,
    })
}

/// Whether a file of the checkpoint is not there: damage that stays.
fn is_missing(error: &CheckpointError) -> bool {
    matches!(error, CheckpointError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// The trainer's own settings among the facts.
const TRAINING: &str = "training";

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

/// Something that is not what it was.
struct Change {
    /// `training.seed`.
    name: String,
    then: String,
    now: String,
}

/// `training.seed (1 then, 2 now)`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} then, {} now)", self.name, self.then, self.now)
    }
}

fn changed(changes: &[Change]) -> TrainError {
    TrainError::Changed {
        changes: changes.iter().map(Change::to_string).collect(),
    }
}

/// What differs between two sets of facts, field by field.
fn changes(then: &BTreeMap<String, Value>, now: &BTreeMap<String, Value>) -> Vec<Change> {
    let mut changes = Vec::new();
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for name in names {
        let value = |facts: &BTreeMap<String, Value>| facts.get(name).cloned().unwrap_or_default();
        compare(name, &value(then), &value(now), &mut changes);
    }
    changes
}

fn compare(name: &str, then: &Value, now: &Value, changes: &mut Vec<Change>) {
    match (then, now) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
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
        (one, other) if one != other => changes.push(Change {
            name: name.into(),
            then: short(one),
            now: short(other),
        }),
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
        let texts: Vec<String> = changes(&then, &now).iter().map(Change::to_string).collect();
        assert_eq!(
            texts,
            [
                "data (ab then, none now)",
                "training.clip_norm (none then, 1 now)",
                "training.optimizer.kind (sgd then, adam now)",
                "training.seed (1 then, 2 now)"
            ]
        );
    }
}
