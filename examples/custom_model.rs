//! A model and a task of your own, in what it takes and no more.
//!
//! Bits come in one after another, and after each the model has to say whether the ones so far are
//! even or odd in number. Guessing is right half of the time, and so is whatever looks at a part of
//! the bits: one that was missed or forgotten makes every later answer wrong. Training has streams of
//! 32 bits in windows of 8, the state being carried from one to the next (truncated backpropagation
//! through time); what was learned holds for streams eighty times as long.
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
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::RngExt;
use scratch_examples::device_and_arguments;
use scratch_lstm::{Key, LstmState, ScratchLstm, ScratchLstmConfig};
use scratch_train::callback::{Callback, Control};
use scratch_train::data::{SequenceData, Start, Window};
use scratch_train::loss::cross_entropy;
use scratch_train::models::linear;
use scratch_train::progress::Validation;
use scratch_train::terminal::TerminalObserver;
use scratch_train::{Checkpoints, Interrupt, ResumeOptions, SequenceModel, StepOutput};
use scratch_train::{Trainer, TrainingConfig};

// The model: an LSTM and a linear layer. All there is to say about it is what it makes of a window.

#[derive(Module, Debug)]
struct Parity {
    lstm: ScratchLstm,
    head: Linear,
}

struct Bits {
    /// `[B, T, 1]`, 0 or 1.
    inputs: Tensor<3>,
    /// `[B, T]`, whether the ones up to here are odd in number.
    odd: Tensor<2, Int>,
}

impl SequenceModel for Parity {
    type Batch = Bits;
    type State = LstmState;

    fn step(&self, bits: &Bits, state: Option<LstmState>, _key: &Key) -> StepOutput<LstmState> {
        let (hidden, state) = self.lstm.forward(bits.inputs.clone(), state);
        let logits = self.head.forward(hidden); // [B, T, 2]
        StepOutput {
            loss: cross_entropy(
                logits.clone().reshape([-1, 2]),
                bits.odd.clone().reshape([-1]),
            ),
            targets: bits.odd.shape().num_elements(),
            outputs: logits,
            state,
        }
    }

    /// Sums over targets; the trainer divides and reports `valid_accuracy`.
    fn measure(&self, bits: &Bits, out: &StepOutput<LstmState>) -> Vec<(&'static str, f64)> {
        let answers: Tensor<2, Int> = out.outputs.clone().argmax(2).squeeze_dim(2);
        let right = answers.equal(bits.odd.clone()).int().sum();
        vec![("accuracy", right.into_scalar::<i64>() as f64)]
    }
}

// The task: any window of any epoch can be asked for, and is always the same.

struct Streams {
    key: Key,
    /// Windows in an epoch.
    windows: usize,
    /// Windows until all rows begin anew.
    stream: usize,
}

const ROWS: usize = 32;
const STEPS: usize = 8;

impl SequenceData for Streams {
    type Batch = Bits;

    fn windows(&self) -> usize {
        self.windows
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<Bits> {
        // The parity so far follows from the bits before: drawn again, window by window.
        let first = index - index % self.stream;
        let (mut bits, mut odd) = (Vec::new(), vec![0i32; ROWS]);
        let mut answers = Vec::new();
        for window in first..=index {
            let mut rng = self.key.child(epoch).child(window).rng();
            (bits, answers) = (Vec::new(), Vec::new());
            for parity in &mut odd {
                for _ in 0..STEPS {
                    let bit: bool = rng.random();
                    *parity ^= i32::from(bit);
                    bits.push(f32::from(u8::from(bit)));
                    answers.push(*parity);
                }
            }
        }
        let inputs = TensorData::new(bits, [ROWS, STEPS, 1]);
        let odd = TensorData::new(answers, [ROWS, STEPS]);
        Window {
            batch: Bits {
                inputs: Tensor::from_data(inputs, device),
                odd: Tensor::from_data(odd, device),
            },
            start: if index == first {
                Start::Fresh
            } else {
                Start::Continue
            },
        }
    }
}

/// A callback: nothing is left to learn once every answer is right.
#[derive(Default)]
struct StopWhenPerfect {
    is_perfect: bool,
}

impl Callback for StopWhenPerfect {
    fn validated(&mut self, validation: &Validation, _best: bool) {
        self.is_perfect = validation.valid.metrics["accuracy"] == 1.0;
    }

    fn stepped(&mut self, _step: u64) -> Control {
        match self.is_perfect {
            true => Control::Stop,
            false => Control::Continue,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (device, arguments) = device_and_arguments()?;
    let folder = arguments.first().map_or("runs/parity", String::as_str);
    let checkpoints = Checkpoints::new(folder);
    let is_new = checkpoints.list()?.is_empty();

    let key = Key::new(0);
    let d_hidden = 16;
    let model = Parity {
        lstm: ScratchLstmConfig::new(1, d_hidden).try_init_with(&key.child("lstm"), &device)?,
        head: linear(d_hidden, 2, &key.child("head"), &device),
    };
    let streams = |name: &str, windows, stream| Streams {
        key: key.child(name),
        windows,
        stream,
    };
    let config = TrainingConfig {
        epochs: 20,
        learning_rate: 3e-2,
        ..TrainingConfig::default()
    };
    let mut trainer = Trainer::new(model, config, &device)?
        .with_checkpoints(checkpoints)
        .with_callback(TerminalObserver::new())
        .with_callback(StopWhenPerfect::default())
        .with_interrupt(Interrupt::on_signals()?);
    if !is_new {
        trainer = trainer.resume(&ResumeOptions::default())?;
    }
    let outcome = trainer.fit(&streams("train", 40, 4), &streams("valid", 20, 20))?;
    let accuracy = outcome.best.valid.metrics["accuracy"];
    println!("{:?} after {} steps", outcome.ending, outcome.steps);
    println!(
        "right after each of 160 bits of a stream: {:.2} %",
        100.0 * accuracy
    );

    // Sixteen times as many bits as in any stream of the validation.
    let (long, model) = (streams("test", 320, 320), trainer.into_best_model());
    let mut state = None;
    let (mut right, mut answers) = (0.0, 0);
    for index in 0..long.windows() {
        let window = long.window(0, index, &device);
        let out = model.step(&window.batch, state.take(), &key);
        right += model.measure(&window.batch, &out)[0].1;
        answers += out.targets;
        state = Some(out.state);
    }
    println!(
        "of {} bits: {:.2} %",
        320 * STEPS,
        100.0 * right / answers as f64
    );
    Ok(())
}
