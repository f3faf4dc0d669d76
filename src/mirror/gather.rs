//! The content of a file as it comes in, chunk by chunk, from the link and from what this box has.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::ftruncate;

use super::channel::Outgoing;
use super::chunk::read_at;
use super::codec::Malformed;
use super::entry::{Chunk, Entry, Hash, Kind};
use super::fault;
use super::index::{Lookup, Reader};
use super::message::{Message, StageName, pages, stage_name, sum};
use super::read::{FormerList, Listing, is_unreadable};
use super::receiver::Receiving;
use super::redo::{Source, Step};
use super::row::Row;
use super::stage;
use super::stop::Stop;
use super::tree;

/// A file whose content is coming in.
pub(super) struct Gathering {
    pub(super) key: Vec<u8>,
    pub(super) entry: Entry,
    pub(super) file: OwnedFd,
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) listing: Listing,
    /// What came last was a hole: the file is shorter than that.
    pub(super) ends_in_hole: bool,
    pub(super) bad: bool,
    stop: Stop,
}

/// A file of the present cut that content is taken from.
pub(super) struct Origin {
    pub(super) key: Vec<u8>,
    pub(super) row: Row,
    pub(super) file: OwnedFd,
    /// Its inode is as it was when its entry was made, so its chunks are what the index says.
    pub(super) trusted: bool,
}

impl Origin {
    /// Nobody has been at it since it was opened, if it was trusted then.
    pub(super) fn is_still_trusted(&self) -> io::Result<bool> {
        let stat = nix::sys::stat::fstat(&self.file)?;
        Ok(!self.trusted || tree::is_unchanged(&stat, &self.row.entry, self.row.local))
    }
}

impl Receiving<'_, '_> {
    /// Opens a file of the present cut; `None` if there is none.
    pub(super) fn open_origin(&mut self, key: &[u8]) -> io::Result<Option<Origin>> {
        if let Some(origin) = self.origin.take().filter(|origin| origin.key == key) {
            return Ok(Some(origin));
        }
        let Some(row) = self.base.row(key)?.filter(|row| matches!(row.entry.kind, Kind::File { .. })) else {
            return Ok(None);
        };
        let Ok(file) = self.tree.file(key) else { return Ok(None) };
        let stat = nix::sys::stat::fstat(&file)?;
        let trusted = tree::is_unchanged(&stat, &row.entry, row.local);
        Ok(Some(Origin { key: key.to_vec(), row, file, trusted }))
    }

    pub(super) fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let hash = *blake3::hash(data).as_bytes();
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        gathering.check(data.len() as u64)?;
        fault::step();
        stage::write_at(gathering.file.as_fd(), data, gathering.at)?;
        gathering.add(Chunk { len: data.len() as u64, hash: Some(hash) }, &mut |n, o, c| {
            put_block(&mut self.blocks, n, o, c)
        })
    }

    pub(super) fn run_of(&mut self, key: &[u8], number: u64, count: u64, offset: u64) -> io::Result<()> {
        let origin = self.open_origin(key)?;
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        let Some(origin) = origin else {
            gathering.bad = true;
            return Ok(());
        };
        let blocks = &mut self.blocks;
        gathering.take_run_at(&origin, &self.base, &mut self.buffer, (number, count, offset), &mut |n, o, c| {
            put_block(blocks, n, o, c)
        })?;
        self.origin = Some(origin);
        Ok(())
    }

    pub(super) fn staged(&mut self, old: bool, name: StageName, offset: u64, len: u64, hash: Hash) -> io::Result<()> {
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        gathering.check(len)?;
        let directory = if old { self.old.as_fd() } else { self.stage.as_fd() };
        self.buffer.resize(len as usize, 0);
        let read = stage::open(directory, &stage::file_name("", name))
            .and_then(|file| read_at(file.as_fd(), &mut self.buffer, offset));
        if !read.is_ok_and(|n| n as u64 == len) || *blake3::hash(&self.buffer).as_bytes() != hash {
            gathering.bad = true;
            return Ok(());
        }
        stage::write_at(gathering.file.as_fd(), &self.buffer, gathering.at)?;
        let blocks = &mut self.blocks;
        gathering.add(Chunk { len, hash: Some(hash) }, &mut |n, o, c| put_block(blocks, n, o, c))
    }

    pub(super) fn patch(&mut self, hash: Hash, len: u64, literal: &[u8], data: &[u8]) -> io::Result<()> {
        let Some(key) = self.gathering.as_ref().map(|gathering| gathering.key.clone()) else {
            return Err(Malformed.into());
        };
        let origin = self.open_origin(&key)?;
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        gathering.check(len)?;
        let Some(origin) = origin else {
            gathering.bad = true;
            return Ok(());
        };
        self.buffer.resize(len as usize, 0);
        let n = match read_at(origin.file.as_fd(), &mut self.buffer, gathering.at) {
            Err(e) if is_unreadable(&e) => 0,
            other => other?,
        };
        self.buffer[n..].fill(0);
        let mut data = data;
        for (at, (begin, n)) in pages(gathering.at, len).enumerate() {
            let bit = literal.get(at / 8).ok_or(Malformed)? >> (at % 8) & 1;
            if bit == 1 {
                let (page, rest) = data.split_at_checked(n as usize).ok_or(Malformed)?;
                let begin = (begin - gathering.at) as usize;
                self.buffer[begin..begin + page.len()].copy_from_slice(page);
                data = rest;
            }
        }
        self.origin = Some(origin);
        if *blake3::hash(&self.buffer).as_bytes() != hash {
            gathering.bad = true;
            return Ok(());
        }
        stage::write_at(gathering.file.as_fd(), &self.buffer, gathering.at)?;
        let blocks = &mut self.blocks;
        gathering.add(Chunk { len, hash: Some(hash) }, &mut |n, o, c| put_block(blocks, n, o, c))
    }

    pub(super) fn hole(&mut self, len: u64) -> io::Result<()> {
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        gathering.check(len)?;
        let blocks = &mut self.blocks;
        gathering.add(Chunk { len, hash: None }, &mut |n, o, c| put_block(blocks, n, o, c))
    }

    /// The content is complete: metadata, and into the log.
    pub(super) fn end(&mut self, content: Hash) -> io::Result<()> {
        let Gathering { key, mut entry, file, at, size, listing, ends_in_hole, bad, .. } =
            self.gathering.take().ok_or(Malformed)?;
        let blocks = &mut self.blocks;
        let (hash, list) = listing.finish(|n, o, c| put_block(blocks, n, o, c))?;
        if bad || at != size || hash != content {
            self.blocks.set_len(0)?;
            self.blocks.rewind()?;
            return self.ask_again(key);
        }
        if ends_in_hole {
            ftruncate(&file, size as i64)?;
        }
        entry.kind = Kind::File { size, content };
        let staged = stage::file_name("", stage_name(&key));
        stage::set_metadata(self.stage.as_fd(), &staged, &entry, Some(file.as_fd()), true)
            .map_err(super::scan::at(&key))?;
        let long = list.is_none();
        self.log.add(&Step::Put { key, entry, source: Source::Staged, list_of: None, list })?;
        if long { self.take_blocks() } else { Ok(()) }
    }

    /// Moves the blocks of the list behind their name in the log.
    fn take_blocks(&mut self) -> io::Result<()> {
        self.blocks.rewind()?;
        let mut file = io::BufReader::new(&self.blocks);
        let mut left = self.blocks.metadata()?.len();
        while left > 0 {
            let mut len = [0; 4];
            io::Read::read_exact(&mut file, &mut len)?;
            self.buffer.resize(u32::from_le_bytes(len) as usize, 0);
            io::Read::read_exact(&mut file, &mut self.buffer)?;
            self.log.add(&Step::Block { chunks: Chunk::decode_all(super::codec::Reader(&self.buffer))? })?;
            left = left.saturating_sub(4 + self.buffer.len() as u64);
        }
        self.blocks.set_len(0)?;
        self.blocks.rewind()
    }

    pub(super) fn tell_sums(
        &mut self,
        key: &[u8],
        stretches: &[(u64, u64)],
        outgoing: &mut Outgoing,
    ) -> io::Result<()> {
        let origin = self.open_origin(key)?;
        let mut sums = Vec::new();
        for &(offset, len) in stretches {
            self.buffer.clear();
            self.buffer.resize(len as usize, 0);
            if let Some(origin) = &origin {
                match read_at(origin.file.as_fd(), &mut self.buffer, offset) {
                    Err(e) if is_unreadable(&e) => {} // the chunk's hash has the last word
                    other => other.map(drop)?,
                }
            }
            for (begin, n) in pages(offset, len) {
                let begin = (begin - offset) as usize;
                sums.extend_from_slice(&sum(&self.buffer[begin..begin + n as usize]));
            }
            if sums.len() > super::channel::RECORD {
                return Err(Malformed.into());
            }
        }
        self.origin = origin;
        Message::Sums { sums: &sums }.put(outgoing)?;
        outgoing.flush()
    }
}

/// Keeps a block of a long list until its name is complete.
fn put_block(file: &mut File, _number: u32, _offset: u64, chunks: &[Chunk]) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    chunks.iter().for_each(|chunk| chunk.encode(&mut bytes));
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    file.write_all(&bytes)
}

/// Where a full block of a chunk list goes.
type Full<'a> = &'a mut dyn FnMut(u32, u64, &[Chunk]) -> io::Result<()>;

impl Gathering {
    /// Nothing of the `size` bytes is there yet.
    pub(super) fn new(key: Vec<u8>, entry: Entry, file: OwnedFd, size: u64, stop: Stop) -> Self {
        Self { key, entry, file, at: 0, size, listing: Listing::default(), ends_in_hole: false, bad: false, stop }
    }

    /// So many bytes more still fit the size that was announced.
    fn check(&self, len: u64) -> io::Result<()> {
        if self.at.checked_add(len).is_some_and(|end| end <= self.size) { Ok(()) } else { Err(Malformed.into()) }
    }

    fn add(&mut self, chunk: Chunk, full: Full<'_>) -> io::Result<()> {
        self.at += chunk.len;
        self.ends_in_hole = chunk.hash.is_none();
        self.listing.add(chunk, full)
    }

    /// Chunks of another file from a number on, which lie there from `offset` on.
    fn take_run_at(
        &mut self,
        origin: &Origin,
        base: &Reader,
        buffer: &mut Vec<u8>,
        (number, count, offset): (u64, u64, u64),
        full: Full<'_>,
    ) -> io::Result<()> {
        match self.copy_run(origin, base, buffer, (number, count, offset), full) {
            // It is sent again: what this box has of it cannot be read.
            Err(e) if is_unreadable(&e) => self.bad = true,
            other => other?,
        }
        // What was copied unread is what the index says only if it still is so.
        self.bad |= !origin.is_still_trusted()?;
        Ok(())
    }

    fn copy_run(
        &mut self,
        origin: &Origin,
        base: &Reader,
        buffer: &mut Vec<u8>,
        (number, count, offset): (u64, u64, u64),
        full: Full<'_>,
    ) -> io::Result<()> {
        use super::chunk::Former;
        let mut list = FormerList::new(base, &origin.key, &origin.row)?;
        let (mut from, mut stretch) = (offset, (offset, self.at, 0));
        for number in number..number.saturating_add(count) {
            let Some(chunk) = list.chunk(number)? else { break };
            self.check(chunk.len)?;
            match chunk.hash {
                // Holes stay holes: what lies between them is copied in one go.
                None => {
                    self.copy_stretch(origin, stretch)?;
                    stretch = (from + chunk.len, self.at + chunk.len, 0);
                }
                Some(_) if origin.trusted => stretch.2 += chunk.len,
                Some(hash) => self.copy_checked(origin, buffer, from, chunk.len, hash)?,
            }
            from += chunk.len;
            self.add(chunk, full)?;
        }
        self.copy_stretch(origin, stretch)
    }

    /// As [`Gathering::take_run_at`], from the start of the other file.
    pub(super) fn take_run(
        &mut self,
        origin: &Origin,
        base: &Reader,
        buffer: &mut Vec<u8>,
        number: u64,
        count: u64,
        full: Full<'_>,
    ) -> io::Result<()> {
        self.take_run_at(origin, base, buffer, (number, count, 0), full)
    }

    fn copy_stretch(&mut self, origin: &Origin, (from, to, len): (u64, u64, u64)) -> io::Result<()> {
        fault::step();
        self.bad |= !stage::copy((origin.file.as_fd(), from), (self.file.as_fd(), to), len, &self.stop)?;
        Ok(())
    }

    fn copy_checked(
        &mut self,
        origin: &Origin,
        buffer: &mut Vec<u8>,
        from: u64,
        len: u64,
        hash: Hash,
    ) -> io::Result<()> {
        if len > super::message::LONGEST {
            self.bad = true;
            return Ok(());
        }
        self.stop.check()?;
        buffer.resize(len as usize, 0);
        let n = read_at(origin.file.as_fd(), buffer, from)?;
        self.bad |= n as u64 != len || *blake3::hash(buffer).as_bytes() != hash;
        stage::write_at(self.file.as_fd(), buffer, self.at)
    }
}
