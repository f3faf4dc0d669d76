//! The last lines, numbered, in storage that is made once.

use std::collections::VecDeque;

use log::Level;

use super::Text;
use crate::time::Instant;

/// Lines kept for `twobox log`.
pub const LINES: usize = 256;

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    /// Counts from 0; a gap between two lines means that the ring has moved on.
    pub number: u64,
    /// When it was said, on this box's boot clock.
    pub at: Instant,
    /// How grave it is.
    pub level: Level,
    /// Module that said it, such as `twobox::link::serial`.
    pub module: &'static str,
    /// What was said, one line.
    pub text: Text,
}

impl core::fmt::Display for Line {
    /// Seconds since boot, level, module, text: `  12.345678 warn link::serial: no answer`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let micros = self.at.as_nanos() / 1000;
        let module = self.module.strip_prefix("twobox::").unwrap_or(self.module);
        write!(f, "{:6}.{:06} {level:5} {module}: {}", micros / 1_000_000, micros % 1_000_000, self.text)
    }
}

/// On the heap: some 90 kB, which a frame of the thread that makes it would keep resident for ever.
pub(super) struct Ring {
    lines: VecDeque<Line>,
    next: u64,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { lines: VecDeque::with_capacity(LINES), next: 0 }
    }

    pub(super) fn push(&mut self, at: Instant, level: Level, module: &'static str, text: &Text) -> &Line {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { number: self.next, at, level, module, text: text.clone() });
        self.next += 1;
        self.lines.back().expect("a line was just written")
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// Lines from `first` on, oldest first.
    pub(super) fn from(&self, first: u64) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.number >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_lines_and_their_numbers() {
        let mut ring = Ring::new();
        for _ in 0..LINES + 10 {
            ring.push(Instant::BOOT, Level::Info, "twobox::node", &Text::new());
        }
        let numbers: Vec<u64> = ring.from(0).map(|line| line.number).collect();
        assert_eq!(numbers.first(), Some(&10));
        assert_eq!(numbers.len(), LINES);
        assert_eq!(ring.from(ring.next_number() - 3).count(), 3);
    }

    #[test]
    fn a_line_reads_well() {
        let mut ring = Ring::new();
        let at = Instant::from_nanos(12_345_678_901);
        let text = Text::try_from("no answer").unwrap();
        let line = ring.push(at, Level::Warn, "twobox::link::serial", &text);
        assert_eq!(line.to_string(), "    12.345678 warn  link::serial: no answer");
    }
}
