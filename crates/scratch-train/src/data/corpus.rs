//! Text from files and folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::DataError;
use super::file::{check_size, io_error, read_text};

/// A text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// The files' texts one after the other, each ending a line.
    pub text: String,
    /// The files, in the order of their texts.
    pub files: Vec<PathBuf>,
}

impl Corpus {
    /// Reads files, and the files below folders whose name ends in one of `extensions` (`"rs"`,
    /// without a dot).
    ///
    /// Below a folder the order is that of the paths. Left out are what is hidden, folders named
    /// `target` and `node_modules`, symbolic links (which may lead round in circles) and empty
    /// files.
    ///
    /// # Errors
    ///
    /// If a path leads nowhere, a file named is empty, a file is no UTF-8, a folder has no such
    /// file, or all of them are more than 256 MiB.
    pub fn read<P: AsRef<Path>>(paths: &[P], extensions: &[&str]) -> Result<Self, DataError> {
        let mut files = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let metadata = fs::metadata(path).map_err(|source| io_error(path, source))?;
            if metadata.is_dir() {
                let below = files_below(path, extensions)?;
                if below.is_empty() {
                    return Err(no_files(path, extensions));
                }
                files.extend(below);
            } else {
                files.push(path.to_path_buf());
            }
        }
        let mut size = 0;
        for file in &files {
            let metadata = fs::metadata(file).map_err(|source| io_error(file, source))?;
            size += metadata.len();
            check_size(&format!("{} and the files before it", file.display()), size)?;
        }
        let mut text = String::new();
        for file in &files {
            text.push_str(&read_text(file, "text")?);
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
        Ok(Self { text, files })
    }

    /// The beginning of the text, to learn from, and the rest, by which the model is chosen; cut
    /// between two lines where there is one near.
    ///
    /// # Errors
    ///
    /// If `valid`, the share of the rest, is not more than 0 and less than 1, or a part is empty.
    pub fn split(&self, valid: f64) -> Result<(&str, &str), DataError> {
        if !(valid > 0.0 && valid < 1.0) {
            return Err(DataError::setting(
                "valid",
                "more than 0 and less than 1",
                valid,
            ));
        }
        let wanted = ((1.0 - valid) * self.text.len() as f64) as usize;
        let boundary = self.text.floor_char_boundary(wanted);
        let (before, after) = self.text.split_at(boundary);
        let line = if before.ends_with('\n') {
            Some(boundary)
        } else {
            after.find('\n').map(|end| boundary + end + 1)
        };
        // A line's end beyond a hundredth of the text would change the shares.
        let near = |&end: &usize| end - boundary <= self.text.len() / 100;
        let (train, valid) = match line.filter(near) {
            Some(end) => self.text.split_at(end),
            None => (before, after),
        };
        if train.is_empty() || valid.is_empty() {
            return Err(DataError::TooShort {
                what: "the text".into(),
                expected: 2,
                unit: "characters",
                reason: "one for each part".into(),
                found: self.text.chars().count(),
            });
        }
        Ok((train, valid))
    }
}

fn no_files(folder: &Path, extensions: &[&str]) -> DataError {
    let endings: Vec<_> = extensions
        .iter()
        .map(|ending| format!(".{ending}"))
        .collect();
    DataError::NoFiles {
        origin: folder.display().to_string(),
        expected: endings.join(" or "),
    }
}

/// The files below a folder, sorted. A list of folders to visit instead of recursion: the depth is
/// whoever made the folders' choice.
fn files_below(root: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|source| io_error(&folder, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| io_error(&folder, source))?;
            let path = entry.path();
            let name = entry.file_name();
            let kind = entry
                .file_type()
                .map_err(|source| io_error(&path, source))?;
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                if name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if kind.is_file() && has_extension(&path, extensions) && !is_blank(&path)? {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension();
    extension.is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
}

/// Whether a file holds nothing, or nothing but white space. Only small files can be meant so.
fn is_blank(path: &Path) -> Result<bool, DataError> {
    let size = fs::metadata(path)
        .map_err(|source| io_error(path, source))?
        .len();
    if size > 1024 {
        return Ok(false);
    }
    let bytes = fs::read(path).map_err(|source| io_error(path, source))?;
    Ok(bytes.iter().all(u8::is_ascii_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_in_the_order_of_paths() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("b.rs", "b");
        write("a/z.md", "z\n");
        write("a/empty.rs", "\n");
        write("a/other.txt", "no");
        write("target/debug.rs", "no");
        write(".git/config.md", "no");
        write("c/.hidden.rs", "no");
        #[cfg(unix)]
        std::os::unix::fs::symlink(root, root.join("a/loop")).unwrap();
        let corpus = Corpus::read(&[root], &["rs", "md"]).unwrap();
        assert_eq!(corpus.text, "z\nb\n");
        assert_eq!(corpus.files, [root.join("a/z.md"), root.join("b.rs")]);

        let both = Corpus::read(&[root.join("b.rs"), root.join("a/z.md")], &[]).unwrap();
        assert_eq!(both.text, "b\nz\n");
    }

    #[test]
    fn what_is_no_text_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let error = |path: &Path| {
            Corpus::read(&[path], &["rs", "md"])
                .unwrap_err()
                .to_string()
        };
        assert!(error(root).ends_with("expected files ending in .rs or .md, found none"));
        assert!(error(&root.join("nothing")).contains("found nothing of that name"));
        fs::write(root.join("empty.txt"), "").unwrap();
        assert!(error(&root.join("empty.txt")).contains("expected text, found an empty file"));
        fs::write(root.join("broken.rs"), b"fn \xff").unwrap();
        assert!(error(root).contains("broken.rs: expected UTF-8 text"));
    }

    #[test]
    fn the_text_is_cut_between_lines_or_characters() {
        let corpus = |text: &str| Corpus {
            text: text.into(),
            files: Vec::new(),
        };
        let lines = corpus(&"a line\n".repeat(200));
        let (train, valid) = lines.split(0.1).unwrap();
        assert_eq!((train.len(), valid.len()), (1260, 140));
        let umlauts = corpus(&"ä".repeat(11));
        let (train, valid) = umlauts.split(0.5).unwrap();
        assert_eq!((train.len(), valid.len()), (10, 12));
        assert!(corpus("x").split(0.5).is_err());
        for share in [0.0, 1.0, f64::NAN] {
            assert!(lines.split(share).is_err());
        }
    }
}
