//! All links of this box behind one call each: send this heartbeat, drain what has come.

use std::cell::Cell;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::clock;
use crate::config::Config;
use crate::link::ethernet::Ethernet;
use crate::link::reflected::{self, Arrival, Reflected};
use crate::link::serial::{Port, Serial};
use crate::link::{Binder, Carrier, Counters, Sent};
use crate::node::settings::{CROSSOVER, FIRST_REFLECTED, LAN, NULL_MODEM, PATHS, WITNESSES};
use crate::time::Instant;
use crate::wire::heartbeat::{self, Heartbeat, MAX_SIZE, Reject, Seal};
use crate::wire::line::Finding;
use crate::wire::pair::{BootId, Side};
use crate::wire::serial as framing;
use crate::wire::{Mac, side};

use super::neighbor::Neighbor;
use super::null_modem::{NullModem, Take};
use super::outage::Outage;
use super::sources::{Ready, Source};
use super::tally::Tally;

/// Frames taken from one socket in one turn: more than its receive buffer holds, so that everything that had come before
/// the turn began is taken, and a flood cannot hold the loop for ever.
const DRAIN_MAX: usize = 4096;
/// Ports on an interface: the crossover, the LAN, the witnesses.
pub(super) const PORTS: usize = 3;

/// Something that came by a link.
pub(super) enum Received<'a> {
    /// An authentic heartbeat.
    Heartbeat { path: u8, heartbeat: &'a Heartbeat },
    /// A witness's answer.
    Pong { witness: u8, round: u32 },
    /// A fragment of the side channel, not yet looked at.
    Fragment(&'a [u8]),
    /// The peer's kernel has panicked, and its other processors are stopped.
    PanicText { began: Instant },
}

/// What the status shows of a link besides the node's own account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Frames that were no heartbeats, by reason.
    pub rejected: [u32; Reject::ALL.len()],
    /// The port's own counters.
    pub counters: Counters,
    /// What seems to be wrong, in words.
    pub finding: Option<&'static str>,
}

/// All links.
pub(super) struct Links {
    null_modem: Option<NullModem>,
    crossover: Option<Ethernet>,
    /// The board names it, and its card is not there.
    crossover_is_missing: bool,
    lan: Option<Ethernet>,
    witnesses: Option<Reflected>,
    /// The peer on the LAN.
    neighbor: Neighbor,
    rejected: [[u32; Reject::ALL.len()]; PATHS],
    tallies: [Tally; WITNESSES],
    outage: Outage,
    lan_is_back: bool,
    last_serial_beat: Instant,
}

impl Links {
    /// Opens every port of the board. A null modem that cannot be opened is waited for; an interface must exist, on the
    /// appliance the crossover need not. `own_is_ours`: no appliance, the own addresses are on their interfaces already; else see
    /// [`Links::take_own`].
    pub(super) fn open(
        config: &Config,
        side: Side,
        neighbor: Neighbor,
        own_is_ours: bool,
        interface: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, String> {
        let ethernet = |role: &str| -> Result<Option<Ethernet>, String> {
            if config.board.interface(role).is_none() {
                return Ok(None);
            }
            let name = interface(role)?;
            Ethernet::open(&name)
                .map(Some)
                .map_err(|e| format!("interface {name} ({role}): {e}; run this as root, or give it CAP_NET_RAW"))
        };
        let null_modem = match &config.board.null_modem {
            None => None,
            Some(port) => {
                let path = port.device.display().to_string();
                let port = Serial::open(&path, port.baud).unwrap_or_else(|error| {
                    log::error!("null modem {path}: {error}; tried again every second");
                    Serial::default()
                });
                Some(NullModem::new(port))
            }
        };
        let crossover = match ethernet("crossover") {
            // A card that died is no reason for a box of ours to leave the pair: the boot has told, the status shows it.
            Err(error) if !own_is_ours => {
                log::error!("{error}; the pair runs without the crossover");
                None
            }
            other => other?,
        };
        Ok(Self {
            null_modem,
            crossover_is_missing: crossover.is_none() && config.board.interface("crossover").is_some(),
            crossover,
            lan: ethernet("lan")?,
            witnesses: witnesses(config, side, own_is_ours, interface)?,
            neighbor,
            rejected: [[0; Reject::ALL.len()]; PATHS],
            tallies: [Tally::default(); WITNESSES],
            outage: Outage::default(),
            lan_is_back: false,
            last_serial_beat: Instant::BOOT,
        })
    }

    /// For whoever looks after the interfaces of the ports.
    pub(super) fn binders(&self) -> std::io::Result<[Option<Binder>; PORTS]> {
        let of = |port: &Option<Ethernet>| port.as_ref().map(Ethernet::binder).transpose();
        Ok([of(&self.crossover)?, of(&self.lan)?, self.witnesses.as_ref().map(Reflected::binder).transpose()?])
    }

    /// The ports whose sockets have been bound to other interfaces, of this index and hardware address.
    pub(super) fn bound(&mut self, bound: [Option<(u32, Mac)>; PORTS]) {
        let [crossover, lan, witnesses] = bound;
        for (port, bound) in [(&mut self.crossover, crossover), (&mut self.lan, lan)] {
            if let (Some(port), Some((index, mac))) = (port, bound) {
                port.bound(index, mac);
            }
        }
        if let (Some(port), Some((index, mac))) = (&mut self.witnesses, witnesses) {
            port.bound(index, mac);
        }
    }

    /// Descriptors to wait on; the same set until a port is plugged in again.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        use std::os::fd::AsFd;
        let line = self.null_modem.as_ref().and_then(|line| line.port.fd());
        let descriptors = [
            (Source::NullModem, line),
            (Source::Crossover, self.crossover.as_ref().map(Ethernet::as_fd)),
            (Source::Lan, self.lan.as_ref().map(Ethernet::as_fd)),
            (Source::Witnesses, self.witnesses.as_ref().map(Reflected::as_fd)),
        ];
        descriptors.into_iter().filter_map(|(source, descriptor)| Some((source, descriptor?)))
    }

    /// Sends a heartbeat on its path. What does not fit is dropped and counted by the port.
    pub(super) fn send(&mut self, now: Instant, seal: &Seal, heartbeat: &Heartbeat) {
        if heartbeat.path == NULL_MODEM {
            self.last_serial_beat = now;
        }
        let mut bytes = [0; heartbeat::SIZE];
        self.send_bytes(heartbeat.path, seal.encode(heartbeat, &mut bytes));
    }

    /// When the last heartbeat went out on the null modem: between two of them is room for a fragment.
    pub(super) fn last_serial_beat(&self) -> Instant {
        self.last_serial_beat
    }

    /// Sends a frame of ours on a path.
    pub(super) fn send_bytes(&mut self, path: u8, payload: &[u8]) {
        let sent = match path {
            NULL_MODEM => self.null_modem.as_mut().map(|line| {
                let mut frame = [0; framing::FRAME_MAX];
                match framing::encode(payload, &mut frame) {
                    Some(frame) => line.port.send(frame),
                    None => Err(std::io::ErrorKind::InvalidInput.into()),
                }
            }),
            CROSSOVER => self.crossover.as_mut().map(|port| port.send(payload)),
            LAN => self.lan.as_mut().map(|port| port.send(payload)),
            path => self.witnesses.as_mut().map(|port| port.reflect(path - FIRST_REFLECTED, payload)),
        };
        if let Some(Err(error)) = sent {
            log::debug!("path {path}: {error}");
        }
    }

    /// An own address is on the LAN now: witnesses may be asked from it.
    pub(super) fn take_own(&mut self, ip: IpAddr) {
        if let Some(port) = &mut self.witnesses {
            port.take(ip);
        }
    }

    /// Pings a witness, which has to be told where a silent peer is.
    pub(super) fn ping(&mut self, now: Instant, witness: u8, round: u32) {
        let Some(port) = &mut self.witnesses else { return };
        let told = self.neighbor.silent(now).map_or(Ok(()), |mac| port.vouch(now, witness, mac));
        match told.and_then(|()| port.ping(now, witness, round)) {
            Ok(Sent::Queued) => self.tallies[usize::from(witness)].sent(),
            Ok(Sent::Dropped) => {}
            Err(error) => log::debug!("witness {witness}: {error}"),
        }
    }

    /// Hardware address of the peer on the LAN, once known.
    pub(super) fn peer_mac(&self) -> Option<Mac> {
        self.neighbor.mac()
    }

    /// The peer's present life: frames of another one do not tell where it is.
    pub(super) fn set_peer(&mut self, boot: Option<BootId>) {
        self.neighbor.set_peer(boot);
    }

    /// Takes everything that has come by what is ready, each with a time that is not earlier than its receipt. What is no
    /// heartbeat is counted by its reason.
    pub(super) fn drain(&mut self, ready: Ready, seal: &Seal, mut take: impl FnMut(Instant, Received<'_>)) {
        let rejected = &mut self.rejected;
        let said = Cell::new(None);
        let mut judge = |path: u8, payload: &[u8], take: &mut Take<'_>| match seal.decode(payload) {
            Err(Reject::NotOurs) if payload.starts_with(&side::MAGIC) => {
                take(clock::now(), Received::Fragment(payload));
                Ok(false)
            }
            Ok(heartbeat) => {
                said.set(Some((heartbeat.boot, heartbeat.path, heartbeat.path_sequence)));
                take(clock::now(), Received::Heartbeat { path, heartbeat: &heartbeat });
                Ok(true)
            }
            Err(reason) => {
                let count = &mut rejected[path as usize][reason as usize];
                *count = count.saturating_add(1);
                Err(reason)
            }
        };
        if let Some(line) = self.null_modem.as_mut().filter(|_| ready.has(Source::NullModem)) {
            line.drain(&mut judge, &mut take);
        }
        let mut buffer = [0; MAX_SIZE];
        let ports = [(CROSSOVER, Source::Crossover, &mut self.crossover), (LAN, Source::Lan, &mut self.lan)];
        for (path, source, port) in ports {
            let Some(port) = port.as_mut().filter(|_| ready.has(source)) else { continue };
            for _ in 0..DRAIN_MAX {
                match port.recv(&mut buffer) {
                    Ok(Some(length)) => {
                        let payload = &buffer[..length];
                        let _ = judge(path, payload, &mut take); // counted
                        if let Some((boot, LAN, sequence)) = said.take().filter(|_| path == LAN) {
                            self.neighbor.heard(clock::now(), port.source(), boot, sequence);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        log::debug!("path {path}: {error}");
                        break;
                    }
                }
            }
        }
        let Some(port) = self.witnesses.as_mut().filter(|_| ready.has(Source::Witnesses)) else { return };
        for _ in 0..DRAIN_MAX {
            match port.recv(clock::now()) {
                Ok(Some(Arrival::Pong { witness, round })) => {
                    self.tallies[usize::from(witness)].answered();
                    take(clock::now(), Received::Pong { witness, round });
                }
                Ok(Some(Arrival::Reflected { witness, payload, .. })) => {
                    let _ = judge(FIRST_REFLECTED + witness, payload, &mut take); // counted
                }
                Ok(None) => break,
                Err(error) => {
                    log::debug!("witnesses: {error}");
                    break;
                }
            }
        }
    }

    /// Which direct paths have carrier, one bit each. Once a second.
    pub(super) fn look_after(&mut self, now: Instant) -> u8 {
        // `max`: an answer counts before silence, and silence before not having asked.
        let answered = self.tallies.iter_mut().map(Tally::second).max().flatten();
        self.lan_is_back = self.outage.look(answered);
        let mut carriers = 0;
        if let Some(line) = &mut self.null_modem {
            line.count_errors(now);
            carriers |= u8::from(line.observer.finding(now) == Finding::Peer) << NULL_MODEM;
        }
        for (path, port) in [(CROSSOVER, &self.crossover), (LAN, &self.lan)] {
            let is_there = port.as_ref().is_some_and(|port| port.carrier() == Carrier::Present);
            carriers |= u8::from(is_there) << path;
        }
        carriers
    }

    /// The last look has found that the LAN, which no witness had answered from, is there again.
    pub(super) fn lan_is_back(&self) -> bool {
        self.lan_is_back
    }

    /// The null modem's port is not there: [`Links::plug_in`] is waited for.
    pub(super) fn lacks_port(&self) -> bool {
        self.null_modem.as_ref().is_some_and(|line| !line.port.is_open())
    }

    /// The port that was unplugged, if it was not taken yet: closing it may take long.
    pub(super) fn unplugged(&mut self) -> Option<Port> {
        self.null_modem.as_mut()?.port.unplugged()
    }

    /// The null modem has a port again: somebody has to wait on it.
    pub(super) fn plug_in(&mut self, port: Port) -> Option<BorrowedFd<'_>> {
        let line = self.null_modem.as_mut()?;
        line.port.plug_in(port);
        // Another port counts from its own beginning.
        line.line_errors = line.port.line_errors().unwrap_or_default().framing;
        log::info!("null modem: the port is back");
        line.port.fd()
    }

    /// Witnesses that answer only some of the pings, one bit each.
    pub(super) fn witness_limits(&self) -> u8 {
        (0u8..).zip(&self.tallies).fold(0, |bits, (witness, tally)| bits | u8::from(tally.limits()) << witness)
    }

    /// What the status shows of a path.
    pub(super) fn seen(&mut self, now: Instant, path: u8) -> Seen {
        let carrier = |port: &Ethernet| match port.carrier() {
            Carrier::Present => None,
            Carrier::Gone => Some("the interface is gone"),
            _ => Some("no carrier"),
        };
        let (counters, finding) = match path {
            NULL_MODEM => self.null_modem.as_ref().map(|line| (line.port.counters(), line.finding(now))),
            CROSSOVER if self.crossover_is_missing => Some((Counters::default(), Some("its interface is missing"))),
            CROSSOVER => self.crossover.as_mut().map(|port| (port.counters(), carrier(port))),
            LAN => self.lan.as_mut().map(|port| (port.counters(), carrier(port))),
            path => self.witnesses.as_mut().map(|port| {
                let unresolved = port.resolved(path - FIRST_REFLECTED).is_none();
                (port.counters(), unresolved.then_some("its hardware address is not known"))
            }),
        }
        .unwrap_or_default();
        Seen { rejected: self.rejected[path as usize], counters, finding }
    }
}

fn witnesses(
    config: &Config,
    side: Side,
    own_is_ours: bool,
    interface: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Option<Reflected>, String> {
    let site = &config.site;
    if site.witnesses.is_empty() {
        return Ok(None);
    }
    let addresses = |side: Side| -> Vec<IpAddr> {
        site.nodes[side as usize].iter().filter(|own| own.interface == "lan").map(|own| own.prefix.ip).collect()
    };
    let witness = |ip: &IpAddr| reflected::Witness { ip: *ip, next_hop: None };
    let settings = reflected::Settings {
        interface: interface("lan")?,
        own: addresses(side),
        peer: addresses(side.peer()),
        witnesses: site.witnesses.iter().map(witness).collect(),
        secret: getrandom::u64().map_err(|e| format!("no random number for the pings: {e}"))?,
        own_is_ours,
    };
    Reflected::open(&settings).map(Some).map_err(|e| format!("witnesses: {e}"))
}

#[cfg(test)]
mod tests;
