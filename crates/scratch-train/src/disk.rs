//! Writing files so that a crash at any instant leaves them whole or not there.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// What checkpoints need of a file system. Tests put one in its place that fails.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder and those above it that are missing.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Writes a whole file and waits until it is on the disk.
    ///
    /// # Errors
    ///
    /// What the system says; part of the file may be there then.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Waits until the names in a folder are on the disk.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or folder another name, in one instant.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a folder and all in it, if it is there.
    ///
    /// # Errors
    ///
    /// What the system says; part of it may be gone then.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Elsewhere a folder cannot be opened, and a rename is lasting by itself.
        if cfg!(unix) {
            File::open(path)?.sync_all()?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Writes a file beside its final name and renames it.
///
/// # Errors
///
/// What the system says; the file is as it was then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    let staging = path.with_file_name(name);
    FileSystem.write(&staging, bytes)?;
    FileSystem.rename(&staging, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => FileSystem.sync_folder(folder),
        _ => FileSystem.sync_folder(Path::new(".")),
    }
}

/// Reads a file that is said to have `bytes` bytes. One of another size is not read.
///
/// # Errors
///
/// What the system says, also that there is no memory for it. `Ok(Err(size))` if the size differs.
pub(crate) fn read_exactly(path: &Path, bytes: u64) -> io::Result<Result<Vec<u8>, u64>> {
    use io::Read as _;
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if meta.len() != bytes {
        return Ok(Err(meta.len()));
    }
    let mut content = Vec::new();
    let size = usize::try_from(bytes).map_err(io::Error::other)?;
    content.try_reserve_exact(size).map_err(io::Error::other)?;
    // It may grow under our eyes.
    file.take(bytes).read_to_end(&mut content)?;
    match content.len() as u64 {
        found if found == bytes => Ok(Ok(content)),
        found => Ok(Err(found)),
    }
}
