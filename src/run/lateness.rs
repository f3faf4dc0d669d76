//! How late the loop decides what it had set its timer for.

use crate::time::{Duration, Instant};

/// The time that the timer is set for, and the worst lateness since somebody asked.
pub(super) struct Lateness {
    due: Instant,
    fired: bool,
    worst: Duration,
}

impl Lateness {
    /// Nothing is due.
    pub(super) fn new() -> Self {
        Self { due: Instant::NEVER, fired: false, worst: Duration::ZERO }
    }

    /// What the timer is set for.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The timer was set.
    pub(super) fn set(&mut self, due: Instant) {
        self.due = due;
    }

    /// The timer has fired, and has to be set again in any case.
    pub(super) fn fired(&mut self) {
        self.fired = true;
    }

    /// It is `now` that the loop decides. A wake-up that comes late counts, and so does hearing that takes long: a loop that
    /// stands still within its turn is as late as one that is not woken. What is decided has to be set again.
    pub(super) fn decides(&mut self, now: Instant) {
        if core::mem::take(&mut self.fired) || self.due <= now {
            self.worst = self.worst.max(now.since(self.due));
            self.due = Instant::NEVER;
        }
    }

    /// The worst since the last call.
    pub(super) fn take(&mut self) -> Duration {
        core::mem::take(&mut self.worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_kept_until_it_is_asked_for() {
        let at = |ms| Instant::BOOT + Duration::from_millis(ms);
        let mut lateness = Lateness::new();
        lateness.decides(at(5));
        assert_eq!(lateness.take(), Duration::ZERO, "nothing was due");
        lateness.set(at(10));
        lateness.decides(at(9)); // woken by a frame
        assert_eq!(lateness.due(), at(10));
        lateness.decides(at(1002)); // stood still while it heard, before the timer or after
        assert_eq!(lateness.due(), Instant::NEVER, "it has to be set again");
        lateness.set(at(1010));
        lateness.decides(at(1011));
        assert_eq!(lateness.take(), Duration::from_millis(992));
        assert_eq!(lateness.take(), Duration::ZERO);
        lateness.set(at(2000));
        lateness.fired();
        lateness.decides(at(1999));
        assert_eq!((lateness.due(), lateness.take()), (Instant::NEVER, Duration::ZERO), "whatever the clock says");
    }
}
