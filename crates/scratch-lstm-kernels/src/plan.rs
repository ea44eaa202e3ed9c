//! How the work is cut: segments of time, and shares of threads. What is computed does not depend
//! on the threads, to the bit, and on the segments, which the weights' gradients are added up by,
//! within rounding.

use std::ops::Range;

use crate::crew;
use crate::gates::COUNT;
use crate::layout::{Layout, Sizes};
use crate::real::Real;
use crate::simd::InstructionSet;

/// Gates of a segment take at most so many bytes: it stays in the last-level cache between being
/// projected and being used, and the allocator hands the same memory out again.
const SEGMENT_BYTES: usize = 1 << 24;

/// Floating-point operations that are worth waking a thread for.
const WORTH_A_THREAD: usize = 1 << 20;

/// The same for each step, where the thread is awake and only a barrier is to be paid.
const WORTH_A_BARRIER: usize = 1 << 17;

/// Rows of the batch that make it worth giving each thread rows of its own.
const ROWS_OF_A_THREAD: usize = 4;

/// What is kept for the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// There is no way back.
    Nothing,
    /// The gates and cell states of every step.
    Everything,
    /// The states between segments; the way back runs forward again, segment by segment.
    Boundaries,
}

/// How one call is computed.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub(crate) set: InstructionSet,
    /// Threads at most.
    pub(crate) threads: usize,
    /// Steps of the sequence.
    steps: usize,
    /// Steps of a segment, no more than those of the sequence.
    pub(crate) segment: usize,
    pub(crate) keep: Keep,
    /// How the recurrence is divided, if that is not left to the sizes.
    split: Option<Split>,
}

/// Which part of each step a thread computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// Rows of the batch, for all steps without waiting for each other.
    Rows(usize),
    /// Hidden units of all rows, with a barrier after each step.
    Units(usize),
}

impl Plan {
    /// What suits the sizes, in numbers of type `T`, on the instruction set `set`.
    pub fn new<T: Real>(set: InstructionSet, sizes: Sizes, keep: Keep) -> Self {
        let layout = Layout::new(sizes.d_hidden, sizes.d_output, set.lanes::<T>());
        let suiting = match keep {
            Keep::Boundaries => sizes.steps.isqrt(),
            _ => SEGMENT_BYTES / (sizes.batch * layout.gates_row() * size_of::<T>()).max(1),
        };
        Self {
            set,
            threads: crew::threads(),
            steps: sizes.steps,
            segment: suiting.clamp(1, sizes.steps.max(1)),
            keep,
            split: None,
        }
    }

    /// With `segment` steps projected, and run over again, at once, or all if there are fewer.
    ///
    /// # Panics
    ///
    /// If that is 0.
    pub fn with_segment(mut self, segment: usize) -> Self {
        assert!(segment > 0, "a segment has at least one step");
        self.segment = segment.min(self.steps.max(1));
        self
    }

    /// Divided like this, whether or not it is worth it.
    #[cfg(test)]
    pub(crate) fn with_split(mut self, split: Split) -> Self {
        self.split = Some(split);
        self
    }

    /// The segments in the order of visits.
    pub(crate) fn segments(&self, steps: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
        let segment = self.segment;
        (0..steps.div_ceil(segment))
            .map(move |number| number * segment..((number + 1) * segment).min(steps))
    }

    /// Chunks for a matrix product of so many multiplications.
    pub(crate) fn chunks(&self, multiplications: usize) -> usize {
        if let Some(Split::Rows(chunks) | Split::Units(chunks)) = self.split {
            return chunks;
        }
        (2 * multiplications / WORTH_A_THREAD).clamp(1, self.threads)
    }

    /// How the recurrence over `steps` is divided; by rows, if `whole_rows` are needed.
    pub(crate) fn split(
        &self,
        sizes: Sizes,
        steps: usize,
        unit_panels: usize,
        whole_rows: bool,
    ) -> Split {
        match self.split {
            Some(Split::Units(chunks)) if !whole_rows => {
                return Split::Units(chunks.min(unit_panels));
            }
            Some(Split::Rows(chunks) | Split::Units(chunks)) => {
                return Split::Rows(chunks.min(sizes.batch));
            }
            None => {}
        }
        let of_step = 2 * sizes.batch * COUNT * sizes.d_hidden * sizes.d_output;
        let threads = self.chunks(of_step / 2 * steps);
        if threads == 1 || sizes.batch >= threads * ROWS_OF_A_THREAD {
            return Split::Rows(threads);
        }
        if whole_rows {
            return Split::Rows(threads.min(sizes.batch));
        }
        let by_rows = sizes.batch / ROWS_OF_A_THREAD;
        let by_units = threads.min(of_step / WORTH_A_BARRIER).min(unit_panels);
        if by_units > by_rows.max(1) {
            Split::Units(by_units)
        } else {
            Split::Rows(by_rows.max(1))
        }
    }
}
