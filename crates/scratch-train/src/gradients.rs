//! Gradients between the backward pass and the optimizer: sums, norms, clipping, and keeping them.
//!
//! Everything but [`is_finite`] and [`to_named`] stays on the device.

use std::collections::{BTreeMap, HashSet};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use thiserror::Error;

/// Clips by value, then by norm, where there is a bound. Returns the gradients and the norm before,
/// `[1]`: clipping by value would hide that an entry is infinite.
pub fn clip<M: Module>(
    grads: GradientsParams,
    module: &M,
    max_value: Option<f64>,
    max_norm: Option<f64>,
) -> (GradientsParams, Option<Tensor<1>>) {
    let Some(max_value) = max_value else {
        return match max_norm {
            Some(max_norm) => clip_global_norm(grads, module, max_norm),
            None => {
                let norm = global_norm(&grads, module);
                (grads, norm)
            }
        };
    };
    let norm = global_norm(&grads, module);
    let grads = clip_value(grads, module, max_value);
    match max_norm {
        Some(max_norm) => (clip_global_norm(grads, module, max_norm).0, norm),
        None => (grads, norm),
    }
}

/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, as PyTorch's `clip_grad_norm_`
/// does. Returns them and the norm before, `[1]`; `None` if there are no gradients.
///
/// burn clips each tensor by itself, which changes the direction of the gradient; sequence models
/// are trained with the norm over all parameters (Pascanu, Mikolov & Bengio 2013), which only
/// shortens it.
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

/// Moves every entry of every gradient into ± `max_value`, as PyTorch's `clip_grad_value_` does.
/// The gradient's direction changes; entries that are not finite stay so or become the bound.
pub fn clip_value<M: Module>(
    grads: GradientsParams,
    module: &M,
    max_value: f64,
) -> GradientsParams {
    map(grads, module, Clamp(max_value))
}

/// The Euclidean norm over all gradients, `[1]`, in f32 at least; `None` if there are none. A
/// parameter that the module has in two places counts once.
pub fn global_norm<M: Module>(grads: &GradientsParams, module: &M) -> Option<Tensor<1>> {
    let mut visitor = SumOfSquares {
        grads,
        seen: HashSet::new(),
        sum: None,
    };
    module.visit(&mut visitor);
    visitor.sum.map(Tensor::sqrt)
}

/// The Euclidean norm over all weights, `[1]`, as [`global_norm`] of gradients.
pub(crate) fn weights_norm<M: Module>(module: &M) -> Option<Tensor<1>> {
    let mut visitor = SumOfWeights(SumOfSquares {
        grads: &GradientsParams::new(),
        seen: HashSet::new(),
        sum: None,
    });
    module.visit(&mut visitor);
    visitor.0.sum.map(Tensor::sqrt)
}

/// Whether a [`global_norm`] is finite, and with it every gradient. Waits for the device.
///
/// A norm beyond the largest f32 (gradients of 1e19 and more) counts as infinite.
pub fn is_finite(norm: &Tensor<1>) -> bool {
    norm.clone().into_scalar::<f64>().is_finite()
}

/// Multiplies all gradients by `factor`, `[1]`.
pub fn scale<M: Module>(grads: GradientsParams, module: &M, factor: &Tensor<1>) -> GradientsParams {
    map(grads, module, Times(factor))
}

/// Multiplies all gradients by a number.
pub fn scale_by<M: Module>(grads: GradientsParams, module: &M, factor: f64) -> GradientsParams {
    map(grads, module, TimesNumber(factor))
}

/// All gradients in another element type.
pub(crate) fn cast<M: Module>(
    grads: GradientsParams,
    module: &M,
    dtype: FloatDType,
) -> GradientsParams {
    map(grads, module, Cast(dtype))
}

/// The sum of two gradients of one module; a parameter that has a gradient in one of them only
/// keeps it.
pub fn add<M: Module>(a: GradientsParams, b: GradientsParams, module: &M) -> GradientsParams {
    let mut visitor = Add {
        a,
        b,
        sum: GradientsParams::new(),
    };
    module.visit(&mut visitor);
    visitor.sum
}

/// All gradients on the host, by the paths of their parameters.
pub fn to_named<M: Module>(grads: &GradientsParams, module: &M) -> BTreeMap<String, TensorData> {
    let mut visitor = ToNamed {
        grads,
        path: Vec::new(),
        seen: HashSet::new(),
        named: BTreeMap::new(),
    };
    module.visit(&mut visitor);
    visitor.named
}

/// The gradients that [`to_named`] took apart, bit for bit, on `device` (without autodiff).
/// Parameters that have none in `named` have none.
///
/// # Errors
///
/// If a name is that of no parameter, or a gradient has another shape than its parameter.
pub fn from_named<M: Module>(
    named: BTreeMap<String, TensorData>,
    module: &M,
    device: &Device,
) -> Result<GradientsParams, GradientsError> {
    let mut visitor = FromNamed {
        named,
        device,
        path: Vec::new(),
        grads: GradientsParams::new(),
        error: None,
    };
    module.visit(&mut visitor);
    if let Some(error) = visitor.error {
        return Err(error);
    }
    match visitor.named.into_keys().next() {
        Some(name) => Err(GradientsError::Unknown { name }),
        None => Ok(visitor.grads),
    }
}

/// Saved gradients that are not those of a module.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GradientsError {
    /// A gradient of nothing.
    #[error("gradient of `{name}`: expected the path of a parameter, found none there")]
    Unknown {
        /// Where the parameter would be.
        name: String,
    },
    /// A gradient of another shape than its parameter.
    #[error("gradient of `{name}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The parameter.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
        /// The gradient's.
        found: Vec<usize>,
    },
}

fn map<M: Module>(grads: GradientsParams, module: &M, change: impl Change) -> GradientsParams {
    let mut visitor = Map {
        from: grads,
        to: GradientsParams::new(),
        change,
    };
    module.visit(&mut visitor);
    visitor.to
}

/// What is done to a gradient, whatever its rank.
trait Change {
    fn change<const D: usize>(&self, grad: Tensor<D>) -> Tensor<D>;
}

struct Clamp(f64);

impl Change for Clamp {
    fn change<const D: usize>(&self, grad: Tensor<D>) -> Tensor<D> {
        grad.clamp(-self.0, self.0)
    }
}

struct Times<'a>(&'a Tensor<1>);

impl Change for Times<'_> {
    fn change<const D: usize>(&self, grad: Tensor<D>) -> Tensor<D> {
        let factor = self.0.clone().cast(FloatDType::from(grad.dtype()));
        grad * factor.reshape([1; D])
    }
}

struct TimesNumber(f64);

impl Change for TimesNumber {
    fn change<const D: usize>(&self, grad: Tensor<D>) -> Tensor<D> {
        grad.mul_scalar(self.0)
    }
}

struct Cast(FloatDType);

impl Change for Cast {
    fn change<const D: usize>(&self, grad: Tensor<D>) -> Tensor<D> {
        grad.cast(self.0)
    }
}

struct Map<C> {
    from: GradientsParams,
    to: GradientsParams,
    change: C,
}

impl<C: Change> ModuleVisitor for Map<C> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, self.change.change(grad));
        }
    }
}

struct SumOfSquares<'a> {
    grads: &'a GradientsParams,
    seen: HashSet<ParamId>,
    sum: Option<Tensor<1>>,
}

impl SumOfSquares<'_> {
    fn add<const D: usize>(&mut self, id: ParamId, tensor: Tensor<D>) {
        if !self.seen.insert(id) {
            return;
        }
        // Squares leave the range of f16, and sums the precision of both.
        let tensor = match tensor.dtype() {
            DType::F16 | DType::BF16 => tensor.cast(FloatDType::F32),
            _ => tensor,
        };
        // Column by column: a sum over everything is one chain of additions on CPUs, four times
        // as slow and a thousand times less exact for a matrix of 1024 rows.
        let squares = tensor.square().sum_dim(0).sum();
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + squares,
            None => squares,
        });
    }
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.add(param.id, grad);
        }
    }
}

struct SumOfWeights<'a>(SumOfSquares<'a>);

impl ModuleVisitor for SumOfWeights<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.add(param.id, param.val().inner());
    }
}

struct Add {
    a: GradientsParams,
    b: GradientsParams,
    sum: GradientsParams,
}

impl ModuleVisitor for Add {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let sum = match (self.a.remove::<D>(param.id), self.b.remove(param.id)) {
            (Some(a), Some(b)) => a + b,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return,
        };
        self.sum.register(param.id, sum);
    }
}

struct ToNamed<'a> {
    grads: &'a GradientsParams,
    path: Vec<String>,
    seen: HashSet<ParamId>,
    named: BTreeMap<String, TensorData>,
}

impl ModuleVisitor for ToNamed<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id)
            && self.seen.insert(param.id)
        {
            self.named.insert(self.path.join("."), grad.into_data());
        }
    }
}

struct FromNamed<'a> {
    named: BTreeMap<String, TensorData>,
    device: &'a Device,
    path: Vec<String>,
    grads: GradientsParams,
    error: Option<GradientsError>,
}

impl ModuleVisitor for FromNamed<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join(".");
        let Some(data) = self.named.remove(&name) else {
            return;
        };
        let expected = param.lazy_shape().to_vec();
        let found = data.shape().to_vec();
        if expected != found {
            self.error.get_or_insert(GradientsError::Shape {
                name,
                expected,
                found,
            });
            return;
        }
        let dtype = data.dtype();
        let grad = Tensor::<D>::from_data(data, (self.device, dtype));
        self.grads.register(param.id, grad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Module, Debug)]
    struct Two {
        matrix: Param<Tensor<2>>,
        inner: Inner,
    }

    #[derive(Module, Debug)]
    struct Inner {
        vector: Param<Tensor<1>>,
        unused: Param<Tensor<3>>,
    }

    fn two(device: &Device) -> Two {
        Two {
            matrix: Param::from_tensor(Tensor::zeros([2, 3], device)),
            inner: Inner {
                vector: Param::from_tensor(Tensor::zeros([5], device)),
                unused: Param::from_tensor(Tensor::zeros([1, 2, 1], device)),
            },
        }
    }

    const MATRIX: [[f32; 3]; 2] = [[1.0, -2.0, 0.1], [4.0, 0.5, -6.0]];
    const VECTOR: [f32; 5] = [0.3, -0.7, 8.0, 1e-3, 0.0];

    fn grads(two: &Two, device: &Device) -> GradientsParams {
        let mut grads = GradientsParams::new();
        grads.register(two.matrix.id, Tensor::<2>::from_floats(MATRIX, device));
        grads.register(
            two.inner.vector.id,
            Tensor::<1>::from_floats(VECTOR, device),
        );
        grads
    }

    fn values(grads: &GradientsParams, two: &Two) -> Vec<f64> {
        let named = to_named(grads, two);
        let names: Vec<_> = named.keys().map(String::as_str).collect();
        assert_eq!(names, ["inner.vector", "matrix"]);
        named.values().flat_map(|data| data.iter::<f64>()).collect()
    }

    fn expected(change: impl Fn(f32) -> f32) -> Vec<f64> {
        let all = VECTOR.iter().chain(MATRIX.iter().flatten());
        all.map(|&x| f64::from(change(x))).collect()
    }

    #[test]
    fn arithmetic_is_that_of_every_entry() {
        let device = Device::default();
        let two = two(&device);
        let grads = || grads(&two, &device);
        assert_eq!(values(&grads(), &two), expected(|x| x));
        let scaled = scale_by(grads(), &two, 3.0);
        assert_eq!(values(&scaled, &two), expected(|x| 3.0 * x));
        let factor = Tensor::from_floats([0.5], &device);
        let halved = scale(grads(), &two, &factor);
        assert_eq!(values(&halved, &two), expected(|x| 0.5 * x));
        let sum = add(grads(), scale_by(grads(), &two, 2.0), &two);
        assert_eq!(values(&sum, &two), expected(|x| x + 2.0 * x));
        let clipped = clip_value(grads(), &two, 0.6);
        assert_eq!(values(&clipped, &two), expected(|x| x.clamp(-0.6, 0.6)));
    }

    #[test]
    fn a_gradient_of_one_side_only_is_in_the_sum() {
        let device = Device::default();
        let two = two(&device);
        let mut one = GradientsParams::new();
        one.register(two.inner.vector.id, Tensor::<1>::ones([5], &device));
        let grads = grads(&two, &device);
        let sum = to_named(&add(one, grads, &two), &two);
        let vector: Vec<f32> = sum["inner.vector"].iter::<f32>().collect();
        assert_eq!(vector, VECTOR.map(|x| 1.0 + x));
        assert_eq!(sum["matrix"].iter::<f32>().next(), Some(1.0));
    }

    #[test]
    fn the_norm_is_over_all_entries_and_says_what_is_not_finite() {
        let device = Device::default();
        let two = two(&device);
        let squares: f64 = expected(|x| x * x).iter().sum();
        let norm = |grads: &GradientsParams| global_norm(grads, &two).unwrap();
        let all = norm(&grads(&two, &device));
        assert!((all.clone().into_scalar::<f64>() - squares.sqrt()).abs() < 1e-5);
        assert!(is_finite(&all));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut grads = grads(&two, &device);
            let vector = Tensor::<1>::from_floats([0.0, 1.0, bad, 2.0, 0.0], &device);
            grads.register(two.inner.vector.id, vector);
            assert!(!is_finite(&norm(&grads)), "{bad}");
        }
        assert!(global_norm(&GradientsParams::new(), &two).is_none());
    }

    /// The same parameter in two places: its gradient is that of both.
    #[test]
    fn a_shared_parameter_counts_once() {
        #[derive(Module, Debug)]
        struct Tied {
            a: Param<Tensor<1>>,
            b: Param<Tensor<1>>,
        }
        let device = Device::default();
        let a = Param::from_tensor(Tensor::<1>::zeros([2], &device));
        let tied = Tied { b: a.clone(), a };
        let mut grads = GradientsParams::new();
        grads.register(tied.a.id, Tensor::<1>::from_floats([3.0, 4.0], &device));
        let norm = global_norm(&grads, &tied).unwrap();
        assert_eq!(norm.into_scalar::<f64>(), 5.0);
        let doubled = scale_by(grads, &tied, 2.0);
        let doubled: Vec<f32> = to_named(&doubled, &tied)["a"].iter::<f32>().collect();
        assert_eq!(doubled, [6.0, 8.0]);
    }

    #[test]
    fn names_bring_back_every_bit() {
        let device = Device::default();
        let two = two(&device);
        let awkward = [f32::MIN_POSITIVE / 2.0, -0.0, f32::NAN, 1.0 / 3.0, 3e38];
        let mut grads = grads(&two, &device);
        let vector = Tensor::<1>::from_floats(awkward, &device);
        grads.register(two.inner.vector.id, vector);
        let named = to_named(&grads, &two);
        let again = from_named(named.clone(), &two, &device).unwrap();
        assert_eq!(again.len(), 2);
        assert!(again.get::<3>(two.inner.unused.id).is_none());
        let found = to_named(&again, &two);
        let bits = |named: &BTreeMap<String, TensorData>| -> Vec<u32> {
            let all = named.values().flat_map(|data| data.iter::<f32>());
            all.map(f32::to_bits).collect()
        };
        assert_eq!(bits(&found), bits(&named));
        assert!(found.keys().eq(named.keys()));
    }

    #[test]
    fn names_of_another_module_are_errors() {
        let device = Device::default();
        let two = two(&device);
        let named = to_named(&grads(&two, &device), &two);
        let mut wrong_name = named.clone();
        let data = wrong_name.remove("matrix").unwrap();
        wrong_name.insert("matrx".into(), data);
        let error = from_named(wrong_name, &two, &device).unwrap_err();
        assert!(error.to_string().contains("`matrx`"), "{error}");
        let mut wrong_shape = named;
        wrong_shape.insert("matrix".into(), TensorData::zeros::<f32, _>([3, 2]));
        let error = from_named(wrong_shape, &two, &device).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("expected shape [2, 3], found [3, 2]")
        );
    }
}
