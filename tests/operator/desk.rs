//! The program on a pseudo-terminal, as a person or a cable has it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use twobox::clock;

use super::daemon::{Daemon, program};

/// Both ends of a pseudo-terminal. Not inherited by the programs of other tests: one that held the master would keep
/// the terminal alive.
pub struct Pty {
    pub master: File,
    pub slave: File,
    pub name: String,
}

impl Pty {
    pub fn new() -> Self {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(&name).unwrap();
        Self { master: std::os::fd::OwnedFd::from(master).into(), slave, name }
    }
}

pub fn resize(master: &File, (ws_col, ws_row): (u16, u16)) {
    let size = rustix::termios::Winsize { ws_col, ws_row, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size).unwrap();
}

/// The program on a pseudo-terminal.
pub struct Desk {
    pub master: File,
    pub child: Child,
    /// All that was shown and not yet expected, without what clears a line.
    pub seen: String,
    /// What clears a line stays in it.
    pub raw: bool,
}

impl Desk {
    /// `twobox ARGUMENTS` with its terminal as standard input and output.
    #[allow(clippy::disallowed_methods)] // the program under test
    pub fn start(daemon: &Daemon, arguments: &[&str], size: (u16, u16)) -> Self {
        let pty = Pty::new();
        resize(&pty.master, size);
        let end = |file: &File| Stdio::from(file.try_clone().unwrap());
        let child = Command::new(program())
            .arg("--socket")
            .arg(&daemon.socket)
            .args(arguments)
            .stdin(end(&pty.slave))
            .stdout(end(&pty.slave))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(pty.slave);
        Self { master: pty.master, child, seen: String::new(), raw: false }
    }

    pub fn console(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut desk = Self::start(daemon, &[&["console"], arguments].concat(), (80, 24));
        if arguments.is_empty() {
            desk.expect("a active> ");
        }
        desk
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.master.write_all(text.as_ref()).unwrap();
    }

    /// Reads what comes within the time; false when nothing does.
    pub fn read(&mut self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(limit).unwrap()) != Ok(1) {
            return false;
        }
        let mut chunk = [0; 4096];
        match self.master.read(&mut chunk) {
            Ok(count) if count > 0 => {
                self.seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
                if !self.raw {
                    self.seen = self.seen.replace("\x1b[K", "").replace('\r', "");
                }
                true
            }
            _ => false,
        }
    }

    /// Waits until the text is shown, forgets all up to its end and returns that.
    pub fn expect(&mut self, text: &str) -> String {
        let end = clock::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(clock::now() < end, "\"{text}\" was not shown, but\n{}", self.seen.escape_debug());
            self.read(Duration::from_millis(200));
        }
    }

    /// Types a line and returns what is shown until the next prompt.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r"));
        self.expect("\n");
        self.expect("a active> ")
    }

    /// Reads until nothing comes any more, and forgets it.
    pub fn calm_down(&mut self) {
        while self.read(Duration::from_millis(400)) {}
        self.seen.clear();
    }

    /// Waits until the text is shown, and the program ends.
    pub fn end_after(&mut self, text: &str) -> i32 {
        let end = clock::now() + Duration::from_secs(20);
        while !self.seen.contains(text) {
            assert!(clock::now() < end, "\"{text}\" was not shown, but\n{}", self.seen.escape_debug());
            self.read(Duration::from_millis(200));
        }
        self.end()
    }

    /// Waits until the program ends.
    pub fn end(&mut self) -> i32 {
        let end = clock::now() + Duration::from_secs(10);
        while clock::now() < end {
            self.read(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
        }
        panic!("it does not end; shown: {}", self.seen.escape_debug());
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
