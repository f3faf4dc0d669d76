//! Direct paths and the legs to the witnesses.

use super::clock::{MS, Time};
use super::random::Random;

/// What becomes of one frame on a direct path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passage {
    /// Arrival, and that of a second copy.
    pub arrive: [Option<Time>; 2],
    /// A bit flips on the way.
    pub corrupt: bool,
}

/// One direction of a direct path. Faults are kept as the time at which they end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    pub present: bool,
    /// Time on the line for one frame; zero for ethernet.
    pub frame_time: Time,
    pub cut_until: Time,
    pub loss: (u16, Time),
    pub delay: (Time, Time),
    pub noise_until: Time,
    pub busy_until: Time,
}

impl Line {
    pub fn up(&self, now: Time) -> bool {
        self.present && now >= self.cut_until
    }

    pub fn pass(&mut self, now: Time, random: &mut Random) -> Passage {
        let mut passage = Passage::default();
        if !self.present {
            return passage;
        }
        let mut arrive = now + random.between(MS / 20, MS / 3);
        if self.frame_time > 0 {
            // A frame that the port's buffer does not take is dropped.
            if self.busy_until > now + self.frame_time {
                return passage;
            }
            self.busy_until = self.busy_until.max(now) + self.frame_time;
            arrive = self.busy_until;
        }
        if now < self.cut_until || (now < self.loss.1 && random.chance(self.loss.0.into())) {
            return passage;
        }
        if now < self.delay.1 {
            arrive += random.below(self.delay.0);
        }
        if now < self.noise_until {
            match random.below(4) {
                0 => passage.corrupt = true,
                1 => passage.arrive[1] = Some(arrive + random.below(30 * MS)),
                _ => {}
            }
        }
        passage.arrive[0] = Some(arrive);
        passage
    }
}

/// One direction of a leg between a box and a witness.
///
/// The assumption that reflected heartbeats rest on is made here: the state of a leg lasts at least a round, in both
/// senses, so a round's pong and a reflected heartbeat that cross it at about the same time share their fate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leg {
    pub cut_until: Time,
    pub delay: (Time, Time),
    /// Permille of the time that it is down, until then.
    pub loss: (u16, Time),
    down: bool,
    changes: Time,
}

impl Leg {
    /// How late something that enters the leg now is, or `None` if it is lost. `dwell` is the shortest time in one state.
    pub fn pass(&mut self, now: Time, dwell: Time, random: &mut Random) -> Option<Time> {
        if now < self.cut_until {
            return None;
        }
        if now < self.loss.1 {
            while self.changes <= now {
                self.changes = self.changes.max(now.saturating_sub(dwell));
                self.down = !self.down && self.loss.0 > 0;
                let mean = if self.down {
                    dwell
                } else {
                    dwell * (1000 - u64::from(self.loss.0)) / u64::from(self.loss.0).max(1)
                };
                self.changes += dwell + random.below(2 * mean + 1);
            }
            if self.down {
                return None;
            }
        }
        Some(if now < self.delay.1 { self.delay.0 } else { 0 })
    }
}

/// A device on the LAN that answers ping.
#[derive(Clone, Copy, Debug, Default)]
pub struct Witness {
    pub down_until: Time,
    /// It relays A's heartbeats to B, and B's to A.
    pub reflects: [bool; 2],
    pub silent_until: Time,
    /// Time for one leg.
    pub latency: Time,
    /// Legs of A and B: towards the witness, from it.
    pub legs: [[Leg; 2]; 2],
}

/// The network between the boxes.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Direct paths: from A to B, from B to A.
    pub lines: [[Line; 2]; 3],
    pub witnesses: [Witness; 3],
    /// Shortest time for which a leg stays up or down.
    pub dwell: Time,
}

impl Network {
    pub fn heal(&mut self) {
        for line in self.lines.iter_mut().flatten() {
            *line = Line { present: line.present, frame_time: line.frame_time, ..Line::default() };
        }
        for witness in &mut self.witnesses {
            *witness = Witness { reflects: witness.reflects, latency: witness.latency, ..Witness::default() };
        }
    }
}
