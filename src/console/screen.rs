//! A screen of character cells that sends only what changed, in the words of a VT100.
//!
//! Own code and not a library for text interfaces: those bring colours, mouse and a few hundred KiB; a serial line of
//! 9600 baud carries 960 bytes a second, so what counts here is the number of bytes of each change (VT100 User Guide,
//! chapter 3: CUP, ED, SGR 0, 1 and 7).

/// Largest screen: more would be a wrong answer of the terminal.
pub const SIZE_LIMIT: (usize, usize) = (300, 120);

/// How a cell is shown. Nothing is said by it alone: a terminal may know none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// Plain.
    #[default]
    Plain,
    /// Bold.
    Bold,
    /// Dark on light.
    Reverse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    character: u8,
    weight: Weight,
}

const BLANK: Cell = Cell { character: b' ', weight: Weight::Plain };

/// What is on the terminal, and what shall be.
#[derive(Clone, Debug)]
pub struct Screen {
    width: usize,
    height: usize,
    shown: Vec<Cell>,
    wanted: Vec<Cell>,
    /// Nothing is known of the terminal's content.
    unknown: bool,
}

impl Screen {
    /// A screen of a terminal whose content is not known yet.
    #[must_use]
    pub fn new(width: usize, height: usize) -> Self {
        let (width, height) = (width.clamp(1, SIZE_LIMIT.0), height.clamp(1, SIZE_LIMIT.1));
        let cells = vec![BLANK; width * height];
        Self { width, height, shown: cells.clone(), wanted: cells, unknown: true }
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Begins a new picture.
    pub fn clear(&mut self) {
        self.wanted.fill(BLANK);
    }

    /// Puts text at a place; what lies outside is cut off, what is no printable ASCII becomes a question mark.
    pub fn put(&mut self, row: usize, column: usize, text: &str, weight: Weight) {
        if row >= self.height {
            return;
        }
        for (at, character) in (column..self.width).zip(text.chars()) {
            let character = match character {
                ' '..='~' => u8::try_from(character).unwrap_or(b'?'),
                _ => b'?',
            };
            self.wanted[row * self.width + at] = Cell { character, weight };
        }
    }

    /// The terminal's content is lost: the next picture is drawn whole.
    pub fn forget(&mut self) {
        self.unknown = true;
    }

    /// The bytes that turn what is shown into what is wanted.
    pub fn update(&mut self) -> Vec<u8> {
        let mut pen = Pen { out: Vec::new(), row: 0, column: 0, weight: Weight::Plain, placed: false };
        if self.unknown {
            // Attributes off, whole screen cleared.
            pen.out.extend_from_slice(b"\x1b[0m\x1b[2J");
            self.shown.fill(BLANK);
            self.unknown = false;
        }
        for row in 0..self.height {
            let cells = row * self.width..(row + 1) * self.width;
            for column in 0..self.width {
                // The last cell of the last row would make some terminals scroll.
                if row + 1 == self.height && column + 1 == self.width {
                    continue;
                }
                let at = cells.start + column;
                if self.shown[at] != self.wanted[at] {
                    pen.go(row, column, &self.wanted[cells.clone()]);
                    pen.write(self.wanted[at]);
                    self.shown[at] = self.wanted[at];
                }
            }
        }
        if !pen.out.is_empty() {
            pen.set(Weight::Plain);
            pen.park(self.height);
        }
        pen.out
    }

    /// The wanted picture as text, for tests.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in self.wanted.chunks(self.width) {
            let line: String = row.iter().map(|cell| char::from(cell.character)).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The terminal's cursor and attributes while bytes are made.
struct Pen {
    out: Vec<u8>,
    row: usize,
    column: usize,
    weight: Weight,
    /// The cursor's place is known.
    placed: bool,
}

impl Pen {
    /// Moves to a cell. A short way in the same row is written over: that costs fewer bytes than a jump.
    fn go(&mut self, row: usize, column: usize, cells: &[Cell]) {
        if self.placed && self.row == row && self.column <= column && column - self.column <= 5 {
            let between = &cells[self.column..column];
            if between.iter().all(|cell| cell.weight == self.weight) {
                self.out.extend(between.iter().map(|cell| cell.character));
                self.column = column;
                return;
            }
        }
        self.out.extend_from_slice(format!("\x1b[{};{}H", row + 1, column + 1).as_bytes());
        (self.row, self.column, self.placed) = (row, column, true);
    }

    fn set(&mut self, weight: Weight) {
        if self.weight != weight {
            self.out.extend_from_slice(match weight {
                Weight::Plain => b"\x1b[0m",
                Weight::Bold => b"\x1b[0;1m",
                Weight::Reverse => b"\x1b[0;7m",
            });
            self.weight = weight;
        }
    }

    fn write(&mut self, cell: Cell) {
        self.set(cell.weight);
        self.out.push(cell.character);
        self.column += 1;
    }

    /// Leaves the cursor where it disturbs least.
    fn park(&mut self, height: usize) {
        self.out.extend_from_slice(format!("\x1b[{height};1H").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that knows as much as a VT100 needs here.
    struct Vt100 {
        cells: Vec<Vec<u8>>,
        row: usize,
        column: usize,
    }

    impl Vt100 {
        fn new(width: usize, height: usize) -> Self {
            Self { cells: vec![vec![b'#'; width]; height], row: 0, column: 0 }
        }

        fn feed(&mut self, bytes: &[u8]) {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let mut rest = text.as_str();
            while let Some(first) = rest.chars().next() {
                if let Some(sequence) = rest.strip_prefix("\x1b[") {
                    let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (arguments, tail) = sequence.split_at(end);
                    match &tail[..1] {
                        "H" => {
                            let (row, column) = arguments.split_once(';').unwrap();
                            self.row = row.parse::<usize>().unwrap() - 1;
                            self.column = column.parse::<usize>().unwrap() - 1;
                        }
                        "J" => self.cells.iter_mut().for_each(|row| row.fill(b' ')),
                        "m" => {}
                        other => panic!("no VT100 sequence of ours: {other}"),
                    }
                    rest = &tail[1..];
                } else {
                    self.cells[self.row][self.column] = u8::try_from(first).unwrap();
                    self.column += 1;
                    rest = &rest[1..];
                }
            }
        }

        fn text(&self) -> String {
            self.cells.iter().map(|row| String::from_utf8_lossy(row).trim_end().to_owned() + "\n").collect()
        }
    }

    #[test]
    fn the_terminal_shows_every_picture_of_a_random_series() {
        proptest::proptest!(|(pictures in proptest::collection::vec(
            proptest::collection::vec((0..7_usize, 0..45_usize, "[a-z ]{0,20}", 0..3_u8), 0..8), 1..6))| {
            let (mut screen, mut terminal) = (Screen::new(40, 6), Vt100::new(40, 6));
            for picture in pictures {
                screen.clear();
                for (row, column, text, weight) in picture {
                    let weight = [Weight::Plain, Weight::Bold, Weight::Reverse][usize::from(weight)];
                    screen.put(row, column, &text, weight);
                }
                // The corner is never written.
                screen.put(5, 39, " ", Weight::Plain);
                terminal.feed(&screen.update());
                proptest::prop_assert_eq!(terminal.text(), screen.text());
                proptest::prop_assert!(screen.update().is_empty());
            }
        });
    }

    #[test]
    fn a_small_change_costs_few_bytes() {
        let mut screen = Screen::new(80, 24);
        screen.put(3, 10, "heard 412 ms ago", Weight::Plain);
        screen.update();
        screen.clear();
        screen.put(3, 10, "heard 419 ms ago", Weight::Plain);
        assert_eq!(screen.update(), b"\x1b[4;19H9\x1b[24;1H");
    }

    #[test]
    fn what_lies_outside_or_is_no_ascii_does_no_harm() {
        let mut screen = Screen::new(5, 2);
        screen.put(0, 3, "abcdef", Weight::Plain);
        screen.put(7, 0, "x", Weight::Plain);
        screen.put(1, 9, "x", Weight::Plain);
        screen.put(1, 0, "\u{e4}\x1b[", Weight::Plain);
        assert_eq!(screen.text(), "   ab\n??[\n");
        assert_eq!(Screen::new(0, 9_999).height(), SIZE_LIMIT.1);
    }
}
