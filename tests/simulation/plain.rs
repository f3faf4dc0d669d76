//! The default profile as a pair of the simulator, for worlds that are always the same.

use super::world::Setup;
use super::world::clock::{MS, SECOND, Time};
use super::world::machine::Belts;
use super::world::network::{Line, Network, Witness};
use twobox::node::planted::Planted;
use twobox::node::settings::{Settings, StaleData};
use twobox::time::Duration;
use twobox::wire::pair::{BootId, Side};

pub const A: usize = 0;
pub const B: usize = 1;
/// Longer than anything that is looked at.
pub const EVER: Time = 3_000 * SECOND;

/// The default profile: L 500 ms, all links, gate and watchdog and address lease, and so many witnesses.
pub fn setup(witnesses: u8) -> Setup {
    let belts = Belts { gate: true, watchdog: Some((2_000 * MS, 50 * MS)), lifetime: Some(2 * SECOND) };
    let ms = Duration::from_millis;
    let settings = [Side::A, Side::B].map(|node| Settings {
        node,
        boot: BootId::new(1).expect("one is not zero"),
        lease: ms(500),
        fence: None,
        drift_ppm: 1_000,
        margin: ms(50),
        intervals: [Some(ms(100)), Some(ms(50)), Some(ms(50))],
        witnesses,
        round: ms(25),
        round_idle: ms(250),
        require_reflection: true,
        settle: ms(2_000),
        hold_down: ms(5_000),
        boot_wait: ms(10_000),
        longest_wait: ms(6_000),
        prefer: None,
        stale_data: StaleData::Serve,
        mirrored: false,
        panic_text: true,
        feed: ms(500),
        stop_timeout: ms(5_000),
        terms_ahead: 8,
        digest: 1,
        planted: Planted::NONE,
    });
    let mut network = Network { dwell: 33 * MS, ..Network::default() };
    for (path, lines) in network.lines.iter_mut().enumerate() {
        let frame_time = if path == 0 { 18_750_000 } else { 0 };
        *lines = [Line { present: true, frame_time, ..Line::default() }; 2];
    }
    for witness in network.witnesses.iter_mut().take(witnesses.into()) {
        *witness = Witness { reflects: [true, true], latency: MS / 2, ..Witness::default() };
    }
    Setup {
        seed: 1,
        settings,
        belts: [belts; 2],
        drift: [0, 1_000_000],
        network,
        boot_time: (SECOND, 2 * SECOND),
        clean_time: 20 * MS,
        through_wire: true,
        probes_answered: true,
        reset_works: true,
        lie: None,
    }
}

/// The same without a gate: the watchdog decides, and a takeover in silence takes its time.
pub fn watchdog_only(witnesses: u8) -> Setup {
    let mut setup = setup(witnesses);
    for belts in &mut setup.belts {
        belts.gate = false;
        belts.lifetime = None;
    }
    setup
}
