//! The hidden states before the steps of a segment, side by side: one factor of the gradient of
//! the recurrent weights.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::unit::{Layout, at};

/// For each step of a segment what its gates saw of the hidden state, `P` wide. `output` is of the
/// whole sequence; where rows may lack steps, `previous` has for each `[T, B]` 1 more than the time
/// of the step before it, 0 if there is none.
#[cube(launch_unchecked)]
pub(super) fn hidden_before<F: Float>(
    output: &[F],
    h0: &[F],
    previous: ComptimeOption<Box<[u32]>>,
    hidden_mask: ComptimeOption<Box<[F]>>,
    before: &mut [F],
    layout: Layout,
    steps: usize,
    last: usize,
    #[define(F)] _type: ElemType,
) {
    let d_output = layout.d_output;
    let batch = layout.batch;
    let place = ABSOLUTE_POS;
    if place < steps * batch * d_output {
        let unit = place % d_output;
        let row = place / d_output % batch;
        let time = layout.start + place / d_output / batch;
        // As `previous` counts.
        let mut from = time;
        if comptime!(layout.reverse) {
            from = select(time == last, 0, time + 2);
        }
        if comptime!(previous.is_some()) {
            let previous = previous.as_ref().unwrap();
            from = previous[time * batch + row] as usize;
        }
        let state = row * d_output + unit;
        let mut hidden = if from == 0 {
            h0[state]
        } else {
            output[layout.whole(row, from - 1) * d_output + unit]
        };
        if comptime!(hidden_mask.is_some()) {
            hidden *= at::<F, F>(&hidden_mask, state);
        }
        before[layout.segment(row, time) * d_output + unit] = hidden;
    }
}
