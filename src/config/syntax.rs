//! A file with its syntax errors told and taken out, so that the rest of it can be judged.
//!
//! The parser goes on after an error, but not always where the next line begins, and what it then finds may only follow from
//! that error. So one error is taken at a time, the first: it is told, the lines of its statement are emptied (or, of a
//! section's header, put right), and the text is parsed anew. Lines keep their numbers.

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// Longest piece of the file that is shown.
const SHOWN: usize = 60;

/// So many errors are told. A file with more of them is no configuration, and each costs a pass over it.
const ERRORS: usize = 32;

/// An address or a name that lacks them is a number, a date or a word to the parser.
const QUOTES: &str = "write text in double quotes: KEY = \"TEXT\"";

/// What the parser's words mean for whoever wrote the file; the first that fits.
const REMEDIES: &[(&str, &str)] = &[
    ("duplicate key", "write it once"),
    ("must be quoted", QUOTES),
    ("float", QUOTES),
    ("integer", QUOTES),
    ("number", QUOTES),
    ("date", QUOTES),
    ("time", QUOTES),
    ("multi-line", "end it with the three quotes that it began with"),
    ("basic string", "write text within one pair of double quotes, on one line; a \\ in it as \\\\"),
    ("literal string", "write text within one pair of quotes, on one line"),
    ("escaped value", "write a \\ in text as \\\\"),
    ("escape", "write a \\ in text as \\\\"),
    ("array table", "write [[SECTION]] on a line of its own"),
    ("unclosed table", "write [SECTION] on a line of its own"),
    ("array", "write a list as [\"ONE\", \"TWO\"], with a comma between two and a ] at the end"),
    ("key", "write KEY = VALUE"),
];

/// One syntax error.
pub(super) struct Broken {
    /// Where it stands, from 1.
    pub line: usize,
    /// The key with its section, or the section.
    pub key: String,
    /// The text and what is wrong with it.
    pub what: String,
    /// What to write.
    pub allowed: String,
    /// A whole section was taken out: what seems to be missing was perhaps meant to be in it.
    pub is_section: bool,
}

/// What is left of a text without its syntax errors.
pub(super) struct Readable {
    /// Line by line what was written, but for the lines with errors.
    pub text: String,
    /// What was wrong, in the order of the file.
    pub errors: Vec<Broken>,
    /// Where the errors begin that are not told one by one, and how many the parser finds there.
    pub untold: Option<(usize, usize)>,
    /// Nothing that seems to be wrong with the rest can be relied on.
    pub is_hopeless: bool,
}

impl Readable {
    /// Takes the errors out of a text.
    pub(super) fn new(written: &str) -> Self {
        let written_lines: Vec<&str> = written.lines().collect();
        let mut readable = Self { text: written.to_owned(), errors: Vec::new(), untold: None, is_hopeless: false };
        loop {
            let (tree, found) = DeTable::parse_recoverable(&readable.text);
            let Some(error) = found.first() else { break };
            let place = Place::of(&written_lines, &readable.text, tree.get_ref(), error);
            if readable.errors.len() == ERRORS {
                readable.untold = Some((place.line, found.len()));
                readable.is_hopeless = true;
                break;
            }
            let mut broken = place.told(&written_lines, error);
            let Some((rest, is_section)) = place.without(&written_lines, &readable.text, error) else {
                readable.errors.push(broken);
                readable.is_hopeless = true;
                break;
            };
            broken.is_section = is_section;
            readable.errors.push(broken);
            readable.text = rest;
        }
        readable.errors.sort_by_key(|broken| broken.line);
        readable
    }

    /// Of a file that cannot be read: nothing is known of it.
    pub(super) fn unread() -> Self {
        Self { text: String::new(), errors: Vec::new(), untold: None, is_hopeless: true }
    }

    /// Whether a key that is not there may be written all the same, on a line with an error. `key` with its section.
    pub(super) fn may_hold(&self, key: &str) -> bool {
        let within =
            |section: &str| section.is_empty() || key.strip_prefix(section).is_some_and(|k| k.starts_with('.'));
        self.is_hopeless
            || self.errors.iter().any(|broken| broken.is_section || broken.key == key || within(&broken.key))
    }
}

/// Where a syntax error stands; lines from 1.
struct Place {
    /// The first line of the statement that it is in.
    first: usize,
    /// The line that is told.
    line: usize,
    /// The header of its section.
    header: Option<usize>,
}

impl Place {
    fn of(lines: &[&str], text: &str, tree: &DeTable<'_>, error: &Error) -> Self {
        let line_of = |offset: usize| {
            let offset = offset.min(text.len());
            1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
        };
        let at = error.span().map_or(0, |span| span.start);
        let last = line_of(at).min(lines.len().max(1));
        let first = value_around(tree, at).map_or(last, line_of).min(last);
        // What never ends is noticed where the next thing begins, or at the end of the file, and is to be seen where it begins.
        let noticed = lines.get(last - 1).copied().unwrap_or_default();
        let unended = text.get(at..).is_none_or(|rest| rest.trim().is_empty()) || begins_statement(noticed);
        let header = (1..=first).rev().find(|line| is_header(lines.get(line - 1).unwrap_or(&"")));
        Place { first, line: if unended { first } else { last }, header }
    }

    /// The error as it is told.
    fn told(&self, lines: &[&str], error: &Error) -> Broken {
        let message = error.message().replace('\n', ", ");
        let remedy = REMEDIES.iter().find(|(words, _)| message.contains(words)).map(|(_, remedy)| *remedy);
        let shown = lines.get(self.line - 1).map_or("", |line| line.trim());
        let shown: String = if shown.chars().count() > SHOWN {
            shown.chars().take(SHOWN).chain("...".chars()).collect()
        } else {
            shown.to_owned()
        };
        Broken {
            line: self.line,
            key: key(lines, self.header, self.first),
            what: format!("`{shown}` is not TOML: {message}"),
            allowed: remedy.map_or_else(|| "see https://toml.io/en/v1.0.0".to_owned(), str::to_owned),
            is_section: false,
        }
    }

    /// The text without what is wrong, and whether that is a whole section; `None` when it cannot be found.
    fn without(&self, written: &[&str], text: &str, error: &Error) -> Option<(String, bool)> {
        let mut lines: Vec<&str> = text.lines().collect();
        let (repaired, mut is_section) = (written.get(self.first - 1).and_then(|line| header(line)), false);
        if self.header == Some(self.first) {
            match &repaired {
                Some(header) if lines[self.first - 1] != header && !error.message().contains("duplicate key") => {
                    lines[self.first - 1] = header;
                }
                // A second section of the same name, or none that can be read: what belongs to it is nobody's.
                _ => {
                    empty(&mut lines, self.first, section_end(written, self.first))?;
                    is_section = true;
                }
            }
        } else if empty(&mut lines, self.first, statement_end(written, self.first).max(self.line)).is_none() {
            // It is not where it seems to be.
            let begin = self.header.map_or(1, |header| header + 1);
            empty(&mut lines, begin, section_end(written, begin - 1))?;
            is_section = true;
        }
        Some((lines.iter().flat_map(|line| [line, "\n"]).collect(), is_section))
    }
}

/// Empties lines; `None` if they are so already.
fn empty(lines: &mut [&str], first: usize, last: usize) -> Option<()> {
    let mut changed = None;
    for line in lines.iter_mut().take(last).skip(first - 1).filter(|line| !line.is_empty()) {
        *line = "";
        changed = Some(());
    }
    changed
}

/// The last line before the next header.
fn section_end(lines: &[&str], header: usize) -> usize {
    (header + 1..=lines.len()).find(|line| is_header(lines[line - 1])).map_or(lines.len(), |next| next - 1)
}

/// The last line of the statement that begins on a line: a list or a text of several lines goes on to where it ends, or, where
/// it does not, to where the next statement begins.
fn statement_end(lines: &[&str], first: usize) -> usize {
    let Some((_, value)) = lines.get(first - 1).and_then(|line| line.split_once('=')) else { return first };
    let value = value.trim();
    let Some((open, close)) = [("\"\"\"", "\"\"\""), ("'''", "'''"), ("[", "]"), ("{", "}")]
        .into_iter()
        .find(|(open, _)| value.starts_with(open))
    else {
        return first;
    };
    if value[open.len()..].contains(close) {
        return first;
    }
    let mut last = first;
    for line in &lines[first..] {
        if begins_statement(line) {
            break;
        }
        last += 1;
        if line.contains(close) {
            break;
        }
    }
    last
}

/// The beginning of the outermost value, no table, around a place.
fn value_around(table: &DeTable<'_>, at: usize) -> Option<usize> {
    table.values().find_map(|value| begin_around(value, at))
}

fn begin_around(value: &Spanned<DeValue<'_>>, at: usize) -> Option<usize> {
    let span = value.span();
    match value.get_ref() {
        DeValue::Table(table) => value_around(table, at),
        DeValue::Array(array) if array.iter().any(|item| item.get_ref().is_table()) => {
            array.iter().find_map(|item| begin_around(item, at))
        }
        _ => (span.start <= at && at <= span.end).then_some(span.start),
    }
}

/// A header, or a key with its sign.
fn begins_statement(line: &str) -> bool {
    let key = line.split_once('=').map(|(key, _)| key.trim());
    is_header(line) || key.is_some_and(|key| !key.is_empty() && key.chars().all(|c| is_bare(c) || c == '.'))
}

/// The line begins a section. One of a list that goes over several lines begins with a quote.
fn is_header(line: &str) -> bool {
    let line = line.trim_start();
    let name = line.strip_prefix("[[").or_else(|| line.strip_prefix('['));
    name.is_some_and(|name| name.trim_start().starts_with(is_bare))
}

/// A header as it should be written.
fn header(line: &str) -> Option<String> {
    let name = name(line);
    let parts = name.split('.').all(|part| !part.is_empty());
    parts.then(|| if line.trim_start().starts_with("[[") { format!("[[{name}]]") } else { format!("[{name}]") })
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// What stands at the beginning of a text, as far as it can be a key.
fn bare(text: &str) -> String {
    text.trim_start().chars().take_while(|c| is_bare(*c) || *c == '.').collect()
}

/// The name in a header.
fn name(line: &str) -> String {
    bare(line.trim_start().trim_start_matches('['))
}

/// The full name of the key on a line, as far as it can be read; of the section where there is none.
fn key(lines: &[&str], header: Option<usize>, line: usize) -> String {
    let section = header.map(|header| {
        let (written, name_of) = (lines[header - 1].trim_start(), name(lines[header - 1]));
        if !written.starts_with("[[") {
            return name_of;
        }
        let number = lines[..header].iter().filter(|line| is_header(line) && name(line) == name_of).count();
        format!("{name_of}[{number}]")
    });
    let own = if header == Some(line) { String::new() } else { bare(lines.get(line - 1).unwrap_or(&"")) };
    [section.unwrap_or_default(), own].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
}
