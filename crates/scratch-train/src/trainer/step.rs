//! A window, and a step of the optimizer.

use std::time::Instant;

use burn::tensor::Tensor;

use super::Trainer;
use super::fit::{Ahead, Run};
use crate::callback::{StepReport, StepRow};
use crate::config::{MOST_SKIPPED, NonFinite};
use crate::data::{SequenceData, Start};
use crate::error::TrainError;
use crate::gradients;
use crate::model::SequenceModel;
use crate::precision::{self, Precision};
use crate::progress::BestWeights;
use crate::schedule::Place;
use crate::step::train_window;

/// Seconds between two reports.
const REPORT_SECONDS: f64 = 0.2;

impl<M: SequenceModel> Trainer<'_, M> {
    /// One window, and a step of the optimizer if enough windows are in.
    pub(super) fn window(
        &mut self,
        run: &mut Run<M>,
        train: &impl SequenceData<Batch = M::Batch>,
    ) -> Result<(), TrainError> {
        let (epoch, index) = (self.progress.epoch, self.progress.window);
        let place = self.place(run, train.windows());
        let device = self.device.clone().autodiff();
        let window = match run.ahead.take() {
            Some(Ahead { place, window }) if place == (epoch, index) => window,
            _ => train.window(epoch, index, &device),
        };
        let carried = match &window.start {
            Start::Fresh => None,
            _ => self.carried.take(),
        };
        let key = self.key.child("step").child(epoch).child(index);
        let mut trained = match self.config.precision {
            Precision::F32 => train_window(&self.model, &window, carried, &key),
            lower => {
                let model = run.lowered.take();
                let model = model.unwrap_or_else(|| precision::lowered(&self.model, lower.dtype()));
                let mut trained = train_window(&model, &window, carried, &key);
                trained.grads = precision::raised(trained.grads, &self.model);
                run.lowered = Some(model);
                trained
            }
        };
        self.carried = Some(trained.state);
        run.reported_targets += trained.targets;
        let step = self.progress.step + 1;
        run.losses.add_loss(trained.loss, trained.targets, step);
        // While the device is busy with this window, before anybody waits for it.
        if run.is_queued {
            run.ahead = self.following(train.windows()).map(|place| Ahead {
                place,
                window: train.window(place.0, place.1, &device),
            });
        }

        // Windows weigh as much as they have targets.
        if self.config.accumulate > 1 {
            let weight = trained.targets as f64;
            trained.grads = gradients::scale_by(trained.grads, &self.model, weight);
        }
        self.gradients = Some(match self.gradients.take() {
            Some(sum) => gradients::add(sum, trained.grads, &self.model),
            None => trained.grads,
        });
        self.progress.accumulated.windows += 1;
        self.progress.accumulated.targets += trained.targets as u64;
        self.progress.window += 1;
        // More, if a run goes on with fewer than it began with.
        let is_full = self.progress.accumulated.windows >= self.config.accumulate;
        if is_full || self.progress.window == train.windows() {
            self.optimize(run, &place, train.windows())?;
        }
        Ok(())
    }

    /// Epoch and index of the window after this one.
    fn following(&self, windows: usize) -> Option<(usize, usize)> {
        let (epoch, index) = (self.progress.epoch, self.progress.window + 1);
        match index < windows {
            true => Some((epoch, index)),
            false => (epoch + 1 < self.config.epochs).then_some((epoch + 1, 0)),
        }
    }

    /// One step of the optimizer with the mean gradient over all targets since the last: what one
    /// window with all of them would have given.
    fn optimize(
        &mut self,
        run: &mut Run<M>,
        place: &Place,
        windows: usize,
    ) -> Result<(), TrainError> {
        let mut grads = self.gradients.take().unwrap_or_default();
        let accumulated = std::mem::take(&mut self.progress.accumulated);
        if self.config.accumulate > 1 {
            let share = 1.0 / accumulated.targets as f64;
            grads = gradients::scale_by(grads, &self.model, share);
        }
        let (value, norm) = (self.config.clip_value, self.config.clip_norm);
        let (grads, norm) = gradients::clip(grads, &self.model, value, norm);
        self.progress.step += 1;
        let learning_rate = self.schedule.at(place);
        if !self.is_to_be_skipped(run, norm.as_ref())? {
            if let Some(norm) = norm {
                run.losses.add_norm(norm, self.progress.step);
            }
            self.model = self.optimizer.step(
                self.groups.learning_rate(learning_rate),
                self.model.clone(),
                grads,
            );
            run.lowered = None;
            let after = self.place(run, windows);
            if let Some(average) = &mut self.average {
                average.after_step(&self.model, &after);
            }
            if self.progress.best_weights != BestWeights::None {
                self.progress.best_weights = BestWeights::Own;
            }
        }
        run.learning_rate = learning_rate;
        self.log(run)?;
        let elapsed = run.reported.elapsed().as_secs_f64();
        if !run.has_reported || elapsed >= REPORT_SECONDS {
            self.report(run, place.share, true)?;
        }
        Ok(())
    }

    /// Whether the step is left out because its gradient is not finite. The state that led to it
    /// is not carried on.
    fn is_to_be_skipped(
        &mut self,
        run: &mut Run<M>,
        norm: Option<&Tensor<1>>,
    ) -> Result<bool, TrainError> {
        if self.config.non_finite == NonFinite::Stop || norm.is_none_or(gradients::is_finite) {
            self.progress.skipped_in_a_row = 0;
            return Ok(false);
        }
        // What is pending is of steps before, whose norm is not that of this one.
        self.read_losses(run)?;
        run.losses.last_norm = None;
        self.carried = None;
        self.progress.skipped += 1;
        self.progress.skipped_in_a_row += 1;
        match self.progress.skipped_in_a_row {
            steps if steps >= MOST_SKIPPED => Err(TrainError::Skipping {
                step: self.progress.step,
                steps,
                last_good: self.last_checkpoint(),
            }),
            _ => Ok(true),
        }
    }

    /// A row of the record, if it is due: told when its loss has been read.
    fn log(&mut self, run: &mut Run<M>) -> Result<(), TrainError> {
        if !self
            .progress
            .step
            .is_multiple_of(self.config.log_every as u64)
        {
            return Ok(());
        }
        run.losses.add_row(StepRow {
            step: self.progress.step,
            epoch: self.progress.epoch,
            loss: f64::NAN,
            learning_rate: run.learning_rate,
            grad_norm: None,
            skipped: self.progress.skipped,
        });
        self.look_for_losses(run)
    }

    /// Tells whoever looks on: a few times a second, the first step whatever comes, and before each
    /// validation, so that even the shortest run says how fast it was.
    pub(super) fn report(
        &mut self,
        run: &mut Run<M>,
        share: f64,
        is_under_way: bool,
    ) -> Result<(), TrainError> {
        // The first report, and one before a validation, are about all that was done.
        match run.has_reported && is_under_way {
            true => self.look_for_losses(run)?,
            false => self.read_losses(run)?,
        }
        let shown = std::mem::take(&mut run.losses.shown);
        let elapsed = run.reported.elapsed().as_secs_f64();
        let report = StepReport {
            step: self.progress.step,
            epoch: self.progress.epoch,
            progress: share,
            loss: match shown.is_empty() {
                true => self.progress.train.mean(),
                false => shown.mean(),
            },
            learning_rate: run.learning_rate,
            grad_norm: run.losses.last_norm,
            targets_per_second: run.reported_targets as f64 / elapsed.max(1e-9),
            seconds: run.seconds(),
        };
        self.tell(|callback| callback.progressed(&report));
        run.reported = Instant::now();
        run.has_reported = true;
        run.reported_targets = 0;
        Ok(())
    }
}
