//! One step of an LSTM from raw tensor operations.
//!
//! ```text
//! i = σ(x W_iiᵀ + h W_hiᵀ + b_i)        f = σ(x W_ifᵀ + h W_hfᵀ + b_f)
//! g = tanh(x W_igᵀ + h W_hgᵀ + b_g)     o = σ(x W_ioᵀ + h W_hoᵀ + b_o)
//! c' = f ⊙ c + i ⊙ g                    h' = o ⊙ tanh(c')
//! ```
//!
//! Hochreiter & Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers,
//! Schmidhuber & Cummins, "Learning to forget" (2000); the equations of `torch.nn.LSTM` with its
//! two biases summed. The four gates are computed at once; [`gates`] has their order.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData, activation, module};

use crate::error::ForwardError;
use crate::gates::{self, Gates};
use crate::init::Initializer;
use crate::random::Key;
use crate::shapes;
use crate::state::LstmState;

/// The weights of one layer and direction, and one step with them (`torch.nn.LSTMCell`).
#[derive(Module, Debug)]
pub struct ScratchLstmCell {
    /// On the input, `[4H, D]`.
    pub weight_ih: Param<Tensor<2>>,
    /// On the hidden state, `[4H, H]`.
    pub weight_hh: Param<Tensor<2>>,
    /// `[4H]`: the sum of PyTorch's two.
    pub bias: Option<Param<Tensor<1>>>,
}

/// The weights of one layer and direction as plain tensors: what every layout in
/// [`weights`](crate::weights) converts to and from.
#[derive(Debug, Clone)]
pub struct CellWeights {
    /// On the input, `[4H, D]`.
    pub weight_ih: Tensor<2>,
    /// On the hidden state, `[4H, H]`.
    pub weight_hh: Tensor<2>,
    /// `[4H]`.
    pub bias: Option<Tensor<1>>,
}

impl ScratchLstmCell {
    /// A cell with these weights, trainable if their device differentiates. The parameters'
    /// identities follow from `key`'s path.
    pub fn from_weights(weights: CellWeights, key: &Key) -> Self {
        Self {
            weight_ih: parameter(weights.weight_ih, &key.child("weight_ih")),
            weight_hh: parameter(weights.weight_hh, &key.child("weight_hh")),
            bias: weights.bias.map(|bias| parameter(bias, &key.child("bias"))),
        }
    }

    /// The weights as tensors; gradients flow through them.
    pub fn weights(&self) -> CellWeights {
        CellWeights {
            weight_ih: self.weight_ih.val(),
            weight_hh: self.weight_hh.val(),
            bias: self.bias.as_ref().map(Param::val),
        }
    }

    /// `D`, the width of the input.
    pub fn d_input(&self) -> usize {
        self.weight_ih.dims()[1]
    }

    /// `H`, the width of the states.
    pub fn d_hidden(&self) -> usize {
        self.weight_hh.dims()[1]
    }

    /// One step: input `[B, D]` and state `[B, H]` (zeros if absent) to the next state.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](Self::try_forward) has an error.
    pub fn forward(&self, input: Tensor<2>, state: Option<LstmState<2>>) -> LstmState<2> {
        self.try_forward(input, state)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// One step: input `[B, D]` and state `[B, H]` (zeros if absent) to the next state.
    ///
    /// # Errors
    ///
    /// If a tensor has another shape, element type or device than the weights imply.
    pub fn try_forward(
        &self,
        input: Tensor<2>,
        state: Option<LstmState<2>>,
    ) -> Result<LstmState<2>, ForwardError> {
        let weights = self.weights();
        let (dtype, device) = (weights.weight_ih.dtype(), weights.weight_ih.device());
        let [batch, _] = input.dims();
        let d_hidden = self.d_hidden();
        shapes::check_step("input", &input, batch, self.d_input())?;
        shapes::check_kind("input", &input, dtype, &device)?;
        let state = match state {
            Some(state) => {
                shapes::check_step("state.hidden", &state.hidden, batch, d_hidden)?;
                shapes::check_step("state.cell", &state.cell, batch, d_hidden)?;
                shapes::check_kind("state.hidden", &state.hidden, dtype, &device)?;
                shapes::check_kind("state.cell", &state.cell, dtype, &device)?;
                state
            }
            None => LstmState::zeros([batch, d_hidden], (&device, dtype)),
        };
        let recurrent = weights.weight_hh.clone().transpose();
        let gates = weights.project(input) + state.hidden.matmul(recurrent);
        Ok(advance(gates::split(gates, 1), state.cell))
    }

    /// One step of one sequence: input `[D]` and state `[H]` to the next state.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](Self::try_forward) has an error.
    pub fn forward_unbatched(&self, input: Tensor<1>, state: Option<LstmState<1>>) -> LstmState<1> {
        let state = state.map(|state| state.map(|tensor| tensor.unsqueeze_dim(0)));
        self.forward(input.unsqueeze_dim(0), state)
            .map(|tensor| tensor.squeeze_dim(0))
    }
}

impl CellWeights {
    /// Weights as they begin: see [`InitConfig`](crate::config::InitConfig).
    pub(crate) fn init(
        d_input: usize,
        d_hidden: usize,
        bias: bool,
        init: &crate::config::InitConfig,
        key: &Key,
        device: &Device,
    ) -> Self {
        let matrix = |initializer: Initializer, columns: usize, name: &str| {
            let values = initializer.gate_blocks(d_hidden, columns, &key.child(name));
            let data = TensorData::new(values, [gates::COUNT * d_hidden, columns]);
            Tensor::from_data(data, device)
        };
        let bias = bias.then(|| {
            let mut values = vec![0.0f32; gates::COUNT * d_hidden];
            let forget = gates::Gate::Forget.offset(d_hidden);
            values[forget..forget + d_hidden].fill(init.forget_bias as f32);
            Tensor::from_data(TensorData::new(values, [gates::COUNT * d_hidden]), device)
        });
        Self {
            weight_ih: matrix(init.input, d_input, "weight_ih"),
            weight_hh: matrix(init.recurrent, d_hidden, "weight_hh"),
            bias,
        }
    }

    /// The input's part of the gates, `x W_ihᵀ + b`: `[N, D]` to `[N, 4H]`, for any number of
    /// rows and steps at once.
    pub(crate) fn project(&self, input: Tensor<2>) -> Tensor<2> {
        module::linear(input, self.weight_ih.clone().transpose(), self.bias.clone())
    }
}

/// One step from the gates `[B, H]` before their activations and the cell state `[B, H]`.
pub(crate) fn advance(gates: Gates<Tensor<2>>, cell: Tensor<2>) -> LstmState<2> {
    let gates = activate(gates);
    let cell = gates.forget * cell + gates.input * gates.cell;
    let hidden = gates.output * cell.clone().tanh();
    LstmState { hidden, cell }
}

/// `σ` of the gates, `tanh` of the candidate for the cell state.
pub(crate) fn activate(gates: Gates<Tensor<2>>) -> Gates<Tensor<2>> {
    Gates {
        input: sigmoid(gates.input),
        forget: sigmoid(gates.forget),
        cell: gates.cell.tanh(),
        output: sigmoid(gates.output),
    }
}

/// `σ(x)`; in f64 as `(1 + tanh(x/2)) / 2`, for burn's own rounds to f32 on most backends.
fn sigmoid(x: Tensor<2>) -> Tensor<2> {
    if x.dtype() == DType::F64 {
        (x * 0.5).tanh() * 0.5 + 0.5
    } else {
        activation::sigmoid(x)
    }
}

fn parameter<const R: usize>(value: Tensor<R>, key: &Key) -> Param<Tensor<R>> {
    // A tensor computed from tracked ones cannot be trained itself; what it holds can.
    let mut parameter = Param::from_tensor(value.detach());
    parameter.id = key.param_id();
    parameter
}
