//! The operation in the backend's own tensor operations: what runs where there are no kernels, and
//! the readable witness of those that there are.
//!
//! Each line of [`step_back`] is a line of `docs/backward.md`.

use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, TensorMetadata, get_device_settings};
use burn::tensor::{DType, Shape, Slice, TensorData};

use scratch_lstm_kernels::Sizes;

use super::{
    Keep, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmOutputs, Saved, Wanted,
};
use crate::gates::{COUNT, Gate};
use crate::valid::Valid;

/// Steps of a segment, where the call does not say.
const SEGMENT: usize = 32;

/// What the way back needs.
#[derive(Debug)]
struct Kept<B: Backend> {
    /// Of each segment, if everything is kept.
    segments: Vec<Vec<Step<B>>>,
    /// The state before each segment.
    boundaries: Vec<State<B>>,
}

/// One step, `[B, H]` all.
#[derive(Debug, Clone)]
struct Step<B: Backend> {
    /// After their activations, in the gate order.
    gates: [FloatTensor<B>; COUNT],
    /// The state before the step.
    before: State<B>,
    /// The cell state after it.
    after: FloatTensor<B>,
}

#[derive(Debug, Clone)]
struct State<B: Backend> {
    hidden: FloatTensor<B>,
    cell: FloatTensor<B>,
}

/// Forward over the whole sequence.
pub(crate) fn forward<B: Backend>(
    inputs: LstmInputs<B>,
    call: &LstmCall,
    keep: Keep,
) -> (LstmOutputs<B>, Saved) {
    let run = Run::new(&inputs, call, keep);
    let mut state = State {
        hidden: inputs.h0.clone(),
        cell: inputs.c0.clone(),
    };
    let mut outputs: Vec<Option<FloatTensor<B>>> = vec![None; run.steps];
    let mut kept = Kept::<B> {
        segments: Vec::new(),
        boundaries: Vec::new(),
    };
    for visits in run.segments() {
        if keep != Keep::Nothing {
            kept.boundaries.push(state.clone());
        }
        let (steps, after) = run.segment(visits.clone(), state, &mut outputs);
        if keep == Keep::Everything {
            kept.segments.push(steps);
        }
        state = after;
    }
    let outputs = outputs
        .into_iter()
        .map(|output| output.expect("every step is visited"))
        .map(|output| B::float_reshape(output, Shape::new([1, run.batch, run.d_hidden])));
    let output = B::float_cat(outputs.collect(), 0);
    let outputs = LstmOutputs {
        output: swap_if::<B>(call.batch_first, output),
        hidden: state.hidden,
        cell: state.cell,
    };
    (outputs, Saved::new(kept))
}

/// Back over the whole sequence.
pub(crate) fn backward<B: Backend>(
    inputs: LstmInputs<B>,
    saved: Saved,
    cotangents: LstmCotangents<B>,
    call: &LstmCall,
    wanted: Wanted,
) -> LstmGradients<B> {
    let Kept {
        mut segments,
        mut boundaries,
    } = saved.into_inner::<Kept<B>>();
    let keep = if segments.is_empty() {
        Keep::Boundaries
    } else {
        Keep::Everything
    };
    let run = Run::new(&inputs, call, keep);
    let d_output = cotangents
        .output
        .map(|gradient| swap_if::<B>(call.batch_first, gradient));
    let zeros = || {
        B::float_zeros(
            inputs.h0.shape(),
            &inputs.h0.device(),
            inputs.h0.dtype().into(),
        )
    };
    // The gradients of the state after the step that is walked back through.
    let mut after = State::<B> {
        hidden: cotangents.hidden.unwrap_or_else(zeros),
        cell: cotangents.cell.unwrap_or_else(zeros),
    };
    let mut d_x: Vec<Option<FloatTensor<B>>> = vec![None; run.steps];
    let (mut d_weight_ih, mut d_weight_hh, mut d_bias) = (None, None, None);
    let visits: Vec<_> = run.segments().collect();
    for visits in visits.into_iter().rev() {
        let before = boundaries.pop().expect("a state before each segment");
        let steps = match keep {
            Keep::Everything => segments.pop().expect("all segments are kept"),
            _ => run.segment(visits.clone(), before, &mut []).0,
        };
        let hidden: Vec<_> = steps
            .iter()
            .map(|step| step.before.hidden.clone())
            .collect();
        let mut deltas = Vec::with_capacity(steps.len());
        for (visit, step) in visits.clone().zip(steps).rev() {
            let time = run.time(visit);
            let d_shown = d_output.as_ref().map(|gradient| at::<B>(gradient, time));
            let (delta, before) = run.step_back(time, step, d_shown, after);
            after = before;
            deltas.push(delta);
        }
        deltas.reverse();
        // `[S*B, 4H]`, step by step.
        let deltas = B::float_cat(deltas, 0);
        if wanted.x {
            let rows = B::float_matmul(deltas.clone(), inputs.weight_ih.clone());
            let [_, width] = inputs.weight_ih.shape().dims();
            let steps = B::float_reshape(rows, Shape::new([visits.len(), run.batch, width]));
            for (step, visit) in visits.clone().enumerate() {
                d_x[run.time(visit)] = Some(slice::<B>(&steps, step..step + 1));
            }
        }
        let transposed = B::float_transpose(deltas.clone());
        if wanted.weight_ih {
            let rows = run.input_rows(visits.clone());
            add_to::<B>(&mut d_weight_ih, B::float_matmul(transposed.clone(), rows));
        }
        if wanted.weight_hh {
            let rows = B::float_cat(hidden, 0);
            add_to::<B>(&mut d_weight_hh, B::float_matmul(transposed, rows));
        }
        if wanted.bias {
            let sum = B::float_sum_dim(deltas, 0);
            let sum = B::float_reshape(sum, inputs.bias.shape());
            add_to::<B>(&mut d_bias, sum);
        }
    }
    let d_x = wanted.x.then(|| {
        let steps = d_x
            .into_iter()
            .map(|step| step.expect("every step is visited"));
        swap_if::<B>(call.batch_first, B::float_cat(steps.collect(), 0))
    });
    LstmGradients {
        x: d_x,
        weight_ih: d_weight_ih,
        weight_hh: d_weight_hh,
        bias: d_bias,
        h0: wanted.h0.then_some(after.hidden),
        c0: wanted.c0.then_some(after.cell),
        weight_hr: None,
        peephole: None,
        layer_norm: None,
    }
}

/// What stays the same over the segments.
struct Run<'a, B: Backend> {
    call: &'a LstmCall,
    /// `[T, B, D]`, zeros where rows have ended.
    x: FloatTensor<B>,
    /// `[D, 4H]` and `[H, 4H]`.
    weight_ih: FloatTensor<B>,
    weight_hh: FloatTensor<B>,
    /// The same, from gates to hidden units.
    weight_hh_back: FloatTensor<B>,
    /// `[1, 4H]`
    bias: FloatTensor<B>,
    /// `[T, B, 1]`, true where rows have ended.
    ended: Option<BoolTensor<B>>,
    steps: usize,
    batch: usize,
    d_hidden: usize,
    segment: usize,
}

impl<'a, B: Backend> Run<'a, B> {
    fn new(inputs: &LstmInputs<B>, call: &'a LstmCall, keep: Keep) -> Self {
        let Sizes {
            batch,
            steps,
            d_hidden,
            ..
        } = inputs.check(call);
        let gates = COUNT * d_hidden;
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
        let x = match &ended {
            Some(ended) => {
                let mask = B::bool_expand(ended.clone(), x.shape());
                B::float_mask_fill(x, mask, 0.0.into())
            }
            None => x,
        };
        let suiting = match keep {
            Keep::Boundaries => steps.isqrt(),
            _ => SEGMENT,
        };
        Self {
            call,
            x,
            weight_ih: B::float_transpose(inputs.weight_ih.clone()),
            weight_hh: B::float_transpose(inputs.weight_hh.clone()),
            weight_hh_back: inputs.weight_hh.clone(),
            bias: B::float_reshape(inputs.bias.clone(), Shape::new([1, gates])),
            ended,
            steps,
            batch,
            d_hidden,
            segment: call.segment.map_or(suiting, |segment| segment.get()),
        }
    }

    /// The segments in the order of visits.
    fn segments(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        (0..self.steps)
            .step_by(self.segment)
            .map(|start| start..(start + self.segment).min(self.steps))
    }

    fn time(&self, visit: usize) -> usize {
        if self.call.reverse {
            self.steps - 1 - visit
        } else {
            visit
        }
    }

    /// The inputs of some visits below each other, `[S*B, D]`.
    fn input_rows(&self, visits: std::ops::Range<usize>) -> FloatTensor<B> {
        let rows = visits.map(|visit| at::<B>(&self.x, self.time(visit)));
        B::float_cat(rows.collect(), 0)
    }

    /// Forward over some visits; outputs go where there is room for them.
    fn segment(
        &self,
        visits: std::ops::Range<usize>,
        mut state: State<B>,
        outputs: &mut [Option<FloatTensor<B>>],
    ) -> (Vec<Step<B>>, State<B>) {
        let projected = B::float_matmul(self.input_rows(visits.clone()), self.weight_ih.clone());
        let projected = B::float_add(projected, self.bias.clone());
        let shape = Shape::new([visits.len(), self.batch, COUNT * self.d_hidden]);
        let projected = B::float_reshape(projected, shape);
        let mut steps = Vec::with_capacity(visits.len());
        for (place, visit) in visits.enumerate() {
            let time = self.time(visit);
            let recurrent = B::float_matmul(state.hidden.clone(), self.weight_hh.clone());
            let sums = B::float_add(at::<B>(&projected, place), recurrent);
            let (gates, next) = self.advance(sums, &state);
            let (shown, next) = match self.ended_at(time) {
                None => (next.hidden.clone(), next),
                Some(ended) => (
                    B::float_mask_fill(next.hidden.clone(), ended.clone(), 0.0.into()),
                    State {
                        hidden: hold::<B>(next.hidden, &ended, &state.hidden),
                        cell: hold::<B>(next.cell, &ended, &state.cell),
                    },
                ),
            };
            if let Some(output) = outputs.get_mut(time) {
                *output = Some(shown);
            }
            steps.push(Step {
                gates,
                before: state,
                after: next.cell.clone(),
            });
            state = next;
        }
        (steps, state)
    }

    /// One step from the gates before their activations, `[B, 4H]`.
    fn advance(
        &self,
        sums: FloatTensor<B>,
        state: &State<B>,
    ) -> ([FloatTensor<B>; COUNT], State<B>) {
        let gates = Gate::ORDER.map(|gate| {
            let from = gate.offset(self.d_hidden);
            let sums = columns::<B>(&sums, from..from + self.d_hidden);
            match gate {
                Gate::Cell => B::float_tanh(sums),
                _ => sigmoid::<B>(sums),
            }
        });
        let [input, forget, candidate, output] = gates.clone();
        let cell = B::float_add(
            mul::<B>(&forget, &state.cell),
            B::float_mul(input, candidate),
        );
        let hidden = B::float_mul(output, B::float_tanh(cell.clone()));
        (gates, State { hidden, cell })
    }

    /// One step back: from the gradients of the state after the step and of what it showed to the
    /// gradient of the gates before their activations, `[B, 4H]`, and that of the state before.
    fn step_back(
        &self,
        time: usize,
        step: Step<B>,
        d_shown: Option<FloatTensor<B>>,
        after: State<B>,
    ) -> (FloatTensor<B>, State<B>) {
        let [input, forget, candidate, output] = &step.gates;
        let d_hidden = match d_shown {
            Some(d_shown) => B::float_add(after.hidden.clone(), d_shown),
            None => after.hidden.clone(),
        };
        let shown = B::float_tanh(step.after);
        let through = mul::<B>(&mul::<B>(&d_hidden, output), &one_minus_square::<B>(&shown));
        let d_cell = B::float_add(after.cell.clone(), through);
        let slopes = [
            (mul::<B>(&d_cell, candidate), slope::<B>(input)),
            (mul::<B>(&d_cell, &step.before.cell), slope::<B>(forget)),
            (mul::<B>(&d_cell, input), one_minus_square::<B>(candidate)),
            (mul::<B>(&d_hidden, &shown), slope::<B>(output)),
        ];
        let deltas = slopes.map(|(gradient, slope)| B::float_mul(gradient, slope));
        let mut delta = B::float_cat(deltas.to_vec(), 1);
        if let Some(ended) = self.ended_at(time) {
            let ended = B::bool_slice(ended, &[Slice::from(0..self.batch), Slice::from(0..1)]);
            let ended = B::bool_expand(ended, delta.shape());
            delta = B::float_mask_fill(delta, ended, 0.0.into());
        }
        let before = State {
            hidden: B::float_matmul(delta.clone(), self.weight_hh_back.clone()),
            cell: mul::<B>(&d_cell, forget),
        };
        let before = match self.ended_at(time) {
            None => before,
            Some(ended) => State {
                hidden: hold::<B>(before.hidden, &ended, &after.hidden),
                cell: hold::<B>(before.cell, &ended, &after.cell),
            },
        };
        (delta, before)
    }

    /// `[B, H]`, true where rows have ended at `time`.
    fn ended_at(&self, time: usize) -> Option<BoolTensor<B>> {
        let ended = self.ended.as_ref()?;
        let slices = [time..time + 1, 0..self.batch, 0..1].map(Slice::from);
        let ended = B::bool_slice(ended.clone(), &slices);
        let ended = B::bool_reshape(ended, Shape::new([self.batch, 1]));
        Some(B::bool_expand(
            ended,
            Shape::new([self.batch, self.d_hidden]),
        ))
    }
}

/// `old` in the rows that have ended.
fn hold<B: Backend>(
    new: FloatTensor<B>,
    ended: &BoolTensor<B>,
    old: &FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_mask_where(new, ended.clone(), old.clone())
}

fn mul<B: Backend>(a: &FloatTensor<B>, b: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(a.clone(), b.clone())
}

/// `σ'` from `σ`.
fn slope<B: Backend>(activated: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_sub(activated.clone(), mul::<B>(activated, activated))
}

/// `tanh'` from `tanh`.
fn one_minus_square<B: Backend>(activated: &FloatTensor<B>) -> FloatTensor<B> {
    let minus_square = B::float_neg(mul::<B>(activated, activated));
    B::float_add_scalar(minus_square, 1.0.into())
}

/// `σ(x)`; in f64 by `tanh`, for most backends' own rounds to f32.
fn sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() != DType::F64 {
        return B::sigmoid(x);
    }
    let half = B::float_tanh(B::float_mul_scalar(x, 0.5.into()));
    B::float_add_scalar(B::float_mul_scalar(half, 0.5.into()), 0.5.into())
}

fn add_to<B: Backend>(sum: &mut Option<FloatTensor<B>>, term: FloatTensor<B>) {
    *sum = Some(match sum.take() {
        Some(sum) => B::float_add(sum, term),
        None => term,
    });
}

/// Batch and time change places.
fn swap_if<B: Backend>(batch_first: bool, series: FloatTensor<B>) -> FloatTensor<B> {
    if batch_first {
        B::float_swap_dims(series, 0, 1)
    } else {
        series
    }
}

/// Some entries of the first of three axes.
fn slice<B: Backend>(series: &FloatTensor<B>, range: std::ops::Range<usize>) -> FloatTensor<B> {
    let [_, rows, width] = series.shape().dims();
    let slices = [range, 0..rows, 0..width].map(Slice::from);
    B::float_slice(series.clone(), &slices)
}

/// One entry of the first of three axes, `[B, width]`.
fn at<B: Backend>(series: &FloatTensor<B>, place: usize) -> FloatTensor<B> {
    let [_, rows, width] = series.shape().dims();
    B::float_reshape(
        slice::<B>(series, place..place + 1),
        Shape::new([rows, width]),
    )
}

/// Some columns of a matrix.
fn columns<B: Backend>(matrix: &FloatTensor<B>, range: std::ops::Range<usize>) -> FloatTensor<B> {
    let [rows, _] = matrix.shape().dims();
    B::float_slice(matrix.clone(), &[0..rows, range].map(Slice::from))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;
    use burn::backend::ops::FloatTensorOps;
    use rand::Rng;

    use super::*;
    use crate::config::CellConfig;
    use crate::fused::LstmKernels;
    use crate::random::Key;

    type Tensor = FloatTensor<Flex>;

    fn tensor(name: &str, shape: &[usize], dtype: DType) -> Tensor {
        let mut rng = Key::new(3).child(name).rng();
        let values: Vec<f64> = (0..shape.iter().product())
            .map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5)
            .collect();
        let data = TensorData::new(values, shape.to_vec()).convert_dtype(dtype);
        Flex::float_from_data(data, &Default::default())
    }

    fn close(what: &str, found: Tensor, expected: Tensor, tolerance: f64) {
        assert_eq!(found.shape(), expected.shape(), "{what}");
        let numbers = |tensor: Tensor| -> Vec<f64> {
            tensor.to_contiguous().into_data().iter::<f64>().collect()
        };
        for (found, expected) in numbers(found).into_iter().zip(numbers(expected)) {
            let difference = (found - expected).abs();
            assert!(
                difference <= tolerance,
                "{what}: {found}, expected {expected}"
            );
        }
    }

    /// The two rungs of the ladder that no test of a whole module sets side by side.
    #[test]
    fn tensor_operations_and_kernels_agree() {
        let (b, t, d, h) = (3, 7, 5, 11);
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 1e-13)] {
            for (number, keep) in [Keep::Everything, Keep::Boundaries].into_iter().enumerate() {
                for (batch_first, reverse) in [(true, false), (false, true)] {
                    let series = |width: usize| match batch_first {
                        true => [b, t, width],
                        false => [t, b, width],
                    };
                    let call = LstmCall {
                        batch_first,
                        reverse,
                        valid: match number {
                            1 => Valid::Lengths([7, 0, 4].into()),
                            _ => Valid::All,
                        },
                        cell: CellConfig::default(),
                        segment: std::num::NonZeroUsize::new(3),
                        checkpoint: keep == Keep::Boundaries,
                    };
                    let inputs = LstmInputs::<Flex>::new(
                        tensor("x", &series(d), dtype),
                        tensor("weight_ih", &[4 * h, d], dtype),
                        tensor("weight_hh", &[4 * h, h], dtype),
                        tensor("bias", &[4 * h], dtype),
                        tensor("h0", &[b, h], dtype),
                        tensor("c0", &[b, h], dtype),
                    );
                    let cotangents = LstmCotangents::<Flex> {
                        output: Some(tensor("d_output", &series(h), dtype)),
                        hidden: Some(tensor("d_hidden", &[b, h], dtype)),
                        cell: None,
                    };
                    let wanted = Wanted {
                        x: true,
                        weight_ih: true,
                        weight_hh: true,
                        bias: true,
                        h0: true,
                        c0: true,
                        weight_hr: false,
                        peephole: false,
                        layer_norm: false,
                    };
                    let (outputs, saved) = forward(inputs.clone(), &call, keep);
                    let gradients =
                        backward(inputs.clone(), saved, cotangents.clone(), &call, wanted);
                    let (expected, saved) = Flex::lstm_forward(inputs.clone(), &call, keep);
                    let shown = expected.output.clone();
                    let kernels =
                        Flex::lstm_backward(inputs, shown, saved, cotangents, &call, wanted);
                    for (what, found, expected) in [
                        ("output", Some(outputs.output), Some(expected.output)),
                        ("hidden", Some(outputs.hidden), Some(expected.hidden)),
                        ("cell", Some(outputs.cell), Some(expected.cell)),
                        ("d_x", gradients.x, kernels.x),
                        ("d_weight_ih", gradients.weight_ih, kernels.weight_ih),
                        ("d_weight_hh", gradients.weight_hh, kernels.weight_hh),
                        ("d_bias", gradients.bias, kernels.bias),
                        ("d_h0", gradients.h0, kernels.h0),
                        ("d_c0", gradients.c0, kernels.c0),
                    ] {
                        let what = format!("{what} in {dtype:?}, {call:?}");
                        close(&what, found.unwrap(), expected.unwrap(), tolerance);
                    }
                }
            }
        }
    }
}
