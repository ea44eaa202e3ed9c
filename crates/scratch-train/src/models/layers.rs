//! burn's layers with weights drawn by [`Key`]: the same on every backend.

use burn::module::Param;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use rand::distr::{Distribution, Uniform};
use rand_distr::StandardNormal;
use scratch_lstm::{ConfigError, Key};

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

/// The tensor in the element type of a layer's weights.
pub(super) fn in_type_of<const R: usize>(tensor: Tensor<R>, layer: &Linear) -> Tensor<R> {
    let dtype = layer.weight.val().dtype();
    match tensor.dtype() == dtype {
        true => tensor,
        false => tensor.cast(FloatDType::from(dtype)),
    }
}

/// What a model says of a label smoothing outside of what can be.
pub(super) fn check_smoothing(smoothing: f64) -> Result<(), ConfigError> {
    if (0.0..1.0).contains(&smoothing) {
        return Ok(());
    }
    Err(ConfigError {
        field: "label_smoothing",
        expected: "at least 0 and less than 1".into(),
        found: smoothing.to_string(),
    })
}

fn parameter<const R: usize>(value: Tensor<R>, key: &Key) -> Param<Tensor<R>> {
    let mut parameter = Param::from_tensor(value);
    parameter.id = key.param_id();
    parameter
}
