//! The standby's end: gathers the next cut as the records come, and publishes it when it is complete.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::{ftruncate, syncfs};

use super::channel::{Incoming, Outgoing, PATIENCE};
use super::codec::Malformed;
use super::control::Generation;
use super::entry::{Entry, Kind};
use super::fault;
use super::gather::{Gathering, Origin};
use super::index::{Index, Lookup, Reader};
use super::index_writer::Writer;
use super::leftover::{keep_staged, tell_held};
use super::message::{Message, Standing, stage_name};
use super::name::{is_below, shown};
use super::obstacle;
use super::publish::replay;
use super::reconcile::{tell_ranges, tell_rows};
use super::redo::{Log, Source, Step};
use super::reserve;
use super::row::CutId;
use super::scan::at;
use super::side::Side;
use super::stage;
use super::stop::Stop;
use super::store;
use super::system;
use super::tree::{self, Tree};

/// Names that may have to be sent again before the cycle is given up.
pub(super) const RESENDS: usize = 10_000;
/// Bytes of their names, at most.
const RESEND_BYTES: usize = 2 << 20;

/// What a cycle brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The cut that is published; `None`: the sender gave the cycle up.
    pub cut: Option<CutId>,
    /// Names that came or changed.
    pub put: u64,
    /// Names that went.
    pub gone: u64,
    /// The tree is not all that the cut says.
    pub doubtful: bool,
}

/// A cycle that is coming in.
pub(super) struct Receiving<'a, 't> {
    pub(super) side: &'a Side,
    pub(super) tree: Tree,
    pub(super) base: Reader,
    pub(super) scratch: Writer<'t>,
    pub(super) log: Log,
    /// Blocks of the chunk list of the file that is coming in.
    pub(super) blocks: File,
    pub(super) stage: OwnedFd,
    pub(super) old: OwnedFd,
    pub(super) gathering: Option<Gathering>,
    pub(super) origin: Option<Origin>,
    pub(super) resend: Vec<Vec<u8>>,
    /// Names that only this box has as they are, and that the sender could not read: they stay so.
    held: BTreeSet<Vec<u8>>,
    pub(super) buffer: Vec<u8>,
    pub(super) received: Received,
    /// New ones, which are made when the cut is published.
    directories: u64,
    stop: Stop,
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
            format!(
                "the copy is of term {}, the sender of term {}: its state directory is younger than the copy; with {} \
                 removed while the daemon is stopped, the copy is made anew and what differs is set aside",
                cut.generation.term,
                generation.term,
                side.store.path("").display()
            ),
        ));
    }
    let (stage, old) = (side.store.subdirectory("stage")?, side.store.subdirectory("old")?);
    obstacle::check_place(&side.tree()?, stage.as_fd())?;
    keep_staged(stage.as_fd(), old.as_fd())?;
    let resumes = tell_held(old.as_fd(), outgoing, incoming.stop())?;
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
        blocks: store::anew(&side.store.path("list"))?,
        stage,
        old,
        gathering: None,
        origin: None,
        resend: Vec::new(),
        held: BTreeSet::new(),
        buffer: Vec::new(),
        received: Received::default(),
        directories: 0,
        stop: incoming.stop().clone(),
    };
    let end = receiving.run(incoming, outgoing);
    let (directories, held) = (receiving.directories, std::mem::take(&mut receiving.held));
    let (log, stage, old, mut received) = receiving.finish();
    drop(tx); // nothing of it is kept
    if let Err(e) = &end
        && resumes
        && matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    {
        // What a broken cycle left is beside what this one gathered from it: without either there may be room.
        stage::empty(stage.as_fd())?;
        stage::empty(old.as_fd())?;
    }
    let Some((id, head)) = end? else { return Ok(received) };
    if received.put + received.gone > 0 || id != cut.id {
        log_head(log, &head)?;
        obstacle::check(side, &side.store.path("redo.part"))?;
        hold(side, &held, &id)?;
        reserve::keep(side, &side.store.path("redo.part"), directories)?;
        received.doubtful = publish(side, stage.as_fd(), unix_s)?;
    }
    stage::empty(stage.as_fd())?;
    stage::empty(old.as_fd())?;
    received.cut = Some(id);
    Message::Published { cut: id }.put(outgoing)?;
    outgoing.flush()?;
    Ok(received)
}

/// The process could open what it makes, and a node of a disk would be a way out (see [`crate::confine::mounts`]).
fn not_makeable(key: &[u8]) -> io::Error {
    let name = shown(key);
    let text =
        format!("{name}: a node of such a device needs a file system without devices (mount it nodev), or exclude it");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn log_head(mut log: Log, head: &Step) -> io::Result<()> {
    log.add(head)?;
    log.seal()
}

/// The cut that is to be published does not settle these names. Durable, for the log may be followed after a crash.
fn hold(side: &Side, names: &BTreeSet<Vec<u8>>, cut: &CutId) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let tx = side.index.begin(true)?;
    let mut writer = Writer::new(&tx)?;
    names.iter().try_for_each(|key| writer.hold_unsent(key, cut))?;
    drop(writer);
    Index::commit(tx)
}

/// True: the tree is not all that the cut says.
fn publish(side: &Side, stage: BorrowedFd<'_>, unix_s: u64) -> io::Result<bool> {
    fault::step();
    syncfs(stage)?; // staged files and the log, at once
    fault::step();
    fs::rename(side.store.path("redo.part"), side.store.path("redo"))?;
    nix::unistd::fsync(side.store.descriptor())?;
    fault::step();
    Ok(replay(side, unix_s)?.is_some_and(|published| published.doubtful))
}

impl Receiving<'_, '_> {
    /// Until the cut is complete: its name and the head of its log. `None`: given up by the sender.
    fn run(&mut self, incoming: &mut Incoming, outgoing: &mut Outgoing) -> io::Result<Option<(CutId, Step)>> {
        loop {
            let generation = incoming.generation();
            let (kind, payload) = incoming.next(PATIENCE)?;
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
                    let key = self.gathering.take().ok_or(Malformed)?.key;
                    if self.base.is_unsent(&key)? {
                        self.held.insert(key);
                    }
                    if self.held.len() > RESENDS {
                        return Err(io::Error::other("too many files that only the copy has are being written to"));
                    }
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

    /// The sender has no business with names that this box leaves out, its own store among them. A name that it said is gone
    /// does not come back in the same cut: a log that is followed again would take the new file for the old one.
    fn permit(&self, key: &[u8], entry: &Entry) -> io::Result<()> {
        let filter = &self.side.filter;
        if self.gathering.is_some() || (self.received.gone > 0 && self.scratch.is_gone(key)?) {
            return Err(Malformed.into());
        }
        if filter.leaves_out_path(key) {
            let text =
                format!("{}: this box leaves it out, the other does not: are both configured alike?", shown(key));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if !entry.is_directory() && filter.others.iter().any(|other| is_below(other, key)) {
            let text = format!("{}: no directory on the other box, but a tree of its own lies below it", shown(key));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }

    pub(super) fn ask_again(&mut self, key: Vec<u8>) -> io::Result<()> {
        let bytes: usize = self.resend.iter().map(Vec::len).sum();
        if self.resend.len() >= RESENDS || bytes >= RESEND_BYTES {
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
        self.held.remove(key);
        self.scratch.set_gone(key)?;
        self.received.gone += 1;
        self.log.add(&Step::Gone { key: key.to_vec() })
    }

    fn put(&mut self, key: &[u8], entry: Entry, same: Option<&[u8]>) -> io::Result<()> {
        self.permit(key, &entry)?;
        if key.is_empty() && !entry.is_directory() {
            return Err(Malformed.into());
        }
        self.received.put += 1;
        self.held.remove(key);
        let source = match &entry.kind {
            Kind::File { size, .. } => {
                let size = *size;
                return match same {
                    Some(same) => self.put_same(key, entry, same),
                    None => self.begin(key, entry, size),
                };
            }
            Kind::Directory => {
                if !entry.xattrs.is_empty() {
                    let name = stage::file_name("d", stage_name(key));
                    stage::try_attributes(self.stage.as_fd(), &name, &entry).map_err(at(key))?;
                }
                self.directories += u64::from(self.base.row(key)?.is_none_or(|row| !row.entry.is_directory()));
                Source::Directory
            }
            Kind::Link { first } => {
                if self.side.filter.leaves_out_path(first) || first == key {
                    return Err(Malformed.into());
                }
                Source::Link
            }
            _ => {
                let name = stage::file_name("", stage_name(key));
                stage::make_special(self.stage.as_fd(), &name, &entry).map_err(|e| match e.raw_os_error() {
                    Some(libc::EPERM) => not_makeable(key),
                    _ => at(key)(e),
                })?;
                stage::set_metadata(self.stage.as_fd(), &name, &entry, None, true).map_err(at(key))?;
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
        let cloned = origin.trusted && system::clone_whole(origin.file.as_fd(), file.as_fd());
        let mut gathering = Gathering::new(key.to_vec(), entry.clone(), file, size, self.stop.clone());
        if !cloned {
            gathering.take_run(&origin, &self.base, &mut self.buffer, 0, u64::MAX, &mut |_, _, _| Ok(()))?;
            ftruncate(&gathering.file, size as i64)?;
        }
        let bad = gathering.bad || (!cloned && gathering.at != size) || !origin.is_still_trusted()?;
        stage::set_metadata(self.stage.as_fd(), &staged, entry, Some(gathering.file.as_fd()), true).map_err(at(key))?;
        self.origin = Some(origin);
        if bad { self.ask_again(key.to_vec()) } else { self.log.add(&step) }
    }

    fn begin(&mut self, key: &[u8], entry: Entry, size: u64) -> io::Result<()> {
        let file = stage::create(self.stage.as_fd(), &stage::file_name("", stage_name(key)))?;
        self.gathering = Some(Gathering::new(key.to_vec(), entry, file, size, self.stop.clone()));
        Ok(())
    }
}
