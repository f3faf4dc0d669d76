//! What the last cut was, on disk: one redb file a tree, the same on both boxes but for what is local.
//!
//! | table | from | to |
//! |---|---|---|
//! | `entries` | key | entry, what the inode looked like here, chunk list if it is short |
//! | `lists` | key, block | 256 chunks of a longer list |
//! | `places` | chunk hash | which entry has it, and as which chunk |
//! | `inodes` | inode number | key: finds what was renamed |
//! | `groups` | inode number | first name of its hard-link group, as the last scan found it |
//! | `unsent` | key | changed here and never received by the peer: set aside before it is replaced |
//! | `gone` | key | receiver, while a cut is gathered: not in it, and no other name has taken its file yet |
//! | `held` | chunk hash | sender, for a cycle: where the receiver has it staged |
//! | `meta` | word | value: the cut's name, its generation, the root's identity |
//!
//! Memory is bounded by the cache, not by the number of files.

use std::io;
use std::path::Path;

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table};
use redb::{TableDefinition, WriteTransaction};

use super::codec::{Reader as Bytes, put_bytes, put_number};
use super::control::Generation;
use super::entry::{Chunk, Entry, Hash, Kind, Local};

/// What redb may keep in memory for one index, in bytes.
pub const CACHE: usize = 3 << 20;

/// Chunks in one block of a list.
pub const BLOCK: usize = 256;

/// Longest list that stands in the entry itself.
const SHORT: usize = 4;

/// Shortest chunk that is worth finding under another name: what is shorter is sent again.
const WORTH: u64 = 512;

const ENTRIES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");
const LISTS: TableDefinition<'static, (&[u8], u32), &[u8]> = TableDefinition::new("lists");
const PLACES: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("places");
const INODES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("inodes");
const GROUPS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("groups");
const UNSENT: TableDefinition<'static, &[u8], ()> = TableDefinition::new("unsent");
const GONE: TableDefinition<'static, &[u8], ()> = TableDefinition::new("gone");
const HELD: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("held");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// Name of a cut: random, the same on both boxes that have it.
pub type CutId = [u8; 16];

/// redb's errors as our driver's.
fn failed(e: impl Into<redb::Error>) -> io::Error {
    match e.into() {
        redb::Error::Io(e) => e,
        other => io::Error::other(format!("mirror index: {other}")),
    }
}

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

fn encode(entry: &Entry, local: Local, list: Option<&[Chunk]>) -> Vec<u8> {
    let mut value = Vec::with_capacity(96);
    entry.encode(&mut value);
    local.encode(&mut value);
    value.push(u8::from(list.is_none()));
    for chunk in list.unwrap_or_default() {
        chunk.encode(&mut value);
    }
    value
}

fn decode(value: &[u8]) -> io::Result<Row> {
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
    fn encode(&self) -> Vec<u8> {
        let mut value = self.id.to_vec();
        for n in [self.generation.term, self.generation.boot, self.root.0, self.root.1, self.unix_s] {
            put_number(&mut value, n);
        }
        value
    }

    fn decode(value: &[u8]) -> io::Result<Self> {
        let mut from = Bytes(value);
        Ok(Cut {
            id: from.array()?,
            generation: Generation { term: from.number()?, boot: from.number()? },
            root: (from.number()?, from.number()?),
            unix_s: from.number()?,
        })
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
    /// Opens the index, makes an empty one if there is none.
    ///
    /// # Errors
    ///
    /// What the file system says; an index that is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let database = Database::builder().set_cache_size(CACHE).create(path).map_err(failed)?;
        let index = Index { database };
        let tx = index.begin(true)?;
        drop(Writer::new(&tx)?); // makes the tables, so that a reader finds them
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

    /// Ends what [`Index::begin`] began.
    ///
    /// # Errors
    ///
    /// What the file system says; then nothing has changed.
    pub fn commit(tx: WriteTransaction) -> io::Result<()> {
        tx.commit().map_err(failed)
    }
}

/// The tables, open for reading.
pub struct Reader {
    entries: ReadOnlyTable<&'static [u8], &'static [u8]>,
    lists: ReadOnlyTable<(&'static [u8], u32), &'static [u8]>,
    places: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
    inodes: ReadOnlyTable<u64, &'static [u8]>,
    unsent: ReadOnlyTable<&'static [u8], ()>,
    meta: ReadOnlyTable<&'static str, &'static [u8]>,
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

    /// Which entry has a chunk.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn place(&self, hash: &Hash) -> io::Result<Option<Place>>;

    /// Which name an inode had.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn name_of(&self, inode: u64) -> io::Result<Option<Vec<u8>>>;

    /// What the cut is.
    ///
    /// # Errors
    ///
    /// As [`Lookup::row`].
    fn cut(&self) -> io::Result<Cut>;

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
                match self.lists.get((key, number)).map_err(failed)? {
                    Some(block) => Ok(Chunk::decode_all(Bytes(block.value()))?),
                    None => Ok(Vec::new()),
                }
            }

            fn place(&self, hash: &Hash) -> io::Result<Option<Place>> {
                let Some(row) = self.places.get(hash).map_err(failed)? else { return Ok(None) };
                let mut from = Bytes(row.value());
                Ok(Some(Place { number: from.number()?, offset: from.number()?, key: from.bytes()?.to_vec() }))
            }

            fn name_of(&self, inode: u64) -> io::Result<Option<Vec<u8>>> {
                Ok(self.inodes.get(inode).map_err(failed)?.map(|row| row.value().to_vec()))
            }

            fn cut(&self) -> io::Result<Cut> {
                self.meta.get("cut").map_err(failed)?.map_or(Ok(Cut::default()), |row| Cut::decode(row.value()))
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

lookup!(Reader);
lookup!(Writer<'_>);

/// The chunks of a name, one after the other.
///
/// # Errors
///
/// What the file system says; what `each` returns.
pub fn each_chunk(
    index: &impl Lookup,
    key: &[u8],
    row: &Row,
    mut each: impl FnMut(u64, Chunk) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(list) = &row.short {
        return list.iter().enumerate().try_for_each(|(n, chunk)| each(n as u64, *chunk));
    }
    for number in 0.. {
        let block = index.block(key, number)?;
        let first = u64::from(number) * BLOCK as u64;
        block.iter().enumerate().try_for_each(|(n, chunk)| each(first + n as u64, *chunk))?;
        if block.len() < BLOCK {
            break;
        }
    }
    Ok(())
}

impl Reader {
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

/// The tables, open for writing.
pub struct Writer<'t> {
    entries: Table<'t, &'static [u8], &'static [u8]>,
    lists: Table<'t, (&'static [u8], u32), &'static [u8]>,
    places: Table<'t, &'static [u8; 32], &'static [u8]>,
    inodes: Table<'t, u64, &'static [u8]>,
    groups: Table<'t, u64, &'static [u8]>,
    unsent: Table<'t, &'static [u8], ()>,
    gone: Table<'t, &'static [u8], ()>,
    held: Table<'t, &'static [u8; 32], &'static [u8]>,
    meta: Table<'t, &'static str, &'static [u8]>,
}

impl<'t> Writer<'t> {
    /// Opens the tables of a transaction.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn new(tx: &'t WriteTransaction) -> io::Result<Self> {
        Ok(Writer {
            entries: tx.open_table(ENTRIES).map_err(failed)?,
            lists: tx.open_table(LISTS).map_err(failed)?,
            places: tx.open_table(PLACES).map_err(failed)?,
            inodes: tx.open_table(INODES).map_err(failed)?,
            groups: tx.open_table(GROUPS).map_err(failed)?,
            unsent: tx.open_table(UNSENT).map_err(failed)?,
            gone: tx.open_table(GONE).map_err(failed)?,
            held: tx.open_table(HELD).map_err(failed)?,
            meta: tx.open_table(META).map_err(failed)?,
        })
    }

    /// Adds one block of a long list, which begins at `offset` of the content, before [`Writer::put`] of its entry. What the former entry had of it must have
    /// been removed.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put_block(&mut self, key: &[u8], number: u32, offset: u64, chunks: &[Chunk]) -> io::Result<()> {
        let mut value = Vec::with_capacity(chunks.len() * 36);
        chunks.iter().for_each(|chunk| chunk.encode(&mut value));
        self.lists.insert((key, number), value.as_slice()).map_err(failed)?;
        self.add_places(key, u64::from(number) * BLOCK as u64, offset, chunks)
    }

    fn add_places(&mut self, key: &[u8], first: u64, offset: u64, chunks: &[Chunk]) -> io::Result<()> {
        let mut end = offset;
        for (n, chunk) in chunks.iter().enumerate() {
            let begin = end;
            end += chunk.len;
            let Some(hash) = chunk.hash.filter(|_| chunk.len >= WORTH) else { continue };
            let mut value = Vec::with_capacity(key.len() + 4);
            put_number(&mut value, first + n as u64);
            put_number(&mut value, begin);
            put_bytes(&mut value, key);
            self.places.insert(&hash, value.as_slice()).map_err(failed)?;
        }
        Ok(())
    }

    fn remove_places(&mut self, key: &[u8], chunks: &[Chunk]) -> io::Result<()> {
        for chunk in chunks {
            let Some(hash) = chunk.hash.filter(|_| chunk.len >= WORTH) else { continue };
            if self.place(&hash)?.is_some_and(|place| place.key == key) {
                self.places.remove(&hash).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Puts the row of a name whose former row has been removed. `list`: the whole chunk list if it has at most
    /// [`is_short`] chunks; `None`: it stands in blocks. Empty for what is no file.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put(&mut self, key: &[u8], entry: &Entry, local: Local, list: Option<&[Chunk]>) -> io::Result<()> {
        self.entries.insert(key, encode(entry, local, list).as_slice()).map_err(failed)?;
        if local.inode != 0 && matches!(entry.kind, Kind::File { .. }) {
            self.inodes.insert(local.inode, key).map_err(failed)?;
        }
        self.add_places(key, 0, 0, list.unwrap_or_default())
    }

    /// Notes that a name's inode looks different now, or what it is; its content stands as it is.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put_again(&mut self, key: &[u8], row: &Row) -> io::Result<()> {
        self.entries.insert(key, encode(&row.entry, row.local, row.short.as_deref()).as_slice()).map_err(failed)?;
        if row.local.inode != 0 && matches!(row.entry.kind, Kind::File { .. }) {
            self.inodes.insert(row.local.inode, key).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes a name and all that belongs to it.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn remove(&mut self, key: &[u8]) -> io::Result<Option<Row>> {
        let Some(row) = self.row(key)? else { return Ok(None) };
        self.entries.remove(key).map_err(failed)?;
        if self.name_of(row.local.inode)?.is_some_and(|name| name == key) {
            self.inodes.remove(row.local.inode).map_err(failed)?;
        }
        match &row.short {
            Some(list) => self.remove_places(key, list)?,
            None => {
                for number in 0.. {
                    let block = self.block(key, number)?;
                    if block.is_empty() {
                        break;
                    }
                    self.remove_places(key, &block)?;
                    self.lists.remove((key, number)).map_err(failed)?;
                }
            }
        }
        Ok(Some(row))
    }

    /// The first name of a hard-link group.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn first_of(&self, inode: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.groups.get(inode).map_err(failed)?.map(|row| row.value().to_vec()))
    }

    /// Notes the first name of a hard-link group.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_first(&mut self, inode: u64, key: &[u8]) -> io::Result<()> {
        self.groups.insert(inode, key).map_err(failed)?;
        Ok(())
    }

    /// Forgets all groups: a scan begins.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn forget_groups(&mut self) -> io::Result<()> {
        self.groups.retain(|_, _| false).map_err(failed)
    }

    /// Marks a name as changed here and unknown to the peer.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_unsent(&mut self, key: &[u8]) -> io::Result<()> {
        self.unsent.insert(key, ()).map_err(failed)?;
        Ok(())
    }

    /// Notes that a name is not in the cut that is being gathered.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_gone(&mut self, key: &[u8]) -> io::Result<()> {
        self.gone.insert(key, ()).map_err(failed)?;
        Ok(())
    }

    /// Claims the file of a name that is not in the cut, for another name. Once only.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn take_gone(&mut self, key: &[u8]) -> io::Result<bool> {
        Ok(self.gone.remove(key).map_err(failed)?.is_some())
    }

    /// Notes where the receiver has a chunk that a broken cycle brought.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_held(&mut self, hash: &Hash, name: &[u8; 16], offset: u64) -> io::Result<()> {
        let mut value = name.to_vec();
        put_number(&mut value, offset);
        self.held.insert(hash, value.as_slice()).map_err(failed)?;
        Ok(())
    }

    /// Where the receiver has a chunk that a broken cycle brought.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn held(&self, hash: &Hash) -> io::Result<Option<([u8; 16], u64)>> {
        let Some(row) = self.held.get(hash).map_err(failed)? else { return Ok(None) };
        let mut from = Bytes(row.value());
        Ok(Some((from.array()?, from.number()?)))
    }

    /// Forgets what the receiver has staged: the cycle is over.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn forget_held(&mut self) -> io::Result<()> {
        self.held.retain(|_, _| false).map_err(failed)
    }

    /// Both boxes are of one mind again: nothing is unsent.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn forget_unsent(&mut self) -> io::Result<()> {
        self.unsent.retain(|_, ()| false).map_err(failed)
    }

    /// Names the cut.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_cut(&mut self, cut: &Cut) -> io::Result<()> {
        self.meta.insert("cut", cut.encode().as_slice()).map_err(failed)?;
        Ok(())
    }
}

/// A list of so many chunks stands in the entry itself.
#[must_use]
pub fn is_short(chunks: usize) -> bool {
    chunks <= SHORT
}
