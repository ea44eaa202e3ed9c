//! Kernels for GPUs, in CubeCL: wgpu, Vulkan and CUDA.
//!
//! | file | what it is the home of |
//! |---|---|
//! | `cell.rs` | the gate arithmetic |
//! | `unit.rs` | a step of one unit, from and to the buffers |
//! | `stepwise.rs`, `persistent.rs` | the kernels of the two rungs ([`Rung`]) |
//! | `before.rs` | the hidden states before the steps |
//! | `device.rs` | what a device has room for; which rung a size takes |
//! | `run.rs` | buffers and launches, a segment there and back |
//!
//! The input's part of the gates and the gradients of the weights are burn's matrix products, one
//! each for a segment; a segment is the whole sequence, unless memory is to be saved or a buffer
//! is too small. Nothing is read back to the host.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::{RuntimeId, dtype_to_storage_type};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::features::TypeUsage;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

use self::run::{Run, State, Steps};
use super::{
    Keep, LayerSizes, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmOutputs, Rung,
    RungError, Saved, Wanted,
};
use crate::config::CellConfig;
use crate::gates::COUNT;

mod before;
mod cell;
mod device;
mod persistent;
mod run;
mod stepwise;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod unit;

/// What the way back needs.
#[derive(Debug)]
struct Kept {
    /// Of each segment, if everything is kept.
    segments: Vec<Steps>,
    /// The state before each segment.
    boundaries: Vec<State>,
}

/// Bytes of the largest buffer of a device whose numbers kernels can count.
pub(super) fn largest_buffer(device: &CubeDevice, dtype: DType) -> u64 {
    device::numbers_of_buffer(&device.client(), dtype) * dtype.size() as u64
}

/// The rung of a layer on a device, if there are kernels for such a cell.
pub(super) fn rung(
    device: &CubeDevice,
    dtype: DType,
    cell: &CellConfig,
    sizes: LayerSizes,
) -> Result<Option<Rung>, RungError> {
    if cell.layer_norm || sizes.d_output != sizes.d_hidden {
        return Ok(None);
    }
    device::rung(&device.client(), sizes.d_hidden, dtype).map(Some)
}

/// The same for a call.
///
/// # Panics
///
/// If a rung is asked for that cannot be had: whoever asks for the path is told so.
pub(super) fn rung_of(inputs: &LstmInputs<CubeBackend>, call: &LstmCall) -> Option<Rung> {
    let [gates, d_output] = inputs.weight_hh.shape().dims();
    let sizes = LayerSizes {
        d_hidden: gates / COUNT,
        d_output,
    };
    let CubeTensor { device, dtype, .. } = &inputs.x;
    rung(device, *dtype, &call.cell, sizes).unwrap_or_else(|error| panic!("fused LSTM: {error}"))
}

/// Whether the device computes in this type. The languages of graphics cards may have f64, but
/// neither its `exp` nor its `tanh`.
pub(super) fn has_type(device: &CubeDevice, dtype: DType) -> bool {
    let client = device.client();
    let usage = client.properties().type_usage(dtype_to_storage_type(dtype));
    let computes = TypeUsage::Buffer | TypeUsage::Conversion | TypeUsage::Arithmetic;
    let is_served = dtype != DType::F64 || device.runtime() == RuntimeId::Cuda;
    is_served && usage.is_superset(computes)
}

/// The forward pass; see [`LstmKernels`](crate::fused::LstmKernels).
pub(super) fn forward(
    inputs: LstmInputs<CubeBackend>,
    call: &LstmCall,
    keep: Keep,
    rung: Rung,
) -> (LstmOutputs<CubeBackend>, Saved) {
    let c0 = inputs.c0.clone();
    let run = Run::new(inputs, call, keep, rung);
    let state = run.start(c0);
    let output = run.output();
    let mut kept = Kept {
        segments: Vec::new(),
        boundaries: Vec::new(),
    };
    for visits in run.segments() {
        if keep != Keep::Nothing {
            kept.boundaries.push(run.copy(&state));
        }
        let keeps = keep == Keep::Everything;
        let steps = run.segment(visits, &state, Some(&output), keeps);
        if keeps {
            kept.segments.push(steps);
        }
    }
    let outputs = LstmOutputs {
        output,
        hidden: state.hidden,
        cell: run.result(state.cell),
    };
    (outputs, Saved::new(kept))
}

/// The backward pass; see [`LstmKernels`](crate::fused::LstmKernels).
pub(super) fn backward(
    inputs: LstmInputs<CubeBackend>,
    output: CubeTensor,
    saved: Saved,
    cotangents: LstmCotangents<CubeBackend>,
    call: &LstmCall,
    wanted: Wanted,
    rung: Rung,
) -> LstmGradients<CubeBackend> {
    let Kept {
        mut segments,
        mut boundaries,
    } = saved.into_inner::<Kept>();
    let keep = match segments.is_empty() {
        true => Keep::Boundaries,
        false => Keep::Everything,
    };
    let run = Run::new(inputs, call, keep, rung);
    let output = into_contiguous(output);
    let d_output = cotangents.output.map(into_contiguous);
    let gradient = run.end(cotangents.hidden, cotangents.cell);
    let mut x = Vec::new();
    let (mut weight_ih, mut weight_hh, mut bias) = (None, None, None);
    for visits in run.segments().into_iter().rev() {
        let before = boundaries.pop().expect("a state before each segment");
        let steps = match keep {
            Keep::Everything => segments.pop().expect("all segments are kept"),
            _ => {
                let state = run.copy(&before);
                run.segment(visits.clone(), &state, None, true)
            }
        };
        let d_output = d_output.as_ref();
        run.segment_back(visits.clone(), &steps, &before.cell, d_output, &gradient);
        let delta = steps.gates;
        let transposed = || CubeBackend::float_swap_dims(delta.clone(), 0, 1);
        // Of several segments in the type of sums.
        let add_to = |sum: &mut Option<CubeTensor>, term| add_to(sum, run.summand(term));
        if wanted.x {
            let rows = run.product(delta.clone(), run.weight_ih.clone(), None);
            x.push(run.series(rows, &visits));
        }
        if wanted.weight_ih {
            let rows = run.input_rows(visits.clone());
            add_to(&mut weight_ih, run.product(transposed(), rows, None));
        }
        if wanted.weight_hh {
            let rows = run.seen_rows(visits, &output);
            add_to(&mut weight_hh, run.product(transposed(), rows, None));
        }
        if wanted.bias {
            add_to(&mut bias, sum_rows(delta));
        }
    }
    // They were walked over from the last to the first.
    if !call.reverse {
        x.reverse();
    }
    LstmGradients {
        x: match x.len() {
            0 | 1 => x.pop(),
            _ => Some(CubeBackend::float_cat(x, run.time_axis())),
        },
        weight_ih: weight_ih.map(|sum| run.result(sum)),
        weight_hh: weight_hh.map(|sum| run.result(sum)),
        bias: bias.map(|sum| run.result(sum)),
        h0: wanted.h0.then(|| run.hidden_gradient(&gradient)),
        c0: wanted.c0.then(|| run.result(gradient.cell.clone())),
        weight_hr: None,
        peephole: gradient
            .peephole
            .filter(|_| wanted.peephole)
            .map(|rows| run.result(sum_rows(rows))),
        layer_norm: None,
    }
}

fn add_to(sum: &mut Option<CubeTensor>, term: CubeTensor) {
    *sum = Some(match sum.take() {
        None => term,
        Some(sum) => CubeBackend::float_add(sum, term),
    });
}

/// The sum of all rows of a matrix, `[N]`.
fn sum_rows(matrix: CubeTensor) -> CubeTensor {
    let [_, width] = matrix.shape().dims();
    reshape(CubeBackend::float_sum_dim(matrix, 0), Shape::new([width]))
}
