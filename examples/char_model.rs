//! A character model: reads a text character by character, learns what comes next, and writes.
//!
//! The text is cut into streams that are read side by side. Gradients go back over one window
//! (truncated backpropagation through time), but the state is carried from window to window, so
//! that the model knows more than the window it is in.
//!
//! ```text
//! cargo run --release --example char_model                    # this repository's .rs and .md files
//! cargo run --release --example char_model -- some/text.txt   # files, or folders of .rs and .md
//! ```

use std::error::Error;

use burn::tensor::{Device, Int, Tensor};
use scratch_examples::{REPOSITORY, device_and_arguments};
use scratch_lstm::Key;
use scratch_train::data::{Corpus, TextStreams, Vocabulary};
use scratch_train::generate::Sampling;
use scratch_train::metrics::{nats_to_bits, perplexity};
use scratch_train::models::{CharLm, CharLmConfig};
use scratch_train::terminal::TerminalObserver;
use scratch_train::{Trainer, TrainingConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let (device, mut paths) = device_and_arguments()?;
    if paths.is_empty() {
        paths.push(REPOSITORY.into());
    }

    // The end of the text is for validation. The vocabulary is the training part's: a character
    // that only occurs after it is an unknown one, as it would be in any other text.
    let corpus = Corpus::read(&paths, &["rs", "md"])?;
    let (train, valid) = corpus.split(0.05)?;
    let vocabulary = Vocabulary::chars([train]);
    let (train, valid) = (vocabulary.encode(train), vocabulary.encode(valid));
    println!(
        "{} files, {} characters to learn from, {} different ones",
        corpus.files.len(),
        train.len(),
        vocabulary.len() - 1
    );

    // 16 streams side by side, 32 characters of each at a time: one step of the optimizer. With
    // half a minute to go, many small steps get further than few large ones. In validation
    // nothing is learned, and more streams are just quicker.
    let key = Key::new(0);
    let train = TextStreams::train(train, 16, 32, &key.child("data"))?;
    let valid = TextStreams::eval(valid, 128, 32)?;

    let config = CharLmConfig {
        d_hidden: 128,
        ..CharLmConfig::default()
    };
    let model = config.try_init(vocabulary.len(), &key.child("model"), &device)?;

    // With a time budget the learning rate follows the clock instead of the epochs, and the run
    // ends with a validated model when time is up.
    let training = TrainingConfig {
        epochs: 1000,
        max_time: Some(30.0),
        learning_rate: 1e-2,
        ..TrainingConfig::default()
    };
    let progress = TerminalObserver::new().with_loss_unit("nats per character");
    let mut trainer = Trainer::new(model, training, &device)?.with_callback(progress);
    let outcome = trainer.fit(&train, &valid)?;

    let nats = outcome.best.valid.loss;
    println!(
        "{:.3} bits per character, as if guessing among {:.1} characters",
        nats_to_bits(nats),
        perplexity(nats)
    );

    let model = trainer.into_best_model();
    println!(
        "\n{}",
        write(&model, &vocabulary, "\npub fn ", 400, &device)?
    );
    Ok(())
}

/// `prompt` and `length` characters that the model goes on with.
fn write(
    model: &CharLm,
    vocabulary: &Vocabulary,
    prompt: &str,
    length: usize,
    device: &Device,
) -> Result<String, Box<dyn Error>> {
    // A temperature below 1 makes the likely likelier; at 0 the text would soon go round in
    // circles.
    let sampling = Sampling {
        temperature: 0.7,
        ..Sampling::default()
    };
    let key = Key::new(0).child("write");
    let mut written = vocabulary.encode(prompt);
    let mut read = 0;
    let mut state = None;
    for _ in 0..length {
        // Only what the model has not read yet: the state knows the rest.
        let unread = written[read..].iter().map(|&symbol| symbol as i32);
        let unread: Vec<i32> = unread.collect();
        read = written.len();
        let symbols = Tensor::<1, Int>::from_data(unread.as_slice(), device);
        let (logits, next) = model.predict(symbols.unsqueeze(), state, &key);
        state = Some(next);

        // [1, T, symbols]: what comes after the last step.
        let [_, steps, _] = logits.dims();
        let logits = logits.narrow(1, steps - 1, 1).into_data();
        let mut logits: Vec<f32> = logits.iter::<f32>().collect();
        if let Some(unknown) = vocabulary.unknown() {
            logits[unknown] = f32::NEG_INFINITY;
        }
        written.push(sampling.choose(&logits, &key.child(read))? as u32);
    }
    Ok(vocabulary.decode(&written))
}
