//! The training loop: one for every model, task and backend.
//!
//! ```text
//! window -> state in -> model -> loss -> backward -> (mean over windows) -> clip -> optimizer
//!        -> state out, detached -> next window
//! ```

use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use scratch_lstm::Key;

use crate::callback::{Callback, Ending, Plan, StepReport};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::config::TrainingConfig;
use crate::data::{SequenceData, Start};
use crate::error::TrainError;
use crate::evaluate::evaluate;
use crate::gradients;
use crate::model::SequenceModel;
use crate::optimizer::{ParameterGroups, with_path_ids};
use crate::progress::{Clock, Progress, Validation};
use crate::schedule::{Place, Schedule};
use crate::step::train_window;

/// Trains a model.
///
/// ```no_run
/// # use scratch_train::{SequenceModel, Trainer, TrainingConfig, TrainError, data::SequenceData};
/// # fn example<M: SequenceModel>(
/// #     model: M,
/// #     train: impl SequenceData<Batch = M::Batch>,
/// #     valid: impl SequenceData<Batch = M::Batch>,
/// #     device: burn::tensor::Device,
/// # ) -> Result<(), TrainError> {
/// let mut trainer = Trainer::new(model, TrainingConfig::default(), &device)?;
/// let outcome = trainer.fit(&train, &valid, &mut ())?;
/// println!("best validation loss {}", outcome.best.valid.loss);
/// let model = trainer.into_best_model();
/// # let _ = model;
/// # Ok(())
/// # }
/// ```
pub struct Trainer<M: SequenceModel> {
    config: TrainingConfig,
    device: Device,
    key: Key,
    model: M,
    best_model: Option<M>,
    optimizer: ModuleOptimizer,
    groups: ParameterGroups,
    carried: Option<M::State>,
    progress: Progress,
    clock: Clock,
    checkpoints: Option<Checkpoints>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Why.
    pub ending: Ending,
    /// The best validation, that of [`Trainer::into_best_model`].
    pub best: Validation,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Seconds spent, over all resumptions.
    pub seconds: f64,
}

impl<M: SequenceModel> Trainer<M> {
    /// A run from the beginning, on `device` (with or without autodiff: training adds it).
    ///
    /// # Errors
    ///
    /// If a setting is outside what it accepts.
    pub fn new(model: M, config: TrainingConfig, device: &Device) -> Result<Self, TrainError> {
        config.validate()?;
        Schedule::new(&config.schedule, config.learning_rate)?;
        let device = device.clone().without_autodiff();
        let model = with_path_ids(model.to_device(&device).valid().train());
        let groups = ParameterGroups::new(
            &model,
            &config.optimizer,
            &config.groups,
            config.decay_biases,
        )?;
        Ok(Self {
            key: Key::new(config.seed),
            model,
            best_model: None,
            optimizer: config.optimizer.init(&groups),
            groups,
            carried: None,
            progress: Progress::default(),
            clock: Clock::default(),
            checkpoints: None,
            config,
            device,
        })
    }

    /// Writes checkpoints, one after each validation.
    pub fn with_checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// A run that goes on from its last checkpoint. `model` gives the architecture.
    ///
    /// # Errors
    ///
    /// If there is no checkpoint, or it is damaged or of another architecture.
    pub fn resume(
        model: M,
        config: TrainingConfig,
        device: &Device,
        checkpoints: Checkpoints,
    ) -> Result<Self, TrainError> {
        let mut trainer = Self::new(model, config, device)?;
        let last = Checkpoint::open(&checkpoints.last()?)?;
        let progress = last.progress()?;
        if progress.best.is_some() {
            let best = Checkpoint::open(&checkpoints.best()?)?;
            trainer.best_model = Some(best.load_model(trainer.model.valid())?);
        }
        trainer.model = last.load_model(trainer.model)?;
        trainer.optimizer = last.load_optimizer(trainer.optimizer)?;
        trainer.carried = last.load_carried(&trainer.device.clone().autodiff())?;
        trainer.clock = last.clock()?;
        trainer.progress = progress;
        trainer.checkpoints = Some(checkpoints);
        Ok(trainer)
    }

    /// How far the run has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The model as it is now, in its form for training.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model of the best validation, in its form without autodiff; the current one before any
    /// validation.
    pub fn into_best_model(self) -> M {
        self.best_model.unwrap_or_else(|| self.model.valid())
    }

    /// Trains until an end; see [`Ending`].
    ///
    /// # Errors
    ///
    /// If there is no data, the loss is no number any more, or a checkpoint cannot be written.
    pub fn fit(
        &mut self,
        train: &impl SequenceData<Batch = M::Batch>,
        valid: &impl SequenceData<Batch = M::Batch>,
        observer: &mut dyn Callback,
    ) -> Result<Outcome, TrainError> {
        for (what, windows) in [
            ("training", train.windows()),
            ("validation", valid.windows()),
        ] {
            if windows == 0 {
                return Err(TrainError::NoData { what });
            }
        }
        observer.started(&Plan {
            windows: train.windows(),
            epochs: self.config.epochs,
            max_time: self.config.max_time,
            resumed_at: self.progress.step,
        });
        let mut run = Run {
            schedule: Schedule::new(&self.config.schedule, self.config.learning_rate)?,
            budget: self.config.max_time.map(Budget::new),
            started: Instant::now(),
            seconds_before: self.clock.seconds,
            accumulator: GradientsAccumulator::new(),
            accumulated: 0,
            accumulated_targets: 0.0,
            pending: Vec::new(),
            reported: Instant::now(),
            has_reported: false,
            reported_targets: 0,
        };
        let ending = self.epochs(&mut run, train, valid, observer)?;
        if self.progress.last.as_ref().map(|last| last.step) != Some(self.progress.step) {
            self.validate(&mut run, valid, observer)?;
        }
        if !self.progress.finished {
            self.progress.finished = true;
            self.save(&run, false, observer)?;
        }
        observer.ended(ending);
        Ok(Outcome {
            ending,
            best: self
                .progress
                .best
                .clone()
                .expect("a run ends with a validation"),
            steps: self.progress.step,
            seconds: run.seconds(),
        })
    }

    fn epochs(
        &mut self,
        run: &mut Run<M>,
        train: &impl SequenceData<Batch = M::Batch>,
        valid: &impl SequenceData<Batch = M::Batch>,
        observer: &mut dyn Callback,
    ) -> Result<Ending, TrainError> {
        self.progress.finished = false;
        let windows = train.windows();
        while self.progress.epoch < self.config.epochs {
            while self.progress.window < windows {
                if run.out_of_time() {
                    return Ok(Ending::OutOfTime);
                }
                let ends_epoch = self.progress.window + 1 == windows;
                self.window(run, train, observer)?;
                self.progress.window += 1;
                // Only whole steps are validated and saved.
                if run.accumulated > 0 && !ends_epoch {
                    continue;
                }
                if self.validation_is_due(run, ends_epoch) {
                    if ends_epoch {
                        self.next_epoch();
                    }
                    self.validate(run, valid, observer)?;
                    if self.is_out_of_patience() {
                        return Ok(Ending::NoGain);
                    }
                    if ends_epoch {
                        break;
                    }
                } else if ends_epoch {
                    self.next_epoch();
                    break;
                }
            }
        }
        Ok(Ending::Finished)
    }

    fn next_epoch(&mut self) {
        self.progress.epoch += 1;
        self.progress.window = 0;
    }

    /// One window, and a step of the optimizer if enough windows are in.
    fn window(
        &mut self,
        run: &mut Run<M>,
        train: &impl SequenceData<Batch = M::Batch>,
        observer: &mut dyn Callback,
    ) -> Result<(), TrainError> {
        let (epoch, index) = (self.progress.epoch, self.progress.window);
        let autodiff = self.device.clone().autodiff();
        let window = train.window(epoch, index, &autodiff);
        let carried = match &window.start {
            Start::Fresh => None,
            _ => self.carried.take(),
        };
        let key = self.key.child("step").child(epoch).child(index);
        let trained = train_window(&self.model, &window, carried, &key);
        self.carried = Some(trained.state);
        run.reported_targets += trained.targets;
        run.pending.push(PendingLoss {
            loss: trained.loss,
            targets: trained.targets,
            step: self.progress.step + 1,
        });
        run.accumulate(
            &self.model,
            trained.grads,
            trained.targets,
            self.config.accumulate,
            &self.device,
        );
        let is_full = run.accumulated == self.config.accumulate;
        if is_full || index + 1 == train.windows() {
            let windows = train.windows();
            let place = Place {
                step: self.progress.step,
                epoch: epoch as f64 + index as f64 / windows as f64,
                share: self.share_done(run, windows),
            };
            self.optimize(run, place, observer)?;
        }
        Ok(())
    }

    /// One step of the optimizer.
    fn optimize(
        &mut self,
        run: &mut Run<M>,
        place: Place,
        observer: &mut dyn Callback,
    ) -> Result<(), TrainError> {
        let grads = run.take_mean(&self.model, &self.device);
        let (grads, norm) = match self.config.clip_norm {
            Some(max_norm) => gradients::clip_global_norm(grads, &self.model, max_norm),
            None => (grads, None),
        };
        let learning_rate = run.schedule.at(&place);
        self.model = self.optimizer.step(
            self.groups.learning_rate(learning_rate),
            self.model.clone(),
            grads,
        );
        self.progress.step += 1;
        // Reading a loss waits for the device, so losses are read a few times a second; the first
        // one always is, so that even the shortest run leaves a report.
        if !run.has_reported || run.reported.elapsed().as_secs_f64() >= REPORT_SECONDS {
            run.has_reported = true;
            let loss = self.read_losses(run)?;
            let elapsed = run.reported.elapsed().as_secs_f64();
            observer.progressed(&StepReport {
                step: self.progress.step,
                epoch: self.progress.epoch,
                progress: place.share,
                loss,
                learning_rate,
                grad_norm: norm.map(|norm| norm.into_scalar()),
                targets_per_second: run.reported_targets as f64 / elapsed,
                seconds: run.seconds(),
            });
            run.reported = Instant::now();
            run.reported_targets = 0;
        }
        Ok(())
    }

    /// Brings the losses of the last steps to the host: their mean.
    fn read_losses(&mut self, run: &mut Run<M>) -> Result<f64, TrainError> {
        let pending = std::mem::take(&mut run.pending);
        if pending.is_empty() {
            return Ok(self.progress.train.mean());
        }
        let losses = Tensor::cat(pending.iter().map(|one| one.loss.clone()).collect(), 0);
        let losses: Vec<f64> = losses.into_data().iter::<f64>().collect();
        let mut sum = 0.0;
        let mut weight = 0.0;
        for (one, loss) in pending.iter().zip(losses) {
            if !loss.is_finite() {
                return Err(self.diverged(one.step, loss));
            }
            self.progress.train.add(loss, one.targets as f64);
            sum += loss * one.targets as f64;
            weight += one.targets as f64;
        }
        Ok(sum / weight)
    }

    fn diverged(&self, step: u64, loss: f64) -> TrainError {
        TrainError::Diverged {
            step,
            loss,
            last_good: self
                .checkpoints
                .as_ref()
                .and_then(|checkpoints| checkpoints.last().ok()),
        }
    }

    fn validation_is_due(&self, run: &Run<M>, ends_epoch: bool) -> bool {
        if let Some(budget) = &run.budget {
            return budget.validation_is_due(run.seconds());
        }
        match self.config.validate_every {
            Some(every) => self.progress.step.is_multiple_of(every as u64),
            None => ends_epoch,
        }
    }

    /// Validates, keeps the model if it is the best, and writes a checkpoint.
    fn validate(
        &mut self,
        run: &mut Run<M>,
        valid: &impl SequenceData<Batch = M::Batch>,
        observer: &mut dyn Callback,
    ) -> Result<(), TrainError> {
        self.read_losses(run)?;
        let began = Instant::now();
        let model = self.model.valid();
        let evaluation = evaluate(&model, valid, &self.device)?;
        if !evaluation.loss.is_finite() {
            return Err(self.diverged(self.progress.step, evaluation.loss));
        }
        let validation = Validation {
            step: self.progress.step,
            epoch: self.progress.epoch,
            train_loss: std::mem::take(&mut self.progress.train).mean(),
            valid: evaluation,
        };
        let is_best = self
            .progress
            .best
            .as_ref()
            .is_none_or(|best| validation.valid.loss < best.valid.loss);
        self.progress.last = Some(validation.clone());
        if is_best {
            self.progress.best = Some(validation.clone());
            self.progress.without_gain = 0;
            self.best_model = Some(model);
        } else {
            self.progress.without_gain += 1;
        }
        observer.validated(&validation, is_best);
        self.save(run, is_best, observer)?;
        let seconds = run.seconds();
        if let Some(budget) = &mut run.budget {
            budget.validated(seconds, began.elapsed().as_secs_f64());
        }
        // Validation does not count against the speed of training.
        run.reported = Instant::now();
        run.reported_targets = 0;
        Ok(())
    }

    fn save(
        &mut self,
        run: &Run<M>,
        best: bool,
        observer: &mut dyn Callback,
    ) -> Result<(), TrainError> {
        self.clock.seconds = run.seconds();
        if let Some(checkpoints) = &self.checkpoints {
            let folder = checkpoints.save(
                &self.model,
                &self.optimizer,
                self.carried.as_ref(),
                &self.progress,
                self.clock,
                best,
            )?;
            observer.saved(&folder);
        }
        Ok(())
    }

    fn is_out_of_patience(&self) -> bool {
        self.config
            .patience
            .is_some_and(|patience| self.progress.without_gain >= patience)
    }

    /// The share of the run that is done: by the clock if there is a budget.
    fn share_done(&self, run: &Run<M>, windows: usize) -> f64 {
        match &run.budget {
            Some(budget) => run.seconds() / budget.seconds,
            None => {
                let done = self.progress.epoch * windows + self.progress.window;
                done as f64 / (self.config.epochs * windows) as f64
            }
        }
    }
}

/// Seconds between two reports.
const REPORT_SECONDS: f64 = 0.2;

/// What lives only while `fit` runs.
struct Run<M> {
    schedule: Schedule,
    budget: Option<Budget>,
    started: Instant,
    seconds_before: f64,
    accumulator: GradientsAccumulator<M>,
    accumulated: usize,
    accumulated_targets: f64,
    pending: Vec<PendingLoss>,
    reported: Instant,
    has_reported: bool,
    reported_targets: usize,
}

/// A loss that is still on the device.
struct PendingLoss {
    loss: Tensor<1>,
    targets: usize,
    step: u64,
}

impl<M: Module> Run<M> {
    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn out_of_time(&self) -> bool {
        self.budget
            .as_ref()
            .is_some_and(|budget| budget.is_spent(self.seconds()))
    }

    /// Adds a window's gradient, weighted by its targets if there will be others.
    fn accumulate(
        &mut self,
        model: &M,
        grads: GradientsParams,
        targets: usize,
        of: usize,
        device: &Device,
    ) {
        let grads = if of > 1 {
            let weight = Tensor::from_floats([targets as f32], device);
            gradients::scale(grads, model, &weight)
        } else {
            grads
        };
        self.accumulator.accumulate(model, grads);
        self.accumulated += 1;
        self.accumulated_targets += if of > 1 { targets as f64 } else { 1.0 };
    }

    /// The mean gradient over all targets since the last step: what one window with all of them
    /// would have given.
    fn take_mean(&mut self, model: &M, device: &Device) -> GradientsParams {
        let grads = self.accumulator.grads();
        let weight = self.accumulated_targets;
        (self.accumulated, self.accumulated_targets) = (0, 0.0);
        if weight == 1.0 {
            return grads;
        }
        let factor = Tensor::from_floats([1.0 / weight as f32], device);
        gradients::scale(grads, model, &factor)
    }
}

/// A time budget: when to validate, and when to stop so that the last validation still fits.
struct Budget {
    seconds: f64,
    validation: f64,
    next_validation: f64,
}

impl Budget {
    /// Validations are spread evenly, this many if they are short.
    const VALIDATIONS: f64 = 20.0;

    fn new(seconds: f64) -> Self {
        Self {
            seconds,
            validation: 0.0,
            next_validation: seconds / Self::VALIDATIONS,
        }
    }

    fn is_spent(&self, now: f64) -> bool {
        now + self.validation >= self.seconds
    }

    fn validation_is_due(&self, now: f64) -> bool {
        now >= self.next_validation && !self.is_spent(now)
    }

    /// The next one comes after at least nine times as long as this one took.
    fn validated(&mut self, now: f64, took: f64) {
        self.validation = self.validation.max(took);
        self.next_validation = now + (self.seconds / Self::VALIDATIONS).max(9.0 * took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_spreads_validations_and_leaves_room_for_the_last() {
        let mut budget = Budget::new(100.0);
        assert!(!budget.validation_is_due(4.9));
        assert!(budget.validation_is_due(5.0));
        budget.validated(5.0, 2.0);
        assert!(!budget.validation_is_due(22.9));
        assert!(budget.validation_is_due(23.0));
        assert!(!budget.is_spent(97.9));
        assert!(budget.is_spent(98.0));
    }
}
