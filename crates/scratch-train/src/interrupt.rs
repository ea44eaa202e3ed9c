//! Asking a run to end: Ctrl-C, SIGTERM, or another thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Asks a run to end after the window under way: it writes a checkpoint and can go on from there.
/// Clones ask the same run.
#[derive(Debug, Clone)]
pub struct Interrupt {
    /// The signal, 0 for none.
    signal: Arc<AtomicUsize>,
    /// Whether the next signal ends the process at once: before and after the training, and when
    /// it is not the first.
    at_once: Arc<AtomicBool>,
}

impl Interrupt {
    /// One that only [`request`](Self::request) raises.
    pub fn new() -> Self {
        Self {
            signal: Arc::default(),
            at_once: Arc::new(AtomicBool::new(true)),
        }
    }

    /// The one that Ctrl-C (SIGINT) and SIGTERM raise while a model is trained; the same for the
    /// whole process. A second signal, and one before or after the training, ends the process at
    /// once with the exit code 128 + signal; checkpoints are whole at any instant.
    ///
    /// # Errors
    ///
    /// If the system does not let the process handle signals.
    pub fn on_signals() -> std::io::Result<Self> {
        // Handlers cannot be taken back so that the default action returns: they are there once.
        static OF_PROCESS: Mutex<Option<Interrupt>> = Mutex::new(None);
        let mut of_process = OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interrupt) = &*of_process {
            return Ok(interrupt.clone());
        }
        let interrupt = Self::new();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal does not find its own mark.
            let at_once = || interrupt.at_once.clone();
            flag::register_conditional_shutdown(signal, 128 + signal, at_once())?;
            flag::register_usize(signal, interrupt.signal.clone(), signal as usize)?;
            flag::register(signal, at_once())?;
        }
        *of_process = Some(interrupt.clone());
        Ok(interrupt)
    }

    /// Asks the run to end, as the signal of that number would.
    pub fn request(&self, signal: i32) {
        self.signal
            .store(signal.unsigned_abs() as usize, Ordering::SeqCst);
    }

    /// The signal that asked for it.
    pub fn requested(&self) -> Option<i32> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }

    /// From now on, until what is returned is dropped, the first signal is left to the run.
    pub(crate) fn listen(&self) -> Listening {
        self.at_once.store(false, Ordering::SeqCst);
        Listening(self.clone())
    }
}

impl Default for Interrupt {
    fn default() -> Self {
        Self::new()
    }
}

/// While this lives, the first signal does not end the process. What was asked for is forgotten
/// afterwards: the next run has not been asked.
pub(crate) struct Listening(Interrupt);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.at_once.store(true, Ordering::SeqCst);
        self.0.signal.store(0, Ordering::SeqCst);
    }
}
