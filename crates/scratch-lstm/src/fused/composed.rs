//! The operation in the backend's own tensor operations: what runs where there are no kernels, and
//! the readable witness of those that there are.
//!
//! | file | what it is the home of |
//! |---|---|
//! | `run.rs` | what stays the same over a sequence; the walk over a segment, there and back |
//! | `step.rs` | one step, there and back: the lines of `docs/backward.md` |
//! | `norm.rs` | layer normalization |
//! | `sums.rs` | the gradients that are sums over steps |
//! | `arithmetic.rs` | tensor operations |
//!
//! A variant that a cell has not costs nothing: neither an operation nor memory. What can be had
//! again cheaply is computed again on the way back: the cell state inside of a step, what it shows,
//! and the parts of the gates that layer normalization makes its numbers of.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use self::arithmetic::swap_if;
use self::run::Run;
use self::step::{State, Step};
use self::sums::Sums;
use super::{
    Keep, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmOutputs, Saved, Wanted,
};

mod arithmetic;
mod norm;
mod run;
mod step;
mod sums;
#[cfg(all(test, feature = "flex"))]
mod tests;

/// What the way back needs.
#[derive(Debug)]
struct Kept<B: Backend> {
    /// Of each segment, if everything is kept.
    segments: Vec<Vec<Step<B>>>,
    /// The state before each segment.
    boundaries: Vec<State<B>>,
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
        .map(|output| B::float_reshape(output, Shape::new([1, run.batch, run.d_state])));
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
    cotangents.check(inputs.check(call), call.batch_first, inputs.x.dtype());
    let d_output = cotangents
        .output
        .map(|gradient| swap_if::<B>(call.batch_first, gradient));
    let or_zeros = |gradient: Option<FloatTensor<B>>, like: &FloatTensor<B>| {
        gradient
            .unwrap_or_else(|| B::float_zeros(like.shape(), &like.device(), like.dtype().into()))
    };
    // The gradients of the state after the step that is walked back through.
    let mut after = State::<B> {
        hidden: or_zeros(cotangents.hidden, &inputs.h0),
        cell: or_zeros(cotangents.cell, &inputs.c0),
    };
    let mut sums = Sums::new(&inputs, wanted, run.steps);
    let visits: Vec<_> = run.segments().collect();
    for visits in visits.into_iter().rev() {
        let before = boundaries.pop().expect("a state before each segment");
        let steps = match keep {
            Keep::Everything => segments.pop().expect("all segments are kept"),
            _ => run.segment(visits.clone(), before, &mut []).0,
        };
        let recurrent = run.recurrent(&steps);
        let (passed, before) = run.segment_back(
            visits.clone(),
            steps,
            recurrent.as_ref(),
            d_output.as_ref(),
            after,
        );
        sums.add(&run, visits, recurrent, passed);
        after = before;
    }
    sums.finish(call.batch_first, after)
}
