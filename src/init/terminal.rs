//! The console port before the operator's console runs on it: what the boot says.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::termios::{BaudRate, SetArg, cfmakeraw, cfsetspeed, tcgetattr, tcsetattr};

/// An open port. It never waits: a terminal that takes nothing loses the text, and the log keeps it.
pub struct Terminal {
    port: File,
}

impl Terminal {
    /// Opens the port at `baud` bits a second, 8 data bits, no parity. A speed that the kernel has no name for leaves the
    /// port's as it is.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn open(device: &Path, baud: u32) -> io::Result<Self> {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let port = OpenOptions::new().read(true).write(true).custom_flags(flags).open(device)?;
        let mut settings = tcgetattr(&port)?;
        cfmakeraw(&mut settings);
        if let Ok(speed) = BaudRate::try_from(baud_code(baud)) {
            cfsetspeed(&mut settings, speed)?;
        }
        tcsetattr(&port, SetArg::TCSANOW, &settings)?;
        Ok(Self { port })
    }

    /// One line. What the port does not take at once is lost.
    pub fn say(&mut self, text: &str) {
        let _ = self.port.write(format!("{text}\r\n").as_bytes());
    }

    /// One line on a port that the operator's console has and has set up: in the place of the prompt, which comes again with
    /// the next status.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn say_beside_prompt(device: &Path, text: &str) -> io::Result<()> {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let mut port = OpenOptions::new().write(true).custom_flags(flags).open(device)?;
        port.write_all(format!("\r\x1b[K{text}\r\n").as_bytes())
    }
}

/// termios(3)'s code of a speed; zero is "hang up" and stands for all that have none.
fn baud_code(baud: u32) -> libc::speed_t {
    match baud {
        9600 => libc::B9600,
        19_200 => libc::B19200,
        38_400 => libc::B38400,
        57_600 => libc::B57600,
        _ => libc::B115200,
    }
}
