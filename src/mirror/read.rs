//! Reading a name as it is at one moment: what changes while it is read is no state of it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::stat::{FileStat, fstat};

use super::chunk::{Chunker, Former, Piece};
use super::entry::{Chunk, Entry, Hash, Kind, Local};
use super::index::{Lookup, Reader};
use super::index_writer::Writer;
use super::row::{BLOCK, Row, is_short};
use super::still::{Grain, digest, first_look, is_fresh, wait_for_writers};
use super::tree::{self, Tree};

/// What a reading found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It held still.
    Settled(Entry, Local),
    /// It changed meanwhile.
    Unsettled,
    /// It is not there.
    Nothing,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It must not change meanwhile.
    Still,
    /// What is read must not change meanwhile, more may come: for files that never hold still. Reads three times.
    Framed,
}

/// The disk has lost it: a sector that cannot be read, a checksum of the file system's that is wrong.
#[must_use]
pub fn is_unreadable(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EIO | libc::EBADMSG | libc::EUCLEAN))
}

fn same_state(a: &FileStat, b: &FileStat) -> bool {
    tree::local(a) == tree::local(b) && tree::mtime(a) == tree::mtime(b) && a.st_size == b.st_size
}

/// Reads what `key` names. Of a file that grew meanwhile, as [`Manner::Framed`] allows, it is what was there at first;
/// then the local part says that it must be read again. `content` is called for a regular file, with its entry and what
/// it looks like, and returns the hash of its chunk list.
///
/// # Errors
///
/// What the kernel says but for absence, what `content` returns.
pub fn read(
    tree: &mut Tree,
    key: &[u8],
    manner: Manner,
    mut content: impl FnMut(BorrowedFd<'_>, &Entry, &FileStat) -> io::Result<Hash>,
) -> io::Result<Found> {
    match attempt(tree, key, manner, &mut content) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(Found::Nothing),
        Err(e) if e.raw_os_error() == Some(libc::ESTALE) => Ok(Found::Unsettled),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Found::Unsettled),
        // One damaged file holds up no other. The last attempt says so.
        Err(e) if is_unreadable(&e) => {
            if manner == Manner::Framed {
                log::warn!("mirror: {}: {e}", super::name::shown(key));
            }
            Ok(Found::Unsettled)
        }
        other => other,
    }
}

fn attempt(
    tree: &mut Tree,
    key: &[u8],
    manner: Manner,
    content: &mut impl FnMut(BorrowedFd<'_>, &Entry, &FileStat) -> io::Result<Hash>,
) -> io::Result<Found> {
    let grain = tree.grain();
    let (parent, name) = tree.parent(key)?;
    let stat = tree::stat_at(parent, &name)?;
    if tree::format(&stat) == libc::S_IFREG {
        let file = tree.file(key)?;
        let (parent, name) = tree.parent(key)?;
        return file_at(parent, &name, file.as_fd(), (manner, grain), content);
    }
    let entry = tree::entry(parent, &name, &stat, None)?;
    let end = tree::stat_at(parent, &name)?;
    let local = seen(&stat, grain == Grain::Fine || !is_fresh(tree::local(&stat)));
    Ok(if same_state(&stat, &end) { Found::Settled(entry, local) } else { Found::Unsettled })
}

fn file_at(
    parent: BorrowedFd<'_>,
    name: &CStr,
    file: BorrowedFd<'_>,
    (manner, grain): (Manner, Grain),
    content: &mut impl FnMut(BorrowedFd<'_>, &Entry, &FileStat) -> io::Result<Hash>,
) -> io::Result<Found> {
    let (begin, telling) = first_look(file, grain)?;
    if tree::format(&begin) != libc::S_IFREG || (!telling && manner == Manner::Still) {
        return Ok(Found::Unsettled);
    }
    let mut entry = tree::entry(parent, name, &begin, Some(file))?;
    let frame = if manner == Manner::Framed { Some(digest(file, entry.size())?) } else { None };
    wait_for_writers(file);
    let hash = content(file, &entry, &begin)?;
    wait_for_writers(file);
    let end = fstat(file)?;
    let still = telling && same_state(&begin, &end);
    let framed = !still && same_file(&begin, &end) && frame.is_some() && frame == Some(digest(file, entry.size())?);
    if !still && !framed {
        return Ok(Found::Unsettled);
    }
    if let Kind::File { content, .. } = &mut entry.kind {
        *content = hash;
    }
    Ok(Found::Settled(entry, seen(&begin, still)))
}

/// What is remembered of an inode that was read: nothing, if a change could hide behind the last one.
fn seen(stat: &FileStat, telling: bool) -> Local {
    let local = tree::local(stat);
    if telling { local } else { Local { inode: 0, ..local } }
}

/// Nothing but times and size has changed.
fn same_file(a: &FileStat, b: &FileStat) -> bool {
    (a.st_ino, a.st_mode, a.st_uid, a.st_gid) == (b.st_ino, b.st_mode, b.st_uid, b.st_gid)
}

/// The file has fewer blocks than its size needs: there may be holes.
#[must_use]
pub fn is_sparse(stat: &FileStat) -> bool {
    (stat.st_blocks as u64).saturating_mul(512) < stat.st_size as u64
}

/// A chunk list on its way into the index: in blocks, of which one is in memory.
#[derive(Debug)]
pub struct Listing {
    block: Vec<Chunk>,
    number: u32,
    offset: u64,
    begin: u64,
    hasher: blake3::Hasher,
}

impl Default for Listing {
    fn default() -> Self {
        Listing { block: Vec::new(), number: 0, offset: 0, begin: 0, hasher: blake3::Hasher::new() }
    }
}

impl Listing {
    /// Adds the next chunk. A full block is handed to `full`: its number, where it begins, its chunks.
    ///
    /// # Errors
    ///
    /// What `full` returns.
    pub fn add(&mut self, chunk: Chunk, full: impl FnOnce(u32, u64, &[Chunk]) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(40);
        chunk.encode(&mut bytes);
        self.hasher.update(&bytes);
        self.block.push(chunk);
        self.offset += chunk.len;
        if self.block.len() == BLOCK {
            full(self.number, self.begin, &self.block)?;
            self.block.clear();
            self.number += 1;
            self.begin = self.offset;
        }
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.offset
    }

    /// The hash of the list, and the list itself if it is short; else the last block is handed to `last`.
    ///
    /// # Errors
    ///
    /// What `last` returns.
    pub fn finish(
        self,
        last: impl FnOnce(u32, u64, &[Chunk]) -> io::Result<()>,
    ) -> io::Result<(Hash, Option<Vec<Chunk>>)> {
        let hash = *self.hasher.finalize().as_bytes();
        if self.number == 0 && is_short(self.block.len()) {
            return Ok((hash, Some(self.block)));
        }
        if !self.block.is_empty() {
            last(self.number, self.begin, &self.block)?;
        }
        Ok((hash, None))
    }
}

/// Cuts a file and puts its chunk list under `key` into the index on the way; `each` has every piece first. Returns the
/// hash of the list, and the list itself if it is short.
///
/// # Errors
///
/// What the file, the index, or `each` says.
pub fn cut_into(
    writer: &mut Writer<'_>,
    key: &[u8],
    chunker: &mut Chunker,
    (file, size, sparse): (BorrowedFd<'_>, u64, bool),
    former: &mut impl Former,
    mut each: impl FnMut(&Piece<'_>, &Writer<'_>) -> io::Result<()>,
) -> io::Result<(Hash, Option<Vec<Chunk>>)> {
    let mut listing = Listing::default();
    chunker.cut(file, size, sparse, former, &mut |piece| {
        each(&piece, writer)?;
        listing.add(piece.chunk, |n, at, chunks| writer.put_block(key, n, at, chunks))
    })?;
    listing.finish(|n, at, chunks| writer.put_block(key, n, at, chunks))
}

/// The former content of a name, along which its new content is cut.
pub struct FormerList<'a> {
    index: &'a Reader,
    key: &'a [u8],
    row: &'a Row,
    block: (u32, Vec<Chunk>),
}

impl<'a> FormerList<'a> {
    /// Of a row of the index.
    ///
    /// # Errors
    ///
    /// What the index says.
    pub fn new(index: &'a Reader, key: &'a [u8], row: &'a Row) -> io::Result<Self> {
        let first = match &row.short {
            Some(list) => list.clone(),
            None => index.block(key, 0)?,
        };
        Ok(FormerList { index, key, row, block: (0, first) })
    }
}

impl Former for FormerList<'_> {
    fn chunk(&mut self, number: u64) -> io::Result<Option<Chunk>> {
        let block = u32::try_from(number / BLOCK as u64).unwrap_or(u32::MAX);
        if block != self.block.0 {
            let chunks = if self.row.short.is_some() { Vec::new() } else { self.index.block(self.key, block)? };
            self.block = (block, chunks);
        }
        Ok(self.block.1.get((number % BLOCK as u64) as usize).copied())
    }

    fn number(&mut self, hash: &Hash) -> io::Result<Option<u64>> {
        let place = self.index.place(hash)?;
        Ok(place.filter(|place| place.key == self.key).map(|place| place.number))
    }
}

/// Copies the chunk list of `from`'s row in one state of the index to `to` in another that is being written. Returns
/// the list if it is short.
///
/// # Errors
///
/// What the index says.
pub fn copy_list(
    index: &impl Lookup,
    from: &[u8],
    row: &Row,
    writer: &mut Writer<'_>,
    to: &[u8],
) -> io::Result<Option<Vec<Chunk>>> {
    if let Some(list) = &row.short {
        return Ok(Some(list.clone()));
    }
    let mut offset = 0;
    for number in 0.. {
        let block = index.block(from, number)?;
        if !block.is_empty() {
            writer.put_block(to, number, offset, &block)?;
            offset += block.iter().map(|chunk| chunk.len).sum::<u64>();
        }
        if block.len() < BLOCK {
            break;
        }
    }
    Ok(None)
}
