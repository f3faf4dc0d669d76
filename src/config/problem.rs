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
}

/// `FILE:LINE: KEY: what is wrong; what is allowed`
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.file)?;
        if self.line > 0 {
            write!(out, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(out, " {}:", self.key)?;
        }
        write!(out, " {}", self.what)?;
        if !self.allowed.is_empty() {
            write!(out, "; {}", self.allowed)?;
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
    fn a_slip_finds_its_key_and_a_stranger_none() {
        let keys = ["heartbeat", "lease", "witness", "witness-idle"];
        assert_eq!(nearest("heartbaet", keys), Some("heartbeat"));
        assert_eq!(nearest("leas", keys), Some("lease"));
        assert_eq!(nearest("witness_idle", keys), Some("witness-idle"));
        assert_eq!(nearest("colour", keys), None);
    }
}
