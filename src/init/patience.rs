//! Work that may take long and may never end: a mount that replays a large journal, the last sync of a box.
//!
//! The watchdog is fed meanwhile, because a reset in the middle of a replay only begins it anew, for ever. But not without
//! end: what takes longer than its limit is given up.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};

use crate::clock;
use crate::time::Duration;

/// Between two feeds: far below every time-out of a watchdog.
const TURN: Duration = Duration::from_secs(1);
/// Stack of the thread that works.
const STACK: usize = 128 * 1024;

/// Has `work` done by a thread of its own and calls `meanwhile` once a second. `None`: it was not done within `limit`; the
/// thread goes on, and what it brings in the end is nobody's any more.
///
/// # Errors
///
/// When the kernel gives no thread.
pub fn within<T: Send + 'static>(
    limit: Duration,
    mut meanwhile: impl FnMut(),
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("twobox-patience".into()).stack_size(STACK).spawn(move || {
        let _ = sender.send(work()); // given up
    })?;
    let until = clock::now() + limit;
    loop {
        meanwhile();
        let left = until.until(clock::now());
        match receiver.recv_timeout(TURN.min(left)) {
            Ok(done) => return Ok(Some(done)),
            Err(RecvTimeoutError::Timeout) if left > Duration::ZERO => {}
            Err(_) => return Ok(None),
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
        assert_eq!(within(Duration::from_secs(60), || fed += 1, slow).unwrap(), Some(7));
        assert!(fed >= 2, "fed {fed} times in two turns");
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let (keep, never) = channel::<()>();
        let began = clock::now();
        let mut fed = 0;
        let limit = TURN * 3 / 2;
        assert_eq!(within(limit, || fed += 1, move || never.recv()).unwrap(), None);
        assert!(clock::now().since(began) >= limit && fed >= 2, "fed {fed} times");
        drop(keep);
    }
}
