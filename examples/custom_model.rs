//! A model and a task of your own: some thirty lines, and a `main` that trains.
//!
//! Bits come in one after another, and after each the model has to say whether the ones so far are
//! even or odd in number. Guessing is right half of the time, and so is whatever looks at a part of
//! the bits: one that was missed or forgotten makes every later answer wrong. What is learned on
//! streams of 12 bits holds for streams of 2400.
//!
//! Checkpoints go to a folder: stop the run with Ctrl-C, start it again and it goes on.
//!
//! ```text
//! cargo run --release --example custom_model
//! cargo run --release --example custom_model -- FOLDER    # runs/parity unless there is a name
//! ```

use std::error::Error;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Int, Tensor, TensorData};
use rand::RngExt;
use scratch_examples::device_and_arguments;
use scratch_lstm::{Key, LstmState, ScratchLstm, ScratchLstmConfig};
use scratch_train::data::{Generated, SequenceData, Start, Window};
use scratch_train::loss::cross_entropy;
use scratch_train::models::linear;
use scratch_train::terminal::TerminalObserver;
use scratch_train::{Checkpoints, Interrupt, ResumeOptions, SequenceModel, StepOutput};
use scratch_train::{Trainer, TrainingConfig, evaluate};

// The model: what it makes of a window.

#[derive(Module, Debug)]
struct Parity {
    lstm: ScratchLstm,
    head: Linear,
}

/// Bits `[B, T, 1]`, and whether the ones up to each are odd in number `[B, T]`.
type Bits = (Tensor<3>, Tensor<2, Int>);

impl SequenceModel for Parity {
    type Batch = Bits;
    type State = LstmState;

    fn step(&self, batch: &Bits, state: Option<LstmState>, _: &Key) -> StepOutput<LstmState> {
        let (bits, odd) = batch.clone();
        let (hidden, state) = self.lstm.forward(bits, state);
        let outputs = self.head.forward(hidden); // [B, T, 2]
        let targets = odd.shape().num_elements();
        let loss = cross_entropy(outputs.clone().reshape([-1, 2]), odd.reshape([-1]));
        StepOutput {
            loss,
            targets,
            outputs,
            state,
        }
    }

    /// Sums over targets; the trainer divides and reports `valid_accuracy`.
    fn measure(
        &self,
        (_, odd): &Bits,
        out: &StepOutput<LstmState>,
    ) -> Vec<(&'static str, Tensor<1>)> {
        let answers: Tensor<2, Int> = out.outputs.clone().argmax(2).squeeze_dim(2);
        let right = answers.equal(odd.clone()).int().sum();
        vec![("accuracy", right.float())]
    }
}

// The task: any window of any epoch can be asked for, and is always the same.

fn streams(count: usize, steps: usize, key: Key) -> impl SequenceData<Batch = Bits> {
    Generated::new(count, move |epoch, index, device| {
        let mut rng = key.child(epoch).child(index).rng();
        let bits: Vec<i32> = (0..32 * steps).map(|_| rng.random_range(0..2)).collect();
        let bits = Tensor::<2, Int>::from_data(TensorData::new(bits, [32, steps]), device);
        let odd = bits.clone().cumsum(1).remainder_scalar(2);
        Window {
            batch: (bits.float().unsqueeze_dim(2), odd),
            start: Start::Fresh,
        }
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let (device, arguments) = device_and_arguments()?;
    let folder = arguments.first().map_or("runs/parity", String::as_str);
    let checkpoints = Checkpoints::new(folder);
    let is_new = checkpoints.list()?.is_empty();
    let key = Key::new(0);
    let model = Parity {
        lstm: ScratchLstmConfig::new(1, 16).try_init_with(&key.child("lstm"), &device)?,
        head: linear(16, 2, &key.child("head"), &device),
    };
    let config = TrainingConfig {
        epochs: 4,
        learning_rate: 3e-2,
        ..TrainingConfig::default()
    };

    let mut trainer = Trainer::new(model, config, &device)?
        .with_checkpoints(checkpoints)
        .with_callback(TerminalObserver::new())
        .with_interrupt(Interrupt::on_signals()?);
    if !is_new {
        trainer = trainer.resume(&ResumeOptions::default())?;
    }
    let train = streams(100, 12, key.child("train"));
    let outcome = trainer.fit(&train, &streams(10, 12, key.child("valid")))?;

    let long = streams(1, 2400, key.child("test"));
    let test = evaluate(&trainer.into_best_model(), &long, &device)?;
    println!("{} steps", outcome.steps);
    for (bits, scores) in [(12, &outcome.best.valid), (2400, &test)] {
        let percent = 100.0 * scores.metrics["accuracy"];
        println!("right after each of {bits:>4} bits: {percent:.2} %");
    }
    Ok(())
}
