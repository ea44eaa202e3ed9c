//! burn's optimizers by configuration.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, RmsPropConfig, SgdConfig};
use burn::tensor::{Bool, Int, Tensor};
use scratch_lstm::param_id;
use serde::{Deserialize, Serialize};

/// Which optimizer moves the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adam (Kingma & Ba 2015) with L2 regularization.
    Adam {
        /// Decay of the first moment.
        #[serde(default = "beta_1")]
        beta_1: f32,
        /// Decay of the second moment.
        #[serde(default = "beta_2")]
        beta_2: f32,
        /// Added to gradients as `weight_decay * weight`.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    AdamW {
        /// Decay of the first moment.
        #[serde(default = "beta_1")]
        beta_1: f32,
        /// Decay of the second moment.
        #[serde(default = "beta_2")]
        beta_2: f32,
        /// Share of the weights taken off, times the learning rate, at each step.
        #[serde(default = "decoupled_decay")]
        weight_decay: f32,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum; 0 for none.
        #[serde(default)]
        momentum: f64,
        /// Added to gradients as `weight_decay * weight`.
        #[serde(default)]
        weight_decay: f32,
    },
    /// RMSProp (Hinton 2012).
    RmsProp {
        /// Added to gradients as `weight_decay * weight`.
        #[serde(default)]
        weight_decay: f32,
    },
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::adam_w(decoupled_decay())
    }
}

impl OptimizerConfig {
    /// [`AdamW`](Self::AdamW) with the usual decays of its moments.
    pub fn adam_w(weight_decay: f32) -> Self {
        Self::AdamW {
            beta_1: beta_1(),
            beta_2: beta_2(),
            weight_decay,
        }
    }

    /// An optimizer without state.
    pub fn init(&self) -> ModuleOptimizer {
        let l2 = |decay: f32| (decay > 0.0).then(|| WeightDecayConfig::new(decay));
        match *self {
            Self::Adam {
                beta_1,
                beta_2,
                weight_decay,
            } => AdamConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(EPSILON)
                .with_weight_decay(l2(weight_decay))
                .init(),
            Self::AdamW {
                beta_1,
                beta_2,
                weight_decay,
            } => AdamWConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(EPSILON)
                .with_weight_decay(weight_decay)
                .init(),
            Self::Sgd {
                momentum,
                weight_decay,
            } => {
                let momentum = (momentum > 0.0).then(|| {
                    MomentumConfig::new()
                        .with_momentum(momentum)
                        .with_dampening(0.0)
                });
                SgdConfig::new()
                    .with_momentum(momentum)
                    .with_weight_decay(l2(weight_decay))
                    .init()
            }
            Self::RmsProp { weight_decay } => RmsPropConfig::new()
                .with_weight_decay(l2(weight_decay))
                .init(),
        }
    }
}

/// Gives every parameter the identity that follows from its path in the module.
///
/// Optimizer states and records are kept by identity; burn's are drawn at random in each process.
pub fn with_path_ids<M: Module>(module: M) -> M {
    module.map(&mut PathIds::default())
}

/// PyTorch's; burn's default of 1e-5 makes small steps smaller.
const EPSILON: f32 = 1e-8;

fn beta_1() -> f32 {
    0.9
}

fn beta_2() -> f32 {
    0.999
}

fn decoupled_decay() -> f32 {
    0.01
}

#[derive(Default)]
struct PathIds {
    path: Vec<String>,
}

impl PathIds {
    fn id(&self) -> burn::module::ParamId {
        param_id(&self.path.join("."))
    }
}

impl ModuleMapper for PathIds {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, mut param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.id = self.id();
        param
    }

    fn map_int<const D: usize>(
        &mut self,
        mut param: Param<Tensor<D, Int>>,
    ) -> Param<Tensor<D, Int>> {
        param.id = self.id();
        param
    }

    fn map_bool<const D: usize>(
        &mut self,
        mut param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        param.id = self.id();
        param
    }
}
