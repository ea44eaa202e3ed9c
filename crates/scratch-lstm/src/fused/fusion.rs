//! The operation on a backend that queues operations to fuse them: an operation of the queue, run
//! when its turn comes.
//!
//! What a forward pass keeps is no tensor that the queue knows of. It waits in memory that the two
//! operations share: the queue runs the forward pass first, for the way back reads its output.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::TensorMetadata;
use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, StreamId, TensorIr,
};
use burn::backend::fusion::{ExecutionError, Fusion, FusionBackend, FusionRuntime, FusionTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};

use super::tensors::DIFFERENTIABLE;
use super::{
    Keep, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmKernels, LstmOps, LstmOutputs,
    Saved, Wanted,
};

impl<B: FusionBackend + LstmKernels> LstmOps for Fusion<B> {
    fn lstm_sequence(inputs: LstmInputs<Self>, call: LstmCall) -> LstmOutputs<Self> {
        Self::lstm_forward(inputs, &call, Keep::Nothing).0
    }
}

impl<B: FusionBackend + LstmKernels> LstmKernels for Fusion<B> {
    fn lstm_forward(
        inputs: LstmInputs<Self>,
        call: &LstmCall,
        keep: Keep,
    ) -> (LstmOutputs<Self>, Saved) {
        let sizes = inputs.check(call);
        let dtype = inputs.x.dtype();
        let series = match call.batch_first {
            true => [sizes.batch, sizes.steps, sizes.d_output],
            false => [sizes.steps, sizes.batch, sizes.d_output],
        };
        let shapes = [
            Shape::new(series),
            Shape::new([sizes.batch, sizes.d_output]),
            Shape::new([sizes.batch, sizes.d_hidden]),
        ];
        let (tensors, present) = inputs.into_tensors();
        let between = Between::default();
        let (call, slot) = (call.clone(), between.clone());
        let run = move |tensors: Vec<FloatTensor<B>>| {
            let inputs = LstmInputs::from_tensors(tensors.into_iter(), present);
            let (outputs, saved) = B::lstm_forward(inputs, &call, keep);
            slot.put(saved);
            Ok(vec![outputs.output, outputs.hidden, outputs.cell])
        };
        let results = shapes.map(|shape| (shape, dtype));
        let results = queue::<B>("lstm_forward", tensors, results.into(), run);
        let [output, hidden, cell] = results
            .try_into()
            .unwrap_or_else(|_| unreachable!("as many as were announced"));
        let outputs = LstmOutputs {
            output,
            hidden,
            cell,
        };
        (outputs, Saved::new(between))
    }

    fn lstm_backward(
        inputs: LstmInputs<Self>,
        output: FloatTensor<Self>,
        saved: Saved,
        cotangents: LstmCotangents<Self>,
        call: &LstmCall,
        wanted: Wanted,
    ) -> LstmGradients<Self> {
        let between = saved.into_inner::<Between>();
        let dtype = inputs.x.dtype();
        let shapes = inputs
            .differentiable()
            .map(|tensor| tensor.map(|tensor| (tensor.shape(), dtype)));
        let mut order = order_of(wanted).into_iter();
        let announced = shapes.map(|shape| {
            let is_wanted = order.next() == Some(true);
            shape.filter(|_| is_wanted)
        });

        let (mut tensors, present) = inputs.into_tensors();
        let count = tensors.len();
        tensors.push(output);
        let LstmCotangents {
            output,
            hidden,
            cell,
        } = cotangents;
        let cotangents = [output, hidden, cell];
        let given = cotangents.each_ref().map(Option::is_some);
        tensors.extend(cotangents.into_iter().flatten());

        let call = call.clone();
        let is_announced = announced.each_ref().map(Option::is_some);
        let run = move |mut tensors: Vec<FloatTensor<B>>| {
            let saved = between.take()?;
            let mut rest = tensors.split_off(count).into_iter();
            let inputs = LstmInputs::from_tensors(tensors.into_iter(), present);
            let mut next = || rest.next().expect("as many as there were");
            let output = next();
            let [d_output, hidden, cell] = given.map(|given| given.then(&mut next));
            let cotangents = LstmCotangents {
                output: d_output,
                hidden,
                cell,
            };
            let gradients = B::lstm_backward(inputs, output, saved, cotangents, &call, wanted);
            let gradients = gradients.into_order().into_iter().zip(is_announced);
            let wanted = gradients.filter(|(_, is_announced)| *is_announced);
            let wanted = wanted.map(|(gradient, _)| gradient.expect("as it was wanted"));
            Ok(wanted.collect())
        };
        let results = announced.iter().flatten().cloned().collect();
        let mut results = queue::<B>("lstm_backward", tensors, results, run).into_iter();
        LstmGradients::from_order(is_announced.map(|is| is.then(|| results.next()).flatten()))
    }
}

/// What is wanted, in the order of [`LstmInputs::differentiable`].
fn order_of(wanted: Wanted) -> [bool; DIFFERENTIABLE] {
    let Wanted {
        x,
        weight_ih,
        weight_hh,
        bias,
        h0,
        c0,
        weight_hr,
        peephole,
        layer_norm,
    } = wanted;
    let first = [x, weight_ih, weight_hh, bias, h0, c0, weight_hr, peephole];
    std::array::from_fn(|place| first.get(place).copied().unwrap_or(layer_norm))
}

/// Puts an operation into the queue: its tensors, the shapes and types of its results, and what
/// makes these of those. The results, which are not there yet.
fn queue<B: FusionBackend>(
    name: &'static str,
    tensors: Vec<FusionTensor<B::FusionRuntime>>,
    results: Vec<(Shape, DType)>,
    run: impl Fn(Vec<FloatTensor<B>>) -> Result<Vec<FloatTensor<B>>, ExecutionError>
    + Send
    + Sync
    + 'static,
) -> Vec<FusionTensor<B::FusionRuntime>> {
    let client = tensors[0].client.clone();
    let inputs: Vec<TensorIr> = tensors.into_iter().map(FusionTensor::into_ir).collect();
    let results = results.into_iter();
    let outputs: Vec<TensorIr> = results
        .map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype))
        .collect();
    let operation = OperationIr::Custom(CustomOpIr::new(name, &inputs, &outputs));
    let queued = Queued::<B> {
        name,
        inputs,
        outputs,
        run: Box::new(run),
    };
    client.register(StreamId::current(), operation, queued)
}

type Run<B> =
    dyn Fn(Vec<FloatTensor<B>>) -> Result<Vec<FloatTensor<B>>, ExecutionError> + Send + Sync;

struct Queued<B: FusionBackend> {
    name: &'static str,
    inputs: Vec<TensorIr>,
    outputs: Vec<TensorIr>,
    run: Box<Run<B>>,
}

impl<B: FusionBackend> std::fmt::Debug for Queued<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl<B: FusionBackend> Operation<B::FusionRuntime> for Queued<B> {
    fn execute(
        &self,
        handles: &mut HandleContainer<<B::FusionRuntime as FusionRuntime>::FusionHandle>,
    ) -> Result<(), ExecutionError> {
        let inputs = self.inputs.iter();
        let inputs = inputs.map(|input| handles.get_float_tensor::<B>(input));
        let results = (self.run)(inputs.collect())?;
        for (output, result) in self.outputs.iter().zip(results) {
            handles.register_float_tensor::<B>(&output.id, result);
        }
        Ok(())
    }
}

/// What a forward pass keeps, on its way to the way back.
#[derive(Debug, Clone, Default)]
struct Between(Arc<Mutex<Option<Saved>>>);

impl Between {
    fn put(&self, saved: Saved) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
    }

    fn take(&self) -> Result<Saved, ExecutionError> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
            .ok_or_else(|| ExecutionError::generic("fused LSTM: the forward pass did not run"))
    }
}
