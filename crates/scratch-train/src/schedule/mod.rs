//! The learning rate over a run.
//!
//! Every schedule but [`Plateau`](ScheduleConfig::Plateau) is a function of the place in the run
//! alone, so that a run can go on anywhere and end by the clock. (burn's schedulers count their
//! calls.) Plateau remembers the validations, in a [`ScheduleState`].

mod curves;
mod plateau;

use serde::{Deserialize, Serialize};

pub use plateau::ScheduleState;

use crate::error::TrainError;
use crate::goal::Goal;

/// How the learning rate moves from the first step to the last.
///
/// `floor` is what is left at the lowest point, as a share of the learning rate. A warm-up
/// multiplies the curve behind it and reaches 1; see [`Warmup`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Stays.
    Constant {
        /// The rise at the beginning.
        #[serde(default)]
        warmup: Warmup,
    },
    /// Falls in a line to the end of the run.
    Linear {
        /// The rise at the beginning.
        #[serde(default)]
        warmup: Warmup,
        /// What is left at the end.
        #[serde(default = "defaults::floor")]
        floor: f64,
    },
    /// Falls along half a cosine to the end of the run (Loshchilov & Hutter 2017, without
    /// restarts).
    Cosine {
        /// The rise at the beginning.
        #[serde(default)]
        warmup: Warmup,
        /// What is left at the end.
        #[serde(default = "defaults::floor")]
        floor: f64,
    },
    /// Falls along half a cosine again and again (SGDR, Loshchilov & Hutter 2017; PyTorch's
    /// `CosineAnnealingWarmRestarts`).
    CosineRestarts {
        /// The rise at the beginning.
        #[serde(default)]
        warmup: Warmup,
        /// What is left at the end of a cycle.
        #[serde(default = "defaults::floor")]
        floor: f64,
        /// Epochs of the first cycle (`T_0`).
        #[serde(default = "defaults::cycle")]
        cycle: f64,
        /// How much longer each cycle is than the one before (`T_mult`).
        #[serde(default = "defaults::one")]
        multiplier: u32,
    },
    /// Is multiplied by `factor` every so many epochs (PyTorch's `StepLR`).
    Step {
        /// The rise at the beginning.
        #[serde(default)]
        warmup: Warmup,
        /// Epochs from one fall to the next (`step_size`).
        #[serde(default = "defaults::every")]
        every: usize,
        /// What is left after a fall (`gamma`).
        #[serde(default = "defaults::tenth")]
        factor: f64,
    },
    /// Falls to `factor` of itself with each epoch, a little with each step (PyTorch's
    /// `ExponentialLR`, which falls at the ends of epochs).
    Exponential {
        /// The rise at the beginning.
        #[serde(default)]
        warmup: Warmup,
        /// What is left after an epoch (`gamma`).
        #[serde(default = "defaults::exponential")]
        factor: f64,
    },
    /// Rises in a line and falls with the root of the step (Vaswani et al. 2017). The learning
    /// rate is that of the peak.
    Noam {
        /// Steps of the rise.
        #[serde(default = "defaults::noam")]
        warmup_steps: u64,
    },
    /// Rises along half a cosine and falls along another to almost nothing (Smith & Topin 2018;
    /// PyTorch's `OneCycleLR` with two phases). The learning rate is that of the peak.
    OneCycle {
        /// Share of the run that the rise takes.
        #[serde(default = "defaults::rise")]
        pct_start: f64,
        /// The first learning rate is the peak divided by this.
        #[serde(default = "defaults::div")]
        div_factor: f64,
        /// The last one is the first divided by this.
        #[serde(default = "defaults::final_div")]
        final_div_factor: f64,
    },
    /// Is multiplied by `factor` when validations get no better (PyTorch's `ReduceLROnPlateau`).
    Plateau {
        /// The rise at the beginning.
        #[serde(default)]
        warmup: Warmup,
        /// What is left after a fall.
        #[serde(default = "defaults::tenth")]
        factor: f64,
        /// Validations without a gain that are borne; the next one brings the fall.
        #[serde(default = "defaults::patience")]
        patience: usize,
        /// A gain is at least this share of the best value (`threshold_mode="rel"`).
        #[serde(default = "defaults::threshold")]
        threshold: f64,
        /// Validations after a fall that do not count.
        #[serde(default)]
        cooldown: usize,
        /// The least that is left (`min_lr`), as a share of the learning rate.
        #[serde(default)]
        floor: f64,
    },
}

/// A linear rise of the learning rate at the beginning of a run: `0.02` or `{ steps = 100 }`.
///
/// Adaptive optimizers know little of the gradients' sizes at first, and fresh weights give large
/// ones (Goyal et al. 2017).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a share of the run (0.02) or steps ({ steps = 100 })"
)]
pub enum Warmup {
    /// Share of the run. It begins at a hundredth. Linear and cosine begin to fall when it is over.
    Share(f64),
    /// Steps of the optimizer; the last of them has the full learning rate. The curve behind it
    /// is where it would be without.
    Steps {
        /// How many.
        steps: u64,
    },
}

impl Default for Warmup {
    fn default() -> Self {
        Self::Share(0.02)
    }
}

impl Warmup {
    /// No warm-up.
    pub const NONE: Self = Self::Share(0.0);
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::Cosine {
            warmup: Warmup::default(),
            floor: defaults::floor(),
        }
    }
}

impl ScheduleConfig {
    /// Always the learning rate, from the first step on.
    pub fn constant() -> Self {
        Self::Constant {
            warmup: Warmup::NONE,
        }
    }

    /// Whether a schedule can be made of these settings.
    ///
    /// # Errors
    ///
    /// Names the first setting of which none can.
    pub fn validate(&self) -> Result<(), TrainError> {
        let within = |field, value: f64, accepted: bool, expected: &str| match accepted {
            true => Ok(()),
            false => Err(TrainError::config(field, expected, value)),
        };
        let share = |field, value: f64| {
            let accepted = (0.0..=1.0).contains(&value);
            within(field, value, accepted, "at least 0 and at most 1")
        };
        let factor = |value: f64| {
            let accepted = value > 0.0 && value < 1.0;
            within(
                "schedule.factor",
                value,
                accepted,
                "more than 0 and less than 1",
            )
        };
        let more_than = |field, value: f64, least: f64| {
            let accepted = value > least && value.is_finite();
            within(field, value, accepted, &format!("more than {least}"))
        };
        if let Some(Warmup::Share(warmup)) = self.warmup() {
            let accepted = (0.0..1.0).contains(&warmup);
            within(
                "schedule.warmup",
                warmup,
                accepted,
                "at least 0 and less than 1",
            )?;
        }
        match *self {
            Self::Constant { .. } => Ok(()),
            Self::Linear { floor, .. } | Self::Cosine { floor, .. } => {
                share("schedule.floor", floor)
            }
            Self::CosineRestarts {
                floor,
                cycle,
                multiplier,
                ..
            } => {
                share("schedule.floor", floor)?;
                more_than("schedule.cycle", cycle, 0.0)?;
                more_than("schedule.multiplier", f64::from(multiplier), 0.0)
            }
            Self::Step {
                every, factor: by, ..
            } => {
                more_than("schedule.every", every as f64, 0.0)?;
                factor(by)
            }
            Self::Exponential { factor: by, .. } => factor(by),
            Self::Noam { warmup_steps } => {
                more_than("schedule.warmup_steps", warmup_steps as f64, 0.0)
            }
            Self::OneCycle {
                pct_start,
                div_factor,
                final_div_factor,
            } => {
                share("schedule.pct_start", pct_start)?;
                let least = |field, value: f64| {
                    let accepted = value >= 1.0 && value.is_finite();
                    within(field, value, accepted, "at least 1")
                };
                least("schedule.div_factor", div_factor)?;
                least("schedule.final_div_factor", final_div_factor)
            }
            Self::Plateau {
                factor: by,
                threshold,
                floor,
                ..
            } => {
                factor(by)?;
                share("schedule.threshold", threshold)?;
                share("schedule.floor", floor)
            }
        }
    }

    fn warmup(&self) -> Option<Warmup> {
        match *self {
            Self::Constant { warmup }
            | Self::Linear { warmup, .. }
            | Self::Cosine { warmup, .. }
            | Self::CosineRestarts { warmup, .. }
            | Self::Step { warmup, .. }
            | Self::Exponential { warmup, .. }
            | Self::Plateau { warmup, .. } => Some(warmup),
            Self::Noam { .. } | Self::OneCycle { .. } => None,
        }
    }
}

/// A place in a run: what is done when a step begins.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Place {
    /// Steps of the optimizer.
    pub step: u64,
    /// Epochs, with the part of the one under way.
    pub epoch: f64,
    /// Share of the run, 0 to 1: of its windows, or of its time.
    pub share: f64,
}

/// A schedule of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    learning_rate: f64,
    state: ScheduleState,
}

impl Schedule {
    /// The schedule at the beginning of a run.
    ///
    /// # Errors
    ///
    /// If a setting, or the learning rate, is outside what it accepts.
    pub fn new(config: &ScheduleConfig, learning_rate: f64) -> Result<Self, TrainError> {
        if !(learning_rate > 0.0 && learning_rate.is_finite()) {
            return Err(TrainError::config(
                "learning_rate",
                "a positive number",
                learning_rate,
            ));
        }
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            learning_rate,
            state: ScheduleState::default(),
        })
    }

    /// The learning rate of the step that begins at `place`.
    pub fn at(&self, place: &Place) -> f64 {
        let share = place.share.clamp(0.0, 1.0);
        let rise = self
            .config
            .warmup()
            .map_or(1.0, |warmup| curves::rise(warmup, place.step, share));
        let curve = match self.config {
            ScheduleConfig::Constant { .. } => 1.0,
            ScheduleConfig::Linear { warmup, floor } => {
                curves::linear(1.0, floor, curves::behind(warmup, share))
            }
            ScheduleConfig::Cosine { warmup, floor } => {
                curves::cosine(1.0, floor, curves::behind(warmup, share))
            }
            ScheduleConfig::CosineRestarts {
                floor,
                cycle,
                multiplier,
                ..
            } => curves::cosine(1.0, floor, curves::cycle(place.epoch, cycle, multiplier)),
            ScheduleConfig::Step { every, factor, .. } => {
                factor.powf((place.epoch / every as f64).floor())
            }
            ScheduleConfig::Exponential { factor, .. } => factor.powf(place.epoch),
            ScheduleConfig::Noam { warmup_steps } => curves::noam(place.step, warmup_steps),
            ScheduleConfig::OneCycle {
                pct_start,
                div_factor,
                final_div_factor,
            } => curves::one_cycle(share, pct_start, div_factor, final_div_factor),
            ScheduleConfig::Plateau { .. } => self.state.share(),
        };
        self.learning_rate * rise * curve
    }

    /// Takes in the watched metric after a validation. Only a plateau schedule cares.
    pub fn observe(&mut self, metric: f64, goal: Goal) {
        if let ScheduleConfig::Plateau {
            factor,
            patience,
            threshold,
            cooldown,
            floor,
            ..
        } = self.config
        {
            let patience = plateau::Patience {
                factor,
                patience,
                threshold,
                cooldown,
                floor,
            };
            self.state.observe(metric, goal, &patience);
        }
    }

    /// What the schedule remembers; for a checkpoint.
    pub fn state(&self) -> &ScheduleState {
        &self.state
    }

    /// Goes on from what another one remembered.
    pub fn restore(&mut self, state: ScheduleState) {
        self.state = state;
    }
}

mod defaults {
    pub(super) fn floor() -> f64 {
        0.05
    }

    pub(super) fn cycle() -> f64 {
        10.0
    }

    pub(super) fn one() -> u32 {
        1
    }

    pub(super) fn every() -> usize {
        10
    }

    pub(super) fn tenth() -> f64 {
        0.1
    }

    pub(super) fn exponential() -> f64 {
        0.95
    }

    pub(super) fn noam() -> u64 {
        4000
    }

    pub(super) fn rise() -> f64 {
        0.3
    }

    pub(super) fn div() -> f64 {
        25.0
    }

    pub(super) fn final_div() -> f64 {
        1e4
    }

    pub(super) fn patience() -> usize {
        10
    }

    pub(super) fn threshold() -> f64 {
        1e-4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(share: f64) -> Place {
        Place {
            share,
            ..Place::default()
        }
    }

    fn parse(text: &str) -> Result<ScheduleConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_string())
    }

    #[test]
    fn rises_then_falls_to_the_floor_wherever_it_is_asked() {
        let config = ScheduleConfig::Cosine {
            warmup: Warmup::Share(0.1),
            floor: 0.25,
        };
        let schedule = Schedule::new(&config, 0.4).unwrap();
        assert!((schedule.at(&at(0.0)) - 0.004).abs() < 1e-12);
        assert!((schedule.at(&at(0.05)) - 0.4 * 0.505).abs() < 1e-12);
        assert!((schedule.at(&at(0.1)) - 0.4).abs() < 1e-12);
        // Half of the fall: (0.4 + 0.1) / 2.
        assert!((schedule.at(&at(0.55)) - 0.25).abs() < 1e-12);
        assert!((schedule.at(&at(1.0)) - 0.1).abs() < 1e-12);
        assert_eq!(schedule.at(&at(7.0)), schedule.at(&at(1.0)));
    }

    /// Steps rise by one part each, and the curve is where it would be without.
    #[test]
    fn a_warm_up_of_steps_multiplies() {
        let warm = ScheduleConfig::Exponential {
            warmup: Warmup::Steps { steps: 4 },
            factor: 0.5,
        };
        let cold = ScheduleConfig::Exponential {
            warmup: Warmup::NONE,
            factor: 0.5,
        };
        let warm = Schedule::new(&warm, 3.0).unwrap();
        let cold = Schedule::new(&cold, 3.0).unwrap();
        for (step, rise) in [(0, 0.25), (1, 0.5), (3, 1.0), (9, 1.0)] {
            let place = Place {
                step,
                epoch: 0.3 * step as f64,
                share: 0.5,
            };
            assert_eq!(warm.at(&place), rise * cold.at(&place));
        }
    }

    #[test]
    fn settings_are_read_by_kind() {
        assert_eq!(
            parse("kind = \"cosine\"").unwrap(),
            ScheduleConfig::default()
        );
        let config = parse("kind = \"linear\"\nwarmup = { steps = 7 }\nfloor = 0").unwrap();
        let expected = ScheduleConfig::Linear {
            warmup: Warmup::Steps { steps: 7 },
            floor: 0.0,
        };
        assert_eq!(config, expected);
        for kind in [
            "constant",
            "cosine_restarts",
            "step",
            "exponential",
            "noam",
            "one_cycle",
            "plateau",
        ] {
            let config = parse(&format!("kind = \"{kind}\"")).unwrap();
            config.validate().unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(parse(&text).unwrap(), config, "{text}");
        }
        let error = parse("kind = \"noam\"\nwarmup = 0.1").unwrap_err();
        assert!(error.contains("unknown field `warmup`"), "{error}");
        let error = parse("kind = \"cosine\"\nwarmup = \"x\"").unwrap_err();
        assert!(error.contains("share of the run"), "{error}");
        let error = parse("kind = \"cosine\"\nwarmup = { steps = 3, epochs = 1 }").unwrap_err();
        assert!(error.contains("share of the run"), "{error}");
    }

    #[test]
    fn invalid_settings_name_the_field() {
        for (text, field) in [
            ("kind = \"cosine\"\nwarmup = 1.0", "schedule.warmup"),
            ("kind = \"cosine\"\nwarmup = nan", "schedule.warmup"),
            ("kind = \"linear\"\nfloor = -0.1", "schedule.floor"),
            ("kind = \"cosine_restarts\"\ncycle = 0.0", "schedule.cycle"),
            (
                "kind = \"cosine_restarts\"\nmultiplier = 0",
                "schedule.multiplier",
            ),
            ("kind = \"step\"\nevery = 0", "schedule.every"),
            ("kind = \"exponential\"\nfactor = 1.5", "schedule.factor"),
            ("kind = \"noam\"\nwarmup_steps = 0", "schedule.warmup_steps"),
            (
                "kind = \"one_cycle\"\npct_start = 2.0",
                "schedule.pct_start",
            ),
            (
                "kind = \"one_cycle\"\ndiv_factor = 0.5",
                "schedule.div_factor",
            ),
            ("kind = \"plateau\"\nthreshold = -1.0", "schedule.threshold"),
        ] {
            let error = Schedule::new(&parse(text).unwrap(), 0.1).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        for learning_rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Schedule::new(&ScheduleConfig::default(), learning_rate).unwrap_err();
            assert!(error.to_string().contains("learning_rate"), "{error}");
        }
        assert!(Schedule::new(&ScheduleConfig::default(), 30.0).is_ok());
    }
}
