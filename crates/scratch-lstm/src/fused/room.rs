//! Whether what a call needs fits the device.

use burn::tensor::{DType, Device};

use crate::config::ScratchLstmConfig;
use crate::error::ForwardError;
use crate::gates;

/// A call's tensors, of which each must fit one buffer of the device. The gates of a sequence need
/// not: they are computed segment by segment, of at least one step.
///
/// # Errors
///
/// If one does not.
pub(crate) fn check(
    device: &Device,
    dtype: DType,
    config: &ScratchLstmConfig,
    [batch, steps]: [usize; 2],
) -> Result<(), ForwardError> {
    let Some(most) = largest_buffer(device, dtype) else {
        return Ok(());
    };
    let series = batch.saturating_mul(steps);
    for (what, rows, width) in [
        ("input", series, config.d_input),
        ("output", series, config.d_output()),
        ("gates of one step", batch, gates::COUNT * config.d_hidden),
    ] {
        let bytes = rows.saturating_mul(width).saturating_mul(dtype.size()) as u64;
        if bytes > most {
            return Err(ForwardError::TooLarge { what, bytes, most });
        }
    }
    Ok(())
}

/// Bytes of the largest buffer, where that is a limit of its own.
#[cfg_attr(not(feature = "cube"), allow(unused_variables))]
fn largest_buffer(device: &Device, dtype: DType) -> Option<u64> {
    #[cfg(feature = "cube")]
    {
        let device = device.clone().without_autodiff();
        if let burn::backend::DispatchDevice::Cube(device) = device.as_dispatch() {
            return Some(super::cube::largest_buffer(device, dtype));
        }
    }
    None
}
