//! Rows that only help the sender find things: where a chunk is, which name an inode has. Their keys come in no order,
//! and a B-tree that is larger than its cache takes rows in no order ten times slower than sorted ones. So they are
//! gathered during a cycle, sorted in a file of the store, and written at its end in the order of their keys.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::entry::Hash;

/// Bytes that are sorted in memory at once.
const ROOM: usize = 512 * 1024;

/// Names that were taken back and are remembered; with more of them everything is made anew.
const UNDONE: usize = 1024;

/// Sorts rows by their keys of `K` bytes; what memory does not hold lies in a file, in runs that are sorted each.
#[derive(Debug)]
pub struct Sorter<const K: usize> {
    path: PathBuf,
    room: usize,
    bytes: Vec<u8>,
    begins: Vec<u32>,
    file: Option<File>,
    /// Begin and end of each run in the file.
    runs: Vec<(u64, u64)>,
}

impl<const K: usize> Sorter<K> {
    /// An empty one; its file is made when it is needed.
    #[must_use]
    pub fn new(path: PathBuf, room: usize) -> Self {
        Sorter { path, room, bytes: Vec::new(), begins: Vec::new(), file: None, runs: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// What the file system says; a value is at most 64 KiB.
    pub fn add(&mut self, key: &[u8; K], value: &[u8]) -> io::Result<()> {
        let len = u16::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if self.bytes.len() + K + 2 + value.len() > self.room && !self.bytes.is_empty() {
            self.spill()?;
        }
        if self.bytes.capacity() < self.room {
            self.bytes.reserve_exact(self.room);
        }
        self.begins.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |at: u32| &bytes[at as usize..at as usize + K];
        let head = |at: u32| u64::from_be_bytes(std::array::from_fn(|n| key(at).get(n).copied().unwrap_or(0)));
        // Whole words first: to compare bytes is slow in musl.
        self.begins.sort_unstable_by(|&a, &b| head(a).cmp(&head(b)).then_with(|| key(a).cmp(key(b))));
    }

    fn row(&self, at: u32) -> &[u8] {
        let row = &self.bytes[at as usize..];
        &row[..K + 2 + usize::from(u16::from_le_bytes([row[K], row[K + 1]]))]
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let file = match self.file.take() {
            Some(file) => file,
            None => File::options().read(true).write(true).create(true).truncate(true).open(&self.path)?,
        };
        let begin = self.runs.last().map_or(0, |run| run.1);
        let mut to = BufWriter::with_capacity(32 * 1024, &file);
        for &at in &self.begins {
            to.write_all(self.row(at))?;
        }
        to.flush()?;
        drop(to);
        self.file = Some(file);
        self.runs.push((begin, begin + self.bytes.len() as u64));
        self.bytes.clear();
        self.begins.clear();
        Ok(())
    }

    /// Hands out all rows in the order of their keys, those with equal keys in any.
    ///
    /// # Errors
    ///
    /// What the file system says; what `each` returns.
    pub fn finish(mut self, mut each: impl FnMut(&[u8; K], &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut one = |row: &[u8]| {
            let Some((key, value)) = row.split_first_chunk::<K>() else { return Ok(()) };
            each(key, &value[2..])
        };
        if self.file.is_none() {
            self.sort();
            return self.begins.iter().try_for_each(|&at| one(self.row(at)));
        }
        self.spill()?;
        let Some(file) = self.file.take() else { return Ok(()) };
        self.bytes = Vec::new();
        let mut runs: Vec<Run<'_>> = self.runs.iter().map(|&(begin, end)| Run::new(&file, begin, end)).collect();
        let mut front = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            front.extend(run.next::<K>()?.map(|row| Reverse((row, number))));
        }
        while let Some(Reverse((row, number))) = front.pop() {
            one(&row)?;
            front.extend(runs[number].next::<K>()?.map(|row| Reverse((row, number))));
        }
        std::fs::remove_file(&self.path)
    }
}

/// A stretch of a file.
struct Stretch<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Stretch<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(to.len());
        let n = self.file.read_at(&mut to[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Rows of one run, as they lie in the file.
struct Run<'a>(BufReader<Stretch<'a>>);

impl<'a> Run<'a> {
    fn new(file: &'a File, begin: u64, end: u64) -> Self {
        Run(BufReader::with_capacity(8 * 1024, Stretch { file, at: begin, end }))
    }

    fn next<const K: usize>(&mut self) -> io::Result<Option<Vec<u8>>> {
        if io::BufRead::fill_buf(&mut self.0)?.is_empty() {
            return Ok(None);
        }
        let mut row = vec![0; K + 2];
        self.0.read_exact(&mut row)?;
        let len = usize::from(u16::from_le_bytes([row[K], row[K + 1]]));
        row.resize(K + 2 + len, 0);
        self.0.read_exact(&mut row[K + 2..])?;
        Ok(Some(row))
    }
}

/// What a cycle has gathered.
#[derive(Debug)]
pub struct Hints {
    /// Chunk hash to where the chunk is.
    pub places: Sorter<32>,
    /// Inode number, big-endian, to name.
    pub inodes: Sorter<8>,
    /// Names whose rows were taken back after they had been put: what they gathered is not true.
    undone: BTreeSet<Vec<u8>>,
    overflown: bool,
}

impl Hints {
    /// Nothing yet. `directory`: where the files lie that memory does not hold.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Hints {
            places: Sorter::new(directory.join("places"), ROOM),
            inodes: Sorter::new(directory.join("inodes"), ROOM / 2),
            undone: BTreeSet::new(),
            overflown: false,
        }
    }

    /// A name's rows are taken back.
    pub fn undo(&mut self, key: &[u8]) {
        if self.undone.len() < UNDONE {
            self.undone.insert(key.to_vec());
        } else {
            self.overflown = true;
        }
    }

    /// So much was taken back that nothing here is to be believed.
    #[must_use]
    pub fn is_overflown(&self) -> bool {
        self.overflown
    }

    /// What was gathered: places, inodes, and the names that are to be left out.
    #[must_use]
    pub fn into_parts(self) -> (Sorter<32>, Sorter<8>, BTreeSet<Vec<u8>>) {
        (self.places, self.inodes, self.undone)
    }
}

/// Chunks of this cycle that are on their way: a bounded table in which a newer one takes the place of an older one.
#[derive(Debug, Default)]
pub struct Recent(Vec<Option<(Hash, [u8; 16], u64)>>);

impl Recent {
    /// At the mean length of a chunk these are 1 GiB of content.
    const SLOTS: usize = 16 * 1024;

    fn slot(hash: &Hash) -> usize {
        usize::from(u16::from_le_bytes([hash[0], hash[1]])) % Self::SLOTS
    }

    /// Notes the staged file that has a chunk, and where in it.
    pub fn note(&mut self, hash: &Hash, name: [u8; 16], offset: u64) {
        if self.0.is_empty() {
            self.0 = vec![None; Self::SLOTS];
        }
        self.0[Self::slot(hash)] = Some((*hash, name, offset));
    }

    /// The staged file that has a chunk, and where in it.
    #[must_use]
    pub fn find(&self, hash: &Hash) -> Option<([u8; 16], u64)> {
        let (known, name, offset) = self.0.get(Self::slot(hash))?.as_ref()?;
        (known == hash).then_some((*name, *offset))
    }

    /// A staged file was given up: nothing is known any more.
    pub fn forget(&mut self) {
        self.0.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_out_sorted_whether_memory_holds_them_or_not(
            rows in proptest::collection::vec((any::<[u8; 9]>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..200),
            room in 1usize..4000,
        ) {
            let path = std::env::temp_dir().join(format!("twobox-sorter-{}", std::process::id()));
            let mut sorter = Sorter::<9>::new(path, room);
            for (key, value) in &rows {
                sorter.add(key, value).unwrap();
            }
            let mut out = Vec::new();
            sorter.finish(|key, value| {
                out.push((*key, value.to_vec()));
                Ok(())
            }).unwrap();
            let mut keys: Vec<_> = rows.iter().map(|row| row.0).collect();
            keys.sort_unstable();
            prop_assert_eq!(out.iter().map(|row| row.0).collect::<Vec<_>>(), keys);
            let (mut wanted, mut found) = (rows, out);
            wanted.sort();
            found.sort();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_recent_chunk_is_found_until_it_is_forgotten() {
        let mut recent = Recent::default();
        assert_eq!(recent.find(&[7; 32]), None);
        recent.note(&[7; 32], [1; 16], 5);
        assert_eq!(recent.find(&[7; 32]), Some(([1; 16], 5)));
        let mut other = [7; 32];
        other[31] = 8; // the same slot
        assert_eq!(recent.find(&other), None);
        recent.note(&other, [2; 16], 6);
        assert_eq!(recent.find(&[7; 32]), None);
        recent.forget();
        assert_eq!(recent.find(&other), None);
    }
}
