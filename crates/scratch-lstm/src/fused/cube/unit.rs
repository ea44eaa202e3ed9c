//! A step of one unit of one row, from and to the buffers: what both rungs do at every step.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::cell::{Back, Extra, Gates, Step, Variant, backward, forward};

/// Where the numbers of a series lie: those of a row at a time begin at `row * of_row + time *
/// of_step` widths.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Strides {
    pub(super) of_row: usize,
    pub(super) of_step: usize,
}

/// Sizes, and the layouts of two kinds of series: those of the whole sequence and those of a
/// segment, whose first time is `start`.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Layout {
    pub(super) batch: usize,
    pub(super) d_hidden: usize,
    pub(super) start: usize,
    pub(super) whole: Strides,
    pub(super) segment: Strides,
}

/// What a cell has besides the four gates.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Options<F: Float> {
    /// Of the input, forget and output gate, `[3H]`.
    pub(super) peephole: ComptimeOption<Box<[F]>>,
    /// `[T, B, H]` both.
    pub(super) zoneout_hidden: ComptimeOption<Box<[F]>>,
    pub(super) zoneout_cell: ComptimeOption<Box<[F]>>,
    /// `[T, B]`, 0 where a row lacks the step.
    pub(super) valid: ComptimeOption<Box<[u32]>>,
    /// What the gates see of the hidden state, `[B, H]`.
    pub(super) hidden_mask: ComptimeOption<Box<[F]>>,
    pub(super) clip_gates: f32,
    pub(super) clip_cell: f32,
}

/// What the way forward reads and writes.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Forward<F: Float, A: Float> {
    /// Of a segment, `4H` wide: the input's part of the gates; what is kept of them afterwards.
    pub(super) gates: Box<[F]>,
    /// `[4H]`
    pub(super) bias: Box<[F]>,
    /// The state, `[B, H]` both.
    pub(super) hidden: Box<[F]>,
    pub(super) cell: Box<[A]>,
    /// Of the whole sequence, `H` wide, if it is not there already.
    pub(super) output: ComptimeOption<Box<[F]>>,
    /// Of a segment, `H` wide: the cell states after the steps, if they are kept.
    pub(super) cells: ComptimeOption<Box<[A]>>,
    pub(super) options: Options<F>,
    pub(super) layout: Layout,
}

/// What the way back reads and writes.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Backward<F: Float, A: Float> {
    /// Of a segment, `4H` wide: what was kept of the gates; the gradients of what they were before
    /// their activations afterwards.
    pub(super) gates: Box<[F]>,
    /// Of a segment, `H` wide.
    pub(super) cells: Box<[A]>,
    /// The cell state before the segment's first step, `[B, H]`.
    pub(super) cell_before: Box<[A]>,
    /// Of the whole sequence, `H` wide: the gradients of the output, if there are any.
    pub(super) d_output: ComptimeOption<Box<[F]>>,
    /// The gradient of the cell state, `[B, H]`.
    pub(super) d_cell: Box<[A]>,
    /// What of the gradient of the hidden state passes the gates by, `[B, H]`, if anything does.
    pub(super) d_kept: ComptimeOption<Box<[A]>>,
    /// The gradients of each row's peepholes, `[B, 3H]`.
    pub(super) d_peephole: ComptimeOption<Box<[A]>>,
    pub(super) options: Options<F>,
    pub(super) layout: Layout,
}

#[cube]
impl Layout {
    /// Of a row at a time, in series of the whole sequence.
    pub(super) fn whole(&self, row: usize, time: usize) -> usize {
        row * self.whole.of_row + time * self.whole.of_step
    }

    /// The same in series of the segment.
    pub(super) fn segment(&self, row: usize, time: usize) -> usize {
        row * self.segment.of_row + (time - self.start) * self.segment.of_step
    }
}

#[cube]
impl<F: Float> Options<F> {
    fn extra<A: Float>(&self, layout: &Layout, row: usize, unit: usize, time: usize) -> Extra<A> {
        let d_hidden = layout.d_hidden;
        let place = (time * layout.batch + row) * d_hidden + unit;
        Extra::<A> {
            peephole_input: at::<F, A>(&self.peephole, unit),
            peephole_forget: at::<F, A>(&self.peephole, d_hidden + unit),
            peephole_output: at::<F, A>(&self.peephole, 2 * d_hidden + unit),
            clip_gates: A::cast_from(self.clip_gates),
            clip_cell: A::cast_from(self.clip_cell),
            zoneout_hidden: at::<F, A>(&self.zoneout_hidden, place),
            zoneout_cell: at::<F, A>(&self.zoneout_cell, place),
        }
    }

    fn is_valid(&self, layout: &Layout, row: usize, time: usize) -> bool {
        let mut is_valid = true;
        if comptime!(self.valid.is_some()) {
            let valid = self.valid.as_ref().unwrap();
            is_valid = valid[time * layout.batch + row] != 0;
        }
        is_valid
    }

    /// What the gates see of a number of the hidden state; also the way of a gradient back.
    pub(super) fn seen<A: Float>(&self, layout: &Layout, row: usize, unit: usize, hidden: A) -> A {
        let mut seen = hidden;
        if comptime!(self.hidden_mask.is_some()) {
            seen *= at::<F, A>(&self.hidden_mask, row * layout.d_hidden + unit);
        }
        seen
    }
}

/// A number of a buffer, zero if there is none.
#[cube]
pub(super) fn at<F: Float, A: Float>(buffer: &ComptimeOption<Box<[F]>>, place: usize) -> A {
    let mut number = A::new(0.0);
    if comptime!(buffer.is_some()) {
        let buffer = buffer.as_ref().unwrap();
        number = A::cast_from(buffer[place]);
    }
    number
}

/// The four numbers of a unit, in a row of gates that begins at `from`.
#[cube]
pub(super) fn load_gates<F: Float, A: Float>(
    gates: &[F],
    from: usize,
    d_hidden: usize,
    unit: usize,
) -> Gates<A> {
    let from = from + unit;
    Gates::<A> {
        input: A::cast_from(gates[from]),
        forget: A::cast_from(gates[from + d_hidden]),
        cell: A::cast_from(gates[from + 2 * d_hidden]),
        output: A::cast_from(gates[from + 3 * d_hidden]),
    }
}

#[cube]
pub(super) fn store_gates<F: Float, A: Float>(
    gates: &mut [F],
    from: usize,
    d_hidden: usize,
    unit: usize,
    numbers: Gates<A>,
) {
    let from = from + unit;
    gates[from] = F::cast_from(numbers.input);
    gates[from + d_hidden] = F::cast_from(numbers.forget);
    gates[from + 2 * d_hidden] = F::cast_from(numbers.cell);
    gates[from + 3 * d_hidden] = F::cast_from(numbers.output);
}

/// One step: `recurrent` is the hidden state's part of the gates. What the gates will see of the
/// new hidden state.
#[cube]
pub(super) fn advance<F: Float, A: Float>(
    buffers: &mut Forward<F, A>,
    recurrent: Gates<A>,
    row: usize,
    unit: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> A {
    let layout = buffers.layout;
    let d_hidden = layout.d_hidden;
    let state = row * d_hidden + unit;
    let place = layout.segment(row, time);

    let mut hidden = A::cast_from(buffers.hidden[state]);
    let mut cell = buffers.cell[state];
    let mut shown = A::new(0.0);
    if buffers.options.is_valid(&layout, row, time) {
        let from = place * 4 * d_hidden;
        let bias = load_gates::<F, A>(&buffers.bias, 0, d_hidden, unit);
        let projected = load_gates::<F, A>(&buffers.gates, from, d_hidden, unit);
        let sums = Gates::<A> {
            input: projected.input + bias.input + recurrent.input,
            forget: projected.forget + bias.forget + recurrent.forget,
            cell: projected.cell + bias.cell + recurrent.cell,
            output: projected.output + bias.output + recurrent.output,
        };
        let extra = buffers.options.extra::<A>(&layout, row, unit, time);
        let step: Step<A> = forward::<A>(sums, hidden, cell, extra, variant);
        store_gates::<F, A>(&mut buffers.gates, from, d_hidden, unit, step.kept);
        hidden = step.hidden;
        cell = step.cell;
        shown = step.hidden;
        buffers.hidden[state] = F::cast_from(hidden);
        buffers.cell[state] = cell;
    }
    if comptime!(buffers.output.is_some()) {
        let output = buffers.output.as_mut().unwrap();
        output[layout.whole(row, time) * d_hidden + unit] = F::cast_from(shown);
    }
    if comptime!(buffers.cells.is_some()) {
        let cells = buffers.cells.as_mut().unwrap();
        cells[place * d_hidden + unit] = cell;
    }
    buffers.options.seen::<A>(&layout, row, unit, hidden)
}

/// One step back. `d_seen` is the gradient of what the next step's gates saw of the hidden state,
/// `is_first` whether no step of the segment comes before this one, which has the time `earlier`.
/// The gradients of the gates before their activations.
#[cube]
pub(super) fn retreat<F: Float, A: Float>(
    buffers: &mut Backward<F, A>,
    d_seen: A,
    row: usize,
    unit: usize,
    time: usize,
    is_first: bool,
    earlier: usize,
    #[comptime] variant: Variant,
) -> Gates<A> {
    let layout = buffers.layout;
    let d_hidden = layout.d_hidden;
    let state = row * d_hidden + unit;
    let place = layout.segment(row, time);
    let from = place * 4 * d_hidden;

    let mut d_state = buffers.options.seen::<A>(&layout, row, unit, d_seen);
    if comptime!(buffers.d_kept.is_some()) {
        let kept = buffers.d_kept.as_ref().unwrap();
        d_state += kept[state];
    }
    let zero = A::new(0.0);
    let mut d_input = zero;
    let mut d_forget = zero;
    let mut d_candidate = zero;
    let mut d_output_gate = zero;
    let mut d_kept = d_state;
    if buffers.options.is_valid(&layout, row, time) {
        if comptime!(buffers.d_output.is_some()) {
            let d_output = buffers.d_output.as_ref().unwrap();
            d_state += A::cast_from(d_output[layout.whole(row, time) * d_hidden + unit]);
        }
        let kept = load_gates::<F, A>(&buffers.gates, from, d_hidden, unit);
        let before = if is_first {
            buffers.cell_before[state]
        } else {
            buffers.cells[layout.segment(row, earlier) * d_hidden + unit]
        };
        let after = buffers.cells[place * d_hidden + unit];
        let extra = buffers.options.extra::<A>(&layout, row, unit, time);
        let d_cell = buffers.d_cell[state];
        let back: Back<A> = backward::<A>(kept, before, after, d_state, d_cell, extra, variant);
        d_input = back.delta.input;
        d_forget = back.delta.forget;
        d_candidate = back.delta.cell;
        d_output_gate = back.delta.output;
        d_kept = back.hidden;
        buffers.d_cell[state] = back.cell;
        if comptime!(buffers.d_peephole.is_some()) {
            let d_peephole = buffers.d_peephole.as_mut().unwrap();
            let from = row * 3 * d_hidden + unit;
            d_peephole[from] += d_input * before;
            d_peephole[from + d_hidden] += d_forget * before;
            d_peephole[from + 2 * d_hidden] += d_output_gate * back.inner;
        }
    }
    let delta = Gates::<A> {
        input: d_input,
        forget: d_forget,
        cell: d_candidate,
        output: d_output_gate,
    };
    store_gates::<F, A>(&mut buffers.gates, from, d_hidden, unit, delta);
    if comptime!(buffers.d_kept.is_some()) {
        let kept = buffers.d_kept.as_mut().unwrap();
        kept[state] = d_kept;
    }
    delta
}
