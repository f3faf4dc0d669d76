//! The live view's loop: a status every half second, the operator's keys, the terminal's size.

use std::path::Path;
use std::time::Duration;

use super::client::{Conversation, Failure};
use super::control::{Reply, Request};
use super::exit::Exit;
use super::live;
use super::screen::Screen;
use super::terminal::Terminal;
use crate::clock;
use crate::time::Instant;

/// How long to wait before the daemon is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often the terminal's size is looked at.
const SIZE_CHECK: Duration = Duration::from_secs(1);

/// Shows the pair until the operator types q or ctrl-C, or the terminal has gone.
#[must_use]
pub fn run(terminal: &Terminal, socket: &Path, interval: Duration) -> Exit {
    let (width, height) = terminal.size();
    let mut view = View {
        terminal,
        socket,
        interval: interval.clamp(Duration::from_millis(100), Duration::from_secs(60)),
        screen: Screen::new(width, height),
        next_draw: Instant::BOOT,
        next_try: Instant::BOOT,
    };
    let exit = view.run();
    // Leave a clear screen: attributes off, cleared, cursor home. A VT100 has no second screen to come back from.
    let _ = terminal.write(b"\x1b[0m\x1b[2J\x1b[H");
    exit
}

struct View<'t> {
    terminal: &'t Terminal,
    socket: &'t Path,
    interval: Duration,
    screen: Screen,
    /// The line is busy with the last picture until then.
    next_draw: Instant,
    /// The daemon is not tried again before.
    next_try: Instant,
}

impl View<'_> {
    fn run(&mut self) -> Exit {
        let mut talk = None;
        loop {
            let now = clock::now();
            if talk.is_none() && now >= self.next_try {
                talk = self.connect(now);
            }
            let other = talk.as_ref().map(std::os::fd::AsFd::as_fd);
            let Ok((typed, told)) = self.terminal.wait(other, SIZE_CHECK.min(RETRY)) else { return Exit::Refused };
            if typed {
                match self.leave_wanted() {
                    Some(true) => return Exit::Done,
                    Some(false) => {}
                    None => return Exit::Refused,
                }
            }
            self.follow_size();
            if told
                && let Some(open) = &mut talk
                && let Err(failure) = self.take(open)
            {
                self.trouble(&failure);
                self.next_try = clock::now() + RETRY;
                talk = None;
            }
        }
    }

    fn connect(&mut self, now: Instant) -> Option<Conversation> {
        let every_ms = u64::try_from(self.interval.as_millis()).ok();
        match Conversation::start(self.socket, &Request::Status { every_ms }) {
            Ok(talk) => Some(talk),
            Err(failure) => {
                self.trouble(&failure);
                self.next_try = now + RETRY;
                None
            }
        }
    }

    /// Takes all that has come and draws the newest.
    fn take(&mut self, talk: &mut Conversation) -> Result<(), Failure> {
        talk.fill()?;
        let mut newest = None;
        while let Some(reply) = talk.buffered_reply()? {
            match reply {
                Reply::Status { status } => newest = Some(status),
                Reply::Refused { reason, .. } => return Err(Failure::Garbled(reason)),
                Reply::Done { .. } => return Err(Failure::Died),
                _ => {}
            }
        }
        if let Some(status) = newest
            && clock::now() >= self.next_draw
        {
            live::draw(&status, &mut self.screen);
            self.show();
        }
        Ok(())
    }

    fn trouble(&mut self, failure: &Failure) {
        live::draw_trouble(&failure.to_string(), &mut self.screen);
        self.show();
    }

    /// Sends what changed. The next picture waits until a line of this speed has carried it: otherwise pictures would
    /// pile up in the port's buffer and show what was true long ago.
    fn show(&mut self) {
        let bytes = self.screen.update();
        if self.terminal.write(&bytes).is_err() {
            self.screen.forget();
        }
        let bits = u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_mul(10);
        let line_time = bits.saturating_mul(1_000_000) / u64::from(self.terminal.baud().max(300));
        self.next_draw = clock::now() + Duration::from_micros(line_time);
    }

    /// Reads keys; `None`: the terminal has gone.
    fn leave_wanted(&mut self) -> Option<bool> {
        const CTRL_C: u8 = 3;
        const CTRL_L: u8 = 12;
        let mut keys = [0; 64];
        let count = self.terminal.read(&mut keys).ok()?;
        if keys[..count].contains(&CTRL_L) {
            self.screen.forget();
        }
        Some(keys[..count].iter().any(|key| matches!(*key, b'q' | b'Q' | CTRL_C)))
    }

    fn follow_size(&mut self) {
        if let Some((width, height)) = self.terminal.known_size() {
            let fresh = Screen::new(width, height);
            if (fresh.width(), fresh.height()) != (self.screen.width(), self.screen.height()) {
                self.screen = fresh;
            }
        }
    }
}
