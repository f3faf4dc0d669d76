//! A limit to how much goes over a link. Pure: time is an argument.

use crate::time::{Duration, Instant};

/// A bandwidth limit: so many bytes a second, and as much as a tenth of a second brings at once. Pure.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: u64,
    full_at: Instant,
}

impl Bucket {
    const BURST: Duration = Duration::from_millis(100);

    /// A full one.
    #[must_use]
    pub fn new(rate: u64, now: Instant) -> Self {
        Bucket { rate: rate.max(1), full_at: now }
    }

    /// Takes so many bytes; how long to wait until they may go out.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let begin = self.full_at.max(now);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        self.full_at = begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.full_at.until(now).saturating_sub(Self::BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_lets_a_burst_through_and_then_the_rate() {
        let mut bucket = Bucket::new(1_000_000, Instant::BOOT);
        assert_eq!(bucket.take(100_000, Instant::BOOT), Duration::ZERO);
        assert_eq!(bucket.take(500_000, Instant::BOOT), Duration::from_millis(500));
        let later = Instant::BOOT + Duration::from_secs(5);
        assert_eq!(bucket.take(100_000, later), Duration::ZERO);
    }
}
