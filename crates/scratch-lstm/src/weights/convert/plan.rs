//! What becomes of each tensor on its way from one file to another.

use serde::Serialize;

use crate::lstm::ScratchLstm;
use crate::weights::error::WeightsError;
use crate::weights::names::Part;

use super::source::{SourceTensor, WeightsFile};
use super::target::TargetKind;

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorSummary {
    /// Its name in the file.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// Its element type.
    pub dtype: String,
}

/// A tensor of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MappedTensor {
    /// What it is made of; empty if of nothing.
    pub from: Vec<TensorSummary>,
    /// What it is.
    pub to: TensorSummary,
    /// What happens on the way; empty if the numbers stay where they are.
    pub changes: Vec<Change>,
}

/// Something that happens to numbers on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Rows become columns.
    Transposed,
    /// Each gate had a tensor of its own.
    GatesJoined,
    /// Two biases become one.
    BiasesSummed,
    /// Other element types.
    Converted,
    /// The target has a second bias.
    Zeros,
}

impl Change {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Transposed => "transposed",
            Self::GatesJoined => "gates joined",
            Self::BiasesSummed => "biases summed",
            Self::Converted => "converted",
            Self::Zeros => "zeros",
        }
    }
}

/// What each tensor of the target is made of, and what of the source is left over.
pub(super) fn plan(
    file: &WeightsFile,
    sources: &[SourceTensor],
    lstm: &ScratchLstm,
    target: TargetKind,
    prefix: &str,
) -> Result<(Vec<MappedTensor>, Vec<TensorSummary>), WeightsError> {
    let summary = |source: &SourceTensor| file.summary(&source.name);
    let mut mapped = Vec::new();
    for tensor in target.tensors(lstm, prefix)? {
        let taken = |source: &&SourceTensor| tensor.parts.contains(&(source.place, source.part));
        let mut taken: Vec<&SourceTensor> = sources.iter().filter(taken).collect();
        taken.sort_by_key(|source| source.part);
        let mut changes = Vec::new();
        let mut when = |happens: bool, change: Change| {
            if happens {
                changes.push(change);
            }
        };
        let is_matrix = tensor.shape.len() > 1;
        when(is_matrix && file.is_transposed(), Change::Transposed);
        let [on_input, on_hidden] = [Part::BiasIh, Part::BiasHh]
            .map(|bias| taken.iter().filter(|source| source.part == bias).count());
        let of_one = taken.len() - on_hidden.min(on_input);
        when(of_one > 1, Change::GatesJoined);
        when(on_input > 0 && on_hidden > 0, Change::BiasesSummed);
        let dtypes = taken.iter().map(|source| format!("{:?}", source.dtype));
        let is_converted = dtypes.into_iter().any(|dtype| dtype != tensor.dtype);
        when(is_converted, Change::Converted);
        when(taken.is_empty(), Change::Zeros);
        mapped.push(MappedTensor {
            from: taken.into_iter().map(summary).collect(),
            to: TensorSummary {
                name: tensor.name,
                shape: tensor.shape,
                dtype: tensor.dtype,
            },
            changes,
        });
    }
    let is_taken = |name: &String| sources.iter().any(|source| source.name == *name);
    let names = file.names().into_iter();
    let left_over = names.filter(|name| !is_taken(name));
    let left_over = left_over.map(|name| file.summary(&name)).collect();
    Ok((mapped, left_over))
}
