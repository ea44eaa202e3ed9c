//! Results for programs: one object a line. The names are a promise to whoever reads them.

use serde::Serialize;

use crate::growth::{self, Grown};
use crate::pairs::Comparison;
use crate::workload::{Mode, Size};

/// One size, mode and peer.
pub fn comparison(row: &Comparison, backend: &str) -> String {
    line(&ComparisonLine {
        size: row.size,
        mode: row.mode,
        peer: row.peer,
        ratio: row.ratio.median,
        low: row.ratio.low,
        high: row.ratio.high,
        our_ms: 1e3 * row.our_seconds,
        peer_ms: 1e3 * row.peer_seconds,
        gflops: row.gflops(),
        backend,
        pairs: row.pairs,
    })
}

/// One length of the sequence.
pub fn growth(row: &Grown, backend: &str) -> String {
    let ms = 1e3 * row.seconds;
    line(&GrowthLine {
        size: Size::new(growth::BATCH, row.steps, growth::D_INPUT, growth::D_HIDDEN),
        layers: growth::LAYERS,
        ms,
        ms_per_step: ms / row.steps as f64,
        peak_bytes: row.peak,
        backend,
    })
}

#[derive(Serialize)]
struct ComparisonLine<'a> {
    #[serde(flatten)]
    size: Size,
    mode: Mode,
    peer: &'a str,
    ratio: f64,
    low: f64,
    high: f64,
    our_ms: f64,
    peer_ms: f64,
    gflops: f64,
    backend: &'a str,
    pairs: usize,
}

#[derive(Serialize)]
struct GrowthLine<'a> {
    #[serde(flatten)]
    size: Size,
    layers: usize,
    ms: f64,
    ms_per_step: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_bytes: Option<u64>,
    backend: &'a str,
}

fn line(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("plain structs of numbers and text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Spread;

    #[test]
    fn the_names_stay() {
        let row = Comparison {
            size: Size::new(8, 32, 32, 32),
            mode: Mode::Train,
            peer: "burn",
            ratio: Spread {
                median: 1.5,
                low: 1.25,
                high: 1.75,
            },
            our_seconds: 0.5,
            peer_seconds: 0.75,
            pairs: 7,
        };
        let gflops = row.gflops();
        assert_eq!(
            comparison(&row, "flex"),
            format!(
                r#"{{"b":8,"t":32,"d":32,"h":32,"mode":"train","peer":"burn","ratio":1.5,"low":1.25,"high":1.75,"our_ms":500.0,"peer_ms":750.0,"gflops":{gflops},"backend":"flex","pairs":7}}"#
            )
        );
        let row = Grown {
            steps: 64,
            seconds: 0.064,
            peak: None,
        };
        assert_eq!(
            growth(&row, "flex"),
            r#"{"b":16,"t":64,"d":64,"h":128,"layers":2,"ms":64.0,"ms_per_step":1.0,"backend":"flex"}"#
        );
    }
}
