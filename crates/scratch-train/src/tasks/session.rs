//! What the training of every task has in common.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::config::TrainingConfig;
use crate::data::SequenceData;
use crate::model::SequenceModel;
use crate::observer::Observer;
use crate::progress::Validation;
use crate::report::{self, LossPlot};
use crate::run::{Recorder, RunFolder};
use crate::tasks::TaskError;
use crate::trainer::{Outcome, Trainer};
use crate::{Checkpoint, Ending};

/// How the training of a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Why: `finished`, `out_of_time` or `no_gain`.
    pub ending: String,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Seconds spent, over all resumptions.
    pub seconds: f64,
    /// The validation by which the model was chosen.
    pub best: Validation,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        let ending = match outcome.ending {
            Ending::Finished => "finished",
            Ending::OutOfTime => "out_of_time",
            Ending::NoGain => "no_gain",
        };
        Self {
            ending: ending.into(),
            steps: outcome.steps,
            seconds: outcome.seconds,
            best: outcome.best,
        }
    }
}

/// Trains from the beginning in a new run folder: the best model.
pub(super) fn train<M: SequenceModel>(
    run: &RunFolder,
    model: M,
    training: &TrainingConfig,
    device: &Device,
    data: [&impl SequenceData<Batch = M::Batch>; 2],
    loss: &str,
    observer: &mut dyn Observer,
) -> Result<(M, Ended), TaskError> {
    let trainer = Trainer::new(model, training.clone(), device)?;
    let trainer = trainer.with_checkpoints(run.checkpoints());
    finish(run, trainer, data, loss, observer)
}

/// A trainer at a run's last checkpoint; nothing is written yet.
pub(super) fn reopen<M: SequenceModel>(
    run: &RunFolder,
    model: M,
    training: &TrainingConfig,
    device: &Device,
) -> Result<Trainer<M>, TaskError> {
    let trainer = Trainer::resume(model, training.clone(), device, run.checkpoints())?;
    let done = trainer.progress().epoch;
    if training.epochs < done {
        return Err(TaskError::Request {
            what: "epochs",
            expected: format!("at least {done} in all (so many are done)"),
            found: training.epochs.to_string(),
        });
    }
    Ok(trainer)
}

/// `model` with the weights of a run's best validation, in its form without autodiff.
pub(super) fn best_model<M: SequenceModel>(run: &RunFolder, model: M) -> Result<M, TaskError> {
    let checkpoint = Checkpoint::open(&run.checkpoints().best()?)?;
    Ok(checkpoint.load_model(model.valid())?)
}

/// Trains to the end: the best model.
pub(super) fn finish<M: SequenceModel>(
    run: &RunFolder,
    mut trainer: Trainer<M>,
    [train, valid]: [&impl SequenceData<Batch = M::Batch>; 2],
    loss: &str,
    observer: &mut dyn Observer,
) -> Result<(M, Ended), TaskError> {
    let mut recorder = Recorder::new(run, trainer.progress().step, observer)?;
    let outcome = trainer.fit(train, valid, &mut recorder)?;
    recorder.finish()?;
    plot_loss(run, loss)?;
    Ok((trainer.into_best_model(), outcome.into()))
}

fn plot_loss(run: &RunFolder, loss: &str) -> Result<(), TaskError> {
    let curve = run.curve()?;
    let train: Vec<_> = curve.iter().map(|row| (row.step, row.train_loss)).collect();
    let valid: Vec<_> = curve.iter().map(|row| (row.step, row.valid_loss)).collect();
    let plot = LossPlot {
        title: "Loss",
        y_axis: loss,
        train: &train,
        valid: &valid,
    };
    report::save(run.plots().join("loss.svg"), &plot.to_svg()?)?;
    Ok(())
}
