//! Somebody else uses a service address: what that means. Pure (RFC 5227 section 2.4, and pair.md's probe while claiming).

use super::address::ADDRESSES;
use crate::time::{Duration, Instant};

/// RFC 5227 DEFEND_INTERVAL: two boxes that both defend must not end in a storm.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// A frame that names a service address as its sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Index of the service address.
    pub address: usize,
    /// Hardware address of the sender.
    pub mac: [u8; 6],
    /// It is an answer (ARP reply, solicited or probed-for NA), no announcement.
    pub answer: bool,
}

/// What a [`Claim`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// We do not hold the address and did not ask: its holder speaks.
    Usual,
    /// The peer answered our probe: it still holds the address, so fencing it failed.
    PeerAnswered,
    /// A stranger answered our probe: the address is taken.
    StrangerAnswered,
    /// Somebody claims an address that we hold. Defend it by one announcement, and tell.
    Defend,
    /// The same, and we defended it less than [`DEFEND_INTERVAL`] ago: only tell. We keep the address: two nodes of this
    /// pair that both hold it are judged by their heartbeats, not here.
    Contested,
}

/// The last foreign claim of one address, for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// When.
    pub at: Instant,
    /// Who.
    pub mac: [u8; 6],
    /// How many so far.
    pub count: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    probed_at: Option<Instant>,
    defended_at: Option<Instant>,
    last: Option<Conflict>,
}

/// The memory of conflicts, per service address.
#[derive(Clone, Debug)]
pub struct Conflicts {
    /// An answer later than this after the last probe answers no probe. The lease L.
    window: Duration,
    watched: [Watched; ADDRESSES],
}

impl Conflicts {
    /// `window`: how long after a probe an answer counts as one to it (the lease).
    #[must_use]
    pub fn new(window: Duration) -> Conflicts {
        Conflicts { window, watched: [Watched::default(); ADDRESSES] }
    }

    /// Service address `address` is being probed.
    pub fn probed(&mut self, now: Instant, address: usize) {
        self.watched[address].probed_at = Some(now);
    }

    /// A claim was heard. `held`: we hold the address; `from_peer`: its sender is the peer's hardware address.
    pub fn heard(&mut self, now: Instant, claim: Claim, held: bool, from_peer: bool) -> Finding {
        let watched = &mut self.watched[claim.address];
        let probed = watched.probed_at.is_some_and(|at| now.since(at) <= self.window);
        if !held {
            if !(probed && claim.answer) {
                return Finding::Usual;
            }
            if from_peer {
                return Finding::PeerAnswered; // no third party: whether it may is the node's to say
            }
            watched.note(now, claim.mac);
            return Finding::StrangerAnswered;
        }
        watched.note(now, claim.mac);
        if watched.defended_at.is_some_and(|at| now.since(at) < DEFEND_INTERVAL) {
            return Finding::Contested;
        }
        watched.defended_at = Some(now);
        Finding::Defend
    }

    /// The last foreign claim of `address` within `age` before `now`.
    #[must_use]
    pub fn last(&self, now: Instant, address: usize, age: Duration) -> Option<Conflict> {
        self.watched[address].last.filter(|c| now.since(c.at) <= age)
    }
}

impl Watched {
    fn note(&mut self, now: Instant, mac: [u8; 6]) {
        let count = self.last.map_or(0, |c| c.count).saturating_add(1);
        self.last = Some(Conflict { at: now, mac, count });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(500);

    fn at(ms: u64) -> Instant {
        Instant::BOOT + Duration::from_millis(100_000 + ms)
    }

    fn claim(answer: bool) -> Claim {
        Claim { address: 3, mac: [2, 0, 0, 0, 0, 9], answer }
    }

    #[test]
    fn an_address_is_defended_once_in_ten_seconds() {
        let mut conflicts = Conflicts::new(LEASE);
        assert_eq!(conflicts.heard(at(0), claim(false), true, false), Finding::Defend);
        assert_eq!(conflicts.heard(at(1), claim(true), true, true), Finding::Contested);
        assert_eq!(conflicts.heard(at(9_999), claim(false), true, false), Finding::Contested);
        assert_eq!(conflicts.heard(at(10_000), claim(false), true, false), Finding::Defend);
        let other = Claim { address: 4, ..claim(false) };
        assert_eq!(conflicts.heard(at(10_001), other, true, false), Finding::Defend);
        let last = conflicts.last(at(10_002), 3, LEASE).unwrap();
        assert_eq!((last.count, last.mac), (4, claim(false).mac));
        assert_eq!(conflicts.last(at(11_000), 3, LEASE), None);
    }

    #[test]
    fn only_an_answer_within_the_lease_of_a_probe_shows_that_fencing_failed() {
        let mut conflicts = Conflicts::new(LEASE);
        assert_eq!(conflicts.heard(at(0), claim(true), false, true), Finding::Usual, "nothing was asked");
        conflicts.probed(at(100), 3);
        assert_eq!(conflicts.heard(at(101), claim(false), false, true), Finding::Usual, "an announcement is no answer");
        assert_eq!(conflicts.heard(at(600), claim(true), false, true), Finding::PeerAnswered);
        assert_eq!(conflicts.heard(at(600), claim(true), false, false), Finding::StrangerAnswered);
        assert_eq!(conflicts.heard(at(601), claim(true), false, true), Finding::Usual, "too late");
    }
}
