//! Clipping gradients by their global norm.
//!
//! burn clips each tensor by itself, which changes the direction of the gradient; sequence models
//! are trained with the norm over all parameters (Pascanu, Mikolov & Bengio 2013), which only
//! shortens it. Nothing is read back to the host.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, as PyTorch's `clip_grad_norm_`
/// does. Returns them and the norm before, `[1]`; `None` if there are no gradients.
pub fn clip_global_norm<M: Module>(
    grads: GradientsParams,
    module: &M,
    max_norm: f64,
) -> (GradientsParams, Option<Tensor<1>>) {
    let norm = global_norm(&grads, module);
    let Some(norm) = norm else {
        return (grads, None);
    };
    let factor = norm
        .clone()
        .add_scalar(1e-6)
        .recip()
        .mul_scalar(max_norm)
        .clamp_max(1.0);
    (scale(grads, module, &factor), Some(norm))
}

/// The Euclidean norm over all gradients, `[1]`; `None` if there are none.
pub fn global_norm<M: Module>(grads: &GradientsParams, module: &M) -> Option<Tensor<1>> {
    let mut visitor = SumOfSquares { grads, sum: None };
    module.visit(&mut visitor);
    visitor.sum.map(Tensor::sqrt)
}

/// Multiplies all gradients by `factor`, `[1]`.
pub fn scale<M: Module>(grads: GradientsParams, module: &M, factor: &Tensor<1>) -> GradientsParams {
    let mut visitor = Scale {
        from: grads,
        to: GradientsParams::new(),
        factor,
    };
    module.visit(&mut visitor);
    visitor.to
}

struct SumOfSquares<'a> {
    grads: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.get::<D>(param.id) else {
            return;
        };
        let squares = grad.square().sum();
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + squares,
            None => squares,
        });
    }
}

struct Scale<'a> {
    from: GradientsParams,
    to: GradientsParams,
    factor: &'a Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.from.remove::<D>(param.id) {
            let factor = self.factor.clone().reshape([1; D]);
            self.to.register(param.id, grad * factor);
        }
    }
}
