//! Steps of cells that have something besides the four gates.
//!
//! A product has left the sums of a row in memory. What follows here goes over the row, or over some
//! of its units if these need no others, a few times: forward in [`RowStep`] and back in
//! [`RowStepBack`], with the arithmetic of `cell.rs` and `norm.rs`.

use std::ops::Range;

use pulp::Simd;

use crate::activation::tanh;
use crate::buffer::Pointer;
use crate::cell::{self, Known, PEEPHOLES};
use crate::forward::NormPointers;
use crate::gates::{COUNT, Gate};
use crate::layout::Layout;
use crate::norm::{Span, normalize, normalize_back};
use crate::options::{Norm, Options};
use crate::real::Real;
use crate::sums::RowSumPointers;
use crate::tile::{Rows, load, store, store_first};

/// Where a row's two scales lie.
const SCALE_OF_INPUT: usize = 0;
const SCALE_OF_HIDDEN: usize = 1;

/// Normalizes what the input adds to the gates.
pub(crate) struct NormedInput<'a, T> {
    pub(crate) norm: &'a Norm<T>,
    pub(crate) coupled: bool,
    pub(crate) layout: Layout,
    /// `x W_ihᵀ`, to become its normalization times the gains, and the bias.
    pub(crate) gates: Pointer<T>,
    /// Where the normalization without gains is kept.
    pub(crate) kept: Option<NormPointers<T>>,
}

impl<T: Real> NormedInput<'_, T> {
    /// # Safety
    ///
    /// Row `row` must be there, and nobody else's.
    #[inline(always)]
    pub(crate) unsafe fn row<S: Simd>(&self, simd: S, row: usize) {
        let (layout, norm) = (self.layout, self.norm);
        let (lanes, coupled) = (T::lanes::<S>(), self.coupled);
        // SAFETY: the caller's.
        unsafe {
            let gates = self.gates.add(row * layout.gates_row());
            let to = match self.kept {
                Some(kept) => kept.input.add(row * layout.gates_row()),
                None => gates,
            };
            let span = Span::Gates { layout, coupled };
            let from = gates.get().cast_const();
            let scale = normalize::<T, S>(simd, span, norm.epsilon, from, to);
            if let Some(kept) = self.kept {
                let place = row * 2 + SCALE_OF_INPUT;
                kept.scales.add(place).get().write(scale);
            }
            for vector in 0..layout.gate_vectors() {
                let place = vector * lanes;
                let gain = load::<T, S>(norm.input.source().add(place));
                let bias = load::<T, S>(norm.bias.source().add(place));
                let normalized = load::<T, S>(to.add(place).get());
                let sum = T::mul_add(simd, gain, normalized, bias);
                store::<T, S>(gates.add(place).get(), sum);
            }
        }
    }
}

/// A step of rows from their sums to what their cells show.
pub(crate) struct RowStep<'a, T> {
    pub(crate) options: &'a Options<'a, T>,
    pub(crate) layout: Layout,
    pub(crate) time: usize,
    /// What input and bias add to the gates, to become the activated gates.
    pub(crate) gates: Pointer<T>,
    /// What the hidden state adds to the gates, to become its normalization.
    pub(crate) sums: Pointer<T>,
    /// Where scales are kept.
    pub(crate) scales: Option<Pointer<T>>,
    pub(crate) cell_before: Pointer<T>,
    pub(crate) cell_after: Pointer<T>,
    /// Where the cell state goes besides.
    pub(crate) last_cell: Option<Pointer<T>>,
    /// Room for rows of cell states.
    pub(crate) scratch: Pointer<T>,
    /// Rows of what the cells show, before a projection.
    pub(crate) shown: Pointer<T>,
}

impl<T: Real> RowStep<'_, T> {
    /// # Safety
    ///
    /// These vectors of units of row `row` must be there, all of them with layer normalization, and
    /// nobody else's.
    #[inline(always)]
    pub(crate) unsafe fn row<S: Simd>(
        &self,
        simd: S,
        row: usize,
        vectors: Range<usize>,
        valid: bool,
    ) {
        let (layout, options, lanes) = (self.layout, self.options, T::lanes::<S>());
        let zero = T::splat(simd, T::default());
        // SAFETY: the caller's.
        unsafe {
            let state = row * layout.state_row();
            let gates = self.gates.add(row * layout.gates_row());
            let sums = self.sums.add(row * layout.gates_row());
            let scratch = self.scratch.add(state);
            if !valid {
                for vector in vectors.start * COUNT..vectors.end * COUNT {
                    store::<T, S>(gates.add(vector * lanes).get(), zero);
                }
                for units in vectors {
                    let place = state + units * lanes;
                    let before = load::<T, S>(self.cell_before.add(place).get());
                    self.store_cell::<S>(place, before);
                    store::<T, S>(self.shown.add(place).get(), zero);
                }
                return;
            }
            if let Some(norm) = &options.norm {
                let coupled = options.coupled;
                let span = Span::Gates { layout, coupled };
                let from = sums.get().cast_const();
                let scale = normalize::<T, S>(simd, span, norm.epsilon, from, sums);
                if let Some(scales) = self.scales {
                    scales.add(row * 2 + SCALE_OF_HIDDEN).get().write(scale);
                }
            }
            for units in vectors.clone() {
                let extra = self.extra(simd, row, units);
                let first = units * COUNT * lanes;
                let gates = gates.add(first);
                let mut totals = [zero; COUNT];
                for (gate, total) in totals.iter_mut().enumerate() {
                    let projected = load::<T, S>(gates.add(gate * lanes).get());
                    let sum = load::<T, S>(sums.add(first + gate * lanes).get());
                    *total = match &options.norm {
                        Some(norm) => {
                            let gain = norm.hidden.source().add(first + gate * lanes);
                            T::mul_add(simd, load::<T, S>(gain), sum, projected)
                        }
                        None => T::add(simd, projected, sum),
                    };
                }
                let before = load::<T, S>(self.cell_before.add(state + units * lanes).get());
                let (activated, entered) = cell::enter::<T, S>(simd, totals, before, &extra);
                for (gate, activated) in activated.into_iter().enumerate() {
                    store::<T, S>(gates.add(gate * lanes).get(), activated);
                }
                store::<T, S>(scratch.add(units * lanes).get(), entered);
                let cell = cell::keep::<T, S>(simd, entered, before, extra.zoneout);
                self.store_cell::<S>(state + units * lanes, cell);
            }
            if let Some(norm) = &options.norm {
                let from = scratch.get().cast_const();
                normalize::<T, S>(simd, Span::Units(layout), norm.epsilon, from, scratch);
            }
            for units in vectors {
                let place = units * lanes;
                let output = (units * COUNT + Gate::Output as usize) * lanes;
                let output = load::<T, S>(gates.add(output).get());
                let seen = load::<T, S>(scratch.add(place).get());
                let seen = seen_of(simd, options, units, seen);
                let extra = self.extra(simd, row, units);
                let shown = cell::show::<T, S>(simd, output, seen, &extra);
                store::<T, S>(self.shown.add(state + place).get(), shown);
            }
        }
    }

    #[inline(always)]
    unsafe fn extra<S: Simd>(&self, simd: S, row: usize, units: usize) -> cell::Extra<T, T::V<S>> {
        // SAFETY: the caller's.
        let extra = unsafe { self.options.extra::<S>(simd, self.time, row, units) };
        cell::Extra {
            activations: self.options.activations,
            ..extra
        }
    }

    #[inline(always)]
    unsafe fn store_cell<S: Simd>(&self, place: usize, cell: T::V<S>) {
        // SAFETY: the caller's.
        unsafe {
            store::<T, S>(self.cell_after.add(place).get(), cell);
            if let Some(last) = self.last_cell {
                store::<T, S>(last.add(place).get(), cell);
            }
        }
    }
}

/// What tanh sees of the new cell state `entered`, which is normalized if the cell normalizes.
#[inline(always)]
unsafe fn seen_of<T: Real, S: Simd>(
    simd: S,
    options: &Options<'_, T>,
    units: usize,
    entered: T::V<S>,
) -> T::V<S> {
    let Some(norm) = &options.norm else {
        return entered;
    };
    let place = units * T::lanes::<S>();
    // SAFETY: the caller's.
    unsafe {
        let gain = load::<T, S>(norm.cell.source().add(place));
        let bias = load::<T, S>(norm.cell_bias.source().add(place));
        T::mul_add(simd, gain, entered, bias)
    }
}

/// A step of rows back, from the gradients of what their cells show.
pub(crate) struct RowStepBack<'a, T> {
    pub(crate) options: &'a Options<'a, T>,
    pub(crate) layout: Layout,
    pub(crate) time: usize,
    /// Activated gates, to become their gradients before their activations.
    pub(crate) gates: Pointer<T>,
    /// Normalizations, to become the gradients of what was normalized.
    pub(crate) norms: Option<NormPointers<T>>,
    /// Cell states before the step, and after it.
    pub(crate) before: Pointer<T>,
    pub(crate) after: Pointer<T>,
    /// The gradients of what the cells show.
    pub(crate) d_shown: Rows<T>,
    /// The gradients of the cell states after the step, to become those before it.
    pub(crate) d_cell: Pointer<T>,
    /// Where what the cells show goes, if that is wanted.
    pub(crate) shown: Option<Pointer<T>>,
    /// Room for three times as many rows of cell states.
    pub(crate) scratch: Pointer<T>,
    pub(crate) sums: RowSumPointers<T>,
}

impl<T: Real> RowStepBack<'_, T> {
    /// # Safety
    ///
    /// These vectors of units of row `row` must be there, all of them with layer normalization, and
    /// nobody else's.
    #[inline(always)]
    pub(crate) unsafe fn row<S: Simd>(
        &self,
        simd: S,
        row: usize,
        vectors: Range<usize>,
        valid: bool,
    ) {
        let (layout, options, lanes) = (self.layout, self.options, T::lanes::<S>());
        let gates_row = layout.gates_row();
        let zero = T::splat(simd, T::default());
        // SAFETY: the caller's.
        unsafe {
            let gates = self.gates.add(row * gates_row);
            let norms = self.norms.map(|norms| norms.at(row, gates_row));
            let state = row * layout.state_row();
            if !valid {
                for vector in vectors.start * COUNT..vectors.end * COUNT {
                    store::<T, S>(gates.add(vector * lanes).get(), zero);
                    if let Some(norms) = norms {
                        store::<T, S>(norms.input.add(vector * lanes).get(), zero);
                        store::<T, S>(norms.hidden.add(vector * lanes).get(), zero);
                    }
                }
                if let Some(shown) = self.shown {
                    for units in vectors {
                        store::<T, S>(shown.add(state + units * lanes).get(), zero);
                    }
                }
                return;
            }

            // What tanh saw, then the gradient of the new cell state through it.
            let seen = self.scratch.add(3 * state);
            let d_seen = seen.add(layout.state_row());
            let output_deltas = d_seen.add(layout.state_row());
            let scale = options.norm.as_ref().map(|norm| {
                for units in vectors.clone() {
                    let known = self.known(simd, row, units);
                    store::<T, S>(seen.add(units * lanes).get(), known.entered);
                }
                let from = seen.get().cast_const();
                normalize::<T, S>(simd, Span::Units(layout), norm.epsilon, from, seen)
            });
            let sums = self.sums.norm(row);
            for units in vectors.clone() {
                let place = units * lanes;
                let known = self.known(simd, row, units);
                let extra = options.extra::<S>(simd, self.time, row, units);
                let entered = match scale {
                    Some(_) => load::<T, S>(seen.add(place).get()),
                    None => known.entered,
                };
                let tanh = tanh::<T, S>(simd, seen_of(simd, options, units, entered));
                let output = known.gates[Gate::Output as usize];
                if let Some(shown) = self.shown {
                    let to = shown.add(state + place).get();
                    store::<T, S>(to, T::mul(simd, output, tanh));
                }
                let Rows(d_shown, distance) = self.d_shown;
                let d_shown = load::<T, S>(d_shown.add(row * distance + place));
                let (delta, d_tanh) = cell::show_back::<T, S>(simd, output, tanh, d_shown, &extra);
                store::<T, S>(d_seen.add(place).get(), d_tanh);
                store::<T, S>(output_deltas.add(place).get(), delta);
                if let Some(sums) = sums {
                    add_to::<T, S>(simd, sums.cell_bias.add(place), d_tanh);
                }
            }
            let mut d_seen = d_seen;
            if let (Some(norm), Some(scale)) = (&options.norm, scale) {
                normalize_back::<T, S>(
                    simd,
                    Span::Units(layout),
                    scale,
                    norm.cell.source(),
                    d_seen.get().cast_const(),
                    seen,
                    sums.map(|sums| sums.cell),
                );
                d_seen = seen;
            }
            for units in vectors {
                let place = units * lanes;
                let known = self.known(simd, row, units);
                let (before, entered) = (known.before, known.entered);
                let extra = options.extra::<S>(simd, self.time, row, units);
                let delta = load::<T, S>(output_deltas.add(place).get());
                let d_seen = load::<T, S>(d_seen.add(place).get());
                let (deltas, d_before) =
                    cell::enter_back::<T, S>(simd, known, delta, d_seen, &extra);
                let to = gates.add(units * COUNT * lanes);
                store_deltas::<T, S>(simd, to, layout.units_in(units), deltas);
                store::<T, S>(self.d_cell.add(state + place).get(), d_before);
                if let Some(sums) = self.sums.peephole(row) {
                    add_peepholes::<T, S>(simd, sums, units, deltas, before, entered);
                }
            }
            if let (Some(norm), Some(norms)) = (&options.norm, norms) {
                let coupled = options.coupled;
                let span = Span::Gates { layout, coupled };
                let deltas = gates.get().cast_const();
                for (number, gains, normalized, sums) in [
                    (
                        SCALE_OF_INPUT,
                        &norm.input,
                        norms.input,
                        sums.map(|sums| sums.input),
                    ),
                    (
                        SCALE_OF_HIDDEN,
                        &norm.hidden,
                        norms.hidden,
                        sums.map(|sums| sums.hidden),
                    ),
                ] {
                    let scale = norms.scales.add(number).get().read();
                    let gains = gains.source();
                    normalize_back::<T, S>(simd, span, scale, gains, deltas, normalized, sums);
                }
            }
        }
    }

    /// # Safety
    ///
    /// As [`row`](Self::row).
    #[inline(always)]
    unsafe fn known<S: Simd>(&self, simd: S, row: usize, units: usize) -> Known<T::V<S>> {
        let (layout, lanes) = (self.layout, T::lanes::<S>());
        let place = row * layout.state_row() + units * lanes;
        // SAFETY: the caller's.
        unsafe {
            let gates = self
                .gates
                .add(row * layout.gates_row() + units * COUNT * lanes);
            let extra = self.options.extra::<S>(simd, self.time, row, units);
            known(
                simd,
                gates,
                self.before.add(place),
                self.after.add(place),
                self.d_cell.add(place),
                &extra,
            )
        }
    }
}

/// What is known of some units of a row, from where it lies.
///
/// # Safety
///
/// There must be vectors.
#[inline(always)]
pub(crate) unsafe fn known<T: Real, S: Simd>(
    simd: S,
    gates: Pointer<T>,
    before: Pointer<T>,
    after: Pointer<T>,
    d_cell: Pointer<T>,
    extra: &cell::Extra<T, T::V<S>>,
) -> Known<T::V<S>> {
    let lanes = T::lanes::<S>();
    // SAFETY: the caller's.
    unsafe {
        let gates = std::array::from_fn(|gate| load::<T, S>(gates.add(gate * lanes).get()));
        let before = load::<T, S>(before.get());
        let after = load::<T, S>(after.get());
        Known {
            gates,
            before,
            entered: cell::entered::<T, S>(simd, &gates, before, after, extra),
            d_cell: load::<T, S>(d_cell.get()),
        }
    }
}

/// Writes the gradients of the gates of `count` units.
///
/// # Safety
///
/// There must be room for four vectors.
#[inline(always)]
pub(crate) unsafe fn store_deltas<T: Real, S: Simd>(
    simd: S,
    to: Pointer<T>,
    count: usize,
    deltas: [T::V<S>; COUNT],
) {
    let lanes = T::lanes::<S>();
    for (gate, delta) in deltas.into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let to = to.add(gate * lanes).get();
            if count < lanes {
                // An infinite number times a filling zero is NaN, and must not get further.
                store::<T, S>(to, T::splat(simd, T::default()));
            }
            store_first::<T, S>(to, count, delta);
        }
    }
}

/// Adds what a step of some units adds to the gradients of their peepholes.
///
/// # Safety
///
/// `sums` must be a row's.
#[inline(always)]
unsafe fn add_peepholes<T: Real, S: Simd>(
    simd: S,
    sums: Pointer<T>,
    units: usize,
    deltas: [T::V<S>; COUNT],
    before: T::V<S>,
    entered: T::V<S>,
) {
    let lanes = T::lanes::<S>();
    for (number, (gate, seen)) in [
        (Gate::Input, before),
        (Gate::Forget, before),
        (Gate::Output, entered),
    ]
    .into_iter()
    .enumerate()
    {
        // SAFETY: the caller's.
        unsafe {
            let to = sums.add((units * PEEPHOLES + number) * lanes);
            add_to::<T, S>(simd, to, T::mul(simd, deltas[gate as usize], seen));
        }
    }
}

/// # Safety
///
/// There must be a vector.
#[inline(always)]
unsafe fn add_to<T: Real, S: Simd>(simd: S, to: Pointer<T>, terms: T::V<S>) {
    // SAFETY: the caller's.
    unsafe {
        let to = to.get();
        store::<T, S>(to, T::add(simd, load::<T, S>(to), terms));
    }
}
