//! The only hand-written autodiff node.
//!
//! In burn a node has one result, and the operation has three. So the sequence is a node whose
//! result nobody sees, and output and final states are its children. A child hands its gradient to
//! the sequence through memory they share and registers a single zero on it, which makes autodiff
//! walk there; autodiff has visited all children of a node before the node itself.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;

use super::tensors::DIFFERENTIABLE;
use super::{
    Keep, LstmCall, LstmCotangents, LstmInputs, LstmKernels, LstmOps, LstmOutputs, Saved, Wanted,
};

impl<B: LstmKernels, C: CheckpointStrategy> LstmOps for Autodiff<B, C> {
    fn lstm_sequence(inputs: LstmInputs<Self>, call: LstmCall) -> LstmOutputs<Self> {
        let untracked = FloatTensor::<Self>::new;
        // What is absent has no gradient.
        let absent = inputs.x.clone().into_primitive();
        let nodes = inputs.differentiable().map(|tensor| match tensor {
            Some(tensor) => tensor.node(),
            None => untracked(absent.clone()).node(),
        });
        let inputs = inputs.map::<B>(|tensor| tensor.into_primitive());
        let prepared = Sequence.prepare::<C>(nodes).compute_bound().stateful();
        let prepared = match prepared {
            OpsKind::Tracked(prepared) => prepared,
            OpsKind::UnTracked(_) => {
                let (outputs, _) = B::lstm_forward(inputs, &call, Keep::Nothing);
                return LstmOutputs {
                    output: untracked(outputs.output),
                    hidden: untracked(outputs.hidden),
                    cell: untracked(outputs.cell),
                };
            }
        };
        let keep = if call.checkpoint {
            Keep::Boundaries
        } else {
            Keep::Everything
        };
        let (outputs, saved) = B::lstm_forward(inputs.clone(), &call, keep);
        let LstmOutputs {
            output,
            hidden,
            cell,
        } = outputs;

        let handed_over = HandedOver::<B>::default();
        let zero = B::float_zeros(Shape::new([1]), &output.device(), output.dtype().into());
        let state = SequenceState {
            inputs,
            output: output.clone(),
            saved,
            call,
            handed_over: handed_over.clone(),
        };
        let sequence = prepared.finish(state, zero.clone());
        let child = |part: Part, result: FloatTensor<B>| {
            let prepared = part.prepare::<C>([sequence.node()]).compute_bound();
            match prepared.stateful() {
                OpsKind::Tracked(prepared) => {
                    prepared.finish((handed_over.clone(), zero.clone()), result)
                }
                OpsKind::UnTracked(_) => unreachable!("the sequence is tracked"),
            }
        };
        LstmOutputs {
            output: child(Part::Output, output),
            hidden: child(Part::Hidden, hidden),
            cell: child(Part::Cell, cell),
        }
    }
}

/// No gradients of gradients: the kernels' backward pass is not differentiable.
impl<B: LstmKernels, C: CheckpointStrategy> LstmKernels for Autodiff<B, C> {
    fn lstm_forward(
        inputs: LstmInputs<Self>,
        call: &LstmCall,
        keep: Keep,
    ) -> (LstmOutputs<Self>, Saved) {
        assert!(
            keep == Keep::Nothing,
            "the fused LSTM has first derivatives only: for gradients of gradients take the raw \
             path, `ScratchLstmConfig::with_path(PathChoice::Raw)`"
        );
        (Self::lstm_sequence(inputs, call.clone()), Saved::new(()))
    }
}

#[derive(Debug)]
struct Sequence;

#[derive(Debug, Clone)]
struct SequenceState<B: LstmKernels> {
    inputs: LstmInputs<B>,
    output: FloatTensor<B>,
    saved: Saved,
    call: LstmCall,
    handed_over: HandedOver<B>,
}

impl<B: LstmKernels> Backward<B, DIFFERENTIABLE> for Sequence {
    type State = SequenceState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, DIFFERENTIABLE>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        // The children's zero; what counts was handed over.
        grads.consume::<B>(&ops.node);
        let [
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
            weight_hr,
            peephole,
            layer_norm @ ..,
        ] = ops.parents.each_ref().map(Option::is_some);
        let wanted = Wanted {
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
            weight_hr,
            peephole,
            layer_norm: layer_norm.contains(&true),
        };
        let SequenceState {
            inputs,
            output,
            saved,
            call,
            handed_over,
        } = ops.state;
        let cotangents = handed_over.take();
        let gradients = B::lstm_backward(inputs, output, saved, cotangents, &call, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients.into_order()) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// One of the operation's results.
#[derive(Debug, Clone, Copy)]
enum Part {
    Output,
    Hidden,
    Cell,
}

impl<B: Backend> Backward<B, 1> for Part {
    type State = (HandedOver<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (handed_over, zero) = ops.state;
        handed_over.put(self, gradient);
        if let [Some(sequence)] = ops.parents {
            grads.register::<B>(sequence.id, zero);
        }
    }
}

/// Gradients on their way from the children to the sequence.
#[derive(Debug, Clone)]
struct HandedOver<B: Backend>(Arc<Mutex<LstmCotangents<B>>>);

impl<B: Backend> Default for HandedOver<B> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LstmCotangents {
            output: None,
            hidden: None,
            cell: None,
        })))
    }
}

impl<B: Backend> HandedOver<B> {
    fn put(&self, part: Part, gradient: FloatTensor<B>) {
        let mut cotangents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match part {
            Part::Output => &mut cotangents.output,
            Part::Hidden => &mut cotangents.hidden,
            Part::Cell => &mut cotangents.cell,
        };
        *place = Some(gradient);
    }

    fn take(&self) -> LstmCotangents<B> {
        let mut cotangents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        LstmCotangents {
            output: cotangents.output.take(),
            hidden: cotangents.hidden.take(),
            cell: cotangents.cell.take(),
        }
    }
}
