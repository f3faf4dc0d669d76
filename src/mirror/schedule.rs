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
    /// The last cycle was cut off: the next one is not put off for a period.
    again: Option<Instant>,
}

/// A watched tree that is quiet is confirmed to be equal so often: a copy's age counts from the last time that it was.
const CONFIRM: Duration = Duration::from_secs(5);
/// Where the kernel tells nothing, a tree that is copied on change is looked at so often at most.
const BLIND: Duration = Duration::from_secs(10);
/// A cycle whose connection broke goes on so soon at the earliest.
const AGAIN: Duration = Duration::from_secs(5);

impl Schedule {
    /// Due at once.
    #[must_use]
    pub fn new(when: When) -> Self {
        Schedule {
            when,
            started: None,
            running: false,
            first_change: None,
            last_change: None,
            watched: false,
            again: None,
        }
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
        self.again = None;
        self.first_change = None;
        self.last_change = None;
    }

    /// It has ended.
    pub fn end(&mut self) {
        self.running = false;
    }

    /// It has ended because the connection did, which may have been dead since the cycle before.
    pub fn cut_off(&mut self, now: Instant) {
        self.running = false;
        self.again = Some(now + AGAIN);
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
        let due = match self.when {
            When::EveryMs(period) => started + Duration::from_millis(period),
            When::OnChangeMs(settle) => {
                let settle = Duration::from_millis(settle);
                match (self.first_change, self.last_change) {
                    (Some(first), Some(last)) => (last + settle).min(first + settle * PATIENCE),
                    _ => started + Duration::from_millis(self.period_ms()),
                }
            }
        };
        self.again.map_or(due, |again| again.min(due))
    }

    /// The period for reckoning whether a cut is young enough, in milliseconds.
    #[must_use]
    pub fn period_ms(&self) -> u64 {
        match self.when {
            When::EveryMs(period) => period,
            When::OnChangeMs(settle) => {
                let quiet = if self.watched { CONFIRM } else { BLIND };
                settle.saturating_mul(u64::from(PATIENCE)).max(u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX))
            }
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
        schedule.changed(at(1000));
        schedule.changed(at(1400));
        assert_eq!(schedule.due(), at(1900));
        for ms in 0..100 {
            schedule.changed(at(1400 + 100 * ms));
        }
        assert_eq!(schedule.due(), at(6000));
    }

    #[test]
    fn a_quiet_tree_is_confirmed_well_before_its_copy_counts_as_old() {
        for (settle, watched, due) in
            [(500, true, 5_000), (2_000, true, 20_000), (10, true, 5_000), (10, false, 10_000)]
        {
            let mut schedule = Schedule::new(When::OnChangeMs(settle));
            schedule.set_watched(watched);
            schedule.start(at(0));
            assert_eq!(schedule.due(), Instant::NEVER);
            schedule.end();
            assert_eq!((schedule.due(), schedule.period_ms()), (at(due), due));
        }
    }

    #[test]
    fn without_events_a_tree_is_looked_at_all_the_same() {
        let mut schedule = Schedule::new(When::OnChangeMs(500));
        schedule.start(at(0));
        schedule.end();
        assert_eq!(schedule.due(), at(10_000));
    }

    #[test]
    fn a_cycle_that_was_cut_off_goes_on_long_before_its_period_is_over() {
        let mut schedule = Schedule::new(When::EveryMs(3_600_000));
        schedule.start(at(0));
        schedule.cut_off(at(1000));
        assert_eq!(schedule.due(), at(6000));
        schedule.start(at(6000));
        schedule.end();
        assert_eq!(schedule.due(), at(3_606_000));
        let mut often = Schedule::new(When::EveryMs(2000));
        often.start(at(0));
        often.cut_off(at(1000));
        assert_eq!(often.due(), at(2000));
    }
}
