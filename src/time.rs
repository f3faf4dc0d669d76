//! Our instant: nanoseconds since the machine booted, and nothing else.
//!
//! Every decision takes time as an argument. The drivers read `CLOCK_BOOTTIME`, which goes on while the machine is
//! suspended and is never set back by an operator (clock_gettime(2)); nothing decides by the wall clock.

pub use core::time::Duration;

/// A moment on one box's own boot clock. Instants of two boxes are never compared, except to hand one back to its maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment of boot.
    pub const BOOT: Instant = Instant(0);

    /// A moment that never comes (584 years after boot).
    pub const NEVER: Instant = Instant(u64::MAX);

    /// The moment `ns` nanoseconds after boot.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long until `self`, seen from `now`; zero if it has passed.
    #[must_use]
    pub const fn until(self, now: Instant) -> Duration {
        self.since(now)
    }
}

/// Saturates at [`Instant::NEVER`]: "forever" plus anything is forever.
impl core::ops::Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, d: Duration) -> Instant {
        let ns = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(ns))
    }
}

/// Saturates at [`Instant::BOOT`].
impl core::ops::Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, d: Duration) -> Instant {
        let ns = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_sub(ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::BOOT - Duration::from_secs(1), Instant::BOOT);
        assert_eq!(Instant::BOOT + Duration::MAX, Instant::NEVER);
        assert_eq!(Instant::BOOT.since(Instant::NEVER), Duration::ZERO);
    }
}
