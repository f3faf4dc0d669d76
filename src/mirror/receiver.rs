//! The standby's end: gathers the next cut as the records come, and publishes it when it is complete.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::{ftruncate, syncfs};

use super::channel::{Incoming, Outgoing};
use super::chunk::{Chunker, NoFormer, read_at};
use super::codec::{Malformed, put_bytes};
use super::control::Generation;
use super::entry::{Chunk, Entry, Hash, Kind};
use super::fault;
use super::index::{BLOCK, CutId, Lookup, Reader, Row, Writer, each_chunk};
use super::message::{Message, StageName, Standing, pages, stage_name, sum};
use super::publish::{empty, replay};
use super::read::{FormerList, Listing};
use super::redo::{Log, Source, Step};
use super::side::Side;
use super::stage;
use super::tree::{self, Tree};

/// Rows under one digest when two indexes are compared.
pub const RANGE: usize = 512;

/// Names that may have to be sent again before the cycle is given up.
const RESENDS: usize = 10_000;

/// What a cycle brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The cut that is published; `None`: the sender gave the cycle up.
    pub cut: Option<CutId>,
    /// Names that came or changed.
    pub put: u64,
    /// Names that went.
    pub gone: u64,
}

/// A file whose content is coming in.
struct Gathering {
    key: Vec<u8>,
    entry: Entry,
    file: OwnedFd,
    at: u64,
    size: u64,
    listing: Listing,
    bad: bool,
}

/// A file of the present cut that content is taken from.
struct Origin {
    key: Vec<u8>,
    row: Row,
    file: OwnedFd,
    /// Its inode is as it was when its entry was made, so its chunks are what the index says.
    trusted: bool,
}

struct Receiving<'a, 't> {
    side: &'a Side,
    tree: Tree,
    base: Reader,
    scratch: Writer<'t>,
    log: Log,
    /// Blocks of the chunk list of the file that is coming in.
    blocks: File,
    stage: OwnedFd,
    old: OwnedFd,
    gathering: Option<Gathering>,
    origin: Option<Origin>,
    resend: Vec<Vec<u8>>,
    buffer: Vec<u8>,
    received: Received,
}

/// Takes one cycle of a tree, whose Begin has been read. `now_unix_s` is only shown to the operator.
///
/// # Errors
///
/// What the link or the file system says; `InvalidData` for a record that has no business here. Nothing is published
/// then, but what was staged stays for the next cycle.
pub fn cycle(
    side: &Side,
    generation: Generation,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    unix_s: u64,
) -> io::Result<Received> {
    let base = side.index.reader()?;
    let (cut, names, unsent) = (base.cut()?, base.count()?, base.unsent()?);
    if cut.generation.term > generation.term {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the copy is of term {}, the sender of term {}", cut.generation.term, generation.term),
        ));
    }
    let (stage, old) = (side.store.subdirectory("stage")?, side.store.subdirectory("old")?);
    keep_staged(stage.as_fd(), old.as_fd())?;
    tell_held(old.as_fd(), outgoing)?;
    let standing = Standing { cut: cut.id, generation: cut.generation, names, unsent };
    Message::State(standing).put(outgoing)?;
    outgoing.flush()?;

    let tx = side.index.begin(false)?;
    let mut receiving = Receiving {
        side,
        tree: side.tree()?,
        base,
        scratch: Writer::new(&tx)?,
        log: Log::create(&side.store.path("redo.part"))?,
        blocks: File::options().read(true).write(true).create(true).truncate(true).open(side.store.path("list"))?,
        stage,
        old,
        gathering: None,
        origin: None,
        resend: Vec::new(),
        buffer: Vec::new(),
        received: Received::default(),
    };
    let end = receiving.run(incoming, outgoing);
    let (log, stage, old, mut received) = receiving.finish();
    drop(tx); // nothing of it is kept
    let Some((id, head)) = end? else { return Ok(received) };
    if received.put + received.gone > 0 || id != cut.id {
        log_head(log, &head)?;
        publish(side, stage.as_fd(), unix_s)?;
    }
    empty(stage.as_fd())?;
    empty(old.as_fd())?;
    received.cut = Some(id);
    Message::Published { cut: id }.put(outgoing)?;
    outgoing.flush()?;
    Ok(received)
}

fn log_head(mut log: Log, head: &Step) -> io::Result<()> {
    log.add(head)?;
    log.seal()
}

fn publish(side: &Side, stage: BorrowedFd<'_>, unix_s: u64) -> io::Result<()> {
    fault::step();
    syncfs(stage)?; // staged files and the log, at once
    fault::step();
    fs::rename(side.store.path("redo.part"), side.store.path("redo"))?;
    nix::unistd::fsync(side.store.descriptor())?;
    fault::step();
    replay(side, unix_s)?;
    Ok(())
}

/// What a broken cycle staged goes where this one may take chunks from it.
fn keep_staged(stage: BorrowedFd<'_>, old: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        let mut names = Vec::new();
        tree::list(stage, |name| {
            if names.len() < 4096 {
                names.push(tree::c_name(name)?);
            }
            Ok(())
        })?;
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            if stage::parse_file_name(name.to_bytes()).is_some() {
                nix::fcntl::renameat(stage, name.as_c_str(), old, name.as_c_str())?;
            } else {
                stage::remove(stage, name)?;
            }
        }
        nix::unistd::lseek(stage, 0, nix::unistd::Whence::SeekSet)?;
    }
}

/// Says which chunks a broken cycle left.
fn tell_held(old: BorrowedFd<'_>, outgoing: &mut Outgoing) -> io::Result<()> {
    let mut names = Vec::new();
    tree::list(old, |name| {
        names.extend(stage::parse_file_name(name));
        Ok(())
    })?;
    if names.is_empty() {
        return Ok(());
    }
    let mut chunker = Chunker::default();
    for name in names {
        let Ok(file) = stage::open(old, &stage::file_name("", name)) else { continue }; // a link, a pipe
        let stat = nix::sys::stat::fstat(&file)?;
        if tree::format(&stat) != libc::S_IFREG {
            continue;
        }
        let (mut chunks, mut begin, mut end) = (Vec::new(), 0, 0);
        let sparse = super::read::is_sparse(&stat);
        chunker.cut(file.as_fd(), stat.st_size as u64, sparse, &mut NoFormer, &mut |piece| {
            chunks.push(piece.chunk);
            end += piece.chunk.len;
            if chunks.len() == BLOCK {
                let chunks = std::mem::take(&mut chunks);
                Message::Have { name, offset: begin, chunks }.put(outgoing)?;
                begin = end;
            }
            Ok(())
        })?;
        Message::Have { name, offset: begin, chunks }.put(outgoing)?;
    }
    Ok(())
}

impl Receiving<'_, '_> {
    /// Until the cut is complete: its name and the head of its log. `None`: given up by the sender.
    fn run(&mut self, incoming: &mut Incoming, outgoing: &mut Outgoing) -> io::Result<Option<(CutId, Step)>> {
        loop {
            let generation = incoming.generation();
            let (kind, payload) = incoming.next(super::channel::SILENCE)?;
            match Message::decode(kind, payload)? {
                Message::Ranges => tell_ranges(&self.base, outgoing)?,
                Message::Fetch { after, last } => tell_rows(&self.base, after, last, outgoing)?,
                Message::Gone { key } => self.gone(key)?,
                Message::Put { key, entry, same } => self.put(key, entry, same)?,
                Message::AskSums { key, stretches } => self.tell_sums(key, &stretches, outgoing)?,
                Message::Chunk { data } => self.chunk(data)?,
                Message::Run { key, number, count, offset } => self.run_of(key, number, count, offset)?,
                Message::Staged { old, name, offset, len, hash } => self.staged(old, name, offset, len, hash)?,
                Message::Patch { hash, len, literal, data } => self.patch(hash, len, literal, data)?,
                Message::Hole { len } => self.hole(len)?,
                Message::End { content } => self.end(content)?,
                Message::Abandon => {
                    // The staged file stays: its chunks may serve again.
                    self.gathering.take().ok_or(Malformed)?;
                    self.blocks.set_len(0)?;
                    self.blocks.rewind()?;
                    self.received.put -= 1;
                }
                Message::Cancel => return Ok(None),
                Message::Commit { cut } => {
                    if self.gathering.is_some() || cut == CutId::default() {
                        return Err(Malformed.into());
                    }
                    if self.resend.is_empty() {
                        return Ok(Some((cut, Step::Head { cut, generation })));
                    }
                    for key in self.resend.drain(..) {
                        Message::Resend { key: &key }.put(outgoing)?;
                    }
                    Message::Again.put(outgoing)?;
                    outgoing.flush()?;
                }
                _ => return Err(Malformed.into()),
            }
        }
    }

    fn finish(self) -> (Log, OwnedFd, OwnedFd, Received) {
        (self.log, self.stage, self.old, self.received)
    }

    /// The sender has no business with names that this box leaves out, its own store among them.
    fn permit(&self, key: &[u8]) -> io::Result<()> {
        if self.gathering.is_some() || self.side.filter.leaves_out_path(key) {
            return Err(Malformed.into());
        }
        Ok(())
    }

    fn ask_again(&mut self, key: Vec<u8>) -> io::Result<()> {
        if self.resend.len() >= RESENDS {
            return Err(io::Error::other("too many files of the copy are not what the index says: run verify"));
        }
        self.resend.push(key);
        Ok(())
    }

    fn gone(&mut self, key: &[u8]) -> io::Result<()> {
        if self.gathering.is_some() || key.is_empty() {
            return Err(Malformed.into());
        }
        if self.base.row(key)?.is_none() {
            return Ok(());
        }
        self.scratch.set_gone(key)?;
        self.received.gone += 1;
        self.log.add(&Step::Gone { key: key.to_vec() })
    }

    fn put(&mut self, key: &[u8], entry: Entry, same: Option<&[u8]>) -> io::Result<()> {
        self.permit(key)?;
        if key.is_empty() && !entry.is_directory() {
            return Err(Malformed.into());
        }
        self.received.put += 1;
        let source = match &entry.kind {
            Kind::File { size, .. } => {
                let size = *size;
                return match same {
                    Some(same) => self.put_same(key, entry, same),
                    None => self.begin(key, entry, size),
                };
            }
            Kind::Directory => Source::Directory,
            Kind::Link { first } => {
                if self.side.filter.leaves_out_path(first) || first == key {
                    return Err(Malformed.into());
                }
                Source::Link
            }
            _ => {
                let name = stage::file_name("", stage_name(key));
                stage::make_special(self.stage.as_fd(), &name, &entry)?;
                stage::set_metadata(self.stage.as_fd(), &name, &entry, None, true)?;
                Source::Staged
            }
        };
        self.log.add(&Step::Put { key: key.to_vec(), entry, source, list_of: None, list: None })
    }

    /// The content is that of a file of the present cut.
    fn put_same(&mut self, key: &[u8], mut entry: Entry, same: &[u8]) -> io::Result<()> {
        let Some(row) = self.base.row(same)?.filter(|row| matches!(row.entry.kind, Kind::File { .. })) else {
            return self.ask_again(key.to_vec());
        };
        entry.kind = row.entry.kind.clone();
        let unmodified = row.entry.same_metadata(&entry);
        let step = |source| Step::Put { key: key.to_vec(), entry, source, list_of: Some(same.to_vec()), list: None };
        let stat = self.tree.stat(same)?;
        let trusted = stat.is_some_and(|stat| tree::is_unchanged(&stat, &row.entry, row.local));
        if trusted && unmodified && same == key {
            return self.log.add(&step(Source::Keep));
        }
        if trusted && unmodified && !row.local.linked && self.scratch.take_gone(same)? {
            return self.log.add(&step(Source::Move { from: same.to_vec(), inode: row.local.inode }));
        }
        let step = step(Source::Staged);
        let Step::Put { entry, .. } = &step else { return Ok(()) };
        let Some(origin) = self.open_origin(same)? else { return self.ask_again(key.to_vec()) };
        let staged = stage::file_name("", stage_name(key));
        let file = stage::create(self.stage.as_fd(), &staged)?;
        let size = origin.row.entry.size();
        let cloned = origin.trusted && tree::clone_whole(origin.file.as_fd(), file.as_fd());
        let mut gathering = Gathering {
            key: key.to_vec(),
            entry: entry.clone(),
            file,
            at: 0,
            size,
            listing: Listing::default(),
            bad: false,
        };
        if !cloned {
            gathering.take_run(&origin, &self.base, &mut self.buffer, 0, u64::MAX, &mut |_, _, _| Ok(()))?;
            ftruncate(&gathering.file, size as i64)?;
        }
        let bad = gathering.bad || (!cloned && gathering.at != size);
        stage::set_metadata(self.stage.as_fd(), &staged, entry, Some(gathering.file.as_fd()), true)?;
        self.origin = Some(origin);
        if bad { self.ask_again(key.to_vec()) } else { self.log.add(&step) }
    }

    fn begin(&mut self, key: &[u8], entry: Entry, size: u64) -> io::Result<()> {
        let file = stage::create(self.stage.as_fd(), &stage::file_name("", stage_name(key)))?;
        let key = key.to_vec();
        self.gathering = Some(Gathering { key, entry, file, at: 0, size, listing: Listing::default(), bad: false });
        Ok(())
    }

    /// Opens a file of the present cut; `None` if there is none.
    fn open_origin(&mut self, key: &[u8]) -> io::Result<Option<Origin>> {
        if let Some(origin) = self.origin.take().filter(|origin| origin.key == key) {
            return Ok(Some(origin));
        }
        let Some(row) = self.base.row(key)?.filter(|row| matches!(row.entry.kind, Kind::File { .. })) else {
            return Ok(None);
        };
        let Ok(file) = self.tree.file(key) else { return Ok(None) };
        let stat = nix::sys::stat::fstat(&file)?;
        let trusted = tree::is_unchanged(&stat, &row.entry, row.local);
        Ok(Some(Origin { key: key.to_vec(), row, file, trusted }))
    }

    fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let hash = *blake3::hash(data).as_bytes();
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        gathering.check(data.len() as u64)?;
        fault::step();
        stage::write_at(gathering.file.as_fd(), data, gathering.at)?;
        gathering.add(Chunk { len: data.len() as u64, hash: Some(hash) }, &mut |n, o, c| {
            put_block(&mut self.blocks, n, o, c)
        })
    }

    fn run_of(&mut self, key: &[u8], number: u64, count: u64, offset: u64) -> io::Result<()> {
        let origin = self.open_origin(key)?;
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        let Some(origin) = origin else {
            gathering.bad = true;
            return Ok(());
        };
        let blocks = &mut self.blocks;
        gathering.take_run_at(&origin, &self.base, &mut self.buffer, (number, count, offset), &mut |n, o, c| {
            put_block(blocks, n, o, c)
        })?;
        self.origin = Some(origin);
        Ok(())
    }

    fn staged(&mut self, old: bool, name: StageName, offset: u64, len: u64, hash: Hash) -> io::Result<()> {
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        gathering.check(len)?;
        let directory = if old { self.old.as_fd() } else { self.stage.as_fd() };
        self.buffer.resize(len as usize, 0);
        let read = stage::open(directory, &stage::file_name("", name))
            .and_then(|file| read_at(file.as_fd(), &mut self.buffer, offset));
        if !read.is_ok_and(|n| n as u64 == len) || *blake3::hash(&self.buffer).as_bytes() != hash {
            gathering.bad = true;
            return Ok(());
        }
        stage::write_at(gathering.file.as_fd(), &self.buffer, gathering.at)?;
        let blocks = &mut self.blocks;
        gathering.add(Chunk { len, hash: Some(hash) }, &mut |n, o, c| put_block(blocks, n, o, c))
    }

    fn patch(&mut self, hash: Hash, len: u64, literal: &[u8], data: &[u8]) -> io::Result<()> {
        let Some(key) = self.gathering.as_ref().map(|gathering| gathering.key.clone()) else {
            return Err(Malformed.into());
        };
        let origin = self.open_origin(&key)?;
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        gathering.check(len)?;
        let Some(origin) = origin else {
            gathering.bad = true;
            return Ok(());
        };
        self.buffer.resize(len as usize, 0);
        let n = read_at(origin.file.as_fd(), &mut self.buffer, gathering.at)?;
        self.buffer[n..].fill(0);
        let mut data = data;
        for (at, (begin, n)) in pages(gathering.at, len).enumerate() {
            let bit = literal.get(at / 8).ok_or(Malformed)? >> (at % 8) & 1;
            if bit == 1 {
                let (page, rest) = data.split_at_checked(n as usize).ok_or(Malformed)?;
                let begin = (begin - gathering.at) as usize;
                self.buffer[begin..begin + page.len()].copy_from_slice(page);
                data = rest;
            }
        }
        self.origin = Some(origin);
        if *blake3::hash(&self.buffer).as_bytes() != hash {
            gathering.bad = true;
            return Ok(());
        }
        stage::write_at(gathering.file.as_fd(), &self.buffer, gathering.at)?;
        let blocks = &mut self.blocks;
        gathering.add(Chunk { len, hash: Some(hash) }, &mut |n, o, c| put_block(blocks, n, o, c))
    }

    fn hole(&mut self, len: u64) -> io::Result<()> {
        let gathering = self.gathering.as_mut().ok_or(Malformed)?;
        gathering.check(len)?;
        let blocks = &mut self.blocks;
        gathering.add(Chunk { len, hash: None }, &mut |n, o, c| put_block(blocks, n, o, c))
    }

    /// The content is complete: metadata, and into the log.
    fn end(&mut self, content: Hash) -> io::Result<()> {
        let Gathering { key, mut entry, file, at, size, listing, bad } = self.gathering.take().ok_or(Malformed)?;
        let blocks = &mut self.blocks;
        let (hash, list) = listing.finish(|n, o, c| put_block(blocks, n, o, c))?;
        if bad || at != size || hash != content {
            self.blocks.set_len(0)?;
            self.blocks.rewind()?;
            return self.ask_again(key);
        }
        ftruncate(&file, size as i64)?;
        entry.kind = Kind::File { size, content };
        let staged = stage::file_name("", stage_name(&key));
        stage::set_metadata(self.stage.as_fd(), &staged, &entry, Some(file.as_fd()), true)?;
        let long = list.is_none();
        self.log.add(&Step::Put { key, entry, source: Source::Staged, list_of: None, list })?;
        if long { self.take_blocks() } else { Ok(()) }
    }

    /// Moves the blocks of the list behind their name in the log.
    fn take_blocks(&mut self) -> io::Result<()> {
        self.blocks.rewind()?;
        let mut file = io::BufReader::new(&self.blocks);
        let mut left = self.blocks.metadata()?.len();
        while left > 0 {
            let mut len = [0; 4];
            io::Read::read_exact(&mut file, &mut len)?;
            self.buffer.resize(u32::from_le_bytes(len) as usize, 0);
            io::Read::read_exact(&mut file, &mut self.buffer)?;
            self.log.add(&Step::Block { chunks: Chunk::decode_all(super::codec::Reader(&self.buffer))? })?;
            left = left.saturating_sub(4 + self.buffer.len() as u64);
        }
        self.blocks.set_len(0)?;
        self.blocks.rewind()
    }

    fn tell_sums(&mut self, key: &[u8], stretches: &[(u64, u64)], outgoing: &mut Outgoing) -> io::Result<()> {
        let origin = self.open_origin(key)?;
        let mut sums = Vec::new();
        for &(offset, len) in stretches {
            self.buffer.clear();
            self.buffer.resize(len as usize, 0);
            if let Some(origin) = &origin {
                read_at(origin.file.as_fd(), &mut self.buffer, offset)?;
            }
            for (begin, n) in pages(offset, len) {
                let begin = (begin - offset) as usize;
                sums.extend_from_slice(&sum(&self.buffer[begin..begin + n as usize]));
            }
            if sums.len() > super::channel::RECORD {
                return Err(Malformed.into());
            }
        }
        self.origin = origin;
        Message::Sums { sums: &sums }.put(outgoing)?;
        outgoing.flush()
    }
}

/// Keeps a block of a long list until its name is complete.
fn put_block(file: &mut File, _number: u32, _offset: u64, chunks: &[Chunk]) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    chunks.iter().for_each(|chunk| chunk.encode(&mut bytes));
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    file.write_all(&bytes)
}

/// Where a full block of a chunk list goes.
type Full<'a> = &'a mut dyn FnMut(u32, u64, &[Chunk]) -> io::Result<()>;

impl Gathering {
    /// So many bytes more still fit the size that was announced.
    fn check(&self, len: u64) -> io::Result<()> {
        if self.at.checked_add(len).is_some_and(|end| end <= self.size) { Ok(()) } else { Err(Malformed.into()) }
    }

    fn add(&mut self, chunk: Chunk, full: Full<'_>) -> io::Result<()> {
        self.at += chunk.len;
        self.listing.add(chunk, full)
    }

    /// Chunks of another file from a number on, which lie there from `offset` on.
    fn take_run_at(
        &mut self,
        origin: &Origin,
        base: &Reader,
        buffer: &mut Vec<u8>,
        (number, count, offset): (u64, u64, u64),
        full: Full<'_>,
    ) -> io::Result<()> {
        use super::chunk::Former;
        let mut list = FormerList::new(base, &origin.key, &origin.row)?;
        let (mut from, mut stretch) = (offset, (offset, self.at, 0));
        for number in number..number.saturating_add(count) {
            let Some(chunk) = list.chunk(number)? else { break };
            self.check(chunk.len)?;
            match chunk.hash {
                // Holes stay holes: what lies between them is copied in one go.
                None => {
                    self.copy_stretch(origin, stretch)?;
                    stretch = (from + chunk.len, self.at + chunk.len, 0);
                }
                Some(_) if origin.trusted => stretch.2 += chunk.len,
                Some(hash) => self.copy_checked(origin, buffer, from, chunk.len, hash)?,
            }
            from += chunk.len;
            self.add(chunk, full)?;
        }
        self.copy_stretch(origin, stretch)
    }

    /// As [`Gathering::take_run_at`], from the start of the other file.
    fn take_run(
        &mut self,
        origin: &Origin,
        base: &Reader,
        buffer: &mut Vec<u8>,
        number: u64,
        count: u64,
        full: Full<'_>,
    ) -> io::Result<()> {
        self.take_run_at(origin, base, buffer, (number, count, 0), full)
    }

    fn copy_stretch(&mut self, origin: &Origin, (from, to, len): (u64, u64, u64)) -> io::Result<()> {
        fault::step();
        self.bad |= !stage::copy(origin.file.as_fd(), from, self.file.as_fd(), to, len)?;
        Ok(())
    }

    fn copy_checked(
        &mut self,
        origin: &Origin,
        buffer: &mut Vec<u8>,
        from: u64,
        len: u64,
        hash: Hash,
    ) -> io::Result<()> {
        if len > super::message::LONGEST {
            self.bad = true;
            return Ok(());
        }
        buffer.resize(len as usize, 0);
        let n = read_at(origin.file.as_fd(), buffer, from)?;
        self.bad |= n as u64 != len || *blake3::hash(buffer).as_bytes() != hash;
        stage::write_at(self.file.as_fd(), buffer, self.at)
    }
}

/// What a row adds to the digest of its range: what both boxes see of it.
fn digest_row(hasher: &mut blake3::Hasher, key: &[u8], entry: &Entry) {
    let mut bytes = Vec::with_capacity(128);
    put_bytes(&mut bytes, key);
    entry.encode(&mut bytes);
    hasher.update(&bytes);
}

/// Digest of the rows after `after` up to and including `last` (empty: to the end).
///
/// # Errors
///
/// What the index says.
pub fn digest(base: &Reader, after: Option<&[u8]>, last: &[u8]) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    for row in rows_between(base, after, last)? {
        let (key, row) = row?;
        digest_row(&mut hasher, &key, &row.entry);
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The rows after `after` up to and including `last` (empty: to the end).
///
/// # Errors
///
/// What the index says.
pub fn rows_between<'a>(
    base: &Reader,
    after: Option<&'a [u8]>,
    last: &'a [u8],
) -> io::Result<impl Iterator<Item = io::Result<(Vec<u8>, Row)>> + use<'a>> {
    let rows = base.rows(after.unwrap_or_default())?;
    let skipped = rows.skip_while(move |row| row.as_ref().is_ok_and(|(key, _)| Some(key.as_slice()) == after));
    Ok(skipped.take_while(move |row| row.as_ref().map_or(true, |(key, _)| last.is_empty() || key.as_slice() <= last)))
}

fn tell_ranges(base: &Reader, outgoing: &mut Outgoing) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let (mut rows, mut last) = (0, Vec::new());
    for row in base.rows(b"")? {
        let (key, row) = row?;
        if rows == RANGE {
            Message::Range { last: &last, digest: *hasher.finalize().as_bytes() }.put(outgoing)?;
            hasher.reset();
            rows = 0;
        }
        digest_row(&mut hasher, &key, &row.entry);
        rows += 1;
        last = key;
    }
    Message::Range { last: b"", digest: *hasher.finalize().as_bytes() }.put(outgoing)?;
    Message::RangesEnd.put(outgoing)?;
    outgoing.flush()
}

fn tell_rows(base: &Reader, after: &[u8], last: &[u8], outgoing: &mut Outgoing) -> io::Result<()> {
    let after = if after.is_empty() { None } else { Some(after) };
    for row in rows_between(base, after, last)? {
        let (key, row) = row?;
        let mut chunks = Vec::new();
        each_chunk(base, &key, &row, |_, chunk| {
            chunks.push(chunk);
            if chunks.len() == BLOCK {
                Message::Block { chunks: std::mem::take(&mut chunks) }.put(outgoing)?;
            }
            Ok(())
        })?;
        if !chunks.is_empty() {
            Message::Block { chunks }.put(outgoing)?;
        }
        Message::Row { key: &key, entry: row.entry }.put(outgoing)?;
    }
    Message::RowsEnd.put(outgoing)?;
    outgoing.flush()
}
