//! How long to wait before a failed service is started again.

use core::time::Duration;

/// First pause.
const FIRST: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// Having run this long, a service gets the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// Doubles with every failure in a row.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after a failure that followed `ran` of running.
    pub(super) fn after_failure(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.failures = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew_after_a_steady_run() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> =
            (0..9).map(|_| u64::try_from(backoff.after_failure(Duration::ZERO).as_millis()).unwrap()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff.after_failure(STEADY), FIRST);
    }
}
