//! What a child of the daemon has the daemon write into its log: its own words, and what the daemon says because the child told it
//! something. Whoever has taken the child over may say anything without end.

use std::cell::RefCell;

use smol::Timer;

use crate::clock;
use crate::service::allowance::Allowance;
use crate::time::Duration;

/// More than a child says in its worst moments, and few enough that the log's ring holds minutes and its disk years.
const LINES: u32 = 30;
const PERIOD: Duration = Duration::from_secs(10);

/// A child's share of the log, for all its lives.
pub(super) struct Voice {
    who: &'static str,
    allowance: RefCell<Allowance>,
}

impl Voice {
    /// The child's that is called so.
    pub(super) fn of(who: &'static str) -> Self {
        Self { who, allowance: RefCell::new(Allowance::new(LINES, PERIOD)) }
    }

    pub(super) fn who(&self) -> &'static str {
        self.who
    }

    /// Whether a line because of this child is written.
    pub(super) fn admits(&self) -> bool {
        self.turn();
        self.allowance.borrow_mut().admits()
    }

    /// Tells how many lines were left out, for as long as this is waited for.
    pub(super) async fn account<T>(&self) -> T {
        loop {
            Timer::after(PERIOD).await;
            self.turn();
        }
    }

    /// Tells how many were left out: the child has ended.
    pub(super) fn close(&self) {
        self.tell(self.allowance.borrow_mut().left_out());
    }

    fn turn(&self) {
        self.tell(self.allowance.borrow_mut().turn(clock::now()));
    }

    fn tell(&self, left_out: u64) {
        if left_out > 0 {
            log::warn!("{}: {left_out} lines left out", self.who);
        }
    }
}
