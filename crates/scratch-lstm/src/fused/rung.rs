//! The two ways in which kernels for GPUs walk over a sequence.

use std::fmt;
#[cfg(feature = "cube")]
use std::sync::OnceLock;

/// How the kernels for GPUs walk over the steps of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rung {
    /// At each step burn's matrix product and one kernel, two of both with a projection: any size
    /// and any cell.
    Stepwise,
    /// One launch for many steps, each work-group on rows of its own: where the weights are read
    /// again at each step faster than two kernels are launched. Without layer normalization and
    /// projection.
    Persistent,
}

/// A rung asked for that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RungError {
    /// There is none of this name.
    Unknown {
        /// What was asked for.
        found: String,
    },
    /// The persistent rung was asked for, and has no such cell.
    Cell {
        /// What the cell has.
        found: &'static str,
    },
    /// The gradients of a row's gates do not fit the memory of a work-group.
    TooLarge {
        /// Units of the layer.
        d_hidden: usize,
        /// The most that the device has room for.
        largest: usize,
    },
}

/// The environment variable that fixes the rung.
const VARIABLE: &str = "SCRATCH_LSTM_GPU_RUNG";

impl Rung {
    const ALL: [Self; 2] = [Self::Stepwise, Self::Persistent];

    /// That which the environment variable `SCRATCH_LSTM_GPU_RUNG` names (`stepwise` or
    /// `persistent`; read once), if it is set.
    #[cfg(feature = "cube")]
    pub(super) fn asked() -> Result<Option<Self>, RungError> {
        static ASKED: OnceLock<Result<Option<Rung>, RungError>> = OnceLock::new();
        let asked = ASKED.get_or_init(|| {
            let name = std::env::var_os(VARIABLE);
            name.map(|name| Self::named(&name.to_string_lossy()))
                .transpose()
        });
        asked.clone()
    }

    #[cfg(any(feature = "cube", test))]
    fn named(name: &str) -> Result<Self, RungError> {
        let mut all = Self::ALL.into_iter();
        all.find(|rung| rung.to_string() == name)
            .ok_or_else(|| RungError::Unknown { found: name.into() })
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stepwise => "stepwise",
            Self::Persistent => "persistent",
        })
    }
}

impl fmt::Display for RungError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { found } => {
                let names = Rung::ALL.map(|rung| rung.to_string()).join(" or ");
                write!(f, "{VARIABLE}: expected {names}, found `{found}`")
            }
            Self::Cell { found } => write!(
                f,
                "{VARIABLE}: `persistent` has no {found}; expected `stepwise`, or nothing"
            ),
            Self::TooLarge { d_hidden, largest } => write!(
                f,
                "{VARIABLE}: `persistent` has room for at most {largest} units on this device, \
                 found {d_hidden}"
            ),
        }
    }
}

impl std::error::Error for RungError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_go_by_name() {
        assert_eq!(Rung::named("stepwise"), Ok(Rung::Stepwise));
        assert_eq!(Rung::named("persistent"), Ok(Rung::Persistent));
        let error = Rung::named("Persistent").unwrap_err();
        assert_eq!(
            error.to_string(),
            "SCRATCH_LSTM_GPU_RUNG: expected stepwise or persistent, found `Persistent`"
        );
    }
}
