//! Language models of text, unit by unit (characters or bytes).

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};

use super::TaskError;
use super::session::{self, Ended, Job, Session};
use crate::config::TrainingConfig;
use crate::data::{Corpus, TextStreams, Units, Vocabulary};
use crate::evaluate as evaluate_model;
use crate::generate::Sampling;
use crate::metrics::{nats_to_bits, perplexity};
use crate::models::{CharLm, CharLmConfig};
use crate::range_test::RangeTest;
use crate::report::{SAMPLES, Samples, TextSample};
use crate::run::RunFolder;

/// The name of the task in `config.toml`.
pub const TASK: &str = "text";

/// What the loss is.
pub const LOSS: &str = "cross entropy, nats per unit";

/// What is counted as it is learned from.
pub const TARGETS: &str = "units";

/// Settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// The text and how it is cut.
    pub data: TextData,
    /// The model.
    pub model: CharLmConfig,
    /// The training.
    pub training: TrainingConfig,
}

/// The text and how it is cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextData {
    /// Files, and folders whose files with one of the extensions are read.
    pub paths: Vec<PathBuf>,
    /// Which files of a folder are read.
    pub extensions: Vec<String>,
    /// What the text is made of.
    pub units: Units,
    /// Share at the end of the text by which the model is chosen.
    pub valid: f64,
    /// Streams that are read side by side.
    pub batch_size: usize,
    /// Steps of truncated backpropagation through time.
    pub window: usize,
}

impl Default for TextData {
    fn default() -> Self {
        Self {
            paths: vec![".".into()],
            extensions: vec!["rs".into(), "md".into()],
            units: Units::default(),
            valid: 0.1,
            batch_size: 32,
            window: 64,
        }
    }
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            data: TextData::default(),
            model: CharLmConfig::default(),
            training: TrainingConfig {
                epochs: 10,
                ..TrainingConfig::default()
            },
        }
    }
}

/// The results of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextReport {
    /// The run folder.
    pub run: PathBuf,
    /// How training ended; absent in an evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Ended>,
    /// Files read.
    pub files: usize,
    /// Units of the training and of the validation part.
    pub units: [usize; 2],
    /// Different units.
    pub vocabulary: usize,
    /// On the validation part.
    pub valid: TextScores,
}

/// How well text is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextScores {
    /// Cross entropy, nats per unit.
    pub nats: f64,
    /// Bits per character, or per byte.
    pub bits_per_character: f64,
    /// Among how many equally likely units one might as well guess.
    pub perplexity: f64,
}

/// Trains a language model into a new run folder. Everything about the data is checked before a
/// file is written.
///
/// # Errors
///
/// If the data or a setting does not fit, or the run cannot be written.
pub fn train(
    config: &TextConfig,
    folder: impl Into<PathBuf>,
    session: Session<'_>,
) -> Result<TextReport, TaskError> {
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
) -> Result<TextReport, TaskError> {
    session::resume::<Prepared>(run, change, session)
}

/// Tries rising learning rates on a copy of the model.
///
/// # Errors
///
/// If the data or a setting does not fit.
pub fn range_test(config: &TextConfig, device: &Device) -> Result<RangeTest, TaskError> {
    session::range_test::<Prepared>(config, device)
}

/// Scores of a run's best model.
///
/// # Errors
///
/// If the run or its data cannot be read.
pub fn evaluate(run: &RunFolder, device: &Device) -> Result<TextReport, TaskError> {
    session::evaluate::<Prepared>(run, device)
}

/// Text that goes on from `prompt`, by a run's best model, unit by unit with the state carried.
/// `show` is told each piece as it comes. The text a run was trained on is not needed.
///
/// # Errors
///
/// If the run cannot be read, or the sampling settings do not fit.
pub fn generate(
    run: &RunFolder,
    device: &Device,
    request: &GenerateRequest,
    show: impl FnMut(&str),
) -> Result<String, TaskError> {
    request.validate()?;
    let config: TextConfig = run.config(TASK)?;
    let vocabulary = load_vocabulary(run)?;
    let model = config
        .model
        .try_init(vocabulary.len(), &Key::new(0), device)?;
    let model = session::best_model(run, model)?;
    write(&model, &vocabulary, device, request, show)
}

/// Text that goes on from the prompt, by a model in its form without autodiff.
fn write(
    model: &CharLm,
    vocabulary: &Vocabulary,
    device: &Device,
    request: &GenerateRequest,
    mut show: impl FnMut(&str),
) -> Result<String, TaskError> {
    let device = device.clone().without_autodiff();
    let key = Key::new(request.seed).child("generate");

    // Without a prompt the text begins as if after a line.
    let prompt = if request.prompt.is_empty() {
        "\n"
    } else {
        &request.prompt
    };
    let mut input = vocabulary.encode(prompt);
    let mut state = None;
    let mut text = String::new();
    // Units that are not shown yet: bytes are when they make whole characters.
    let mut pending: Vec<u32> = Vec::new();
    for position in 0..request.length {
        let count = input.len();
        let units: Vec<i32> = input.iter().map(|&unit| unit as i32).collect();
        let symbols = Tensor::<2, Int>::from_data(TensorData::new(units, [1, count]), &device);
        let (logits, next) = model.predict(symbols, state, &key);
        let mut logits: Vec<f32> = logits
            .narrow(1, count - 1, 1)
            .into_data()
            .iter::<f32>()
            .collect();
        if let Some(unknown) = vocabulary.unknown() {
            logits[unknown] = f32::NEG_INFINITY;
        }
        let unit = request.sampling.choose(&logits, &key.child(position))? as u32;
        pending.push(unit);
        input = vec![unit];
        state = Some(next);
        let piece = vocabulary.decode(&pending);
        if position + 1 == request.length || !piece.ends_with(char::REPLACEMENT_CHARACTER) {
            show(&piece);
            text += &piece;
            pending.clear();
        }
    }
    Ok(text)
}

/// What text is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// What the text begins with.
    pub prompt: String,
    /// Units to write.
    pub length: usize,
    /// How units are chosen.
    pub sampling: Sampling,
    /// Of the choices.
    pub seed: u64,
}

impl GenerateRequest {
    /// Checks the request.
    ///
    /// # Errors
    ///
    /// If the length is not from 1 to 100,000,000, or the sampling settings do not fit.
    pub fn validate(&self) -> Result<(), TaskError> {
        const MOST: usize = 100_000_000;
        if !(1..=MOST).contains(&self.length) {
            return Err(TaskError::Request {
                what: "length",
                expected: format!("1 to {MOST}"),
                found: self.length.to_string(),
            });
        }
        Ok(self.sampling.validate()?)
    }
}

/// The text of a run, read, checked and cut.
struct Prepared {
    config: TextConfig,
    files: usize,
    vocabulary: Vocabulary,
    train: TextStreams,
    valid: TextStreams,
    units: [usize; 2],
}

impl Job for Prepared {
    const TASK: &'static str = TASK;
    const LOSS: &'static str = LOSS;
    type Config = TextConfig;
    type Model = CharLm;
    type Data = TextStreams;
    type Report = TextReport;

    fn training(config: &mut TextConfig) -> &mut TrainingConfig {
        &mut config.training
    }

    fn parts(&self) -> [&TextStreams; 2] {
        [&self.train, &self.valid]
    }

    /// The vocabulary stays that of the run: files that changed since it began may hold other
    /// characters.
    fn prepare(config: TextConfig, run: Option<&RunFolder>) -> Result<Self, TaskError> {
        let data = &config.data;
        let extensions: Vec<&str> = data.extensions.iter().map(String::as_str).collect();
        let corpus = Corpus::read(&data.paths, &extensions)?;
        let (train, valid) = corpus.split(data.valid)?;
        let vocabulary = match run {
            Some(run) => load_vocabulary(run)?,
            None => Vocabulary::new(data.units, [train]),
        };
        let key = Key::new(config.training.seed).child("data");
        let train = vocabulary.encode(train);
        let valid = vocabulary.encode(valid);
        let units = [train.len(), valid.len()];
        Ok(Self {
            files: corpus.files.len(),
            train: TextStreams::train(train, data.batch_size, data.window, &key)?,
            valid: TextStreams::eval(valid, data.batch_size, data.window)?,
            vocabulary,
            units,
            config,
        })
    }

    fn begin(&self, run: &RunFolder) -> Result<(), TaskError> {
        Ok(run.write_json(VOCABULARY, &self.vocabulary)?)
    }

    fn model(&self, device: &Device) -> Result<CharLm, TaskError> {
        let key = Key::new(self.config.training.seed).child("model");
        let symbols = self.vocabulary.len();
        Ok(self.config.model.try_init(symbols, &key, device)?)
    }

    fn report(
        &self,
        run: &RunFolder,
        model: &CharLm,
        device: &Device,
        training: Option<Ended>,
    ) -> Result<TextReport, TaskError> {
        let model = model.valid();
        let nats = evaluate_model(&model, &self.valid, device)?.loss;
        run.write_json(SAMPLES, &self.samples(&model, device)?)?;
        Ok(TextReport {
            run: run.root().to_path_buf(),
            training,
            files: self.files,
            units: self.units,
            vocabulary: self.vocabulary.len(),
            valid: TextScores {
                nats,
                bits_per_character: nats_to_bits(nats),
                perplexity: perplexity(nats),
            },
        })
    }
}

impl Prepared {
    /// Short texts by the model, without a prompt.
    fn samples(&self, model: &CharLm, device: &Device) -> Result<Samples, TaskError> {
        const TEXTS: u64 = 3;
        let sampling = Sampling {
            temperature: 0.8,
            top_k: None,
        };
        let sample = |seed| {
            let request = GenerateRequest {
                prompt: String::new(),
                length: 300,
                sampling,
                seed,
            };
            let text = write(model, &self.vocabulary, device, &request, |_| {})?;
            Ok(TextSample {
                prompt: request.prompt,
                text,
            })
        };
        Ok(Samples::Text {
            title: format!("Written at temperature {}", sampling.temperature),
            items: (0..TEXTS).map(sample).collect::<Result<_, TaskError>>()?,
        })
    }
}

const VOCABULARY: &str = "vocabulary.json";

fn load_vocabulary(run: &RunFolder) -> Result<Vocabulary, TaskError> {
    Ok(run.read_json(VOCABULARY)?)
}
