//! From the first window to the last.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::budget::Budget;
use super::losses::Losses;
use super::{Outcome, Trainer};
use crate::backend::{self, panic_message};
use crate::callback::{Control, Ending, Plan, SavedStates};
use crate::checkpoint::Snapshot;
use crate::data::{SequenceData, Window};
use crate::environment::Environment;
use crate::error::{CheckpointError, TrainError};
use crate::evaluate::evaluate;
use crate::gradients;
use crate::interrupt::Interrupt;
use crate::lock::FolderLock;
use crate::model::SequenceModel;
use crate::progress::{BestWeights, Validation};
use crate::schedule::Place;

/// What lives only while `fit` runs.
pub(super) struct Run<M: SequenceModel> {
    pub(super) losses: Losses,
    /// Whether the device queues what it is asked for, so that the host has time meanwhile.
    pub(super) is_queued: bool,
    /// The window to come, if it was made ahead.
    pub(super) ahead: Option<Ahead<M::Batch>>,
    /// The model in the precision it computes in, until the next step.
    pub(super) lowered: Option<M>,
    pub(super) reported: Instant,
    pub(super) has_reported: bool,
    pub(super) reported_targets: usize,
    /// That of the last step.
    pub(super) learning_rate: f64,
    budget: Option<Budget>,
    started: Instant,
    seconds_before: f64,
    saved: Instant,
    /// Whether something happened since the last checkpoint.
    is_unsaved: bool,
    environment: Option<Environment>,
}

/// A window, and its epoch and index.
pub(super) struct Ahead<B> {
    pub(super) place: (usize, usize),
    pub(super) window: Window<B>,
}

impl<M: SequenceModel> Run<M> {
    pub(super) fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn is_out_of_time(&self) -> bool {
        let budget = self.budget.as_ref();
        budget.is_some_and(|budget| budget.is_spent(self.seconds()))
    }
}

impl<M: SequenceModel> Trainer<'_, M> {
    /// A panic becomes an error: a lost device, a bug in a model or in the data.
    pub(super) fn guarded<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        if self.panicked.is_none() {
            match catch_unwind(AssertUnwindSafe(|| run(self))) {
                Ok(result) => return result,
                // What the panic left half done is not looked at any more.
                Err(panic) => self.panicked = Some(panic_message(&*panic)),
            }
        }
        Err(TrainError::Panicked {
            step: self.progress.step,
            message: self.panicked.clone().unwrap_or_default(),
            last_good: self.last_checkpoint(),
        })
    }

    pub(super) fn run(
        &mut self,
        train: &impl SequenceData<Batch = M::Batch>,
        valid: &impl SequenceData<Batch = M::Batch>,
    ) -> Result<Outcome, TrainError> {
        let interrupt = self.interrupt.clone();
        let _listening = interrupt.as_ref().map(Interrupt::listen);
        let _lock = self.begin_checkpoints()?;
        self.start(train.windows())?;
        let mut run = Run {
            losses: Losses::new(&self.device),
            is_queued: !backend::is_processor(&self.device),
            ahead: None,
            lowered: None,
            reported: Instant::now(),
            has_reported: false,
            reported_targets: 0,
            learning_rate: 0.0,
            budget: self
                .config
                .max_time
                .map(|seconds| Budget::new(seconds, self.clock.seconds)),
            started: Instant::now(),
            seconds_before: self.clock.seconds,
            saved: Instant::now(),
            is_unsaved: false,
            environment: self
                .checkpoints
                .as_ref()
                .map(|_| Environment::current(&self.device)),
        };
        // Where no checkpoint can be written, this is said before the first step and not after an
        // hour; and a run that is cut off at once can go on.
        if self.checkpoints.is_some() && self.last_checkpoint().is_none() {
            self.save(&mut run)?;
        }
        let ending = self.windows(&mut run, train, valid)?;
        self.finish(&mut run, ending, valid)?;
        self.tell(|callback| callback.ended(ending));
        if let Ending::Interrupted(signal) = ending {
            return Err(TrainError::Interrupted {
                signal,
                step: self.progress.step,
                last_good: self.last_checkpoint(),
            });
        }
        let best = self.progress.best.clone();
        Ok(Outcome {
            ending,
            best: best.expect("a run ends with a validation"),
            steps: self.progress.step,
            skipped: self.progress.skipped,
            seconds: run.seconds(),
        })
    }

    /// The right to write checkpoints. Those of another run are no place for this one's.
    fn begin_checkpoints(&mut self) -> Result<Option<FolderLock>, TrainError> {
        let Some(checkpoints) = &self.checkpoints else {
            return Ok(None);
        };
        let lock = checkpoints.begin()?;
        match checkpoints.last() {
            Ok(found) if !self.owns_checkpoints => Err(CheckpointError::Taken {
                path: checkpoints.folder().into(),
                found: found.display().to_string(),
            }
            .into()),
            _ => {
                self.owns_checkpoints = true;
                Ok(Some(lock))
            }
        }
    }

    /// Everybody is told that it begins.
    fn start(&mut self, windows: usize) -> Result<(), TrainError> {
        self.load_callbacks()?;
        let warnings = self.settle()?;
        let plan = Plan {
            windows,
            epochs: self.config.epochs,
            max_time: self.config.max_time,
            resumed_at: self.progress.step,
        };
        self.tell(|callback| callback.started(&plan));
        for warning in warnings {
            self.tell(|callback| callback.warned(&warning));
        }
        Ok(())
    }

    /// Window by window, with what comes between two of them.
    fn windows(
        &mut self,
        run: &mut Run<M>,
        train: &impl SequenceData<Batch = M::Batch>,
        valid: &impl SequenceData<Batch = M::Batch>,
    ) -> Result<Ending, TrainError> {
        let windows = train.windows();
        // Data that are shorter than those the run began with, or a place made up by hand: beyond
        // the last window the end of the epoch would never be met.
        if self.progress.window >= windows {
            self.progress.epoch += 1;
            self.progress.window = 0;
        }
        loop {
            if let Some(ending) = self.ending(run) {
                return Ok(ending);
            }
            self.window(run, train)?;
            run.is_unsaved = true;
            self.progress.finished = false;
            let ends_epoch = self.progress.window == windows;
            if ends_epoch {
                self.progress.epoch += 1;
                self.progress.window = 0;
            }

            let mut control = Control::Continue;
            let mut is_save_due = self.minutes_are_over(run);
            // Only whole steps are validated.
            if self.progress.accumulated.windows == 0 {
                let step = self.progress.step;
                self.tell(|callback| control = control.max(callback.stepped(step)));
                let every = self.config.checkpoints.every_steps;
                is_save_due |= ends_epoch
                    || control == Control::Save
                    || every.is_some_and(|every| step.is_multiple_of(every as u64));
                if control >= Control::Validate || self.validation_is_due(run, ends_epoch) {
                    if run.reported_targets > 0 {
                        let share = self.place(run, windows).share;
                        self.report(run, share, false)?;
                    }
                    self.validate(run, valid)?;
                    is_save_due = true;
                }
            }
            if control == Control::Stop {
                return Ok(Ending::Stopped);
            }
            // The last checkpoint is left to the end, which marks it.
            if is_save_due && self.ending(run).is_none() {
                self.save(run)?;
            }
        }
    }

    /// Whether the run is over. Apart from time and signals it follows from settings and progress
    /// alone, so that a run that ended stays ended when it is resumed.
    fn ending(&self, run: &Run<M>) -> Option<Ending> {
        let (config, progress) = (&self.config, &self.progress);
        let is_out_of_patience = |patience| progress.without_gain >= patience;
        if progress.epoch >= config.epochs {
            return Some(Ending::Finished);
        }
        if config.patience.is_some_and(is_out_of_patience) {
            return Some(Ending::NoGain);
        }
        if run.is_out_of_time() {
            return Some(Ending::OutOfTime);
        }
        let signal = self.interrupt.as_ref().and_then(Interrupt::requested);
        signal.map(Ending::Interrupted)
    }

    /// The last validation and the last checkpoint.
    fn finish(
        &mut self,
        run: &mut Run<M>,
        ending: Ending,
        valid: &impl SequenceData<Batch = M::Batch>,
    ) -> Result<(), TrainError> {
        if let Ending::Interrupted(_) = ending {
            return match run.is_unsaved {
                true => self.save(run),
                false => Ok(()),
            };
        }
        let last = self.progress.last.as_ref().map(|last| last.step);
        if last != Some(self.progress.step) {
            self.validate(run, valid)?;
            run.is_unsaved = true;
        }
        if !self.progress.finished || run.is_unsaved {
            self.progress.finished = true;
            self.save(run)?;
        }
        Ok(())
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

    fn minutes_are_over(&self, run: &Run<M>) -> bool {
        let minutes = self.config.checkpoints.every_minutes;
        minutes.is_some_and(|minutes| run.saved.elapsed().as_secs_f64() >= 60.0 * minutes)
    }

    /// Validates, and keeps the model if it is the best.
    fn validate(
        &mut self,
        run: &mut Run<M>,
        valid: &impl SequenceData<Batch = M::Batch>,
    ) -> Result<(), TrainError> {
        self.read_losses(run)?;
        let began = Instant::now();
        let average = self.average.as_ref().and_then(|average| average.model());
        let (model, weights) = match average {
            Some(average) => (average.clone(), BestWeights::Average),
            None => (self.model.valid(), BestWeights::Model),
        };
        let evaluation = evaluate(&model, valid, &self.device)?;
        if !evaluation.loss.is_finite() {
            let step = self.progress.step;
            return Err(self.diverged("validation loss", evaluation.loss, step));
        }
        let by = &self.config.best_by;
        let value = by.value(&evaluation)?;
        let is_best = match &self.progress.best {
            Some(best) => by.is_better(value, by.value(&best.valid)?),
            None => true,
        };
        let goal = by.goal;
        let validation = Validation {
            step: self.progress.step,
            epoch: self.progress.epoch,
            train_loss: std::mem::take(&mut self.progress.train).mean(),
            valid: evaluation,
        };
        self.progress.last = Some(validation.clone());
        if is_best {
            self.progress.best = Some(validation.clone());
            self.progress.best_weights = weights;
            self.progress.without_gain = 0;
            self.best_model = Some(model);
        } else {
            self.progress.without_gain += 1;
        }
        self.schedule.observe(value, goal);
        if let Some(average) = &mut self.average {
            average.validated(value, goal);
        }
        self.tell(|callback| callback.validated(&validation, is_best));
        let seconds = run.seconds();
        if let Some(budget) = &mut run.budget {
            budget.validated(seconds, began.elapsed().as_secs_f64());
        }
        // Validation does not count against the speed of training.
        run.reported = Instant::now();
        run.reported_targets = 0;
        Ok(())
    }

    /// Writes a checkpoint, if there is a place for it.
    fn save(&mut self, run: &mut Run<M>) -> Result<(), TrainError> {
        // Nothing that is not finite is saved.
        self.read_losses(run)?;
        self.check_weights()?;
        self.clock.seconds = run.seconds();
        self.progress.schedule = self.schedule.state().clone();
        self.progress.average = self.average.as_ref().map(|average| average.state().clone());
        let mut memories = SavedStates::new();
        for callback in &mut self.callbacks {
            let Some(saved) = callback.save()? else {
                continue;
            };
            if memories.insert(saved.name.clone(), saved.value).is_some() {
                return Err(TrainError::Callback {
                    name: saved.name,
                    reason: "another callback has the same name in the checkpoint".into(),
                });
            }
        }
        run.is_unsaved = false;
        run.saved = Instant::now();
        let (Some(checkpoints), Some(environment)) = (&self.checkpoints, &run.environment) else {
            return Ok(());
        };
        let has_own = self.progress.best_weights == BestWeights::Own;
        let snapshot = Snapshot {
            model: &self.model,
            optimizer: &self.optimizer,
            carried: self.carried.as_ref(),
            gradients: self.gradients.as_ref(),
            average: self.average.as_ref().and_then(|average| average.model()),
            best: self.best_model.as_ref().filter(|_| has_own),
            progress: &self.progress,
            callbacks: &memories,
            clock: self.clock,
            environment,
            facts: &self.facts,
        };
        let best = self.progress.best.as_ref().map(|best| best.step);
        let folder = checkpoints.save(&snapshot, best)?;
        self.tell(|callback| callback.saved(&folder));
        Ok(())
    }

    /// A step can take weights beyond all numbers after its loss and gradient were finite.
    fn check_weights(&self) -> Result<(), TrainError> {
        let Some(norm) = gradients::weights_norm(&self.model) else {
            return Ok(());
        };
        match norm.into_scalar::<f64>() {
            norm if norm.is_finite() => Ok(()),
            norm => Err(self.diverged("norm of the weights", norm, self.progress.step)),
        }
    }

    /// Where the run is, for the schedule: by the clock if there is a budget.
    pub(super) fn place(&self, run: &Run<M>, windows: usize) -> Place {
        // A step of several windows is at the place where the first began.
        let window = self.progress.window - self.progress.accumulated.windows;
        let done = self.progress.epoch * windows + window;
        Place {
            step: self.progress.step,
            epoch: done as f64 / windows as f64,
            share: match &run.budget {
                Some(budget) => budget.share(run.seconds()),
                None => done as f64 / (self.config.epochs * windows) as f64,
            },
        }
    }

    pub(super) fn diverged(&self, what: &'static str, value: f64, step: u64) -> TrainError {
        TrainError::Diverged {
            what,
            value,
            step,
            last_good: self.last_checkpoint(),
        }
    }
}
