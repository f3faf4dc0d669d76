//! Heartbeats through witnesses, and the pings of the rounds.
//!
//! Two ways, both taken with every heartbeat:
//!
//! - *echo*: a ping whose source is the peer's address. The witness answers to the peer, with our payload.
//! - *routed*: a ping from us to the peer, sent to the witness's hardware address. A witness that routes passes it on, with
//!   one hop less; this way also passes where a switch lets nobody send in another's name.
//!
//! One packet socket hears all of it before any firewall of this box, through a filter in the kernel that lets nothing else
//! pass. Hardware addresses are asked for by ARP and neighbour solicitation of our own, and learned from whatever the
//! witness says about itself: the kernel's table has only those whom somebody else on this box talks to.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use super::packet::Packet;
use super::{Binder, Carrier, Counters, Sent, filter};
use crate::time::{Duration, Instant};
use crate::wire::icmp::{self, HOP_LIMIT};
use crate::wire::{Mac, arp, heartbeat, neighbor, side};

/// Witnesses at most.
pub const WITNESSES: usize = 8;

/// First bytes of a round's own ping.
const PING: [u8; 2] = *b"2p";
/// Identifier of all our pings: told apart by magic and life, this one is for who reads along ("2b").
const IDENTIFIER: u16 = u16::from_be_bytes(heartbeat::MAGIC);
/// A ping is as long as a heartbeat: what loses long packets must not let the ping of a round pass.
const PING_SIZE: usize = heartbeat::SIZE;
/// Longest frame heard; what is longer is none of ours.
const HEARD_MAX: usize = 512;
/// Frames of the wrong format that are skipped in one call.
const SKIPPED: usize = 16;

/// Shortest pause between two questions for one hardware address.
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// A hardware address is confirmed so often in peace.
const CONFIRM: Duration = Duration::from_secs(15);
/// A witness is told the silent peer's hardware address so often: fewer answers to the peer come in between (83 at the fast
/// profile's rate) than a Linux witness lets wait (some 130).
const VOUCH_PAUSE: Duration = Duration::from_millis(250);
/// A silent peer is asked so often for its hardware address.
const PEER_PAUSE: Duration = Duration::from_secs(1);
/// So many pings without an answer make the hardware address doubtful.
const UNANSWERED: u32 = 4;

/// One witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its address.
    pub ip: IpAddr,
    /// The router to it, where it is not on the LAN itself.
    pub next_hop: Option<IpAddr>,
}

/// What the link is told once, at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The interface of the LAN.
    pub interface: String,
    /// Our own addresses on it, at most one of each family.
    pub own: Vec<IpAddr>,
    /// The peer's, likewise.
    pub peer: Vec<IpAddr>,
    /// The witnesses, in the order of their indexes; at most [`WITNESSES`].
    pub witnesses: Vec<Witness>,
    /// A random number of this life. Only answers that carry it count: not those to the pings of another life, and not what
    /// is made up by who hears the heartbeats, which tell everybody our boot id.
    pub secret: u64,
    /// Our own addresses are ours from the start. Otherwise nothing is sent from one before [`Reflected::take`].
    pub own_is_ours: bool,
}

/// By which way a heartbeat came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the witness's answer to a ping in our name.
    Echo,
    /// Passed on by the witness.
    Routed,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// The witness answered our ping of that round.
    Pong {
        /// Index of the witness.
        witness: u8,
        /// The number that [`Reflected::ping`] was given.
        round: u32,
    },
    /// The witness carried this for the peer (or, forged or looped, for somebody else: the payload's tag tells).
    Reflected {
        /// Index of the witness.
        witness: u8,
        /// By which way.
        way: Way,
        /// What the peer gave to [`Reflected::reflect`].
        payload: &'a [u8],
    },
}

struct Station {
    ip: IpAddr,
    hop: IpAddr,
    own: IpAddr,
    /// Nobody else has `own`.
    own_is_ours: bool,
    peer: IpAddr,
    mac: Option<Mac>,
    confirmed_at: Instant,
    asked_at: Option<Instant>,
    vouched_at: Option<Instant>,
    unanswered: u32,
    peer_asked_at: Option<Instant>,
    /// The hardware address that the peer's heartbeats came from, as it was told last, and the one that it has told since.
    peer_known: Option<Mac>,
    peer_said: Option<Mac>,
}

/// The socket for all witnesses on one interface.
pub struct Reflected {
    packet: Packet,
    stations: heapless::Vec<Station, WITNESSES>,
    secret: u64,
    heard: [u8; HEARD_MAX],
}

impl Reflected {
    /// Opens the interface. Takes about 10 ms.
    ///
    /// # Errors
    /// A witness for whose family one of the nodes has no address; too many witnesses; no such interface; no CAP_NET_RAW;
    /// or what packet(7) says.
    pub fn open(settings: &Settings) -> io::Result<Reflected> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        let mut stations = heapless::Vec::new();
        for witness in &settings.witnesses {
            let of_family = |all: &[IpAddr]| all.iter().copied().find(|ip| ip.is_ipv4() == witness.ip.is_ipv4());
            let (Some(own), Some(peer)) = (of_family(&settings.own), of_family(&settings.peer)) else {
                return Err(invalid(format!("witness {}: a node has no address of its family", witness.ip)));
            };
            let hop = witness.next_hop.unwrap_or(witness.ip);
            if hop.is_ipv4() != witness.ip.is_ipv4() {
                return Err(invalid(format!("witness {}: {hop} is of another family", witness.ip)));
            }
            let station = Station {
                ip: witness.ip,
                hop,
                own,
                own_is_ours: settings.own_is_ours,
                peer,
                mac: None,
                confirmed_at: Instant::BOOT,
                asked_at: None,
                vouched_at: None,
                unanswered: 0,
                peer_asked_at: None,
                peer_known: None,
                peer_said: None,
            };
            stations.push(station).map_err(|_| invalid(format!("at most {WITNESSES} witnesses")))?;
        }
        let all = |of: fn(&Station) -> IpAddr| stations.iter().map(of).collect::<Vec<_>>();
        let mut neighbors = all(|s| s.hop);
        neighbors.extend(settings.peer.iter().copied());
        let filter = filter::reflected(&filter::Reflection {
            own: &settings.own,
            peer: &settings.peer,
            witnesses: &all(|s| s.ip),
            neighbors: &neighbors,
            magics: &[heartbeat::MAGIC, side::MAGIC, PING],
        });
        let packet = Packet::open(&settings.interface, libc::ETH_P_ALL as u16, &filter, None)?;
        Ok(Reflected { packet, stations, secret: settings.secret, heard: [0; HEARD_MAX] })
    }

    /// From now on `own` is ours. A box that speaks from an address which another one has takes the answers away from it.
    pub fn take(&mut self, own: IpAddr) {
        self.stations.iter_mut().filter(|station| station.own == own).for_each(|station| station.own_is_ours = true);
    }

    fn may_speak(&self, witness: u8) -> bool {
        self.stations.get(usize::from(witness)).is_none_or(|station| station.own_is_ours)
    }

    /// Pings `witness` for `round`. Dropped, and its hardware address asked for, while that is not known.
    ///
    /// # Errors
    /// No such witness, or what packet(7) says.
    pub fn ping(&mut self, now: Instant, witness: u8, round: u32) -> io::Result<Sent> {
        let Some(station) = self.stations.get_mut(usize::from(witness)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if !station.own_is_ours {
            return Ok(Sent::Dropped);
        }
        station.unanswered = station.unanswered.saturating_add(1);
        self.ask_if_due(now, usize::from(witness))?;
        let mut payload = [0; PING_SIZE];
        payload[..2].copy_from_slice(&PING);
        payload[2] = witness;
        payload[4..8].copy_from_slice(&round.to_le_bytes());
        payload[8..16].copy_from_slice(&self.secret.to_le_bytes());
        // The low half of the round, for who reads along; the whole stands in the payload.
        self.send(witness, round as u16, &payload, |s| (s.own, s.ip))
    }

    /// Sends `payload` to the peer through `witness`, both ways; at most a heartbeat long. Told is what became of the first.
    ///
    /// # Errors
    /// As for [`Reflected::ping`], and a payload that is too long.
    pub fn reflect(&mut self, witness: u8, payload: &[u8]) -> io::Result<Sent> {
        if !self.may_speak(witness) {
            return Ok(Sent::Dropped);
        }
        let echo = self.send(witness, u16::from(witness), payload, |s| (s.peer, s.ip))?;
        self.send(witness, u16::from(witness), payload, |s| (s.own, s.peer))?;
        Ok(echo)
    }

    /// Tells `witness` where the peer is, which does not say so itself any more; not more often than every 250 ms.
    ///
    /// A witness answers reflected heartbeats to the peer. When the peer is dead, its entry in the witness's neighbour table
    /// runs out, and the answers wait for it to be found again. Linux lets them wait up to 208 KiB a neighbour
    /// (`unres_qlen_bytes`), but all that its ICMP socket has under way may be 129 KiB (`icmp_sk_init` in net/ipv4/icmp.c):
    /// some 130 answers to a dead box, and it answers no other box either. The one that lives would lose its quorum.
    ///
    /// `peer_mac`: where its heartbeats came from. A box that does not run the program may have got another card meanwhile, and needs
    /// the witness, which may be its router: so it is asked, too, and its own answer counts.
    ///
    /// # Errors
    /// No such witness, or what packet(7) says.
    pub fn vouch(&mut self, now: Instant, witness: u8, peer_mac: Mac) -> io::Result<()> {
        let own_mac = self.packet.mac();
        let Some(station) = self.stations.get_mut(usize::from(witness)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let Some(to) = station.mac else { return Ok(()) };
        if station.vouched_at.is_some_and(|at| now.since(at) < VOUCH_PAUSE) {
            return Ok(());
        }
        station.vouched_at = Some(now);
        if station.peer_known != Some(peer_mac) {
            (station.peer_known, station.peer_said) = (Some(peer_mac), None);
        }
        let peer_mac = station.peer_said.unwrap_or(peer_mac);
        if station.own_is_ours && station.peer_asked_at.is_none_or(|at| now.since(at) >= PEER_PAUSE) {
            let (peer, own) = (station.peer, station.own);
            // Once for all witnesses that are asked from the same address.
            self.stations.iter_mut().filter(|s| s.peer == peer).for_each(|s| s.peer_asked_at = Some(now));
            self.ask_everybody(own, peer)?;
        }
        let station = &self.stations[usize::from(witness)];
        match (station.peer, station.hop) {
            (IpAddr::V4(peer), IpAddr::V4(hop)) => {
                let frame = arp::answer_for(to, own_mac, (peer_mac, peer), hop);
                self.packet.send(&[IoSlice::new(&frame)], 0)?;
            }
            (IpAddr::V6(peer), IpAddr::V6(hop)) => {
                let frame = neighbor::answer_for(to, own_mac, (peer_mac, peer), hop);
                self.packet.send(&[IoSlice::new(&frame)], 0)?;
            }
            _ => {} // `open` has refused it
        }
        Ok(())
    }

    /// Takes one thing that came; `None` when nothing is there. Answers to questions for hardware addresses are used and
    /// not told.
    ///
    /// # Errors
    /// What packet(7) says; the next call may succeed.
    pub fn recv(&mut self, now: Instant) -> io::Result<Option<Arrival<'_>>> {
        for _ in 0..SKIPPED {
            let Some(length) = self.packet.recv(&mut [IoSliceMut::new(&mut self.heard)])? else { return Ok(None) };
            // Read twice, because what is returned borrows the buffer (a frame of ours is read in 0.2 us).
            if arrival(&self.stations, self.secret, &self.heard[..length]).is_some() {
                self.packet.counters.frames_in += 1;
                let found = arrival(&self.stations, self.secret, &self.heard[..length]);
                match found {
                    Some(Arrival::Pong { witness, .. }) => {
                        self.packet.counters.bytes_in += PING_SIZE as u64;
                        self.stations[usize::from(witness)].unanswered = 0;
                    }
                    Some(Arrival::Reflected { payload, .. }) => self.packet.counters.bytes_in += payload.len() as u64,
                    None => {}
                }
                return Ok(found);
            }
            if !self.learn(now, length) {
                self.packet.counters.errors += 1;
            }
        }
        Ok(None)
    }

    /// The hardware address by which `witness` is reached, if it is known.
    #[must_use]
    pub fn resolved(&self, witness: u8) -> Option<Mac> {
        self.stations.get(usize::from(witness))?.mac
    }

    /// State of the interface.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.packet.carrier()
    }

    /// For whoever looks after the interface, on a thread that may wait.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn binder(&self) -> io::Result<Binder> {
        self.packet.binder()
    }

    /// The [`Binder`] has taken interface `index`, which has this hardware address. The next ping of each witness tells it.
    pub fn bound(&mut self, index: u32, mac: Mac) {
        self.packet.bound(index, mac);
        for station in &mut self.stations {
            station.confirmed_at = Instant::BOOT;
        }
    }

    /// What happened so far.
    pub fn counters(&mut self) -> Counters {
        self.packet.counters()
    }

    fn send(
        &mut self,
        witness: u8,
        sequence: u16,
        payload: &[u8],
        ends: fn(&Station) -> (IpAddr, IpAddr),
    ) -> io::Result<Sent> {
        let Some(station) = self.stations.get(usize::from(witness)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let Some(to) = station.mac else {
            self.packet.counters.dropped += 1;
            return Ok(Sent::Dropped);
        };
        let (source, destination) = ends(station);
        let from = self.packet.mac();
        let request = icmp::Request { to, from, source, destination, identifier: IDENTIFIER, sequence, payload };
        let mut out = [0; icmp::FRAME_MAX];
        let frame = request.write(&mut out).ok_or(io::ErrorKind::InvalidInput)?;
        self.packet.send(&[IoSlice::new(frame)], payload.len())
    }

    /// Asks for the hardware address of a station: everybody if it is not known or doubtful, the station itself if it only
    /// wants confirming.
    fn ask_if_due(&mut self, now: Instant, index: usize) -> io::Result<()> {
        let own_mac = self.packet.mac();
        let station = &mut self.stations[index];
        let doubtful = station.mac.is_none() || station.unanswered > UNANSWERED;
        let due = doubtful || now.since(station.confirmed_at) >= CONFIRM;
        if !due || station.asked_at.is_some_and(|at| now.since(at) < ASK_PAUSE) {
            return Ok(());
        }
        station.asked_at = Some(now);
        let (own, hop) = (station.own, station.hop);
        match (own, hop, station.mac.filter(|_| !doubtful)) {
            (IpAddr::V4(own), IpAddr::V4(hop), Some(mac)) => {
                let frame = arp::request(mac, own_mac, own, hop);
                self.packet.send(&[IoSlice::new(&frame)], 0)?;
            }
            (IpAddr::V6(own), IpAddr::V6(hop), Some(mac)) => {
                let frame = neighbor::solicitation(mac, own_mac, own, hop);
                self.packet.send(&[IoSlice::new(&frame)], 0)?;
            }
            _ => self.ask_everybody(own, hop)?,
        }
        Ok(())
    }

    /// Asks the LAN for the hardware address of `ip`, from `own`.
    fn ask_everybody(&mut self, own: IpAddr, ip: IpAddr) -> io::Result<()> {
        let own_mac = self.packet.mac();
        match (own, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let frame = arp::request([0xff; 6], own_mac, own, ip);
                self.packet.send(&[IoSlice::new(&frame)], 0)?;
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let frame = neighbor::resolution(own_mac, own, ip);
                self.packet.send(&[IoSlice::new(&frame)], 0)?;
            }
            _ => {} // `open` has refused it
        }
        Ok(())
    }

    /// Takes the hardware address that the frame tells, if it is one of a station or of the peer.
    fn learn(&mut self, now: Instant, length: usize) -> bool {
        let frame = &self.heard[..length];
        let claim = arp::parse(frame).map(|a| (IpAddr::V4(a.sender_ip), a.sender_mac)).or_else(|| {
            let advertised = neighbor::parse(frame).filter(|n| n.kind == neighbor::ADVERTISEMENT)?;
            Some((IpAddr::V6(advertised.target), advertised.mac))
        });
        let Some((ip, mac)) = claim else { return false };
        let group = mac[0] & 1 != 0;
        if group || mac == [0; 6] || mac == self.packet.mac() {
            return false;
        }
        let mut known = false;
        for station in self.stations.iter_mut().filter(|s| s.hop == ip) {
            (station.mac, station.confirmed_at, known) = (Some(mac), now, true);
        }
        for station in self.stations.iter_mut().filter(|s| s.peer == ip) {
            (station.peer_said, known) = (Some(mac), true);
        }
        known
    }
}

impl AsFd for Reflected {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packet.as_fd()
    }
}

/// What a frame tells; pure.
fn arrival<'a>(stations: &[Station], secret: u64, frame: &'a [u8]) -> Option<Arrival<'a>> {
    let echo = icmp::parse(frame)?;
    if !echo.reply {
        let station = stations.get(usize::from(echo.sequence))?;
        let passed_on = echo.source == station.peer && echo.destination == station.own && echo.hops == HOP_LIMIT - 1;
        let witness = u8::try_from(echo.sequence).ok()?;
        return passed_on.then_some(Arrival::Reflected { witness, way: Way::Routed, payload: echo.payload });
    }
    let index = stations.iter().position(|s| s.ip == echo.source && s.own == echo.destination)?;
    let witness = u8::try_from(index).ok()?;
    if let [b'2', b'p', told, _, rest @ ..] = echo.payload {
        let (round, rest) = rest.split_first_chunk()?;
        let (secret_told, _) = rest.split_first_chunk()?;
        let ours = *told == witness && u64::from_le_bytes(*secret_told) == secret;
        return ours.then(|| Arrival::Pong { witness, round: u32::from_le_bytes(*round) });
    }
    Some(Arrival::Reflected { witness, way: Way::Echo, payload: echo.payload })
}
