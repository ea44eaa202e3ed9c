//! The rung of any size: at each step burn's matrix product and one kernel; two of both, where the
//! hidden state is projected. With layer normalization `normed.rs` has the kernel of the units.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::cell::{self, Variant};
use super::unit::{
    Backward, Forward, enter, find, leave, load_gates, put, settle, store_gates, unsettle,
};

/// One step of all rows and units. `recurrent` is the hidden state's part of the gates, `[B, 4H]`;
/// for the rest see [`hand_on`].
#[cube(launch_unchecked)]
pub(super) fn step<F: Float, A: Float>(
    mut buffers: Forward<F, A>,
    recurrent: &[F],
    mut seen: ComptimeOption<Box<[F]>>,
    mut to_project: ComptimeOption<Box<[F]>>,
    time: usize,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let d_hidden = buffers.layout.d_hidden;
    let place = ABSOLUTE_POS;
    if place < buffers.layout.batch * d_hidden {
        let row = place / d_hidden;
        let unit = place % d_hidden;
        let recurrent = load_gates::<F, A>(recurrent, row * 4 * d_hidden, d_hidden, unit);
        let inside = enter::<F, A>(&mut buffers, recurrent, row, unit, time, variant);
        let shown = cell::show::<A>(inside.output, inside.cell);
        hand_on::<F, A>(
            &mut buffers,
            shown,
            &mut seen,
            &mut to_project,
            row,
            unit,
            time,
            variant,
        );
    }
}

/// The other half of a step with a projection, whose result `projected` is, `[B, P]`.
#[cube(launch_unchecked)]
pub(super) fn step_projected<F: Float, A: Float>(
    mut buffers: Forward<F, A>,
    projected: &[F],
    mut seen: ComptimeOption<Box<[F]>>,
    time: usize,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let d_output = buffers.layout.d_output;
    let place = ABSOLUTE_POS;
    if place < buffers.layout.batch * d_output {
        let row = place / d_output;
        let new = A::cast_from(projected[place]);
        let of_gates = settle::<F, A>(&mut buffers, new, row, place % d_output, time, variant);
        put::<F, A>(&mut seen, place, of_gates);
    }
}

/// What a unit shows becomes the hidden state, or waits in `to_project`, `[B, H]`, for that. `seen`
/// is what the next step's gates see of the hidden state, `[B, P]`, if it is not that itself.
#[cube]
pub(super) fn hand_on<F: Float, A: Float>(
    buffers: &mut Forward<F, A>,
    shown: A,
    seen: &mut ComptimeOption<Box<[F]>>,
    to_project: &mut ComptimeOption<Box<[F]>>,
    row: usize,
    unit: usize,
    time: usize,
    #[comptime] variant: Variant,
) {
    let place = row * buffers.layout.d_hidden + unit;
    if comptime!(to_project.is_some()) {
        put::<F, A>(to_project, place, shown);
    } else {
        let of_gates = settle::<F, A>(buffers, shown, row, unit, time, variant);
        put::<F, A>(seen, place, of_gates);
    }
}

/// The first half of a step back with a projection. `d_seen` is the gradient of what the next
/// step's gates saw, `[B, P]`; `of_step` and, for a whole segment, `of_segment` get those of the
/// projection's result.
#[cube(launch_unchecked)]
pub(super) fn step_back_projected<F: Float, A: Float>(
    mut buffers: Backward<F, A>,
    d_seen: &[F],
    of_step: &mut [F],
    of_segment: &mut [F],
    time: usize,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let d_output = buffers.layout.d_output;
    let place = ABSOLUTE_POS;
    if place < buffers.layout.batch * d_output {
        let row = place / d_output;
        let number = place % d_output;
        let d_seen = A::cast_from(d_seen[place]);
        let d_new = unsettle::<F, A>(&mut buffers, d_seen, row, number, time, variant);
        let d_new = F::cast_from(d_new);
        of_step[place] = d_new;
        of_segment[buffers.layout.segment(row, time) * d_output + number] = d_new;
    }
}

/// One step back. `delta` gets the gradients of this step's gates, `[B, 4H]`; for the rest see
/// [`take_back`].
#[cube(launch_unchecked)]
pub(super) fn step_back<F: Float, A: Float>(
    mut buffers: Backward<F, A>,
    gradient: &[F],
    mut projected: ComptimeOption<Box<[F]>>,
    delta: &mut [F],
    time: usize,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let layout = buffers.layout;
    let d_hidden = layout.d_hidden;
    let place = ABSOLUTE_POS;
    if place < layout.batch * d_hidden {
        let row = place / d_hidden;
        let unit = place % d_hidden;
        let gradient = A::cast_from(gradient[place]);
        let d_shown =
            take_back::<F, A>(&mut buffers, gradient, &projected, row, unit, time, variant);
        let found = find::<F, A>(&buffers, row, unit, time, variant);
        let shown = cell::show::<A>(found.kept.output, found.inner);
        keep_shown::<F, A>(&buffers, &mut projected, shown, row, unit, time);
        let shown = cell::show_back::<A>(found.kept.output, found.inner, d_shown);
        let gates = leave::<F, A>(&mut buffers, found, shown, row, unit, time, variant);
        store_gates::<F, A>(delta, row * 4 * d_hidden, d_hidden, unit, gates);
    }
}

/// The way back of [`hand_on`]: the gradient of what a unit shows. `gradient` is that already, if
/// what is shown was `projected`; otherwise that of what the next step's gates saw.
#[cube]
pub(super) fn take_back<F: Float, A: Float>(
    buffers: &mut Backward<F, A>,
    gradient: A,
    projected: &ComptimeOption<Box<[F]>>,
    row: usize,
    unit: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> A {
    if comptime!(projected.is_some()) {
        gradient
    } else {
        unsettle::<F, A>(buffers, gradient, row, unit, time, variant)
    }
}

/// What was `projected`, of a segment, `H` wide; zeros, where rows lack the step.
#[cube]
pub(super) fn keep_shown<F: Float, A: Float>(
    buffers: &Backward<F, A>,
    projected: &mut ComptimeOption<Box<[F]>>,
    shown: A,
    row: usize,
    unit: usize,
    time: usize,
) {
    let layout = buffers.layout;
    let place = layout.segment(row, time) * layout.d_hidden + unit;
    let is_valid = buffers.options.is_valid(&layout, row, time);
    put::<F, A>(projected, place, select(is_valid, shown, A::new(0.0)));
}
