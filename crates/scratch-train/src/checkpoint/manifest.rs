//! `manifest.json`: what a checkpoint is made of, written last.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{damaged, io};
use crate::disk::{file_size, read_exactly};
use crate::environment::Environment;
use crate::error::CheckpointError;

/// Its file name.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Version of the layout of a checkpoint; a folder of another is refused.
pub(crate) const FORMAT: u32 = 2;

/// What a checkpoint is made of, where and for what it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// Steps of the optimizer.
    pub step: u64,
    /// The program and machine that wrote it.
    pub environment: Environment,
    /// What a run that goes on must share with it: settings, data.
    pub facts: BTreeMap<String, Value>,
    /// The other files of the folder.
    pub files: BTreeMap<String, Entry>,
    /// Of this file without this line's value.
    pub sha256: String,
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    /// A manifest of `files`.
    pub(crate) fn new(
        step: u64,
        environment: Environment,
        facts: BTreeMap<String, Value>,
        files: &[(&str, Vec<u8>)],
    ) -> Self {
        let entries = files.iter();
        let mut manifest = Self {
            format: FORMAT,
            step,
            environment,
            facts,
            files: entries
                .map(|(name, bytes)| ((*name).to_string(), Entry::of(bytes)))
                .collect(),
            sha256: String::new(),
        };
        manifest.sha256 = hash(&manifest.to_bytes());
        manifest
    }

    /// Reads and checks the manifest of a checkpoint folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(MANIFEST);
        let size = match file_size(&path) {
            Ok(size) => size,
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Err(io(&path)(error));
            }
            Err(_) => {
                return Err(CheckpointError::NotACheckpoint {
                    path: folder.into(),
                    found: match folder.metadata() {
                        Ok(meta) if meta.is_dir() => format!("a folder without {MANIFEST}"),
                        Ok(_) => "a file".into(),
                        Err(error) => error.to_string(),
                    },
                });
            }
        };
        if size > MOST_BYTES {
            let expected = format!("at most {MOST_BYTES} bytes");
            return Err(damaged(&path, expected, format!("{size} bytes")));
        }
        let bytes = match read_exactly(&path, size).map_err(io(&path))? {
            Ok(bytes) => bytes,
            Err(found) => return Err(damaged(&path, format!("{size} bytes"), found)),
        };
        Self::parse(&path, &bytes)
    }

    /// The bytes that [`read`](Self::read) takes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        super::json_bytes(self)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        // The format first: a manifest of another may have other fields.
        let header: Header = serde_json::from_slice(bytes)
            .map_err(|error| damaged(path, "a manifest in JSON", error))?;
        if header.format != FORMAT {
            return Err(CheckpointError::Version {
                path: path.into(),
                expected: FORMAT,
                found: header.format,
            });
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| damaged(path, "a manifest in JSON", error))?;
        let without_hash = Self {
            sha256: String::new(),
            ..manifest.clone()
        };
        // That it is written as we write it leaves no byte that could differ.
        let found = hash(&without_hash.to_bytes());
        if found != manifest.sha256 || manifest.to_bytes() != bytes {
            let expected = format!("a manifest with SHA-256 {}", manifest.sha256);
            return Err(damaged(path, expected, found));
        }
        Ok(manifest)
    }
}

impl Entry {
    /// What `bytes` are.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: hash(bytes),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with SHA-256 {}", self.bytes, self.sha256)
    }
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A manifest holds settings and a line for each file.
pub(super) const MOST_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Header {
    format: u32,
}
