//! Mirrored data, and records that do not fit them.

use super::{A, B, BOTH, Draft, EVER, SETTLED};
use crate::world::clock::{MS, SECOND, ns};
use crate::world::fault::{Fault, Word};
use twobox::node::settings::StaleData;

impl Draft<'_> {
    pub(super) fn copies(&mut self) {
        for s in &mut self.setup.settings {
            s.mirrored = true;
            s.stale_data = StaleData::Hold;
        }
        let start = SETTLED + self.between(0, SECOND);
        for path in 1..3 {
            self.add(start, Fault::Cut { path, ways: BOTH, length: EVER });
        }
        let mut at = start + SECOND;
        for _ in 0..3 {
            let side = self.random.pick(&[A, A, B]);
            self.add(at, Fault::Kill { side, restart: 5 * MS });
            at += self.between(SECOND, 4 * SECOND);
        }
        let side = self.random.below(2) as usize;
        self.add(at, Fault::PowerLoss { side, length: EVER });
        self.end = at + 15 * SECOND;
    }

    pub(super) fn reinstalled(&mut self) {
        let knows_witness = self.random.chance(500);
        for s in &mut self.setup.settings {
            s.mirrored = true;
            // The proof that the witness reflects goes with the record.
            s.require_reflection = !knows_witness;
        }
        let mut at = SETTLED;
        for n in 0..self.random.between(0, 3) {
            let side = n as usize % 2;
            self.add(at, Fault::Order { side, word: Word::Switchover, delay: 0 });
            at += 6 * SECOND;
        }
        let boots = self.setup.boot_time.1;
        let alone = ns(self.setup.settings[A].boot_wait) + boots + 2 * SECOND;
        match self.random.below(3) {
            // Neither knows anything, and their mirrors are still reading when they meet.
            0 => {
                for side in [A, B] {
                    let length = self.between(MS, SECOND);
                    self.add(at, Fault::StateLoss { side, length });
                }
            }
            // Nobody is there who could tell.
            1 => {
                let side = self.random.below(2) as usize;
                self.add(at, Fault::PowerLoss { side: 1 - side, length: EVER });
                self.add(at, Fault::StateLoss { side, length: 10 * MS });
            }
            // Whoever is there was not when the last terms were served.
            _ => {
                let side = self.random.below(2) as usize;
                let lives = self.random.between(1, 3);
                let off = lives * alone + SECOND;
                self.add(at, Fault::PowerLoss { side: 1 - side, length: off });
                for n in 0..lives {
                    self.add(at + n * alone, Fault::PowerLoss { side, length: 10 * MS });
                }
                let back = self.between(MS, boots);
                self.add(at + lives * alone, Fault::StateLoss { side, length: SECOND + back });
                at += off;
            }
        }
        self.end = at + alone + 10 * SECOND;
    }
}
