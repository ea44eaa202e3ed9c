//! The rung of small sizes: one launch walks over many steps.
//!
//! Rows are independent of each other, so a cube that has some rows and all of their units needs no
//! other one: between steps it waits for itself alone. What its units tell each other goes through
//! shared memory; the weights, whose gates lie side by side, are read from the device's caches at
//! each step.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::cell::{Gates, Variant};
use super::unit::{Backward, Forward, advance, retreat};

/// `[4H, H]` to `[H, H, 4]`: for each number of the hidden state and each unit, the weights of the
/// four gates. By the hidden state first, or by the unit.
#[cube(launch_unchecked)]
pub(super) fn pack<F: Float>(
    weight: &[F],
    packed: &mut [F],
    d_hidden: usize,
    #[comptime] by_unit: bool,
    #[define(F)] _type: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place < d_hidden * d_hidden {
        let first = place / d_hidden;
        let second = place % d_hidden;
        let mut unit = second;
        let mut number = first;
        if comptime!(by_unit) {
            unit = first;
            number = second;
        }
        #[unroll]
        for gate in 0..4usize {
            packed[place * 4 + gate] = weight[(gate * d_hidden + unit) * d_hidden + number];
        }
    }
}

/// How a cube is laid out, known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    /// Rows of a cube.
    pub(super) rows: usize,
    pub(super) d_hidden: usize,
    /// Threads of a cube, which may compute several units one after another.
    pub(super) threads: usize,
}

/// `count` steps from the time `first` on, or down from it. `weight` is packed by the hidden state.
#[cube(launch_unchecked)]
pub(super) fn walk<F: Float, A: Float, N: Size>(
    mut buffers: Forward<F, A>,
    weight: &[Vector<F, N>],
    first: usize,
    count: usize,
    #[comptime] tile: Tile,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let layout = buffers.layout;
    let d_hidden = comptime!(tile.d_hidden);
    let rows = comptime!(tile.rows);
    let first_row = CUBE_POS * rows;
    // What the gates see, of this step and of the next.
    let half = comptime!(rows * d_hidden);
    let mut seen = Shared::<[A]>::new_slice(comptime!(2 * half));

    let mut place = UNIT_POS as usize;
    while place < half {
        let row = first_row + place / d_hidden;
        let unit = place % d_hidden;
        let mut hidden = A::new(0.0);
        if row < layout.batch {
            let state = A::cast_from(buffers.hidden[row * d_hidden + unit]);
            hidden = buffers.options.seen::<A>(&layout, row, unit, state);
        }
        seen[place] = hidden;
        place += CUBE_DIM as usize;
    }
    sync_cube();

    let mut now = 0usize;
    for step in 0..count {
        let mut time = first + step;
        if comptime!(layout.reverse) {
            time = first - step;
        }
        let then = half - now;
        let mut unit = UNIT_POS as usize;
        while unit < d_hidden {
            let mut sums = Array::<Vector<A, N>>::new(rows);
            #[unroll]
            for row in 0..rows {
                sums[row] = Vector::new(A::new(0.0));
            }
            for number in 0..d_hidden {
                let weights = Vector::<A, N>::cast_from(weight[number * d_hidden + unit]);
                #[unroll]
                for row in 0..rows {
                    let hidden = Vector::<A, N>::new(seen[now + row * d_hidden + number]);
                    sums[row] += weights * hidden;
                }
            }
            #[unroll]
            for row in 0..rows {
                if first_row + row < layout.batch {
                    let recurrent = Gates::<A> {
                        input: sums[row].extract(0usize),
                        forget: sums[row].extract(1usize),
                        cell: sums[row].extract(2usize),
                        output: sums[row].extract(3usize),
                    };
                    let shown = advance::<F, A>(
                        &mut buffers,
                        recurrent,
                        first_row + row,
                        unit,
                        time,
                        variant,
                    );
                    seen[then + row * d_hidden + unit] = shown;
                }
            }
            unit += CUBE_DIM as usize;
        }
        now = then;
        sync_cube();
    }
}

/// The same number of steps back: from the time `first` against the order in which the sequence
/// was walked over. `weight` is packed by the unit, `d_seen` the gradient of what the step after
/// `first` saw of the hidden state, `[B, H]`; afterwards that of what the last one saw.
#[cube(launch_unchecked)]
pub(super) fn walk_back<F: Float, A: Float, N: Size>(
    mut buffers: Backward<F, A>,
    weight: &[Vector<F, N>],
    d_seen: &mut [A],
    first: usize,
    count: usize,
    #[comptime] tile: Tile,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let layout = buffers.layout;
    let d_hidden = comptime!(tile.d_hidden);
    let rows = comptime!(tile.rows);
    let first_row = CUBE_POS * rows;
    // The gradients of a step's gates.
    let mut deltas = Shared::<[Vector<A, N>]>::new_slice(comptime!(rows * d_hidden));

    for step in 0..count {
        // Against the walk.
        let mut time = first + step;
        if comptime!(!layout.reverse) {
            time = first - step;
        }
        let mut unit = UNIT_POS as usize;
        while unit < d_hidden {
            #[unroll]
            for row in 0..rows {
                if first_row + row < layout.batch {
                    let gates = retreat::<F, A>(
                        &mut buffers,
                        d_seen[(first_row + row) * d_hidden + unit],
                        first_row + row,
                        unit,
                        time,
                        variant,
                    );
                    let mut delta = Vector::<A, N>::new(gates.input);
                    delta.insert(1usize, gates.forget);
                    delta.insert(2usize, gates.cell);
                    delta.insert(3usize, gates.output);
                    deltas[row * d_hidden + unit] = delta;
                }
            }
            unit += CUBE_DIM as usize;
        }
        sync_cube();
        // A unit here is a number of the hidden state: each has written its own gradient alone.
        let mut unit = UNIT_POS as usize;
        while unit < d_hidden {
            let mut sums = Array::<Vector<A, N>>::new(rows);
            #[unroll]
            for row in 0..rows {
                sums[row] = Vector::new(A::new(0.0));
            }
            for number in 0..d_hidden {
                let weights = Vector::<A, N>::cast_from(weight[number * d_hidden + unit]);
                #[unroll]
                for row in 0..rows {
                    sums[row] += weights * deltas[row * d_hidden + number];
                }
            }
            #[unroll]
            for row in 0..rows {
                if first_row + row < layout.batch {
                    let sum = sums[row];
                    d_seen[(first_row + row) * d_hidden + unit] = sum.extract(0usize)
                        + sum.extract(1usize)
                        + sum.extract(2usize)
                        + sum.extract(3usize);
                }
            }
            unit += CUBE_DIM as usize;
        }
        // All have read the deltas before those of the next step take their place.
        sync_cube();
    }
}
