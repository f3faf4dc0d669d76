//! A simulated box: power, kernel, disk, belts and the program. What leaves it as holder of a service address depends on
//! all of them; the node's opinion does not count.

use super::clock::{Clock, NEVER, Time};
use twobox::node::{Action, Memory, Node, Order, Record, Settings};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::Seal;

/// The belts that a box has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Belts {
    pub gate: bool,
    /// Lifetime of a service address in the kernel.
    pub lifetime: Option<Time>,
    /// Longest time from a feed to firing, and from firing to silence.
    pub watchdog: Option<(Time, Time)>,
}

/// Latest removal of an address after its lifetime.
pub const EXPIRY_LATENESS: Time = 2_000_000_000;
/// The gate's bound.
pub const GATE_BOUND: Time = 1_000_000;

impl Belts {
    /// F, as the box would tell it: a true bound of what is modelled.
    pub fn bound(&self) -> Option<Time> {
        if self.gate {
            return Some(GATE_BOUND);
        }
        if let Some((fire, reset)) = self.watchdog {
            return Some(2 * fire + reset);
        }
        self.lifetime.map(|lifetime| 2 * lifetime + EXPIRY_LATENESS)
    }

    /// The longest bound that the box can be left with.
    pub fn longest_bound(self) -> Time {
        let rest = if self.weakened() == self { None } else { self.weakened().bound() };
        rest.map_or(0, |_| self.weakened().longest_bound()).max(self.bound().unwrap_or(0))
    }

    /// Without the best one.
    pub fn weakened(self) -> Belts {
        if self.gate {
            Belts { gate: false, ..self }
        } else if self.watchdog.is_some() {
            Belts { watchdog: None, ..self }
        } else {
            Belts { lifetime: None, ..self }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Off,
    Booting,
    On,
}

/// Where the takeover driver stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Addresses ordered up.
    Up,
    /// A surrender is stopping the services; addresses are still up.
    Stopping,
    /// Addresses ordered down.
    Down,
}

/// What waits for the loop's next turn.
#[derive(Clone, Copy, Debug)]
pub enum Waiting {
    Frame { path: u8, frame: u32 },
    Pong { witness: u8, round: u32 },
    Down { order: u32 },
    NotDown,
    ServicesStopped { order: u32 },
    Written { ticket: u32, durable: bool },
    Order(Order),
    TextBegins,
    TextEnds,
    Carriers,
    Services,
    Data,
    Bound,
    Conflict,
}

/// Frames that a socket keeps for a stopped program.
pub const SOCKET_FRAMES: usize = 256;

pub struct Machine {
    pub template: Settings,
    pub seal: Seal,
    pub clock: Clock,
    pub power: Power,
    /// Counts boots, so that what belonged to an earlier one is void.
    pub epoch: u32,
    /// Counts starts of the program, likewise.
    pub life: u32,
    pub program: Option<Box<Node>>,
    pub hung_until: Time,
    pub stopped_until: Time,
    /// The next turn is interrupted for so long.
    pub stop_in_turn: Option<Time>,
    /// And once more for so long, when the rest of that turn has been done.
    pub stop_again: Time,
    pub late: (Time, Time),
    pub waiting: Vec<Waiting>,
    pub frames_waiting: usize,
    pub wake: Time,
    /// Actions of an interrupted turn that are still to be done.
    pub unfinished: Vec<Action>,

    pub belts: Belts,
    pub full_belts: Belts,
    pub belt_lost_until: Time,
    pub gate_until: Instant,
    pub address_up: bool,
    pub address_until: Time,
    pub dog_fires: Time,
    pub dog_event: Time,
    pub holding: Holding,
    pub order: u32,

    pub memory: Memory,
    /// A write under way: ticket, record, when it is done.
    pub writing: Option<(u32, Record)>,
    pub disk_slow: (Time, Time),
    pub disk_fails_until: Time,
    pub disk_hangs_until: Time,
    pub damaged_ever: bool,
    pub unclean: bool,

    pub services_fail_until: Time,
    pub stops_slowly: (Time, Time),
    pub stuck_until: Time,
    pub carrier_lost_until: [Time; 3],
    pub text_began: Option<Instant>,
    /// Kept off until everything heals.
    pub kept_off: bool,
    /// When it sent something last.
    pub said_at: Time,
    pub leave_length: Time,

    /// Term of the newest lineage on this box's data disk, with its boot.
    pub copy: twobox::wire::pair::Generation,
    /// When it was last what its source's was.
    pub synced: Time,
    /// When the mirror of the present program took a cut last, or sent one.
    pub cut_at: Option<Time>,
    /// When the box was last seen to serve.
    pub served_at: Time,
    /// When the present program said last that it would not serve if it were voted for.
    pub unfit_at: Option<Time>,
    /// When it began to claim last.
    pub claiming_at: Time,
    /// Until then the mirror has not read its copies.
    pub copies_read_at: Time,
    /// Newest lineage heard of by the present program.
    pub heard_of: twobox::wire::pair::Generation,
}

impl Machine {
    pub fn new(template: Settings, seal: Seal, belts: Belts, drift: i64) -> Machine {
        Machine {
            template,
            seal,
            clock: Clock { booted: 0, from: 0, drift },
            power: Power::Off,
            epoch: 0,
            life: 0,
            program: None,
            hung_until: 0,
            stopped_until: 0,
            stop_in_turn: None,
            stop_again: 0,
            late: (0, 0),
            waiting: Vec::new(),
            frames_waiting: 0,
            wake: NEVER,
            unfinished: Vec::new(),
            belts,
            full_belts: belts,
            belt_lost_until: 0,
            gate_until: Instant::BOOT,
            address_up: false,
            address_until: 0,
            dog_fires: NEVER,
            dog_event: NEVER,
            holding: Holding::Down,
            order: 0,
            memory: Memory::Fresh,
            writing: None,
            disk_slow: (0, 0),
            disk_fails_until: 0,
            disk_hangs_until: 0,
            damaged_ever: false,
            unclean: false,
            services_fail_until: 0,
            stops_slowly: (0, 0),
            stuck_until: 0,
            carrier_lost_until: [0; 3],
            text_began: None,
            kept_off: false,
            said_at: 0,
            leave_length: 0,
            copy: Default::default(),
            synced: 0,
            cut_at: None,
            served_at: 0,
            unfit_at: None,
            claiming_at: 0,
            copies_read_at: 0,
            heard_of: Default::default(),
        }
    }

    /// The kernel runs.
    pub fn kernel_runs(&self, now: Time) -> bool {
        self.power == Power::On && now >= self.hung_until
    }

    /// The program's loop runs.
    pub fn runs(&self, now: Time) -> bool {
        self.kernel_runs(now) && now >= self.stopped_until && self.program.is_some()
    }

    /// Packets leave as holder of the service addresses, now.
    pub fn emits(&self, now: Time) -> bool {
        self.address_up
            && self.kernel_runs(now)
            && (self.belts.lifetime.is_none() || now < self.address_until)
            && (!self.belts.gate || self.clock.local(now) < self.gate_until)
    }

    /// Everything in memory is gone, and so is what holds the addresses.
    pub fn lose_power(&mut self) {
        self.epoch += 1;
        self.life += 1;
        self.program = None;
        self.waiting.clear();
        self.frames_waiting = 0;
        self.unfinished.clear();
        self.wake = NEVER;
        self.hung_until = 0;
        self.stopped_until = 0;
        self.stop_in_turn = None;
        self.stop_again = 0;
        self.address_up = false;
        self.gate_until = Instant::BOOT;
        self.holding = Holding::Down;
        self.dog_fires = NEVER;
        self.text_began = None;
        self.power = Power::Off;
    }

    /// The program is gone; the kernel keeps what it was told.
    pub fn lose_program(&mut self) {
        self.life += 1;
        self.program = None;
        self.waiting.clear();
        self.frames_waiting = 0;
        self.unfinished.clear();
        self.wake = NEVER;
        self.stopped_until = 0;
        self.stop_in_turn = None;
        self.stop_again = 0;
        self.text_began = None;
    }

    /// Nothing of it goes on, its clock and its watchdog neither.
    pub fn pause(&mut self, now: Time, length: Time) {
        self.clock.stop(now, length);
        self.dog_fires = self.dog_fires.saturating_add(length);
        self.address_until = self.address_until.saturating_add(length);
    }

    pub fn renew_address(&mut self, now: Time, lateness: Time) {
        self.address_up = true;
        if let Some(lifetime) = self.belts.lifetime {
            self.address_until = self.later(now, lifetime + lateness);
        }
    }

    pub fn feed(&mut self, now: Time) {
        if let Some((fire, _)) = self.belts.watchdog
            && self.dog_fires != NEVER
        {
            self.dog_fires = self.later(now, fire);
        }
    }

    /// `wait` after `now` by the box's own clock, by which its belts go too.
    fn later(&self, now: Time, wait: Time) -> Time {
        self.clock.world(self.clock.local(now) + Duration::from_nanos(wait))
    }

    pub fn carriers(&self, now: Time) -> u8 {
        (0..3).filter(|&path| now >= self.carrier_lost_until[path]).fold(0, |bits, path| bits | 1 << path)
    }
}
