//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

/// The name of the file that is locked.
pub(crate) const LOCK: &str = "lock";

/// The right to write in a folder. The system takes it back when the process ends, however it ends;
/// the file stays and means nothing.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// A lock that was not to be had.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Somebody has it.
    Held {
        /// `process 123`.
        by: String,
    },
    /// The file system said no.
    Io(io::Error),
}

impl FolderLock {
    pub(crate) fn acquire(folder: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(folder.join(LOCK)).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only to tell; where a locked file cannot be read, it goes without.
                let _ = file.take(100).read_to_string(&mut holder);
                return Err(LockError::Held {
                    by: match holder.trim() {
                        "" => "another process".into(),
                        process => format!("process {process}"),
                    },
                });
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let process = format!("{}\n", std::process::id());
        file.set_len(0).map_err(LockError::Io)?;
        file.rewind().map_err(LockError::Io)?;
        file.write_all(process.as_bytes()).map_err(LockError::Io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(folder.path()).unwrap();
        let LockError::Held { by } = FolderLock::acquire(folder.path()).unwrap_err() else {
            panic!("the lock could not be tried");
        };
        assert!(by.contains(&std::process::id().to_string()), "{by}");
        drop(first);
        assert!(FolderLock::acquire(folder.path()).is_ok());
    }
}
