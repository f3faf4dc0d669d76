//! The records of the mirror's stream, as values. Pure; every length and name is checked on the way in.
//!
//! A cycle of one tree:
//!
//! ```text
//! sender                                      receiver
//!   Begin { tree } ------------------------------>   looks at its tree, begins to stage
//!   <------------- Have* (chunks left over from a broken cycle), State { cut, .. }
//!   [Ranges -> <- Range*, RangesEnd   Fetch -> <- Block*, Row*, RowsEnd]     only if the cuts differ
//!   Gone*, (Put, content*, End)*, Commit --------->   one syncfs, redo log, publish
//!   <------------- Resend*, then Again or Published
//! ```
//!
//! Content comes as `Chunk` (literal), `Run` (chunks of a file as it is in the receiver's cut), `Staged` (a chunk that
//! this or a broken cycle brought before), `Patch` (a chunk as blocks over the former content at the same place) and
//! `Hole`.

use super::channel::Outgoing;
use super::codec::{Malformed, Reader, put_bytes, put_number};
use super::control::Generation;
use super::entry::{Chunk, Entry, Hash, SIZE};
use super::name;
use super::row::CutId;
use std::io;

/// Name of a staged file: half a BLAKE3 of the key.
pub type StageName = [u8; 16];

/// The staged file of a key.
#[must_use]
pub fn stage_name(key: &[u8]) -> StageName {
    let mut name = StageName::default();
    name.copy_from_slice(&blake3::hash(key).as_bytes()[..16]);
    name
}

/// Bytes in a block of a [`Message::Patch`]: a database's page.
pub const PAGE: u64 = 4096;

/// Longest chunk that is accepted.
pub const LONGEST: u64 = super::chunk::LONGEST as u64;

/// Stretches in one [`Message::AskSums`].
pub const ASK: usize = 1024;

/// A sum of one page: enough to tell pages apart, the chunk's hash has the last word.
pub type Sum = [u8; 8];

/// The sum of a page.
#[must_use]
pub fn sum(page: &[u8]) -> Sum {
    let mut sum = Sum::default();
    sum.copy_from_slice(&blake3::hash(page).as_bytes()[..8]);
    sum
}

/// The pages of a stretch of a file: the ends at multiples of [`PAGE`] in the file, so that pages of a database are
/// pages here.
pub fn pages(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        let begin = at;
        at = ((begin / PAGE + 1) * PAGE).min(end);
        (begin < end).then_some((begin, at - begin))
    })
}

/// How a tree stands on the receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its cut; zero: none.
    pub cut: CutId,
    /// The generation that took it.
    pub generation: Generation,
    /// Names in it.
    pub names: u64,
    /// Of these, changed there and never sent.
    pub unsent: u64,
}

/// A record.
#[allow(missing_docs)] // the fields are told with their variant
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A cycle of this tree begins: its path, as in both configurations; whether it is one file; whether the receiver
    /// is to read all of its own again first.
    Begin { tree: &'a [u8], single: bool, verify: bool },
    /// Send the digests of your rows.
    Ranges,
    /// Send the rows after `after` up to and including `last` (empty: all that follow).
    Fetch { after: &'a [u8], last: &'a [u8] },
    /// The name is not in the cut.
    Gone { key: &'a [u8] },
    /// A name; a regular file's content follows unless `same` names a file of the receiver's cut that has it.
    Put { key: &'a [u8], entry: Entry, same: Option<&'a [u8]> },
    /// The next chunk, literally.
    Chunk { data: &'a [u8] },
    /// The next `count` chunks are those from `number` on, at `offset`, of `key` in the receiver's cut.
    Run { key: &'a [u8], number: u64, count: u64, offset: u64 },
    /// The next chunk is in a staged file; `old`: one that a broken cycle left.
    Staged { old: bool, name: StageName, offset: u64, len: u64, hash: Hash },
    /// The next chunk, by pages: of each the former content (bit 0) or what is in `data` (bit 1).
    Patch { hash: Hash, len: u64, literal: &'a [u8], data: &'a [u8] },
    /// The next chunk is a hole.
    Hole { len: u64 },
    /// The content is complete: hash of its chunk list.
    End { content: Hash },
    /// The file would not hold still: forget it.
    Abandon,
    /// Send the sums of the pages of the former content of `key`, at these places.
    AskSums { key: &'a [u8], stretches: Vec<(u64, u64)> },
    /// The cut is complete.
    Commit { cut: CutId },
    /// The cut will not be completed.
    Cancel,

    /// How the tree stands.
    State(Standing),
    /// Digest of the next rows, up to and including `last` (empty: to the end).
    Range { last: &'a [u8], digest: Hash },
    /// No more ranges.
    RangesEnd,
    /// A block of the chunk list of the row that follows.
    Block { chunks: Vec<Chunk> },
    /// A row.
    Row { key: &'a [u8], entry: Entry },
    /// No more rows.
    RowsEnd,
    /// Chunks of a file that a broken cycle left, in order from its start.
    Have { name: StageName, offset: u64, chunks: Vec<Chunk> },
    /// What was asked for by [`Message::AskSums`].
    Sums { sums: &'a [u8] },
    /// Something that the name's content referred to is not there: send it literally.
    Resend { key: &'a [u8] },
    /// That was all that must be sent again; then commit again.
    Again,
    /// The cut is published and on disk.
    Published { cut: CutId },
    /// The cycle cannot go on.
    Refused { reason: &'a [u8] },
}

const BEGIN: u8 = 1;
const RANGES: u8 = 2;
const FETCH: u8 = 3;
const GONE: u8 = 4;
const PUT: u8 = 5;
const CHUNK: u8 = 6;
const RUN: u8 = 7;
const STAGED: u8 = 8;
const PATCH: u8 = 9;
const HOLE: u8 = 10;
const END: u8 = 11;
const ABANDON: u8 = 12;
const ASK_SUMS: u8 = 13;
const COMMIT: u8 = 14;
const CANCEL: u8 = 15;
const STATE: u8 = 32;
const RANGE: u8 = 33;
const RANGES_END: u8 = 34;
const BLOCK: u8 = 35;
const ROW: u8 = 36;
const ROWS_END: u8 = 37;
const HAVE: u8 = 38;
const SUMS: u8 = 39;
const RESEND: u8 = 40;
const AGAIN: u8 = 41;
const PUBLISHED: u8 = 42;
const REFUSED: u8 = 43;

impl Message<'_> {
    /// Puts the record into the stream.
    ///
    /// # Errors
    ///
    /// As [`Outgoing::put`].
    pub fn put(&self, link: &mut Outgoing) -> io::Result<()> {
        link.put(self.kind(), |to| self.encode(to))
    }

    /// The record's number in the stream.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Message::Begin { .. } => BEGIN,
            Message::Ranges => RANGES,
            Message::Fetch { .. } => FETCH,
            Message::Gone { .. } => GONE,
            Message::Put { .. } => PUT,
            Message::Chunk { .. } => CHUNK,
            Message::Run { .. } => RUN,
            Message::Staged { .. } => STAGED,
            Message::Patch { .. } => PATCH,
            Message::Hole { .. } => HOLE,
            Message::End { .. } => END,
            Message::Abandon => ABANDON,
            Message::AskSums { .. } => ASK_SUMS,
            Message::Commit { .. } => COMMIT,
            Message::Cancel => CANCEL,
            Message::State(_) => STATE,
            Message::Range { .. } => RANGE,
            Message::RangesEnd => RANGES_END,
            Message::Block { .. } => BLOCK,
            Message::Row { .. } => ROW,
            Message::RowsEnd => ROWS_END,
            Message::Have { .. } => HAVE,
            Message::Sums { .. } => SUMS,
            Message::Resend { .. } => RESEND,
            Message::Again => AGAIN,
            Message::Published { .. } => PUBLISHED,
            Message::Refused { .. } => REFUSED,
        }
    }

    /// Appends the payload.
    pub fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Message::Begin { tree, single, verify } => {
                to.push(u8::from(*single) | u8::from(*verify) << 1);
                to.extend_from_slice(tree);
            }
            Message::Fetch { after, last } => {
                put_bytes(to, after);
                to.extend_from_slice(last);
            }
            Message::Gone { key } | Message::Resend { key } => to.extend_from_slice(key),
            Message::Put { key, entry, same } => {
                put_bytes(to, key);
                entry.encode(to);
                to.push(u8::from(same.is_some()));
                to.extend_from_slice(same.unwrap_or_default());
            }
            Message::Chunk { data } => to.extend_from_slice(data),
            Message::Run { key, number, count, offset } => {
                put_number(to, *number);
                put_number(to, *count);
                put_number(to, *offset);
                to.extend_from_slice(key);
            }
            Message::Staged { old, name, offset, len, hash } => {
                to.push(u8::from(*old));
                to.extend_from_slice(name);
                put_number(to, *offset);
                put_number(to, *len);
                to.extend_from_slice(hash);
            }
            Message::Patch { hash, len, literal, data } => {
                to.extend_from_slice(hash);
                put_number(to, *len);
                put_bytes(to, literal);
                to.extend_from_slice(data);
            }
            Message::Hole { len } => put_number(to, *len),
            Message::End { content } => to.extend_from_slice(content),
            Message::AskSums { key, stretches } => {
                put_bytes(to, key);
                for (offset, len) in stretches {
                    put_number(to, *offset);
                    put_number(to, *len);
                }
            }
            Message::Commit { cut } | Message::Published { cut } => to.extend_from_slice(cut),
            Message::State(standing) => {
                to.extend_from_slice(&standing.cut);
                let Generation { term, boot } = standing.generation;
                [term, boot, standing.names, standing.unsent].into_iter().for_each(|n| put_number(to, n));
            }
            Message::Range { last, digest } => {
                to.extend_from_slice(digest);
                to.extend_from_slice(last);
            }
            Message::Block { chunks } => chunks.iter().for_each(|chunk| chunk.encode(to)),
            Message::Row { key, entry } => {
                put_bytes(to, key);
                entry.encode(to);
            }
            Message::Have { name, offset, chunks } => {
                to.extend_from_slice(name);
                put_number(to, *offset);
                chunks.iter().for_each(|chunk| chunk.encode(to));
            }
            Message::Sums { sums } => to.extend_from_slice(sums),
            Message::Refused { reason } => to.extend_from_slice(reason),
            Message::Ranges
            | Message::Abandon
            | Message::Cancel
            | Message::RangesEnd
            | Message::RowsEnd
            | Message::Again => {}
        }
    }
}

fn key(bytes: &[u8]) -> Result<&[u8], Malformed> {
    if name::is_valid(bytes) { Ok(bytes) } else { Err(Malformed) }
}

fn chunk_length(len: u64) -> Result<u64, Malformed> {
    if (1..=LONGEST).contains(&len) { Ok(len) } else { Err(Malformed) }
}

/// A place in a file: lengths can be added to it.
fn place(n: u64) -> Result<u64, Malformed> {
    if n <= SIZE { Ok(n) } else { Err(Malformed) }
}

impl<'a> Message<'a> {
    /// Understands a record.
    ///
    /// # Errors
    ///
    /// When it is cut off, leaves its limits or is of no known kind.
    pub fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = Reader(payload);
        let message = match kind {
            BEGIN => {
                let flags = from.byte()?;
                Message::Begin { single: flags & 1 != 0, verify: flags & 2 != 0, tree: from.take(from.0.len())? }
            }
            RANGES => Message::Ranges,
            FETCH => Message::Fetch { after: key(from.bytes()?)?, last: key(from.take(from.0.len())?)? },
            GONE => Message::Gone { key: key(from.take(payload.len())?)? },
            PUT => {
                let key_bytes = key(from.bytes()?)?;
                let entry = Entry::decode(&mut from)?;
                let same = match from.byte()? {
                    0 => None,
                    _ => Some(key(from.take(from.0.len())?)?),
                };
                Message::Put { key: key_bytes, entry, same }
            }
            CHUNK => {
                chunk_length(payload.len() as u64)?;
                Message::Chunk { data: from.take(payload.len())? }
            }
            RUN => Message::Run {
                number: from.number()?,
                count: from.number()?,
                offset: place(from.number()?)?,
                key: key(from.take(from.0.len())?)?,
            },
            STAGED => Message::Staged {
                old: from.byte()? != 0,
                name: from.array()?,
                offset: place(from.number()?)?,
                len: chunk_length(from.number()?)?,
                hash: from.array()?,
            },
            PATCH => Message::Patch {
                hash: from.array()?,
                len: chunk_length(from.number()?)?,
                literal: from.bytes()?,
                data: from.take(from.0.len())?,
            },
            HOLE => Message::Hole { len: Some(place(from.number()?)?).filter(|len| *len > 0).ok_or(Malformed)? },
            END => Message::End { content: from.array()? },
            ABANDON => Message::Abandon,
            ASK_SUMS => {
                let key_bytes = key(from.bytes()?)?;
                let mut stretches = Vec::new();
                while !from.0.is_empty() {
                    if stretches.len() == ASK {
                        return Err(Malformed);
                    }
                    stretches.push((place(from.number()?)?, chunk_length(from.number()?)?));
                }
                Message::AskSums { key: key_bytes, stretches }
            }
            COMMIT => Message::Commit { cut: from.array()? },
            CANCEL => Message::Cancel,
            STATE => Message::State(Standing {
                cut: from.array()?,
                generation: Generation { term: from.number()?, boot: from.number()? },
                names: from.number()?,
                unsent: from.number()?,
            }),
            RANGE => Message::Range { digest: from.array()?, last: key(from.take(from.0.len())?)? },
            RANGES_END => Message::RangesEnd,
            BLOCK => Message::Block { chunks: Chunk::decode_all(Reader(from.take(payload.len())?))? },
            ROW => Message::Row { key: key(from.bytes()?)?, entry: Entry::decode(&mut from)? },
            ROWS_END => Message::RowsEnd,
            HAVE => Message::Have {
                name: from.array()?,
                offset: place(from.number()?)?,
                chunks: Chunk::decode_all(Reader(from.take(from.0.len())?))?,
            },
            SUMS => Message::Sums { sums: from.take(payload.len())? },
            RESEND => Message::Resend { key: key(from.take(payload.len())?)? },
            AGAIN => Message::Again,
            PUBLISHED => Message::Published { cut: from.array()? },
            REFUSED => Message::Refused { reason: from.take(payload.len())? },
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_record_is_decoded_without_panic_and_encodes_to_what_decodes_again(kind in 0..48u8, payload: Vec<u8>) {
            if let Ok(message) = Message::decode(kind, &payload) {
                let mut bytes = Vec::new();
                message.encode(&mut bytes);
                prop_assert_eq!(message.kind(), kind);
                prop_assert_eq!(Message::decode(kind, &bytes), Ok(message.clone()));
            }
        }

        #[test]
        fn pages_cover_a_stretch_without_gaps(offset in 0..100_000u64, len in 0..300_000u64) {
            let mut at = offset;
            for (begin, n) in pages(offset, len) {
                prop_assert_eq!(begin, at);
                prop_assert!(n > 0 && n <= PAGE && ((begin + n) % PAGE == 0 || begin + n == offset + len));
                at += n;
            }
            prop_assert_eq!(at, offset + len);
        }
    }
}
