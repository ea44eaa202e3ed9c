//! Threads that work through phases together, with a barrier after each.
//!
//! A recurrence has a barrier at every time step. A barrier that counts on a fixed number of
//! threads deadlocks when rayon's workers are busy elsewhere, and waking threads at every step
//! costs more than a step. Here the caller starts helpers once and does not count on them: the
//! work of a phase is cut into chunks that threads claim, a helper that comes late finds what is
//! left, and with no helper the caller does everything. A thread only waits for chunks that a
//! running thread has claimed.
//!
//! Each member prefers the chunk of its own number, so that what the chunk reads in every phase
//! (its share of the weights) stays in that core's cache.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Before a waiting thread lets others run.
const SPINS: usize = 1 << 12;

/// Runs `work(phase, chunk)` for every chunk of every phase, a phase after all of the one before,
/// on up to `chunks` threads of rayon's current pool.
pub(crate) fn run(phases: usize, chunks: usize, work: impl Fn(usize, usize) + Sync) {
    let helpers = chunks.min(threads()) - 1;
    if helpers == 0 {
        for phase in 0..phases {
            (0..chunks).for_each(|chunk| work(phase, chunk));
        }
        return;
    }
    let crew = Crew {
        phases,
        chunks,
        claimed: (0..chunks).map(|_| Claims::default()).collect(),
        done: Line(AtomicUsize::new(0)),
        abandoned: AtomicBool::new(false),
        work,
    };
    rayon::in_place_scope(|scope| {
        for member in 1..=helpers {
            let crew = &crew;
            scope.spawn(move |_| crew.join(member));
        }
        crew.join(0);
    });
}

/// How many threads there can be.
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

struct Crew<W> {
    phases: usize,
    chunks: usize,
    /// For each chunk, the number of phases in which it has been claimed.
    claimed: Vec<Claims>,
    /// Chunks done, over all phases.
    done: Line,
    /// Set when a member panics: the others must not wait for it.
    abandoned: AtomicBool,
    work: W,
}

#[derive(Default)]
#[repr(align(64))]
struct Claims(AtomicUsize);

#[repr(align(64))]
struct Line(AtomicUsize);

impl<W: Fn(usize, usize) + Sync> Crew<W> {
    fn join(&self, member: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| self.take_part(member)));
        if let Err(panic) = result {
            self.abandoned.store(true, Ordering::Release);
            resume_unwind(panic);
        }
    }

    fn take_part(&self, member: usize) {
        let under_way = self.done.0.load(Ordering::Acquire) / self.chunks;
        for phase in under_way..self.phases {
            for number in 0..self.chunks {
                let chunk = (member + number) % self.chunks;
                if self.claim(phase, chunk) {
                    (self.work)(phase, chunk);
                    // Releases what was written to whoever sees the count.
                    self.done.0.fetch_add(1, Ordering::AcqRel);
                }
            }
            if !self.wait((phase + 1) * self.chunks) {
                return;
            }
        }
    }

    fn claim(&self, phase: usize, chunk: usize) -> bool {
        self.claimed[chunk]
            .0
            .compare_exchange(phase, phase + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Until so many chunks are done; false if they never will be.
    fn wait(&self, target: usize) -> bool {
        let mut spins = 0;
        while self.done.0.load(Ordering::Acquire) < target {
            if self.abandoned.load(Ordering::Acquire) {
                return false;
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        true
    }
}
