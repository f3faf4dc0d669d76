//! The address lease: how long a service address lives in the kernel, when it is renewed, and what that promises. Pure.
//!
//! The lifetime (`valid_lft`) is relative and in whole seconds. The kernel removes an address after its seconds are over,
//! never early: 4 to 400 ms after on a box where nothing else happens, up to a second where another address is put on in the
//! meantime ([`KERNEL_DELAY`]). A renewal that the right
//! allowed when the program looked may reach the kernel as long as the address is there, because one that comes after it was
//! removed is refused (see the takeover's `address::renew`): so after the lifetime and the kernel's delay at the latest. It
//! gives the address another lifetime, and the kernel may delay again. So the address is gone for sure after two of both,
//! counted from the end of the right.

use crate::time::{Duration, Instant};

/// The longest delay of the kernel's removal. Between two looks for expired addresses it lets a second pass
/// (ADDRCONF_TIMER_FUZZ_MAX; net/ipv4/devinet.c `check_lifetime`, net/ipv6/addrconf.c `addrconf_verify_rtnl`), and every
/// address that is put on, by whomever, makes it look at once: one that is put on just before the end moves the next look to a
/// second after it. The other second is for the work queue and the lock of the network stack that the look waits for.
pub const KERNEL_DELAY: Duration = Duration::from_secs(2);

/// The lifetime for a pair with this lease: whole seconds, at least one. Half a lease of slack over the lease: a box whose
/// loop stalled as long as its right allows still has its addresses.
#[must_use]
pub fn lifetime(lease: Duration) -> Duration {
    let wanted = lease + lease / 2;
    Duration::from_secs((wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0)).max(1))
}

/// When nothing has renewed an address for this long after the end of the right, it is gone.
#[must_use]
pub fn bound(lifetime: Duration) -> Duration {
    (lifetime + KERNEL_DELAY) * 2
}

/// Says when the next renewal is due: a quarter of the lifetime after the last. Every heartbeat extends the right, but every
/// renewal is a system call of 16 to 35 us and a message to all who watch the addresses of the box.
#[derive(Clone, Copy, Debug)]
pub struct AddressLease {
    lifetime: Duration,
    renewed_at: Option<Instant>,
}

impl AddressLease {
    /// No address is held yet.
    #[must_use]
    pub const fn new(lifetime: Duration) -> AddressLease {
        AddressLease { lifetime, renewed_at: None }
    }

    /// The addresses were put up, or renewed.
    pub const fn renewed(&mut self, now: Instant) {
        self.renewed_at = Some(now);
    }

    /// The addresses were taken down.
    pub const fn ended(&mut self) {
        self.renewed_at = None;
    }

    /// Whether a permission to renew, given now, should be used. Never while no address is held.
    #[must_use]
    pub fn due(&self, now: Instant) -> bool {
        self.renewed_at.is_some_and(|at| now.since(at) >= self.lifetime / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_whole_seconds_and_outlast_the_lease() {
        for (lease_ms, seconds) in [(20, 1), (60, 1), (500, 1), (667, 2), (1000, 2), (2000, 3)] {
            assert_eq!(lifetime(Duration::from_millis(lease_ms)), Duration::from_secs(seconds), "{lease_ms} ms");
        }
        assert_eq!(
            bound(Duration::from_secs(1)),
            Duration::from_secs(6),
            "the kernel may be late with either lifetime"
        );
    }

    #[test]
    fn renewals_are_due_four_times_a_lifetime_and_only_while_held() {
        let mut lease = AddressLease::new(Duration::from_secs(1));
        let at = |ms| Instant::BOOT + Duration::from_millis(ms);
        assert!(!lease.due(at(5_000)));
        lease.renewed(at(5_000));
        assert!(!lease.due(at(5_249)));
        assert!(lease.due(at(5_250)));
        lease.ended();
        assert!(!lease.due(at(9_000)));
    }
}
