//! CSV files as rows of fields.

use csv::{ErrorKind, Position, ReaderBuilder, StringRecord, Trim};

use super::DataError;

/// The rows of a CSV file, all of one width.
pub(crate) struct Table {
    /// Where it came from, for errors.
    pub origin: String,
    /// The columns' names: the header's, or `column 1`, `column 2`, ...
    pub names: Vec<String>,
    /// The rows after the header.
    pub rows: Vec<Row>,
}

/// One row.
pub(crate) struct Row {
    /// The line it starts on, counted from 1.
    pub line: u64,
    fields: StringRecord,
}

/// Whether the first row names the columns.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Header {
    /// It does.
    Present,
    /// It does if none of its fields is a number.
    Detect,
}

impl Table {
    /// Reads `text`; fields are divided by comma, semicolon or tab, whichever is the most frequent
    /// in the first line.
    pub fn parse(origin: &str, text: &str, header: Header) -> Result<Self, DataError> {
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .delimiter(delimiter(text))
            .trim(Trim::All)
            .from_reader(text.as_bytes());
        let mut rows = Vec::new();
        for record in reader.records() {
            let fields = record.map_err(|error| csv_error(origin, text, error))?;
            let line = fields
                .position()
                .map_or(0, |position| first_line(text, position));
            rows.push(Row { line, fields });
        }
        let named = match (rows.first(), header) {
            (None, _) => false,
            (Some(_), Header::Present) => true,
            (Some(first), Header::Detect) => first
                .fields
                .iter()
                .all(|field| field.parse::<f64>().is_err()),
        };
        let names = match rows.first() {
            Some(first) if named => first.fields.iter().map(String::from).collect(),
            Some(first) => (1..=first.fields.len())
                .map(|position| format!("column {position}"))
                .collect(),
            None => Vec::new(),
        };
        if named {
            rows.remove(0);
        }
        if rows.is_empty() {
            return Err(DataError::NoRows {
                origin: origin.into(),
            });
        }
        Ok(Self {
            origin: origin.into(),
            names,
            rows,
        })
    }

    /// The index of a column, by its name or else by its position counted from 1.
    pub fn column(&self, wanted: &str) -> Result<usize, DataError> {
        let by_name = self.names.iter().position(|name| name == wanted);
        let by_position = || {
            let position = wanted.parse::<usize>().ok()?.checked_sub(1)?;
            (position < self.names.len()).then_some(position)
        };
        by_name
            .or_else(by_position)
            .ok_or_else(|| DataError::Column {
                origin: self.origin.clone(),
                expected: wanted.into(),
                found: self.names.clone(),
            })
    }
}

impl Row {
    /// A field.
    pub fn field(&self, column: usize) -> &str {
        // Every row has the width of the first: the reader checked it.
        &self.fields[column]
    }
}

fn delimiter(text: &str) -> u8 {
    let line = text.lines().next().unwrap_or_default();
    let count = |delimiter: u8| line.bytes().filter(|&byte| byte == delimiter).count();
    // The first of the most frequent.
    let mut best = b',';
    for other in [b';', b'\t'] {
        if count(other) > count(best) {
            best = other;
        }
    }
    best
}

/// The line on which a record starts: the reader's position is before the empty lines it skips.
fn first_line(text: &str, position: &Position) -> u64 {
    let rest = text.as_bytes().iter().skip(position.byte() as usize);
    let skipped = rest
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .filter(|&&byte| byte == b'\n')
        .count();
    position.line() + skipped as u64
}

fn csv_error(origin: &str, text: &str, error: csv::Error) -> DataError {
    let origin = origin.to_string();
    match error.into_kind() {
        ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => DataError::Fields {
            origin,
            line: pos.map_or(0, |pos| first_line(text, &pos)),
            expected: expected_len,
            found: len,
        },
        ErrorKind::Io(source) => DataError::Io { origin, source },
        other => DataError::Io {
            origin,
            source: std::io::Error::other(format!("{other:?}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_detected_and_columns_found() {
        let table =
            Table::parse("t", "\"Month\",Sunspots\n1749-01, 58.0\n", Header::Detect).unwrap();
        assert_eq!(table.names, ["Month", "Sunspots"]);
        assert_eq!(table.rows[0].line, 2);
        assert_eq!(table.rows[0].field(1), "58.0");
        assert_eq!(table.column("Sunspots").unwrap(), 1);
        assert_eq!(table.column("1").unwrap(), 0);
        let missing = table.column("sun").err().unwrap().to_string();
        assert!(missing.contains("`sun`") && missing.contains("`Month`, `Sunspots`"));
        for position in ["0", "3", "99999999999999999999"] {
            assert!(table.column(position).is_err());
        }

        let bare = Table::parse("t", "1;2,5\n3;4,5\n", Header::Detect).unwrap();
        assert_eq!(bare.names, ["column 1", "column 2"]);
        assert_eq!(bare.rows.len(), 2);
    }

    #[test]
    fn rows_have_one_width_and_there_is_at_least_one() {
        let error = |text| {
            Table::parse("t", text, Header::Detect)
                .err()
                .unwrap()
                .to_string()
        };
        assert_eq!(
            error("a,b\n1,2\n3\n"),
            "t, line 3: expected 2 fields, found 1"
        );
        assert_eq!(
            error("a,b\n\n1,2\n\n\n3\n"),
            "t, line 6: expected 2 fields, found 1"
        );
        assert_eq!(
            error("a,b\n"),
            "t: expected rows of data, found only a header"
        );
    }
}
