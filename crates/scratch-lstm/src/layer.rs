//! One layer: one direction or two.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::cell::{CellWeights, ScratchLstmCell};
use crate::reference::{self, Direction, Lengths};
use crate::state::LstmState;

/// The cells of one layer.
#[derive(Module, Debug)]
pub struct LstmLayer {
    /// Runs forward in time.
    pub forward: ScratchLstmCell,
    /// Runs backward in time.
    pub reverse: Option<ScratchLstmCell>,
}

/// A sequence between two layers: step tensors in the order of time.
#[derive(Debug, Clone)]
pub(crate) enum Sequence {
    /// `[B, width]` for each step, seen by every direction.
    Shared(Vec<Tensor<2>>),
    /// One for each direction of independent stacks.
    PerDirection {
        forward: Vec<Tensor<2>>,
        reverse: Vec<Tensor<2>>,
    },
}

impl LstmLayer {
    /// The weights of each direction, forward first.
    pub(crate) fn directions(&self) -> impl Iterator<Item = (Direction, CellWeights)> {
        let reverse = self.reverse.as_ref();
        std::iter::once((Direction::Forward, self.forward.weights()))
            .chain(reverse.map(|cell| (Direction::Reverse, cell.weights())))
    }

    /// Runs every direction of this layer; `states` has one for each. Returns the outputs of the
    /// directions apart.
    pub(crate) fn run(
        &self,
        input: &Sequence,
        states: Vec<LstmState<2>>,
        lengths: Option<&Lengths>,
    ) -> (Vec<Vec<Tensor<2>>>, Vec<LstmState<2>>) {
        self.directions()
            .zip(states)
            .map(|((direction, weights), state)| {
                reference::run(&weights, input.of(direction), state, lengths, direction)
            })
            .unzip()
    }
}

impl Sequence {
    /// What `direction` reads.
    pub(crate) fn of(&self, direction: Direction) -> &[Tensor<2>] {
        match (self, direction) {
            (Self::Shared(steps), _) => steps,
            (Self::PerDirection { forward, .. }, Direction::Forward) => forward,
            (Self::PerDirection { reverse, .. }, Direction::Reverse) => reverse,
        }
    }

    /// Every direction's steps through `map`, which is told their place: 0, or 1 for reverse.
    pub(crate) fn map(self, mut map: impl FnMut(usize, Vec<Tensor<2>>) -> Vec<Tensor<2>>) -> Self {
        match self {
            Self::Shared(steps) => Self::Shared(map(0, steps)),
            Self::PerDirection { forward, reverse } => Self::PerDirection {
                forward: map(0, forward),
                reverse: map(1, reverse),
            },
        }
    }
}

/// Both directions of each step side by side, `[B, K*H]`.
pub(crate) fn join_directions(mut outputs: Vec<Vec<Tensor<2>>>) -> Vec<Tensor<2>> {
    match (outputs.pop(), outputs.pop()) {
        (Some(forward), None) => forward,
        (Some(reverse), Some(forward)) => forward
            .into_iter()
            .zip(reverse)
            .map(|(forward, reverse)| Tensor::cat(vec![forward, reverse], 1))
            .collect(),
        (None, _) => unreachable!("a layer has at least one direction"),
    }
}
