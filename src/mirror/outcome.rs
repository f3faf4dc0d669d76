//! What a cycle that somebody asked for achieved, in figures: for programs as it is, for people made into sentences.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::name;
use super::scan::{Change, Changes};

/// Names that are told; all of them are counted.
const FIRST: usize = 100;
/// Bytes of names that are told: a line of the daemon's must hold them.
const FIRST_BYTES: usize = 64 << 10;

/// What the cycle of one tree achieved, as the operator's programs read it (`mirror sync --json`). Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeOutcome {
    /// Its path.
    pub tree: PathBuf,
    /// Names in the cut that are no directories.
    pub files: u64,
    /// Names in the cut, directories among them.
    pub names: u64,
    /// Content that was read on this box.
    pub bytes_read: u64,
    /// What was put on the link, headers included.
    pub bytes_sent: u64,
    /// Chunks whose content was sent, whole or in part.
    pub chunks_sent: u64,
    /// Names that were sent.
    pub names_sent: u64,
    /// Names that were deleted from the copy.
    pub names_deleted: u64,
    /// Names that would not hold still and keep their former version in the copy.
    pub unsettled: u64,
    /// Names that somebody other than the mirror had changed in the copy.
    pub changed_in_copy: u64,
    /// How the changes were found.
    pub found_by: FoundBy,
    /// How long it took, in microseconds.
    pub elapsed_us: u64,
    /// What was or would be deleted. The mirror tells it beforehand, so whoever listens puts it here.
    pub deletions: Option<Deletions>,
    /// What the comparison found, if one was asked for.
    pub verdict: Option<Verdict>,
}

/// How changes are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundBy {
    /// The kernel's events told them.
    Events,
    /// The tree was read.
    #[default]
    Scan,
}

/// What a comparison of both sides found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Files that were read on both sides.
    pub files_compared: u64,
    /// Their content, in bytes.
    pub bytes_compared: u64,
    /// Names that differed although nothing had changed on this box since the last cut.
    pub different: u64,
    /// All of these are equal now.
    pub healed: bool,
    /// Of these, names that still differ: they would not hold still.
    pub unhealed: u64,
    /// Names that this box has changed since the last cut: sent as in every cycle.
    pub changed_since: u64,
    /// The first names that differed.
    pub differences: Vec<Difference>,
}

/// A name that differed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Below the tree, for the operator's eyes.
    pub path: String,
    /// In what.
    pub what: What,
}

/// In what a name differed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It was missing in the copy.
    Missing,
    /// It was in the copy only.
    Extra,
    /// The copy had another content, another type or another target.
    Content,
    /// The copy had another owner, mode, time or attribute.
    Metadata,
    /// It changed on this box, and its time stamps do not say so: its disk or its memory may be failing.
    ChangedHere,
}

impl What {
    /// The word in JSON and in lists.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            What::Missing => "missing",
            What::Extra => "extra",
            What::Content => "content",
            What::Metadata => "metadata",
            What::ChangedHere => "changed-here",
        }
    }
}

impl Verdict {
    /// Notes a name that differed.
    pub fn add(&mut self, key: &[u8], what: What) {
        self.different += 1;
        let told: usize = self.differences.iter().map(|difference| difference.path.len()).sum();
        let path = name::shown(key);
        if self.differences.len() < FIRST && told + path.len() <= FIRST_BYTES {
            self.differences.push(Difference { path, what });
        }
    }
}

/// What a cycle deletes from the copy, or would delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletions {
    /// The tree's path.
    pub tree: PathBuf,
    /// They are deleted now; else they wait for the operator's word.
    pub confirmed: bool,
    /// So many names.
    pub count: u64,
    /// Of so many names in the copy.
    pub of: u64,
    /// The first of them.
    pub first: Vec<String>,
    /// Where all of them stand, one on a line.
    pub file: PathBuf,
}

impl Deletions {
    /// Of these changes; all of them are written to `file`.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn list(changes: &mut Changes, file: &Path) -> io::Result<Self> {
        let mut to = BufWriter::new(File::create(file)?);
        let mut deletions = Deletions { file: file.to_path_buf(), ..Deletions::default() };
        let mut told = 0;
        changes.each(|change, key| {
            if change == Change::Gone {
                deletions.count += 1;
                let path = name::shown(key);
                writeln!(to, "{path}")?;
                told += path.len();
                if deletions.first.len() < FIRST && told <= FIRST_BYTES {
                    deletions.first.push(path);
                }
            }
            Ok(())
        })?;
        to.flush()?;
        Ok(deletions)
    }
}
