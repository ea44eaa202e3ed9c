//! A step of one unit of one row, from and to the buffers: what both rungs do at every step.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::cell::{self, Entered, Extra, Gates, Left, Shown, Variant};

/// Where the numbers of a series lie: those of a row at a time begin at `row * of_row + time *
/// of_step` widths.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Strides {
    pub(super) of_row: usize,
    pub(super) of_step: usize,
}

/// Sizes, and the layouts of two kinds of series: those of the whole sequence and those of a
/// segment.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Layout {
    pub(super) batch: usize,
    pub(super) d_hidden: usize,
    /// `P`, of the hidden state: `H` without a projection.
    pub(super) d_output: usize,
    /// The segment's least time.
    pub(super) start: usize,
    /// The time of the segment's first visit.
    pub(super) begin: usize,
    pub(super) whole: Strides,
    pub(super) segment: Strides,
    /// Whether the walk forward is from the last step to the first.
    #[cube(comptime)]
    pub(super) reverse: bool,
}

/// What a cell has besides the four gates.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Options<F: Float> {
    /// Of the input, forget and output gate, `[3H]`.
    pub(super) peephole: ComptimeOption<Box<[F]>>,
    /// `[T, B, P]`
    pub(super) zoneout_hidden: ComptimeOption<Box<[F]>>,
    /// `[T, B, H]`
    pub(super) zoneout_cell: ComptimeOption<Box<[F]>>,
    /// `[T, B]`, 0 where a row lacks the step.
    pub(super) valid: ComptimeOption<Box<[u32]>>,
    /// What the gates see of the hidden state, `[B, P]`.
    pub(super) hidden_mask: ComptimeOption<Box<[F]>>,
    pub(super) clip_gates: InputScalar,
    pub(super) clip_cell: InputScalar,
}

/// What the way forward reads and writes.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Forward<F: Float, A: Float> {
    /// Of a segment, `4H` wide: the input's part of the gates; what is kept of them afterwards.
    pub(super) gates: Box<[F]>,
    /// `[4H]`
    pub(super) bias: Box<[F]>,
    /// The state, `[B, P]` and `[B, H]`.
    pub(super) hidden: Box<[F]>,
    pub(super) cell: Box<[A]>,
    /// Of the whole sequence, `P` wide, if it is not there already.
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
    /// Of the whole sequence, `P` wide: the gradients of the output, if there are any.
    pub(super) d_output: ComptimeOption<Box<[F]>>,
    /// The gradient of the cell state, `[B, H]`.
    pub(super) d_cell: Box<[A]>,
    /// What of the gradient of the hidden state passes the gates by, `[B, P]`, if anything does.
    pub(super) d_kept: ComptimeOption<Box<[A]>>,
    /// The gradients of each row's peepholes, `[B, 3H]`, if they are wanted.
    pub(super) d_peephole: ComptimeOption<Box<[A]>>,
    pub(super) options: Options<F>,
    pub(super) layout: Layout,
}

/// What is to be shown of a step, by a unit.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Inside<A: Float> {
    /// What is kept of its output gate.
    pub(super) output: A,
    /// Its cell state inside of the step.
    pub(super) cell: A,
}

/// A step as the way back finds it, of one unit.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Found<A: Float> {
    pub(super) kept: Gates<A>,
    /// The cell state before the step and inside of it.
    pub(super) before: A,
    pub(super) inner: A,
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

    /// The time of the step before one that is not the sequence's first.
    fn earlier(&self, time: usize) -> usize {
        let mut earlier = time + 1;
        if comptime!(!self.reverse) {
            earlier = time - 1;
        }
        earlier
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
            clip_gates: self.clip_gates.get::<A>(),
            clip_cell: self.clip_cell.get::<A>(),
            zoneout_cell: at::<F, A>(&self.zoneout_cell, place),
        }
    }

    pub(super) fn is_valid(&self, layout: &Layout, row: usize, time: usize) -> bool {
        let mut is_valid = true;
        if comptime!(self.valid.is_some()) {
            let valid = self.valid.as_ref().unwrap();
            is_valid = valid[time * layout.batch + row] != 0;
        }
        is_valid
    }

    /// What the gates see of a number of the hidden state; also the way of a gradient back.
    pub(super) fn seen<A: Float>(
        &self,
        layout: &Layout,
        row: usize,
        number: usize,
        hidden: A,
    ) -> A {
        let mut seen = hidden;
        if comptime!(self.hidden_mask.is_some()) {
            seen *= at::<F, A>(&self.hidden_mask, row * layout.d_output + number);
        }
        seen
    }

    /// The share of the old number of the hidden state that is kept.
    fn share<A: Float>(&self, layout: &Layout, row: usize, number: usize, time: usize) -> A {
        let place = (time * layout.batch + row) * layout.d_output + number;
        at::<F, A>(&self.zoneout_hidden, place)
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

/// Stores a number in a buffer, if there is one.
#[cube]
pub(super) fn put<F: Float, A: Float>(
    buffer: &mut ComptimeOption<Box<[F]>>,
    place: usize,
    number: A,
) {
    if comptime!(buffer.is_some()) {
        let buffer = buffer.as_mut().unwrap();
        buffer[place] = F::cast_from(number);
    }
}

/// Adds to a number of a buffer, if there is one.
#[cube]
pub(super) fn add_at<A: Float>(buffer: &mut ComptimeOption<Box<[A]>>, place: usize, number: A) {
    if comptime!(buffer.is_some()) {
        let buffer = buffer.as_mut().unwrap();
        buffer[place] += number;
    }
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

/// The numbers of a unit in two rows of gates, added.
#[cube]
pub(super) fn add_gates<A: Float>(first: Gates<A>, second: Gates<A>) -> Gates<A> {
    Gates::<A> {
        input: first.input + second.input,
        forget: first.forget + second.forget,
        cell: first.cell + second.cell,
        output: first.output + second.output,
    }
}

/// One step, where what the units show is the new hidden state: `recurrent` is the old one's part of
/// the gates. What the gates will see of the new one.
#[cube]
pub(super) fn advance<F: Float, A: Float>(
    buffers: &mut Forward<F, A>,
    recurrent: Gates<A>,
    row: usize,
    unit: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> A {
    let inside = enter::<F, A>(buffers, recurrent, row, unit, time, variant);
    let shown = cell::show::<A>(inside.output, inside.cell);
    settle::<F, A>(buffers, shown, row, unit, time, variant)
}

/// The first half of a step: gates and cell state of a unit. Zeros, where the row lacks the step.
#[cube]
pub(super) fn enter<F: Float, A: Float>(
    buffers: &mut Forward<F, A>,
    recurrent: Gates<A>,
    row: usize,
    unit: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> Inside<A> {
    let layout = buffers.layout;
    let d_hidden = layout.d_hidden;
    let state = row * d_hidden + unit;
    let place = layout.segment(row, time);

    let mut cell = buffers.cell[state];
    let mut output = A::new(0.0);
    let mut inner = A::new(0.0);
    if buffers.options.is_valid(&layout, row, time) {
        let from = place * 4 * d_hidden;
        let bias = load_gates::<F, A>(&buffers.bias, 0, d_hidden, unit);
        let projected = load_gates::<F, A>(&buffers.gates, from, d_hidden, unit);
        let sums = add_gates::<A>(add_gates::<A>(projected, bias), recurrent);
        let extra = buffers.options.extra::<A>(&layout, row, unit, time);
        let entered: Entered<A> = cell::enter::<A>(sums, cell, extra, variant);
        store_gates::<F, A>(&mut buffers.gates, from, d_hidden, unit, entered.kept);
        output = entered.kept.output;
        inner = entered.inner;
        cell = entered.cell;
        buffers.cell[state] = cell;
    }
    put::<A, A>(&mut buffers.cells, place * d_hidden + unit, cell);
    Inside::<A> {
        output,
        cell: inner,
    }
}

/// The second half: the hidden state, from what the units show or its projection. What the gates
/// will see of it.
#[cube]
pub(super) fn settle<F: Float, A: Float>(
    buffers: &mut Forward<F, A>,
    new: A,
    row: usize,
    number: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> A {
    let layout = buffers.layout;
    let d_output = layout.d_output;
    let state = row * d_output + number;

    let mut hidden = A::cast_from(buffers.hidden[state]);
    let mut shown = A::new(0.0);
    if buffers.options.is_valid(&layout, row, time) {
        if comptime!(variant.zoneout_hidden) {
            let share = buffers.options.share::<A>(&layout, row, number, time);
            hidden = cell::held::<A>(new, hidden, share);
        } else {
            hidden = new;
        }
        let rounded = F::cast_from(hidden);
        buffers.hidden[state] = rounded;
        // What the gates see is what the way back finds.
        hidden = A::cast_from(rounded);
        shown = hidden;
    }
    let place = layout.whole(row, time) * d_output + number;
    put::<F, A>(&mut buffers.output, place, shown);
    buffers.options.seen::<A>(&layout, row, number, hidden)
}

/// One step back, where what the units show is the hidden state. `d_seen` is the gradient of what
/// the next step's gates saw of it. The gradients of the gates before their activations.
#[cube]
pub(super) fn retreat<F: Float, A: Float>(
    buffers: &mut Backward<F, A>,
    d_seen: A,
    row: usize,
    unit: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> Gates<A> {
    let d_shown = unsettle::<F, A>(buffers, d_seen, row, unit, time, variant);
    let found = find::<F, A>(&*buffers, row, unit, time, variant);
    let shown = cell::show_back::<A>(found.kept.output, found.inner, d_shown);
    leave::<F, A>(buffers, found, shown, row, unit, time, variant)
}

/// The way back of [`settle`]: the gradient of what the units show, or of its projection. Zero,
/// where the row lacks the step.
#[cube]
pub(super) fn unsettle<F: Float, A: Float>(
    buffers: &mut Backward<F, A>,
    d_seen: A,
    row: usize,
    number: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> A {
    let layout = buffers.layout;
    let d_output = layout.d_output;
    let state = row * d_output + number;

    let mut d_state = buffers.options.seen::<A>(&layout, row, number, d_seen);
    d_state += at::<A, A>(&buffers.d_kept, state);
    let mut d_new = A::new(0.0);
    let mut d_kept = d_state;
    if buffers.options.is_valid(&layout, row, time) {
        d_state += at::<F, A>(
            &buffers.d_output,
            layout.whole(row, time) * d_output + number,
        );
        let mut share = A::new(0.0);
        if comptime!(variant.zoneout_hidden) {
            share = buffers.options.share::<A>(&layout, row, number, time);
        }
        d_new = (A::new(1.0) - share) * d_state;
        d_kept = share * d_state;
    }
    put::<A, A>(&mut buffers.d_kept, state, d_kept);
    d_new
}

/// What a step left behind. Of no meaning, where the row lacks the step.
#[cube]
pub(super) fn find<F: Float, A: Float>(
    buffers: &Backward<F, A>,
    row: usize,
    unit: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> Found<A> {
    let layout = buffers.layout;
    let d_hidden = layout.d_hidden;
    let place = layout.segment(row, time);
    let kept = load_gates::<F, A>(&buffers.gates, place * 4 * d_hidden, d_hidden, unit);
    let before = if time == layout.begin {
        buffers.cell_before[row * d_hidden + unit]
    } else {
        buffers.cells[layout.segment(row, layout.earlier(time)) * d_hidden + unit]
    };
    let after = buffers.cells[place * d_hidden + unit];
    let extra = buffers.options.extra::<A>(&layout, row, unit, time);
    Found::<A> {
        kept,
        before,
        inner: cell::inner::<A>(kept, before, after, extra, variant),
    }
}

/// The way back of [`enter`], from the gradients of what the unit shows. The gradients of the gates
/// before their activations; zeros, where the row lacks the step.
#[cube]
pub(super) fn leave<F: Float, A: Float>(
    buffers: &mut Backward<F, A>,
    found: Found<A>,
    shown: Shown<A>,
    row: usize,
    unit: usize,
    time: usize,
    #[comptime] variant: Variant,
) -> Gates<A> {
    let layout = buffers.layout;
    let d_hidden = layout.d_hidden;
    let state = row * d_hidden + unit;

    let mut input = A::new(0.0);
    let mut forget = A::new(0.0);
    let mut candidate = A::new(0.0);
    let mut output = A::new(0.0);
    if buffers.options.is_valid(&layout, row, time) {
        let extra = buffers.options.extra::<A>(&layout, row, unit, time);
        let Found {
            kept,
            before,
            inner,
        } = found;
        let d_cell = buffers.d_cell[state];
        let left: Left<A> =
            cell::enter_back::<A>(kept, before, inner, shown, d_cell, extra, variant);
        input = left.delta.input;
        forget = left.delta.forget;
        candidate = left.delta.cell;
        output = left.delta.output;
        buffers.d_cell[state] = left.cell;
        let of_unit = row * 3 * d_hidden + unit;
        add_at::<A>(&mut buffers.d_peephole, of_unit, input * before);
        add_at::<A>(&mut buffers.d_peephole, of_unit + d_hidden, forget * before);
        add_at::<A>(
            &mut buffers.d_peephole,
            of_unit + 2 * d_hidden,
            output * inner,
        );
    }
    let delta = Gates::<A> {
        input,
        forget,
        cell: candidate,
        output,
    };
    let from = layout.segment(row, time) * 4 * d_hidden;
    store_gates::<F, A>(&mut buffers.gates, from, d_hidden, unit, delta);
    delta
}
