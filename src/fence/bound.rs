//! The fence bound F: what the belts promise together. Pure.

use crate::time::Duration;

/// How late the egress gate may be: its comparison is exact, and a packet that passed it just before is on its way (2.2 us
/// with tcx and 55 us with cls_bpf measured at the receiver, under a flood: docs/gate.md). A millisecond is generous.
pub const GATE_LATENESS: Duration = Duration::from_millis(1);

/// What waits no longer is within what the address lease's bound has in reserve ([`super::address_lease::KERNEL_DELAY`]).
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// The belts that were verified on this box. Absent ones are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Belts {
    /// The egress gate is attached on every interface with a service address, read back and seen to drop; and this is the
    /// longest time for which a packet can stay in a queue behind it ([`super::queue::Queue::longest_stay`], the worst of
    /// the interfaces).
    pub gate: Option<GateBelt>,
    /// The armed hardware watchdog.
    pub watchdog: Option<WatchdogBelt>,
    /// Lifetime of a held service address in the kernel ([`super::address_lease::lifetime`]).
    pub address_lease: Option<Duration>,
    /// The longest time for which a packet can wait in the queues of the interfaces, gate or not; `None` if that is not known.
    pub waiting: Option<Duration>,
    /// The other box waits no longer than this for one that may have lost a belt unheard. A longer bound is none.
    pub longest: Duration,
}

/// A verified egress gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateBelt {
    /// Longest stay of a packet behind it; `None` if that is not known to be bounded: then the gate promises nothing.
    pub queue: Option<Duration>,
}

/// An armed watchdog that can reset a box whose kernel hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchdogBelt {
    /// Time from the last feed to its firing, for the timeout that was read back (measured, from the board file).
    pub firing: Duration,
    /// Time from its firing until the box surely sends nothing (from the board file).
    pub reset: Duration,
}

/// Which belt the bound comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// The egress gate.
    Gate,
    /// The hardware watchdog.
    Watchdog,
    /// The kernel lifetime of the addresses: UNFENCED.
    AddressLease,
    /// No belt: UNFENCED, and the peer never claims in silence.
    None,
}

impl BoundBy {
    /// The word in `status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            BoundBy::Gate => "gate",
            BoundBy::Watchdog => "watchdog",
            BoundBy::AddressLease => "address-lease",
            BoundBy::None => "none",
        }
    }

    /// Whether a box that fails is stopped by something that does not depend on the program that failed. The address lease
    /// is the kernel's work too, but it leaves alone what still answers with an old packet socket or a hung network stack.
    #[must_use]
    pub const fn fenced(self) -> bool {
        matches!(self, BoundBy::Gate | BoundBy::Watchdog)
    }
}

/// The bound F, and the belt it comes from: the lesser of the gate's, where it is verified and what can queue behind it is
/// bounded, and twice the watchdog's firing (the last feed can land late) and the reset; else the address lease's, else none.
/// And none where it would be longer than what both boxes reckon with at most.
#[must_use]
pub fn bound(belts: &Belts) -> (Option<Duration>, BoundBy) {
    match shortest(belts) {
        (Some(bound), _) if bound > belts.longest => (None, BoundBy::None),
        found => found,
    }
}

fn shortest(belts: &Belts) -> (Option<Duration>, BoundBy) {
    let gate = belts.gate.and_then(|gate| gate.queue).map(|stay| GATE_LATENESS + stay);
    let watchdog = belts.watchdog.map(|watchdog| watchdog.firing * 2 + watchdog.reset);
    match (gate, watchdog) {
        // Both are on: the one that is over first counts.
        (Some(gate), watchdog) if watchdog.is_none_or(|watchdog| gate <= watchdog) => {
            return (Some(gate), BoundBy::Gate);
        }
        (_, Some(watchdog)) => return (Some(watchdog), BoundBy::Watchdog),
        _ => {}
    }
    if let Some(lifetime) = belts.address_lease {
        // What was sent before the address went leaves later.
        let waiting = belts.waiting.filter(|waiting| *waiting > SHORT_WAIT).unwrap_or_default();
        return (Some(super::address_lease::bound(lifetime) + waiting), BoundBy::AddressLease);
    }
    (None, BoundBy::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn each_belt_stands_in_for_the_one_before() {
        let mut belts = Belts {
            gate: Some(GateBelt { queue: Some(Duration::ZERO) }),
            watchdog: Some(WatchdogBelt { firing: MS(2_010), reset: MS(50) }),
            address_lease: Some(MS(1_000)),
            waiting: Some(MS(12)),
            longest: MS(9_000),
        };
        assert_eq!(bound(&belts), (Some(MS(1)), BoundBy::Gate));
        belts.gate = Some(GateBelt { queue: Some(MS(12)) });
        assert_eq!(bound(&belts), (Some(MS(13)), BoundBy::Gate));
        belts.gate = Some(GateBelt { queue: Some(MS(10_000)) });
        assert_eq!(bound(&belts), (Some(MS(4_070)), BoundBy::Watchdog), "a queue that outlasts the watchdog");
        belts.gate = Some(GateBelt { queue: None });
        assert_eq!(bound(&belts), (Some(MS(4_070)), BoundBy::Watchdog));
        belts.watchdog = None;
        assert_eq!(bound(&belts), (Some(MS(6_000)), BoundBy::AddressLease));
        assert!(!bound(&belts).1.fenced());
        belts.address_lease = None;
        assert_eq!(bound(&belts), (None, BoundBy::None));
    }

    #[test]
    fn a_queue_that_outlasts_what_the_pair_reckons_with_leaves_no_bound() {
        let of = |queue| Belts {
            gate: Some(GateBelt { queue: Some(queue) }),
            watchdog: None,
            address_lease: Some(MS(1_000)),
            waiting: Some(queue),
            longest: MS(9_000),
        };
        assert_eq!(bound(&of(MS(8_999))), (Some(MS(9_000)), BoundBy::Gate));
        assert_eq!(bound(&of(MS(9_000))), (None, BoundBy::None));
        // Without the gate the same packets wait there.
        let without = |queue| bound(&Belts { gate: None, ..of(queue) });
        assert_eq!(without(MS(1_000)), (Some(MS(6_000)), BoundBy::AddressLease));
        assert_eq!(without(MS(3_000)), (Some(MS(9_000)), BoundBy::AddressLease));
        assert_eq!(without(MS(3_001)), (None, BoundBy::None));
        // A reset empties it.
        let watchdog = Some(WatchdogBelt { firing: MS(2_010), reset: MS(50) });
        assert_eq!(bound(&Belts { watchdog, ..of(MS(52_000)) }), (Some(MS(4_070)), BoundBy::Watchdog));
    }
}
