//! Data that a function makes.

use burn::tensor::Device;

use super::{SequenceData, Window};

/// Windows made by a function of epoch and index, which must give the same window whenever it is
/// asked for the same: random numbers come from a [`Key`](scratch_lstm::Key) with these two as
/// children.
pub struct Generated<F> {
    windows: usize,
    make: F,
}

impl<F> Generated<F> {
    /// So many windows an epoch, each by `make(epoch, index, device)`.
    pub fn new<B>(windows: usize, make: F) -> Self
    where
        F: Fn(usize, usize, &Device) -> Window<B>,
    {
        Self { windows, make }
    }
}

impl<B, F: Fn(usize, usize, &Device) -> Window<B>> SequenceData for Generated<F> {
    type Batch = B;

    fn windows(&self) -> usize {
        self.windows
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<B> {
        assert!(index < self.windows, "window {index} of {}", self.windows);
        (self.make)(epoch, index, device)
    }
}
