//! Panics are bugs: one line of what happened, and where to report it.

use std::io::Write;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::one_line;

/// Replaces the message and backtrace of panics.
pub fn print_one_line() {
    panic::set_hook(Box::new(|panic| {
        // One panic brings down other threads.
        static PRINTED: AtomicBool = AtomicBool::new(false);
        if PRINTED.swap(true, Ordering::Relaxed) {
            return;
        }
        let message = panic
            .payload_as_str()
            .unwrap_or("a panic without a message");
        let place = panic.location().map(|place| format!(" ({place})"));
        let mut stderr = std::io::stderr();
        let _ = writeln!(
            stderr,
            "error: a bug in scratch: {}{}",
            one_line(message),
            place.unwrap_or_default()
        );
        let _ = writeln!(
            stderr,
            "help: please report it with the command line: {}/issues",
            env!("CARGO_PKG_REPOSITORY")
        );
    }));
}
