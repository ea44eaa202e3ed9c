//! Numeric series from CSV files.

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::error::check_positive;
use super::file::read_text;
use super::table::{Header, Row, Table};
use super::{DataError, Scaler};

/// One or several numeric series over the same times.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The columns' names.
    pub names: Vec<String>,
    /// The values by time, then column; all finite.
    pub values: Vec<Vec<f64>>,
    /// What the rows are called (dates): the file's first column that holds no numbers.
    pub times: Option<Vec<String>>,
}

/// Which columns of a CSV make up the series.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Columns {
    /// The last one that holds numbers.
    #[default]
    Last,
    /// All that hold numbers.
    All,
    /// These, each by name or by position counted from 1.
    Named(Vec<String>),
}

impl Series {
    /// Reads a CSV file; see [`parse`](Self::parse).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is empty or no UTF-8, and as [`parse`](Self::parse).
    pub fn from_csv(path: impl AsRef<Path>, columns: &Columns) -> Result<Self, DataError> {
        let path = path.as_ref();
        let text = read_text(path, "a CSV with a column of numbers")?;
        Self::parse(&path.display().to_string(), &text, columns)
    }

    /// Reads CSV text, the oldest row first; `origin` names it in errors.
    ///
    /// Fields are divided by comma, semicolon or tab. The first row is a header if none of its
    /// fields is a number. A column holds numbers if more than half of its fields are.
    ///
    /// # Errors
    ///
    /// If a column is missing, named twice or there is none with numbers, if there are no rows or rows of
    /// several widths, or if a field of a column taken is no finite number.
    pub fn parse(origin: &str, text: &str, columns: &Columns) -> Result<Self, DataError> {
        let table = Table::parse(origin, text, Header::Detect)?;
        let width = table.names.len();
        let numeric: Vec<_> = (0..width).map(|c| holds_numbers(&table, c)).collect();
        let taken: Vec<usize> = match columns {
            Columns::Last => (0..width).rev().find(|&c| numeric[c]).into_iter().collect(),
            Columns::All => (0..width).filter(|&c| numeric[c]).collect(),
            Columns::Named(names) => names
                .iter()
                .map(|name| table.column(name))
                .collect::<Result<_, _>>()?,
        };
        check_named(columns, &taken)?;
        if taken.is_empty() {
            return Err(DataError::NoNumericColumn {
                origin: origin.into(),
                found: table.names,
            });
        }
        let number = |row: &Row, column: usize| finite(origin, &table.names[column], row, column);
        let values = table
            .rows
            .iter()
            .map(|row| taken.iter().map(|&column| number(row, column)).collect())
            .collect::<Result<_, _>>()?;
        let times = (0..width)
            .find(|column| !numeric[*column] && !taken.contains(column))
            .map(|column| {
                let rows = table.rows.iter();
                rows.map(|row| row.field(column).to_string()).collect()
            });
        Ok(Self {
            names: taken.iter().map(|&c| unique_name(&table, c)).collect(),
            values,
            times,
        })
    }

    /// How many times there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many columns there are.
    pub fn columns(&self) -> usize {
        self.names.len()
    }

    /// The values of one column over time.
    ///
    /// # Panics
    ///
    /// If there is no such column.
    pub fn column(&self, column: usize) -> Vec<f64> {
        self.values.iter().map(|row| row[column]).collect()
    }

    /// The last `window` rows, scaled, `[1, T=window, C]`: what a forecast beyond the end of the
    /// data starts from.
    ///
    /// # Errors
    ///
    /// If the series is shorter than `window`, or `window` is zero.
    ///
    /// # Panics
    ///
    /// If the scaler was fitted on another number of columns.
    pub fn last_context(
        &self,
        window: usize,
        scaler: &Scaler,
        device: &Device,
    ) -> Result<Tensor<3>, DataError> {
        check_positive("window", window)?;
        let Some(first) = self.len().checked_sub(window) else {
            return Err(DataError::TooShort {
                what: "the series".into(),
                expected: window,
                unit: "rows",
                reason: format!("the context of {window} that the model reads"),
                found: self.len(),
            });
        };
        let context = scaler.scale(&self.values[first..]);
        let data = TensorData::new(context, [1, window, self.columns()]);
        Ok(Tensor::from_data(data, device))
    }
}

/// Checks that columns asked for by name are some, and none of them twice.
fn check_named(columns: &Columns, taken: &[usize]) -> Result<(), DataError> {
    let Columns::Named(names) = columns else {
        return Ok(());
    };
    let distinct: BTreeSet<_> = taken.iter().collect();
    if taken.is_empty() || distinct.len() < taken.len() {
        return Err(DataError::setting(
            "columns",
            "different columns, at least one",
            format!("{names:?}"),
        ));
    }
    Ok(())
}

/// The header's name, with the position if another column has it, too.
fn unique_name(table: &Table, column: usize) -> String {
    let name = &table.names[column];
    let same = table.names.iter().filter(|other| *other == name);
    if same.count() == 1 {
        return name.clone();
    }
    format!("{name} (column {})", column + 1)
}

fn holds_numbers(table: &Table, column: usize) -> bool {
    let rows = table.rows.iter();
    let numbers = rows.filter(|row| row.field(column).parse::<f64>().is_ok());
    numbers.count() * 2 > table.rows.len()
}

fn finite(origin: &str, name: &str, row: &Row, column: usize) -> Result<f64, DataError> {
    let field = row.field(column);
    match field.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(DataError::NotANumber {
            origin: origin.into(),
            line: row.line,
            column: name.into(),
            found: if field.is_empty() {
                "an empty field".into()
            } else {
                format!("`{field}`")
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "day,low,high,note\n1.1.,1,10,a\n2.1.,2,20,b\n3.1.,3,30,c\n";

    fn named(names: &[&str]) -> Columns {
        Columns::Named(names.iter().map(|&name| name.into()).collect())
    }

    fn error(text: &str, columns: Columns) -> String {
        Series::parse("s.csv", text, &columns)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn columns_are_taken_by_kind_name_and_position() {
        let parse = |columns| Series::parse("s.csv", TWO, &columns).unwrap();
        let last = parse(Columns::Last);
        assert_eq!(last.names, ["high"]);
        assert_eq!(last.column(0), [10.0, 20.0, 30.0]);
        assert_eq!(last.times.unwrap(), ["1.1.", "2.1.", "3.1."]);
        let all = parse(Columns::All);
        assert_eq!(all.names, ["low", "high"]);
        assert_eq!(all.values[1], [2.0, 20.0]);
        assert_eq!(parse(named(&["high", "2"])).names, ["high", "low"]);
    }

    #[test]
    fn names_are_unique_and_columns_taken_once() {
        let twins = Series::parse("s.csv", "v,v\n1,2\n", &Columns::All).unwrap();
        assert_eq!(twins.names, ["v (column 1)", "v (column 2)"]);
        assert!(error(TWO, named(&["low", "2"])).contains("`columns` must be different"));
        assert!(error(TWO, named(&[])).contains("at least one"));
    }

    #[test]
    fn a_headerless_file_has_no_times() {
        let series = Series::parse("s.csv", "3\n1\n4\n", &Columns::Last).unwrap();
        assert_eq!(series.names, ["column 1"]);
        assert_eq!((series.len(), series.times), (3, None));
    }

    #[test]
    fn bad_fields_are_found_by_line_and_column() {
        for (field, found) in [
            ("x", "`x`"),
            ("NaN", "`NaN`"),
            ("-inf", "`-inf`"),
            ("1e999", "`1e999`"),
            ("", "an empty field"),
        ] {
            assert_eq!(
                error(&format!("t,v\na,1\nb,2\nc,{field}\nd,4\n"), Columns::Last),
                format!("s.csv, line 4, column `v`: expected a finite number, found {found}")
            );
        }
        // A column that was asked for is not dropped because it holds no numbers.
        assert!(error(TWO, named(&["note"])).contains("line 2, column `note`"));
        assert!(error(TWO, named(&["snow"])).contains("found `day`, `low`, `high`, `note`"));
        assert!(error("a,b\nx,y\n", Columns::All).contains("expected a column of numbers"));
    }

    #[test]
    fn the_last_context_is_scaled() {
        let series = Series::parse("s.csv", "1\n2\n3\n5\n", &Columns::Last).unwrap();
        let scaler = Scaler {
            mean: vec![1.0],
            std: vec![2.0],
        };
        let device = Device::flex();
        let context = series.last_context(2, &scaler, &device).unwrap();
        assert_eq!(context.dims(), [1, 2, 1]);
        assert_eq!(context.into_data().try_to_vec::<f32>().unwrap(), [1.0, 2.0]);
        assert!(
            series
                .last_context(1_000_000_000, &scaler, &device)
                .is_err()
        );
        assert!(series.last_context(0, &scaler, &device).is_err());
    }
}
