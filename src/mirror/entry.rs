//! What the mirror knows of one name: its metadata and the list of its content's chunks.

use super::codec::{Malformed, Reader, put_bytes, put_number, put_signed};
use super::name;

/// BLAKE3 of a chunk, or of a chunk list.
pub type Hash = [u8; 32];

/// Most bytes of extended attributes of one file, names included. The kernel's own limit is 64 KiB a value and 64 KiB
/// of names (xattr(7)).
pub const XATTRS: usize = 512 * 1024;

/// Longest target of a symbolic link (PATH_MAX).
pub const TARGET: usize = 4096;

/// Most chunks that are held in memory as one list: a hole takes a byte where it is stored, and fifty here.
pub const CHUNKS: usize = 1024;

/// Largest file that the kernel can hold (loff_t).
pub const SIZE: u64 = i64::MAX as u64;

/// A moment in a file's inode: seconds since 1970 and nanoseconds. Compared for equality only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds, before 1970 negative.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

impl Stamp {
    /// By the same clock, as long as nobody has set it.
    #[must_use]
    pub fn is_after(self, other: Stamp) -> bool {
        (self.seconds, self.nanos) > (other.seconds, other.nanos)
    }

    fn encode(self, to: &mut Vec<u8>) {
        put_signed(to, self.seconds);
        put_number(to, u64::from(self.nanos));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let stamp = Stamp { seconds: from.signed()?, nanos: from.number32()? };
        if stamp.nanos < 1_000_000_000 { Ok(stamp) } else { Err(Malformed) }
    }
}

/// What kind of thing a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file: its size and the hash of its chunk list.
    File {
        /// In bytes.
        size: u64,
        /// BLAKE3 of the encoded chunk list.
        content: Hash,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A device node and its number as the kernel encodes it.
    Device {
        /// Block device, else character device.
        block: bool,
        /// `st_rdev`.
        number: u64,
    },
    /// Another name of the file that `first` names: the name of its group that sorts first.
    Link {
        /// Key of the group's first name.
        first: Vec<u8>,
    },
}

/// What a name is, as both boxes see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, the lower twelve of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of content.
    pub mtime: Stamp,
    /// Extended attributes, ACLs among them, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// Another name of a file that has an entry already. Its metadata stand there.
    #[must_use]
    pub fn link(first: Vec<u8>) -> Self {
        Entry { kind: Kind::Link { first }, mode: 0, uid: 0, gid: 0, mtime: Stamp::default(), xattrs: Vec::new() }
    }

    /// A directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The size of a file's content, 0 for everything else.
    #[must_use]
    pub fn size(&self) -> u64 {
        if let Kind::File { size, .. } = self.kind { size } else { 0 }
    }

    /// Owner, mode, time and attributes are the same.
    #[must_use]
    pub fn same_metadata(&self, other: &Entry) -> bool {
        (self.mode, self.uid, self.gid, self.mtime) == (other.mode, other.uid, other.gid, other.mtime)
            && self.xattrs == other.xattrs
    }

    /// Appends the entry.
    pub fn encode(&self, to: &mut Vec<u8>) {
        match &self.kind {
            Kind::File { size, content } => {
                to.push(0);
                put_number(to, *size);
                to.extend_from_slice(content);
            }
            Kind::Directory => to.push(1),
            Kind::Symlink(target) => {
                to.push(2);
                put_bytes(to, target);
            }
            Kind::Fifo => to.push(3),
            Kind::Socket => to.push(4),
            Kind::Device { block, number } => {
                to.push(if *block { 5 } else { 6 });
                put_number(to, *number);
            }
            Kind::Link { first } => {
                to.push(7);
                put_bytes(to, first);
                return;
            }
        }
        put_number(to, u64::from(self.mode));
        put_number(to, u64::from(self.uid));
        put_number(to, u64::from(self.gid));
        self.mtime.encode(to);
        put_number(to, self.xattrs.len() as u64);
        for (name, value) in &self.xattrs {
            put_bytes(to, name);
            put_bytes(to, value);
        }
    }

    /// Takes an entry off the front.
    ///
    /// # Errors
    ///
    /// When it is cut off or breaks a limit.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = match from.byte()? {
            0 => Kind::File { size: limited(from.number()?, SIZE)?, content: from.array()? },
            1 => Kind::Directory,
            2 => {
                let target = from.bytes()?;
                if target.is_empty() || target.len() > TARGET || target.contains(&0) {
                    return Err(Malformed);
                }
                Kind::Symlink(target.to_vec())
            }
            3 => Kind::Fifo,
            4 => Kind::Socket,
            block @ (5 | 6) => Kind::Device { block: block == 5, number: from.number()? },
            7 => {
                let first = from.bytes()?;
                if first.is_empty() || !name::is_valid(first) {
                    return Err(Malformed);
                }
                return Ok(Entry::link(first.to_vec()));
            }
            _ => return Err(Malformed),
        };
        let mode = limited(from.number()?, 0o7777)? as u32;
        let (uid, gid) = (from.number32()?, from.number32()?);
        let mtime = Stamp::decode(from)?;
        let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut total = 0;
        for _ in 0..from.number()? {
            let (name, value) = (from.bytes()?, from.bytes()?);
            total += name.len() + value.len();
            let in_order = xattrs.last().is_none_or(|(last, _)| last.as_slice() < name);
            if name.is_empty() || name.len() > name::NAME || name.contains(&0) || total > XATTRS || !in_order {
                return Err(Malformed);
            }
            xattrs.push((name.to_vec(), value.to_vec()));
        }
        Ok(Entry { kind, mode, uid, gid, mtime, xattrs })
    }
}

fn limited(n: u64, most: u64) -> Result<u64, Malformed> {
    if n <= most { Ok(n) } else { Err(Malformed) }
}

/// A piece of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// In bytes.
    pub len: u64,
    /// BLAKE3 of the content; `None` for a hole.
    pub hash: Option<Hash>,
}

impl Chunk {
    /// Appends the chunk.
    pub fn encode(&self, to: &mut Vec<u8>) {
        put_number(to, self.len << 1 | u64::from(self.hash.is_none()));
        if let Some(hash) = &self.hash {
            to.extend_from_slice(hash);
        }
    }

    /// Takes a chunk off the front.
    ///
    /// # Errors
    ///
    /// When it is cut off.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let n = from.number()?;
        let hash = if n & 1 == 0 { Some(from.array()?) } else { None };
        if n < 2 { Err(Malformed) } else { Ok(Chunk { len: n >> 1, hash }) }
    }

    /// Takes chunks until nothing is left.
    ///
    /// # Errors
    ///
    /// When one is cut off, when there are more than [`CHUNKS`].
    pub fn decode_all(mut from: Reader<'_>) -> Result<Vec<Chunk>, Malformed> {
        let mut chunks = Vec::new();
        while !from.0.is_empty() {
            if chunks.len() == CHUNKS {
                return Err(Malformed);
            }
            chunks.push(Chunk::decode(&mut from)?);
        }
        Ok(chunks)
    }
}

/// The inode that a name had on this box when its entry was made: as long as all of it is the same, content and
/// metadata are. The kernel sets `ctime` at every change of either and nobody can set it back (inode(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Inode number; 0: never seen here, so it must be read.
    pub inode: u64,
    /// Time of the last change of the inode.
    pub ctime: Stamp,
    /// The inode has other names.
    pub linked: bool,
}

impl Local {
    /// Appends the value.
    pub fn encode(self, to: &mut Vec<u8>) {
        put_number(to, self.inode);
        self.ctime.encode(to);
        to.push(u8::from(self.linked));
    }

    /// Takes a value off the front.
    ///
    /// # Errors
    ///
    /// When it is cut off.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Local { inode: from.number()?, ctime: Stamp::decode(from)?, linked: from.byte()? != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_return() {
        let kinds = [
            Kind::File { size: 1 << 40, content: [7; 32] },
            Kind::Directory,
            Kind::Symlink(b"../x".to_vec()),
            Kind::Fifo,
            Kind::Socket,
            Kind::Device { block: true, number: 0x1234 },
        ];
        for kind in kinds {
            let entry = Entry {
                kind,
                mode: 0o4755,
                uid: 1,
                gid: u32::MAX,
                mtime: Stamp { seconds: -5, nanos: 999_999_999 },
                xattrs: vec![(b"user.a".to_vec(), vec![0; 300]), (b"user.b".to_vec(), Vec::new())],
            };
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            assert_eq!(Entry::decode(&mut Reader(&bytes)), Ok(entry));
        }
        let mut bytes = Vec::new();
        Entry::link(b"a\0b".to_vec()).encode(&mut bytes);
        assert_eq!(Entry::decode(&mut Reader(&bytes)), Ok(Entry::link(b"a\0b".to_vec())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>) {
            let _ = Entry::decode(&mut Reader(&bytes));
            let _ = Chunk::decode_all(Reader(&bytes));
            let _ = Local::decode(&mut Reader(&bytes));
        }
    }
}
