//! Rows that lack steps: what the kernels are told of them.

use burn::backend::TensorMetadata;
use burn::backend::get_device_settings;
use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::tensor::TensorData;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use scratch_lstm_kernels::Sizes;

use crate::fused::LstmCall;
use crate::valid::Valid;

/// `[T, B]`, 0 where a row lacks a step.
pub(super) fn valid(call: &LstmCall, sizes: Sizes, device: &CubeDevice) -> Option<CubeTensor> {
    let Sizes { batch, steps, .. } = sizes;
    if call.valid == Valid::All {
        return None;
    }
    let places = (0..steps).flat_map(|time| (0..batch).map(move |row| (time, row)));
    let valid = places.map(|(time, row)| u32::from(call.valid.is_valid(time, row, batch)));
    Some(unsigned(valid.collect(), [steps, batch], device))
}

/// For each `[T, B]` 1 more than the time of the step before it, 0 if there is none.
pub(super) fn previous(call: &LstmCall, sizes: Sizes, device: &CubeDevice) -> CubeTensor {
    let Sizes { batch, steps, .. } = sizes;
    let mut previous = vec![0; steps * batch];
    for row in 0..batch {
        let mut last = 0;
        for visit in 0..steps {
            let time = match call.reverse {
                true => steps - 1 - visit,
                false => visit,
            };
            previous[time * batch + row] = last;
            if call.valid.is_valid(time, row, batch) {
                last = time as u32 + 1;
            }
        }
    }
    unsigned(previous, [steps, batch], device)
}

/// Zeros where rows lack steps: what lies there, NaN too, must not reach a gradient as `0 * NaN`.
pub(super) fn cleared(x: CubeTensor, call: &LstmCall, sizes: Sizes) -> CubeTensor {
    let Sizes { batch, steps, .. } = sizes;
    if call.valid == Valid::All {
        return x;
    }
    let place = |first: usize, second: usize| match call.batch_first {
        true => (second, first),
        false => (first, second),
    };
    let [first, second, _] = x.shape().dims();
    let places = (0..first).flat_map(|a| (0..second).map(move |b| place(a, b)));
    let missing = places.map(|(time, row)| !call.valid.is_valid(time, row, batch));
    let missing: Vec<bool> = missing.collect();
    debug_assert_eq!(missing.len(), steps * batch);
    let data = TensorData::new(missing, [first, second, 1]);
    // Booleans are of another size on GPUs.
    let dtype = get_device_settings::<CubeBackend>(&x.device).bool_dtype;
    let missing = CubeBackend::bool_from_data(data.convert_dtype(dtype.into()), &x.device);
    let missing = CubeBackend::bool_expand(missing, x.shape());
    into_contiguous(CubeBackend::float_mask_fill(x, missing, 0.0.into()))
}

fn unsigned(numbers: Vec<u32>, shape: [usize; 2], device: &CubeDevice) -> CubeTensor {
    into_contiguous(CubeBackend::int_from_data(
        TensorData::new(numbers, shape),
        device,
    ))
}
