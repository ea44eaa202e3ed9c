//! The LSTM against its peers: rows, their means, and the rates of large products.

use scratch_lstm::Path;
use scratch_lstm::fused::Kernels;
use serde::Serialize;

use super::{Place, Row as ReportRow};
use crate::machine;
use crate::matmul::Rate;
use crate::pairs::Comparison;
use crate::statistics::{coverage, geometric_mean};
use crate::workload::{Mode, Size};

/// How to read the rows, and their columns.
pub fn head(pairs: usize) -> String {
    let columns = format!(
        "{:>4}{:>5}{:>5}{:>5}  {:<8}{:<11}{:>7}{:>7}{:>7}{:>11}{:>9}{:>9}{:>11}  {:<10}",
        "B",
        "T",
        "D",
        "H",
        "mode",
        "peer",
        "ratio",
        "low",
        "high",
        "our ms",
        "GFLOP/s",
        "% matmul",
        "peer ms",
        "rung"
    );
    format!(
        "ratio: the peer's time over ours, above 1 ours is faster; median of {}, \
         low to high its {:.1} % interval\n\
         GFLOP/s: ours, needed operations alone; % matmul: of the rate of large products below; \
         rung: of our kernels for GPUs\n\n{columns}",
        machine::count(pairs, "pair"),
        100.0 * coverage(pairs)
    )
}

/// One size, mode and peer.
#[derive(Debug)]
pub struct Row<'a> {
    /// What was found.
    pub comparison: &'a Comparison,
    /// The way that our calls of this size took.
    pub path: &'a Path,
    /// The largest rate of large products in the same run, in 10⁹ operations a second.
    pub matmul: Option<f64>,
}

impl Row<'_> {
    fn percent(&self) -> Option<f64> {
        let rate = self.matmul?;
        Some(100.0 * self.comparison.gflops() / rate)
    }

    /// How our kernels for GPUs walked over the sequence, if they did.
    fn rung(&self) -> Option<String> {
        match self.path {
            Path::Fused(Kernels::Gpu(rung)) => rung.map(|rung| rung.to_string()),
            _ => None,
        }
    }
}

impl ReportRow for Row<'_> {
    fn text(&self) -> String {
        let row = self.comparison;
        let Size { b, t, d, h } = row.size;
        let percent = self
            .percent()
            .map_or("-".into(), |percent| format!("{percent:.1}"));
        format!(
            "{b:>4}{t:>5}{d:>5}{h:>5}  {:<8}{:<11}{:>7.2}{:>7.2}{:>7.2}{:>11.3}{:>9.2}{percent:>9}{:>11.3}  {:<10}",
            row.mode,
            row.peer,
            row.ratio.median,
            row.ratio.low,
            row.ratio.high,
            1e3 * row.our_seconds,
            row.gflops(),
            1e3 * row.peer_seconds,
            self.rung().as_deref().unwrap_or("-"),
        )
    }

    fn json(&self) -> impl Serialize {
        let row = self.comparison;
        Line {
            size: row.size,
            mode: row.mode,
            peer: row.peer,
            ratio: row.ratio.median,
            low: row.ratio.low,
            high: row.ratio.high,
            our_ms: 1e3 * row.our_seconds,
            peer_ms: 1e3 * row.peer_seconds,
            gflops: row.gflops(),
            percent_of_matmul: self.percent(),
            pairs: row.pairs,
            rung: self.rung(),
        }
    }

    fn place(&self, run: &Place) -> Option<Place> {
        Some(Place {
            path: self.path.to_string(),
            ..run.clone()
        })
    }
}

#[derive(Serialize)]
struct Line<'a> {
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
    percent_of_matmul: Option<f64>,
    pairs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rung: Option<String>,
}

/// The mean over the sizes of one mode and peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    summary: &'static str,
    mode: Mode,
    peer: &'static str,
    ratio: f64,
    sizes: usize,
}

/// Of each mode and peer with more than one size, in the order of the rows.
pub fn summaries(rows: &[Comparison]) -> Vec<Summary> {
    let mut kinds = Vec::new();
    for kind in rows.iter().map(|row| (row.mode, row.peer)) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let summary = |(mode, peer)| {
        let same = rows
            .iter()
            .filter(|row| (row.mode, row.peer) == (mode, peer));
        let ratios: Vec<f64> = same.map(|row| row.ratio.median).collect();
        (ratios.len() > 1).then(|| Summary {
            summary: "geometric mean",
            mode,
            peer,
            ratio: geometric_mean(&ratios),
            sizes: ratios.len(),
        })
    };
    kinds.into_iter().filter_map(summary).collect()
}

impl ReportRow for Summary {
    fn text(&self) -> String {
        let over = format!("geo. mean, {}", machine::count(self.sizes, "size"));
        let Self {
            mode, peer, ratio, ..
        } = self;
        format!("{over:>19}  {mode:<8}{peer:<11}{ratio:>7.2}")
    }

    fn json(&self) -> impl Serialize {
        self
    }
}

impl ReportRow for Rate {
    fn text(&self) -> String {
        let Self { library, width, .. } = self;
        let probes = machine::count(self.probes, "probe");
        format!(
            "large products, {library}: {:.1} GFLOP/s \
             ([{width}, {width}] times the same; median of {probes}, {:.1} to {:.1})",
            self.gflops, self.low, self.high,
        )
    }

    fn json(&self) -> impl Serialize {
        RateLine {
            matmul: self.library,
            width: self.width,
            gflops: self.gflops,
            low: self.low,
            high: self.high,
            probes: self.probes,
        }
    }
}

#[derive(Serialize)]
struct RateLine<'a> {
    matmul: &'a str,
    width: usize,
    gflops: f64,
    low: f64,
    high: f64,
    probes: usize,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_below, json};
    use super::*;
    use crate::statistics::Spread;
    use scratch_lstm::fused::Rung;

    const STEPWISE: Path = Path::Fused(Kernels::Gpu(Some(Rung::Stepwise)));

    fn comparison(mode: Mode, peer: &'static str, ratio: f64) -> Comparison {
        Comparison {
            size: Size::new(8, 32, 32, 32),
            mode,
            peer,
            ratio: Spread {
                median: ratio,
                low: 1.0,
                high: 12.5,
            },
            our_seconds: 0.5,
            peer_seconds: 0.75,
            pairs: 15,
        }
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let comparison = comparison(Mode::Forward, "cudnn-tf32", 1.25);
        let matmul = Some(2.0 * comparison.gflops());
        let row = Row {
            comparison: &comparison,
            path: &STEPWISE,
            matmul,
        };
        let head = head(15);
        assert!(
            head.contains("15 pairs") && head.contains("96.5 %"),
            "{head}"
        );
        let head = head.lines().last().unwrap();
        let line = row.text();
        assert_eq!(line.len(), head.len(), "\n{head}\n{line}");
        for (name, value) in [
            ("ratio", "1.25"),
            ("high", "12.50"),
            ("our ms", "500.000"),
            ("% matmul", "50.0"),
            ("rung      ", "stepwise  "),
        ] {
            assert_below(head, &line, name, value);
        }
        let summary = Summary {
            summary: "geometric mean",
            mode: Mode::Forward,
            peer: "pytorch",
            ratio: 1.5,
            sizes: 12,
        };
        assert_below(head, &summary.text(), "ratio", " 1.50");
        assert_below(head, &summary.text(), "H", "geo. mean, 12 sizes");
    }

    #[test]
    fn the_names_stay() {
        let comparison = comparison(Mode::Train, "burn", 1.5);
        let gflops = comparison.gflops();
        let row = Row {
            comparison: &comparison,
            path: &STEPWISE,
            matmul: Some(gflops),
        };
        assert_eq!(
            json(&row),
            format!(
                r#"{{"b":8,"t":32,"d":32,"h":32,"mode":"train","peer":"burn","ratio":1.5,"low":1.0,"high":12.5,"our_ms":500.0,"peer_ms":750.0,"gflops":{gflops},"percent_of_matmul":100.0,"pairs":15,"rung":"stepwise","backend":"flex","path":"fused (GPU kernels, stepwise)","dtype":"f32","device":"CPU"}}"#
            )
        );
        let rate = Rate {
            library: "burn",
            width: 2048,
            gflops: 100.5,
            low: 90.5,
            high: 110.5,
            probes: 8,
        };
        assert_eq!(
            json(&rate),
            r#"{"matmul":"burn","width":2048,"gflops":100.5,"low":90.5,"high":110.5,"probes":8,"backend":"flex","path":"fused","dtype":"f32","device":"CPU"}"#
        );
        let summary = Summary {
            summary: "geometric mean",
            mode: Mode::Train,
            peer: "burn",
            ratio: 1.5,
            sizes: 7,
        };
        assert_eq!(
            json(&summary),
            r#"{"summary":"geometric mean","mode":"train","peer":"burn","ratio":1.5,"sizes":7,"backend":"flex","path":"fused","dtype":"f32","device":"CPU"}"#
        );
    }

    #[test]
    fn a_mean_of_each_mode_and_peer_with_several_sizes() {
        let rows = [
            comparison(Mode::Forward, "burn", 2.0),
            comparison(Mode::Forward, "pytorch", 1.0),
            comparison(Mode::Train, "burn", 7.0),
            comparison(Mode::Forward, "burn", 8.0),
            comparison(Mode::Forward, "pytorch", 9.0),
        ];
        let found: Vec<_> = summaries(&rows)
            .into_iter()
            .map(|summary| {
                (
                    summary.mode,
                    summary.peer,
                    summary.ratio.round(),
                    summary.sizes,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (Mode::Forward, "burn", 4.0, 2),
                (Mode::Forward, "pytorch", 3.0, 2)
            ]
        );
    }
}
