//! The equations of one step, from the gates' sums on; `docs/features.md` has them all.

use burn::tensor::{DType, Tensor, activation};
use scratch_lstm_kernels::{Activation, Activations};

use super::LayerNormWeights;
use crate::config::LAYER_NORM_EPSILON;
use crate::gates::{COUNT, Gates};
use crate::recurrence::Recurrence;
use crate::state::LstmState;

/// One step: from the gates `[B, H]` before their activations and the state before to the next
/// state. `zoneout` has the share of the old hidden and cell state that each unit keeps, if any.
pub(crate) fn advance(
    recurrence: &Recurrence,
    sums: Gates<Tensor<2>>,
    before: &LstmState<2>,
    zoneout: Zoneout,
) -> LstmState<2> {
    let Recurrence { weights, cell, .. } = recurrence;
    let Activations { hidden: shown, .. } = cell.activations;
    let bounded = |x: Tensor<2>, bound: Option<f64>| match bound {
        Some(bound) => x.clamp(-bound, bound),
        None => x,
    };
    let gate = |x: Tensor<2>| activate(cell.activations.gate, bounded(x, cell.clip_gates));
    let seen = |sum: Tensor<2>, place: usize, state: &Tensor<2>| match &weights.peephole {
        Some(peephole) => sum + peephole_of(peephole, place) * state.clone(),
        None => sum,
    };
    let input = gate(seen(sums.input, 0, &before.cell));
    let forget = if cell.coupled {
        1.0 - input.clone()
    } else {
        gate(seen(sums.forget, 1, &before.cell))
    };
    let candidate = activate(cell.activations.cell, bounded(sums.cell, cell.clip_gates));
    let inner = bounded(
        forget * before.cell.clone() + input * candidate,
        cell.clip_cell,
    );
    let output = gate(seen(sums.output, 2, &inner));
    let normed = match &weights.layer_norm {
        Some(norm) => norm_cell(norm, inner.clone()),
        None => inner.clone(),
    };
    let hidden = output * activate(shown, normed);
    let hidden = match &weights.weight_hr {
        Some(projection) => hidden.matmul(projection.clone().transpose()),
        None => hidden,
    };
    LstmState {
        hidden: keep(hidden, &before.hidden, zoneout.hidden),
        cell: keep(inner, &before.cell, zoneout.cell),
    }
}

/// The shares of an old state that units keep in one step, `[B, P]` and `[B, H]`.
#[derive(Debug, Default)]
pub(crate) struct Zoneout {
    pub(crate) hidden: Option<Tensor<2>>,
    pub(crate) cell: Option<Tensor<2>>,
}

/// Layer normalization of one part of all gates, `[N, 4H]`, by its gain `[4H]`: over the gates that
/// there are, which are three if two are coupled.
pub(crate) fn norm_gates(sums: Tensor<2>, gain: &Tensor<1>, coupled: bool) -> Tensor<2> {
    let d_hidden = gain.dims()[0] / COUNT;
    let gain = gain.clone().unsqueeze_dim(0);
    if !coupled {
        return standardize(sums) * gain;
    }
    let three = crate::gates::without_forget(sums, 1, d_hidden);
    crate::gates::with_forget(standardize(three), 1, d_hidden) * gain
}

/// A function of each entry.
pub(crate) fn activate(function: Activation, x: Tensor<2>) -> Tensor<2> {
    match function {
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.clamp_min(0.0),
        Activation::Identity => x,
        Activation::HardSigmoid { alpha, beta } => (x * alpha + beta).clamp(0.0, 1.0),
        Activation::LeakyRelu { alpha } => x.clone().clamp_min(0.0) + x.clamp_max(0.0) * alpha,
        Activation::Elu { alpha } => {
            x.clone().clamp_min(0.0) + (x.clamp_max(0.0).exp() - 1.0) * alpha
        }
        Activation::Softsign => x.clone() / (x.abs() + 1.0),
        Activation::Softplus => x.clone().clamp_min(0.0) + (-x.abs()).exp().log1p(),
        Activation::ScaledTanh { alpha, beta } => (x * beta).tanh() * alpha,
        Activation::Affine { alpha, beta } => x * alpha + beta,
        Activation::ThresholdedRelu { alpha } => {
            let below = x.clone().lower_equal_elem(alpha);
            x.mask_fill(below, 0.0)
        }
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

/// `old` where a unit keeps it, `new` where not, and their mixture where it keeps a share.
fn keep(new: Tensor<2>, old: &Tensor<2>, share: Option<Tensor<2>>) -> Tensor<2> {
    match share {
        // Exact where the share is 0 or 1.
        Some(share) => share.clone() * old.clone() + (1.0 - share) * new,
        None => new,
    }
}

/// Mean 0 and variance 1 of each row, but for the epsilon.
fn standardize(rows: Tensor<2>) -> Tensor<2> {
    let centred = rows.clone() - rows.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred / (variance + LAYER_NORM_EPSILON).sqrt()
}

fn norm_cell(norm: &LayerNormWeights, cell: Tensor<2>) -> Tensor<2> {
    let row = |tensor: &Tensor<1>| tensor.clone().unsqueeze_dim(0);
    standardize(cell) * row(&norm.cell) + row(&norm.cell_bias)
}

/// A gate's peepholes, `[1, H]`, of all `[3H]`.
fn peephole_of(peephole: &Tensor<1>, place: usize) -> Tensor<2> {
    let d_hidden = peephole.dims()[0] / (COUNT - 1);
    let of_gate = peephole.clone().narrow(0, place * d_hidden, d_hidden);
    of_gate.unsqueeze_dim(0)
}

/// The gates' activations with `σ` and `tanh`.
pub(crate) fn activate_plain(gates: Gates<Tensor<2>>) -> Gates<Tensor<2>> {
    Gates {
        input: sigmoid(gates.input),
        forget: sigmoid(gates.forget),
        cell: gates.cell.tanh(),
        output: sigmoid(gates.output),
    }
}
