//! Sending what changed, name by name. Files' contents are in `send_file`.

use std::io;

use nix::sys::stat::FileStat;

use super::channel::{Incoming, Outgoing};
use super::chunk::Chunker;
use super::entry::{Entry, Kind, Local};
use super::hints::Recent;
use super::index::{Lookup, Reader};
use super::index_writer::Writer;
use super::judge::{Judge, Versions};
use super::message::Message;
use super::name;
use super::read::{Found, Manner, copy_list, read};
use super::receiver::RESENDS;
use super::row::{Cut, CutId};
use super::scan::{Change, Changes};
use super::sender::{Progress, Sent, next, unexpected};
use super::system;
use super::tree::{self, Tree};

/// Attempts at a file that changes while it is read.
const ATTEMPTS: u32 = 3;
/// Files without a place that are remembered.
const HOMELESS: usize = 256;
/// The standby may ask for names again so often.
const ROUNDS: u32 = 16;

/// A cycle whose changes are known.
pub(super) struct Sending<'a, 't> {
    pub(super) tree: Tree,
    pub(super) base: Reader,
    pub(super) writer: Writer<'t>,
    pub(super) incoming: &'a mut Incoming,
    pub(super) outgoing: &'a mut Outgoing,
    pub(super) chunker: Chunker,
    pub(super) held: bool,
    /// Chunks that this cycle has sent.
    pub(super) recent: Recent,
    /// The name that vanished last: what is below it has been said to be gone.
    pub(super) away: Option<Vec<u8>>,
    /// Files that the standby has nothing of under their name, and that would not hold still: inode and name.
    pub(super) homeless: Vec<(u64, Vec<u8>)>,
    /// Everything is sent literally: the standby could not follow a reference.
    pub(super) literal: bool,
    /// How files are read.
    pub(super) manner: Manner,
    pub(super) sent: Sent,
    pub(super) progress: Progress,
    pub(super) report: &'a mut dyn FnMut(&Progress),
    /// When both sides are compared: says what of that is a finding.
    pub(super) judge: Option<Judge>,
}

impl Sending<'_, '_> {
    pub(super) fn send(&mut self, changes: &mut Changes) -> io::Result<()> {
        changes.each(|change, key| if change == Change::Gone { self.gone(key) } else { Ok(()) })?;
        changes.each(|change, key| if change == Change::Look { self.look(key) } else { Ok(()) })?;
        if self.homeless.is_empty() {
            return Ok(());
        }
        changes.each(|change, key| if change == Change::Gone { self.house(key) } else { Ok(()) })
    }

    /// A file that would not hold still, and had another name at the last cut: the standby keeps what it had then, under the
    /// present name. Without this it would have nothing of a file that is renamed while it is written to.
    fn house(&mut self, from: &[u8]) -> io::Result<()> {
        let Some(row) = self.base.row(from)? else { return Ok(()) };
        let is_it = |(inode, _): &(u64, Vec<u8>)| *inode == row.local.inode;
        let Some(at) = self.homeless.iter().position(is_it) else { return Ok(()) };
        if !matches!(row.entry.kind, Kind::File { .. }) || row.local.linked {
            return Ok(());
        }
        let (inode, key) = self.homeless.swap_remove(at);
        let (parent, name) = self.tree.parent(&key)?;
        // The number of a file that was deleted is given to the next one that is made.
        let is_older = system::born(parent, &name, inode)?.is_some_and(|born| !born.is_after(row.local.ctime));
        if !is_older || self.writer.row(&key)?.is_some() {
            return Ok(());
        }
        let list = copy_list(&self.base, from, &row, &mut self.writer, &key)?;
        self.writer.put(&key, &row.entry, Local::default(), list.as_deref())?;
        self.put(&key, &row.entry, Some(from))
    }

    /// The cut is complete: the standby publishes it, or asks for names again.
    pub(super) fn commit(&mut self, cut: CutId) -> io::Result<()> {
        for _ in 0..ROUNDS {
            Message::Commit { cut }.put(self.outgoing)?;
            self.outgoing.flush()?;
            self.writer.write_hints()?; // while the standby publishes
            let mut again = Vec::new();
            loop {
                // Staged files are synced meanwhile: the link's own sign of life keeps the wait alive.
                match next(self.incoming)? {
                    Message::Resend { .. } if again.len() == RESENDS => return Err(unexpected()),
                    Message::Resend { key } => again.push(key.to_vec()),
                    Message::Again => break,
                    Message::Published { cut: theirs } if theirs == cut => return Ok(()),
                    _ => return Err(unexpected()),
                }
            }
            self.literal = true;
            for key in again {
                self.look(&key)?;
            }
        }
        Err(io::Error::other("the standby asks for the same names again and again"))
    }

    /// The standby has the cut: so has the index.
    pub(super) fn finish(mut self, cut: &Cut) -> io::Result<(Sent, bool)> {
        self.sent.names = self.writer.count()?;
        self.writer.set_cut(cut)?;
        self.sent.files = self.writer.files()?;
        self.sent.bytes_read = self.progress.bytes;
        self.sent.verdict = self.judge.map(Judge::verdict);
        self.writer.forget_unsent(&cut.id)?;
        self.writer.forget_held()?;
        Ok((self.sent, self.writer.has_changed()))
    }

    fn gone(&mut self, key: &[u8]) -> io::Result<()> {
        if let Some(row) = self.writer.remove(key)? {
            Message::Gone { key }.put(self.outgoing)?;
            self.sent.gone += 1;
            if let Some(judge) = &mut self.judge {
                judge.compared(key, &Versions { copy: Some(&row.entry), here: None }, None)?;
            }
        }
        Ok(())
    }

    /// A name vanished after it had been listed: it goes, and what was below it.
    pub(super) fn vanished(&mut self, key: &[u8]) -> io::Result<()> {
        self.away = Some(key.to_vec());
        for row in self.base.rows(key)? {
            let (at, _) = row?;
            if at != key && !name::is_below(&at, key) {
                break;
            }
            self.gone(&at)?;
        }
        Ok(())
    }

    fn look(&mut self, key: &[u8]) -> io::Result<()> {
        self.progress.files += 1;
        // It may be back. A cut in which it has gone and is there is none: it is in the next one.
        if self.away.as_ref().is_some_and(|away| away == key || name::is_below(key, away)) {
            return self.unsettled(key);
        }
        let read = self.progress.bytes;
        for attempt in 1..=ATTEMPTS {
            // What never holds still may yet only grow, as logs do.
            self.manner = if attempt < ATTEMPTS { Manner::Still } else { Manner::Framed };
            if self.attempt(key)? {
                (self.report)(&self.progress);
                return self.judge_name(key);
            }
            self.progress.bytes = read;
            // The next attempt begins with what the standby has: the name may have vanished by then.
            self.restore(key)?;
        }
        if let Some(stat) = self.tree.stat(key)?
            && self.homeless.len() < HOMELESS
            && tree::format(&stat) == libc::S_IFREG
            && stat.st_nlink == 1
            && self.base.row(key)?.is_none()
        {
            self.homeless.push((stat.st_ino, key.to_vec()));
        }
        self.unsettled(key)
    }

    /// The standby keeps what it has of the name, if anything.
    fn unsettled(&mut self, key: &[u8]) -> io::Result<()> {
        self.sent.unsettled += 1;
        self.sent.unsettled_name = Some(name::shown(key));
        if self.sent.strange > 0 {
            self.tell_unsettled(key)?;
        }
        let copy = self.base.row(key)?.map(|row| row.entry);
        self.judge.as_mut().map_or(Ok(()), |judge| judge.unsettled(key, copy.as_ref()))
    }

    /// The standby has changed names of its own. If this is one of them it stays so, and a file that is begun and abandoned says it.
    fn tell_unsettled(&mut self, key: &[u8]) -> io::Result<()> {
        if self.writer.row(key)?.is_some_and(|row| !row.entry.is_directory()) {
            let entry = Entry { kind: Kind::File { size: 0, content: [0; 32] }, ..Entry::link(Vec::new()) };
            Message::Put { key, entry, same: None }.put(self.outgoing)?;
            Message::Abandon.put(self.outgoing)?;
        }
        Ok(())
    }

    /// A name has been read, and stands in the cut as it is here.
    fn judge_name(&mut self, key: &[u8]) -> io::Result<()> {
        let Some(judge) = &mut self.judge else { return Ok(()) };
        let Some(here) = self.writer.row(key)? else { return Ok(()) }; // it vanished, and was judged then
        let (copy, stat) = (self.base.row(key)?, self.tree.stat(key)?);
        let versions = Versions { copy: copy.as_ref().map(|row| &row.entry), here: Some(&here.entry) };
        judge.compared(key, &versions, stat.as_ref())
    }

    /// The standby keeps its version, and the index what it says of it.
    pub(super) fn restore(&mut self, key: &[u8]) -> io::Result<()> {
        self.writer.undo(key)?;
        if let Some(row) = self.base.row(key)? {
            // It looks different by now, and is looked at again next time.
            let short = copy_list(&self.base, key, &row, &mut self.writer, key)?;
            self.writer.put(key, &row.entry, row.local, short.as_deref())?;
        }
        Ok(())
    }

    /// False: it did not hold still.
    fn attempt(&mut self, key: &[u8]) -> io::Result<bool> {
        let Some(stat) = self.tree.stat(key)? else {
            self.vanished(key)?;
            return Ok(true);
        };
        if tree::is_linked(&stat) {
            match self.writer.first_of(stat.st_ino)? {
                Some(first) if first != key => return self.link(key, first, &stat),
                Some(_) => {}
                None => self.writer.set_first(stat.st_ino, key)?,
            }
        }
        if tree::format(&stat) == libc::S_IFREG {
            return self.file(key, &stat);
        }
        match read(&mut self.tree, key, self.manner, |_, _, _| Err(changed()))? {
            Found::Settled(entry, local) => {
                if self.base.row(key)?.is_none_or(|row| row.entry != entry) || self.literal {
                    self.put(key, &entry, None)?;
                }
                self.writer.remove(key)?;
                self.writer.put(key, &entry, local, Some(&[]))?;
                Ok(true)
            }
            Found::Unsettled => Ok(false),
            Found::Nothing => {
                self.vanished(key)?;
                Ok(true)
            }
        }
    }

    pub(super) fn put(&mut self, key: &[u8], entry: &Entry, same: Option<&[u8]>) -> io::Result<()> {
        Message::Put { key, entry: entry.clone(), same }.put(self.outgoing)?;
        self.sent.put += 1;
        Ok(())
    }

    /// Another name of a file. It is said again even if it was so before: the file may be another now.
    fn link(&mut self, key: &[u8], first: Vec<u8>, stat: &FileStat) -> io::Result<bool> {
        let known = self.writer.row(&first)?.is_some_and(|row| !matches!(row.entry.kind, Kind::Link { .. }));
        if !known {
            return Ok(false); // its first name did not make it into the cut
        }
        let entry = Entry::link(first);
        self.put(key, &entry, None)?;
        self.writer.remove(key)?;
        self.writer.put(key, &entry, tree::local(stat), Some(&[]))?;
        Ok(true)
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the name became a file")
}
