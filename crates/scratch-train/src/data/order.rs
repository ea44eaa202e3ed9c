//! The order of the data in an epoch.

use std::fmt;
use std::sync::{Arc, Mutex};

/// Remembers what was last worked out for an epoch, so that not every window works it out again.
///
/// Only a memory: the order is a pure function of the epoch.
pub(crate) struct EpochOrder<T>(Mutex<Option<(usize, Arc<T>)>>);

impl<T> EpochOrder<T> {
    pub fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The order of `epoch`, by `build` if it is not the one remembered.
    pub fn get(&self, epoch: usize, build: impl FnOnce() -> T) -> Arc<T> {
        // A panic in `build` leaves the memory as it was: poison does not matter.
        let mut memory = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        match &*memory {
            Some((remembered, order)) if *remembered == epoch => order.clone(),
            _ => {
                let order = Arc::new(build());
                *memory = Some((epoch, order.clone()));
                order
            }
        }
    }
}

impl<T> fmt::Debug for EpochOrder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochOrder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_worked_out_once() {
        let order = EpochOrder::new();
        assert_eq!(*order.get(3, || 30), 30);
        assert_eq!(*order.get(3, || unreachable!()), 30);
        assert_eq!(*order.get(4, || 40), 40);
        assert_eq!(*order.get(3, || 31), 31);
    }
}
