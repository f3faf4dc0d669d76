//! A box's own addresses, where nobody else looks after them (the appliance): asked for before they are taken, then kept.
//!
//! RFC 5227, and RFC 4862 in the same steps: probes, the address, announcements. What differs is the pace: the RFC's probes
//! take seven seconds, and a box that boots into a pair is wanted in one. Stations of a LAN answer within milliseconds; one
//! that could not be heard in time (a switch port that is still learning) is noticed later, because claims of others are
//! listened for ever after.
//!
//! An address of a box that is set up twice is thus left to the first one, which keeps its witnesses: they answer to an
//! address, and two boxes that share one get half of the answers each.
//!
//! An interface that is taken out and put in again is a new one: it is brought up, and its addresses are asked for anew.

use std::io;
use std::net::IpAddr;

use super::address::{self, ServiceAddress};
use super::interface::{self, Interface};
use super::packet::{Listener, Sender};
use crate::netlink::Socket;
use crate::time::{Duration, Instant};
use crate::wire::{Mac, arp, neighbor};

/// Probes before an address is taken (RFC 5227 PROBE_NUM).
const PROBES: u8 = 3;
/// Between two probes, and after the last one.
pub const PAUSE: Duration = Duration::from_millis(100);
/// Announcements, and the pause between two (RFC 5227 ANNOUNCE_NUM, ANNOUNCE_INTERVAL).
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(2);
/// An address that somebody else has is asked for again after this time, and defended no more often (DEFEND_INTERVAL).
const AGAIN: Duration = Duration::from_secs(10);

/// The fence's belt against raw senders looks at service addresses only: what is sent here needs no pass.
const NO_MARK: u32 = 0;

/// How one address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// So many probes are out, the last one since then; none before the cable is plugged in.
    Asking { probes: u8, since: Option<Instant> },
    /// Somebody has it: asked again later.
    Taken { since: Instant },
    /// On the interface, and so many announcements out.
    Ours { announcements: u8, since: Instant },
}

/// What is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Probe,
    /// Nobody has answered: put it on the interface, and announce it.
    Take,
    Announce,
}

/// The steps of one address. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claimant {
    stand: Stand,
    defended: Option<Instant>,
    /// Who else claims it, and since when that was last heard.
    other: Option<(Mac, Instant)>,
}

impl Claimant {
    const fn new() -> Self {
        Self { stand: Stand::Asking { probes: 0, since: None }, defended: None, other: None }
    }

    /// What is due at `now`; counted as done.
    fn turn(&mut self, now: Instant, carrier: bool) -> Step {
        let over = |since: Instant, pause: Duration| now.since(since) >= pause;
        let (stand, step) = match self.stand {
            // Nobody can be asked.
            Stand::Asking { .. } if !carrier => (Stand::Asking { probes: 0, since: None }, Step::Nothing),
            Stand::Asking { since: Some(since), .. } if !over(since, PAUSE) => return Step::Nothing,
            Stand::Asking { probes: PROBES, .. } => (Stand::Ours { announcements: 1, since: now }, Step::Take),
            Stand::Asking { probes, .. } => (Stand::Asking { probes: probes + 1, since: Some(now) }, Step::Probe),
            Stand::Taken { since } if over(since, AGAIN) => {
                (Stand::Asking { probes: 1, since: Some(now) }, Step::Probe)
            }
            Stand::Ours { announcements, since } if announcements < ANNOUNCEMENTS && over(since, ANNOUNCE_PAUSE) => {
                (Stand::Ours { announcements: announcements + 1, since: now }, Step::Announce)
            }
            Stand::Taken { .. } | Stand::Ours { .. } => return Step::Nothing,
        };
        self.stand = stand;
        step
    }

    /// Somebody else claims the address. Whether it is to be defended: by one announcement, and not again for a while.
    fn heard(&mut self, now: Instant, mac: Mac) -> bool {
        self.other = Some((mac, now));
        if !self.is_ours() {
            self.stand = Stand::Taken { since: now };
            return false;
        }
        let defends = self.defended.is_none_or(|at| now.since(at) >= AGAIN);
        if defends {
            self.defended = Some(now);
        }
        defends
    }

    fn is_ours(&self) -> bool {
        matches!(self.stand, Stand::Ours { .. })
    }

    /// Nothing is due for longer than a look.
    fn is_settled(&self) -> bool {
        !matches!(self.stand, Stand::Asking { since: Some(_), .. })
    }
}

/// One of the addresses, for who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The address.
    pub ip: IpAddr,
    /// It is on its interface.
    pub ours: bool,
    /// Who else claimed it, and when that was heard last.
    pub other: Option<(Mac, Instant)>,
}

struct Place {
    address: ServiceAddress,
    interface: String,
    index: u32,
    mac: Mac,
    listener: Listener,
    claimant: Claimant,
}

/// All own addresses of this box.
pub struct Own {
    netlink: Socket,
    sender: Sender,
    places: Vec<Place>,
}

impl Own {
    /// Opens what is needed for `addresses`: the name of the interface, the address, the length of its network's prefix.
    ///
    /// # Errors
    ///
    /// An interface that is not there, and what the kernel said.
    pub fn open(addresses: &[(String, IpAddr, u8)]) -> io::Result<Self> {
        let (mut netlink, sender) = (Socket::open()?, Sender::open(NO_MARK)?);
        let mut places = Vec::new();
        for (name, ip, prefix) in addresses {
            let found = interface::find(&mut netlink, name)?;
            places.push(Place {
                address: ServiceAddress { ip: *ip, prefix: *prefix },
                interface: name.clone(),
                index: found.index,
                mac: found.mac,
                listener: Listener::open(found.index, &[*ip])?,
                claimant: Claimant::new(),
            });
        }
        Ok(Self { netlink, sender, places })
    }

    /// Hears what others say, and does what is due. To be called every [`PAUSE`] until it returns true, and now and then
    /// afterwards.
    pub fn turn(&mut self, now: Instant) -> bool {
        for place in &mut self.places {
            place.turn(now, &mut self.netlink, &self.sender);
        }
        self.places.iter().all(|place| place.claimant.is_settled())
    }

    /// How the addresses stand.
    pub fn stands(&self) -> impl Iterator<Item = Stands> {
        self.places.iter().map(|place| Stands {
            ip: place.address.ip,
            ours: place.claimant.is_ours(),
            other: place.claimant.other,
        })
    }
}

impl Place {
    fn turn(&mut self, now: Instant, netlink: &mut Socket, sender: &Sender) {
        let Ok(found) = interface::find(netlink, &self.interface) else { return };
        if let Err(error) = self.follow(&found, netlink, sender) {
            log::error!("own address {} on {}: {error}; tried again", self.address.ip, self.interface);
            return;
        }
        let mut buffer = [0; 128];
        // An error is the interface's (down, gone), which its carrier tells.
        while let Ok(Some(frame)) = self.listener.receive(&mut buffer) {
            let Some(mac) = claims(frame, self.address.ip).filter(|mac| *mac != self.mac) else { continue };
            if self.claimant.heard(now, mac) {
                self.send(sender, false);
            }
        }
        match self.claimant.turn(now, self.claimant.is_ours() || found.carrier) {
            Step::Nothing => {}
            Step::Probe => self.send(sender, true),
            Step::Take => match address::keep(netlink, self.index, self.address) {
                Ok(()) => {
                    log::info!("own address {} is on {}", self.address.ip, self.interface);
                    self.send(sender, false);
                }
                Err(error) => {
                    log::error!("own address {} on {}: {error}; tried again", self.address.ip, self.interface);
                    self.claimant.stand = Stand::Taken { since: now };
                }
            },
            Step::Announce => self.send(sender, false),
        }
    }

    /// Takes the interface as it is now: it may be another one, or have another hardware address.
    fn follow(&mut self, found: &Interface, netlink: &mut Socket, sender: &Sender) -> io::Result<()> {
        if self.index != found.index || self.listener.is_lost() {
            interface::set_up(netlink, found.index, true)?;
            self.listener.rebind(found.index)?;
            (self.index, self.mac, self.claimant) = (found.index, found.mac, Claimant::new());
            log::warn!(
                "{} is another interface now: own address {} is asked for anew",
                self.interface,
                self.address.ip
            );
        }
        if self.mac != found.mac {
            self.mac = found.mac;
            if self.claimant.is_ours() {
                self.send(sender, false);
            }
        }
        Ok(())
    }

    /// A probe or an announcement. One that is lost is one of several.
    fn send(&self, sender: &Sender, probe: bool) {
        let _ = match (self.address.ip, probe) {
            (IpAddr::V4(ip), true) => sender.send(self.index, &arp::probe(self.mac, ip)),
            (IpAddr::V4(ip), false) => sender.send(self.index, &arp::announcement(self.mac, ip)),
            (IpAddr::V6(ip), true) => sender.send(self.index, &neighbor::probe(self.mac, ip)),
            (IpAddr::V6(ip), false) => sender.send(self.index, &neighbor::announcement(self.mac, ip)),
        };
    }
}

/// Whose hardware address a frame names as that of `ip`.
fn claims(frame: &[u8], ip: IpAddr) -> Option<Mac> {
    match ip {
        IpAddr::V4(v4) => arp::parse(frame).filter(|arp| arp.sender_ip == v4).map(|arp| arp.sender_mac),
        IpAddr::V6(v6) => {
            let said = neighbor::parse(frame).filter(|said| said.kind == neighbor::ADVERTISEMENT && said.target == v6);
            said.map(|said| said.mac)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Mac = [2, 0, 0, 0, 0, 9];

    fn at(ms: u64) -> Instant {
        Instant::BOOT + Duration::from_millis(5000 + ms)
    }

    #[test]
    fn an_address_is_taken_when_three_probes_found_nobody() {
        let mut claimant = Claimant::new();
        assert_eq!(claimant.turn(at(0), false), Step::Nothing, "no cable");
        let steps: Vec<_> = (0..5).map(|turn| claimant.turn(at(100 * turn), true)).collect();
        assert_eq!(steps, [Step::Probe, Step::Probe, Step::Probe, Step::Take, Step::Nothing]);
        assert!(claimant.is_ours());
        assert_eq!(claimant.turn(at(2299), true), Step::Nothing);
        assert_eq!(claimant.turn(at(2300), true), Step::Announce);
        assert_eq!(claimant.turn(at(90_000), true), Step::Nothing);
    }

    #[test]
    fn turns_that_come_too_early_send_nothing_and_a_pulled_cable_begins_anew() {
        let mut claimant = Claimant::new();
        assert_eq!(claimant.turn(at(0), true), Step::Probe);
        assert_eq!(claimant.turn(at(99), true), Step::Nothing);
        assert_eq!(claimant.turn(at(100), true), Step::Probe);
        assert_eq!(claimant.turn(at(200), false), Step::Nothing);
        let steps: Vec<_> = (3..7).map(|turn| claimant.turn(at(100 * turn), true)).collect();
        assert_eq!(steps, [Step::Probe, Step::Probe, Step::Probe, Step::Take]);
    }

    #[test]
    fn an_address_that_somebody_has_is_left_to_him_and_asked_for_again() {
        let mut claimant = Claimant::new();
        assert_eq!(claimant.turn(at(0), true), Step::Probe);
        assert!(!claimant.heard(at(1), OTHER));
        assert_eq!(claimant.other, Some((OTHER, at(1))));
        assert_eq!(claimant.turn(at(10_000), true), Step::Nothing);
        let steps: Vec<_> = (0..4).map(|turn| claimant.turn(at(10_001 + 100 * turn), true)).collect();
        assert_eq!(steps, [Step::Probe, Step::Probe, Step::Probe, Step::Take]);
    }

    #[test]
    fn an_address_of_ours_is_kept_and_defended_once_in_ten_seconds() {
        let mut claimant = Claimant::new();
        for turn in 0..4 {
            claimant.turn(at(100 * turn), true);
        }
        assert!(claimant.heard(at(1000), OTHER));
        assert!(!claimant.heard(at(10_999), OTHER));
        assert!(claimant.heard(at(11_000), OTHER));
        assert!(claimant.is_ours());
    }
}
