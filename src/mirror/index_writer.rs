//! What is written into the index: one transaction, its tables open.

use std::io;
use std::path::{Path, PathBuf};

use redb::{ReadableTable, Table, WriteTransaction};

use super::codec::{Reader as Bytes, put_bytes, put_number};
use super::entry::{Chunk, Entry, Hash, Kind, Local};
use super::hints::Hints;
use super::index::{
    ENTRIES, GONE, GROUPS, HELD, INODES, LISTS, Lookup, META, PLACES, UNSENT, block_key, count_files, each_block,
    failed, noted_files, word,
};
use super::row::{BLOCK, Cut, CutId, Place, Row, decode, encode};

/// Shortest chunk that is worth finding under another name: what is shorter is sent again.
pub(super) const WORTH: u64 = 512;

/// Value where the key says all.
const NOTHING: &[u8] = &[];

/// Another name has the file of a name that is gone.
const TAKEN: &[u8] = &[1];

type Rows<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// The tables, open for writing. A writer of the sender's keeps hints (`places`, `inodes`); one that keeps none drops
/// them with its first change, and the next one that does makes them anew.
pub struct Writer<'t> {
    tx: &'t WriteTransaction,
    pub(super) entries: Rows<'t>,
    pub(super) lists: Rows<'t>,
    pub(super) groups: Rows<'t>,
    pub(super) unsent: Rows<'t>,
    pub(super) gone: Rows<'t>,
    pub(super) held: Rows<'t>,
    pub(super) meta: Rows<'t>,
    /// The hints in the index are those of its rows.
    hinted: bool,
    hinting: Option<Hinting<'t>>,
    /// By how much this transaction has changed the number of files since it was noted last.
    more_files: i64,
    /// This transaction says something new.
    changed: bool,
}

/// Removes every row. Returns whether there was one.
fn clear(rows: &mut Rows<'_>) -> io::Result<bool> {
    let had_any = rows.first().map_err(failed)?.is_some();
    rows.retain(|_, _| false).map_err(failed)?;
    Ok(had_any)
}

struct Hinting<'t> {
    directory: PathBuf,
    places: Rows<'t>,
    inodes: Rows<'t>,
    gathered: Hints,
}

impl<'t> Hinting<'t> {
    fn new(tx: &'t WriteTransaction, directory: &Path) -> io::Result<Self> {
        Ok(Hinting {
            directory: directory.to_path_buf(),
            places: tx.open_table(PLACES).map_err(failed)?,
            inodes: tx.open_table(INODES).map_err(failed)?,
            gathered: Hints::new(directory),
        })
    }

    fn add_inode(&mut self, key: &[u8], entry: &Entry, local: Local) -> io::Result<()> {
        if local.inode != 0 && matches!(entry.kind, Kind::File { .. }) {
            self.gathered.inodes.add(&local.inode.to_be_bytes(), key)?;
        }
        Ok(())
    }

    fn add_places(&mut self, key: &[u8], first: u64, offset: u64, chunks: &[Chunk]) -> io::Result<()> {
        let mut end = offset;
        let mut value = Vec::new();
        for (n, chunk) in chunks.iter().enumerate() {
            let begin = end;
            end += chunk.len;
            let Some(hash) = chunk.hash.filter(|_| chunk.len >= WORTH) else { continue };
            value.clear();
            put_number(&mut value, first + n as u64);
            put_number(&mut value, begin);
            put_bytes(&mut value, key);
            self.gathered.places.add(&hash, &value)?;
        }
        Ok(())
    }

    fn remove_places(&mut self, key: &[u8], chunks: &[Chunk]) -> io::Result<()> {
        for chunk in chunks {
            let Some(hash) = chunk.hash.filter(|_| chunk.len >= WORTH) else { continue };
            let place =
                self.places.get(hash.as_slice()).map_err(failed)?.map(|row| Place::decode(row.value())).transpose()?;
            if place.is_some_and(|place| place.key == key) {
                self.places.remove(hash.as_slice()).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn remove_inode(&mut self, key: &[u8], inode: u64) -> io::Result<()> {
        let inode = inode.to_be_bytes();
        let is_its = self.inodes.get(inode.as_slice()).map_err(failed)?.is_some_and(|row| row.value() == key);
        if is_its {
            self.inodes.remove(inode.as_slice()).map_err(failed)?;
        }
        Ok(())
    }

    /// Puts what was gathered into the tables.
    fn write(&mut self) -> io::Result<()> {
        let gathered = std::mem::replace(&mut self.gathered, Hints::new(&self.directory));
        let (places, inodes, undone) = gathered.into_parts();
        places.finish(|hash, value| {
            if undone.is_empty() || !undone.contains(&Place::decode(value)?.key) {
                self.places.insert(hash.as_slice(), value).map_err(failed)?;
            }
            Ok(())
        })?;
        inodes.finish(|inode, key| {
            if !undone.contains(key) {
                self.inodes.insert(inode.as_slice(), key).map_err(failed)?;
            }
            Ok(())
        })
    }
}

impl<'t> Writer<'t> {
    /// Opens the tables of a transaction; it keeps no hints.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn new(tx: &'t WriteTransaction) -> io::Result<Self> {
        let meta = tx.open_table(META).map_err(failed)?;
        let hinted = meta.get(word::HINTED).map_err(failed)?.is_some();
        Ok(Writer {
            tx,
            entries: tx.open_table(ENTRIES).map_err(failed)?,
            lists: tx.open_table(LISTS).map_err(failed)?,
            groups: tx.open_table(GROUPS).map_err(failed)?,
            unsent: tx.open_table(UNSENT).map_err(failed)?,
            gone: tx.open_table(GONE).map_err(failed)?,
            held: tx.open_table(HELD).map_err(failed)?,
            meta,
            hinted,
            hinting: None,
            more_files: 0,
            changed: false,
        })
    }

    /// Whether anything is new but the time of a cut, which is only shown. If not, there is nothing to commit: two boxes at rest
    /// compare their trees every few seconds, for years, and each commit is written to a disk that wears out.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// Opens the tables of a transaction; hints are kept, and written by [`Writer::write_hints`]. `directory`: where
    /// those lie meanwhile that memory does not hold.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn hinting(tx: &'t WriteTransaction, directory: &Path) -> io::Result<Self> {
        Ok(Writer { hinting: Some(Hinting::new(tx, directory)?), ..Writer::new(tx)? })
    }

    /// A writer that keeps no hints is about to change rows.
    fn leave_hints(&mut self) -> io::Result<()> {
        if self.hinted && self.hinting.is_none() {
            self.drop_hints()?;
        }
        Ok(())
    }

    fn drop_hints(&mut self) -> io::Result<()> {
        self.changed = true;
        self.hinting = None; // its tables are open
        self.tx.delete_table(PLACES).map_err(failed)?;
        self.tx.delete_table(INODES).map_err(failed)?;
        drop(self.tx.open_table(PLACES).map_err(failed)?); // a reader finds them
        drop(self.tx.open_table(INODES).map_err(failed)?);
        self.meta.remove(word::HINTED).map_err(failed)?;
        self.hinted = false;
        Ok(())
    }

    /// Writes the hints that were gathered since, or all that follow from the rows if there are none yet. Does nothing
    /// in a writer that keeps none.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn write_hints(&mut self) -> io::Result<()> {
        let Some(hinting) = &mut self.hinting else { return Ok(()) };
        if self.hinted && !hinting.gathered.is_overflown() {
            return hinting.write();
        }
        let directory = hinting.directory.clone();
        self.drop_hints()?;
        let mut hinting = Hinting::new(self.tx, &directory)?;
        for row in self.entries.iter().map_err(failed)? {
            let (key, row) = row.map_err(failed)?;
            let (key, row) = (key.value(), decode(row.value())?);
            hinting.add_inode(key, &row.entry, row.local)?;
            let mut offset = 0;
            each_block(&*self, key, &row, |number, chunks| {
                hinting.add_places(key, u64::from(number) * BLOCK as u64, offset, chunks)?;
                offset += chunks.iter().map(|chunk| chunk.len).sum::<u64>();
                Ok(())
            })?;
        }
        hinting.write()?;
        self.hinting = Some(hinting);
        self.meta.insert(word::HINTED, NOTHING).map_err(failed)?;
        self.hinted = true;
        Ok(())
    }

    /// Takes a name's rows back that this transaction has put.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn undo(&mut self, key: &[u8]) -> io::Result<()> {
        if let Some(hinting) = &mut self.hinting {
            hinting.gathered.undo(key);
        }
        self.remove(key)?;
        Ok(())
    }

    /// Adds one block of a long list, which begins at `offset` of the content, before [`Writer::put`] of its entry. What
    /// the former entry had of it must have been removed.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put_block(&mut self, key: &[u8], number: u32, offset: u64, chunks: &[Chunk]) -> io::Result<()> {
        self.changed = true;
        self.leave_hints()?;
        let mut value = Vec::with_capacity(chunks.len() * 36);
        chunks.iter().for_each(|chunk| chunk.encode(&mut value));
        self.lists.insert(block_key(key, number).as_slice(), value.as_slice()).map_err(failed)?;
        match &mut self.hinting {
            Some(hinting) => hinting.add_places(key, u64::from(number) * BLOCK as u64, offset, chunks),
            None => Ok(()),
        }
    }

    /// Puts the row of a name whose former row has been removed. `list`: the whole chunk list if it has at most
    /// [`is_short`] chunks; `None`: it stands in blocks. Empty for what is no file.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put(&mut self, key: &[u8], entry: &Entry, local: Local, list: Option<&[Chunk]>) -> io::Result<()> {
        self.changed = true;
        self.leave_hints()?;
        let former = self.entries.insert(key, encode(entry, local, list).as_slice()).map_err(failed)?;
        let was_file = former.map_or(Ok(false), |row| decode(row.value()).map(|row| !row.entry.is_directory()))?;
        self.more_files += i64::from(!entry.is_directory()) - i64::from(was_file);
        if let Some(hinting) = &mut self.hinting {
            hinting.add_inode(key, entry, local)?;
            hinting.add_places(key, 0, 0, list.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Notes that a name's inode looks different now, or what it is; its content stands as it is.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put_again(&mut self, key: &[u8], row: &Row) -> io::Result<()> {
        self.changed = true;
        self.leave_hints()?;
        self.entries.insert(key, encode(&row.entry, row.local, row.short.as_deref()).as_slice()).map_err(failed)?;
        match &mut self.hinting {
            Some(hinting) => hinting.add_inode(key, &row.entry, row.local),
            None => Ok(()),
        }
    }

    /// Removes a name and all that belongs to it.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn remove(&mut self, key: &[u8]) -> io::Result<Option<Row>> {
        let Some(row) = self.entries.remove(key).map_err(failed)?.map(|row| decode(row.value())).transpose()? else {
            return Ok(None);
        };
        self.changed = true;
        self.leave_hints()?;
        self.more_files -= i64::from(!row.entry.is_directory());
        if let Some(hinting) = &mut self.hinting {
            hinting.remove_inode(key, row.local.inode)?;
            hinting.remove_places(key, row.short.as_deref().unwrap_or_default())?;
        }
        if row.short.is_none() {
            for number in 0.. {
                let block = self.block(key, number)?;
                if block.is_empty() {
                    break;
                }
                if let Some(hinting) = &mut self.hinting {
                    hinting.remove_places(key, &block)?;
                }
                self.lists.remove(block_key(key, number).as_slice()).map_err(failed)?;
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
        Ok(self.groups.get(inode.to_be_bytes().as_slice()).map_err(failed)?.map(|row| row.value().to_vec()))
    }

    /// Notes the first name of a hard-link group.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_first(&mut self, inode: u64, key: &[u8]) -> io::Result<()> {
        self.changed = true;
        self.groups.insert(inode.to_be_bytes().as_slice(), key).map_err(failed)?;
        Ok(())
    }

    /// Forgets all groups: a scan begins.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn forget_groups(&mut self) -> io::Result<()> {
        self.changed |= clear(&mut self.groups)?;
        Ok(())
    }

    /// Marks a name as changed here and unknown to the peer.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_unsent(&mut self, key: &[u8]) -> io::Result<()> {
        self.changed = true;
        self.unsent.insert(key, NOTHING).map_err(failed)?;
        Ok(())
    }

    /// Notes that a name is not in the cut that is being gathered.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_gone(&mut self, key: &[u8]) -> io::Result<()> {
        self.changed = true;
        self.gone.insert(key, NOTHING).map_err(failed)?;
        Ok(())
    }

    /// Claims the file of a name that is not in the cut, for another name. Once only.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn take_gone(&mut self, key: &[u8]) -> io::Result<bool> {
        let free = self.gone.get(key).map_err(failed)?.is_some_and(|row| row.value() == NOTHING);
        if free {
            self.changed = true;
            self.gone.insert(key, TAKEN).map_err(failed)?;
        }
        Ok(free)
    }

    /// The name is not in the cut that is being gathered.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn is_gone(&self, key: &[u8]) -> io::Result<bool> {
        Ok(self.gone.get(key).map_err(failed)?.is_some())
    }

    /// Notes where the receiver has a chunk that a broken cycle brought.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_held(&mut self, hash: &Hash, name: &[u8; 16], offset: u64) -> io::Result<()> {
        self.changed = true;
        let mut value = name.to_vec();
        put_number(&mut value, offset);
        self.held.insert(hash.as_slice(), value.as_slice()).map_err(failed)?;
        Ok(())
    }

    /// Where the receiver has a chunk that a broken cycle brought.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn held(&self, hash: &Hash) -> io::Result<Option<([u8; 16], u64)>> {
        let Some(row) = self.held.get(hash.as_slice()).map_err(failed)? else { return Ok(None) };
        let mut from = Bytes(row.value());
        Ok(Some((from.array()?, from.number()?)))
    }

    /// Forgets what the receiver has staged: the cycle is over.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn forget_held(&mut self) -> io::Result<()> {
        self.changed |= clear(&mut self.held)?;
        Ok(())
    }

    /// What is unsent stays so in this cut: the peer could not read the name.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn hold_unsent(&mut self, key: &[u8], cut: &CutId) -> io::Result<()> {
        self.changed = true;
        self.unsent.insert(key, cut.as_slice()).map_err(failed)?;
        Ok(())
    }

    /// Both boxes are of one mind again: nothing is unsent but what was held in this cut.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn forget_unsent(&mut self, cut: &CutId) -> io::Result<()> {
        let mut forgotten = false;
        let stays = |_: &[u8], held: &[u8]| {
            forgotten |= held != cut;
            held == cut
        };
        self.unsent.retain(stays).map_err(failed)?;
        self.changed |= forgotten;
        Ok(())
    }

    /// How many names are no directories.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn files(&self) -> io::Result<u64> {
        match noted_files(&self.meta)? {
            Some(files) => Ok(files.saturating_add_signed(self.more_files)),
            None => count_files(&self.entries),
        }
    }

    /// Notes the id of the first cut that is sent from here: the standby may publish it and the acknowledgement be lost.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_offered(&mut self, cut: &CutId) -> io::Result<()> {
        self.changed = true;
        self.meta.insert(word::OFFERED, cut.as_slice()).map_err(failed)?;
        Ok(())
    }

    /// The first cut that was sent from here has this id.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn is_offered(&self, cut: &CutId) -> io::Result<bool> {
        Ok(self.meta.get(word::OFFERED).map_err(failed)?.is_some_and(|row| row.value() == cut))
    }

    /// Names the cut, and notes how many files are in it.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_cut(&mut self, cut: &Cut) -> io::Result<()> {
        let files = self.files()?;
        let same = self.more_files == 0 && noted_files(&self.meta)? == Some(files);
        self.meta.insert(word::FILES, files.to_le_bytes().as_slice()).map_err(failed)?;
        self.more_files = 0;
        let former = self.cut()?;
        self.changed |= !same || Cut { unix_s: cut.unix_s, ..former } != *cut;
        self.meta.insert(word::CUT, cut.encode().as_slice()).map_err(failed)?;
        Ok(())
    }
}
