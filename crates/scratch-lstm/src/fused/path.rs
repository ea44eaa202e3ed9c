//! Which way a call takes, and why.

use std::fmt;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};

use scratch_lstm_kernels::{Activations, InstructionSet, InstructionSetError};

#[cfg(feature = "cube")]
use super::cube;
use super::{Rung, RungError};
use crate::config::CellConfig;
use crate::error::ForwardError;

/// Which way is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathChoice {
    /// The fused operation where it can be had, raw operations otherwise.
    #[default]
    Auto,
    /// The fused operation, or an error.
    Fused,
    /// Raw tensor operations, differentiated by autodiff, on every backend and as often as one
    /// likes.
    Raw,
}

/// The way a call takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// One operation for each layer and direction.
    Fused(Kernels),
    /// A dozen operations for each step.
    Raw(RawReason),
}

/// What computes the fused operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// This crate's kernels for CPUs.
    Cpu(InstructionSet),
    /// This crate's kernels for GPUs. The rung follows from the sizes, where nobody has fixed it.
    Gpu(Option<Rung>),
}

/// Widths of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSizes {
    /// `H`, of the cell state.
    pub d_hidden: usize,
    /// `P`, of the hidden state, if it is projected; it may be `H` all the same.
    pub d_proj: Option<usize>,
}

/// Why a call takes raw operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawReason {
    /// They were asked for.
    Asked,
    /// The backend was switched on in burn, but not by a feature of this crate.
    Backend {
        /// The device.
        device: String,
    },
    /// The CPU kernels cannot run as the environment asks: always an error, for somebody asked for
    /// something by name.
    InstructionSet(InstructionSetError),
    /// The kernels for GPUs cannot run as the environment asks: always an error, too.
    Rung(RungError),
    /// The fused operation does not compute in this element type.
    ElementType {
        /// The weights' element type.
        dtype: DType,
    },
    /// The fused operation knows sigmoid and tanh only.
    Activations,
}

impl Path {
    /// Whether the fused operation is taken.
    pub fn is_fused(&self) -> bool {
        matches!(self, Self::Fused(_))
    }

    /// The way of a call on `device` in `dtype` of a cell with the settings `cell`; of any size, if
    /// the sizes are not known.
    ///
    /// # Errors
    ///
    /// If the fused operation is asked for and cannot be had, or the environment asks for an
    /// instruction set that the processor has not, or a [`Rung`] that the device has no room for.
    pub fn of(
        choice: PathChoice,
        device: &Device,
        dtype: DType,
        cell: &CellConfig,
        sizes: Option<LayerSizes>,
    ) -> Result<Self, ForwardError> {
        let fused = match choice {
            PathChoice::Raw => return Ok(Self::Raw(RawReason::Asked)),
            _ if cell.activations != Activations::default() => Err(RawReason::Activations),
            PathChoice::Auto | PathChoice::Fused => kernels(device, dtype, cell, sizes),
        };
        match (fused, choice) {
            (Ok(kernels), _) => Ok(Self::Fused(kernels)),
            (Err(reason @ (RawReason::InstructionSet(_) | RawReason::Rung(_))), _)
            | (Err(reason), PathChoice::Fused) => Err(ForwardError::Fused { reason }),
            (Err(reason), _) => Ok(Self::Raw(reason)),
        }
    }
}

#[cfg_attr(not(feature = "cube"), allow(unused_variables))]
fn kernels(
    device: &Device,
    dtype: DType,
    cell: &CellConfig,
    sizes: Option<LayerSizes>,
) -> Result<Kernels, RawReason> {
    let device = device.clone().without_autodiff();
    let (kernels, has_type) = match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => {
            let types = [DType::F32, DType::F64, DType::F16, DType::BF16];
            (Kernels::Cpu(cpu()?), types.contains(&dtype))
        }
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => {
            let types = [DType::F32, DType::F64];
            (Kernels::Cpu(cpu()?), types.contains(&dtype))
        }
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(device) => (
            gpu(device, dtype, cell, sizes).map_err(RawReason::Rung)?,
            cube::has_type(device, dtype),
        ),
        #[allow(unreachable_patterns)]
        _ => {
            return Err(RawReason::Backend {
                device: format!("{device:?}"),
            });
        }
    };
    if has_type {
        Ok(kernels)
    } else {
        Err(RawReason::ElementType { dtype })
    }
}

#[cfg(feature = "cube")]
fn gpu(
    device: &burn_cubecl::CubeDevice,
    dtype: DType,
    cell: &CellConfig,
    sizes: Option<LayerSizes>,
) -> Result<Kernels, RungError> {
    let rung = match sizes {
        Some(sizes) => Some(cube::rung(device, dtype, cell, sizes)?),
        None => Rung::asked()?,
    };
    Ok(Kernels::Gpu(rung))
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
fn cpu() -> Result<InstructionSet, RawReason> {
    InstructionSet::chosen().map_err(RawReason::InstructionSet)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fused(kernels) => write!(f, "fused ({kernels})"),
            Self::Raw(reason) => write!(f, "raw ({reason})"),
        }
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(set) => write!(f, "CPU kernels, {set}"),
            Self::Gpu(None) => write!(f, "GPU kernels"),
            Self::Gpu(Some(rung)) => write!(f, "GPU kernels, {rung}"),
        }
    }
}

impl fmt::Display for RawReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => write!(f, "as asked for"),
            Self::Backend { device } => write!(
                f,
                "the backend of {device} is not one that a feature of scratch-lstm switched on"
            ),
            Self::InstructionSet(error) => error.fmt(f),
            Self::Rung(error) => error.fmt(f),
            Self::ElementType { dtype } => {
                write!(
                    f,
                    "there is no fused operation in {dtype:?} on this backend"
                )
            }
            Self::Activations => {
                write!(
                    f,
                    "activations other than sigmoid and tanh are raw operations"
                )
            }
        }
    }
}
