//! Reading files whole, with errors that say what is wrong with them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::DataError;

/// The most that is read at once: data are held in memory, and text takes four more bytes for
/// each character.
pub(crate) const MAX_BYTES: u64 = 1 << 28;

/// The text of a file. `expected` says what should be in it.
pub(crate) fn read_text(path: &Path, expected: &'static str) -> Result<String, DataError> {
    let origin = path.display().to_string();
    let metadata = fs::metadata(path).map_err(|source| io_error(path, source))?;
    if metadata.is_dir() {
        return Err(DataError::Directory { origin });
    }
    check_size(&origin, metadata.len())?;
    let bytes = fs::read(path).map_err(|source| io_error(path, source))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(DataError::Empty { origin, expected });
    }
    String::from_utf8(bytes).map_err(|error| DataError::NotUtf8 {
        origin,
        offset: error.utf8_error().valid_up_to(),
    })
}

/// Checks that so many bytes may be read.
pub(crate) fn check_size(origin: &str, found: u64) -> Result<(), DataError> {
    if found > MAX_BYTES {
        return Err(DataError::TooMuch {
            origin: origin.into(),
            limit: MAX_BYTES,
            found,
        });
    }
    Ok(())
}

pub(crate) fn io_error(path: &Path, source: std::io::Error) -> DataError {
    let origin = path.display().to_string();
    match source.kind() {
        ErrorKind::NotFound => DataError::NotFound { origin },
        ErrorKind::NotADirectory => DataError::NotADirectory { origin },
        _ => DataError::Io { origin, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_defect_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            read_text(&folder.path().join(name), "a series")
                .unwrap_err()
                .to_string()
        };
        assert!(read("nothing").ends_with("found nothing of that name"));
        assert!(read("").contains("expected a file, found a folder"));
        fs::write(folder.path().join("empty"), " \n").unwrap();
        assert!(read("empty").contains("expected a series, found an empty file"));
        fs::write(folder.path().join("latin1"), b"caf\xe9 au lait").unwrap();
        assert!(
            read("latin1").ends_with("expected UTF-8 text, found an invalid sequence at byte 3")
        );
        assert!(matches!(
            check_size("big", MAX_BYTES + 1),
            Err(DataError::TooMuch { .. })
        ));
    }
}
