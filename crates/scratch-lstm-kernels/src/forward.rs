//! The forward pass of one layer and direction: project a segment of time, then step through it.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::buffer::{Buffer, Pointer};
use crate::cell::{self, Extra};
use crate::crew;
use crate::direct;
use crate::gates::COUNT;
use crate::layout::{Layout, Series, Sizes, Valid, Walk, distances};
use crate::options::{Cell, Options, cut_down, fill_up};
use crate::plan::{Keep, Plan, Split};
use crate::real::Real;
use crate::rows::{NormedInput, RowStep};
use crate::tile::{
    Epilogue, PANEL, Packed, PackedSizes, RowProduct, Rows, load, multiply, share, store,
    store_first, write_product,
};

/// More than any instruction set fills a row of states up with.
const PADDING: usize = 64;

/// What one layer and direction reads.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a, T> {
    /// `B`, `T`, `D`, `H`, `P`
    pub sizes: Sizes,
    /// The direction, and which steps are valid.
    pub walk: Walk<'a>,
    /// Whether the output and the input's gradient are `[B, T, _]` in memory; `[T, B, _]` otherwise.
    pub batch_first: bool,
    /// `[B, T, D]`
    pub x: Series<'a, T>,
    /// `[4H, D]`
    pub weight_ih: &'a [T],
    /// `[4H, P]`
    pub weight_hh: &'a [T],
    /// `[4H]`
    pub bias: &'a [T],
    /// `[B, P]`
    pub h0: &'a [T],
    /// `[B, H]`
    pub c0: &'a [T],
    /// What the cell has besides.
    pub cell: Cell<'a, T>,
}

/// What it writes.
#[derive(Debug)]
pub struct Outputs<'a, T> {
    /// `[B, T, P]`, or `[T, B, P]` without `batch_first`.
    pub output: &'a mut [T],
    /// The final hidden state, `[B, P]`.
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

/// What is kept of a segment, step by step.
#[derive(Debug)]
pub(crate) struct Segment<T> {
    /// Activated gates.
    pub(crate) gates: Buffer<T>,
    /// Cell states after each step.
    pub(crate) cells: Buffer<T>,
    /// With layer normalization.
    pub(crate) norms: Option<Norms<T>>,
}

/// What input and hidden state add to the gates, normalized, without gains: rows of gates. And what
/// they were scaled with, two numbers for each row.
#[derive(Debug)]
pub(crate) struct Norms<T> {
    pub(crate) input: Buffer<T>,
    pub(crate) hidden: Buffer<T>,
    pub(crate) scales: Buffer<T>,
}

/// Where they lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormPointers<T> {
    pub(crate) input: Pointer<T>,
    pub(crate) hidden: Pointer<T>,
    pub(crate) scales: Pointer<T>,
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
            d_output,
        } = self.sizes;
        let sizes = [batch, steps, d_input, d_hidden, d_output];
        assert!(
            sizes.iter().all(|&size| size > 0),
            "no axis may be empty: {sizes:?}"
        );
        let widest = d_input.max(d_hidden).max(d_output);
        let numbers = [batch, steps, COUNT, widest.saturating_add(PADDING)]
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
                COUNT * d_hidden * d_output,
            ),
            ("bias", self.bias.len(), COUNT * d_hidden),
            ("h0", self.h0.len(), batch * d_output),
            ("c0", self.c0.len(), batch * d_hidden),
        ] {
            assert_eq!(found, expected, "numbers in {what}");
        }
        match self.walk.valid {
            Valid::All => {}
            Valid::Lengths(lengths) => {
                assert_eq!(lengths.len(), batch, "a length for each row");
                let longest = lengths.iter().max();
                assert!(longest.is_none_or(|&length| length <= steps), "lengths");
            }
            Valid::Mask(mask) => {
                assert_eq!(mask.len(), steps * batch, "a mask of each step and row");
            }
        }
        self.cell.check(self.sizes);
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
        d_output,
        ..
    } = inputs.sizes;
    assert_eq!(
        outputs.output.len(),
        batch * steps * d_output,
        "numbers in the output"
    );
    assert_eq!(outputs.hidden.len(), batch * d_output, "final hidden state");
    assert_eq!(outputs.cell.len(), batch * d_hidden, "final cell state");
    if plan.keep == Keep::Nothing && inputs.cell.is_plain() && direct::suits(inputs.sizes) {
        direct::run(inputs, outputs, plan);
        return Saved {
            sizes: inputs.sizes,
            plan,
            segments: Vec::new(),
            boundaries: Vec::new(),
        };
    }
    let layout = Layout::new(d_hidden, d_output, plan.set.lanes::<T>());
    let options = Options::new(&inputs.cell, inputs.bias, layout, plan.set);
    let forward = Forward::new(inputs, &options, plan);
    let sizes = inputs.sizes;
    let [of_row, of_step] = distances(sizes, inputs.batch_first, d_output);
    let target = Target {
        to: Pointer::of(outputs.output),
        of_row,
        of_step,
    };
    let mut state = State::read(layout, inputs.h0, inputs.c0);
    let mut saved = Saved {
        sizes,
        plan,
        segments: Vec::new(),
        boundaries: Vec::new(),
    };
    let keeps = plan.keep == Keep::Everything;
    let mut scratch = (!keeps).then(|| Segment::scratch(layout, batch, plan.segment));
    for visits in plan.segments(steps) {
        let mut after = State::new(layout, batch);
        match &mut scratch {
            None => {
                let mut segment = Segment::new(&options, layout, batch, visits.len());
                forward.run_segment(
                    visits,
                    &mut state,
                    &mut after,
                    &mut segment,
                    keeps,
                    Some(target),
                );
                saved.segments.push(segment);
            }
            Some(segment) => {
                forward.run_segment(visits, &mut state, &mut after, segment, keeps, Some(target));
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
    options: &'a Options<'a, T>,
    plan: Plan,
    layout: Layout,
    weight_ih: Packed<T>,
    weight_hh: Packed<T>,
    /// From what the cell shows to the hidden state.
    weight_hr: Option<Packed<T>>,
    /// In the order of a row of gates; zeros with layer normalization, which adds it later.
    bias: Buffer<T>,
}

impl<'a, T: Real> Forward<'a, T> {
    pub(crate) fn new(inputs: &'a Inputs<'a, T>, options: &'a Options<'a, T>, plan: Plan) -> Self {
        let Sizes {
            d_input,
            d_hidden,
            d_output,
            ..
        } = inputs.sizes;
        let layout = Layout::new(d_hidden, d_output, plan.set.lanes::<T>());
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
            options,
            plan,
            layout,
            weight_ih: pack(inputs.weight_ih, d_input),
            weight_hh: pack(inputs.weight_hh, d_output),
            weight_hr: (inputs.cell.weight_hr)
                .map(|weight| pack_projection(layout, plan.chunks(weight.len()), weight)),
            bias: match options.norm {
                None => layout.gates_of(inputs.bias),
                Some(_) => Buffer::zeros(layout.gates_row()),
            },
        }
    }

    /// The visits `visits`, from the state `before` to `after`. `keeps` what the way back needs in
    /// `segment`; its gates are scratch otherwise.
    pub(crate) fn run_segment(
        &self,
        visits: Range<usize>,
        before: &mut State<T>,
        after: &mut State<T>,
        segment: &mut Segment<T>,
        keeps: bool,
        target: Option<Target<T>>,
    ) {
        let Sizes {
            batch, d_hidden, ..
        } = self.inputs.sizes;
        let (layout, options) = (self.layout, self.options);
        let rows = visits.len() * batch;
        assert!(segment.gates.len() >= rows * layout.gates_row());
        assert!(!keeps || segment.cells.len() >= rows * layout.state_row());
        let mut between = Buffer::new(batch * layout.hidden_row());
        let mut masked = (options.hidden_mask.as_ref()).map(|mask| {
            let first = product(&before.hidden, mask);
            [first, Buffer::new(batch * layout.hidden_row())]
        });
        let mut room = (!options.is_plain).then(|| Room {
            sums: Buffer::new(batch * layout.gates_row()),
            scratch: Buffer::new(batch * layout.state_row()),
            shown: Buffer::new(batch * layout.state_row()),
        });
        let run = SegmentRun {
            forward: self,
            first: visits.start,
            gates: segment.gates.pointer(),
            keeps,
            cells: keeps.then(|| segment.cells.pointer()),
            norms: segment.norms.as_mut().map(Norms::pointers),
            before: before.pointers(),
            after: after.pointers(),
            between: between.pointer(),
            masked: (masked.as_mut()).map(|both| both.each_mut().map(Buffer::pointer)),
            room: room.as_mut().map(Room::pointers),
            steps: visits.len(),
            target,
        };

        let chunks = self
            .plan
            .chunks(rows * COUNT * d_hidden * self.weight_ih.depth());
        let set = self.plan.set;
        crew::run(1, chunks, |_, chunk| {
            set.run(Project {
                segment: &run,
                rows: share(rows, chunks, chunk),
            });
        });

        let panels = self.weight_hh.panels().count();
        let step = |steps: Range<usize>, rows: Range<usize>, panels: Range<usize>| {
            let steps = Steps {
                segment: &run,
                steps,
                rows,
                panels,
            };
            if options.is_plain {
                set.run(PlainSteps(steps));
            } else {
                set.run(RowSteps(steps));
            }
        };
        let split = self.plan.split(
            self.inputs.sizes,
            visits.len(),
            panels,
            options.whole_rows(),
        );
        match split {
            Split::Rows(chunks) => crew::run(1, chunks, |_, chunk| {
                step(0..visits.len(), share(batch, chunks, chunk), 0..panels);
            }),
            Split::Units(chunks) => crew::run(visits.len(), chunks, |number, chunk| {
                step(number..number + 1, 0..batch, share(panels, chunks, chunk));
            }),
        }
    }
}

/// `weight_hr [P, H]`, for products with rows of what the cell shows.
pub(crate) fn pack_projection<T: Real>(layout: Layout, chunks: usize, weight: &[T]) -> Packed<T> {
    let Layout {
        lanes,
        d_hidden,
        outputs,
        d_output,
        ..
    } = layout;
    let sizes = PackedSizes {
        depth: d_hidden,
        vectors: outputs,
        widest: PANEL,
        lanes,
    };
    Packed::from_columns(sizes, chunks, |vector, lane| {
        let row = vector * lanes + lane;
        (row < d_output).then(|| &weight[row * d_hidden..(row + 1) * d_hidden])
    })
}

/// Number by number.
fn product<T: Real>(left: &Buffer<T>, right: &Buffer<T>) -> Buffer<T> {
    assert_eq!(left.len(), right.len());
    let mut to = Buffer::<T>::new(left.len());
    for place in 0..left.len() {
        // SAFETY: all three are as long; states and masks are initialized.
        unsafe {
            let (left, right) = (*left.source().add(place), *right.source().add(place));
            to.pointer().add(place).get().write(left.times(right));
        }
    }
    to
}

/// Room for a step of cells that have something besides the four gates.
struct Room<T> {
    /// What the hidden state adds to the gates, if that is not kept.
    sums: Buffer<T>,
    /// Rows of cell states.
    scratch: Buffer<T>,
    /// What the cells show.
    shown: Buffer<T>,
}

/// Where it lies.
#[derive(Clone, Copy)]
struct RoomPointers<T> {
    sums: Pointer<T>,
    scratch: Pointer<T>,
    shown: Pointer<T>,
}

impl<T: Real> Room<T> {
    fn pointers(&mut self) -> RoomPointers<T> {
        RoomPointers {
            sums: self.sums.pointer(),
            scratch: self.scratch.pointer(),
            shown: self.shown.pointer(),
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
    norms: Option<NormPointers<T>>,
    before: StatePointers<T>,
    after: StatePointers<T>,
    /// Hidden states of every other step.
    between: Pointer<T>,
    /// Hidden states as the gates see them, if they are masked there: before even and odd steps.
    masked: Option<[Pointer<T>; 2]>,
    room: Option<RoomPointers<T>>,
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

    /// What the product of a step reads.
    fn recurrent(&self, step: usize) -> Pointer<T> {
        match self.masked {
            None => self.hidden_before(step),
            Some(masked) => masked[step % 2],
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

    /// Where the last cell state of the segment goes besides.
    fn last_cell(&self, step: usize) -> Option<Pointer<T>> {
        (self.keeps && step + 1 == self.steps).then_some(self.after.cell)
    }

    fn time(&self, step: usize) -> usize {
        let inputs = self.forward.inputs;
        inputs.walk.time(self.first + step, inputs.sizes.steps)
    }

    /// What becomes of the hidden states of a step.
    fn show<const PLAIN: bool>(&self, step: usize) -> Show<'_, T, PLAIN> {
        let Forward {
            inputs,
            options,
            layout,
            ..
        } = *self.forward;
        Show {
            walk: inputs.walk,
            batch: inputs.sizes.batch,
            time: self.time(step),
            layout,
            options,
            before: self.hidden_before(step),
            after: self.hidden_after(step),
            masked: self.masked.map(|masked| masked[(step + 1) % 2]),
            target: self.target,
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
        let normed_rows = rows.clone();
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
        if let Some(norm) = &forward.options.norm {
            let normed = NormedInput {
                norm,
                coupled: forward.options.coupled,
                layout: forward.layout,
                gates: segment.gates,
                kept: segment.norms,
            };
            for row in normed_rows {
                // SAFETY: as above.
                unsafe { normed.row(simd, row) };
            }
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

/// Some steps, rows and units of a segment.
struct Steps<'a, T> {
    segment: &'a SegmentRun<'a, T>,
    steps: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// Steps through them with the four gates alone, which follow the sums while these are still in
/// registers.
struct PlainSteps<'a, T>(Steps<'a, T>);

impl<T: Real> WithSimd for PlainSteps<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Steps {
            segment,
            steps,
            rows,
            panels,
        } = self.0;
        let forward = segment.forward;
        let layout = forward.layout;
        let hidden_row = layout.hidden_row();
        for step in steps {
            let before = segment.hidden_before(step);
            // SAFETY: all places lie within the segment's buffers and the states. A thread writes
            // what belongs to its own rows and units, and reads hidden states of other units that
            // were written before the last barrier, or those of its own rows.
            unsafe {
                let mut epilogue = Advance {
                    gates: segment.gates_at(step),
                    keeps: segment.keeps,
                    cell_before: segment.cell_before(step),
                    cell_after: segment.cell_after(step),
                    last_cell: segment.last_cell(step),
                    show: segment.show(step),
                };
                multiply(
                    simd,
                    rows.clone(),
                    panels.clone(),
                    layout.d_output,
                    |row| before.add(row * hidden_row).get().cast_const(),
                    &forward.weight_hh,
                    &mut epilogue,
                );
            }
        }
    }
}

/// Steps through them with any cell: the product, then the rows, then their projection.
struct RowSteps<'a, T>(Steps<'a, T>);

impl<T: Real> WithSimd for RowSteps<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Steps {
            segment,
            steps,
            rows,
            panels,
        } = self.0;
        let forward = segment.forward;
        let Forward {
            inputs,
            options,
            layout,
            ..
        } = *forward;
        let (hidden_row, gates_row) = (layout.hidden_row(), layout.gates_row());
        let state_row = layout.state_row();
        let Some(room) = segment.room else {
            unreachable!("there is room where a cell is not plain");
        };
        for step in steps {
            let time = segment.time(step);
            let show = segment.show::<false>(step);
            let valid = |row| inputs.walk.is_valid(time, row, inputs.sizes.batch);
            // SAFETY: as for plain steps; where whole rows are needed, a thread has rows of its own.
            unsafe {
                let first = step * inputs.sizes.batch;
                let kept = segment.norms.map(|norms| norms.at(first, gates_row));
                let sums = kept.map_or(room.sums, |kept| kept.hidden);
                write_product(
                    simd,
                    RowProduct {
                        rows: rows.clone(),
                        panels: panels.clone(),
                        depth: layout.d_output,
                        left: Rows(segment.recurrent(step).get(), hidden_row),
                        right: &forward.weight_hh,
                        to: sums,
                        distance: gates_row,
                        width: gates_row,
                        times: None,
                        plus: None,
                    },
                );
                let row_step = RowStep {
                    options,
                    layout,
                    time,
                    gates: segment.gates_at(step),
                    sums,
                    scales: kept.map(|kept| kept.scales),
                    cell_before: segment.cell_before(step),
                    cell_after: segment.cell_after(step),
                    last_cell: segment.last_cell(step),
                    scratch: room.scratch,
                    shown: room.shown,
                };
                for row in rows.clone() {
                    // A panel of gates is the four gates of a vector of units.
                    row_step.row(simd, row, panels.clone(), valid(row));
                }
                let (mut new, mut vectors) = (Rows(room.shown.get(), state_row), panels.clone());
                if let Some(weight_hr) = &forward.weight_hr {
                    let to = segment.hidden_after(step);
                    write_product(
                        simd,
                        RowProduct {
                            rows: rows.clone(),
                            panels: 0..weight_hr.panels().count(),
                            depth: layout.d_hidden,
                            left: Rows(room.shown.get(), state_row),
                            right: weight_hr,
                            to,
                            distance: hidden_row,
                            width: hidden_row,
                            times: None,
                            plus: None,
                        },
                    );
                    (new, vectors) = (Rows(to.get(), hidden_row), 0..layout.outputs);
                }
                let Rows(new, distance) = new;
                for row in rows.clone() {
                    for vector in vectors.clone() {
                        let new = new.add(row * distance + vector * layout.lanes);
                        let new = load::<T, S>(new);
                        show.units(simd, row, vector, valid(row), new);
                    }
                }
            }
        }
    }
}

/// One step from the recurrent sums.
struct Advance<'a, T> {
    gates: Pointer<T>,
    keeps: bool,
    cell_before: Pointer<T>,
    cell_after: Pointer<T>,
    /// Where the last cell state of the segment goes besides.
    last_cell: Option<Pointer<T>>,
    show: Show<'a, T, true>,
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
        let units = vector / COUNT;
        let Show {
            walk,
            batch,
            time,
            layout,
            ..
        } = self.show;
        let place = row * layout.state_row() + units * lanes;
        // SAFETY: see `PlainSteps`.
        unsafe {
            let gates = self.gates.add(row * layout.gates_row() + vector * lanes);
            let before = load::<T, S>(self.cell_before.add(place).get());
            let valid = walk.is_valid(time, row, batch);
            let step = if valid {
                let sums = std::array::from_fn(|gate| {
                    let projected = load::<T, S>(gates.add(gate * lanes).get());
                    T::add(simd, projected, sums[gate])
                });
                cell::forward::<T, S>(simd, sums, before, &Extra::NONE)
            } else {
                // A row without this step keeps its state. Its gates are never used.
                let zero = T::splat(simd, T::default());
                cell::Step {
                    gates: [zero; COUNT],
                    cell: before,
                    shown: zero,
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
            self.show.units(simd, row, units, valid, step.shown);
        }
    }
}

/// What becomes of the new hidden states: the next step's, after zoneout, and the output.
struct Show<'a, T, const PLAIN: bool> {
    walk: Walk<'a>,
    batch: usize,
    time: usize,
    layout: Layout,
    options: &'a Options<'a, T>,
    before: Pointer<T>,
    after: Pointer<T>,
    /// As the next step's gates see it.
    masked: Option<Pointer<T>>,
    target: Option<Target<T>>,
}

impl<T: Real, const PLAIN: bool> Show<'_, T, PLAIN> {
    /// The vector `vector` of row `row`, of which `new` is the new state if the row has the step.
    ///
    /// # Safety
    ///
    /// It must lie within the states, and be nobody else's.
    #[inline(always)]
    unsafe fn units<S: Simd>(&self, simd: S, row: usize, vector: usize, valid: bool, new: T::V<S>) {
        let lanes = T::lanes::<S>();
        let place = row * self.layout.hidden_row() + vector * lanes;
        // SAFETY: the caller's.
        unsafe {
            let before = self.before.add(place).get();
            let hidden = if valid {
                let kept = (self.options).kept_hidden::<S, PLAIN>(simd, self.time, row, vector);
                match kept {
                    Some(_) => cell::keep::<T, S>(simd, new, load::<T, S>(before), kept),
                    None => new,
                }
            } else {
                load::<T, S>(before)
            };
            store::<T, S>(self.after.add(place).get(), hidden);
            if !PLAIN && let Some(masked) = self.masked {
                let seen = (self.options).masked::<S, PLAIN>(simd, row, vector, hidden);
                store::<T, S>(masked.add(place).get(), seen);
            }
            if let Some(target) = self.target {
                let shown = if valid {
                    hidden
                } else {
                    T::splat(simd, T::default())
                };
                let to = target
                    .to
                    .add(self.time * target.of_step + row * target.of_row + vector * lanes);
                store_first::<T, S>(to.get(), self.layout.outputs_in(vector), shown);
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
            hidden: Buffer::new(batch * layout.hidden_row()),
            cell: Buffer::new(batch * layout.state_row()),
        }
    }

    /// From `[B, P]` and `[B, H]`.
    pub(crate) fn read(layout: Layout, hidden: &[T], cell: &[T]) -> Self {
        Self {
            hidden: fill_up(layout.lanes, layout.d_output, hidden),
            cell: fill_up(layout.lanes, layout.d_hidden, cell),
        }
    }

    /// To `[B, P]` and `[B, H]`.
    pub(crate) fn write(&self, layout: Layout, hidden: &mut [T], cell: &mut [T]) {
        cut_down(layout.lanes, layout.d_output, &self.hidden, hidden);
        cut_down(layout.lanes, layout.d_hidden, &self.cell, cell);
    }

    pub(crate) fn pointers(&mut self) -> StatePointers<T> {
        StatePointers {
            hidden: self.hidden.pointer(),
            cell: self.cell.pointer(),
        }
    }
}

impl<T: Real> Segment<T> {
    /// Room for what the way back needs.
    pub(crate) fn new(options: &Options<T>, layout: Layout, batch: usize, steps: usize) -> Self {
        let rows = steps * batch;
        Self {
            gates: Buffer::new(rows * layout.gates_row()),
            cells: Buffer::new(rows * layout.state_row()),
            norms: options.norm.as_ref().map(|_| Norms {
                input: Buffer::new(rows * layout.gates_row()),
                hidden: Buffer::new(rows * layout.gates_row()),
                scales: Buffer::new(rows * 2),
            }),
        }
    }

    /// Room for gates alone.
    pub(crate) fn scratch(layout: Layout, batch: usize, steps: usize) -> Self {
        Self {
            gates: Buffer::new(steps * batch * layout.gates_row()),
            cells: Buffer::new(0),
            norms: None,
        }
    }
}

impl<T: Real> Norms<T> {
    pub(crate) fn pointers(&mut self) -> NormPointers<T> {
        NormPointers {
            input: self.input.pointer(),
            hidden: self.hidden.pointer(),
            scales: self.scales.pointer(),
        }
    }
}

impl<T: Real> NormPointers<T> {
    /// From row `first` on.
    ///
    /// # Safety
    ///
    /// The row must be there.
    pub(crate) unsafe fn at(self, first: usize, gates_row: usize) -> Self {
        unsafe {
            Self {
                input: self.input.add(first * gates_row),
                hidden: self.hidden.add(first * gates_row),
                scales: self.scales.add(first * 2),
            }
        }
    }
}
