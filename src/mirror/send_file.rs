//! Sending the content of a file: what the standby lacks of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::stat::fstat;

use super::chunk::{NoFormer, read_at};
use super::entry::{Entry, Kind, Local};
use super::index::{Lookup, each_chunk};
use super::message::{ASK, Message, PAGE, pages};
use super::name;
use super::read::{FormerList, Found, Listing, copy_list, is_sparse, read};
use super::reference::{Patches, Reference, put_chunk, put_run, reference, staged};
use super::row::Row;
use super::send::Sending;
use super::sender::{next, unexpected};
use super::tree;

/// Stretches whose sums are asked for at most for one file: what is beyond is sent whole.
const ASK_IN_ALL: usize = 8 * ASK;

impl Sending<'_, '_> {
    pub(super) fn file(&mut self, key: &[u8]) -> io::Result<bool> {
        let former = self.base.row(key)?.filter(|row| matches!(row.entry.kind, Kind::File { .. }));
        let former = match former {
            Some(row) => Some((key.to_vec(), row)),
            None => self.renamed(key)?,
        };
        self.writer.remove(key)?;
        let done = match former {
            Some((from, row)) if !self.literal => self.file_along(key, &from, &row),
            _ => self.file_anew(key),
        };
        match done? {
            Some(true) => Ok(true),
            Some(false) => Ok(false),
            None => {
                self.restore(key)?;
                self.vanished(key)?;
                Ok(true)
            }
        }
    }

    /// The name under which the standby has the inode that `key` names now.
    fn renamed(&mut self, key: &[u8]) -> io::Result<Option<(Vec<u8>, Row)>> {
        let Some(stat) = self.tree.stat(key)? else { return Ok(None) };
        let Some(from) = self.base.name_of(stat.st_ino)? else { return Ok(None) };
        let row = self.base.row(&from)?;
        Ok(row.filter(|row| matches!(row.entry.kind, Kind::File { .. })).map(|row| (from, row)))
    }

    /// A file without a past: read once, sent as it is read. `None`: it is not there.
    fn file_anew(&mut self, key: &[u8]) -> io::Result<Option<bool>> {
        let Self { tree, base, writer, outgoing, chunker, progress, .. } = self;
        let (held, literal, manner) = (self.held, self.literal, self.manner);
        let (mut begun, mut list) = (false, None);
        let found = read(tree, key, manner, |file, entry, stat| {
            Message::Put { key, entry: entry.clone(), same: None }.put(outgoing)?;
            begun = true;
            let mut listing = Listing::default();
            let sparse = is_sparse(stat);
            chunker.cut(file, entry.size(), sparse, &mut NoFormer, &mut |piece| {
                progress.bytes += piece.chunk.len;
                let source = if literal { None } else { reference(base, writer, held, &piece.chunk)? };
                put_chunk(outgoing, &piece.chunk, source, piece.data)?;
                listing.add(piece.chunk, |n, at, chunks| writer.put_block(key, n, at, chunks))
            })?;
            let (hash, short) = listing.finish(|n, at, chunks| writer.put_block(key, n, at, chunks))?;
            list = short;
            Ok(hash)
        });
        match found {
            Ok(Found::Settled(entry, local)) => {
                let Kind::File { content, .. } = entry.kind else { return Err(unexpected()) };
                Message::End { content }.put(self.outgoing)?;
                self.sent.put += 1;
                self.writer.put(key, &entry, local, list.as_deref())?;
                Ok(Some(true))
            }
            Ok(other) => {
                if begun {
                    Message::Abandon.put(self.outgoing)?;
                }
                self.forget_list(key)?;
                Ok((other == Found::Unsettled).then_some(false))
            }
            Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", name::shown(key)))),
        }
    }

    /// A list was begun whose name has no row.
    fn forget_list(&mut self, key: &[u8]) -> io::Result<()> {
        let nothing = Entry { kind: Kind::Fifo, ..Entry::link(Vec::new()) };
        self.writer.put(key, &nothing, Local::default(), None)?;
        self.writer.remove(key)?; // and the blocks of the list with it
        Ok(())
    }

    /// A file with a past: read along its former list first; what the standby lacks is read again and sent. `None`: it
    /// is not there.
    fn file_along(&mut self, key: &[u8], from: &[u8], former: &Row) -> io::Result<Option<bool>> {
        let manner = self.manner;
        let Self { tree, base, writer, chunker, progress, .. } = self;
        // A directory was renamed above it: the inode is as it was, its content need not be read.
        if key != from
            && let Some(stat) = tree.stat(key)?
            && tree::is_unchanged(&stat, &former.entry, former.local)
        {
            let list = copy_list(base, from, former, writer, key)?;
            self.writer.put(key, &former.entry, former.local, list.as_deref())?;
            self.put(key, &former.entry, Some(from))?;
            return Ok(Some(true));
        }
        let mut list = None;
        let found = read(tree, key, manner, |file, entry, stat| {
            let mut listing = Listing::default();
            let mut along = FormerList::new(base, from, former)?;
            chunker.cut(file, entry.size(), is_sparse(stat), &mut along, &mut |piece| {
                progress.bytes += piece.chunk.len;
                listing.add(piece.chunk, |n, at, chunks| writer.put_block(key, n, at, chunks))
            })?;
            let (hash, short) = listing.finish(|n, at, chunks| writer.put_block(key, n, at, chunks))?;
            list = short;
            Ok(hash)
        })?;
        let (entry, local) = match found {
            Found::Settled(entry, local) => (entry, local),
            other => {
                self.forget_list(key)?;
                return Ok((other == Found::Unsettled).then_some(false));
            }
        };
        self.writer.put(key, &entry, local, list.as_deref())?;
        if entry.kind == former.entry.kind {
            if key != from || entry != former.entry {
                self.put(key, &entry, Some(from))?;
            }
            return Ok(Some(true));
        }
        let row = self.writer.row(key)?.ok_or_else(unexpected)?;
        let file = match self.tree.file(key) {
            Ok(file) => file,
            Err(_) => return Ok(Some(false)),
        };
        if tree::local(&fstat(&file)?).inode != local.inode && local.inode != 0 {
            return Ok(Some(false)); // replaced since it was read
        }
        self.put(key, &entry, None)?;
        let in_place = if key == from { former.entry.size() } else { 0 };
        if self.send_along(key, &row, file.as_fd(), in_place)? {
            let Kind::File { content, .. } = entry.kind else { return Err(unexpected()) };
            Message::End { content }.put(self.outgoing)?;
            return Ok(Some(true));
        }
        Message::Abandon.put(self.outgoing)?;
        self.sent.put -= 1;
        Ok(Some(false))
    }

    /// Sends the content that the list of `row` describes. False: the file has other content by now.
    fn send_along(&mut self, key: &[u8], row: &Row, file: BorrowedFd<'_>, in_place: u64) -> io::Result<bool> {
        let unknown = self.unknown(key, row, in_place)?;
        let sums = self.ask_sums(key, &unknown)?;
        let mut patches = Patches { unknown: &unknown, sums: &sums };
        let Self { base, writer, outgoing, held, .. } = self;
        let (mut offset, mut same, mut data) = (0, true, Vec::new());
        let mut run: Option<(Vec<u8>, u64, u64, u64)> = None;
        each_chunk(&*writer, key, row, |_, chunk| {
            let begin = offset;
            offset += chunk.len;
            if !same {
                return Ok(());
            }
            let source = match chunk.hash {
                Some(hash) => base.place(&hash)?.map(|place| (place.key, place.number, place.offset)),
                None => None,
            };
            if let (Some((key, number, count, _)), Some((k, n, _))) = (&mut run, &source)
                && key == k
                && *number + *count == *n
            {
                *count += 1;
                return Ok(());
            }
            put_run(outgoing, run.take())?;
            if let Some((key, number, at)) = source {
                run = Some((key, number, 1, at));
                return Ok(());
            }
            let Some(hash) = chunk.hash else { return Message::Hole { len: chunk.len }.put(outgoing) };
            if let Some(Reference::Staged { old, name, offset }) = staged(writer, *held, &hash, key)? {
                return Message::Staged { old, name, offset, len: chunk.len, hash }.put(outgoing);
            }
            data.resize(chunk.len as usize, 0);
            if read_at(file, &mut data, begin)? as u64 != chunk.len || *blake3::hash(&data).as_bytes() != hash {
                same = false;
                return Ok(());
            }
            match patches.of(begin, chunk.len, &data) {
                Some((literal, data)) => {
                    Message::Patch { hash, len: chunk.len, literal: &literal, data: &data }.put(outgoing)
                }
                None => Message::Chunk { data: &data }.put(outgoing),
            }
        })?;
        put_run(self.outgoing, run)?;
        Ok(same)
    }

    /// Stretches that the standby lacks and over which it has former content of the same file.
    fn unknown(&mut self, key: &[u8], row: &Row, in_place: u64) -> io::Result<Vec<(u64, u64)>> {
        let (mut unknown, mut offset) = (Vec::new(), 0);
        if in_place == 0 {
            return Ok(unknown);
        }
        each_chunk(&self.writer, key, row, |_, chunk| {
            let begin = offset;
            offset += chunk.len;
            let Some(hash) = chunk.hash.filter(|_| begin < in_place && chunk.len > PAGE) else { return Ok(()) };
            if unknown.len() < ASK_IN_ALL && self.base.place(&hash)?.is_none() {
                unknown.push((begin, chunk.len));
            }
            Ok(())
        })?;
        Ok(unknown)
    }

    fn ask_sums(&mut self, key: &[u8], unknown: &[(u64, u64)]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        for stretches in unknown.chunks(ASK) {
            Message::AskSums { key, stretches: stretches.to_vec() }.put(self.outgoing)?;
            self.outgoing.flush()?;
            let wanted: usize = stretches.iter().map(|&(at, len)| pages(at, len).count() * 8).sum();
            match next(self.incoming)? {
                Message::Sums { sums } if sums.len() == wanted => all.extend_from_slice(sums),
                _ => return Err(unexpected()),
            }
        }
        Ok(all)
    }
}
