//! The backward pass of one layer and direction: step back through a segment, turning its gates
//! into their gradients where they lie, then form the gradients of weights and input.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::buffer::{Buffer, Pointer};
use crate::cell::{self, Known};
use crate::crew;
use crate::forward::{Forward, Inputs, Saved, Segment, State, cut_down, fill_up};
use crate::gates::COUNT;
use crate::layout::{Layout, Series, Sizes, Walk, distances};
use crate::plan::{Keep, Plan, Split};
use crate::real::Real;
use crate::tile::store_first;
use crate::tile::{Epilogue, PANEL, Packed, PackedSizes, load, load_first, multiply, share, store};
use crate::weights::{WeightGradients, WeightSums};

/// The gradients of what the forward pass wrote; absent ones are zero.
#[derive(Debug, Clone, Copy)]
pub struct Cotangents<'a, T> {
    /// `[B, T, H]`
    pub output: Option<Series<'a, T>>,
    /// `[B, H]`
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
    /// Of the bias.
    pub bias: bool,
    /// Of the hidden state before the first step.
    pub h0: bool,
    /// Of the cell state before the first step.
    pub c0: bool,
}

/// The gradients that are wanted, row by row without gaps.
#[derive(Debug)]
pub struct Gradients<T> {
    /// `[B, T, D]`, or `[T, B, D]` without `batch_first`.
    pub x: Option<Vec<T>>,
    /// `[4H, D]`
    pub weight_ih: Option<Vec<T>>,
    /// `[4H, H]`
    pub weight_hh: Option<Vec<T>>,
    /// `[4H]`
    pub bias: Option<Vec<T>>,
    /// `[B, H]`
    pub h0: Option<Vec<T>>,
    /// `[B, H]`
    pub c0: Option<Vec<T>>,
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
    let backward = Backward::new(inputs, plan, wanted);
    let layout = backward.layout;
    let carried = |of: Option<&[T]>| match of {
        Some(rows) => fill_up(layout, sizes.batch, rows),
        None => Buffer::zeros(sizes.batch * layout.state_row()),
    };
    let mut held = carried(cotangents.hidden);
    let mut d_cell = carried(cotangents.cell);
    let mut x = wanted
        .x
        .then(|| vec![T::default(); sizes.batch * sizes.steps * sizes.d_input]);
    let mut sums = WeightSums::new(inputs, output, layout, plan, wanted);

    // Forward again, for segments that were not kept.
    let again = (plan.keep == Keep::Boundaries).then(|| Forward::new(inputs, plan));
    let mut boundaries = saved.boundaries;
    let mut segments = saved.segments;
    let mut later: Option<Segment<T>> = None;
    let visits: Vec<Range<usize>> = plan.segments(sizes.steps).collect();
    for visits in visits.into_iter().rev() {
        let mut before = boundaries.pop().expect("a state before each segment");
        let mut segment = match &again {
            None => segments.pop().expect("all segments are kept"),
            Some(forward) => {
                let mut segment = Segment::new(layout, sizes.batch, visits.len());
                forward.run_segment(
                    visits.clone(),
                    &mut before,
                    &mut State::new(layout, sizes.batch),
                    &mut segment.gates,
                    Some(&mut segment.cells),
                    None,
                );
                segment
            }
        };
        let run = SegmentRun {
            backward: &backward,
            first: visits.start,
            steps: visits.len(),
            is_last: visits.end == sizes.steps,
            gates: segment.gates.pointer(),
            cells: segment.cells.pointer(),
            cell_before: before.cell.pointer(),
            later: later.as_mut().map(|later| later.gates.pointer()),
            held: held.pointer(),
            d_cell: d_cell.pointer(),
            d_output: cotangents.output,
        };
        run.step_back();
        if let Some(x) = &mut x {
            run.input_gradient(Pointer::of(x));
        }
        sums.add(visits, &segment);
        later = Some(segment);
    }

    let h0 = wanted.h0.then(|| {
        let first = later.as_ref().map(|segment| &segment.gates);
        backward.hidden_gradient(first.expect("at least one step"), &held)
    });
    let c0 = wanted.c0.then(|| {
        let mut rows = vec![T::default(); sizes.batch * sizes.d_hidden];
        cut_down(layout, &d_cell, &mut rows);
        rows
    });
    let WeightGradients {
        weight_ih,
        weight_hh,
        bias,
    } = sums.finish();
    Gradients {
        x,
        weight_ih,
        weight_hh,
        bias,
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
        ..
    } = inputs.sizes;
    assert_eq!(saved.sizes, inputs.sizes, "sizes of the forward pass");
    assert_ne!(saved.plan.keep, Keep::Nothing, "something was kept");
    for series in [Some(output), cotangents.output.as_ref()]
        .into_iter()
        .flatten()
    {
        assert_eq!(series.shape(), [batch, steps, d_hidden], "output, gradient");
    }
    for state in [cotangents.hidden, cotangents.cell].into_iter().flatten() {
        assert_eq!(state.len(), batch * d_hidden, "gradient of a final state");
    }
}

/// The packed weights and all else that stays the same over the segments.
#[derive(Debug)]
struct Backward<'a, T> {
    inputs: &'a Inputs<'a, T>,
    plan: Plan,
    layout: Layout,
    /// From gates to hidden units.
    weight_hh: Packed<T>,
    /// From gates to the input.
    weight_ih: Option<Packed<T>>,
}

impl<'a, T: Real> Backward<'a, T> {
    fn new(inputs: &'a Inputs<'a, T>, plan: Plan, wanted: Wanted) -> Self {
        let Sizes {
            d_input, d_hidden, ..
        } = inputs.sizes;
        let layout = Layout::new(d_hidden, plan.set.lanes::<T>());
        let pack = |weight: &[T], width: usize| {
            assert_eq!(weight.len(), COUNT * d_hidden * width);
            let sizes = PackedSizes {
                depth: layout.gates_row(),
                vectors: width.div_ceil(layout.lanes),
                widest: PANEL,
                lanes: layout.lanes,
            };
            let chunks = plan.chunks(weight.len());
            // SAFETY: the rows of a weight are `width` numbers each.
            unsafe {
                Packed::from_rows(sizes, chunks, width, |place| {
                    let row = layout.weight_row_at(place)?;
                    Some(weight[row * width..].as_ptr())
                })
            }
        };
        Self {
            inputs,
            plan,
            layout,
            weight_hh: pack(inputs.weight_hh, d_hidden),
            weight_ih: wanted.x.then(|| pack(inputs.weight_ih, d_input)),
        }
    }

    /// The gradient of the state before the first step, from that of its gates and what rows that
    /// never began still hold.
    fn hidden_gradient(&self, gates: &Buffer<T>, held: &Buffer<T>) -> Vec<T> {
        let Sizes {
            batch, d_hidden, ..
        } = self.inputs.sizes;
        let mut rows = vec![T::default(); batch * d_hidden];
        self.plan.set.run(ToHidden {
            backward: self,
            gates: gates.source(),
            held: held.source(),
            to: Pointer::of(&mut rows),
        });
        rows
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
    /// Cell states before the segment.
    cell_before: Pointer<T>,
    /// The gradients of the gates of the segment behind it.
    later: Option<Pointer<T>>,
    /// Gradients of hidden states that pass a step by: those of the final state, and of rows
    /// that have ended.
    held: Pointer<T>,
    d_cell: Pointer<T>,
    d_output: Option<Series<'a, T>>,
}

impl<T: Real> SegmentRun<'_, T> {
    fn step_back(&self) {
        let backward = self.backward;
        let sizes = backward.inputs.sizes;
        let panels = backward.weight_hh.panels().count();
        let set = backward.plan.set;
        match backward.plan.split(sizes, self.steps, panels) {
            Split::Rows(chunks) => crew::run(1, chunks, |_, chunk| {
                set.run(StepsBack {
                    segment: self,
                    steps: 0..self.steps,
                    rows: share(sizes.batch, chunks, chunk),
                    panels: 0..panels,
                });
            }),
            Split::Units(chunks) => crew::run(self.steps, chunks, |phase, chunk| {
                let step = self.steps - 1 - phase;
                set.run(StepsBack {
                    segment: self,
                    steps: step..step + 1,
                    rows: 0..sizes.batch,
                    panels: share(panels, chunks, chunk),
                });
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

    /// Gates, or their gradients, of the rows at a step.
    unsafe fn gates_at(&self, step: usize) -> Pointer<T> {
        let row = self.backward.layout.gates_row();
        unsafe {
            self.gates
                .add(step * self.backward.inputs.sizes.batch * row)
        }
    }

    unsafe fn cell_after(&self, step: usize) -> Pointer<T> {
        let row = self.backward.layout.state_row();
        unsafe {
            self.cells
                .add(step * self.backward.inputs.sizes.batch * row)
        }
    }
}

/// Steps back through some rows and units of a segment.
struct StepsBack<'a, T> {
    segment: &'a SegmentRun<'a, T>,
    steps: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl<T: Real> WithSimd for StepsBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let segment = self.segment;
        let backward = segment.backward;
        let layout = backward.layout;
        let walk = backward.inputs.walk;
        let gates_row = layout.gates_row();
        for step in self.steps.rev() {
            let time = walk.time(segment.first + step, backward.inputs.sizes.steps);
            let at_end = segment.is_last && step + 1 == segment.steps;
            // SAFETY: all places lie within the segment's buffers. A thread writes what belongs to
            // its own rows and units, and reads gradients of other units' gates that were written
            // before the last barrier, or those of its own rows.
            unsafe {
                let next = if step + 1 < segment.steps {
                    segment.gates_at(step + 1)
                } else {
                    segment.later.unwrap_or(segment.gates)
                };
                let mut epilogue = Retreat {
                    walk,
                    time,
                    layout,
                    gates: segment.gates_at(step),
                    before: match step {
                        0 => segment.cell_before,
                        _ => segment.cell_after(step - 1),
                    },
                    after: segment.cell_after(step),
                    held: (at_end || walk.lengths.is_some()).then_some(segment.held),
                    d_cell: segment.d_cell,
                    d_output: segment.d_output,
                };
                multiply(
                    simd,
                    self.rows.clone(),
                    self.panels.clone(),
                    if at_end { 0 } else { gates_row },
                    |row| next.add(row * gates_row).get().cast_const(),
                    &backward.weight_hh,
                    &mut epilogue,
                );
            }
        }
    }
}

/// One step back from the sums `δ W_hh` of the step behind it.
struct Retreat<'a, T> {
    walk: Walk<'a>,
    time: usize,
    layout: Layout,
    gates: Pointer<T>,
    before: Pointer<T>,
    after: Pointer<T>,
    held: Option<Pointer<T>>,
    d_cell: Pointer<T>,
    d_output: Option<Series<'a, T>>,
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
        let lanes = T::lanes::<S>();
        let zero = T::splat(simd, T::default());
        let valid = self.walk.is_valid(self.time, row);
        for (n, mut d_hidden) in sums.into_iter().enumerate() {
            let units = vector + n;
            let place = row * self.layout.state_row() + units * lanes;
            // SAFETY: see `StepsBack`.
            unsafe {
                let gates = self
                    .gates
                    .add(row * self.layout.gates_row() + units * COUNT * lanes);
                if let Some(held) = self.held {
                    let held = held.add(place).get();
                    d_hidden = T::add(simd, d_hidden, load::<T, S>(held));
                    store::<T, S>(held, if valid { zero } else { d_hidden });
                }
                if !valid {
                    for gate in 0..COUNT {
                        store::<T, S>(gates.add(gate * lanes).get(), zero);
                    }
                    continue;
                }
                if let Some(d_output) = self.d_output {
                    let from = d_output.at(self.time, row).add(units * lanes);
                    let shown = load_first(simd, from, self.layout.units_in(units));
                    d_hidden = T::add(simd, d_hidden, shown);
                }
                let d_cell = self.d_cell.add(place).get();
                let known = Known {
                    gates: std::array::from_fn(|gate| load::<T, S>(gates.add(gate * lanes).get())),
                    before: load::<T, S>(self.before.add(place).get()),
                    after: load::<T, S>(self.after.add(place).get()),
                    d_hidden,
                    d_cell: load::<T, S>(d_cell),
                };
                let (deltas, before) = cell::backward::<T, S>(simd, known);
                let count = self.layout.units_in(units);
                for (gate, delta) in deltas.into_iter().enumerate() {
                    let to = gates.add(gate * lanes).get();
                    if count < lanes {
                        // An infinite number times a filling zero is NaN, and must not get further.
                        store::<T, S>(to, zero);
                    }
                    store_first::<T, S>(to, count, delta);
                }
                store::<T, S>(d_cell, before);
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
                |row| segment.gates.add(row * gates_row).get().cast_const(),
                weight_ih,
                &mut StoreRows {
                    width: sizes.d_input,
                    place,
                    plus: None,
                },
            );
        }
    }
}

/// `δ W_hh` of the first step, and what is held.
struct ToHidden<'a, T> {
    backward: &'a Backward<'a, T>,
    gates: *const T,
    held: *const T,
    to: Pointer<T>,
}

impl<T: Real> WithSimd for ToHidden<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward {
            inputs,
            layout,
            weight_hh,
            ..
        } = self.backward;
        let (batch, d_hidden) = (inputs.sizes.batch, inputs.sizes.d_hidden);
        let (gates, to) = (self.gates, self.to);
        let gates_row = layout.gates_row();
        // SAFETY: there are `batch` rows of gates, held gradients, and places to write to.
        unsafe {
            multiply(
                simd,
                0..batch,
                0..weight_hh.panels().count(),
                gates_row,
                |row| gates.add(row * gates_row),
                weight_hh,
                &mut StoreRows {
                    width: d_hidden,
                    place: |row: usize| to.add(row * d_hidden).get(),
                    plus: Some((self.held, layout.state_row())),
                },
            );
        }
    }
}

/// Writes rows of `width` numbers to `place(row)`.
struct StoreRows<T, P> {
    width: usize,
    place: P,
    /// Rows to add, and the distance between them.
    plus: Option<(*const T, usize)>,
}

impl<T: Real, S: Simd, P: Fn(usize) -> *mut T> Epilogue<T, S> for StoreRows<T, P> {
    #[inline(always)]
    unsafe fn row<const N: usize>(
        &mut self,
        simd: S,
        row: usize,
        vector: usize,
        sums: [T::V<S>; N],
    ) {
        let lanes = T::lanes::<S>();
        for (n, mut sum) in sums.into_iter().enumerate() {
            let from = (vector + n) * lanes;
            unsafe {
                if let Some((plus, distance)) = self.plus {
                    let plus = load::<T, S>(plus.add(row * distance + from));
                    sum = T::add(simd, sum, plus);
                }
                let to = (self.place)(row).add(from);
                store_first::<T, S>(to, self.width - from, sum);
            }
        }
    }
}
