//! What a training step needs, ours against a peer's.

use serde::Serialize;

use super::{Row, mebibytes};
use crate::runs::memory::Needed;
use crate::workload::Size;

/// How to read the rows, and their columns.
pub const HEAD: &str = "\
training step: the most memory that two of them need beyond the idle process, each in a process \
of its own
ratio: the peer's memory over ours, above 1 ours needs less

   B    T    D    H  peer      ratio   our MiB  peer MiB";

impl Row for Needed {
    fn text(&self) -> String {
        let Size { b, t, d, h } = self.size;
        let ratio = self
            .ratio()
            .map_or("-".into(), |ratio| format!("{ratio:.2}"));
        format!(
            "{b:>4}{t:>5}{d:>5}{h:>5}  {:<8}{ratio:>7}{:>10.1}{:>10.1}",
            self.peer,
            mebibytes(self.ours),
            mebibytes(self.theirs),
        )
    }

    fn json(&self) -> impl Serialize {
        Line {
            size: self.size,
            peer: self.peer,
            ratio: self.ratio(),
            our_bytes: self.ours,
            peer_bytes: self.theirs,
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    size: Size,
    peer: &'a str,
    ratio: Option<f64>,
    our_bytes: u64,
    peer_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_below, json};
    use super::*;

    const ROW: Needed = Needed {
        size: Size::new(8, 32, 32, 32),
        peer: "pytorch",
        ours: 4 << 20,
        theirs: 6 << 20,
    };

    #[test]
    fn columns_stand_below_their_heads() {
        let head = HEAD.lines().last().unwrap();
        assert_eq!(ROW.text().len(), head.len(), "\n{head}\n{}", ROW.text());
        for (name, value) in [("ratio", "1.50"), ("our MiB", "4.0"), ("peer MiB", "6.0")] {
            assert_below(head, &ROW.text(), name, value);
        }
        let nothing = Needed { ours: 0, ..ROW };
        assert_below(head, &nothing.text(), "ratio", " -");
    }

    #[test]
    fn the_names_stay() {
        assert_eq!(
            json(&ROW),
            r#"{"b":8,"t":32,"d":32,"h":32,"peer":"pytorch","ratio":1.5,"our_bytes":4194304,"peer_bytes":6291456,"backend":"flex","path":"fused","dtype":"f32","device":"CPU"}"#
        );
    }
}
