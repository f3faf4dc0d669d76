//! Frames and texts of former times are played again.

use super::{A, B, Draft, EVER, SETTLED};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::Fault;

impl Draft<'_> {
    /// Nothing may move any more when the tape begins.
    pub(super) fn playback(&mut self) {
        let to = self.random.below(2) as usize;
        // So fast that hardly anything else is heard, or beside what the present life says.
        let pace = self.random.pick(&[1, 4, 16]);
        for side in [A, B] {
            let at = self.between(9 * SECOND, 11 * SECOND);
            self.add(at, Fault::Kill { side, restart: 5 * MS });
        }
        self.add(SETTLED + 12 * SECOND, Fault::Playback { to, length: 10 * SECOND, pace });
        self.end = SETTLED + 26 * SECOND;
    }

    pub(super) fn tape(&mut self) {
        let start = SETTLED + self.between(0, SECOND);
        self.add(start, Fault::PowerLoss { side: A, length: EVER });
        self.add(start + 10 * MS, Fault::Playback { to: B, length: EVER, pace: 1 });
        self.end = start + 50 * SECOND;
    }

    pub(super) fn text(&mut self) {
        let belts = self.watchdog_only();
        self.fasten_both(belts);
        let mut at = SETTLED;
        for _ in 0..3 {
            let side = self.random.below(2) as usize;
            self.add(at, Fault::Stop { side, length: 5 * SECOND });
            let later = self.between(1_150 * MS, 2 * SECOND);
            self.add(at + later, Fault::OldPanicText { side });
            at += self.between(9 * SECOND, 12 * SECOND);
        }
        self.end = at;
    }
}
