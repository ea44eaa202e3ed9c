//! What a cell may have besides the four gates: as it is given, and as the kernels read it.

use pulp::{Simd, WithSimd};

use crate::activation::{sigmoid, tanh};
use crate::buffer::Buffer;
use crate::cell::{ActivatedBounds, Extra, PEEPHOLES};
use crate::functions::Activations;
use crate::gates::COUNT;
use crate::layout::{Layout, Series, Sizes};
use crate::real::Real;
use crate::simd::InstructionSet;
use crate::tile::{load, load_first};

/// What a cell has besides the four gates; nothing by default.
///
/// `docs/backward.md` has the equations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cell<'a, T> {
    /// The projection from what the cell shows to the hidden state, `[P, H]`.
    pub weight_hr: Option<&'a [T]>,
    /// Weights from the cell state to its own input, forget and output gate, `[3H]`.
    pub peephole: Option<&'a [T]>,
    /// The forget gate is 1 minus the input gate: its block of weights, bias, gains and peepholes
    /// has no influence, and its gradients are 0.
    pub coupled: bool,
    /// Gates are kept within ± this, which is above 0, before their activations.
    pub clip_gates: Option<T>,
    /// The cell state is kept within ± this, which is above 0.
    pub clip_cell: Option<T>,
    /// Layer normalization of the gates and of what is shown of the cell state.
    pub layer_norm: Option<LayerNorm<'a, T>>,
    /// What the hidden state is multiplied with where it enters the gates, the same at all steps,
    /// `[B, P]`.
    pub hidden_mask: Option<&'a [T]>,
    /// How much of the old hidden state is kept at each step, 0 to 1, `[B, T, P]`. A rate that is the
    /// same at all steps of all rows is a series with no distance between them.
    pub zoneout_hidden: Option<Series<'a, T>>,
    /// How much of the old cell state is kept at each step, 0 to 1, `[B, T, H]`, as above.
    pub zoneout_cell: Option<Series<'a, T>>,
}

/// Layer normalization: `gain (v - mean) / √(variance + epsilon)`, with the mean and the biased
/// variance over all gates of a row together (those that are not coupled), or over its units.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a, T> {
    /// Gains of what the input adds to the gates, `[4H]`.
    pub input: &'a [T],
    /// Gains of what the hidden state adds to the gates, `[4H]`.
    pub hidden: &'a [T],
    /// Gains of the cell state that is shown, `[H]`.
    pub cell: &'a [T],
    /// What is added to the cell state that is shown, `[H]`.
    pub cell_bias: &'a [T],
    /// What keeps the variance away from 0.
    pub epsilon: T,
}

impl<T: Real> Cell<'_, T> {
    /// Whether it has nothing besides the four gates.
    pub(crate) fn is_plain(&self) -> bool {
        let Self {
            weight_hr: None,
            peephole: None,
            coupled: false,
            clip_gates: None,
            clip_cell: None,
            layer_norm: None,
            hidden_mask: None,
            zoneout_hidden: None,
            zoneout_cell: None,
        } = self
        else {
            return false;
        };
        true
    }

    /// # Panics
    ///
    /// If sizes do not fit each other: the kernels rely on them.
    pub(crate) fn check(&self, sizes: Sizes) {
        let Sizes {
            batch,
            steps,
            d_hidden,
            d_output,
            ..
        } = sizes;
        assert!(
            self.weight_hr.is_some() || d_output == d_hidden,
            "without a projection the hidden state is as wide as the cell state, {d_hidden}, \
             found {d_output}"
        );
        check_weights(
            [d_hidden, d_output],
            self.weight_hr,
            self.peephole,
            self.layer_norm,
        );
        if let Some(mask) = self.hidden_mask {
            assert_eq!(mask.len(), batch * d_output, "numbers in the hidden mask");
        }
        for (series, width) in [
            (&self.zoneout_hidden, d_output),
            (&self.zoneout_cell, d_hidden),
        ] {
            if let Some(series) = series {
                assert_eq!(series.shape(), [batch, steps, width], "zoneout");
            }
        }
    }
}

/// # Panics
///
/// If a weight does not fit the widths `[H, P]`.
pub(crate) fn check_weights<T: Real>(
    [d_hidden, d_output]: [usize; 2],
    weight_hr: Option<&[T]>,
    peephole: Option<&[T]>,
    layer_norm: Option<LayerNorm<'_, T>>,
) {
    let gains = |of: fn(LayerNorm<'_, T>) -> usize| layer_norm.map(of);
    for (what, found, expected) in [
        ("weight_hr", weight_hr.map(<[T]>::len), d_output * d_hidden),
        ("peephole", peephole.map(<[T]>::len), PEEPHOLES * d_hidden),
        ("input gains", gains(|n| n.input.len()), COUNT * d_hidden),
        ("hidden gains", gains(|n| n.hidden.len()), COUNT * d_hidden),
        ("cell gains", gains(|n| n.cell.len()), d_hidden),
        ("cell bias", gains(|n| n.cell_bias.len()), d_hidden),
    ] {
        if let Some(found) = found {
            assert_eq!(found, expected, "numbers in {what}");
        }
    }
}

/// The same as the kernels read it: in rows of the layout, filled up with zeros.
#[derive(Debug)]
pub(crate) struct Options<'a, T> {
    /// Whether there are none.
    pub(crate) is_plain: bool,
    /// Whether what a cell shows is projected to a hidden state.
    pub(crate) is_projected: bool,
    pub(crate) coupled: bool,
    pub(crate) norm: Option<Norm<T>>,
    /// Rows of hidden states.
    pub(crate) hidden_mask: Option<Buffer<T>>,
    /// Instead of σ and tanh.
    pub(crate) activations: Option<Activations>,
    zoneout_hidden: Option<Zoneout<'a, T>>,
    zoneout_cell: Option<Zoneout<'a, T>>,
    clip_gates: Option<ActivatedBounds<T>>,
    clip_cell: Option<T>,
    /// For each vector of units those of its input, forget and output gate.
    peephole: Option<Buffer<T>>,
    layout: Layout,
}

/// How much of the old state is kept.
#[derive(Debug, Clone, Copy)]
enum Zoneout<'a, T> {
    /// Numbers for each row, step and unit.
    Series(Series<'a, T>),
    /// The same everywhere.
    Rate(T),
}

/// Layer normalization as the kernels read it.
#[derive(Debug)]
pub(crate) struct Norm<T> {
    /// Gains, in the order of a row of gates.
    pub(crate) input: Buffer<T>,
    /// As `input`.
    pub(crate) hidden: Buffer<T>,
    /// The bias of the gates, in the same order: it is added after the normalization.
    pub(crate) bias: Buffer<T>,
    /// A row of cell states.
    pub(crate) cell: Buffer<T>,
    /// A row of cell states.
    pub(crate) cell_bias: Buffer<T>,
    pub(crate) epsilon: T,
}

impl<'a, T: Real> Options<'a, T> {
    /// Of a cell whose sizes were checked, and `bias [4H]`.
    ///
    /// # Panics
    ///
    /// If a bound is not above 0.
    pub(crate) fn new(cell: &Cell<'a, T>, bias: &[T], layout: Layout, set: InstructionSet) -> Self {
        let Layout {
            lanes,
            units,
            d_hidden,
            d_output,
            ..
        } = layout;
        let state = |numbers: &[T]| fill_up(lanes, d_hidden, numbers);
        for bound in [cell.clip_gates, cell.clip_cell].into_iter().flatten() {
            assert!(bound.wide() > 0.0, "a bound above 0, found {bound:?}");
        }
        Self {
            is_plain: cell.is_plain(),
            is_projected: cell.weight_hr.is_some(),
            coupled: cell.coupled,
            norm: cell.layer_norm.map(|norm| Norm {
                input: layout.gates_of(norm.input),
                hidden: layout.gates_of(norm.hidden),
                bias: layout.gates_of(bias),
                cell: state(norm.cell),
                cell_bias: state(norm.cell_bias),
                epsilon: norm.epsilon,
            }),
            hidden_mask: cell.hidden_mask.map(|mask| fill_up(lanes, d_output, mask)),
            activations: None,
            zoneout_hidden: cell.zoneout_hidden.map(Zoneout::Series),
            zoneout_cell: cell.zoneout_cell.map(Zoneout::Series),
            clip_gates: cell.clip_gates.map(|bound| set.run(Activate(bound))),
            clip_cell: cell.clip_cell,
            peephole: cell.peephole.map(|numbers| {
                let mut buffer = Buffer::<T>::zeros(PEEPHOLES * units * lanes);
                for (index, &number) in numbers.iter().enumerate() {
                    let (gate, unit) = (index / d_hidden, index % d_hidden);
                    let vector = unit / lanes * PEEPHOLES + gate;
                    // SAFETY: there are three vectors for each vector of units.
                    unsafe {
                        let to = buffer.pointer().add(vector * lanes + unit % lanes);
                        to.get().write(number);
                    }
                }
                buffer
            }),
            layout,
        }
    }

    /// Whether a step needs whole rows before it can go on.
    pub(crate) fn whole_rows(&self) -> bool {
        self.is_projected || self.norm.is_some()
    }

    /// The same with zoneout of one rate everywhere, and other functions than σ and tanh.
    pub(crate) fn with(
        self,
        zoneout_hidden: Option<T>,
        zoneout_cell: Option<T>,
        activations: Option<Activations>,
    ) -> Options<'static, T> {
        let adds_nothing =
            zoneout_hidden.is_none() && zoneout_cell.is_none() && activations.is_none();
        Options {
            is_plain: self.is_plain && adds_nothing,
            is_projected: self.is_projected,
            coupled: self.coupled,
            norm: self.norm,
            hidden_mask: self.hidden_mask,
            activations,
            zoneout_hidden: zoneout_hidden.map(Zoneout::Rate),
            zoneout_cell: zoneout_cell.map(Zoneout::Rate),
            clip_gates: self.clip_gates,
            clip_cell: self.clip_cell,
            peephole: self.peephole,
            layout: self.layout,
        }
    }

    pub(crate) fn has_peephole(&self) -> bool {
        self.peephole.is_some()
    }

    /// Whether hidden states are kept in part.
    pub(crate) fn keeps_hidden(&self) -> bool {
        self.zoneout_hidden.is_some()
    }

    /// What concerns a vector of units of a row at a time.
    ///
    /// # Safety
    ///
    /// They must lie within the sizes.
    #[inline(always)]
    pub(crate) unsafe fn extra<S: Simd>(
        &self,
        simd: S,
        time: usize,
        row: usize,
        units: usize,
    ) -> Extra<T, T::V<S>> {
        let lanes = T::lanes::<S>();
        // SAFETY: the caller's.
        unsafe {
            Extra {
                peephole: self.peephole.as_ref().map(|buffer| {
                    let from = buffer.source().add(units * PEEPHOLES * lanes);
                    std::array::from_fn(|gate| load::<T, S>(from.add(gate * lanes)))
                }),
                coupled: self.coupled,
                clip_gates: self.clip_gates,
                clip_cell: self.clip_cell,
                zoneout: (self.zoneout_cell.as_ref()).map(|zoneout| {
                    zoneout.load(simd, time, row, units * lanes, self.layout.units_in(units))
                }),
                activations: None,
            }
        }
    }

    /// How much of a vector of a row's hidden state is kept at a time; nothing of a `PLAIN` cell.
    ///
    /// # Safety
    ///
    /// They must lie within the sizes.
    #[inline(always)]
    pub(crate) unsafe fn kept_hidden<S: Simd, const PLAIN: bool>(
        &self,
        simd: S,
        time: usize,
        row: usize,
        vector: usize,
    ) -> Option<T::V<S>> {
        if PLAIN {
            return None;
        }
        let zoneout = self.zoneout_hidden.as_ref()?;
        let count = self.layout.outputs_in(vector);
        // SAFETY: the caller's.
        Some(unsafe { zoneout.load(simd, time, row, vector * T::lanes::<S>(), count) })
    }

    /// `state` as the gates see it, if it is masked there; both are vector `vector` of row `row` of
    /// the hidden state.
    ///
    /// # Safety
    ///
    /// They must lie within the sizes.
    #[inline(always)]
    pub(crate) unsafe fn masked<S: Simd, const PLAIN: bool>(
        &self,
        simd: S,
        row: usize,
        vector: usize,
        state: T::V<S>,
    ) -> T::V<S> {
        match &self.hidden_mask {
            Some(mask) if !PLAIN => unsafe {
                let place = row * self.layout.hidden_row() + vector * T::lanes::<S>();
                T::mul(simd, load::<T, S>(mask.source().add(place)), state)
            },
            _ => state,
        }
    }
}

impl<T: Real> Zoneout<'_, T> {
    #[inline(always)]
    unsafe fn load<S: Simd>(
        &self,
        simd: S,
        time: usize,
        row: usize,
        from: usize,
        count: usize,
    ) -> T::V<S> {
        match self {
            // SAFETY: the caller's.
            Self::Series(series) => unsafe {
                load_first(simd, series.at(time, row).add(from), count)
            },
            Self::Rate(rate) => T::splat(simd, *rate),
        }
    }
}

/// Rows of `width` numbers, each filled up with zeros to whole vectors.
pub(crate) fn fill_up<T: Real>(lanes: usize, width: usize, rows: &[T]) -> Buffer<T> {
    let filled = width.next_multiple_of(lanes);
    let mut buffer = Buffer::zeros(rows.len() / width * filled);
    for (row, numbers) in rows.chunks_exact(width).enumerate() {
        // SAFETY: a row of the buffer is at least as wide, and there are as many.
        unsafe {
            let to = buffer.pointer().add(row * filled).get();
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, width);
        }
    }
    buffer
}

/// The other way.
pub(crate) fn cut_down<T: Real>(lanes: usize, width: usize, buffer: &Buffer<T>, rows: &mut [T]) {
    let filled = width.next_multiple_of(lanes);
    for (row, numbers) in rows.chunks_exact_mut(width).enumerate() {
        assert!((row + 1) * filled <= buffer.len());
        // SAFETY: as checked; the kernels have written all rows.
        unsafe {
            let from = buffer.source().add(row * filled);
            std::ptr::copy_nonoverlapping(from, numbers.as_mut_ptr(), width);
        }
    }
}

/// What bounds become by the activations, to the bit as the kernels compute it.
struct Activate<T>(T);

impl<T: Real> WithSimd for Activate<T> {
    type Output = ActivatedBounds<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> ActivatedBounds<T> {
        let first = |vector: T::V<S>| {
            // SAFETY: a vector begins with its first number.
            unsafe { (&raw const vector).cast::<T>().read() }
        };
        let bound = T::splat(simd, self.0);
        let minus_bound = T::neg(simd, bound);
        ActivatedBounds {
            bound: self.0,
            gate: [minus_bound, bound].map(|x| first(sigmoid::<T, S>(simd, x))),
            candidate: [minus_bound, bound].map(|x| first(tanh::<T, S>(simd, x))),
        }
    }
}
