//! The rung of any size: at each step burn's matrix product and one kernel.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::cell::Variant;
use super::unit::{Backward, Forward, advance, load_gates, retreat, store_gates};

/// One step of all rows and units. `recurrent` is the hidden state's part of the gates, `[B, 4H]`,
/// `seen` what the next step's gates see, if that is not the hidden state.
#[cube(launch_unchecked)]
pub(super) fn step<F: Float, A: Float>(
    mut buffers: Forward<F, A>,
    recurrent: &[F],
    mut seen: ComptimeOption<&mut [F]>,
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
        let shown = advance::<F, A>(&mut buffers, recurrent, row, unit, time, variant);
        if comptime!(seen.is_some()) {
            let seen = seen.as_mut().unwrap();
            seen[place] = F::cast_from(shown);
        }
    }
}

/// One step back. `d_seen` is the gradient of what the next step's gates saw, `[B, H]`; `delta` the
/// gradients of this step's gates, `[B, 4H]`.
#[cube(launch_unchecked)]
pub(super) fn step_back<F: Float, A: Float>(
    mut buffers: Backward<F, A>,
    d_seen: &[F],
    delta: &mut [F],
    time: usize,
    is_first: u32,
    earlier: usize,
    #[comptime] variant: Variant,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let d_hidden = buffers.layout.d_hidden;
    let place = ABSOLUTE_POS;
    if place < buffers.layout.batch * d_hidden {
        let row = place / d_hidden;
        let unit = place % d_hidden;
        let d_seen = A::cast_from(d_seen[place]);
        let gates = retreat::<F, A>(
            &mut buffers,
            d_seen,
            row,
            unit,
            time,
            is_first != 0,
            earlier,
            variant,
        );
        store_gates::<F, A>(delta, row * 4 * d_hidden, d_hidden, unit, gates);
    }
}
