//! How results are printed: columns for people, or one JSON object a line for programs. A file for
//! each kind of row. The names in JSON are a promise to whoever reads them.

pub mod compare;
pub mod growth;
pub mod long;
pub mod memory;
pub mod stream;
pub mod training;

use std::io::{self, Write};

use serde::Serialize;

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
}

/// A line of results.
pub trait Row {
    /// As columns.
    fn text(&self) -> String;

    /// As an object.
    fn json(&self) -> impl Serialize;
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
        struct Line<'a, R> {
            #[serde(flatten)]
            row: R,
            #[serde(flatten)]
            place: &'a Place,
        }
        let (row, place) = (row.json(), &self.place);
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

    /// A row's line of JSON.
    pub fn json(row: &impl Row) -> String {
        let place = Place {
            backend: "flex",
            path: "fused".into(),
        };
        Report::new(true, place).line(row)
    }

    /// Fails unless `value` ends where the column `name` of `head` does.
    pub fn assert_below(head: &str, line: &str, name: &str, value: &str) {
        let end = head.find(name).unwrap() + name.len();
        assert!(line[..end].ends_with(value), "\n{head}\n{line}");
    }
}
