//! Classification of sequences of different lengths: which language is a surname from?
//!
//! A bidirectional LSTM reads the letters; the final states of both directions tell the language.
//! Shorter names of a batch are padded, and the LSTM is told their lengths: the state of each is
//! that after its own last letter, and the padding counts for nothing.
//!
//! ```text
//! cargo run --release --example classification
//! cargo run --release --example classification -- Lindqvist Moreau     # guesses for these
//! ```

use std::error::Error;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use scratch_examples::device_and_arguments;
use scratch_lstm::Key;
use scratch_train::baselines::{constant_accuracy, most_frequent};
use scratch_train::data::{LabelledConfig, LabelledWindows, SplitConfig, Vocabulary, embedded};
use scratch_train::models::{Classifier, ClassifierConfig};
use scratch_train::terminal::TerminalObserver;
use scratch_train::{Trainer, TrainingConfig, evaluate};

fn main() -> Result<(), Box<dyn Error>> {
    let (device, mut names) = device_and_arguments()?;
    names.retain(|name| !name.trim().is_empty());
    if names.is_empty() {
        names = ["Kowalczyk", "Yamashita", "Papadopoulos", "Fitzgerald"]
            .map(String::from)
            .into();
    }

    // Each language is divided by itself, 80/10/10, so that every part has its share of the rare
    // ones. Letters that do not occur in the training part are unknown letters.
    let key = Key::new(0);
    let data = embedded::surnames()?;
    let split = data.split(&SplitConfig::LABELLED, &key.child("data"))?;
    let vocabulary = Vocabulary::chars(data.texts(&split.train));

    // Names of about the same length come into the same batch: less padding.
    let batches = LabelledConfig {
        batch_size: 128,
        ..LabelledConfig::default()
    };
    let shuffle = key.child("data");
    let train = LabelledWindows::train(&data, &split.train, &vocabulary, &batches, &shuffle)?;
    let valid = LabelledWindows::eval(&data, &split.valid, &vocabulary, &batches)?;
    let test = LabelledWindows::eval(&data, &split.test, &vocabulary, &batches)?;

    let (symbols, classes) = (vocabulary.len(), data.labels.len());
    let model =
        ClassifierConfig::default().try_init(symbols, classes, &key.child("model"), &device)?;
    let config = TrainingConfig {
        epochs: 4,
        learning_rate: 6e-3,
        ..TrainingConfig::default()
    };
    let progress = TerminalObserver::new().with_loss_unit("nats per name");
    let mut trainer = Trainer::new(model, config, &device)?.with_callback(progress);
    trainer.fit(&train, &valid)?;
    let model = trainer.into_best_model();

    // A classifier has to beat whoever has only counted the languages.
    let frequent = most_frequent(&data.labels_of(&split.train)).ok_or("no names to learn from")?;
    let counted = constant_accuracy(&data.labels_of(&split.test), frequent);
    let accuracy = evaluate(&model, &test, &device)?.metrics["accuracy"];
    println!(
        "{} names of {classes} languages, accuracy on {} of them that were kept back",
        data.examples.len(),
        split.test.len()
    );
    println!(
        "  always {:<12} {:>5.1} %",
        data.labels[frequent],
        100.0 * counted
    );
    println!("  the model           {:>5.1} %", 100.0 * accuracy);

    println!("guesses");
    for (name, guesses) in names
        .iter()
        .zip(guess(&model, &vocabulary, &names, &device))
    {
        let guesses: Vec<_> = guesses
            .iter()
            .map(|(label, share)| format!("{} {:.0} %", data.labels[*label], 100.0 * share))
            .collect();
        println!("  {name:<14} {}", guesses.join(", "));
    }
    Ok(())
}

/// For each name its three likeliest labels, with their probabilities.
fn guess(
    model: &Classifier,
    vocabulary: &Vocabulary,
    names: &[String],
    device: &Device,
) -> Vec<Vec<(usize, f32)>> {
    let names: Vec<_> = names.iter().map(|name| vocabulary.encode(name)).collect();
    let lengths: Vec<_> = names.iter().map(Vec::len).collect();
    let steps = lengths.iter().copied().max().unwrap_or(0);

    // [B, T]; what the padding is does not matter.
    let mut padded = vec![0; names.len() * steps];
    for (row, name) in padded.chunks_mut(steps.max(1)).zip(&names) {
        for (place, &symbol) in row.iter_mut().zip(name) {
            *place = symbol as i32;
        }
    }
    let inputs = TensorData::new(padded, [names.len(), steps]);
    let inputs = Tensor::<2, Int>::from_data(inputs, device);

    // The key is for dropout, which a model without autodiff does not have.
    let logits = model.predict(inputs, &lengths, &Key::new(0));
    let [_, classes] = logits.dims();
    let shares = activation::softmax(logits, 1).into_data();
    let shares: Vec<f32> = shares.iter::<f32>().collect();
    let best = |row: &[f32]| {
        let mut shares: Vec<_> = row.iter().copied().enumerate().collect();
        shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        shares.truncate(3);
        shares
    };
    shares.chunks(classes).map(best).collect()
}
