//! Threads that work through phases together, with a barrier after each.
//!
//! A recurrence has a barrier at every time step. A barrier that counts on a fixed number of
//! threads deadlocks when rayon's workers are busy elsewhere, and waking threads at every step
//! costs more than a step. Here the caller starts helpers once and does not count on them: the
//! work of a phase is cut into chunks that threads claim, a helper that comes late finds what is
//! left, and with no helper the caller does everything. A thread only waits for chunks that a
//! running thread has claimed, and a helper that has not begun when all is done never will: the
//! caller may hold a lock that all workers wait for.
//!
//! Each member prefers the chunk of its own number, so that what the chunk reads in every phase
//! (its share of the weights) stays in that core's cache.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
        panic: Mutex::new(None),
        work,
    };
    let door = Arc::new(Door::new(&crew));
    for member in 1..=helpers {
        let door = Arc::clone(&door);
        rayon::spawn(move || door.enter(member));
    }
    crew.join(0);
    // Nobody looks at the crew from here on.
    door.close();
    let panic = crew.panic.into_inner();
    if let Some(panic) = panic.unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
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
    /// The first panic, for the caller.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    work: W,
}

#[derive(Default)]
#[repr(align(64))]
struct Claims(AtomicUsize);

#[repr(align(64))]
struct Line(AtomicUsize);

impl<W: Fn(usize, usize) + Sync> Crew<W> {
    /// Takes part until all is done. Panics are kept for the caller.
    fn join(&self, member: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| self.take_part(member)));
        if let Err(panic) = result {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
            self.abandoned.store(true, Ordering::Release);
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
            pause(&mut spins);
        }
        true
    }
}

/// The way of helpers to a crew on the caller's stack, which may be gone when they come.
struct Door {
    crew: *const (),
    join: unsafe fn(*const (), usize),
    /// How many are inside, and [`CLOSED`].
    inside: AtomicUsize,
}

/// Nobody may enter any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

// SAFETY: the crew is shared among threads (`W: Sync`, and the rest are atomics and a lock), and is
// looked at only by those who are inside, for whom the caller waits before it lets go of it.
unsafe impl Send for Door {}
// SAFETY: as above.
unsafe impl Sync for Door {}

impl Door {
    fn new<W: Fn(usize, usize) + Sync>(crew: &Crew<W>) -> Self {
        /// # Safety
        ///
        /// `crew` must point to a crew with such work.
        unsafe fn join<W: Fn(usize, usize) + Sync>(crew: *const (), member: usize) {
            // SAFETY: the caller's.
            unsafe { &*crew.cast::<Crew<W>>() }.join(member);
        }
        Self {
            crew: std::ptr::from_ref(crew).cast(),
            join: join::<W>,
            inside: AtomicUsize::new(0),
        }
    }

    /// Joins the crew, if it is still there.
    fn enter(&self, member: usize) {
        let entered = self
            .inside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |inside| {
                (inside & CLOSED == 0).then_some(inside + 1)
            });
        if entered.is_ok() {
            // SAFETY: it was made of this crew, and `close` waits until `inside` is 0 again.
            // Joining does not unwind.
            unsafe { (self.join)(self.crew, member) };
            self.inside.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Lets nobody in any more and waits until nobody is inside.
    fn close(&self) {
        self.inside.fetch_or(CLOSED, Ordering::AcqRel);
        let mut spins = 0;
        while self.inside.load(Ordering::Acquire) != CLOSED {
            pause(&mut spins);
        }
    }
}

fn pause(spins: &mut usize) {
    *spins += 1;
    if *spins < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}
