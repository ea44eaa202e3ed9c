//! The adding problem (Hochreiter & Schmidhuber 1997): does the memory last?
//!
//! At every step the model reads a random number from 0 to 1 and a marker. Two steps are marked,
//! one in each half of the sequence; after the last step the model has to say the sum of their
//! numbers. To always say 1 has a mean squared error of 1/6, the variance of the sum. To do
//! better, the model must keep a number over dozens of steps that look just like it.
//!
//! It also shows what a task of your own needs: a batch, data that can be asked for any batch
//! ([`SequenceData`]), and a model that reads one ([`SequenceModel`]). The loop is the library's.
//!
//! ```text
//! cargo run --release --example adding_problem
//! cargo run --release --example adding_problem -- 30    # steps; 100 need more epochs than these
//! ```

use std::error::Error;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use scratch_examples::device_and_arguments;
use scratch_lstm::{Key, ScratchLstm, ScratchLstmConfig};
use scratch_train::data::{SequenceData, Start, Window};
use scratch_train::loss::mean_squared_error;
use scratch_train::models::linear;
use scratch_train::terminal::TerminalObserver;
use scratch_train::{SequenceModel, StepOutput, Trainer, TrainingConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let (device, arguments) = device_and_arguments()?;
    let steps = match arguments.first() {
        Some(steps) => parse_steps(steps)?,
        None => 50,
    };

    // Everything random follows from one seed and a path, so that a run can be repeated on any
    // backend: each purpose gets a stream of its own.
    let key = Key::new(0);
    let data = |name: &str, windows| AddingProblem {
        key: key.child(name),
        steps,
        windows,
    };
    let (train, valid) = (data("train", 100), data("valid", 10));

    let d_hidden = 32;
    let model = Adder {
        lstm: ScratchLstmConfig::new(CHANNELS, d_hidden)
            .try_init_with(&key.child("lstm"), &device)?,
        head: linear(d_hidden, 1, &key.child("head"), &device),
    };

    // Clipping by the global norm is on by default; without it one bad batch can undo a lot.
    let config = TrainingConfig {
        epochs: 12,
        learning_rate: 1e-2,
        ..TrainingConfig::default()
    };
    let progress = TerminalObserver::new().with_loss_unit("mean squared error");
    let mut trainer = Trainer::new(model, config, &device)?.with_callback(progress);
    let outcome = trainer.fit(&train, &valid)?;

    println!("sequences of {steps} steps, mean squared error of the sum");
    println!("  always 1    {:.5}", 1.0 / 6.0);
    println!("  the model   {:.5}", outcome.best.valid.loss);

    // The trained model on sequences that it has not seen, in its form without autodiff.
    let model = trainer.into_best_model();
    let batch = data("test", 1).window(0, 0, &device).batch;
    let sums = batch.sums.clone().into_data();
    let answers = model.answer(batch.inputs).into_data();
    println!("    sum   answer");
    for (sum, answer) in sums.iter::<f32>().zip(answers.iter::<f32>()).take(5) {
        println!("  {sum:.3}    {answer:.3}");
    }
    Ok(())
}

/// A number and a marker.
const CHANNELS: usize = 2;

/// Sequences in a batch.
const BATCH: usize = 32;

/// A batch of sequences: any type will do, the model and the data only have to agree on it.
struct AddingBatch {
    /// Numbers and markers, `[B, T, 2]`.
    inputs: Tensor<3>,
    /// The sums of the marked numbers, `[B, 1]`.
    sums: Tensor<2>,
}

/// Sequences made up as they are asked for.
struct AddingProblem {
    key: Key,
    steps: usize,
    windows: usize,
}

impl SequenceData for AddingProblem {
    type Batch = AddingBatch;

    fn windows(&self) -> usize {
        self.windows
    }

    /// A pure function of epoch and index: new sequences in each epoch of training, while
    /// validation always asks for those of epoch 0.
    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<AddingBatch> {
        let mut rng = self.key.child(epoch).child(index).rng();
        let mut inputs = Vec::with_capacity(BATCH * self.steps * CHANNELS);
        let mut sums = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let half = self.steps / 2;
            let marked = [
                rng.random_range(0..half),
                rng.random_range(half..self.steps),
            ];
            let mut sum = 0.0;
            for step in 0..self.steps {
                let number: f32 = rng.random();
                let marker = if marked.contains(&step) { 1.0 } else { 0.0 };
                sum += marker * number;
                inputs.extend([number, marker]);
            }
            sums.push(sum);
        }
        let inputs = TensorData::new(inputs, [BATCH, self.steps, CHANNELS]);
        let sums = TensorData::new(sums, [BATCH, 1]);
        Window {
            batch: AddingBatch {
                inputs: Tensor::from_data(inputs, device),
                sums: Tensor::from_data(sums, device),
            },
            // Every window holds whole sequences: no state is carried from one to the next.
            start: Start::Fresh,
        }
    }
}

/// An LSTM and a linear layer on its last hidden state.
#[derive(Module, Debug)]
struct Adder {
    lstm: ScratchLstm,
    head: Linear,
}

impl Adder {
    /// `[B, T, 2]` to `[B, 1]`.
    fn answer(&self, inputs: Tensor<3>) -> Tensor<2> {
        // The final state is [L*K, B, H], here of one layer and one direction.
        let (_, state) = self.lstm.forward(inputs, None);
        self.head.forward(state.hidden.squeeze_dim(0))
    }
}

impl SequenceModel for Adder {
    type Batch = AddingBatch;
    type State = ();

    fn step(&self, batch: &AddingBatch, _state: Option<()>, _key: &Key) -> StepOutput<()> {
        let answers = self.answer(batch.inputs.clone());
        StepOutput {
            loss: mean_squared_error(answers.clone(), batch.sums.clone()),
            targets: BATCH,
            outputs: answers.unsqueeze_dim(1),
            state: (),
        }
    }
}

fn parse_steps(argument: &str) -> Result<usize, String> {
    match argument.parse() {
        Ok(steps) if (2..=1000).contains(&steps) => Ok(steps),
        _ => Err(format!("expected 2 to 1000 steps, found `{argument}`")),
    }
}
