//! The null modem: a serial port that never makes anybody wait.
//!
//! Bytes in, bytes out; `wire::serial` makes frames of them. A frame goes out whole or not at all, and not at all while the
//! one before it has not left the machine: a heartbeat that queues behind others is late for all of them.

#![allow(unsafe_code)] // tty ioctls (ioctl_tty(2)) that nix does not carry, and the descriptor of a foreign type

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{FlushArg, tcflush};
use serialport::TTYPort;

use super::{Counters, Sent};
use crate::wire::serial::FRAME_MAX;

/// Bytes that may wait in the machine when a frame is added: the UART's own FIFO.
const WAITING_MAX: i32 = 16;

/// What the UART has counted since the machine booted (linux/serial.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineErrors {
    /// Bytes without a proper stop bit, and breaks: the other end has another baud rate, or the cable is bad.
    pub framing: u32,
    /// Bytes lost because nobody fetched them in time.
    pub overrun: u32,
}

/// One port.
pub struct Serial {
    path: String,
    baud: u32,
    /// `None` after it was unplugged.
    port: Option<TTYPort>,
    /// The rest of a frame that went out in part.
    rest: heapless::Vec<u8, FRAME_MAX>,
    counters: Counters,
}

impl Serial {
    /// Opens the port at `path`: raw, 8 data bits, no parity, one stop bit, no flow control (a peer that does not read must
    /// not stop us), for nobody else (TIOCEXCL; root can still open it).
    ///
    /// # Errors
    /// No such port, somebody else has it, or it cannot do that baud rate.
    pub fn open(path: &str, baud: u32) -> io::Result<Serial> {
        let mut serial = Serial::closed(path, baud);
        serial.reopen()?;
        Ok(serial)
    }

    /// The port at `path` before it is opened: [`Serial::reopen`] does that.
    #[must_use]
    pub fn closed(path: &str, baud: u32) -> Serial {
        Serial { path: path.to_owned(), baud, port: None, rest: heapless::Vec::new(), counters: Counters::default() }
    }

    /// Opens the port again after it was unplugged. Allocates a little.
    ///
    /// # Errors
    /// As for [`Serial::open`].
    pub fn reopen(&mut self) -> io::Result<()> {
        self.close();
        let builder = serialport::new(&self.path, self.baud)
            .flow_control(serialport::FlowControl::None)
            .timeout(Duration::ZERO)
            .exclusive(true);
        let port = TTYPort::open(&builder)?;
        // SAFETY: the descriptor is the port's, which lives through the call.
        let fd = unsafe { BorrowedFd::borrow_raw(port.as_raw_fd()) };
        // serialport waits for its time-out in poll(2) instead.
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        tcflush(fd, FlushArg::TCIOFLUSH)?; // what came before the settings is garbled
        self.port = Some(port);
        Ok(())
    }

    /// The port is there; else [`Serial::reopen`] is needed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.port.is_some()
    }

    /// The port to wait for, while it is open.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor is the port's, which is borrowed as long as the result.
        self.port.as_ref().map(|port| unsafe { BorrowedFd::borrow_raw(port.as_raw_fd()) })
    }

    /// Takes what has come into `buffer` and returns how much; `None` when nothing is there.
    ///
    /// # Errors
    /// `NotConnected` once when the port turns out to be unplugged; it is closed then. What tty(4) says otherwise.
    pub fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(fd) = self.fd() else { return Ok(None) };
        match nix::unistd::read(fd, buffer) {
            Ok(0) if !buffer.is_empty() => Err(self.unplugged()), // hung up
            Ok(length) => {
                self.counters.frames_in += 1;
                self.counters.bytes_in += length as u64;
                Ok(Some(length))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(Errno::EIO | Errno::ENXIO | Errno::ENODEV) => Err(self.unplugged()),
            Err(e) => {
                self.counters.errors += 1;
                Err(e.into())
            }
        }
    }

    /// Sends `frame`, as made by `wire::serial::encode`, whole, or drops it when the one before has not left yet. Of a frame
    /// that the kernel took in part the rest goes first, in the next call of this or of [`Serial::flush`].
    ///
    /// # Errors
    /// As for [`Serial::recv`], and a frame that is too long.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<Sent> {
        if frame.len() > FRAME_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.flush()?;
        if self.port.is_none() || !self.rest.is_empty() || self.waiting() > WAITING_MAX {
            self.counters.dropped += 1;
            return Ok(Sent::Dropped);
        }
        let taken = self.write(frame)?;
        if taken == 0 {
            self.counters.dropped += 1;
            return Ok(Sent::Dropped);
        }
        self.counters.frames_out += 1;
        self.counters.bytes_out += frame.len() as u64;
        // It fits: a frame is no longer than FRAME_MAX.
        let _ = self.rest.extend_from_slice(&frame[taken..]);
        Ok(Sent::Queued)
    }

    /// Sends what is left of a frame, if the kernel has room now. Worth calling when the port turns writable while
    /// [`Serial::unfinished`]; the next `send` does it too.
    ///
    /// # Errors
    /// As for [`Serial::recv`].
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.rest.is_empty() {
            let rest = self.rest.clone();
            let taken = self.write(&rest)?;
            self.rest.drain(..taken);
        }
        Ok(())
    }

    /// A frame has gone out in part.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        !self.rest.is_empty()
    }

    /// What the UART has counted; `None` where there is none (a pseudo terminal, some USB adapters).
    #[must_use]
    pub fn line_errors(&self) -> Option<LineErrors> {
        let mut counts = InterruptCounts::default();
        // SAFETY: TIOCGICOUNT fills one serial_icounter_struct, which lives through the call.
        let done = unsafe { libc::ioctl(self.fd()?.as_raw_fd(), libc::TIOCGICOUNT, &raw mut counts) };
        let [cts, dsr, rng, dcd, rx, tx, framing, overrun, parity, broken, buffer_overrun] = counts.counts;
        let _ = (cts, dsr, rng, dcd, rx, tx, parity);
        (done == 0).then(|| LineErrors {
            framing: framing.wrapping_add(broken).cast_unsigned(),
            overrun: overrun.wrapping_add(buffer_overrun).cast_unsigned(),
        })
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many bytes the kernel took.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(fd) = self.fd() else { return Ok(0) };
        match nix::unistd::write(fd, bytes) {
            Ok(length) => Ok(length),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(Errno::EIO | Errno::ENXIO | Errno::ENODEV) => Err(self.unplugged()),
            Err(e) => {
                self.counters.errors += 1;
                Err(e.into())
            }
        }
    }

    /// Bytes that wait to be sent.
    fn waiting(&self) -> i32 {
        let mut waiting: libc::c_int = 0;
        let Some(fd) = self.fd() else { return 0 };
        // SAFETY: TIOCOUTQ fills one int, which lives through the call.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
        if done == 0 { waiting } else { 0 }
    }

    fn unplugged(&mut self) -> io::Error {
        self.counters.errors += 1;
        self.close();
        io::Error::new(io::ErrorKind::NotConnected, format!("{} is gone; waiting for it to come back", self.path))
    }

    fn close(&mut self) {
        self.rest.clear();
        if let Some(fd) = self.fd() {
            // close(2) of a terminal waits up to half a minute for its output to drain, so none may be left.
            let _ = tcflush(fd, FlushArg::TCOFLUSH);
        }
        self.port = None;
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.close();
    }
}

/// `struct serial_icounter_struct` of linux/serial.h: cts, dsr, rng, dcd, rx, tx, frame, overrun, parity, brk, buf_overrun.
#[derive(Default)]
#[repr(C)]
struct InterruptCounts {
    counts: [libc::c_int; 11],
    reserved: [libc::c_int; 9],
}
