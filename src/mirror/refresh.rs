//! Bringing a side's index to what its tree really holds. The receiver does it before its first cycle in a generation:
//! what changed here after the last cut is known to nobody else, and is set aside when the peer's cut replaces it.

use std::io;

use super::chunk::{Chunker, NoFormer};
use super::entry::{Entry, Kind, Local};
use super::index::{Index, Lookup, Reader};
use super::index_writer::Writer;
use super::read::{Found, Manner, cut_into, is_sparse, read};
use super::row::Cut;
use super::scan::{Change, Changes, Trust, scan};
use super::side::{Side, identity};
use super::stop::Stop;
use super::tree::Tree;
use nix::unistd::syncfs;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Names that are new or different.
    pub changed: u64,
    /// Names that are missing.
    pub missing: u64,
}

/// Reads what has changed since the last cut into the index and marks it as unsent; with `distrust`, reads everything.
///
/// # Errors
///
/// What the file system says; when it was stopped. Then the index stays as it was.
pub fn refresh(side: &Side, distrust: bool, stop: &Stop) -> io::Result<Refreshed> {
    let base = side.index.reader()?;
    let tx = side.index.begin(true)?;
    let mut writer = Writer::new(&tx)?;
    let mut tree = side.tree()?;
    let mut changes = Changes::create(&side.store.path("changes"))?;
    let unwritten = base.unwritten_since()?;
    let trust = if distrust { Trust::None } else { unwritten.map_or(Trust::All, Trust::Before) };
    scan(&mut tree, &side.filter, &base, &mut writer, &mut changes, trust, stop)?;
    let mut refreshed = Refreshed::default();
    let mut chunker = Chunker::default();
    changes.each(|change, key| match change {
        Change::Gone => {
            writer.remove(key)?;
            refreshed.missing += 1;
            Ok(())
        }
        Change::Look => {
            refreshed.changed += u64::from(look(&mut tree, key, &base, &mut writer, (&mut chunker, stop))?);
            Ok(())
        }
    })?;
    if refreshed != Refreshed::default() {
        let mut id = [0; 16];
        random(&mut id)?;
        let former = base.cut()?;
        writer.set_cut(&Cut { id, root: identity(&tree)?, ..former })?;
    }
    drop(writer);
    if changes.look > 0 {
        syncfs(side.store.descriptor())?; // what was read may be in memory only
    }
    Index::commit(tx)?;
    Ok(refreshed)
}

/// Fills a name with random bytes.
///
/// # Errors
///
/// What getrandom(2) says.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::from)
}

/// Reads one name into the index. True: it is another than at the last cut.
fn look(
    tree: &mut Tree,
    key: &[u8],
    base: &Reader,
    writer: &mut Writer<'_>,
    (chunker, stop): (&mut Chunker, &Stop),
) -> io::Result<bool> {
    stop.check()?;
    let former = base.row(key)?;
    let stat = tree.stat(key)?;
    let first = match &stat {
        Some(stat) if super::tree::is_linked(stat) => writer.first_of(stat.st_ino)?.filter(|first| first != key),
        _ => None,
    };
    writer.remove(key)?;
    let (entry, local, list) = match (first, &stat) {
        (Some(first), Some(stat)) => (Entry::link(first), super::tree::local(stat), Some(Vec::new())),
        _ => {
            let mut list = Some(Vec::new());
            let found = read(tree, key, Manner::Still, |file, entry, stat| {
                writer.remove(key)?;
                let whole = (file, entry.size(), is_sparse(stat));
                let (hash, short) = cut_into(writer, key, chunker, whole, &mut NoFormer, |_, _| stop.check())?;
                list = short;
                Ok(hash)
            })?;
            match found {
                // Nobody writes to a copy: what is fresh here is fresh from the last cut, and no change hides behind it.
                Found::Settled(entry, _) => (entry, stat.as_ref().map(super::tree::local).unwrap_or_default(), list),
                Found::Nothing => return Ok(former.is_some()),
                // Somebody writes to the copy right now: whatever it is, the peer does not know it.
                Found::Unsettled => (unknown(), Local::default(), Some(Vec::new())),
            }
        }
    };
    let same = former.is_some_and(|row| row.entry == entry);
    writer.put(key, &entry, local, list.as_deref())?;
    if !same {
        writer.set_unsent(key)?;
    }
    Ok(!same)
}

/// A file of which nothing is known; no real one has this list.
fn unknown() -> Entry {
    Entry {
        kind: Kind::File { size: 0, content: [0xff; 32] },
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: super::entry::Stamp::default(),
        xattrs: Vec::new(),
    }
}
