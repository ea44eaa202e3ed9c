//! Layer normalization of a row, forward and backward.
//!
//! ```text
//! n = (v - mean) / √(variance + epsilon)
//! dv = (dn - mean(dn) - n mean(dn ⊙ n)) / √(variance + epsilon)
//! ```
//!
//! Ba, Kiros & Hinton, *Layer normalization* (2016). Gains are the caller's on the way forward.

use pulp::Simd;

use crate::buffer::Pointer;
use crate::gates::{COUNT, Gate};
use crate::layout::Layout;
use crate::real::Real;
use crate::tile::{load, load_first, store};

/// The numbers of a row that are normalized together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Span {
    /// A row of gates; without those of the forget gate, if it is coupled.
    Gates { layout: Layout, coupled: bool },
    /// A row of cell states.
    Units(Layout),
}

impl Span {
    /// Vectors of the row.
    #[inline(always)]
    fn vectors(&self) -> usize {
        match self {
            Self::Gates { layout, .. } => layout.gate_vectors(),
            Self::Units(layout) => layout.units,
        }
    }

    /// How many numbers of a vector are normalized: its first ones, or none.
    #[inline(always)]
    fn count(&self, vector: usize) -> usize {
        match *self {
            Self::Gates { coupled: true, .. } if vector % COUNT == Gate::Forget as usize => 0,
            Self::Gates { layout, .. } => layout.units_in(vector / COUNT),
            Self::Units(layout) => layout.units_in(vector),
        }
    }

    /// How many numbers that are.
    fn len(&self) -> usize {
        match self {
            Self::Gates { layout, coupled } => (COUNT - usize::from(*coupled)) * layout.d_hidden,
            Self::Units(layout) => layout.d_hidden,
        }
    }
}

/// Writes the normalization of the row `from` to `to`, zeros in other places than the span's, and
/// returns `1 / √(variance + epsilon)`.
///
/// # Safety
///
/// Both must have all vectors of the row behind them; they may be the same.
#[inline(always)]
pub(crate) unsafe fn normalize<T: Real, S: Simd>(
    simd: S,
    span: Span,
    epsilon: T,
    from: *const T,
    to: Pointer<T>,
) -> T {
    let lanes = T::lanes::<S>();
    let zero = T::splat(simd, T::default());
    // SAFETY: the caller's.
    unsafe {
        let mut sum = zero;
        for vector in 0..span.vectors() {
            let numbers = load_first(simd, from.add(vector * lanes), span.count(vector));
            sum = T::add(simd, sum, numbers);
        }
        let mean = T::splat(simd, mean_of::<T, S>(simd, span, sum));
        let mut squares = zero;
        for vector in 0..span.vectors() {
            let count = span.count(vector);
            let numbers = load_first(simd, from.add(vector * lanes), count);
            let apart = first::<T, S>(simd, T::sub(simd, numbers, mean), count);
            store::<T, S>(to.add(vector * lanes).get(), apart);
            squares = T::mul_add(simd, apart, apart, squares);
        }
        let variance = mean_of::<T, S>(simd, span, squares).wide();
        let scale = T::narrow(1.0 / (variance + epsilon.wide()).sqrt());
        for vector in 0..span.vectors() {
            let to = to.add(vector * lanes).get();
            let normalized = T::mul(simd, load::<T, S>(to), T::splat(simd, scale));
            store::<T, S>(to, normalized);
        }
        scale
    }
}

/// Back through the normalization and its gains: `normalized`, what [`normalize`] wrote, becomes the
/// gradient of what it read; `deltas` is that of the normalized numbers times their `gains`. Adds
/// the gradients of the gains to `d_gains`.
///
/// # Safety
///
/// All must have the vectors of the row behind them.
#[inline(always)]
pub(crate) unsafe fn normalize_back<T: Real, S: Simd>(
    simd: S,
    span: Span,
    scale: T,
    gains: *const T,
    deltas: *const T,
    normalized: Pointer<T>,
    d_gains: Option<Pointer<T>>,
) {
    let lanes = T::lanes::<S>();
    let zero = T::splat(simd, T::default());
    // SAFETY: the caller's.
    unsafe {
        let (mut sum, mut along) = (zero, zero);
        for vector in 0..span.vectors() {
            let (place, count) = (vector * lanes, span.count(vector));
            let delta = load_first(simd, deltas.add(place), count);
            let n = load::<T, S>(normalized.add(place).get());
            let d_n = T::mul(simd, load_first(simd, gains.add(place), count), delta);
            sum = T::add(simd, sum, d_n);
            along = T::mul_add(simd, d_n, n, along);
            if let Some(d_gains) = d_gains {
                let to = d_gains.add(place).get();
                store::<T, S>(to, T::mul_add(simd, delta, n, load::<T, S>(to)));
            }
        }
        let mean = T::splat(simd, mean_of::<T, S>(simd, span, sum));
        let along = T::splat(simd, mean_of::<T, S>(simd, span, along));
        let scale = T::splat(simd, scale);
        for vector in 0..span.vectors() {
            let (place, count) = (vector * lanes, span.count(vector));
            let delta = load_first(simd, deltas.add(place), count);
            let to = normalized.add(place).get();
            let d_n = T::mul(simd, load_first(simd, gains.add(place), count), delta);
            let apart = T::sub(simd, d_n, mean);
            let apart = T::sub(simd, apart, T::mul(simd, load::<T, S>(to), along));
            let d_v = T::mul(simd, scale, apart);
            store::<T, S>(to, first::<T, S>(simd, d_v, count));
        }
    }
}

#[inline(always)]
fn mean_of<T: Real, S: Simd>(simd: S, span: Span, sums: T::V<S>) -> T {
    T::narrow(T::sum(simd, sums).wide() / span.len() as f64)
}

/// The first `count` numbers of a vector, zeros behind them.
#[inline(always)]
fn first<T: Real, S: Simd>(simd: S, vector: T::V<S>, count: usize) -> T::V<S> {
    // SAFETY: a vector has that many numbers, at least as many as `count`.
    unsafe { load_first(simd, (&raw const vector).cast::<T>(), count) }
}
