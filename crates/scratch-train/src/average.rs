//! Averages of the weights over a run: for validation and as the final model.
//!
//! The last weights of a run are one sample of a cloud; its middle generalizes better. An average
//! is taken in f32 at least, on the device, and keeps no graph.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::container::TensorContainer;
use burn::tensor::{DType, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::goal::Goal;
use crate::schedule::Place;

/// Which average is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AverageConfig {
    /// Exponential moving average (Polyak & Juditsky 1992; Tarvainen & Valpola 2017; PyTorch's
    /// `get_ema_multi_avg_fn`): of roughly the last `1 / (1 - decay)` steps.
    Ema {
        /// What is left of the average at each step.
        #[serde(default = "defaults::decay")]
        decay: f64,
        /// Whether it is at most `(1 + n) / (10 + n)` after `n` steps (TensorFlow's `num_updates`),
        /// so that the first weights are soon forgotten.
        #[serde(default = "defaults::yes")]
        warmup: bool,
    },
    /// Stochastic weight averaging (Izmailov et al. 2018; PyTorch's `AveragedModel`): the plain
    /// mean from some point on, for learning rates that do not fall to nothing behind it.
    Swa {
        /// Share of the run before the first weights are taken.
        #[serde(default = "defaults::start")]
        start: f64,
        /// Steps from one weights that are taken to the next.
        #[serde(default = "defaults::every")]
        every: u64,
    },
    /// Non-monotonically triggered averaging (Merity, Keskar & Socher 2018, AWD-LSTM): the plain
    /// mean of all steps since a validation was worse than the best of those more than
    /// `non_monotone` validations before it.
    NtAsgd {
        /// Validations that a gain may take.
        #[serde(default = "defaults::non_monotone")]
        non_monotone: usize,
    },
}

impl AverageConfig {
    /// Whether an average can be taken with these settings.
    ///
    /// # Errors
    ///
    /// Names the first one with which none can.
    pub fn validate(&self) -> Result<(), TrainError> {
        match *self {
            Self::Ema { decay, .. } if !(0.0..1.0).contains(&decay) => Err(TrainError::config(
                "average.decay",
                "at least 0 and less than 1",
                decay,
            )),
            Self::Swa { start, .. } if !(0.0..1.0).contains(&start) => Err(TrainError::config(
                "average.start",
                "at least 0 and less than 1",
                start,
            )),
            Self::Swa { every: 0, .. } => Err(TrainError::config("average.every", "at least 1", 0)),
            Self::NtAsgd { non_monotone: 0 } => {
                Err(TrainError::config("average.non_monotone", "at least 1", 0))
            }
            _ => Ok(()),
        }
    }
}

/// What an average knows besides the averaged weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AverageState {
    /// Weights taken into the average.
    updates: u64,
    /// Whether NT-ASGD has begun to average.
    triggered: bool,
    /// NT-ASGD's last validations, the newest at the end.
    recent: Vec<f64>,
    /// The best of those before.
    older_best: Option<f64>,
}

/// An average of the weights of one run.
#[derive(Debug, Clone)]
pub struct Average<M> {
    config: AverageConfig,
    state: AverageState,
    model: Option<M>,
}

impl<M: Module> Average<M> {
    /// An average of nothing yet.
    ///
    /// # Errors
    ///
    /// If a setting is outside what it accepts.
    pub fn new(config: AverageConfig) -> Result<Self, TrainError> {
        config.validate()?;
        Ok(Self {
            config,
            state: AverageState::default(),
            model: None,
        })
    }

    /// The average that another one was, from its [`state`](Self::state) and
    /// [`model`](Self::model).
    ///
    /// # Errors
    ///
    /// If a setting is outside what it accepts, or one of the two is there without the other.
    pub fn restored(
        config: AverageConfig,
        state: AverageState,
        model: Option<M>,
    ) -> Result<Self, TrainError> {
        let (expected, found) = match (state.updates, &model) {
            (0, Some(_)) => ("no averaged weights", "some"),
            (1.., None) => ("averaged weights", "none"),
            _ => {
                let mut average = Self::new(config)?;
                average.state = state;
                average.model = model.map(|model| model.valid());
                return Ok(average);
            }
        };
        Err(TrainError::config("average", expected, found))
    }

    /// Takes in the weights after a step of the optimizer, if it is one to take in. `place` is
    /// where the run is then.
    pub fn after_step(&mut self, model: &M, place: &Place) {
        let taken = self.state.updates as f64;
        let newest = match self.config {
            AverageConfig::Ema { decay, warmup } => {
                let most = match warmup {
                    true => (1.0 + taken) / (10.0 + taken),
                    false => 1.0,
                };
                1.0 - decay.min(most)
            }
            AverageConfig::Swa { start, every } => {
                if place.share < start || !place.step.is_multiple_of(every) {
                    return;
                }
                1.0 / (taken + 1.0)
            }
            AverageConfig::NtAsgd { .. } => {
                if !self.state.triggered {
                    return;
                }
                1.0 / (taken + 1.0)
            }
        };
        let mut blend = Blend {
            old: TensorContainer::new(),
            new: TensorContainer::new(),
            newest,
        };
        if let Some(old) = self.model.take() {
            old.visit(&mut Collect {
                into: &mut blend.old,
            });
        }
        self.model = Some(model.valid().map(&mut blend));
        self.state.updates += 1;
    }

    /// Takes in the watched metric of a validation, for averages that begin by it.
    pub fn validated(&mut self, metric: f64, goal: Goal) {
        let AverageConfig::NtAsgd { non_monotone } = self.config else {
            return;
        };
        let state = &mut self.state;
        if state.triggered || !metric.is_finite() {
            return;
        }
        state.triggered = state
            .older_best
            .is_some_and(|best| goal.is_better(best, metric));
        state.recent.push(metric);
        if state.recent.len() > non_monotone {
            let older = state.recent.remove(0);
            let is_best = state
                .older_best
                .is_none_or(|best| goal.is_better(older, best));
            if is_best {
                state.older_best = Some(older);
            }
        }
    }

    /// The model with averaged weights, in its form without autodiff; `None` before any are taken.
    pub fn model(&self) -> Option<&M> {
        self.model.as_ref()
    }

    /// Everything but the weights; for a checkpoint.
    pub fn state(&self) -> &AverageState {
        &self.state
    }
}

/// Handles of all float parameters.
struct Collect<'a> {
    into: &'a mut TensorContainer<ParamId>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.into.register(param.id, param.val());
    }
}

/// Turns the newest weights into the average. What is no float is the newest model's.
struct Blend {
    old: TensorContainer<ParamId>,
    /// For parameters that the module has in two places.
    new: TensorContainer<ParamId>,
    /// Share of the newest weights.
    newest: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let average = self.new.get::<Tensor<D>>(&id).unwrap_or_else(|| {
            let value = match value.dtype() {
                DType::F16 | DType::BF16 => value.cast(FloatDType::F32),
                _ => value,
            };
            match self.old.remove::<Tensor<D>>(&id) {
                Some(old) => (value - old.clone()).mul_scalar(self.newest) + old,
                None => value,
            }
        });
        self.new.register(id, average.clone());
        Param::from_mapped_value(id, average, mapper)
    }
}

mod defaults {
    pub(super) fn decay() -> f64 {
        0.999
    }

    pub(super) fn yes() -> bool {
        true
    }

    pub(super) fn start() -> f64 {
        0.75
    }

    pub(super) fn every() -> u64 {
        1
    }

    pub(super) fn non_monotone() -> usize {
        5
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct One {
        value: Param<Tensor<1>>,
    }

    const VALUES: [f64; 7] = [1.0, -3.0, 0.5, 8.0, 2.25, -1.5, 0.0];

    fn one(value: f64, dtype: FloatDType) -> One {
        let device = Device::default().autodiff();
        let value = Tensor::from_data([value, 2.0 * value], (&device, DType::from(dtype)));
        let mut value = Param::from_tensor(value);
        value.id = ParamId::from(7);
        One { value }
    }

    fn value(average: &Average<One>) -> f64 {
        let model = average.model().expect("an average");
        assert!(!model.value.val().is_autodiff());
        let values: Vec<f64> = model.value.val().into_data().iter::<f64>().collect();
        assert_eq!(values[1], 2.0 * values[0]);
        values[0]
    }

    /// After step `k` of seven the weights are the `k`-th of `VALUES`.
    fn after(average: &mut Average<One>, steps: std::ops::RangeInclusive<u64>) {
        for step in steps {
            let place = Place {
                step,
                epoch: 0.0,
                share: step as f64 / 7.0,
            };
            let newest = VALUES[step as usize - 1];
            average.after_step(&one(newest, FloatDType::F32), &place);
        }
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        let near = (found - expected).abs() < 1e-6;
        assert!(near, "expected {expected}, found {found}");
    }

    #[test]
    fn ema_by_hand() {
        let mut plain = Average::new(AverageConfig::Ema {
            decay: 0.75,
            warmup: false,
        })
        .unwrap();
        assert!(plain.model().is_none());
        after(&mut plain, 1..=3);
        // 1, then 0.75 * 1 - 0.25 * 3 = 0, then 0.25 * 0.5.
        assert_near(value(&plain), 0.125);

        let mut warm = Average::new(AverageConfig::Ema {
            decay: 0.2,
            warmup: true,
        })
        .unwrap();
        after(&mut warm, 1..=3);
        // Decays 2/11 and, as 3/12 is more, 0.2.
        let second = 2.0 / 11.0 * 1.0 + 9.0 / 11.0 * -3.0;
        assert_near(value(&warm), 0.2 * second + 0.8 * 0.5);
    }

    #[test]
    fn swa_by_hand() {
        let mut average = Average::new(AverageConfig::Swa {
            start: 0.4,
            every: 2,
        })
        .unwrap();
        after(&mut average, 1..=3);
        assert!(average.model().is_none());
        after(&mut average, 4..=7);
        // Steps 4 and 6.
        assert_near(value(&average), (8.0 - 1.5) / 2.0);
        let mut all = Average::new(AverageConfig::Swa {
            start: 0.0,
            every: 1,
        })
        .unwrap();
        after(&mut all, 1..=7);
        assert_near(value(&all), VALUES.iter().sum::<f64>() / 7.0);
    }

    /// AWD-LSTM's condition, as it is written there, over its list of all validations.
    #[test]
    fn nt_asgd_begins_where_awd_lstm_does() {
        let series = [5.0, 4.0, 4.5, 4.2, 3.9, 4.1, 4.0, 3.95, 3.8, 3.85, 4.3, 1.0];
        for non_monotone in 1..=6 {
            for goal in [Goal::Minimize, Goal::Maximize] {
                let sign = match goal {
                    Goal::Minimize => 1.0,
                    Goal::Maximize => -1.0,
                };
                let expected = (0..series.len()).find(|&now| {
                    let older = &series[..now.saturating_sub(non_monotone)];
                    now > non_monotone && older.iter().any(|&best| series[now] > best)
                });
                let config = AverageConfig::NtAsgd { non_monotone };
                let mut average = Average::<One>::new(config).unwrap();
                let found = series.iter().position(|&loss| {
                    average.validated(sign * loss, goal);
                    average.validated(f64::NAN, goal);
                    average.state().triggered
                });
                assert_eq!(found, expected, "{non_monotone}");
                assert!(expected.is_some());
            }
        }
    }

    #[test]
    fn nt_asgd_by_hand() {
        let mut average = Average::new(AverageConfig::NtAsgd { non_monotone: 1 }).unwrap();
        for loss in [2.0, 1.0, 1.5] {
            average.validated(loss, Goal::Minimize);
        }
        after(&mut average, 1..=2);
        assert!(average.model().is_none());
        average.validated(1.25, Goal::Minimize);
        after(&mut average, 3..=4);
        average.validated(0.5, Goal::Minimize);
        after(&mut average, 5..=5);
        assert_near(value(&average), (0.5 + 8.0 + 2.25) / 3.0);
    }

    #[test]
    fn what_was_cut_off_goes_on_to_the_bit() {
        let nt_asgd = AverageConfig::NtAsgd { non_monotone: 1 };
        for (config, cut) in [
            (
                AverageConfig::Ema {
                    decay: 0.9,
                    warmup: true,
                },
                3,
            ),
            (
                AverageConfig::Swa {
                    start: 0.3,
                    every: 1,
                },
                1,
            ),
            (nt_asgd.clone(), 2),
            (nt_asgd, 5),
        ] {
            let run = |cut: Option<u64>| -> Vec<u64> {
                let mut average = Average::new(config.clone()).unwrap();
                for step in 1..=7 {
                    after(&mut average, step..=step);
                    average.validated([1.0, 2.0, 3.0][step as usize % 3], Goal::Minimize);
                    if cut == Some(step) {
                        let state = serde_json::to_string(average.state()).unwrap();
                        average = Average::restored(
                            config.clone(),
                            serde_json::from_str(&state).unwrap(),
                            average.model().cloned(),
                        )
                        .unwrap();
                    }
                }
                let model = average.model().unwrap();
                let values = model.value.val().into_data();
                values.iter::<f64>().map(f64::to_bits).collect()
            };
            assert_eq!(run(Some(cut)), run(None), "{config:?}");
        }
        let state = AverageState {
            updates: 2,
            ..AverageState::default()
        };
        let config = AverageConfig::Swa {
            start: 0.5,
            every: 1,
        };
        let error = Average::<One>::restored(config, state, None).unwrap_err();
        assert!(error.to_string().contains("expected") || error.to_string().contains("must be"));
    }

    /// 1 and the next bf16, whose middle bf16 does not have.
    #[test]
    fn low_precision_is_averaged_in_f32() {
        if !Device::default().supports_dtype(DType::BF16) {
            return;
        }
        let mut average = Average::new(AverageConfig::Swa {
            start: 0.0,
            every: 1,
        })
        .unwrap();
        for value in [1.0, 1.0078125] {
            average.after_step(&one(value, FloatDType::BF16), &Place::default());
        }
        assert_eq!(value(&average), 1.00390625);
        let model = average.model().unwrap();
        assert_eq!(model.value.val().dtype(), DType::F32);
    }

    /// In two places, but averaged once, and still one.
    #[test]
    fn a_shared_parameter_is_averaged_once() {
        #[derive(Module, Debug)]
        struct Tied {
            a: Param<Tensor<1>>,
            b: Param<Tensor<1>>,
        }
        let config = AverageConfig::Ema {
            decay: 0.5,
            warmup: false,
        };
        let mut average = Average::new(config).unwrap();
        for newest in [8.0, 4.0, 2.0] {
            let a = one(newest, FloatDType::F32).value;
            average.after_step(&Tied { b: a.clone(), a }, &Place::default());
        }
        let tied = average.model().unwrap();
        assert_eq!(tied.a.id, tied.b.id);
        for param in [&tied.a, &tied.b] {
            let values: Vec<f64> = param.val().into_data().iter::<f64>().collect();
            assert_eq!(values, [4.0, 8.0]);
        }
    }

    #[test]
    fn settings() {
        let parse = |text: &str| toml::from_str::<AverageConfig>(text).unwrap();
        for kind in ["ema", "swa", "nt_asgd"] {
            let config = parse(&format!("kind = \"{kind}\""));
            config.validate().unwrap();
            assert_eq!(parse(&toml::to_string(&config).unwrap()), config);
        }
        for (text, field) in [
            ("kind = \"ema\"\ndecay = 1.0", "average.decay"),
            ("kind = \"swa\"\nstart = 1.0", "average.start"),
            ("kind = \"swa\"\nevery = 0", "average.every"),
            (
                "kind = \"nt_asgd\"\nnon_monotone = 0",
                "average.non_monotone",
            ),
        ] {
            let error = Average::<One>::new(parse(text)).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
