//! Telling what was wrong from what has merely changed, while both sides are compared: a name that this box has changed
//! since the last cut differs as in every cycle, and that is no finding.

use std::io;

use super::entry::{Entry, Kind};
use super::index::{Lookup, Reader};
use super::outcome::{Verdict, What};
use super::tree;
use nix::sys::stat::FileStat;

/// Knows the last cut as it was before the standby said what it really has.
pub(super) struct Judge {
    cut: Reader,
    verdict: Verdict,
}

/// The entries of one name.
pub(super) struct Versions<'a> {
    /// In the copy as it is.
    pub(super) copy: Option<&'a Entry>,
    /// On this box; `None`: it is not there, or its content is not known.
    pub(super) here: Option<&'a Entry>,
}

impl Judge {
    pub(super) fn new(cut: Reader) -> Self {
        Judge { cut, verdict: Verdict::default() }
    }

    /// What was found, after the last name.
    pub(super) fn verdict(self) -> Verdict {
        Verdict { healed: self.verdict.unhealed == 0, ..self.verdict }
    }

    /// A name has been read here and is the same on both sides from now on.
    ///
    /// # Errors
    ///
    /// What the index says.
    pub(super) fn compared(&mut self, key: &[u8], versions: &Versions<'_>, stat: Option<&FileStat>) -> io::Result<()> {
        if let Some(Entry { kind: Kind::File { size, .. }, .. }) = versions.here {
            self.verdict.files_compared += 1;
            self.verdict.bytes_compared += size;
        }
        if versions.copy == versions.here {
            return Ok(());
        }
        let cut = self.cut.row(key)?;
        if versions.copy != cut.as_ref().map(|row| &row.entry) {
            self.verdict.add(key, what(versions));
            return Ok(());
        }
        // The copy is what it should be: the difference has come about here.
        let silent = cut.zip(stat).is_some_and(|(row, stat)| tree::is_unchanged(stat, &row.entry, row.local));
        if silent {
            self.verdict.add(key, What::ChangedHere);
        } else {
            self.verdict.changed_since += 1;
        }
        Ok(())
    }

    /// A name would not hold still here: what the copy has stays.
    ///
    /// # Errors
    ///
    /// What the index says.
    pub(super) fn unsettled(&mut self, key: &[u8], copy: Option<&Entry>) -> io::Result<()> {
        let cut = self.cut.row(key)?;
        if copy != cut.as_ref().map(|row| &row.entry) {
            self.verdict.add(key, if copy.is_none() { What::Missing } else { What::Content });
            self.verdict.unhealed += 1;
        }
        Ok(())
    }
}

fn what(versions: &Versions<'_>) -> What {
    match (versions.copy, versions.here) {
        (None, _) => What::Missing,
        (_, None) => What::Extra,
        (Some(copy), Some(here)) if copy.kind != here.kind => What::Content,
        _ => What::Metadata,
    }
}
