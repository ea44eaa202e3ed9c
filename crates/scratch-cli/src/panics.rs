//! Panics are bugs: one line of what happened, and where to report it.

use std::panic;
use std::sync::Mutex;

use crate::failure::{Failure, one_line};

/// From now on a panic prints nothing; what it said is kept. A training that panics ends with an
/// error of its own, and everything else with [`failure`].
pub fn keep_quiet() {
    panic::set_hook(Box::new(|panic| {
        let message = panic
            .payload_as_str()
            .unwrap_or("a panic without a message");
        let place = panic.location().map(|place| format!(" ({place})"));
        let text = format!("{}{}", one_line(message), place.unwrap_or_default());
        // One panic brings down other threads: the first says why.
        kept().get_or_insert(text);
    }));
}

/// What the user is told when the program itself panicked.
pub fn failure() -> Failure {
    let text = kept().take();
    Failure::running(
        format!(
            "a bug in scratch: {}",
            text.as_deref().unwrap_or("a panic without a message")
        ),
        format!(
            "please report it with the command line: {}/issues",
            env!("CARGO_PKG_REPOSITORY")
        ),
    )
}

fn kept() -> std::sync::MutexGuard<'static, Option<String>> {
    static KEPT: Mutex<Option<String>> = Mutex::new(None);
    KEPT.lock().unwrap_or_else(|poison| poison.into_inner())
}
