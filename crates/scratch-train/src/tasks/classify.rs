//! Classification of labelled sequences of different lengths.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};

use super::TaskError;
use super::samples::Guesses;
use super::session::{self, Ended, Job, Session};
use crate::baselines;
use crate::config::TrainingConfig;
use crate::data::{
    LabelledBatch, LabelledConfig, LabelledData, LabelledSplit, LabelledWindows, SplitConfig,
    Units, Vocabulary, embedded,
};
use crate::evaluate::evaluate_with;
use crate::metrics::Confusion;
use crate::models::{Classifier, ClassifierConfig};
use crate::range_test::RangeTest;
use crate::report::{self, ConfusionPlot, SAMPLES};
use crate::run::RunFolder;

/// The name of the task in `config.toml`.
pub const TASK: &str = "classify";

/// What the loss is.
pub const LOSS: &str = "cross entropy, nats per sequence";

/// What is counted as it is learned from.
pub const TARGETS: &str = "sequences";

/// Settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifyConfig {
    /// The sequences and how they are batched.
    pub data: ClassifyData,
    /// The model.
    pub model: ClassifierConfig,
    /// The training.
    pub training: TrainingConfig,
}

/// The sequences and how they are batched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifyData {
    /// A folder of `LABEL.txt` files with one sequence a line, or a CSV with the columns `text`
    /// and `label`; the surnames of 18 languages if absent.
    pub path: Option<PathBuf>,
    /// What the sequences are made of.
    pub units: Units,
    /// Shares of training, validation and test, the same of every label.
    pub split: SplitConfig,
    /// Batches.
    pub batches: LabelledConfig,
}

impl Default for ClassifyData {
    fn default() -> Self {
        Self {
            path: None,
            units: Units::default(),
            split: SplitConfig::LABELLED,
            batches: LabelledConfig::default(),
        }
    }
}

impl Default for ClassifyConfig {
    fn default() -> Self {
        Self {
            data: ClassifyData::default(),
            model: ClassifierConfig::default(),
            training: TrainingConfig {
                epochs: 12,
                ..TrainingConfig::default()
            },
        }
    }
}

/// The results of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifyReport {
    /// The run folder.
    pub run: PathBuf,
    /// How training ended; absent in an evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Ended>,
    /// Sequences of training, validation and test.
    pub sequences: [usize; 3],
    /// The labels.
    pub labels: Vec<String>,
    /// On the test part.
    pub test: ClassifyScores,
    /// What always guessing the label most frequent in training reaches on the test part.
    pub baselines: ClassifyBaselines,
    /// On the test part: rows are true labels, columns guessed ones.
    pub confusion: Vec<Vec<u64>>,
}

/// How well sequences are classified.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifyScores {
    /// Share of right guesses.
    pub accuracy: f64,
    /// Mean over the labels of the harmonic mean of precision and recall.
    pub macro_f1: f64,
}

/// Scores of guesses without a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifyBaselines {
    /// The label most frequent in training.
    pub most_frequent: String,
    /// Share of right guesses.
    pub accuracy: f64,
}

/// Trains a classifier into a new run folder. Everything about the data is checked before a file
/// is written.
///
/// # Errors
///
/// If the data or a setting does not fit, or the run cannot be written.
pub fn train(
    config: &ClassifyConfig,
    folder: impl Into<PathBuf>,
    session: Session<'_>,
) -> Result<ClassifyReport, TaskError> {
    session::train::<Prepared>(config, folder, session)
}

/// Goes on with a run; `change` may alter its settings for the training (more epochs).
///
/// # Errors
///
/// If the run cannot be read, or as [`train`].
pub fn resume(
    run: &RunFolder,
    change: impl FnOnce(&mut TrainingConfig),
    session: Session<'_>,
) -> Result<ClassifyReport, TaskError> {
    session::resume::<Prepared>(run, change, session)
}

/// Tries rising learning rates on a copy of the model.
///
/// # Errors
///
/// If the data or a setting does not fit.
pub fn range_test(config: &ClassifyConfig, device: &Device) -> Result<RangeTest, TaskError> {
    session::range_test::<Prepared>(config, device)
}

/// Scores of a run's best model.
///
/// # Errors
///
/// If the run or its data cannot be read.
pub fn evaluate(run: &RunFolder, device: &Device) -> Result<ClassifyReport, TaskError> {
    session::evaluate::<Prepared>(run, device)
}

/// The data of a run, read, checked and cut.
struct Prepared {
    config: ClassifyConfig,
    data: LabelledData,
    split: LabelledSplit,
    vocabulary: Vocabulary,
    train: LabelledWindows,
    valid: LabelledWindows,
    test: LabelledWindows,
}

impl Job for Prepared {
    const TASK: &'static str = TASK;
    const LOSS: &'static str = LOSS;
    type Config = ClassifyConfig;
    type Model = Classifier;
    type Data = LabelledWindows;
    type Report = ClassifyReport;

    fn training(config: &mut ClassifyConfig) -> &mut TrainingConfig {
        &mut config.training
    }

    fn parts(&self) -> [&LabelledWindows; 2] {
        [&self.train, &self.valid]
    }

    fn prepare(config: ClassifyConfig, _run: Option<&RunFolder>) -> Result<Self, TaskError> {
        let data = match &config.data.path {
            Some(path) => LabelledData::read(path)?,
            None => embedded::surnames()?,
        };
        let key = Key::new(config.training.seed).child("data");
        let split = data.split(&config.data.split, &key)?;
        let vocabulary = Vocabulary::new(config.data.units, data.texts(&split.train));
        let batches = &config.data.batches;
        let eval =
            |positions: &[usize]| LabelledWindows::eval(&data, positions, &vocabulary, batches);
        Ok(Self {
            train: LabelledWindows::train(&data, &split.train, &vocabulary, batches, &key)?,
            valid: eval(&split.valid)?,
            test: eval(&split.test)?,
            vocabulary,
            split,
            data,
            config,
        })
    }

    fn model(&self, device: &Device) -> Result<Classifier, TaskError> {
        let key = Key::new(self.config.training.seed).child("model");
        let (symbols, classes) = (self.vocabulary.len(), self.data.labels.len());
        Ok(self.config.model.try_init(symbols, classes, &key, device)?)
    }

    fn report(
        &self,
        run: &RunFolder,
        model: &Classifier,
        device: &Device,
        training: Option<Ended>,
    ) -> Result<ClassifyReport, TaskError> {
        let mut confusion = Confusion::new(self.data.labels.clone());
        let mut guesses = Guesses::new(self.split.test.len());
        evaluate_with(&model.valid(), &self.test, device, |batch, output| {
            let guessed: Tensor<1, Int> = output.outputs.clone().argmax(2).reshape([-1]);
            let guessed = guessed.into_data();
            let truth = batch.labels.to_data();
            for (row, (truth, guessed)) in
                truth.iter::<i64>().zip(guessed.iter::<i64>()).enumerate()
            {
                let (truth, guessed) = (truth as usize, guessed as usize);
                confusion.add(truth, guessed);
                let labels = &self.data.labels;
                let text = || self.text_of(batch, row);
                guesses.add(text, &labels[truth], &labels[guessed]);
            }
        })?;
        run.write_json(SAMPLES, &guesses.finish())?;
        let plot = ConfusionPlot {
            title: "Test part: true label (row) against guessed label (column)",
            confusion: &confusion,
        };
        report::save(run.plots().join("confusion.svg"), &plot.to_svg()?)?;
        let most_frequent = baselines::most_frequent(&self.data.labels_of(&self.split.train))
            .expect("the training part has examples");
        let test_labels = self.data.labels_of(&self.split.test);
        let labels = 0..self.data.labels.len();
        Ok(ClassifyReport {
            run: run.root().to_path_buf(),
            training,
            sequences: [&self.split.train, &self.split.valid, &self.split.test].map(Vec::len),
            labels: self.data.labels.clone(),
            test: ClassifyScores {
                accuracy: confusion.accuracy(),
                macro_f1: confusion.macro_f1(),
            },
            baselines: ClassifyBaselines {
                most_frequent: self.data.labels[most_frequent].clone(),
                accuracy: baselines::constant_accuracy(&test_labels, most_frequent),
            },
            confusion: labels
                .clone()
                .map(|truth| {
                    let guesses = labels.clone();
                    guesses.map(|guess| confusion.count(truth, guess)).collect()
                })
                .collect(),
        })
    }
}

impl Prepared {
    /// A sequence of a batch as far as it was read.
    fn text_of(&self, batch: &LabelledBatch, row: usize) -> String {
        let [_, steps] = batch.inputs.dims();
        let units: Vec<u32> = batch
            .inputs
            .clone()
            .slice([row..row + 1, 0..steps])
            .into_data()
            .iter::<i64>()
            .take(batch.lengths[row])
            .map(|unit| unit as u32)
            .collect();
        self.vocabulary.decode(&units)
    }
}
