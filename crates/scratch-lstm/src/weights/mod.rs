//! Weights in other layouts, to and from [`CellWeights`](crate::CellWeights).
//!
//! The one layout inside is PyTorch's with its two biases summed: `weight_ih [4H, D]`,
//! `weight_hh [4H, H]`, `bias [4H]`, gates input, forget, cell, output. Every other layout is a
//! struct with named fields:
//!
//! | layout | type |
//! |---|---|
//! | all gates at once, `[D, 4H]`, `[H, 4H]` and one bias, in any gate order (Keras) | [`StackedWeights`] |
//! | one matrix a gate on the concatenation of `h` and `x` (textbooks) | [`ConcatWeights`] |
//! | PyTorch's, with two biases | [`TwoBiasWeights`] |
//! | eight linear layers | [`EightLinears`] |
//! | burn's own LSTMs | [`CellWeights::try_from_burn`](crate::CellWeights::try_from_burn), [`ScratchLstm::try_from_burn`](crate::ScratchLstm::try_from_burn) |
//! | LSTM layers in a file of Keras's weights | [`KerasFile`] |
//! | LSTM nodes of an ONNX model | [`OnnxFile`], [`ScratchLstm::to_onnx`](crate::ScratchLstm::to_onnx) |
//! | an LSTM in a PyTorch state dict | [`PytorchFile`], [`ScratchLstm::try_from_pytorch_file`](crate::ScratchLstm::try_from_pytorch_file) |
//!
//! [`Conversion`] goes from any of these files to another. Conversions of tensors are tensor
//! operations: gradients flow through them.

mod burn_activation;
mod burn_lstm;
mod concat;
mod convert;
mod disk;
mod error;
mod expressible;
mod file;
mod hdf5;
mod keras;
mod linears;
mod names;
mod onnx;
mod order;
mod pytorch;
mod record;
mod safetensors;
mod shapes;
mod stacked;
#[cfg(test)]
mod testing;
mod two_biases;

pub use concat::{ConcatOrder, ConcatSide, ConcatWeights};
pub use convert::{
    Change, Conversion, ConvertOptions, MappedTensor, TargetKind, TensorSummary, WeightsFile,
};
pub use error::WeightsError;
pub use file::PytorchFile;
pub use keras::{KerasFile, KerasLayer, KerasOptions, keras_activation};
pub use linears::EightLinears;
pub use onnx::{OnnxDirection, OnnxExport, OnnxFile, OnnxLstm, OnnxOptions, OnnxState};
pub use order::GateOrder;
pub use pytorch::PytorchOptions;
pub use safetensors::save_safetensors;
pub(crate) use shapes::check_stack;
pub use stacked::StackedWeights;
pub use two_biases::TwoBiasWeights;
