//! A pair at peace, to which a scenario does something.

use crate::world::clock::{MS, SECOND, Time, ns};
use crate::world::fault::Fault;
use crate::world::machine::Belts;
use crate::world::network::{Line, Network, Witness};
use crate::world::{Setup, World};
use twobox::node::planted::Planted;
use twobox::node::settings::{Settings, StaleData};
use twobox::time::Duration;
use twobox::wire::pair::{BootId, Role, Side};

pub const A: usize = 0;
pub const B: usize = 1;
pub const BOTH: u8 = 3;
/// Longer than any scenario.
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
        prefer: None,
        stale_data: StaleData::Serve,
        mirrored: false,
        panic_text: true,
        feed: ms(500),
        stop_timeout: ms(5_000),
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

/// A world with somebody who looks at it. Safety is judged at every instant by the world itself.
pub struct Stage {
    pub world: World,
}

impl Stage {
    /// Both boxes on for long enough to be settled: A serves, B follows.
    pub fn settled(setup: Setup) -> Stage {
        let mut stage = Stage { world: World::new(setup, true) };
        stage.world.power_on(A);
        stage.world.power_on(B);
        stage.run(20);
        assert!(stage.serves(A), "{}", stage.told());
        stage.role(B, Role::Standby);
        stage
    }

    pub fn run(&mut self, seconds: Time) {
        self.run_ms(seconds * 1_000);
    }

    pub fn run_ms(&mut self, ms: Time) {
        let end = self.world.now + ms * MS;
        self.world.run_until(end);
        assert!(self.world.judge.violation.is_none(), "{:?}\n{}", self.world.judge.violation, self.told());
    }

    pub fn does(&mut self, fault: Fault) -> &mut Stage {
        self.world.inflict(fault);
        self
    }

    pub fn cut_all(&mut self, ways: u8) -> &mut Stage {
        for path in 0..3 {
            self.does(Fault::Cut { path, ways, length: EVER });
        }
        self
    }

    pub fn serves(&self, side: usize) -> bool {
        self.world.boxes[side].emits(self.world.now)
    }

    #[track_caller]
    pub fn only(&self, side: usize) {
        assert!(self.serves(side) && !self.serves(1 - side), "{}", self.told());
    }

    #[track_caller]
    pub fn nobody(&self) {
        assert!(!self.serves(A) && !self.serves(B), "{}", self.told());
    }

    #[track_caller]
    pub fn role(&self, side: usize, role: Role) {
        assert_eq!(self.world.role(side), Some(role), "{}", self.told());
    }

    /// Milliseconds until `side` serves, up to `limit` of them.
    #[track_caller]
    pub fn until_serves(&mut self, side: usize, limit: Time) -> Time {
        let began = self.world.now;
        while !self.serves(side) {
            self.run_ms(1);
            assert!(self.world.now - began < limit * MS, "not within {limit} ms\n{}", self.told());
        }
        (self.world.now - began) / MS
    }

    /// Milliseconds until anybody serves, up to `limit` of them.
    #[track_caller]
    pub fn until_served(&mut self, limit: Time) -> Time {
        let began = self.world.now;
        while !self.serves(A) && !self.serves(B) {
            self.run_ms(1);
            assert!(self.world.now - began < limit * MS, "not within {limit} ms\n{}", self.told());
        }
        (self.world.now - began) / MS
    }

    /// The claim wait that A told, as B's clock would count it.
    pub fn claim_wait(setup: &Setup) -> Time {
        let s = &setup.settings[A];
        (ns(s.lease) + setup.belts[A].bound().unwrap_or(0) + ns(s.margin)) / MS
    }

    /// Takeovers so far.
    pub fn takeovers(&self) -> u64 {
        self.world.judge.takeovers.values().sum()
    }

    pub fn told(&self) -> String {
        self.world.trace.clone().unwrap_or_default().join("\n")
    }
}
