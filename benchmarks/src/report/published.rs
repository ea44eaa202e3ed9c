//! Times that others have published for one size, for orientation: from one kind of device, and from
//! papers rather than from this run.

use serde::Serialize;

use super::{Place, Row};
use crate::workload::Size;

/// One implementation's times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Published {
    published: &'static str,
    dtype: &'static str,
    forward_ms: f64,
    train_ms: f64,
    #[serde(flatten)]
    size: Size,
    device: &'static str,
}

/// On what they were measured.
const DEVICE: &str = "H100";

/// From the fastest to the slowest.
pub const TIMES: [Published; 5] = [
    times("cuDNN", "fp16", 2.0, 5.2),
    times("FlashRNN, fused", "bf16", 4.9, 13.6),
    times("FlashRNN, alternating", "bf16", 10.8, 26.5),
    times("haste", "fp32", 18.4, 43.9),
    times("PyTorch operations", "-", 147.0, 484.0),
];

const fn times(
    published: &'static str,
    dtype: &'static str,
    forward_ms: f64,
    train_ms: f64,
) -> Published {
    Published {
        published,
        dtype,
        forward_ms,
        train_ms,
        size: Size::PUBLISHED,
        device: DEVICE,
    }
}

/// How to read the rows, and their columns.
pub fn head() -> String {
    format!(
        "\npublished for {} on an {DEVICE}, for orientation: papers' numbers, of that one kind of \
         device alone\n\n{:<24}{:<6}{:>11}{:>11}",
        Size::PUBLISHED,
        "published",
        "type",
        "forward ms",
        "train ms"
    )
}

impl Row for Published {
    fn text(&self) -> String {
        format!(
            "{:<24}{:<6}{:>11.1}{:>11.1}",
            self.published, self.dtype, self.forward_ms, self.train_ms
        )
    }

    fn json(&self) -> impl Serialize {
        self
    }

    /// Not where the run was.
    fn place(&self, _: &Place) -> Option<Place> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_below, json};
    use super::*;

    #[test]
    fn columns_stand_below_their_heads() {
        let head = head();
        let head = head.lines().last().unwrap();
        for row in &TIMES {
            assert_eq!(row.text().len(), head.len(), "\n{head}\n{}", row.text());
        }
        assert_below(head, &TIMES[0].text(), "forward ms", " 2.0");
        assert_below(head, &TIMES[4].text(), "train ms", " 484.0");
    }

    #[test]
    fn they_are_of_another_place_than_the_run() {
        assert_eq!(
            json(&TIMES[1]),
            r#"{"published":"FlashRNN, fused","dtype":"bf16","forward_ms":4.9,"train_ms":13.6,"b":16,"t":1024,"d":768,"h":768,"device":"H100"}"#
        );
    }
}
