//! The null modem: two pseudo terminals, and a relay between them that sends bytes at the pace of a real line.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, ttyname, write};
use twobox::time::Duration;

/// Bytes a second of a 115200 line.
const PACE: u32 = 11_520;

pub struct NullModem {
    cut: Arc<AtomicBool>,
    garble: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NullModem {
    /// Makes `a.tty` and `b.tty` in `dir`.
    pub fn new(dir: &Path) -> NullModem {
        let ends: Vec<(OwnedFd, OwnedFd)> =
            ["a", "b"].iter().map(|node| end(&dir.join(format!("{node}.tty")))).collect();
        let flags = || Arc::new(AtomicBool::new(false));
        let (cut, garble, stop) = (flags(), flags(), flags());
        let (cutting, garbling, ending) = (cut.clone(), garble.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                relay(&ends, &cutting, &garbling);
            }
        });
        NullModem { cut, garble, stop, thread: Some(thread) }
    }

    /// Nothing comes through any more.
    pub fn cut(&self, on: bool) {
        self.cut.store(on, Ordering::Relaxed);
    }

    /// Bytes come out as those of a wrong baud rate.
    pub fn garble(&self, on: bool) {
        self.garble.store(on, Ordering::Relaxed);
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn end(path: &Path) -> (OwnedFd, OwnedFd) {
    let pty = openpty(None, None).unwrap();
    let mut settings = tcgetattr(&pty.slave).unwrap();
    cfmakeraw(&mut settings);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
    fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    symlink(ttyname(&pty.slave).unwrap(), path).unwrap();
    (pty.master, pty.slave) // the slave stays open, so that the master never hangs up
}

/// Carries what has come, then waits as long as the line needs for it. Always drains: a peer that does not read must not
/// stop the writer.
fn relay(ends: &[(OwnedFd, OwnedFd)], cut: &AtomicBool, garble: &AtomicBool) {
    let mut waiting: Vec<PollFd> =
        ends.iter().map(|(master, _)| PollFd::new(master.as_fd(), PollFlags::POLLIN)).collect();
    let _ = poll(&mut waiting, PollTimeout::from(50u8));
    let mut bytes = [0; 64];
    let mut most = 0;
    for (at, (from, _)) in ends.iter().enumerate() {
        let length = match read(from, &mut bytes) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EIO) => continue,
            Err(errno) => panic!("null modem: {errno}"),
        };
        most = most.max(length);
        if garble.load(Ordering::Relaxed) {
            for byte in &mut bytes[..length] {
                *byte = byte.rotate_left(3) ^ 0x8d;
            }
        }
        if !cut.load(Ordering::Relaxed) {
            let _ = write(&ends[1 - at].0, &bytes[..length]); // what does not fit is lost, as on a UART
        }
    }
    thread::sleep(Duration::from_secs(1) * u32::try_from(most).unwrap() / PACE);
}
