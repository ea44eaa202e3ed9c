//! One step forward and one step back: the equations and their derivatives.
//!
//! `docs/backward.md` derives the lines of [`Run::step_back`]; those of the variants follow from the
//! equations of `docs/features.md` by the same rules.

use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, TensorMetadata};

use super::arithmetic::{
    at, clear, columns, hold, mul, one_minus, one_minus_square, outside, plus, scaled, sigmoid,
    slope,
};
use super::norm::{Standard, standardize};
use super::run::Run;
use crate::gates::{COUNT, Gate};

#[derive(Debug, Clone)]
pub(super) struct State<B: Backend> {
    /// `[B, P]`
    pub(super) hidden: FloatTensor<B>,
    /// `[B, H]`
    pub(super) cell: FloatTensor<B>,
}

/// One step, as the way back needs it; `[B, H]` if it does not say otherwise.
#[derive(Debug, Clone)]
pub(super) struct Step<B: Backend> {
    /// After their activations, in the gate order.
    gates: [FloatTensor<B>; COUNT],
    /// Where gates were clipped, if they are.
    clipped: [Option<BoolTensor<B>>; COUNT],
    /// The state before the step.
    pub(super) before: State<B>,
    /// The cell state after it.
    after: FloatTensor<B>,
}

/// What one step leaves for the gradients of the weights when it is walked back through.
#[derive(Debug)]
pub(super) struct Passed<B: Backend> {
    /// The gradient of the gates before their activations, `[B, 4H]`.
    pub(super) delta: FloatTensor<B>,
    /// The gradient of the hidden state's part of them before its normalization, if it has one.
    pub(super) recurrent: Option<FloatTensor<B>>,
    /// The hidden state before the step, `[B, P]`.
    pub(super) hidden: FloatTensor<B>,
    /// What peepholes saw, if there are any: the cell state before the step and inside of it.
    pub(super) cells: Option<[FloatTensor<B>; 2]>,
    /// If there is a projection, the gradient of its result `[B, P]`, and what it read `[B, H]`.
    pub(super) projected: Option<[FloatTensor<B>; 2]>,
    /// If the cell state is normalized, the gradient of the result, and the state before gain and
    /// shift, `[B, H]` both.
    pub(super) normed: Option<[FloatTensor<B>; 2]>,
}

/// A cell state as it is inside of a step.
struct Inner<B: Backend> {
    /// `ĉ`
    cell: FloatTensor<B>,
    /// Where it was clipped, if it is.
    clipped: Option<BoolTensor<B>>,
}

impl<B: Backend> Run<'_, B> {
    /// One step at `time` from the gates before their activations, `[B, 4H]`: what is kept of it,
    /// the hidden state it shows, and the state after it.
    pub(super) fn advance(
        &self,
        time: usize,
        sums: FloatTensor<B>,
        before: State<B>,
    ) -> (Step<B>, FloatTensor<B>, State<B>) {
        let sums = |gate: Gate| {
            let from = gate.offset(self.d_hidden);
            columns::<B>(&sums, from..from + self.d_hidden)
        };
        let gate = |gate: Gate, cell: &FloatTensor<B>| {
            let seen = self.peephole(gate).map(|peephole| mul::<B>(peephole, cell));
            self.activate(gate, plus::<B>(sums(gate), seen))
        };
        let (input, input_clipped) = gate(Gate::Input, &before.cell);
        let (forget, forget_clipped) = match self.call.cell.coupled {
            true => (one_minus::<B>(input.clone()), None),
            false => gate(Gate::Forget, &before.cell),
        };
        let (candidate, candidate_clipped) = gate(Gate::Cell, &before.cell);
        let sum = cell_sum::<B>(&before.cell, &input, &forget, &candidate);
        let inner = match self.call.cell.clip_cell {
            Some(bound) => B::float_clamp(sum, (-bound).into(), bound.into()),
            None => sum,
        };
        let (output, output_clipped) = gate(Gate::Output, &inner);
        let product = B::float_mul(output.clone(), self.show(&inner).0);
        let hidden = match &self.weight_hr {
            Some(weight_hr) => B::float_matmul(product, weight_hr.clone()),
            None => product,
        };
        let keep = |new: FloatTensor<B>, old: &FloatTensor<B>, share: Option<FloatTensor<B>>| {
            let Some(share) = share else { return new };
            // Exact where the share is 0 or 1.
            let new = B::float_mul(one_minus::<B>(share.clone()), new);
            B::float_add(B::float_mul(share, old.clone()), new)
        };
        let next = State::<B> {
            hidden: keep(hidden, &before.hidden, self.zoneout_hidden_at(time)),
            cell: keep(inner, &before.cell, self.zoneout_cell_at(time)),
        };
        let ended = self.ended_at(time);
        let shown = clear::<B>(next.hidden.clone(), ended.as_ref());
        let next = match &ended {
            None => next,
            Some(ended) => State {
                hidden: hold::<B>(next.hidden, ended, &before.hidden),
                cell: hold::<B>(next.cell, ended, &before.cell),
            },
        };
        let step = Step {
            gates: [input, forget, candidate, output],
            clipped: [
                input_clipped,
                forget_clipped,
                candidate_clipped,
                output_clipped,
            ],
            before,
            after: next.cell.clone(),
        };
        (step, shown, next)
    }

    /// One step back: from the gradients of the state after the step and of what it showed to what
    /// the weights' gradients need, and the gradient of the state before. `recurrent` is the hidden
    /// state's part of the gates, standardized, if it is.
    pub(super) fn step_back(
        &self,
        time: usize,
        step: Step<B>,
        d_shown: Option<FloatTensor<B>>,
        after: State<B>,
        recurrent: Option<Standard<B>>,
    ) -> (Passed<B>, State<B>) {
        let ended = self.ended_at(time);
        let [input, forget, candidate, output] = &step.gates;
        let [
            input_clipped,
            forget_clipped,
            candidate_clipped,
            output_clipped,
        ] = &step.clipped;
        let d_hidden = plus::<B>(after.hidden.clone(), d_shown);
        let (d_hidden, kept_hidden) = split_share::<B>(d_hidden, self.zoneout_hidden_at(time));
        let (d_cell, kept_cell) = split_share::<B>(after.cell.clone(), self.zoneout_cell_at(time));
        // What ended rows hold must not reach the sums that take more than `delta`.
        let summed = self.weight_hr.is_some() || self.norm.is_some();
        let d_hidden = clear::<B>(d_hidden, ended.as_ref().filter(|_| summed));
        let d_product = match &self.weight_hr_back {
            Some(weight_hr) => B::float_matmul(d_hidden.clone(), weight_hr.clone()),
            None => d_hidden.clone(),
        };

        let inner = self.inner(&step);
        let (shown, standard) = self.show(&inner.cell);
        let d_normed = mul::<B>(
            &mul::<B>(&d_product, output),
            &one_minus_square::<B>(&shown),
        );
        let through = match (&self.norm, &standard) {
            (Some(norm), Some(standard)) => standard.back(mul::<B>(&d_normed, &norm.cell)),
            _ => d_normed.clone(),
        };
        let d_output = B::float_mul(mul::<B>(&d_product, &shown), slope::<B>(output));
        let d_output = clear::<B>(d_output, output_clipped.as_ref());
        let d_cell = B::float_add(d_cell, through);
        let seen = self.peephole(Gate::Output);
        let d_cell = plus::<B>(d_cell, seen.map(|peephole| mul::<B>(&d_output, peephole)));
        let d_cell = clear::<B>(d_cell, inner.clipped.as_ref());

        let d_candidate = B::float_mul(mul::<B>(&d_cell, input), one_minus_square::<B>(candidate));
        let d_candidate = clear::<B>(d_candidate, candidate_clipped.as_ref());
        // With coupled gates the cell state moves by `i (g - c)`.
        let (moves, d_forget) = match self.call.cell.coupled {
            true => {
                let moves = B::float_sub(candidate.clone(), step.before.cell.clone());
                let zeros = B::float_zeros(d_cell.shape(), &d_cell.device(), d_cell.dtype().into());
                (moves, zeros)
            }
            false => {
                let d_forget = mul::<B>(&d_cell, &step.before.cell);
                let d_forget = B::float_mul(d_forget, slope::<B>(forget));
                let d_forget = clear::<B>(d_forget, forget_clipped.as_ref());
                (candidate.clone(), d_forget)
            }
        };
        let d_input = B::float_mul(mul::<B>(&d_cell, &moves), slope::<B>(input));
        let d_input = clear::<B>(d_input, input_clipped.as_ref());
        let cell = plus::<B>(mul::<B>(&d_cell, forget), kept_cell);
        let seen = [(Gate::Input, &d_input), (Gate::Forget, &d_forget)];
        let cell = seen.into_iter().fold(cell, |cell, (gate, delta)| {
            let peephole = self.peephole(gate);
            plus::<B>(cell, peephole.map(|peephole| mul::<B>(delta, peephole)))
        });

        let delta = B::float_cat(vec![d_input, d_forget, d_candidate, d_output], 1);
        let delta = clear::<B>(delta, ended.as_ref());
        let recurrent = match (&self.norm, &recurrent) {
            (Some(norm), Some(standard)) => {
                Some(norm.back(mul::<B>(&delta, &norm.hidden), standard))
            }
            _ => None,
        };
        let to_hidden = recurrent.as_ref().unwrap_or(&delta).clone();
        let hidden = B::float_matmul(to_hidden, self.weight_hh_back.clone());
        let hidden = scaled::<B>(hidden, self.hidden_mask.as_ref());
        let hidden = plus::<B>(hidden, kept_hidden);
        let before = match &ended {
            None => State::<B> { hidden, cell },
            Some(ended) => State {
                hidden: hold::<B>(hidden, ended, &after.hidden),
                cell: hold::<B>(cell, ended, &after.cell),
            },
        };
        let passed = Passed {
            delta,
            recurrent,
            hidden: step.before.hidden,
            cells: self
                .has_peepholes()
                .then_some([step.before.cell, inner.cell]),
            projected: self
                .weight_hr
                .is_some()
                .then(|| [d_hidden, mul::<B>(output, &shown)]),
            normed: standard.map(|standard| [d_normed, standard.rows]),
        };
        (passed, before)
    }

    /// A gate from its sum, and where it was clipped.
    fn activate(&self, gate: Gate, sum: FloatTensor<B>) -> (FloatTensor<B>, Option<BoolTensor<B>>) {
        let (sum, clipped) = match self.call.cell.clip_gates {
            Some(bound) => {
                let clipped = self.keeps.then(|| outside::<B>(&sum, bound));
                (B::float_clamp(sum, (-bound).into(), bound.into()), clipped)
            }
            None => (sum, None),
        };
        let activated = match gate {
            Gate::Cell => B::float_tanh(sum),
            _ => sigmoid::<B>(sum),
        };
        (activated, clipped)
    }

    /// What a cell state shows, `tanh` of it, and the state standardized, if it is.
    fn show(&self, cell: &FloatTensor<B>) -> (FloatTensor<B>, Option<Standard<B>>) {
        let Some(norm) = &self.norm else {
            return (B::float_tanh(cell.clone()), None);
        };
        let standard = standardize::<B>(cell.clone());
        let normed = B::float_add(mul::<B>(&standard.rows, &norm.cell), norm.cell_bias.clone());
        (B::float_tanh(normed), Some(standard))
    }

    /// The cell state inside of a step: computed again where the step left another.
    fn inner(&self, step: &Step<B>) -> Inner<B> {
        let bound = self.call.cell.clip_cell;
        if bound.is_none() && self.zoneout_cell.is_none() {
            return Inner {
                cell: step.after.clone(),
                clipped: None,
            };
        }
        let [input, forget, candidate, _] = &step.gates;
        let sum = cell_sum::<B>(&step.before.cell, input, forget, candidate);
        match bound {
            Some(bound) => Inner {
                clipped: Some(outside::<B>(&sum, bound)),
                cell: B::float_clamp(sum, (-bound).into(), bound.into()),
            },
            None => Inner {
                cell: sum,
                clipped: None,
            },
        }
    }

    /// The shares of the old hidden state that are kept at `time`, `[B, P]`.
    fn zoneout_hidden_at(&self, time: usize) -> Option<FloatTensor<B>> {
        let shares = self.zoneout_hidden.as_ref()?;
        Some(at::<B>(shares, time))
    }

    /// The shares of the old cell state, `[B, H]`.
    fn zoneout_cell_at(&self, time: usize) -> Option<FloatTensor<B>> {
        let shares = self.zoneout_cell.as_ref()?;
        Some(at::<B>(shares, time))
    }
}

/// `f ⊙ c + i ⊙ g`
fn cell_sum<B: Backend>(
    before: &FloatTensor<B>,
    input: &FloatTensor<B>,
    forget: &FloatTensor<B>,
    candidate: &FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_add(mul::<B>(forget, before), mul::<B>(input, candidate))
}

/// A gradient divided between what was new, and what was kept, if anything was.
fn split_share<B: Backend>(
    gradient: FloatTensor<B>,
    share: Option<FloatTensor<B>>,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    match share {
        Some(share) => {
            let kept = B::float_mul(gradient.clone(), share);
            (B::float_sub(gradient, kept.clone()), Some(kept))
        }
        None => (gradient, None),
    }
}
