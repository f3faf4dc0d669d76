//! Programs and boxes end and start again.

use super::{A, B, BOTH, Draft, EVER, SETTLED};
use crate::world::clock::{MS, SECOND, ns};
use crate::world::fault::{DiskFault, Fault, Word};
use crate::world::machine::Belts;

impl Draft<'_> {
    pub(super) fn restart(&mut self) {
        let belts = self.watchdog_only();
        self.fasten_both(belts);
        let mut at = SETTLED;
        for _ in 0..4 {
            let side = self.random.below(2) as usize;
            if self.random.chance(500) {
                self.add(at - 10 * MS, Fault::Stuck { side, length: self.setup.boot_time.1 * 2 });
            }
            self.add(at, Fault::Kill { side, restart: 5 * MS });
            if self.random.chance(300) {
                let later = self.between(5 * MS, 300 * MS);
                self.cut_all(at + later, BOTH, 3 * SECOND);
            }
            at += self.between(3 * SECOND, 7 * SECOND);
        }
        self.end = at;
    }

    pub(super) fn alone(&mut self) {
        let start = SETTLED;
        let by = self.random.pick(&[300, 1000, 3000]) * MS;
        self.add(start, Fault::Disk { side: A, fault: DiskFault::Slow(by), length: EVER });
        let boots = SECOND + self.between(0, 400 * MS);
        let claims = ns(self.setup.settings[A].boot_wait);
        let mut at = start + SECOND;
        if self.random.chance(500) {
            self.add(start, Fault::PowerLoss { side: B, length: EVER });
            for _ in 0..4 {
                self.add(at, Fault::PowerLoss { side: A, length: 10 * MS });
                let later = self.between(0, 2 * by);
                at += boots + claims + later;
            }
        } else {
            // The peer is back when it has just claimed; then its program dies.
            for _ in 0..3 {
                self.add(at, Fault::PowerLoss { side: A, length: 10 * MS });
                let back = claims + self.between(0, by);
                self.add(at, Fault::PowerLoss { side: B, length: back });
                let dies = back + 1_300 * MS + self.between(0, by);
                self.add(at + dies, Fault::Kill { side: A, restart: 5 * MS });
                at += dies + 3 * SECOND;
            }
        }
        self.end = at + SECOND;
    }

    pub(super) fn stuck(&mut self) {
        let belts = self.watchdog_only();
        self.fasten_both(belts);
        self.setup.reset_works = false;
        let start = SETTLED + self.between(0, SECOND);
        self.add(start, Fault::Stuck { side: A, length: EVER });
        let later = self.between(0, SECOND);
        self.cut_all(start + later, BOTH, EVER);
        self.cut_leg(start + later, A, EVER);
        self.end = start + 20 * SECOND;
    }

    pub(super) fn stalled(&mut self) {
        let hangs = Fault::Disk { side: A, fault: DiskFault::Hangs, length: EVER };
        let mut at = 0;
        if self.random.chance(300) {
            // Both boot, and the better one has no term yet.
            self.add(at, hangs);
        } else {
            self.nothing_is_reserved_ahead();
            self.add(SETTLED, Fault::Order { side: A, word: Word::Switchover, delay: 0 });
            at = SETTLED + self.between(7 * SECOND, 9 * SECOND);
            self.add(at, hangs);
            if self.random.chance(500) {
                // The service is handed over to it.
                at += self.between(0, SECOND);
                self.add(at, Fault::Order { side: B, word: Word::Switchover, delay: 0 });
            } else {
                // It claims in silence, and its peer is back.
                let length = self.claim_wait() + self.between(SECOND, 4 * SECOND);
                self.add(at, Fault::PowerLoss { side: B, length });
                at += length;
            }
        }
        // By then it is demanded that somebody serves.
        self.end = at + ns(self.setup.settings[A].boot_wait) + 2 * self.claim_wait() + 20 * SECOND;
    }

    pub(super) fn orphan(&mut self) {
        let belts = Belts { gate: true, ..self.watchdog_only() };
        self.fasten_both(belts);
        // Still faster than any watchdog: it is not fed before.
        self.setup.clean_time = 900 * MS;
        let mut at = SETTLED;
        for _ in 0..3 {
            let side = self.random.below(2) as usize;
            self.add(at, Fault::Kill { side, restart: 5 * MS });
            if self.random.chance(700) {
                self.cut_all(at, BOTH, 4 * SECOND);
            }
            let later = self.between(6 * MS, SECOND);
            self.add(at + later, Fault::BeltLoss { side, length: 3 * SECOND });
            at += self.between(9 * SECOND, 14 * SECOND);
        }
        self.end = at;
    }
}
