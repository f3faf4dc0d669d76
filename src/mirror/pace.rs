//! How fast a cycle goes, told now and then. Pure: time is an argument.

use std::path::Path;

use super::control::Report;
use super::sender::Progress;
use crate::time::{Duration, Instant};

/// Progress is told so often.
const TELL: Duration = Duration::from_millis(250);

/// Since the first content was read: what comes before it (scanning, the standby's own look) has no rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    began: Option<Instant>,
    told: Option<Instant>,
}

/// How far and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    progress: Progress,
    rate: u64,
    left_ms: Option<u64>,
}

impl Pace {
    /// What to tell now, if it is time to.
    pub fn tell(&mut self, progress: &Progress, now: Instant) -> Option<Told> {
        // Before the changes are known nothing is read here.
        let began = if progress.files_total > 0 { *self.began.get_or_insert(now) } else { now };
        if self.told.is_some_and(|told| now.since(told) < TELL) {
            return None;
        }
        self.told = Some(now);
        let seconds = now.since(began).as_secs_f64();
        let rate = if seconds > 0.0 { (progress.bytes as f64 / seconds) as u64 } else { 0 };
        let left = progress.bytes_total.saturating_sub(progress.bytes);
        Some(Told { progress: *progress, rate, left_ms: left.saturating_mul(1000).checked_div(rate) })
    }
}

impl Told {
    /// As a report about a request.
    #[must_use]
    pub fn report(self, request: u64, tree: &Path) -> Report {
        let Told { progress, rate, left_ms } = self;
        Report::Progress {
            request,
            tree: tree.to_path_buf(),
            files: progress.files,
            files_total: progress.files_total,
            bytes: progress.bytes,
            bytes_total: progress.bytes_total,
            rate,
            left_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_reading_and_is_told_four_times_a_second() {
        let at = |ms| Instant::BOOT + Duration::from_millis(ms);
        let progress = |bytes| Progress { files: 1, files_total: 2, bytes, bytes_total: 4_000_000 };
        let mut pace = Pace::default();
        // The first word comes at once, and however long the scan takes it does not count.
        assert!(pace.tell(&Progress::default(), at(0)).is_some());
        assert_eq!(pace.tell(&progress(0), at(60_000)).map(|told| (told.rate, told.left_ms)), Some((0, None)));
        assert_eq!(pace.tell(&progress(100_000), at(60_249)), None);
        let told = pace.tell(&progress(1_000_000), at(60_500)).unwrap();
        assert_eq!((told.rate, told.left_ms), (2_000_000, Some(1_500)));
    }
}
