//! burn's optimizers by configuration.

mod groups;
mod ids;

use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdaGradConfig, AdafactorConfig, AdamConfig, AdamWConfig, AdanConfig, LambConfig, LionConfig,
    ModuleOptimizer, Optimizer, RmsPropConfig, SgdConfig,
};
use serde::{Deserialize, Serialize};

pub use groups::{GroupConfig, ParameterGroups};
pub use ids::with_path_ids;

use crate::error::TrainError;

/// Which optimizer moves the weights. Names and defaults of settings are PyTorch's where it has
/// the optimizer.
///
/// `weight_decay` is that of parameters for which no [`GroupConfig`] says otherwise; those of one
/// dimension have none unless biases are to decay, too. With `adam`, `sgd`, `rms_prop` and
/// `adagrad` it is added to gradients as `weight_decay * weight` (L2 regularization); the others
/// take it off the weights by themselves (decoupled, Loshchilov & Hutter 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adam (Kingma & Ba 2015).
    Adam {
        /// Decay of the first moment.
        #[serde(default = "defaults::beta_1")]
        beta_1: f32,
        /// Decay of the second moment.
        #[serde(default = "defaults::beta_2")]
        beta_2: f32,
        /// Added to the root of the second moment.
        #[serde(default = "defaults::epsilon")]
        epsilon: f32,
        /// Divides by the largest second moment so far (Reddi, Kale & Kumar 2018).
        #[serde(default)]
        amsgrad: bool,
        /// Added to gradients as `weight_decay * weight`.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    AdamW {
        /// Decay of the first moment.
        #[serde(default = "defaults::beta_1")]
        beta_1: f32,
        /// Decay of the second moment.
        #[serde(default = "defaults::beta_2")]
        beta_2: f32,
        /// Added to the root of the second moment.
        #[serde(default = "defaults::epsilon")]
        epsilon: f32,
        /// Divides by the largest second moment so far (Reddi, Kale & Kumar 2018).
        #[serde(default)]
        amsgrad: bool,
        /// Share of the weights taken off, times the learning rate, at each step.
        #[serde(default = "defaults::decoupled_decay")]
        weight_decay: f32,
        /// Takes it only off weights that the gradient is moving towards zero, too (cautious
        /// weight decay, Chen et al. 2025).
        #[serde(default)]
        cautious: bool,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum; 0 for none.
        #[serde(default)]
        momentum: f64,
        /// Whether the gradient is taken where the momentum leads (Nesterov 1983; Sutskever et al.
        /// 2013).
        #[serde(default)]
        nesterov: bool,
        /// Added to gradients as `weight_decay * weight`.
        #[serde(default)]
        weight_decay: f32,
    },
    /// RMSProp (Hinton 2012).
    RmsProp {
        /// Decay of the second moment.
        #[serde(default = "defaults::alpha")]
        alpha: f32,
        /// Momentum; 0 for none.
        #[serde(default)]
        momentum: f32,
        /// Added to the root of the second moment.
        #[serde(default = "defaults::epsilon")]
        epsilon: f32,
        /// Whether the second moment is that about the mean (Graves 2013).
        #[serde(default)]
        centered: bool,
        /// Added to gradients as `weight_decay * weight`.
        #[serde(default)]
        weight_decay: f32,
    },
    /// AdaGrad (Duchi, Hazan & Singer 2011).
    Adagrad {
        /// The learning rate is divided by `1 + lr_decay * step`.
        #[serde(default)]
        lr_decay: f64,
        /// Added to the root of the sum of squares.
        #[serde(default = "defaults::adagrad_epsilon")]
        epsilon: f32,
        /// Added to gradients as `weight_decay * weight`.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Adan (Xie et al. 2022).
    Adan {
        /// Decay of the first moment.
        #[serde(default = "defaults::adan_1")]
        beta_1: f32,
        /// Decay of the gradients' differences.
        #[serde(default = "defaults::adan_2")]
        beta_2: f32,
        /// Decay of the second moment.
        #[serde(default = "defaults::adan_3")]
        beta_3: f32,
        /// Added to the root of the second moment.
        #[serde(default = "defaults::epsilon")]
        epsilon: f32,
        /// Weights are divided by `1 + learning rate * weight_decay` at each step.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Lion (Chen et al. 2023): steps of one size; a learning rate three to ten times smaller than
    /// AdamW's and a weight decay as many times larger.
    Lion {
        /// Share of the momentum in a step's direction.
        #[serde(default = "defaults::beta_1")]
        beta_1: f32,
        /// Decay of the momentum.
        #[serde(default = "defaults::lion_2")]
        beta_2: f32,
        /// Share of the weights taken off, times the learning rate, at each step.
        #[serde(default)]
        weight_decay: f32,
    },
    /// LAMB (You et al. 2020): Adam with steps as long as the weights of each tensor allow, for
    /// large batches.
    Lamb {
        /// Decay of the first moment.
        #[serde(default = "defaults::beta_1")]
        beta_1: f32,
        /// Decay of the second moment.
        #[serde(default = "defaults::beta_2")]
        beta_2: f32,
        /// Added to the root of the second moment.
        #[serde(default = "defaults::lamb_epsilon")]
        epsilon: f32,
        /// Share of the weights added to a step's direction.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Adafactor (Shazeer & Stern 2018) with the learning rate of the schedule: second moments by
    /// rows and columns alone, no first ones.
    Adafactor {
        /// Second moments decay by `1 - step^decay_rate`.
        #[serde(default = "defaults::adafactor_decay")]
        decay_rate: f64,
        /// Highest root mean square of a tensor's step before the learning rate.
        #[serde(default = "defaults::one")]
        clip_threshold: f32,
        /// Whether steps are relative to the root mean square of a tensor's weights.
        #[serde(default)]
        scale_parameter: bool,
        /// Share of the weights taken off, times the learning rate, at each step.
        #[serde(default)]
        weight_decay: f32,
    },
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::adam_w(defaults::decoupled_decay())
    }
}

impl OptimizerConfig {
    /// [`AdamW`](Self::AdamW) with the usual decays of its moments.
    pub fn adam_w(weight_decay: f32) -> Self {
        Self::AdamW {
            beta_1: defaults::beta_1(),
            beta_2: defaults::beta_2(),
            epsilon: defaults::epsilon(),
            amsgrad: false,
            weight_decay,
            cautious: false,
        }
    }

    /// [`Sgd`](Self::Sgd) without weight decay.
    pub fn sgd(momentum: f64) -> Self {
        Self::Sgd {
            momentum,
            nesterov: false,
            weight_decay: 0.0,
        }
    }

    /// The weight decay of parameters that nothing else is said about.
    pub fn weight_decay(&self) -> f32 {
        match *self {
            Self::Adam { weight_decay, .. }
            | Self::AdamW { weight_decay, .. }
            | Self::Sgd { weight_decay, .. }
            | Self::RmsProp { weight_decay, .. }
            | Self::Adagrad { weight_decay, .. }
            | Self::Adan { weight_decay, .. }
            | Self::Lion { weight_decay, .. }
            | Self::Lamb { weight_decay, .. }
            | Self::Adafactor { weight_decay, .. } => weight_decay,
        }
    }

    /// Whether an optimizer can be made of these settings.
    ///
    /// # Errors
    ///
    /// Names the first setting of which none can.
    pub fn validate(&self) -> Result<(), TrainError> {
        let check = |field, value: f64, accepted: bool, expected: &str| match accepted {
            true => Ok(()),
            false => Err(TrainError::config(field, expected, value)),
        };
        let decay = |field, value: f64| {
            let accepted = (0.0..1.0).contains(&value);
            check(field, value, accepted, "at least 0 and less than 1")
        };
        let positive = |field, value: f64| {
            let accepted = value > 0.0 && value.is_finite();
            check(field, value, accepted, "a positive number")
        };
        let not_negative = |field, value: f64| {
            let accepted = value >= 0.0 && value.is_finite();
            check(field, value, accepted, "at least 0")
        };
        let moments = |beta_1: f32, beta_2: f32, epsilon: f32| {
            decay("optimizer.beta_1", beta_1.into())?;
            decay("optimizer.beta_2", beta_2.into())?;
            positive("optimizer.epsilon", epsilon.into())
        };
        not_negative("optimizer.weight_decay", self.weight_decay().into())?;
        match *self {
            Self::Adam {
                beta_1,
                beta_2,
                epsilon,
                ..
            }
            | Self::AdamW {
                beta_1,
                beta_2,
                epsilon,
                ..
            }
            | Self::Lamb {
                beta_1,
                beta_2,
                epsilon,
                ..
            } => moments(beta_1, beta_2, epsilon),
            Self::Adan {
                beta_1,
                beta_2,
                beta_3,
                epsilon,
                ..
            } => {
                moments(beta_1, beta_2, epsilon)?;
                decay("optimizer.beta_3", beta_3.into())
            }
            Self::Lion { beta_1, beta_2, .. } => {
                decay("optimizer.beta_1", beta_1.into())?;
                decay("optimizer.beta_2", beta_2.into())
            }
            Self::Sgd {
                momentum, nesterov, ..
            } => {
                decay("optimizer.momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    let expected = "more than 0 with `nesterov`";
                    return Err(TrainError::config("optimizer.momentum", expected, momentum));
                }
                Ok(())
            }
            Self::RmsProp {
                alpha,
                momentum,
                epsilon,
                ..
            } => {
                decay("optimizer.alpha", alpha.into())?;
                decay("optimizer.momentum", momentum.into())?;
                positive("optimizer.epsilon", epsilon.into())
            }
            Self::Adagrad {
                lr_decay, epsilon, ..
            } => {
                not_negative("optimizer.lr_decay", lr_decay)?;
                positive("optimizer.epsilon", epsilon.into())
            }
            Self::Adafactor {
                decay_rate,
                clip_threshold,
                ..
            } => {
                let accepted = decay_rate < 0.0 && decay_rate.is_finite();
                check(
                    "optimizer.decay_rate",
                    decay_rate,
                    accepted,
                    "a negative number",
                )?;
                positive("optimizer.clip_threshold", clip_threshold.into())
            }
        }
    }

    /// An optimizer without state, for the parameters in `groups`. Settings are those that
    /// [`validate`](Self::validate) accepts.
    pub fn init(&self, groups: &ParameterGroups) -> ModuleOptimizer {
        let l2 = |decay: f32| (decay > 0.0).then(|| WeightDecayConfig::new(decay));
        match *self {
            Self::Adam {
                beta_1,
                beta_2,
                epsilon,
                amsgrad,
                weight_decay,
            } => grouped(groups, weight_decay, |decay| {
                AdamConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(epsilon)
                    .with_amsgrad(amsgrad)
                    .with_weight_decay(l2(decay))
                    .build()
            }),
            Self::AdamW {
                beta_1,
                beta_2,
                epsilon,
                amsgrad,
                weight_decay,
                cautious,
            } => grouped(groups, weight_decay, |decay| {
                AdamWConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(epsilon)
                    .with_amsgrad(amsgrad)
                    .with_cautious_weight_decay(cautious)
                    .with_weight_decay(decay)
                    .build()
            }),
            Self::Sgd {
                momentum,
                nesterov,
                weight_decay,
            } => {
                let momentum = (momentum > 0.0).then(|| {
                    MomentumConfig::new()
                        .with_momentum(momentum)
                        .with_dampening(0.0)
                        .with_nesterov(nesterov)
                });
                grouped(groups, weight_decay, |decay| {
                    SgdConfig::new()
                        .with_momentum(momentum.clone())
                        .with_weight_decay(l2(decay))
                        .build()
                })
            }
            Self::RmsProp {
                alpha,
                momentum,
                epsilon,
                centered,
                weight_decay,
            } => grouped(groups, weight_decay, |decay| {
                RmsPropConfig::new()
                    .with_alpha(alpha)
                    .with_momentum(momentum)
                    .with_epsilon(epsilon)
                    .with_centered(centered)
                    .with_weight_decay(l2(decay))
                    .build()
            }),
            Self::Adagrad {
                lr_decay,
                epsilon,
                weight_decay,
            } => grouped(groups, weight_decay, |decay| {
                AdaGradConfig::new()
                    .with_lr_decay(lr_decay)
                    .with_epsilon(epsilon)
                    .with_weight_decay(l2(decay))
                    .build()
            }),
            Self::Adan {
                beta_1,
                beta_2,
                beta_3,
                epsilon,
                weight_decay,
            } => grouped(groups, weight_decay, |decay| {
                AdanConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_beta_3(beta_3)
                    .with_epsilon(epsilon)
                    .with_weight_decay(decay)
                    .build()
            }),
            Self::Lion {
                beta_1,
                beta_2,
                weight_decay,
            } => grouped(groups, weight_decay, |decay| {
                LionConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_weight_decay(decay)
                    .build()
            }),
            Self::Lamb {
                beta_1,
                beta_2,
                epsilon,
                weight_decay,
            } => grouped(groups, weight_decay, |decay| {
                LambConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(epsilon)
                    .with_weight_decay(decay)
                    .build()
            }),
            Self::Adafactor {
                decay_rate,
                clip_threshold,
                scale_parameter,
                weight_decay,
            } => grouped(groups, weight_decay, |decay| {
                AdafactorConfig::new()
                    .with_decay_rate(decay_rate)
                    .with_clip_threshold(clip_threshold)
                    .with_scale_parameter(scale_parameter)
                    // The learning rate is the schedule's.
                    .with_relative_step(false)
                    .with_weight_decay(decay)
                    .build()
            }),
        }
    }
}

/// One optimizer with `weight_decay`, and one for each other weight decay in `groups`.
fn grouped<O: Optimizer>(
    groups: &ParameterGroups,
    weight_decay: f32,
    build: impl Fn(f32) -> O,
) -> ModuleOptimizer {
    groups.decays().fold(
        ModuleOptimizer::from(build(weight_decay)),
        |optimizer, (decay, ids)| {
            optimizer.with_group(ParamGroup::from_ids(ids), build(decay), None)
        },
    )
}

mod defaults {
    pub(super) fn beta_1() -> f32 {
        0.9
    }

    pub(super) fn beta_2() -> f32 {
        0.999
    }

    pub(super) fn lion_2() -> f32 {
        0.99
    }

    pub(super) fn adan_1() -> f32 {
        0.98
    }

    pub(super) fn adan_2() -> f32 {
        0.92
    }

    pub(super) fn adan_3() -> f32 {
        0.99
    }

    pub(super) fn alpha() -> f32 {
        0.99
    }

    /// burn's default of 1e-5 makes small steps smaller.
    pub(super) fn epsilon() -> f32 {
        1e-8
    }

    pub(super) fn adagrad_epsilon() -> f32 {
        1e-10
    }

    pub(super) fn lamb_epsilon() -> f32 {
        1e-6
    }

    pub(super) fn adafactor_decay() -> f64 {
        -0.8
    }

    pub(super) fn one() -> f32 {
        1.0
    }

    pub(super) fn decoupled_decay() -> f32 {
        0.01
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> OptimizerConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn settings_are_read_by_kind() {
        assert_eq!(parse("kind = \"adam_w\""), OptimizerConfig::default());
        for kind in [
            "adam",
            "sgd",
            "rms_prop",
            "adagrad",
            "adan",
            "lion",
            "lamb",
            "adafactor",
        ] {
            let config = parse(&format!("kind = \"{kind}\""));
            config.validate().unwrap();
            assert_eq!(parse(&toml::to_string(&config).unwrap()), config);
        }
        let unknown = toml::from_str::<OptimizerConfig>("kind = \"lion\"\nepsilon = 1.0");
        assert!(unknown.unwrap_err().message().contains("`epsilon`"));
    }

    #[test]
    fn invalid_settings_name_the_field() {
        for (text, field) in [
            ("kind = \"adam\"\nbeta_1 = 1.0", "optimizer.beta_1"),
            ("kind = \"adam_w\"\nbeta_2 = -0.1", "optimizer.beta_2"),
            ("kind = \"adan\"\nbeta_3 = 1.0", "optimizer.beta_3"),
            ("kind = \"lamb\"\nepsilon = 0.0", "optimizer.epsilon"),
            ("kind = \"sgd\"\nmomentum = 1.0", "optimizer.momentum"),
            ("kind = \"sgd\"\nnesterov = true", "optimizer.momentum"),
            ("kind = \"rms_prop\"\nalpha = nan", "optimizer.alpha"),
            ("kind = \"adagrad\"\nlr_decay = -1.0", "optimizer.lr_decay"),
            (
                "kind = \"adafactor\"\ndecay_rate = 0.8",
                "optimizer.decay_rate",
            ),
            (
                "kind = \"lion\"\nweight_decay = -1.0",
                "optimizer.weight_decay",
            ),
        ] {
            let error = parse(text).validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
