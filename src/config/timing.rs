//! Derived times and the inequalities that safety and liveness rest on. Pure.
//!
//! Words: h heartbeat interval, L lease, p interval of witness rounds, F fence bound, W watchdog time-out, rho clock drift,
//! C claim wait = (L + F)(1 + rho) + margin.

use std::time::Duration;

use super::value::show;
use crate::fence::address_lease;
use crate::fence::bound::GATE_LATENESS;

/// Clocks of the two boxes run apart by at most this, in parts per million: rho.
pub const DRIFT_PPM: u32 = 1_000;

/// Longest heartbeat in bytes, as the wire room promises.
const HEARTBEAT_BYTES: u32 = 224;

/// What delimiting adds to a heartbeat on a serial line: byte stuffing adds at most one byte in 254, two bytes delimit,
/// the rest is reserve for a checksum of the framing.
const FRAMING_BYTES: u32 = 8;

/// Bits on the line for one byte: start, eight data, stop.
const BITS_PER_BYTE: u32 = 10;

/// `[timing]`, every default filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Interval of heartbeats on ethernet: h.
    pub heartbeat: Duration,
    /// How long a heartbeat lets the peer serve: L.
    pub lease: Duration,
    /// Interval of witness rounds at full rate: p.
    pub witness: Duration,
    /// Interval of witness rounds in peace.
    pub witness_idle: Duration,
    /// Interval of heartbeats on the null modem.
    pub serial_heartbeat: Duration,
    /// Added to every wait for the peer's fence.
    pub margin: Duration,
    /// How long a difference of scores lasts before the service moves.
    pub settle: Duration,
    /// How long a fault must be gone; pause between moves.
    pub hold_down: Duration,
    /// Kernel lifetime of service addresses, whole seconds.
    pub address_lifetime: Duration,
}

/// A set of values to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For any machine and any network.
    Default,
    /// For a machine with real-time priority and the egress gate.
    Fast,
    /// Needs the gate, a second core for the loop and a witness that keeps up.
    Fastest,
}

impl Profile {
    /// Its values.
    #[must_use]
    pub fn timing(self) -> Timing {
        let ms = Duration::from_millis;
        let (heartbeat, lease, witness, margin) = match self {
            Profile::Default => (ms(50), ms(500), ms(25), ms(50)),
            Profile::Fast => (ms(10), ms(60), ms(3), ms(5)),
            Profile::Fastest => (ms(5), ms(20), Duration::from_micros(1250), ms(5)),
        };
        Timing {
            heartbeat,
            lease,
            witness,
            witness_idle: ms(250),
            serial_heartbeat: ms(100),
            margin,
            settle: Duration::from_secs(2),
            hold_down: Duration::from_secs(30),
            address_lifetime: address_lease::lifetime(lease),
        }
    }
}

/// What stops a box that has no right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belt {
    /// The egress gate in the kernel.
    Gate,
    /// The hardware watchdog.
    Watchdog,
    /// The kernel lifetime of the service addresses. UNFENCED.
    AddressLease,
    /// Nothing.
    None,
}

impl Belt {
    /// All of them, from the fastest to none.
    pub const ALL: [Belt; 4] = [Belt::Gate, Belt::Watchdog, Belt::AddressLease, Belt::None];

    /// The word that `status` and `check` use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Belt::Gate => "gate",
            Belt::Watchdog => "watchdog",
            Belt::AddressLease => "address-lease",
            Belt::None => "none",
        }
    }
}

/// How the board's watchdog fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The time-out that is set: W.
    pub timeout: Duration,
    /// When it fires, in percent of that.
    pub percent: u16,
    /// From firing to silence.
    pub reset_time: Duration,
}

/// `longest-bound`, where the site file does not say it, of watchdogs with this time-out: 200 % and a second, as those that were
/// not measured are taken to fire.
#[must_use]
pub fn longest_watchdog_bound(timeout: Duration) -> Duration {
    4 * timeout + Duration::from_secs(1)
}

/// Everything that times are derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `[timing]`
    pub timing: Timing,
    /// `boot-wait`
    pub boot_wait: Duration,
    /// The watchdog, if the board has one.
    pub watchdog: Option<Firing>,
    /// `longest-bound`: that of no watchdog of the pair is longer.
    pub longest_watchdog_bound: Duration,
    /// Speed of the null modem, if there is one.
    pub null_modem_baud: Option<u32>,
}

/// An inequality that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Section and key that break it.
    pub key: (&'static str, &'static str),
    /// What is wrong, with the figures.
    pub what: String,
    /// What would do.
    pub allowed: String,
}

impl Plan {
    /// F: from the end of the right to the certainty that nothing more is sent. `None`: there is no such moment.
    ///
    /// The watchdog counts twice, because its last feed can land as late as the right's last instant and then some: the
    /// program may be stopped between its look and its feed.
    #[must_use]
    pub fn fence_bound(&self, belt: Belt) -> Option<Duration> {
        match belt {
            Belt::Gate => Some(GATE_LATENESS),
            Belt::Watchdog => {
                self.watchdog.map(|dog| 2 * (dog.timeout * u32::from(dog.percent) / 100) + dog.reset_time)
            }
            Belt::AddressLease => Some(address_lease::bound(self.timing.address_lifetime)),
            Belt::None => None,
        }
    }

    /// C: how long the standby waits after the last sign of a peer with that belt.
    #[must_use]
    pub fn claim_wait(&self, belt: Belt) -> Option<Duration> {
        let sum = self.timing.lease + self.fence_bound(belt)?;
        let drift = sum * DRIFT_PPM / 1_000_000 + Duration::from_nanos(1);
        Some(sum + drift + self.timing.margin)
    }

    /// When the standby begins to count the peer as lost.
    #[must_use]
    pub fn detection(&self) -> Duration {
        self.timing.lease
    }

    /// From the last heartbeat until the witnesses are asked at full rate, at worst: one and a half intervals of the path on
    /// which the peer was heard, if that was the slowest one that carries a lease, and at most one round. The unbroken quorum
    /// that a claim in silence needs begins then.
    #[must_use]
    pub fn alert(&self) -> Duration {
        let Timing { heartbeat, serial_heartbeat, lease, witness, .. } = self.timing;
        let serial = self.null_modem_baud.map(|_| serial_heartbeat);
        let carries = |interval: &Duration| *interval <= lease / 3;
        let slowest = [Some(heartbeat), serial].into_iter().flatten().filter(carries).max().unwrap_or(heartbeat);
        slowest * 3 / 2 + witness
    }

    /// From the peer's last heartbeat to the decision to serve: C of quorum after the alert, with a loop as late as the
    /// margin allows. Writing the term to disk and the first announcement come on top.
    #[must_use]
    pub fn worst_failover(&self, belt: Belt) -> Option<Duration> {
        self.claim_wait(belt).map(|wait| self.alert() + wait + self.timing.margin)
    }

    /// The longest bound of the belts that this box can be left with.
    #[must_use]
    pub fn worst_bound(&self) -> Duration {
        let belts = [Belt::Watchdog, Belt::AddressLease];
        belts.into_iter().filter_map(|belt| self.fence_bound(belt)).max().unwrap_or(GATE_LATENESS)
    }

    /// The longest bound of the belts that a box of this pair can be left with. The peer's board may be another one: what counts
    /// is what the site file says of both.
    #[must_use]
    pub fn longest_bound(&self) -> Duration {
        self.longest_watchdog_bound.max(address_lease::bound(self.timing.address_lifetime))
    }

    /// How long one heartbeat occupies the null modem.
    #[must_use]
    pub fn line_time(&self) -> Option<Duration> {
        let bits = (HEARTBEAT_BYTES + FRAMING_BYTES) * BITS_PER_BYTE;
        self.null_modem_baud.map(|baud| Duration::from_secs(1) * bits / baud)
    }

    /// A heartbeat and its echo on the null modem: the interval and the line's time, both ways.
    #[must_use]
    pub fn null_modem_round_trip(&self) -> Option<Duration> {
        self.line_time().map(|line| 2 * (self.timing.serial_heartbeat + line))
    }

    /// The null modem is fast enough to carry a lease and a vote.
    #[must_use]
    pub fn null_modem_carries_lease(&self) -> Option<bool> {
        self.null_modem_round_trip().map(|round_trip| round_trip <= self.timing.lease)
    }

    /// Pings a second to each witness while something is wrong.
    #[must_use]
    pub fn pings_per_second(&self) -> u64 {
        // A round is a ping and a reflected heartbeat, which is a ping too; both boxes send them.
        4 * 1_000_000_000 / u64::try_from(self.timing.witness.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Every inequality that does not hold.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        let Timing { heartbeat, lease, witness, witness_idle, .. } = self.timing;
        let mut refusals = Vec::new();
        let mut refuse = |section, key, what, allowed| {
            refusals.push(Refusal { key: (section, key), what, allowed });
        };
        let fastest = self.null_modem_baud.map_or(heartbeat, |_| heartbeat.min(self.timing.serial_heartbeat));
        if lease < 3 * fastest {
            // Two heartbeats may be lost before a lease ends.
            let what = format!("{} is less than three heartbeats of {}", show(lease), show(fastest));
            refuse("timing", "lease", what, format!("allowed: lease >= {}, or shorter heartbeats", show(3 * fastest)));
        }
        if witness * 16 > lease {
            // Four rounds fit into a quarter of the lease, so that two quorums overlap in time.
            let what = format!("{} is more than a sixteenth of the lease of {}", show(witness), show(lease));
            refuse("timing", "witness", what, format!("allowed: witness <= {}, or a longer lease", show(lease / 16)));
        }
        if witness * 32 < lease {
            // A round is known to be bad after an eighth of the lease, and eight are remembered: the four that are judged
            // together, and those that were sent since.
            let what = format!("{} is less than a thirty-second of the lease of {}", show(witness), show(lease));
            refuse("timing", "witness", what, format!("allowed: witness >= {}, or a shorter lease", show(lease / 32)));
        }
        if witness_idle < witness {
            let what = format!("{} is faster than the full rate of {}", show(witness_idle), show(witness));
            refuse("timing", "witness-idle", what, format!("allowed: witness-idle >= {}", show(witness)));
        }
        if self.timing.address_lifetime < lease {
            // The kernel would take the addresses from a box that still has the right to serve.
            let what = format!("{} is less than the lease of {}", show(self.timing.address_lifetime), show(lease));
            refuse("timing", "address-lifetime", what, format!("allowed: address-lifetime >= {}", show(lease)));
        }
        if let Some(own) = self.fence_bound(Belt::Watchdog).filter(|own| *own > self.longest_watchdog_bound) {
            // The peer would take over before this box, having lost its gate unheard, is surely silent.
            let what = format!(
                "{} is shorter than the bound of this board's watchdog of {}",
                show(self.longest_watchdog_bound),
                show(own)
            );
            refuse(
                "watchdog",
                "longest-bound",
                what,
                format!("allowed: longest-bound >= {}, on both boxes", show(own)),
            );
        }
        // Each box looks at its own belts, and both have the same wait: so it is long enough for the bounds of either.
        let worst = self.timing.lease + self.worst_bound();
        let silence = worst + worst * DRIFT_PPM / 1_000_000 + self.timing.margin;
        if self.boot_wait < silence {
            // A box that boots must not claim before a peer that it cannot hear is surely fenced.
            let what = format!("{} is shorter than the longest claim wait of {}", show(self.boot_wait), show(silence));
            refuse("pair", "boot-wait", what, format!("allowed: boot-wait >= {}", show(silence)));
        }
        refusals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn plan(profile: Profile) -> Plan {
        Plan {
            timing: profile.timing(),
            boot_wait: ms(60_000),
            watchdog: Some(Firing { timeout: ms(2000), percent: 100, reset_time: Duration::ZERO }),
            longest_watchdog_bound: longest_watchdog_bound(ms(2000)),
            null_modem_baud: Some(115_200),
        }
    }

    /// The next whole millisecond.
    fn up(duration: Option<Duration>) -> u128 {
        duration.unwrap().as_nanos().div_ceil(1_000_000)
    }

    #[test]
    fn claim_waits_of_the_three_profiles() {
        // (0.5 + 4)(1.001) + 0.05: 4.6 s and more
        assert_eq!(up(plan(Profile::Default).claim_wait(Belt::Watchdog)), 4555);
        assert_eq!(up(plan(Profile::Default).claim_wait(Belt::Gate)), 552);
        assert_eq!(up(plan(Profile::Fast).claim_wait(Belt::Gate)), 67);
        // (20 + 1)(1.001) + 5 = 26.021 ms: 26 ms, rounded to the nearest
        assert_eq!(plan(Profile::Fastest).claim_wait(Belt::Gate).unwrap().as_micros(), 26_021);
        assert_eq!(plan(Profile::Default).claim_wait(Belt::None), None);
    }

    #[test]
    fn a_failover_takes_the_alert_the_wait_and_a_late_turn() {
        // 150 ms for the null modem's interval, 25 ms for a round.
        assert_eq!(plan(Profile::Default).alert(), ms(175));
        assert_eq!(up(plan(Profile::Default).worst_failover(Belt::Gate)), 777);
        // The null modem is too slow for a fast lease, and the crossover's 10 ms count.
        assert_eq!(plan(Profile::Fast).alert(), ms(18));
        assert_eq!(plan(Profile::Default).worst_failover(Belt::None), None);
    }

    #[test]
    fn a_watchdog_counts_twice_as_it_fires() {
        let mut plan = plan(Profile::Default);
        plan.watchdog = Some(Firing { timeout: ms(5000), percent: 110, reset_time: ms(100) });
        assert_eq!(plan.fence_bound(Belt::Watchdog), Some(ms(11_100)));
        assert_eq!(plan.fence_bound(Belt::AddressLease), Some(ms(6_000)));
        plan.watchdog = None;
        assert_eq!(plan.fence_bound(Belt::Watchdog), None);
        assert_eq!(plan.worst_bound(), ms(6_000));
        assert_eq!(plan.longest_bound(), ms(9_000), "the peer's board may have one");
        plan.timing.address_lifetime = ms(3_000);
        assert_eq!(plan.longest_bound(), ms(10_000));
    }

    #[test]
    fn a_null_modem_serves_the_default_profile_and_not_the_fast_one() {
        let line = plan(Profile::Default).null_modem_round_trip().unwrap();
        assert!((ms(235)..ms(245)).contains(&line), "{line:?}");
        assert_eq!(plan(Profile::Default).null_modem_carries_lease(), Some(true));
        assert_eq!(plan(Profile::Fast).null_modem_carries_lease(), Some(false));
        assert_eq!(Plan { null_modem_baud: None, ..plan(Profile::Fast) }.null_modem_carries_lease(), None);
    }

    #[test]
    fn the_profiles_keep_every_inequality() {
        for profile in [Profile::Default, Profile::Fast, Profile::Fastest] {
            assert_eq!(plan(profile).refusals(), [], "{profile:?}");
        }
    }

    #[test]
    fn each_broken_inequality_is_refused_alone_and_at_its_edge() {
        let refused = |change: fn(&mut Plan)| {
            let mut plan = plan(Profile::Default);
            change(&mut plan);
            plan.refusals().into_iter().map(|refusal| refusal.key.1).collect::<Vec<_>>()
        };
        assert_eq!(refused(|plan| plan.timing.heartbeat = ms(100)), [""; 0]);
        assert_eq!(refused(|plan| plan.timing.lease = 3 * plan.timing.heartbeat), ["witness"]);
        assert_eq!(
            refused(|plan| {
                plan.timing.serial_heartbeat = ms(200);
                plan.timing.heartbeat = ms(167);
            }),
            ["lease"]
        );
        assert_eq!(refused(|plan| plan.timing.witness = plan.timing.lease / 16), [""; 0]);
        assert_eq!(refused(|plan| plan.timing.witness = plan.timing.lease / 16 + ms(1)), ["witness"]);
        assert_eq!(refused(|plan| plan.timing.witness = plan.timing.lease / 32), [""; 0]);
        assert_eq!(refused(|plan| plan.timing.witness = plan.timing.lease / 32 - ms(1)), ["witness"]);
        assert_eq!(refused(|plan| plan.timing.witness_idle = ms(24)), ["witness-idle"]);
        let lease = |lease| {
            let mut plan = plan(Profile::Default);
            (plan.timing.lease, plan.timing.witness) = (lease, lease / 20);
            plan.refusals().into_iter().map(|refusal| refusal.key.1).collect::<Vec<_>>()
        };
        assert_eq!(lease(ms(1_000)), [""; 0]);
        assert_eq!(lease(ms(1_001)), ["address-lifetime"]);
        assert_eq!(refused(|plan| plan.longest_watchdog_bound = ms(4_000)), [""; 0]);
        assert_eq!(refused(|plan| plan.longest_watchdog_bound = ms(3_999)), ["longest-bound"]);
        // address lease: (0.5 + 6)(1.001) + 0.05
        assert_eq!(refused(|plan| plan.boot_wait = Duration::from_micros(6_556_500)), [""; 0]);
        assert_eq!(refused(|plan| plan.boot_wait = Duration::from_micros(6_556_499)), ["boot-wait"]);
    }

    #[test]
    fn witness_traffic_is_what_it_costs_a_router() {
        assert_eq!(plan(Profile::Default).pings_per_second(), 160);
        assert_eq!(plan(Profile::Fast).pings_per_second(), 1_333);
    }
}
