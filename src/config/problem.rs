//! What is wrong with a file, and where.

use std::fmt;

/// One error in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as it was named.
    pub file: String,
    /// The line, counted from 1; 0 when the whole file is meant.
    pub line: usize,
    /// The key with its section, `pair.name` or `address[2].ip`, entries counted from 1.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub allowed: String,
    /// How many errors are told by it.
    pub stands_for: usize,
}

/// Text of the file in our own line: what would break the line or steer a terminal is written as Rust writes it.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(out, "{}", c.escape_default()) } else { write!(out, "{c}") })
    }
}

/// `FILE:LINE: KEY: what is wrong; what is allowed`
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.file)?;
        if self.line > 0 {
            write!(out, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(out, " {}:", Printable(&self.key))?;
        }
        write!(out, " {}", Printable(&self.what))?;
        if !self.allowed.is_empty() {
            write!(out, "; {}", Printable(&self.allowed))?;
        }
        Ok(())
    }
}

/// The member of `known` that somebody who typed `word` probably meant.
///
/// A typing error is up to two slips, or one for three letters: beyond that a suggestion would be a guess.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_the_file_holds() {
        let problem = Problem {
            file: "site.toml".into(),
            line: 2,
            key: "pair.na\nme".into(),
            what: "\"a\nb\u{1b}[2J\" is no name".into(),
            allowed: String::new(),
            stands_for: 1,
        };
        assert_eq!(problem.to_string(), "site.toml:2: pair.na\\nme: \"a\\nb\\u{1b}[2J\" is no name");
    }

    #[test]
    fn a_slip_finds_its_key_and_a_stranger_none() {
        let keys = ["heartbeat", "lease", "witness", "witness-idle"];
        assert_eq!(nearest("heartbaet", keys), Some("heartbeat"));
        assert_eq!(nearest("leas", keys), Some("lease"));
        assert_eq!(nearest("witness_idle", keys), Some("witness-idle"));
        assert_eq!(nearest("colour", keys), None);
    }
}
