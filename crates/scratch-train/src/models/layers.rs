//! burn's layers with weights drawn by [`Key`]: the same on every backend.

use burn::module::Param;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use rand::distr::{Distribution, Uniform};
use rand_distr::StandardNormal;
use scratch_lstm::Key;

/// A linear layer `[.., d_input]` to `[.., d_output]`, uniform in `±1/√d_input` as
/// `torch.nn.Linear` begins.
pub fn linear(d_input: usize, d_output: usize, key: &Key, device: &Device) -> Linear {
    let bound = 1.0 / (d_input.max(1) as f64).sqrt();
    let distribution = Uniform::new_inclusive(-bound, bound).expect("bound is finite");
    let draw = |name: &str, count: usize| -> Vec<f32> {
        let mut rng = key.child(name).rng();
        (0..count)
            .map(|_| distribution.sample(&mut rng) as f32)
            .collect()
    };
    let weight = TensorData::new(draw("weight", d_input * d_output), [d_input, d_output]);
    let bias = TensorData::new(draw("bias", d_output), [d_output]);
    Linear {
        weight: parameter(Tensor::from_data(weight, device), &key.child("weight")),
        bias: Some(parameter(
            Tensor::from_data(bias, device),
            &key.child("bias"),
        )),
    }
}

/// An embedding of `count` symbols in `d_model` numbers each, normal with deviation 0.1.
pub fn embedding(count: usize, d_model: usize, key: &Key, device: &Device) -> Embedding {
    let key = key.child("weight");
    let mut rng = key.rng();
    let values: Vec<f32> = (0..count * d_model)
        .map(|_| 0.1 * Distribution::<f32>::sample(&StandardNormal, &mut rng))
        .collect();
    let weight = TensorData::new(values, [count, d_model]);
    Embedding {
        weight: parameter(Tensor::from_data(weight, device), &key),
    }
}

fn parameter<const R: usize>(value: Tensor<R>, key: &Key) -> Param<Tensor<R>> {
    let mut parameter = Param::from_tensor(value);
    parameter.id = key.param_id();
    parameter
}
