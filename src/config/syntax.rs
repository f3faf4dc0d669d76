//! What a syntax error is about: its line and key, the text as it stands, what to write instead, and how much of the file it
//! makes unreadable.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// Longest piece of the file that is shown.
const SHOWN: usize = 60;

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
    /// Lines of the sections in which nothing else can be judged: what seems to be wrong there may follow from this.
    pub sections: RangeInclusive<usize>,
}

impl Broken {
    pub(super) fn new(text: &str, tree: &DeTable<'_>, error: &Error) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let line_of = |offset: usize| {
            let offset = offset.min(text.len());
            1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
        };
        let at = error.span().map_or(0, |span| span.start);
        let last = line_of(at).min(lines.len().max(1));
        let first = value_around(tree, at).map_or(last, line_of).min(last);
        // What never ends is noticed at the end of the file or of the section, and is to be seen where it begins.
        let unended = text.get(at..).is_none_or(|rest| rest.trim().is_empty())
            || lines.get(last - 1).is_some_and(|line| is_header(line));
        let line = if unended { first } else { last };
        let header = (1..=first).rev().find(|line| is_header(lines.get(line - 1).unwrap_or(&"")));
        let next = (last + 1..=lines.len()).find(|line| is_header(lines[line - 1]));
        let message = error.message().replace('\n', ", ");
        let remedy = REMEDIES.iter().find(|(words, _)| message.contains(words)).map(|(_, remedy)| *remedy);
        let shown = lines.get(line - 1).map_or("", |line| line.trim());
        let shown: String = if shown.chars().count() > SHOWN {
            shown.chars().take(SHOWN).chain("...".chars()).collect()
        } else {
            shown.to_owned()
        };
        Broken {
            line,
            key: key(&lines, header, first),
            what: format!("`{shown}` is not TOML: {message}"),
            allowed: remedy.map_or_else(|| "see https://toml.io/en/v1.0.0".to_owned(), str::to_owned),
            sections: header.unwrap_or(1)..=next.map_or(usize::MAX, |next| next - 1),
        }
    }
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

/// The line begins a section. One of a list that goes over several lines begins with a quote.
fn is_header(line: &str) -> bool {
    let line = line.trim_start();
    let name = line.strip_prefix("[[").or_else(|| line.strip_prefix('['));
    name.is_some_and(|name| name.trim_start().starts_with(is_bare))
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// The full name of the key on a line, as far as it can be read; of the section where there is none.
fn key(lines: &[&str], header: Option<usize>, line: usize) -> String {
    let bare = |text: &str| -> String { text.trim_start().chars().take_while(|c| is_bare(*c) || *c == '.').collect() };
    let name = |line: &str| bare(line.trim_start().trim_start_matches('['));
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
