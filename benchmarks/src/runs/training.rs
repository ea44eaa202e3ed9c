//! What the training loop adds to the arithmetic of training, and what a checkpoint adds to that.
//!
//! One run of the trainer is cut into blocks of ten steps: of bare steps, of the loop, and of the
//! loop with checkpoints, in an order that rotates. All three see nearly the same machine, and
//! nothing but steps is timed. Ten blocks of each make a round, with one checkpoint.

use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use scratch_lstm::{Key, LstmState, RecurrentState, ScratchLstm};
use scratch_train::data::{SequenceData, Start, Window};
use scratch_train::optimizer::ParameterGroups;
use scratch_train::schedule::ScheduleConfig;
use scratch_train::{
    Callback, CheckpointConfig, Checkpoints, Control, SequenceModel, StepOutput, Trainer,
    TrainingConfig,
};

use crate::error::BenchmarkError;
use crate::peers::{BurnModel, PeerError, input, mean_of_squares};
use crate::report::training::{HEAD, TITLE};
use crate::session::Session;
use crate::statistics::{Spread, median, spread};
use crate::workload::Size;

/// Steps of a block.
const BLOCK: usize = 10;

/// Blocks of each kind in a round: one checkpoint in a hundred steps.
const TURNS: usize = 10;

/// One size.
#[derive(Debug, Clone, PartialEq)]
pub struct Overhead {
    /// The size.
    pub size: Size,
    /// Median seconds of a bare step.
    pub bare: f64,
    /// The time until bare steps were handed to the device over that until it had done them.
    pub host: Spread,
    /// Time of the loop over that of bare steps.
    pub training: Spread,
    /// Time of the loop with a checkpoint in a block over that without.
    pub checkpoint: Spread,
    /// Rounds.
    pub rounds: usize,
}

/// Times each size in `--pairs` rounds.
///
/// # Errors
///
/// If the device fails, or a checkpoint cannot be written.
pub fn run(session: &Session) -> Result<(), BenchmarkError> {
    let report = &session.report;
    report.head(&session.head(&[]))?;
    report.note(&format!("{TITLE}\n\n{HEAD}"))?;
    let sizes = match session.args.sizes.is_empty() {
        true => vec![Size::STANDARD[0]],
        false => session.args.sizes.clone(),
    };
    for size in sizes {
        eprintln!("{size} …");
        let rounds = usize::from(session.args.pairs);
        let row = measure(&session.chosen.device, size, rounds)?;
        report.row(&row)?;
    }
    Ok(())
}

fn measure(device: &Device, size: Size, rounds: usize) -> Result<Overhead, BenchmarkError> {
    let tracking = device.clone().autodiff();
    let model = Measured {
        lstm: ScratchLstm::build(size, &tracking)?,
    };
    let data = Repeated {
        plain: input([size.b, size.t, size.d], device),
        tracking: input([size.b, size.t, size.d], &tracking),
        // An epoch is never over: its end would be a validation.
        windows: (2 * rounds * TURNS + 2) * BLOCK,
    };
    let config = TrainingConfig {
        epochs: 1,
        learning_rate: 1e-3,
        schedule: ScheduleConfig::constant(),
        clip_norm: Some(1.0),
        checkpoints: CheckpointConfig {
            every_minutes: None,
            ..CheckpointConfig::default()
        },
        ..TrainingConfig::default()
    };
    let groups = ParameterGroups::new(&model, &config.optimizer, &[], config.decay_biases)?;
    let optimizer = config.optimizer.init(&groups);
    let mut bare = Bare::new(model.clone(), optimizer, config.learning_rate, &data);
    // Threads, kernels and buffers.
    bare.steps(BLOCK, device)?;
    let folder = tempfile::tempdir()?;
    let mut rotation = Rotation::new(bare, device, rounds);
    let mut trainer = Trainer::new(model, config, device)?
        .with_checkpoints(Checkpoints::new(folder.path()))
        .with_callback(&mut rotation);
    trainer.fit(&data, &data.one())?;
    drop(trainer);
    rotation.into_overhead(size)
}

/// An LSTM whose loss is the mean of its output's squares.
#[derive(Module, Debug)]
struct Measured {
    lstm: ScratchLstm,
}

impl SequenceModel for Measured {
    type Batch = Tensor<3>;
    type State = LstmState;

    fn step(
        &self,
        input: &Tensor<3>,
        state: Option<LstmState>,
        _key: &Key,
    ) -> StepOutput<LstmState> {
        let (outputs, state) = self.lstm.forward(input.clone(), state);
        let [rows, steps, _] = outputs.dims();
        StepOutput {
            loss: mean_of_squares(outputs.clone()),
            targets: rows * steps,
            outputs,
            state,
        }
    }
}

/// The same window again and again, which is on the device already.
#[derive(Debug, Clone)]
struct Repeated {
    plain: Tensor<3>,
    tracking: Tensor<3>,
    windows: usize,
}

impl Repeated {
    fn one(&self) -> Self {
        Self {
            windows: 1,
            ..self.clone()
        }
    }
}

impl SequenceData for Repeated {
    type Batch = Tensor<3>;

    fn windows(&self) -> usize {
        self.windows
    }

    fn window(&self, _epoch: usize, _index: usize, device: &Device) -> Window<Tensor<3>> {
        Window {
            batch: match device.is_autodiff() {
                true => self.tracking.clone(),
                false => self.plain.clone(),
            },
            start: Start::Continue,
        }
    }
}

/// What training cannot do without: forward, backward and the optimizer's step.
struct Bare {
    model: Option<Measured>,
    optimizer: ModuleOptimizer,
    learning_rate: f64,
    state: Option<LstmState>,
    data: Repeated,
    key: Key,
}

impl Bare {
    fn new(
        model: Measured,
        optimizer: ModuleOptimizer,
        learning_rate: f64,
        data: &Repeated,
    ) -> Self {
        Self {
            model: Some(model),
            optimizer,
            learning_rate,
            state: None,
            data: data.clone(),
            key: Key::new(0),
        }
    }

    /// So many steps.
    fn steps(&mut self, steps: usize, device: &Device) -> Result<Timed, PeerError> {
        sync(device)?;
        let start = Instant::now();
        for _ in 0..steps {
            let model = self.model.take().expect("put back below");
            let output = model.step(&self.data.tracking, self.state.take(), &self.key);
            self.state = Some(output.state.detach());
            let grads = GradientsParams::from_grads(output.loss.backward(), &model);
            self.model = Some(self.optimizer.step(self.learning_rate, model, grads));
        }
        // What is still gathered on the host goes to the device; nobody waits until it is done.
        device.flush().map_err(failed)?;
        let host = start.elapsed().as_secs_f64();
        sync(device)?;
        let all = start.elapsed().as_secs_f64();
        Ok(Timed { host, all })
    }
}

/// Seconds of some steps.
struct Timed {
    /// Until they were handed to the device.
    host: f64,
    /// Until it had done them.
    all: f64,
}

fn sync(device: &Device) -> Result<(), PeerError> {
    device.sync().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> PeerError {
    PeerError::Device(error.to_string())
}

/// A block of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Bare,
    Loop,
    Checkpoint,
}

/// A block of each kind at each turn; the order rotates, so that each comes first, second and last.
fn order(turns: usize) -> Vec<Block> {
    let mut kinds = [Block::Bare, Block::Loop, Block::Checkpoint];
    let mut order = Vec::new();
    for _ in 0..turns {
        order.extend(kinds);
        kinds.rotate_left(1);
    }
    order
}

/// Turns the steps of a run into blocks and times them.
struct Rotation<'a> {
    bare: Bare,
    device: &'a Device,
    rounds: usize,
    blocks: std::vec::IntoIter<Block>,
    /// The block that the loop is in; none before the first.
    current: Option<Block>,
    done: usize,
    began: Instant,
    seconds: [Vec<f64>; 3],
    /// Of bare steps, until they were handed to the device.
    host: Vec<f64>,
    failure: Option<PeerError>,
}

impl<'a> Rotation<'a> {
    fn new(bare: Bare, device: &'a Device, rounds: usize) -> Self {
        Self {
            bare,
            device,
            rounds,
            blocks: order(rounds * TURNS).into_iter(),
            current: None,
            done: 0,
            began: Instant::now(),
            seconds: Default::default(),
            host: Vec::new(),
            failure: None,
        }
    }

    fn note(&mut self, block: Block, seconds: f64) {
        self.seconds[block as usize].push(seconds);
    }

    /// After a step of the loop.
    fn advance(&mut self) -> Result<Control, PeerError> {
        self.done += 1;
        // A block of the loop comes first, which does not count.
        if self.done < BLOCK {
            let is_first = self.done == 1
                && self.current == Some(Block::Checkpoint)
                && self.seconds[Block::Checkpoint as usize].len() % TURNS == TURNS / 2;
            return Ok(if is_first {
                Control::Save
            } else {
                Control::Continue
            });
        }
        sync(self.device)?;
        if let Some(block) = self.current {
            self.note(block, self.began.elapsed().as_secs_f64());
        }
        self.done = 0;
        loop {
            match self.blocks.next() {
                None => return Ok(Control::Stop),
                Some(Block::Bare) => {
                    let Timed { host, all } = self.bare.steps(BLOCK, self.device)?;
                    self.note(Block::Bare, all);
                    self.host.push(host);
                }
                next => {
                    self.current = next;
                    self.began = Instant::now();
                    return Ok(Control::Continue);
                }
            }
        }
    }

    fn into_overhead(self, size: Size) -> Result<Overhead, BenchmarkError> {
        if let Some(failure) = self.failure {
            return Err(failure.into());
        }
        let by_rounds = |blocks: Vec<f64>| -> Vec<f64> {
            let rounds = blocks.chunks(TURNS);
            rounds.map(|turns| turns.iter().sum()).collect()
        };
        let [bare, training, checkpoint] = self.seconds.map(by_rounds);
        let host = by_rounds(self.host);
        let ratios = |one: &[f64], other: &[f64]| -> Vec<f64> {
            one.iter()
                .zip(other)
                .map(|(one, other)| one / other)
                .collect()
        };
        Ok(Overhead {
            size,
            bare: median(&bare) / (TURNS * BLOCK) as f64,
            host: spread(&ratios(&host, &bare)),
            training: spread(&ratios(&training, &bare)),
            checkpoint: spread(&ratios(&checkpoint, &training)),
            rounds: self.rounds,
        })
    }
}

impl Callback for &mut Rotation<'_> {
    fn stepped(&mut self, _step: u64) -> Control {
        let next = self.advance();
        next.unwrap_or_else(|failure| {
            self.failure = Some(failure);
            Control::Stop
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_first_second_and_last() {
        use Block::*;
        let expected = [
            [Bare, Loop, Checkpoint],
            [Loop, Checkpoint, Bare],
            [Checkpoint, Bare, Loop],
        ];
        assert_eq!(order(3), expected.concat());
    }

    #[test]
    fn each_round_has_one_checkpoint() {
        let size = Size::new(2, 3, 4, 5);
        let overhead = measure(&Device::flex(), size, 2).unwrap();
        assert_eq!((overhead.size, overhead.rounds), (size, 2));
        assert!(overhead.bare > 0.0);
        // A processor has done what it was given.
        let host = overhead.host.median;
        assert!((0.5..=1.0).contains(&host), "{host}");
        // So small a step costs less than a checkpoint's files.
        assert!(overhead.checkpoint.median > 1.0, "{overhead:?}");
    }
}
