//! What a call can bring besides its input.

use std::num::NonZeroUsize;

use crate::fused::PathChoice;
use crate::random::Key;
use crate::state::LstmState;
use crate::valid::Padding;

/// Options of [`ScratchLstm::forward_with`](crate::ScratchLstm::forward_with).
///
/// ```
/// use scratch_lstm::ForwardOptions;
///
/// // Three sequences of different lengths in a batch of three; the second starts anew.
/// let options = ForwardOptions::new()
///     .with_lengths(&[5, 7, 0][..])
///     .with_resets(&[false, true, false][..]);
/// assert!(options.state.is_none());
/// ```
#[derive(Debug, Clone, Default)]
pub struct ForwardOptions<'a> {
    /// The state before the first step, `[L*K, B, P]` and `[L*K, B, H]`; if absent zeros, or the
    /// learned one.
    pub state: Option<LstmState>,
    /// How many steps of each row are valid, in any order, 0 too; all of them if absent.
    ///
    /// Past its length a row's output is zero and its state stands still, so that the final state
    /// is that of its last valid step; the reverse direction starts there. Whatever the input
    /// holds past the length, NaN included, has no influence.
    pub lengths: Option<&'a [usize]>,
    /// Which end of a row shorter than the batch is filling.
    pub padding: Padding,
    /// Which steps of each row are valid, in the order of the input's first two axes; instead of
    /// `lengths`, for any pattern. What holds past a length holds at a step that is not valid.
    pub mask: Option<&'a [bool]>,
    /// Rows that start a new sequence, from the initial state, whatever `state` holds.
    pub resets: Option<&'a [bool]>,
    /// The stream of the dropout masks. With one, a call can be repeated exactly, on every
    /// backend; without one each call draws masks nobody can repeat.
    pub key: Option<&'a Key>,
    /// Which way this call takes, whatever the module's configuration says.
    pub path: Option<PathChoice>,
    /// Steps whose inputs the fused operation projects at once, and runs over again at once under
    /// gradient checkpointing; as many as suit if absent. Of influence on memory, time and
    /// rounding alone.
    pub segment: Option<NonZeroUsize>,
}

impl<'a> ForwardOptions<'a> {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`state`](Self::state).
    pub fn with_state(mut self, state: impl Into<Option<LstmState>>) -> Self {
        self.state = state.into();
        self
    }

    /// Sets [`lengths`](Self::lengths).
    pub fn with_lengths(mut self, lengths: impl Into<Option<&'a [usize]>>) -> Self {
        self.lengths = lengths.into();
        self
    }

    /// Sets [`padding`](Self::padding).
    pub fn with_padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// Sets [`mask`](Self::mask).
    pub fn with_mask(mut self, mask: impl Into<Option<&'a [bool]>>) -> Self {
        self.mask = mask.into();
        self
    }

    /// Sets [`resets`](Self::resets).
    pub fn with_resets(mut self, resets: impl Into<Option<&'a [bool]>>) -> Self {
        self.resets = resets.into();
        self
    }

    /// Sets [`key`](Self::key).
    pub fn with_key(mut self, key: impl Into<Option<&'a Key>>) -> Self {
        self.key = key.into();
        self
    }

    /// Sets [`path`](Self::path).
    pub fn with_path(mut self, path: impl Into<Option<PathChoice>>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets [`segment`](Self::segment).
    pub fn with_segment(mut self, segment: impl Into<Option<NonZeroUsize>>) -> Self {
        self.segment = segment.into();
        self
    }
}
