//! All of the takeover's sockets and memories in one place, for the loop.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use super::address::{self, ADDRESSES, Reach, ServiceAddress};
use super::announcer::Announcer;
use super::clients::{Client, Clients};
use super::conflict::{Claim, Conflict, Conflicts, Finding};
use super::interface;
use super::packet::{Listener, Sender};
use super::placement::{Placement, Settled};
use super::renewal::{Renewal, Up};
use crate::netlink::Socket;
use crate::time::{Duration, Instant};
use crate::wire::{Mac, arp, neighbor};

/// With a virtual MAC nothing but the announcements keeps the switch's entry for it alive.
const REFRESH: Duration = Duration::from_secs(60);
/// Attempts at removal before the addresses count as not down: each is a dump, and a request for each address found.
const REMOVALS: usize = 3;

/// One service address as the site file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsAddress {
    /// Address and network.
    pub address: ServiceAddress,
    /// Name of the interface that carries it.
    pub interface: String,
    /// It has a MAC of its own that moves with it (`mac = "virtual"`).
    pub virtual_mac: bool,
}

/// What the takeover must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The pair's name: part of every virtual MAC.
    pub pair: String,
    /// At most [`ADDRESSES`].
    pub addresses: Vec<SettingsAddress>,
    /// Kernel lifetime of a held address (the fence's `address_lease`); whole seconds.
    pub lifetime: Duration,
    /// The lease: how long after a probe an answer counts as one to it.
    pub lease: Duration,
    /// SO_MARK of announcements and probes; 0 for none.
    pub mark: u32,
}

/// What a former instance had left behind, and was removed at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Service addresses that were still up.
    pub addresses: usize,
    /// Macvlans.
    pub macvlans: usize,
}

/// A frame of somebody else about one of the service addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Index of the service address.
    pub address: usize,
    /// Who.
    pub mac: Mac,
    /// What it means. [`Finding::Defend`] has been answered already, by a new announcement in the schedule.
    pub finding: Finding,
}

/// A service address and where it goes.
struct Held {
    address: ServiceAddress,
    at: Settled,
    virtual_mac: bool,
    covered: bool,
    up: bool,
}

/// Service addresses, announcements and conflicts of this box.
pub struct Takeover {
    netlink: Socket,
    sender: Sender,
    listeners: Vec<Listener>,
    /// The one that was read last.
    read_last: usize,
    /// Until somebody looks after it.
    placement: Option<Placement>,
    held: heapless::Vec<Held, ADDRESSES>,
    addresses: heapless::Vec<ServiceAddress, ADDRESSES>,
    lifetime: Duration,
    announcer: Announcer,
    clients: Clients,
    conflicts: Conflicts,
}

impl Takeover {
    /// Opens every socket, removes what a former instance left behind, makes the macvlans, sets the interfaces' sysctls.
    /// The only call that allocates.
    ///
    /// # Errors
    ///
    /// Names the interface or the file that is the reason, and what the kernel said. `InvalidInput` for more than
    /// [`ADDRESSES`] addresses.
    pub fn open(settings: &Settings) -> io::Result<(Takeover, Leftovers)> {
        let mut takeover = Takeover {
            netlink: Socket::open()?,
            sender: Sender::open(settings.mark)?,
            listeners: Vec::new(),
            read_last: 0,
            placement: None,
            held: heapless::Vec::new(),
            addresses: heapless::Vec::new(),
            lifetime: settings.lifetime,
            announcer: Announcer::new(settings.addresses.iter().any(|a| a.virtual_mac).then_some(REFRESH)),
            clients: Clients::default(),
            conflicts: Conflicts::new(settings.lease),
        };
        for a in &settings.addresses {
            takeover.addresses.push(a.address).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        }
        let leftovers = Leftovers {
            addresses: takeover.take_down()?,
            macvlans: interface::delete_leftovers(&mut takeover.netlink)?,
        };
        let placement = Placement::open(&mut takeover.netlink, settings)?;
        for (a, at) in settings.addresses.iter().zip(placement.settled()) {
            let held = Held { address: a.address, at, virtual_mac: a.virtual_mac, covered: false, up: false };
            let _ = takeover.held.push(held); // as many as `addresses`, whose room was checked
        }
        takeover.placement = Some(placement);
        takeover.listen()?;
        Ok((takeover, leftovers))
    }

    /// For whoever looks after the interfaces, and closes it in the end; once.
    pub fn placement(&mut self) -> Option<Placement> {
        self.placement.take()
    }

    /// A service address goes elsewhere from now on, or by another hardware address, or its cable is plugged in again. Clients are
    /// told of an address that is up.
    ///
    /// # Errors
    ///
    /// What bind(2) says: others are not heard there.
    pub fn settle(&mut self, now: Instant, at: Settled) -> io::Result<()> {
        let Some(held) = self.held.get_mut(at.number) else { return Ok(()) };
        let former = core::mem::replace(&mut held.at, at);
        held.up &= former.index == at.index;
        if held.up {
            self.announcer.restart(now);
        }
        for listener in self.listeners.iter_mut().filter(|listener| listener.index() == former.parent) {
            if former.parent != at.parent || listener.is_lost() {
                listener.rebind(at.parent)?;
            }
        }
        Ok(())
    }

    /// One listener for each interface and family.
    fn listen(&mut self) -> io::Result<()> {
        let mut parents: Vec<u32> = self.held.iter().map(|h| h.at.parent).collect();
        parents.sort_unstable();
        parents.dedup();
        for parent in parents {
            for v4 in [true, false] {
                let addresses: Vec<IpAddr> = self
                    .held
                    .iter()
                    .filter(|h| h.at.parent == parent && h.address.ip.is_ipv4() == v4)
                    .map(|h| h.address.ip)
                    .collect();
                if !addresses.is_empty() {
                    self.listeners.push(Listener::open(parent, &addresses)?);
                }
            }
        }
        Ok(())
    }

    /// Descriptors to wait on for [`Takeover::receive`]; the same set for ever.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(AsFd::as_fd)
    }

    /// Puts every service address up for the lifetime and starts announcing: [`Takeover::announce`] is due at once. Each only
    /// if `may` says so in the moment before: the kernel may have let the one before wait for as long as the right lasts.
    ///
    /// The neighbour tables are read elsewhere ([`Takeover::know_clients`]): the broadcast does not wait for them.
    ///
    /// # Errors
    ///
    /// The first of the kernel's. The other addresses were tried all the same, and are announced.
    pub fn take_up(&mut self, now: Instant, may: impl FnMut() -> bool) -> io::Result<()> {
        for held in &mut self.held {
            held.up = false;
        }
        let result = self.put_up(may);
        self.announcer.start(now);
        result
    }

    /// Puts up what [`Takeover::take_up`] could not put up, under the same condition, and announces all again that are up
    /// when one has come. True when that was the last one.
    pub fn complete(&mut self, now: Instant, may: impl FnMut() -> bool) -> bool {
        let missing = self.missing();
        if missing == 0 {
            return false;
        }
        let _ = self.put_up(may); // was told the first time
        if self.missing() < missing {
            self.announcer.start(now);
        }
        self.missing() == 0
    }

    /// How many addresses are not up.
    fn missing(&self) -> usize {
        self.held.iter().filter(|held| !held.up).count()
    }

    /// Puts up what is not, as long as `may` says so.
    fn put_up(&mut self, mut may: impl FnMut() -> bool) -> io::Result<()> {
        let mut result = Ok(());
        for held in self.held.iter_mut().filter(|held| !held.up) {
            if !may() {
                break;
            }
            let done = held.take_up(&mut self.netlink, &self.addresses, self.lifetime);
            held.up = done.is_ok();
            result = result.and(done);
        }
        result
    }

    /// Another lifetime from now on for every address that is up: for a thread that may wait for the kernel.
    #[must_use]
    pub fn renewal(&self) -> Renewal {
        let up = |held: &Held| Up { index: held.at.index, address: held.address, covered: held.covered };
        Renewal { up: self.held.iter().filter(|held| held.up).map(up).collect(), lifetime: self.lifetime }
    }

    /// What is looked at to know whether the addresses are down.
    #[must_use]
    pub fn addresses(&self) -> &[ServiceAddress] {
        &self.addresses
    }

    /// Silences the announcer, takes every service address off every interface of this box, brings the macvlans down, and
    /// reads back. `Ok` means confirmed: the kernel was asked afterwards and has none of them. The number of addresses that
    /// were there.
    ///
    /// # Errors
    ///
    /// The kernel's; `AddrInUse` if an address is still there after three attempts (somebody adds it again). Not
    /// confirmed down, so: no vote, no feeding without a right.
    pub fn take_down(&mut self) -> io::Result<usize> {
        self.announcer.stop();
        let mut result = Ok(());
        for held in &mut self.held {
            held.up = false;
            if held.virtual_mac {
                match interface::set_up(&mut self.netlink, held.at.index, false) {
                    // Somebody deleted it: it is down.
                    Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {}
                    done => result = result.and(done),
                }
            }
        }
        let mut removed = 0;
        for _ in 0..REMOVALS {
            let found = address::assigned(&mut self.netlink, &self.addresses)?;
            if found.is_empty() {
                return result.map(|()| removed);
            }
            for assigned in found {
                address::remove(&mut self.netlink, assigned)?;
                removed += 1;
            }
        }
        if self.down()? { result.map(|()| removed) } else { Err(io::Error::from(io::ErrorKind::AddrInUse)) }
    }

    /// Whether no interface of this box has a service address, read from the kernel now.
    ///
    /// # Errors
    ///
    /// The kernel's: nothing is known then.
    pub fn down(&mut self) -> io::Result<bool> {
        Ok(address::assigned(&mut self.netlink, &self.addresses)?.is_empty())
    }

    /// Whether the address of this index is up as far as our own requests went.
    #[must_use]
    pub fn held(&self, address: usize) -> bool {
        self.held.get(address).is_some_and(|h| h.up)
    }

    /// When [`Takeover::announce`] has something to send.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.announcer.next_deadline()
    }

    /// Sends the announcements that are due. What cannot be sent is not missed: a repetition follows.
    pub fn announce(&mut self, now: Instant) {
        let due = self.announcer.due(now, self.clients.all().len());
        if due.broadcast {
            for held in self.held.iter().filter(|h| h.up) {
                let _ = match held.address.ip {
                    IpAddr::V4(ip) => self.sender.send(held.at.index, &arp::announcement(held.at.mac, ip)),
                    IpAddr::V6(ip) => self.sender.send(held.at.index, &neighbor::announcement(held.at.mac, ip)),
                };
            }
        }
        for client in &self.clients.all()[due.clients] {
            for held in self.held.iter().filter(|h| h.up && h.at.parent == client.index) {
                let _ = match (held.address.ip, client.ip) {
                    (IpAddr::V4(ip), IpAddr::V4(to)) => {
                        self.sender.send(held.at.index, &arp::request(client.mac, held.at.mac, ip, to))
                    }
                    (IpAddr::V6(ip), IpAddr::V6(to)) => {
                        self.sender.send(held.at.index, &neighbor::solicitation(client.mac, held.at.mac, ip, to))
                    }
                    _ => continue,
                };
            }
        }
    }

    /// The LAN is whole again: whoever was cut off from it has heard nothing.
    pub fn announce_again(&mut self, now: Instant) {
        self.announcer.restart(now);
    }

    /// Adds clients that somebody else has read from the tables.
    pub fn know_clients(&mut self, clients: &[Client]) {
        for client in clients {
            self.clients.insert(*client);
        }
    }

    /// Adds a client that the peer knows, on the interface of service address `address`.
    pub fn insert_client(&mut self, address: usize, ip: IpAddr, mac: Mac) {
        if let Some(held) = self.held.get(address) {
            self.clients.insert(Client { ip, mac, index: held.at.parent });
        }
    }

    /// The clients known here on the interface of service address `address`, to be told to the peer.
    pub fn clients(&self, address: usize) -> impl Iterator<Item = &Client> {
        let parent = self.held.get(address).map(|held| held.at.parent);
        self.clients.all().iter().filter(move |client| Some(client.index) == parent)
    }

    /// Asks the LAN who has the service addresses, without claiming them. Answers come by [`Takeover::receive`].
    pub fn probe(&mut self, now: Instant) {
        for (number, held) in self.held.iter().enumerate() {
            // From the interface's own hardware address: the macvlan is down.
            let _ = match held.address.ip {
                IpAddr::V4(ip) => self.sender.send(held.at.parent, &arp::probe(held.at.parent_mac, ip)),
                IpAddr::V6(ip) => self.sender.send(held.at.parent, &neighbor::probe(held.at.parent_mac, ip)),
            };
            self.conflicts.probed(now, number);
        }
    }

    /// Reads one frame that names a service address as its sender's; `None` when there is no more. Within is what is to be told
    /// of it, if anything: it is for the caller to bound how many he reads, also of those that mean nothing. The sockets take
    /// turns.
    ///
    /// `peer`: the peer's own hardware address on the interfaces of the service addresses. The virtual MAC counts as the
    /// peer's too: our own frames do not come back to us. While it is not known, whoever answers a probe may be the peer.
    pub fn receive(&mut self, now: Instant, peer: Option<Mac>) -> Option<Option<Heard>> {
        let mut buffer = [0; 128];
        for _ in 0..self.listeners.len() {
            self.read_last = (self.read_last + 1) % self.listeners.len();
            // An error is the interface's (down, gone): the loop hears of that by its carrier.
            if let Ok(Some(frame)) = self.listeners[self.read_last].receive(&mut buffer) {
                return Some(self.hear(now, frame, peer));
            }
        }
        None
    }

    fn hear(&mut self, now: Instant, frame: &[u8], peer: Option<Mac>) -> Option<Heard> {
        let (claim, from_peer) = self.claim(frame, peer)?;
        let finding = self.conflicts.heard(now, claim, self.held[claim.address].up, from_peer);
        if finding == Finding::Defend {
            self.announcer.again(now);
        }
        (finding != Finding::Usual).then_some(Heard { address: claim.address, mac: claim.mac, finding })
    }

    fn claim(&self, frame: &[u8], peer: Option<Mac>) -> Option<(Claim, bool)> {
        let (ip, mac, answer) = if let Some(arp) = arp::parse(frame) {
            (IpAddr::V4(arp.sender_ip), arp.sender_mac, arp.operation == arp::REPLY)
        } else {
            let neighbor = neighbor::parse(frame).filter(|n| n.kind == neighbor::ADVERTISEMENT)?;
            (IpAddr::V6(neighbor.target), neighbor.mac, true)
        };
        let (address, held) = self.held.iter().enumerate().find(|(_, h)| h.address.ip == ip)?;
        let own = mac == held.at.parent_mac;
        // Two boxes that never understood each other (another key, the same name): then nobody is a stranger.
        let from_peer = peer.is_none_or(|peer| peer == mac) || (held.virtual_mac && mac == held.at.mac);
        (!own).then_some((Claim { address, mac, answer }, from_peer))
    }

    /// The last foreign claim of an address within `age`.
    #[must_use]
    pub fn conflict(&self, now: Instant, address: usize, age: Duration) -> Option<Conflict> {
        self.conflicts.last(now, address, age)
    }

    /// Hardware address that clients see for this service address; also what the egress gate must drop as a source where it
    /// is virtual.
    #[must_use]
    pub fn mac(&self, address: usize) -> Option<Mac> {
        self.held.get(address).map(|h| h.at.mac)
    }

    /// The socket for the network's configuration, for who has something to ask in between.
    pub fn netlink(&mut self) -> &mut Socket {
        &mut self.netlink
    }
}

impl Held {
    fn take_up(&mut self, netlink: &mut Socket, addresses: &[ServiceAddress], lifetime: Duration) -> io::Result<()> {
        // The parent's addresses count for a macvlan as well: its clients are answered by the parent.
        self.covered = address::covered(netlink, self.at.parent, self.address, addresses)?
            || match address::reach(netlink, self.at.parent, self.address.ip) {
                Reach::OnLink(prefix) => prefix <= self.address.prefix,
                // It is up, as it was put on before.
                Reach::Local => self.covered,
                Reach::Elsewhere => false,
            };
        if self.virtual_mac {
            interface::set_up(netlink, self.at.index, true)?;
        }
        address::add(netlink, self.at.index, self.address, self.covered, lifetime)
    }
}
