//! The backward pass of one layer and direction: step back through a segment, turning its gates
//! into their gradients where they lie, then form the gradients of weights and input.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::buffer::{Buffer, Pointer};
use crate::cell::{self, Extra};
use crate::crew;
use crate::forward::{Forward, Inputs, NormPointers, Norms, Saved, Segment, State};
use crate::gates::{COUNT, Gate};
use crate::layout::{Layout, Series, Sizes, Walk, distances};
use crate::options::{Options, cut_down, fill_up};
use crate::plan::{Keep, Plan, Split};
use crate::real::Real;
use crate::rows::{RowStepBack, known, store_deltas};
use crate::sums::{RowSumPointers, RowSums};
use crate::tile::{
    Epilogue, PANEL, Packed, PackedSizes, RowProduct, Rows, StoreRows, load, load_first, multiply,
    share, store, write_product,
};
use crate::weights::{LEFT_ROW, Projected, WeightGradients, WeightSums};

/// The gradients of what the forward pass wrote; absent ones are zero.
#[derive(Debug, Clone, Copy)]
pub struct Cotangents<'a, T> {
    /// `[B, T, P]`
    pub output: Option<Series<'a, T>>,
    /// `[B, P]`
    pub hidden: Option<&'a [T]>,
    /// `[B, H]`
    pub cell: Option<&'a [T]>,
}

/// Which gradients somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Of the input.
    pub x: bool,
    /// Of the weights on the input.
    pub weight_ih: bool,
    /// Of the weights on the hidden state.
    pub weight_hh: bool,
    /// Of the projection; nothing without one.
    pub weight_hr: bool,
    /// Of the bias.
    pub bias: bool,
    /// Of the peepholes; nothing without them.
    pub peephole: bool,
    /// Of the gains and the bias of layer normalization; nothing without it.
    pub layer_norm: bool,
    /// Of the hidden state before the first step.
    pub h0: bool,
    /// Of the cell state before the first step.
    pub c0: bool,
}

/// The gradients that are wanted and that the cell has, row by row without gaps.
#[derive(Debug)]
pub struct Gradients<T> {
    /// `[B, T, D]`, or `[T, B, D]` without `batch_first`.
    pub x: Option<Vec<T>>,
    /// `[4H, D]`
    pub weight_ih: Option<Vec<T>>,
    /// `[4H, P]`
    pub weight_hh: Option<Vec<T>>,
    /// `[P, H]`
    pub weight_hr: Option<Vec<T>>,
    /// `[4H]`
    pub bias: Option<Vec<T>>,
    /// `[3H]`
    pub peephole: Option<Vec<T>>,
    /// As [`LayerNorm`](crate::LayerNorm).
    pub layer_norm: Option<LayerNormGradients<T>>,
    /// `[B, P]`
    pub h0: Option<Vec<T>>,
    /// `[B, H]`
    pub c0: Option<Vec<T>>,
}

/// The gradients of layer normalization.
#[derive(Debug)]
pub struct LayerNormGradients<T> {
    /// Of the gains of what the input adds to the gates, `[4H]`.
    pub input: Vec<T>,
    /// Of the gains of what the hidden state adds to the gates, `[4H]`.
    pub hidden: Vec<T>,
    /// Of the gains of the cell state that is shown, `[H]`.
    pub cell: Vec<T>,
    /// Of what is added to it, `[H]`.
    pub cell_bias: Vec<T>,
}

/// Walks back over the whole sequence. `output` is what the forward pass wrote.
///
/// # Panics
///
/// If sizes do not fit each other, or `saved` comes from a pass that kept nothing.
pub fn backward<T: Real>(
    inputs: &Inputs<'_, T>,
    output: Series<'_, T>,
    saved: Saved<T>,
    cotangents: Cotangents<'_, T>,
    wanted: Wanted,
) -> Gradients<T> {
    let plan = saved.plan;
    let sizes = inputs.sizes;
    check(inputs, &output, &saved, &cotangents);
    let Sizes {
        batch,
        d_hidden,
        d_output,
        ..
    } = sizes;
    let layout = Layout::new(d_hidden, d_output, plan.set.lanes::<T>());
    let options = Options::new(&inputs.cell, inputs.bias, layout, plan.set);
    let backward = Backward::new(inputs, &options, plan, wanted);
    let carried = |of: Option<&[T]>, width: usize| match of {
        Some(rows) => fill_up(layout.lanes, width, rows),
        None => Buffer::zeros(batch * width.next_multiple_of(layout.lanes)),
    };
    let mut held = carried(cotangents.hidden, d_output);
    let mut d_cell = carried(cotangents.cell, d_hidden);
    let mut x = wanted
        .x
        .then(|| vec![T::default(); batch * sizes.steps * sizes.d_input]);
    let mut sums = WeightSums::new(inputs, output, layout, plan, wanted);
    let mut row_sums = RowSums::new(&options, layout, batch, wanted);

    // Forward again, for segments that were not kept.
    let again = (plan.keep == Keep::Boundaries).then(|| Forward::new(inputs, &options, plan));
    let mut boundaries = saved.boundaries;
    let mut segments = saved.segments;
    let mut later: Option<Segment<T>> = None;
    let visits: Vec<Range<usize>> = plan.segments(sizes.steps).collect();
    for visits in visits.into_iter().rev() {
        let mut before = boundaries.pop().expect("a state before each segment");
        let mut segment = match &again {
            None => segments.pop().expect("all segments are kept"),
            Some(forward) => {
                let mut segment = Segment::new(&options, layout, batch, visits.len());
                forward.run_segment(
                    visits.clone(),
                    &mut before,
                    &mut State::new(layout, batch),
                    &mut segment,
                    true,
                    None,
                );
                segment
            }
        };
        let mut room = (!options.is_plain)
            .then(|| Room::new(layout, batch, visits.len(), sums.wants_projected()));
        let run = SegmentRun {
            backward: &backward,
            first: visits.start,
            steps: visits.len(),
            is_last: visits.end == sizes.steps,
            gates: segment.gates.pointer(),
            cells: segment.cells.pointer(),
            norms: segment.norms.as_mut().map(Norms::pointers),
            cell_before: before.cell.pointer(),
            later: later.as_mut().map(Segment::recurrent_deltas),
            held: held.pointer(),
            d_cell: d_cell.pointer(),
            d_output: cotangents.output,
            row_sums: row_sums.pointers(),
            room: room.as_mut().map(Room::pointers),
        };
        run.step_back();
        if let Some(x) = &mut x {
            run.input_gradient(Pointer::of(x));
        }
        row_sums.add_up();
        let projected = room.as_ref().and_then(Room::projected);
        sums.add(visits, &segment, projected);
        later = Some(segment);
    }

    let h0 = wanted.h0.then(|| {
        let first = later.as_mut().expect("at least one step");
        backward.hidden_gradient(first.recurrent_deltas(), &held)
    });
    let c0 = wanted.c0.then(|| {
        let mut rows = vec![T::default(); batch * d_hidden];
        cut_down(layout.lanes, d_hidden, &d_cell, &mut rows);
        rows
    });
    let WeightGradients {
        weight_ih,
        weight_hh,
        weight_hr,
        bias,
    } = sums.finish();
    let (peephole, layer_norm) = row_sums.finish();
    Gradients {
        x,
        weight_ih,
        weight_hh,
        weight_hr,
        bias,
        peephole,
        layer_norm,
        h0,
        c0,
    }
}

fn check<T: Real>(
    inputs: &Inputs<'_, T>,
    output: &Series<'_, T>,
    saved: &Saved<T>,
    cotangents: &Cotangents<'_, T>,
) {
    inputs.check();
    let Sizes {
        batch,
        steps,
        d_hidden,
        d_output,
        ..
    } = inputs.sizes;
    assert_eq!(saved.sizes, inputs.sizes, "sizes of the forward pass");
    assert_ne!(saved.plan.keep, Keep::Nothing, "something was kept");
    for series in [Some(output), cotangents.output.as_ref()]
        .into_iter()
        .flatten()
    {
        assert_eq!(series.shape(), [batch, steps, d_output], "output, gradient");
    }
    for (state, width) in [(cotangents.hidden, d_output), (cotangents.cell, d_hidden)] {
        let found = state.map_or(batch * width, <[T]>::len);
        assert_eq!(found, batch * width, "gradient of a final state");
    }
}

/// The packed weights and all else that stays the same over the segments.
#[derive(Debug)]
struct Backward<'a, T> {
    inputs: &'a Inputs<'a, T>,
    options: &'a Options<'a, T>,
    plan: Plan,
    layout: Layout,
    /// From gates to hidden states.
    weight_hh: Packed<T>,
    /// From hidden states to what the cell shows.
    weight_hr: Option<Packed<T>>,
    /// From gates to the input.
    weight_ih: Option<Packed<T>>,
}

impl<'a, T: Real> Backward<'a, T> {
    fn new(
        inputs: &'a Inputs<'a, T>,
        options: &'a Options<'a, T>,
        plan: Plan,
        wanted: Wanted,
    ) -> Self {
        let Sizes {
            d_input,
            d_hidden,
            d_output,
            ..
        } = inputs.sizes;
        let layout = Layout::new(d_hidden, d_output, plan.set.lanes::<T>());
        let of_forget = Gate::Forget.offset(d_hidden)..Gate::Forget.offset(d_hidden) + d_hidden;
        let pack = |weight: &[T], width: usize| {
            pack_rows(plan, layout, weight, layout.gates_row(), width, |place| {
                let row = layout.weight_row_at(place)?;
                // A coupled forget gate has no gradient, whatever its weights are.
                (!options.coupled || !of_forget.contains(&row)).then_some(row)
            })
        };
        Self {
            inputs,
            options,
            plan,
            layout,
            weight_hh: pack(inputs.weight_hh, d_output),
            weight_hr: (inputs.cell.weight_hr)
                .map(|weight| pack_rows(plan, layout, weight, d_output, d_hidden, Some)),
            weight_ih: wanted.x.then(|| pack(inputs.weight_ih, d_input)),
        }
    }

    /// The gradient of the state before the first step, from that of its gates and what rows that
    /// never began still hold.
    fn hidden_gradient(&self, deltas: Pointer<T>, held: &Buffer<T>) -> Vec<T> {
        let Sizes {
            batch, d_output, ..
        } = self.inputs.sizes;
        let mut rows = vec![T::default(); batch * d_output];
        self.plan.set.run(ToHidden {
            backward: self,
            deltas,
            held: held.source(),
            to: Pointer::of(&mut rows),
        });
        rows
    }
}

/// A weight whose rows are `width` wide, for products with rows of `depth` numbers, to each of which
/// belongs the row `row_at` of the weight, or none.
fn pack_rows<T: Real>(
    plan: Plan,
    layout: Layout,
    weight: &[T],
    depth: usize,
    width: usize,
    row_at: impl Fn(usize) -> Option<usize> + Sync,
) -> Packed<T> {
    assert!(weight.len().is_multiple_of(width));
    let sizes = PackedSizes {
        depth,
        vectors: width.div_ceil(layout.lanes),
        widest: PANEL,
        lanes: layout.lanes,
    };
    let chunks = plan.chunks(weight.len());
    // SAFETY: the rows of a weight are `width` numbers each, and there is one where its beginning
    // lies within.
    unsafe {
        Packed::from_rows(
            sizes,
            chunks,
            width,
            |place| Some(&raw const weight[row_at(place)? * width]),
            None,
        )
    }
}

impl<T: Real> Segment<T> {
    /// The gradients of what the hidden state adds to the gates.
    fn recurrent_deltas(&mut self) -> Pointer<T> {
        match &mut self.norms {
            Some(norms) => norms.hidden.pointer(),
            None => self.gates.pointer(),
        }
    }
}

/// Room for a segment of cells that have something besides the four gates.
struct Room<T> {
    /// The gradients of new hidden states: of one step, or of all for the gradient of a projection.
    d_hidden: Buffer<T>,
    d_hidden_row: usize,
    /// Between two steps of `d_hidden`; 0 if they have the same room.
    of_step: usize,
    /// The gradients of what the cells show, where a projection lies in between.
    d_shown: Buffer<T>,
    scratch: Buffer<T>,
    /// What the cells show, for the gradient of a projection.
    shown: Option<Buffer<T>>,
}

/// Where it lies.
#[derive(Clone, Copy)]
struct RoomPointers<T> {
    d_hidden: Pointer<T>,
    d_hidden_row: usize,
    of_step: usize,
    d_shown: Pointer<T>,
    scratch: Pointer<T>,
    shown: Option<Pointer<T>>,
}

impl<T: Real> Room<T> {
    fn new(layout: Layout, batch: usize, steps: usize, wants_projected: bool) -> Self {
        let d_hidden_row = layout.hidden_row().next_multiple_of(LEFT_ROW);
        let of_step = if wants_projected {
            batch * d_hidden_row
        } else {
            0
        };
        Self {
            d_hidden: Buffer::zeros(batch * d_hidden_row + (steps - 1) * of_step),
            d_hidden_row,
            of_step,
            d_shown: Buffer::new(batch * layout.state_row()),
            scratch: Buffer::new(3 * batch * layout.state_row()),
            shown: wants_projected.then(|| Buffer::new(steps * batch * layout.state_row())),
        }
    }

    fn pointers(&mut self) -> RoomPointers<T> {
        RoomPointers {
            d_hidden: self.d_hidden.pointer(),
            d_hidden_row: self.d_hidden_row,
            of_step: self.of_step,
            d_shown: self.d_shown.pointer(),
            scratch: self.scratch.pointer(),
            shown: self.shown.as_mut().map(Buffer::pointer),
        }
    }

    fn projected(&self) -> Option<Projected<'_, T>> {
        Some(Projected {
            d_hidden: &self.d_hidden,
            d_hidden_row: self.d_hidden_row,
            shown: self.shown.as_ref()?,
        })
    }
}

/// One segment under way: every thread has the same view of it.
struct SegmentRun<'a, T> {
    backward: &'a Backward<'a, T>,
    first: usize,
    steps: usize,
    /// Whether no segment lies behind it in the order of visits.
    is_last: bool,
    gates: Pointer<T>,
    cells: Pointer<T>,
    norms: Option<NormPointers<T>>,
    /// Cell states before the segment.
    cell_before: Pointer<T>,
    /// The gradients of what hidden states add to the gates of the segment behind it.
    later: Option<Pointer<T>>,
    /// Gradients of hidden states that pass a step by: those of the final state, of rows that lack
    /// the step, and of what zoneout keeps.
    held: Pointer<T>,
    d_cell: Pointer<T>,
    d_output: Option<Series<'a, T>>,
    row_sums: RowSumPointers<T>,
    room: Option<RoomPointers<T>>,
}

impl<T: Real> SegmentRun<'_, T> {
    fn step_back(&self) {
        let Backward {
            inputs,
            options,
            plan,
            ref weight_hh,
            ..
        } = *self.backward;
        let batch = inputs.sizes.batch;
        let panels = weight_hh.panels().count();
        let step = |steps: Range<usize>, rows: Range<usize>, panels: Range<usize>| {
            let steps = StepsBack {
                segment: self,
                steps,
                rows,
                panels,
            };
            if options.is_plain {
                plan.set.run(PlainStepsBack(steps));
            } else {
                plan.set.run(RowStepsBack(steps));
            }
        };
        match plan.split(inputs.sizes, self.steps, panels, options.whole_rows()) {
            Split::Rows(chunks) => crew::run(1, chunks, |_, chunk| {
                step(0..self.steps, share(batch, chunks, chunk), 0..panels);
            }),
            Split::Units(chunks) => crew::run(self.steps, chunks, |phase, chunk| {
                let number = self.steps - 1 - phase;
                step(number..number + 1, 0..batch, share(panels, chunks, chunk));
            }),
        }
    }

    /// `δ W_ih` of all rows.
    fn input_gradient(&self, to: Pointer<T>) {
        let backward = self.backward;
        let sizes = backward.inputs.sizes;
        let [of_row, of_step] = distances(sizes, backward.inputs.batch_first, sizes.d_input);
        let rows = self.steps * sizes.batch;
        let chunks = backward
            .plan
            .chunks(rows * backward.layout.gates_row() * sizes.d_input);
        crew::run(1, chunks, |_, chunk| {
            backward.plan.set.run(ToInput {
                segment: self,
                rows: share(rows, chunks, chunk),
                to,
                of_row,
                of_step,
            });
        });
    }

    fn time(&self, step: usize) -> usize {
        let inputs = self.backward.inputs;
        inputs.walk.time(self.first + step, inputs.sizes.steps)
    }

    /// The first row of a step.
    fn first_row(&self, step: usize) -> usize {
        step * self.backward.inputs.sizes.batch
    }

    /// Gates, or their gradients, of the rows at a step.
    unsafe fn gates_at(&self, step: usize) -> Pointer<T> {
        let row = self.backward.layout.gates_row();
        unsafe { self.gates.add(self.first_row(step) * row) }
    }

    /// Whether no step lies behind this one.
    fn is_end(&self, step: usize) -> bool {
        self.is_last && step + 1 == self.steps
    }

    /// The gradients of what the hidden states after a step add to gates: those of the next step;
    /// they are not read at the end.
    unsafe fn next_deltas(&self, step: usize) -> Pointer<T> {
        let row = self.backward.layout.gates_row();
        let deltas = self.norms.map_or(self.gates, |norms| norms.hidden);
        if step + 1 < self.steps {
            unsafe { deltas.add(self.first_row(step + 1) * row) }
        } else {
            self.later.unwrap_or(deltas)
        }
    }

    unsafe fn cell_after(&self, step: usize) -> Pointer<T> {
        let row = self.backward.layout.state_row();
        unsafe { self.cells.add(self.first_row(step) * row) }
    }

    unsafe fn cell_before(&self, step: usize) -> Pointer<T> {
        match step {
            0 => self.cell_before,
            _ => unsafe { self.cell_after(step - 1) },
        }
    }

    /// How the gradients of hidden states come together at a step.
    fn arrive<const PLAIN: bool>(&self, step: usize) -> Arrive<'_, T, PLAIN> {
        let Backward {
            inputs,
            options,
            layout,
            ..
        } = *self.backward;
        let passes = inputs.walk.has_gaps() || (!PLAIN && options.keeps_hidden());
        Arrive {
            walk: inputs.walk,
            batch: inputs.sizes.batch,
            time: self.time(step),
            layout,
            options,
            held: (self.is_end(step) || passes).then_some(self.held),
            d_output: self.d_output,
        }
    }
}

/// Some steps, rows and units of a segment.
struct StepsBack<'a, T> {
    segment: &'a SegmentRun<'a, T>,
    steps: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// Steps back through them with the four gates alone, which follow the sums while these are still in
/// registers.
struct PlainStepsBack<'a, T>(StepsBack<'a, T>);

impl<T: Real> WithSimd for PlainStepsBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let StepsBack {
            segment,
            steps,
            rows,
            panels,
        } = self.0;
        let backward = segment.backward;
        let gates_row = backward.layout.gates_row();
        for step in steps.rev() {
            // SAFETY: all places lie within the segment's buffers. A thread writes what belongs to
            // its own rows and units, and reads gradients of other units' gates that were written
            // before the last barrier, or those of its own rows.
            unsafe {
                let next = segment.next_deltas(step);
                let mut epilogue = Retreat {
                    arrive: segment.arrive(step),
                    gates: segment.gates_at(step),
                    before: segment.cell_before(step),
                    after: segment.cell_after(step),
                    d_cell: segment.d_cell,
                };
                multiply(
                    simd,
                    rows.clone(),
                    panels.clone(),
                    if segment.is_end(step) { 0 } else { gates_row },
                    |row| next.add(row * gates_row).get().cast_const(),
                    &backward.weight_hh,
                    &mut epilogue,
                );
            }
        }
    }
}

/// Steps back through them with any cell: the product, then back through the projection, then the
/// rows.
struct RowStepsBack<'a, T>(StepsBack<'a, T>);

impl<T: Real> WithSimd for RowStepsBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let StepsBack {
            segment,
            steps,
            rows,
            panels,
        } = self.0;
        let backward = segment.backward;
        let Backward {
            inputs,
            options,
            layout,
            ..
        } = *backward;
        let (gates_row, state_row) = (layout.gates_row(), layout.state_row());
        let Some(room) = segment.room else {
            unreachable!("there is room where a cell is not plain");
        };
        let d_hidden_row = room.d_hidden_row;
        let of_panels = backward.weight_hh.panels();
        let vectors = of_panels.start(panels.start)..of_panels.start(panels.end);
        for step in steps.rev() {
            let time = segment.time(step);
            let valid = |row| inputs.walk.is_valid(time, row, inputs.sizes.batch);
            let arrive = segment.arrive::<false>(step);
            // SAFETY: as for plain steps; where whole rows are needed, a thread has rows of its own.
            unsafe {
                let d_hidden = room.d_hidden.add(step * room.of_step);
                write_product(
                    simd,
                    RowProduct {
                        rows: rows.clone(),
                        panels: panels.clone(),
                        depth: if segment.is_end(step) { 0 } else { gates_row },
                        left: Rows(segment.next_deltas(step).get(), gates_row),
                        right: &backward.weight_hh,
                        to: d_hidden,
                        distance: d_hidden_row,
                        width: layout.hidden_row(),
                        times: None,
                        plus: None,
                    },
                );
                for row in rows.clone() {
                    for vector in vectors.clone() {
                        let place = d_hidden.add(row * d_hidden_row + vector * layout.lanes);
                        let sums = load::<T, S>(place.get());
                        let arrived = arrive.units(simd, row, vector, valid(row), sums);
                        store::<T, S>(place.get(), arrived);
                    }
                }
                let mut d_shown = Rows(d_hidden.get().cast_const(), d_hidden_row);
                let mut units = vectors.clone();
                if let Some(weight_hr) = &backward.weight_hr {
                    write_product(
                        simd,
                        RowProduct {
                            rows: rows.clone(),
                            panels: 0..weight_hr.panels().count(),
                            depth: layout.d_output,
                            left: d_shown,
                            right: weight_hr,
                            to: room.d_shown,
                            distance: state_row,
                            width: state_row,
                            times: None,
                            plus: None,
                        },
                    );
                    d_shown = Rows(room.d_shown.get(), state_row);
                    units = 0..layout.units;
                }
                let first = segment.first_row(step);
                let row_step = RowStepBack {
                    options,
                    layout,
                    time,
                    gates: segment.gates_at(step),
                    norms: segment.norms.map(|norms| norms.at(first, gates_row)),
                    before: segment.cell_before(step),
                    after: segment.cell_after(step),
                    d_shown,
                    d_cell: segment.d_cell,
                    shown: room.shown.map(|shown| shown.add(first * state_row)),
                    scratch: room.scratch,
                    sums: segment.row_sums,
                };
                for row in rows.clone() {
                    row_step.row(simd, row, units.clone(), valid(row));
                }
            }
        }
    }
}

/// How the gradients of the hidden states after a step come together: from the sums
/// `δ W_hh` of the step behind it, what passes that step by, and the output.
struct Arrive<'a, T, const PLAIN: bool> {
    walk: Walk<'a>,
    batch: usize,
    time: usize,
    layout: Layout,
    options: &'a Options<'a, T>,
    held: Option<Pointer<T>>,
    d_output: Option<Series<'a, T>>,
}

impl<T: Real, const PLAIN: bool> Arrive<'_, T, PLAIN> {
    /// The gradient of the vector `vector` of row `row` of the new hidden state, before zoneout; 0 if
    /// the row has not the step.
    ///
    /// # Safety
    ///
    /// It must lie within the states, and be nobody else's.
    #[inline(always)]
    unsafe fn units<S: Simd>(
        &self,
        simd: S,
        row: usize,
        vector: usize,
        valid: bool,
        sums: T::V<S>,
    ) -> T::V<S> {
        let lanes = T::lanes::<S>();
        let zero = T::splat(simd, T::default());
        let place = row * self.layout.hidden_row() + vector * lanes;
        // SAFETY: the caller's.
        unsafe {
            let mut d_hidden = self.options.masked::<S, PLAIN>(simd, row, vector, sums);
            if let Some(held) = self.held {
                let held = held.add(place).get();
                d_hidden = T::add(simd, d_hidden, load::<T, S>(held));
                store::<T, S>(held, if valid { zero } else { d_hidden });
            }
            if !valid {
                return zero;
            }
            if let Some(d_output) = self.d_output {
                let from = d_output.at(self.time, row).add(vector * lanes);
                let shown = load_first(simd, from, self.layout.outputs_in(vector));
                d_hidden = T::add(simd, d_hidden, shown);
            }
            let kept = (self.options).kept_hidden::<S, PLAIN>(simd, self.time, row, vector);
            if let (Some(held), Some(kept)) = (self.held, kept) {
                store::<T, S>(held.add(place).get(), T::mul(simd, kept, d_hidden));
            }
            cell::changes::<T, S>(simd, d_hidden, kept)
        }
    }
}

/// One step back from the sums `δ W_hh` of the step behind it.
struct Retreat<'a, T> {
    arrive: Arrive<'a, T, true>,
    gates: Pointer<T>,
    before: Pointer<T>,
    after: Pointer<T>,
    d_cell: Pointer<T>,
}

impl<T: Real, S: Simd> Epilogue<T, S> for Retreat<'_, T> {
    #[inline(always)]
    unsafe fn row<const N: usize>(
        &mut self,
        simd: S,
        row: usize,
        vector: usize,
        sums: [T::V<S>; N],
    ) {
        let Arrive {
            walk,
            batch,
            time,
            layout,
            ..
        } = self.arrive;
        let lanes = T::lanes::<S>();
        let zero = T::splat(simd, T::default());
        let valid = walk.is_valid(time, row, batch);
        for (n, sum) in sums.into_iter().enumerate() {
            let units = vector + n;
            let place = row * layout.state_row() + units * lanes;
            // SAFETY: see `PlainStepsBack`.
            unsafe {
                let gates = self
                    .gates
                    .add(row * layout.gates_row() + units * COUNT * lanes);
                let d_shown = self.arrive.units(simd, row, units, valid, sum);
                if !valid {
                    for gate in 0..COUNT {
                        store::<T, S>(gates.add(gate * lanes).get(), zero);
                    }
                    continue;
                }
                let (before, after) = (self.before.add(place), self.after.add(place));
                let d_cell = self.d_cell.add(place);
                let known = known::<T, S>(simd, gates, before, after, d_cell, &Extra::NONE);
                let (deltas, d_before) = cell::backward::<T, S>(simd, known, d_shown, &Extra::NONE);
                store_deltas::<T, S>(simd, gates, layout.units_in(units), deltas);
                store::<T, S>(d_cell.get(), d_before);
            }
        }
    }
}

/// `δ W_ih` of some rows.
struct ToInput<'a, T> {
    segment: &'a SegmentRun<'a, T>,
    rows: Range<usize>,
    to: Pointer<T>,
    of_row: usize,
    of_step: usize,
}

impl<T: Real> WithSimd for ToInput<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let segment = self.segment;
        let backward = segment.backward;
        let Inputs { sizes, walk, .. } = *backward.inputs;
        let gates_row = backward.layout.gates_row();
        let Some(weight_ih) = &backward.weight_ih else {
            unreachable!("packed when the input's gradient is wanted");
        };
        let deltas = segment.norms.map_or(segment.gates, |norms| norms.input);
        // SAFETY: the segment has these rows of gates, the gradient a place for each of them, and
        // each thread writes its own.
        unsafe {
            let place = |row: usize| {
                let time = walk.time(segment.first + row / sizes.batch, sizes.steps);
                self.to
                    .add(time * self.of_step + row % sizes.batch * self.of_row)
                    .get()
            };
            multiply(
                simd,
                self.rows.clone(),
                0..weight_ih.panels().count(),
                gates_row,
                |row| deltas.add(row * gates_row).get().cast_const(),
                weight_ih,
                &mut StoreRows {
                    width: sizes.d_input,
                    place,
                    times: None,
                    plus: None,
                },
            );
        }
    }
}

/// `δ W_hh` of the first step, and what is held.
struct ToHidden<'a, T> {
    backward: &'a Backward<'a, T>,
    deltas: Pointer<T>,
    held: *const T,
    to: Pointer<T>,
}

impl<T: Real> WithSimd for ToHidden<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward {
            inputs,
            options,
            layout,
            weight_hh,
            ..
        } = self.backward;
        let (batch, d_output) = (inputs.sizes.batch, inputs.sizes.d_output);
        let (gates_row, hidden_row) = (layout.gates_row(), layout.hidden_row());
        let mask = options.hidden_mask.as_ref().map(Buffer::source);
        // SAFETY: there are `batch` rows of gates, held gradients, and places to write to.
        unsafe {
            write_product(
                simd,
                RowProduct {
                    rows: 0..batch,
                    panels: 0..weight_hh.panels().count(),
                    depth: gates_row,
                    left: Rows(self.deltas.get(), gates_row),
                    right: weight_hh,
                    to: self.to,
                    distance: d_output,
                    width: d_output,
                    times: mask.map(|mask| Rows(mask, hidden_row)),
                    plus: Some(Rows(self.held, hidden_row)),
                },
            );
        }
    }
}
