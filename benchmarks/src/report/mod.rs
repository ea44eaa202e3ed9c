//! How results are printed: columns for people, or one JSON object a line for programs. A file for
//! each kind of row. The names in JSON are a promise to whoever reads them.

pub mod compare;
pub mod growth;
pub mod long;
pub mod memory;
pub mod published;
pub mod stream;
pub mod training;

use std::io::{self, Write};

use serde::Serialize;

use crate::dtype::Dtype;
use crate::error::BenchmarkError;
use crate::probe::Footprint;

/// Where results go.
#[derive(Debug)]
pub struct Report {
    json: bool,
    place: Place,
}

/// What every line of JSON ends with.
#[derive(Debug, Clone, Serialize)]
pub struct Place {
    /// The backend.
    pub backend: &'static str,
    /// The way that the LSTM's calls take.
    pub path: String,
    /// What they compute in.
    pub dtype: Dtype,
    /// What the backend's device is.
    pub device: String,
}

/// A line of results.
pub trait Row {
    /// As columns.
    fn text(&self) -> String;

    /// As an object.
    fn json(&self) -> impl Serialize;

    /// Where it was found, from where the run was; nothing for what others have found.
    fn place(&self, run: &Place) -> Option<Place> {
        Some(run.clone())
    }
}

impl Report {
    /// As JSON or as text.
    pub fn new(json: bool, place: Place) -> Self {
        Self { json, place }
    }

    /// What every number depends on; on stderr if a program reads the rows.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn head(&self, text: &str) -> Result<(), BenchmarkError> {
        if self.json {
            eprintln!("{text}");
            return Ok(());
        }
        print(text)
    }

    /// A row.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn row(&self, row: &impl Row) -> Result<(), BenchmarkError> {
        print(&if self.json {
            self.line(row)
        } else {
            row.text()
        })
    }

    /// What people need around rows: columns, and what can be read out of them.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn note(&self, text: &str) -> Result<(), BenchmarkError> {
        if self.json {
            return Ok(());
        }
        print(text)
    }

    fn line(&self, row: &impl Row) -> String {
        #[derive(Serialize)]
        struct Line<R> {
            #[serde(flatten)]
            row: R,
            #[serde(flatten)]
            place: Option<Place>,
        }
        let (place, row) = (row.place(&self.place), row.json());
        object(&Line { row, place })
    }
}

/// What a probe has found, for the process that started this one.
///
/// # Errors
///
/// If it cannot be written.
pub fn answer(footprint: &Footprint) -> Result<(), BenchmarkError> {
    print(&object(footprint))
}

/// In the unit of people.
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

fn object(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain structs of numbers and text")
}

/// `println!` panics when the reader has gone.
fn print(text: &str) -> Result<(), BenchmarkError> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

#[cfg(test)]
mod testing {
    use super::{Place, Report, Row};
    use crate::dtype::Dtype;

    /// A row's line of JSON.
    pub fn json(row: &impl Row) -> String {
        let place = Place {
            backend: "flex",
            path: "fused".into(),
            dtype: Dtype::F32,
            device: "CPU".into(),
        };
        Report::new(true, place).line(row)
    }

    /// Fails unless `value` ends where the column `name` of `head` does.
    pub fn assert_below(head: &str, line: &str, name: &str, value: &str) {
        let end = head.find(name).unwrap() + name.len();
        assert!(line[..end].ends_with(value), "\n{head}\n{line}");
    }
}
