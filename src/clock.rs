//! Reading the clock: the one place that asks the kernel for the time.
//!
//! Only the loop and the drivers may call this; whatever decides gets the time as an argument.
use nix::time::{ClockId, clock_gettime};

use crate::time::Instant;

/// Nanoseconds since boot, suspended time included (CLOCK_BOOTTIME, clock_gettime(2)).
#[must_use]
pub fn now() -> Instant {
    // EINVAL is the only error left, and means a kernel before 2.6.39.
    let ts = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a kernel with CLOCK_BOOTTIME");
    let seconds = u64::try_from(ts.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(ts.tv_nsec()).unwrap_or(0);
    Instant::from_nanos(seconds * 1_000_000_000 + nanos)
}
