//! Where a command's words go and an operator's come from: the command line's terminal or pipe, or the console's port.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::exit::Exit;
use super::report::Style;
use super::terminal::Terminal;
use super::watch;

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The descriptor has something to read.
    Ready,
    /// The operator wants no more of it.
    Interrupted,
    /// The time is over.
    TimedOut,
}

/// The two sides of a conversation with an operator or a script.
pub trait Face {
    /// Width and colours for text.
    fn style(&self) -> Style;
    /// A person looks at it and sees progress move.
    fn is_live(&self) -> bool;
    /// Shows a result: one line or more.
    fn say(&mut self, text: &str);
    /// Shows why something was refused or failed.
    fn complain(&mut self, text: &str);
    /// Shows how far something is, in place of what was shown so before.
    fn progress(&mut self, text: &str);
    /// Asks, and returns the line typed; `None` when there is nobody.
    fn ask(&mut self, question: &str, echo: bool) -> Option<String>;
    /// Nobody is left who could read what is shown.
    fn is_abandoned(&self) -> bool {
        false
    }
    /// Waits for a descriptor.
    fn wait(&mut self, fd: BorrowedFd<'_>, limit: Duration) -> Wake;
    /// Runs the live view until the operator leaves it.
    fn watch(&mut self, socket: &Path, interval: Duration) -> Exit;
}

/// Standard input, output and error of a command.
#[derive(Debug)]
pub struct Standard {
    style: Style,
    live: bool,
    /// A progress line stands where the next text would go.
    line_open: bool,
    /// Why something could not be shown: a disk is full, say.
    lost: Option<io::Error>,
}

impl Default for Standard {
    fn default() -> Self {
        let live = io::stdout().is_terminal();
        let width = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        // https://no-color.org: set and not empty means no colours.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style { width: if live && width >= 20 { width } else { 80 }, colour: live && !plain };
        Self { style, live, line_open: false, lost: None }
    }
}

impl Standard {
    fn close_line(&mut self) {
        if std::mem::take(&mut self.line_open) {
            self.show("\r\x1b[K");
        }
    }

    /// Writes to standard output. That the reader of a pipe has gone is no loss: `twobox log | head` ends in peace.
    fn show(&mut self, text: &str) {
        let written = write(&mut io::stdout(), text).err();
        self.lost = self.lost.take().or(written.filter(|error| error.kind() != io::ErrorKind::BrokenPipe));
    }

    /// How a command ends: what was done and could not be shown has failed, for whoever reads it.
    pub fn end(&mut self, exit: Exit) -> Exit {
        match self.lost.take() {
            Some(error) if exit != Exit::WrongUse => {
                self.complain(&format!("twobox: not all could be shown: {error}; look at where the output goes"));
                Exit::Refused
            }
            _ => exit,
        }
    }
}

/// Writes without a panic, whatever becomes of it.
fn write(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

fn with_newline(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

impl Face for Standard {
    fn style(&self) -> Style {
        self.style
    }

    fn is_live(&self) -> bool {
        self.live
    }

    fn say(&mut self, text: &str) {
        self.close_line();
        self.show(&with_newline(text));
    }

    fn complain(&mut self, text: &str) {
        self.close_line();
        let _ = write(&mut io::stderr(), &with_newline(text)); // nobody is left to be told
    }

    fn progress(&mut self, text: &str) {
        if self.live {
            let text: String = text.chars().take(self.style.width.saturating_sub(1)).collect();
            self.show(&format!("\r\x1b[K{text}"));
            self.line_open = true;
        }
    }

    fn ask(&mut self, question: &str, echo: bool) -> Option<String> {
        self.close_line();
        if !echo && io::stdin().is_terminal() {
            return ask_unseen(question);
        }
        if io::stdin().is_terminal() {
            self.show(question);
        }
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(count) if count > 0 => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            _ => None,
        }
    }

    fn is_abandoned(&self) -> bool {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        poll(&mut fds, PollTimeout::ZERO) == Ok(1) && fds[0].revents().is_some_and(|found| found.intersects(gone))
    }

    fn wait(&mut self, fd: BorrowedFd<'_>, limit: Duration) -> Wake {
        // ctrl-C ends the process by itself.
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => Wake::TimedOut,
            Ok(_) | Err(Errno::EINTR) => Wake::Ready,
            Err(_) => Wake::Interrupted,
        }
    }

    fn watch(&mut self, socket: &Path, interval: Duration) -> Exit {
        match Terminal::standard() {
            Ok(terminal) => watch::run(&terminal, socket, interval),
            Err(_) => {
                self.complain("twobox: the live view needs a terminal; `twobox status` goes to a pipe");
                Exit::Refused
            }
        }
    }
}

/// Reads a line from the terminal without showing it.
fn ask_unseen(question: &str) -> Option<String> {
    let terminal = Terminal::standard().ok()?;
    terminal.write(question.as_bytes()).ok()?;
    let mut editor = super::editor::Editor::hidden();
    let mut buffer = [0; 64];
    loop {
        let count = terminal.read(&mut buffer).ok()?;
        for byte in &buffer[..count] {
            match editor.feed(*byte) {
                Some(super::editor::Event::Line(line)) => {
                    terminal.write(b"\r\n").ok()?;
                    return Some(line);
                }
                Some(super::editor::Event::Interrupt | super::editor::Event::End) => {
                    terminal.write(b"\r\n").ok()?;
                    return None;
                }
                _ => {}
            }
        }
    }
}
