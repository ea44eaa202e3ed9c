//! A whole sequence as one operation, with a backward pass by hand.
//!
//! [`LstmOps`] is a burn backend extension: one layer and one direction over a sequence, for
//! autodiff one node instead of a dozen operations for each step. Below it is a ladder, each rung
//! the witness of the next:
//!
//! | rung | file | runs on |
//! |---|---|---|
//! | raw operations under autodiff | [`reference.rs`](crate::ScratchLstm) | every backend |
//! | the backward pass by hand, in tensor operations | `composed.rs` | every backend |
//! | kernels | the crate `scratch-lstm-kernels`, called by `host.rs` | Flex and NdArray |
//!
//! `autodiff.rs` has the only hand-written node, `path.rs` decides which way a call takes and says
//! why. `docs/backward.md` derives the backward pass.

use std::num::NonZeroUsize;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, GradientCheckpointingStrategy, Tensor};

use crate::cell::CellWeights;
use crate::layer::{Direction, Passage};
use crate::random::Key;
use crate::state::LstmState;

mod autodiff;
mod backends;
pub(crate) mod composed;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;
mod path;
mod tensors;

pub use path::{Kernels, Path, PathChoice, RawReason};
pub use scratch_lstm_kernels::{InstructionSet, InstructionSetError, Keep, Wanted, release_memory};
pub use tensors::{LstmCotangents, LstmGradients, LstmInputs, LstmOutputs, Saved};

/// One layer and one direction of an LSTM over a whole sequence.
///
/// | | shape |
/// |---|---|
/// | `x` | `[B, T, D]`, or `[T, B, D]` without `batch_first` |
/// | `weight_ih`, `weight_hh`, `bias` | `[4H, D]`, `[4H, H]`, `[4H]`, in the order of [`gates`](crate::gates) |
/// | `h0`, `c0` | `[B, H]` |
/// | output | `[B, T, H]`, or `[T, B, H]` |
/// | final hidden and cell state | `[B, H]` |
///
/// All of one float type. On `Autodiff` the three results have gradients, and each of the six
/// tensors gets one if it is tracked. The gradients of the gradients do not exist here: for second
/// derivatives take the raw path ([`PathChoice::Raw`]).
///
/// The default body is made of the backend's own operations; kernels override it.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(any(feature = "wgpu-untuned", feature = "vulkan", feature = "cuda")),
    Autodiff
)]
pub trait LstmOps: Backend {
    /// Runs over the sequence.
    #[allow(clippy::too_many_arguments)]
    fn lstm_sequence(
        x: FloatTensor<Self>,
        weight_ih: FloatTensor<Self>,
        weight_hh: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        h0: FloatTensor<Self>,
        c0: FloatTensor<Self>,
        call: LstmCall,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = LstmInputs::<Self> {
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
        };
        let (outputs, _) = composed::forward(inputs, &call, Keep::Nothing);
        (outputs.output, outputs.hidden, outputs.cell)
    }
}

/// What the autodiff node of [`LstmOps`] needs of the backend below it.
///
/// The default bodies are made of the backend's own operations: `impl LstmKernels for B {}` and
/// `impl LstmOps for B {}` bring the fused operation to a backend of your own.
pub trait LstmKernels: Backend {
    /// Runs over the sequence, and keeps for the way back what `keep` says.
    fn lstm_forward(
        inputs: LstmInputs<Self>,
        call: &LstmCall,
        keep: Keep,
    ) -> (LstmOutputs<Self>, Saved) {
        composed::forward(inputs, call, keep)
    }

    /// The gradients that are wanted. `output` and `saved` are what the forward pass returned.
    fn lstm_backward(
        inputs: LstmInputs<Self>,
        _output: FloatTensor<Self>,
        saved: Saved,
        cotangents: LstmCotangents<Self>,
        call: &LstmCall,
        wanted: Wanted,
    ) -> LstmGradients<Self> {
        composed::backward(inputs, saved, cotangents, call, wanted)
    }
}

/// How a sequence is run over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LstmCall {
    /// Whether input and output are `[B, T, _]`; `[T, B, _]` otherwise.
    pub batch_first: bool,
    /// From the last step to the first.
    pub reverse: bool,
    /// How many steps of each row are valid, at most `T`; all of them if absent. Past its length a
    /// row's output is zero and its state stands still.
    pub lengths: Option<Arc<[usize]>>,
    /// Steps whose inputs are projected at once; as many as suit, if absent. Of influence on
    /// memory, time and rounding alone.
    pub segment: Option<NonZeroUsize>,
    /// Whether the way back runs forward again, segment by segment, instead of having kept
    /// everything: memory grows with the square root of `T` then.
    pub checkpoint: bool,
}

/// The fused way of running a stack.
#[derive(Debug, Clone)]
pub(crate) struct Fused {
    pub(crate) batch_first: bool,
    pub(crate) lengths: Option<Arc<[usize]>>,
    pub(crate) segment: Option<NonZeroUsize>,
}

impl Passage for Fused {
    type Series = Tensor<3>;

    fn run(
        &self,
        weights: &CellWeights,
        input: &Tensor<3>,
        state: LstmState<2>,
        direction: Direction,
    ) -> (Tensor<3>, LstmState<2>) {
        let call = LstmCall {
            batch_first: self.batch_first,
            reverse: direction == Direction::Reverse,
            lengths: self.lengths.clone(),
            segment: self.segment,
            checkpoint: checkpoints(&input.device()),
        };
        sequence(weights, input.clone(), state, call)
    }

    fn join(&self, outputs: Vec<Tensor<3>>) -> Tensor<3> {
        Tensor::cat(outputs, 2)
    }

    fn drop_out(&self, series: Tensor<3>, rate: f64, key: &Key) -> Tensor<3> {
        let batch_first = self.batch_first;
        crate::dropout::drop_series(series, batch_first, rate, key)
    }
}

/// The operation on tensors: one layer and direction.
pub(crate) fn sequence(
    weights: &CellWeights,
    input: Tensor<3>,
    state: LstmState<2>,
    call: LstmCall,
) -> (Tensor<3>, LstmState<2>) {
    let [gates, _] = weights.weight_hh.dims();
    let bias = weights.bias.clone().unwrap_or_else(|| {
        let device = input.device().without_autodiff();
        Tensor::zeros([gates], (&device, input.dtype()))
    });
    let (output, hidden, cell) = Dispatch::lstm_sequence(
        input.into_dispatch(),
        weights.weight_ih.clone().into_dispatch(),
        weights.weight_hh.clone().into_dispatch(),
        bias.into_dispatch(),
        state.hidden.into_dispatch(),
        state.cell.into_dispatch(),
        call,
    );
    let state = LstmState {
        hidden: Tensor::from_dispatch(hidden),
        cell: Tensor::from_dispatch(cell),
    };
    (Tensor::from_dispatch(output), state)
}

/// Whether the device's gradients are to be had with less memory.
pub(crate) fn checkpoints(device: &Device) -> bool {
    device.gradient_checkpointing_strategy() == Some(GradientCheckpointingStrategy::Balanced)
}
