//! What `mirror sync` and `mirror verify` achieved, of all trees together, and what a person reads of it.

use serde::{Deserialize, Serialize};

use super::report::bytes;
pub use crate::mirror::outcome::{Deletions, Difference, FoundBy, TreeOutcome, Verdict, What};

/// Names that a person is shown; a program gets all that were told.
const SHOWN: usize = 20;

impl Deletions {
    /// For a person.
    #[must_use]
    pub fn text(&self) -> String {
        let verb = if self.confirmed { "are deleted from the copy now" } else { "would be deleted from the copy" };
        let mut text = format!("{}: {} of {} names {verb}:", self.tree.display(), self.count, self.of);
        self.first.iter().take(SHOWN).for_each(|path| text.push_str(&format!("\n  {path}")));
        if self.count > SHOWN as u64 {
            text.push_str(&format!(
                "\n  and {} more; all of them stand in {}",
                self.count - SHOWN as u64,
                self.file.display()
            ));
        }
        text
    }
}

impl TreeOutcome {
    /// For a person.
    #[must_use]
    pub fn text(&self) -> String {
        let Some(verdict) = &self.verdict else {
            return format!(
                "{}: {} files; {} names sent, {} deleted; {} read, {} sent in {} chunks, {}",
                self.tree.display(),
                self.files,
                self.names_sent,
                self.names_deleted,
                bytes(self.bytes_read),
                bytes(self.bytes_sent),
                self.chunks_sent,
                seconds(self.elapsed_us),
            );
        };
        let found = match (verdict.different, verdict.healed) {
            (0, _) => "equal".to_owned(),
            (1, true) => "1 name differed, healed".to_owned(),
            (count, true) => format!("{count} names differed, healed"),
            (count, false) => format!("{count} names differed, {} of them NOT HEALED", verdict.unhealed),
        };
        let mut text = format!(
            "{}: {} files, {} compared: {found}; {}",
            self.tree.display(),
            verdict.files_compared,
            bytes(verdict.bytes_compared),
            seconds(self.elapsed_us),
        );
        if verdict.changed_since > 0 {
            text.push_str(&format!("; {} names had changed here since the last cut", verdict.changed_since));
        }
        for difference in verdict.differences.iter().take(SHOWN) {
            text.push_str(&format!("\n  {:<12}  {}", difference.what.word(), difference.path));
        }
        if verdict.different > SHOWN as u64 {
            text.push_str(&format!("\n  and {} more", verdict.different - SHOWN as u64));
        }
        if verdict.differences.iter().any(|difference| difference.what == What::ChangedHere) {
            text.push_str("\n  changed-here: nobody wrote to it on this box; look at this box's disk and memory");
        }
        text
    }
}

fn seconds(us: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // for the eye
    let seconds = us as f64 / 1e6;
    format!("{seconds:.2} s")
}

/// The one line of `--json`: sums over all trees, and each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Nothing was refused and nothing failed.
    pub done: bool,
    /// What the daemon said at the end, or why it refused.
    pub text: String,
    /// What to do, when it was refused.
    pub remedy: Option<String>,
    /// Sum of the trees'.
    pub files: u64,
    /// Likewise.
    pub bytes_read: u64,
    /// Likewise.
    pub bytes_sent: u64,
    /// Likewise.
    pub chunks_sent: u64,
    /// Likewise.
    pub names_sent: u64,
    /// Likewise.
    pub names_deleted: u64,
    /// Likewise.
    pub unsettled: u64,
    /// Likewise.
    pub elapsed_us: u64,
    /// Sum of the trees', of a comparison.
    pub files_compared: Option<u64>,
    /// Likewise.
    pub bytes_compared: Option<u64>,
    /// Likewise.
    pub different: Option<u64>,
    /// Of a comparison: whatever differed is equal now.
    pub healed: Option<bool>,
    /// Every tree whose cycle has ended.
    pub trees: Vec<TreeOutcome>,
    /// What would be deleted from the tree at which a guard stopped the cycle.
    pub blocked: Option<Deletions>,
}

impl Summary {
    /// Adds a tree.
    pub fn add(&mut self, tree: TreeOutcome) {
        self.files = self.files.saturating_add(tree.files);
        self.bytes_read = self.bytes_read.saturating_add(tree.bytes_read);
        self.bytes_sent = self.bytes_sent.saturating_add(tree.bytes_sent);
        self.chunks_sent = self.chunks_sent.saturating_add(tree.chunks_sent);
        self.names_sent = self.names_sent.saturating_add(tree.names_sent);
        self.names_deleted = self.names_deleted.saturating_add(tree.names_deleted);
        self.unsettled = self.unsettled.saturating_add(tree.unsettled);
        self.elapsed_us = self.elapsed_us.saturating_add(tree.elapsed_us);
        if let Some(verdict) = &tree.verdict {
            self.files_compared = Some(self.files_compared.unwrap_or(0).saturating_add(verdict.files_compared));
            self.bytes_compared = Some(self.bytes_compared.unwrap_or(0).saturating_add(verdict.bytes_compared));
            self.different = Some(self.different.unwrap_or(0).saturating_add(verdict.different));
            *self.healed.get_or_insert(true) &= verdict.healed;
        }
        self.trees.push(tree);
    }

    /// Something differed, healed or not.
    #[must_use]
    pub fn found_differences(&self) -> bool {
        self.different.is_some_and(|count| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_what_was_compared_what_differed_and_whether_it_is_healed() {
        let difference = |n: usize| Difference { path: format!("d/{n}"), what: What::Content };
        let mut verdict =
            Verdict { files_compared: 40, bytes_compared: 41_000_000, healed: true, ..Verdict::default() };
        let tree = |verdict: &Verdict| TreeOutcome {
            tree: "/data".into(),
            elapsed_us: 1_234_000,
            verdict: Some(verdict.clone()),
            ..TreeOutcome::default()
        };
        assert_eq!(tree(&verdict).text(), "/data: 40 files, 41.0 MB compared: equal; 1.23 s");
        verdict.different = 25;
        verdict.differences = (0..25).map(difference).collect();
        let text = tree(&verdict).text();
        assert!(text.starts_with("/data: 40 files, 41.0 MB compared: 25 names differed, healed; 1.23 s\n"), "{text}");
        assert_eq!(text.lines().count(), 1 + SHOWN + 1);
        assert!(text.ends_with("and 5 more"), "{text}");
        verdict.healed = false;
        verdict.unhealed = 2;
        assert!(tree(&verdict).text().contains("2 of them NOT HEALED"));
    }

    #[test]
    fn programs_read_each_tree_by_these_names() {
        let verdict = Verdict {
            different: 1,
            healed: true,
            differences: vec![Difference { path: "a".into(), what: What::ChangedHere }],
            ..Verdict::default()
        };
        let tree = TreeOutcome { tree: "/data".into(), verdict: Some(verdict), ..TreeOutcome::default() };
        let mut summary = Summary::default();
        summary.add(TreeOutcome { found_by: FoundBy::Events, ..tree });
        let value = serde_json::to_value(&summary).unwrap();
        let expected = serde_json::json!({
            "tree": "/data", "files": 0, "names": 0, "bytes_read": 0, "bytes_sent": 0, "chunks_sent": 0, "names_sent": 0,
            "names_deleted": 0, "unsettled": 0, "changed_in_copy": 0, "found_by": "events", "elapsed_us": 0,
            "deletions": null,
            "verdict": {
                "files_compared": 0, "bytes_compared": 0, "different": 1, "healed": true, "unhealed": 0,
                "changed_since": 0, "differences": [{"path": "a", "what": "changed-here"}],
            },
        });
        assert_eq!(value["trees"], serde_json::json!([expected]));
    }

    #[test]
    fn deletions_are_a_bounded_list_and_a_count() {
        let mut deletions = Deletions {
            tree: "/data".into(),
            count: 2,
            of: 9,
            first: vec!["a".into(), "b".into()],
            file: "/x".into(),
            confirmed: true,
        };
        assert_eq!(deletions.text(), "/data: 2 of 9 names are deleted from the copy now:\n  a\n  b");
        deletions.confirmed = false;
        deletions.first = (0..100).map(|n| n.to_string()).collect();
        deletions.count = 5_000;
        let text = deletions.text();
        assert!(text.ends_with("\n  and 4980 more; all of them stand in /x"), "{text}");
        assert_eq!(text.lines().count(), SHOWN + 2);
    }
}
