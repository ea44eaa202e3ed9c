//! The kinds of files that an LSTM can be written to.

use std::path::Path;

use crate::lstm::ScratchLstm;
use crate::weights::error::{WeightsError, joined};
use crate::weights::names::{Part, Place, places};
use crate::weights::onnx::{self, OnnxExport};
use crate::weights::order::GateOrder;

use super::source::{Role, onnx_roles};

/// A kind of file to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// PyTorch's names in a `.safetensors` file.
    Pytorch,
    /// An ONNX model, with the states as inputs.
    Onnx,
}

/// A tensor of a target.
pub(super) struct TargetTensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: String,
    /// What it is made of; none for zeros.
    pub(super) parts: Vec<(Place, Role)>,
}

impl TargetKind {
    /// The kind that the ending of a path says.
    ///
    /// # Errors
    ///
    /// If it says none.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        match ending.as_deref().and_then(|ending| ending.to_str()) {
            Some("safetensors") => Ok(Self::Pytorch),
            Some("onnx") => Ok(Self::Onnx),
            ending => Err(WeightsError::File {
                path: path.into(),
                expected: "a name that ends in .safetensors or .onnx".into(),
                found: match ending {
                    Some(ending) => format!(".{ending}"),
                    None => "no ending".into(),
                },
            }),
        }
    }

    /// Whose layout it is.
    pub fn layout(self) -> &'static str {
        match self {
            Self::Pytorch => "PyTorch",
            Self::Onnx => "ONNX",
        }
    }

    /// What the file will hold of `lstm`.
    pub(super) fn tensors(
        self,
        lstm: &ScratchLstm,
        prefix: &str,
    ) -> Result<Vec<TargetTensor>, WeightsError> {
        match self {
            Self::Pytorch => pytorch(lstm, prefix),
            Self::Onnx => onnx(lstm, prefix),
        }
    }

    /// The order of the gates in it.
    pub(super) fn order(self) -> GateOrder {
        match self {
            Self::Pytorch => GateOrder::IFGO,
            Self::Onnx => GateOrder::IOFG,
        }
    }
}

fn pytorch(lstm: &ScratchLstm, prefix: &str) -> Result<Vec<TargetTensor>, WeightsError> {
    let tensors = lstm.to_pytorch(prefix)?;
    let config = lstm.config();
    let projection = config.d_proj.is_some();
    let places = places(config);
    let parts = places.flat_map(|place| Part::of(config.bias, projection).map(move |p| (place, p)));
    let mut found = Vec::with_capacity(tensors.len());
    for (place, part) in parts {
        let name = joined(prefix, &place.name(part));
        let data = &tensors[&name];
        let parts = match part {
            Part::BiasIh => vec![Part::BiasIh, Part::BiasHh],
            Part::BiasHh => Vec::new(),
            Part::WeightIh | Part::WeightHh | Part::WeightHr => vec![part],
        };
        let parts = parts.into_iter().map(|part| (place, Role::Part(part)));
        found.push(TargetTensor {
            name,
            shape: data.shape().to_vec(),
            dtype: format!("{:?}", data.dtype()),
            parts: parts.collect(),
        });
    }
    Ok(found)
}

fn onnx(lstm: &ScratchLstm, prefix: &str) -> Result<Vec<TargetTensor>, WeightsError> {
    if !prefix.is_empty() {
        return Err(WeightsError::Setting {
            name: "to_prefix".into(),
            expected: "none for an ONNX model, which is one LSTM alone".into(),
            found: prefix.into(),
        });
    }
    // What cannot be written says so before anything is promised.
    lstm.to_onnx(&OnnxExport::default())?;
    let mut found = Vec::new();
    for (layer, tensors) in onnx::layers(lstm).into_iter().enumerate() {
        for tensor in tensors {
            let directions = [false, true].map(|reverse| Place { layer, reverse });
            let directions = &directions[..lstm.config().num_directions()];
            let parts = directions.iter().flat_map(|&place| {
                let roles = onnx_roles(tensor.input).iter();
                roles.map(move |&role| (place, role))
            });
            found.push(TargetTensor {
                parts: parts.collect(),
                name: tensor.name,
                shape: tensor.shape,
                dtype: format!("{:?}", tensor.dtype),
            });
        }
    }
    Ok(found)
}
