//! What becomes of each tensor on its way from one file to another.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::lstm::ScratchLstm;
use crate::weights::error::WeightsError;
use crate::weights::names::{Part, Place};

use super::source::{GateLayout, Role, SourceTensor, WeightsFile};
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
    /// The gates lie in another order.
    GatesReordered,
    /// Each direction had a tensor of its own.
    DirectionsJoined,
    /// All directions were in one tensor.
    DirectionsSplit,
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
            Self::GatesReordered => "gates reordered",
            Self::DirectionsJoined => "directions joined",
            Self::DirectionsSplit => "directions split",
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
    let mut mapped = Vec::new();
    for tensor in target.tensors(lstm, prefix)? {
        let taken = |source: &&SourceTensor| tensor.parts.contains(&(source.place, source.role));
        let mut taken: Vec<&SourceTensor> = sources.iter().filter(taken).collect();
        taken.sort_by_key(|source| source.role);
        let mut changes = Vec::new();
        let mut when = |happens: bool, change: Change| {
            if happens && !taken.is_empty() {
                changes.push(change);
            }
        };
        let is_matrix = tensor.parts.iter().any(|(_, role)| role.is_matrix());
        when(is_matrix && file.is_transposed(), Change::Transposed);
        // A projection has no gates.
        let has_gates = |source: &&SourceTensor| source.role != Role::Part(Part::WeightHr);
        let is_gated = taken.iter().any(has_gates);
        match file.gates() {
            GateLayout::Apart => when(is_gated, Change::GatesJoined),
            GateLayout::Joined(order) => {
                when(is_gated && order != target.order(), Change::GatesReordered);
            }
        }
        let places = |name: &str| {
            let named = sources.iter().filter(|source| source.name == name);
            let places: BTreeSet<Place> = named.map(|source| source.place).collect();
            places.len()
        };
        let written: BTreeSet<Place> = tensor.parts.iter().map(|(place, _)| *place).collect();
        let read = taken.iter().map(|source| places(&source.name)).max();
        match written.len().cmp(&read.unwrap_or(0)) {
            Ordering::Greater => when(true, Change::DirectionsJoined),
            Ordering::Less => when(true, Change::DirectionsSplit),
            Ordering::Equal => {}
        }
        let biases: BTreeSet<Role> = taken
            .iter()
            .map(|source| source.role)
            .filter(|role| role.is_bias())
            .collect();
        when(biases.len() > 1, Change::BiasesSummed);
        let is_other = |source: &&SourceTensor| format!("{:?}", source.dtype) != tensor.dtype;
        when(taken.iter().any(is_other), Change::Converted);
        if taken.is_empty() {
            changes.push(Change::Zeros);
        }
        let mut from: Vec<TensorSummary> = Vec::new();
        for source in taken {
            if from.iter().all(|one| one.name != source.name) {
                from.push(file.summary(&source.name));
            }
        }
        mapped.push(MappedTensor {
            from,
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
