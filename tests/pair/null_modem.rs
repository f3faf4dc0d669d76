//! The null modem: two pseudo terminals, and a relay between them that sends bytes at the pace of a real line.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
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

/// What becomes of bytes on the line: they may be changed; false: they are lost.
pub type Line = fn(&mut [u8]) -> bool;

pub struct NullModem {
    line: Arc<Mutex<Line>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NullModem {
    /// Makes `a.tty` and `b.tty` in `dir`.
    pub fn new(dir: &Path) -> NullModem {
        let ends: Vec<(OwnedFd, OwnedFd)> =
            ["a", "b"].iter().map(|node| end(&dir.join(format!("{node}.tty")))).collect();
        let line = Arc::new(Mutex::new((|_| true) as Line));
        let stop = Arc::new(AtomicBool::new(false));
        let (passing, ending) = (line.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                let line = *passing.lock().unwrap();
                relay(&ends, line);
            }
        });
        NullModem { line, stop, thread: Some(thread) }
    }

    /// From now on this becomes of bytes.
    pub fn set(&self, line: Line) {
        *self.line.lock().unwrap() = line;
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
fn relay(ends: &[(OwnedFd, OwnedFd)], line: Line) {
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
        if line(&mut bytes[..length]) {
            let _ = write(&ends[1 - at].0, &bytes[..length]); // what does not fit is lost, as on a UART
        }
    }
    thread::sleep(Duration::from_secs(1) * u32::try_from(most).unwrap() / PACE);
}
