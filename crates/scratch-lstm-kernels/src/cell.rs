//! The gate arithmetic, forward and backward, on vectors: the only place that has it.
//!
//! `docs/backward.md` derives it.

use pulp::Simd;

use crate::activation::{sigmoid, tanh};
use crate::gates::{COUNT, Gate};
use crate::real::Real;

const I: usize = Gate::Input as usize;
const F: usize = Gate::Forget as usize;
const G: usize = Gate::Cell as usize;
const O: usize = Gate::Output as usize;

/// What a step gives for some units of a row.
pub(crate) struct Step<V> {
    /// After their activations, in the gate order.
    pub(crate) gates: [V; COUNT],
    /// The next cell state.
    pub(crate) cell: V,
    /// The next hidden state.
    pub(crate) hidden: V,
}

/// From the gates before their activations and the cell state.
#[inline(always)]
pub(crate) fn forward<T: Real, S: Simd>(
    simd: S,
    sums: [T::V<S>; COUNT],
    cell: T::V<S>,
) -> Step<T::V<S>> {
    let mut gates = sums;
    gates[I] = sigmoid::<T, S>(simd, sums[I]);
    gates[F] = sigmoid::<T, S>(simd, sums[F]);
    gates[G] = tanh::<T, S>(simd, sums[G]);
    gates[O] = sigmoid::<T, S>(simd, sums[O]);
    let entering = T::mul(simd, gates[I], gates[G]);
    let cell = T::mul_add(simd, gates[F], cell, entering);
    let hidden = T::mul(simd, gates[O], tanh::<T, S>(simd, cell));
    Step {
        gates,
        cell,
        hidden,
    }
}

/// What is known of a step when walking back through it.
pub(crate) struct Known<V> {
    /// After their activations, in the gate order.
    pub(crate) gates: [V; COUNT],
    /// The cell state before the step.
    pub(crate) before: V,
    /// The cell state after it.
    pub(crate) after: V,
    /// The gradient of the hidden state after it.
    pub(crate) d_hidden: V,
    /// The gradient of the cell state after it, without what comes through the hidden state.
    pub(crate) d_cell: V,
}

/// The gradients of the gates before their activations, and of the cell state before the step.
#[inline(always)]
pub(crate) fn backward<T: Real, S: Simd>(
    simd: S,
    known: Known<T::V<S>>,
) -> ([T::V<S>; COUNT], T::V<S>) {
    let Known {
        gates,
        before,
        after,
        d_hidden,
        d_cell,
    } = known;
    let one = T::splat(simd, T::ONE);
    let mul = |a, b| T::mul(simd, a, b);
    let minus = |a, b| T::sub(simd, a, b);
    // σ' from σ, and tanh' from tanh.
    let slope = |x: T::V<S>| mul(x, minus(one, x));
    let one_minus_square = |x: T::V<S>| minus(one, mul(x, x));

    let shown = tanh::<T, S>(simd, after);
    let through = mul(mul(d_hidden, gates[O]), one_minus_square(shown));
    let d_cell = T::add(simd, d_cell, through);
    let mut deltas = gates;
    deltas[I] = mul(mul(d_cell, gates[G]), slope(gates[I]));
    deltas[F] = mul(mul(d_cell, before), slope(gates[F]));
    deltas[G] = mul(mul(d_cell, gates[I]), one_minus_square(gates[G]));
    deltas[O] = mul(mul(d_hidden, shown), slope(gates[O]));
    (deltas, mul(d_cell, gates[F]))
}
