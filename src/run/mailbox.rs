//! A bounded queue with a bell: how the threads of the daemon talk. Never blocks, never spins, never allocates after it is
//! made.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use heapless::mpmc::Queue;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Letters that may wait in the mailbox of a thread.
pub(super) const ROOM: usize = 256;

/// One direction between two threads, with room for `N` letters (a power of two).
///
/// A queue in which the receiver waits for a sender that was interrupted in the middle of putting its letter in would be
/// none for the loop: it interrupts the ordinary threads of this program by its priority, and as long as it waits it keeps
/// the processor from them. This one has nothing to give until that sender is done, which rings the bell.
pub struct Mailbox<T, const N: usize = ROOM> {
    queue: Queue<T, N>,
    bell: EventFd,
}

impl<T, const N: usize> Mailbox<T, N> {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// When the kernel gives no eventfd.
    pub fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "a call that fails instead of waiting, for which it is deprecated, is what is wanted"
        )]
        let queue = Queue::new();
        Ok(Self { queue, bell })
    }

    /// Puts a letter in and rings. Gives it back when there is no room: the receiver hangs.
    pub fn send(&self, letter: T) -> Result<(), T> {
        self.queue.enqueue(letter)?;
        self.ring();
        Ok(())
    }

    /// Wakes the receiver without a letter.
    pub fn ring(&self) {
        // EAGAIN: the counter is at its maximum, so it rings already.
        let _ = self.bell.write(1);
    }

    /// Silences the bell. Before reading the letters: one that comes in between rings again.
    pub fn hush(&self) {
        match self.bell.read() {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => log::error!("a mailbox cannot be read: {errno}"),
        }
    }

    /// The next letter.
    pub fn receive(&self) -> Option<T> {
        self.queue.dequeue()
    }
}

/// Readable when it rings.
impl<T, const N: usize> AsFd for Mailbox<T, N> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::time::{ClockId, clock_gettime};
    use nix::unistd::Pid;

    use super::*;
    use crate::clock;
    use crate::realtime::{self, Thread};
    use crate::time::Duration;

    #[test]
    fn letters_come_in_order_and_the_bell_rings_until_it_is_hushed() {
        let mailbox: Mailbox<u32, 4> = Mailbox::new().unwrap();
        assert_eq!(mailbox.receive(), None);
        for letter in 0..4 {
            assert_eq!(mailbox.send(letter), Ok(()));
        }
        assert_eq!(mailbox.send(4), Err(4), "there is no room for a fifth");
        mailbox.hush();
        assert_eq!(mailbox.bell.read(), Err(Errno::EAGAIN));
        assert_eq!(core::iter::from_fn(|| mailbox.receive()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    /// Whom the loop interrupts cannot go on before the loop sleeps. A queue that waits for its sender costs the loop here
    /// the 950 ms that the kernel lets a real-time thread run on before ordinary ones (sched(7)).
    #[test]
    fn a_sender_that_was_interrupted_while_sending_is_not_waited_for() {
        // So much room that the sender is still sending when it is interrupted.
        const MANY: usize = 4096;
        let mailbox: Mailbox<[u64; 16], MANY> = Mailbox::new().unwrap();
        let ended = AtomicBool::new(false);
        let worst = std::thread::scope(|scope| {
            scope.spawn(|| {
                on_one_processor();
                while !ended.load(Ordering::Relaxed) {
                    let _ = mailbox.queue.enqueue([1; 16]); // not `send`: its time goes to the bell
                }
            });
            let receiver = scope.spawn(|| {
                on_one_processor();
                let priority = realtime::prioritize(Thread::Disk);
                let worst = priority.is_ok().then(|| {
                    let until = clock::now() + Duration::from_secs(3);
                    let mut worst = Duration::ZERO;
                    while clock::now() < until {
                        #[allow(clippy::disallowed_methods)] // whoever sends gets its turn
                        std::thread::sleep(Duration::from_micros(50));
                        let began = processor_time();
                        for _ in 0..MANY {
                            if mailbox.receive().is_none() {
                                break;
                            }
                        }
                        worst = worst.max(processor_time() - began);
                    }
                    worst
                });
                ended.store(true, Ordering::Relaxed);
                worst
            });
            receiver.join().unwrap()
        });
        match worst {
            None => eprintln!("skipped: no permission for a real-time thread"),
            Some(worst) => assert!(worst < Duration::from_millis(300), "the receiver span for {worst:?}"),
        }
    }

    fn on_one_processor() {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap()).unwrap();
        let mut one = CpuSet::new();
        one.set(first).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    }

    /// Of this thread: a machine that stands still does not count.
    fn processor_time() -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }
}
