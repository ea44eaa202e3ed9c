//! Writing files that are whole or not there.

use std::io::Write;
use std::path::Path;

use burn::store::burn_pack::AtomicFile;

use super::error::WeightsError;

/// Writes a file, which replaces the one at `path` only once it is complete and on disk.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    let failed = |reason: String| WeightsError::File {
        path: path.into(),
        expected: "to write the file".into(),
        found: reason,
    };
    let (scratch, mut file) =
        AtomicFile::create(path).map_err(|error| failed(error.to_string()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|source| WeightsError::Io {
            path: path.into(),
            source,
        })?;
    drop(file);
    scratch.commit().map_err(|error| failed(error.to_string()))
}
