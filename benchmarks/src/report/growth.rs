//! A training step at every length, and whether it grew faster than the sequence.

use serde::Serialize;

use super::Row;
use crate::runs::growth::{BATCH, D_HIDDEN, D_INPUT, Grown, LAYERS};
use crate::workload::Size;

/// What was measured.
pub fn title() -> String {
    format!("training step, {LAYERS} layers, tracked input, B={BATCH}, D={D_INPUT}, H={D_HIDDEN}")
}

/// The columns.
pub const HEAD: &str = "     T         ms       ms/T  peak MiB      KiB/T";

impl Row for Grown {
    fn text(&self) -> String {
        let steps = self.steps as f64;
        let ms = 1e3 * self.seconds;
        let time = format!("{:>6}{ms:>11.2}{:>11.4}", self.steps, ms / steps);
        let memory = match self.peak.map(|peak| peak as f64 / 1024.0) {
            Some(kib) => format!("{:>10.1}{:>11.1}", kib / 1024.0, kib / steps),
            None => format!("{:>10}{:>11}", "-", "-"),
        };
        time + &memory
    }

    fn json(&self) -> impl Serialize {
        let ms = 1e3 * self.seconds;
        Line {
            size: Size::new(BATCH, self.steps, D_INPUT, D_HIDDEN),
            layers: LAYERS,
            ms,
            ms_per_step: ms / self.steps as f64,
            peak_bytes: self.peak,
        }
    }
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    size: Size,
    layers: usize,
    ms: f64,
    ms_per_step: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_bytes: Option<u64>,
}

/// The longest against the shortest.
pub fn verdict(rows: &[Grown]) -> String {
    let [first, .., last] = rows else {
        return String::new();
    };
    let longer = last.steps / first.steps;
    format!(
        "\nT = {} takes {:.1} times as long as T = {}; linear growth is {longer}, quadratic {}",
        last.steps,
        last.seconds / first.seconds,
        first.steps,
        longer.pow(2),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_below, json};
    use super::*;

    fn row(steps: usize, peak: Option<u64>) -> Grown {
        Grown {
            steps,
            seconds: steps as f64 / 1e3,
            peak,
        }
    }

    #[test]
    fn growth_says_what_linear_would_be() {
        let rows = [row(64, Some(64 << 20)), row(256, None)];
        let line = rows[0].text();
        assert_eq!(line.len(), HEAD.len(), "\n{HEAD}\n{line}");
        assert_below(HEAD, &line, "peak MiB", "64.0");
        assert_below(HEAD, &line, "KiB/T", "1024.0");
        assert_below(HEAD, &rows[1].text(), "KiB/T", "-");
        let text = verdict(&rows);
        assert!(text.contains("takes 4.0 times"), "{text}");
        assert!(text.ends_with("linear growth is 4, quadratic 16"), "{text}");
    }

    #[test]
    fn the_names_stay() {
        assert_eq!(
            json(&row(64, None)),
            r#"{"b":16,"t":64,"d":64,"h":128,"layers":2,"ms":64.0,"ms_per_step":1.0,"backend":"flex","path":"fused","dtype":"f32","device":"CPU"}"#
        );
    }
}
