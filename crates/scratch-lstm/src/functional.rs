//! The LSTM as a function of its weights, in PyTorch's layout with both biases.

use burn::tensor::Tensor;

use crate::cell::CellWeights;
use crate::config::CellConfig;
use crate::fused::{Fused, LayerSizes, Path, PathChoice};
use crate::layer::{Direction, Passage};
use crate::recurrence::Recurrence;
use crate::reference;
use crate::state::LstmState;
use crate::valid::Valid;

/// One layer over a whole sequence, as `torch.lstm` computes it.
///
/// | | shape |
/// |---|---|
/// | `input` | `[T, B, D]` |
/// | `state` | `[B, H]` both (`h0`, `c0`) |
/// | `weight_ih`, `weight_hh` | `[4H, D]`, `[4H, H]`, gates input, forget, cell, output |
/// | `bias_ih`, `bias_hh` | `[4H]`; their sum counts |
/// | output | `[T, B, H]` |
/// | final state | `[B, H]` both (`h_n`, `c_n`) |
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// use scratch_lstm::{LstmState, functional};
///
/// let device = Device::flex();
/// let (t, b, d, h) = (7, 3, 5, 11);
/// let (output, state) = functional::lstm(
///     Tensor::ones([t, b, d], &device),
///     LstmState::zeros([b, h], &device),
///     Tensor::ones([4 * h, d], &device),
///     Tensor::ones([4 * h, h], &device),
///     Some(Tensor::ones([4 * h], &device)),
///     Some(Tensor::ones([4 * h], &device)),
/// );
/// assert_eq!(output.dims(), [t, b, h]);
/// assert_eq!(state.cell.dims(), [b, h]);
/// # }
/// ```
///
/// # Panics
///
/// If shapes or element types do not fit each other, if a tensor fits no buffer of the device, or if
/// the environment asks for an instruction set or a [`Rung`](crate::fused::Rung) that is not to be
/// had.
pub fn lstm(
    input: Tensor<3>,
    state: LstmState<2>,
    weight_ih: Tensor<2>,
    weight_hh: Tensor<2>,
    bias_ih: Option<Tensor<1>>,
    bias_hh: Option<Tensor<1>>,
) -> (Tensor<3>, LstmState<2>) {
    let weights = CellWeights::new(weight_ih, weight_hh, sum_biases(bias_ih, bias_hh));
    let recurrence = Recurrence::of(weights, CellConfig::default());
    let (device, dtype) = (input.device(), input.dtype());
    let d_hidden = recurrence.weights.d_hidden();
    let sizes = LayerSizes {
        d_hidden,
        d_proj: None,
    };
    let path = Path::of(
        PathChoice::Auto,
        &device,
        dtype,
        &recurrence.cell,
        Some(sizes),
    )
    .unwrap_or_else(|error| panic!("{error}"));
    if path.is_fused() {
        let passage = Fused {
            batch_first: false,
            valid: Valid::All,
            segment: None,
        };
        return passage.run(&recurrence, &input, state, Direction::Forward);
    }
    let steps = reference::split_steps(input);
    let (output, state) = reference::run(&recurrence, &steps, state, None, Direction::Forward);
    (Tensor::stack(output, 0), state)
}

/// The one bias that acts as both.
pub(crate) fn sum_biases(
    bias_ih: Option<Tensor<1>>,
    bias_hh: Option<Tensor<1>>,
) -> Option<Tensor<1>> {
    match (bias_ih, bias_hh) {
        (Some(ih), Some(hh)) => Some(ih + hh),
        (one, other) => one.or(other),
    }
}
