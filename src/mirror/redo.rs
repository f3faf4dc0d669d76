//! The redo log: what it takes to turn the tree from cut N into cut N+1, whole before the first step is taken.
//!
//! ```text
//! record = length (u32) payload        the last record is the BLAKE3 of everything before it
//! ```
//!
//! It is gathered as `redo.part` while the cut is staged. One syncfs(2) puts it and the staged files on disk, the rename
//! to `redo` is the decision, and every step that follows may be taken twice.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::codec::{Malformed, Reader, put_bytes, put_number};
use super::control::Generation;
use super::entry::{Chunk, Entry};
use super::name;
use super::row::CutId;
use super::store;

/// Longest record; entries are bounded, and a block of chunks is 256 times 42 bytes.
const LONGEST: usize = 1 << 20;

/// How a name gets what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Rename the staged file of this key.
    Staged,
    /// It is so already.
    Keep,
    /// Rename the file that `from` names in the former cut, if it still is that inode.
    Move {
        /// Its former name.
        from: Vec<u8>,
        /// Its inode.
        inode: u64,
    },
    /// Make the directory, and give it its metadata when everything below is done.
    Directory,
    /// Link the file that the group's first name names.
    Link,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What this log is.
    Head {
        /// The cut that it makes.
        cut: CutId,
        /// Of this generation.
        generation: Generation,
    },
    /// The name goes.
    Gone {
        /// Which.
        key: Vec<u8>,
    },
    /// A block of the chunk list of the last [`Step::Put`].
    Block {
        /// Its chunks.
        chunks: Vec<Chunk>,
    },
    /// The name comes or changes.
    Put {
        /// Which.
        key: Vec<u8>,
        /// Into what.
        entry: Entry,
        /// By what.
        source: Source,
        /// The chunk list is that of this name in the former cut.
        list_of: Option<Vec<u8>>,
        /// The chunk list, if it is short and not that of another.
        list: Option<Vec<Chunk>>,
    },
}

fn put_optional(to: &mut Vec<u8>, key: Option<&[u8]>) {
    to.push(u8::from(key.is_some()));
    put_bytes(to, key.unwrap_or_default());
}

fn key(from: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let key = from.bytes()?;
    if name::is_valid(key) { Ok(key.to_vec()) } else { Err(Malformed) }
}

impl Step {
    fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Step::Head { cut, generation } => {
                to.push(1);
                to.extend_from_slice(cut);
                put_number(to, generation.term);
                put_number(to, generation.boot);
            }
            Step::Gone { key } => {
                to.push(2);
                put_bytes(to, key);
            }
            Step::Block { chunks } => {
                to.push(3);
                chunks.iter().for_each(|chunk| chunk.encode(to));
            }
            Step::Put { key, entry, source, list_of, list } => {
                to.push(4);
                put_bytes(to, key);
                entry.encode(to);
                match source {
                    Source::Staged => to.push(0),
                    Source::Keep => to.push(1),
                    Source::Move { from, inode } => {
                        to.push(2);
                        put_bytes(to, from);
                        put_number(to, *inode);
                    }
                    Source::Directory => to.push(3),
                    Source::Link => to.push(4),
                }
                put_optional(to, list_of.as_deref());
                to.push(u8::from(list.is_some()));
                list.iter().flatten().for_each(|chunk| chunk.encode(to));
            }
        }
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(payload);
        let step = match from.byte()? {
            1 => {
                Step::Head { cut: from.array()?, generation: Generation { term: from.number()?, boot: from.number()? } }
            }
            2 => Step::Gone { key: key(&mut from)? },
            3 => Step::Block { chunks: Chunk::decode_all(Reader(from.take(from.0.len())?))? },
            4 => {
                let name = key(&mut from)?;
                let entry = Entry::decode(&mut from)?;
                let source = match from.byte()? {
                    0 => Source::Staged,
                    1 => Source::Keep,
                    2 => Source::Move { from: key(&mut from)?, inode: from.number()? },
                    3 => Source::Directory,
                    4 => Source::Link,
                    _ => return Err(Malformed),
                };
                let has = from.byte()? != 0;
                let list_of = Some(key(&mut from)?).filter(|_| has);
                let has = from.byte()? != 0;
                let list = Chunk::decode_all(Reader(from.take(from.0.len())?))?;
                Step::Put { key: name, entry, source, list_of, list: Some(list).filter(|_| has) }
            }
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(step)
    }
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    record: Vec<u8>,
}

impl Log {
    /// Begins a log.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = store::anew(path)?;
        Ok(Log { file: BufWriter::with_capacity(32 * 1024, file), hasher: blake3::Hasher::new(), record: Vec::new() })
    }

    /// Adds a step.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn add(&mut self, step: &Step) -> io::Result<()> {
        self.record.clear();
        self.record.extend_from_slice(&[0; 4]);
        step.encode(&mut self.record);
        let len = u32::try_from(self.record.len() - 4).map_err(|_| Malformed)?;
        self.record[..4].copy_from_slice(&len.to_le_bytes());
        self.hasher.update(&self.record);
        self.file.write_all(&self.record)
    }

    /// Writes the sum. Nothing is synced yet.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn seal(mut self) -> io::Result<()> {
        let sum = *self.hasher.finalize().as_bytes();
        self.file.write_all(&32u32.to_le_bytes())?;
        self.file.write_all(&sum)?;
        self.file.flush()
    }
}

/// Takes every step of a log in order. The last record is the sum, and is not handed out.
fn records(path: &Path, mut each: impl FnMut(&[u8], bool) -> io::Result<()>) -> io::Result<()> {
    let file = File::open(path)?;
    let mut left = file.metadata()?.len();
    let mut file = BufReader::with_capacity(32 * 1024, file);
    let mut record = Vec::new();
    while left > 0 {
        let mut len = [0; 4];
        file.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        left = left.checked_sub(4 + len as u64).filter(|_| len <= LONGEST).ok_or(Malformed)?;
        record.resize(4 + len, 0);
        record[..4].copy_from_slice(&(len as u32).to_le_bytes());
        file.read_exact(&mut record[4..])?;
        each(&record, left == 0)?;
    }
    Ok(())
}

/// The log is whole.
///
/// # Errors
///
/// What the file system says; damage is no error.
pub fn is_whole(path: &Path) -> io::Result<bool> {
    let mut hasher = blake3::Hasher::new();
    let mut whole = false;
    let read = records(path, |record, last| {
        if last {
            whole = record[4..] == *hasher.finalize().as_bytes();
        } else {
            hasher.update(record);
        }
        Ok(())
    });
    match read {
        Ok(()) => Ok(whole),
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Hands out every step in order.
///
/// # Errors
///
/// What the file system says, `InvalidData` for damage, what `each` returns.
pub fn each(path: &Path, mut each: impl FnMut(Step) -> io::Result<()>) -> io::Result<()> {
    records(path, |record, last| if last { Ok(()) } else { each(Step::decode(&record[4..])?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_returns_and_damage_is_seen() {
        let path = std::env::temp_dir().join(format!("twobox-redo-{}", std::process::id()));
        let steps = [
            Step::Head { cut: [3; 16], generation: Generation { term: 1, boot: 2 } },
            Step::Gone { key: b"a\0b".to_vec() },
            Step::Block { chunks: vec![Chunk { len: 5, hash: Some([1; 32]) }, Chunk { len: 9, hash: None }] },
            Step::Put {
                key: b"c".to_vec(),
                entry: Entry::link(b"a".to_vec()),
                source: Source::Move { from: b"a".to_vec(), inode: 77 },
                list_of: Some(b"a".to_vec()),
                list: None,
            },
        ];
        let mut log = Log::create(&path).unwrap();
        steps.iter().for_each(|step| log.add(step).unwrap());
        log.seal().unwrap();
        assert!(is_whole(&path).unwrap());
        let mut read = Vec::new();
        each(&path, |step| {
            read.push(step);
            Ok(())
        })
        .unwrap();
        assert_eq!(read, steps);

        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, &damaged).unwrap();
            assert!(!is_whole(&path).unwrap(), "byte {at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(!is_whole(&path).unwrap(), "cut at {at}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
