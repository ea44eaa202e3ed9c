//! Results in text.

use std::fmt::Write;

use scratch_train::metrics::ForecastScores;
use scratch_train::tasks::Ended;
use scratch_train::tasks::classify::ClassifyReport;
use scratch_train::tasks::forecast::ForecastReport;
use scratch_train::tasks::text::TextReport;

/// A result that people read.
pub trait Summary {
    /// A few lines.
    fn summary(&self) -> String;
}

impl Summary for ForecastReport {
    fn summary(&self) -> String {
        let mut text = ended(self.training.as_ref());
        let [train, valid, test] = self.rows;
        let ahead = match self.horizon {
            1 => "one step ahead".into(),
            horizon => format!("1 to {horizon} steps ahead"),
        };
        let seasonal = match self.baselines.season {
            Some(season) => format!("seasonal naive ({season} rows)"),
            None => "seasonal naive".into(),
        };
        let _ = writeln!(
            text,
            "{ahead}; rows: {train} training, {valid} validation, {test} test\n"
        );
        let width = seasonal.len().max(24);
        let _ = writeln!(
            text,
            "{:11}{:width$}{:>10}{:>10}{:>9}",
            "", "", "RMSE", "MAE", "MASE"
        );
        let mut row = |part: &str, name: &str, scores: Option<&ForecastScores>| {
            let numbers = match scores {
                Some(scores) => score_cells(scores),
                None => format!("{:>10}", "none found"),
            };
            let _ = writeln!(text, "{part:11}{name:width$}{numbers}");
        };
        row("validation", "ScratchLstm", Some(&self.valid));
        row("test", "ScratchLstm", Some(&self.test));
        row("", "persistence", Some(&self.baselines.persistence));
        row("", &seasonal, self.baselines.seasonal_naive.as_ref());
        if self.columns.len() > 1 {
            text += "\nThese are means over the columns; test, column by column:\n";
            for (name, column) in &self.columns {
                let _ = writeln!(text, "  {name:<33}{}", score_cells(&column.test));
            }
        }
        let run = shell_word(&self.run.display().to_string());
        text += &pointers(
            &run,
            &format!("{run}/plots/forecast.svg, loss.svg"),
            &format!("forecast {run} --horizon 12"),
        );
        text
    }
}

impl Summary for TextReport {
    fn summary(&self) -> String {
        let mut text = ended(self.training.as_ref());
        let [train, valid] = self.units;
        let files = match self.files {
            1 => "1 file".into(),
            files => format!("{files} files"),
        };
        let _ = writeln!(
            text,
            "{files}: {train} characters of training, {valid} of validation, {} in the vocabulary\n",
            self.vocabulary
        );
        let _ = writeln!(
            text,
            "{:11}{:>10}{:>20}{:>12}",
            "", "nats", "bits per character", "perplexity"
        );
        let _ = writeln!(
            text,
            "{:11}{:>10.4}{:>20.4}{:>12.3}",
            "validation", self.valid.nats, self.valid.bits_per_character, self.valid.perplexity
        );
        let run = shell_word(&self.run.display().to_string());
        text += &pointers(
            &run,
            &format!("{run}/plots/loss.svg"),
            &format!("generate {run} --prompt \"The \" --length 400"),
        );
        text
    }
}

impl Summary for ClassifyReport {
    fn summary(&self) -> String {
        let mut text = ended(self.training.as_ref());
        let [train, valid, test] = self.sequences;
        let _ = writeln!(
            text,
            "{} labels; sequences: {train} training, {valid} validation, {test} test\n",
            self.labels.len()
        );
        let constant = format!("always `{}`", self.baselines.most_frequent);
        let width = constant.chars().count().max(24);
        let _ = writeln!(
            text,
            "{:6}{:width$}{:>10}{:>10}",
            "", "", "accuracy", "macro F1"
        );
        let _ = writeln!(
            text,
            "{:6}{:width$}{:>10.4}{:>10.4}",
            "test", "ScratchLstm", self.test.accuracy, self.test.macro_f1
        );
        let _ = writeln!(
            text,
            "{:6}{constant:width$}{:>10.4}",
            "", self.baselines.accuracy
        );
        let run = shell_word(&self.run.display().to_string());
        text += &pointers(
            &run,
            &format!("{run}/plots/confusion.svg, loss.svg"),
            &format!("evaluate {run} --json"),
        );
        text
    }
}

/// How long the training took and which model was kept.
fn ended(training: Option<&Ended>) -> String {
    let Some(ended) = training else {
        return String::new();
    };
    format!(
        "\n{} steps in {:.1} s; the model kept is that of step {}\n",
        ended.steps, ended.seconds, ended.best.step
    )
}

fn score_cells(scores: &ForecastScores) -> String {
    let mase = match scores.mase {
        Some(mase) => format!("{mase:.3}"),
        None => "-".into(),
    };
    format!("{}{}{mase:>9}", number(scores.rmse), number(scores.mae))
}

/// Ten columns wide, with two decimals where these say something.
fn number(value: f64) -> String {
    if value != 0.0 && !(0.1..1e6).contains(&value) {
        format!("{value:>10.2e}")
    } else {
        format!("{value:>10.2}")
    }
}

/// Where the plots are and what to do next.
fn pointers(run: &str, plots: &str, next: &str) -> String {
    let program = program();
    format!("\nplots  {plots}\npage   {program} report {run}\nnext   {program} {next}\n")
}

/// The program as it was called.
fn program() -> String {
    std::env::args_os()
        .next()
        .map_or_else(|| "scratch".into(), |name| name.to_string_lossy().into())
}

/// A path as it can be typed.
pub fn shell_word(path: &str) -> String {
    if path.contains(char::is_whitespace) {
        format!("'{path}'")
    } else {
        path.into()
    }
}
