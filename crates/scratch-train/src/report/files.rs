//! The files of a run as they are found: whole, cut off, damaged or missing.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde::de::DeserializeOwned;

/// What a file holds, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part<T> {
    /// What could be read of it.
    pub value: Option<T>,
    /// What is wrong with it.
    pub note: Option<String>,
}

impl<T> Part<T> {
    pub fn missing() -> Self {
        Self {
            value: None,
            note: None,
        }
    }

    pub fn whole(value: T) -> Self {
        Self {
            value: Some(value),
            note: None,
        }
    }

    pub fn damaged(note: impl Into<String>) -> Self {
        Self {
            value: None,
            note: Some(note.into()),
        }
    }

    /// Goes on with what could be read.
    pub fn and_then<U>(self, read: impl FnOnce(T) -> Part<U>) -> Part<U> {
        let Some(value) = self.value else {
            return Part {
                value: None,
                note: self.note,
            };
        };
        let part = read(value);
        let notes: Vec<String> = self.note.into_iter().chain(part.note).collect();
        Part {
            value: part.value,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        }
    }
}

/// A file's text. Of a long one only the first `most` bytes are read; only what is a plain file is
/// opened, and bytes that are no UTF-8 are replaced.
pub(super) fn text(path: &Path, most: u64) -> Part<String> {
    let length = match path.metadata() {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(_) => return Part::damaged("expected a file, found something else"),
        Err(error) if error.kind() == ErrorKind::NotFound => return Part::missing(),
        Err(error) => return Part::damaged(error.to_string()),
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Part::damaged(error.to_string());
    }
    Part {
        value: Some(String::from_utf8_lossy(&bytes).into_owned()),
        note: (length > most)
            .then(|| format!("of its {length} bytes only the first {most} are read")),
    }
}

/// A file's text that says nothing unless it is whole.
pub(super) fn whole_text(path: &Path, most: u64) -> Part<String> {
    let part = text(path, most);
    match part.note {
        Some(note) if part.value.is_some() => Part::damaged(format!("too long: {note}")),
        _ => part,
    }
}

/// A file of one JSON value.
pub(super) fn json<T: DeserializeOwned>(path: &Path, most: u64) -> Part<T> {
    whole_text(path, most).and_then(|text| match serde_json::from_str(&text) {
        Ok(value) => Part::whole(value),
        Err(error) => Part::damaged(error.to_string()),
    })
}

/// The lines of `text`, and whether the last one was cut off and is left out.
pub(super) fn complete_lines(text: &str) -> (&str, bool) {
    match text.rfind('\n') {
        Some(end) => (&text[..=end], end + 1 < text.len()),
        None => ("", !text.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_read_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(text(&path, 4), Part::missing());
        fs::write(&path, "1234").unwrap();
        assert_eq!(text(&path, 4), Part::whole("1234".into()));
        fs::write(&path, "12345").unwrap();
        let part = text(&path, 4);
        assert_eq!(part.value.as_deref(), Some("1234"));
        assert!(part.note.unwrap().contains("of its 5 bytes"));
        assert_eq!(whole_text(&path, 4).value, None);
        assert_eq!(json::<u64>(&path, 100), Part::whole(12345));
        fs::write(&path, "{\"a\":").unwrap();
        assert!(json::<u64>(&path, 100).note.is_some());
        assert!(
            text(folder.path(), 4)
                .note
                .unwrap()
                .contains("expected a file")
        );
    }

    #[test]
    fn a_line_without_an_end_is_no_line() {
        assert_eq!(complete_lines("a\nb\n"), ("a\nb\n", false));
        assert_eq!(complete_lines("a\nb"), ("a\n", true));
        assert_eq!(complete_lines("a"), ("", true));
        assert_eq!(complete_lines(""), ("", false));
    }
}
