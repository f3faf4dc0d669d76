//! Random faults, in clusters, with lengths around everything that anybody waits for.

use super::Profile;
use crate::world::Setup;
use crate::world::clock::{MS, SECOND, Time};
use crate::world::fault::{DiskFault, Fault, Word};
use crate::world::random::Random;
use twobox::node::timing;
use twobox::time::Duration;

/// Kinds of faults.
const LOSSY: usize = 0;
const CUT: usize = 1;
const HANG: usize = 2;
const BOOT: usize = 3;
const DISK: usize = 4;
const WORD: usize = 5;

/// Draws faults, sorted by time.
struct Draw<'a> {
    random: &'a mut Random,
    setup: &'a Setup,
    faults: Vec<(Time, Fault)>,
}

/// Faults of a random profile, by time.
pub(super) fn draw(profile: Profile, setup: &Setup, length: Time, random: &mut Random) -> Vec<(Time, Fault)> {
    let mut draw = Draw { random, setup, faults: Vec::new() };
    if profile == Profile::Calm {
        return Vec::new();
    }
    if profile == Profile::Hostile {
        // Former lives, whose frames the attacker has.
        for _ in 0..draw.random.below(4) {
            let (at, side) = (draw.random.between(5 * SECOND, 15 * SECOND), draw.side());
            draw.add(at, Fault::Kill { side, restart: 5 * MS });
        }
        for _ in 0..draw.random.between(5, 40) {
            let at = draw.random.below(length);
            draw.hostile(at);
        }
    } else {
        let kinds = profile.kinds();
        // Faults come in clusters: what is interesting happens while something else is going on.
        let clusters = draw.random.between(1, 2 + length / (12 * SECOND));
        for _ in 0..clusters {
            let begin = draw.random.below(length);
            for _ in 0..draw.random.between(1, 8) {
                let spread = draw.random.pick(&[50, 500, 2000, 8000]) * MS;
                let at = begin + draw.random.below(spread);
                if at < length {
                    draw.one(at, &kinds);
                }
            }
        }
        if draw.random.chance(300) {
            for _ in 0..draw.random.between(1, 8) {
                let at = draw.random.below(length);
                draw.hostile(at);
            }
        }
    }
    let mut faults = draw.faults;
    faults.sort_by_key(|f| f.0);
    faults
}

impl Draw<'_> {
    fn add(&mut self, at: Time, fault: Fault) {
        self.faults.push((at, fault));
    }

    /// Lengths around everything that anybody waits for.
    fn length(&mut self) -> Time {
        let s = &self.setup.settings[self.random.below(2) as usize];
        let lease = u64::try_from(s.lease.as_nanos()).expect("short");
        let wait = timing::claim_wait(s.lease, s.fence.or(Some(Duration::from_secs(4))), s.drift_ppm, s.margin);
        let wait = wait.map_or(SECOND, |w| u64::try_from(w.as_nanos()).expect("short"));
        let boot_wait = u64::try_from(s.boot_wait.as_nanos()).expect("short");
        let around = match self.random.below(9) {
            0 => lease / 8,
            1 => lease / 4,
            2 | 3 => lease,
            4 => 2 * lease,
            5 | 6 => wait,
            7 => boot_wait,
            _ => 30 * SECOND,
        };
        self.random.between(around * 7 / 10, around * 15 / 10)
    }

    /// As above, and no shorter than a leg may change.
    fn leg_length(&mut self) -> Time {
        self.length().max(self.setup.network.dwell)
    }

    fn side(&mut self) -> usize {
        self.random.below(2) as usize
    }

    fn ways(&mut self) -> u8 {
        self.random.pick(&[1, 2, 3, 3, 3])
    }

    fn path(&mut self) -> u8 {
        self.random.below(3) as u8
    }

    fn witness(&mut self) -> Option<u8> {
        let n = self.setup.settings[0].witnesses;
        (n > 0).then(|| self.random.below(n.into()) as u8)
    }

    /// What no network may do to a pair: nothing moves because of it.
    fn hostile(&mut self, at: Time) {
        let length = self.length();
        let (path, ways) = (self.path(), self.ways());
        let fault = if self.random.chance(700) {
            let every = self.random.pick(&[1, 5, 20, 50, 100]) * MS;
            Fault::Replay { to: self.side(), count: self.random.between(1, 200) as u8, every }
        } else {
            Fault::Noise { path, ways, length }
        };
        self.add(at, fault);
    }

    fn one(&mut self, at: Time, kinds: &[u64; 7]) {
        let mut n = self.random.below(kinds.iter().sum());
        let mut kind = 0;
        while n >= kinds[kind] {
            n -= kinds[kind];
            kind += 1;
        }
        match kind {
            LOSSY => self.lossy(at),
            CUT => self.cut(at),
            HANG => self.hang(at),
            BOOT => self.boot(at),
            DISK => self.disk(at),
            WORD => self.word(at),
            _ => self.fit(at),
        }
    }

    fn lossy(&mut self, at: Time) {
        let (path, ways, length) = (self.path(), self.ways(), self.leg_length());
        let (side, witness) = (self.side(), self.witness());
        let permille = self.random.pick(&[20, 200, 300, 500, 800]);
        match self.random.below(5) {
            0 => self.add(at, Fault::Loss { path, ways, permille, length }),
            1 => {
                for path in 0..3 {
                    self.add(at, Fault::Loss { path, ways, permille, length });
                }
            }
            2 => {
                let up_to = self.random.pick(&[5, 50, 200, 1000, 3000]) * MS;
                self.add(at, Fault::Delay { path, ways, up_to, length });
            }
            3 => {
                if let Some(witness) = witness {
                    self.add(at, Fault::LegLoss { side, witness, ways, permille, length });
                }
            }
            _ => {
                if let Some(witness) = witness {
                    let by = self.random.pick(&[5, 20, 60, 300, 2000]) * MS;
                    self.add(at, Fault::LegDelay { side, witness, ways, by, length });
                }
            }
        }
    }

    fn cut(&mut self, at: Time) {
        let (path, ways, length) = (self.path(), self.ways(), self.leg_length());
        let (side, witness) = (self.side(), self.witness());
        match self.random.below(10) {
            0 => self.add(at, Fault::Cut { path, ways, length }),
            1..4 => {
                // All direct paths at about the same time.
                for path in 0..3 {
                    let later = self.random.below(20 * MS);
                    self.add(at + later, Fault::Cut { path, ways, length });
                }
            }
            4 | 5 => {
                if let Some(witness) = witness {
                    self.add(at, Fault::LegCut { side, witness, ways, length });
                }
            }
            6 => {
                let with_a = self.random.below(8) as u8;
                self.add(at, Fault::Split { with_a, length });
                for path in 0..2 {
                    self.add(at, Fault::Cut { path, ways: 3, length });
                }
            }
            7 => {
                // Flapping, one leg or all direct paths.
                let period = self.leg_length().min(2 * SECOND);
                for n in 0..self.random.between(2, 12) {
                    let at = at + 2 * n * period;
                    match witness {
                        Some(witness) if self.random.chance(500) => {
                            self.add(at, Fault::LegCut { side, witness, ways, length: period });
                        }
                        _ => {
                            for path in 0..3 {
                                self.add(at, Fault::Cut { path, ways, length: period });
                            }
                        }
                    }
                }
            }
            8 => self.add(at, Fault::Nic { side, length }),
            _ => {
                if let Some(witness) = witness {
                    let fault = if self.random.chance(600) {
                        Fault::WitnessDown { witness, length }
                    } else {
                        Fault::StopsReflecting { witness, length: length.max(7 * SECOND) }
                    };
                    self.add(at, fault);
                }
            }
        }
    }

    fn hang(&mut self, at: Time) {
        let (side, length) = (self.side(), self.length());
        match self.random.below(8) {
            0 | 1 => self.add(at, Fault::Stop { side, length }),
            2..5 => self.add(at, Fault::StopInTurn { side, length }),
            5 => self.add(at, Fault::KernelHang { side, length }),
            6 => {
                let by = self.random.pick(&[10, 60, 150, 600, 2000]) * MS;
                self.add(at, Fault::Late { side, by, length: 3 * length });
            }
            _ => {
                let by = self.random.pick(&[500, 2500, 20_000]) * MS;
                self.add(at, Fault::StopsSlowly { side, by, length: 30 * SECOND });
            }
        }
    }

    fn boot(&mut self, at: Time) {
        let (side, length) = (self.side(), self.length());
        match self.random.below(10) {
            0..3 => self.add(at, Fault::PowerLoss { side, length }),
            3 => self.add(at, Fault::PowerLoss { side, length: MS }),
            4 => {
                for side in 0..2 {
                    let length = self.length();
                    self.add(at, Fault::PowerLoss { side, length });
                }
            }
            5 | 6 => self.add(at, Fault::Kill { side, restart: length.min(20 * SECOND) }),
            7 => self.add(at, Fault::Kill { side, restart: 5 * MS }),
            8 => self.add(at, Fault::Panic { side, length }),
            _ => self.add(at, Fault::FalsePanicText { side }),
        }
    }

    fn disk(&mut self, at: Time) {
        let (side, length) = (self.side(), self.length());
        let fault = match self.random.below(5) {
            0 => DiskFault::Fails,
            1 => DiskFault::Hangs,
            2 => return self.add(at, Fault::StateLoss { side, length }),
            _ => DiskFault::Slow(self.random.pick(&[50, 300, 1000, 5000]) * MS),
        };
        self.add(at, Fault::Disk { side, fault, length });
    }

    fn word(&mut self, at: Time) {
        let (side, length) = (self.side(), self.length());
        let delay = self.random.pick(&[0, 0, 50, 1000, 8000]) * MS;
        match self.random.below(10) {
            0..4 => self.add(at, Fault::Order { side, word: Word::Switchover, delay }),
            4 => {
                for side in 0..2 {
                    self.add(at, Fault::Order { side, word: Word::Switchover, delay });
                }
            }
            5 => self.add(at, Fault::Order { side, word: Word::Hold, delay }),
            6 | 7 => self.add(at, Fault::Order { side, word: Word::Release, delay }),
            8 => self.add(at, Fault::Leave { side, length }),
            _ => {
                self.add(at, Fault::PowerLoss { side: 1 - side, length: 40 * SECOND });
                self.add(at + 3 * SECOND, Fault::Force { side, stays_off: true });
            }
        }
    }

    fn fit(&mut self, at: Time) {
        let (side, length) = (self.side(), self.length());
        match self.random.below(5) {
            0 | 1 => self.add(at, Fault::Services { side, length }),
            2 => {
                let path = self.path();
                self.add(at, Fault::Carrier { side, path, length });
            }
            3 => self.add(at, Fault::BeltLoss { side, length }),
            _ => self.add(at, Fault::Stuck { side, length }),
        }
    }
}
