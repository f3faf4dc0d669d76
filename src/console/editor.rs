//! Line editing for a bare serial line: bytes in, events and echo out. Pure.
//!
//! Own code because the kept line editors own a tty and its thread: they cannot print an alarm above the line, log an
//! idle operator out or notice a hang-up while they wait, and they trust their input. This one is a state machine that
//! is fed byte by byte; whatever comes, in whatever pieces, it holds at most one line.

/// Longest line in characters; what is typed beyond rings the bell.
pub const LINE_LIMIT: usize = 512;

/// Lines that are remembered.
const HISTORY_LIMIT: usize = 50;

/// What a byte led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line was finished.
    Line(String),
    /// ctrl-C.
    Interrupt,
    /// ctrl-D on an empty line.
    End,
    /// Tab: complete the text before the cursor.
    Complete(String),
}

/// How far an escape sequence has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// After `ESC [` or `ESC O`, with its numbers so far.
    Sequence(Vec<u8>),
}

/// A line under construction.
#[derive(Clone, Debug, Default)]
pub struct Editor {
    line: Vec<char>,
    cursor: usize,
    history: Vec<String>,
    /// Which line of the history is shown; `history.len()` for the new one.
    browsing: usize,
    /// The new line while the history is shown.
    kept: Vec<char>,
    escape: Escape,
    /// Bytes of a UTF-8 character so far.
    partial: Vec<u8>,
    /// The last byte was a CR, so an LF belongs to it.
    after_cr: bool,
    hidden: bool,
    /// Bytes for the terminal.
    echo: Vec<u8>,
    /// The line must be drawn anew.
    stale: bool,
}

impl Editor {
    /// An editor that shows nothing and remembers nothing, for a password.
    #[must_use]
    pub fn hidden() -> Self {
        Self { hidden: true, ..Self::default() }
    }

    /// Takes a byte from the terminal.
    pub fn feed(&mut self, byte: u8) -> Option<Event> {
        let after_cr = std::mem::take(&mut self.after_cr);
        match std::mem::take(&mut self.escape) {
            Escape::None => {}
            Escape::Begun => {
                match byte {
                    b'[' | b'O' => self.escape = Escape::Sequence(Vec::new()),
                    0x1b => self.escape = Escape::Begun,
                    // A control character ends a sequence that was cut off, and means itself.
                    0..0x20 => return self.control(byte, false),
                    // Meta keys are not bound.
                    _ => {}
                }
                return None;
            }
            Escape::Sequence(mut numbers) => {
                match byte {
                    b'0'..=b'?' => {
                        // Longer than any key's: swallowed to its end all the same.
                        if numbers.len() < 16 {
                            numbers.push(byte);
                        }
                        self.escape = Escape::Sequence(numbers);
                    }
                    b'@'..=b'~' => self.sequence(&numbers, byte),
                    0x1b => self.escape = Escape::Begun,
                    0..0x20 => return self.control(byte, false),
                    _ => {}
                }
                return None;
            }
        }
        match byte {
            0..0x20 | 0x7f => self.control(byte, after_cr),
            _ => {
                self.character(byte);
                None
            }
        }
    }

    fn control(&mut self, byte: u8, after_cr: bool) -> Option<Event> {
        const fn ctrl(letter: u8) -> u8 {
            letter & 0x1f
        }
        const A: u8 = ctrl(b'a');
        const B: u8 = ctrl(b'b');
        const C: u8 = ctrl(b'c');
        const D: u8 = ctrl(b'd');
        const E: u8 = ctrl(b'e');
        const F: u8 = ctrl(b'f');
        const H: u8 = ctrl(b'h');
        const K: u8 = ctrl(b'k');
        const L: u8 = ctrl(b'l');
        const N: u8 = ctrl(b'n');
        const P: u8 = ctrl(b'p');
        const U: u8 = ctrl(b'u');
        const W: u8 = ctrl(b'w');
        self.partial.clear();
        match byte {
            b'\r' => {
                self.after_cr = true;
                return Some(self.finish());
            }
            b'\n' if after_cr => {}
            b'\n' => return Some(self.finish()),
            b'\t' => return Some(Event::Complete(self.line[..self.cursor].iter().collect())),
            0x1b => self.escape = Escape::Begun,
            C => {
                self.reset();
                return Some(Event::Interrupt);
            }
            D if self.line.is_empty() => return Some(Event::End),
            D => self.delete(),
            A => self.move_to(0),
            E => self.move_to(self.line.len()),
            B => self.move_to(self.cursor.saturating_sub(1)),
            F => self.move_to(self.cursor + 1),
            H | 0x7f if self.cursor > 0 => {
                self.move_to(self.cursor - 1);
                self.delete();
            }
            K => self.replace(self.cursor, self.line.len(), ""),
            U => self.replace(0, self.cursor, ""),
            W => {
                let before = &self.line[..self.cursor];
                let word = before.iter().rposition(|c| *c != ' ').unwrap_or(0);
                let start = before[..word].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1);
                self.replace(start, self.cursor, "");
            }
            P => self.browse(self.browsing.saturating_sub(1)),
            N => self.browse(self.browsing + 1),
            L => self.stale = true,
            // NUL is what a break on the line looks like.
            _ => {}
        }
        None
    }

    /// A finished escape sequence: the cursor keys of VT100 and what later terminals send for the others.
    fn sequence(&mut self, numbers: &[u8], last: u8) {
        match (numbers, last) {
            (_, b'A') => self.browse(self.browsing.saturating_sub(1)),
            (_, b'B') => self.browse(self.browsing + 1),
            (_, b'C') => self.move_to(self.cursor + 1),
            (_, b'D') => self.move_to(self.cursor.saturating_sub(1)),
            (_, b'H') | (b"1" | b"7", b'~') => self.move_to(0),
            (_, b'F') | (b"4" | b"8", b'~') => self.move_to(self.line.len()),
            (b"3", b'~') => self.delete(),
            _ => {}
        }
    }

    /// A byte of a printable character.
    fn character(&mut self, byte: u8) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let character = text.chars().next();
                self.partial.clear();
                // C1 controls (U+0080..U+009F) would move the cursor of a terminal.
                if let Some(character) = character.filter(|c| !c.is_control()) {
                    self.insert(character);
                }
            }
            Err(error) if error.error_len().is_some() || self.partial.len() >= 4 => self.partial.clear(),
            Err(_) => {}
        }
    }

    fn insert(&mut self, character: char) {
        if self.line.len() >= LINE_LIMIT {
            self.echo.push(7);
            return;
        }
        self.line.insert(self.cursor, character);
        self.cursor += 1;
        // The common case is sent as it is: at 300 baud a whole line takes seconds.
        if self.cursor == self.line.len() && !self.stale && !self.hidden {
            let mut bytes = [0; 4];
            self.echo.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
        } else {
            self.stale = true;
        }
    }

    fn delete(&mut self) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
            self.stale = true;
        }
    }

    fn move_to(&mut self, place: usize) {
        let place = place.min(self.line.len());
        self.stale |= place != self.cursor;
        self.cursor = place;
    }

    fn replace(&mut self, from: usize, to: usize, text: &str) {
        let room = LINE_LIMIT - (self.line.len() - (to - from));
        let text: Vec<char> = text.chars().take(room).collect();
        self.cursor = from + text.len();
        self.line.splice(from..to, text);
        self.stale = true;
    }

    /// Shows another line of the history.
    fn browse(&mut self, index: usize) {
        if self.hidden || index > self.history.len() || index == self.browsing {
            return;
        }
        if self.browsing == self.history.len() {
            self.kept = self.line.clone();
        }
        self.browsing = index;
        self.line = self.history.get(index).map_or_else(|| self.kept.clone(), |line| line.chars().collect());
        self.cursor = self.line.len();
        self.stale = true;
    }

    fn finish(&mut self) -> Event {
        let line: String = self.line.iter().collect();
        if !self.hidden && !line.trim().is_empty() && self.history.last() != Some(&line) {
            if self.history.len() == HISTORY_LIMIT {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        self.reset();
        Event::Line(line)
    }

    fn reset(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.kept.clear();
        self.partial.clear();
        self.browsing = self.history.len();
        self.stale = false;
        self.echo.clear();
    }

    /// Puts text in at the cursor, for a completion.
    pub fn insert_text(&mut self, text: &str) {
        self.replace(self.cursor, self.cursor, text);
    }

    /// Bytes for the terminal since the last call: plain echo, or the whole line again.
    pub fn echo(&mut self, prompt: &str, width: usize) -> Vec<u8> {
        let echo = std::mem::take(&mut self.echo);
        if self.hidden {
            // Not even the number of characters.
            return Vec::new();
        }
        let fits = prompt.chars().count() + self.line.len() < width;
        if self.stale || (!fits && !echo.is_empty()) {
            let mut bytes: Vec<u8> = echo.iter().copied().filter(|byte| *byte == 7).collect();
            bytes.extend(self.draw(prompt, width));
            return bytes;
        }
        echo
    }

    /// The prompt and the line from the first column on. A line that is too long shows the part around the cursor.
    pub fn draw(&mut self, prompt: &str, width: usize) -> Vec<u8> {
        self.stale = false;
        self.echo.clear();
        let room = width.saturating_sub(prompt.chars().count() + 1).max(8);
        let shown = if self.hidden { 0 } else { self.line.len() };
        let cursor = self.cursor.min(shown);
        let start = if shown < room { 0 } else { cursor.saturating_sub(room * 3 / 4).min(shown - room * 3 / 4) };
        let part = &self.line[start..shown.min(start + room)];
        let mut text = format!("\r{prompt}{}\x1b[K", part.iter().collect::<String>());
        let back = part.len() - (cursor - start).min(part.len());
        if back > 0 {
            text.push_str(&format!("\x1b[{back}D"));
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut editor = Editor::default();
        bytes
            .iter()
            .filter_map(|byte| match editor.feed(*byte) {
                Some(Event::Line(line)) => Some(line),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn every_end_of_line_counts_once() {
        assert_eq!(lines(b"a\rb\nc\r\nd\n\ne\r\r"), ["a", "b", "c", "d", "", "e", ""]);
    }

    #[test]
    fn editing_keys_do_what_they_do_everywhere() {
        assert_eq!(lines(b"stats\x1b[Du\r"), ["status"]);
        assert_eq!(lines(b"xstatus\x01\x04\r"), ["status"]);
        assert_eq!(lines(b"statuss\x7f\r"), ["status"]);
        assert_eq!(lines(b"old words\x15status\r"), ["status"]);
        assert_eq!(lines(b"hold big disk\x17\x17it\r"), ["hold it"]);
        assert_eq!(lines(b"status junk\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x0b\r"), ["status"]);
        assert_eq!(lines(b"tatus\x1b[Hs\x1b[F!\r"), ["status!"]);
        assert_eq!(lines(b"tatus\x1b[1~s\x1b[4~!\r"), ["status!"]);
    }

    #[test]
    fn history_goes_back_and_forth_and_keeps_the_new_line() {
        assert_eq!(lines(b"one\rtwo\rth\x1b[A\x1b[A\x1b[B\x1b[B\x1bOB\r"), ["one", "two", "th"]);
        assert_eq!(lines(b"one\rtwo\r\x1b[A\x1b[A\r"), ["one", "two", "one"]);
        assert_eq!(lines(b"one\r\x10\x10\x10\r"), ["one", "one"]);
    }

    #[test]
    fn half_sequences_and_breaks_harm_nothing() {
        assert_eq!(lines(b"sta\x1b[\rtus\r"), ["sta", "tus"]);
        assert_eq!(lines(b"sta\x1b\x1b[Cu\x00s\r"), ["staus"]);
        assert_eq!(lines(b"a\xc3\rb\xff\xfe\xc3\xa4\r"), ["a", "b\u{e4}"]);
        assert_eq!(lines(b"a\x1b[99999999999999999999999b\r"), ["a"]);
    }

    #[test]
    fn a_flood_holds_one_line_of_memory() {
        let mut editor = Editor::default();
        let mut bell = 0;
        for _ in 0..100_000 {
            assert_eq!(editor.feed(b'x'), None);
            bell += editor.echo("> ", 80).iter().filter(|byte| **byte == 7).count();
        }
        assert_eq!(editor.line.len(), LINE_LIMIT);
        assert_eq!(bell, 100_000 - LINE_LIMIT);
    }

    #[test]
    fn whatever_comes_it_neither_panics_nor_lets_control_characters_through() {
        proptest::proptest!(|(bytes: Vec<u8>)| {
            let mut editor = Editor::default();
            for byte in bytes {
                if let Some(Event::Line(line) | Event::Complete(line)) = editor.feed(byte) {
                    proptest::prop_assert!(!line.chars().any(char::is_control));
                    proptest::prop_assert!(line.chars().count() <= LINE_LIMIT);
                }
                let _ = editor.echo("a standby> ", 40);
            }
        });
    }

    #[test]
    fn a_typed_character_costs_one_byte_of_echo() {
        let mut editor = Editor::default();
        editor.feed(b's');
        assert_eq!(editor.echo("> ", 80), b"s");
        editor.feed(b't');
        editor.feed(2);
        assert_eq!(editor.echo("> ", 80), b"\r> st\x1b[K\x1b[1D");
        let mut hidden = Editor::hidden();
        hidden.feed(b's');
        let shown = [hidden.echo("> ", 80), hidden.draw("> ", 80)].concat();
        assert!(!shown.contains(&b's'));
    }
}
