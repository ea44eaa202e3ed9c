//! Runs of the toy model, from beginning to end and on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use scratch_train::data::{SequenceData, Window};
use scratch_train::optimizer::OptimizerConfig;
use scratch_train::schedule::ScheduleConfig;
use scratch_train::{
    Callback, Checkpoints, Interrupt, Outcome, ResumeOptions, TrainError, Trainer, TrainingConfig,
};
use tempfile::TempDir;

use crate::toy::{Starts, Toy, ToyBatch, ToyData};
use crate::{device, is_gpu};

/// Windows in an epoch of the training data.
pub const WINDOWS: usize = 5;

/// A learning rate that stays.
pub fn constant() -> ScheduleConfig {
    ScheduleConfig::constant()
}

/// Without momentum.
pub fn sgd() -> OptimizerConfig {
    OptimizerConfig::sgd(0.0)
}

/// Plain gradient descent.
pub fn plain(epochs: usize) -> TrainingConfig {
    TrainingConfig {
        epochs,
        learning_rate: 0.1,
        optimizer: sgd(),
        schedule: constant(),
        clip_norm: None,
        ..TrainingConfig::default()
    }
}

/// Everything at once: AdamW, clipping, warm-up and a cosine, accumulation, validation in the
/// middle of epochs.
pub fn everything() -> TrainingConfig {
    TrainingConfig {
        epochs: 4,
        learning_rate: 0.02,
        accumulate: 2,
        validate_every: Some(2),
        clip_norm: Some(0.5),
        seed: 11,
        ..TrainingConfig::default()
    }
}

/// A stream of which some rows start anew in the middle.
pub fn train_data() -> ToyData {
    ToyData::new(WINDOWS, 3, 4, 21).with_starts(Starts::Rows)
}

/// Other sequences than the training data.
pub fn valid_data() -> ToyData {
    ToyData::new(2, 2, 6, 22)
}

/// The usual model.
pub fn model(device: &Device) -> Toy {
    Toy::new(3, 0.3, device)
}

/// A run from beginning to end, without checkpoints.
pub fn trained<'a>(config: TrainingConfig) -> (Trainer<'a, Toy>, Outcome) {
    let mut trainer = Trainer::new(model(&device()), config, &device()).unwrap();
    let outcome = trainer.fit(&train_data(), &valid_data()).unwrap();
    (trainer, outcome)
}

/// All files below a folder but the clocks, and the manifests with the hash of a clock, by path.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !["clock.json", "manifest.json"].contains(&name(&path).as_str()) {
                let relative = path.strip_prefix(folder).unwrap().to_path_buf();
                files.insert(relative, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// That two folders have the same files with the same bytes.
#[track_caller]
pub fn assert_same_files(found: &Path, expected: &Path) {
    let (found, expected) = (files(found), files(expected));
    assert!(
        found.keys().eq(expected.keys()),
        "{:?} and {:?}",
        found.keys(),
        expected.keys()
    );
    for (name, bytes) in &expected {
        if &found[name] != bytes {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let shown = match name.extension() {
                Some(ending) if ending == "json" => {
                    format!(": expected {}, found {}", text(bytes), text(&found[name]))
                }
                _ => String::new(),
            };
            panic!("{} differs{shown}", name.display());
        }
    }
}

/// Where a test has its checkpoints.
pub fn checkpoints(folder: &TempDir) -> Checkpoints {
    Checkpoints::new(folder.path().join("checkpoints"))
}

/// A trainer with checkpoints in `folder`.
pub fn trainer<'a>(config: TrainingConfig, device: &Device, folder: &TempDir) -> Trainer<'a, Toy> {
    let trainer = Trainer::new(model(device), config, device).unwrap();
    trainer.with_checkpoints(checkpoints(folder))
}

/// Trains on the usual data.
pub fn fit(trainer: &mut Trainer<'_, Toy>) -> Result<Outcome, TrainError> {
    trainer.fit(&train_data(), &valid_data())
}

/// A run from beginning to end, with its checkpoints.
pub fn run<'a>(config: TrainingConfig, device: &Device) -> (TempDir, Trainer<'a, Toy>, Outcome) {
    let folder = TempDir::new().unwrap();
    let mut trainer = trainer(config, device, &folder);
    let outcome = fit(&mut trainer).unwrap();
    (folder, trainer, outcome)
}

/// Goes on with the run in `folder`. The architecture is all that is taken of the model, which is
/// another.
pub fn resumed<'a>(
    config: TrainingConfig,
    folder: &TempDir,
    callback: impl Callback + 'a,
) -> Result<Trainer<'a, Toy>, TrainError> {
    let other = Toy::new(99, 0.3, &device());
    Trainer::new(other, config, &device())?
        .with_checkpoints(checkpoints(folder))
        .with_callback(callback)
        .resume(&ResumeOptions::default())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Raises an interrupt before the `at`th window has been trained on: when it is asked for, or, where
/// a GPU is busy with it, the one after it.
pub struct InterruptsAt {
    /// The windows.
    pub data: ToyData,
    /// What is raised.
    pub interrupt: Interrupt,
    /// Windows before it, through all epochs.
    pub at: usize,
}

impl SequenceData for InterruptsAt {
    type Batch = ToyBatch;

    fn windows(&self) -> usize {
        self.data.windows()
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<ToyBatch> {
        let made_ahead = usize::from(is_gpu());
        if epoch * self.windows() + index == self.at + made_ahead {
            self.interrupt.request(15);
        }
        self.data.window(epoch, index, device)
    }
}
