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

/// A port that was opened. To open and to close one may take long: a converter on USB is asked several things, and one that is
/// half dead answers none of them.
pub struct Port(TTYPort);

impl Port {
    /// Opens the port at `path`: raw, 8 data bits, no parity, one stop bit, no flow control (a peer that does not read must
    /// not stop us), for nobody else (TIOCEXCL; root can still open it).
    ///
    /// # Errors
    /// No such port, somebody else has it, or it cannot do that baud rate.
    pub fn open(path: &str, baud: u32) -> io::Result<Port> {
        let builder = serialport::new(path, baud)
            .flow_control(serialport::FlowControl::None)
            .timeout(Duration::ZERO)
            .exclusive(true);
        let port = Port(TTYPort::open(&builder)?);
        // serialport waits for its time-out in poll(2) instead.
        fcntl(port.fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        tcflush(port.fd(), FlushArg::TCIOFLUSH)?; // what came before the settings is garbled
        Ok(port)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the port's, which is borrowed as long as the result.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // close(2) of a terminal waits up to half a minute for its output to drain, so none may be left.
        let _ = tcflush(self.fd(), FlushArg::TCOFLUSH);
    }
}

/// The line by one port, and by the next one when that was unplugged.
#[derive(Default)]
pub struct Serial {
    /// `None` before the first, and after it was unplugged.
    port: Option<Port>,
    /// One that was unplugged, until somebody takes it away.
    unplugged: Option<Port>,
    /// The rest of a frame that went out in part.
    rest: heapless::Vec<u8, FRAME_MAX>,
    counters: Counters,
}

impl Serial {
    /// The line by the port at `path`, as [`Port::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &str, baud: u32) -> io::Result<Serial> {
        let mut serial = Serial::default();
        serial.plug_in(Port::open(path, baud)?);
        Ok(serial)
    }

    /// Goes on with this port.
    pub fn plug_in(&mut self, port: Port) {
        self.unplug();
        self.port = Some(port);
    }

    /// A port that was unplugged: to be dropped by who may wait for that.
    pub fn unplugged(&mut self) -> Option<Port> {
        self.unplugged.take()
    }

    /// The port is there; else [`Serial::plug_in`] is needed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.port.is_some()
    }

    /// The port to wait for, while it is open.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.as_ref().map(Port::fd)
    }

    /// Takes what has come into `buffer` and returns how much; `None` when nothing is there.
    ///
    /// # Errors
    /// `NotConnected` once when the port turns out to be unplugged. What tty(4) says otherwise.
    pub fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(fd) = self.fd() else { return Ok(None) };
        match nix::unistd::read(fd, buffer) {
            Ok(0) if !buffer.is_empty() => Err(self.hung_up()), // hung up
            Ok(length) => {
                self.counters.frames_in += 1;
                self.counters.bytes_in += length as u64;
                Ok(Some(length))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(Errno::EIO | Errno::ENXIO | Errno::ENODEV) => Err(self.hung_up()),
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

    /// Sends what is left of a frame, if the kernel has room now. Worth calling when the port turns writable
    /// after [`Sent::Queued`]; the next `send` does it too.
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
            Err(Errno::EIO | Errno::ENXIO | Errno::ENODEV) => Err(self.hung_up()),
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

    fn hung_up(&mut self) -> io::Error {
        self.counters.errors += 1;
        self.unplug();
        io::ErrorKind::NotConnected.into()
    }

    fn unplug(&mut self) {
        self.rest.clear();
        if let Some(port) = self.port.take() {
            self.unplugged = Some(port);
        }
    }
}

/// `struct serial_icounter_struct` of linux/serial.h: cts, dsr, rng, dcd, rx, tx, frame, overrun, parity, brk, buf_overrun.
#[derive(Default)]
#[repr(C)]
struct InterruptCounts {
    counts: [libc::c_int; 11],
    reserved: [libc::c_int; 9],
}
