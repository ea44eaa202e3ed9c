//! What a report shows of a model by example.

use crate::data::{Forecasts, Series};
use crate::report::Samples;
use crate::terminal::figures;

/// Test rows with what was forecast for them one step before.
pub(super) fn of_forecasts(series: &Series, test: &Forecasts) -> Samples {
    let shown = test.columns().min(MOST_COLUMNS);
    let forecasts: Vec<Vec<f64>> = (0..shown).map(|column| test.step(column, 0)).collect();
    let mut columns = vec!["row".to_string()];
    for name in &series.names[..shown] {
        columns.extend([
            name.clone(),
            "forecast".to_string(),
            "difference".to_string(),
        ]);
    }
    let origins = test.origins();
    let rows = spread(origins.len(), MOST_ROWS).map(|position| {
        let row = origins.start + position;
        let times = series.times.as_ref();
        let name = times.and_then(|times| times.get(row).cloned());
        let mut cells = vec![name.unwrap_or_else(|| row.to_string())];
        for (column, forecasts) in forecasts.iter().enumerate() {
            let (observed, forecast) = (series.values[row][column], forecasts[position]);
            cells.extend([observed, forecast, forecast - observed].map(figures));
        }
        cells
    });
    Samples::Table {
        title: "Rows of the test part, forecast one step before".into(),
        columns,
        rows: rows.collect(),
    }
}

/// A table of test sequences with their labels and what was guessed.
pub(super) struct Guesses {
    chosen: Vec<usize>,
    seen: usize,
    rows: Vec<Vec<String>>,
}

impl Guesses {
    /// Of so many sequences.
    pub fn new(count: usize) -> Self {
        Self {
            chosen: spread(count, MOST_ROWS).collect(),
            seen: 0,
            rows: Vec::new(),
        }
    }

    /// Takes in the next sequence. Its text is asked for only if it is shown.
    pub fn add(&mut self, text: impl FnOnce() -> String, truth: &str, guessed: &str) {
        if self.chosen.get(self.rows.len()) == Some(&self.seen) {
            let right = if truth == guessed { "yes" } else { "no" };
            let cells = [&shortened(&text()), truth, guessed, right];
            self.rows.push(cells.map(String::from).into());
        }
        self.seen += 1;
    }

    /// The table.
    pub fn finish(self) -> Samples {
        Samples::Table {
            title: "Test sequences, the short ones first".into(),
            columns: ["sequence", "label", "guessed", "right"]
                .map(String::from)
                .into(),
            rows: self.rows,
        }
    }
}

const MOST_ROWS: usize = 16;
const MOST_COLUMNS: usize = 3;
const LONGEST_TEXT: usize = 120;

/// Positions spread evenly over `count`, `most` at most.
fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(most);
    // Of 100, four: 12, 37, 62, 87.
    (0..shown).map(move |k| (2 * k + 1) * count / (2 * shown))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(samples: Samples) -> Vec<Vec<String>> {
        match samples {
            Samples::Table { columns, rows, .. } => {
                assert!(rows.iter().all(|row| row.len() == columns.len()));
                rows
            }
            Samples::Text { .. } => panic!("expected a table"),
        }
    }

    #[test]
    fn positions_are_spread_evenly() {
        let of = |count, most| spread(count, most).collect::<Vec<_>>();
        assert_eq!(of(100, 4), [12, 37, 62, 87]);
        assert_eq!(of(3, 16), [0, 1, 2]);
        assert!(of(0, 16).is_empty());
    }

    /// Rows 2 and 3 of a series, forecast as 2.5 and 3.5 with a second step that is not shown.
    #[test]
    fn forecasts_stand_beside_what_came() {
        let mut series = Series {
            names: vec!["level".into()],
            values: (0..6).map(|k| vec![f64::from(k)]).collect(),
            times: Some((0..6).map(|k| format!("day {k}")).collect()),
        };
        let forecasts = Forecasts::new(2..4, 2, 1, vec![2.5, 9.0, 3.25, 9.0]);
        let with_times = rows(of_forecasts(&series, &forecasts));
        assert_eq!(with_times[0], ["day 2", "2.0000", "2.5000", "0.5000"]);
        assert_eq!(with_times[1], ["day 3", "3.0000", "3.2500", "0.2500"]);
        series.times = None;
        assert_eq!(rows(of_forecasts(&series, &forecasts))[0][0], "2");
    }

    #[test]
    fn guesses_are_chosen_over_all_sequences() {
        let mut guesses = Guesses::new(160);
        for k in 0..160 {
            let truth = if k % 20 == 5 { "a" } else { "b" };
            guesses.add(|| "x".repeat(k), truth, "b");
        }
        let rows = rows(guesses.finish());
        assert_eq!(rows.len(), 16);
        assert_eq!(rows[0], [&"x".repeat(5), "a", "b", "no"]);
        assert_eq!(rows[1], [&"x".repeat(15), "b", "b", "yes"]);
        assert_eq!(rows[15][0].chars().count(), LONGEST_TEXT + 1);
    }
}
