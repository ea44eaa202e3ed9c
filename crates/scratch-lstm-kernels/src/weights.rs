//! The gradients of the weights: `δᵀ [x | h]`, the sums of `δ` over all rows, and those of a
//! projection.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::backward::Wanted;
use crate::buffer::{Buffer, Pointer};
use crate::crew;
use crate::forward::{Inputs, Segment};
use crate::gates::COUNT;
use crate::layout::{Layout, Series, Sizes, Valid};
use crate::plan::Plan;
use crate::real::Real;
use crate::tile::{DEPTH_BLOCK, Packed, PackedSizes, load_first, share, store_first, sum_tile};

/// Vectors of a panel here: fewer than elsewhere, for taller tiles, because the left side has to be
/// transposed and that goes by whole parts of a vector.
const PANEL: usize = 3;

/// Rows whose gradients are summed in one go for the bias.
const SUMMED: usize = 16;

/// Tiles whose left sides are transposed together: they stay in the second-level cache.
const TILES: usize = 8;

/// Rows of a tile, for [`PANEL`] vectors of columns.
const fn tile_rows(registers: usize) -> usize {
    if registers >= 32 { 8 } else { 4 }
}

/// A row on the left side is a whole number of tiles if it is one of these.
pub(crate) const LEFT_ROW: usize = 8;

/// The gradients that were wanted.
#[derive(Debug)]
pub(crate) struct WeightGradients<T> {
    pub(crate) weight_ih: Option<Vec<T>>,
    pub(crate) weight_hh: Option<Vec<T>>,
    pub(crate) weight_hr: Option<Vec<T>>,
    pub(crate) bias: Option<Vec<T>>,
}

/// Sums that grow segment by segment.
#[derive(Debug)]
pub(crate) struct WeightSums<'a, T> {
    inputs: &'a Inputs<'a, T>,
    output: Series<'a, T>,
    layout: Layout,
    plan: Plan,
    /// With a mask of valid steps: for each visit and row the time of the last valid visit before.
    last_valid: Option<Vec<Option<usize>>>,
    weight_ih: Option<Vec<T>>,
    weight_hh: Option<Vec<T>>,
    weight_hr: Option<Vec<T>>,
    bias: Option<Vec<T>>,
}

/// What a projection adds to a segment.
pub(crate) struct Projected<'a, T> {
    /// The gradients of what it gave, rows of hidden states, so far apart.
    pub(crate) d_hidden: &'a Buffer<T>,
    pub(crate) d_hidden_row: usize,
    /// What it was given, rows of cell states.
    pub(crate) shown: &'a Buffer<T>,
}

impl<'a, T: Real> WeightSums<'a, T> {
    /// `output` holds the hidden states after each step.
    pub(crate) fn new(
        inputs: &'a Inputs<'a, T>,
        output: Series<'a, T>,
        layout: Layout,
        plan: Plan,
        wanted: Wanted,
    ) -> Self {
        let Sizes {
            d_input,
            d_hidden,
            d_output,
            ..
        } = inputs.sizes;
        let zeros = |wanted: bool, rows: usize, columns: usize| {
            wanted.then(|| vec![T::default(); rows * columns])
        };
        let gates = COUNT * d_hidden;
        let is_projected = inputs.cell.weight_hr.is_some();
        Self {
            inputs,
            output,
            layout,
            plan,
            last_valid: last_valid(inputs),
            weight_ih: zeros(wanted.weight_ih, gates, d_input),
            weight_hh: zeros(wanted.weight_hh, gates, d_output),
            weight_hr: zeros(wanted.weight_hr && is_projected, d_output, d_hidden),
            bias: zeros(wanted.bias, gates, 1),
        }
    }

    /// Whether [`add`](Self::add) needs what a projection adds.
    pub(crate) fn wants_projected(&self) -> bool {
        self.weight_hr.is_some()
    }

    /// Adds a segment whose gates have become their gradients.
    pub(crate) fn add(
        &mut self,
        visits: Range<usize>,
        segment: &Segment<T>,
        projected: Option<Projected<'_, T>>,
    ) {
        let Inputs {
            sizes,
            walk,
            x,
            h0,
            cell,
            ..
        } = *self.inputs;
        let Sizes {
            batch,
            d_input,
            d_hidden,
            d_output,
            ..
        } = sizes;
        let (layout, plan) = (self.layout, self.plan);
        let rows = visits.len() * batch;
        let visit = |row: usize| (visits.start + row / batch, row % batch);
        let pack = |width: usize,
                    row: &(dyn Fn(usize) -> Option<*const T> + Sync),
                    times: Option<&(dyn Fn(usize) -> *const T + Sync)>| {
            let sizes = PackedSizes {
                depth: rows,
                vectors: width.div_ceil(layout.lanes),
                widest: PANEL,
                lanes: layout.lanes,
            };
            // SAFETY: the rows below are `width` wide.
            unsafe { Packed::from_rows(sizes, plan.chunks(rows * width), width, row, times) }
        };
        let input = self.weight_ih.as_mut().map(|sums| {
            let row = |row| {
                let (visit, row) = visit(row);
                let time = walk.time(visit, sizes.steps);
                // Where a row has no step the input may be anything, NaN too, and the gradient is 0.
                (walk.is_valid(time, row, batch)).then(|| x.at(time, row))
            };
            Product {
                right: pack(d_input, &row, None),
                sums: Pointer::of(sums),
                width: d_input,
            }
        });
        let (output, last_valid) = (self.output, self.last_valid.as_deref());
        let hidden = self.weight_hh.as_mut().map(|sums| {
            let row = |row| {
                let (visit, row) = visit(row);
                // The state before a row's first step: in reverse, rows begin at different visits.
                let before = match last_valid {
                    Some(times) => times[visit * batch + row],
                    None => visit
                        .checked_sub(1)
                        .map(|visit| walk.time(visit, sizes.steps))
                        .filter(|&time| walk.is_valid(time, row, batch)),
                };
                Some(match before {
                    None => h0[row * d_output..].as_ptr(),
                    Some(time) => output.at(time, row),
                })
            };
            let packed = match cell.hidden_mask {
                None => pack(d_output, &row, None),
                Some(mask) => {
                    let times = |row| mask[row % batch * d_output..].as_ptr();
                    pack(d_output, &row, Some(&times))
                }
            };
            Product {
                right: packed,
                sums: Pointer::of(sums),
                width: d_output,
            }
        });
        let bias = self.bias.as_mut().map(|sums| Pointer::of(sums));
        let gates = |deltas| Left {
            from: deltas,
            row: layout.gates_row(),
            of: LeftRow::Gates(layout),
        };
        match &segment.norms {
            None => {
                let products: Vec<Product<T>> = input.into_iter().chain(hidden).collect();
                add_products(plan, gates(&segment.gates), rows, &products, bias);
            }
            Some(norms) => {
                add_products(plan, gates(&norms.input), rows, input.as_slice(), None);
                add_products(plan, gates(&norms.hidden), rows, hidden.as_slice(), None);
                add_products(plan, gates(&segment.gates), rows, &[], bias);
            }
        }
        if let (Some(sums), Some(projected)) = (self.weight_hr.as_mut(), projected) {
            let state_row = layout.state_row();
            let shown = Pointer::reading(projected.shown.source());
            assert!(projected.shown.len() >= rows * state_row);
            let row = |row: usize| {
                // SAFETY: as was checked.
                Some(unsafe { shown.add(row * state_row) }.get().cast_const())
            };
            let product = Product {
                right: pack(d_hidden, &row, None),
                sums: Pointer::of(sums),
                width: d_hidden,
            };
            let left = Left {
                from: projected.d_hidden,
                row: projected.d_hidden_row,
                of: LeftRow::Outputs(d_output),
            };
            add_products(plan, left, rows, &[product], None);
        }
    }

    pub(crate) fn finish(self) -> WeightGradients<T> {
        WeightGradients {
            weight_ih: self.weight_ih,
            weight_hh: self.weight_hh,
            weight_hr: self.weight_hr,
            bias: self.bias,
        }
    }
}

fn last_valid<T>(inputs: &Inputs<'_, T>) -> Option<Vec<Option<usize>>> {
    let Valid::Mask(mask) = inputs.walk.valid else {
        return None;
    };
    let Sizes { batch, steps, .. } = inputs.sizes;
    let mut times = vec![None; batch * steps];
    for place in batch..batch * steps {
        let (visit, row) = (place / batch, place % batch);
        let before = inputs.walk.time(visit - 1, steps);
        times[place] = if mask[before * batch + row] {
            Some(before)
        } else {
            times[place - batch]
        };
    }
    Some(times)
}

/// Adds the products of `rows` rows of the left side, transposed, with the right sides of
/// `products`, and the sums of its columns to `totals`.
fn add_products<T: Real>(
    plan: Plan,
    left: Left<'_, T>,
    rows: usize,
    products: &[Product<T>],
    totals: Option<Pointer<T>>,
) {
    if products.is_empty() && totals.is_none() {
        return;
    }
    assert!(left.from.len() >= rows * left.row);
    let columns: usize = products.iter().map(|product| product.width).sum();
    // Groups of places that are a whole number of tiles for every instruction set.
    let groups = left.row.div_ceil(LEFT_ROW);
    let chunks = plan.chunks(rows * left.row * columns.max(1)).min(groups);
    crew::run(1, chunks, |_, chunk| {
        let groups = share(groups, chunks, chunk);
        plan.set.run(AddProducts {
            from: Pointer::reading(left.from.source()),
            row: left.row,
            of: left.of,
            rows,
            places: groups.start * LEFT_ROW..(groups.end * LEFT_ROW).min(left.row),
            products,
            totals,
        });
    });
}

/// A left side: rows so far apart, all of whose numbers are initialized.
struct Left<'a, T> {
    from: &'a Buffer<T>,
    row: usize,
    of: LeftRow,
}

/// What a row on the left side is.
#[derive(Debug, Clone, Copy)]
enum LeftRow {
    /// One of gates.
    Gates(Layout),
    /// So many numbers of a hidden state, and filling.
    Outputs(usize),
}

impl LeftRow {
    /// The row of the result that a place in the row belongs to; `None` where it is filling.
    #[inline(always)]
    fn result(&self, place: usize) -> Option<usize> {
        match *self {
            Self::Gates(layout) => layout.weight_row_at(place),
            Self::Outputs(count) => (place < count).then_some(place),
        }
    }
}

/// One right side, and where its sums go.
struct Product<T> {
    right: Packed<T>,
    sums: Pointer<T>,
    width: usize,
}

/// Some rows of the gradients: those of the places `places` in a row of the left side.
struct AddProducts<'a, T> {
    from: Pointer<T>,
    /// How far its rows lie apart.
    row: usize,
    of: LeftRow,
    rows: usize,
    places: Range<usize>,
    products: &'a [Product<T>],
    totals: Option<Pointer<T>>,
}

impl<T: Real> WithSimd for AddProducts<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if tile_rows(S::REGISTER_COUNT) == 8 {
            self.add::<S, 8>(simd);
        } else {
            self.add::<S, 4>(simd);
        }
    }
}

impl<T: Real> AddProducts<'_, T> {
    #[inline(always)]
    fn add<S: Simd, const M: usize>(self, simd: S) {
        // Tiles are transposed whole.
        assert!(self.row.is_multiple_of(M));
        let mut left = Buffer::<T>::new(TILES * M * DEPTH_BLOCK.min(self.rows));
        let left = left.pointer();
        let mut group = self.places.start;
        while group < self.places.end {
            let places = (self.places.end - group).min(TILES * M);
            let tiles = places.div_ceil(M);
            let mut k = 0;
            while k < self.rows {
                let depth = (self.rows - k).min(DEPTH_BLOCK);
                // SAFETY: the buffer has room for `tiles` tiles of `depth` rows; `places` are
                // within a row of the left side, whose width is a whole number of tiles; the sums
                // have a row for each place that is not filling, and each thread writes those of
                // its own places.
                unsafe {
                    for tile in 0..tiles {
                        let place = group + tile * M;
                        let to = left.add(tile * M * depth);
                        self.transpose::<M>(k, depth, place, to);
                    }
                    for product in self.products {
                        self.add_product::<S, M>(simd, product, k, depth, group, tiles, left);
                    }
                }
                k += depth;
            }
            group += places;
        }
    }

    /// Copies `M` places of `depth` rows side by side, and sums them for the totals.
    #[inline(always)]
    unsafe fn transpose<const M: usize>(
        &self,
        k: usize,
        depth: usize,
        place: usize,
        to: Pointer<T>,
    ) {
        let row = self.row;
        let mut sums = [T::default(); M];
        let add = |sums: &mut [T; M], terms: [T; M]| {
            for m in 0..M {
                sums[m] = sums[m].plus(terms[m]);
            }
        };
        unsafe {
            let from = self.from.add(k * row + place).get().cast_const();
            for start in (0..depth).step_by(SUMMED) {
                // Sums of sums: the rounding of a long chain would show in the bias.
                let mut of_block = [T::default(); M];
                for k in start..(start + SUMMED).min(depth) {
                    let numbers = from.add(k * row).cast::<[T; M]>().read_unaligned();
                    to.add(k * M)
                        .get()
                        .cast::<[T; M]>()
                        .write_unaligned(numbers);
                    add(&mut of_block, numbers);
                }
                add(&mut sums, of_block);
            }
            if let Some(totals) = self.totals {
                for (m, sum) in sums.into_iter().enumerate() {
                    if let Some(row) = self.of.result(place + m) {
                        let to = totals.add(row).get();
                        *to = (*to).plus(sum);
                    }
                }
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn add_product<S: Simd, const M: usize>(
        &self,
        simd: S,
        product: &Product<T>,
        k: usize,
        depth: usize,
        group: usize,
        tiles: usize,
        left: Pointer<T>,
    ) {
        let panels = product.right.panels();
        for panel in 0..panels.count() {
            let (start, end) = (panels.start(panel), panels.start(panel + 1));
            for tile in 0..tiles {
                unsafe {
                    let left = left.add(tile * M * depth).get().cast_const();
                    let place = group + tile * M;
                    match end - start {
                        1 => self.tile::<S, M, 1>(simd, product, panel, k, depth, place, left),
                        2 => self.tile::<S, M, 2>(simd, product, panel, k, depth, place, left),
                        _ => self.tile::<S, M, 3>(simd, product, panel, k, depth, place, left),
                    }
                }
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(
        &self,
        simd: S,
        product: &Product<T>,
        panel: usize,
        k: usize,
        depth: usize,
        place: usize,
        left: *const T,
    ) {
        let lanes = T::lanes::<S>();
        let start = product.right.panels().start(panel) * lanes;
        unsafe {
            let right = product.right.panel(panel).add(k * N * lanes);
            let left: [*const T; M] = std::array::from_fn(|m| left.add(m));
            // The stride of the left side has to be a constant.
            let sums = match M {
                8 => sum_tile::<T, S, M, N, 8>(simd, depth, left, right),
                _ => sum_tile::<T, S, M, N, 4>(simd, depth, left, right),
            };
            for (m, sums) in sums.into_iter().enumerate() {
                let Some(row) = self.of.result(place + m) else {
                    continue;
                };
                for (n, sum) in sums.into_iter().enumerate() {
                    let column = start + n * lanes;
                    let count = product.width - column;
                    let to = product.sums.add(row * product.width + column).get();
                    let old = load_first(simd, to, count);
                    store_first::<T, S>(to, count, T::add(simd, old, sum));
                }
            }
        }
    }
}
