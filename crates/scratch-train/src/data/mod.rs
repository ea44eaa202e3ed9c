//! Data: where sequences come from and how they are cut into windows.
//!
//! Reading and checking happen once, on the host, in `f64`; a batch becomes `f32` or integer
//! tensors when its window is asked for. Axes: `B` batch, `T` time steps of a window, `C` columns
//! of a series, `K` horizon.

mod corpus;
pub mod embedded;
mod error;
mod file;
mod fingerprint;
mod forecast;
mod forecasts;
mod generated;
mod labelled;
mod labelled_windows;
mod order;
mod scaler;
mod series;
mod split;
mod table;
mod text;
mod vocabulary;

use burn::tensor::Device;

pub use corpus::Corpus;
pub use error::DataError;
pub use forecast::{ForecastBatch, SeriesWindows, WindowConfig};
pub use forecasts::Forecasts;
pub use generated::Generated;
pub use labelled::{Example, LabelledData, LabelledSplit};
pub use labelled_windows::{LabelledBatch, LabelledConfig, LabelledWindows};
pub use scaler::Scaler;
pub use series::{Columns, Series};
pub use split::{Split, SplitConfig};
pub use text::{TextBatch, TextStreams};
pub use vocabulary::{Units, Vocabulary};

/// One window of every sequence of a batch.
#[derive(Debug, Clone)]
pub struct Window<B> {
    /// What the model reads.
    pub batch: B,
    /// What must be carried into it.
    pub start: Start,
}

/// What the carried state must be at a window's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Every row begins a new sequence: no state.
    Fresh,
    /// Row `i` continues row `i` of the window before.
    Continue,
    /// Rows marked `true` begin a new sequence, the others continue theirs.
    Rows(Vec<bool>),
}

/// Data that can be asked for any window of any epoch.
///
/// A window is a pure function of epoch and index, so that a run can be resumed anywhere.
pub trait SequenceData {
    /// One window of a batch of sequences, targets included.
    type Batch;

    /// How many windows an epoch has, the same in each.
    fn windows(&self) -> usize;

    /// SHA-256 of everything the windows are made from. A run goes on only with data of the same;
    /// without one it cannot tell.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    /// The window `index` of an epoch.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`windows`](Self::windows).
    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<Self::Batch>;
}
