//! What stays the same over a sequence, and what is asked of it segment by segment.

use std::cell::OnceCell;
use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape, Slice};
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::{into_contiguous, matmul};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use scratch_lstm_kernels::Sizes;

use super::args::{arg, threads};
use super::before::hidden_before;
use super::cell::Variant;
use super::device;
use super::gaps;
use super::normed::{normalize, normalize_back};
use super::persistent::Tile;
use crate::fused::{Keep, LstmCall, LstmInputs, OptionalLayerNorm, Rung};
use crate::gates::COUNT;

/// Bytes of the gates of a segment where it need not be the whole sequence.
const SEGMENT: usize = 64 << 20;

/// The state of all rows.
#[derive(Debug)]
pub(super) struct State {
    /// `[B, P]`
    pub(super) hidden: CubeTensor,
    /// `[B, H]`, in the type of sums.
    pub(super) cell: CubeTensor,
}

/// What the way back needs of a segment's steps.
#[derive(Debug)]
pub(super) struct Steps {
    /// What is kept of the gates, `[N, 4H]`; after the way back the gradients of what they were
    /// before their activations.
    pub(super) gates: CubeTensor,
    /// The cell states after the steps, `[N, H]`, if they are kept.
    pub(super) cells: Option<CubeTensor>,
}

/// The gradient of the state after a step that is walked back through.
#[derive(Debug)]
pub(super) struct Gradient {
    /// Of what the gates of the step after it saw of the hidden state, `[B, P]`: in the type of the
    /// tensors step by step, for it is a matrix product, in that of sums otherwise.
    pub(super) seen: CubeTensor,
    /// What of the hidden state's passes those gates by, `[B, P]`, if anything does.
    pub(super) kept: Option<CubeTensor>,
    /// Of the cell state, `[B, H]`.
    pub(super) cell: CubeTensor,
    /// Of each row's peepholes so far, `[B, 3H]`.
    pub(super) peephole: Option<CubeTensor>,
    /// Of each row's [`Norm::gains`] so far, `[B, 6H]`.
    pub(super) gains: Option<CubeTensor>,
}

/// What a segment leaves for the gradients of the weights, besides those of its gates.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// The gradient of the hidden state's part of the gates before its normalization, `[N, 4H]`,
    /// if it has one.
    pub(super) recurrent: Option<CubeTensor>,
    /// If there is a projection, the gradient of its result, `[N, P]`, and what it read, `[N, H]`.
    pub(super) projected: Option<[CubeTensor; 2]>,
}

/// Gains and shift of layer normalization.
#[derive(Debug)]
pub(super) struct Norm {
    /// Of the input's part of the gates, `[4H]`.
    pub(super) input: CubeTensor,
    /// What the steps ask for: gains of the hidden state's part of the gates and of the cell state,
    /// and the latter's shift, `[6H]`.
    pub(super) gains: CubeTensor,
}

/// Blocks of `H` numbers of [`Norm::gains`].
pub(super) const GAINS: usize = COUNT + 2;

/// Normalized rows of gates.
#[derive(Debug)]
pub(super) struct Normal {
    /// `[N, 4H]`
    pub(super) rows: CubeTensor,
    /// What their numbers were divided by, `[N]`.
    pub(super) deviation: CubeTensor,
}

/// What stays the same over the segments.
pub(super) struct Run<'a> {
    pub(super) call: &'a LstmCall,
    pub(super) sizes: Sizes,
    pub(super) client: Client,
    pub(super) device: CubeDevice,
    pub(super) dtype: DType,
    /// The type of sums and of what is carried from step to step.
    pub(super) sums: DType,
    pub(super) variant: Variant,
    pub(super) walk: Walk,
    pub(super) segment: usize,
    /// `[B, T, D]` or `[T, B, D]`, zeros where rows have ended.
    pub(super) x: CubeTensor,
    pub(super) weight_ih: CubeTensor,
    pub(super) weight_hh: CubeTensor,
    pub(super) bias: CubeTensor,
    pub(super) weight_hr: Option<CubeTensor>,
    pub(super) norm: Option<Norm>,
    pub(super) h0: CubeTensor,
    pub(super) peephole: Option<CubeTensor>,
    pub(super) hidden_mask: Option<CubeTensor>,
    pub(super) zoneout_hidden: Option<CubeTensor>,
    pub(super) zoneout_cell: Option<CubeTensor>,
    /// `[T, B]`, 0 where a row lacks the step.
    pub(super) valid: Option<CubeTensor>,
    /// `[T, B]`, as the way back asks for it; see [`gaps::previous`].
    pub(super) previous: OnceCell<CubeTensor>,
}

pub(super) enum Walk {
    Stepwise,
    Persistent(Tile),
}

impl<'a> Run<'a> {
    pub(super) fn new(
        inputs: LstmInputs<CubeBackend>,
        call: &'a LstmCall,
        keep: Keep,
        rung: Rung,
    ) -> Self {
        let sizes = inputs.check(call);
        let Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
            d_output,
        } = sizes;
        let LstmInputs {
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0: _,
            weight_hr,
            peephole,
            layer_norm,
            masks,
        } = inputs.map::<CubeBackend>(into_contiguous);
        let (client, device, dtype) = (x.client.clone(), x.device.clone(), x.dtype);
        let (zoneout_hidden, zoneout_cell) = (
            masks.zoneout_hidden.into_option(),
            masks.zoneout_cell.into_option(),
        );
        let peephole = peephole.into_option();
        let (weight_hr, norm) = (weight_hr.into_option(), norm(layer_norm));
        let variant = Variant {
            peepholes: peephole.is_some(),
            coupled: call.cell.coupled,
            clip_gates: call.cell.clip_gates.is_some(),
            clip_cell: call.cell.clip_cell.is_some(),
            zoneout_hidden: zoneout_hidden.is_some(),
            zoneout_cell: zoneout_cell.is_some(),
        };
        let numbers = COUNT * d_hidden * batch;
        // The kernels rely on it: whoever calls the module is told before.
        let room = device::numbers_of_buffer(&client, dtype);
        let zoneout = if variant.zoneout_cell { d_hidden } else { 0 };
        let widest = d_input.max(d_output).max(zoneout);
        let series = [batch, steps, widest].map(|size| size as u64);
        let series = series.into_iter().fold(1, u64::saturating_mul);
        for numbers in [series, numbers as u64] {
            assert!(
                numbers <= room,
                "fused LSTM: expected at most {room} numbers in a buffer, found {numbers}"
            );
        }
        let most = device::steps_of_buffer(&client, numbers, dtype);
        let bounded = (SEGMENT / (numbers * dtype.size())).max(1);
        let suiting = match keep {
            // What they compute again on the way back is of a segment.
            Keep::Everything if norm.is_some() || weight_hr.is_some() => bounded,
            Keep::Everything => steps,
            Keep::Boundaries => steps.isqrt(),
            Keep::Nothing => bounded,
        };
        let asked = call.segment.map_or(suiting, |segment| segment.get());
        let walk = match rung {
            Rung::Stepwise => Walk::Stepwise,
            Rung::Persistent => Walk::Persistent(device::tile(&client, dtype, batch, d_hidden)),
        };
        Self {
            call,
            sizes,
            valid: gaps::valid(call, sizes, &device),
            x: gaps::cleared(x, call, sizes),
            client,
            device,
            dtype,
            sums: device::sums(dtype),
            variant,
            walk,
            segment: asked.min(most),
            weight_ih,
            weight_hh,
            bias,
            weight_hr,
            norm,
            h0,
            peephole,
            hidden_mask: masks.hidden.into_option(),
            zoneout_hidden,
            zoneout_cell,
            previous: OnceCell::new(),
        }
    }

    /// The segments in the order of visits.
    pub(super) fn segments(&self) -> Vec<Range<usize>> {
        let steps = self.sizes.steps;
        (0..steps)
            .step_by(self.segment)
            .map(|start| start..steps.min(start.saturating_add(self.segment)))
            .collect()
    }

    /// The state before the first step, in buffers of its own.
    pub(super) fn start(&self, c0: CubeTensor) -> State {
        State {
            hidden: copy(&self.h0),
            cell: self.carried(c0),
        }
    }

    /// A copy of a state.
    pub(super) fn copy(&self, state: &State) -> State {
        State {
            hidden: copy(&state.hidden),
            cell: copy(&state.cell),
        }
    }

    /// A buffer for the output of the whole sequence.
    pub(super) fn output(&self) -> CubeTensor {
        self.empty(self.output_shape(), self.dtype)
    }

    pub(super) fn output_shape(&self) -> Shape {
        let Sizes {
            batch,
            steps,
            d_output,
            ..
        } = self.sizes;
        Shape::new(match self.call.batch_first {
            true => [batch, steps, d_output],
            false => [steps, batch, d_output],
        })
    }

    /// In the type of sums.
    pub(super) fn summand(&self, tensor: CubeTensor) -> CubeTensor {
        CubeBackend::float_cast(tensor, float(self.sums))
    }

    /// From the type of sums to that of the tensors.
    pub(super) fn result(&self, tensor: CubeTensor) -> CubeTensor {
        CubeBackend::float_cast(tensor, float(self.dtype))
    }

    /// The inputs of some visits, `[N, D]`.
    pub(super) fn input_rows(&self, visits: Range<usize>) -> CubeTensor {
        let Sizes {
            batch,
            steps,
            d_input,
            ..
        } = self.sizes;
        let count = visits.len();
        let part = if count == steps {
            self.x.clone()
        } else {
            let times = self.times(&visits);
            let (all, width) = (Slice::from(0..batch), Slice::from(0..d_input));
            let slices = match self.call.batch_first {
                true => [all, times.into(), width],
                false => [times.into(), all, width],
            };
            into_contiguous(CubeBackend::float_slice(self.x.clone(), &slices))
        };
        reshape(part, Shape::new([count * batch, d_input]))
    }

    /// Rows of a segment, `[N, width]`, as a series with its two first axes.
    pub(super) fn series(&self, rows: CubeTensor, visits: &Range<usize>) -> CubeTensor {
        let [_, width] = rows.shape().dims();
        let (batch, count) = (self.sizes.batch, visits.len());
        let shape = match self.call.batch_first {
            true => [batch, count, width],
            false => [count, batch, width],
        };
        reshape(rows, Shape::new(shape))
    }

    /// The axis of time.
    pub(super) fn time_axis(&self) -> usize {
        usize::from(self.call.batch_first)
    }

    /// What the gates of some visits saw of the hidden state, `[N, P]`.
    pub(super) fn seen_rows(&self, visits: Range<usize>, output: &CubeTensor) -> CubeTensor {
        let Sizes {
            batch,
            steps,
            d_output,
            ..
        } = self.sizes;
        let count = visits.len() * batch;
        let before = self.empty([count, d_output], self.dtype);
        let previous = self.valid.is_some().then(|| {
            self.previous
                .get_or_init(|| gaps::previous(self.call, self.sizes, &self.device))
        });
        let (cubes, dim) = threads(&self.client, count * d_output);
        // SAFETY: the kernel checks that it is within the segment, and the buffers have the sizes
        // that it is told.
        unsafe {
            hidden_before::launch_unchecked(
                &self.client,
                cubes,
                dim,
                arg(output),
                arg(&self.h0),
                previous.map(arg).into(),
                self.hidden_mask.as_ref().map(arg).into(),
                arg(&before),
                self.layout(&visits),
                visits.len(),
                steps - 1,
                dtype_to_storage_type(self.dtype),
            );
        }
        before
    }

    /// The input's part of the gates of some visits, `[N, 4H]`, before its normalization.
    pub(super) fn projected_inputs(&self, visits: Range<usize>) -> CubeTensor {
        self.product(self.input_rows(visits), transposed(&self.weight_ih))
    }

    /// Rows of gates, normalized in their own buffer; with a gain, if there is one.
    pub(super) fn normalized(&self, rows: CubeTensor, gain: Option<&CubeTensor>) -> Normal {
        let [count, _] = rows.shape().dims();
        let deviation = self.empty([count], self.sums);
        let (cubes, dim, threads) = self.rows(count);
        // SAFETY: the kernel checks that it is within the rows.
        unsafe {
            normalize::launch_unchecked(
                &self.client,
                cubes,
                dim,
                arg(&rows),
                gain.map(arg).into(),
                arg(&deviation),
                count,
                self.sizes.d_hidden,
                threads,
                self.variant.coupled,
                self.types(),
            );
        }
        Normal { rows, deviation }
    }

    /// From the gradient of what [`normalized`](Self::normalized) returns with `gain` to that of
    /// what it was given, in the place of what it returned without one.
    pub(super) fn normalized_back(
        &self,
        delta: &CubeTensor,
        gain: &CubeTensor,
        normal: Normal,
    ) -> CubeTensor {
        let Normal { rows, deviation } = normal;
        let [count, _] = rows.shape().dims();
        let (cubes, dim, threads) = self.rows(count);
        // SAFETY: the kernel checks that it is within the rows.
        unsafe {
            normalize_back::launch_unchecked(
                &self.client,
                cubes,
                dim,
                arg(delta),
                arg(gain),
                arg(&rows),
                arg(&deviation),
                count,
                self.sizes.d_hidden,
                threads,
                self.variant.coupled,
                self.types(),
            );
        }
        rows
    }

    /// A matrix product.
    pub(super) fn product(&self, left: CubeTensor, right: CubeTensor) -> CubeTensor {
        let [rows, _] = left.shape().dims();
        let [_, columns] = right.shape().dims();
        let result = self.empty([rows, columns], self.dtype);
        self.product_into(left, right, &result);
        result
    }

    /// The same, into a buffer.
    pub(super) fn product_into(&self, left: CubeTensor, right: CubeTensor, buffer: &CubeTensor) {
        let strategy = matmul::MatmulStrategy::default();
        matmul::matmul(left, right, Some(buffer.clone()), strategy, self.dtype)
            .unwrap_or_else(|error| panic!("fused LSTM: matrix product: {error:?}"));
    }

    /// A cube for each of some rows, and its threads.
    pub(super) fn rows(&self, count: usize) -> (CubeCount, CubeDim, usize) {
        let threads = device::threads_of_row(&self.client, self.sizes.d_hidden);
        let cubes = device::cubes(&self.client, count);
        (cubes, CubeDim::new_1d(threads as u32), threads)
    }

    pub(super) fn time(&self, visit: usize) -> usize {
        match self.call.reverse {
            true => self.sizes.steps - 1 - visit,
            false => visit,
        }
    }

    pub(super) fn times(&self, visits: &Range<usize>) -> Range<usize> {
        match self.call.reverse {
            true => self.time(visits.end - 1)..self.time(visits.start) + 1,
            false => visits.clone(),
        }
    }

    pub(super) fn empty(&self, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
        let (client, device) = (self.client.clone(), self.device.clone());
        empty_device_contiguous_dtype(client, device, shape.into(), dtype)
    }

    /// In the type of sums, in a buffer of its own.
    pub(super) fn carried(&self, tensor: CubeTensor) -> CubeTensor {
        self.owned(tensor, self.sums)
    }

    pub(super) fn owned(&self, tensor: CubeTensor, dtype: DType) -> CubeTensor {
        let tensor = into_contiguous(tensor);
        match tensor.dtype == dtype {
            true => copy(&tensor),
            false => into_contiguous(CubeBackend::float_cast(tensor, float(dtype))),
        }
    }
}

/// A matrix read by its columns.
pub(super) fn transposed(matrix: &CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(matrix.clone(), 0, 1)
}

fn norm(norm: OptionalLayerNorm<CubeBackend>) -> Option<Norm> {
    match norm {
        OptionalLayerNorm::Absent => None,
        OptionalLayerNorm::Present {
            input,
            hidden,
            cell,
            cell_bias,
        } => Some(Norm {
            input,
            gains: into_contiguous(CubeBackend::float_cat(vec![hidden, cell, cell_bias], 0)),
        }),
    }
}

/// The same numbers, side by side, in a buffer of their own.
fn copy(tensor: &CubeTensor) -> CubeTensor {
    into_contiguous(tensor.copy())
}

fn float(dtype: DType) -> FloatDType {
    dtype.into()
}
