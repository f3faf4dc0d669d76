//! Hearing everything before deciding.

use crate::time::{Duration, Instant};

/// After so many passes that all took too long it is decided all the same: a flood may not hold the loop for ever.
const PASSES: usize = 8;

/// Drains until a pass has taken at most `limit`, and gives the time after it. Who was stopped while draining hears what
/// came meanwhile before anything is decided, and nothing is decided by a clock older than what was heard.
pub(super) fn until_quiet(limit: Duration, mut clock: impl FnMut() -> Instant, mut drain: impl FnMut()) -> Instant {
    let mut now = clock();
    for _ in 0..PASSES {
        let began = now;
        drain();
        now = clock();
        if now.since(began) <= limit {
            break;
        }
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Drains that take these milliseconds, one after the other, the last one again and again: passes made, and the time
    /// given.
    fn drained(takes: &[u64]) -> (usize, u128) {
        let (now, passes) = (Cell::new(Instant::BOOT), Cell::new(0));
        let clock = || now.get();
        let given = until_quiet(Duration::from_millis(10), clock, || {
            let took = takes[passes.get().min(takes.len() - 1)];
            passes.set(passes.get() + 1);
            now.set(now.get() + Duration::from_millis(took));
        });
        assert_eq!(given, now.get(), "the time is that after the last pass");
        (passes.get(), given.since(Instant::BOOT).as_millis())
    }

    #[test]
    fn a_slow_pass_is_followed_by_another_one_and_a_flood_is_not_for_ever() {
        assert_eq!(drained(&[1]), (1, 1));
        assert_eq!(drained(&[10]), (1, 10));
        assert_eq!(drained(&[500, 11, 2]), (3, 513));
        assert_eq!(drained(&[11]), (PASSES, 88));
    }
}
