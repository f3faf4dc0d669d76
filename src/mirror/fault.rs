//! Dying on purpose, for tests: every step that changes what is on disk counts, and at the chosen one the process ends
//! as it would when killed. Chosen by an argument of the hidden subcommand; nothing else sets it.

use std::sync::atomic::{AtomicU64, Ordering};

static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);
static DONE: AtomicU64 = AtomicU64::new(0);

/// Dies at the step with this number, counted from 1.
pub fn arm(step: u64) {
    LEFT.store(step, Ordering::Relaxed);
}

/// A step is about to be taken.
pub fn step() {
    if DONE.fetch_add(1, Ordering::Relaxed) + 1 == LEFT.load(Ordering::Relaxed) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}
