//! What stays the same over a sequence, and the walk over one segment of it, there and back.

use std::cell::OnceCell;
use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::get_device_settings;
use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::tensor::{DType, FloatDType, Shape, Slice, TensorData};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::{BufferArg, CubeCount, CubeDim, Float};
use burn_cubecl::kernel::{into_contiguous, matmul};
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, zeros};
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use scratch_lstm_kernels::Sizes;

use super::before::hidden_before;
use super::cell::Variant;
use super::device;
use super::persistent::{Tile, pack, walk, walk_back};
use super::stepwise::{step, step_back};
use super::unit::{BackwardLaunch, ForwardLaunch, LayoutLaunch, OptionsLaunch, StridesLaunch};
use crate::fused::{Keep, LstmCall, LstmInputs, Rung};
use crate::gates::COUNT;
use crate::valid::Valid;

/// Bytes of the gates of a segment where nothing is kept of them.
const SEGMENT: usize = 64 << 20;

/// The state of all rows.
#[derive(Debug)]
pub(super) struct State {
    /// `[B, H]`
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
    cells: Option<CubeTensor>,
}

/// The gradient of the state after a step that is walked back through.
#[derive(Debug)]
pub(super) struct Gradient {
    /// Of what the gates of the step after it saw of the hidden state, `[B, H]`.
    seen: CubeTensor,
    /// What of the hidden state's passes those gates by, `[B, H]`, if anything does.
    kept: Option<CubeTensor>,
    /// Of the cell state, `[B, H]`.
    pub(super) cell: CubeTensor,
    /// Of each row's peepholes so far, `[B, 3H]`.
    pub(super) peephole: Option<CubeTensor>,
}

/// What stays the same over the segments.
pub(super) struct Run<'a> {
    call: &'a LstmCall,
    sizes: Sizes,
    client: Client,
    device: CubeDevice,
    dtype: DType,
    /// The type of sums and of what is carried from step to step.
    sums: DType,
    variant: Variant,
    walk: Walk,
    segment: usize,
    /// `[B, T, D]` or `[T, B, D]`, zeros where rows have ended.
    x: CubeTensor,
    pub(super) weight_ih: CubeTensor,
    weight_hh: CubeTensor,
    bias: CubeTensor,
    h0: CubeTensor,
    peephole: Option<CubeTensor>,
    hidden_mask: Option<CubeTensor>,
    zoneout_hidden: Option<CubeTensor>,
    zoneout_cell: Option<CubeTensor>,
    /// `[T, B]`, 0 where a row lacks the step.
    valid: Option<CubeTensor>,
    /// `[T, B]`, as the way back asks for it; see [`previous`].
    previous: OnceCell<CubeTensor>,
}

enum Walk {
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
            ..
        } = sizes;
        let LstmInputs {
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            peephole,
            masks,
            ..
        } = inputs.map::<CubeBackend>(into_contiguous);
        let (client, device, dtype) = (x.client.clone(), x.device.clone(), x.dtype);
        let (zoneout_hidden, zoneout_cell) = (
            masks.zoneout_hidden.into_option(),
            masks.zoneout_cell.into_option(),
        );
        let peephole = peephole.into_option();
        let variant = Variant {
            peepholes: peephole.is_some(),
            coupled: call.cell.coupled,
            clip_gates: call.cell.clip_gates.is_some(),
            clip_cell: call.cell.clip_cell.is_some(),
            zoneout_hidden: zoneout_hidden.is_some(),
            zoneout_cell: zoneout_cell.is_some(),
            gaps: call.valid != Valid::All,
        };
        let numbers = COUNT * d_hidden * batch;
        // The kernels rely on it: whoever calls the module is told before.
        let room = device::numbers_of_buffer(&client, dtype);
        for numbers in [batch * steps * d_input.max(d_hidden), numbers] {
            assert!(
                numbers as u64 <= room,
                "fused LSTM: expected at most {room} numbers in a buffer, found {numbers}"
            );
        }
        let most = device::steps_of_buffer(&client, numbers, dtype);
        let suiting = match keep {
            Keep::Everything => steps,
            Keep::Boundaries => steps.isqrt(),
            Keep::Nothing => (SEGMENT / (numbers * dtype.size())).max(1),
        };
        let asked = call.segment.map_or(suiting, |segment| segment.get());
        let walk = match rung {
            Rung::Stepwise => Walk::Stepwise,
            Rung::Persistent => {
                Walk::Persistent(device::tile(&client, dtype, batch, d_hidden, call.reverse))
            }
        };
        Self {
            call,
            sizes,
            valid: valid(call, sizes, &device),
            x: cleared(x, call, sizes),
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
        let Sizes {
            batch,
            steps,
            d_hidden,
            ..
        } = self.sizes;
        let shape = match self.call.batch_first {
            true => [batch, steps, d_hidden],
            false => [steps, batch, d_hidden],
        };
        self.empty(shape, self.dtype)
    }

    /// In the type of sums.
    pub(super) fn summand(&self, tensor: CubeTensor) -> CubeTensor {
        CubeBackend::float_cast(tensor, float(self.sums))
    }

    /// From the type of sums to that of the tensors.
    pub(super) fn result(&self, tensor: CubeTensor) -> CubeTensor {
        CubeBackend::float_cast(tensor, float(self.dtype))
    }

    /// Forward over some visits. Moves `state`, and writes the output, if there is a buffer for it.
    pub(super) fn segment(
        &self,
        visits: Range<usize>,
        state: &State,
        output: Option<&CubeTensor>,
        keeps: bool,
    ) -> Steps {
        let d_hidden = self.sizes.d_hidden;
        let rows = self.input_rows(visits.clone());
        let [count, _] = rows.shape().dims();
        let gates = self.empty([count, COUNT * d_hidden], self.dtype);
        let weight = CubeBackend::float_swap_dims(self.weight_ih.clone(), 0, 1);
        self.product(rows, weight, Some(gates.clone()));
        let steps = Steps {
            gates,
            cells: keeps.then(|| self.empty([count, d_hidden], self.sums)),
        };
        match &self.walk {
            Walk::Stepwise => {
                let Sizes { batch, .. } = self.sizes;
                let recurrent = self.empty([batch, COUNT * d_hidden], self.dtype);
                let weight = CubeBackend::float_swap_dims(self.weight_hh.clone(), 0, 1);
                let masked = self
                    .hidden_mask
                    .as_ref()
                    .map(|mask| CubeBackend::float_mul(state.hidden.clone(), mask.clone()));
                let masked = masked.map(into_contiguous);
                let seen = masked.as_ref().unwrap_or(&state.hidden);
                let (count, dim) = self.units();
                for visit in visits.clone() {
                    self.product(seen.clone(), weight.clone(), Some(recurrent.clone()));
                    // SAFETY: the kernel checks that it is within the batch, and the buffers have
                    // the sizes that it is told.
                    unsafe {
                        step::launch_unchecked(
                            &self.client,
                            count.clone(),
                            dim,
                            self.forward_buffers(&visits, &steps, state, output),
                            arg(&recurrent),
                            masked.as_ref().map(arg).into(),
                            self.time(visit),
                            self.variant,
                            self.types(),
                        );
                    }
                }
            }
            Walk::Persistent(tile) => {
                let weight = self.packed(false);
                for part in self.launches(visits.clone(), tile) {
                    // SAFETY: as above.
                    unsafe {
                        walk::launch_unchecked(
                            &self.client,
                            self.cubes(tile),
                            CubeDim::new_1d(tile.units as u32),
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
    pub(super) fn end(&self, hidden: Option<CubeTensor>, cell: Option<CubeTensor>) -> Gradient {
        let Sizes {
            batch, d_hidden, ..
        } = self.sizes;
        let zeros = |width: usize, dtype: DType| {
            let shape = Shape::new([batch, width]);
            into_contiguous(zeros(self.device.clone(), shape, dtype))
        };
        let seen = match self.walk {
            Walk::Stepwise => self.dtype,
            Walk::Persistent(_) => self.sums,
        };
        let passes = self.variant.zoneout_hidden || self.variant.gaps || self.hidden_mask.is_some();
        let (seen, kept) = match (hidden, passes) {
            (Some(hidden), true) => (zeros(d_hidden, seen), Some(self.carried(hidden))),
            (Some(hidden), false) => (self.owned(hidden, seen), None),
            (None, passes) => (
                zeros(d_hidden, seen),
                passes.then(|| zeros(d_hidden, self.sums)),
            ),
        };
        Gradient {
            seen,
            kept,
            cell: cell.map_or_else(|| zeros(d_hidden, self.sums), |cell| self.carried(cell)),
            peephole: self
                .variant
                .peepholes
                .then(|| zeros(3 * d_hidden, self.sums)),
        }
    }

    /// Back over some visits: moves `gradient`, and leaves the gradients of the gates in the
    /// place of what was kept of them. `before` is the cell state before them.
    pub(super) fn segment_back(
        &self,
        visits: Range<usize>,
        steps: &Steps,
        before: &CubeTensor,
        d_output: Option<&CubeTensor>,
        gradient: &Gradient,
    ) {
        match &self.walk {
            Walk::Stepwise => {
                let Sizes {
                    batch, d_hidden, ..
                } = self.sizes;
                let delta = self.empty([batch, COUNT * d_hidden], self.dtype);
                let (count, dim) = self.units();
                for visit in visits.clone().rev() {
                    let is_first = visit == visits.start;
                    // SAFETY: the kernel checks that it is within the batch, and the buffers have
                    // the sizes that it is told.
                    unsafe {
                        step_back::launch_unchecked(
                            &self.client,
                            count.clone(),
                            dim,
                            self.backward_buffers(&visits, steps, before, d_output, gradient),
                            arg(&gradient.seen),
                            arg(&delta),
                            self.time(visit),
                            u32::from(is_first),
                            if is_first { 0 } else { self.time(visit - 1) },
                            self.variant,
                            self.types(),
                        );
                    }
                    self.product(
                        delta.clone(),
                        self.weight_hh.clone(),
                        Some(gradient.seen.clone()),
                    );
                }
            }
            Walk::Persistent(tile) => {
                let weight = self.packed(true);
                let begin = self.time(visits.start);
                for part in self.launches(visits.clone(), tile).into_iter().rev() {
                    // SAFETY: as above.
                    unsafe {
                        walk_back::launch_unchecked(
                            &self.client,
                            self.cubes(tile),
                            CubeDim::new_1d(tile.units as u32),
                            COUNT,
                            self.backward_buffers(&visits, steps, before, d_output, gradient),
                            arg(&weight),
                            arg(&gradient.seen),
                            self.time(part.end - 1),
                            part.len(),
                            begin,
                            *tile,
                            self.variant,
                            self.types(),
                        );
                    }
                }
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

    /// What the gates of some visits saw of the hidden state, `[N, H]`.
    pub(super) fn seen_rows(&self, visits: Range<usize>, output: &CubeTensor) -> CubeTensor {
        let Sizes {
            batch,
            steps,
            d_hidden,
            ..
        } = self.sizes;
        let count = visits.len() * batch;
        let before = self.empty([count, d_hidden], self.dtype);
        let previous = self.variant.gaps.then(|| {
            self.previous.get_or_init(|| {
                let times = previous(self.call, self.sizes);
                unsigned(times, [steps, batch], &self.device)
            })
        });
        let units = count * d_hidden;
        let dim = CubeDim::new(&self.client, units);
        // SAFETY: the kernel checks that it is within the segment, and the buffers have the sizes
        // that it is told.
        unsafe {
            hidden_before::launch_unchecked(
                &self.client,
                calculate_cube_count_elemwise(&self.client, units, dim),
                dim,
                arg(output),
                arg(&self.h0),
                previous.map(arg).into(),
                self.hidden_mask.as_ref().map(arg).into(),
                arg(&before),
                self.layout(&visits),
                visits.len(),
                steps - 1,
                self.call.reverse,
                dtype_to_storage_type(self.dtype),
            );
        }
        before
    }

    /// A matrix product, into a buffer if there is one.
    pub(super) fn product(
        &self,
        left: CubeTensor,
        right: CubeTensor,
        into: Option<CubeTensor>,
    ) -> CubeTensor {
        let strategy = matmul::MatmulStrategy::default();
        matmul::matmul(left, right, into, strategy, self.dtype)
            .unwrap_or_else(|error| panic!("fused LSTM: matrix product: {error:?}"))
    }

    /// The recurrent weights as a persistent kernel reads them.
    fn packed(&self, by_unit: bool) -> CubeTensor {
        let d_hidden = self.sizes.d_hidden;
        let packed = self.empty([d_hidden, d_hidden, COUNT], self.dtype);
        let units = d_hidden * d_hidden;
        let dim = CubeDim::new(&self.client, units);
        // SAFETY: the kernel checks that it is within the weights.
        unsafe {
            pack::launch_unchecked(
                &self.client,
                calculate_cube_count_elemwise(&self.client, units, dim),
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

    fn time(&self, visit: usize) -> usize {
        match self.call.reverse {
            true => self.sizes.steps - 1 - visit,
            false => visit,
        }
    }

    fn times(&self, visits: &Range<usize>) -> Range<usize> {
        match self.call.reverse {
            true => self.time(visits.end - 1)..self.time(visits.start) + 1,
            false => visits.clone(),
        }
    }

    fn layout(&self, visits: &Range<usize>) -> LayoutLaunch {
        let Sizes {
            batch,
            steps,
            d_hidden,
            ..
        } = self.sizes;
        let strides = |count: usize| match self.call.batch_first {
            true => StridesLaunch::new(count, 1),
            false => StridesLaunch::new(1, batch),
        };
        LayoutLaunch::new(
            batch,
            d_hidden,
            self.times(visits).start,
            strides(steps),
            strides(visits.len()),
        )
    }

    fn forward_buffers<F: Float, A: Float>(
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

    fn backward_buffers<F: Float, A: Float>(
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
        let bound = |bound: Option<f64>| bound.unwrap_or_default() as f32;
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

    /// A thread for each unit of each row.
    fn units(&self) -> (CubeCount, CubeDim) {
        let units = self.sizes.batch * self.sizes.d_hidden;
        let dim = CubeDim::new(&self.client, units);
        (calculate_cube_count_elemwise(&self.client, units, dim), dim)
    }

    fn types(&self) -> [ElemType; 2] {
        [self.dtype, self.sums].map(dtype_to_storage_type)
    }

    fn empty<const R: usize>(&self, shape: [usize; R], dtype: DType) -> CubeTensor {
        let (client, device) = (self.client.clone(), self.device.clone());
        empty_device_contiguous_dtype(client, device, Shape::new(shape), dtype)
    }

    /// In the type of sums, in a buffer of its own.
    fn carried(&self, tensor: CubeTensor) -> CubeTensor {
        self.owned(tensor, self.sums)
    }

    fn owned(&self, tensor: CubeTensor, dtype: DType) -> CubeTensor {
        let tensor = into_contiguous(tensor);
        match tensor.dtype == dtype {
            true => copy(&tensor),
            false => into_contiguous(CubeBackend::float_cast(tensor, float(dtype))),
        }
    }
}

/// A tensor whose numbers lie side by side, as a kernel gets it.
fn arg(tensor: &CubeTensor) -> BufferArg {
    assert!(tensor.is_contiguous(), "rows may be padded on CUDA");
    let numbers = tensor.shape().num_elements();
    // SAFETY: the buffer has as many numbers; it costs less than a copy of the tensor, at each of
    // the launches of each step.
    unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), numbers) }
}

/// The same numbers, side by side, in a buffer of their own.
fn copy(tensor: &CubeTensor) -> CubeTensor {
    into_contiguous(tensor.copy())
}

fn float(dtype: DType) -> FloatDType {
    dtype.into()
}

/// `[T, B]`, 0 where a row lacks a step.
fn valid(call: &LstmCall, sizes: Sizes, device: &CubeDevice) -> Option<CubeTensor> {
    let Sizes { batch, steps, .. } = sizes;
    if call.valid == Valid::All {
        return None;
    }
    let places = (0..steps).flat_map(|time| (0..batch).map(move |row| (time, row)));
    let valid = places.map(|(time, row)| u32::from(call.valid.is_valid(time, row, batch)));
    Some(unsigned(valid.collect(), [steps, batch], device))
}

/// For each `[T, B]` 1 more than the time of the step before it, 0 if there is none.
fn previous(call: &LstmCall, sizes: Sizes) -> Vec<u32> {
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
    previous
}

fn unsigned(numbers: Vec<u32>, shape: [usize; 2], device: &CubeDevice) -> CubeTensor {
    into_contiguous(CubeBackend::int_from_data(
        TensorData::new(numbers, shape),
        device,
    ))
}

/// Zeros where rows lack steps: what lies there, NaN too, must not reach a gradient as `0 * NaN`.
fn cleared(x: CubeTensor, call: &LstmCall, sizes: Sizes) -> CubeTensor {
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
