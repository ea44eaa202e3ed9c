//! Results of classification.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// How often each label was taken for which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    labels: Vec<String>,
    /// By true label, then predicted label.
    counts: Vec<Vec<u64>>,
}

/// The scores of one label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassScores {
    /// Of what was called so, the share that is so; 0 if nothing was.
    pub precision: f64,
    /// Of what is so, the share that was called so; 0 if nothing is.
    pub recall: f64,
    /// Their harmonic mean; 0 if both are.
    pub f1: f64,
    /// How many are so.
    pub support: u64,
}

impl Confusion {
    /// No results yet.
    pub fn new(labels: Vec<String>) -> Self {
        let counts = vec![vec![0; labels.len()]; labels.len()];
        Self { labels, counts }
    }

    /// Counts one result, of labels by their positions.
    ///
    /// # Panics
    ///
    /// If there is no such label.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth][predicted] += 1;
    }

    /// The labels' names.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How often `truth` was taken for `predicted`.
    ///
    /// # Panics
    ///
    /// If there is no such label.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth][predicted]
    }

    /// How many results were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The share that was right; 0 without results.
    ///
    /// Of the counts `[[3, 1], [2, 4]]` it is `(3 + 4) / 10`.
    pub fn accuracy(&self) -> f64 {
        let right = (0..self.labels.len()).map(|label| self.counts[label][label]);
        ratio(right.sum(), self.total())
    }

    /// The scores of each label.
    ///
    /// Of the counts `[[3, 1], [2, 4]]` the first label has precision `3 / 5`, recall `3 / 4` and
    /// F1 `2 * 3 / (5 + 4)`.
    pub fn scores(&self) -> Vec<ClassScores> {
        let score = |label: usize| {
            let right = self.counts[label][label];
            let support: u64 = self.counts[label].iter().sum();
            let called: u64 = self.counts.iter().map(|row| row[label]).sum();
            ClassScores {
                precision: ratio(right, called),
                recall: ratio(right, support),
                f1: ratio(2 * right, called + support),
                support,
            }
        };
        (0..self.labels.len()).map(score).collect()
    }

    /// The mean F1 of the labels, each counting the same, over those that occur among the truth or
    /// the predictions (as scikit-learn's `f1_score(average="macro")`); 0 without results.
    ///
    /// Of the counts `[[3, 1], [2, 4]]` it is `(6 / 9 + 8 / 11) / 2`.
    pub fn macro_f1(&self) -> f64 {
        let scores = self.scores();
        let occurs = |label: &usize| {
            scores[*label].support > 0 || self.counts.iter().any(|row| row[*label] > 0)
        };
        let f1: Vec<_> = (0..self.labels.len())
            .filter(occurs)
            .map(|label| scores[label].f1)
            .collect();
        if f1.is_empty() {
            return 0.0;
        }
        f1.iter().sum::<f64>() / f1.len() as f64
    }
}

/// A table: a row for each true label with its counts by predicted label, recall and F1. Columns
/// are numbered as the rows are.
impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.labels.len();
        let number = decimals(count as u64);
        let name = self
            .labels
            .iter()
            .map(|label| label.chars().count())
            .fold("truth".len(), usize::max);
        let cell = self.counts.iter().flatten().copied().max().unwrap_or(0);
        let cell = decimals(cell).max(number);
        let mut out = String::new();
        write!(out, "{:>number$} {:<name$}", "", "truth")?;
        for column in 1..=count {
            write!(out, " {column:>cell$}")?;
        }
        writeln!(out, "  recall     f1")?;
        for (row, score) in self.scores().iter().enumerate() {
            write!(out, "{:>number$} {:<name$}", row + 1, self.labels[row])?;
            for &counted in &self.counts[row] {
                // A dot for nothing, so that the eye finds what is there.
                match counted {
                    0 => write!(out, " {:>cell$}", ".")?,
                    _ => write!(out, " {counted:>cell$}")?,
                }
            }
            writeln!(out, "  {:>5.1}%  {:>5.3}", 100.0 * score.recall, score.f1)?;
        }
        f.write_str(&out)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

fn decimals(number: u64) -> usize {
    number.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(counts: &[&[u64]]) -> Confusion {
        let mut confusion =
            Confusion::new((0..counts.len()).map(|k| format!("class {k}")).collect());
        for (truth, row) in counts.iter().enumerate() {
            for (predicted, &count) in row.iter().enumerate() {
                (0..count).for_each(|_| confusion.add(truth, predicted));
            }
        }
        confusion
    }

    #[test]
    fn scores_of_two_labels() {
        let confusion = confusion(&[&[3, 1], &[2, 4]]);
        assert_eq!(confusion.total(), 10);
        assert_eq!(confusion.accuracy(), 0.7);
        let first = confusion.scores()[0];
        assert_eq!(
            (first.precision, first.recall, first.f1),
            (0.6, 0.75, 6.0 / 9.0)
        );
        assert!((confusion.macro_f1() - (6.0 / 9.0 + 8.0 / 11.0) / 2.0).abs() < 1e-12);
    }

    /// The third label is neither there nor predicted, the second is only predicted: (1 + 0) / 2
    /// would be wrong as well, F1 of the first is 2 * 1 / (1 + 2).
    #[test]
    fn labels_that_do_not_occur_do_not_count() {
        let confusion = confusion(&[&[1, 1, 0], &[0, 0, 0], &[0, 0, 0]]);
        assert!((confusion.macro_f1() - (2.0 / 3.0 + 0.0) / 2.0).abs() < 1e-12);
        let none = Confusion::new(vec!["a".into()]);
        assert_eq!((none.accuracy(), none.macro_f1()), (0.0, 0.0));
    }

    #[test]
    fn the_table_lines_up() {
        let table = confusion(&[&[13, 1], &[0, 4]]).to_string();
        let expected = "  truth    1  2  recall     f1\n\
                        1 class 0 13  1   92.9%  0.963\n\
                        2 class 1  .  4  100.0%  0.889\n";
        assert_eq!(table, expected);
    }
}
