//! The kernel's last words on the null modem: proof that the peer is dead.
//!
//! `panic()` (linux/kernel/panic.c) prints "Kernel panic - not syncing" while other CPUs still run; that proves nothing. It
//! prints "Rebooting in N seconds.." or "---\[ end Kernel panic" when they are stopped. Only such a line after such a line
//! counts, each where the kernel begins a line: behind its time stamp, or at the start. What a login shell or a log daemon
//! says about a panic stands behind other words and does not count.

use crate::time::{Duration, Instant};

const FIRST: &[u8] = b"Kernel panic - not syncing";
const END: &[u8] = b"---[ end Kernel panic";
const REBOOTING: &[u8] = b"Rebooting in ";
const SECONDS: &[u8] = b" seconds..";

/// Longest time between the first line and the last: the registers and the trace of every CPU at 9600 baud.
pub const LONGEST: Duration = Duration::from_secs(60);
/// As much of a line as is looked at; the words stand at its beginning.
const LINE: usize = 128;
/// A frame that the panic cut off ends in bytes of any value; so many readable ones may stand before the time stamp.
const RESIDUE: usize = 8;

/// A panic seen whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// When the first line began to arrive.
    pub began: Instant,
    /// When the line arrived that is printed after the other CPUs were stopped.
    pub ended: Instant,
}

/// Reads along.
#[derive(Clone, Debug)]
pub struct Matcher {
    line: heapless::Vec<u8, LINE>,
    line_began: Instant,
    /// The line begins behind a byte that is in no text, not behind a line's end.
    after_garbage: bool,
    /// When the line began that holds [`FIRST`].
    panic_began: Option<Instant>,
}

impl Default for Matcher {
    fn default() -> Matcher {
        Matcher::new()
    }
}

impl Matcher {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Matcher {
        Matcher {
            line: heapless::Vec::new(),
            line_began: Instant::BOOT,
            // We may have begun to listen within a line.
            after_garbage: false,
            panic_began: None,
        }
    }

    /// Reads `bytes`, which arrived at `now`. The last panic that ends in them, if any.
    pub fn feed(&mut self, now: Instant, bytes: &[u8]) -> Option<Death> {
        let mut death = None;
        for &byte in bytes {
            if byte == b' ' || byte == b'\t' || byte.is_ascii_graphic() {
                death = self.text(now, byte).or(death);
            } else {
                self.line.clear();
                self.after_garbage = byte != b'\n' && byte != b'\r';
            }
        }
        death
    }

    fn text(&mut self, now: Instant, byte: u8) -> Option<Death> {
        if self.line.is_empty() {
            self.line_began = now;
        }
        self.line.push(byte).ok()?;
        if self.at_line_start(self.line.strip_suffix(FIRST)) {
            self.panic_began = Some(self.line_began);
            return None;
        }
        let began = self.panic_began?;
        if !self.at_line_start(self.line.strip_suffix(END)) && !self.at_line_start(before_rebooting(&self.line)) {
            return None;
        }
        self.panic_began = None;
        (now.since(began) <= LONGEST).then_some(Death { began, ended: now })
    }

    /// Whether `before`, what stands in the line before the words, is what the kernel puts there.
    fn at_line_start(&self, before: Option<&[u8]>) -> bool {
        let Some(before) = before else { return false };
        if before.is_empty() {
            return true;
        }
        let residue = before.strip_suffix(b"] ").and_then(|b| {
            // CONFIG_PRINTK_CALLER adds a second pair of brackets.
            before_bracket(b, is_time)
                .or_else(|| before_bracket(before_bracket(b, is_caller)?.strip_suffix(b"]")?, is_time))
        });
        residue.is_some_and(|r| r.is_empty() || self.after_garbage && r.len() <= RESIDUE && !r.contains(&b' '))
    }
}

/// What stands before the last bracket in `line`, if what the bracket holds up to the end is `valid`.
fn before_bracket(line: &[u8], valid: fn(&[u8]) -> bool) -> Option<&[u8]> {
    let open = line.iter().rposition(|&b| b == b'[')?;
    valid(&line[open + 1..]).then_some(&line[..open])
}

/// "   12.345678"
fn is_time(inside: &[u8]) -> bool {
    let number = inside.trim_ascii_start();
    let mut parts = number.splitn(2, |&b| b == b'.');
    let digits = |part: Option<&[u8]>| part.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
    digits(parts.next()) && digits(parts.next())
}

/// "    T1" (task) or "    C0" (CPU)
fn is_caller(inside: &[u8]) -> bool {
    match inside.trim_ascii_start() {
        [b'T' | b'C', number @ ..] => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// What stands before "Rebooting in N seconds..", if the line ends so.
fn before_rebooting(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_suffix(SECONDS)?;
    let digits = rest.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    rest[..rest.len() - digits].strip_suffix(REBOOTING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: fn(u64) -> Instant = |ms| Instant::from_nanos(ms * 1_000_000);

    fn last(text: &str) -> Option<Death> {
        Matcher::new().feed(AT(5), text.as_bytes())
    }

    /// As printed by Linux 6.1.
    const WHOLE: &str = "\r\n[   15.018123] Kernel panic - not syncing: sysrq triggered crash\r\n\
        [   15.018901] CPU: 0 PID: 1 Comm: init Not tainted 6.1.0-37-amd64 #1  Debian 6.1.140-1\r\n\
        [   15.020422] Call Trace:\r\n[   15.020799]  <TASK>\r\n[   15.021001]  panic+0x118/0x2ed\r\n\
        [   15.041902] Kernel Offset: disabled\r\n[   15.042533] Rebooting in 1 seconds..\r\n";

    #[test]
    fn the_whole_text_counts() {
        assert_eq!(last(WHOLE), Some(Death { began: AT(5), ended: AT(5) }));
        let halted = WHOLE.replace("Rebooting in 1 seconds..", "---[ end Kernel panic - not syncing: sysrq ]---");
        assert!(last(&halted).is_some());
        assert!(last(&WHOLE.replace("] ", "][    T1] ")).is_some(), "with CONFIG_PRINTK_CALLER");
        assert!(last("Kernel panic - not syncing: x\nRebooting in 10 seconds..").is_some(), "without time stamps");
    }

    #[test]
    fn it_begins_with_its_first_line_and_ends_with_its_last_byte() {
        let mut matcher = Matcher::new();
        let mut deaths = vec![];
        for (i, byte) in WHOLE.bytes().enumerate() {
            deaths.extend(matcher.feed(AT(i as u64), &[byte]));
        }
        let ended = WHOLE.find("..\r").unwrap() as u64 + 1;
        assert_eq!(deaths, [Death { began: AT(2), ended: AT(ended) }]);
    }

    #[test]
    fn one_line_alone_proves_nothing() {
        assert_eq!(last("[   15.018123] Kernel panic - not syncing: sysrq triggered crash\n"), None);
        assert_eq!(last("[   15.018123] Rebooting in 1 seconds..\n"), None);
        assert_eq!(last("[ 1.0] Rebooting in 1 seconds..\n[ 2.0] Kernel panic - not syncing: x\n"), None);
    }

    #[test]
    fn near_misses_do_not_count() {
        for (from, to) in [
            ("Kernel panic", "kernel panic"),
            ("Kernel panic - not", "Kernel panic  - not"),
            ("[   15.018123] Kernel", "kernel: [   15.018123] Kernel"),
            ("[   15.018123] Kernel", "root@b:~# Kernel"),
            ("[   15.018123] Kernel", "[   15-018123] Kernel"),
            ("[   15.018123] Kernel", "[info] Kernel"),
            ("Rebooting in 1 seconds..", "Rebooting in  seconds.."),
            ("Rebooting in 1 seconds..", "Rebooting in 1 seconds."),
            ("Rebooting in 1 seconds..", "Rebooting in one seconds.."),
            ("[   15.042533] Rebooting", "systemd[1]: Rebooting"),
            ("[   15.042533] Rebooting", "\u{e4}a note: [   15.042533] Rebooting"),
        ] {
            assert!(WHOLE.contains(from));
            assert_eq!(last(&WHOLE.replace(from, to)), None, "{to}");
        }
    }

    #[test]
    fn the_rest_of_a_frame_before_the_first_line_does_not_hide_it() {
        let mut line = vec![0xfe, 0x91, b'x', 0x85, b'g', b'['];
        line.extend(WHOLE.trim_start().as_bytes());
        assert!(Matcher::new().feed(AT(5), &line).is_some());
    }

    #[test]
    fn a_first_line_is_forgotten_after_a_minute_and_after_its_last() {
        let (first, rest) = WHOLE.split_at(WHOLE.find("CPU").unwrap());
        let mut matcher = Matcher::new();
        matcher.feed(AT(0), first.as_bytes());
        assert_eq!(matcher.clone().feed(AT(60_001), rest.as_bytes()), None);
        assert!(matcher.feed(AT(60_000), rest.as_bytes()).is_some());
        assert_eq!(matcher.feed(AT(60_000), rest.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_a_whole_text_after_them_counts(
            bytes in proptest::collection::vec(any::<u8>(), 0..1000), cut in 1usize..200,
        ) {
            let mut matcher = Matcher::new();
            for part in bytes.chunks(cut) {
                prop_assert_eq!(matcher.feed(AT(1), part), None);
            }
            prop_assert!(matcher.feed(AT(2), WHOLE.as_bytes()).is_some());
        }
    }
}
