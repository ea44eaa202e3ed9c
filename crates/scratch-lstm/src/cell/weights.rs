//! The weights of one layer and direction, and how they begin.

use burn::tensor::{Device, Tensor, TensorData, module};
use rand::distr::{Distribution, Uniform};

use crate::config::{BiasInitializer, InitConfig, ScratchLstmConfig};
use crate::gates::{self, Gate};
use crate::init::Initializer;
use crate::random::Key;

/// The weights of one layer and direction as plain tensors: what every layout in
/// [`weights`](crate::weights) converts to and from.
///
/// There are four gates here, whatever the cell: where the input and the forget gate are coupled,
/// the forget gate's block has no influence.
#[derive(Debug, Clone)]
pub struct CellWeights {
    /// On the input, `[4H, D]`.
    pub weight_ih: Tensor<2>,
    /// On the hidden state, `[4H, P]`, where `P = H` without a projection.
    pub weight_hh: Tensor<2>,
    /// `[4H]`.
    pub bias: Option<Tensor<1>>,
    /// The projection of the hidden state, `[P, H]`.
    pub weight_hr: Option<Tensor<2>>,
    /// On the cell state, `[3H]`: of the input, the forget and the output gate.
    pub peephole: Option<Tensor<1>>,
    /// Of layer normalization.
    pub layer_norm: Option<LayerNormWeights>,
}

/// Gains and shift of layer normalization.
#[derive(Debug, Clone)]
pub struct LayerNormWeights {
    /// Gain of the input's part of the gates, `[4H]`.
    pub input: Tensor<1>,
    /// Gain of the hidden state's part of the gates, `[4H]`.
    pub hidden: Tensor<1>,
    /// Gain of the cell state, `[H]`.
    pub cell: Tensor<1>,
    /// Shift of the cell state, `[H]`.
    pub cell_bias: Tensor<1>,
}

impl CellWeights {
    /// Those of a plain cell: `[4H, D]`, `[4H, H]` and `[4H]`.
    pub fn new(weight_ih: Tensor<2>, weight_hh: Tensor<2>, bias: Option<Tensor<1>>) -> Self {
        Self {
            weight_ih,
            weight_hh,
            bias,
            weight_hr: None,
            peephole: None,
            layer_norm: None,
        }
    }

    /// Whether they are those of a plain cell.
    pub fn is_plain(&self) -> bool {
        self.weight_hr.is_none() && self.peephole.is_none() && self.layer_norm.is_none()
    }

    /// `D`, the width of the input.
    pub fn d_input(&self) -> usize {
        self.weight_ih.dims()[1]
    }

    /// `H`, the width of the gates and of the cell state.
    pub fn d_hidden(&self) -> usize {
        self.weight_hh.dims()[0] / gates::COUNT
    }

    /// `P`, the width of the hidden state: `H` without a projection.
    pub fn d_state(&self) -> usize {
        self.weight_hh.dims()[1]
    }

    /// Applies `map` to each tensor.
    pub fn map(self, mut map: impl MapTensors) -> Self {
        Self {
            weight_ih: map.map(self.weight_ih),
            weight_hh: map.map(self.weight_hh),
            bias: self.bias.map(|tensor| map.map(tensor)),
            weight_hr: self.weight_hr.map(|tensor| map.map(tensor)),
            peephole: self.peephole.map(|tensor| map.map(tensor)),
            layer_norm: self.layer_norm.map(|norm| LayerNormWeights {
                input: map.map(norm.input),
                hidden: map.map(norm.hidden),
                cell: map.map(norm.cell),
                cell_bias: map.map(norm.cell_bias),
            }),
        }
    }

    /// The same weights without the graph they were computed by, ready to be parameters.
    pub fn detach(self) -> Self {
        struct Detach;
        impl MapTensors for Detach {
            fn map<const R: usize>(&mut self, tensor: Tensor<R>) -> Tensor<R> {
                tensor.detach()
            }
        }
        self.map(Detach)
    }

    /// From the three gates of a coupled cell, of `d_hidden` units, to four.
    pub(crate) fn with_forget(self, d_hidden: usize) -> Self {
        struct With(usize);
        impl MapTensors for With {
            fn map<const R: usize>(&mut self, tensor: Tensor<R>) -> Tensor<R> {
                gates::with_forget(tensor, 0, self.0)
            }
        }
        self.map_gates(With(d_hidden))
    }

    /// From four gates to the three of a coupled cell, of `d_hidden` units.
    pub(crate) fn without_forget(self, d_hidden: usize) -> Self {
        struct Without(usize);
        impl MapTensors for Without {
            fn map<const R: usize>(&mut self, tensor: Tensor<R>) -> Tensor<R> {
                gates::without_forget(tensor, 0, self.0)
            }
        }
        self.map_gates(Without(d_hidden))
    }

    /// Applies `map` to the tensors that have a block for each gate.
    fn map_gates(self, mut map: impl MapTensors) -> Self {
        Self {
            weight_ih: map.map(self.weight_ih),
            weight_hh: map.map(self.weight_hh),
            bias: self.bias.map(|tensor| map.map(tensor)),
            weight_hr: self.weight_hr,
            peephole: self.peephole.map(|tensor| map.map(tensor)),
            layer_norm: self.layer_norm.map(|norm| LayerNormWeights {
                input: map.map(norm.input),
                hidden: map.map(norm.hidden),
                ..norm
            }),
        }
    }

    /// Weights of layer `layer` as they begin: see [`InitConfig`].
    pub(crate) fn init(
        config: &ScratchLstmConfig,
        layer: usize,
        key: &Key,
        device: &Device,
    ) -> Self {
        let (d_input, d_hidden) = (config.layer_input(layer), config.d_hidden);
        let d_state = config.d_state();
        let init = &config.init;
        let matrix = |initializer: Initializer, columns: usize, name: &str| {
            let values = initializer.gate_blocks(d_hidden, columns, &key.child(name));
            let data = TensorData::new(values, [gates::COUNT * d_hidden, columns]);
            Tensor::from_data(data, device)
        };
        let bias = config.bias.then(|| {
            let values = biases(init, d_hidden, config.cell.coupled, &key.child("bias"));
            Tensor::from_data(TensorData::new(values, [gates::COUNT * d_hidden]), device)
        });
        let weight_hr = config.d_proj.map(|d_proj| {
            let key = key.child("weight_hr");
            let values = init.projection.matrix(d_hidden, d_proj, d_hidden, &key);
            Tensor::from_data(TensorData::new(values, [d_proj, d_hidden]), device)
        });
        let peepholes = config.cell.peepholes;
        let joined = [gates::COUNT * d_hidden];
        Self {
            weight_ih: matrix(init.input, d_input, "weight_ih"),
            weight_hh: matrix(init.recurrent, d_state, "weight_hh"),
            bias,
            weight_hr,
            peephole: peepholes.then(|| Tensor::zeros([(gates::COUNT - 1) * d_hidden], device)),
            layer_norm: config.cell.layer_norm.then(|| LayerNormWeights {
                input: Tensor::ones(joined, device),
                hidden: Tensor::ones(joined, device),
                cell: Tensor::ones([d_hidden], device),
                cell_bias: Tensor::zeros([d_hidden], device),
            }),
        }
    }

    /// The input's part of the gates, `x W_ihᵀ + b`: `[N, D]` to `[N, 4H]`, for any number of
    /// rows and steps at once.
    pub(crate) fn project(&self, input: Tensor<2>) -> Tensor<2> {
        module::linear(input, self.weight_ih.clone().transpose(), self.bias.clone())
    }
}

/// A map of tensors of any rank.
pub trait MapTensors {
    /// What becomes of a tensor.
    fn map<const R: usize>(&mut self, tensor: Tensor<R>) -> Tensor<R>;
}

/// The biases `[4H]` as they begin.
fn biases(init: &InitConfig, d_hidden: usize, coupled: bool, key: &Key) -> Vec<f32> {
    let mut rng = key.rng();
    let mut values = vec![0.0f32; gates::COUNT * d_hidden];
    if init.bias == BiasInitializer::PyTorch {
        let bound = 1.0 / (d_hidden as f64).sqrt();
        let distribution = Uniform::new_inclusive(-bound, bound).expect("bound is finite");
        for value in &mut values {
            *value = (distribution.sample(&mut rng) + distribution.sample(&mut rng)) as f32;
        }
    }
    let of_gate = |gate: Gate| gate.offset(d_hidden)..gate.offset(d_hidden) + d_hidden;
    let Some(steps) = init.chrono else {
        // `f = 1 - i`: what makes one larger makes the other smaller.
        let (gate, sign) = if coupled {
            (Gate::Input, -1.0)
        } else {
            (Gate::Forget, 1.0)
        };
        for value in &mut values[of_gate(gate)] {
            *value += sign * init.forget_bias as f32;
        }
        return values;
    };
    let spans = Uniform::new_inclusive(1.0, steps - 1.0).expect("at least 2 steps");
    for unit in 0..d_hidden {
        let span = spans.sample(&mut rng).ln() as f32;
        values[Gate::Forget.offset(d_hidden) + unit] = span;
        values[Gate::Input.offset(d_hidden) + unit] = -span;
    }
    values
}
