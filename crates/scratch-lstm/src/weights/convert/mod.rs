//! From an LSTM in one kind of file to another kind: what `scratch convert` does.
//!
//! `source` knows the files that can be read, `target` those that can be written, and `plan` says
//! of each tensor where it comes from and what happens to it on the way.

mod plan;
mod source;
mod target;

pub use plan::{Change, MappedTensor, TensorSummary};
pub use source::WeightsFile;
pub use target::TargetKind;

use std::path::Path;

use burn::tensor::{DType, Device};

use crate::config::ScratchLstmConfig;
use crate::lstm::ScratchLstm;
use crate::random::Key;

use super::error::WeightsError;
use super::keras::KerasOptions;
use super::onnx::OnnxExport;
use plan::plan;

/// Which LSTM is converted, and what becomes of it.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// Where the LSTM is in the source: none if there is only one; of Keras and burn the layers of a
    /// stack, from the input upwards; of ONNX the first node of a stack.
    pub prefixes: Vec<String>,
    /// Where it comes to lie in the target; nothing for an ONNX model.
    pub to_prefix: String,
    /// What Keras's weights do not say: the activations.
    pub keras: KerasOptions,
}

/// An LSTM on its way from one file to another.
///
/// ```no_run
/// use burn::tensor::Device;
/// use scratch_lstm::weights::{Conversion, ConvertOptions, TargetKind, WeightsFile};
///
/// let file = WeightsFile::open("model.weights.h5")?;
/// let options = ConvertOptions {
///     prefixes: vec!["encoder".into()],
///     ..ConvertOptions::default()
/// };
/// let target = TargetKind::of_path("encoder.safetensors")?;
/// let conversion = Conversion::new(&file, target, &options, &Device::default())?;
/// for tensor in &conversion.tensors {
///     println!("{}", tensor.to.name);
/// }
/// conversion.save("encoder.safetensors")?;
/// # Ok::<(), scratch_lstm::WeightsError>(())
/// ```
#[derive(Debug)]
pub struct Conversion {
    /// What was read.
    pub lstm: ScratchLstm,
    /// The prefixes that it was read from.
    pub prefixes: Vec<String>,
    /// Each tensor of the target and what it is made of.
    pub tensors: Vec<MappedTensor>,
    /// The tensors of the source that nothing took.
    pub left_over: Vec<TensorSummary>,
    target: TargetKind,
    to_prefix: String,
}

impl Conversion {
    /// Reads an LSTM, and plans how `target` holds it. Element types stay where `device` has them.
    ///
    /// # Errors
    ///
    /// If no prefix is given and there is more than one LSTM in the file, or none; if it cannot be
    /// read; if `target` has no counterpart for something that it does.
    pub fn new(
        file: &WeightsFile,
        target: TargetKind,
        options: &ConvertOptions,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        let prefixes = file.choose(&options.prefixes)?;
        let sources = file.parts(&prefixes)?;
        let types: Vec<DType> = sources.iter().map(|source| source.dtype).collect();
        let dtype = match types.split_first() {
            Some((first, rest)) if rest.iter().all(|other| other == first) => {
                Some(*first).filter(|dtype| device.supports_dtype(*dtype))
            }
            _ => None,
        };
        // A file has no parameter identities.
        let key = Key::new(0).child("lstm");
        let lstm = file.lstm(&prefixes, &options.keras, dtype, &key, device)?;
        let (tensors, left_over) = plan(file, &sources, &lstm, target, &options.to_prefix)?;
        Ok(Self {
            lstm,
            prefixes,
            tensors,
            left_over,
            target,
            to_prefix: options.to_prefix.clone(),
        })
    }

    /// What the LSTM is.
    pub fn config(&self) -> &ScratchLstmConfig {
        self.lstm.config()
    }

    /// Writes the target, which replaces a file at `path` only once it is complete and on disk.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), WeightsError> {
        match self.target {
            TargetKind::Pytorch => self.lstm.save_pytorch_safetensors(path, &self.to_prefix),
            TargetKind::Onnx => self.lstm.save_onnx(path, &OnnxExport::default()),
        }
    }
}
