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
use crate::weights::onnx::{OnnxFile, OnnxOptions};
use crate::weights::order::GateOrder;
use crate::weights::pytorch::PytorchOptions;
use crate::weights::record::{self, RecordFile};
use crate::weights::safetensors;

use super::plan::TensorSummary;

/// A file of weights, of whichever kind its content says.
#[derive(Debug)]
pub struct WeightsFile(Kind);

#[derive(Debug)]
enum Kind {
    Pytorch(PytorchFile),
    Keras(KerasFile),
    Burn(RecordFile),
    Onnx(OnnxFile),
}

/// A tensor that an LSTM is read from.
pub(super) struct SourceTensor {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) place: Place,
    pub(super) role: Role,
}

/// What a tensor, or a part of it, is to a layer and direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Part(Part),
    Peephole,
}

impl Role {
    pub(super) fn is_matrix(self) -> bool {
        use Part::{WeightHh, WeightHr, WeightIh};
        matches!(self, Self::Part(WeightIh | WeightHh | WeightHr))
    }

    pub(super) fn is_bias(self) -> bool {
        matches!(self, Self::Part(part) if part.is_bias())
    }
}

/// What a tensor of an ONNX node is, by ONNX's name of it.
pub(super) fn onnx_roles(input: &str) -> &'static [Role] {
    match input {
        "W" => &[Role::Part(Part::WeightIh)],
        "R" => &[Role::Part(Part::WeightHh)],
        "B" => &[Role::Part(Part::BiasIh), Role::Part(Part::BiasHh)],
        _ => &[Role::Peephole],
    }
}

/// How the gates of a file lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GateLayout {
    /// One block below or beside the other, in this order.
    Joined(GateOrder),
    /// Each in a tensor of its own.
    Apart,
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
        } else if is_onnx(path, &start) {
            Kind::Onnx(OnnxFile::open(path)?)
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
            Kind::Onnx(_) => "ONNX",
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Kind::Pytorch(file) => file.path(),
            Kind::Keras(file) => file.path(),
            Kind::Burn(file) => file.path(),
            Kind::Onnx(file) => file.path(),
        }
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        match &self.0 {
            Kind::Pytorch(file) => file.names(),
            Kind::Keras(file) => file.names(),
            Kind::Burn(file) => file.names(),
            Kind::Onnx(file) => file.tensors(),
        }
    }

    /// The prefixes under which there is an LSTM, sorted: of Keras and burn those of layers, of ONNX
    /// the names of nodes in the order of the file.
    pub fn lstm_prefixes(&self) -> Vec<String> {
        match &self.0 {
            Kind::Pytorch(file) => file.lstm_prefixes(),
            Kind::Keras(file) => {
                let layers = file.lstm_layers().into_iter();
                layers.map(|layer| layer.path).collect()
            }
            Kind::Burn(file) => file.lstm_prefixes(),
            Kind::Onnx(file) => file.names(),
        }
    }

    /// The prefixes asked for, or else the only one there is.
    pub(super) fn choose(&self, asked: &[String]) -> Result<Vec<String>, WeightsError> {
        // PyTorch's LSTMs are stacks, and ONNX's nodes say themselves which they read.
        let is_stack = matches!(self.0, Kind::Keras(_) | Kind::Burn(_));
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
        if let Kind::Onnx(file) = &self.0 {
            let layers = file.layers(None, &OnnxOptions::default())?;
            return Ok(layers.into_iter().take(1).map(|layer| layer.name).collect());
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
                            role: Role::Part(part),
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
                            role: Role::Part(part),
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
                            role: Role::Part(part),
                        });
                    }
                }
            }
            Kind::Onnx(file) => {
                let nodes = file.layers(Some(&prefixes[0]), &OnnxOptions::default())?;
                for (layer, node) in nodes.iter().enumerate() {
                    for tensor in file.node_tensors(&node.name)? {
                        // All directions, and both biases, are in one tensor.
                        for reverse in [false, true].into_iter().take(node.direction.count()) {
                            let place = Place { layer, reverse };
                            parts.extend(onnx_roles(tensor.input).iter().map(|&role| {
                                SourceTensor {
                                    name: tensor.name.clone(),
                                    dtype: tensor.dtype,
                                    place,
                                    role,
                                }
                            }));
                        }
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
            Kind::Onnx(file) => {
                let options = OnnxOptions {
                    dtype,
                    key: Some(key.clone()),
                    ..OnnxOptions::default()
                };
                file.lstm(Some(&prefixes[0]), &options, device)
            }
        }
    }

    /// Whether matrices have inputs as rows in the file, not as columns.
    pub(super) fn is_transposed(&self) -> bool {
        matches!(self.0, Kind::Keras(_) | Kind::Burn(_))
    }

    /// How the gates lie in the file.
    pub(super) fn gates(&self) -> GateLayout {
        match &self.0 {
            Kind::Pytorch(_) | Kind::Keras(_) => GateLayout::Joined(GateOrder::IFGO),
            Kind::Onnx(_) => GateLayout::Joined(GateOrder::IOFG),
            Kind::Burn(_) => GateLayout::Apart,
        }
    }

    /// What the file says of a tensor that is in it.
    pub(super) fn summary(&self, name: &str) -> TensorSummary {
        let (shape, dtype) = match &self.0 {
            Kind::Onnx(file) => {
                let (shape, dtype) = file.tensor(name).unwrap_or_default();
                return TensorSummary {
                    name: name.into(),
                    shape,
                    dtype,
                };
            }
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
            Kind::Onnx(_) => "W",
        }
    }
}

const EXPECTED: &str =
    "weights of PyTorch (.pt, .safetensors), Keras (.h5), burn (.bpk) or ONNX (.onnx)";

/// Whether a file that begins so, or has this name, is meant to be an ONNX model: they have no sign
/// of their own, but begin with the version of the format.
fn is_onnx(path: &Path, start: &[u8]) -> bool {
    let named = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
    named || (start.first() == Some(&0x08) && !safetensors::looks_like(start))
}
