//! An allocator that counts, for programs that show how much memory something takes: fuzzers and tests.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The system's allocator, counted. To be made `#[global_allocator]` by the program.
#[derive(Debug)]
pub struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Bytes beyond those in use at its beginning that `work` had in use at most, on all threads together.
pub fn peak(work: impl FnOnce()) -> u64 {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed).saturating_sub(before) as u64
}

/// Ends the process with a message, as a fuzzer finds it, once `work` takes more than `bytes`.
pub fn within(bytes: u64, work: impl FnOnce()) {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    LIMIT.store(NOW.load(Relaxed).saturating_add(bytes), Relaxed);
    work();
    LIMIT.store(usize::MAX, Relaxed);
}

fn took(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
    if now > LIMIT.load(Relaxed) {
        LIMIT.store(usize::MAX, Relaxed);
        eprintln!("an allocation of {bytes} bytes exceeds the limit: {now} bytes are in use");
        std::process::abort();
    }
}

// SAFETY: every call is handed to the system's allocator as it came; the counters are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let place = unsafe { System.alloc(layout) };
        if !place.is_null() {
            took(layout.size());
        }
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let place = unsafe { System.alloc_zeroed(layout) };
        if !place.is_null() {
            took(layout.size());
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let moved = unsafe { System.realloc(place, layout, size) };
        if !moved.is_null() {
            // Both may be in use for a moment.
            took(size);
            NOW.fetch_sub(layout.size(), Relaxed);
        }
        moved
    }
}
