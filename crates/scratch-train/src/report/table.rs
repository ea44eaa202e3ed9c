//! CSV files of numbers, row by row as a run writes them.

use std::path::Path;

use super::files::{Part, complete_lines, text};

/// Numbers by row and column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    /// The columns' names; one of them is `step`.
    columns: Vec<String>,
    /// As many numbers in each as there are columns; an empty cell is NaN.
    rows: Vec<Vec<f64>>,
}

impl Numbers {
    /// Reads a file. Rows that do not fit are left out and counted, as is a last line that was
    /// cut off: the run may be going on.
    pub fn read(path: &Path) -> Part<Self> {
        text(path, MOST_BYTES).and_then(|text| Self::parse(&text))
    }

    /// The columns' names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// A number by row and column name; NaN if there is none.
    pub fn get(&self, row: usize, column: &str) -> f64 {
        let position = self.columns.iter().position(|name| name == column);
        let row = self.rows.get(row);
        position
            .and_then(|position| row?.get(position).copied())
            .unwrap_or(f64::NAN)
    }

    /// The finite numbers of a column with their steps.
    pub fn curve(&self, column: &str) -> Vec<(f64, f64)> {
        let position = |wanted: &str| self.columns.iter().position(|name| name == wanted);
        let (Some(step), Some(column)) = (position("step"), position(column)) else {
            return Vec::new();
        };
        let points = self.rows.iter().map(|row| (row[step], row[column]));
        points
            .filter(|(step, value)| (0.0..f64::INFINITY).contains(step) && value.is_finite())
            .collect()
    }

    fn parse(text: &str) -> Part<Self> {
        let (lines, cut) = complete_lines(text);
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_reader(lines.as_bytes());
        let columns: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(String::from).collect(),
            Err(error) => return Part::damaged(error.to_string()),
        };
        if columns.iter().all(String::is_empty) {
            return Part::damaged("expected a header and rows, found nothing");
        }
        if !columns.iter().any(|name| name == "step") {
            return Part::damaged(format!(
                "expected a column `step`, found `{}`",
                shortened(&columns.join("`, `"))
            ));
        }
        let mut rows = Vec::new();
        let mut bad: Option<(usize, String)> = None;
        let mut count = 0;
        let mut full = false;
        for (position, record) in reader.records().enumerate() {
            if position == MOST_ROWS {
                full = true;
                break;
            }
            let row = record
                .map_err(|error| error.to_string())
                .and_then(|record| numbers(&record, columns.len()));
            match row {
                Ok(row) => rows.push(row),
                Err(reason) => {
                    count += 1;
                    // The header is the first line.
                    bad.get_or_insert((position + 2, reason));
                }
            }
        }
        let mut notes = Vec::new();
        if let Some((line, reason)) = bad {
            notes.push(match count {
                1 => format!("line {line}: {reason}; it is left out"),
                _ => format!("line {line}: {reason}; {count} such lines are left out"),
            });
        }
        if full {
            notes.push(format!("only its first {MOST_ROWS} rows are read"));
        }
        if cut {
            notes.push("its last line is cut off and left out".into());
        }
        Part {
            value: Some(Self { columns, rows }),
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        }
    }
}

/// What a page can show of, and a machine holds in its memory.
const MOST_BYTES: u64 = 64 << 20;
const MOST_ROWS: usize = 1_000_000;

fn numbers(record: &csv::StringRecord, width: usize) -> Result<Vec<f64>, String> {
    if record.len() != width {
        return Err(format!("expected {width} fields, found {}", record.len()));
    }
    let number = |cell: &str| match cell.trim() {
        "" => Ok(f64::NAN),
        cell => cell
            .parse()
            .map_err(|_| format!("expected a number, found `{}`", shortened(cell))),
    };
    record.iter().map(number).collect()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_step_and_name() {
        let part = Numbers::parse("step,loss,grad_norm\n10,0.5,\n20,NaN,3\n30,0.25,4\n");
        assert_eq!(part.note, None);
        let table = part.value.unwrap();
        assert_eq!(table.curve("loss"), [(10.0, 0.5), (30.0, 0.25)]);
        assert_eq!(table.curve("grad_norm"), [(20.0, 3.0), (30.0, 4.0)]);
        assert_eq!(table.curve("nothing"), []);
        assert_eq!((table.len(), table.get(2, "loss")), (3, 0.25));
        assert!(table.get(3, "loss").is_nan() && table.get(0, "x").is_nan());
    }

    #[test]
    fn a_last_line_that_was_cut_off_is_left_out() {
        // The whole row would end in 0.2512.
        let part = Numbers::parse("step,loss\n10,0.5\n20,0.25");
        assert_eq!(part.value.unwrap().curve("loss"), [(10.0, 0.5)]);
        assert!(part.note.unwrap().contains("last line is cut off"));
    }

    #[test]
    fn what_cannot_be_drawn_is_no_point() {
        let table = Numbers::parse("step,loss\n-1,1\ninf,1\nNaN,1\n3,inf\n4,1\n").value;
        assert_eq!(table.unwrap().curve("loss"), [(4.0, 1.0)]);
    }

    #[test]
    fn rows_beyond_measure_are_not_read() {
        let part = Numbers::parse(&("step\n".to_string() + &"1\n".repeat(MOST_ROWS + 1)));
        assert_eq!(part.value.unwrap().len(), MOST_ROWS);
        assert!(part.note.unwrap().contains("first 1000000 rows"));
    }

    #[test]
    fn damage_is_said_and_the_rest_is_read() {
        let part = Numbers::parse("step,loss\n10,0.5\nx,1\n20,1,2\n30,0.25\n");
        assert_eq!(part.value.unwrap().len(), 2);
        let note = part.note.unwrap();
        assert!(
            note.contains("line 3: expected a number, found `x`; 2 such lines"),
            "{note}"
        );
        for (text, expected) in [
            ("", "a header"),
            ("a,b\n1,2\n", "column `step`"),
            ("step,lo", "a header"),
            ("\u{fffd}\0\n", "column `step`"),
        ] {
            let part = Numbers::parse(text);
            assert_eq!(part.value, None, "{text:?}");
            assert!(part.note.unwrap().contains(expected), "{text:?}");
        }
    }
}
