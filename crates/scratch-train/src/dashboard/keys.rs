//! Ctrl-C while the dashboard has the terminal.

/// Lets Ctrl-C interrupt the program as it does elsewhere. A terminal in raw mode, as the
/// dashboard needs it, hands that key on like any other, and burn's dashboard does not know it.
/// Suspending and quitting on the spot stay off: they would leave the terminal as it is.
#[cfg(unix)]
pub(super) fn let_interrupts_through() {
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

    let stdin = std::io::stdin();
    let Ok(mut modes) = tcgetattr(&stdin) else {
        return;
    };
    let raw = !modes.local_modes.contains(LocalModes::ICANON);
    if !raw || modes.local_modes.contains(LocalModes::ISIG) {
        return;
    }
    modes.local_modes.insert(LocalModes::ISIG);
    modes.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
    modes.special_codes[SpecialCodeIndex::VQUIT] = DISABLED;
    // Without it the run can still be quit from the dashboard.
    let _ = tcsetattr(&stdin, OptionalActions::Now, &modes);
}

/// Elsewhere that key is not taken away.
#[cfg(not(unix))]
pub(super) fn let_interrupts_through() {}

/// `_POSIX_VDISABLE`.
#[cfg(all(unix, any(target_os = "linux", target_os = "android")))]
const DISABLED: u8 = 0;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const DISABLED: u8 = 0xff;
