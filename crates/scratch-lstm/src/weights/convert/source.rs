//! The kinds of files that an LSTM can be read from.

use std::path::Path;

use burn::tensor::{DType, Device, TensorCreationOptions};

use crate::lstm::ScratchLstm;
use crate::random::Key;
use crate::weights::error::WeightsError;
use crate::weights::file::{PytorchFile, open_regular};
use crate::weights::hdf5;
use crate::weights::keras::{KerasFile, KerasOptions};
use crate::weights::names::{Part, Place, below, parse};
use crate::weights::pytorch::PytorchOptions;
use crate::weights::record::{self, RecordFile};

use super::plan::TensorSummary;

/// A file of weights, of whichever kind its content says.
#[derive(Debug)]
pub struct WeightsFile(Kind);

#[derive(Debug)]
enum Kind {
    Pytorch(PytorchFile),
    Keras(KerasFile),
    Burn(RecordFile),
}

/// A tensor that an LSTM is read from.
pub(super) struct SourceTensor {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) place: Place,
    pub(super) part: Part,
}

impl WeightsFile {
    /// Opens a file and reads what it says of its tensors.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is a folder, empty, cut short or damaged, or of no kind that
    /// is known.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let start = open_regular(path, EXPECTED)?.start;
        Ok(Self(if hdf5::looks_like(&start) {
            Kind::Keras(KerasFile::open(path)?)
        } else if record::looks_like(&start) {
            Kind::Burn(RecordFile::open(path)?)
        } else {
            Kind::Pytorch(PytorchFile::open(path)?)
        }))
    }

    /// Whose file it is.
    pub fn layout(&self) -> &'static str {
        match &self.0 {
            Kind::Pytorch(_) => "PyTorch",
            Kind::Keras(_) => "Keras",
            Kind::Burn(_) => "burn",
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Kind::Pytorch(file) => file.path(),
            Kind::Keras(file) => file.path(),
            Kind::Burn(file) => file.path(),
        }
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        match &self.0 {
            Kind::Pytorch(file) => file.names(),
            Kind::Keras(file) => file.names(),
            Kind::Burn(file) => file.names(),
        }
    }

    /// The prefixes under which there is an LSTM, of Keras and burn a layer, sorted.
    pub fn lstm_prefixes(&self) -> Vec<String> {
        match &self.0 {
            Kind::Pytorch(file) => file.lstm_prefixes(),
            Kind::Keras(file) => {
                let layers = file.lstm_layers().into_iter();
                layers.map(|layer| layer.path).collect()
            }
            Kind::Burn(file) => file.lstm_prefixes(),
        }
    }

    /// The prefixes asked for, or else the only one there is.
    pub(super) fn choose(&self, asked: &[String]) -> Result<Vec<String>, WeightsError> {
        // PyTorch's LSTMs are stacks already.
        let is_stack = !matches!(self.0, Kind::Pytorch(_));
        match asked {
            [] => {}
            [_] => return Ok(asked.to_vec()),
            _ if is_stack => return Ok(asked.to_vec()),
            _ => {
                return Err(WeightsError::Setting {
                    name: "prefixes".into(),
                    expected: format!("one, for a file of {}", self.layout()),
                    found: asked.join(", "),
                });
            }
        }
        let found = self.lstm_prefixes();
        match found.len() {
            1 => Ok(found),
            0 => Err(WeightsError::Missing {
                path: self.path().into(),
                missing: vec![self.first_tensor().into()],
                found: self.names(),
            }),
            _ => Err(WeightsError::ManyLstms {
                path: self.path().into(),
                found,
            }),
        }
    }

    /// What [`lstm`](Self::lstm) reads.
    pub(super) fn parts(&self, prefixes: &[String]) -> Result<Vec<SourceTensor>, WeightsError> {
        let mut parts = Vec::new();
        match &self.0 {
            Kind::Pytorch(file) => {
                let [prefix] = prefixes else {
                    unreachable!("chosen before");
                };
                let prefix = file.full_prefix(prefix)?;
                for name in file.names() {
                    let part = below(&name, &prefix).and_then(parse);
                    if let Some((place, part)) = part {
                        let dtype = file.dtype(&name)?;
                        parts.push(SourceTensor {
                            name,
                            dtype,
                            place,
                            part,
                        });
                    }
                }
            }
            Kind::Keras(file) => {
                for (layer, prefix) in prefixes.iter().enumerate() {
                    for (reverse, part, name) in file.parts_of(prefix)? {
                        parts.push(SourceTensor {
                            name: name.into(),
                            dtype: file.dtype(name)?,
                            place: Place { layer, reverse },
                            part,
                        });
                    }
                }
            }
            Kind::Burn(file) => {
                for (layer, prefix) in prefixes.iter().enumerate() {
                    for (reverse, part, name) in file.parts_of(prefix)? {
                        parts.push(SourceTensor {
                            dtype: file.dtype(&name)?,
                            name,
                            place: Place { layer, reverse },
                            part,
                        });
                    }
                }
            }
        }
        Ok(parts)
    }

    /// The LSTM at prefixes that [`choose`](Self::choose) has chosen.
    pub(super) fn lstm(
        &self,
        prefixes: &[String],
        keras: &KerasOptions,
        dtype: Option<DType>,
        key: &Key,
        device: &Device,
    ) -> Result<ScratchLstm, WeightsError> {
        match &self.0 {
            Kind::Pytorch(file) => {
                let options = PytorchOptions {
                    dtype,
                    key: Some(key.clone()),
                    ..PytorchOptions::default()
                };
                file.lstm(&prefixes[0], &options, device)
            }
            Kind::Keras(file) => {
                let options = KerasOptions {
                    dtype,
                    key: Some(key.clone()),
                    ..keras.clone()
                };
                file.lstm(prefixes, &options, device)
            }
            Kind::Burn(file) => {
                let creation = TensorCreationOptions {
                    device: device.clone(),
                    dtype,
                };
                file.lstm(prefixes, &creation, key)
            }
        }
    }

    /// Whether matrices have inputs as rows in the file, not as columns.
    pub(super) fn is_transposed(&self) -> bool {
        matches!(self.0, Kind::Keras(_) | Kind::Burn(_))
    }

    /// What the file says of a tensor that is in it.
    pub(super) fn summary(&self, name: &str) -> TensorSummary {
        let (shape, dtype) = match &self.0 {
            Kind::Pytorch(file) => (file.shape(name), file.dtype(name)),
            Kind::Keras(file) => (file.shape(name), file.dtype(name)),
            Kind::Burn(file) => (file.shape(name), file.dtype(name)),
        };
        TensorSummary {
            name: name.into(),
            shape: shape.unwrap_or_default(),
            dtype: match dtype {
                Ok(dtype) => format!("{dtype:?}"),
                Err(WeightsError::DType { found, .. }) => found,
                Err(_) => "unknown".into(),
            },
        }
    }

    /// A tensor that each file with an LSTM has.
    fn first_tensor(&self) -> &'static str {
        match &self.0 {
            Kind::Pytorch(_) => "weight_ih_l0",
            Kind::Keras(_) => "cell/vars/0",
            Kind::Burn(_) => "input_gate.input_transform.weight",
        }
    }
}

const EXPECTED: &str = "weights of PyTorch (.pt, .safetensors), Keras (.h5) or burn (.bpk)";
