//! The program and machine of a run: what must be the same for the same bits.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use burn::tensor::{DType, Device};
use scratch_lstm::config::CellConfig;
use scratch_lstm::{Path, PathChoice};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::hex;

/// What a run must share with the one it goes on from to be the same to the last bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Version of this library.
    pub version: String,
    /// SHA-256 of the program's file, where it can be read.
    pub program: Option<String>,
    /// burn's name of the device.
    pub device: String,
    /// How the LSTM is run, with the instruction set: `fused (CPU kernels, AVX-512)`.
    pub lstm: String,
    /// Threads of the CPU backends.
    pub threads: usize,
    /// Operating system and processor architecture.
    pub platform: String,
}

impl Environment {
    /// That of this process on `device`.
    pub fn current(device: &Device) -> Self {
        let cell = CellConfig::default();
        let lstm = Path::of(PathChoice::Auto, device, DType::F32, &cell, None);
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            program: program_hash().map(str::to_string),
            device: format!("{:?}", device.clone().without_autodiff()),
            lstm: lstm.map_or_else(|error| error.to_string(), |path| path.to_string()),
            threads: rayon::current_num_threads(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }

    /// What differs from `other`, in words: `threads (2 then, 4 now)`. Empty if nothing does.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let short = |program: &Option<String>| match program {
            Some(hash) => format!("{}…", &hash.get(..8).unwrap_or(hash)),
            None => "unknown".into(),
        };
        let pairs = [
            ("version", self.version.clone(), now.version.clone()),
            ("program", short(&self.program), short(&now.program)),
            ("device", self.device.clone(), now.device.clone()),
            ("lstm", self.lstm.clone(), now.lstm.clone()),
            ("threads", self.threads.to_string(), now.threads.to_string()),
            ("platform", self.platform.clone(), now.platform.clone()),
        ];
        let pairs = pairs.into_iter().filter(|(_, then, now)| then != now);
        pairs
            .map(|(name, then, now)| format!("{name} ({then} then, {now} now)"))
            .collect()
    }
}

/// What it takes to repeat a run: `system.json` of a run folder, in this order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct System {
    /// The command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Program and machine.
    #[serde(flatten)]
    pub environment: Environment,
    /// Processors the system lends to the process.
    pub processors: usize,
    /// Of weights, masks and shuffles.
    pub seed: u64,
    /// SHA-256 of the training data.
    pub training_data: Option<String>,
    /// SHA-256 of the validation data.
    pub validation_data: Option<String>,
}

/// SHA-256 of the running program's file; read once.
fn program_hash() -> Option<&'static str> {
    static HASH: OnceLock<Option<String>> = OnceLock::new();
    let hash = HASH.get_or_init(|| {
        let mut file = File::open(std::env::current_exe().ok()?).ok()?;
        let mut hasher = Sha256::new();
        io::copy(&mut file, &mut hasher).ok()?;
        Some(hex(&hasher.finalize()))
    });
    hash.as_deref()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_named() {
        let here = Environment::current(&Device::flex());
        assert_eq!(here.program.as_ref().map(String::len), Some(64));
        assert!(here.device.contains("Flex"), "{}", here.device);
        assert!(here.differences(&here.clone()).is_empty());
        let there = Environment {
            threads: here.threads + 3,
            lstm: "raw".into(),
            ..here.clone()
        };
        let differences = there.differences(&here);
        assert_eq!(differences.len(), 2);
        assert_eq!(
            differences[0],
            format!("lstm (raw then, {} now)", here.lstm)
        );
    }
}
