//! What the kernels are launched with.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::{BufferArg, CubeCount, CubeDim, Float, InputScalar};
use burn_cubecl::tensor::CubeTensor;
use scratch_lstm_kernels::Sizes;

use super::run::{Gradient, Run, State, Steps};
use super::unit::{BackwardLaunch, ForwardLaunch, LayoutLaunch, OptionsLaunch, StridesLaunch};

impl Run<'_> {
    pub(super) fn layout(&self, visits: &Range<usize>) -> LayoutLaunch {
        let Sizes {
            batch,
            steps,
            d_hidden,
            d_output,
            ..
        } = self.sizes;
        let strides = |count: usize| match self.call.batch_first {
            true => StridesLaunch::new(count, 1),
            false => StridesLaunch::new(1, batch),
        };
        LayoutLaunch::new(
            batch,
            d_hidden,
            d_output,
            self.times(visits).start,
            self.time(visits.start),
            strides(steps),
            strides(visits.len()),
            self.call.reverse,
        )
    }

    pub(super) fn forward_buffers<F: Float, A: Float>(
        &self,
        visits: &Range<usize>,
        steps: &Steps,
        state: &State,
        output: Option<&CubeTensor>,
    ) -> ForwardLaunch<F, A> {
        ForwardLaunch::new(
            arg(&steps.gates),
            arg(&self.bias),
            arg(&state.hidden),
            arg(&state.cell),
            output.map(arg).into(),
            steps.cells.as_ref().map(arg).into(),
            self.options(),
            self.layout(visits),
        )
    }

    pub(super) fn backward_buffers<F: Float, A: Float>(
        &self,
        visits: &Range<usize>,
        steps: &Steps,
        before: &CubeTensor,
        d_output: Option<&CubeTensor>,
        gradient: &Gradient,
    ) -> BackwardLaunch<F, A> {
        let cells = steps.cells.as_ref().expect("kept for the way back");
        BackwardLaunch::new(
            arg(&steps.gates),
            arg(cells),
            arg(before),
            d_output.map(arg).into(),
            arg(&gradient.cell),
            gradient.kept.as_ref().map(arg).into(),
            gradient.peephole.as_ref().map(arg).into(),
            self.options(),
            self.layout(visits),
        )
    }

    fn options<F: Float>(&self) -> OptionsLaunch<F> {
        let optional = |tensor: &Option<CubeTensor>| tensor.as_ref().map(arg);
        let sums = dtype_to_storage_type(self.sums);
        let bound = |bound: Option<f64>| InputScalar::new(bound.unwrap_or_default(), sums);
        OptionsLaunch::new(
            optional(&self.peephole).into(),
            optional(&self.zoneout_hidden).into(),
            optional(&self.zoneout_cell).into(),
            optional(&self.valid).into(),
            optional(&self.hidden_mask).into(),
            bound(self.call.cell.clip_gates),
            bound(self.call.cell.clip_cell),
        )
    }

    pub(super) fn types(&self) -> [ElemType; 2] {
        [self.dtype, self.sums].map(dtype_to_storage_type)
    }
}

/// So many threads at least.
pub(super) fn threads(client: &Client, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, count);
    (calculate_cube_count_elemwise(client, count, dim), dim)
}

/// A tensor whose numbers lie side by side, as a kernel gets it.
pub(super) fn arg(tensor: &CubeTensor) -> BufferArg {
    assert!(tensor.is_contiguous(), "rows may be padded on CUDA");
    let numbers = tensor.shape().num_elements();
    // SAFETY: the buffer has as many numbers; it costs less than a copy of the tensor, at each of
    // the launches of each step.
    unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), numbers) }
}
