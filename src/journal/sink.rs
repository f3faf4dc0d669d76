//! Where lines go: standard error or the kernel's log. Never waits: what does not fit is counted.

use core::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ring::Line;

/// Where lines go besides the ring.
pub struct Sink {
    to: To,
    dropped: u64,
}

enum To {
    Nowhere,
    /// A description of our own, non-blocking.
    Own(File),
    /// Standard error as it was given to us: a file, or a socket, which cannot be opened again.
    Shared,
    Kernel(File),
}

impl Sink {
    /// The ring alone.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { to: To::Nowhere, dropped: 0 }
    }

    /// Standard error. A terminal or pipe is opened a second time, non-blocking: setting the flag on the shared
    /// description would change it for everybody else who writes there.
    #[must_use]
    pub fn stderr() -> Self {
        const OWN: &str = "/proc/self/fd/2";
        let kind = std::fs::metadata(OWN).map(|m| m.file_type());
        let may_block = kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device());
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let own = || OpenOptions::new().append(true).custom_flags(flags).open(OWN).ok();
        let to = may_block.then(own).flatten().map_or(To::Shared, To::Own);
        Self { to, dropped: 0 }
    }

    /// The kernel's log, `/dev/kmsg` (kernel Documentation/ABI/testing/dev-kmsg).
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn kmsg() -> io::Result<Self> {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        Ok(Self { to: To::Kernel(file), dropped: 0 })
    }

    /// Lines that the sink did not take since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }

    pub(super) fn write(&mut self, line: &Line) {
        let mut bytes = heapless::String::<{ super::TEXT + 96 }>::new();
        let formatted = match self.to {
            // The kernel's priorities are those of syslog(3): 3 error, 4 warning, 6 information, 7 debug.
            To::Kernel(_) => write!(bytes, "<{}>twobox: {}: {}", priority(line.level), line.module, line.text),
            _ => writeln!(bytes, "{line}"),
        };
        let written = formatted.map_err(io::Error::other).and_then(|()| match &mut self.to {
            To::Nowhere => Ok(()),
            To::Own(file) | To::Kernel(file) => file.write_all(bytes.as_bytes()),
            To::Shared => {
                let stderr = io::stderr();
                if takes_more(stderr.as_fd()) { stderr.lock().write_all(bytes.as_bytes()) } else { Err(full()) }
            }
        });
        if written.is_err() {
            self.dropped += 1;
        }
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::WouldBlock)
}

fn takes_more(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}
