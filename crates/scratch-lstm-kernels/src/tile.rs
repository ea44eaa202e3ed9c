//! Matrix products: the one micro-kernel, the panels it reads, and the walk over them.
//!
//! `[rows, depth] x [depth, columns]`. The right side is packed into *panels* of a few vectors of
//! columns, so that it is read from the beginning to the end. The micro-kernel keeps a tile of a
//! few rows and one panel's columns in registers while it walks down `depth`; what becomes of the
//! sums is an [`Epilogue`]'s business, which gets them while they are still in registers.
//!
//! Each sum is taken in the order of `depth`, in chains of [`CHAIN`] within blocks of
//! [`DEPTH_BLOCK`]: whatever the tile, the panel or the thread, the result is the same to the bit.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::buffer::{Buffer, Pointer};
use crate::crew;
use crate::real::Real;

/// So much of `depth` is walked for all rows before the next part is: a panel's share of it stays
/// in the second-level cache.
pub(crate) const DEPTH_BLOCK: usize = 512;

/// So many products are summed one after the other; longer sums are sums of such sums, which keeps
/// rounding errors small.
const CHAIN: usize = 128;

/// Rows that are walked together: their share of the left side stays in the second-level cache.
pub(crate) const ROW_BLOCK: usize = 96;

/// Rows of a block that is transposed at once.
const TRANSPOSED: usize = 32;

/// Vectors of a panel.
pub(crate) const PANEL: usize = 4;

/// Rows of a tile, for [`PANEL`] vectors of columns: as many as leave registers for operands.
pub(crate) const fn tile_rows(registers: usize) -> usize {
    if registers >= 32 { 6 } else { 3 }
}

/// How a number of vectors is cut into panels: as few as possible, as even as possible, because
/// narrow ones are slow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels {
    vectors: usize,
    count: usize,
}

impl Panels {
    /// Of `vectors`, at most `widest` in each.
    pub(crate) fn new(vectors: usize, widest: usize) -> Self {
        Self {
            vectors,
            count: vectors.div_ceil(widest),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The first vector of panel `panel`.
    pub(crate) fn start(&self, panel: usize) -> usize {
        panel * self.vectors / self.count
    }
}

/// The right side of a product, packed: panel after panel, row after row of `depth`.
#[derive(Debug)]
pub(crate) struct Packed<T> {
    buffer: Buffer<T>,
    depth: usize,
    lanes: usize,
    panels: Panels,
}

impl<T: Real> Packed<T> {
    /// Packs columns that are rows elsewhere: `column(vector, lane)` has the `depth` numbers of a
    /// column, or is `None` for zeros.
    pub(crate) fn from_columns<'a>(
        sizes: PackedSizes,
        chunks: usize,
        column: impl Fn(usize, usize) -> Option<&'a [T]> + Sync,
    ) -> Self {
        Self::new(sizes, chunks, |vector, to, stride| {
            // A transposition, by blocks that stay in the first-level cache.
            for start in (0..sizes.depth).step_by(TRANSPOSED) {
                let end = (start + TRANSPOSED).min(sizes.depth);
                for lane in 0..sizes.lanes {
                    // SAFETY: `to` has a vector every `stride` numbers, `depth` of them.
                    let write = |k: usize, x: T| unsafe {
                        to.add(k * stride + lane).get().write(x);
                    };
                    match column(vector, lane) {
                        Some(column) => {
                            let numbers = column[start..end].iter();
                            (start..end).zip(numbers).for_each(|(k, &x)| write(k, x));
                        }
                        None => (start..end).for_each(|k| write(k, T::default())),
                    }
                }
            }
        })
    }

    /// Packs rows of `width` numbers: `row(k)` points to them, or is `None` for zeros; each is
    /// multiplied with the numbers that `times(k)` points to, if there is that.
    ///
    /// # Safety
    ///
    /// The pointers must have `width` readable numbers behind them.
    pub(crate) unsafe fn from_rows(
        sizes: PackedSizes,
        chunks: usize,
        width: usize,
        row: impl Fn(usize) -> Option<*const T> + Sync,
        times: Option<&(dyn Fn(usize) -> *const T + Sync)>,
    ) -> Self {
        let lanes = sizes.lanes;
        Self::new(sizes, chunks, |vector, to, stride| {
            let from = vector * lanes;
            let count = lanes.min(width.saturating_sub(from));
            for k in 0..sizes.depth {
                // SAFETY: the caller's for reading, `to` as above for writing.
                unsafe {
                    let to = to.add(k * stride).get();
                    let copied = match row(k) {
                        Some(row) => {
                            std::ptr::copy_nonoverlapping(row.add(from), to, count);
                            count
                        }
                        None => 0,
                    };
                    to.add(copied).write_bytes(0, lanes - copied);
                    if let Some(times) = times {
                        let times = times(k).add(from);
                        for lane in 0..copied {
                            let to = to.add(lane);
                            *to = (*to).times(*times.add(lane));
                        }
                    }
                }
            }
        })
    }

    /// `fill(vector, to, stride)` writes one vector of columns, the vectors of its rows lying
    /// `stride` numbers apart; on up to `chunks` threads.
    fn new(
        sizes: PackedSizes,
        chunks: usize,
        fill: impl Fn(usize, Pointer<T>, usize) + Sync,
    ) -> Self {
        let PackedSizes {
            depth,
            vectors,
            widest,
            lanes,
        } = sizes;
        let panels = Panels::new(vectors, widest);
        let mut buffer = Buffer::new(depth * vectors * lanes);
        let to = buffer.pointer();
        crew::run(1, chunks.min(panels.count()), |_, chunk| {
            for panel in share(panels.count(), chunks.min(panels.count()), chunk) {
                let (start, end) = (panels.start(panel), panels.start(panel + 1));
                for vector in start..end {
                    let offset = start * lanes * depth + (vector - start) * lanes;
                    // SAFETY: within the buffer.
                    let to = unsafe { to.add(offset) };
                    fill(vector, to, (end - start) * lanes);
                }
            }
        });
        Self {
            buffer,
            depth,
            lanes,
            panels,
        }
    }

    /// Numbers in all.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn panels(&self) -> Panels {
        self.panels
    }

    /// Where a panel's vectors begin.
    pub(crate) fn panel(&self, panel: usize) -> *const T {
        // SAFETY: panels lie one behind the other within the buffer.
        unsafe {
            self.buffer
                .source()
                .add(self.panels.start(panel) * self.lanes * self.depth)
        }
    }
}

impl<T: Real> Clone for Packed<T> {
    fn clone(&self) -> Self {
        Self {
            buffer: self.buffer.clone(),
            ..*self
        }
    }
}

/// Sizes of a packed matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedSizes {
    /// Rows.
    pub(crate) depth: usize,
    /// Vectors of columns.
    pub(crate) vectors: usize,
    /// Vectors in the widest panel.
    pub(crate) widest: usize,
    /// Numbers in a vector.
    pub(crate) lanes: usize,
}

/// What becomes of the sums of one row in one panel.
pub(crate) trait Epilogue<T: Real, S: Simd> {
    /// `sums` are those of row `row` in the vectors of columns from `vector` on.
    ///
    /// # Safety
    ///
    /// As the implementation says; the caller of [`multiply`] warrants it for all rows and panels.
    unsafe fn row<const N: usize>(
        &mut self,
        simd: S,
        row: usize,
        vector: usize,
        sums: [T::V<S>; N],
    );
}

/// The product of the rows `rows` of `left` with the panels `panels` of `right`, handed to
/// `epilogue`. `left(row)` points to the `depth` numbers of a row; there may be fewer of them than
/// `right` has, and none at all, which makes the sums 0.
///
/// # Safety
///
/// `left` must point to `depth` readable numbers for each row, and `epilogue` accept each row and
/// panel.
#[inline(always)]
pub(crate) unsafe fn multiply<T: Real, S: Simd>(
    simd: S,
    rows: Range<usize>,
    panels: Range<usize>,
    depth: usize,
    left: impl Fn(usize) -> *const T + Copy,
    right: &Packed<T>,
    epilogue: &mut impl Epilogue<T, S>,
) {
    assert!(depth <= right.depth);
    let mut block = rows.start;
    while block < rows.end {
        let end = (block + ROW_BLOCK).min(rows.end);
        for panel in panels.clone() {
            let (start, next) = (right.panels.start(panel), right.panels.start(panel + 1));
            let from = right.panel(panel);
            // SAFETY: the caller's.
            unsafe {
                macro_rules! panel_of {
                    ($n:literal) => {
                        walk_rows::<T, S, $n>(simd, block..end, start, depth, left, from, epilogue)
                    };
                }
                match next - start {
                    1 => panel_of!(1),
                    2 => panel_of!(2),
                    3 => panel_of!(3),
                    _ => panel_of!(4),
                }
            }
        }
        block = end;
    }
}

/// One panel of `N` vectors, for a block of rows.
#[inline(always)]
unsafe fn walk_rows<T: Real, S: Simd, const N: usize>(
    simd: S,
    rows: Range<usize>,
    vector: usize,
    depth: usize,
    left: impl Fn(usize) -> *const T + Copy,
    panel: *const T,
    epilogue: &mut impl Epilogue<T, S>,
) {
    let lanes = T::lanes::<S>();
    // Sums of the blocks of `depth` before the current one, written by the first.
    let mut before = [const { MaybeUninit::<[T::V<S>; N]>::uninit() }; ROW_BLOCK];
    let mut k = 0;
    loop {
        let block = (depth - k).min(DEPTH_BLOCK);
        let (first, last) = (k == 0, k + block == depth);
        let tiles = rows.len().div_ceil(tile_rows(S::REGISTER_COUNT));
        for tile in 0..tiles {
            let from = rows.start + tile * rows.len() / tiles;
            let to = rows.start + (tile + 1) * rows.len() / tiles;
            // SAFETY: the caller's.
            unsafe {
                macro_rules! tile_of {
                    ($m:literal) => {{
                        let pointers: [*const T; $m] =
                            std::array::from_fn(|row| left(from + row).add(k));
                        let sums = sum_tile::<T, S, $m, N, 1>(
                            simd,
                            block,
                            pointers,
                            panel.add(k * N * lanes),
                        );
                        for (row, mut sums) in sums.into_iter().enumerate() {
                            let before = &mut before[from - rows.start + row];
                            if !first {
                                let before = before.assume_init();
                                for n in 0..N {
                                    sums[n] = T::add(simd, before[n], sums[n]);
                                }
                            }
                            if last {
                                epilogue.row(simd, from + row, vector, sums);
                            } else {
                                before.write(sums);
                            }
                        }
                    }};
                }
                match to - from {
                    1 => tile_of!(1),
                    2 => tile_of!(2),
                    3 => tile_of!(3),
                    4 => tile_of!(4),
                    5 => tile_of!(5),
                    _ => tile_of!(6),
                }
            }
        }
        if last {
            return;
        }
        k += block;
    }
}

/// A product of rows that lie side by side, to rows that do.
pub(crate) struct RowProduct<'a, T> {
    pub(crate) rows: Range<usize>,
    pub(crate) panels: Range<usize>,
    pub(crate) depth: usize,
    pub(crate) left: Rows<T>,
    pub(crate) right: &'a Packed<T>,
    pub(crate) to: Pointer<T>,
    /// Between two rows of `to`.
    pub(crate) distance: usize,
    /// Numbers in a row of `to`.
    pub(crate) width: usize,
    /// What the sums are multiplied with, if anything.
    pub(crate) times: Option<Rows<T>>,
    /// What is added to them.
    pub(crate) plus: Option<Rows<T>>,
}

/// Forms a product. Compiled once: [`multiply`] is compiled with each epilogue, which is worth it
/// where most of the time is spent.
///
/// # Safety
///
/// As [`multiply`], and there must be room for the rows of the result.
#[inline(never)]
pub(crate) unsafe fn write_product<T: Real, S: Simd>(simd: S, product: RowProduct<'_, T>) {
    simd.vectorize(product);
}

impl<T: Real> WithSimd for RowProduct<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Rows(left, left_distance) = self.left;
        let (to, distance) = (self.to, self.distance);
        // SAFETY: the caller's of `write_product`.
        unsafe {
            multiply(
                simd,
                self.rows,
                self.panels,
                self.depth,
                |row| left.add(row * left_distance),
                self.right,
                &mut StoreRows {
                    width: self.width,
                    place: |row: usize| to.add(row * distance).get(),
                    times: self.times,
                    plus: self.plus,
                },
            );
        }
    }
}

/// Writes rows of `width` numbers to `place(row)`.
pub(crate) struct StoreRows<T, P> {
    pub(crate) width: usize,
    pub(crate) place: P,
    /// What the sums are multiplied with, if anything.
    pub(crate) times: Option<Rows<T>>,
    /// What is added to them.
    pub(crate) plus: Option<Rows<T>>,
}

/// Rows of whole vectors, and the distance between them.
#[derive(Clone, Copy)]
pub(crate) struct Rows<T>(pub(crate) *const T, pub(crate) usize);

impl<T: Real, S: Simd, P: Fn(usize) -> *mut T> Epilogue<T, S> for StoreRows<T, P> {
    /// # Safety
    ///
    /// All rows must have whole vectors behind them, but `place(row)`, behind which there must be
    /// room for `width` numbers.
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
                if let Some(Rows(times, distance)) = self.times {
                    let times = load::<T, S>(times.add(row * distance + from));
                    sum = T::mul(simd, times, sum);
                }
                if let Some(Rows(plus, distance)) = self.plus {
                    let plus = load::<T, S>(plus.add(row * distance + from));
                    sum = T::add(simd, sum, plus);
                }
                let to = (self.place)(row).add(from);
                store_first::<T, S>(to, self.width - from, sum);
            }
        }
    }
}

/// Sums over `depth` of `left[row][k * STEP] * panel[k][n]`.
///
/// # Safety
///
/// The pointers must have that many numbers behind them.
#[inline(always)]
pub(crate) unsafe fn sum_tile<
    T: Real,
    S: Simd,
    const M: usize,
    const N: usize,
    const STEP: usize,
>(
    simd: S,
    depth: usize,
    left: [*const T; M],
    panel: *const T,
) -> [[T::V<S>; N]; M] {
    let lanes = T::lanes::<S>();
    // SAFETY: the caller's.
    unsafe {
        let mut sums = sum_chain::<T, S, M, N, STEP>(simd, depth.min(CHAIN), left, panel);
        let mut k = CHAIN;
        while k < depth {
            let left = left.map(|left| left.add(k * STEP));
            let panel = panel.add(k * N * lanes);
            let chain = sum_chain::<T, S, M, N, STEP>(simd, CHAIN.min(depth - k), left, panel);
            for m in 0..M {
                for n in 0..N {
                    sums[m][n] = T::add(simd, sums[m][n], chain[m][n]);
                }
            }
            k += CHAIN;
        }
        sums
    }
}

/// The micro-kernel: as [`sum_tile`], in one go and in registers.
#[inline(always)]
unsafe fn sum_chain<T: Real, S: Simd, const M: usize, const N: usize, const STEP: usize>(
    simd: S,
    depth: usize,
    left: [*const T; M],
    panel: *const T,
) -> [[T::V<S>; N]; M] {
    let mut sums = [[T::splat(simd, T::default()); N]; M];
    let mut panel = panel.cast::<T::V<S>>();
    for k in 0..depth {
        // SAFETY: the caller's; vectors are plain numbers side by side.
        unsafe {
            let right: [T::V<S>; N] = std::array::from_fn(|n| panel.add(n).read_unaligned());
            panel = panel.add(N);
            for m in 0..M {
                let left = T::splat(simd, *left[m].add(k * STEP));
                for n in 0..N {
                    sums[m][n] = T::mul_add(simd, left, right[n], sums[m][n]);
                }
            }
        }
    }
    sums
}

/// Reads a vector.
///
/// # Safety
///
/// A vector's numbers must lie behind `from`.
#[inline(always)]
pub(crate) unsafe fn load<T: Real, S: Simd>(from: *const T) -> T::V<S> {
    unsafe { from.cast::<T::V<S>>().read_unaligned() }
}

/// Writes a vector.
///
/// # Safety
///
/// There must be room for a vector's numbers behind `to`.
#[inline(always)]
pub(crate) unsafe fn store<T: Real, S: Simd>(to: *mut T, vector: T::V<S>) {
    unsafe { to.cast::<T::V<S>>().write_unaligned(vector) }
}

/// Reads `count` numbers, at most a vector's, zeros behind them.
///
/// # Safety
///
/// They must lie behind `from`.
#[inline(always)]
pub(crate) unsafe fn load_first<T: Real, S: Simd>(
    simd: S,
    from: *const T,
    count: usize,
) -> T::V<S> {
    if count >= T::lanes::<S>() {
        return unsafe { load::<T, S>(from) };
    }
    let mut vector = T::splat(simd, T::default());
    // SAFETY: the vector is longer than `count`, and lies in memory of our own.
    unsafe { std::ptr::copy_nonoverlapping(from, (&raw mut vector).cast::<T>(), count) };
    vector
}

/// Writes the first `count` numbers of a vector, at most all.
///
/// # Safety
///
/// There must be room for them behind `to`.
#[inline(always)]
pub(crate) unsafe fn store_first<T: Real, S: Simd>(to: *mut T, count: usize, vector: T::V<S>) {
    if count >= T::lanes::<S>() {
        return unsafe { store::<T, S>(to, vector) };
    }
    // SAFETY: as in `load_first`.
    unsafe { std::ptr::copy_nonoverlapping((&raw const vector).cast::<T>(), to, count) };
}

/// Where a chunk of `count` things begins, of so many equal chunks.
pub(crate) fn share(count: usize, chunks: usize, chunk: usize) -> Range<usize> {
    chunk * count / chunks..(chunk + 1) * count / chunks
}
