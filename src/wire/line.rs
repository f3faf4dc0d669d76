//! What is at the other end of a serial line, judged by what comes: the peer, our own frames, a login prompt, the wrong
//! baud rate, nothing.

use crate::time::{Duration, Instant};

/// Frames count so long, other bytes between once and twice as long.
pub const WINDOW: Duration = Duration::from_secs(5);
/// A login prompt is remembered so long: it is printed rarely.
pub const LOGIN_WINDOW: Duration = Duration::from_secs(60);
/// So many bytes that are in no text are more than a disturbed line.
const MANY: u32 = 64;
/// So many framing errors counted by the UART are more than a disturbed line.
const MANY_ERRORS: u32 = 16;
/// Text holds fewer than one byte in so many that is in no text.
const TEXT_SHARE: u32 = 10;
/// Ends of prompts that ask who is there, in lower case.
const PROMPTS: [&[u8]; 2] = [b"login:", b"password:"];
const PROMPT_MAX: usize = 9;

/// What seems to be at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing comes: no cable, or nobody there.
    Silent,
    /// The peer's frames come.
    Peer,
    /// Our own frames come back: a loop plug, or an echo.
    LoopPlug,
    /// Frames like the peer's, of somebody else: the line ends in a box of another pair, or has another key.
    Stranger,
    /// A login prompt: the line ends in somebody's console.
    Login,
    /// Text and no frames: another program writes to the line.
    Text,
    /// Many bytes that are neither frames nor text: the two ends differ in baud rate.
    WrongBaud,
    /// A few bytes that are neither frames nor text.
    Noise,
}

impl Finding {
    /// The words used in status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Finding::Silent => "silence",
            Finding::Peer => "the peer",
            Finding::LoopPlug => "our own frames (loop plug or echo)",
            Finding::Stranger => "frames of another pair, or with another key",
            Finding::Login => "a login prompt",
            Finding::Text => "text of another program",
            Finding::WrongBaud => "garbage (wrong baud rate)",
            Finding::Noise => "noise",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    text: u32,
    garbage: u32,
    errors: u32,
}

/// Judges one line.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    peer_at: Option<Instant>,
    own_at: Option<Instant>,
    stranger_at: Option<Instant>,
    login_at: Option<Instant>,
    /// The last bytes in lower case, to find a prompt.
    tail: [u8; PROMPT_MAX],
    count_began: Instant,
    /// The present window and the one before.
    counts: [Count; 2],
}

impl Observer {
    /// Nothing heard yet.
    #[must_use]
    pub fn new() -> Observer {
        Observer::default()
    }

    /// A frame of the peer came.
    pub fn peer(&mut self, now: Instant) {
        self.peer_at = Some(now);
    }

    /// A frame of our own came back (`Reject::OwnFrame`).
    pub fn own(&mut self, now: Instant) {
        self.own_at = Some(now);
    }

    /// A frame came of somebody who is not the peer.
    pub fn stranger(&mut self, now: Instant) {
        self.stranger_at = Some(now);
    }

    /// Bytes came that belong to no frame.
    pub fn noise(&mut self, now: Instant, bytes: &[u8]) {
        let count = self.count(now);
        for &byte in bytes {
            // ESC and backspace are a terminal's.
            let text = byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x07 | 0x08 | 0x1b);
            let counter = if text { &mut count.text } else { &mut count.garbage };
            *counter = counter.saturating_add(1);
        }
        for &byte in bytes {
            self.tail.copy_within(1.., 0);
            self.tail[PROMPT_MAX - 1] = byte.to_ascii_lowercase();
            if PROMPTS.iter().any(|prompt| self.tail.ends_with(prompt)) {
                self.login_at = Some(now);
            }
        }
    }

    /// The UART has counted `errors` more framing errors and breaks.
    pub fn framing_errors(&mut self, now: Instant, errors: u32) {
        let count = self.count(now);
        count.errors = count.errors.saturating_add(errors);
    }

    /// What seems to be at the other end at `now`.
    #[must_use]
    pub fn finding(&self, now: Instant) -> Finding {
        let within = |at: Option<Instant>, window| at.is_some_and(|at| now.since(at) <= window);
        let age = now.since(self.count_began);
        let windows = if age < WINDOW {
            &self.counts[..]
        } else if age < WINDOW * 2 {
            &self.counts[..1]
        } else {
            &[]
        };
        let sum = |of: fn(&Count) -> u32| windows.iter().map(of).fold(0, u32::saturating_add);
        let (text, garbage, errors) = (sum(|c| c.text), sum(|c| c.garbage), sum(|c| c.errors));
        if within(self.peer_at, WINDOW) {
            Finding::Peer
        } else if within(self.login_at, LOGIN_WINDOW) {
            Finding::Login // before the loop plug: a terminal echoes what it is sent
        } else if within(self.own_at, WINDOW) {
            Finding::LoopPlug
        } else if within(self.stranger_at, WINDOW) {
            Finding::Stranger
        } else if errors >= MANY_ERRORS || garbage >= MANY && garbage >= text / TEXT_SHARE {
            Finding::WrongBaud
        } else if text > garbage.saturating_mul(TEXT_SHARE) {
            Finding::Text
        } else if text + garbage + errors > 0 {
            Finding::Noise
        } else {
            Finding::Silent
        }
    }

    /// The count of the window that holds `now`.
    fn count(&mut self, now: Instant) -> &mut Count {
        let age = now.since(self.count_began);
        if age >= WINDOW {
            let before = if age < WINDOW * 2 { self.counts[0] } else { Count::default() };
            self.counts = [Count::default(), before];
            self.count_began = now;
        }
        &mut self.counts[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: fn(u64) -> Instant = |s| Instant::from_nanos(s * 1_000_000_000);

    #[test]
    fn silence_first_and_again_in_the_end() {
        let mut line = Observer::new();
        assert_eq!(line.finding(AT(0)), Finding::Silent);
        line.peer(AT(1));
        line.own(AT(1));
        line.noise(AT(1), &[0x80; 200]);
        assert_eq!(line.finding(AT(1)), Finding::Peer);
        assert_eq!(line.finding(AT(20)), Finding::Silent);
    }

    #[test]
    fn a_loop_plug_and_an_echoing_console_are_told_apart() {
        let mut line = Observer::new();
        line.own(AT(1));
        assert_eq!(line.finding(AT(1)), Finding::LoopPlug);
        line.noise(AT(1), b"\r\nDebian GNU/Linux 12 b ttyS1\r\n\r\nb log");
        line.noise(AT(2), b"in: ");
        line.own(AT(50));
        assert_eq!(line.finding(AT(50)), Finding::Login);
        assert_eq!(line.finding(AT(70)), Finding::Silent);
    }

    #[test]
    fn a_wrong_baud_rate_is_garbage_or_framing_errors() {
        let mut line = Observer::new();
        line.noise(AT(1), &[0xe0; 10]);
        assert_eq!(line.finding(AT(1)), Finding::Noise);
        line.noise(AT(1), &[0xe0, 0x00, 0x9c, b'f', 0x98, 0xff].repeat(20));
        assert_eq!(line.finding(AT(1)), Finding::WrongBaud);
        let mut line = Observer::new();
        line.framing_errors(AT(1), 16);
        assert_eq!(line.finding(AT(1)), Finding::WrongBaud);
    }

    #[test]
    fn boot_messages_are_text_even_with_some_noise_among_them() {
        let mut line = Observer::new();
        line.noise(AT(1), &b"[    0.000000] Linux version 6.1.0\r\n".repeat(50));
        line.noise(AT(1), &[0xff; 70]);
        assert_eq!(line.finding(AT(1)), Finding::Text);
    }

    #[test]
    fn the_window_before_still_counts_and_the_one_before_that_does_not() {
        let mut line = Observer::new();
        line.noise(AT(1), &[0xe0; 64]);
        line.noise(AT(6), b"");
        assert_eq!(line.finding(AT(9)), Finding::WrongBaud);
        line.noise(AT(12), b"");
        assert_eq!(line.finding(AT(12)), Finding::Silent);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(parts in proptest::collection::vec((0u64..30, proptest::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let mut line = Observer::new();
            for (at, bytes) in parts {
                line.noise(AT(at), &bytes);
                let _ = line.finding(AT(at));
            }
        }
    }
}
