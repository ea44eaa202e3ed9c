//! Why weights could not be converted, read or written.

use std::path::{Path, PathBuf};

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
    /// Settings of an LSTM that a layout of others has no counterpart for: all of them.
    #[error("{layout} has no {}", settings.join(", "))]
    Inexpressible {
        /// Whose layout it is.
        layout: &'static str,
        /// The settings and what they are: `cell.peepholes = true`.
        settings: Vec<String>,
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
        "{}: expected an LSTM with the prefix \"{prefix}\" (a tensor \"{tensor}\"), found {}",
        path.display(), list("LSTMs with the prefixes", found)
    )]
    NoLstm {
        /// The file.
        path: PathBuf,
        /// The prefix asked for.
        prefix: String,
        /// A tensor that it would have.
        tensor: String,
        /// The prefixes under which there is one.
        found: Vec<String>,
    },
    /// More than one LSTM where one is meant.
    #[error(
        "{}: expected one LSTM, or the prefix of one, found {}",
        path.display(), list("LSTMs with the prefixes", found)
    )]
    ManyLstms {
        /// The file.
        path: PathBuf,
        /// The prefixes under which there is one.
        found: Vec<String>,
    },
    /// Several things that do not fit, which are all of them.
    #[error("{} things do not fit: {}", .0.len(), sentence(.0))]
    Several(Vec<WeightsError>),
}

impl WeightsError {
    /// That a tensor's values could not be read.
    pub(super) fn damaged(path: &Path, name: &str, found: impl ToString) -> Self {
        Self::File {
            path: path.into(),
            expected: format!("to read the tensor \"{name}\""),
            found: found.to_string(),
        }
    }
}

/// What does not fit, one after the other, so that all of it can be told at once.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<WeightsError>);

impl Problems {
    pub(super) fn add(&mut self, problem: WeightsError) {
        match problem {
            WeightsError::Several(problems) => self.0.extend(problems),
            problem => self.0.push(problem),
        }
    }

    /// Adds what went wrong, if something did.
    pub(super) fn add_result(&mut self, result: Result<(), WeightsError>) {
        if let Err(problem) = result {
            self.add(problem);
        }
    }

    /// Nothing, the only problem, or all of them.
    pub(super) fn into_result(self) -> Result<(), WeightsError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(self.into_error()),
        }
    }

    /// The only problem, or all of them; there is one.
    pub(super) fn into_error(mut self) -> WeightsError {
        match self.0.len() {
            1 => self.0.remove(0),
            _ => WeightsError::Several(self.0),
        }
    }
}

fn sentence(problems: &[WeightsError]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
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
