//! Random tensors and weights by [`Key`], the same on every backend and in every element type.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::Rng;
use scratch_lstm::Key;

/// `count` numbers in ±1, each one that f32 has.
pub fn uniform(count: usize, key: &Key) -> Vec<f64> {
    let mut rng = key.rng();
    (0..count)
        .map(|_| {
            let unit = f64::from(rng.next_u32()) / f64::from(u32::MAX);
            f64::from((2.0 * unit - 1.0) as f32)
        })
        .collect()
}

/// A tensor of numbers in ±1.
pub fn tensor<const R: usize>(
    shape: [usize; R],
    key: &Key,
    device: &Device,
    dtype: DType,
) -> Tensor<R> {
    let data = TensorData::new(uniform(shape.iter().product(), key), shape);
    Tensor::from_data(data, (device, dtype))
}

/// `module` with every parameter drawn anew in ±`bound`, biases too, in `dtype`.
pub fn randomize<M: Module>(module: M, bound: f64, key: &Key, dtype: DType) -> M {
    module.map(&mut Randomize {
        path: Vec::new(),
        bound,
        key,
        dtype,
    })
}

struct Randomize<'a> {
    path: Vec<String>,
    bound: f64,
    key: &'a Key,
    dtype: DType,
}

impl ModuleMapper for Randomize<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = self.key.child(self.path.join("."));
        param.map(|old| {
            let new = tensor(old.dims(), &key, &old.device(), self.dtype) * self.bound;
            new.detach().set_require_grad(old.is_require_grad())
        })
    }
}
