//! The gate arithmetic, forward and backward, of one unit of one row: the only place on GPUs that
//! has it. `docs/backward.md` derives it.
//!
//! What a gate was before its activation is not kept. A gate that was clipped is told on the way
//! back by a mark on what is kept of it: a negative sign on σ, which has none of its own, and
//! ±[`CLIPPED`] in the place of the candidate.

// The macros of CubeCL count arguments of their own.
#![allow(clippy::too_many_arguments)]

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// What a cell has besides the four gates. Known when a kernel is compiled: what is absent costs
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub(super) peepholes: bool,
    pub(super) coupled: bool,
    pub(super) clip_gates: bool,
    pub(super) clip_cell: bool,
    pub(super) zoneout_hidden: bool,
    pub(super) zoneout_cell: bool,
}

/// A number for each gate, in the gate order.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Gates<A: Float> {
    pub(super) input: A,
    pub(super) forget: A,
    pub(super) cell: A,
    pub(super) output: A,
}

/// The numbers of a unit that [`Variant`] speaks of; any where it has none.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Extra<A: Float> {
    pub(super) peephole_input: A,
    pub(super) peephole_forget: A,
    pub(super) peephole_output: A,
    /// Where gates end before their activations, and the cell state.
    pub(super) clip_gates: A,
    pub(super) clip_cell: A,
    /// The share of the old cell state that is kept.
    pub(super) zoneout_cell: A,
}

/// A step until something is shown of it.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Entered<A: Float> {
    /// What is kept of the gates.
    pub(super) kept: Gates<A>,
    /// The cell state inside of the step.
    pub(super) inner: A,
    /// That after it.
    pub(super) cell: A,
}

/// The gradients of what a unit shows.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Shown<A: Float> {
    /// Of the output gate before its activation.
    pub(super) output: A,
    /// Of what `tanh` was taken of: the cell state inside of the step, or its normalization.
    pub(super) cell: A,
}

/// What the rest of a step back gives.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Left<A: Float> {
    /// The gradients of the gates before their activations.
    pub(super) delta: Gates<A>,
    /// That of the cell state before the step.
    pub(super) cell: A,
}

/// From the gates before their activations and the cell state before the step.
#[cube]
pub(super) fn enter<A: Float>(
    sums: Gates<A>,
    cell: A,
    extra: Extra<A>,
    #[comptime] variant: Variant,
) -> Entered<A> {
    let mut input = sums.input;
    let mut forget = sums.forget;
    if comptime!(variant.peepholes) {
        input += extra.peephole_input * cell;
        forget += extra.peephole_forget * cell;
    }
    let kept_input = gate::<A>(input, extra, variant);
    let input = activated::<A>(kept_input);
    let mut kept_forget = A::new(1.0) - input;
    if comptime!(!variant.coupled) {
        kept_forget = gate::<A>(forget, extra, variant);
    }
    let forget = activated::<A>(kept_forget);
    let kept_cell = candidate::<A>(sums.cell, extra, variant);
    let entering = candidate_value::<A>(kept_cell, extra, variant);
    let inner = clip_cell::<A>(forget * cell + input * entering, extra, variant);
    let mut output = sums.output;
    if comptime!(variant.peepholes) {
        output += extra.peephole_output * inner;
    }
    let mut new_cell = inner;
    if comptime!(variant.zoneout_cell) {
        new_cell = held::<A>(inner, cell, extra.zoneout_cell);
    }
    Entered::<A> {
        kept: Gates::<A> {
            input: kept_input,
            forget: kept_forget,
            cell: kept_cell,
            output: gate::<A>(output, extra, variant),
        },
        inner,
        cell: new_cell,
    }
}

/// What a unit shows: `kept` of its output gate, `cell` of its cell state or its normalization.
#[cube]
pub(super) fn show<A: Float>(kept: A, cell: A) -> A {
    activated::<A>(kept) * tanh::<A>(cell)
}

/// A new number of a state, but for the share of the old one; exact for shares of 0 and 1.
#[cube]
pub(super) fn held<A: Float>(new: A, old: A, share: A) -> A {
    share * old + (A::new(1.0) - share) * new
}

/// The way back of [`show`], from the gradient of its result.
#[cube]
pub(super) fn show_back<A: Float>(kept: A, cell: A, gradient: A) -> Shown<A> {
    let shown = tanh::<A>(cell);
    Shown::<A> {
        output: gradient * shown * slope::<A>(kept),
        cell: gradient * activated::<A>(kept) * (A::new(1.0) - shown * shown),
    }
}

/// The cell state inside of a step, from those before and after it.
#[cube]
pub(super) fn inner<A: Float>(
    kept: Gates<A>,
    before: A,
    after: A,
    extra: Extra<A>,
    #[comptime] variant: Variant,
) -> A {
    if comptime!(variant.zoneout_cell) {
        let forget = activated::<A>(kept.forget);
        let input = activated::<A>(kept.input);
        let entering = candidate_value::<A>(kept.cell, extra, variant);
        clip_cell::<A>(forget * before + input * entering, extra, variant)
    } else {
        after
    }
}

/// The way back of [`enter`]: `before` is the cell state before the step, `inner` that inside of
/// it, of whose gradient `shown` has the part of what is shown, and `d_cell` the gradient of the
/// cell state after the step.
#[cube]
pub(super) fn enter_back<A: Float>(
    kept: Gates<A>,
    before: A,
    inner: A,
    shown: Shown<A>,
    d_cell: A,
    extra: Extra<A>,
    #[comptime] variant: Variant,
) -> Left<A> {
    let one = A::new(1.0);
    let input = activated::<A>(kept.input);
    let forget = activated::<A>(kept.forget);
    let entering = candidate_value::<A>(kept.cell, extra, variant);

    let mut d_inner = d_cell;
    if comptime!(variant.zoneout_cell) {
        d_inner = (one - extra.zoneout_cell) * d_cell;
    }
    d_inner += shown.cell;
    if comptime!(variant.peepholes) {
        d_inner += shown.output * extra.peephole_output;
    }
    if comptime!(variant.clip_cell) {
        d_inner = select(inner.abs() >= extra.clip_cell, A::new(0.0), d_inner);
    }
    let mut moves = entering;
    if comptime!(variant.coupled) {
        moves = entering - before;
    }
    let d_input = d_inner * moves * slope::<A>(kept.input);
    let mut d_forget = A::new(0.0);
    if comptime!(!variant.coupled) {
        d_forget = d_inner * before * slope::<A>(kept.forget);
    }
    let mut d_candidate = d_inner * input * (one - entering * entering);
    if comptime!(variant.clip_gates) {
        d_candidate = select(is_clipped::<A>(kept.cell), A::new(0.0), d_candidate);
    }
    let mut d_before = d_inner * forget;
    if comptime!(variant.zoneout_cell) {
        d_before += extra.zoneout_cell * d_cell;
    }
    if comptime!(variant.peepholes) {
        d_before += d_input * extra.peephole_input + d_forget * extra.peephole_forget;
    }
    Left::<A> {
        delta: Gates::<A> {
            input: d_input,
            forget: d_forget,
            cell: d_candidate,
            output: shown.output,
        },
        cell: d_before,
    }
}

/// In the place of a candidate that was clipped, with its sign.
const CLIPPED: f32 = 2.0;

/// What is kept of the input, forget or output gate.
#[cube]
fn gate<A: Float>(sum: A, extra: Extra<A>, #[comptime] variant: Variant) -> A {
    if comptime!(variant.clip_gates) {
        let bound = extra.clip_gates;
        let activated = sigmoid::<A>(bounded::<A>(sum, bound));
        select(sum.abs() > bound, -activated, activated)
    } else {
        sigmoid::<A>(sum)
    }
}

/// A gate from what is kept of it.
#[cube]
fn activated<A: Float>(kept: A) -> A {
    kept.abs()
}

/// σ' from what is kept of a gate: 0 where it was clipped.
#[cube]
fn slope<A: Float>(kept: A) -> A {
    select(kept < A::new(0.0), A::new(0.0), kept * (A::new(1.0) - kept))
}

/// What is kept of the candidate.
#[cube]
fn candidate<A: Float>(sum: A, extra: Extra<A>, #[comptime] variant: Variant) -> A {
    let activated = tanh::<A>(sum);
    if comptime!(variant.clip_gates) {
        let mark = select(sum > A::new(0.0), A::new(CLIPPED), A::new(-CLIPPED));
        select(sum.abs() > extra.clip_gates, mark, activated)
    } else {
        activated
    }
}

/// The candidate from what is kept of it.
#[cube]
fn candidate_value<A: Float>(kept: A, extra: Extra<A>, #[comptime] variant: Variant) -> A {
    if comptime!(variant.clip_gates) {
        let end = tanh::<A>(extra.clip_gates);
        let signed = select(kept > A::new(0.0), end, -end);
        select(is_clipped::<A>(kept), signed, kept)
    } else {
        kept
    }
}

#[cube]
fn is_clipped<A: Float>(candidate: A) -> bool {
    candidate.abs() >= A::new(CLIPPED)
}

#[cube]
fn clip_cell<A: Float>(cell: A, extra: Extra<A>, #[comptime] variant: Variant) -> A {
    if comptime!(variant.clip_cell) {
        bounded::<A>(cell, extra.clip_cell)
    } else {
        cell
    }
}

/// Within ±`bound`. NaN stays what it is: the devices' own `clamp` makes it a bound.
#[cube]
fn bounded<A: Float>(x: A, bound: A) -> A {
    let from_above = select(x > bound, bound, x);
    select(x < -bound, -bound, from_above)
}

#[cube]
fn sigmoid<A: Float>(x: A) -> A {
    A::new(1.0) / (A::new(1.0) + (-x).exp())
}

#[cube]
fn tanh<A: Float>(x: A) -> A {
    x.tanh()
}
