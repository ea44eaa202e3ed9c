//! Which steps of which rows are there.

use std::sync::Arc;

/// The steps of each row that are valid. At the others a row's output is zero and its state stands
/// still.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Valid {
    /// All of them.
    #[default]
    All,
    /// The first ones of each row, so many, at most `T`.
    Lengths(Arc<[usize]>),
    /// Those that are true in `[T, B]`, whatever the pattern.
    Mask(Arc<[bool]>),
}

/// Which end of a row is filled up where it is shorter than the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Padding {
    /// Rows begin at the first step, and what lies behind their length is filling.
    #[default]
    Right,
    /// Rows end at the last step, and what lies before is filling.
    Left,
}

impl Valid {
    /// The first `lengths` steps of each row of `steps`.
    pub(crate) fn first(lengths: &[usize], steps: usize) -> Self {
        if lengths.iter().all(|&length| length == steps) {
            return Self::All;
        }
        Self::Lengths(lengths.into())
    }

    /// The last `lengths` steps of each row of `steps`.
    pub(crate) fn last(lengths: &[usize], steps: usize) -> Self {
        if lengths.iter().all(|&length| length == steps) {
            return Self::All;
        }
        let mask =
            (0..steps).flat_map(|time| lengths.iter().map(move |&length| time + length >= steps));
        Self::Mask(mask.collect())
    }

    /// Whether `row` of `batch` has a step at `time`.
    pub(crate) fn is_valid(&self, time: usize, row: usize, batch: usize) -> bool {
        match self {
            Self::All => true,
            Self::Lengths(lengths) => time < lengths[row],
            Self::Mask(mask) => mask[time * batch + row],
        }
    }

    /// The times `first..end` at which some row has no step, and `end` itself: from there on no row
    /// has any.
    pub(crate) fn mixed(&self, steps: usize, batch: usize) -> std::ops::Range<usize> {
        let of_time = |time: usize| (0..batch).map(move |row| self.is_valid(time, row, batch));
        let first = (0..steps).find(|&time| !of_time(time).all(|valid| valid));
        let end = (0..steps)
            .rfind(|&time| of_time(time).any(|valid| valid))
            .map_or(0, |time| time + 1);
        first.unwrap_or(end).min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixed_part_lies_between_all_and_none() {
        assert_eq!(Valid::All.mixed(7, 3), 7..7);
        assert_eq!(Valid::Lengths([5, 2, 4].into()).mixed(7, 3), 2..5);
        assert_eq!(Valid::Lengths([0, 0].into()).mixed(7, 2), 0..0);
        assert_eq!(Valid::Lengths([7, 7].into()).mixed(7, 2), 7..7);
        let left = Valid::last(&[1, 3], 3);
        assert_eq!(
            left,
            Valid::Mask([false, true, false, true, true, true].into())
        );
        assert_eq!(left.mixed(3, 2), 0..3);
        assert_eq!(Valid::last(&[3, 3], 3), Valid::All);
    }
}
