//! Turning the tree from cut N into cut N+1 by the redo log. Every step may be taken twice: after a crash the log is
//! simply followed again from its start.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{FileStat, Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, syncfs, unlinkat};

use super::control::Generation;
use super::diverged::SetAside;
use super::entry::{Entry, Kind, Local};
use super::fault;
use super::index::{Index, Lookup, Reader};
use super::index_writer::Writer;
use super::message::stage_name;
use super::name;
use super::obstacle::in_the_way;
use super::read::copy_list;
use super::redo::{self, Source, Step};
use super::reserve;
use super::row::{Cut, CutId};
use super::side::{Side, identity};
use super::stage;
use super::system;
use super::tree::{self, Tree};

/// What a log that was followed to its end has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The cut.
    pub cut: CutId,
    /// Somebody changed the copy meanwhile: the tree is not all that the cut says, and has to be looked at.
    pub doubtful: bool,
}

/// Publishes what the log of this side holds, if there is a whole one. Staged files are left as they are without one.
///
/// # Errors
///
/// What the file system says. Then nothing is lost: the log is followed again at the next call.
pub fn replay(side: &Side, unix_s: u64) -> io::Result<Option<Published>> {
    let path = side.store.path("redo");
    if !path.exists() {
        return Ok(None);
    }
    if !redo::is_whole(&path)? {
        // It was renamed only after it had been synced: the disk has lost what it had promised to hold.
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())));
    }
    let stage = side.store.subdirectory("stage")?;
    let mut publishing = Publishing {
        tree: side.tree()?,
        base: side.index.reader()?,
        stage,
        side,
        aside: SetAside::new(side)?,
        doubtful: false,
    };
    reserve::release(side)?;
    publishing.move_out(&path)?;
    publishing.clear(&path)?;
    publishing.place(&path)?;
    let cut = publishing.record(&path, unix_s)?;
    fault::step();
    syncfs(side.store.descriptor())?; // the renames are on disk before the index says so
    fault::step();
    side.index.harden()?;
    fault::step();
    fs::remove_file(&path)?;
    // A log that came back after a power loss would undo what services had written by then.
    nix::unistd::fsync(side.store.descriptor())?;
    Ok(Some(Published { cut, doubtful: publishing.doubtful }))
}

struct Publishing<'a> {
    tree: Tree,
    base: Reader,
    stage: OwnedFd,
    side: &'a Side,
    aside: SetAside,
    /// See [`Published::doubtful`].
    doubtful: bool,
}

/// A file's inode is the one that was put there, as far as size and time tell. A second is enough: a file system may hold no
/// less, and none of them every year.
fn is_as_put(stat: &FileStat, entry: &Entry) -> bool {
    let Kind::File { size, .. } = entry.kind else { return true };
    let seconds = entry.mtime.seconds;
    tree::format(stat) == libc::S_IFREG
        && stat.st_size as u64 == size
        && (tree::mtime(stat).seconds == seconds || i32::try_from(seconds).is_err())
}

fn is_directory(stat: &FileStat) -> bool {
    tree::format(stat) == libc::S_IFDIR
}

fn moved_name(key: &[u8]) -> CString {
    stage::file_name("m", stage_name(key))
}

impl Publishing<'_> {
    /// Files that get another name leave the tree first: so names are free that others want.
    fn move_out(&mut self, path: &std::path::Path) -> io::Result<()> {
        redo::each(path, |step| {
            let Step::Put { key, source: Source::Move { from, inode }, .. } = step else { return Ok(()) };
            if self.tree.stat(&from)?.is_some_and(|stat| stat.st_ino == inode) {
                let (parent, old) = self.tree.parent(&from)?;
                fault::step();
                renameat(parent, old.as_c_str(), self.stage.as_fd(), moved_name(&key).as_c_str())?;
            }
            Ok(())
        })
    }

    /// What is at `key` was not there at the last cut, or not so, or the peer never got it; and it is not what the name
    /// `becomes`.
    fn is_ours_alone(&self, key: &[u8], stat: &FileStat, becomes: Option<&Entry>) -> io::Result<bool> {
        let Some(row) = self.base.row(key)? else { return Ok(true) };
        let as_seen = match row.entry.kind {
            Kind::Link { .. } => row.local.inode == stat.st_ino,
            // Linking and unlinking of other names moves the ctime of a group's inode.
            _ if row.local.linked => row.local.inode == stat.st_ino && tree::mtime(stat) == row.entry.mtime,
            // The time of the last change of content may be one that this file system cannot hold.
            _ => row.local.inode != 0 && tree::local(stat) == row.local,
        };
        // The row tells the content of what is there only if nobody has been at it since.
        let same = becomes.is_some_and(|entry| entry.kind == row.entry.kind);
        Ok(!as_seen || (!same && self.base.is_unsent(key)?))
    }

    /// Takes what is at `key`, no directory, out of the way.
    fn remove(&mut self, key: &[u8], stat: &FileStat) -> io::Result<()> {
        fault::step();
        if self.is_ours_alone(key, stat, None)? {
            return self.aside.take(&mut self.tree, key);
        }
        let (parent, name) = self.tree.parent(key)?;
        Ok(unlinkat(parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?)
    }

    fn remove_directory(&mut self, key: &[u8]) -> io::Result<()> {
        fault::step();
        let (parent, name) = self.tree.parent(key)?;
        let removed = unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir);
        self.tree.forget();
        match removed {
            Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
            // It stays with the other tree's copy in it, which is not ours to move.
            Err(nix::Error::ENOTEMPTY | nix::Error::EEXIST) if self.holds_another_tree(key)? => Ok(()),
            Err(nix::Error::ENOTEMPTY | nix::Error::EEXIST) => self.aside.take(&mut self.tree, key),
            Err(e) => Err(e.into()),
        }
    }

    fn holds_another_tree(&mut self, key: &[u8]) -> io::Result<bool> {
        for other in self.side.filter.others.iter().filter(|other| name::is_below(other, key)) {
            if self.tree.stat(other)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what is gone, and what is in the way of another type. A directory goes when everything below it has.
    fn clear(&mut self, path: &std::path::Path) -> io::Result<()> {
        let mut emptied: Vec<Vec<u8>> = Vec::new();
        let mut absent: Option<Vec<u8>> = None;
        // Names that are gone come first and in order; names that are put follow, in order again.
        redo::each(path, |step| {
            let (key, becomes) = match step {
                Step::Gone { key } => (key, None),
                Step::Put { key, entry, .. } => (key, Some(entry)),
                Step::Head { .. } | Step::Block { .. } => return Ok(()),
            };
            while emptied.last().is_some_and(|top| !name::is_below(&key, top)) {
                if let Some(top) = emptied.pop() {
                    self.remove_directory(&top)?;
                }
            }
            if absent.as_ref().is_some_and(|above| name::is_below(&key, above)) {
                return Ok(()); // as is everything below it
            }
            let Some(stat) = self.tree.stat(&key)? else {
                absent = Some(key);
                return Ok(());
            };
            match becomes {
                Some(entry) if entry.is_directory() == is_directory(&stat) => Ok(()),
                _ if key.is_empty() => Ok(()),
                _ if is_directory(&stat) => {
                    emptied.push(key);
                    Ok(())
                }
                _ => self.remove(&key, &stat),
            }
        })?;
        while let Some(top) = emptied.pop() {
            self.remove_directory(&top)?;
        }
        Ok(())
    }

    /// Puts every name in its place. Links come when all files have: a file that the standby asked for again stands behind
    /// its group's other names in the log, and what these linked to before it came would be its former content.
    fn place(&mut self, path: &std::path::Path) -> io::Result<()> {
        let mut any_link = false;
        redo::each(path, |step| {
            let Step::Put { key, entry, source, .. } = step else { return Ok(()) };
            match source {
                Source::Keep => {}
                Source::Directory => self.make_directory(&key)?,
                Source::Staged => self.rename(&stage::file_name("", stage_name(&key)), &key, &entry)?,
                Source::Move { .. } => self.rename(&moved_name(&key), &key, &entry)?,
                Source::Link => any_link = true,
            }
            Ok(())
        })?;
        if !any_link {
            return Ok(());
        }
        redo::each(path, |step| match step {
            Step::Put { key, entry, source: Source::Link, .. } => self.link(&key, &entry),
            _ => Ok(()),
        })
    }

    fn make_directory(&mut self, key: &[u8]) -> io::Result<()> {
        if key.is_empty() || self.tree.stat(key)?.is_some() {
            return Ok(());
        }
        self.make_parents(key)?;
        let (parent, name) = self.tree.parent(key)?;
        fault::step();
        Ok(mkdirat(parent, name.as_c_str(), Mode::S_IRWXU)?)
    }

    /// Directories that the cut does not name but has names below: they vanished on the source between two looks, or somebody
    /// has taken them out of the copy, or put something else in their place. What else was in them is missing.
    fn make_parents(&mut self, key: &[u8]) -> io::Result<()> {
        match self.tree.parent(key).map(|_| ()).map_err(|e| (e.raw_os_error(), e)) {
            Err((Some(libc::ENOENT), _)) => {}
            Err((Some(libc::ENOTDIR | libc::ELOOP), _)) => {
                if let Some(top) = in_the_way(&mut self.tree, key)? {
                    self.aside.take(&mut self.tree, &top)?;
                }
            }
            other => return other.map_err(|(_, e)| e),
        }
        self.doubtful = true;
        fault::step();
        self.tree.make_parents(key)
    }

    fn rename(&mut self, staged: &CString, key: &[u8], entry: &Entry) -> io::Result<()> {
        self.make_parents(key)?;
        // Most names are new, and then nothing has to be known of what is there.
        let (parent, name) = self.tree.parent(key)?;
        fault::step();
        if system::rename_new(self.stage.as_fd(), staged, parent, &name).is_ok() {
            return Ok(());
        }
        let Ok(ready) = tree::stat_at(self.stage.as_fd(), staged) else { return Ok(()) }; // it is in its place already
        if let Some(stat) = self.tree.stat(key)?
            && stat.st_ino != ready.st_ino
            && self.is_ours_alone(key, &stat, Some(entry))?
        {
            fault::step();
            self.aside.take(&mut self.tree, key)?;
        }
        let (parent, name) = self.tree.parent(key)?;
        fault::step();
        Ok(renameat(self.stage.as_fd(), staged.as_c_str(), parent, name.as_c_str())?)
    }

    fn link(&mut self, key: &[u8], entry: &Entry) -> io::Result<()> {
        let Kind::Link { first } = &entry.kind else { return Ok(()) };
        let present = self.tree.stat(key)?;
        let Some(wanted) = self.tree.stat(first)? else {
            self.doubtful = true; // somebody has taken it away
            return Ok(());
        };
        if present.is_some_and(|stat| stat.st_ino == wanted.st_ino) {
            return Ok(());
        }
        let staged = stage::file_name("l", stage_name(key));
        stage::remove(self.stage.as_fd(), &staged)?;
        let (parent, name) = self.tree.parent(first)?;
        fault::step();
        linkat(parent, name.as_c_str(), self.stage.as_fd(), staged.as_c_str(), AtFlags::empty())?;
        self.rename(&staged, key, entry)
    }

    /// Brings the index to the new cut, and directories to their metadata.
    fn record(&mut self, path: &std::path::Path, unix_s: u64) -> io::Result<CutId> {
        let tx = self.side.index.begin(false)?; // hardened when what it says is on disk
        let mut writer = Writer::new(&tx)?;
        let (mut cut, mut generation) = (CutId::default(), Generation::default());
        redo::each(path, |step| {
            if let Step::Head { cut: id, generation: of } = step {
                (cut, generation) = (id, of);
            }
            Ok(())
        })?;
        if writer.cut()?.id != cut {
            self.record_rows(path, &mut writer)?;
        }
        self.finish_directories(path, &mut writer)?;
        let root = identity(&self.tree)?;
        writer.set_cut(&Cut { id: cut, generation, root, unix_s })?;
        writer.forget_unsent(&cut)?;
        drop(writer);
        fault::step();
        Index::commit(tx)?;
        Ok(cut)
    }

    fn record_rows(&mut self, path: &std::path::Path, writer: &mut Writer<'_>) -> io::Result<()> {
        let mut blocks_of: (Vec<u8>, u32, u64) = Default::default();
        redo::each(path, |step| {
            match step {
                Step::Head { .. } => {}
                Step::Gone { key } => {
                    let row = writer.remove(&key)?;
                    self.look_at_group(row.as_ref().map(|row| &row.entry), writer)?;
                }
                Step::Block { chunks } => {
                    let (key, number, offset) = &mut blocks_of;
                    writer.put_block(key, *number, *offset, &chunks)?;
                    *number += 1;
                    *offset += chunks.iter().map(|chunk| chunk.len).sum::<u64>();
                }
                Step::Put { key, entry, source, list_of, list } => {
                    let former = writer.remove(&key)?;
                    self.look_at_group(former.as_ref().map(|row| &row.entry), writer)?;
                    self.look_at_group(Some(&entry), writer)?;
                    let is_file = matches!(entry.kind, Kind::File { .. });
                    let mut list = if is_file { list } else { Some(Vec::new()) };
                    if let Some(from) = &list_of {
                        let row = self.base.row(from)?;
                        let Some(row) = row else {
                            self.doubtful = true; // the index was made anew since
                            return Ok(());
                        };
                        list = copy_list(&self.base, from, &row, writer, &key)?;
                    }
                    let local = match source {
                        Source::Directory => Local::default(),
                        _ => self.local(&key, &entry)?,
                    };
                    writer.put(&key, &entry, local, list.as_deref())?;
                    blocks_of = (key, 0, 0);
                }
            }
            Ok(())
        })
    }

    /// What a name looks like from now on, if it is what was put there.
    fn local(&mut self, key: &[u8], entry: &Entry) -> io::Result<Local> {
        let stat = self.tree.stat(key)?.filter(|stat| is_as_put(stat, entry));
        self.doubtful |= stat.is_none();
        Ok(stat.map(|stat| tree::local(&stat)).unwrap_or_default())
    }

    /// A name joined or left a hard-link group: that moved the ctime of the group's inode.
    fn look_at_group(&mut self, entry: Option<&Entry>, writer: &mut Writer<'_>) -> io::Result<()> {
        let Some(Entry { kind: Kind::Link { first }, .. }) = entry else { return Ok(()) };
        let (Some(mut row), Some(stat)) = (writer.row(first)?, self.tree.stat(first)?) else { return Ok(()) };
        if row.local.inode == stat.st_ino && row.entry.mtime == tree::mtime(&stat) {
            row.local = tree::local(&stat);
            writer.put_again(first, &row)?;
        }
        Ok(())
    }

    /// Metadata of directories comes last: what happened in them has moved their time.
    fn finish_directories(&mut self, path: &std::path::Path, writer: &mut Writer<'_>) -> io::Result<()> {
        let mut last: Option<Vec<u8>> = None;
        redo::each(path, |step| {
            let (key, from, entry) = match step {
                Step::Gone { key } => (key, None, None),
                Step::Put { key, source: Source::Move { from, .. }, .. } => (key, Some(from), None),
                Step::Put { key, source: Source::Keep, .. } => (key, None, None),
                Step::Put { key, entry, .. } => (key, None, Some(entry)),
                Step::Head { .. } | Step::Block { .. } => return Ok(()),
            };
            if let Some(entry) = entry.filter(Entry::is_directory) {
                self.finish_directory(&key, &entry, true, writer)?;
            }
            for key in [Some(key), from].into_iter().flatten() {
                let Some((above, _)) = name::split(&key) else { continue };
                if last.as_deref() == Some(above) {
                    continue;
                }
                last = Some(above.to_vec());
                if let Some(row) = writer.row(above)? {
                    self.finish_directory(above, &row.entry, false, writer)?;
                }
            }
            Ok(())
        })
    }

    fn finish_directory(&mut self, key: &[u8], entry: &Entry, all: bool, writer: &mut Writer<'_>) -> io::Result<()> {
        if !self.tree.stat(key)?.is_some_and(|stat| is_directory(&stat)) {
            return Ok(());
        }
        let own = self.tree.directory(key)?;
        let inode = nix::sys::stat::fstat(own.as_fd())?.st_ino;
        // One that had to be made anew has nothing but a name.
        if all || writer.row(key)?.is_some_and(|row| row.local.inode != inode) {
            stage::set_metadata(self.tree.root(), &CString::default(), entry, Some(own.as_fd()), false)?;
        } else {
            fault::step();
            stage::set_time(self.tree.root(), &CString::default(), entry, Some(own.as_fd()))?;
        }
        let stat = nix::sys::stat::fstat(own.as_fd())?;
        let Some(mut row) = writer.row(key)? else { return Ok(()) };
        row.local = tree::local(&stat);
        writer.put_again(key, &row)
    }
}
