//! What is written into the index: one transaction, its tables open.

use std::io;

use redb::{ReadableTable, Table, WriteTransaction};

use super::codec::{Reader as Bytes, put_bytes, put_number};
use super::entry::{Chunk, Entry, Hash, Kind, Local};
use super::index::{ENTRIES, GONE, GROUPS, HELD, INODES, LISTS, Lookup, META, PLACES, UNSENT, failed};
use super::row::{BLOCK, Cut, Row, encode};

/// Shortest chunk that is worth finding under another name: what is shorter is sent again.
const WORTH: u64 = 512;

/// The tables, open for writing.
pub struct Writer<'t> {
    pub(super) entries: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) lists: Table<'t, (&'static [u8], u32), &'static [u8]>,
    pub(super) places: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) inodes: Table<'t, u64, &'static [u8]>,
    pub(super) groups: Table<'t, u64, &'static [u8]>,
    pub(super) unsent: Table<'t, &'static [u8], ()>,
    pub(super) gone: Table<'t, &'static [u8], ()>,
    pub(super) held: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
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

    /// Adds one block of a long list, which begins at `offset` of the content, before [`Writer::put`] of its entry. What
    /// the former entry had of it must have been removed.
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
