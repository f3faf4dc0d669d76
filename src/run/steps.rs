//! Where the time of a takeover goes after the node has decided: address, announcement, first frame of a client.

use crate::time::{Duration, Instant};

/// A first frame that does not come within this time is not waited for: perhaps nobody wants anything.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(1);

/// The steps of the last takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// When the node ordered it.
    pub ordered: Instant,
    /// From the order until every address was up.
    pub address: Duration,
    /// From there until the first announcements had been sent.
    pub announce: Duration,
    /// From there until a client's frame for a service address had come in; `None`: none yet, or nothing counts them.
    pub first_frame: Option<Duration>,
}

/// The takeover under observation. `counted`: frames for service addresses that have come in, and when the last one did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    steps: Option<Steps>,
    /// Frames that had come in when it began; `None`: the first frame has come, or is not waited for.
    frames_before: Option<u64>,
}

impl Watch {
    /// A takeover is ordered.
    pub(super) fn begin(&mut self, now: Instant, counted: Option<(u64, Instant)>) {
        self.steps = Some(Steps { ordered: now, address: Duration::ZERO, announce: Duration::ZERO, first_frame: None });
        self.frames_before = counted.map(|(frames, _)| frames);
    }

    /// The addresses went up and were announced.
    pub(super) fn took_up(&mut self, up: Instant, announced: Instant) {
        let Some(steps) = self.steps.as_mut().filter(|steps| steps.announce == Duration::ZERO) else { return };
        steps.address = up.since(steps.ordered);
        steps.announce = announced.since(up);
    }

    /// Whether a client's frame has come in meanwhile. What is found is a little late if several came since the last look.
    pub(super) fn look(&mut self, now: Instant, counted: Option<(u64, Instant)>) {
        let (Some(steps), Some(before), Some((frames, last))) = (&mut self.steps, self.frames_before, counted) else {
            return;
        };
        let announced = steps.ordered + steps.address + steps.announce;
        if frames != before {
            steps.first_frame = Some(last.since(announced));
        }
        if frames != before || now.since(announced) > PATIENCE {
            self.frames_before = None;
        }
    }

    /// When to look again.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.frames_before.map(|_| now + LOOK)
    }

    /// The steps so far.
    pub(super) fn steps(&self) -> Option<Steps> {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_counts_from_the_end_of_the_one_before() {
        let at = |us: u64| Instant::from_nanos(us * 1000);
        let us = Duration::from_micros;
        let mut watch = Watch::default();
        watch.begin(at(100), Some((7, at(3))));
        watch.took_up(at(130), at(140));
        watch.look(at(500), Some((7, at(3))));
        assert_eq!(watch.next_look(at(500)), Some(at(1500)));
        watch.look(at(1500), Some((9, at(640))));
        assert_eq!(watch.next_look(at(1500)), None);
        watch.took_up(at(9000), at(9900)); // put up again later: no takeover
        let steps = Steps { ordered: at(100), address: us(30), announce: us(10), first_frame: Some(us(500)) };
        assert_eq!(watch.steps(), Some(steps));
        // Nobody wants anything.
        watch.begin(at(10_000), Some((9, at(640))));
        watch.took_up(at(10_000), at(10_001));
        watch.look(at(1_020_000), Some((9, at(640))));
        assert_eq!(watch.next_look(at(1_020_000)), None);
        assert_eq!(watch.steps().unwrap().first_frame, None);
    }
}
