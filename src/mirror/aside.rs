//! Answers to the operator about what was set aside.

use std::io;
use std::path::Path;

use super::control::Report;
use super::diverged;
use super::run::{Mirror, refused};

impl Mirror {
    pub(super) fn answer(&self, request: u64, what: impl FnOnce(&Self) -> io::Result<String>) {
        let report = match what(self) {
            Ok(text) => Report::Done { request, text },
            Err(e) => refused(request, &e, "look at `mirror diverged list`"),
        };
        self.reporter.say(&report);
    }

    pub(super) fn homes(&self) -> Vec<&Path> {
        let mut homes: Vec<&Path> =
            self.trees.iter().filter_map(|tree| tree.side.as_ref()).map(|side| side.store.home.as_path()).collect();
        homes.sort();
        homes.dedup();
        homes
    }

    pub(super) fn diverged_list(&self, request: u64) -> io::Result<String> {
        let mut count = 0;
        for home in self.homes() {
            for set in diverged::list(home)? {
                count += 1;
                let text = format!("{}  {}  {} files, {} bytes", set.name, set.tree.display(), set.files, set.bytes);
                self.reporter.say(&Report::Line { request, text });
            }
        }
        Ok(if count == 0 { "nothing was set aside".into() } else { String::new() })
    }

    pub(super) fn diverged_show(&self, request: u64, home: &Path, name: &str) -> io::Result<String> {
        diverged::show(home, name, |path, bytes| {
            let text = format!("{bytes:>12}  {}", path.display().to_string().escape_debug());
            self.reporter.say(&Report::Line { request, text });
        })?;
        Ok(String::new())
    }

    /// Calls with the `.twobox` that holds the set of this name, and the root of the tree that it is from.
    pub(super) fn in_home(&self, name: &str, what: impl Fn(&Path, &Path) -> io::Result<String>) -> io::Result<String> {
        for tree in self.trees.iter().filter_map(|tree| tree.side.as_ref()) {
            let known = diverged::list(&tree.store.home)?;
            if diverged::named(&known, name).is_some_and(|set| set.tree == tree.settings.tree) {
                return what(&tree.store.home, &tree.root);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("nothing was set aside under the name {name}")))
    }

    pub(super) fn count_diverged(&self) {
        for (number, tree) in self.trees.iter().enumerate() {
            let Some(side) = &tree.side else { continue };
            let counted = diverged::count(&side.store.home, &tree.settings.tree);
            let count = counted.inspect_err(|e| log::warn!("mirror: {}: {e}", side.store.home.display())).unwrap_or(0);
            self.reporter.update(number, |figures| figures.plain.diverged = count);
        }
    }
}
