//! Rows of the index, as values and as bytes.

use std::io;

use super::codec::{Reader as Bytes, put_number};
use super::control::Generation;
use super::entry::{Chunk, Entry, Local};

/// Chunks in one block of a list.
pub const BLOCK: usize = 256;

/// Longest list that stands in the entry itself.
const SHORT: usize = 4;

/// Name of a cut: random, the same on both boxes that have it.
pub type CutId = [u8; 16];

/// A name and all that is known of it, the list apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What both boxes see.
    pub entry: Entry,
    /// What it looked like here.
    pub local: Local,
    /// The chunk list, if it is short; else it stands in `lists`.
    pub short: Option<Vec<Chunk>>,
}
pub(super) fn encode(entry: &Entry, local: Local, list: Option<&[Chunk]>) -> Vec<u8> {
    let mut value = Vec::with_capacity(96);
    entry.encode(&mut value);
    local.encode(&mut value);
    value.push(u8::from(list.is_none()));
    for chunk in list.unwrap_or_default() {
        chunk.encode(&mut value);
    }
    value
}

pub(super) fn decode(value: &[u8]) -> io::Result<Row> {
    let mut from = Bytes(value);
    let (entry, local) = (Entry::decode(&mut from)?, Local::decode(&mut from)?);
    let short = if from.byte()? == 0 { Some(Chunk::decode_all(from)?) } else { None };
    Ok(Row { entry, local, short })
}

/// Where a chunk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number in the entry's list.
    pub number: u64,
    /// Where it begins in the content, in bytes.
    pub offset: u64,
    /// The entry.
    pub key: Vec<u8>,
}

impl Place {
    pub(super) fn decode(value: &[u8]) -> io::Result<Self> {
        let mut from = Bytes(value);
        Ok(Place { number: from.number()?, offset: from.number()?, key: from.bytes()?.to_vec() })
    }
}

/// What the cut as a whole is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Its name; zero: there has been none.
    pub id: CutId,
    /// The generation that took it.
    pub generation: Generation,
    /// The root's inode and the file system's id, when it was taken.
    pub root: (u64, u64),
    /// Wall time in seconds since 1970 when it was published here: shown to the operator, never compared.
    pub unix_s: u64,
}
impl Cut {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = self.id.to_vec();
        for n in [self.generation.term, self.generation.boot, self.root.0, self.root.1, self.unix_s] {
            put_number(&mut value, n);
        }
        value
    }

    pub(super) fn decode(value: &[u8]) -> io::Result<Self> {
        let mut from = Bytes(value);
        Ok(Cut {
            id: from.array()?,
            generation: Generation { term: from.number()?, boot: from.number()? },
            root: (from.number()?, from.number()?),
            unix_s: from.number()?,
        })
    }
}
/// A list of so many chunks stands in the entry itself.
#[must_use]
pub fn is_short(chunks: usize) -> bool {
    chunks <= SHORT
}
