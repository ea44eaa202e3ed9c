//! Losses on their way from the device to the host.

use burn::tensor::Tensor;

use super::Trainer;
use super::fit::Run;
use crate::config::NonFinite;
use crate::error::TrainError;
use crate::model::SequenceModel;

/// Losses and norms that are still on the device. Reading one waits for the device, so they are
/// read together, a few times a second.
#[derive(Default)]
pub(super) struct Losses {
    pending: Vec<Pending>,
    /// Norm of the last gradient that was read.
    pub(super) last_norm: Option<f64>,
}

struct Pending {
    what: What,
    value: Tensor<1>,
    step: u64,
}

#[derive(Clone, Copy)]
enum What {
    /// A mean over so many targets.
    Loss(usize),
    Norm,
}

impl Losses {
    /// A window's mean loss, `[1]`, of the step to come.
    pub(super) fn add_loss(&mut self, loss: Tensor<1>, targets: usize, step: u64) {
        self.add(What::Loss(targets), loss, step);
    }

    /// The norm of a step's gradient, `[1]`.
    pub(super) fn add_norm(&mut self, norm: Tensor<1>, step: u64) {
        self.add(What::Norm, norm, step);
    }

    fn add(&mut self, what: What, value: Tensor<1>, step: u64) {
        self.pending.push(Pending { what, value, step });
    }
}

impl<M: SequenceModel> Trainer<'_, M> {
    /// Brings what is pending to the host: the mean of the losses, if there were any. Where steps
    /// may be skipped, a loss that is not finite is left out; its step will be, too.
    pub(super) fn read_losses(&mut self, run: &mut Run<M>) -> Result<Option<f64>, TrainError> {
        let pending = std::mem::take(&mut run.losses.pending);
        if pending.is_empty() {
            return Ok(None);
        }
        let values = Tensor::cat(pending.iter().map(|one| one.value.clone()).collect(), 0);
        let values: Vec<f64> = values.into_data().iter::<f64>().collect();
        let mut sum = 0.0;
        let mut weight = 0.0;
        for (one, value) in pending.iter().zip(values) {
            match one.what {
                What::Loss(targets) => {
                    if !value.is_finite() {
                        if self.config.non_finite == NonFinite::Skip {
                            continue;
                        }
                        return Err(self.diverged("loss", value, one.step));
                    }
                    self.progress.train.add(value, targets as f64);
                    self.progress.row.add(value, targets as f64);
                    sum += value * targets as f64;
                    weight += targets as f64;
                }
                What::Norm => {
                    if !value.is_finite() {
                        return Err(self.diverged("norm of the gradient", value, one.step));
                    }
                    run.losses.last_norm = Some(value);
                }
            }
        }
        Ok((weight > 0.0).then(|| sum / weight))
    }
}
