//! One layer, one direction over a whole sequence: a loop over the cell, and what autodiff
//! differentiates.
//!
//! Time and memory grow linearly in `T`, forward and backward. burn gives every slice of a tracked
//! tensor a gradient of the whole tensor's size, so `T` slices of one projected input would make
//! the backward pass quadratic. Hence a sequence is a list of step tensors, which layers hand to
//! each other; inputs are projected in short segments; and what must be split is split by halves,
//! where each level of the recursion costs one full-size gradient.

use std::ops::Range;

use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::cell::{self, CellWeights, Zoneout};
use crate::dropout::{Dropout, drop_steps};
use crate::gates::{self, Gate, Gates};
use crate::layer::{Direction, Passage};
use crate::random::Key;
use crate::recurrence::{Masks, Recurrence};
use crate::state::LstmState;
use crate::valid::Valid;

/// The raw way of running a stack: layers hand each other lists of step tensors, `[B, width]` each,
/// in the order of time.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) ended: Option<Ended>,
}

impl Passage for Raw {
    type Series = Vec<Tensor<2>>;

    fn run(
        &self,
        recurrence: &Recurrence,
        input: &Vec<Tensor<2>>,
        state: LstmState<2>,
        direction: Direction,
    ) -> (Vec<Tensor<2>>, LstmState<2>) {
        run(recurrence, input, state, self.ended.as_ref(), direction)
    }

    fn join(&self, outputs: Vec<Vec<Tensor<2>>>) -> Vec<Tensor<2>> {
        let steps = outputs.first().map_or(0, Vec::len);
        (0..steps)
            .map(|time| {
                let sides = outputs.iter().map(|output| output[time].clone());
                Tensor::cat(sides.collect(), 1)
            })
            .collect()
    }

    fn add(&self, a: Vec<Tensor<2>>, b: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        a.into_iter().zip(b).map(|(a, b)| a + b).collect()
    }

    fn drop_out(&self, series: Vec<Tensor<2>>, dropout: Dropout, key: &Key) -> Vec<Tensor<2>> {
        drop_steps(series, dropout, key)
    }
}

/// Runs the cell over `steps` (each `[B, D]`, in the order of time), from `state`; returns the
/// hidden state after each step, again in the order of time, and the final state.
pub(crate) fn run(
    recurrence: &Recurrence,
    steps: &[Tensor<2>],
    state: LstmState<2>,
    ended: Option<&Ended>,
    direction: Direction,
) -> (Vec<Tensor<2>>, LstmState<2>) {
    let [batch, _] = state.hidden.dims();
    let product = Product::new(recurrence, batch);
    let order: Vec<usize> = match direction {
        Direction::Forward => (0..steps.len()).collect(),
        Direction::Reverse => (0..steps.len()).rev().collect(),
    };
    let mut outputs: Vec<Option<Tensor<2>>> = vec![None; steps.len()];
    let mut state = state;
    for segment in order.chunks(product.segment()) {
        // Steps at which no row is valid have nothing to compute.
        let (live, dead): (Vec<usize>, Vec<usize>) = segment
            .iter()
            .partition(|&&time| ended.is_none_or(|ended| time < ended.mixed.end));
        for time in dead {
            outputs[time] = Some(state.hidden.zeros_like());
        }
        if live.is_empty() {
            continue;
        }
        let projected = product.project(live.iter().map(|&time| steps[time].clone()));
        for (time, projected) in live.into_iter().zip(projected) {
            let next = product.advance(projected, &state, zoneout(&recurrence.masks, time));
            let (output, next) = match ended.and_then(|ended| ended.at(time)) {
                Some(ended) => hold(ended, state, next),
                None => (next.hidden.clone(), next),
            };
            outputs[time] = Some(output);
            state = next;
        }
    }
    let outputs = outputs
        .into_iter()
        .map(|output| output.expect("every step is in some segment"))
        .collect();
    (outputs, state)
}

/// Step tensors `[B, D]` of an input `[T, B, D]`, a tracked one split by halves.
pub(crate) fn split_steps(input: Tensor<3>) -> Vec<Tensor<2>> {
    let [steps, _, _] = input.dims();
    if !input.is_tracked() {
        return (0..steps)
            .map(|time| input.clone().narrow(0, time, 1).squeeze_dim(0))
            .collect();
    }
    let mut out = Vec::with_capacity(steps);
    split_by_halves(input, &mut out);
    out
}

/// Which rows have no step at which time.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `[T', B]`, true where the row has no step, for the times in `mixed`.
    ended: Option<Tensor<2, Bool>>,
    /// At times before it all rows have a step, and from its end on none.
    mixed: Range<usize>,
}

impl Ended {
    /// Of `valid`, for `batch` rows of `steps`; `None` if every row has every step.
    pub(crate) fn new(valid: &Valid, steps: usize, batch: usize, device: &Device) -> Option<Self> {
        if *valid == Valid::All {
            return None;
        }
        let mixed = valid.mixed(steps, batch);
        let ended = (!mixed.is_empty()).then(|| {
            let values: Vec<bool> = mixed
                .clone()
                .flat_map(|time| (0..batch).map(move |row| !valid.is_valid(time, row, batch)))
                .collect();
            Tensor::from_data(TensorData::new(values, [mixed.len(), batch]), device)
        });
        Some(Self { ended, mixed })
    }

    /// Rows that have no step at `time`, `[B, 1]`; `None` while all have.
    fn at(&self, time: usize) -> Option<Tensor<2, Bool>> {
        let place = time.checked_sub(self.mixed.start)?;
        let ended = self.ended.as_ref()?;
        Some(ended.clone().narrow(0, place, 1).transpose())
    }

    /// Zeros in place of what lies past the end of a row, so that nothing there (NaN, say) reaches
    /// a gradient.
    pub(crate) fn clear(&self, steps: &mut [Tensor<2>]) {
        for (time, step) in steps.iter_mut().enumerate() {
            if time >= self.mixed.end {
                *step = step.zeros_like();
            } else if let Some(ended) = self.at(time) {
                let shape = step.dims();
                *step = step.clone().mask_fill(ended.expand(shape), 0.0);
            }
        }
    }
}

/// Rows that have ended show zeros and keep their state.
fn hold(
    ended: Tensor<2, Bool>,
    before: LstmState<2>,
    next: LstmState<2>,
) -> (Tensor<2>, LstmState<2>) {
    let rows = |like: &Tensor<2>| ended.clone().expand(like.dims());
    let of_hidden = rows(&next.hidden);
    let of_cell = rows(&next.cell);
    let output = next.hidden.clone().mask_fill(of_hidden.clone(), 0.0);
    let state = LstmState {
        hidden: next.hidden.mask_where(of_hidden, before.hidden),
        cell: next.cell.mask_where(of_cell, before.cell),
    };
    (output, state)
}

/// The shares of the old state that are kept at `time`.
fn zoneout(masks: &Masks, time: usize) -> Zoneout {
    let at = |series: &Option<Tensor<3>>| {
        let series = series.as_ref()?;
        Some(series.clone().narrow(0, time, 1).squeeze_dim(0))
    };
    Zoneout {
        hidden: at(&masks.zoneout_hidden),
        cell: at(&masks.zoneout_cell),
    }
}

/// The matrix products of a sequence: all gates at once, or each by itself.
///
/// All at once is the fewest operations, and best while operations cost more than their
/// arithmetic. Large ones are better done gate by gate: the gates need no slicing, which has a
/// gradient of full size for each, and burn's CPU backends hand a product of the joined size to
/// several threads, at each time step, where one thread is done before the others have woken.
pub(crate) struct Product<'a> {
    recurrence: &'a Recurrence,
    parts: Vec<Part>,
    batch: usize,
}

/// The weights of one gate, or of all.
struct Part {
    weights: CellWeights,
    /// `W_hhᵀ`, transposed once for all steps.
    recurrent: Tensor<2>,
}

/// The projected input of a step, in as many parts as the product has.
type Projected = Vec<Tensor<2>>;

/// From so many multiplications for a step on, gates are computed one by one.
const LARGE: usize = 1 << 22;

/// From so many multiplications on, burn's CPU backends use several threads for one product.
const THREADED: usize = 192 * 192 * 192;

impl<'a> Product<'a> {
    pub(crate) fn new(recurrence: &'a Recurrence, batch: usize) -> Self {
        let weights = &recurrence.weights;
        let [joined, d_state] = weights.weight_hh.dims();
        let d_hidden = weights.d_hidden();
        // Layer normalization is over all gates, and the bias comes after it.
        let normed = weights.layer_norm.is_some();
        let parts = if normed || batch * joined * d_state < LARGE {
            vec![CellWeights::new(
                weights.weight_ih.clone(),
                weights.weight_hh.clone(),
                weights.bias.clone().filter(|_| !normed),
            )]
        } else {
            let of_gate = |gate: Gate| {
                let from = gate.offset(d_hidden);
                CellWeights::new(
                    weights.weight_ih.clone().narrow(0, from, d_hidden),
                    weights.weight_hh.clone().narrow(0, from, d_hidden),
                    weights
                        .bias
                        .as_ref()
                        .map(|bias| bias.clone().narrow(0, from, d_hidden)),
                )
            };
            Gate::ORDER.map(of_gate).to_vec()
        };
        let parts = parts.into_iter().map(|weights| Part {
            recurrent: weights.weight_hh.clone().transpose(),
            weights,
        });
        Self {
            recurrence,
            parts: parts.collect(),
            batch,
        }
    }

    /// One step by itself: from its input `[B, D]` and the state before.
    pub(crate) fn step(&self, input: Tensor<2>, before: &LstmState<2>) -> LstmState<2> {
        let projected = self
            .parts
            .iter()
            .map(|part| self.project_part(part, input.clone()));
        let projected = projected.collect();
        self.advance(projected, before, Zoneout::default())
    }

    /// One step from its projected input and the state before.
    fn advance(
        &self,
        projected: Projected,
        before: &LstmState<2>,
        zoneout: Zoneout,
    ) -> LstmState<2> {
        let gates = self.gates(projected, before.hidden.clone());
        cell::advance(self.recurrence, gates, before, zoneout)
    }

    /// How many steps share one input projection: enough for an efficient matmul, few enough that
    /// one thread does it, and that splitting it again stays cheap (`log2` gradients of its size).
    fn segment(&self) -> usize {
        let [width, d_input] = self.parts[0].weights.weight_ih.dims();
        let of_step = self.batch * width * d_input;
        (THREADED / of_step.max(1)).clamp(4, 8)
    }

    /// Projects some steps `[B, D]` with one matmul for each part.
    fn project(&self, steps: impl Iterator<Item = Tensor<2>>) -> Vec<Projected> {
        let steps: Vec<_> = steps.collect();
        let count = steps.len();
        let [batch, _] = steps[0].dims();
        let joined = Tensor::cat(steps, 0);
        let mut of_steps = vec![Projected::new(); count];
        for part in &self.parts {
            let projected = self.project_part(part, joined.clone());
            let [_, width] = projected.dims();
            let mut of_part = Vec::with_capacity(count);
            split_by_halves(projected.reshape([count, batch, width]), &mut of_part);
            for (parts, projected) in of_steps.iter_mut().zip(of_part) {
                parts.push(projected);
            }
        }
        of_steps
    }

    /// The input's part of the gates, and the bias: `[N, D]` to `[N, width]`.
    fn project_part(&self, part: &Part, input: Tensor<2>) -> Tensor<2> {
        let projected = part.weights.project(input);
        let Recurrence { weights, cell, .. } = self.recurrence;
        let Some(norm) = &weights.layer_norm else {
            return projected;
        };
        let normed = cell::norm_gates(projected, &norm.input, cell.coupled);
        match &weights.bias {
            Some(bias) => normed + bias.clone().unsqueeze_dim(0),
            None => normed,
        }
    }

    /// The gates `[B, H]` before their activations.
    fn gates(&self, projected: Projected, hidden: Tensor<2>) -> Gates<Tensor<2>> {
        let Recurrence {
            weights,
            cell,
            masks,
        } = self.recurrence;
        let hidden = match &masks.hidden {
            Some(mask) => hidden * mask.clone(),
            None => hidden,
        };
        let mut sums = self.parts.iter().zip(projected).map(|(part, projected)| {
            let recurrent = hidden.clone().matmul(part.recurrent.clone());
            projected
                + match &weights.layer_norm {
                    Some(norm) => cell::norm_gates(recurrent, &norm.hidden, cell.coupled),
                    None => recurrent,
                }
        });
        match self.parts.len() {
            1 => gates::split(sums.next().expect("one part"), 1),
            _ => Gates::from_fn(|_| sums.next().expect("a part for each gate")),
        }
    }
}

/// Splits the first axis into its entries, by halves.
fn split_by_halves(joined: Tensor<3>, out: &mut Vec<Tensor<2>>) {
    let [count, _, _] = joined.dims();
    if count == 1 {
        out.push(joined.squeeze_dim(0));
        return;
    }
    let half = count / 2;
    split_by_halves(joined.clone().narrow(0, 0, half), out);
    split_by_halves(joined.narrow(0, half, count - half), out);
}
