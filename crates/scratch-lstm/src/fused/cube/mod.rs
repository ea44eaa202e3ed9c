//! Kernels for GPUs, in CubeCL: wgpu, Vulkan and CUDA.
//!
//! | file | what it is the home of |
//! |---|---|
//! | `cell.rs` | the gate arithmetic |
//! | `unit.rs` | a step of one unit, from and to the buffers |
//! | `stepwise.rs`, `persistent.rs` | the kernels of the two rungs ([`Rung`]) |
//! | `normed.rs` | those with layer normalization |
//! | `before.rs` | the hidden states before the steps |
//! | `device.rs` | what a device has room for; which rung a size takes |
//! | `run.rs` | what stays the same over a sequence |
//! | `gaps.rs` | rows that lack steps |
//! | `walk.rs`, `step.rs` | the launches: a segment there and back, and its steps |
//! | `args.rs` | what they are launched with |
//! | `sums.rs` | the gradients that are sums over steps |
//!
//! The input's part of the gates and the gradients of the weights are burn's matrix products, one
//! each for a segment; a segment is the whole sequence, unless memory is to be saved or a buffer
//! is too small. Nothing is read back to the host.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::{RuntimeId, dtype_to_storage_type};
use burn::tensor::DType;
use burn_cubecl::cubecl::features::TypeUsage;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

use self::run::{Run, State, Steps};
use self::sums::Sums;
use super::{
    Keep, LayerSizes, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmOutputs, Rung,
    RungError, Saved, Wanted,
};
use crate::config::CellConfig;
use crate::gates::COUNT;

mod args;
mod before;
mod cell;
mod device;
mod gaps;
mod normed;
mod persistent;
mod run;
mod step;
mod stepwise;
mod sums;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod unit;
mod walk;

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

/// The rung of a layer on a device.
pub(super) fn rung(
    device: &CubeDevice,
    dtype: DType,
    cell: &CellConfig,
    sizes: LayerSizes,
) -> Result<Rung, RungError> {
    let stepwise = match (cell.layer_norm, sizes.d_proj) {
        (true, _) => Some("layer normalization"),
        (false, Some(_)) => Some("projection"),
        (false, None) => None,
    };
    device::rung(&device.client(), sizes.d_hidden, dtype, stepwise)
}

/// The same for a call.
///
/// # Panics
///
/// If a rung is asked for that cannot be had: whoever asks for the path is told so.
pub(super) fn rung_of(inputs: &LstmInputs<CubeBackend>, call: &LstmCall) -> Rung {
    let [gates, d_output] = inputs.weight_hh.shape().dims();
    let sizes = LayerSizes {
        d_hidden: gates / COUNT,
        d_proj: inputs.weight_hr.as_option().map(|_| d_output),
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
    cotangents.check(run.sizes, call.batch_first, run.dtype);
    let output = into_contiguous(output);
    assert_eq!(output.shape(), run.output_shape(), "fused LSTM: output");
    let d_output = cotangents.output.map(into_contiguous);
    let gradient = run.end(cotangents.hidden, cotangents.cell, wanted);
    let mut sums = Sums::new(&run, wanted);
    for visits in run.segments().into_iter().rev() {
        let before = boundaries.pop().expect("a state before each segment");
        let steps = match keep {
            Keep::Everything => segments.pop().expect("all segments are kept"),
            _ => {
                let state = run.copy(&before);
                run.segment(visits.clone(), &state, None, true)
            }
        };
        let seen = || run.seen_rows(visits.clone(), &output);
        let for_norm = run.norm.as_ref().map(|_| seen());
        let passed = run.segment_back(
            visits.clone(),
            &steps,
            &before.cell,
            for_norm.as_ref(),
            d_output.as_ref(),
            &gradient,
        );
        let seen = || for_norm.unwrap_or_else(seen);
        sums.add(visits.clone(), steps.gates, passed, seen);
    }
    sums.finish(gradient)
}
