//! Sending the content of a file in one reading: what the standby lacks of it, and where the rest is.

use std::io;

use nix::sys::stat::FileStat;

use super::entry::{Entry, Kind, Local};
use super::flow::{Flow, Past, Ways};
use super::index::{Lookup, Reader};
use super::message::Message;
use super::name;
use super::read::{FormerList, Found, copy_list, cut_into, is_sparse, read};
use super::row::Row;
use super::send::Sending;
use super::sender::unexpected;
use super::tree;

impl Sending<'_, '_> {
    /// A regular file. False: it would not hold still.
    pub(super) fn file(&mut self, key: &[u8], stat: &FileStat) -> io::Result<bool> {
        let past = past(&self.base, key, stat)?;
        self.writer.remove(key)?;
        // A directory was renamed above it: the inode is as it was, its content need not be read.
        if let Some(Past { from, row }) = past.as_ref().filter(|past| past.from != key)
            && !self.literal
            && tree::is_unchanged(stat, &row.entry, row.local)
        {
            let list = copy_list(&self.base, from, row, &mut self.writer, key)?;
            self.writer.put(key, &row.entry, row.local, list.as_deref())?;
            self.put(key, &row.entry, Some(from))?;
            return Ok(true);
        }
        match self.content(key, past.filter(|_| !self.literal))? {
            Some(settled) => Ok(settled),
            None => {
                self.restore(key)?;
                self.vanished(key)?;
                Ok(true)
            }
        }
    }

    /// Reads a file and sends it meanwhile. False: it would not hold still. `None`: it is not there.
    fn content(&mut self, key: &[u8], past: Option<Past>) -> io::Result<Option<bool>> {
        let manner = self.manner;
        let Self { tree, base, writer, outgoing, incoming, recent, chunker, progress, report, .. } = self;
        let ways = Ways { base, outgoing, incoming, recent, held: self.held, literal: self.literal };
        let mut flow = Flow::new(key, past.as_ref(), ways);
        let mut list = None;
        let found = read(tree, key, manner, |file, entry, stat| {
            flow.open(entry)?;
            let former = past.as_ref().map(|past| FormerList::new(base, &past.from, &past.row));
            let whole = (file, entry.size(), is_sparse(stat));
            let (hash, short) = cut_into(writer, key, chunker, whole, &mut former.transpose()?, |piece, writer| {
                progress.bytes += piece.chunk.len;
                report(progress);
                flow.add(entry, piece, writer)
            })?;
            list = short;
            Ok(hash)
        });
        let (entry, local) = match found {
            Ok(Found::Settled(entry, local)) => (entry, local),
            Ok(other) => {
                flow.abandon()?;
                self.forget_list(key)?;
                return Ok((other == Found::Unsettled).then_some(false));
            }
            Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", name::shown(key)))),
        };
        let Kind::File { content, .. } = entry.kind else { return Err(unexpected()) };
        let (begun, chunks) = flow.finish()?;
        self.sent.chunks += chunks;
        self.writer.put(key, &entry, local, list.as_deref())?;
        match past {
            _ if begun => {
                Message::End { content }.put(self.outgoing)?;
                self.sent.put += 1;
            }
            // All of it is as it was.
            Some(past) if past.from != key || past.row.entry != entry => self.put(key, &entry, Some(&past.from))?,
            _ => {}
        }
        Ok(Some(true))
    }

    /// A list was begun whose name has no row.
    fn forget_list(&mut self, key: &[u8]) -> io::Result<()> {
        let nothing = Entry { kind: Kind::Fifo, ..Entry::link(Vec::new()) };
        self.writer.put(key, &nothing, Local::default(), None)?;
        self.writer.undo(key) // and the blocks of the list with it
    }
}

/// What the standby has under this name, or of this inode under another.
fn past(base: &Reader, key: &[u8], stat: &FileStat) -> io::Result<Option<Past>> {
    let is_file = |row: &Row| matches!(row.entry.kind, Kind::File { .. });
    if let Some(row) = base.row(key)?.filter(is_file) {
        return Ok(Some(Past { from: key.to_vec(), row }));
    }
    let Some(from) = base.name_of(stat.st_ino)? else { return Ok(None) };
    Ok(base.row(&from)?.filter(is_file).map(|row| Past { from, row }))
}
