//! The pair that a seed decides, its belts and its surroundings.

use crate::world::Setup;
use crate::world::clock::{MS, SECOND, Time};
use crate::world::machine::Belts;
use crate::world::network::{Leg, Line, Network, Witness};
use crate::world::random::Random;
use twobox::node::Settings;
use twobox::node::planted::Planted;
use twobox::node::settings::StaleData;
use twobox::node::timing;
use twobox::time::Duration;
use twobox::wire::pair::{BootId, Side};

/// All but the faults.
pub(super) fn draw(seed: u64, planted: Planted, random: &mut Random) -> Setup {
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
    let rounds = rounds_in_a_lease(seed);
    let network = network([serial, crossover, lan], witnesses, lease, dwell(lease * MS / u64::from(rounds)), random);
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
            round: Duration::from_micros(lease * 1000 / u64::from(rounds)),
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
    differ(seed, &mut setup);
    setup
}

/// The site file of one box in ten was changed and the other one's was not. By a stream of its own, as above.
fn differ(seed: u64, setup: &mut Setup) {
    let mut random = Random::new(seed, 4);
    if !random.chance(100) {
        return;
    }
    let crossover_or_lan = setup.network.lines[1][0].present || setup.network.lines[2][0].present;
    let s = &mut setup.settings[random.below(2) as usize];
    s.digest += 1;
    match random.below(4) {
        0 => s.prefer = random.pick(&[None, Some(Side::A), Some(Side::B)]),
        1 => s.mirrored = !s.mirrored && crossover_or_lan,
        // A list that was made longer or shorter at its end. Who vouches for his witnesses has told both boxes the same.
        2 if s.require_reflection => s.witnesses = random.below(4) as u8,
        _ => s.stale_data = random.pick(&[StaleData::Serve, StaleData::Hold]),
    }
}

/// How many rounds at full rate a lease has: the default's, and the most and the fewest that `config` allows. What more would do
/// to the clock of unbroken quorum is looked at too. By a stream of its own: what a seed decides besides is the same whatever this is.
pub fn rounds_in_a_lease(seed: u64) -> u32 {
    Random::new(seed, 3).pick(&[20, 20, 20, 16, 32, 50, 100])
}

/// How long a leg to a witness stays as it is where rounds come every `round`: what crosses it within one shares its fate.
pub fn dwell(round: Time) -> Time {
    round * 13 / 10
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
