//! Whether what a call needs fits the device.

use burn::tensor::{DType, Device};

use crate::config::ScratchLstmConfig;
use crate::error::ForwardError;
use crate::fused::Path;
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
    path: &Path,
) -> Result<(), ForwardError> {
    let Some(most) = largest_buffer(device, dtype) else {
        return Ok(());
    };
    let series = batch.saturating_mul(steps);
    let (numbers, d_hidden) = (dtype.size(), config.d_hidden);
    let gates = gates::COUNT * d_hidden;
    let mut tensors = vec![
        ("input", series, config.d_input, numbers),
        ("output", series, config.d_output(), numbers),
        ("gates of one step", batch, gates, numbers),
    ];
    if path.is_fused() {
        let inputs = (0..config.num_layers).map(|layer| config.layer_input(layer));
        let widest = inputs.max().unwrap_or(config.d_input);
        tensors.push(("input of a layer", series, widest, numbers));
        if config.regularization.zoneout_cell > 0.0 {
            tensors.push(("zoneout of cell states", series, d_hidden, numbers));
        }
    }
    if path.is_fused() && device.is_autodiff() {
        // Those of peepholes, or of the gains and the shift, are summed up for each row.
        let blocks = match (config.cell.layer_norm, config.cell.peepholes) {
            (true, _) => gates::COUNT + 2,
            (false, true) => gates::COUNT - 1,
            (false, false) => 1,
        };
        let sums = numbers.max(size_of::<f32>());
        tensors.push(("gradients of one step", batch, blocks * d_hidden, sums));
    }
    for (what, rows, width, size) in tensors {
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
