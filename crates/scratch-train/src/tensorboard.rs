//! Event files for TensorBoard.

mod event;

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::callback::{Callback, Ending, Plan, Saved, StepRow};
use crate::error::TrainError;
use crate::progress::Validation;
use event::{Event, What};

/// Writes what a run tells into a folder that TensorBoard reads (`tensorboard --logdir FOLDER`):
/// `train/loss`, `train/learning_rate`, `train/grad_norm`, `valid/loss` and `valid/METRIC`.
///
/// Every start of a run has a file of its own, which says what step it goes on after, so that
/// later steps of the file before, which were made and lost, are not shown beside those that took
/// their place.
///
/// A file that cannot be written ends the recording at once and the run at its next checkpoint.
pub struct TensorBoard {
    folder: PathBuf,
    file: Option<BufWriter<File>>,
    path: PathBuf,
    failure: Option<std::io::Error>,
}

impl TensorBoard {
    /// Files in `folder`, which is made when the run starts if it is not there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            path: folder.clone(),
            folder,
            file: None,
            failure: None,
        }
    }

    /// What could not be written, if something could not.
    pub fn failure(&self) -> Option<&std::io::Error> {
        self.failure.as_ref()
    }

    fn open(&mut self) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let name = file_name(&self.folder, seconds() as u64)?;
        self.path = self.folder.join(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(&self.path)?;
        self.file = Some(BufWriter::new(file));
        Ok(())
    }

    fn write(&mut self, step: u64, what: What<'_>) {
        let event = Event {
            wall_time: seconds(),
            step,
            what,
        };
        if let Some(file) = &mut self.file {
            // Whoever looks on sees each row at once.
            let written = event.write(file).and_then(|()| file.flush());
            self.note(written);
        }
    }

    /// The first failure is kept, and nothing is written after it.
    fn note(&mut self, result: std::io::Result<()>) {
        if let Err(failure) = result {
            self.failure.get_or_insert(failure);
            self.file = None;
        }
    }
}

impl Callback for TensorBoard {
    fn started(&mut self, plan: &Plan) {
        let opened = self.open();
        self.note(opened);
        self.write(0, What::Version);
        // TensorBoard does not count the first one it sees, so that every file needs one.
        self.write(plan.resumed_at + 1, What::Start);
    }

    fn logged(&mut self, row: &StepRow) {
        let mut scalars = vec![
            ("train/loss", row.loss),
            ("train/learning_rate", row.learning_rate),
        ];
        scalars.extend(row.grad_norm.map(|norm| ("train/grad_norm", norm)));
        self.write(row.step, What::Scalars(&scalars));
    }

    fn validated(&mut self, validation: &Validation, _best: bool) {
        let metrics = validation.valid.metrics.iter();
        let metrics: Vec<(String, f64)> = metrics
            .map(|(name, value)| (format!("valid/{name}"), *value))
            .collect();
        let mut scalars = vec![("valid/loss", validation.valid.loss)];
        scalars.extend(metrics.iter().map(|(name, value)| (name.as_str(), *value)));
        self.write(validation.step, What::Scalars(&scalars));
    }

    fn ended(&mut self, _ending: Ending) {
        if let Some(file) = &mut self.file {
            let written = file.flush();
            self.note(written);
        }
    }

    fn save(&mut self) -> Result<Option<Saved>, TrainError> {
        if let Some(file) = &mut self.file {
            let written = file.flush().and_then(|()| file.get_ref().sync_data());
            self.note(written);
        }
        match self.failure.take() {
            Some(failure) => Err(TrainError::io(&self.path, failure)),
            // The step is all it needs, and the plan says that.
            None => Ok(None),
        }
    }
}

/// What TensorBoard knows its files by.
const PREFIX: &str = "events.out.tfevents.";

/// The name of a new file. TensorBoard reads files in the order of their names: this one comes
/// after all others, even if the clock was set back.
fn file_name(folder: &Path, now: u64) -> std::io::Result<String> {
    let mut number = now;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let before = name.to_str().and_then(|name| {
            let number = name.strip_prefix(PREFIX)?.split('.').next()?;
            number.parse::<u64>().ok()
        });
        if let Some(before) = before {
            number = number.max(before.saturating_add(1));
        }
    }
    if number > LAST {
        let reason = format!("a file of a number above {LAST} is there");
        return Err(std::io::Error::new(ErrorKind::AlreadyExists, reason));
    }
    Ok(format!("{PREFIX}{number:010}.scratch"))
}

/// Names with more digits would not be in the order of their numbers.
const LAST: u64 = 9_999_999_999;

/// Seconds since 1970.
fn seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::evaluate::Evaluation;

    fn plan(resumed_at: u64) -> Plan {
        Plan {
            windows: 10,
            epochs: 2,
            max_time: None,
            resumed_at,
        }
    }

    fn row(step: u64, grad_norm: Option<f64>) -> StepRow {
        StepRow {
            step,
            epoch: 0,
            loss: 0.5,
            learning_rate: 1e-3,
            grad_norm,
            skipped: 0,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The messages of a file, whose framing and checksums must be right.
    fn messages(path: &Path) -> Vec<Vec<u8>> {
        let bytes = fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        // By the table of the polynomial's own definition, not by the crate that wrote them.
        let sum = |bytes: &[u8]| {
            let crc = bytes.iter().fold(!0u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
                })
            });
            (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
        };
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let count = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            assert_eq!(after[..4], sum(length).to_le_bytes());
            let message = &after[4..4 + count];
            assert_eq!(after[4 + count..8 + count], sum(message).to_le_bytes());
            found.push(message.to_vec());
            rest = &after[8 + count..];
        }
        found
    }

    fn holds(message: &[u8], text: &str) -> bool {
        let text = text.as_bytes();
        message.windows(text.len()).any(|part| part == text)
    }

    #[test]
    fn rows_and_validations_become_events() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("tensorboard");
        let mut board = TensorBoard::new(&logs);
        assert!(!logs.exists());
        board.started(&plan(0));
        board.logged(&row(10, Some(2.0)));
        board.logged(&row(20, None));
        board.validated(
            &Validation {
                step: 20,
                epoch: 1,
                train_loss: 0.5,
                valid: Evaluation {
                    loss: 0.25,
                    metrics: BTreeMap::from([("accuracy".to_string(), 0.75)]),
                },
            },
            true,
        );
        assert_eq!(board.save().unwrap(), None);
        board.ended(Ending::Finished);
        let messages = messages(&logs.join(&names(&logs)[0]));
        assert_eq!(messages.len(), 5);
        assert!(holds(&messages[0], "brain.Event:2"));
        assert!(holds(&messages[2], "train/grad_norm"));
        assert!(!holds(&messages[3], "train/grad_norm") && holds(&messages[3], "train/loss"));
        assert!(holds(&messages[4], "valid/loss") && holds(&messages[4], "valid/accuracy"));
    }

    #[test]
    fn a_resumed_run_has_a_later_file_that_says_where_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        for resumed_at in [0, 100] {
            TensorBoard::new(folder.path()).started(&plan(resumed_at));
        }
        let names = names(folder.path());
        assert_eq!(names.len(), 2);
        // Its first step, and a session log whose status is START.
        for (name, first) in names.iter().zip([1, 101]) {
            let messages = messages(&folder.path().join(name));
            assert!(messages[1].ends_with(&[0x10, first, 0x3a, 2, 0x08, 1]));
        }
    }

    #[test]
    fn names_go_on_even_if_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let name = |now| file_name(folder.path(), now);
        assert_eq!(name(5).unwrap(), "events.out.tfevents.0000000005.scratch");
        fs::write(folder.path().join("events.out.tfevents.0000000007.x"), "").unwrap();
        assert_eq!(name(5).unwrap(), "events.out.tfevents.0000000008.scratch");
        assert_eq!(name(9).unwrap(), "events.out.tfevents.0000000009.scratch");
        fs::write(folder.path().join(format!("{PREFIX}{LAST}.x")), "").unwrap();
        assert_eq!(name(9).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_file_that_cannot_be_written_ends_the_run_at_its_next_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let mut board = TensorBoard::new(&path);
        board.started(&plan(0));
        board.logged(&row(10, None));
        assert!(board.failure().is_some());
        let error = board.save().unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
