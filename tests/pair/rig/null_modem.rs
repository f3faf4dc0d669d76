//! The null modem: two pseudo terminals, and a relay between them that sends bytes at the pace of a real line.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, ttyname, write};
use twobox::time::Duration;

use super::index;

/// Bytes a second of a 115200 line.
const PACE: u32 = 11_520;
/// What a getty says, and a terminal's echo before it.
const LOGIN: &[u8] = b"\r\nDebian GNU/Linux 12 box ttyS1\r\n\r\nbox login: ";

/// What becomes of bytes on the line: they may be changed; false: they are lost.
pub type Line = fn(&mut [u8]) -> bool;

/// Where each end leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// To the other one.
    Crossed,
    /// Only this box is heard.
    Only(&'static str),
    /// Everybody hears himself.
    LoopPlug,
    /// Each end is plugged into somebody's console.
    Login,
}

/// Master and slave of one end; the slave stays open, so that the master never hangs up.
type End = Option<(OwnedFd, OwnedFd)>;

struct Shared {
    line: Line,
    wiring: Wiring,
    ends: [End; 2],
}

pub struct NullModem {
    shared: Arc<Mutex<Shared>>,
    paths: [PathBuf; 2],
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NullModem {
    /// Makes `a.tty` and `b.tty` in `dir`.
    pub fn new(dir: &Path) -> NullModem {
        let paths = ["a.tty", "b.tty"].map(|name| dir.join(name));
        let ends = [0, 1].map(|at| Some(end(&paths[at])));
        let shared = Arc::new(Mutex::new(Shared { line: |_| true, wiring: Wiring::Crossed, ends }));
        let stop = Arc::new(AtomicBool::new(false));
        let (passing, ending) = (shared.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                let most = relay(&passing.lock().unwrap());
                // At least a moment, so that others get the lock.
                let pause = Duration::from_secs(1) * u32::try_from(most).unwrap() / PACE;
                thread::sleep(pause.max(Duration::from_micros(100)));
            }
        });
        NullModem { shared, paths, stop, thread: Some(thread) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    /// From now on this becomes of bytes.
    pub fn set(&self, line: Line) {
        self.shared().line = line;
    }

    /// From now on the ends lead there.
    pub fn wire(&self, wiring: Wiring) {
        self.shared().wiring = wiring;
    }

    /// The port of this box is taken out: whoever has it open hears that it is gone.
    pub fn unplug(&self, node: &str) {
        std::fs::remove_file(&self.paths[index(node)]).unwrap();
        self.shared().ends[index(node)] = None;
    }

    /// Another port comes in its place, by the same name.
    pub fn plug(&self, node: &str) {
        let new = end(&self.paths[index(node)]);
        self.shared().ends[index(node)] = Some(new);
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
    for side in [&pty.master, &pty.slave] {
        // A daemon that inherits it would keep an unplugged port alive.
        fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    symlink(ttyname(&pty.slave).unwrap(), path).unwrap();
    (pty.master, pty.slave)
}

/// Carries what has come, and tells how many bytes the line has to make way for. Always drains: a peer that does not read must
/// not stop the writer.
fn relay(shared: &Shared) -> usize {
    let masters = || shared.ends.iter().flatten().map(|(master, _)| master);
    let mut waiting: Vec<PollFd> = masters().map(|master| PollFd::new(master.as_fd(), PollFlags::POLLIN)).collect();
    let _ = poll(&mut waiting, PollTimeout::from(5u8));
    let mut bytes = [0; 64];
    let mut most = 0;
    for (at, from) in shared.ends.iter().enumerate() {
        let Some((from, _)) = from else { continue };
        let length = match read(from, &mut bytes) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EIO) => continue,
            Err(errno) => panic!("null modem: {errno}"),
        };
        most = most.max(length);
        let to = match shared.wiring {
            Wiring::Crossed => 1 - at,
            Wiring::Only(node) if index(node) == at => 1 - at,
            Wiring::Only(_) => continue,
            Wiring::LoopPlug | Wiring::Login => at,
        };
        let Some((to, _)) = &shared.ends[to] else { continue };
        let bytes = &mut bytes[..length];
        if (shared.line)(bytes) {
            // What does not fit is lost, as on a UART.
            let _ = write(to, if shared.wiring == Wiring::Login { LOGIN } else { bytes });
        }
    }
    most
}
