//! The walk step by step: the launches of each.

use std::ops::Range;

use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use scratch_lstm_kernels::Sizes;

use super::args::{arg, threads};
use super::normed::{NormBackwardLaunch, NormForwardLaunch, step_back_normed, step_normed};
use super::run::{Gradient, Passed, Run, State, Steps, transposed};
use super::stepwise::{step, step_back, step_back_projected, step_projected};
use crate::gates::COUNT;

impl Run<'_> {
    pub(super) fn step_by_step(
        &self,
        visits: Range<usize>,
        steps: &Steps,
        state: &State,
        output: Option<&CubeTensor>,
    ) {
        let Sizes {
            batch,
            d_hidden,
            d_output,
            ..
        } = self.sizes;
        let recurrent = self.empty([batch, COUNT * d_hidden], self.dtype);
        let weight_hh = transposed(&self.weight_hh);
        let masked = self
            .hidden_mask
            .as_ref()
            .map(|mask| CubeBackend::float_mul(state.hidden.clone(), mask.clone()));
        let masked = masked.map(into_contiguous);
        let seen = masked.as_ref().unwrap_or(&state.hidden);
        // What the units show, and its projection.
        let projection = self.weight_hr.as_ref().map(|weight_hr| {
            let shown = self.empty([batch, d_hidden], self.dtype);
            let projected = self.empty([batch, d_output], self.dtype);
            (transposed(weight_hr), shown, projected)
        });
        let to_project = projection.as_ref().map(|(_, shown, _)| shown);
        // With the cell states inside of the step.
        let normed = self.norm.as_ref();
        let normed = normed.map(|norm| (norm, self.empty([batch, d_hidden], self.sums)));
        for visit in visits.clone() {
            let time = self.time(visit);
            self.product_into(seen.clone(), weight_hh.clone(), &recurrent);
            // Whatever kernel ends the step writes what the next one sees.
            let last = masked.as_ref().filter(|_| projection.is_none());
            // SAFETY, here and below: the kernels check that they are within the batch, and the
            // buffers have the sizes that they are told.
            match &normed {
                Some((norm, inner)) => unsafe {
                    let (cubes, dim, threads) = self.rows(batch);
                    step_normed::launch_unchecked(
                        &self.client,
                        cubes,
                        dim,
                        self.forward_buffers(&visits, steps, state, output),
                        NormForwardLaunch::new(arg(&norm.gains), arg(inner)),
                        arg(&recurrent),
                        last.map(arg).into(),
                        to_project.map(arg).into(),
                        time,
                        threads,
                        self.variant,
                        self.types(),
                    );
                },
                None => unsafe {
                    let (cubes, dim) = threads(&self.client, batch * d_hidden);
                    step::launch_unchecked(
                        &self.client,
                        cubes,
                        dim,
                        self.forward_buffers(&visits, steps, state, output),
                        arg(&recurrent),
                        last.map(arg).into(),
                        to_project.map(arg).into(),
                        time,
                        self.variant,
                        self.types(),
                    );
                },
            }
            if let Some((weight_hr, shown, projected)) = &projection {
                self.product_into(shown.clone(), weight_hr.clone(), projected);
                let (cubes, dim) = threads(&self.client, batch * d_output);
                // SAFETY: as above.
                unsafe {
                    step_projected::launch_unchecked(
                        &self.client,
                        cubes,
                        dim,
                        self.forward_buffers(&visits, steps, state, output),
                        arg(projected),
                        masked.as_ref().map(arg).into(),
                        time,
                        self.variant,
                        self.types(),
                    );
                }
            }
        }
    }

    pub(super) fn step_back_by_step(
        &self,
        visits: Range<usize>,
        steps: &Steps,
        before: &CubeTensor,
        seen: Option<&CubeTensor>,
        d_output: Option<&CubeTensor>,
        gradient: &Gradient,
    ) -> Passed {
        let Sizes {
            batch,
            d_hidden,
            d_output: width,
            ..
        } = self.sizes;
        let count = visits.len() * batch;
        let delta = self.empty([batch, COUNT * d_hidden], self.dtype);
        // The hidden state's parts of the gates; of the step, the cell states inside of it and the
        // gradients of what the units show.
        let normed = self.norm.as_ref().map(|norm| {
            let seen = seen
                .expect("what the gates saw, for layer normalization")
                .clone();
            let recurrent = self.product(seen, transposed(&self.weight_hh));
            let of_step = [(); 2].map(|()| self.empty([batch, d_hidden], self.sums));
            (norm, self.normalized(recurrent, None), of_step)
        });
        // The gradients of a step's projection and of what was projected; of the segment, the
        // gradients of the projections and what was projected.
        let projection = self.weight_hr.as_ref().map(|weight_hr| {
            let of_step = [width, d_hidden].map(|width| self.empty([batch, width], self.dtype));
            let of_segment = [width, d_hidden].map(|width| self.empty([count, width], self.dtype));
            (weight_hr, of_step, of_segment)
        });
        for visit in visits.clone().rev() {
            let time = self.time(visit);
            let mut of_units = &gradient.seen;
            if let Some((weight_hr, [of_step, of_shown], [of_segment, _])) = &projection {
                let (cubes, dim) = threads(&self.client, batch * width);
                // SAFETY, here and below: the kernels check that they are within the batch, and the
                // buffers have the sizes that they are told.
                unsafe {
                    step_back_projected::launch_unchecked(
                        &self.client,
                        cubes,
                        dim,
                        self.backward_buffers(&visits, steps, before, d_output, gradient),
                        arg(&gradient.seen),
                        arg(of_step),
                        arg(of_segment),
                        time,
                        self.variant,
                        self.types(),
                    );
                }
                self.product_into(of_step.clone(), (*weight_hr).clone(), of_shown);
                of_units = of_shown;
            }
            let projected = projection.as_ref().map(|(.., [_, read])| read);
            match &normed {
                Some((norm, normal, [inner, d_shown])) => unsafe {
                    let (cubes, dim, threads) = self.rows(batch);
                    step_back_normed::launch_unchecked(
                        &self.client,
                        cubes,
                        dim,
                        self.backward_buffers(&visits, steps, before, d_output, gradient),
                        NormBackwardLaunch::new(
                            arg(&norm.gains),
                            arg(&normal.rows),
                            arg(&normal.deviation),
                            gradient.gains.as_ref().map(arg).into(),
                            arg(inner),
                            arg(d_shown),
                        ),
                        arg(of_units),
                        projected.map(arg).into(),
                        arg(&delta),
                        time,
                        threads,
                        self.variant,
                        self.types(),
                    );
                },
                None => unsafe {
                    let (cubes, dim) = threads(&self.client, batch * d_hidden);
                    step_back::launch_unchecked(
                        &self.client,
                        cubes,
                        dim,
                        self.backward_buffers(&visits, steps, before, d_output, gradient),
                        arg(of_units),
                        projected.map(arg).into(),
                        arg(&delta),
                        time,
                        self.variant,
                        self.types(),
                    );
                },
            }
            self.product_into(delta.clone(), self.weight_hh.clone(), &gradient.seen);
        }
        Passed {
            recurrent: normed.map(|(_, normal, _)| normal.rows),
            projected: projection.map(|(.., of_segment)| of_segment),
        }
    }
}
