//! A character model that was trained in PyTorch learns a second language here, and goes back.
//!
//! `data/pytorch_char_lm.pt` is the state dict of an embedding, an LSTM and a linear layer that
//! have read the reference of the Python language (`data/make_pytorch_char_lm.py` made it). Its
//! bits per character on this repository's Rust sources are measured before and after some
//! seconds of training on them; then the model is written as `.safetensors` under the names that
//! PyTorch's `load_state_dict` looks for.
//!
//! ```text
//! cargo run --release --example finetune_pytorch
//! cargo run --release --example finetune_pytorch -- out.safetensors
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::nn::{Embedding, Linear};
use burn::tensor::Device;
use scratch_examples::{REPOSITORY, device_and_arguments};
use scratch_lstm::weights::{PytorchFile, PytorchOptions, WeightsError, save_safetensors};
use scratch_lstm::{Key, ScratchLstm};
use scratch_train::data::{Corpus, TextStreams};
use scratch_train::metrics::nats_to_bits;
use scratch_train::models::CharLm;
use scratch_train::terminal::TerminalObserver;
use scratch_train::{Trainer, TrainingConfig, evaluate};

const STATE_DICT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pytorch_char_lm.pt");

fn main() -> Result<(), Box<dyn Error>> {
    let (device, arguments) = device_and_arguments()?;
    let output = match arguments.first() {
        Some(path) => PathBuf::from(path),
        None => std::env::temp_dir().join("finetuned_char_lm.safetensors"),
    };

    let file = PytorchFile::open(STATE_DICT)?;
    println!("from PyTorch:");
    for name in file.names() {
        println!("  {name:<18} {:?}", file.shape(&name)?);
    }
    let model = from_pytorch(&file, &device)?;

    // The model's symbols are ASCII codes, so the text must be read as such: weights without
    // their vocabulary are worth nothing.
    let corpus = Corpus::read(&[REPOSITORY], &["rs"])?;
    let (train, valid) = corpus.split(0.05)?;
    let ascii = |text: &str| text.bytes().filter(u8::is_ascii).map(u32::from).collect();
    let train = TextStreams::train(ascii(train), 16, 32, &Key::new(0).child("data"))?;
    let valid = TextStreams::eval(ascii(valid), 128, 32)?;

    let before = evaluate(&model, &valid, &device)?.loss;

    // A lower learning rate than from scratch: what the model knows already shall last.
    //
    // PyTorch has two biases for each gate and adds them up; here they arrive as their sum. The
    // function is the same, training is not quite: there each of the two gets the same gradient
    // and makes a step of its own, so that their sum moves twice as fast as this one.
    let config = TrainingConfig {
        epochs: 1000,
        max_time: Some(15.0),
        learning_rate: 2e-3,
        ..TrainingConfig::default()
    };
    let progress = TerminalObserver::new().with_loss_unit("nats per character");
    let mut trainer = Trainer::new(model, config, &device)?.with_callback(progress);
    let outcome = trainer.fit(&train, &valid)?;

    println!("bits per character on Rust sources that it was not trained on:");
    println!("  as it came         {:.3}", nats_to_bits(before));
    println!(
        "  after {:>3.0} s        {:.3}",
        outcome.seconds,
        nats_to_bits(outcome.best.valid.loss)
    );

    // And back. In PyTorch, with the same three modules:
    //
    //     model.load_state_dict(safetensors.torch.load_file("finetuned_char_lm.safetensors"))
    let model = trainer.into_best_model();
    to_pytorch(&model, &output)?;

    // Whether it arrived: the same bits from the file as from memory.
    let again = from_pytorch(&PytorchFile::open(&output)?, &device)?;
    let again = evaluate(&again, &valid, &device)?.loss;
    println!(
        "  read back from {}: {:.3}",
        output.display(),
        nats_to_bits(again)
    );
    Ok(())
}

/// The model of a state dict with `embed`, `lstm` and `head`. Sizes come from the file.
fn from_pytorch(file: &PytorchFile, device: &Device) -> Result<CharLm, WeightsError> {
    let lstm: ScratchLstm = file.lstm("lstm", &PytorchOptions::default(), device)?;
    let embed = Embedding {
        weight: Param::from_tensor(file.tensor::<2>("embed.weight", device)?),
    };
    // PyTorch's linear layers hold [d_output, d_input], burn's [d_input, d_output]. An LSTM's
    // matrices are as PyTorch has them.
    let head = Linear {
        weight: Param::from_tensor(file.tensor::<2>("head.weight", device)?.transpose()),
        bias: Some(Param::from_tensor(file.tensor::<1>("head.bias", device)?)),
    };
    Ok(CharLm::from_parts(embed, lstm, head, 0.0))
}

/// Writes a state dict that the PyTorch model loads: its names, shapes and both biases, of which
/// the second is zero.
fn to_pytorch(model: &CharLm, path: &Path) -> Result<(), WeightsError> {
    let mut tensors = model.lstm.to_pytorch("lstm")?;
    let embed = model.embed.weight.val();
    let head = model.head.weight.val().transpose();
    tensors.insert("embed.weight".into(), embed.into_data());
    tensors.insert("head.weight".into(), head.into_data());
    if let Some(bias) = &model.head.bias {
        tensors.insert("head.bias".into(), bias.val().into_data());
    }
    save_safetensors(path, &tensors)
}
