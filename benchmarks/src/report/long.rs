//! Long sequences: rows, whether the time per step stayed level, and whether the longest with
//! gradient checkpointing stayed under a bound.

use serde::Serialize;

use super::{Row, mebibytes};
use crate::runs::long::Stretch;
use crate::workload::Size;

/// How to read the rows, and their columns.
pub const HEAD: &str = "\
training step, with gradient checkpointing and without, each in a process of its own
peak MiB: beyond the idle process, which has model and input; resident MiB: of the whole process

   B     T    D    H  checkpointing       ms     ms/T  peak MiB  resident MiB";

/// What a process with the longest sequence is allowed.
const BOUND: u64 = 1 << 30;

impl Row for Stretch {
    fn text(&self) -> String {
        let Size { b, t, d, h } = self.size;
        let ms = 1e3 * self.seconds;
        format!(
            "{b:>4}{t:>6}{d:>5}{h:>5}  {:<13}{ms:>9.1}{:>9.4}{:>10.1}{:>14.1}",
            if self.checkpointing { "yes" } else { "no" },
            ms / t as f64,
            mebibytes(self.beyond),
            mebibytes(self.resident),
        )
    }

    fn json(&self) -> impl Serialize {
        let ms = 1e3 * self.seconds;
        Line {
            size: self.size,
            checkpointing: self.checkpointing,
            ms,
            ms_per_step: ms / self.size.t as f64,
            peak_bytes: self.beyond,
            resident_bytes: self.resident,
        }
    }
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    size: Size,
    checkpointing: bool,
    ms: f64,
    ms_per_step: f64,
    peak_bytes: u64,
    resident_bytes: u64,
}

/// The longest against the shortest, with checkpointing and without.
pub fn verdict(rows: &[Stretch]) -> String {
    let mut text = String::new();
    for (checkpointing, how) in [(true, "with"), (false, "without")] {
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| row.checkpointing == checkpointing)
            .collect();
        let [first, .., last] = rows[..] else {
            continue;
        };
        let per_step = |row: &Stretch| row.seconds / row.size.t as f64;
        text += &format!(
            "\n{how} checkpointing, T = {} takes {:.2} times as long for each step as T = {}, \
             and {:.0} MiB, {} 1 GiB",
            last.size.t,
            per_step(last) / per_step(first),
            first.size.t,
            mebibytes(last.resident),
            if last.resident < BOUND {
                "less than"
            } else {
                "not less than"
            },
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_below, json};
    use super::*;

    fn row(steps: usize, checkpointing: bool, resident: u64) -> Stretch {
        Stretch {
            size: Size::new(16, steps, 64, 256),
            checkpointing,
            seconds: steps as f64 / 1e3,
            beyond: 4 << 20,
            resident,
        }
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let head = HEAD.lines().last().unwrap();
        let line = row(10_000, true, 64 << 20).text();
        assert_eq!(line.len(), head.len(), "\n{head}\n{line}");
        for (name, value) in [
            ("checkpointing", "yes          "),
            ("ms/T", "1.0000"),
            ("peak MiB", "4.0"),
            ("resident MiB", "64.0"),
        ] {
            assert_below(head, &line, name, value);
        }
    }

    #[test]
    fn the_verdict_names_time_and_bound() {
        let rows = [
            row(100, true, 1 << 20),
            row(100, false, 1 << 20),
            row(10_000, true, BOUND - 1),
            row(10_000, false, BOUND),
        ];
        let text = verdict(&rows);
        let lines: Vec<_> = text.trim().lines().collect();
        assert!(lines[0].starts_with("with checkpointing, T = 10000 takes 1.00 times"));
        assert!(lines[0].ends_with("1024 MiB, less than 1 GiB"), "{text}");
        assert!(lines[1].ends_with("MiB, not less than 1 GiB"), "{text}");
    }

    #[test]
    fn the_names_stay() {
        assert_eq!(
            json(&row(100, true, 8 << 20)),
            r#"{"b":16,"t":100,"d":64,"h":256,"checkpointing":true,"ms":100.0,"ms_per_step":1.0,"peak_bytes":4194304,"resident_bytes":8388608,"backend":"flex","path":"fused","dtype":"f32","device":"CPU"}"#
        );
    }
}
