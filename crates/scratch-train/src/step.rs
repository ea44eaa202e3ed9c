//! One window of truncated backpropagation through time.

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use scratch_lstm::{Key, RecurrentState};

use crate::data::{Start, Window};
use crate::model::SequenceModel;

/// What one training window leaves.
pub(crate) struct TrainedWindow<S> {
    /// Of the mean loss, by parameter.
    pub(crate) grads: GradientsParams,
    /// The mean loss, `[1]`, off the graph.
    pub(crate) loss: Tensor<1>,
    /// Targets the mean is over.
    pub(crate) targets: usize,
    /// For the next window, off the graph.
    pub(crate) state: S,
}

/// Forward and backward over one window. The state of the window before enters as a constant:
/// gradients end at the window's beginning (Williams & Peng 1990).
pub(crate) fn train_window<M: SequenceModel>(
    model: &M,
    window: &Window<M::Batch>,
    carried: Option<M::State>,
    key: &Key,
) -> TrainedWindow<M::State> {
    let state = enter(model, &window.start, carried);
    let output = model.step(&window.batch, state, key);
    let loss = output.loss.clone().inner();
    let grads = GradientsParams::from_grads(output.loss.backward(), model);
    TrainedWindow {
        grads,
        loss,
        targets: output.targets,
        state: output.state.detach(),
    }
}

/// The state with which a window begins.
pub(crate) fn enter<M: SequenceModel>(
    model: &M,
    start: &Start,
    carried: Option<M::State>,
) -> Option<M::State> {
    match start {
        Start::Fresh => None,
        Start::Continue => carried,
        Start::Rows(rows) => carried.map(|state| model.restart(state, rows)),
    }
}
