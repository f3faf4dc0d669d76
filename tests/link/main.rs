//! The links on real packets and a real terminal: network namespaces, veth pairs, a bridge with isolated ports, ptys.
//!
//! Needs root. Nothing here measures time: what has to come is waited for, up to ten seconds.
#![allow(clippy::disallowed_methods)] // tests start `ip` and wait for packets
#![allow(unsafe_code)] // an allocator that counts

mod ethernet;
mod lab;
mod reflected;
mod serial;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is the system's; the count is a plain number of the thread's own and allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often this thread allocates while it does `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATED.get();
    work();
    ALLOCATED.get() - before
}
