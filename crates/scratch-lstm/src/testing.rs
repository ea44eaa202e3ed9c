//! The device of this crate's own tests.

use burn::tensor::Device;

/// A CPU device that is built in.
pub(crate) fn device() -> Device {
    #[cfg(feature = "flex")]
    return Device::flex();
    #[cfg(not(feature = "flex"))]
    return Device::default();
}
