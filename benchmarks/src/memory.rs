//! How much memory this process has needed.

use std::fs;

/// Resident now, in bytes; `None` where the system does not say (outside of Linux).
pub fn resident() -> Option<u64> {
    status("VmRSS")
}

/// The most that was ever resident, in bytes. It never falls.
pub fn peak() -> Option<u64> {
    status("VmHWM")
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

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_keeps_what_was_given_back() {
        let before = resident().unwrap();
        let block = std::hint::black_box(vec![1u8; 256 << 20]);
        drop(block);
        // Half of it: the system counts pages in batches, and other tests run beside this one.
        assert!(peak().unwrap() >= before + (128 << 20));
    }
}
