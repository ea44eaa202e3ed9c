//! One layer, one direction over a whole sequence: a loop over the cell, and what autodiff
//! differentiates.
//!
//! Time and memory grow linearly in `T`, forward and backward. burn gives every slice of a tracked
//! tensor a gradient of the whole tensor's size, so `T` slices of one projected input would make
//! the backward pass quadratic. Hence a sequence is a list of step tensors, which layers hand to
//! each other; inputs are projected in short segments; and what must be split is split by halves,
//! where each level of the recursion costs one full-size gradient.

use burn::tensor::{Bool, Tensor, TensorData};

use crate::cell::{self, CellWeights};
use crate::dropout::drop_steps;
use crate::gates::{self, Gate, Gates};
use crate::layer::{Direction, Passage};
use crate::random::Key;
use crate::state::LstmState;

/// The raw way of running a stack: layers hand each other lists of step tensors, `[B, width]` each,
/// in the order of time.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) lengths: Option<Lengths>,
}

impl Passage for Raw {
    type Series = Vec<Tensor<2>>;

    fn run(
        &self,
        weights: &CellWeights,
        input: &Vec<Tensor<2>>,
        state: LstmState<2>,
        direction: Direction,
    ) -> (Vec<Tensor<2>>, LstmState<2>) {
        run(weights, input, state, self.lengths.as_ref(), direction)
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

    fn drop_out(&self, series: Vec<Tensor<2>>, rate: f64, key: &Key) -> Vec<Tensor<2>> {
        drop_steps(series, rate, key)
    }
}

/// Runs the cell over `steps` (each `[B, D]`, in the order of time), from `state`; returns the
/// hidden state after each step, again in the order of time, and the final state.
pub(crate) fn run(
    weights: &CellWeights,
    steps: &[Tensor<2>],
    state: LstmState<2>,
    lengths: Option<&Lengths>,
    direction: Direction,
) -> (Vec<Tensor<2>>, LstmState<2>) {
    let [batch, _] = state.hidden.dims();
    let product = Product::new(weights, batch);
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
            .partition(|&&time| lengths.is_none_or(|lengths| time < lengths.longest()));
        for time in dead {
            outputs[time] = Some(state.hidden.zeros_like());
        }
        if live.is_empty() {
            continue;
        }
        let projected = product.project(live.iter().map(|&time| steps[time].clone()));
        for (time, projected) in live.into_iter().zip(projected) {
            let gates = product.gates(projected, state.hidden.clone());
            let next = cell::advance(gates, state.cell.clone());
            let (output, next) = match lengths.and_then(|lengths| lengths.ended(time)) {
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

/// Which rows have ended at which step.
#[derive(Debug)]
pub(crate) struct Lengths {
    /// `[T', B]`, true where the row has ended, for the steps from the shortest length on.
    ended: Option<Tensor<2, Bool>>,
    shortest: usize,
    longest: usize,
}

impl Lengths {
    /// From one length a row; `like` gives the device.
    pub(crate) fn new(lengths: &[usize], like: &Tensor<3>) -> Self {
        let shortest = lengths.iter().copied().min().unwrap_or(0);
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let ended = (longest > shortest).then(|| {
            let values: Vec<bool> = (shortest..longest)
                .flat_map(|time| lengths.iter().map(move |&length| time >= length))
                .collect();
            let shape = [longest - shortest, lengths.len()];
            Tensor::from_data(TensorData::new(values, shape), &like.device())
        });
        Self {
            ended,
            shortest,
            longest,
        }
    }

    /// Steps from here on are past the end of every row.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Rows that have ended at `time`, `[B, 1]`; `None` while all are valid.
    fn ended(&self, time: usize) -> Option<Tensor<2, Bool>> {
        if time < self.shortest {
            return None;
        }
        let ended = self.ended.as_ref()?;
        Some(ended.clone().narrow(0, time - self.shortest, 1).transpose())
    }

    /// Zeros in place of what lies past the end of a row, so that nothing there (NaN, say) reaches
    /// a gradient.
    pub(crate) fn clear(&self, steps: &mut [Tensor<2>]) {
        for (time, step) in steps.iter_mut().enumerate() {
            if time >= self.longest {
                *step = step.zeros_like();
            } else if let Some(ended) = self.ended(time) {
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
    let ended = ended.expand(next.hidden.dims());
    let output = next.hidden.clone().mask_fill(ended.clone(), 0.0);
    let state = LstmState {
        hidden: next.hidden.mask_where(ended.clone(), before.hidden),
        cell: next.cell.mask_where(ended, before.cell),
    };
    (output, state)
}

/// The matrix products of a sequence: all gates at once, or each by itself.
///
/// All at once is the fewest operations, and best while operations cost more than their
/// arithmetic. Large ones are better done gate by gate: the gates need no slicing, which has a
/// gradient of full size for each, and burn's CPU backends hand a product of the joined size to
/// several threads, at each time step, where one thread is done before the others have woken.
struct Product {
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

impl Product {
    fn new(weights: &CellWeights, batch: usize) -> Self {
        let [joined, d_hidden] = weights.weight_hh.dims();
        let parts = if batch * joined * d_hidden < LARGE {
            vec![weights.clone()]
        } else {
            let of_gate = |gate: Gate| {
                let from = gate.offset(d_hidden);
                CellWeights {
                    weight_ih: weights.weight_ih.clone().narrow(0, from, d_hidden),
                    weight_hh: weights.weight_hh.clone().narrow(0, from, d_hidden),
                    bias: weights
                        .bias
                        .as_ref()
                        .map(|bias| bias.clone().narrow(0, from, d_hidden)),
                }
            };
            Gate::ORDER.map(of_gate).to_vec()
        };
        let parts = parts.into_iter().map(|weights| Part {
            recurrent: weights.weight_hh.clone().transpose(),
            weights,
        });
        Self {
            parts: parts.collect(),
            batch,
        }
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
            let projected = part.weights.project(joined.clone());
            let [_, width] = projected.dims();
            let mut of_part = Vec::with_capacity(count);
            split_by_halves(projected.reshape([count, batch, width]), &mut of_part);
            for (parts, projected) in of_steps.iter_mut().zip(of_part) {
                parts.push(projected);
            }
        }
        of_steps
    }

    /// The gates `[B, H]` before their activations.
    fn gates(&self, projected: Projected, hidden: Tensor<2>) -> Gates<Tensor<2>> {
        let mut sums = self
            .parts
            .iter()
            .zip(projected)
            .map(|(part, projected)| projected + hidden.clone().matmul(part.recurrent.clone()));
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
