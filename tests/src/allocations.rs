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

use crate::backend::is_gpu;

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

/// What `run` returns; it may have `limit` bytes at once, beyond those that were there before. All
/// threads are counted, so that one measurement is made at a time, and so is a GPU's driver with
/// the kernels that it compiles: the limit is of backends on the processor.
pub fn within<T>(limit: usize, run: impl FnOnce() -> T) -> T {
    let before = PRESENT.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    let peak = PEAK.load(Relaxed).saturating_sub(before);
    assert!(
        is_gpu() || peak < limit,
        "{peak} bytes where {limit} are allowed"
    );
    result
}
