//! How weights begin.

use rand::distr::{Distribution, Uniform};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::gates;
use crate::random::Key;

/// The distribution of a weight matrix at the start. Each of the four gates' blocks
/// `[H, columns]` is drawn for itself, so that fans are those of one gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initializer {
    /// Uniform in `±1/√H`, what `torch.nn.LSTM` does.
    #[default]
    Uniform,
    /// Uniform in `±√(6 / (fan_in + fan_out))` (Glorot & Bengio 2010), with `fan_in` the columns
    /// and `fan_out = H`.
    XavierUniform,
    /// Normal with variance `2 / (fan_in + fan_out)` (Glorot & Bengio 2010).
    XavierNormal,
    /// Rows or columns, whichever are fewer, orthonormal (Saxe, McClelland & Ganguli 2013). For
    /// the recurrent weights each gate's block is an orthogonal matrix.
    Orthogonal,
    /// As [`XavierUniform`](Self::XavierUniform), with the four gates as one matrix: `fan_out = 4H`.
    /// What Keras has on the input.
    XavierUniformJoined,
    /// As [`Orthogonal`](Self::Orthogonal), with the four gates as one matrix, `[4H, columns]`.
    /// What Keras has on the hidden state.
    OrthogonalJoined,
}

impl Initializer {
    /// Four gate blocks below each other, `[4H, columns]` row by row, from the stream of `key`.
    pub(crate) fn gate_blocks(self, d_hidden: usize, columns: usize, key: &Key) -> Vec<f32> {
        self.blocks(gates::COUNT, d_hidden, d_hidden, columns, key)
    }

    /// One matrix `[rows, columns]` row by row, of a cell of `d_hidden` units.
    pub(crate) fn matrix(
        self,
        d_hidden: usize,
        rows: usize,
        columns: usize,
        key: &Key,
    ) -> Vec<f32> {
        self.blocks(1, d_hidden, rows, columns, key)
    }

    /// `count` blocks `[rows, columns]` below each other.
    fn blocks(
        self,
        blocks: usize,
        d_hidden: usize,
        rows: usize,
        columns: usize,
        key: &Key,
    ) -> Vec<f32> {
        let mut rng = key.rng();
        let fans = (columns + rows) as f64;
        let count = blocks * rows * columns;
        match self {
            Self::Uniform => uniform(count, 1.0 / (d_hidden as f64).sqrt(), &mut rng),
            Self::XavierUniform => uniform(count, (6.0 / fans).sqrt(), &mut rng),
            Self::XavierUniformJoined => {
                let fans = (columns + blocks * rows) as f64;
                uniform(count, (6.0 / fans).sqrt(), &mut rng)
            }
            Self::XavierNormal => {
                let deviation = (2.0 / fans).sqrt();
                normal(count, &mut rng)
                    .map(|x| (x * deviation) as f32)
                    .collect()
            }
            Self::Orthogonal => (0..blocks)
                .flat_map(|_| orthogonal(rows, columns, &mut rng))
                .collect(),
            Self::OrthogonalJoined => orthogonal(blocks * rows, columns, &mut rng),
        }
    }
}

fn uniform(count: usize, bound: f64, rng: &mut impl rand::Rng) -> Vec<f32> {
    let distribution = Uniform::new_inclusive(-bound, bound).expect("bound is finite");
    (0..count)
        .map(|_| distribution.sample(rng) as f32)
        .collect()
}

fn normal(count: usize, rng: &mut impl rand::Rng) -> impl Iterator<Item = f64> {
    (0..count).map(move |_| Distribution::<f64>::sample(&StandardNormal, rng))
}

/// A `[rows, columns]` matrix with orthonormal rows, or columns if there are fewer of them:
/// Gram-Schmidt in f64, done twice over for the rounding, on normal vectors. (The result is
/// distributed uniformly: Gram-Schmidt's diagonal is positive.)
fn orthogonal(rows: usize, columns: usize, rng: &mut impl rand::Rng) -> Vec<f32> {
    let (count, width) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    while basis.len() < count {
        let mut vector: Vec<f64> = normal(width, rng).collect();
        for _ in 0..2 {
            for other in &basis {
                let along: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector
                    .iter_mut()
                    .zip(other)
                    .for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = vector.iter().map(|a| a * a).sum::<f64>().sqrt();
        // A draw that lies in the span already (probability 0, but for rounding) is drawn again.
        if norm > 1e-6 {
            vector.iter_mut().for_each(|a| *a /= norm);
            basis.push(vector);
        }
    }
    (0..rows * columns)
        .map(|i| {
            let (row, column) = (i / columns, i % columns);
            if rows <= columns {
                basis[row][column] as f32
            } else {
                basis[column][row] as f32
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_blocks_are_orthogonal() {
        for (d_hidden, columns) in [(11, 11), (11, 5), (5, 11)] {
            let blocks = Initializer::Orthogonal.gate_blocks(d_hidden, columns, &Key::new(3));
            for block in blocks.chunks(d_hidden * columns) {
                let at = |row: usize, column: usize| block[row * columns + column];
                let rows_are_fewer = d_hidden <= columns;
                let count = d_hidden.min(columns);
                for a in 0..count {
                    for b in 0..count {
                        let dot: f32 = if rows_are_fewer {
                            (0..columns).map(|k| at(a, k) * at(b, k)).sum()
                        } else {
                            (0..d_hidden).map(|k| at(k, a) * at(k, b)).sum()
                        };
                        let expected = if a == b { 1.0 } else { 0.0 };
                        assert!((dot - expected).abs() < 1e-5, "{a}·{b} = {dot}");
                    }
                }
            }
        }
    }

    #[test]
    fn scales_are_those_of_the_papers() {
        let (d_hidden, columns) = (64, 32);
        let deviation = |initializer: Initializer| {
            let values = initializer.gate_blocks(d_hidden, columns, &Key::new(1));
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let square = values.iter().map(|x| (x - mean).powi(2)).sum::<f32>();
            f64::from((square / values.len() as f32).sqrt())
        };
        let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.05, "{a} against {b}");
        // A uniform distribution in ±a has the standard deviation a/√3.
        close(deviation(Initializer::Uniform), 1.0 / 8.0 / 3f64.sqrt());
        close(deviation(Initializer::XavierUniform), (2.0 / 96f64).sqrt());
        close(deviation(Initializer::XavierNormal), (2.0 / 96f64).sqrt());
    }
}
