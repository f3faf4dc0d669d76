//! The slots' file system (FAT32) after a power cut.
//!
//! FAT has no journal. What a cut leaves of a file that was being written or removed is a chain of clusters that runs into
//! free ones, or clusters that no file has. Both are for ever: the kernel makes the whole file system read-only when a file
//! with such a chain is removed (`fat_free_clusters` in fs/fat/fatent.c: "deleting FAT entry beyond EOF"), and it never looks
//! for lost clusters. A box that lost its power in the middle of an update would take no other one, and nobody would
//! carry it to a machine with fsck.
//!
//! So before the partition is mounted to be written, every chain is cut where it leaves what can be its own, and what is
//! nobody's is freed. A whole file is never touched, and where two files claim the same clusters nothing is written at all. Only
//! a draft gives way: it has been booted by nobody.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Values of the table: 28 bits count.
const MASK: u32 = 0x0fff_ffff;
const FREE: u32 = 0;
const BAD: u32 = 0x0fff_fff7;
const END: u32 = 0x0fff_ffff;

/// The first cluster's number.
const FIRST: u32 = 2;
/// Longest table that is looked at, in bytes: of a partition of 8 GiB with clusters of 4 KiB.
const TABLE_MAX: u64 = 8 << 20;
/// Bytes of an entry of a folder.
const ENTRY: usize = 32;

/// What was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Files that were cut to what is their own.
    pub cut: u32,
    /// Clusters that were nobody's.
    pub freed: u32,
}

/// Mends the file system on `device`, which nobody has mounted. What is no FAT32 stays as it is.
///
/// # Errors
///
/// What the disk said; that it is damaged in a way that no power cut leaves, and nothing is written then.
pub fn mend(device: &File) -> io::Result<Mended> {
    let mut block = [0; 512];
    device.read_exact_at(&mut block, 0)?;
    let Some(shape) = Shape::of(&block) else { return Ok(Mended::default()) };
    let mut volume = Volume::read(device, shape)?;
    volume.walk()?;
    volume.free_lost();
    volume.write(block)?;
    Ok(volume.mended)
}

/// Where things lie, in bytes (Microsoft's FAT specification, "BPB").
#[derive(Debug)]
struct Shape {
    sector: usize,
    cluster: usize,
    table_at: u64,
    table_length: u64,
    tables: u64,
    data_at: u64,
    clusters: u32,
    root: u32,
    info_at: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

impl Shape {
    /// `None`: no FAT32, or one that is not mirrored.
    fn of(block: &[u8; 512]) -> Option<Shape> {
        let sector = u16_at(block, 0x0b);
        let (in_cluster, reserved, tables) = (block[0x0d], u64::from(u16_at(block, 0x0e)), u64::from(block[0x10]));
        let (total, table, root) =
            (u64::from(u32_at(block, 0x20)), u64::from(u32_at(block, 0x24)), u32_at(block, 0x2c));
        let is_fat32 = u16_at(block, 0x11) == 0 && u16_at(block, 0x16) == 0 && table > 0;
        let is_mirrored = u16_at(block, 0x28) & 0x80 == 0;
        let is_sane = matches!(sector, 512 | 1024 | 2048 | 4096)
            && in_cluster.is_power_of_two()
            && matches!(tables, 1 | 2)
            && reserved > 0;
        if block[510..] != [0x55, 0xaa] || !is_fat32 || !is_mirrored || !is_sane {
            return None;
        }
        let bytes = u64::from(sector);
        let clusters = total.checked_sub(reserved + tables * table)? / u64::from(in_cluster);
        let clusters = u32::try_from(clusters.min(table * bytes / 4 - u64::from(FIRST))).ok()?;
        (table * bytes <= TABLE_MAX && (FIRST..FIRST + clusters).contains(&root)).then_some(Shape {
            sector: sector.into(),
            cluster: usize::from(sector) * usize::from(in_cluster),
            table_at: reserved * bytes,
            table_length: table * bytes,
            tables,
            data_at: (reserved + tables * table) * bytes,
            clusters,
            root,
            info_at: u64::from(u16_at(block, 0x30)) * bytes,
        })
    }

    fn place(&self, cluster: u32) -> u64 {
        self.data_at + u64::from(cluster - FIRST) * self.cluster as u64
    }
}

/// An entry of a folder, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    bytes: [u8; ENTRY],
}

impl Entry {
    fn is_folder(&self) -> bool {
        self.bytes[11] & 0x10 != 0
    }

    /// Of a long name, a volume's name, or the folder itself and the one above.
    fn is_no_file(&self) -> bool {
        self.bytes[11] & 0x08 != 0 || self.bytes[0] == b'.' || self.bytes[0] == 0xe5
    }

    /// `twobox-N.new`: the short name keeps the end.
    fn is_draft(&self) -> bool {
        self.bytes[8..11] == *b"NEW"
    }

    fn start(&self) -> u32 {
        (u32::from(u16_at(&self.bytes, 20)) << 16 | u32::from(u16_at(&self.bytes, 26))) & MASK
    }

    fn length(&self) -> u32 {
        u32_at(&self.bytes, 28)
    }

    fn set_length(&mut self, length: u32) {
        self.bytes[28..32].copy_from_slice(&length.to_le_bytes());
        if length == 0 {
            self.bytes[20..22].fill(0);
            self.bytes[26..28].fill(0);
        }
    }
}

struct Volume<'d> {
    device: &'d File,
    shape: Shape,
    /// The first table: the one that the kernel and firmware read.
    table: Vec<u8>,
    owned: Vec<bool>,
    /// Sectors of the table to be written.
    changed: BTreeSet<usize>,
    /// Entries to be written.
    entries: Vec<Entry>,
    mended: Mended,
}

fn damaged(what: &str) -> io::Error {
    io::Error::other(format!("the boot partition is damaged ({what}): write the disk anew"))
}

impl<'d> Volume<'d> {
    fn read(device: &'d File, shape: Shape) -> io::Result<Self> {
        let mut table = vec![0; usize::try_from(shape.table_length).map_err(io::Error::other)?];
        device.read_exact_at(&mut table, shape.table_at)?;
        let owned = vec![false; (FIRST + shape.clusters) as usize];
        let mut volume = Volume {
            device,
            shape,
            table,
            owned,
            changed: BTreeSet::new(),
            entries: Vec::new(),
            mended: Mended::default(),
        };
        let mut copy = vec![0; volume.table.len()];
        for number in 1..volume.shape.tables {
            device.read_exact_at(&mut copy, volume.shape.table_at + number * volume.shape.table_length)?;
            let sectors = volume.table.chunks(volume.shape.sector).zip(copy.chunks(volume.shape.sector));
            volume.changed.extend(sectors.enumerate().filter(|(_, (one, other))| one != other).map(|(at, _)| at));
        }
        Ok(volume)
    }

    fn next(&self, cluster: u32) -> u32 {
        u32_at(&self.table, cluster as usize * 4) & MASK
    }

    fn set(&mut self, cluster: u32, value: u32) {
        let at = cluster as usize * 4;
        let kept = u32_at(&self.table, at) & !MASK;
        self.table[at..at + 4].copy_from_slice(&(kept | value).to_le_bytes());
        self.changed.insert(at / self.shape.sector);
    }

    fn exists(&self, cluster: u32) -> bool {
        (FIRST..FIRST + self.shape.clusters).contains(&cluster)
    }

    /// The clusters from `start` on that are nobody else's, at most `most`; and whether they are all that the chain has: it neither
    /// ends early nor goes on.
    fn claim(&mut self, start: u32, most: usize) -> Claimed {
        let mut claimed = Claimed { chain: Vec::new(), is_whole: false, is_shared: false };
        let mut at = start;
        while claimed.chain.len() < most && self.exists(at) && !matches!(self.next(at), FREE | BAD) {
            if self.owned[at as usize] {
                claimed.is_shared = true;
                break;
            }
            self.owned[at as usize] = true;
            claimed.chain.push(at);
            at = self.next(at);
        }
        claimed.is_whole = at > BAD;
        if let Some(&last) = claimed.chain.last()
            && !claimed.is_whole
        {
            self.set(last, END);
        }
        claimed
    }

    /// Goes through all folders, and then through all files.
    fn walk(&mut self) -> io::Result<()> {
        let mut folders = vec![self.shape.root];
        let (mut files, mut drafts) = (Vec::new(), Vec::new());
        while let Some(folder) = folders.pop() {
            let claimed = self.claim(folder, usize::MAX);
            if claimed.chain.is_empty() || claimed.is_shared {
                return Err(damaged("a folder is not whole"));
            }
            for entry in self.list(&claimed.chain)? {
                match entry {
                    entry if entry.is_folder() => folders.push(entry.start()),
                    entry if entry.is_draft() => drafts.push(entry),
                    entry => files.push(entry),
                }
            }
        }
        for file in files {
            if self.mend_file(file) {
                return Err(damaged("two files have the same clusters"));
            }
        }
        for draft in drafts {
            self.mend_file(draft);
        }
        Ok(())
    }

    fn list(&self, chain: &[u32]) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut cluster = vec![0; self.shape.cluster];
        for &number in chain {
            let place = self.shape.place(number);
            self.device.read_exact_at(&mut cluster, place)?;
            for (at, bytes) in (place..).step_by(ENTRY).zip(cluster.chunks_exact(ENTRY)) {
                let entry = Entry { at, bytes: bytes.try_into().map_err(io::Error::other)? };
                match entry.bytes[0] {
                    0 => return Ok(entries),
                    _ if entry.is_no_file() => {}
                    _ => entries.push(entry),
                }
            }
        }
        Ok(entries)
    }

    /// Makes chain and length of a file agree. Returns whether another one has some of its clusters.
    fn mend_file(&mut self, mut file: Entry) -> bool {
        let (start, length) = (file.start(), file.length() as usize);
        if start == 0 && length == 0 {
            return false;
        }
        let claimed = self.claim(start, length.div_ceil(self.shape.cluster));
        let room = claimed.chain.len() * self.shape.cluster;
        if length == 0 || length > room {
            file.set_length(u32::try_from(room).unwrap_or(u32::MAX));
            self.entries.push(file);
        }
        if length == 0 || length > room || !claimed.is_whole {
            self.mended.cut += 1;
        }
        claimed.is_shared
    }

    fn free_lost(&mut self) {
        for cluster in FIRST..FIRST + self.shape.clusters {
            if !self.owned[cluster as usize] && !matches!(self.next(cluster), FREE | BAD) {
                self.set(cluster, FREE);
                self.mended.freed += 1;
            }
        }
    }

    /// Table, entries, and then that all is well: cut off in between, the rest is found the next time.
    fn write(&self, mut block: [u8; 512]) -> io::Result<()> {
        /// Bit of the boot sector: mounted, and not unmounted since.
        const DIRTY: u8 = 1;
        if self.changed.is_empty() && self.entries.is_empty() && block[0x41] & DIRTY == 0 {
            return Ok(());
        }
        for &sector in &self.changed {
            let at = sector * self.shape.sector;
            for number in 0..self.shape.tables {
                let place = self.shape.table_at + number * self.shape.table_length + at as u64;
                self.device.write_all_at(&self.table[at..at + self.shape.sector], place)?;
            }
        }
        self.device.sync_all()?;
        for entry in &self.entries {
            self.device.write_all_at(&entry.bytes, entry.at)?;
        }
        self.count_free()?;
        self.device.sync_all()?;
        block[0x41] &= !DIRTY;
        self.device.write_all_at(&block, 0)?;
        self.device.sync_all()
    }

    /// The number of free clusters, which others may believe.
    fn count_free(&self) -> io::Result<()> {
        let mut info = [0; 512];
        self.device.read_exact_at(&mut info, self.shape.info_at)?;
        if info[..4] == *b"RRaA" && info[484..488] == *b"rrAa" {
            let free = (FIRST..FIRST + self.shape.clusters).filter(|cluster| self.next(*cluster) == FREE).count();
            info[488..492].copy_from_slice(&u32::try_from(free).map_err(io::Error::other)?.to_le_bytes());
            self.device.write_all_at(&info, self.shape.info_at)?;
        }
        Ok(())
    }
}

struct Claimed {
    chain: Vec<u32>,
    is_whole: bool,
    is_shared: bool,
}

#[cfg(test)]
mod tests;
