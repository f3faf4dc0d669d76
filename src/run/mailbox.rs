//! A bounded queue with a bell: how the threads of the daemon talk. Never blocks, never allocates after it is made.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use concurrent_queue::ConcurrentQueue;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// One direction between two threads.
pub struct Mailbox<T> {
    queue: ConcurrentQueue<T>,
    bell: EventFd,
}

impl<T> Mailbox<T> {
    /// Room for `capacity` letters.
    ///
    /// # Errors
    ///
    /// When the kernel gives no eventfd.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { queue: ConcurrentQueue::bounded(capacity), bell })
    }

    /// Puts a letter in and rings. Gives it back when there is no room: the receiver hangs.
    pub fn send(&self, letter: T) -> Result<(), T> {
        self.queue.push(letter).map_err(concurrent_queue::PushError::into_inner)?;
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
        self.queue.pop().ok()
    }
}

/// Readable when it rings.
impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
