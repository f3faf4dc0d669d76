//! How many lines a program may write into the log. What it says is worth less than what the box itself says, of which a flood
//! would leave nothing in the log's ring, and no room on the disk that the log goes to.

use crate::time::{Duration, Instant};

/// So many lines in so long a time. Pure.
#[derive(Clone, Debug)]
pub struct Allowance {
    most: u32,
    period: Duration,
    began: Instant,
    admitted: u32,
    left_out: u64,
}

impl Allowance {
    /// `most` lines in each `period`.
    #[must_use]
    pub const fn new(most: u32, period: Duration) -> Self {
        Self { most, period, began: Instant::BOOT, admitted: 0, left_out: 0 }
    }

    /// How long a period is.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Begins a new period if the last one is over, and returns how many lines were left out of that.
    pub fn turn(&mut self, now: Instant) -> u64 {
        if now.since(self.began) < self.period {
            return 0;
        }
        (self.began, self.admitted) = (now, 0);
        self.left_out()
    }

    /// A line comes in this period: whether it is written.
    pub fn admits(&mut self) -> bool {
        let admits = self.admitted < self.most;
        self.admitted += u32::from(admits);
        self.left_out = self.left_out.saturating_add(u64::from(!admits));
        admits
    }

    /// When it can be told how many lines were left out, if any were.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        (self.left_out > 0).then(|| self.began + self.period)
    }

    /// How many lines were left out since that was asked last.
    pub fn left_out(&mut self) -> u64 {
        core::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    /// Lines at these times: how many are written, and what is said of the others.
    fn play(allowance: &mut Allowance, times: impl Iterator<Item = Instant>) -> (u64, Vec<u64>) {
        let (mut written, mut told) = (0, Vec::new());
        for now in times {
            match allowance.turn(now) {
                0 => {}
                left_out => told.push(left_out),
            }
            written += u64::from(allowance.admits());
        }
        (written, told)
    }

    fn at(ms: u64) -> Instant {
        Instant::BOOT + Duration::from_secs(1000) + Duration::from_millis(ms)
    }

    #[test]
    fn a_flood_has_its_lines_and_what_is_left_out_is_told() {
        let mut allowance = Allowance::new(30, PERIOD);
        let (written, told) = play(&mut allowance, (0..60_000).map(at));
        assert_eq!(written, 6 * 30);
        assert_eq!(told, [9970; 5]);
        assert_eq!(allowance.due(), Some(at(60_000)));
        assert_eq!(allowance.turn(at(59_999)), 0, "its period is not over");
        assert_eq!(allowance.turn(at(60_000)), 9970);
        assert_eq!(allowance.due(), None);
        assert_eq!(allowance.turn(at(90_000)), 0, "told once");
    }

    #[test]
    fn who_says_little_is_written_whole() {
        let mut allowance = Allowance::new(30, PERIOD);
        let (written, told) = play(&mut allowance, (0..1000).map(|n| at(n * 400)));
        assert_eq!((written, told), (1000, vec![]));
        assert_eq!((allowance.due(), allowance.left_out()), (None, 0));
    }

    #[test]
    fn the_end_of_what_was_left_out_is_told_at_any_time() {
        let mut allowance = Allowance::new(1, PERIOD);
        play(&mut allowance, (0..4).map(at));
        assert_eq!((allowance.left_out(), allowance.left_out()), (3, 0));
    }
}
