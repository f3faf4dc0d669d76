//! Feeds the watchdog beside the loop. A driver may wait for its device: for a management controller (IPMI) tens of milliseconds
//! at each feed, and seconds while the controller starts anew. The loop has heartbeats to send meanwhile.
//!
//! A feed is a right's work, and the right may end while it waits: "Feeding" in docs/safety.md.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::clock;
use crate::fence::watchdog::Fed;
use crate::realtime;
use crate::time::Instant;

/// Stack of the thread: what a line of the log needs, several times over.
const STACK: usize = 128 * 1024;

/// What both ends know. Only the loop writes, but for the time of the late feed.
struct Shared {
    /// Until when a feed may begin.
    until: AtomicU64,
    ended: AtomicBool,
    bell: EventFd,
    /// When a feed was late, last; 0: none was.
    late_at: AtomicU64,
}

impl Shared {
    /// The time, if a feed may begin.
    fn may_begin(&self) -> Option<Instant> {
        // In this order: a permission that has ended meanwhile is not looked at with a clock from before.
        let until = Instant::from_nanos(self.until.load(Ordering::SeqCst));
        let now = clock::now();
        (now < until).then_some(now)
    }

    fn work(&self, feed: impl Fn(Instant) -> io::Result<Fed>) {
        // Without permission it is an ordinary thread; the loop has warned already.
        let _ = realtime::prioritize(realtime::Thread::Watchdog);
        while !self.ended.load(Ordering::SeqCst) {
            let mut bell = [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut bell, PollTimeout::NONE); // EINTR: nobody has rung
            if self.bell.read().is_err() {
                continue;
            }
            // Between this look and the device's answer nothing is asked of it: one feed at a time.
            let Some(now) = self.may_begin() else { continue };
            match feed(now) {
                Ok(fed) if fed.late => {
                    self.late_at.store(clock::now().as_nanos(), Ordering::SeqCst);
                    log::warn!("the watchdog was fed {:?} after the last time, which is late", fed.after);
                }
                Ok(_) => {}
                Err(error) => log::error!("the watchdog cannot be fed: {error}"),
            }
        }
    }
}

/// The loop's end. Dropping it ends the thread, after the feed that is under way.
pub(super) struct Feeder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Starts the thread. Nothing is fed before [`Feeder::allow`].
    ///
    /// # Errors
    ///
    /// When the kernel gives no eventfd or no thread.
    pub(super) fn start(feed: impl Fn(Instant) -> io::Result<Fed> + Send + 'static) -> io::Result<Feeder> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let (until, ended, late_at) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
        let shared = Arc::new(Shared { until, ended, bell, late_at });
        let work = shared.clone();
        let thread = Builder::new().name("twobox-watchdog".into()).stack_size(STACK).spawn(move || work.work(feed))?;
        Ok(Feeder { shared, thread: Some(thread) })
    }

    /// Feeds may begin before `until`, and not from then on.
    pub(super) fn allow(&self, until: Instant) {
        self.shared.until.store(until.as_nanos(), Ordering::SeqCst);
    }

    /// Asks for one feed. While one is under way several that are asked for are one, and that one looks at the permission anew.
    pub(super) fn ask(&self) {
        let _ = self.shared.bell.write(1); // EAGAIN: it rings already
    }

    /// When a feed was late, last.
    pub(super) fn late_at(&self) -> Option<Instant> {
        Some(self.shared.late_at.load(Ordering::SeqCst)).filter(|at| *at > 0).map(Instant::from_nanos)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.allow(Instant::BOOT);
        self.shared.ended.store(true, Ordering::SeqCst);
        self.ask();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::time::Duration;

    /// A watchdog whose device answers when it is told to.
    fn slow() -> (Feeder, Receiver<()>, Sender<()>) {
        let (begins, begun) = channel();
        let (answer, answers) = channel();
        let feeder = Feeder::start(move |_| {
            begins.send(()).unwrap();
            answers.recv().unwrap();
            Ok(Fed { after: Duration::ZERO, late: true })
        });
        (feeder.unwrap(), begun, answer)
    }

    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
    /// Long enough for what should not come.
    const MOMENT: std::time::Duration = std::time::Duration::from_millis(100);

    #[test]
    fn nobody_waits_for_a_feed_and_those_asked_for_meanwhile_are_one() {
        let (feeder, begun, answer) = slow();
        feeder.allow(Instant::NEVER);
        feeder.ask();
        begun.recv_timeout(PATIENCE).unwrap();
        for _ in 0..5 {
            feeder.ask(); // would wait for ever if it waited
        }
        assert!(begun.recv_timeout(MOMENT).is_err(), "two feeds at once");
        assert_eq!(feeder.late_at(), None);
        answer.send(()).unwrap();
        begun.recv_timeout(PATIENCE).unwrap();
        answer.send(()).unwrap();
        assert!(begun.recv_timeout(MOMENT).is_err(), "feeds in stock");
        assert!(feeder.late_at().is_some());
    }

    #[test]
    fn no_feed_begins_without_a_permission_or_after_its_end() {
        let (feeder, begun, answer) = slow();
        let begins = |patience| begun.recv_timeout(patience).is_ok();
        feeder.ask();
        assert!(!begins(MOMENT), "nobody has allowed it");
        feeder.allow(clock::now() + Duration::from_secs(3600));
        feeder.ask();
        assert!(begins(PATIENCE));
        // Asked for under a permission that has ended when the one before is over.
        feeder.ask();
        feeder.allow(clock::now());
        answer.send(()).unwrap();
        assert!(!begins(MOMENT));
        feeder.allow(Instant::NEVER);
        feeder.ask();
        assert!(begins(PATIENCE), "asked for anew");
        answer.send(()).unwrap();
    }
}
