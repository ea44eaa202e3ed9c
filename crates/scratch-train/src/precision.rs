//! Numbers that a model is trained in.
//!
//! In mixed precision (Micikevicius et al. 2018) the optimizer's weights stay in f32; a copy in
//! bf16 runs forward and backward, and its gradients are raised before anything is done with them.
//! bf16 has the range of f32, so that losses need no scaling; f16 would.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::backend::quietly;
use crate::error::TrainError;
use crate::gradients;

/// What forward and backward passes compute in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision, as the weights.
    #[default]
    F32,
    /// Brain floating point: the range of f32 in half the memory, with eight bits of precision.
    Bf16,
}

impl Precision {
    /// The element type of weights and activations.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }
}

/// Whether `device` computes in `precision`: what it says of itself, and a small calculation.
///
/// # Errors
///
/// If it does not.
pub fn check(precision: Precision, device: &Device) -> Result<(), TrainError> {
    let dtype = DType::from(precision.dtype());
    let error = |why: &str| {
        let expected = format!("one that the device computes in ({why})");
        Err(TrainError::config("precision", expected, name(precision)))
    };
    if precision == Precision::F32 {
        return Ok(());
    }
    if !device.supports_dtype(dtype) {
        return error("it does not have this one");
    }
    match quietly(|| trial(dtype, &device.clone().without_autodiff())) {
        Some(true) => Ok(()),
        Some(false) => error("its results in this one are wrong"),
        None => error("its operations fail in this one"),
    }
}

/// A copy of `model` with float parameters in `dtype`: leaves of a graph of their own, with the
/// same identities, gradients required where they were.
pub fn lowered<M: Module>(model: &M, dtype: FloatDType) -> M {
    model.clone().map(&mut Cast(dtype))
}

/// Gradients of a lowered model as those of `module`, in f32.
pub fn raised<M: Module>(grads: GradientsParams, module: &M) -> GradientsParams {
    gradients::cast(grads, module, FloatDType::F32)
}

fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

/// A product and a tanh of small whole numbers.
fn trial(dtype: DType, device: &Device) -> bool {
    let left = Tensor::<2>::from_data([[1.0, 2.0, -1.0], [0.0, 3.0, 0.5]], (device, dtype));
    let right = left.clone().transpose();
    let product = left.matmul(right);
    let is = |tensor: Tensor<2>, expected: [f64; 4]| {
        let found = tensor.cast(FloatDType::F32).into_data();
        let mut pairs = found.iter::<f64>().zip(expected);
        pairs.all(|(found, expected)| (found - expected).abs() < 0.01)
    };
    is(product.clone(), [6.0, 5.5, 5.5, 9.25])
        && is(
            product.mul_scalar(0.125).tanh(),
            [0.75, 0.6875, 0.6875, 1.15625].map(f64::tanh),
        )
}

struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let tracked = value.is_require_grad();
        // Detached, the tensor keeps its device and how the device checkpoints.
        let leaf = value.detach().set_require_grad(false);
        let leaf = leaf.cast(self.0).detach().set_require_grad(tracked);
        Param::from_mapped_value(id, leaf, mapper)
    }
}
