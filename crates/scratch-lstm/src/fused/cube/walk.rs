//! The walk over one segment of a sequence, there and back, on either rung.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros;
use burn_cubecl::tensor::CubeTensor;
use scratch_lstm_kernels::Sizes;

use super::args::{arg, threads};
use super::device;
use super::persistent::{Tile, pack, walk, walk_back};
use super::run::{GAINS, Gradient, Passed, Run, State, Steps, Walk};
use crate::fused::Wanted;
use crate::gates::COUNT;

impl Run<'_> {
    /// Forward over some visits. Moves `state`, and writes the output, if there is a buffer for it.
    pub(super) fn segment(
        &self,
        visits: Range<usize>,
        state: &State,
        output: Option<&CubeTensor>,
        keeps: bool,
    ) -> Steps {
        let gates = self.projected_inputs(visits.clone());
        let [count, _] = gates.shape().dims();
        let steps = Steps {
            gates: match &self.norm {
                Some(norm) => self.normalized(gates, Some(&norm.input)).rows,
                None => gates,
            },
            cells: keeps.then(|| self.empty([count, self.sizes.d_hidden], self.sums)),
        };
        match &self.walk {
            Walk::Stepwise => self.step_by_step(visits, &steps, state, output),
            Walk::Persistent(tile) => {
                let weight = self.packed(false);
                for part in self.launches(visits.clone(), tile) {
                    // SAFETY: the kernel checks that it is within the batch, and the buffers have
                    // the sizes that it is told.
                    unsafe {
                        walk::launch_unchecked(
                            &self.client,
                            self.cubes(tile),
                            CubeDim::new_1d(tile.threads as u32),
                            COUNT,
                            self.forward_buffers(&visits, &steps, state, output),
                            arg(&weight),
                            self.time(part.start),
                            part.len(),
                            *tile,
                            self.variant,
                            self.types(),
                        );
                    }
                }
            }
        }
        steps
    }

    /// The gradient of the state after the last step, from those of what was returned.
    pub(super) fn end(
        &self,
        hidden: Option<CubeTensor>,
        cell: Option<CubeTensor>,
        wanted: Wanted,
    ) -> Gradient {
        let Sizes {
            batch,
            d_hidden,
            d_output,
            ..
        } = self.sizes;
        let zeros = |width: usize, dtype: DType| {
            let shape = Shape::new([batch, width]);
            into_contiguous(zeros(self.device.clone(), shape, dtype))
        };
        let seen = match self.walk {
            Walk::Stepwise => self.dtype,
            Walk::Persistent(_) => self.sums,
        };
        let passes =
            self.variant.zoneout_hidden || self.valid.is_some() || self.hidden_mask.is_some();
        let (seen, kept) = match (hidden, passes) {
            (Some(hidden), true) => (zeros(d_output, seen), Some(self.carried(hidden))),
            (Some(hidden), false) => (self.owned(hidden, seen), None),
            (None, passes) => (
                zeros(d_output, seen),
                passes.then(|| zeros(d_output, self.sums)),
            ),
        };
        let of_rows = |is_there: bool, width: usize| is_there.then(|| zeros(width, self.sums));
        Gradient {
            seen,
            kept,
            cell: cell.map_or_else(|| zeros(d_hidden, self.sums), |cell| self.carried(cell)),
            peephole: of_rows(wanted.peephole && self.variant.peepholes, 3 * d_hidden),
            gains: of_rows(wanted.layer_norm && self.norm.is_some(), GAINS * d_hidden),
        }
    }

    /// Back over some visits: moves `gradient`, and leaves the gradients of the gates in the
    /// place of what was kept of them. `before` is the cell state before them, `seen` what their
    /// gates saw of the hidden state, `[N, P]`, which layer normalization asks for.
    pub(super) fn segment_back(
        &self,
        visits: Range<usize>,
        steps: &Steps,
        before: &CubeTensor,
        seen: Option<&CubeTensor>,
        d_output: Option<&CubeTensor>,
        gradient: &Gradient,
    ) -> Passed {
        match &self.walk {
            Walk::Stepwise => {
                self.step_back_by_step(visits, steps, before, seen, d_output, gradient)
            }
            Walk::Persistent(tile) => {
                let weight = self.packed(true);
                for part in self.launches(visits.clone(), tile).into_iter().rev() {
                    // SAFETY: as for the way forward.
                    unsafe {
                        walk_back::launch_unchecked(
                            &self.client,
                            self.cubes(tile),
                            CubeDim::new_1d(tile.threads as u32),
                            COUNT,
                            self.backward_buffers(&visits, steps, before, d_output, gradient),
                            arg(&weight),
                            arg(&gradient.seen),
                            self.time(part.end - 1),
                            part.len(),
                            *tile,
                            self.variant,
                            self.types(),
                        );
                    }
                }
                Passed::default()
            }
        }
    }

    /// The gradient of the hidden state before the first step, from that after no step.
    pub(super) fn hidden_gradient(&self, gradient: &Gradient) -> CubeTensor {
        let seen = self.summand(gradient.seen.clone());
        let seen = match &self.hidden_mask {
            None => seen,
            Some(mask) => {
                let mask = self.summand(mask.clone());
                CubeBackend::float_mul(seen, mask)
            }
        };
        self.result(match &gradient.kept {
            None => seen,
            Some(kept) => CubeBackend::float_add(seen, kept.clone()),
        })
    }

    /// The parts of a segment that are one persistent launch each.
    fn launches(&self, visits: Range<usize>, tile: &Tile) -> Vec<Range<usize>> {
        let cubes = self.sizes.batch.div_ceil(tile.rows);
        let most = device::steps_of_launch(&self.client, *tile, cubes);
        let starts = visits.clone().step_by(most);
        starts
            .map(|start| start..visits.end.min(start + most))
            .collect()
    }

    fn cubes(&self, tile: &Tile) -> CubeCount {
        device::cubes(&self.client, self.sizes.batch.div_ceil(tile.rows))
    }

    /// The recurrent weights as a persistent kernel reads them.
    fn packed(&self, by_unit: bool) -> CubeTensor {
        let d_hidden = self.sizes.d_hidden;
        let packed = self.empty([d_hidden, d_hidden, COUNT], self.dtype);
        let (cubes, dim) = threads(&self.client, d_hidden * d_hidden);
        // SAFETY: the kernel checks that it is within the weights.
        unsafe {
            pack::launch_unchecked(
                &self.client,
                cubes,
                dim,
                arg(&self.weight_hh),
                arg(&packed),
                d_hidden,
                by_unit,
                dtype_to_storage_type(self.dtype),
            );
        }
        packed
    }
}
