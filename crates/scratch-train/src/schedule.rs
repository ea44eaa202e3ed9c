//! The learning rate over a run.
//!
//! burn's schedulers count steps. Here a run may end by the clock instead, so they are made for a
//! fixed number of ticks and moved along by the share of the run that is done.

use burn::lr_scheduler::LrSchedulerConfig;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// How the learning rate moves from the first step to the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// The curve after the warm-up.
    pub kind: ScheduleKind,
    /// Share of the run in which the learning rate rises linearly from nearly 0.
    pub warmup: f64,
    /// What is left at the end, as a share of the learning rate.
    pub floor: f64,
}

/// The curve after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Stays.
    Constant,
    /// Falls in a line.
    Linear,
    /// Falls along half a cosine (Loshchilov & Hutter 2017).
    #[default]
    Cosine,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::default(),
            warmup: 0.02,
            floor: 0.05,
        }
    }
}

/// STUB
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {}
/// STUB
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// s
    pub step: u64,
    /// e
    pub epoch: f64,
    /// s
    pub share: f64,
}

/// A schedule on its way.
pub(crate) struct Schedule {
    scheduler: ModuleLrScheduler,
    tick: Option<usize>,
    learning_rate: f64,
}

const TICKS: usize = 10_000;

impl Schedule {
    pub(crate) fn new(config: &ScheduleConfig, learning_rate: f64) -> Result<Self, TrainError> {
        if !(0.0..1.0).contains(&config.warmup) {
            return Err(TrainError::config(
                "schedule.warmup",
                "at least 0 and less than 1",
                config.warmup,
            ));
        }
        if !(config.floor > 0.0 && config.floor <= 1.0) {
            return Err(TrainError::config(
                "schedule.floor",
                "more than 0 and at most 1",
                config.floor,
            ));
        }
        // What burn's schedulers accept.
        if !(learning_rate > 0.0 && learning_rate <= 1.0) {
            return Err(TrainError::config(
                "learning_rate",
                "more than 0 and at most 1",
                learning_rate,
            ));
        }
        let scheduler = build(config, learning_rate)
            .map_err(|reason| TrainError::config("schedule", reason, learning_rate))?;
        Ok(Self {
            scheduler,
            tick: None,
            learning_rate,
        })
    }

    pub(crate) fn at(&mut self, place: &Place) -> f64 {
        self.at_share(place.share)
    }
    pub(crate) fn observe(&mut self, _cost: f64) {}
    pub(crate) fn state(&self) -> ScheduleState {
        ScheduleState {}
    }
    pub(crate) fn restore(&mut self, _: &ScheduleState) {}
    /// The learning rate when `progress` (0 to 1) of the run is done. Progress never falls.
    pub(crate) fn at_share(&mut self, progress: f64) -> f64 {
        let target = (progress.clamp(0.0, 1.0) * TICKS as f64) as usize;
        while self.tick.is_none_or(|tick| tick < target) {
            self.learning_rate = self.scheduler.step().base();
            self.tick = Some(self.tick.map_or(0, |tick| tick + 1));
        }
        self.learning_rate
    }
}

fn build(config: &ScheduleConfig, learning_rate: f64) -> Result<ModuleLrScheduler, String> {
    let warmup = (config.warmup * TICKS as f64) as usize;
    let rest = TICKS - warmup;
    let last = learning_rate * config.floor;
    let main = match config.kind {
        ScheduleKind::Constant => LrSchedulerConfig::Constant(learning_rate),
        ScheduleKind::Linear => LinearLrSchedulerConfig::new(learning_rate, last, rest).into(),
        ScheduleKind::Cosine => CosineAnnealingLrSchedulerConfig::new(learning_rate, rest)
            .with_min_lr(last)
            .into(),
    };
    if warmup == 0 {
        return SequentialLrSchedulerConfig::new(vec![main], vec![]).init();
    }
    let first = learning_rate / warmup as f64;
    let rise = LinearLrSchedulerConfig::new(first, learning_rate, warmup).into();
    SequentialLrSchedulerConfig::new(vec![rise, main], vec![warmup]).init()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_the_floor_wherever_it_is_asked() {
        let config = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            warmup: 0.1,
            floor: 0.25,
        };
        let schedule = || Schedule::new(&config, 0.4).unwrap();
        assert!(schedule().at_share(0.0) < 0.001);
        assert!((schedule().at_share(0.05) - 0.2).abs() < 1e-3);
        assert!((schedule().at_share(0.1) - 0.4).abs() < 1e-3);
        // Half of the fall: (0.4 + 0.1) / 2.
        assert!((schedule().at_share(0.55) - 0.25).abs() < 1e-3);
        assert!((schedule().at_share(1.0) - 0.1).abs() < 1e-3);
        // Resuming in the middle gives what a run through would.
        let mut through = schedule();
        for k in 0..=70 {
            through.at_share(f64::from(k) / 100.0);
        }
        assert_eq!(through.at_share(0.7), schedule().at_share(0.7));
    }

    #[test]
    fn invalid_settings_name_the_field() {
        let error = |config: ScheduleConfig, learning_rate: f64| {
            Schedule::new(&config, learning_rate)
                .err()
                .unwrap()
                .to_string()
        };
        let config = ScheduleConfig::default();
        assert!(error(config.clone(), -1.0).contains("learning_rate"));
        let warmup = ScheduleConfig {
            warmup: 1.0,
            ..config
        };
        assert!(error(warmup, 0.1).contains("schedule.warmup"));
    }
}
