//! The few formulas that safety rests on. Everything else about timing is derived from these in `config`.

use crate::time::{Duration, Instant};

/// Clocks of the two boxes run apart by at most this many parts per million while no time daemon slews them.
///
/// `CLOCK_BOOTTIME` follows the kernel's frequency correction, which adjtimex(2) bounds to 500 ppm; together with the
/// crystals' own error of up to 100 ppm each, 1,000 ppm holds.
pub const DRIFT_PPM: u32 = 1_000;
/// What to reckon with when the kernel's clock is being slewed: the tick may then be off by 10 %.
pub const DRIFT_PPM_SLEWED: u32 = 100_000;

/// The claim wait `C = (L + F)(1 + rho) + margin`: after this time without a word, a peer with lease `lease` and fence
/// bound `fence` certainly sends nothing as holder of the service addresses. `None`: it has no bound, so never.
///
/// Both arguments are the *peer's*: what counts is when *it* stops.
#[must_use]
pub fn claim_wait(lease: Duration, fence: Option<Duration>, drift_ppm: u32, margin: Duration) -> Option<Duration> {
    let sum = lease.checked_add(fence?)?;
    let drift = Duration::from_nanos(
        u64::try_from(sum.as_nanos().saturating_mul(u128::from(drift_ppm)).div_ceil(1_000_000)).ok()?,
    );
    sum.checked_add(drift)?.checked_add(margin)
}

/// `now` plus a wait that may be infinite.
#[must_use]
pub fn after(now: Instant, wait: Option<Duration>) -> Instant {
    wait.map_or(Instant::NEVER, |w| now + w)
}

/// How late an answer of a witness may come and still make its round good: `L / 8`.
#[must_use]
pub fn answer_limit(lease: Duration) -> Duration {
    lease / 8
}

/// A gap between two turns of the loop longer than this means that we were away: `L / 4`.
#[must_use]
pub fn late_limit(lease: Duration) -> Duration {
    lease / 4
}

/// Until when a box says nothing that was away for longer than its right, and came to again at `since`, if it does not hear
/// its peer before: `L / 2`, more than the interval of the fastest link.
#[must_use]
pub fn mute_until(since: Instant, lease: Duration) -> Instant {
    since + lease / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_wait_rounds_up_and_keeps_the_infinite() {
        let ms = Duration::from_millis;
        assert_eq!(claim_wait(ms(500), Some(ms(4000)), 1_000, ms(50)), Some(Duration::from_micros(4_554_500)));
        assert_eq!(claim_wait(ms(500), None, 1_000, ms(50)), None);
        assert_eq!(after(Instant::BOOT, None), Instant::NEVER);
        assert_eq!(
            claim_wait(Duration::from_nanos(1), Some(Duration::ZERO), 1, Duration::ZERO),
            Some(Duration::from_nanos(2))
        );
    }
}
