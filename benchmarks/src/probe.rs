//! A training step by a process that does nothing else, and what it takes: a process's peak never
//! tells what an earlier step needed.
//!
//! The benchmark starts itself with the hidden flag `--probe`; see [`Session::probe`].
//!
//! [`Session::probe`]: crate::session::Session::probe

use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use scratch_lstm::ScratchLstm;
use serde::{Deserialize, Serialize};

use crate::error::BenchmarkError;
use crate::memory::{self, MemoryError};
use crate::peers::{
    BurnLstm, BurnModel, PeerError, RawLstm, input, mean_of_squares, median_seconds,
};
use crate::workload::Size;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Whose training step.
    pub model: Model,
    /// Its size.
    pub size: Size,
    /// Whether the device computes again on the way back what it has not kept.
    pub checkpointing: bool,
    /// For how long the step is repeated after the first one, which does not count as time; once
    /// at least.
    pub least_seconds: f64,
}

/// An LSTM that runs on burn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// This project's.
    Scratch,
    /// This project's, by raw operations.
    Raw,
    /// burn's own.
    Burn,
}

/// What training steps took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// The most bytes that were resident before, with model and input built.
    pub idle: u64,
    /// The most bytes that were resident.
    pub peak: u64,
    /// Median seconds of a step, without the first.
    pub seconds: f64,
}

impl Footprint {
    /// Bytes that the steps needed beyond the idle process.
    pub fn beyond(&self) -> u64 {
        self.peak.saturating_sub(self.idle)
    }
}

impl Probe {
    /// Measures, in this process and on this device, which does not differentiate by itself.
    ///
    /// # Errors
    ///
    /// If the device fails or the system does not tell.
    pub fn run(&self, device: &Device) -> Result<Footprint, BenchmarkError> {
        match self.model {
            Model::Scratch => self.measure::<ScratchLstm>(device),
            Model::Raw => self.measure::<RawLstm>(device),
            Model::Burn => self.measure::<BurnLstm>(device),
        }
    }

    fn measure<M: BurnModel>(&self, device: &Device) -> Result<Footprint, BenchmarkError> {
        let mut tracked = device.clone().autodiff();
        if self.checkpointing {
            tracked = tracked.gradient_checkpointing();
        }
        // Loads the code, which is no matter of the size.
        Step::<M>::new(Size::new(1, 1, 1, 1), &tracked)?.seconds(1)?;

        let step = Step::<M>::new(self.size, &tracked)?;
        memory::forget_peak();
        let idle = memory::peak().ok_or(MemoryError::System)?;
        let first = step.seconds(1)?;
        let repetitions = (self.least_seconds / first).ceil().max(1.0) as usize;
        let seconds = step.seconds(repetitions)?;
        let peak = memory::peak().ok_or(MemoryError::System)?;
        Ok(Footprint {
            idle,
            peak,
            seconds,
        })
    }
}

/// As it is handed to the process.
impl FromStr for Probe {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

/// A training step: model and input.
struct Step<M> {
    model: M,
    input: Tensor<3>,
}

impl<M: BurnModel> Step<M> {
    fn new(size: Size, device: &Device) -> Result<Self, PeerError> {
        Ok(Self {
            model: M::build(size, device)?,
            input: input([size.b, size.t, size.d], device),
        })
    }

    fn seconds(&self, repetitions: usize) -> Result<f64, PeerError> {
        let device = self.input.device().without_autodiff();
        median_seconds(&device, repetitions, || {
            mean_of_squares(self.model.output(self.input.clone())).backward()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Probe = Probe {
        model: Model::Raw,
        size: Size::new(3, 7, 5, 11),
        checkpointing: true,
        least_seconds: 0.0,
    };

    #[test]
    fn a_probe_survives_the_command_line() {
        let text = serde_json::to_string(&PROBE).unwrap();
        assert_eq!(text.parse::<Probe>().unwrap(), PROBE);
        assert!("3,7,5,11".parse::<Probe>().is_err());
    }

    #[cfg(all(target_os = "linux", feature = "flex"))]
    #[test]
    fn every_model_can_be_measured() {
        let _alone = memory::ALONE.lock();
        for model in [Model::Scratch, Model::Raw, Model::Burn] {
            let footprint = Probe { model, ..PROBE }.run(&Device::flex()).unwrap();
            assert!(footprint.peak >= footprint.idle && footprint.idle > 0);
            assert!(footprint.seconds > 0.0);
        }
    }
}
