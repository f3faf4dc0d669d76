//! Cutting content into chunks at places that the content itself decides (FastCDC, USENIX ATC 2016), so that an
//! insertion moves boundaries along with the bytes; and BLAKE3 as their name.
//!
//! A file that had a list before is first tried along it: a chunk's end depends on nothing but its own bytes, so where
//! the bytes are the same the boundary is, and only hashing is needed, not the slower search for boundaries.

use std::io;
use std::os::fd::BorrowedFd;

use fastcdc::v2020::{Normalization, cut, select_masks};
use nix::unistd::{Whence, lseek};

use super::entry::{Chunk, Hash};

/// No chunk but the last is shorter, in bytes. Half the mean: the search skips that much of every chunk.
pub const SHORTEST: usize = 32 * 1024;
/// What chunks are cut towards.
pub const MEAN: usize = 64 * 1024;
/// No chunk is longer.
pub const LONGEST: usize = 256 * 1024;

/// What is read at once.
const READ: usize = 1024 * 1024;

/// What is known of the file's former content.
pub trait Former {
    /// The chunk of this number in the former list.
    ///
    /// # Errors
    ///
    /// What the index says.
    fn chunk(&mut self, number: u64) -> io::Result<Option<Chunk>>;

    /// The number of the chunk with this hash in the former list, if it is in there.
    ///
    /// # Errors
    ///
    /// What the index says.
    fn number(&mut self, hash: &Hash) -> io::Result<Option<u64>>;
}

/// There was none.
#[derive(Clone, Copy, Debug)]
pub struct NoFormer;

impl Former for NoFormer {
    fn chunk(&mut self, _: u64) -> io::Result<Option<Chunk>> {
        Ok(None)
    }

    fn number(&mut self, _: &Hash) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

impl<F: Former> Former for Option<F> {
    fn chunk(&mut self, number: u64) -> io::Result<Option<Chunk>> {
        self.as_mut().map_or(Ok(None), |former| former.chunk(number))
    }

    fn number(&mut self, hash: &Hash) -> io::Result<Option<u64>> {
        self.as_mut().map_or(Ok(None), |former| former.number(hash))
    }
}

/// A chunk of a file, as it was read.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length and hash.
    pub chunk: Chunk,
    /// The content; empty for a hole.
    pub data: &'a [u8],
    /// Its number in the former list, when it was found there.
    pub former: Option<u64>,
}

/// Cuts files. Holds the buffer, so that it is allocated once.
#[derive(Debug)]
pub struct Chunker {
    buffer: Vec<u8>,
    masks: (u64, u64),
}

impl Default for Chunker {
    fn default() -> Self {
        Chunker { buffer: vec![0; READ], masks: select_masks(MEAN, Normalization::Level1) }
    }
}

/// The file ended before the size that it had when it was opened.
fn shrunk() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was read")
}

/// Reads the full buffer or up to the end of file.
///
/// # Errors
///
/// What pread(2) says.
pub fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match nix::sys::uio::pread(file, &mut buffer[done..], (offset + done as u64) as i64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

/// The next stretch of data at or after `from` and before `size`: begin and end. `None`: only a hole is left.
///
/// # Errors
///
/// What lseek(2) says.
pub fn data_from(file: BorrowedFd<'_>, from: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    let begin = match lseek(file, from as i64, Whence::SeekData) {
        Ok(at) => at as u64,
        Err(nix::Error::ENXIO) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let end = lseek(file, begin as i64, Whence::SeekHole)? as u64;
    Ok((begin < size).then_some((begin, end.min(size))))
}

impl Chunker {
    /// Cuts `size` bytes of `file` and hands out the pieces in order. `sparse`: the file occupies less than its size,
    /// so holes are looked for.
    ///
    /// # Errors
    ///
    /// What reading says, `UnexpectedEof` when the file has become shorter, what `each` returns.
    pub fn cut(
        &mut self,
        file: BorrowedFd<'_>,
        size: u64,
        sparse: bool,
        former: &mut impl Former,
        each: &mut impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut along = Along { former, number: 0, offset: 0 };
        let mut at = 0;
        while at < size {
            let data = if sparse { data_from(file, at, size)? } else { Some((at, size)) };
            let (begin, end) = data.unwrap_or((size, size));
            if begin > at {
                let chunk = Chunk { len: begin - at, hash: None };
                along.skip_to(begin)?;
                each(Piece { offset: at, chunk, data: &[], former: None })?;
            }
            self.stretch(file, begin, end, &mut along, each)?;
            at = end;
        }
        Ok(())
    }

    /// One stretch of data.
    fn stretch<F: Former>(
        &mut self,
        file: BorrowedFd<'_>,
        begin: u64,
        end: u64,
        along: &mut Along<'_, F>,
        each: &mut impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut at, mut first, mut filled) = (begin, 0, 0);
        while at < end {
            // At least one chunk of any length is in the buffer, or all that is left.
            if filled - first < LONGEST && at + ((filled - first) as u64) < end {
                self.buffer.copy_within(first..filled, 0);
                filled -= first;
                first = 0;
                let want = usize::try_from(end - at).unwrap_or(READ).min(READ) - filled;
                let n = read_at(file, &mut self.buffer[filled..filled + want], at + filled as u64)?;
                if n < want {
                    return Err(shrunk());
                }
                filled += n;
            }
            let window = &self.buffer[first..filled];
            let (chunk, former) = self.next(window, at, along)?;
            let len = chunk.len as usize;
            each(Piece { offset: at, chunk, data: &window[..len], former })?;
            at += chunk.len;
            first += len;
        }
        Ok(())
    }

    fn next<F: Former>(&self, window: &[u8], at: u64, along: &mut Along<'_, F>) -> io::Result<(Chunk, Option<u64>)> {
        along.skip_to(at)?;
        if along.offset == at
            && let Some(Chunk { len, hash: Some(hash) }) = along.former.chunk(along.number)?
            && let Ok(n) = usize::try_from(len)
            && n <= window.len()
            && *blake3::hash(&window[..n]).as_bytes() == hash
        {
            let number = along.number;
            along.number += 1;
            along.offset += len;
            return Ok((Chunk { len, hash: Some(hash) }, Some(number)));
        }
        let n = self.boundary(window);
        let hash = *blake3::hash(&window[..n]).as_bytes();
        let found = along.former.number(&hash)?;
        if let Some(number) = found {
            along.number = number + 1;
            along.offset = at + n as u64;
        }
        Ok((Chunk { len: n as u64, hash: Some(hash) }, found))
    }

    fn boundary(&self, window: &[u8]) -> usize {
        let (s, l) = self.masks;
        cut(window, SHORTEST, MEAN, LONGEST, s, l, s << 1, l << 1).1
    }
}

/// A place in the former list that goes along with the reading. `offset` is where the chunk `number` is expected in the
/// new content.
struct Along<'a, F> {
    former: &'a mut F,
    number: u64,
    offset: u64,
}

impl<F: Former> Along<'_, F> {
    /// Leaves behind what lies before `at`.
    fn skip_to(&mut self, at: u64) -> io::Result<()> {
        while self.offset < at {
            let Some(chunk) = self.former.chunk(self.number)? else {
                self.offset = u64::MAX;
                break;
            };
            self.number += 1;
            self.offset = self.offset.saturating_add(chunk.len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    struct List(Vec<Chunk>);

    impl Former for List {
        fn chunk(&mut self, number: u64) -> io::Result<Option<Chunk>> {
            Ok(self.0.get(number as usize).copied())
        }

        fn number(&mut self, hash: &Hash) -> io::Result<Option<u64>> {
            Ok(self.0.iter().position(|chunk| chunk.hash.as_ref() == Some(hash)).map(|n| n as u64))
        }
    }

    fn noise(n: usize, mut seed: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(n);
        while bytes.len() < n {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push((seed >> 56) as u8);
        }
        bytes
    }

    fn cut(bytes: &[u8], former: &mut impl Former) -> (Vec<Chunk>, usize) {
        let path = std::env::temp_dir().join(format!("twobox-chunk-{}-{:?}", std::process::id(), bytes.as_ptr()));
        let mut file = std::fs::File::create_new(&path).unwrap();
        file.write_all(bytes).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (mut chunks, mut found, mut at) = (Vec::new(), 0, 0);
        Chunker::default()
            .cut(file.as_fd(), bytes.len() as u64, false, former, &mut |piece| {
                assert_eq!(piece.offset, at as u64);
                assert_eq!(piece.data, &bytes[at..at + piece.chunk.len as usize]);
                at += piece.data.len();
                found += usize::from(piece.former.is_some());
                chunks.push(piece.chunk);
                Ok(())
            })
            .unwrap();
        assert_eq!(at, bytes.len());
        (chunks, found)
    }

    #[test]
    fn an_insertion_an_overwrite_and_an_append_change_few_chunks() {
        let bytes = noise(8 << 20, 1);
        let (list, _) = cut(&bytes, &mut NoFormer);
        let mean = bytes.len() / list.len();
        assert!((48 << 10..112 << 10).contains(&mean), "mean {mean}");

        let mut inserted = bytes.clone();
        inserted.splice(3_000_000..3_000_000, noise(4096, 2));
        let (chunks, found) = cut(&inserted, &mut List(list.clone()));
        assert!(chunks.len() - found <= 4, "{} of {}", found, chunks.len());

        let mut overwritten = bytes.clone();
        overwritten[5 << 20..(5 << 20) + 4096].copy_from_slice(&noise(4096, 3));
        let (chunks, found) = cut(&overwritten, &mut List(list.clone()));
        assert!(chunks.len() - found <= 4, "{} of {}", found, chunks.len());

        let mut longer = bytes.clone();
        longer.extend(noise(100_000, 4));
        let (chunks, found) = cut(&longer, &mut List(list.clone()));
        assert!(found >= list.len() - 1 && chunks.len() - found <= 6);
    }

    #[test]
    fn chunks_along_a_former_list_are_those_without_it() {
        let bytes = noise(2 << 20, 9);
        let (list, _) = cut(&bytes, &mut NoFormer);
        let mut changed = bytes.clone();
        changed.splice(700_000..700_100, noise(1000, 10));
        assert_eq!(cut(&changed, &mut List(list)).0, cut(&changed, &mut NoFormer).0);
    }

    #[test]
    fn the_shortest_and_the_empty_file() {
        assert_eq!(cut(b"", &mut NoFormer).0, []);
        assert_eq!(cut(b"x", &mut NoFormer).0, [Chunk { len: 1, hash: Some(*blake3::hash(b"x").as_bytes()) }]);
    }
}
