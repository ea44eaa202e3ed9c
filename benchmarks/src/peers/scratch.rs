//! This project's LSTM.

use burn::tensor::{DType, Device, Tensor};
use scratch_lstm::fused::LayerSizes;
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
    let config = config(size).with_path(choice);
    Ok(config.try_init_with(&Key::new(0).child("lstm"), device)?)
}

/// The way that calls on `device` take, in its usual type; of any size, if none is given.
///
/// # Errors
///
/// If the fused operation is asked for and cannot be had.
pub fn path(choice: PathChoice, device: &Device, size: Option<Size>) -> Result<Path, PeerError> {
    let cell = config(size.unwrap_or(Size::new(1, 1, 1, 1))).cell;
    let sizes = size.map(|size| LayerSizes {
        d_hidden: size.h,
        d_proj: None,
    });
    let dtype = DType::from(device.settings().float_dtype);
    Ok(Path::of(choice, device, dtype, &cell, sizes)?)
}

fn config(size: Size) -> ScratchLstmConfig {
    ScratchLstmConfig::new(size.d, size.h)
}
