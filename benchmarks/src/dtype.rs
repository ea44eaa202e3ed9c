//! The element types that sizes are compared in.

use std::fmt;

use burn::tensor::{Device, FloatDType};
use clap::ValueEnum;
use scratch_train::Chosen;
use serde::Serialize;

use crate::error::BenchmarkError;

/// What weights, input and output consist of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Single precision
    #[default]
    F32,
    /// Half precision
    F16,
    /// Brain floating point
    Bf16,
}

impl Dtype {
    /// What it is called, here as in the Python program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Lets whatever is built on the device of `chosen` from here on be of this type. burn's own
    /// LSTM makes tensors of the device's usual type on its way, so that to cast its weights would
    /// not do.
    ///
    /// # Errors
    ///
    /// If the device does not compute in it.
    pub fn settle(self, chosen: &Chosen) -> Result<(), BenchmarkError> {
        let missing = |reason: String| BenchmarkError::Dtype {
            dtype: self,
            device: format!("{} on {}", chosen.backend, chosen.name),
            reason,
        };
        if !self.is_on(&chosen.device) {
            let all = Self::value_variants().iter();
            let there = all.filter(|dtype| dtype.is_on(&chosen.device));
            let there: Vec<_> = there.map(|dtype| dtype.name()).collect();
            return Err(missing(format!("it has {}", there.join(", "))));
        }
        if chosen.device.settings().float_dtype == self.into() {
            return Ok(());
        }
        let mut device = chosen.device.clone();
        device
            .configure(FloatDType::from(self))
            .map_err(|error| missing(error.to_string()))
    }

    fn is_on(self, device: &Device) -> bool {
        device.supports_dtype(FloatDType::from(self))
    }
}

impl From<Dtype> for FloatDType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::BF16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_called_the_same_everywhere() {
        for dtype in Dtype::value_variants() {
            let value = dtype.to_possible_value().unwrap();
            assert_eq!(value.get_name(), dtype.name());
            let json = serde_json::to_string(dtype).unwrap();
            assert_eq!(json, format!("\"{dtype}\""));
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn what_a_device_has_already_needs_no_settling() {
        let chosen = scratch_train::backend::choose(Some(scratch_train::Backend::Flex)).unwrap();
        Dtype::F32.settle(&chosen).unwrap();
        Dtype::F32.settle(&chosen).unwrap();
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn a_type_that_is_not_there() {
        let chosen = scratch_train::backend::choose(Some(scratch_train::Backend::NdArray)).unwrap();
        let error = Dtype::Bf16.settle(&chosen).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(
            text.contains("bf16") && text.contains("it has f32"),
            "{text}"
        );
    }
}
