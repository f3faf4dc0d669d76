//! A walk through a parsed TOML file that collects every problem instead of stopping at the first.
//!
//! Serde's way, from text to struct, ends at the first error. Here the file becomes a tree with spans, each section is
//! read key by key against its row in [`super::keys`], and what is wrong is written down with its line. What may only follow
//! from a syntax error is not told: that a key on such a line is missing, or that what it says does not fit.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::problem::{Problem, nearest};
use super::syntax::Readable;
use super::value;

/// One file, what can be read of it, and what was found wrong with it so far.
pub(super) struct Source<'i> {
    file: &'i str,
    readable: &'i Readable,
    problems: RefCell<Vec<Problem>>,
    /// This file has a syntax error, or the other one on which it rests: what seems not to fit is perhaps only unread.
    unsure: Cell<bool>,
}

impl<'i> Source<'i> {
    /// The tree of what can be read; syntax errors are the first problems.
    pub(super) fn parse(file: &'i str, readable: &'i Readable) -> (Self, Spanned<DeTable<'i>>) {
        let (tree, _) = DeTable::parse_recoverable(&readable.text);
        let problems = readable.errors.iter().map(|broken| Problem {
            file: file.to_owned(),
            line: broken.line,
            key: broken.key.clone(),
            what: broken.what.clone(),
            allowed: broken.allowed.clone(),
            stands_for: 1,
        });
        let untold = readable.untold.map(|(line, count)| Problem {
            file: file.to_owned(),
            line,
            key: String::new(),
            what: format!("and {count} more from here on"),
            allowed: "they are told when those above are right".to_owned(),
            stands_for: count,
        });
        let problems = problems.chain(untold);
        let unsure = readable.is_hopeless || !readable.errors.is_empty();
        (Self { file, readable, problems: RefCell::new(problems.collect()), unsure: Cell::new(unsure) }, tree)
    }

    /// What is judged by the other file is not judged while that cannot be read whole.
    pub(super) fn rests_on(&self, other: &Source<'_>) {
        self.unsure.set(self.unsure.get() || other.unsure.get());
    }

    /// All problems, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }

    /// Writes a problem down.
    pub(super) fn add(&self, line: usize, key: &str, what: impl Into<String>, allowed: impl Into<String>) {
        if self.readable.is_hopeless {
            return;
        }
        self.problems.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            line,
            key: key.to_owned(),
            what: what.into(),
            allowed: allowed.into(),
            stands_for: 1,
        });
    }

    /// The line of a byte offset, from 1.
    fn line(&self, offset: usize) -> usize {
        let text = &self.readable.text;
        1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// One table of the file.
pub(super) struct Section<'s, 'i> {
    source: &'s Source<'i>,
    table: &'s DeTable<'i>,
    /// `address[2]`; empty at the top.
    path: String,
    /// The line of its header.
    line: usize,
    keys: &'static [keys::Key],
}

impl<'s, 'i> Section<'s, 'i> {
    /// The top of the file: keys of its own, and the names of the sections that may follow.
    pub(super) fn top(
        source: &'s Source<'i>,
        tree: &'s Spanned<DeTable<'i>>,
        keys: &'static [keys::Key],
        sections: &[&'static str],
    ) -> Self {
        let section = Self { source, table: tree.get_ref(), path: String::new(), line: 1, keys };
        section.refuse_unknown(sections);
        section
    }

    /// The line of a key, or of the section when it is absent.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.line, |value| self.source.line(value.span().start))
    }

    /// The key was written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The key may have been written, on a line with a syntax error.
    pub(super) fn is_unread(&self, key: &str) -> bool {
        !self.has(key) && self.source.readable.may_hold(&self.full(key))
    }

    /// Names of all keys that were written.
    pub(super) fn names(&self) -> Vec<String> {
        self.table.keys().map(|key| key.get_ref().to_string()).collect()
    }

    /// The full name of a key.
    pub(super) fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Writes a problem with a key down; what is allowed comes from its row.
    pub(super) fn wrong(&self, key: &str, what: impl Into<String>) {
        self.source.add(self.line_of(key), &self.full(key), what, self.allowed(key));
    }

    /// Writes a problem down whose remedy is no matter of this key's row alone.
    pub(super) fn refuse(&self, key: &str, what: impl Into<String>, allowed: impl Into<String>) {
        self.source.add(self.line_of(key), &self.full(key), what, allowed);
    }

    /// Writes down that a key is missing.
    pub(super) fn missing(&self, key: &str) {
        self.missing_of(key, self.allowed(key));
    }

    /// Writes down that a key is missing whose row, if it has any, does not say what is allowed.
    pub(super) fn missing_of(&self, key: &str, allowed: impl Into<String>) {
        if !self.has(key) && !self.is_unread(key) {
            self.refuse(key, "is missing", allowed);
        }
    }

    /// What seems not to fit may only be unread.
    pub(super) fn is_unsure(&self) -> bool {
        self.source.unsure.get()
    }

    fn allowed(&self, key: &str) -> String {
        // `[node.a]` has one row for all of its keys.
        let row = self
            .keys
            .iter()
            .find(|row| row.name == key)
            .or_else(|| self.keys.iter().find(|row| row.name == "INTERFACE"));
        match row {
            Some(row) => format!("allowed: {}", row.allowed),
            None if self.path.is_empty() => format!("allowed: a section [{key}]"),
            None => String::new(),
        }
    }

    fn refuse_unknown(&self, sections: &[&'static str]) {
        let known = || self.keys.iter().map(|row| row.name).chain(sections.iter().copied());
        if known().any(|name| name == "INTERFACE") {
            return;
        }
        for key in self.table.keys() {
            let (name, line) = (key.get_ref().as_ref(), self.source.line(key.span().start));
            if known().all(|known| known != name) {
                // Rather one that is not there yet: beside [node.a], a [node.c] is meant to be b.
                let free = nearest(name, known().filter(|known| !self.has(known)));
                let allowed = free.or_else(|| nearest(name, known())).map_or_else(
                    || format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                self.source.add(line, &self.full(name), "is unknown", allowed);
            }
        }
    }

    /// The value of a key through `parse`, whose error says what is wrong.
    pub(super) fn value<T>(&self, key: &str, parse: impl FnOnce(&DeValue<'i>) -> Result<T, String>) -> Option<T> {
        match parse(self.table.get(key)?.get_ref()) {
            Ok(value) => Some(value),
            Err(what) => {
                self.wrong(key, what);
                None
            }
        }
    }

    /// A string through `parse`.
    pub(super) fn text<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.value(key, |value| parse(string(value)?))
    }

    /// A string through `parse` that must be there.
    pub(super) fn required<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.missing(key);
        self.text(key, parse)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.text(key, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                match nearest(text, words.iter().map(|(word, _)| *word)) {
                    Some(near) => format!("\"{text}\" is unknown, did you mean \"{near}\"?"),
                    None => format!("\"{text}\" is unknown"),
                }
            })
        })
    }

    /// A duration within its range.
    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.text(key, |text| {
            let duration = value::duration(text)?;
            if range.contains(&duration) { Ok(duration) } else { Err(format!("\"{text}\" is out of range")) }
        })
    }

    /// A duration within its range, of whole seconds.
    pub(super) fn seconds(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.duration(key, range)?;
        if duration.subsec_nanos() == 0 {
            return Some(duration);
        }
        self.wrong(key, "the kernel counts it in whole seconds");
        None
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.value(key, |value| value.as_bool().ok_or_else(|| unexpected(value)))
    }

    /// A list of at most `limit` values through `parse`.
    pub(super) fn list<T>(&self, key: &str, limit: usize, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        self.value(key, |value| {
            let array = value.as_array().ok_or_else(|| unexpected(value))?;
            if array.len() > limit {
                return Err(format!("has {} entries, at most {limit}", array.len()));
            }
            array.iter().map(|item| parse(string(item.get_ref())?)).collect()
        })
    }

    /// One string, or a list of at most `limit`, through `parse`.
    pub(super) fn one_or_more<T>(
        &self,
        key: &str,
        limit: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        if self.table.get(key)?.get_ref().is_str() {
            return self.text(key, parse).map(|one| vec![one]);
        }
        self.list(key, limit, parse)
    }

    /// As [`Section::one_or_more`], where a whole number stands for its digits.
    pub(super) fn numbers_or_texts<T>(
        &self,
        key: &str,
        limit: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let one = |value: &DeValue<'_>| match value.as_integer() {
            Some(_) => parse(&integer(value)?.to_string()),
            None => parse(string(value)?),
        };
        self.value(key, |value| match value.as_array() {
            Some(array) if array.len() > limit => Err(format!("has {} entries, at most {limit}", array.len())),
            Some(array) => array.iter().map(|item| one(item.get_ref())).collect(),
            None => one(value).map(|one| vec![one]),
        })
    }

    /// A table below this one.
    pub(super) fn child(&self, name: &str, keys: &'static [keys::Key]) -> Option<Section<'s, 'i>> {
        let value = self.table.get(name)?;
        match value.get_ref() {
            DeValue::Table(table) => {
                Some(self.enter(table, self.full(name), self.source.line(value.span().start), keys))
            }
            other => {
                self.refuse(name, unexpected(other), format!("allowed: a section [{}]", self.full(name)));
                None
            }
        }
    }

    /// An array of tables below this one, at most `limit` of them.
    pub(super) fn children(&self, name: &str, limit: usize, keys: &'static [keys::Key]) -> Vec<Section<'s, 'i>> {
        let Some(value) = self.table.get(name) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.refuse(name, unexpected(value.get_ref()), format!("allowed: entries [[{name}]]"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let (path, line) = (format!("{name}[{}]", index + 1), self.source.line(item.span().start));
            match item.get_ref() {
                _ if index == limit => {
                    self.source.add(line, &path, "is one too many", format!("allowed: at most {limit}"));
                }
                _ if index > limit => {}
                DeValue::Table(table) => sections.push(self.enter(table, path, line, keys)),
                other => self.source.add(line, &path, unexpected(other), format!("allowed: an entry [[{name}]]")),
            }
        }
        sections
    }

    fn enter(&self, table: &'s DeTable<'i>, path: String, line: usize, keys: &'static [keys::Key]) -> Section<'s, 'i> {
        let section = Section { source: self.source, table, path, line, keys };
        section.refuse_unknown(&[]);
        section
    }
}

/// The text of a value.
pub(super) fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| unexpected(value))
}

/// A whole number, not negative.
pub(super) fn integer(value: &DeValue<'_>) -> Result<u64, String> {
    let number = value.as_integer().ok_or_else(|| unexpected(value))?;
    u64::from_str_radix(number.as_str(), number.radix()).map_err(|_| format!("{} is out of range", number.as_str()))
}

fn unexpected(value: &DeValue<'_>) -> String {
    format!("is of the wrong kind ({})", value.type_str())
}
