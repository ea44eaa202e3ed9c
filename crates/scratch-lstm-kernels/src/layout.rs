//! How the kernels lay out what they keep, and how they see what they are given.
//!
//! Units are taken by vectors of `lanes`, the last one filled up with zeros. A row of gates is, for
//! each vector of units, the vectors of its four gates side by side in the gate order: what a tile
//! computes together lies together.

use crate::buffer::Buffer;
use crate::gates::COUNT;
use crate::real::Real;

/// Sizes of one layer and direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// `B`, rows: independent sequences.
    pub batch: usize,
    /// `T`, time steps.
    pub steps: usize,
    /// `D`, width of the input.
    pub d_input: usize,
    /// `H`, width of the cell state.
    pub d_hidden: usize,
    /// `P`, width of the hidden state and of the output: `H` without a projection.
    pub d_output: usize,
}

/// Rows of states and gates in vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Numbers in a vector.
    pub(crate) lanes: usize,
    /// Vectors of units.
    pub(crate) units: usize,
    /// `H`
    pub(crate) d_hidden: usize,
    /// Vectors of a hidden state.
    pub(crate) outputs: usize,
    /// `P`
    pub(crate) d_output: usize,
}

impl Layout {
    pub(crate) fn new(d_hidden: usize, d_output: usize, lanes: usize) -> Self {
        Self {
            lanes,
            units: d_hidden.div_ceil(lanes),
            d_hidden,
            outputs: d_output.div_ceil(lanes),
            d_output,
        }
    }

    /// Numbers in a row of cell states.
    pub(crate) fn state_row(&self) -> usize {
        self.units * self.lanes
    }

    /// Numbers in a row of hidden states.
    pub(crate) fn hidden_row(&self) -> usize {
        self.outputs * self.lanes
    }

    /// Numbers in a row of gates.
    pub(crate) fn gates_row(&self) -> usize {
        COUNT * self.state_row()
    }

    /// Vectors in a row of gates.
    pub(crate) fn gate_vectors(&self) -> usize {
        COUNT * self.units
    }

    /// The row of `weight_ih` and `weight_hh` that number `lane` of a vector of gates belongs to;
    /// `None` where it is filling.
    pub(crate) fn weight_row(&self, vector: usize, lane: usize) -> Option<usize> {
        let unit = vector / COUNT * self.lanes + lane;
        (unit < self.d_hidden).then_some(vector % COUNT * self.d_hidden + unit)
    }

    /// As [`weight_row`](Self::weight_row), for a place in a row of gates.
    pub(crate) fn weight_row_at(&self, place: usize) -> Option<usize> {
        self.weight_row(place / self.lanes, place % self.lanes)
    }

    /// `[4H]` in the order of a row of gates.
    pub(crate) fn gates_of<T: Real>(&self, numbers: &[T]) -> Buffer<T> {
        let mut buffer = Buffer::<T>::zeros(self.gates_row());
        for place in 0..self.gates_row() {
            if let Some(row) = self.weight_row_at(place) {
                // SAFETY: the buffer has a number for each place.
                unsafe { buffer.pointer().add(place).get().write(numbers[row]) };
            }
        }
        buffer
    }

    /// The other way.
    pub(crate) fn numbers_of<T: Real>(&self, gates: &[T]) -> Vec<T> {
        let mut numbers = vec![T::default(); COUNT * self.d_hidden];
        for (place, &number) in gates.iter().enumerate() {
            if let Some(row) = self.weight_row_at(place) {
                numbers[row] = number;
            }
        }
        numbers
    }

    /// Real units of a vector.
    #[inline(always)]
    pub(crate) fn units_in(&self, vector: usize) -> usize {
        self.lanes.min(self.d_hidden - vector * self.lanes)
    }

    /// Real numbers in a vector of a hidden state.
    #[inline(always)]
    pub(crate) fn outputs_in(&self, vector: usize) -> usize {
        self.lanes.min(self.d_output - vector * self.lanes)
    }
}

/// `[B, T, width]` in memory, in any order of batch and time, a row's numbers side by side.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a, T> {
    numbers: &'a [T],
    shape: [usize; 3],
    of_row: usize,
    of_step: usize,
}

impl<'a, T> Series<'a, T> {
    /// `of_row` and `of_step` are the distances between rows and between steps, in numbers.
    ///
    /// # Panics
    ///
    /// If it has no rows or steps, or one of them lies outside of `numbers`.
    pub fn new(
        numbers: &'a [T],
        [batch, steps, width]: [usize; 3],
        of_row: usize,
        of_step: usize,
    ) -> Self {
        assert!(batch > 0 && steps > 0, "a series has rows and steps");
        let last = |count: usize, distance: usize| (count - 1).checked_mul(distance);
        let end = last(batch, of_row)
            .zip(last(steps, of_step))
            .and_then(|(rows, steps)| rows.checked_add(steps)?.checked_add(width));
        assert!(
            end.is_some_and(|end| end <= numbers.len()),
            "a series of {batch} rows, {of_row} apart, and {steps} steps, {of_step} apart, of \
             {width} numbers, found {}",
            numbers.len()
        );
        Self {
            numbers,
            shape: [batch, steps, width],
            of_row,
            of_step,
        }
    }

    /// `[B, T, width]`
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Where the numbers of a row at a step begin.
    #[inline(always)]
    pub(crate) fn at(&self, step: usize, row: usize) -> *const T {
        debug_assert!(step < self.shape[1] && row < self.shape[0]);
        // SAFETY: checked for the last row and step when it was made.
        unsafe {
            self.numbers
                .as_ptr()
                .add(step * self.of_step + row * self.of_row)
        }
    }
}

/// How far the rows and the steps of a series without gaps lie apart.
pub(crate) fn distances(sizes: Sizes, batch_first: bool, width: usize) -> [usize; 2] {
    if batch_first {
        [sizes.steps * width, width]
    } else {
        [width, sizes.batch * width]
    }
}

/// The order in which a direction visits the steps, and which of them are valid.
#[derive(Debug, Clone, Copy, Default)]
pub struct Walk<'a> {
    /// From the last step to the first.
    pub reverse: bool,
    /// Which steps a row has.
    pub valid: Valid<'a>,
}

/// Which steps a row has. At others its output is zero, its state stands still, and its input, NaN
/// too, has no influence.
#[derive(Debug, Clone, Copy, Default)]
pub enum Valid<'a> {
    /// All of them.
    #[default]
    All,
    /// The first ones, so many of each row.
    Lengths(&'a [usize]),
    /// Those where this is true, `[T, B]`: holes and padding on any side.
    Mask(&'a [bool]),
}

impl Walk<'_> {
    /// The time of the step visited as number `visit` of `steps`.
    #[inline(always)]
    pub(crate) fn time(&self, visit: usize, steps: usize) -> usize {
        if self.reverse {
            steps - 1 - visit
        } else {
            visit
        }
    }

    /// Whether `row` of `batch` has a step at `time`.
    #[inline(always)]
    pub(crate) fn is_valid(&self, time: usize, row: usize, batch: usize) -> bool {
        match self.valid {
            Valid::All => true,
            Valid::Lengths(lengths) => time < lengths[row],
            Valid::Mask(mask) => mask[time * batch + row],
        }
    }

    /// Whether rows may lack steps.
    pub(crate) fn has_gaps(&self) -> bool {
        !matches!(self.valid, Valid::All)
    }
}
