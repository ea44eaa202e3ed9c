//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use super::{RunError, io};

/// The name of the file that is locked.
pub(super) const LOCK: &str = "lock";

/// The right to train in a run folder. The system takes it back when the process ends, however it
/// ends; the file stays and means nothing.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    pub(super) fn acquire(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only to tell; where a locked file cannot be read, it goes without.
                let _ = file.take(100).read_to_string(&mut holder);
                return Err(RunError::Locked {
                    path: folder.into(),
                    holder: match holder.trim() {
                        "" => "another process".into(),
                        process => format!("process {process}"),
                    },
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
        }
        let process = format!("{}\n", std::process::id());
        file.set_len(0).map_err(io(&path))?;
        file.rewind().map_err(io(&path))?;
        file.write_all(process.as_bytes()).map_err(io(&path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::acquire(folder.path()).unwrap();
        let error = RunLock::acquire(folder.path()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RunError::Locked { .. }));
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        drop(first);
        assert!(RunLock::acquire(folder.path()).is_ok());
    }
}
