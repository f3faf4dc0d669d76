//! When to announce: a pure schedule.
//!
//! The first announcement carries the takeover. The repetitions are for a client that lost it, for a switch that was just
//! learning, and for the former owner's last words: the last announcement wins. One lost frame then costs 50 ms. The two late ones
//! are for clients behind switches that have just lost one of their own: spanning tree keeps a port silent for 15 to 50 s (IEEE
//! 802.1D), and a router that hears nothing keeps its entry for hours.

use core::ops::Range;

use crate::time::{Duration, Instant};

/// After the first announcement, at these times counted from it.
const REPEAT_AT: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
    Duration::from_secs(60),
];
/// Unicast frames in one go, and the pause to the next: a few hundred clients must not hold up a heartbeat.
const BATCH: usize = 64;
const BATCH_PAUSE: Duration = Duration::from_millis(1);

/// What to send now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Due {
    /// The broadcast (IPv4) or multicast (IPv6) announcement of every service address.
    pub broadcast: bool,
    /// A unicast to these of the known clients, by index.
    pub clients: Range<usize>,
}

/// The schedule of one holder. Silent until [`Announcer::start`].
#[derive(Clone, Debug, Default)]
pub struct Announcer {
    started: Option<Instant>,
    /// Next entry of [`REPEAT_AT`].
    repeat: usize,
    next_broadcast: Option<Instant>,
    /// Index of the next client to be told, and when.
    next_batch: Option<(usize, Instant)>,
    refresh: Option<Duration>,
}

impl Announcer {
    /// With `refresh`, the announcement is repeated for ever at this interval. Needed with a virtual MAC: answers leave
    /// by the box's own interface, so nothing else keeps the switch's entry for the virtual MAC from ageing out (300 s in
    /// IEEE 802.1D), after which every frame to it floods the LAN.
    #[must_use]
    pub fn new(refresh: Option<Duration>) -> Announcer {
        Announcer { refresh, ..Announcer::default() }
    }

    /// The addresses are up: announce at once, then as scheduled.
    pub fn start(&mut self, now: Instant) {
        *self = Announcer { started: Some(now), next_broadcast: Some(now), ..Announcer::new(self.refresh) };
    }

    /// All of it once more, because nobody may have heard it. Nothing while stopped.
    pub fn restart(&mut self, now: Instant) {
        if self.started.is_some() {
            self.start(now);
        }
    }

    /// Not one word more. To be called *before* the addresses go down: the last announcement wins.
    pub fn stop(&mut self) {
        *self = Announcer::new(self.refresh);
    }

    /// Once more at once, because somebody else claimed an address. Nothing while stopped.
    pub fn again(&mut self, now: Instant) {
        if self.started.is_some() {
            self.next_broadcast = Some(now);
        }
    }

    /// When [`Announcer::due`] has something to send next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let batch = self.next_batch.map(|(_, at)| at);
        [self.next_broadcast, batch].into_iter().flatten().min()
    }

    /// What is to be sent now, with `clients` known clients. Missed repetitions are not made up for: one is enough.
    pub fn due(&mut self, now: Instant, clients: usize) -> Due {
        let Some(started) = self.started else { return Due::default() };
        let mut due = Due::default();
        if self.next_broadcast.is_some_and(|at| at <= now) {
            due.broadcast = true;
            // A sweep that is still under way goes on; it would only be delayed by starting over.
            self.next_batch.get_or_insert((0, now));
            while REPEAT_AT.get(self.repeat).is_some_and(|&after| started + after <= now) {
                self.repeat += 1;
            }
            self.next_broadcast = match REPEAT_AT.get(self.repeat) {
                Some(&after) => Some(started + after),
                None => self.refresh.map(|interval| now + interval),
            };
        }
        if let Some((first, at)) = self.next_batch
            && at <= now
        {
            let end = (first + BATCH).min(clients);
            due.clients = first.min(end)..end;
            self.next_batch = (end < clients).then_some((end, now + BATCH_PAUSE));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::BOOT + Duration::from_millis(1_000 + ms)
    }

    /// The times, in milliseconds, at which a loop that always wakes at the deadline broadcasts.
    fn broadcasts(announcer: &mut Announcer, until: u64) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(deadline) = announcer.next_deadline().filter(|&d| d <= at(until)) {
            if announcer.due(deadline, 0).broadcast {
                times.push(deadline.since(at(0)).as_millis() as u64);
            }
        }
        times
    }

    #[test]
    fn announces_at_once_and_then_as_written() {
        let mut announcer = Announcer::new(None);
        assert_eq!(announcer.next_deadline(), None);
        assert_eq!(announcer.due(at(0), 3), Due::default());
        announcer.start(at(0));
        assert_eq!(broadcasts(&mut announcer, 600_000), [0, 50, 200, 1000, 5000, 20_000, 60_000]);
        assert_eq!(announcer.next_deadline(), None);
        announcer.again(at(90_000));
        assert_eq!(broadcasts(&mut announcer, 600_000), [90_000]);
    }

    #[test]
    fn a_foreign_claim_adds_one_and_leaves_the_rest_of_the_schedule() {
        let mut announcer = Announcer::new(None);
        announcer.start(at(0));
        assert_eq!(broadcasts(&mut announcer, 50), [0, 50]);
        announcer.again(at(70));
        assert_eq!(broadcasts(&mut announcer, 600_000), [70, 200, 1000, 5000, 20_000, 60_000]);
    }

    #[test]
    fn all_is_said_again_to_a_lan_that_is_whole_again() {
        let mut announcer = Announcer::new(None);
        announcer.restart(at(0));
        assert_eq!(announcer.next_deadline(), None, "who holds nothing says nothing");
        announcer.start(at(0));
        assert_eq!(broadcasts(&mut announcer, 2000), [0, 50, 200, 1000]);
        announcer.restart(at(3000));
        assert_eq!(broadcasts(&mut announcer, 9000), [3000, 3050, 3200, 4000, 8000]);
        announcer.stop();
        announcer.restart(at(9001));
        assert_eq!(announcer.next_deadline(), None);
    }

    #[test]
    fn a_late_loop_announces_once_for_all_it_missed() {
        let mut announcer = Announcer::new(None);
        announcer.start(at(0));
        assert!(announcer.due(at(700), 0).broadcast);
        assert_eq!(broadcasts(&mut announcer, 600_000), [1000, 5000, 20_000, 60_000]);
    }

    #[test]
    fn stopped_means_silent_whatever_comes() {
        let mut announcer = Announcer::new(Some(Duration::from_secs(60)));
        announcer.start(at(0));
        let _ = announcer.due(at(0), 1000);
        announcer.stop();
        announcer.again(at(1));
        assert_eq!(announcer.next_deadline(), None);
        assert_eq!(announcer.due(at(60_000), 1000), Due::default());
    }

    #[test]
    fn refresh_goes_on_for_ever() {
        let mut announcer = Announcer::new(Some(Duration::from_secs(60)));
        announcer.start(at(0));
        assert_eq!(broadcasts(&mut announcer, 190_000), [0, 50, 200, 1000, 5000, 20_000, 60_000, 120_000, 180_000]);
    }

    #[test]
    fn every_client_is_told_once_a_sweep_in_batches() {
        let mut announcer = Announcer::new(None);
        announcer.start(at(0));
        let mut told = Vec::new();
        while let Some(deadline) = announcer.next_deadline().filter(|&d| d < at(50)) {
            let due = announcer.due(deadline, 200);
            assert!(due.clients.len() <= BATCH);
            told.extend(due.clients);
        }
        assert_eq!(told, (0..200).collect::<Vec<_>>());
    }
}
