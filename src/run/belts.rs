//! All belts of this box in one place: gate, watchdog, address lease, queues. Does what it is told, and says what they
//! promise together.

use std::io;
use std::sync::Arc;

use super::feeder::Feeder;
use super::lines::Behind;
use crate::config::Config;
use crate::fence::address_lease::AddressLease;
use crate::fence::beneath;
use crate::fence::bound::{self, BoundBy, GateBelt, WatchdogBelt};
use crate::fence::gate::layout::Direction;
use crate::fence::gate::nft::{self, Belt};
use crate::fence::gate::program::Guarded;
use crate::fence::gate::{self, Gate};
use crate::fence::watchdog::{self, Watchdog, Weakness};
use crate::netlink::Socket;
use crate::time::{Duration, Instant};
use crate::wire::Mac;

/// An interface by which service addresses leave.
#[derive(Clone, Debug)]
pub struct Way {
    /// The kernel's name.
    pub name: String,
    /// The kernel's index.
    pub index: u32,
}

/// The belts.
pub struct Belts {
    gate: Option<Arc<Gate>>,
    /// The last verification found it in order.
    gate_holds: bool,
    /// The belt against raw senders, until somebody looks after it.
    raw_belt: Option<Belt>,
    watchdog: Option<Arc<Watchdog>>,
    /// Who feeds it.
    feeder: Option<Feeder>,
    dog_belt: Option<WatchdogBelt>,
    lease: AddressLease,
    lifetime: Duration,
    /// No bound of the pair may be longer.
    longest: Duration,
    behind: Behind,
}

impl Belts {
    /// Installs the closed gate and arms the watchdog. A belt that cannot be had is told in the log and left out: the
    /// bound that the peer hears takes it into account. `behind`: what is behind the gate.
    ///
    /// # Errors
    ///
    /// When the kernel gives no thread to feed the watchdog.
    pub(super) fn open(
        config: &Config,
        ways: &[Way],
        virtual_macs: Vec<Mac>,
        behind: Behind,
        now: Instant,
    ) -> io::Result<Self> {
        let settings = gate::Settings {
            interfaces: ways.iter().map(|way| way.index).collect(),
            addresses: config.site.addresses.iter().map(|address| address.prefix.ip).collect(),
            virtual_macs,
            hook: None,
        };
        let names: Vec<&str> = ways.iter().map(|way| way.name.as_str()).collect();
        let raw_belt = against_raw_senders(&names, &settings)
            .inspect_err(|e| log::warn!("no belt against raw senders: {e}; the gate stops all others"))
            .ok();
        let gate = Gate::install(settings)
            .inspect_err(|error| log::warn!("no egress gate: {error}; a hung program is stopped by slower belts"))
            .ok()
            .map(Arc::new);
        if let Some((gate, others)) = gate.as_ref().zip(others(ways).ok()) {
            gate.guard_others(&others); // what cannot be done is told by whoever looks after it
        }
        let (watchdog, dog_belt) = arm_watchdog(config, now);
        let watchdog = watchdog.map(Arc::new);
        let feeder = watchdog.clone().map(|watchdog| Feeder::start(move |now| watchdog.feed(now))).transpose()?;
        let lifetime = config.site.timing.address_lifetime;
        Ok(Self {
            gate,
            gate_holds: true,
            raw_belt,
            watchdog,
            feeder,
            dog_belt,
            lease: AddressLease::new(lifetime),
            lifetime,
            longest: config.plan.longest_bound(),
            behind,
        })
    }

    /// F and the belt that it comes from.
    #[must_use]
    pub fn bound(&self) -> (Option<Duration>, BoundBy) {
        let gate = self.gate.as_ref().filter(|_| self.gate_holds).map(|_| ());
        let gate = gate.map(|()| GateBelt { queue: self.behind.stay });
        bound::bound(&bound::Belts {
            gate,
            watchdog: self.dog_belt,
            address_lease: Some(self.lifetime),
            waiting: self.behind.stay,
            longest: self.longest,
        })
    }

    /// What is behind the gate.
    pub(super) fn behind(&self) -> &Behind {
        &self.behind
    }

    /// What is there now.
    pub(super) fn set_behind(&mut self, behind: &Behind) {
        self.behind.clone_from(behind);
    }

    /// This node is Active: the gate opens until `until`.
    pub fn open_until(&mut self, until: Instant, first: bool) {
        if let Some(gate) = &self.gate {
            if first {
                gate.arm();
            }
            if !gate.open_until(until) {
                log::error!("the gate is closed and does not open: a renewal came after a fence");
            }
        }
    }

    /// Nothing leaves from a service address from now on.
    pub fn close(&mut self) {
        self.lease.ended();
        if let Some(gate) = &self.gate {
            gate.close();
        }
    }

    /// The gate and the belt against raw senders, for whoever looks after them beside the loop.
    #[must_use]
    pub fn share(&mut self) -> (Option<Arc<Gate>>, Option<Belt>) {
        (self.gate.clone(), self.raw_belt.take())
    }

    /// The gate was found in order, or not: it counts for the bound only while it is.
    pub fn gate_holds(&mut self, holds: bool) {
        self.gate_holds = holds;
    }

    /// When the gate closes by itself; `None` without a gate, and while it does not hold.
    #[must_use]
    pub fn gate_expiry(&self) -> Option<Instant> {
        self.gate.as_deref().filter(|_| self.gate_holds).map(Gate::expiry)
    }

    /// Frames for service addresses that the gate has let in, and when the last one came; `None` without a gate.
    #[must_use]
    pub fn frames_in(&self) -> Option<(u64, Instant)> {
        self.gate.as_deref().map(|gate| gate.passed(Direction::Ingress))
    }

    /// Whether the addresses' lifetime is due for renewal.
    #[must_use]
    pub fn lease_due(&self, now: Instant) -> bool {
        self.lease.due(now)
    }

    /// The addresses got a new lifetime.
    pub fn lease_renewed(&mut self, now: Instant) {
        self.lease.renewed(now);
    }

    /// Has the watchdog fed, if that is allowed when its thread comes to it.
    pub fn feed(&self) {
        if let Some(feeder) = &self.feeder {
            feeder.ask();
        }
    }

    /// Feeds may begin before `until`: the right's end, or never ending while the addresses are confirmed down.
    pub fn allow_feeds(&self, until: Instant) {
        if let Some(feeder) = &self.feeder {
            feeder.allow(until);
        }
    }

    /// A watchdog that was not fed for longer than it takes to fire should have reset this box. Whatever its device does, it is no
    /// belt from now on.
    pub fn look_at_watchdog(&mut self, now: Instant) {
        let (Some(watchdog), Some(belt)) = (&self.watchdog, self.dog_belt) else { return };
        let unfed = watchdog.unfed(now);
        if unfed > belt.firing {
            self.dog_belt = None;
            log::error!(
                "watchdog {} was not fed for {unfed:?} and has not fired: it counts for nothing until this program is started anew",
                watchdog.device().display()
            );
        }
    }

    /// When the watchdog was fed later than it should be, last.
    #[must_use]
    pub fn fed_late_at(&self) -> Option<Instant> {
        self.feeder.as_ref().and_then(Feeder::late_at)
    }

    /// The watchdog, for the status.
    #[must_use]
    pub fn watchdog(&self) -> Option<&Watchdog> {
        self.watchdog.as_deref()
    }

    /// Takes the belts off at the end of the program: only with the addresses confirmed down.
    pub fn release(self) {
        if let Err(error) = nft::remove() {
            log::debug!("no belt against raw senders to take off: {error}");
        }
        // Whoever verified it has ended, whether or not he has let go of it.
        if let Some(Err(error)) = self.gate.as_deref().map(Gate::remove) {
            log::warn!("the egress gate stays, closed: {error}");
        }
        drop(self.feeder); // once its last feed is over
        match self.watchdog.and_then(Arc::into_inner).map(Watchdog::disarm) {
            None | Some(Ok(())) => {}
            Some(Err(error)) if error.kind() == io::ErrorKind::Unsupported => {
                log::warn!("the watchdog goes on (nowayout): the box resets unless somebody feeds it");
            }
            Some(Err(error)) => log::error!("the watchdog cannot be stopped: {error}"),
        }
    }
}

/// The interfaces by which frames may leave besides those of the service addresses.
///
/// # Errors
///
/// The kernel's.
pub(super) fn others(ways: &[Way]) -> io::Result<Vec<u32>> {
    let indexes: Vec<u32> = ways.iter().map(|way| way.index).collect();
    beneath::others(&mut Socket::open()?, &indexes)
}

/// Installs the belt that drops what packet sockets of others send as holder of a service address, on the interfaces that have
/// these names now.
///
/// # Errors
///
/// The kernel's; EOPNOTSUPP and the like where it has no nf_tables on egress.
pub fn against_raw_senders(names: &[&str], settings: &gate::Settings) -> io::Result<Belt> {
    Belt::install(names, Guarded { addresses: &settings.addresses, virtual_macs: &settings.virtual_macs })
}

fn arm_watchdog(config: &Config, now: Instant) -> (Option<Watchdog>, Option<WatchdogBelt>) {
    let Some(board) = &config.board.watchdog else { return (None, None) };
    let settings = watchdog::Settings {
        device: board.device.clone(),
        timeout: config.site.watchdog.timeout,
        nowayout: config.site.watchdog.nowayout,
    };
    let watchdog = match Watchdog::arm_at_least(&settings, now) {
        Ok(watchdog) => watchdog,
        Err(error) => {
            log::error!("no watchdog: {error}");
            return (None, None);
        }
    };
    let belt = match watchdog.weakness() {
        None => Some(WatchdogBelt {
            firing: watchdog.timeout() * u32::from(board.firing_percent) / 100,
            reset: board.reset_time,
        }),
        Some(Weakness::Slower) => {
            let (device, seconds) = (watchdog.device().display(), watchdog.timeout().as_secs());
            log::error!(
                "watchdog {device} knows no {:?} and counts for nothing; [watchdog] timeout = \"{seconds}s\" is what it takes",
                settings.timeout
            );
            None
        }
        Some(weakness) => {
            log::warn!("watchdog {} counts for nothing: {weakness:?}", watchdog.device().display());
            None
        }
    };
    (Some(watchdog), belt)
}
