//! The gradients of the weights: `δᵀ [x | h]` and the sums of `δ` over all rows.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::backward::Wanted;
use crate::buffer::{Buffer, Pointer};
use crate::crew;
use crate::forward::{Inputs, Segment};
use crate::gates::COUNT;
use crate::layout::{Layout, Series, Sizes};
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

/// The gradients that were wanted.
#[derive(Debug)]
pub(crate) struct WeightGradients<T> {
    pub(crate) weight_ih: Option<Vec<T>>,
    pub(crate) weight_hh: Option<Vec<T>>,
    pub(crate) bias: Option<Vec<T>>,
}

/// Sums that grow segment by segment.
#[derive(Debug)]
pub(crate) struct WeightSums<'a, T> {
    inputs: &'a Inputs<'a, T>,
    output: Series<'a, T>,
    layout: Layout,
    plan: Plan,
    weight_ih: Option<Vec<T>>,
    weight_hh: Option<Vec<T>>,
    bias: Option<Vec<T>>,
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
            d_input, d_hidden, ..
        } = inputs.sizes;
        let zeros = |wanted: bool, columns: usize| {
            wanted.then(|| vec![T::default(); COUNT * d_hidden * columns])
        };
        Self {
            inputs,
            output,
            layout,
            plan,
            weight_ih: zeros(wanted.weight_ih, d_input),
            weight_hh: zeros(wanted.weight_hh, d_hidden),
            bias: zeros(wanted.bias, 1),
        }
    }

    /// Adds a segment whose gates have become their gradients.
    pub(crate) fn add(&mut self, visits: Range<usize>, segment: &Segment<T>) {
        let Inputs {
            sizes, walk, x, h0, ..
        } = *self.inputs;
        let Sizes {
            batch,
            d_input,
            d_hidden,
            ..
        } = sizes;
        let rows = visits.len() * batch;
        assert!(segment.gates.len() >= rows * self.layout.gates_row());
        let visit = |row: usize| (visits.start + row / batch, row % batch);
        let pack = |width: usize, row: &(dyn Fn(usize) -> Option<*const T> + Sync)| {
            let sizes = PackedSizes {
                depth: rows,
                vectors: width.div_ceil(self.layout.lanes),
                widest: PANEL,
                lanes: self.layout.lanes,
            };
            // SAFETY: the rows below are `width` wide.
            unsafe { Packed::from_rows(sizes, self.plan.chunks(rows * width), width, row) }
        };
        let input = self.weight_ih.as_mut().map(|sums| {
            let packed = pack(d_input, &|row| {
                let (visit, row) = visit(row);
                let time = walk.time(visit, sizes.steps);
                // Past a row's end the input may be anything, NaN too, and the gradient is 0.
                walk.is_valid(time, row).then(|| x.at(time, row))
            });
            Product {
                right: packed,
                sums: Pointer::of(sums),
                width: d_input,
            }
        });
        let output = self.output;
        let hidden = self.weight_hh.as_mut().map(|sums| {
            let packed = pack(d_hidden, &|row| {
                let (visit, row) = visit(row);
                // The state before a row's first step: in reverse, rows begin at different visits.
                let before = visit
                    .checked_sub(1)
                    .map(|visit| walk.time(visit, sizes.steps))
                    .filter(|&time| walk.is_valid(time, row));
                Some(match before {
                    None => h0[row * d_hidden..].as_ptr(),
                    Some(time) => output.at(time, row),
                })
            });
            Product {
                right: packed,
                sums: Pointer::of(sums),
                width: d_hidden,
            }
        });
        let products: Vec<Product<T>> = input.into_iter().chain(hidden).collect();
        let bias = self.bias.as_mut().map(|sums| Pointer::of(sums));
        if products.is_empty() && bias.is_none() {
            return;
        }

        let layout = self.layout;
        let columns: usize = products.iter().map(|product| product.width).sum();
        let set = self.plan.set;
        // Groups of rows that are a whole number of tiles for every instruction set.
        let groups = layout.gates_row().div_ceil(8);
        let chunks = self
            .plan
            .chunks(rows * layout.gates_row() * columns.max(1))
            .min(groups);
        crew::run(1, chunks, |_, chunk| {
            let groups = share(groups, chunks, chunk);
            set.run(AddProducts {
                gates: Pointer::reading(segment.gates.source()),
                rows,
                layout,
                places: groups.start * 8..(groups.end * 8).min(layout.gates_row()),
                products: &products,
                bias,
            });
        });
    }

    pub(crate) fn finish(self) -> WeightGradients<T> {
        WeightGradients {
            weight_ih: self.weight_ih,
            weight_hh: self.weight_hh,
            bias: self.bias,
        }
    }
}

/// One right side, and where its sums go.
struct Product<T> {
    right: Packed<T>,
    sums: Pointer<T>,
    width: usize,
}

/// Some rows of the gradients: those of the places `places` in a row of gates.
struct AddProducts<'a, T> {
    gates: Pointer<T>,
    rows: usize,
    layout: Layout,
    places: Range<usize>,
    products: &'a [Product<T>],
    bias: Option<Pointer<T>>,
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
        assert!(self.layout.gates_row().is_multiple_of(M));
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
                // within a row of gates, whose width is a whole number of tiles; the sums have a row
                // for each place that is not filling, and each thread writes those of its own
                // places.
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

    /// Copies `M` places of `depth` rows of gates side by side, and sums them for the bias.
    #[inline(always)]
    unsafe fn transpose<const M: usize>(
        &self,
        k: usize,
        depth: usize,
        place: usize,
        to: Pointer<T>,
    ) {
        let row = self.layout.gates_row();
        let mut sums = [T::default(); M];
        let add = |sums: &mut [T; M], terms: [T; M]| {
            for m in 0..M {
                sums[m] = sums[m].plus(terms[m]);
            }
        };
        unsafe {
            let from = self.gates.add(k * row + place).get().cast_const();
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
            if let Some(bias) = self.bias {
                for (m, sum) in sums.into_iter().enumerate() {
                    if let Some(row) = self.layout.weight_row_at(place + m) {
                        let to = bias.add(row).get();
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
                let Some(row) = self.layout.weight_row_at(place + m) else {
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
