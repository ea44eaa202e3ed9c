//! Plots of a run, as SVG, and a page about one run or several.

mod canvas;
mod compare;
mod confusion;
mod curves;
mod files;
mod forecast;
mod loss;
mod page;
mod points;
mod range_test;
mod record;
mod samples;
mod table;
mod ticks;

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::disk::write_atomically;

pub use confusion::ConfusionPlot;
pub use forecast::ForecastPlot;
pub use loss::{LossPlot, LossPoint};
pub use page::{MOST_RUNS, page};
pub use range_test::RangePlot;
pub use samples::{SAMPLES, Samples, TextSample};

/// A plot that could not be drawn or written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// There is nothing to draw.
    #[error("{plot}: expected {expected}, found none")]
    Nothing {
        /// Which plot.
        plot: &'static str,
        /// What it is a plot of.
        expected: &'static str,
    },
    /// The drawing failed.
    #[error("a plot could not be drawn: {reason}")]
    Drawing {
        /// What the drawing library said.
        reason: String,
    },
    /// No run, or more than can be told apart.
    #[error("a report is of 1 to {most} runs, found {found}")]
    Runs {
        /// So many at most.
        most: usize,
        /// So many were given.
        found: usize,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Writes a plot, over what was there.
///
/// # Errors
///
/// If the file cannot be written.
pub fn save(path: impl AsRef<Path>, svg: &str) -> Result<(), ReportError> {
    let path = path.as_ref();
    write_atomically(path, svg.as_bytes()).map_err(|source| ReportError::Io {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = save(folder.path().join("no/plot.svg"), "<svg/>").unwrap_err();
        assert!(error.to_string().contains("plot.svg"));
    }
}
