//! Which foreign claims of service addresses are said in the log: anybody on the LAN can make as many as he likes, and the log
//! keeps the last lines only.

use crate::takeover::ADDRESSES;
use crate::time::{Duration, Instant};

/// Between two lines about the same address.
const PAUSE: Duration = Duration::from_secs(10);

/// What was said, for each address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claims {
    said: [Option<Instant>; ADDRESSES],
    unsaid: [u32; ADDRESSES],
}

impl Claims {
    /// One was heard. If it is to be said: how many were not since the last one that was.
    pub(super) fn heard(&mut self, now: Instant, address: usize) -> Option<u32> {
        let (said, unsaid) = (&mut self.said[address], &mut self.unsaid[address]);
        if said.is_some_and(|at| now.since(at) < PAUSE) {
            *unsaid = unsaid.saturating_add(1);
            return None;
        }
        *said = Some(now);
        Some(core::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_claims_is_a_line_in_ten_seconds_for_each_address() {
        let mut claims = Claims::default();
        let lines: Vec<_> =
            (0..1_000_000u64).filter_map(|n| claims.heard(Instant::BOOT + Duration::from_micros(n * 25), 3)).collect();
        assert_eq!(lines, [0, 399_999, 399_999]);
        assert_eq!(claims.heard(Instant::BOOT + Duration::from_secs(25), 4), Some(0), "of another address");
    }
}
