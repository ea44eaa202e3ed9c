//! Panics while burn's dashboard has the terminal.

use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The panic hook of the program while a dashboard is open.
///
/// burn's own hook gives the terminal back and calls the one that was there before, but the thread
/// that draws goes on and would paint over the message; and when the dashboard is killed, burn's
/// hook stays and keeps silent about every later panic.
pub(super) struct Hook(Arc<Inner>);

type Inner = dyn Fn(&PanicHookInfo<'_>) + Sync + Send;

impl Hook {
    /// Keeps the hook that is there, and lets it speak only after `screen` is gone. To be called
    /// before burn puts its own in front.
    pub fn keep<S: Send + 'static>(screen: Arc<Mutex<Option<S>>>) -> Self {
        let hook: Arc<Inner> = take_hook().into();
        let kept = hook.clone();
        set_hook(Box::new(move |panic| {
            // Held where the panic is the dashboard's own.
            if let Some(screen) = screen.try_lock().ok().and_then(|mut screen| screen.take()) {
                // The thread that draws ends when nobody can tell it anything any more. It cannot
                // be waited for: it waits for this hook.
                drop(screen);
                thread::sleep(GRACE);
            }
            kept(panic);
        }));
        Self(hook)
    }

    /// Puts it back, whatever has come in its place.
    pub fn restore(self) {
        set_hook(Box::new(move |panic| (self.0)(panic)));
    }
}

/// The dashboard draws ten times a second.
const GRACE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic of any other test meanwhile only does the same.
    #[test]
    fn a_panic_closes_the_screen_before_it_speaks() {
        let screen = Arc::new(Mutex::new(Some("open")));
        let hook = Hook::keep(screen.clone());
        let seen = screen.clone();
        let _ = thread::spawn(|| panic!("a panic that is meant")).join();
        assert_eq!(*seen.lock().unwrap(), None);
        hook.restore();
        // Once put back, the hook has nothing to do with the screen any more.
        seen.lock().unwrap().replace("open");
        let _ = thread::spawn(|| panic!("another panic that is meant")).join();
        assert_eq!(*seen.lock().unwrap(), Some("open"));
    }
}
