//! What a seed decides: the pair, its surroundings, and what goes wrong when.

use super::situation::Situation;
use super::world::clock::{MS, SECOND, Time};
use super::world::fault::{DiskFault, Fault, Word};
use super::world::judge::Violation;
use super::world::machine::Belts;
use super::world::network::{Leg, Line, Network, Witness};
use super::world::random::Random;
use super::world::{Setup, World};
use std::collections::BTreeMap;
use twobox::node::planted::Planted;
use twobox::node::settings::StaleData;
use twobox::node::timing;
use twobox::node::{Answer, Settings};
use twobox::time::Duration;
use twobox::wire::pair::{BootId, Side};

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    Calm,
    Hostile,
    Lossy,
    Partition,
    Hang,
    Reboot,
    Disk,
    Operator,
    Everything,
    /// Not random faults, but a schedule drawn up for one situation.
    In(Situation),
}

impl Profile {
    /// The random ones.
    const RANDOM: [Profile; 9] = [
        Profile::Calm,
        Profile::Hostile,
        Profile::Lossy,
        Profile::Partition,
        Profile::Hang,
        Profile::Reboot,
        Profile::Disk,
        Profile::Operator,
        Profile::Everything,
    ];

    /// How often each random one is drawn, and every situation.
    const WEIGHTS: [u64; 9] = [2, 4, 8, 20, 14, 12, 8, 10, 22];
    const SITUATION_WEIGHT: u64 = 1;

    pub fn all() -> impl Iterator<Item = Profile> {
        Profile::RANDOM.into_iter().chain(Situation::ALL.map(Profile::In))
    }

    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Hostile => "hostile",
            Profile::Lossy => "lossy",
            Profile::Partition => "partition",
            Profile::Hang => "hang",
            Profile::Reboot => "reboot",
            Profile::Disk => "disk",
            Profile::Operator => "operator",
            Profile::Everything => "everything",
            Profile::In(situation) => situation.name(),
        }
    }

    fn draw(random: &mut Random) -> Profile {
        let weights = Self::WEIGHTS.into_iter().chain(std::iter::repeat(Self::SITUATION_WEIGHT));
        let all: u64 = Self::WEIGHTS.iter().sum::<u64>() + Self::SITUATION_WEIGHT * Situation::ALL.len() as u64;
        let mut n = random.below(all);
        for (profile, weight) in Profile::all().zip(weights) {
            if n < weight {
                return profile;
            }
            n -= weight;
        }
        Profile::Everything
    }

    /// Weights of the kinds of faults, in the order of [`Kind`].
    fn kinds(self) -> [u64; 7] {
        match self {
            Profile::Calm | Profile::Hostile | Profile::In(_) => [0; 7],
            //                   lossy cut  hang boot disk word fit
            Profile::Lossy => [10, 2, 1, 1, 0, 1, 1],
            Profile::Partition => [2, 14, 1, 2, 0, 1, 1],
            Profile::Hang => [1, 2, 14, 1, 1, 1, 1],
            Profile::Reboot => [1, 4, 1, 14, 1, 1, 0],
            Profile::Disk => [1, 3, 1, 6, 10, 2, 0],
            Profile::Operator => [1, 2, 1, 2, 1, 14, 2],
            Profile::Everything => [4, 8, 5, 5, 2, 4, 4],
        }
    }
}

/// Kinds of faults.
const LOSSY: usize = 0;
const CUT: usize = 1;
const HANG: usize = 2;
const BOOT: usize = 3;
const DISK: usize = 4;
const WORD: usize = 5;

/// In the calm and the hostile profile the pair has found itself by then, and nothing may move any more.
const STEADY: Time = 40 * SECOND;
const STEADY_SOON: Time = 24 * SECOND;

/// A run, before it runs.
#[derive(Clone)]
pub struct Plan {
    pub profile: Profile,
    pub setup: Setup,
    pub faults: Vec<(Time, Fault)>,
    pub heals_at: Time,
}

/// What came of it.
pub struct Outcome {
    pub violation: Option<Violation>,
    pub simulated: Time,
    pub takeovers: BTreeMap<&'static str, u64>,
    /// Orders that were accepted, and all.
    pub orders: (u64, u64),
}

/// Runs `plan` to its end or to the first violation, and writes down what happens if somebody wants to read it.
pub fn run(plan: &Plan, trace: Option<&mut Vec<String>>) -> Outcome {
    let mut world = World::new(plan.setup.clone(), trace.is_some());
    world.power_on(0);
    world.power_on(1);
    world.judge.steady_from = match plan.profile {
        Profile::Calm | Profile::Hostile => Some(STEADY),
        Profile::In(Situation::Playback) => Some(STEADY_SOON),
        _ => None,
    };
    for &(at, fault) in &plan.faults {
        world.run_until(at);
        if world.judge.violation.is_some() {
            break;
        }
        world.inflict(fault);
    }
    world.run_until(plan.heals_at);
    if world.judge.violation.is_none() {
        world.heal();
        world.await_recovery();
    }
    if let Some(trace) = trace {
        *trace = world.trace.take().unwrap_or_default();
    }
    let accepted = world.answers.iter().filter(|a| a.2 == Answer::Accepted).count();
    Outcome {
        orders: (accepted as u64, world.answers.len() as u64),
        violation: world.judge.violation.take(),
        simulated: world.now,
        takeovers: std::mem::take(&mut world.judge.takeovers),
    }
}

/// The plan that `seed` stands for; `profile` overrides the one that it would draw.
pub fn plan(seed: u64, profile: Option<Profile>, planted: Planted) -> Plan {
    let mut random = Random::new(seed, 2);
    let drawn = Profile::draw(&mut random);
    let profile = profile.unwrap_or(drawn);
    let mut setup = setup(seed, planted, &mut random);
    if let Profile::In(situation) = profile {
        let (faults, heals_at) = situation.stage(&mut setup, &mut random);
        return Plan { profile, setup, faults, heals_at };
    }
    let length = random.between(20, 100) * SECOND;
    let faults = schedule(profile, &setup, length, &mut random);
    Plan { profile, setup, faults, heals_at: length }
}

fn setup(seed: u64, planted: Planted, random: &mut Random) -> Setup {
    let lease = random.pick(&[500u64, 500, 500, 500, 300, 200]);
    let witnesses = random.pick(&[0u8, 1, 1, 1, 2, 2, 3]);
    let serial = random.chance(700);
    let crossover = random.chance(700);
    // A short lease needs a quick link.
    let lan = random.chance(970) || lease < 500 || !(serial || crossover);
    let uneven = random.chance(150);
    let belts = [0, 1].map(|_| belts(random));
    let hold_down = random.between(3, 8);
    let settle = random.between(500, 2000);
    let prefer = random.pick(&[None, None, None, Some(Side::A), Some(Side::B)]);
    let stale_data = random.pick(&[StaleData::Serve, StaleData::Serve, StaleData::Hold]);
    let mirrored = random.chance(400) && (crossover || lan);
    let panic_text = random.chance(800);
    let blind_trust = random.chance(150);
    let round_idle = random.pick(&[250u64, 250, 100]);
    let dwell = lease * MS / 20 * 13 / 10;
    let network = network([serial, crossover, lan], witnesses, lease, dwell, random);
    // Whoever does not require proof of reflection vouches for it.
    let all_reflect = network.witnesses.iter().take(witnesses.into()).all(|w| w.reflects == [true, true]);
    let require_reflection = !(blind_trust && all_reflect);
    let settings = [Side::A, Side::B].map(|node| {
        let lease = if uneven && node == Side::B { lease / 2 + 50 } else { lease };
        let ms = Duration::from_millis;
        let h = lease / 10;
        Settings {
            node,
            boot: BootId::new(1).expect("one is not zero"),
            lease: ms(lease),
            fence: None,
            drift_ppm: timing::DRIFT_PPM,
            margin: ms(50),
            intervals: [serial.then_some(ms(100)), crossover.then_some(ms(h)), lan.then_some(ms(h))],
            witnesses,
            round: Duration::from_micros(lease * 1000 / 20),
            round_idle: ms(round_idle),
            require_reflection,
            settle: ms(settle),
            hold_down: Duration::from_secs(hold_down),
            boot_wait: Duration::from_secs(0),
            longest_wait: Duration::from_secs(0),
            prefer,
            stale_data,
            mirrored,
            panic_text,
            feed: ms(0),
            stop_timeout: ms(2000),
            // Without any, every claim waits for the disk, and all that may happen meanwhile does.
            terms_ahead: if seed.is_multiple_of(2) { 8 } else { 0 },
            digest: 1,
            planted,
        }
    });
    let patience = random.between(1, 6) * SECOND;
    let mut setup = Setup {
        seed,
        settings,
        belts,
        drift: drift(random),
        network,
        boot_time: (random.between(50, 2000) * MS, random.between(2, 6) * SECOND),
        clean_time: random.pick(&[5, 20, 300]) * MS,
        through_wire: random.chance(60),
        probes_answered: random.chance(300),
        reset_works: true,
        lie: None,
    };
    fasten(&mut setup, belts, patience);
    setup
}

/// Gives `setup` the belts, and what is derived from them; a box that boots alone waits `patience` longer than it must.
pub fn fasten(setup: &mut Setup, belts: [Belts; 2], patience: Time) {
    let longest = belts.iter().map(|b| b.longest_bound()).max().unwrap_or(0);
    let ns = Duration::from_nanos;
    for (s, b) in setup.settings.iter_mut().zip(belts) {
        s.fence = b.bound().map(ns);
        // A third of the watchdog's time-out at most, so that two feeds may be missed.
        s.feed = ns(b.watchdog.map_or(400 * MS, |(fire, _)| fire / 4));
    }
    let lease = setup.settings[0].lease.max(setup.settings[1].lease);
    let s = &setup.settings[0];
    let longest = timing::claim_wait(lease, Some(ns(longest)), s.drift_ppm, s.margin).expect("it is finite");
    for s in &mut setup.settings {
        s.longest_wait = longest;
        s.boot_wait = longest + ns(patience);
    }
    setup.belts = belts;
}

fn belts(random: &mut Random) -> Belts {
    let fire = random.pick(&[1100u64, 2000, 2000, 3000]) * MS;
    let watchdog = Some((fire, random.pick(&[0u64, 50, 300]) * MS));
    let lifetime = Some(random.pick(&[1u64, 2]) * SECOND);
    match random.below(12) {
        0..3 => Belts { gate: true, watchdog, lifetime },
        3..5 => Belts { gate: true, watchdog: None, lifetime: None },
        5..7 => Belts { gate: false, watchdog, lifetime },
        7..9 => Belts { gate: false, watchdog, lifetime: None },
        9..11 => Belts { gate: false, watchdog: None, lifetime },
        _ => Belts { gate: true, watchdog: None, lifetime },
    }
}

/// Drifts of both clocks against the world, as far apart as they may be or closer.
fn drift(random: &mut Random) -> [i64; 2] {
    match random.below(6) {
        way @ 0..4 => clock_runs(way),
        _ => [random.below(FAST as u64) as i64, random.below(FAST as u64) as i64],
    }
}

/// Parts per billion by which a clock may run fast.
const FAST: i64 = 1_000_000;
/// And slow: one over (1 + 0.001), so that the ratio of the two is exactly the bound.
const SLOW: i64 = -999_000;

/// Drifts of both clocks with one of them at the bound.
pub fn clock_runs(way: u64) -> [i64; 2] {
    match way {
        0 => [0, FAST],
        1 => [FAST, 0],
        2 => [SLOW, 0],
        _ => [0, SLOW],
    }
}

fn network(present: [bool; 3], witnesses: u8, lease: u64, dwell: Time, random: &mut Random) -> Network {
    let mut network = Network { dwell, ..Network::default() };
    for (path, present) in present.into_iter().enumerate() {
        // 216 bytes of ten bits at 115200 baud.
        let frame_time = if path == 0 { 18_750_000 } else { 0 };
        network.lines[path] = [Line { present, frame_time, ..Line::default() }; 2];
    }
    for witness in network.witnesses.iter_mut().take(witnesses as usize) {
        let latency = match random.below(8) {
            0 => random.below(lease * MS / 10),
            1 => random.below(lease * MS / 30),
            _ => random.between(MS / 10, 2 * MS),
        };
        let reflects = random.pick(&[
            [true, true],
            [true, true],
            [true, true],
            [true, true],
            [true, true],
            [true, true],
            [true, true],
            [true, false],
            [false, false],
        ]);
        *witness = Witness { reflects, latency, legs: [[Leg::default(); 2]; 2], ..Witness::default() };
    }
    network
}

/// Draws faults, sorted by time.
struct Draw<'a> {
    random: &'a mut Random,
    setup: &'a Setup,
    faults: Vec<(Time, Fault)>,
}

fn schedule(profile: Profile, setup: &Setup, length: Time, random: &mut Random) -> Vec<(Time, Fault)> {
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
