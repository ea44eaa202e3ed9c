//! A file that grows line by line and can be taken back to where it was.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::hex;

/// A growing file.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    file: File,
    bytes: u64,
    hasher: Sha256,
}

/// How far a record has come and what it says up to there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    bytes: u64,
    sha256: String,
}

impl Record {
    /// An empty record, in place of whatever was there.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::create(&path)?;
        Ok(Self {
            path,
            file,
            bytes: 0,
            hasher: Sha256::new(),
        })
    }

    /// The record as it was at `mark`; what came after stays until [`cut`](Self::cut). `Ok(None)` if the file says
    /// something else up to there, or is gone; it is left as it is then.
    pub(super) fn rewind(path: PathBuf, mark: &Mark) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true);
        // An empty record may never have been made.
        let mut file = match options.create(mark.bytes == 0).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut hasher = Sha256::new();
        let bytes = io::copy(&mut (&mut file).take(mark.bytes), &mut hasher)?;
        if bytes != mark.bytes || hex(&hasher.clone().finalize()) != mark.sha256 {
            return Ok(None);
        }
        Ok(Some(Self {
            path,
            file,
            bytes,
            hasher,
        }))
    }

    /// The record as it is, whatever it says.
    pub(super) fn extend(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(&path)?;
        let mut hasher = Sha256::new();
        let bytes = io::copy(&mut file, &mut hasher)?;
        Ok(Self {
            path,
            file,
            bytes,
            hasher,
        })
    }

    /// Takes off what came after.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.bytes)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds whole lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.hasher.update(lines);
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Where it is now; all until there is on the disk.
    pub(super) fn mark(&mut self) -> io::Result<Mark> {
        self.file.sync_data()?;
        Ok(Mark {
            bytes: self.bytes,
            sha256: hex(&self.hasher.clone().finalize()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn goes_back_to_a_mark_or_says_that_it_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let mut record = Record::create(path.clone()).unwrap();
        let empty = record.mark().unwrap();
        record.append(b"one\n").unwrap();
        let mark = record.mark().unwrap();
        record.append(b"two\n").unwrap();
        drop(record);

        let mut again = Record::rewind(path.clone(), &mark).unwrap().unwrap();
        assert_eq!(again.mark().unwrap(), mark);
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        again.cut().unwrap();
        again.append(b"three\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\nthree\n");
        let whole = again.mark().unwrap();
        assert_eq!(Record::extend(path.clone()).unwrap().mark().unwrap(), whole);

        fs::write(&path, b"oNe\nthree\n").unwrap();
        assert!(Record::rewind(path.clone(), &mark).unwrap().is_none());
        assert_eq!(fs::read(&path).unwrap(), b"oNe\nthree\n");
        fs::write(&path, b"on").unwrap();
        assert!(Record::rewind(path.clone(), &mark).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        assert!(Record::rewind(path.clone(), &mark).unwrap().is_none());
        assert!(Record::rewind(path, &empty).unwrap().unwrap().is_empty());
    }
}
