//! One layer: one direction or two, whichever way a direction is run.

use burn::module::Module;

use crate::cell::ScratchLstmCell;
use crate::dropout::Dropout;
use crate::random::Key;
use crate::recurrence::Recurrence;
use crate::state::LstmState;

/// Which way a direction walks through time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Reverse,
}

/// How a direction is run, and what layers hand to each other then.
pub(crate) trait Passage {
    /// A sequence between two layers.
    type Series: Clone;

    /// One direction of a layer over a whole sequence: the hidden state at each step, in the order
    /// of time, and the final state.
    fn run(
        &self,
        recurrence: &Recurrence,
        input: &Self::Series,
        state: LstmState<2>,
        direction: Direction,
    ) -> (Self::Series, LstmState<2>);

    /// Series side by side.
    fn join(&self, series: Vec<Self::Series>) -> Self::Series;

    /// The sum of two series.
    fn add(&self, a: Self::Series, b: Self::Series) -> Self::Series;

    /// Drops entries, with the same mask for the same key whatever the passage.
    fn drop_out(&self, series: Self::Series, dropout: Dropout, key: &Key) -> Self::Series;
}

/// The cells of one layer.
#[derive(Module, Debug)]
pub struct LstmLayer {
    /// Runs forward in time.
    pub forward: ScratchLstmCell,
    /// Runs backward in time.
    pub reverse: Option<ScratchLstmCell>,
}

/// What a layer reads.
#[derive(Debug, Clone)]
pub(crate) enum Sequence<S> {
    /// Seen by every direction.
    Shared(S),
    /// One for each direction of independent stacks.
    PerDirection { forward: S, reverse: S },
}

impl LstmLayer {
    /// The cell of each direction, forward first.
    pub(crate) fn directions(&self) -> impl Iterator<Item = (Direction, &ScratchLstmCell)> {
        let reverse = self.reverse.as_ref();
        std::iter::once((Direction::Forward, &self.forward))
            .chain(reverse.map(|cell| (Direction::Reverse, cell)))
    }
}

impl<S> Sequence<S> {
    /// What `direction` reads.
    pub(crate) fn of(&self, direction: Direction) -> &S {
        match (self, direction) {
            (Self::Shared(series), _) => series,
            (Self::PerDirection { forward, .. }, Direction::Forward) => forward,
            (Self::PerDirection { reverse, .. }, Direction::Reverse) => reverse,
        }
    }

    /// Every series through `map`, which is told its place: 0, or 1 for the reverse direction's own.
    pub(crate) fn map(self, mut map: impl FnMut(usize, S) -> S) -> Self {
        match self {
            Self::Shared(series) => Self::Shared(map(0, series)),
            Self::PerDirection { forward, reverse } => Self::PerDirection {
                forward: map(0, forward),
                reverse: map(1, reverse),
            },
        }
    }
}

impl<S: Clone> Sequence<S> {
    /// Each series with the one in the same place of `other`.
    pub(crate) fn zip(self, other: &Self, mut with: impl FnMut(S, S) -> S) -> Self {
        self.map(|place, series| {
            let direction = [Direction::Forward, Direction::Reverse][place];
            with(series, other.of(direction).clone())
        })
    }
}

/// The only direction's output, or both joined.
pub(crate) fn join_directions<P: Passage>(passage: &P, mut outputs: Vec<P::Series>) -> P::Series {
    match outputs.len() {
        1 => outputs.swap_remove(0),
        _ => passage.join(outputs),
    }
}
