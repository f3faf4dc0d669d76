//! What the operator says is under way while roles change.

use super::{A, B, BOTH, Draft, EVER, SETTLED};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::{Fault, Word};
use twobox::time::Duration;

impl Draft<'_> {
    pub(super) fn orders(&mut self) {
        let mut at = SETTLED;
        for _ in 0..3 {
            for _ in 0..6 {
                let side = self.random.below(2) as usize;
                let word = self.random.pick(&[Word::Switchover, Word::Switchover, Word::Hold, Word::Release]);
                let delay = self.random.pick(&[0, 0, 500, 1000, 2000, 4000]) * MS;
                let wait = self.between(0, SECOND);
                self.add(at + wait, Fault::Order { side, word, delay });
                at += SECOND / 2;
            }
            for side in [A, B] {
                self.add(at + 6 * SECOND, Fault::Order { side, word: Word::Release, delay: 0 });
            }
            at += 7 * SECOND;
        }
        self.end = at + SECOND;
    }

    pub(super) fn crossing(&mut self) {
        // Only through the witness, and slowly: what either knows of the other is old.
        for s in &mut self.setup.settings {
            s.lease = Duration::from_millis(500);
            s.round = Duration::from_millis(25);
        }
        let belts = self.belts();
        self.fasten_both(belts);
        let by = self.between(20 * MS, 60 * MS);
        for side in [A, B] {
            self.add(SETTLED, Fault::LegDelay { side, witness: 0, ways: BOTH, by, length: EVER });
        }
        self.cut_all(SETTLED, BOTH, EVER);
        let mut at = SETTLED + SECOND;
        for _ in 0..4 {
            self.add(at, Fault::Order { side: B, word: Word::Hold, delay: 0 });
            self.add(at + 300 * MS, Fault::Kill { side: A, restart: 5 * MS });
            at += 320 * MS;
            for _ in 0..40 {
                let side = self.random.below(2) as usize;
                let word = if self.random.chance(500) { Word::Hold } else { Word::Release };
                self.add(at, Fault::Order { side, word, delay: 0 });
                at += self.between(2 * MS, 120 * MS);
            }
            for side in [A, B] {
                self.add(at, Fault::Order { side, word: Word::Release, delay: 0 });
            }
            at += 5 * SECOND;
        }
        self.end = at;
    }

    pub(super) fn comes_back(&mut self) {
        let start = SETTLED + self.between(0, SECOND);
        // B serves without a quorum: by force, or it is A that serves by B's farewell.
        if self.random.chance(500) {
            self.cut_leg(start, B, 9 * SECOND);
            self.add(start, Fault::PowerLoss { side: A, length: 8 * SECOND });
            self.add(start + 3 * SECOND, Fault::Force { side: B, stays_off: false });
            let apart = start + 14 * SECOND + self.between(0, 3 * SECOND);
            self.cut_all(apart, BOTH, EVER);
            self.cut_leg(apart, B, EVER);
            self.end = apart + 20 * SECOND;
        } else {
            self.add(start, Fault::Leave { side: B, length: 3 * SECOND });
            let apart = start + self.between(SECOND, 8 * SECOND);
            self.cut_all(apart, BOTH, EVER);
            self.cut_leg(apart, A, EVER);
            self.end = apart + 25 * SECOND;
        }
    }
}
