//! How things stand, copied out of the loop for whoever asks: fixed size, no allocation.

use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::fence::bound::BoundBy;
use crate::node::peer::Path;
use crate::node::settings::{PATHS, WITNESSES};
use crate::node::status::Status;
use crate::takeover::{ADDRESSES, Conflict};
use crate::time::{Duration, Instant};

/// Everything about the loop's side that the status shows.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Instant,
    /// The node's own account.
    pub node: Status,
    /// What came by which path, as the node judged it.
    pub paths: [Path; PATHS],
    /// What the links themselves saw.
    pub links: [super::links::Seen; PATHS],
    /// Round-trip times of the witnesses.
    pub rtt: [Duration; WITNESSES],
    /// Which service addresses are up.
    pub held: [bool; ADDRESSES],
    /// Foreign claims within the last minute.
    pub conflicts: [Option<Conflict>; ADDRESSES],
    /// F and its belt.
    pub bound: (Option<Duration>, BoundBy),
    /// When the gate closes; `None`: there is none.
    pub gate_expiry: Option<Instant>,
    /// Witnesses that answer only some of the pings.
    pub witness_limits: u8,
    /// The armed watchdog.
    pub watchdog: Option<Dog>,
    /// Turns so far.
    pub turns: u64,
    /// Longest time that the loop decided after its deadline, since the last snapshot.
    pub worst_lateness: Duration,
    /// Where the time of the last takeover went.
    pub steps: Option<super::steps::Steps>,
}

/// What the status shows of the watchdog.
#[derive(Clone, Copy, Debug)]
pub struct Dog {
    /// Read back from the driver.
    pub timeout: Duration,
    /// When it was fed later than it should be, last.
    pub late_at: Option<Instant>,
    /// It counts as a belt.
    pub is_belt: bool,
}

/// The place where loop and helper meet. The loop only ever tries the lock.
pub struct Shared {
    newest: Mutex<Option<Snapshot>>,
    ready: EventFd,
}

impl Shared {
    /// Nothing seen yet.
    ///
    /// # Errors
    ///
    /// When the kernel gives no eventfd.
    pub fn new() -> std::io::Result<Self> {
        let ready = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { newest: Mutex::new(None), ready })
    }

    /// The loop's side: puts a snapshot there and rings. If the helper is just reading it keeps the former one.
    pub fn publish(&self, snapshot: Snapshot) {
        if let Ok(mut newest) = self.newest.try_lock() {
            *newest = Some(snapshot);
        }
        let _ = self.ready.write(1); // EAGAIN: it rings already
    }

    /// The helper's side: the newest snapshot.
    #[must_use]
    pub fn newest(&self) -> Option<Snapshot> {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Silences the bell.
    pub fn hush(&self) {
        let _ = self.ready.read(); // EAGAIN: it did not ring
    }
}

/// Readable when a new snapshot is there.
impl std::os::fd::AsFd for Shared {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.ready)
    }
}
