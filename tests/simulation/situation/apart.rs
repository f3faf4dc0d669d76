//! Cables and witnesses are cut, and boxes stand still.

use super::{A, B, BOTH, Draft, EVER, SETTLED};
use crate::seed::{clock_runs, fasten};
use crate::world::clock::{MS, SECOND, ns};
use crate::world::fault::{DiskFault, Fault, Word};
use crate::world::machine::Belts;
use twobox::time::Duration;

impl Draft<'_> {
    pub(super) fn glimpse(&mut self) {
        let belts = self.watchdog_only();
        self.fasten_both(belts);
        for s in &mut self.setup.settings {
            // Nobody has been in touch yet, so nothing is proven; but it does reflect.
            s.require_reflection = false;
        }
        let patience = ns(self.setup.settings[A].boot_wait) - self.claim_wait();
        let meet = SECOND + self.claim_wait() + self.between(100 * MS, patience);
        let length = self.between(60, 250) * MS;
        self.cut_all(0, BOTH, meet);
        self.cut_leg(0, A, EVER);
        // What A says comes late, so that B goes on at full rate and its quorum counts through; and soon it comes no more.
        for path in 0..3 {
            self.add(meet, Fault::Loss { path, ways: 1, permille: 850, length });
            self.add(meet, Fault::Delay { path, ways: 1, up_to: self.lease() * 9 / 10, length });
        }
        self.cut_all(meet + length, 1, 30 * SECOND);
        let serves = self.between(self.lease() / 2, self.lease() * 3 / 2);
        self.stand_still(meet + serves, A, EVER);
        self.end = meet + 25 * SECOND;
    }

    pub(super) fn seesaw(&mut self) {
        self.nothing_is_reserved_ahead();
        self.round_is(self.setup.settings[A].lease / self.rounds);
        let (lease, wait, round) = (self.lease(), self.claim_wait(), ns(self.setup.settings[A].round));
        let quick = self.random.chance(400);
        let start = SETTLED + self.between(0, SECOND);
        if !quick && self.random.chance(500) {
            let delay = self.between(0, 200 * MS);
            self.add(start.saturating_sub(delay), Fault::Order { side: A, word: Word::Switchover, delay: 0 });
        }
        let mut at = start;
        let mut up = self.random.below(2) as usize;
        let steps = if quick { 80 } else { 12 };
        for _ in 0..steps {
            let length = match self.random.below(5) {
                _ if quick => self.random.pick(&[2, 2, 3]) * round,
                0 => self.between(3, 12) * round,
                1 => lease / 2 + self.between(0, lease),
                2 => self.between(wait, 2 * wait),
                _ => wait + self.between(4 * round, lease),
            };
            self.cut_leg(at, 1 - up, length);
            if !quick && self.random.chance(350) {
                let before = self.between(0, 4 * round);
                self.stand_still(at - before, 1 - up, 3 * wait);
            }
            at += length;
            up = 1 - up;
        }
        self.cut_all(start, BOTH, at - start);
        if !quick {
            for side in [A, B] {
                if self.random.chance(600) {
                    let by = self.random.pick(&[lease, wait, 2 * wait, 4 * wait]);
                    self.add(start - SECOND, Fault::Disk { side, fault: DiskFault::Slow(by), length: at - start });
                }
            }
        }
        self.end = at + SECOND;
    }

    pub(super) fn swap(&mut self) {
        self.nothing_is_reserved_ahead();
        let (lease, wait, round) = (self.lease(), self.claim_wait(), ns(self.setup.settings[A].round));
        let start = SETTLED + self.between(0, SECOND);
        let apart = start + self.between(100 * MS, 300 * MS);
        // A waits until B, which claims by its vote, would be fenced.
        let swap = apart + wait + self.between(0, lease);
        let written = swap + self.between(2 * round, lease / 2);
        let hangs = Fault::Disk { side: B, fault: DiskFault::Hangs, length: written - start };
        self.add(start, hangs);
        self.add(start, Fault::Order { side: A, word: Word::Switchover, delay: 0 });
        self.cut_all(apart, BOTH, EVER);
        self.cut_leg(apart, B, swap - apart);
        self.cut_leg(swap, A, EVER);
        self.end = swap + 5 * SECOND;
    }

    pub(super) fn deaf(&mut self) {
        let (deaf, speaking) = if self.random.chance(700) { (B, A) } else { (A, B) };
        let start = SETTLED + self.between(0, SECOND);
        // From the one that still hears, nothing arrives.
        let towards_deaf = if deaf == B { 1 } else { 2 };
        match self.random.below(3) {
            0 => {
                self.cut_all(start, towards_deaf, EVER);
                self.cut_leg(start, deaf, EVER);
            }
            1 => {
                // A witness that relays one way only, and counts because the operator said so.
                for s in &mut self.setup.settings {
                    s.require_reflection = false;
                }
                self.setup.network.witnesses[0].reflects[speaking] = false;
                self.cut_all(start, BOTH, EVER);
            }
            _ => {
                self.cut_all(start, towards_deaf, EVER);
                let ways = self.random.pick(&[1, 2, 3]);
                self.add(start, Fault::LegCut { side: deaf, witness: 0, ways, length: EVER });
            }
        }
        self.end = start + 55 * SECOND;
    }

    pub(super) fn growth(&mut self) {
        let belts = Belts { gate: true, ..self.watchdog_only() };
        self.fasten_both(belts);
        let start = SETTLED + self.between(0, SECOND);
        let lost = Fault::BeltLoss { side: A, length: EVER };
        if self.random.chance(500) {
            // In touch until a moment before.
            self.cut_all(start, BOTH, EVER);
            self.cut_leg(start, A, EVER);
            let later = self.between(MS, 100 * MS);
            self.add(start + later, lost);
            let still = later + self.between(10 * MS, 400 * MS);
            self.add(start + still, Fault::Stop { side: A, length: EVER });
        } else {
            // Out of touch, and serving again with the longer bound when its leg goes.
            self.cut_all(start, BOTH, EVER);
            let later = self.between(SECOND, 2 * SECOND);
            self.add(start + later, lost);
            if self.random.chance(500) {
                // No watchdog ends B, which may stand still for as long as that takes.
                let patience = self.between(SECOND, 5 * SECOND);
                fasten(self.setup, [belts, Belts { watchdog: None, ..belts }], patience);
            }
            let swap = later + ns(self.setup.settings[A].boot_wait) + self.between(2 * SECOND, 4 * SECOND);
            self.cut_leg(start + SECOND / 2, B, swap - SECOND / 2);
            if self.setup.belts[B].watchdog.is_none() {
                // What it finds in its sockets when it wakes up is from before.
                let before = self.between(20 * MS, 200 * MS);
                let length = before + swap - self.between(0, 60 * MS);
                self.add(start - before, Fault::Stop { side: B, length });
            }
            let still = start + swap - self.between(0, 60 * MS);
            self.stand_still(still, A, EVER);
            self.cut_leg(start + swap, A, EVER);
            self.end += swap;
        }
        self.end += start + 20 * SECOND;
    }

    pub(super) fn wake(&mut self) {
        self.nothing_is_reserved_ahead();
        if self.random.chance(700) {
            // No watchdog: a box may stand still for longer than the other one waits, and wake up.
            self.fasten_both(Belts { gate: true, watchdog: None, lifetime: None });
        }
        let start = SETTLED + self.between(0, SECOND);
        let wait = self.claim_wait();
        self.cut_all(start, BOTH, EVER);
        let mut at = start;
        for _ in 0..4 {
            at += self.between(SECOND, 3 * SECOND);
            let length = self.between(wait, 3 * wait);
            let side = self.random.pick(&[A, B, B]);
            let fault =
                if self.random.chance(600) { Fault::KernelHang { side, length } } else { Fault::Stop { side, length } };
            self.add(at, fault);
            at += length;
            if self.random.chance(800) {
                // The other one stands still at that moment.
                let before = self.between(0, 25 * MS);
                self.stand_still(at - before, 1 - side, 2 * wait);
                at += 3 * wait;
            }
        }
        self.end = at + 4 * SECOND;
    }

    pub(super) fn drift(&mut self) {
        let fire = 120 * SECOND;
        self.fasten_both(Belts { gate: false, watchdog: Some((fire, 0)), lifetime: None });
        for s in &mut self.setup.settings {
            s.margin = Duration::from_millis(20);
            // Feeds come with every turn, so that the last one can be as late as a right allows.
            s.feed = Duration::from_millis(10);
        }
        self.setup.drift = clock_runs(self.random.pick(&[0, 0, 2, 2, 1]));
        let start = SETTLED + self.between(0, SECOND);
        self.cut_all(start, BOTH, EVER);
        self.cut_leg(start, A, EVER);
        let late = self.lease() - self.between(5 * MS, 60 * MS);
        let length = fire - 40 * MS + self.between(0, 25 * MS);
        self.add(start + late, Fault::StopTwice { side: A, length, again: 2 * fire });
        self.end = start + 2 * fire + 10 * SECOND;
    }
}
