//! Where the standby has a chunk, and how it is told.

use std::io;

use super::channel::Outgoing;
use super::entry::{Chunk, Hash};
use super::index::{Lookup, Reader};
use super::index_writer::Writer;
use super::message::{Message, pages, stage_name, sum};

/// Sums of the standby's pages, taken along in the order in which they were asked for.
pub(super) struct Patches<'a> {
    pub(super) unknown: &'a [(u64, u64)],
    pub(super) sums: &'a [u8],
}

impl Patches<'_> {
    /// The chunk as pages over the former content: which are literal, and those. `None`: literal as a whole is shorter.
    pub(super) fn of(&mut self, begin: u64, len: u64, data: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        while let Some(&(at, n)) = self.unknown.first() {
            if at > begin {
                return None;
            }
            let count = pages(at, n).count() * 8;
            let (sums, rest) = self.sums.split_at_checked(count)?;
            self.unknown = &self.unknown[1..];
            self.sums = rest;
            if at < begin {
                continue;
            }
            let mut literal = vec![0; (count / 8).div_ceil(8)];
            let mut differing = Vec::new();
            for (number, (at, n)) in pages(begin, len).enumerate() {
                let page = &data[(at - begin) as usize..(at - begin + n) as usize];
                if sum(page) != sums[8 * number..8 * number + 8] {
                    literal[number / 8] |= 1 << (number % 8);
                    differing.extend_from_slice(page);
                }
            }
            return ((differing.len() as u64) < len).then_some((literal, differing));
        }
        None
    }
}

/// Where the standby has a chunk.
pub(super) enum Reference {
    /// In a file of its cut.
    Run { key: Vec<u8>, number: u64, offset: u64 },
    /// In a staged file.
    Staged { old: bool, name: [u8; 16], offset: u64 },
}

/// Where the standby has a chunk, if it has it.
///
/// # Errors
///
/// What the index says.
pub(super) fn reference(
    base: &Reader,
    writer: &Writer<'_>,
    held: bool,
    chunk: &Chunk,
) -> io::Result<Option<Reference>> {
    let Some(hash) = &chunk.hash else { return Ok(None) };
    if let Some(place) = base.place(hash)? {
        return Ok(Some(Reference::Run { key: place.key, number: place.number, offset: place.offset }));
    }
    staged(writer, held, hash, b"")
}

/// A chunk that this cycle or a broken one brought. `own`: the name that is being sent, whose rows are written already
/// though its content is not there yet.
///
/// # Errors
///
/// What the index says.
pub(super) fn staged(writer: &Writer<'_>, held: bool, hash: &Hash, own: &[u8]) -> io::Result<Option<Reference>> {
    if held && let Some((name, offset)) = writer.held(hash)? {
        return Ok(Some(Reference::Staged { old: true, name, offset }));
    }
    let place = writer.place(hash)?.filter(|place| own.is_empty() || place.key != own);
    Ok(place.map(|place| Reference::Staged { old: false, name: stage_name(&place.key), offset: place.offset }))
}

/// Puts the record of a chunk.
///
/// # Errors
///
/// What the link says.
pub(super) fn put_chunk(
    outgoing: &mut Outgoing,
    chunk: &Chunk,
    source: Option<Reference>,
    data: &[u8],
) -> io::Result<()> {
    let Some(hash) = chunk.hash else { return Message::Hole { len: chunk.len }.put(outgoing) };
    match source {
        Some(Reference::Run { key, number, offset }) => put_run(outgoing, Some((key, number, 1, offset))),
        Some(Reference::Staged { old, name, offset }) => {
            Message::Staged { old, name, offset, len: chunk.len, hash }.put(outgoing)
        }
        None => Message::Chunk { data }.put(outgoing),
    }
}

/// Puts the record of chunks that lie side by side in a file of the standby's: key, number, count, offset.
///
/// # Errors
///
/// What the link says.
pub(super) fn put_run(outgoing: &mut Outgoing, run: Option<(Vec<u8>, u64, u64, u64)>) -> io::Result<()> {
    match run {
        Some((key, number, count, offset)) => Message::Run { key: &key, number, count, offset }.put(outgoing),
        None => Ok(()),
    }
}
