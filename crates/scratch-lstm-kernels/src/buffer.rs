//! Memory whose vectors do not straddle cache lines, and pointers that threads share.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use crate::real::Real;

/// Numbers from a cache line's beginning on; what they are is undefined until they are written.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    /// Holds capacity and no elements: the kernels write and read through pointers.
    lines: Vec<Line>,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Real> Buffer<T> {
    /// Room for `len` numbers.
    pub(crate) fn new(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>()).expect("memory to address");
        Self {
            lines: Pool::take(bytes.div_ceil(size_of::<Line>())),
            len,
            numbers: PhantomData,
        }
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        // SAFETY: there is room for `len` numbers, and zero bits are the number 0.
        unsafe { buffer.pointer().get().write_bytes(0, len) };
        buffer
    }

    /// Where the numbers begin. Writing needs the only reference to the buffer or an agreement
    /// among threads who writes where.
    pub(crate) fn pointer(&mut self) -> Pointer<T> {
        Pointer(self.lines.as_mut_ptr().cast())
    }

    /// Where the numbers begin, for reading.
    pub(crate) fn source(&self) -> *const T {
        self.lines.as_ptr().cast()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<T: Real> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.len);
        // SAFETY: both have room for `len` numbers; those that are undefined stay so.
        unsafe { std::ptr::copy_nonoverlapping(self.source(), clone.pointer().get(), self.len) };
        clone
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        Pool::give(std::mem::take(&mut self.lines));
    }
}

/// A cache line, as long as the widest vector.
#[derive(Debug)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; 64],
}

/// Memory to be used again.
///
/// A training step needs the same buffers as the one before it. Given back to the system, large
/// ones come back as pages that have to be cleared and mapped anew, which takes a fifth of the
/// time of some sizes' steps.
struct Pool {
    free: Vec<Vec<Line>>,
    lines: usize,
}

/// At most 256 MiB wait to be used again.
const POOL_LINES: usize = (256 << 20) / size_of::<Line>();

/// Smaller buffers, of less than 64 KiB, are the allocator's business.
const SMALL_LINES: usize = (64 << 10) / size_of::<Line>();

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    lines: 0,
});

/// Gives the memory that the kernels keep to be used again, at most 256 MiB, back to the
/// system.
///
/// The next call takes what it needs anew, and a little longer.
pub fn release_memory() {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.lines = 0;
    let free = std::mem::take(&mut pool.free);
    drop(pool);
    drop(free);
}

impl Pool {
    fn take(lines: usize) -> Vec<Line> {
        if lines >= SMALL_LINES {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = pool.free.iter().enumerate().filter(|(_, free)| {
                // Not much larger: that would hold memory which nobody uses.
                (lines..=lines + lines / 4).contains(&free.capacity())
            });
            let best = fitting.min_by_key(|(_, free)| free.capacity());
            if let Some((index, _)) = best {
                let found = pool.free.remove(index);
                pool.lines -= found.capacity();
                return found;
            }
        }
        Vec::with_capacity(lines)
    }

    fn give(lines: Vec<Line>) {
        let count = lines.capacity();
        if !(SMALL_LINES..=POOL_LINES).contains(&count) {
            return;
        }
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        pool.lines += count;
        pool.free.push(lines);
        let mut surplus = Vec::new();
        while pool.lines > POOL_LINES {
            // The one that has waited longest.
            let oldest = pool.free.remove(0);
            pool.lines -= oldest.capacity();
            surplus.push(oldest);
        }
        drop(pool);
        drop(surplus);
    }
}

/// A pointer that threads may share: each writes to places of its own, or between barriers.
#[derive(Debug)]
pub(crate) struct Pointer<T>(*mut T);

impl<T> Pointer<T> {
    /// The beginning of `slice`.
    pub(crate) fn of(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// The beginning of what is only read.
    pub(crate) fn reading(source: *const T) -> Self {
        Self(source.cast_mut())
    }

    #[inline(always)]
    pub(crate) fn get(self) -> *mut T {
        self.0
    }

    /// `count` numbers further.
    ///
    /// # Safety
    ///
    /// The place must lie within the same allocation.
    #[inline(always)]
    pub(crate) unsafe fn add(self, count: usize) -> Self {
        Self(unsafe { self.0.add(count) })
    }
}

impl<T> Clone for Pointer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Pointer<T> {}

// SAFETY: it is a number to others until it is dereferenced, which is unsafe by itself and where
// the agreement about who touches what is stated.
unsafe impl<T: Send> Send for Pointer<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Pointer<T> {}
