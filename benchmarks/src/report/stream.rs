//! A step of a stream, and what it cannot be faster than.

use serde::Serialize;

use super::Row;
use crate::runs::stream::Streamed;

/// What was measured.
pub const TITLE: &str = "one step of one sequence in microseconds: a stream, reading as many bytes \
                         as its weights have, a call of the module with B = T = 1";

/// The columns.
pub const HEAD: &str = "   D    H  weights KiB   stream     read  stream/read   module";

impl Row for Streamed {
    fn text(&self) -> String {
        let micros = |seconds: f64| 1e6 * seconds;
        format!(
            "{:>4}{:>5}{:>13}{:>9.2}{:>9.2}{:>13.2}{:>9.2}",
            self.d,
            self.h,
            self.bytes / 1024,
            micros(self.step),
            micros(self.read),
            self.step / self.read,
            micros(self.module),
        )
    }

    fn json(&self) -> impl Serialize {
        Line {
            d: self.d,
            h: self.h,
            weight_bytes: self.bytes,
            step_us: 1e6 * self.step,
            read_us: 1e6 * self.read,
            module_us: 1e6 * self.module,
        }
    }
}

#[derive(Serialize)]
struct Line {
    d: usize,
    h: usize,
    weight_bytes: usize,
    step_us: f64,
    read_us: f64,
    module_us: f64,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_below, json};
    use super::*;

    #[test]
    fn columns_stand_below_their_heads() {
        let row = Streamed {
            d: 64,
            h: 128,
            bytes: 1 << 20,
            step: 2e-6,
            read: 1e-6,
            module: 9e-6,
        };
        let line = row.text();
        assert_eq!(line.len(), HEAD.len(), "\n{HEAD}\n{line}");
        assert_below(HEAD, &line, "weights KiB", "1024");
        assert_below(HEAD, &line, "stream/read", "2.00");
        assert_eq!(
            json(&row),
            r#"{"d":64,"h":128,"weight_bytes":1048576,"step_us":2.0,"read_us":1.0,"module_us":9.0,"backend":"flex","path":"fused","dtype":"f32","device":"CPU"}"#
        );
    }
}
