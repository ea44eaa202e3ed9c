//! Data that cannot be used.

use thiserror::Error;

/// Data that cannot be used. Each names the file or setting, what was expected and what was found.
#[derive(Debug, Error)]
pub enum DataError {
    /// Nothing at that path.
    #[error("{origin}: expected a file or folder, found nothing of that name")]
    NotFound {
        /// The path.
        origin: String,
    },
    /// A folder where a file is needed.
    #[error("{origin}: expected a file, found a folder")]
    Directory {
        /// The path.
        origin: String,
    },
    /// A file where a folder is needed.
    #[error("{origin}: expected a folder, found a file")]
    NotADirectory {
        /// The path.
        origin: String,
    },
    /// The file system said no.
    #[error("{origin}: {source}")]
    Io {
        /// The path.
        origin: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file without content.
    #[error("{origin}: expected {expected}, found an empty file")]
    Empty {
        /// The path.
        origin: String,
        /// What should be in it.
        expected: &'static str,
    },
    /// Bytes that are no text.
    #[error("{origin}: expected UTF-8 text, found an invalid sequence at byte {offset}")]
    NotUtf8 {
        /// The path.
        origin: String,
        /// Bytes before the invalid sequence.
        offset: usize,
    },
    /// No file of the kinds looked for.
    #[error("{origin}: expected files ending in {expected}, found none")]
    NoFiles {
        /// The folder.
        origin: String,
        /// The endings looked for.
        expected: String,
    },
    /// More than can be held.
    #[error("{origin}: expected at most {limit} bytes of data, found {found}")]
    TooMuch {
        /// The path.
        origin: String,
        /// The limit.
        limit: u64,
        /// The size.
        found: u64,
    },
    /// A row with another number of fields than the first.
    #[error("{origin}, line {line}: expected {expected} fields, found {found}")]
    Fields {
        /// The path.
        origin: String,
        /// Counted from 1.
        line: u64,
        /// Fields of the first row.
        expected: u64,
        /// Fields of this row.
        found: u64,
    },
    /// A CSV without rows of data.
    #[error("{origin}: expected rows of data, found only a header")]
    NoRows {
        /// The path.
        origin: String,
    },
    /// A column that is not there.
    #[error(
        "{origin}: expected a column `{expected}` (a name, or a position counted from 1), found {}",
        listed(found)
    )]
    Column {
        /// The path.
        origin: String,
        /// The column asked for.
        expected: String,
        /// The columns there are.
        found: Vec<String>,
    },
    /// No column holds numbers.
    #[error("{origin}: expected a column of numbers, found {}", listed(found))]
    NoNumericColumn {
        /// The path.
        origin: String,
        /// The columns there are.
        found: Vec<String>,
    },
    /// A field that is no finite number.
    #[error("{origin}, line {line}, column `{column}`: expected a finite number, found {found}")]
    NotANumber {
        /// The path.
        origin: String,
        /// Counted from 1.
        line: u64,
        /// The column's name.
        column: String,
        /// The field.
        found: String,
    },
    /// Too little data for the settings.
    #[error("{what} is too short: expected at least {expected} {unit} ({reason}), found {found}")]
    TooShort {
        /// Which part of the data.
        what: String,
        /// The least that would do.
        expected: usize,
        /// What is counted: rows, characters.
        unit: &'static str,
        /// Where the number comes from.
        reason: String,
        /// What there is.
        found: usize,
    },
    /// A setting outside what it accepts.
    #[error("`{field}` must be {expected}, found {found}")]
    Setting {
        /// Its name.
        field: &'static str,
        /// What it accepts.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A batch that would not fit into memory.
    #[error(
        "a batch would hold {found} numbers ({reason}), expected at most {limit}: \
         make the batch, the window or the horizon smaller"
    )]
    BatchTooLarge {
        /// Elements of the largest tensor of a batch.
        found: u128,
        /// Where the number comes from.
        reason: String,
        /// The limit.
        limit: u128,
    },
    /// A value that `f32` cannot hold once it is scaled.
    #[error(
        "column `{column}`, row {row}: expected a value within 1e38 standard deviations of the \
         training part, found {found}"
    )]
    OutOfScale {
        /// The column's name.
        column: String,
        /// Rows before it.
        row: usize,
        /// The value.
        found: f64,
    },
    /// A row without a label.
    #[error("{origin}, line {line}: expected a label, found an empty field")]
    NoLabel {
        /// The path.
        origin: String,
        /// Counted from 1.
        line: u64,
    },
    /// Fewer labels than can be told apart.
    #[error("{origin}: expected at least 2 labels, found {}", listed(found))]
    TooFewLabels {
        /// The path.
        origin: String,
        /// The labels there are.
        found: Vec<String>,
    },
    /// A label no training example has.
    #[error(
        "label `{label}`: expected at least one sequence in the training part, found none \
         (the label has {found} in all)"
    )]
    NoTrainingExample {
        /// The label.
        label: String,
        /// Its sequences in all parts.
        found: usize,
    },
}

impl DataError {
    pub(crate) fn setting(
        field: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Setting {
            field,
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

/// Checks that a size is not zero.
pub(crate) fn check_positive(field: &'static str, size: usize) -> Result<(), DataError> {
    if size == 0 {
        return Err(DataError::setting(field, "at least 1", size));
    }
    Ok(())
}

/// Checks the size of a tensor before anything is allocated for it.
pub(crate) fn check_elements(sizes: &[(&str, usize)]) -> Result<(), DataError> {
    let found = sizes.iter().fold(1u128, |product, &(_, size)| {
        product.saturating_mul(size as u128)
    });
    if found > MAX_ELEMENTS {
        let reason = sizes
            .iter()
            .map(|(name, size)| format!("{name} {size}"))
            .collect::<Vec<_>>()
            .join(" x ");
        return Err(DataError::BatchTooLarge {
            found,
            reason,
            limit: MAX_ELEMENTS,
        });
    }
    Ok(())
}

/// A gibibyte of 32-bit numbers.
const MAX_ELEMENTS: u128 = 1 << 28;

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "none".into();
    }
    let mut list = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        list.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_measured_before_it_is_allocated() {
        assert!(check_elements(&[("batch", 64), ("window", 1000)]).is_ok());
        let error = check_elements(&[("batch", usize::MAX), ("window", usize::MAX)]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("batch 18446744073709551615 x window")
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<_> = (0..25).map(|k| format!("c{k}")).collect();
        let list = listed(&names);
        assert!(list.starts_with("`c0`, `c1`") && list.ends_with("`c19` and 5 more"));
        assert_eq!(listed(&[]), "none");
    }
}
