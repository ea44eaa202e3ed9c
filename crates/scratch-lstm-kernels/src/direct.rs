//! A few steps of a few rows, where packing the weights would cost more than using them: each sum
//! is a product of a row of weights, as it lies in memory, with the input or the hidden state. For
//! cells that have nothing besides the four gates.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::buffer::{Buffer, Pointer};
use crate::cell::{self, Extra};
use crate::crew;
use crate::forward::{Inputs, Outputs, State, StatePointers};
use crate::gates::COUNT;
use crate::layout::{Layout, Sizes, distances};
use crate::plan::Plan;
use crate::real::Real;
use crate::tile::{load, load_first, share, store, store_first};

/// Rows, of all steps together, up to which this is the faster way.
const ROWS: usize = 8;

/// The widest vector's numbers.
const LANES: usize = 16;

/// Whether the sequence is short enough.
pub(crate) fn suits(sizes: Sizes) -> bool {
    sizes.batch * sizes.steps <= ROWS
}

/// Runs over the sequence and keeps nothing.
pub(crate) fn run<T: Real>(inputs: &Inputs<'_, T>, outputs: Outputs<'_, T>, plan: Plan) {
    let Sizes {
        batch,
        steps,
        d_input,
        d_hidden,
        d_output,
    } = inputs.sizes;
    let layout = Layout::new(d_hidden, d_output, plan.set.lanes::<T>());
    let mut state = State::read(layout, inputs.h0, inputs.c0);
    let mut other = Buffer::new(batch * layout.state_row());
    let StatePointers { hidden, cell } = state.pointers();
    let hidden = [hidden, other.pointer()];
    let of_step = batch * COUNT * d_hidden * (d_input + d_hidden);
    let chunks = plan.chunks(of_step).min(layout.units);
    let output = Pointer::of(outputs.output);
    crew::run(steps, chunks, |visit, chunk| {
        plan.set.run(Step {
            inputs,
            layout,
            units: share(layout.units, chunks, chunk),
            visit,
            before: hidden[visit % 2],
            after: hidden[(visit + 1) % 2],
            cell,
            output,
        });
    });
    if !steps.is_multiple_of(2) {
        std::mem::swap(&mut state.hidden, &mut other);
    }
    state.write(layout, outputs.hidden, outputs.cell);
}

/// Some units of all rows at one step.
struct Step<'a, T> {
    inputs: &'a Inputs<'a, T>,
    layout: Layout,
    units: Range<usize>,
    visit: usize,
    before: Pointer<T>,
    after: Pointer<T>,
    cell: Pointer<T>,
    output: Pointer<T>,
}

impl<T: Real> WithSimd for Step<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Inputs {
            sizes,
            walk,
            batch_first,
            x,
            weight_ih,
            weight_hh,
            bias,
            ..
        } = *self.inputs;
        let Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
            ..
        } = sizes;
        let (layout, lanes) = (self.layout, self.layout.lanes);
        let [of_row, of_step] = distances(sizes, batch_first, d_hidden);
        let time = walk.time(self.visit, steps);
        for units in self.units {
            for row in 0..batch {
                let place = row * layout.state_row() + units * lanes;
                let count = layout.units_in(units);
                let valid = walk.is_valid(time, row, batch);
                // SAFETY: weights, states and series are as large as their sizes, which were
                // checked; a thread writes the places of its own units, and reads hidden states
                // that were written before the last barrier.
                unsafe {
                    let hidden = self.before.add(row * layout.state_row()).get().cast_const();
                    let before = load::<T, S>(self.before.add(place).get());
                    let cell = self.cell.add(place).get();
                    let (cell_after, after) = if valid {
                        let mut sums = [[T::default(); LANES]; COUNT];
                        for lane in 0..count {
                            let weights: [usize; COUNT] =
                                std::array::from_fn(|g| g * d_hidden + units * lanes + lane);
                            let on_input = weights.map(|w| weight_ih[w * d_input..].as_ptr());
                            let on_hidden = weights.map(|w| weight_hh[w * d_hidden..].as_ptr());
                            let on_input = dots(simd, on_input, x.at(time, row), d_input);
                            let on_hidden = dots(simd, on_hidden, hidden, d_hidden);
                            for (gate, sums) in sums.iter_mut().enumerate() {
                                sums[lane] = on_input[gate]
                                    .plus(on_hidden[gate])
                                    .plus(bias[weights[gate]]);
                            }
                        }
                        let sums = sums.each_ref().map(|sums| load::<T, S>(sums.as_ptr()));
                        let before = load::<T, S>(cell);
                        let step = cell::forward::<T, S>(simd, sums, before, &Extra::NONE);
                        (step.cell, step.shown)
                    } else {
                        (load::<T, S>(cell), before)
                    };
                    store::<T, S>(cell, cell_after);
                    store::<T, S>(self.after.add(place).get(), after);
                    let shown = if valid {
                        after
                    } else {
                        T::splat(simd, T::default())
                    };
                    let to = self
                        .output
                        .add(time * of_step + row * of_row + units * lanes);
                    store_first::<T, S>(to.get(), count, shown);
                }
            }
        }
    }
}

/// Four products of `count` numbers with the same `count` numbers.
///
/// # Safety
///
/// They must lie behind the pointers.
#[inline(always)]
unsafe fn dots<T: Real, S: Simd>(
    simd: S,
    rows: [*const T; COUNT],
    numbers: *const T,
    count: usize,
) -> [T; COUNT] {
    let lanes = T::lanes::<S>();
    let mut sums = [T::splat(simd, T::default()); COUNT];
    let whole = count - count % lanes;
    // SAFETY: the caller's.
    unsafe {
        for k in (0..whole).step_by(lanes) {
            let right = load::<T, S>(numbers.add(k));
            for row in 0..COUNT {
                let left = load::<T, S>(rows[row].add(k));
                sums[row] = T::mul_add(simd, left, right, sums[row]);
            }
        }
        if whole < count {
            let right = load_first(simd, numbers.add(whole), count - whole);
            for row in 0..COUNT {
                let left = load_first(simd, rows[row].add(whole), count - whole);
                sums[row] = T::mul_add(simd, left, right, sums[row]);
            }
        }
        sums.map(|sum| {
            let mut numbers = [T::default(); LANES];
            store::<T, S>(numbers.as_mut_ptr(), sum);
            numbers[..lanes]
                .iter()
                .fold(T::default(), |sum, &x| sum.plus(x))
        })
    }
}
