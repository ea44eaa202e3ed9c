//! Results for people: columns on stdout.

use crate::growth::{self, Grown};
use crate::machine;
use crate::pairs::Comparison;
use crate::statistics::coverage;

/// What every number below depends on and how to read it.
pub fn comparison_head(pairs: usize) -> String {
    let columns = format!(
        "{:>4}{:>5}{:>5}{:>5}  {:<8}{:<8}{:>7}{:>7}{:>7}{:>11}{:>9}{:>11}",
        "B", "T", "D", "H", "mode", "peer", "ratio", "low", "high", "our ms", "GFLOP/s", "peer ms"
    );
    format!(
        "ratio: the peer's time over ours, above 1 ours is faster; median of {}, \
         low to high its {:.1} % interval\n\n{columns}",
        machine::count(pairs, "pair"),
        100.0 * coverage(pairs)
    )
}

/// One size, mode and peer.
pub fn comparison(row: &Comparison) -> String {
    let Comparison {
        size, mode, ratio, ..
    } = row;
    format!(
        "{:>4}{:>5}{:>5}{:>5}  {mode:<8}{:<8}{:>7.2}{:>7.2}{:>7.2}{:>11.3}{:>9.2}{:>11.3}",
        size.b,
        size.t,
        size.d,
        size.h,
        row.peer,
        ratio.median,
        ratio.low,
        ratio.high,
        1e3 * row.our_seconds,
        row.gflops(),
        1e3 * row.peer_seconds,
    )
}

/// A training step at every length, and whether it grew faster than the sequence.
pub fn growth(rows: &[Grown]) -> String {
    let mut text = format!(
        "training step, {} layers, tracked input, B={}, D={}, H={}\n\n{:>6}{:>11}{:>11}{:>10}{:>11}",
        growth::LAYERS,
        growth::BATCH,
        growth::D_INPUT,
        growth::D_HIDDEN,
        "T",
        "ms",
        "ms/T",
        "peak MiB",
        "KiB/T",
    );
    for row in rows {
        let steps = row.steps as f64;
        let ms = 1e3 * row.seconds;
        text += &format!("\n{:>6}{ms:>11.2}{:>11.4}", row.steps, ms / steps);
        text += &match row.peak.map(|peak| peak as f64 / 1024.0) {
            Some(kib) => format!("{:>10.1}{:>11.1}", kib / 1024.0, kib / steps),
            None => format!("{:>10}{:>11}", "-", "-"),
        };
    }
    if let [first, .., last] = rows {
        text += &format!(
            "\n\nT = {} takes {:.1} times as long as T = {}; linear growth is {}, quadratic {}",
            last.steps,
            last.seconds / first.seconds,
            first.steps,
            last.steps / first.steps,
            (last.steps / first.steps).pow(2),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Spread;
    use crate::workload::{Mode, Size};

    #[test]
    fn columns_stand_below_their_heads() {
        let row = Comparison {
            size: Size::new(32, 64, 128, 256),
            mode: Mode::Forward,
            peer: "pytorch",
            ratio: Spread {
                median: 1.25,
                low: 1.0,
                high: 12.5,
            },
            our_seconds: 0.1,
            peer_seconds: 0.125,
            pairs: 7,
        };
        let head = comparison_head(7);
        assert!(
            head.contains("7 pairs") && head.contains("98.4 %"),
            "{head}"
        );
        let head = head.lines().last().unwrap();
        let line = comparison(&row);
        assert_eq!(line.len(), head.len(), "\n{head}\n{line}");
        for (name, value) in [("ratio", "1.25"), ("high", "12.50"), ("our ms", "100.000")] {
            let end = head.find(name).unwrap() + name.len();
            assert!(line[..end].ends_with(value), "\n{head}\n{line}");
        }
    }

    #[test]
    fn growth_says_what_linear_would_be() {
        let row = |steps: usize, peak| Grown {
            steps,
            seconds: steps as f64 / 1e3,
            peak,
        };
        let text = growth(&[row(64, Some(64 << 20)), row(256, None)]);
        assert!(text.contains("64.0     1024.0"), "{text}");
        assert!(text.contains("takes 4.0 times"), "{text}");
        assert!(text.ends_with("linear growth is 4, quadratic 16"), "{text}");
    }
}
