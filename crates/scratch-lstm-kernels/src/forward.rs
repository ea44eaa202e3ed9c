//! The forward pass of one layer and direction: project a segment of time, then step through it.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::buffer::{Buffer, Pointer};
use crate::cell;
use crate::crew;
use crate::direct;
use crate::gates::COUNT;
use crate::layout::{Layout, Series, Sizes, Walk, distances};
use crate::plan::{Keep, Plan, Split};
use crate::real::Real;
use crate::tile::{self, Epilogue, PANEL, Packed, PackedSizes, load, multiply, share, store};

/// More than any instruction set fills a row of states up with.
const PADDING: usize = 64;

/// What one layer and direction reads.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a, T> {
    /// `B`, `T`, `D`, `H`
    pub sizes: Sizes,
    /// The direction, and where rows end.
    pub walk: Walk<'a>,
    /// Whether the output and the input's gradient are `[B, T, _]` in memory; `[T, B, _]` otherwise.
    pub batch_first: bool,
    /// `[B, T, D]`
    pub x: Series<'a, T>,
    /// `[4H, D]`
    pub weight_ih: &'a [T],
    /// `[4H, H]`
    pub weight_hh: &'a [T],
    /// `[4H]`
    pub bias: &'a [T],
    /// `[B, H]`
    pub h0: &'a [T],
    /// `[B, H]`
    pub c0: &'a [T],
}

/// What it writes.
#[derive(Debug)]
pub struct Outputs<'a, T> {
    /// `[B, T, H]`, or `[T, B, H]` without `batch_first`.
    pub output: &'a mut [T],
    /// The final hidden state, `[B, H]`.
    pub hidden: &'a mut [T],
    /// The final cell state, `[B, H]`.
    pub cell: &'a mut [T],
}

/// What the way back needs.
#[derive(Debug)]
pub struct Saved<T> {
    pub(crate) sizes: Sizes,
    pub(crate) plan: Plan,
    /// Of every segment, if everything is kept.
    pub(crate) segments: Vec<Segment<T>>,
    /// The state before every segment.
    pub(crate) boundaries: Vec<State<T>>,
}

/// Activated gates and cell states after each step of a segment, step by step.
#[derive(Debug)]
pub(crate) struct Segment<T> {
    pub(crate) gates: Buffer<T>,
    pub(crate) cells: Buffer<T>,
}

/// Hidden and cell state of all rows, in the layout's rows.
#[derive(Debug)]
pub(crate) struct State<T> {
    pub(crate) hidden: Buffer<T>,
    pub(crate) cell: Buffer<T>,
}

impl<T: Real> Inputs<'_, T> {
    /// # Panics
    ///
    /// If sizes do not fit each other: the kernels rely on them.
    pub(crate) fn check(&self) {
        let Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
        } = self.sizes;
        let sizes = [batch, steps, d_input, d_hidden];
        assert!(
            sizes.iter().all(|&size| size > 0),
            "no axis may be empty: {sizes:?}"
        );
        let numbers = [batch, steps, COUNT, d_input.max(d_hidden) + PADDING]
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size));
        assert!(
            numbers.is_some_and(|numbers| numbers < isize::MAX as usize / size_of::<T>()),
            "sizes that can be counted: {sizes:?}"
        );
        assert_eq!(self.x.shape(), [batch, steps, d_input], "input");
        for (what, found, expected) in [
            (
                "weight_ih",
                self.weight_ih.len(),
                COUNT * d_hidden * d_input,
            ),
            (
                "weight_hh",
                self.weight_hh.len(),
                COUNT * d_hidden * d_hidden,
            ),
            ("bias", self.bias.len(), COUNT * d_hidden),
            ("h0", self.h0.len(), batch * d_hidden),
            ("c0", self.c0.len(), batch * d_hidden),
        ] {
            assert_eq!(found, expected, "numbers in {what}");
        }
        if let Some(lengths) = self.walk.lengths {
            assert_eq!(lengths.len(), batch, "a length for each row");
            let longest = lengths.iter().max();
            assert!(longest.is_none_or(|&length| length <= steps), "lengths");
        }
    }
}

/// Runs over the whole sequence.
///
/// # Panics
///
/// If sizes do not fit each other.
pub fn forward<T: Real>(inputs: &Inputs<'_, T>, outputs: Outputs<'_, T>, plan: Plan) -> Saved<T> {
    inputs.check();
    let Sizes {
        batch,
        steps,
        d_hidden,
        ..
    } = inputs.sizes;
    assert_eq!(
        outputs.output.len(),
        batch * steps * d_hidden,
        "numbers in the output"
    );
    assert_eq!(outputs.hidden.len(), batch * d_hidden, "final hidden state");
    assert_eq!(outputs.cell.len(), batch * d_hidden, "final cell state");
    if plan.keep == Keep::Nothing && direct::suits(inputs.sizes) {
        direct::run(inputs, outputs, plan);
        return Saved {
            sizes: inputs.sizes,
            plan,
            segments: Vec::new(),
            boundaries: Vec::new(),
        };
    }
    let forward = Forward::new(inputs, plan);
    let (sizes, layout) = (inputs.sizes, forward.layout);
    let [of_row, of_step] = distances(sizes, inputs.batch_first, d_hidden);
    let target = Target {
        to: Pointer::of(outputs.output),
        of_row,
        of_step,
    };
    let mut state = State::read(layout, sizes.batch, inputs.h0, inputs.c0);
    let mut saved = Saved {
        sizes,
        plan,
        segments: Vec::new(),
        boundaries: Vec::new(),
    };
    let mut scratch = (plan.keep != Keep::Everything)
        .then(|| Buffer::new(plan.segment * sizes.batch * layout.gates_row()));
    for visits in plan.segments(sizes.steps) {
        let mut after = State::new(layout, sizes.batch);
        match &mut scratch {
            None => {
                let mut segment = Segment::new(layout, sizes.batch, visits.len());
                forward.run_segment(
                    visits,
                    &mut state,
                    &mut after,
                    &mut segment.gates,
                    Some(&mut segment.cells),
                    Some(target),
                );
                saved.segments.push(segment);
            }
            Some(gates) => {
                forward.run_segment(visits, &mut state, &mut after, gates, None, Some(target));
            }
        }
        let before = std::mem::replace(&mut state, after);
        if plan.keep != Keep::Nothing {
            saved.boundaries.push(before);
        }
    }
    state.write(layout, outputs.hidden, outputs.cell);
    saved
}

/// Where outputs go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<T> {
    to: Pointer<T>,
    of_row: usize,
    of_step: usize,
}

/// The packed weights and all else that stays the same over the segments.
#[derive(Debug)]
pub(crate) struct Forward<'a, T> {
    inputs: &'a Inputs<'a, T>,
    plan: Plan,
    pub(crate) layout: Layout,
    weight_ih: Packed<T>,
    weight_hh: Packed<T>,
    /// In the order of a row of gates.
    bias: Buffer<T>,
}

impl<'a, T: Real> Forward<'a, T> {
    pub(crate) fn new(inputs: &'a Inputs<'a, T>, plan: Plan) -> Self {
        let Sizes {
            d_input, d_hidden, ..
        } = inputs.sizes;
        let layout = Layout::new(d_hidden, plan.set.lanes::<T>());
        let pack = |weight: &[T], depth: usize| {
            let sizes = PackedSizes {
                depth,
                vectors: layout.gate_vectors(),
                widest: PANEL,
                lanes: layout.lanes,
            };
            let chunks = plan.chunks(weight.len());
            Packed::from_columns(sizes, chunks, |vector, lane| {
                let row = layout.weight_row(vector, lane)?;
                Some(&weight[row * depth..(row + 1) * depth])
            })
        };
        Self {
            inputs,
            plan,
            layout,
            weight_ih: pack(inputs.weight_ih, d_input),
            weight_hh: pack(inputs.weight_hh, d_hidden),
            bias: layout.gates_of(inputs.bias),
        }
    }

    /// The visits `visits`, from the state `before` to `after`. `cells` keeps what the way back
    /// needs, and then `gates` too; without it `gates` is scratch.
    pub(crate) fn run_segment(
        &self,
        visits: Range<usize>,
        before: &mut State<T>,
        after: &mut State<T>,
        gates: &mut Buffer<T>,
        cells: Option<&mut Buffer<T>>,
        target: Option<Target<T>>,
    ) {
        let Sizes {
            batch, d_hidden, ..
        } = self.inputs.sizes;
        let layout = self.layout;
        let rows = visits.len() * batch;
        assert!(gates.len() >= rows * layout.gates_row());
        assert!(
            cells
                .as_ref()
                .is_none_or(|cells| cells.len() >= rows * layout.state_row())
        );
        let mut between = Buffer::new(batch * layout.state_row());
        let segment = SegmentRun {
            forward: self,
            first: visits.start,
            gates: gates.pointer(),
            keeps: cells.is_some(),
            cells: cells.map(Buffer::pointer),
            before: before.pointers(),
            after: after.pointers(),
            between: between.pointer(),
            steps: visits.len(),
            target,
        };

        let chunks = self
            .plan
            .chunks(rows * COUNT * d_hidden * self.weight_ih.depth());
        let set = self.plan.set;
        crew::run(1, chunks, |_, chunk| {
            set.run(Project {
                segment: &segment,
                rows: share(rows, chunks, chunk),
            });
        });

        let panels = self.weight_hh.panels().count();
        match self.plan.split(self.inputs.sizes, visits.len(), panels) {
            Split::Rows(chunks) => crew::run(1, chunks, |_, chunk| {
                set.run(Steps {
                    segment: &segment,
                    steps: 0..visits.len(),
                    rows: share(batch, chunks, chunk),
                    panels: 0..panels,
                });
            }),
            Split::Units(chunks) => crew::run(visits.len(), chunks, |step, chunk| {
                set.run(Steps {
                    segment: &segment,
                    steps: step..step + 1,
                    rows: 0..batch,
                    panels: share(panels, chunks, chunk),
                });
            }),
        }
    }
}

/// One segment under way: every thread has the same view of it.
struct SegmentRun<'a, T> {
    forward: &'a Forward<'a, T>,
    first: usize,
    steps: usize,
    gates: Pointer<T>,
    keeps: bool,
    cells: Option<Pointer<T>>,
    before: StatePointers<T>,
    after: StatePointers<T>,
    /// Hidden states of every other step.
    between: Pointer<T>,
    target: Option<Target<T>>,
}

impl<T: Real> SegmentRun<'_, T> {
    fn batch(&self) -> usize {
        self.forward.inputs.sizes.batch
    }

    /// Gates of the rows at a step.
    unsafe fn gates_at(&self, step: usize) -> Pointer<T> {
        let row = self.forward.layout.gates_row();
        unsafe { self.gates.add(step * self.batch() * row) }
    }

    /// Hidden states after a step: they alternate between two places, and the last step's is that
    /// of the segment.
    fn hidden_after(&self, step: usize) -> Pointer<T> {
        if (self.steps - 1 - step).is_multiple_of(2) {
            self.after.hidden
        } else {
            self.between
        }
    }

    fn hidden_before(&self, step: usize) -> Pointer<T> {
        match step {
            0 => self.before.hidden,
            _ => self.hidden_after(step - 1),
        }
    }

    /// Cell states after a step.
    unsafe fn cell_after(&self, step: usize) -> Pointer<T> {
        let row = self.forward.layout.state_row();
        match self.cells {
            Some(cells) => unsafe { cells.add(step * self.batch() * row) },
            None => self.after.cell,
        }
    }

    unsafe fn cell_before(&self, step: usize) -> Pointer<T> {
        match step {
            0 => self.before.cell,
            _ => unsafe { self.cell_after(step - 1) },
        }
    }
}

/// Projects some rows of a segment: `x W_ihᵀ + b` in the places of the gates.
struct Project<'a, T> {
    segment: &'a SegmentRun<'a, T>,
    rows: Range<usize>,
}

impl<T: Real> WithSimd for Project<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { segment, rows } = self;
        let forward = segment.forward;
        let Inputs { sizes, walk, x, .. } = *forward.inputs;
        let (first, batch) = (segment.first, sizes.batch);
        let mut epilogue = AddBias {
            to: segment.gates,
            row: forward.layout.gates_row(),
            bias: forward.bias.source(),
        };
        // SAFETY: rows of `x` are `D` numbers, checked when the series was made; those of the
        // gates lie in the segment, and each thread writes its own.
        unsafe {
            multiply(
                simd,
                rows,
                0..forward.weight_ih.panels().count(),
                sizes.d_input,
                |row| x.at(walk.time(first + row / batch, sizes.steps), row % batch),
                &forward.weight_ih,
                &mut epilogue,
            );
        }
    }
}

struct AddBias<T> {
    to: Pointer<T>,
    row: usize,
    bias: *const T,
}

impl<T: Real, S: Simd> Epilogue<T, S> for AddBias<T> {
    #[inline(always)]
    unsafe fn row<const N: usize>(
        &mut self,
        simd: S,
        row: usize,
        vector: usize,
        sums: [T::V<S>; N],
    ) {
        let lanes = T::lanes::<S>();
        for (n, sum) in sums.into_iter().enumerate() {
            let place = (vector + n) * lanes;
            unsafe {
                let bias = load::<T, S>(self.bias.add(place));
                let to = self.to.add(row * self.row + place).get();
                store::<T, S>(to, T::add(simd, sum, bias));
            }
        }
    }
}

/// Steps through some rows and units of a segment.
struct Steps<'a, T> {
    segment: &'a SegmentRun<'a, T>,
    steps: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl<T: Real> WithSimd for Steps<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let segment = self.segment;
        let forward = segment.forward;
        let layout = forward.layout;
        let state_row = layout.state_row();
        for step in self.steps {
            let steps = forward.inputs.sizes.steps;
            let time = forward.inputs.walk.time(segment.first + step, steps);
            let before = segment.hidden_before(step);
            // SAFETY: all places lie within the segment's buffers and the states. A thread writes
            // what belongs to its own rows and units, and reads hidden states of other units that
            // were written before the last barrier, or those of its own rows.
            unsafe {
                let mut epilogue = Advance {
                    walk: forward.inputs.walk,
                    time,
                    layout,
                    gates: segment.gates_at(step),
                    keeps: segment.keeps,
                    hidden_before: before,
                    hidden_after: segment.hidden_after(step),
                    cell_before: segment.cell_before(step),
                    cell_after: segment.cell_after(step),
                    last_cell: (segment.keeps && step + 1 == segment.steps)
                        .then_some(segment.after.cell),
                    target: segment.target,
                };
                multiply(
                    simd,
                    self.rows.clone(),
                    self.panels.clone(),
                    layout.d_hidden,
                    |row| before.add(row * state_row).get().cast_const(),
                    &forward.weight_hh,
                    &mut epilogue,
                );
            }
        }
    }
}

/// One step from the recurrent sums.
struct Advance<'a, T> {
    walk: Walk<'a>,
    time: usize,
    layout: Layout,
    gates: Pointer<T>,
    keeps: bool,
    hidden_before: Pointer<T>,
    hidden_after: Pointer<T>,
    cell_before: Pointer<T>,
    cell_after: Pointer<T>,
    /// Where the last cell state of the segment goes besides.
    last_cell: Option<Pointer<T>>,
    target: Option<Target<T>>,
}

impl<T: Real, S: Simd> Epilogue<T, S> for Advance<'_, T> {
    #[inline(always)]
    unsafe fn row<const N: usize>(
        &mut self,
        simd: S,
        row: usize,
        vector: usize,
        sums: [T::V<S>; N],
    ) {
        if N != COUNT {
            unreachable!("a panel of gates is the four gates of a vector of units");
        }
        let lanes = T::lanes::<S>();
        let unit = vector / COUNT * lanes;
        let place = row * self.layout.state_row() + unit;
        // SAFETY: see `Steps`.
        unsafe {
            let gates = self
                .gates
                .add(row * self.layout.gates_row() + vector * lanes);
            let cell = load::<T, S>(self.cell_before.add(place).get());
            let valid = self.walk.is_valid(self.time, row);
            let step = if valid {
                let sums = std::array::from_fn(|gate| {
                    let projected = load::<T, S>(gates.add(gate * lanes).get());
                    T::add(simd, projected, sums[gate])
                });
                cell::forward::<T, S>(simd, sums, cell)
            } else {
                // A row that has ended keeps its state. Its gates are never used.
                let zero = T::splat(simd, T::default());
                cell::Step {
                    gates: [zero; COUNT],
                    cell,
                    hidden: load::<T, S>(self.hidden_before.add(place).get()),
                }
            };
            if self.keeps {
                for (gate, activated) in step.gates.into_iter().enumerate() {
                    store::<T, S>(gates.add(gate * lanes).get(), activated);
                }
            }
            store::<T, S>(self.cell_after.add(place).get(), step.cell);
            if let Some(last) = self.last_cell {
                store::<T, S>(last.add(place).get(), step.cell);
            }
            store::<T, S>(self.hidden_after.add(place).get(), step.hidden);
            if let Some(target) = self.target {
                let shown = if valid {
                    step.hidden
                } else {
                    T::splat(simd, T::default())
                };
                let to = target
                    .to
                    .add(self.time * target.of_step + row * target.of_row + unit);
                let count = self.layout.units_in(vector / COUNT);
                tile::store_first::<T, S>(to.get(), count, shown);
            }
        }
    }
}

/// Where a state lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatePointers<T> {
    pub(crate) hidden: Pointer<T>,
    pub(crate) cell: Pointer<T>,
}

impl<T: Real> State<T> {
    /// Room for a state.
    pub(crate) fn new(layout: Layout, batch: usize) -> Self {
        Self {
            hidden: Buffer::new(batch * layout.state_row()),
            cell: Buffer::new(batch * layout.state_row()),
        }
    }

    /// From `[B, H]` each.
    pub(crate) fn read(layout: Layout, batch: usize, hidden: &[T], cell: &[T]) -> Self {
        Self {
            hidden: fill_up(layout, batch, hidden),
            cell: fill_up(layout, batch, cell),
        }
    }

    /// To `[B, H]` each.
    pub(crate) fn write(&self, layout: Layout, hidden: &mut [T], cell: &mut [T]) {
        cut_down(layout, &self.hidden, hidden);
        cut_down(layout, &self.cell, cell);
    }

    pub(crate) fn pointers(&mut self) -> StatePointers<T> {
        StatePointers {
            hidden: self.hidden.pointer(),
            cell: self.cell.pointer(),
        }
    }
}

impl<T: Real> Segment<T> {
    pub(crate) fn new(layout: Layout, batch: usize, steps: usize) -> Self {
        Self {
            gates: Buffer::new(steps * batch * layout.gates_row()),
            cells: Buffer::new(steps * batch * layout.state_row()),
        }
    }
}

/// Rows `[B, H]` as rows of the layout, filled up with zeros.
pub(crate) fn fill_up<T: Real>(layout: Layout, batch: usize, rows: &[T]) -> Buffer<T> {
    let mut buffer = Buffer::zeros(batch * layout.state_row());
    for (row, numbers) in rows.chunks_exact(layout.d_hidden).enumerate() {
        // SAFETY: a row of the layout is at least `H` wide, and there are `batch` of them.
        unsafe {
            let to = buffer.pointer().add(row * layout.state_row()).get();
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, numbers.len());
        }
    }
    buffer
}

/// The other way.
pub(crate) fn cut_down<T: Real>(layout: Layout, buffer: &Buffer<T>, rows: &mut [T]) {
    for (row, numbers) in rows.chunks_exact_mut(layout.d_hidden).enumerate() {
        assert!((row + 1) * layout.state_row() <= buffer.len());
        // SAFETY: as checked; the kernels have written all rows.
        unsafe {
            let from = buffer.source().add(row * layout.state_row());
            std::ptr::copy_nonoverlapping(from, numbers.as_mut_ptr(), numbers.len());
        }
    }
}
