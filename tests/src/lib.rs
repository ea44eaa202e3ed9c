//! The test suite: what it proves where, and what its files share.
//!
//! A new test goes into the file in `tests/` whose first line is about the same promise:
//!
//! | file | proves |
//! |---|---|
//! | `parity_burn`, `parity_burn_f64` | outputs, states, gradients are those of burn's own LSTMs |
//! | `parity_pytorch` | … and PyTorch's, by the goldens beside the script that made them |
//! | `keras` | … and Keras's, from files that Keras has saved, also with padding |
//! | `equations` | every variant of the cell is the equations of its paper, by goldens |
//! | `formulations` | five ways to write an LSTM by hand are this LSTM |
//! | `finite_differences` | gradients are the slopes of the function |
//! | `fused` | the fused operation is the raw one: tracked or not, strided, half precision, checkpointed |
//! | `feature_matrix` | every variant of the LSTM, alone and with every other, is the same fused and raw |
//! | `launches` | how many kernels a step launches on a GPU |
//! | `device_limits` | sizes beyond the buffers of a GPU are split, or a typed error |
//! | `gradcheck` | the gradient checker finds what is wrong |
//! | `precision` | rounding errors are no larger than those of raw operations and of PyTorch |
//! | `stream` | step by step is the sequence, and nothing is allocated |
//! | `lengths` | sequences of several lengths in a batch, and rows that start anew |
//! | `options_errors` | what does not fit is a typed error |
//! | `dropout`, `init` | what is random is the same everywhere |
//! | `training_curve` | ten steps of training are burn's and PyTorch's |
//! | `truncated_bptt` | what windows cut off the gradient, and what they do not |
//! | `schedules` | learning rates are burn's and PyTorch's, wherever in a run they are asked for |
//! | `optimizers` | steps are PyTorch's, a record is all of the state, and what decays |
//! | `trainer` | the loop: gradients, accumulation, clipping, and how a run ends |
//! | `resume` | a run that was cut off and goes on is the run that was not |
//! | `checkpoints` | what is kept, and what happens to files that are damaged or cannot be written |
//! | `crash_resume` | a process that is killed at any instant loses nothing |
//! | `mixed_precision` | bf16 over weights in f32: types, losses, gradients |
//! | `range_test` | the learning rates it finds train, and it leaves the model alone |
//! | `flat_memory` | a run needs no more memory at its end than near its beginning |
//! | `growth` | memory grows linearly in the number of steps |
//! | `weights` | weights in other layouts and files |
//! | `convert` | … and an LSTM on its way from one file to another |
//! | `fuzz_weights` | … and that files of any content are errors |
//! | `onnx` | models from and for ONNX compute here what ONNX Runtime computes |
//! | `fuzz_onnx` | whatever lies in an ONNX file is an LSTM or a typed error |
//!
//! A test of a private function lies beside it in its crate; one of the program `scratch` in
//! `crates/scratch-cli/tests`.
//!
//! The backend is that of the environment variable `SCRATCH_TEST_BACKEND`; see [`backend`].
//! Numbers are compared by the tolerances in [`compare`] and nowhere else.

pub mod allocations;
pub mod backend;
pub mod burn_lstm;
pub mod compare;
pub mod features;
pub mod golden;
pub mod pairwise;
pub mod probe;
pub mod random;
pub mod runs;
pub mod toy;

pub use backend::{device, dtypes, is_gpu, say};
pub use compare::{Named, Tolerance, Values, assert_all_close, assert_all_same, assert_close};
pub use golden::Golden;
pub use probe::{Case, PATHS};
