//! What the last cut was, on disk: one redb file a tree, the same on both boxes but for what is local.
//!
//! | table | from | to |
//! |---|---|---|
//! | `entries` | key | entry, what the inode looked like here, chunk list if it is short |
//! | `lists` | key, block | 256 chunks of a longer list |
//! | `places` | chunk hash | sender: which entry has it, and as which chunk |
//! | `inodes` | inode number | sender: key, finds what was renamed |
//! | `groups` | inode number | first name of its hard-link group, as the last scan found it |
//! | `unsent` | key | changed here and never received by the peer: set aside before it is replaced; the id of the cut that left it so, if one did |
//! | `gone` | key | receiver, while a cut is gathered: not in it, and no other name has taken its file yet |
//! | `held` | chunk hash | sender, for a cycle: where the receiver has it staged |
//! | `meta` | word | value: the cut's name, its generation, the root's identity; the generation served last; the id of the first cut that is sent, until it is known to be there; how many files; whether `places` and `inodes` are kept |
//!
//! Memory is bounded by the cache, not by the number of files.

use std::io;
use std::path::Path;

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use redb::{TableDefinition, WriteTransaction};

use super::codec::{Reader as Bytes, put_number};
use super::control::Generation;
use super::entry::{Chunk, Hash};
use super::index_former::convert;
use super::index_writer::Writer;
use super::row::{BLOCK, Cut, Place, Row, decode};

/// The kernel has written what was changed so many seconds ago. It does so after half a minute (`vm.dirty_expire_centisecs`)
/// if the disk can follow.
const WRITTEN_AFTER: i64 = 3600;

/// What redb may keep in memory for one index, in bytes.
pub const CACHE: usize = 3 << 20;

/// Every table maps bytes to bytes: redb's code is compiled once for each pair of types. Numbers in keys are big-endian, so
/// that their order is that of the numbers.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const ENTRIES: Definition = TableDefinition::new("entries");
pub(super) const LISTS: Definition = TableDefinition::new("lists");
pub(super) const PLACES: Definition = TableDefinition::new("places");
pub(super) const INODES: Definition = TableDefinition::new("inodes");
pub(super) const GROUPS: Definition = TableDefinition::new("groups");
pub(super) const UNSENT: Definition = TableDefinition::new("unsent");
pub(super) const GONE: Definition = TableDefinition::new("gone");
pub(super) const HELD: Definition = TableDefinition::new("held");
pub(super) const META: Definition = TableDefinition::new("meta");

/// The words of `meta`.
pub(super) mod word {
    /// What the cut is.
    pub const CUT: &[u8] = b"cut";
    /// How many names are no directories.
    pub const FILES: &[u8] = b"files";
    /// `places` and `inodes` are kept.
    pub const HINTED: &[u8] = b"hinted";
    /// The id that the first cut of this source was to get.
    pub const OFFERED: &[u8] = b"offered";
    /// The generation served last.
    pub const SERVED: &[u8] = b"served";
}

/// Key of a block in `lists`. No two are the same: equally long ones have equally long names.
pub(super) fn block_key(name: &[u8], number: u32) -> Vec<u8> {
    [name, &number.to_be_bytes()].concat()
}

/// redb's errors as our driver's.
pub(super) fn failed(e: impl Into<redb::Error>) -> io::Error {
    use redb::Error::{Corrupted, Io, TableTypeMismatch, TypeDefinitionChanged, UpgradeRequired};
    match e.into() {
        Io(e) => e,
        other => {
            let is_damage = matches!(
                other,
                Corrupted(_) | TableTypeMismatch { .. } | TypeDefinitionChanged { .. } | UpgradeRequired(_)
            );
            let kind = if is_damage { io::ErrorKind::InvalidData } else { io::ErrorKind::Other };
            io::Error::new(kind, format!("mirror index: {other}"))
        }
    }
}

/// The index of one tree.
pub struct Index {
    database: Database,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

impl Index {
    /// Opens the index, makes an empty one if there is none. One of the former format is converted.
    ///
    /// # Errors
    ///
    /// What the file system says; an index that is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let database = Database::builder().set_cache_size(CACHE).create(path).map_err(failed)?;
        let index = Index { database };
        let tx = index.begin(true)?;
        convert(&tx)?;
        drop(Writer::new(&tx)?); // makes the tables, so that a reader finds them
        drop(tx.open_table(PLACES).map_err(failed)?);
        drop(tx.open_table(INODES).map_err(failed)?);
        tx.commit().map_err(failed)?;
        Ok(index)
    }

    /// A view of the last committed state, which stays as it is.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn reader(&self) -> io::Result<Reader> {
        let tx = self.database.begin_read().map_err(failed)?;
        Ok(Reader {
            entries: tx.open_table(ENTRIES).map_err(failed)?,
            lists: tx.open_table(LISTS).map_err(failed)?,
            places: tx.open_table(PLACES).map_err(failed)?,
            inodes: tx.open_table(INODES).map_err(failed)?,
            unsent: tx.open_table(UNSENT).map_err(failed)?,
            meta: tx.open_table(META).map_err(failed)?,
        })
    }

    /// Begins to write. `durable`: the commit is on disk when it returns.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn begin(&self, durable: bool) -> io::Result<WriteTransaction> {
        let mut tx = self.database.begin_write().map_err(failed)?;
        tx.set_durability(if durable { Durability::Immediate } else { Durability::None })
            .map_err(|e| io::Error::other(format!("mirror index: {e}")))?;
        Ok(tx)
    }

    /// The tree is the one that is served, in `generation`; durable.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn note_served(&self, generation: Generation) -> io::Result<()> {
        let tx = self.begin(true)?;
        let mut value = Vec::new();
        put_number(&mut value, generation.term);
        put_number(&mut value, generation.boot);
        tx.open_table(META).map_err(failed)?.insert(word::SERVED, value.as_slice()).map_err(failed)?;
        Self::commit(tx)
    }

    /// What was committed so far is on disk when this returns.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn harden(&self) -> io::Result<()> {
        Self::commit(self.begin(true)?)
    }

    /// Ends what [`Index::begin`] began.
    ///
    /// # Errors
    ///
    /// What the file system says; then nothing has changed.
    pub fn commit(tx: WriteTransaction) -> io::Result<()> {
        tx.commit().map_err(failed)
    }
}

type View = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The tables, open for reading.
pub struct Reader {
    entries: View,
    lists: View,
    places: View,
    inodes: View,
    unsent: View,
    meta: View,
}

/// What can be looked up, in a view and in what is being written.
pub trait Lookup {
    /// The row of a name.
    ///
    /// # Errors
    ///
    /// What the file system says; a damaged row.
    fn row(&self, key: &[u8]) -> io::Result<Option<Row>>;

    /// A block of the chunk list of a name whose list is long.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn block(&self, key: &[u8], number: u32) -> io::Result<Vec<Chunk>>;

    /// What the cut is.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn cut(&self) -> io::Result<Cut>;

    /// The newest generation in which this tree was the one that is served, whether a cut was taken in it or not.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn served(&self) -> io::Result<Generation>;

    /// Number of names.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn count(&self) -> io::Result<u64>;

    /// The name was changed here and the peer does not know it.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn is_unsent(&self, key: &[u8]) -> io::Result<bool>;

    /// Number of names that were changed here and that the peer does not know.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn unsent(&self) -> io::Result<u64>;
}

macro_rules! lookup {
    ($type:ty) => {
        impl Lookup for $type {
            fn row(&self, key: &[u8]) -> io::Result<Option<Row>> {
                self.entries.get(key).map_err(failed)?.map(|row| decode(row.value())).transpose()
            }

            fn block(&self, key: &[u8], number: u32) -> io::Result<Vec<Chunk>> {
                match self.lists.get(block_key(key, number).as_slice()).map_err(failed)? {
                    Some(block) => Ok(Chunk::decode_all(Bytes(block.value()))?),
                    None => Ok(Vec::new()),
                }
            }

            fn cut(&self) -> io::Result<Cut> {
                self.meta.get(word::CUT).map_err(failed)?.map_or(Ok(Cut::default()), |row| Cut::decode(row.value()))
            }

            fn served(&self) -> io::Result<Generation> {
                let Some(row) = self.meta.get(word::SERVED).map_err(failed)? else { return Ok(Generation::default()) };
                let mut from = Bytes(row.value());
                Ok(Generation { term: from.number()?, boot: from.number()? })
            }

            fn count(&self) -> io::Result<u64> {
                self.entries.len().map_err(failed)
            }

            fn is_unsent(&self, key: &[u8]) -> io::Result<bool> {
                Ok(self.unsent.get(key).map_err(failed)?.is_some())
            }

            fn unsent(&self) -> io::Result<u64> {
                self.unsent.len().map_err(failed)
            }
        }
    };
}

/// How many names are no directories, as it was noted with the last cut. An index of an earlier version says nothing.
pub(super) fn noted_files(meta: &impl ReadableTable<&'static [u8], &'static [u8]>) -> io::Result<Option<u64>> {
    let noted = meta.get(word::FILES).map_err(failed)?;
    Ok(noted.and_then(|row| row.value().try_into().ok()).map(u64::from_le_bytes))
}

/// How many names are no directories, found by looking at each.
pub(super) fn count_files(entries: &impl ReadableTable<&'static [u8], &'static [u8]>) -> io::Result<u64> {
    let mut files = 0;
    for row in entries.iter().map_err(failed)? {
        files += u64::from(!decode(row.map_err(failed)?.1.value())?.entry.is_directory());
    }
    Ok(files)
}

lookup!(Reader);
lookup!(Writer<'_>);

/// The blocks of a name's chunk list, one after the other: their numbers and chunks.
///
/// # Errors
///
/// What the file system says; what `each` returns.
pub fn each_block(
    index: &impl Lookup,
    key: &[u8],
    row: &Row,
    mut each: impl FnMut(u32, &[Chunk]) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(list) = &row.short {
        return each(0, list);
    }
    for number in 0.. {
        let block = index.block(key, number)?;
        each(number, &block)?;
        if block.len() < BLOCK {
            break;
        }
    }
    Ok(())
}

/// The chunks of a name, one after the other, with their numbers.
///
/// # Errors
///
/// As [`each_block`].
pub fn each_chunk(
    index: &impl Lookup,
    key: &[u8],
    row: &Row,
    mut each: impl FnMut(u64, Chunk) -> io::Result<()>,
) -> io::Result<()> {
    each_block(index, key, row, |number, chunks| {
        let first = u64::from(number) * BLOCK as u64;
        chunks.iter().enumerate().try_for_each(|(n, chunk)| each(first + n as u64, *chunk))
    })
}

impl Reader {
    /// Which entry has a chunk. A hint, and only on the sender: the receiver checks what is taken from there.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    pub fn place(&self, hash: &Hash) -> io::Result<Option<Place>> {
        self.places.get(hash.as_slice()).map_err(failed)?.map(|row| Place::decode(row.value())).transpose()
    }

    /// Which name an inode had. A hint, and only on the sender.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    pub fn name_of(&self, inode: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.inodes.get(inode.to_be_bytes().as_slice()).map_err(failed)?.map(|row| row.value().to_vec()))
    }

    /// Since when what this box wrote may not be on its disk, in seconds since 1970 by the clock that stamped its inodes, if it
    /// took the last cuts of its own tree: what they sent was in memory, and may have gone with the power though the inode's
    /// times did not.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    pub fn unwritten_since(&self) -> io::Result<Option<i64>> {
        let is_own = self.meta.get(word::HINTED).map_err(failed)?.is_some();
        let last = i64::try_from(self.cut()?.unix_s).unwrap_or(i64::MAX);
        Ok(is_own.then_some(last.saturating_sub(WRITTEN_AFTER)))
    }

    /// How many names are no directories.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    pub fn files(&self) -> io::Result<u64> {
        noted_files(&self.meta)?.map_or_else(|| count_files(&self.entries), Ok)
    }

    /// Every row from `from` on, in the order of the keys.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn rows(&self, from: &[u8]) -> io::Result<Rows> {
        Ok(Rows(self.entries.range::<&[u8]>(from..).map_err(failed)?))
    }
}

/// Rows in the order of their keys.
pub struct Rows(redb::Range<'static, &'static [u8], &'static [u8]>);

impl Iterator for Rows {
    type Item = io::Result<(Vec<u8>, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.next()?;
        Some(next.map_err(failed).and_then(|(key, value)| Ok((key.value().to_vec(), decode(value.value())?))))
    }
}
