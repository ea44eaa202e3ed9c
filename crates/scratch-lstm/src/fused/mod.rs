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
//! | kernels | `cube/` | wgpu, Vulkan and CUDA |
//!
//! `autodiff.rs` has the only hand-written node, `fusion.rs` the operation where burn fuses kernels,
//! `path.rs` decides which way a call takes and says why. `docs/backward.md` derives the backward
//! pass, `docs/gpu.md` is about GPUs.

use std::num::NonZeroUsize;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, GradientCheckpointingStrategy, Tensor};

use crate::cell::CellWeights;
use crate::config::CellConfig;
use crate::dropout::{Dropout, drop_series};
use crate::layer::{Direction, Passage};
use crate::random::Key;
use crate::recurrence::Recurrence;
use crate::state::LstmState;
use crate::valid::Valid;

mod autodiff;
mod backends;
pub(crate) mod composed;
#[cfg(feature = "cube")]
mod cube;
#[cfg(all(feature = "cube", feature = "fusion"))]
mod fusion;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;
mod path;
#[cfg(all(test, feature = "flex"))]
mod problem;
pub(crate) mod room;
mod rung;
mod tensors;

pub use path::{Kernels, LayerSizes, Path, PathChoice, RawReason};
pub use rung::{Rung, RungError};
pub use scratch_lstm_kernels::{InstructionSet, InstructionSetError, Keep, Wanted, release_memory};
pub use tensors::{
    LayerNormGradients, LstmCotangents, LstmGradients, LstmInputs, LstmMasks, LstmOutputs,
    Optional, OptionalLayerNorm, Saved,
};

/// One layer and one direction of an LSTM over a whole sequence.
///
/// | | shape |
/// |---|---|
/// | `x` | `[B, T, D]`, or `[T, B, D]` without `batch_first` |
/// | `weight_ih`, `weight_hh`, `bias` | `[4H, D]`, `[4H, P]`, `[4H]`, in the order of [`gates`](crate::gates) |
/// | `h0`, `c0` | `[B, P]`, `[B, H]` |
/// | `weight_hr`, if there is a projection; `P = H` otherwise | `[P, H]` |
/// | output | `[B, T, P]`, or `[T, B, P]` |
/// | final hidden and cell state | `[B, P]`, `[B, H]` |
///
/// [`LstmInputs`] has the shapes of peepholes, layer normalization and masks, `docs/features.md` the
/// equations. All of one float type. On `Autodiff` the three results have gradients, and each of the
/// tensors but the masks gets one if it is tracked. The gradients of the gradients do not exist here: for second
/// derivatives take the raw path ([`PathChoice::Raw`]).
///
/// The default body is made of the backend's own operations; kernels override it.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Autodiff
)]
pub trait LstmOps: Backend {
    /// Runs over the sequence.
    fn lstm_sequence(
        #[extension_type] inputs: LstmInputs<Self>,
        call: LstmCall,
    ) -> LstmOutputs<Self> {
        composed::forward(inputs, &call, Keep::Nothing).0
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
#[derive(Debug, Clone, PartialEq)]
pub struct LstmCall {
    /// Whether input and output are `[B, T, _]`; `[T, B, _]` otherwise.
    pub batch_first: bool,
    /// From the last step to the first.
    pub reverse: bool,
    /// Which steps of each row are there.
    pub valid: Valid,
    /// What a step computes; its activations are sigmoid and tanh.
    pub cell: CellConfig,
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
    pub(crate) valid: Valid,
    pub(crate) segment: Option<NonZeroUsize>,
}

impl Passage for Fused {
    type Series = Tensor<3>;

    fn run(
        &self,
        recurrence: &Recurrence,
        input: &Tensor<3>,
        state: LstmState<2>,
        direction: Direction,
    ) -> (Tensor<3>, LstmState<2>) {
        let call = LstmCall {
            batch_first: self.batch_first,
            reverse: direction == Direction::Reverse,
            valid: self.valid.clone(),
            cell: recurrence.cell.clone(),
            segment: self.segment,
            checkpoint: checkpoints(&input.device()),
        };
        sequence(recurrence, input.clone(), state, call)
    }

    fn join(&self, series: Vec<Tensor<3>>) -> Tensor<3> {
        Tensor::cat(series, 2)
    }

    fn add(&self, a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
        a + b
    }

    fn drop_out(&self, series: Tensor<3>, dropout: Dropout, key: &Key) -> Tensor<3> {
        drop_series(series, self.batch_first, dropout, key)
    }
}

/// The operation on tensors: one layer and direction.
pub(crate) fn sequence(
    recurrence: &Recurrence,
    input: Tensor<3>,
    state: LstmState<2>,
    call: LstmCall,
) -> (Tensor<3>, LstmState<2>) {
    let Recurrence { weights, masks, .. } = recurrence.clone();
    let CellWeights {
        weight_ih,
        weight_hh,
        bias,
        weight_hr,
        peephole,
        layer_norm,
    } = weights;
    let bias = bias.unwrap_or_else(|| {
        let device = input.device().without_autodiff();
        Tensor::zeros([weight_hh.dims()[0]], (&device, input.dtype()))
    });
    let inputs = LstmInputs::<Dispatch> {
        x: input.into_dispatch(),
        weight_ih: weight_ih.into_dispatch(),
        weight_hh: weight_hh.into_dispatch(),
        bias: bias.into_dispatch(),
        h0: state.hidden.into_dispatch(),
        c0: state.cell.into_dispatch(),
        weight_hr: optional(weight_hr),
        peephole: optional(peephole),
        layer_norm: match layer_norm {
            None => OptionalLayerNorm::Absent,
            Some(norm) => OptionalLayerNorm::Present {
                input: norm.input.into_dispatch(),
                hidden: norm.hidden.into_dispatch(),
                cell: norm.cell.into_dispatch(),
                cell_bias: norm.cell_bias.into_dispatch(),
            },
        },
        masks: LstmMasks {
            hidden: optional(masks.hidden),
            zoneout_hidden: optional(masks.zoneout_hidden),
            zoneout_cell: optional(masks.zoneout_cell),
        },
    };
    let LstmOutputs {
        output,
        hidden,
        cell,
    } = Dispatch::lstm_sequence(inputs, call);
    let state = LstmState {
        hidden: Tensor::from_dispatch(hidden),
        cell: Tensor::from_dispatch(cell),
    };
    (Tensor::from_dispatch(output), state)
}

fn optional<const R: usize>(tensor: Option<Tensor<R>>) -> Optional<Dispatch> {
    tensor.map(Tensor::into_dispatch).into()
}

/// Whether the device's gradients are to be had with less memory.
pub(crate) fn checkpoints(device: &Device) -> bool {
    device.gradient_checkpointing_strategy() == Some(GradientCheckpointingStrategy::Balanced)
}
