//! Work that may take long and may never end: a mount that replays a large journal, the last sync of a box.
//!
//! The watchdog is fed meanwhile, because a reset in the middle of a replay only begins it anew, for ever. But not without
//! end: what takes longer than its limit is given up.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;

use crate::clock;
use crate::time::Duration;

/// Between two feeds: far below every time-out of a watchdog.
const TURN: Duration = Duration::from_secs(1);
/// Stack of the thread that works.
const STACK: usize = 128 * 1024;

/// Threads whose work was given up and goes on all the same, for as long as a disk hangs.
#[derive(Default)]
pub struct GivenUp(Vec<JoinHandle<()>>);

impl GivenUp {
    /// So many at most: a box that waits for its disk for weeks looks for it once a minute.
    const MOST: usize = 3;

    /// Whether nothing more may be begun that would perhaps be one of them.
    pub fn are_too_many(&mut self) -> bool {
        self.0.retain(|thread| !thread.is_finished());
        self.0.len() >= Self::MOST
    }

    /// One more.
    pub fn add(&mut self, thread: JoinHandle<()>) {
        self.0.push(thread);
    }
}

/// Has `work` done by a thread of its own and calls `meanwhile` once a second. `Err`: it was not done within `limit`; the
/// thread goes on, and what it brings in the end is nobody's any more.
///
/// # Errors
///
/// When the kernel gives no thread.
pub fn within<T: Send + 'static>(
    limit: Duration,
    mut meanwhile: impl FnMut(),
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Result<T, JoinHandle<()>>> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("twobox-patience".into()).stack_size(STACK).spawn(move || {
        let _ = sender.send(work()); // given up
    })?;
    let until = clock::now() + limit;
    loop {
        meanwhile();
        let left = until.until(clock::now());
        match receiver.recv_timeout(TURN.min(left)) {
            Ok(done) => return Ok(Ok(done)),
            Err(RecvTimeoutError::Timeout) if left > Duration::ZERO => {}
            Err(_) => return Ok(Err(thread)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // work that takes its time
    fn the_watchdog_is_fed_until_the_work_is_done() {
        let mut fed = 0;
        let slow = || {
            std::thread::sleep(TURN * 2);
            7
        };
        assert_eq!(within(Duration::from_secs(60), || fed += 1, slow).unwrap().unwrap(), 7);
        assert!(fed >= 2, "fed {fed} times in two turns");
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let (keep, never) = channel::<()>();
        let began = clock::now();
        let mut fed = 0;
        let limit = TURN * 3 / 2;
        let hangs = move || assert!(never.recv().is_err());
        let thread = within(limit, || fed += 1, hangs).unwrap().unwrap_err();
        assert!(clock::now().since(began) >= limit && fed >= 2, "fed {fed} times");
        let mut given_up = GivenUp::default();
        given_up.add(thread);
        assert!(!given_up.are_too_many());
        let (held, lasting) = channel::<()>();
        let lasting = std::sync::Arc::new(std::sync::Mutex::new(lasting));
        for _ in 1..GivenUp::MOST {
            let lasting = lasting.clone();
            let hangs = move || drop(lasting.lock().map(|lasting| lasting.recv()));
            given_up.add(within(Duration::ZERO, || {}, hangs).unwrap().unwrap_err());
        }
        assert!(given_up.are_too_many());
        // The disk is there again.
        drop((keep, held));
        while given_up.are_too_many() {
            std::thread::yield_now();
        }
    }
}
