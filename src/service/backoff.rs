//! How long to wait before something that failed is started again.

use core::time::Duration;

/// Having run this long, it gets the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// Doubles with every failure in a row.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// The pause after the first failure, and the longest one.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The pause after a failure that followed `ran` of running.
    pub fn after_failure(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.failures = 0;
        }
        let pause = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew_after_a_steady_run() {
        let first = Duration::from_millis(250);
        let mut backoff = Backoff::new(first, Duration::from_secs(30));
        let pauses: Vec<u64> =
            (0..9).map(|_| u64::try_from(backoff.after_failure(Duration::ZERO).as_millis()).unwrap()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff.after_failure(STEADY), first);
    }
}
