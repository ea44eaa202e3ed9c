//! The training loop beside bare steps.

use serde::Serialize;

use super::Row;
use crate::runs::training::Overhead;
use crate::statistics::{Spread, coverage};
use crate::workload::Size;

/// What was measured.
pub const TITLE: &str = "\
bare step: forward, backward and AdamW's step on a window that is on the device, the state carried
host: until bare steps are handed to the device, in % of the time until it has done them; below 100
      the device always had work waiting
loop: the same by the trainer, which also clips by the global norm, schedules, adds up the losses,
      looks for what is not finite and tells callbacks, in % on top of bare steps
checkpoint: one in 100 steps of the loop, written and synced, in % on top of the loop
low and high: an interval for the median";

/// The columns.
pub const HEAD: &str =
    "   B    T    D    H  bare ms   host    loop     low    high  checkpoint     low    high";

impl Row for Overhead {
    fn text(&self) -> String {
        let Size { b, t, d, h } = self.size;
        let [training, checkpoint] = [&self.training, &self.checkpoint].map(on_top);
        format!(
            "{b:>4}{t:>5}{d:>5}{h:>5}{:>9.2}{:>6.0}%{:>7.2}%{:>7.2}%{:>7.2}%{:>11.2}%{:>7.2}%{:>7.2}%",
            1e3 * self.bare,
            100.0 * self.host.median,
            training.median,
            training.low,
            training.high,
            checkpoint.median,
            checkpoint.low,
            checkpoint.high,
        )
    }

    fn json(&self) -> impl Serialize {
        Line {
            size: self.size,
            bare_ms: 1e3 * self.bare,
            host_percent: percent(&self.host, 0.0),
            loop_percent: on_top(&self.training),
            checkpoint_percent: on_top(&self.checkpoint),
            rounds: self.rounds,
            coverage: coverage(self.rounds),
        }
    }
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    size: Size,
    bare_ms: f64,
    host_percent: Spread,
    loop_percent: Spread,
    checkpoint_percent: Spread,
    rounds: usize,
    coverage: f64,
}

/// What is on top of 1.
fn on_top(ratio: &Spread) -> Spread {
    percent(ratio, 1.0)
}

fn percent(ratio: &Spread, base: f64) -> Spread {
    let percent = |ratio: f64| 100.0 * (ratio - base);
    Spread {
        median: percent(ratio.median),
        low: percent(ratio.low),
        high: percent(ratio.high),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_below, json};
    use super::*;

    fn row() -> Overhead {
        let ratio = |median| Spread {
            median,
            low: 1.0,
            high: 1.5,
        };
        Overhead {
            size: Size::new(32, 64, 128, 256),
            bare: 0.0275,
            host: ratio(0.25),
            training: ratio(1.25),
            checkpoint: ratio(1.125),
            rounds: 6,
        }
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let line = row().text();
        assert_eq!(line.len(), HEAD.len(), "\n{HEAD}\n{line}");
        assert_below(HEAD, &line, "bare ms", "27.50");
        assert_below(HEAD, &line, "host", " 25%");
        assert_below(HEAD, &line, "loop", " 25.00%");
        assert_below(HEAD, &line, "checkpoint", " 12.50%");
    }

    #[test]
    fn the_names_stay() {
        assert_eq!(
            json(&row()),
            r#"{"b":32,"t":64,"d":128,"h":256,"bare_ms":27.5,"host_percent":{"median":25.0,"low":100.0,"high":150.0},"loop_percent":{"median":25.0,"low":0.0,"high":50.0},"checkpoint_percent":{"median":12.5,"low":0.0,"high":50.0},"rounds":6,"coverage":0.96875,"backend":"flex","path":"fused","dtype":"f32","device":"CPU"}"#
        );
    }
}
