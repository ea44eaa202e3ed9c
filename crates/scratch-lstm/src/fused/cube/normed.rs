//! Layer normalization: a cube for each row, whose units wait for each other's sums.
//!
//! ```text
//! n = (v - mean) / √(variance + epsilon)
//! dv = (dn - mean(dn) - n mean(dn ⊙ n)) / √(variance + epsilon)
//! ```
//!
//! Ba, Kiros & Hinton, *Layer normalization* (2016). The input's part of the gates is normalized for
//! a whole segment; the hidden state's part and the cell state step by step.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::cell::{self, Gates, Shown, Variant};
use super::stepwise::{hand_on, keep_shown, take_back};
use super::unit::{Backward, Forward, add_at, at, enter, find, leave, load_gates, store_gates};
use crate::config::LAYER_NORM_EPSILON;

/// What layer normalization adds to a step forward.
#[derive(CubeType, CubeLaunch)]
pub(super) struct NormForward<F: Float, A: Float> {
    /// Those of the hidden state's part of the gates and of the cell state, and the latter's shift,
    /// `[6H]`.
    gains: Box<[F]>,
    /// The cell states inside of the step, `[B, H]`.
    inner: Box<[A]>,
}

/// What it adds to a step back.
#[derive(CubeType, CubeLaunch)]
pub(super) struct NormBackward<F: Float, A: Float> {
    /// As for [`NormForward`].
    gains: Box<[F]>,
    /// Of a segment, `4H` wide: the hidden state's part of the gates, normalized but for its gain;
    /// afterwards the gradient of what it was before.
    recurrent: Box<[F]>,
    /// Of a segment: what its rows were divided by.
    deviation: Box<[A]>,
    /// The gradients of each row's `gains`, `[B, 6H]`, if they are wanted.
    d_gains: ComptimeOption<Box<[A]>>,
    /// Of the step, `[B, H]` both: the cell states inside of it, and the gradients of what the
    /// units show.
    inner: Box<[A]>,
    d_shown: Box<[A]>,
}

/// [`step`](super::stepwise::step) with layer normalization.
#[cube(launch_unchecked)]
pub(super) fn step_normed<F: Float, A: Float>(
    mut buffers: Forward<F, A>,
    mut norm: NormForward<F, A>,
    recurrent: &[F],
    mut seen: ComptimeOption<Box<[F]>>,
    mut to_project: ComptimeOption<Box<[F]>>,
    time: usize,
    #[comptime] threads: usize,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let layout = buffers.layout;
    let d_hidden = layout.d_hidden;
    let row = Row::of_cube(layout.batch, d_hidden);
    let mut shared = Shared::<[A]>::new_slice(comptime!(2 * threads));

    let of_gates = row.place * 4 * d_hidden;
    let gates = moments_of_gates::<F, A>(recurrent, &row, &mut shared, variant.coupled);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let numbers = load_gates::<F, A>(recurrent, of_gates, d_hidden, unit);
        let gains = load_gates::<F, A>(&norm.gains, 0, d_hidden, unit);
        let recurrent = scaled::<A>(gates.normal_of_gates(numbers), gains);
        let inside = enter::<F, A>(&mut buffers, recurrent, row.place, unit, time, variant);
        norm.inner[row.place * d_hidden + unit] = inside.cell;
        unit += CUBE_DIM as usize;
    }
    let cells = moments_of_cells::<A>(&norm.inner, &row, &mut shared);
    let kept = layout.segment(row.place, time) * 4 * d_hidden;
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let inner = norm.inner[row.place * d_hidden + unit];
        let cell = shifted::<F, A>(cells.normal(inner), &norm.gains, d_hidden, unit);
        let output = load_gates::<F, A>(&buffers.gates, kept, d_hidden, unit).output;
        let shown = cell::show::<A>(output, cell);
        hand_on::<F, A>(
            &mut buffers,
            shown,
            &mut seen,
            &mut to_project,
            row.place,
            unit,
            time,
            variant,
        );
        unit += CUBE_DIM as usize;
    }
}

/// [`step_back`](super::stepwise::step_back) with layer normalization; `delta` gets the gradients of
/// the hidden state's part of the gates before it.
#[cube(launch_unchecked)]
pub(super) fn step_back_normed<F: Float, A: Float>(
    mut buffers: Backward<F, A>,
    mut norm: NormBackward<F, A>,
    gradient: &[F],
    mut projected: ComptimeOption<Box<[F]>>,
    delta: &mut [F],
    time: usize,
    #[comptime] threads: usize,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let layout = buffers.layout;
    let d_hidden = layout.d_hidden;
    let row = Row::of_cube(layout.batch, d_hidden);
    let place = row.place;
    let mut shared = Shared::<[A]>::new_slice(comptime!(2 * threads));

    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let state = place * d_hidden + unit;
        let of_next = A::cast_from(gradient[state]);
        let d_shown = take_back::<F, A>(
            &mut buffers,
            of_next,
            &projected,
            place,
            unit,
            time,
            variant,
        );
        norm.d_shown[state] = d_shown;
        norm.inner[state] = find::<F, A>(&buffers, place, unit, time, variant).inner;
        unit += CUBE_DIM as usize;
    }

    // Back through the cell state's normalization.
    let cells = moments_of_cells::<A>(&norm.inner, &row, &mut shared);
    let in_segment = layout.segment(place, time);
    let of_gates = in_segment * 4 * d_hidden;
    let mut sum = A::new(0.0);
    let mut along = A::new(0.0);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let state = place * d_hidden + unit;
        let normal = cells.normal(norm.inner[state]);
        let cell = shifted::<F, A>(normal, &norm.gains, d_hidden, unit);
        let output = load_gates::<F, A>(&buffers.gates, of_gates, d_hidden, unit).output;
        let shown = cell::show_back::<A>(output, cell, norm.d_shown[state]);
        let d_normal = shown.cell * A::cast_from(norm.gains[4 * d_hidden + unit]);
        sum += d_normal;
        along += d_normal * normal;
        unit += CUBE_DIM as usize;
    }
    let means = means_of::<A>(sum, along, A::cast_from(d_hidden), &mut shared);

    let is_valid = buffers.options.is_valid(&layout, place, time);
    let of_row = place * 6 * d_hidden;
    let mut sum_of_gates = A::new(0.0);
    let mut along_gates = A::new(0.0);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let found = find::<F, A>(&buffers, place, unit, time, variant);
        let normal = cells.normal(found.inner);
        let cell = shifted::<F, A>(normal, &norm.gains, d_hidden, unit);
        let shown = cell::show::<A>(found.kept.output, cell);
        keep_shown::<F, A>(&buffers, &mut projected, shown, place, unit, time);
        let d_shown = norm.d_shown[place * d_hidden + unit];
        let shown = cell::show_back::<A>(found.kept.output, cell, d_shown);
        if is_valid {
            let of_unit = of_row + 4 * d_hidden + unit;
            add_at::<A>(&mut norm.d_gains, of_unit, shown.cell * normal);
            add_at::<A>(&mut norm.d_gains, of_unit + d_hidden, shown.cell);
        }
        let d_normal = shown.cell * A::cast_from(norm.gains[4 * d_hidden + unit]);
        let shown = Shown::<A> {
            output: shown.output,
            cell: back::<A>(d_normal, normal, means, cells.deviation),
        };
        let gates = leave::<F, A>(&mut buffers, found, shown, place, unit, time, variant);
        let gates = scaled::<A>(gates, load_gates::<F, A>(&norm.gains, 0, d_hidden, unit));
        let normal = load_gates::<F, A>(&norm.recurrent, of_gates, d_hidden, unit);
        sum_of_gates += total::<A>(gates, variant.coupled);
        along_gates += total::<A>(scaled::<A>(gates, normal), variant.coupled);
        unit += CUBE_DIM as usize;
    }

    // Back through that of the hidden state's part of the gates.
    let count = A::cast_from(d_hidden) * gates_that_are::<A>(variant.coupled);
    let means = means_of::<A>(sum_of_gates, along_gates, count, &mut shared);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let gates = load_gates::<F, A>(&buffers.gates, of_gates, d_hidden, unit);
        let normal = load_gates::<F, A>(&norm.recurrent, of_gates, d_hidden, unit);
        let d_gains = scaled::<A>(gates, normal);
        let of_unit = of_row + unit;
        add_at::<A>(&mut norm.d_gains, of_unit, d_gains.input);
        add_at::<A>(&mut norm.d_gains, of_unit + d_hidden, d_gains.forget);
        add_at::<A>(&mut norm.d_gains, of_unit + 2 * d_hidden, d_gains.cell);
        add_at::<A>(&mut norm.d_gains, of_unit + 3 * d_hidden, d_gains.output);
        let gates = scaled::<A>(gates, load_gates::<F, A>(&norm.gains, 0, d_hidden, unit));
        let deviation = norm.deviation[in_segment];
        let gates = gates_back::<A>(gates, normal, means, deviation, variant.coupled);
        store_gates::<F, A>(&mut norm.recurrent, of_gates, d_hidden, unit, gates);
        store_gates::<F, A>(delta, place * 4 * d_hidden, d_hidden, unit, gates);
        unit += CUBE_DIM as usize;
    }
}

/// Normalizes rows of gates, `[N, 4H]`; with a gain, if there is one. `deviation` gets what they
/// were divided by, `[N]`.
#[cube(launch_unchecked)]
pub(super) fn normalize<F: Float, A: Float>(
    rows: &mut [F],
    gain: ComptimeOption<Box<[F]>>,
    deviation: &mut [A],
    count: usize,
    d_hidden: usize,
    #[comptime] threads: usize,
    #[comptime] coupled: bool,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let row = Row::of_cube(count, d_hidden);
    let mut shared = Shared::<[A]>::new_slice(comptime!(2 * threads));
    let moments = moments_of_gates::<F, A>(&*rows, &row, &mut shared, coupled);
    let from = row.place * 4 * d_hidden;
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let numbers = load_gates::<F, A>(&*rows, from, d_hidden, unit);
        let normal = moments.normal_of_gates(numbers);
        let result = with_gain::<F, A>(normal, &gain, d_hidden, unit, coupled);
        store_gates::<F, A>(rows, from, d_hidden, unit, result);
        if unit == 0 {
            deviation[row.place] = moments.deviation;
        }
        unit += CUBE_DIM as usize;
    }
}

/// The way back of [`normalize`]: `delta` are the gradients of its result with `gain`, `rows` its
/// result without, and afterwards the gradients of what it was given.
#[cube(launch_unchecked)]
pub(super) fn normalize_back<F: Float, A: Float>(
    delta: &[F],
    gain: &[F],
    rows: &mut [F],
    deviation: &[A],
    count: usize,
    d_hidden: usize,
    #[comptime] threads: usize,
    #[comptime] coupled: bool,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let row = Row::of_cube(count, d_hidden);
    let mut shared = Shared::<[A]>::new_slice(comptime!(2 * threads));
    let from = row.place * 4 * d_hidden;
    let mut sum = A::new(0.0);
    let mut along = A::new(0.0);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let gates = load_gates::<F, A>(delta, from, d_hidden, unit);
        let gates = scaled::<A>(gates, load_gates::<F, A>(gain, 0, d_hidden, unit));
        let normal = load_gates::<F, A>(&*rows, from, d_hidden, unit);
        sum += total::<A>(gates, coupled);
        along += total::<A>(scaled::<A>(gates, normal), coupled);
        unit += CUBE_DIM as usize;
    }
    let width = A::cast_from(d_hidden) * gates_that_are::<A>(coupled);
    let means = means_of::<A>(sum, along, width, &mut shared);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let gates = load_gates::<F, A>(delta, from, d_hidden, unit);
        let gates = scaled::<A>(gates, load_gates::<F, A>(gain, 0, d_hidden, unit));
        let normal = load_gates::<F, A>(&*rows, from, d_hidden, unit);
        let deviation = deviation[row.place];
        let gates = gates_back::<A>(gates, normal, means, deviation, coupled);
        store_gates::<F, A>(rows, from, d_hidden, unit, gates);
        unit += CUBE_DIM as usize;
    }
}

/// The row of a cube.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Row {
    place: usize,
    /// Units of it; none, if there are fewer rows than cubes.
    width: usize,
    d_hidden: usize,
}

#[cube]
impl Row {
    fn of_cube(rows: usize, d_hidden: usize) -> Row {
        let is_there = CUBE_POS < rows;
        Row {
            place: select(is_there, CUBE_POS, 0usize),
            width: select(is_there, d_hidden, 0usize),
            d_hidden,
        }
    }
}

/// Of the numbers that are normalized together.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Moments<A: Float> {
    mean: A,
    /// `√(variance + epsilon)`
    deviation: A,
}

#[cube]
impl<A: Float> Moments<A> {
    fn normal(&self, number: A) -> A {
        (number - self.mean) / self.deviation
    }

    fn normal_of_gates(&self, numbers: Gates<A>) -> Gates<A> {
        Gates::<A> {
            input: self.normal(numbers.input),
            forget: self.normal(numbers.forget),
            cell: self.normal(numbers.cell),
            output: self.normal(numbers.output),
        }
    }
}

/// Of the gradients of normalized numbers, and of the gradients times the numbers.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Means<A: Float> {
    gradient: A,
    along: A,
}

/// Of a row of gates.
#[cube]
fn moments_of_gates<F: Float, A: Float>(
    gates: &[F],
    row: &Row,
    shared: &mut Shared<[A]>,
    #[comptime] coupled: bool,
) -> Moments<A> {
    let d_hidden = row.d_hidden;
    let from = row.place * 4 * d_hidden;
    let count = A::cast_from(d_hidden) * gates_that_are::<A>(coupled);
    let mut sum = A::new(0.0);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        sum += total::<A>(load_gates::<F, A>(gates, from, d_hidden, unit), coupled);
        unit += CUBE_DIM as usize;
    }
    let mean = sum_of::<A>(sum, shared) / count;
    let mut squares = A::new(0.0);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let numbers = load_gates::<F, A>(gates, from, d_hidden, unit);
        let centred = Gates::<A> {
            input: numbers.input - mean,
            forget: numbers.forget - mean,
            cell: numbers.cell - mean,
            output: numbers.output - mean,
        };
        squares += total::<A>(scaled::<A>(centred, centred), coupled);
        unit += CUBE_DIM as usize;
    }
    let variance = sum_of::<A>(squares, shared) / count;
    Moments::<A> {
        mean,
        deviation: deviation::<A>(variance),
    }
}

/// Of a row of cell states.
#[cube]
fn moments_of_cells<A: Float>(cells: &[A], row: &Row, shared: &mut Shared<[A]>) -> Moments<A> {
    let from = row.place * row.d_hidden;
    let count = A::cast_from(row.d_hidden);
    let mut sum = A::new(0.0);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        sum += cells[from + unit];
        unit += CUBE_DIM as usize;
    }
    let mean = sum_of::<A>(sum, shared) / count;
    let mut squares = A::new(0.0);
    let mut unit = UNIT_POS as usize;
    while unit < row.width {
        let centred = cells[from + unit] - mean;
        squares += centred * centred;
        unit += CUBE_DIM as usize;
    }
    let variance = sum_of::<A>(squares, shared) / count;
    Moments::<A> {
        mean,
        deviation: deviation::<A>(variance),
    }
}

#[cube]
fn deviation<A: Float>(variance: A) -> A {
    // By a number that f32 and f64 have alike.
    let epsilon = A::new(1.0) / A::new(comptime!((1.0 / LAYER_NORM_EPSILON) as f32));
    (variance + epsilon).sqrt()
}

/// A normalized cell state with its gain and shift.
#[cube]
fn shifted<F: Float, A: Float>(normal: A, gains: &[F], d_hidden: usize, unit: usize) -> A {
    normal * A::cast_from(gains[4 * d_hidden + unit]) + A::cast_from(gains[5 * d_hidden + unit])
}

/// From the gradient of a normalized number to that of what it was: what changes neither mean nor
/// variance is what gets through.
#[cube]
fn back<A: Float>(gradient: A, normal: A, means: Means<A>, deviation: A) -> A {
    (gradient - means.gradient - normal * means.along) / deviation
}

#[cube]
fn gates_back<A: Float>(
    gradient: Gates<A>,
    normal: Gates<A>,
    means: Means<A>,
    deviation: A,
    #[comptime] coupled: bool,
) -> Gates<A> {
    let mut forget = A::new(0.0);
    if comptime!(!coupled) {
        forget = back::<A>(gradient.forget, normal.forget, means, deviation);
    }
    Gates::<A> {
        input: back::<A>(gradient.input, normal.input, means, deviation),
        forget,
        cell: back::<A>(gradient.cell, normal.cell, means, deviation),
        output: back::<A>(gradient.output, normal.output, means, deviation),
    }
}

#[cube]
fn scaled<A: Float>(numbers: Gates<A>, factors: Gates<A>) -> Gates<A> {
    Gates::<A> {
        input: numbers.input * factors.input,
        forget: numbers.forget * factors.forget,
        cell: numbers.cell * factors.cell,
        output: numbers.output * factors.output,
    }
}

/// Normalized numbers of a unit with their gain, if there is one.
#[cube]
fn with_gain<F: Float, A: Float>(
    normal: Gates<A>,
    gain: &ComptimeOption<Box<[F]>>,
    d_hidden: usize,
    unit: usize,
    #[comptime] coupled: bool,
) -> Gates<A> {
    let mut input = normal.input;
    let mut forget = normal.forget;
    let mut cell = normal.cell;
    let mut output = normal.output;
    if comptime!(gain.is_some()) {
        input *= at::<F, A>(gain, unit);
        forget *= at::<F, A>(gain, d_hidden + unit);
        cell *= at::<F, A>(gain, 2 * d_hidden + unit);
        output *= at::<F, A>(gain, 3 * d_hidden + unit);
    }
    // What coupled gates have in its place is none of their numbers.
    if comptime!(coupled) {
        forget = A::new(0.0);
    }
    Gates::<A> {
        input,
        forget,
        cell,
        output,
    }
}

/// The sum of a unit's numbers. Coupled gates have no forget gate of their own.
#[cube]
fn total<A: Float>(numbers: Gates<A>, #[comptime] coupled: bool) -> A {
    let mut sum = numbers.input + numbers.cell + numbers.output;
    if comptime!(!coupled) {
        sum += numbers.forget;
    }
    sum
}

#[cube]
fn gates_that_are<A: Float>(#[comptime] coupled: bool) -> A {
    A::new(comptime!(if coupled { 3.0 } else { 4.0 }))
}

/// The means of two numbers, of whose sums each of the cube's threads has a part.
#[cube]
fn means_of<A: Float>(gradient: A, along: A, count: A, shared: &mut Shared<[A]>) -> Means<A> {
    let unit = UNIT_POS as usize;
    let second = CUBE_DIM as usize;
    shared[unit] = gradient;
    shared[second + unit] = along;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if unit < half {
            let other = shared[unit + half];
            shared[unit] += other;
            let other = shared[second + unit + half];
            shared[second + unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    let means = Means::<A> {
        gradient: shared[0] / count,
        along: shared[second] / count,
    };
    // All have read them before the next sums take their place.
    sync_cube();
    means
}

/// The sum of a number of each of the cube's threads, whose count is a power of two.
#[cube]
fn sum_of<A: Float>(number: A, shared: &mut Shared<[A]>) -> A {
    let unit = UNIT_POS as usize;
    shared[unit] = number;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if unit < half {
            let other = shared[unit + half];
            shared[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[0];
    sync_cube();
    sum
}
