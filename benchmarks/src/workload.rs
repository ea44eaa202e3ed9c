//! What is timed: a size and a mode.
//!
//! Axes: `B` batch, `T` time, `D` d_input, `H` d_hidden. One layer, one direction, with bias.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The sizes of one LSTM and its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// `B`, sequences in the batch.
    pub b: usize,
    /// `T`, steps.
    pub t: usize,
    /// `D`, width of the input.
    pub d: usize,
    /// `H`, width of the state.
    pub h: usize,
}

/// What one iteration does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The forward pass, nothing tracked
    Forward,
    /// Forward, the mean of the output's squares, and the weights' gradients
    Train,
}

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SizeError {
    /// Not four numbers.
    #[error("expected four whole numbers B,T,D,H such as 32,64,128,256")]
    Numbers,
    /// An axis without entries.
    #[error("expected {axis} of at least 1, found 0")]
    Zero {
        /// The axis.
        axis: char,
    },
    /// More than any machine should be asked for.
    #[error("expected at most {MAX_ELEMENTS} numbers in {what}, found more")]
    Huge {
        /// Which tensor.
        what: &'static str,
    },
}

/// A tensor with more elements is taken for a mistake (8 GiB in f32).
const MAX_ELEMENTS: usize = 1 << 31;

impl Size {
    /// Measured when nothing else is asked for: medium, large, narrow and long, one sequence,
    /// two word-level language models, small.
    pub const STANDARD: [Size; 7] = [
        Size::new(32, 64, 128, 256),
        Size::new(64, 128, 256, 512),
        Size::new(16, 100, 64, 128),
        Size::new(1, 256, 128, 256),
        Size::new(32, 35, 200, 200),
        Size::new(20, 35, 650, 650),
        Size::new(8, 32, 32, 32),
    ];

    /// That for which others have published times.
    pub const PUBLISHED: Size = Size::new(16, 1024, 768, 768);

    /// A size that nobody typed.
    pub const fn new(b: usize, t: usize, d: usize, h: usize) -> Self {
        Self { b, t, d, h }
    }

    /// The operations that nobody can do without: the products with the weights, without what is
    /// element by element. Each has a factor `B · T · 4H` and a width:
    ///
    /// | product | width |
    /// |---|---|
    /// | forward, of input and hidden state | `D + H` |
    /// | gradients of `weight_ih` and `weight_hh` | `D + H` |
    /// | gradient of the hidden state | `H` |
    ///
    /// The input is not tracked and has no gradient. What an implementation computes twice does
    /// not count.
    pub fn flops(self, mode: Mode) -> f64 {
        let [b, t, d, h] = self.axes().map(|(_, size)| size as f64);
        let width = match mode {
            Mode::Forward => d + h,
            Mode::Train => 2.0 * d + 3.0 * h,
        };
        2.0 * b * t * 4.0 * h * width
    }

    fn axes(self) -> [(char, usize); 4] {
        [('B', self.b), ('T', self.t), ('D', self.d), ('H', self.h)]
    }

    fn check(self) -> Result<Self, SizeError> {
        if let Some((axis, _)) = self.axes().into_iter().find(|(_, size)| *size == 0) {
            return Err(SizeError::Zero { axis });
        }
        let Self { b, t, d, h } = self;
        let weights = d.checked_add(h).map_or([usize::MAX; 3], |sum| [4, h, sum]);
        for (what, axes) in [
            ("the weights 4H·(D+H)", &weights[..]),
            ("the input B·T·D", &[b, t, d]),
            ("the gates B·T·4H", &[b, t, 4, h]),
        ] {
            let count = axes.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
            if count.is_none_or(|count| count > MAX_ELEMENTS) {
                return Err(SizeError::Huge { what });
            }
        }
        Ok(self)
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Vec<usize> = text
            .split(',')
            .map(|number| number.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(|_| SizeError::Numbers)?;
        let [b, t, d, h] = numbers[..] else {
            return Err(SizeError::Numbers);
        };
        Self::new(b, t, d, h).check()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { b, t, d, h } = self;
        write!(f, "{b},{t},{d},{h}")
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::Train => "train",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_four_positive_numbers() {
        assert_eq!("3,7,5,11".parse(), Ok(Size::new(3, 7, 5, 11)));
        assert_eq!("3, 7, 5, 11".parse(), Ok(Size::new(3, 7, 5, 11)));
        for text in [
            "",
            "3,7,5",
            "3,7,5,11,13",
            "3,7,5,x",
            "3,7,5,-1",
            "3,7,5,1.5",
        ] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::Numbers), "{text}");
        }
        assert_eq!(
            "3,0,5,11".parse::<Size>(),
            Err(SizeError::Zero { axis: 'T' })
        );
    }

    #[test]
    fn absurd_sizes_are_refused_before_they_are_allocated() {
        let huge = |text: &str| match text.parse::<Size>() {
            Err(SizeError::Huge { what }) => what,
            other => panic!("{text}: {other:?}"),
        };
        assert!(huge("1,1,1,100000").contains("weights"));
        assert!(huge(&format!("1,1,{0},{0}", usize::MAX)).contains("weights"));
        assert!(huge("1000000,1000000,1,1").contains("input"));
        assert!(huge("10000,10000,1,10").contains("gates"));
        for size in Size::STANDARD.into_iter().chain([Size::PUBLISHED]) {
            assert_eq!(size.check(), Ok(size));
        }
    }

    #[test]
    fn operations_of_a_step() {
        // One row, one step: [4H, D] and [4H, H] times a vector, a product and a sum each.
        let size = Size::new(1, 1, 5, 11);
        assert_eq!(size.flops(Mode::Forward), 2.0 * (44.0 * 5.0 + 44.0 * 11.0));
        // The same once more for the weights, and [H, 4H] times a vector.
        let backward = 2.0 * (44.0 * 5.0 + 44.0 * 11.0) + 2.0 * 11.0 * 44.0;
        assert_eq!(
            size.flops(Mode::Train),
            size.flops(Mode::Forward) + backward
        );
    }
}
