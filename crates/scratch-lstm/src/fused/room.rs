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
    // Gains, shift and peepholes have a gradient for each row, in f32 at least.
    let blocks = match (config.cell.layer_norm, config.cell.peepholes) {
        (true, _) => gates::COUNT + 2,
        (false, true) => gates::COUNT - 1,
        (false, false) => 1,
    };
    let sums = dtype.size().max(size_of::<f32>());
    let inputs = (0..config.num_layers).map(|layer| config.layer_input(layer));
    let zoneout = match config.regularization.zoneout_cell > 0.0 {
        true => config.d_hidden,
        false => 0,
    };
    for (what, rows, width, size) in [
        ("input", series, config.d_input, dtype.size()),
        ("output", series, config.d_output(), dtype.size()),
        (
            "input of a layer",
            series,
            inputs.max().unwrap_or(0),
            dtype.size(),
        ),
        ("zoneout of cell states", series, zoneout, dtype.size()),
        (
            "gates of one step",
            batch,
            gates::COUNT * config.d_hidden,
            dtype.size(),
        ),
        (
            "gradients of one step",
            batch,
            blocks * config.d_hidden,
            sums,
        ),
    ] {
        let bytes = rows.saturating_mul(width).saturating_mul(size) as u64;
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
