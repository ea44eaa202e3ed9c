//! Why weights could not be converted, read or written.

use std::path::PathBuf;

use thiserror::Error;

use crate::error::ConfigError;

/// Weights that do not fit their layout, or a file that does not hold them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A tensor of another shape than its layout and the other tensors imply.
    #[error("{name}: expected shape {expected}, found {found:?}")]
    Shape {
        /// The tensor, by its field or its name in the file.
        name: String,
        /// The shape by axis names and sizes: `[4H=44, D=5]`.
        expected: String,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A tensor of an element type that cannot be used.
    #[error("{name}: expected elements of type {expected}, found {found}")]
    DType {
        /// The tensor, by its field or its name in the file.
        name: String,
        /// The types that can.
        expected: String,
        /// Its own.
        found: String,
    },
    /// What one side can express and the other cannot, or not at the same time.
    #[error("{name}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        name: String,
        /// What it would have to be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Settings that one side has and the other has no counterpart of: all of them.
    #[error(
        "{name}: expected nothing without a counterpart, found {}",
        first_of(found)
    )]
    Unsupported {
        /// The side, or what of it.
        name: String,
        /// Each of them with its value.
        found: Vec<String>,
    },
    /// Sizes that describe no LSTM.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system could not read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that is not what it should be: a folder, empty, cut short, damaged.
    #[error("{}: expected {expected}, found {found}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What can be read.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Tensors that should be in a file and are not.
    #[error("{}: expected {}, found {}", path.display(), list("the tensors", missing), list("only", found))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The first of the missing names.
        missing: Vec<String>,
        /// The names in the file.
        found: Vec<String>,
    },
    /// No LSTM of that prefix in a file.
    #[error(
        "{}: expected an LSTM with the prefix \"{prefix}\" (a tensor \"{}\"), found {}",
        path.display(), joined(prefix, "weight_ih_l0"), list("LSTMs with the prefixes", found)
    )]
    NoLstm {
        /// The file.
        path: PathBuf,
        /// The prefix asked for.
        prefix: String,
        /// The prefixes under which there is one.
        found: Vec<String>,
    },
}

/// `name` under `prefix`, which may be empty.
pub(super) fn joined(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.into()
    } else {
        format!("{prefix}.{name}")
    }
}

/// At most this many names appear in a message.
const SHOWN: usize = 12;

/// Parts of a sentence, the first of them if there are many.
fn first_of(parts: &[String]) -> String {
    let shown = &parts[..parts.len().min(SHOWN)];
    match parts.len() - shown.len() {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}

/// Names in a sentence, the first of them if there are many.
pub(super) fn list(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect();
    let more = match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!(" and {more} more"),
        _ => String::new(),
    };
    format!("{what} {}{more}", shown.join(", "))
}
