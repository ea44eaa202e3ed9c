//! Losses on their way from the device to the host.

use burn::tensor::{Device, Tensor};

use super::Trainer;
use super::fit::Run;
use super::reader::{Reader, numbers};
use crate::backend;
use crate::callback::StepRow;
use crate::config::NonFinite;
use crate::error::TrainError;
use crate::loss::side_by_side;
use crate::model::SequenceModel;
use crate::progress::RunningMean;

/// Losses and norms that are still on the device. Reading one waits for the device, so they are
/// read together: at once where it is this processor, by a thread of their own where it goes on
/// computing meanwhile.
pub(super) struct Losses {
    /// Those that nobody reads yet.
    pending: Vec<Pending>,
    /// Those that are being read.
    reading: Option<Vec<Pending>>,
    reader: Option<Reader>,
    /// Norm of the last gradient that was read.
    pub(super) last_norm: Option<f64>,
    /// Losses that were read since they were last shown.
    pub(super) shown: RunningMean,
}

/// Losses, norms and rows that may come in while others are being read: the host is not to run
/// ahead of the device for long, for time budgets and signals are about what is done.
const AHEAD: usize = 64;

struct Pending {
    what: What,
    step: u64,
}

enum What {
    /// A mean over so many targets, `[1]`.
    Loss(Tensor<1>, usize),
    /// `[1]`
    Norm(Tensor<1>),
    /// A row of the record, to which what was read before it belongs.
    Row(StepRow),
}

impl Losses {
    pub(super) fn new(device: &Device) -> Self {
        Self {
            pending: Vec::new(),
            reading: None,
            reader: (!backend::is_processor(device)).then(Reader::new),
            last_norm: None,
            shown: RunningMean::default(),
        }
    }

    /// A window's mean loss, `[1]`, of the step to come.
    pub(super) fn add_loss(&mut self, loss: Tensor<1>, targets: usize, step: u64) {
        self.add(What::Loss(loss, targets), step);
    }

    /// The norm of a step's gradient, `[1]`.
    pub(super) fn add_norm(&mut self, norm: Tensor<1>, step: u64) {
        self.add(What::Norm(norm), step);
    }

    /// A row of the record, whose loss and norm are still to be read.
    pub(super) fn add_row(&mut self, row: StepRow) {
        let step = row.step;
        self.add(What::Row(row), step);
    }

    fn add(&mut self, what: What, step: u64) {
        self.pending.push(Pending { what, step });
    }
}

impl<M: SequenceModel> Trainer<'_, M> {
    /// Brings all that is pending to the host.
    pub(super) fn read_losses(&mut self, run: &mut Run<M>) -> Result<(), TrainError> {
        if let (Some(reading), Some(reader)) = (run.losses.reading.take(), &run.losses.reader) {
            let values = reader.take();
            self.take_in(run, reading, values)?;
        }
        let pending = std::mem::take(&mut run.losses.pending);
        let values = joined(&pending).map_or_else(Vec::new, numbers);
        self.take_in(run, pending, values)
    }

    /// Brings to the host what can be had without waiting for the device.
    pub(super) fn look_for_losses(&mut self, run: &mut Run<M>) -> Result<(), TrainError> {
        if run.losses.reader.is_none() {
            return self.read_losses(run);
        }
        let losses = &mut run.losses;
        if losses.reading.is_some() {
            let is_far_ahead = losses.pending.len() >= AHEAD;
            let values = losses
                .reader
                .as_ref()
                .and_then(|reader| match is_far_ahead {
                    true => Some(reader.take()),
                    false => reader.try_take(),
                });
            let Some(values) = values else { return Ok(()) };
            let reading = losses.reading.take().unwrap_or_default();
            self.take_in(run, reading, values)?;
        }
        let losses = &mut run.losses;
        let pending = std::mem::take(&mut losses.pending);
        if let (Some(values), Some(reader)) = (joined(&pending), &losses.reader) {
            reader.read(values);
            losses.reading = Some(pending);
        } else {
            losses.pending = pending;
        }
        Ok(())
    }

    /// Takes in what was read. Where steps may be skipped, a loss that is not finite is left out;
    /// its step will be, too.
    fn take_in(
        &mut self,
        run: &mut Run<M>,
        read: Vec<Pending>,
        values: Vec<f64>,
    ) -> Result<(), TrainError> {
        let mut values = values.into_iter();
        let mut next = || values.next().expect("a number for each");
        for Pending { what, step } in read {
            match what {
                What::Loss(_, targets) => {
                    let value = next();
                    if !value.is_finite() {
                        if self.config.non_finite == NonFinite::Skip {
                            continue;
                        }
                        return Err(self.diverged("loss", value, step));
                    }
                    for mean in [
                        &mut self.progress.train,
                        &mut self.progress.row,
                        &mut run.losses.shown,
                    ] {
                        mean.add(value, targets as f64);
                    }
                }
                What::Norm(_) => {
                    let value = next();
                    if !value.is_finite() {
                        return Err(self.diverged("norm of the gradient", value, step));
                    }
                    run.losses.last_norm = Some(value);
                }
                What::Row(row) => {
                    let mean = std::mem::take(&mut self.progress.row);
                    // Every step since the last row was skipped: there is no loss to speak of.
                    if mean.is_empty() {
                        continue;
                    }
                    let row = StepRow {
                        loss: mean.mean(),
                        grad_norm: run.losses.last_norm,
                        ..row
                    };
                    self.tell(|callback| callback.logged(&row));
                }
            }
        }
        Ok(())
    }
}

/// What is to be read, side by side, if anything is.
fn joined(pending: &[Pending]) -> Option<Tensor<1>> {
    let values = pending.iter().filter_map(|one| match &one.what {
        What::Loss(value, _) | What::Norm(value) => Some(value.clone()),
        What::Row(_) => None,
    });
    side_by_side(values.collect())
}
