//! Writes the records of a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::record::{Mark, Record};
use super::{RunFolder, csv_error};
use crate::callback::{Callback, Plan, Saved, SavedStates, StepReport, StepRow};
use crate::disk::{Disk as _, FileSystem};
use crate::error::TrainError;
use crate::progress::Validation;

pub(super) const METRICS: &str = "metrics.csv";
pub(super) const STEPS: &str = "steps.csv";
pub(super) const LOG: &str = "log.jsonl";
const TIMING: &str = "timing.csv";

/// Writes `metrics.csv`, `steps.csv` and `log.jsonl`, which are the same in each run of one seed,
/// and `timing.csv`, which is not.
///
/// A checkpoint holds their lengths and hashes, and a run that goes on takes them back to where
/// they were. A record that cannot be written ends the run at the next checkpoint, which would not
/// be whole without it.
pub struct Recorder {
    folder: PathBuf,
    accept_changes: bool,
    records: Option<Records>,
    failure: Option<TrainError>,
}

struct Records {
    metrics: Record,
    steps: Record,
    log: Record,
    timing: Record,
}

impl Recorder {
    /// Records in the folder of `run`; those of a run that goes on are continued.
    pub fn new(run: &RunFolder) -> Self {
        Self {
            folder: run.root().into(),
            accept_changes: false,
            records: None,
            failure: None,
        }
    }

    /// Goes on also where a record says something else than it did.
    pub fn accept_changes(mut self, accept: bool) -> Self {
        self.accept_changes = accept;
        self
    }

    fn note(&mut self, result: Result<(), TrainError>) {
        if let Err(failure) = result {
            self.failure.get_or_insert(failure);
        }
    }

    fn create(&self) -> Result<Records, TrainError> {
        let open = |name: &str| {
            let path = self.folder.join(name);
            Record::create(path.clone()).map_err(|source| TrainError::io(&path, source))
        };
        let records = Records {
            metrics: open(METRICS)?,
            steps: open(STEPS)?,
            log: open(LOG)?,
            timing: open(TIMING)?,
        };
        let synced = FileSystem.sync_folder(&self.folder);
        synced.map_err(|source| TrainError::io(&self.folder, source))?;
        Ok(records)
    }

    fn rewind(&self, name: &str, marks: &BTreeMap<String, Mark>) -> Result<Record, TrainError> {
        let path = self.folder.join(name);
        let io = |source| TrainError::io(&path, source);
        let found = match marks.get(name) {
            Some(mark) => Record::rewind(path.clone(), mark).map_err(io)?,
            None => None,
        };
        match found {
            Some(record) => Ok(record),
            None if self.accept_changes => Record::extend(path.clone()).map_err(io),
            None => {
                let what = "is not what it was when the checkpoint was written";
                Err(TrainError::Changed {
                    changes: vec![format!("{} {what}", path.display())],
                })
            }
        }
    }
}

impl Callback for Recorder {
    fn started(&mut self, _plan: &Plan) {
        if self.records.is_some() {
            return;
        }
        match self.create() {
            Ok(records) => self.records = Some(records),
            Err(failure) => self.note(Err(failure)),
        }
    }

    fn logged(&mut self, row: &StepRow) {
        let Some(records) = &mut self.records else {
            return;
        };
        let result = records.step(row);
        self.note(result);
    }

    fn progressed(&mut self, report: &StepReport) {
        let Some(records) = &mut self.records else {
            return;
        };
        let result = records.time(report);
        self.note(result);
    }

    fn validated(&mut self, validation: &Validation, best: bool) {
        let Some(records) = &mut self.records else {
            return;
        };
        let result = records.validation(validation, best);
        self.note(result);
    }

    fn save(&mut self) -> Result<Option<Saved>, TrainError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let Some(records) = &mut self.records else {
            return Ok(None);
        };
        let mut marks = BTreeMap::new();
        for (name, record) in [
            (METRICS, &mut records.metrics),
            (STEPS, &mut records.steps),
            (LOG, &mut records.log),
        ] {
            let mark = record.mark();
            let mark = mark.map_err(|source| TrainError::io(record.path(), source))?;
            marks.insert(name, mark);
        }
        Ok(Some(Saved {
            name: NAME.into(),
            value: serde_json::to_value(marks).map_err(|error| callback_error(&error))?,
        }))
    }

    fn load(&mut self, saved: &SavedStates) -> Result<(), TrainError> {
        let marks: BTreeMap<String, Mark> = match saved.get(NAME) {
            Some(value) => {
                serde_json::from_value(value.clone()).map_err(|error| callback_error(&error))?
            }
            None => BTreeMap::new(),
        };
        let timing = self.folder.join(TIMING);
        let mut records = Records {
            metrics: self.rewind(METRICS, &marks)?,
            steps: self.rewind(STEPS, &marks)?,
            log: self.rewind(LOG, &marks)?,
            timing: Record::extend(timing.clone())
                .map_err(|source| TrainError::io(&timing, source))?,
        };
        // Only now that none of them is refused.
        for record in [&mut records.metrics, &mut records.steps, &mut records.log] {
            let cut = record.cut();
            cut.map_err(|source| TrainError::io(record.path(), source))?;
        }
        self.records = Some(records);
        Ok(())
    }
}

impl Records {
    fn step(&mut self, row: &StepRow) -> Result<(), TrainError> {
        append_csv(&mut self.steps, |writer| writer.serialize(row))?;
        append_line(&mut self.log, &Line::Step(row))
    }

    fn validation(&mut self, validation: &Validation, best: bool) -> Result<(), TrainError> {
        let metrics = &validation.valid.metrics;
        let names = metrics.keys().map(|name| format!("valid_{name}"));
        let names = ["step", "epoch", "train_loss", "valid_loss"]
            .into_iter()
            .map(String::from)
            .chain(names);
        let cells = [
            validation.step.to_string(),
            validation.epoch.to_string(),
            validation.train_loss.to_string(),
            validation.valid.loss.to_string(),
        ];
        let cells = cells
            .into_iter()
            .chain(metrics.values().map(f64::to_string));
        let has_header = !self.metrics.is_empty();
        append_csv(&mut self.metrics, |writer| {
            if !has_header {
                writer.write_record(names)?;
            }
            writer.write_record(cells)
        })?;
        let line = Line::Validation { validation, best };
        append_line(&mut self.log, &line)
    }

    fn time(&mut self, report: &StepReport) -> Result<(), TrainError> {
        let row = Timing {
            step: report.step,
            seconds: (report.seconds * 1e3).round() / 1e3,
            targets_per_second: (report.targets_per_second * 10.0).round() / 10.0,
        };
        append_csv(&mut self.timing, |writer| writer.serialize(&row))
    }
}

/// Its name among the callbacks of a checkpoint.
const NAME: &str = "records";

/// A line of `log.jsonl`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Step(&'a StepRow),
    Validation {
        #[serde(flatten)]
        validation: &'a Validation,
        best: bool,
    },
}

/// A row of `timing.csv`.
#[derive(Serialize)]
struct Timing {
    step: u64,
    seconds: f64,
    targets_per_second: f64,
}

fn append_csv(
    record: &mut Record,
    write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>,
) -> Result<(), TrainError> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(record.is_empty())
        .flexible(true)
        .from_writer(Vec::new());
    let written = write(&mut writer);
    written.map_err(|error| csv_error(record.path(), error))?;
    let lines = writer
        .into_inner()
        .map_err(|error| TrainError::io(record.path(), error.into_error()))?;
    append(record, &lines)
}

fn append_line(record: &mut Record, line: &Line) -> Result<(), TrainError> {
    let mut bytes = serde_json::to_vec(line).map_err(|error| callback_error(&error))?;
    bytes.push(b'\n');
    append(record, &bytes)
}

fn append(record: &mut Record, lines: &[u8]) -> Result<(), TrainError> {
    let appended = record.append(lines);
    appended.map_err(|source| TrainError::io(record.path(), source))
}

fn callback_error(error: &serde_json::Error) -> TrainError {
    TrainError::Callback {
        name: NAME.into(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_refused_record_leaves_the_others_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let (run, _lock) = RunFolder::create(folder.path()).unwrap();
        let mut recorder = Recorder::new(&run);
        let plan = Plan {
            windows: 1,
            epochs: 1,
            max_time: None,
            resumed_at: 0,
        };
        let row = |step| StepRow {
            step,
            epoch: 0,
            loss: 0.5,
            learning_rate: 0.1,
            grad_norm: None,
            skipped: 0,
        };
        recorder.started(&plan);
        recorder.logged(&row(1));
        let saved = recorder.save().unwrap().unwrap();
        let saved = SavedStates::from([(saved.name, saved.value)]);
        recorder.logged(&row(2));
        drop(recorder);

        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let (steps, log) = (read(STEPS), read(LOG));
        fs::write(folder.path().join(LOG), log.replace("0.5", "0.4")).unwrap();
        let error = Recorder::new(&run).load(&saved).unwrap_err();
        assert!(matches!(error, TrainError::Changed { .. }), "{error}");
        assert_eq!(read(STEPS), steps);

        fs::write(folder.path().join(LOG), &log).unwrap();
        Recorder::new(&run).load(&saved).unwrap();
        assert_eq!(
            (read(STEPS).lines().count(), read(LOG).lines().count()),
            (2, 1)
        );
    }
}
