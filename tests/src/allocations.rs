//! An allocator that counts what is there: how much memory a call needs at most.
//!
//! A test file that measures makes it its own:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: scratch_tests::allocations::Counting = scratch_tests::allocations::Counting;
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, watching for the most that is there at once.
pub struct Counting;

static PRESENT: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let present = PRESENT.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(present, Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        PRESENT.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// What `run` returns, and the bytes that were there at most meanwhile, beyond those before it: of
/// all threads, so that one measurement is made at a time.
pub fn peak_of<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = PRESENT.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    (result, PEAK.load(Relaxed).saturating_sub(before))
}
