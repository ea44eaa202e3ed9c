//! The gate arithmetic, forward and backward, on vectors: the only place that has it.
//!
//! A step has three parts, because some cells need whole rows in between: [`enter`] from the sums
//! to the gates and the new cell state, [`show`] from there to what is shown of it, and [`keep`],
//! which leaves some of the old state where it was. [`forward`] and [`backward`] are all of it for
//! units that need no others. `docs/backward.md` derives it.

use pulp::Simd;

use crate::activation::{sigmoid, tanh};
use crate::functions::{Activation, Activations};
use crate::gates::{COUNT, Gate};
use crate::real::Real;
use crate::tile::{load, store};

const I: usize = Gate::Input as usize;
const F: usize = Gate::Forget as usize;
const G: usize = Gate::Cell as usize;
const O: usize = Gate::Output as usize;

/// Gates that the cell state may enter: input, forget, output.
pub(crate) const PEEPHOLES: usize = 3;

/// The widest vector's numbers.
const LANES: usize = 16;

/// What a cell has besides the four gates, for some units of a row. What is known to be absent when
/// the kernels are compiled costs nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extra<T, V> {
    /// What the cell state is multiplied with where it enters the input, forget and output gate.
    pub(crate) peephole: Option<[V; PEEPHOLES]>,
    /// Whether the forget gate is 1 minus the input gate.
    pub(crate) coupled: bool,
    /// Where gates end before their activations.
    pub(crate) clip_gates: Option<ActivatedBounds<T>>,
    /// Where the cell state ends.
    pub(crate) clip_cell: Option<T>,
    /// How much of the old cell state is kept.
    pub(crate) zoneout: Option<V>,
    /// Instead of σ and tanh; forward only.
    pub(crate) activations: Option<Activations>,
}

impl<T, V> Extra<T, V> {
    pub(crate) const NONE: Self = Self {
        peephole: None,
        coupled: false,
        clip_gates: None,
        clip_cell: None,
        zoneout: None,
        activations: None,
    };
}

/// A bound, and what it becomes by the activations: gates that were clipped are told by that on the
/// way back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActivatedBounds<T> {
    pub(crate) bound: T,
    /// σ of `-bound` and `bound`.
    pub(crate) gate: [T; 2],
    /// tanh of both.
    pub(crate) candidate: [T; 2],
}

/// What a step gives for some units of a row.
pub(crate) struct Step<V> {
    /// After their activations, in the gate order.
    pub(crate) gates: [V; COUNT],
    /// The next cell state.
    pub(crate) cell: V,
    /// What is shown of it: the next hidden state, before zoneout.
    pub(crate) shown: V,
}

/// From the gates before their activations and the cell state.
#[inline(always)]
pub(crate) fn forward<T: Real, S: Simd>(
    simd: S,
    sums: [T::V<S>; COUNT],
    before: T::V<S>,
    extra: &Extra<T, T::V<S>>,
) -> Step<T::V<S>> {
    let (gates, entered) = enter::<T, S>(simd, sums, before, extra);
    Step {
        gates,
        cell: keep::<T, S>(simd, entered, before, extra.zoneout),
        shown: show::<T, S>(simd, gates[O], entered, extra),
    }
}

/// The activated gates, and the new cell state before zoneout.
#[inline(always)]
pub(crate) fn enter<T: Real, S: Simd>(
    simd: S,
    mut sums: [T::V<S>; COUNT],
    before: T::V<S>,
    extra: &Extra<T, T::V<S>>,
) -> ([T::V<S>; COUNT], T::V<S>) {
    if let Some(peephole) = extra.peephole {
        sums[I] = T::mul_add(simd, peephole[0], before, sums[I]);
        sums[F] = T::mul_add(simd, peephole[1], before, sums[F]);
    }
    let mut gates = sums;
    gates[I] = gate::<T, S>(simd, sums[I], extra);
    gates[F] = if extra.coupled {
        T::sub(simd, T::splat(simd, T::ONE), gates[I])
    } else {
        gate::<T, S>(simd, sums[F], extra)
    };
    gates[G] = candidate::<T, S>(simd, sums[G], extra);
    let entered = new_cell::<T, S>(simd, &gates, before, extra);
    if let Some(peephole) = extra.peephole {
        sums[O] = T::mul_add(simd, peephole[2], entered, sums[O]);
    }
    gates[O] = gate::<T, S>(simd, sums[O], extra);
    (gates, entered)
}

/// What is shown of `seen`, the new cell state or its normalization.
#[inline(always)]
pub(crate) fn show<T: Real, S: Simd>(
    simd: S,
    output: T::V<S>,
    seen: T::V<S>,
    extra: &Extra<T, T::V<S>>,
) -> T::V<S> {
    let shown = match extra.activations {
        Some(activations) => each::<T, S>(simd, activations.hidden, seen),
        None => tanh::<T, S>(simd, seen),
    };
    T::mul(simd, output, shown)
}

/// The new state, or so much of the old one. Exactly one of them where that is 0 or 1.
#[inline(always)]
pub(crate) fn keep<T: Real, S: Simd>(
    simd: S,
    new: T::V<S>,
    old: T::V<S>,
    kept: Option<T::V<S>>,
) -> T::V<S> {
    match kept {
        Some(kept) => T::mul_add(simd, kept, old, changes::<T, S>(simd, new, Some(kept))),
        None => new,
    }
}

/// The share of `new` that is not kept away: the way of a gradient back to the new state.
#[inline(always)]
pub(crate) fn changes<T: Real, S: Simd>(simd: S, new: T::V<S>, kept: Option<T::V<S>>) -> T::V<S> {
    match kept {
        Some(kept) => T::mul(simd, T::sub(simd, T::splat(simd, T::ONE), kept), new),
        None => new,
    }
}

/// What is known of a step when walking back through it.
pub(crate) struct Known<V> {
    /// After their activations, in the gate order.
    pub(crate) gates: [V; COUNT],
    /// The cell state before the step.
    pub(crate) before: V,
    /// The new cell state before zoneout, by [`entered`].
    pub(crate) entered: V,
    /// The gradient of the cell state after the step, without what comes through what is shown.
    pub(crate) d_cell: V,
}

/// The gradients of the gates before their activations, and of the cell state before the step;
/// `d_shown` is that of what is shown.
#[inline(always)]
pub(crate) fn backward<T: Real, S: Simd>(
    simd: S,
    known: Known<T::V<S>>,
    d_shown: T::V<S>,
    extra: &Extra<T, T::V<S>>,
) -> ([T::V<S>; COUNT], T::V<S>) {
    let tanh = tanh::<T, S>(simd, known.entered);
    let (delta, d_seen) = show_back::<T, S>(simd, known.gates[O], tanh, d_shown, extra);
    enter_back::<T, S>(simd, known, delta, d_seen, extra)
}

/// The new cell state before zoneout, from what is kept: it is the cell state after the step if
/// there is no zoneout.
#[inline(always)]
pub(crate) fn entered<T: Real, S: Simd>(
    simd: S,
    gates: &[T::V<S>; COUNT],
    before: T::V<S>,
    after: T::V<S>,
    extra: &Extra<T, T::V<S>>,
) -> T::V<S> {
    match extra.zoneout {
        Some(_) => new_cell::<T, S>(simd, gates, before, extra),
        None => after,
    }
}

/// Back through [`show`], of whose tanh `tanh` is the value: the gradients of the output gate
/// before its activation and of what tanh saw.
#[inline(always)]
pub(crate) fn show_back<T: Real, S: Simd>(
    simd: S,
    output: T::V<S>,
    tanh: T::V<S>,
    d_shown: T::V<S>,
    extra: &Extra<T, T::V<S>>,
) -> (T::V<S>, T::V<S>) {
    let mul = |a, b| T::mul(simd, a, b);
    let delta = mul(mul(d_shown, tanh), gate_slope::<T, S>(simd, output, extra));
    let d_seen = mul(mul(d_shown, output), one_minus_square::<T, S>(simd, tanh));
    (delta, d_seen)
}

/// Back through [`enter`] and the zoneout of the cell: the gradients of all gates before their
/// activations, of which `delta` is the output gate's, and of the cell state before the step.
/// `d_seen` is what reaches the new cell state through what is shown.
#[inline(always)]
pub(crate) fn enter_back<T: Real, S: Simd>(
    simd: S,
    known: Known<T::V<S>>,
    delta: T::V<S>,
    d_seen: T::V<S>,
    extra: &Extra<T, T::V<S>>,
) -> ([T::V<S>; COUNT], T::V<S>) {
    let Known {
        gates,
        before,
        entered,
        d_cell,
    } = known;
    let mul = |a, b| T::mul(simd, a, b);

    let mut d_entered = T::add(simd, changes::<T, S>(simd, d_cell, extra.zoneout), d_seen);
    if let Some(peephole) = extra.peephole {
        d_entered = T::mul_add(simd, delta, peephole[2], d_entered);
    }
    if let Some(bound) = extra.clip_cell {
        let magnitude = T::abs(simd, entered);
        d_entered = T::unless_equal(simd, magnitude, T::splat(simd, bound), d_entered);
    }
    let by_input = if extra.coupled {
        T::sub(simd, gates[G], before)
    } else {
        gates[G]
    };
    let mut deltas = gates;
    deltas[I] = mul(
        mul(d_entered, by_input),
        gate_slope::<T, S>(simd, gates[I], extra),
    );
    deltas[F] = if extra.coupled {
        T::splat(simd, T::default())
    } else {
        mul(
            mul(d_entered, before),
            gate_slope::<T, S>(simd, gates[F], extra),
        )
    };
    let mut slope = one_minus_square::<T, S>(simd, gates[G]);
    if let Some(clip) = extra.clip_gates {
        slope = unless_at::<T, S>(simd, gates[G], clip.candidate, slope);
    }
    deltas[G] = mul(mul(d_entered, gates[I]), slope);
    deltas[O] = delta;

    let mut d_before = mul(d_entered, gates[F]);
    if let Some(kept) = extra.zoneout {
        d_before = T::mul_add(simd, kept, d_cell, d_before);
    }
    if let Some(peephole) = extra.peephole {
        d_before = T::mul_add(simd, deltas[I], peephole[0], d_before);
        d_before = T::mul_add(simd, deltas[F], peephole[1], d_before);
    }
    (deltas, d_before)
}

// What follows is functions, not closures: those are not always inlined, and without the
// instruction set of whoever calls them they are slow.

/// The input, forget or output gate.
#[inline(always)]
fn gate<T: Real, S: Simd>(simd: S, sum: T::V<S>, extra: &Extra<T, T::V<S>>) -> T::V<S> {
    let sum = clip::<T, S>(simd, sum, extra.clip_gates.map(|clip| clip.bound));
    match extra.activations {
        Some(activations) => each::<T, S>(simd, activations.gate, sum),
        None => sigmoid::<T, S>(simd, sum),
    }
}

/// The candidate.
#[inline(always)]
fn candidate<T: Real, S: Simd>(simd: S, sum: T::V<S>, extra: &Extra<T, T::V<S>>) -> T::V<S> {
    let sum = clip::<T, S>(simd, sum, extra.clip_gates.map(|clip| clip.bound));
    match extra.activations {
        Some(activations) => each::<T, S>(simd, activations.cell, sum),
        None => tanh::<T, S>(simd, sum),
    }
}

/// The new cell state, before zoneout.
#[inline(always)]
fn new_cell<T: Real, S: Simd>(
    simd: S,
    gates: &[T::V<S>; COUNT],
    before: T::V<S>,
    extra: &Extra<T, T::V<S>>,
) -> T::V<S> {
    let entering = T::mul(simd, gates[I], gates[G]);
    let cell = T::mul_add(simd, gates[F], before, entering);
    clip::<T, S>(simd, cell, extra.clip_cell)
}

#[inline(always)]
fn clip<T: Real, S: Simd>(simd: S, x: T::V<S>, bound: Option<T>) -> T::V<S> {
    match bound {
        Some(bound) => T::clamp(simd, x, bound),
        None => x,
    }
}

/// σ' from σ, 0 where the gate was clipped.
#[inline(always)]
fn gate_slope<T: Real, S: Simd>(simd: S, gate: T::V<S>, extra: &Extra<T, T::V<S>>) -> T::V<S> {
    let slope = T::mul(simd, gate, T::sub(simd, T::splat(simd, T::ONE), gate));
    match extra.clip_gates {
        Some(clip) => unless_at::<T, S>(simd, gate, clip.gate, slope),
        None => slope,
    }
}

/// tanh' from tanh.
#[inline(always)]
fn one_minus_square<T: Real, S: Simd>(simd: S, tanh: T::V<S>) -> T::V<S> {
    T::sub(simd, T::splat(simd, T::ONE), T::mul(simd, tanh, tanh))
}

/// `slope`, 0 where the activated value is at one of its ends.
#[inline(always)]
fn unless_at<T: Real, S: Simd>(
    simd: S,
    activated: T::V<S>,
    [low, high]: [T; 2],
    slope: T::V<S>,
) -> T::V<S> {
    let slope = T::unless_equal(simd, activated, T::splat(simd, low), slope);
    T::unless_equal(simd, activated, T::splat(simd, high), slope)
}

/// A function number by number.
#[inline(always)]
fn each<T: Real, S: Simd>(_simd: S, function: Activation, x: T::V<S>) -> T::V<S> {
    let mut numbers = [T::default(); LANES];
    // SAFETY: there is room for the widest vector.
    unsafe {
        store::<T, S>(numbers.as_mut_ptr(), x);
        for number in &mut numbers[..T::lanes::<S>()] {
            *number = T::narrow(function.apply(number.wide()));
        }
        load::<T, S>(numbers.as_ptr())
    }
}
