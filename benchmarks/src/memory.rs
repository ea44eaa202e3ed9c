//! How much memory this process has needed.

use std::fs;

use scratch_train::Backend;
use thiserror::Error;

/// Why memory cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// Another system than Linux.
    #[error("the peak of a process is read from /proc/self/status, which only Linux has")]
    System,
    /// A peer whose tensors lie elsewhere.
    #[error(
        "only what lies in the process's own memory can be measured: \
         expected a --peer on the CPU, found {peer}"
    )]
    Peer {
        /// The peer.
        peer: &'static str,
    },
    /// A backend whose tensors lie elsewhere.
    #[error(
        "only what lies in the process's own memory can be measured: \
         expected --backend flex or ndarray, found {backend}"
    )]
    Device {
        /// The backend.
        backend: Backend,
    },
}

/// Whether the memory of tensors on `backend` can be measured here.
///
/// # Errors
///
/// If not.
pub fn check(backend: Backend) -> Result<(), MemoryError> {
    match backend {
        Backend::Flex | Backend::NdArray => peak().map(drop).ok_or(MemoryError::System),
        Backend::Cuda | Backend::Vulkan | Backend::Wgpu => Err(MemoryError::Device { backend }),
    }
}

/// Resident now, in bytes; `None` where the system does not say (outside of Linux).
pub fn resident() -> Option<u64> {
    status("VmRSS")
}

/// The most that was ever resident, in bytes, or resident since [`forget_peak`].
pub fn peak() -> Option<u64> {
    status("VmHWM")
}

/// Lets the peak begin anew at what is resident now. Where the system refuses (it needs a kernel
/// that was built with this and a `/proc` that may be written to), the peak stays, and what is
/// needed beyond it is all that a later [`peak`] tells.
pub fn forget_peak() {
    // A refusal is no fault: see above.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn status(name: &str) -> Option<u64> {
    in_bytes(&fs::read_to_string("/proc/self/status").ok()?, name)
}

fn in_bytes(status: &str, name: &str) -> Option<u64> {
    let (_, value) = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Tests share a process: whoever forgets its peak or relies on it holds this.
#[cfg(test)]
pub static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_in_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\nThreads:\t2\n";
        assert_eq!(in_bytes(status, "VmHWM"), Some(2 << 20));
        assert_eq!(in_bytes(status, "VmRSS"), Some(1 << 20));
        assert_eq!(in_bytes(status, "Threads"), None);
        assert_eq!(in_bytes(status, "VmSwap"), None);
    }

    #[test]
    fn a_gpu_has_memory_of_its_own() {
        let error = check(Backend::Vulkan).unwrap_err();
        assert!(error.to_string().contains("found vulkan"), "{error}");
        let on_host = check(Backend::Flex);
        assert_eq!(on_host.is_ok(), cfg!(target_os = "linux"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_keeps_what_was_given_back() {
        let _alone = ALONE.lock();
        let before = resident().unwrap();
        let block = std::hint::black_box(vec![1u8; 256 << 20]);
        drop(block);
        // Half of it: the system counts pages in batches, and other tests run beside this one.
        assert!(peak().unwrap() >= before + (128 << 20));
    }
}
