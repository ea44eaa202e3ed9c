//! The kinds of files that an LSTM can be written to.

use std::path::Path;

use crate::lstm::ScratchLstm;
use crate::weights::error::{WeightsError, joined};
use crate::weights::names::{Part, Place, places};

/// A kind of file to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// PyTorch's names in a `.safetensors` file.
    Pytorch,
}

/// A tensor of a target.
pub(super) struct TargetTensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: String,
    /// What it is made of; none for zeros.
    pub(super) parts: Vec<(Place, Part)>,
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
            ending => Err(WeightsError::File {
                path: path.into(),
                expected: "a name that ends in .safetensors".into(),
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
            Part::BiasIh => vec![(place, Part::BiasIh), (place, Part::BiasHh)],
            Part::BiasHh => Vec::new(),
            Part::WeightIh | Part::WeightHh | Part::WeightHr => vec![(place, part)],
        };
        found.push(TargetTensor {
            name,
            shape: data.shape().to_vec(),
            dtype: format!("{:?}", data.dtype()),
            parts,
        });
    }
    Ok(found)
}
