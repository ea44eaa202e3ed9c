//! This project's LSTM.

use burn::tensor::{Device, Tensor};
use scratch_lstm::{Key, Path, PathChoice, ScratchLstm, ScratchLstmConfig};

use crate::workload::Size;

use super::PeerError;
use super::on_burn::BurnModel;

impl BurnModel for ScratchLstm {
    const NAME: &'static str = "scratch";

    fn build(size: Size, device: &Device) -> Result<Self, PeerError> {
        build(size, PathChoice::Auto, device)
    }

    fn output(&self, input: Tensor<3>) -> Tensor<3> {
        self.forward(input, None).0
    }
}

/// The LSTM of a size with a choice of path; the same weights for each.
pub(super) fn build(
    size: Size,
    choice: PathChoice,
    device: &Device,
) -> Result<ScratchLstm, PeerError> {
    let config = ScratchLstmConfig::new(size.d, size.h).with_path(choice);
    Ok(config.try_init_with(&Key::new(0).child("lstm"), device)?)
}

/// The way that calls on `device` take.
///
/// # Errors
///
/// If the fused operation is asked for and cannot be had.
pub fn path(choice: PathChoice, device: &Device) -> Result<Path, PeerError> {
    Ok(build(Size::new(1, 1, 1, 1), choice, device)?.path()?)
}
