//! What a model implements to be trained here.

use burn::module::Module;
use burn::tensor::Tensor;
use scratch_lstm::{Key, RecurrentState};

/// A model that reads sequences window by window.
///
/// It holds no state: the state of the window before comes in, that of the next goes out. The
/// trainer carries it, cuts the graph between windows and resets it where a sequence starts.
pub trait SequenceModel: Module {
    /// One window of a batch of sequences, targets included.
    type Batch;
    /// What is carried to the next window; `()` for nothing.
    type State: RecurrentState;

    /// Reads one window.
    ///
    /// `state` is `None` where every row starts a new sequence. `key` is the stream for whatever
    /// is random in this step (dropout masks): keyed by it, a step can be repeated exactly.
    fn step(
        &self,
        batch: &Self::Batch,
        state: Option<Self::State>,
        key: &Key,
    ) -> StepOutput<Self::State>;

    /// The state with the rows marked `true` as a sequence starts: zeros, unless the model has
    /// learned something else.
    fn restart(&self, state: Self::State, rows: &[bool]) -> Self::State {
        state.reset_rows(rows)
    }

    /// Task metrics of one window as sums over its targets, `[1]`, by name; the loop divides by the
    /// number of targets. `valid_<name>` in reports. They are tensors so that nothing waits for the
    /// device at each window.
    fn measure(
        &self,
        _batch: &Self::Batch,
        _output: &StepOutput<Self::State>,
    ) -> Vec<(&'static str, Tensor<1>)> {
        Vec::new()
    }
}

/// What a model makes of one window.
#[derive(Debug, Clone)]
pub struct StepOutput<S> {
    /// The mean loss over the window's targets, `[1]`.
    pub loss: Tensor<1>,
    /// How many targets the mean is over: its weight among the other windows.
    pub targets: usize,
    /// What the model says, `[B, T, _]`: predictions or logits.
    pub outputs: Tensor<3>,
    /// The state after the window's last step.
    pub state: S,
}
