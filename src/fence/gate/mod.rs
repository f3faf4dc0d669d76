//! The egress gate: a program in the packets' way that lets nothing pass as holder of a service address once an absolute
//! time on the boot clock has come.
//!
//! The time lies in a map that is mapped into this process, so a renewal is one memory write. Zero is closed, and a new map
//! is zero. The programs are attached to the interfaces themselves, not as links, so they and the map outlive the daemon:
//! whatever happens to it, the gate closes by the clock. A new instance attaches its own closed programs before it takes
//! away those of its predecessor; there is no moment without a gate. Design, limits and figures: docs/gate.md.
//!
//! A frame may also leave by another interface than the one that has the address: by a card that a route leads to, or by a port of a
//! bond, where a packet socket or the bonding driver itself sends. So there is a program on those, too ([`Gate::guard_others`]).
//!
//! What waits in a queue behind it still leaves: [`super::queue`] bounds that. A second, slower-witted belt for raw senders
//! that bypass the queueing layer is [`nft`].
//!
//! What is trusted to this room is only the closing. That the time written is never beyond the right, and that the right is
//! looked at before every renewal, is the node's and the loop's duty.

pub mod assembler;
pub mod bpf;
mod classifier;
mod hook;
pub mod layout;
pub mod nfnetlink;
pub mod nft;
mod others;
pub mod program;
mod verify;

use core::net::IpAddr;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use hook::Hook;
pub use others::{MOST_OTHERS, Others};
pub use verify::Fault;

use crate::time::Instant;
use bpf::{Map, Program};
use layout::Direction;
use program::Guarded;

/// What to guard, and where.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Indexes of the physical interfaces (if_nametoindex(3)) by which a service address can leave.
    pub interfaces: Vec<u32>,
    /// Service addresses, at most [`layout::ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// Virtual MACs, at most [`layout::VIRTUAL_MACS`].
    pub virtual_macs: Vec<[u8; 6]>,
    /// The way to attach; none takes tcx where the kernel has it, else the classifier.
    pub hook: Option<Hook>,
}

/// The installed gate. One thread arms, opens and closes; any may read, verify and repair. Dropping it closes it and leaves it
/// in place; only [`Gate::remove`] takes it away.
pub struct Gate {
    map: Map,
    place: Mutex<Place>,
    settings: Settings,
    hook: Hook,
    armed: AtomicBool,
    /// The last time written, to notice when somebody else writes.
    written: AtomicU64,
}

/// What runs where. Never locked by the thread that opens and closes.
struct Place {
    programs: [Program; 2],
    interfaces: Vec<u32>,
    /// Other interfaces, and the number of the program that is there.
    others: Vec<(u32, u32)>,
}

impl Place {
    fn program(&self, direction: Direction) -> &Program {
        &self.programs[direction as usize]
    }
}

/// Counters of one direction, since the gate was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Guarded frames that passed.
    pub passes: u64,
    /// When the last of them did; zero if none. Two processors that pass frames in the same moment may write in the
    /// wrong order, some nanoseconds apart.
    pub last_pass: Instant,
    /// Dropped frames by service address, in the order of the settings.
    pub drops: Vec<u64>,
    /// Dropped for a virtual MAC.
    pub drops_virtual_mac: u64,
    /// Dropped because their headers could not be read to the end.
    pub drops_unreadable: u64,
}

impl Gate {
    /// Installs a closed gate on all interfaces, replaces a predecessor's, and proves it by a probe.
    ///
    /// On an error some interfaces may carry the new closed gate already: a later call replaces it, and until then nothing
    /// of a service address passes there.
    ///
    /// # Errors
    /// InvalidInput for too many addresses or interfaces that are not Ethernet; otherwise the kernel's, with the
    /// interface's index in the message.
    pub fn install(settings: Settings) -> io::Result<Gate> {
        if settings.addresses.len() > layout::ADDRESSES || settings.virtual_macs.len() > layout::VIRTUAL_MACS {
            let most = format!("at most {} addresses and {} virtual MACs", layout::ADDRESSES, layout::VIRTUAL_MACS);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, most));
        }
        let map = Map::create()?;
        let programs = load(&settings, &map)?;
        let hook = attach(&settings.interfaces, settings.hook, &programs)?;
        let (armed, written) = (AtomicBool::new(false), AtomicU64::new(0));
        let place = Mutex::new(Place { programs, interfaces: settings.interfaces.clone(), others: Vec::new() });
        let gate = Gate { map, place, settings, hook, armed, written };
        let faults = gate.verify();
        if faults.is_empty() {
            Ok(gate)
        } else {
            Err(io::Error::other(format!("the gate was installed and does not hold: {faults:?}")))
        }
    }

    /// Permits [`Gate::open_until`]: the node has become Active. Opens nothing yet.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Open until `until`, by the kernel's own clock: one memory write. A time in the past closes. Returns whether it was
    /// written: not before [`Gate::arm`] nor after [`Gate::close`], so a renewal that comes after a fence opens nothing.
    pub fn open_until(&self, until: Instant) -> bool {
        if !self.armed.load(Ordering::SeqCst) {
            return false;
        }
        self.write(until.as_nanos());
        true
    }

    /// Closes now, and until [`Gate::arm`] is called again.
    pub fn close(&self) {
        self.armed.store(false, Ordering::SeqCst);
        self.write(0);
    }

    /// The time that stands in the map; [`Instant::BOOT`] is closed.
    #[must_use]
    pub fn expiry(&self) -> Instant {
        Instant::from_nanos(self.map.read(layout::EXPIRY))
    }

    fn write(&self, expiry: u64) {
        self.written.store(expiry, Ordering::SeqCst);
        self.map.word(layout::EXPIRY).store(expiry, Ordering::SeqCst);
    }

    /// Which way it is attached.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// The kernel's number of the map, for a look from outside (bpftool-map(8)).
    #[must_use]
    pub fn map_id(&self) -> u32 {
        self.map.id()
    }

    /// What it was installed with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Guarded frames that passed in one direction, and when the last of them did: two memory reads, for the loop.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> (u64, Instant) {
        (self.map.read(direction.passes()), Instant::from_nanos(self.map.read(direction.last_pass())))
    }

    /// The counters of one direction.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> Counters {
        let drops = |slot: usize| self.map.read(direction.drops() + slot);
        let (passes, last_pass) = self.passed(direction);
        Counters {
            passes,
            last_pass,
            drops: (0..self.settings.addresses.len()).map(drops).collect(),
            drops_virtual_mac: drops(layout::SLOT_VIRTUAL_MAC),
            drops_unreadable: drops(layout::SLOT_UNREADABLE),
        }
    }

    /// Brings back what was taken away or put before the gate: new programs on the same map go first on every one of
    /// `interfaces` (the same, or those that came in their place), then the former ones go. Expiry and counters stay; an
    /// expiry that somebody else wrote becomes the last one of ours.
    ///
    /// # Errors
    /// The kernel's; the gate is then as far as it came, never less than before.
    pub fn repair(&self, interfaces: &[u32]) -> io::Result<()> {
        self.take_back_expiry();
        let programs = load(&self.settings, &self.map)?;
        let attached = attach(interfaces, self.settings.hook, &programs);
        let mut place = self.place();
        place.interfaces = interfaces.to_vec();
        if attached.is_ok() {
            place.programs = programs;
        }
        attached.map(|_| ())
    }

    /// Only if what stands there is still what was found: the other thread may open or close in the same moment, and what it
    /// writes counts.
    fn take_back_expiry(&self) {
        if let Some(Fault::Expiry { written, found }) = self.check_expiry() {
            let word = self.map.word(layout::EXPIRY);
            let _ = word.compare_exchange(found, written, Ordering::SeqCst, Ordering::SeqCst); // else it was just written
        }
    }

    /// Takes the gate away: only when the service addresses are confirmed down, or nothing stands in their way, and when nobody
    /// repairs it any more.
    ///
    /// # Errors
    /// The kernel's. The gate stays closed where it could not be taken away.
    pub fn remove(&self) -> io::Result<()> {
        self.close();
        let place = self.place();
        for &index in place.interfaces.iter().chain(place.others.iter().map(|(index, _)| index)) {
            for direction in Direction::ALL {
                take_off(index, direction)?;
            }
        }
        Ok(())
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

fn load(settings: &Settings, map: &Map) -> io::Result<[Program; 2]> {
    let guarded = Guarded { addresses: &settings.addresses, virtual_macs: &settings.virtual_macs };
    let load = |direction: Direction| {
        let code = program::build(direction, guarded, map.descriptor())
            .map_err(|e| io::Error::other(format!("the gate's program cannot be assembled: {e:?}")))?;
        Program::load(direction.program_name(), &code)
    };
    Ok([load(Direction::Egress)?, load(Direction::Ingress)?])
}

/// Takes ours off interface `index`, if it is there.
fn take_off(index: u32, direction: Direction) -> io::Result<()> {
    match hook::sweep(index, direction, None) {
        // The interface has gone, and the gate with it.
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        done => done,
    }
}

/// Attaches the programs first on all interfaces, then sweeps what else of ours is there. Returns the way taken.
fn attach(interfaces: &[u32], wanted: Option<Hook>, programs: &[Program; 2]) -> io::Result<Hook> {
    let mut hook = wanted.unwrap_or(Hook::Tcx);
    for &index in interfaces {
        let told = |e: io::Error| io::Error::new(e.kind(), format!("the gate on interface {index}: {e}"));
        for direction in Direction::ALL {
            let program = &programs[direction as usize];
            let mut attached = hook::attach_first(hook, index, direction, program);
            let lacks_tcx = attached.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EINVAL));
            if lacks_tcx && wanted.is_none() && hook == Hook::Tcx {
                hook = Hook::Classifier;
                attached = hook::attach_first(hook, index, direction, program);
            }
            attached.map_err(told)?;
            hook::sweep(index, direction, Some(program.id())).map_err(told)?;
        }
    }
    Ok(hook)
}
