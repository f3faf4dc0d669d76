//! The world's time and a box's own clock, which starts anew at every boot and runs a little fast or slow.

use twobox::time::{Duration, Instant};

/// Nanoseconds of the world. No box ever sees it.
pub type Time = u64;

pub const MS: Time = 1_000_000;
pub const SECOND: Time = 1_000 * MS;
pub const NEVER: Time = Time::MAX;

pub fn ns(d: Duration) -> Time {
    u64::try_from(d.as_nanos()).expect("durations here are short")
}

/// A box's clock: `local = from + (world - booted) * (1 + drift)`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub booted: Time,
    pub from: u64,
    /// Parts per billion that it runs fast.
    pub drift: i64,
}

impl Clock {
    pub fn local(&self, t: Time) -> Instant {
        let elapsed = t.saturating_sub(self.booted) as i64;
        Instant::from_nanos(
            self.from + (elapsed + (i128::from(elapsed) * i128::from(self.drift) / 1_000_000_000) as i64) as u64,
        )
    }

    /// Stands still from `now` for so long.
    pub fn stop(&mut self, now: Time, length: Time) {
        self.from = self.local(now).as_nanos();
        self.booted = now + length;
    }

    /// The first moment of the world at which this clock shows `at` or more.
    pub fn world(&self, at: Instant) -> Time {
        if at == Instant::NEVER {
            return NEVER;
        }
        let elapsed = at.as_nanos().saturating_sub(self.from) as i64;
        let mut t = self.booted
            + (elapsed - (i128::from(elapsed) * i128::from(self.drift) / i128::from(1_000_000_000 + self.drift)) as i64)
                as u64;
        while self.local(t) < at {
            t += 1;
        }
        t
    }
}
