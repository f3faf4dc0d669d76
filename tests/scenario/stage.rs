//! A pair at peace, to which a scenario does something.

use crate::world::clock::{MS, Time, ns};
use crate::world::fault::Fault;
use crate::world::{Setup, World};
use twobox::wire::pair::Role;

pub use crate::plain::{A, B, EVER, setup, watchdog_only};

pub const BOTH: u8 = 3;

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
