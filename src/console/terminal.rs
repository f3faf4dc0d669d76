//! A terminal or a serial port in raw mode: bytes in, bytes out, size. Decides nothing.
//!
//! Writing never hangs for good: a terminal that takes nothing for a while is an error, and the caller goes on.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, BaudRate, ControlFlags, FlushArg, InputFlags, SetArg, SpecialCharacterIndices, Termios};

/// A terminal that takes no byte for this long is taken to be unplugged or switched off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a terminal may take to tell its size.
const SIZE_TIMEOUT: Duration = Duration::from_millis(700);

/// A tty says that it is writable while there is room for at least this much (WAKEUP_CHARS in the kernel's n_tty.c), so
/// that a write of no more does not block.
const PIECE: usize = 128;

/// A terminal in raw mode. Restored when dropped.
#[derive(Debug)]
pub struct Terminal {
    input: OwnedFd,
    output: OwnedFd,
    /// How it was before; a port of our own needs no restoring.
    former: Option<Termios>,
    baud: u32,
}

impl Terminal {
    /// Standard input and output.
    ///
    /// # Errors
    ///
    /// `ENOTTY` when one of them is no terminal.
    pub fn standard() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        termios::tcgetattr(&output)?;
        let former = termios::tcgetattr(&input)?;
        let mut raw = former.clone();
        make_raw(&mut raw);
        termios::tcsetattr(&input, SetArg::TCSADRAIN, &raw)?;
        let baud = speed(&former);
        Ok(Self { input, output, former: Some(former), baud })
    }

    /// A serial port, 8N1, without flow control: a stray XOFF or a missing CTS must not silence it.
    ///
    /// # Errors
    ///
    /// What open(2) and tcsetattr(3) say; `InvalidInput` for a speed that termios does not know.
    pub fn port(path: &Path, baud: u32) -> io::Result<Self> {
        let rate = rate(baud).ok_or(io::ErrorKind::InvalidInput)?;
        // Never our controlling terminal; do not wait for carrier.
        let flags = nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK;
        let port: OwnedFd = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?.into();
        let mut raw = termios::tcgetattr(&port)?;
        make_raw(&mut raw);
        // CLOCAL: modem lines are no matter of ours, three wires are enough.
        raw.control_flags.insert(ControlFlags::CLOCAL | ControlFlags::CREAD);
        raw.control_flags.remove(ControlFlags::CRTSCTS | ControlFlags::CSTOPB | ControlFlags::HUPCL);
        termios::cfsetspeed(&mut raw, rate)?;
        termios::tcsetattr(&port, SetArg::TCSANOW, &raw)?;
        termios::tcflush(&port, FlushArg::TCIOFLUSH)?;
        Ok(Self { input: port.try_clone()?, output: port, former: None, baud })
    }

    /// Bits a second on the line, as far as the kernel knows.
    #[must_use]
    pub fn baud(&self) -> u32 {
        self.baud
    }

    /// Waits until bytes can be read here, or from `other`; says which.
    ///
    /// # Errors
    ///
    /// What poll(2) says.
    pub fn wait(&self, other: Option<BorrowedFd<'_>>, limit: Duration) -> io::Result<(bool, bool)> {
        let mut fds = [
            PollFd::new(self.input.as_fd(), PollFlags::POLLIN),
            PollFd::new(other.unwrap_or(self.input.as_fd()), PollFlags::POLLIN),
        ];
        let fds = if other.is_some() { &mut fds[..] } else { &mut fds[..1] };
        match poll(fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |index: usize| fds.get(index).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        Ok((ready(0), ready(1)))
    }

    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the terminal has gone; what read(2) says.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match nix::unistd::read(&self.input, buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(count),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            // The other end of a pty, or the USB converter, was pulled out.
            Err(Errno::EIO) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all bytes.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the terminal takes nothing for three seconds: what was written in vain is thrown away.
    pub fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut fds, PollTimeout::try_from(WRITE_TIMEOUT).unwrap_or(PollTimeout::MAX)) {
                Ok(0) => {
                    termios::tcflush(&self.output, FlushArg::TCOFLUSH)?;
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match nix::unistd::write(&self.output, &bytes[..bytes.len().min(PIECE)]) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Columns and rows: what the kernel knows, else what the terminal answers, else 80 and 24.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.known_size().or_else(|| self.asked_size()).unwrap_or((80, 24))
    }

    /// Columns and rows as far as the kernel knows them. It does not for a serial port.
    #[must_use]
    pub fn known_size(&self) -> Option<(usize, usize)> {
        let size = rustix::termios::tcgetwinsize(&self.output).ok()?;
        let size = (usize::from(size.ws_col), usize::from(size.ws_row));
        if size.0 > 0 && size.1 > 0 { Some(size) } else { None }
    }

    /// Sends the cursor to the far corner and asks where it is (VT100: CUP, DSR 6, CPR).
    fn asked_size(&self) -> Option<(usize, usize)> {
        self.write(b"\x1b7\x1b[999;999H\x1b[6n\x1b8").ok()?;
        let mut answer = Vec::new();
        while answer.len() < 64 {
            let (ready, _) = self.wait(None, SIZE_TIMEOUT).ok()?;
            if !ready {
                return None;
            }
            let mut chunk = [0; 32];
            let count = self.read(&mut chunk).ok()?;
            answer.extend_from_slice(&chunk[..count]);
            if let Some(size) = cursor_report(&answer) {
                return Some(size);
            }
        }
        None
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(former) = &self.former {
            // Nothing can be done for a terminal that has gone.
            let _ = termios::tcsetattr(&self.input, SetArg::TCSADRAIN, former);
        }
    }
}

/// Bytes as they come: no echo, no signals, no translation, a break is a NUL.
fn make_raw(raw: &mut Termios) {
    termios::cfmakeraw(raw);
    raw.input_flags.remove(InputFlags::IXON | InputFlags::IXOFF | InputFlags::IXANY | InputFlags::BRKINT);
    raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
}

/// Finds `ESC [ ROWS ; COLUMNS R`.
fn cursor_report(bytes: &[u8]) -> Option<(usize, usize)> {
    let text = String::from_utf8_lossy(bytes);
    let (numbers, _) = text.rsplit_once("\x1b[")?.1.split_once('R')?;
    let (rows, columns) = numbers.split_once(';')?;
    let size = (columns.parse().ok()?, rows.parse().ok()?);
    if size.0 >= 20 && size.1 >= 5 { Some(size) } else { None }
}

/// The rates that termios(3) names, as the board file knows them.
const RATES: [(u32, BaudRate); 16] = [
    (300, BaudRate::B300),
    (1_200, BaudRate::B1200),
    (2_400, BaudRate::B2400),
    (4_800, BaudRate::B4800),
    (9_600, BaudRate::B9600),
    (19_200, BaudRate::B19200),
    (38_400, BaudRate::B38400),
    (57_600, BaudRate::B57600),
    (115_200, BaudRate::B115200),
    (230_400, BaudRate::B230400),
    (460_800, BaudRate::B460800),
    (921_600, BaudRate::B921600),
    (1_000_000, BaudRate::B1000000),
    (1_500_000, BaudRate::B1500000),
    (3_000_000, BaudRate::B3000000),
    (4_000_000, BaudRate::B4000000),
];

fn rate(baud: u32) -> Option<BaudRate> {
    RATES.iter().find(|(known, _)| *known == baud).map(|(_, rate)| *rate)
}

fn speed(termios: &Termios) -> u32 {
    let rate = termios::cfgetospeed(termios);
    RATES.iter().find(|(_, known)| *known == rate).map_or(115_200, |(baud, _)| *baud)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_report_is_found_among_other_bytes() {
        assert_eq!(cursor_report(b"\x1b[24;80R"), Some((80, 24)));
        assert_eq!(cursor_report(b"xy\x1b[43;132R"), Some((132, 43)));
        for wrong in [&b"\x1b[24;80"[..], b"24;80R", b"\x1b[;R", b"\x1b[1;1R", b""] {
            assert_eq!(cursor_report(wrong), None);
        }
    }

    #[test]
    fn every_speed_of_a_board_file_is_a_speed_of_a_port() {
        for baud in crate::config::board::BAUD_RATES {
            assert!(rate(baud).is_some(), "{baud}");
        }
    }
}
