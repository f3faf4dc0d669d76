//! When a tree is due. Pure: time is an argument.

use super::control::When;
use crate::time::{Duration, Instant};

/// A tree that never rests is copied all the same, after so many times its settle time.
const PATIENCE: u32 = 10;

/// What is known of one tree's cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    when: When,
    started: Option<Instant>,
    running: bool,
    first_change: Option<Instant>,
    last_change: Option<Instant>,
    /// Whether the kernel tells of changes.
    watched: bool,
}

/// Where the kernel tells nothing, a tree that is copied on change is looked at so often at most.
const BLIND: Duration = Duration::from_secs(10);

impl Schedule {
    /// Due at once.
    #[must_use]
    pub fn new(when: When) -> Self {
        Schedule { when, started: None, running: false, first_change: None, last_change: None, watched: false }
    }

    /// The kernel tells of changes, or does not.
    pub fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// Something has changed.
    pub fn changed(&mut self, now: Instant) {
        self.first_change.get_or_insert(now);
        self.last_change = Some(now);
    }

    /// A cycle begins.
    pub fn start(&mut self, now: Instant) {
        self.started = Some(now);
        self.running = true;
        self.first_change = None;
        self.last_change = None;
    }

    /// It has ended.
    pub fn end(&mut self) {
        self.running = false;
    }

    /// Since when changes wait for a cycle.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Instant> {
        self.first_change
    }

    /// When the next cycle is due; never while one runs. What was missed meanwhile is one cycle, not many.
    #[must_use]
    pub fn due(&self) -> Instant {
        let Some(started) = self.started else { return if self.running { Instant::NEVER } else { Instant::BOOT } };
        if self.running {
            return Instant::NEVER;
        }
        match self.when {
            When::EveryMs(period) => started + Duration::from_millis(period),
            When::OnChangeMs(settle) => {
                let settle = Duration::from_millis(settle);
                match (self.first_change, self.last_change) {
                    (Some(first), Some(last)) => (last + settle).min(first + settle * PATIENCE),
                    _ if self.watched => Instant::NEVER,
                    _ => started + settle.max(BLIND),
                }
            }
        }
    }

    /// The period for reckoning whether a cut is young enough, in milliseconds.
    #[must_use]
    pub fn period_ms(&self) -> u64 {
        match self.when {
            When::EveryMs(period) => period,
            When::OnChangeMs(settle) => settle.saturating_mul(u64::from(PATIENCE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::BOOT + Duration::from_millis(ms)
    }

    #[test]
    fn a_cycle_that_outlasts_its_period_does_not_stack() {
        let mut schedule = Schedule::new(When::EveryMs(1000));
        assert_eq!(schedule.due(), Instant::BOOT);
        schedule.start(at(0));
        assert_eq!(schedule.due(), Instant::NEVER);
        schedule.end(); // at 5500, say: one cycle is overdue, not five
        assert_eq!(schedule.due(), at(1000));
        schedule.start(at(5500));
        schedule.end();
        assert_eq!(schedule.due(), at(6500));
    }

    #[test]
    fn on_change_waits_for_rest_but_not_for_ever() {
        let mut schedule = Schedule::new(When::OnChangeMs(500));
        schedule.set_watched(true);
        schedule.start(at(0));
        schedule.end();
        assert_eq!(schedule.due(), Instant::NEVER);
        schedule.changed(at(1000));
        schedule.changed(at(1400));
        assert_eq!(schedule.due(), at(1900));
        for ms in 0..100 {
            schedule.changed(at(1400 + 100 * ms));
        }
        assert_eq!(schedule.due(), at(6000));
    }

    #[test]
    fn without_events_a_tree_is_looked_at_all_the_same() {
        let mut schedule = Schedule::new(When::OnChangeMs(500));
        schedule.start(at(0));
        schedule.end();
        assert_eq!(schedule.due(), at(10_000));
    }
}
