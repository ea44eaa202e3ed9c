//! What stays the same over a sequence, and the walk over one segment of it.

use std::ops::Range;

use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, TensorMetadata, get_device_settings};
use burn::tensor::{Shape, Slice, TensorData};

use scratch_lstm_kernels::Sizes;

use super::arithmetic::{at, clear, columns, row, scaled, series, swap_if};
use super::norm::{Norm, Standard};
use super::step::{Passed, State, Step};
use crate::fused::{Keep, LstmCall, LstmInputs};
use crate::gates::{COUNT, Gate};
use crate::valid::Valid;

/// Steps of a segment, where the call does not say.
const SEGMENT: usize = 32;

/// What stays the same over the segments.
pub(super) struct Run<'a, B: Backend> {
    pub(super) call: &'a LstmCall,
    /// `[T, B, D]`, zeros where rows have ended.
    x: FloatTensor<B>,
    /// `[D, 4H]` and `[P, 4H]`.
    weight_ih: FloatTensor<B>,
    weight_hh: FloatTensor<B>,
    /// The same, from gates to the hidden state.
    pub(super) weight_hh_back: FloatTensor<B>,
    /// `[1, 4H]`
    bias: FloatTensor<B>,
    /// The projection, `[H, P]`.
    pub(super) weight_hr: Option<FloatTensor<B>>,
    /// The same, from the hidden state to what is projected.
    pub(super) weight_hr_back: Option<FloatTensor<B>>,
    /// `[1, H]` of each gate that has any.
    peepholes: [Option<FloatTensor<B>>; COUNT],
    pub(super) norm: Option<Norm<B>>,
    /// What the gates see of the hidden state, `[B, P]`.
    pub(super) hidden_mask: Option<FloatTensor<B>>,
    /// `[T, B, P]`
    pub(super) zoneout_hidden: Option<FloatTensor<B>>,
    /// `[T, B, H]`
    pub(super) zoneout_cell: Option<FloatTensor<B>>,
    /// `[T, B, 1]`, true where rows have ended.
    ended: Option<BoolTensor<B>>,
    /// Whether steps are kept for a way back.
    pub(super) keeps: bool,
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) d_hidden: usize,
    /// `P`
    pub(super) d_state: usize,
    segment: usize,
}

impl<'a, B: Backend> Run<'a, B> {
    pub(super) fn new(inputs: &LstmInputs<B>, call: &'a LstmCall, keep: Keep) -> Self {
        let Sizes {
            batch,
            steps,
            d_hidden,
            ..
        } = inputs.check(call);
        let [_, d_state] = inputs.weight_hh.shape().dims();
        let x = swap_if::<B>(call.batch_first, inputs.x.clone());
        let ended = (call.valid != Valid::All).then(|| {
            let values: Vec<bool> = (0..steps)
                .flat_map(|time| (0..batch).map(move |row| !call.valid.is_valid(time, row, batch)))
                .collect();
            let data = TensorData::new(values, [steps, batch, 1]);
            // Booleans are of another size on GPUs.
            let dtype = get_device_settings::<B>(&x.device()).bool_dtype;
            B::bool_from_data(data.convert_dtype(dtype.into()), &x.device())
        });
        // What lies past the end of a row, NaN too, must not reach a gradient as `0 * NaN`.
        let x = clear::<B>(x, ended.as_ref());
        let suiting = match keep {
            Keep::Boundaries => steps.isqrt(),
            _ => SEGMENT,
        };
        let weight_hr = inputs.weight_hr.as_option();
        let masks = inputs.masks.clone();
        Self {
            call,
            x,
            weight_ih: B::float_transpose(inputs.weight_ih.clone()),
            weight_hh: B::float_transpose(inputs.weight_hh.clone()),
            weight_hh_back: inputs.weight_hh.clone(),
            bias: row::<B>(&inputs.bias),
            weight_hr: weight_hr.map(|weight| B::float_transpose(weight.clone())),
            weight_hr_back: weight_hr.cloned(),
            peepholes: peepholes::<B>(inputs.peephole.as_option(), d_hidden),
            norm: Norm::new(&inputs.layer_norm, call.cell.coupled),
            hidden_mask: masks.hidden.into_option(),
            zoneout_hidden: masks.zoneout_hidden.into_option(),
            zoneout_cell: masks.zoneout_cell.into_option(),
            ended,
            keeps: keep != Keep::Nothing,
            steps,
            batch,
            d_hidden,
            d_state,
            segment: call.segment.map_or(suiting, |segment| segment.get()),
        }
    }

    /// The segments in the order of visits.
    pub(super) fn segments(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.steps)
            .step_by(self.segment)
            .map(|start| start..self.steps.min(start.saturating_add(self.segment)))
    }

    pub(super) fn time(&self, visit: usize) -> usize {
        if self.call.reverse {
            self.steps - 1 - visit
        } else {
            visit
        }
    }

    /// Forward over some visits; outputs go where there is room for them.
    pub(super) fn segment(
        &self,
        visits: Range<usize>,
        mut state: State<B>,
        outputs: &mut [Option<FloatTensor<B>>],
    ) -> (Vec<Step<B>>, State<B>) {
        let projected = self.project(&self.input_rows(visits.clone()));
        let projected = match &self.norm {
            Some(norm) => B::float_mul(norm.standardize(projected).rows, norm.input.clone()),
            None => projected,
        };
        let projected = B::float_add(projected, self.bias.clone());
        let projected = series::<B>(projected, visits.len());
        let mut steps = Vec::with_capacity(visits.len());
        for (place, visit) in visits.enumerate() {
            let time = self.time(visit);
            let recurrent = self.recur(self.read(state.hidden.clone()));
            let recurrent = match &self.norm {
                Some(norm) => B::float_mul(norm.standardize(recurrent).rows, norm.hidden.clone()),
                None => recurrent,
            };
            let sums = B::float_add(at::<B>(&projected, place), recurrent);
            let (step, shown, next) = self.advance(time, sums, state);
            if let Some(output) = outputs.get_mut(time) {
                *output = Some(shown);
            }
            steps.push(step);
            state = next;
        }
        (steps, state)
    }

    /// The hidden state's part of the gates at some steps, standardized, if it is: `[S*B, 4H]`.
    pub(super) fn recurrent(&self, steps: &[Step<B>]) -> Option<Standard<B>> {
        let norm = self.norm.as_ref()?;
        let hidden = steps.iter().map(|step| step.before.hidden.clone());
        let rows = self.read_rows(B::float_cat(hidden.collect(), 0), steps.len());
        Some(norm.standardize(self.recur(rows)))
    }

    /// Back over some visits: what each leaves, in their order, and the gradient of the state
    /// before them. `d_output` is `[T, B, P]`, `recurrent` of [`recurrent`](Self::recurrent).
    pub(super) fn segment_back(
        &self,
        visits: Range<usize>,
        steps: Vec<Step<B>>,
        recurrent: Option<&Standard<B>>,
        d_output: Option<&FloatTensor<B>>,
        mut after: State<B>,
    ) -> (Vec<Passed<B>>, State<B>) {
        let count = steps.len();
        let recurrent = recurrent.map(|standard| Standard::<B> {
            rows: series::<B>(standard.rows.clone(), count),
            deviation: series::<B>(standard.deviation.clone(), count),
        });
        let mut passed = Vec::with_capacity(count);
        for (place, (visit, step)) in visits.zip(steps).enumerate().rev() {
            let time = self.time(visit);
            let d_shown = d_output.map(|gradient| at::<B>(gradient, time));
            let recurrent = recurrent.as_ref().map(|standard| Standard {
                rows: at::<B>(&standard.rows, place),
                deviation: at::<B>(&standard.deviation, place),
            });
            let (of_step, before) = self.step_back(time, step, d_shown, after, recurrent);
            after = before;
            passed.push(of_step);
        }
        passed.reverse();
        (passed, after)
    }

    /// The inputs of some visits below each other, `[S*B, D]`.
    pub(super) fn input_rows(&self, visits: Range<usize>) -> FloatTensor<B> {
        let rows = visits.map(|visit| at::<B>(&self.x, self.time(visit)));
        B::float_cat(rows.collect(), 0)
    }

    /// The input's part of the gates, `[N, D]` to `[N, 4H]`.
    pub(super) fn project(&self, rows: &FloatTensor<B>) -> FloatTensor<B> {
        B::float_matmul(rows.clone(), self.weight_ih.clone())
    }

    /// The hidden state's part of the gates, `[N, P]` to `[N, 4H]`.
    fn recur(&self, rows: FloatTensor<B>) -> FloatTensor<B> {
        B::float_matmul(rows, self.weight_hh.clone())
    }

    /// What the gates see of the hidden state, `[B, P]`.
    fn read(&self, hidden: FloatTensor<B>) -> FloatTensor<B> {
        scaled::<B>(hidden, self.hidden_mask.as_ref())
    }

    /// The same of some steps below each other, `[S*B, P]`.
    pub(super) fn read_rows(&self, rows: FloatTensor<B>, steps: usize) -> FloatTensor<B> {
        let Some(mask) = &self.hidden_mask else {
            return rows;
        };
        let shape = rows.shape();
        let mask = B::float_reshape(mask.clone(), Shape::new([1, self.batch, self.d_state]));
        let read = B::float_mul(series::<B>(rows, steps), mask);
        B::float_reshape(read, shape)
    }

    /// A gate's peepholes, `[1, H]`, if it has any.
    pub(super) fn peephole(&self, gate: Gate) -> Option<&FloatTensor<B>> {
        self.peepholes[gate as usize].as_ref()
    }

    pub(super) fn has_peepholes(&self) -> bool {
        self.peephole(Gate::Output).is_some()
    }

    /// `[B, 1]`, true where rows have ended at `time`.
    pub(super) fn ended_at(&self, time: usize) -> Option<BoolTensor<B>> {
        let ended = self.ended.as_ref()?;
        let slices = [time..time + 1, 0..self.batch, 0..1].map(Slice::from);
        let ended = B::bool_slice(ended.clone(), &slices);
        Some(B::bool_reshape(ended, Shape::new([self.batch, 1])))
    }
}

/// `[1, H]` of each gate that has any, of all `[3H]`.
fn peepholes<B: Backend>(
    peephole: Option<&FloatTensor<B>>,
    d_hidden: usize,
) -> [Option<FloatTensor<B>>; COUNT] {
    Gate::ORDER.map(|gate| {
        // The candidate has none.
        let place = match gate {
            Gate::Input => 0,
            Gate::Forget => 1,
            Gate::Cell => return None,
            Gate::Output => 2,
        };
        let from = place * d_hidden;
        Some(columns::<B>(&row::<B>(peephole?), from..from + d_hidden))
    })
}
