//! The allocator of the relay, and it counts: how often this thread asked for memory, and for how
//! much.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use mimalloc::MiMalloc;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static OCTETS: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    // A thread that ends has nothing left to count with.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

fn octets(more: usize, less: usize) {
    let _ = OCTETS.try_with(|octets| octets.set(octets.get() + more as i64 - less as i64));
}

// SAFETY: everything is handed on to mimalloc as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        octets(layout.size(), 0);
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        octets(0, layout.size());
        unsafe { MiMalloc.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        octets(size, layout.size());
        unsafe { MiMalloc.realloc(place, layout, size) }
    }
}

/// How often memory was asked for meanwhile.
#[allow(dead_code)]
pub fn allocations<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.get();
    let made = act();
    (made, COUNT.get() - before)
}

/// How many octets are held that were not held before.
#[allow(dead_code)]
pub fn held<T>(act: impl FnOnce() -> T) -> (T, i64) {
    let before = OCTETS.get();
    let made = act();
    (made, OCTETS.get() - before)
}
