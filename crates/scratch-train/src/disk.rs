//! Writing files so that a crash at any instant leaves them whole or not there.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// What checkpoints need of a file system. Tests put one in its place that fails.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder in one that is there: what has vanished is not made again.
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
        fs::create_dir(path)
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
    name.push(PARTIAL);
    let staging = path.with_file_name(name);
    FileSystem.write(&staging, bytes)?;
    FileSystem.rename(&staging, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => FileSystem.sync_folder(folder),
        _ => FileSystem.sync_folder(Path::new(".")),
    }
}

/// Ends the name of what is being written.
pub(crate) const PARTIAL: &str = ".partial";

/// Reads a file of at most so many bytes.
///
/// # Errors
///
/// What the system says, and that it is no file or too long.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let size = file_size(path)?;
    if size > most {
        let found = format!("expected at most {most} bytes, found {size}");
        return Err(io::Error::other(found));
    }
    match read_exactly(path, size)? {
        Ok(bytes) => Ok(bytes),
        Err(found) => Err(io::Error::other(format!(
            "its size changed to {found} bytes"
        ))),
    }
}

/// The size of what is a file. What is none (a pipe would wait for a writer) is not opened.
pub(crate) fn file_size(path: &Path) -> io::Result<u64> {
    let meta = path.metadata()?;
    match meta.is_file() {
        true => Ok(meta.len()),
        false => Err(io::Error::other("expected a file, found something else")),
    }
}

/// Reads a file that is said to have `bytes` bytes. One of another size is not read.
///
/// # Errors
///
/// What the system says, also that there is no memory for it. `Ok(Err(size))` if the size differs.
pub(crate) fn read_exactly(path: &Path, bytes: u64) -> io::Result<Result<Vec<u8>, u64>> {
    use io::Read as _;
    let found = file_size(path)?;
    if found != bytes {
        return Ok(Err(found));
    }
    let file = File::open(path)?;
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
