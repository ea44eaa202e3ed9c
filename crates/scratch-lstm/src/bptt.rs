//! Backpropagation through time by hand, one step at a time, in tensor operations.
//!
//! For a step with the activated gates `i, f, g, o` and `u = tanh(c')`, given the gradients
//! `dh'` and `dc'` of the next state:
//!
//! ```text
//! do = dh' ⊙ u               dc  = dc' + dh' ⊙ o ⊙ (1 - u²)
//! di = dc ⊙ g                df  = dc ⊙ c               dg = dc ⊙ i
//! δ  = [di ⊙ i(1-i), df ⊙ f(1-f), dg ⊙ (1-g²), do ⊙ o(1-o)]       (before the activations)
//! dx = δ W_ih     dh = δ W_hh     dc_prev = dc ⊙ f
//! dW_ih = δᵀ x    dW_hh = δᵀ h    db = Σ_rows δ
//! ```
//!
//! (Graves, "Supervised sequence labelling with recurrent neural networks", 2012, chapter 4.)
//! This is the readable witness for every faster backward pass; for training use
//! [`ScratchLstm`](crate::ScratchLstm).

use burn::tensor::Tensor;

use crate::cell::{self, CellWeights};
use crate::gates::{self, Gates};
use crate::state::LstmState;

/// What the backward step needs of the forward step.
#[derive(Debug, Clone)]
pub struct StepCache {
    /// The input, `[B, D]`.
    pub input: Tensor<2>,
    /// The state before the step, `[B, H]`.
    pub before: LstmState<2>,
    /// The gates after their activations, `[B, H]` each.
    pub gates: Gates<Tensor<2>>,
    /// `tanh` of the cell state after the step, `[B, H]`.
    pub cell_tanh: Tensor<2>,
}

/// The gradients that one backward step gives.
#[derive(Debug, Clone)]
pub struct StepGradients {
    /// Of the input, `[B, D]`.
    pub input: Tensor<2>,
    /// Of the state before the step, `[B, H]`.
    pub before: LstmState<2>,
    /// Of the weights, in their shapes; add them up over the steps.
    pub weights: CellWeights,
}

/// One step: input `[B, D]`, state `[B, H]`; the next state, and what the way back needs.
pub fn forward_step(
    weights: &CellWeights,
    input: Tensor<2>,
    before: LstmState<2>,
) -> (LstmState<2>, StepCache) {
    let recurrent = weights.weight_hh.clone().transpose();
    let joined = weights.project(input.clone()) + before.hidden.clone().matmul(recurrent);
    let gates = cell::activate_plain(gates::split(joined, 1));
    let cell =
        gates.forget.clone() * before.cell.clone() + gates.input.clone() * gates.cell.clone();
    let cell_tanh = cell.clone().tanh();
    let hidden = gates.output.clone() * cell_tanh.clone();
    let cache = StepCache {
        input,
        before,
        gates,
        cell_tanh,
    };
    (LstmState { hidden, cell }, cache)
}

/// One step back: from the gradients of the next state (`dh_next`, `dc_next`, `[B, H]`) to those
/// of the input, the state before and the weights.
pub fn backward_step(weights: &CellWeights, cache: StepCache, next: LstmState<2>) -> StepGradients {
    let StepCache {
        input,
        before,
        gates,
        cell_tanh,
    } = cache;
    let d_output = next.hidden.clone() * cell_tanh.clone();
    let d_cell = next.cell + next.hidden * gates.output.clone() * one_minus_square(cell_tanh);
    let deltas = Gates {
        input: d_cell.clone() * gates.cell.clone() * sigmoid_slope(gates.input.clone()),
        forget: d_cell.clone() * before.cell * sigmoid_slope(gates.forget.clone()),
        cell: d_cell.clone() * gates.input * one_minus_square(gates.cell),
        output: d_output * sigmoid_slope(gates.output),
    };
    let delta = gates::join(deltas, 1);
    let bias = weights.bias.as_ref().map(|_| {
        let sum: Tensor<2> = delta.clone().sum_dim(0);
        sum.squeeze_dim(0)
    });
    StepGradients {
        input: delta.clone().matmul(weights.weight_ih.clone()),
        before: LstmState {
            hidden: delta.clone().matmul(weights.weight_hh.clone()),
            cell: d_cell * gates.forget,
        },
        weights: CellWeights::new(
            delta.clone().transpose().matmul(input),
            delta.transpose().matmul(before.hidden),
            bias,
        ),
    }
}

/// `σ'` from `σ`.
fn sigmoid_slope(activated: Tensor<2>) -> Tensor<2> {
    activated.clone() * (1.0 - activated)
}

/// `tanh'` from `tanh`.
fn one_minus_square(activated: Tensor<2>) -> Tensor<2> {
    1.0 - activated.square()
}
