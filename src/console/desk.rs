//! The operator's desk: a terminal in raw mode as the face of commands. It shows what they say, and keeps what is typed
//! meanwhile. A terminal that hangs, floods or goes away never keeps a command waiting.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use super::editor::{Editor, Event};
use super::exit::Exit;
use super::face::{Face, Wake};
use super::printable::printable;
use super::report::{Style, wrap};
use super::terminal::Terminal;
use super::watch;
use crate::clock;
use crate::time::Instant;

/// Bytes typed while a command runs.
const TYPE_AHEAD: usize = 1_024;
/// How often a question looks whether the terminal is still there.
const LOOK: Duration = Duration::from_secs(1);

/// The terminal with what was typed ahead: where commands show their results.
pub(super) struct Desk<'t> {
    pub(super) terminal: &'t Terminal,
    pub(super) typed: VecDeque<u8>,
    /// The terminal took no output: nothing is sent until it shows life.
    mute: bool,
    pub(super) gone: bool,
    pub(super) last_key: Instant,
    pub(super) width: usize,
}

impl<'t> Desk<'t> {
    pub(super) fn new(terminal: &'t Terminal, width: usize) -> Self {
        Desk { terminal, typed: VecDeque::new(), mute: false, gone: false, last_key: clock::now(), width }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.mute || self.gone {
            return;
        }
        match self.terminal.write(bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.mute = true,
            Err(_) => self.gone = true,
        }
    }

    /// Lines for a terminal in raw mode.
    fn lines(&mut self, text: &str) {
        for line in text.lines() {
            self.write(b"\r\x1b[K");
            self.write(printable(line).as_bytes());
            self.write(b"\r\n");
        }
    }

    /// Reads what was typed; what does not fit is dropped.
    pub(super) fn read(&mut self) {
        let mut buffer = [0; 256];
        match self.terminal.read(&mut buffer) {
            Ok(count) => {
                if count > 0 {
                    (self.mute, self.last_key) = (false, clock::now());
                }
                let room = TYPE_AHEAD - self.typed.len().min(TYPE_AHEAD);
                self.typed.extend(buffer[..count.min(room)].iter());
            }
            Err(_) => self.gone = true,
        }
    }
}

impl Face for Desk<'_> {
    fn style(&self) -> Style {
        // No colours: a VT100 knows none, and every mood is said in words.
        Style { width: self.width, colour: false }
    }

    fn is_live(&self) -> bool {
        true
    }

    fn say(&mut self, text: &str) {
        self.lines(text);
    }

    fn complain(&mut self, text: &str) {
        let text = text.strip_prefix("twobox: ").unwrap_or(text);
        for line in text.lines() {
            self.lines(&wrap(line, self.width - 1).join("\n"));
        }
    }

    fn progress(&mut self, text: &str) {
        let text: String = printable(text).chars().take(self.width - 1).collect();
        self.write(format!("\r{text}\x1b[K").as_bytes());
    }

    fn ask(&mut self, question: &str, echo: bool) -> Option<String> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let mut editor = if echo { Editor::default() } else { Editor::hidden() };
        let bytes = editor.draw(question, self.width);
        self.write(&bytes);
        loop {
            while let Some(byte) = self.typed.pop_front() {
                let event = editor.feed(byte);
                let bytes = editor.echo(question, self.width);
                self.write(&bytes);
                match event {
                    Some(Event::Line(line)) => {
                        self.write(b"\r\n");
                        return Some(line);
                    }
                    Some(Event::Interrupt | Event::End) => {
                        self.write(b"\r\n");
                        return None;
                    }
                    Some(Event::Complete(_)) | None => {}
                }
            }
            if self.gone || clock::now().since(self.last_key) > PATIENCE {
                return None;
            }
            match self.terminal.wait(None, LOOK) {
                Ok((true, _)) => self.read(),
                Ok(_) => {}
                Err(_) => self.gone = true,
            }
        }
    }

    fn wait(&mut self, fd: BorrowedFd<'_>, limit: Duration) -> Wake {
        const CTRL_C: u8 = 3;
        let end = clock::now() + limit;
        loop {
            // It may have come together with the command.
            if self.gone || self.typed.contains(&CTRL_C) {
                self.typed.clear();
                return Wake::Interrupted;
            }
            match self.terminal.wait(Some(fd), end.until(clock::now())) {
                Ok((true, _)) => self.read(),
                Ok((false, true)) => return Wake::Ready,
                Ok((false, false)) if clock::now() >= end => return Wake::TimedOut,
                Ok((false, false)) => {}
                Err(_) => return Wake::Interrupted,
            }
        }
    }

    fn watch(&mut self, socket: &Path, interval: Duration) -> Exit {
        // A slow line is not asked for more than it carries.
        let slow = self.terminal.baud() < 19_200;
        watch::run(self.terminal, socket, if slow { interval.max(Duration::from_secs(1)) } else { interval })
    }
}
