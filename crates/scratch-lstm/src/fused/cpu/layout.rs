//! How the kernels lay out what they keep, and how they see what they are given.
//!
//! Hidden units are taken by vectors of `lanes`, the last one filled up with zeros. A row of gates
//! is, for each vector of units, the vectors of its four gates side by side in the gate order: what
//! a tile computes together lies together.

use crate::gates::COUNT;

/// Sizes of one layer and direction; see [`shapes`](crate::shapes) for the letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// `B`
    pub(crate) batch: usize,
    /// `T`
    pub(crate) steps: usize,
    /// `D`
    pub(crate) d_input: usize,
    /// `H`
    pub(crate) d_hidden: usize,
}

/// Rows of states and gates in vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Numbers in a vector.
    pub(crate) lanes: usize,
    /// Vectors of hidden units.
    pub(crate) units: usize,
    /// `H`
    pub(crate) d_hidden: usize,
}

impl Layout {
    pub(crate) fn new(d_hidden: usize, lanes: usize) -> Self {
        Self {
            lanes,
            units: d_hidden.div_ceil(lanes),
            d_hidden,
        }
    }

    /// Numbers in a row of states.
    pub(crate) fn state_row(&self) -> usize {
        self.units * self.lanes
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

    /// Real units of a vector.
    #[inline(always)]
    pub(crate) fn units_in(&self, vector: usize) -> usize {
        self.lanes.min(self.d_hidden - vector * self.lanes)
    }
}

/// `[B, T, width]` in memory, in any order of batch and time, a row's numbers side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a, T> {
    numbers: &'a [T],
    of_row: usize,
    of_step: usize,
}

impl<'a, T> Series<'a, T> {
    /// `of_row` and `of_step` are the distances between rows and between steps, in numbers.
    ///
    /// # Panics
    ///
    /// If a row lies outside of `numbers`.
    pub(crate) fn new(
        numbers: &'a [T],
        [batch, steps, width]: [usize; 3],
        of_row: usize,
        of_step: usize,
    ) -> Self {
        let end = (batch - 1) * of_row + (steps - 1) * of_step + width;
        assert!(end <= numbers.len(), "a series of {end} numbers");
        Self {
            numbers,
            of_row,
            of_step,
        }
    }

    /// Where the numbers of a row at a step begin.
    #[inline(always)]
    pub(crate) fn at(&self, step: usize, row: usize) -> *const T {
        debug_assert!(step * self.of_step + row * self.of_row < self.numbers.len());
        // SAFETY: checked for the last row and step when it was made.
        unsafe {
            self.numbers
                .as_ptr()
                .add(step * self.of_step + row * self.of_row)
        }
    }
}

/// The order in which a direction visits the steps, and where rows end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk<'a> {
    /// From the last step to the first.
    pub(crate) reverse: bool,
    /// `T`
    pub(crate) steps: usize,
    /// How many steps of each row are valid; all, if absent.
    pub(crate) lengths: Option<&'a [usize]>,
}

impl Walk<'_> {
    /// The time of the step visited as number `visit`.
    #[inline(always)]
    pub(crate) fn time(&self, visit: usize) -> usize {
        if self.reverse {
            self.steps - 1 - visit
        } else {
            visit
        }
    }

    /// Whether `row` has a step at `time`.
    #[inline(always)]
    pub(crate) fn is_valid(&self, time: usize, row: usize) -> bool {
        self.lengths.is_none_or(|lengths| time < lengths[row])
    }
}
