//! The active box's end: finds what changed since the cut that the standby has, reads it, and sends what it lacks.
//!
//! The sender's index is the standby's last cut, so it knows by itself which chunks the standby has and where; nothing
//! is asked for but sums of pages. Rows of the next cut are written as the files are read and committed when the
//! standby has published it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::stat::{FileStat, fstat};

use super::channel::{Incoming, Outgoing};
use super::chunk::{Chunker, NoFormer, read_at};
use super::control::Generation;
use super::entry::{Chunk, Entry, Hash, Kind, Local};
use super::fault;
use super::guard::{self, Block, Plan};
use super::index::{Cut, CutId, Index, Lookup, Reader, Row, Writer, each_chunk};
use super::message::{Message, PAGE, Standing, pages, stage_name, sum};
use super::name;
use super::read::{FormerList, Found, Listing, copy_list, is_sparse, read};
use super::receiver::{digest, rows_between};
use super::refresh::random;
use super::scan::{Change, Changes, Examined, examine, scan};
use super::side::{Side, identity};
use super::tree::{self, Tree};

/// Stretches whose sums are asked for at once, and at most for one file: what is beyond is sent whole.
const ASK: usize = 1024;
const ASK_IN_ALL: usize = 8 * ASK;

/// A standby may hash or sync for long; that it lives is told by the link, which ends when it is silent.
const PATIENCE: crate::time::Duration = crate::time::Duration::from_secs(3600);

/// A standby that has closed the stream said why no longer ago than this.
const PARTING: crate::time::Duration = crate::time::Duration::from_millis(300);

/// Attempts at a file that changes while it is read.
const ATTEMPTS: u32 = 3;

/// How a cycle is to be run.
#[derive(Debug)]
pub struct Order<'a> {
    /// Names that may have changed, sorted; `None`: look at everything.
    pub events: Option<&'a [Vec<u8>]>,
    /// The operator has confirmed the deletions.
    pub confirmed: bool,
    /// Both sides read everything again and trust no time stamp.
    pub verify: bool,
    /// What is served.
    pub generation: Generation,
    /// Wall time, shown to the operator only.
    pub unix_s: u64,
}

/// How far a cycle is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Names looked at.
    pub files: u64,
    /// Names to be looked at.
    pub files_total: u64,
    /// Bytes of content read.
    pub bytes: u64,
    /// Bytes of content to be read.
    pub bytes_total: u64,
}

/// What a cycle did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Why it was stopped; then nothing was sent.
    pub blocked: Option<Block>,
    /// Names in the cut.
    pub names: u64,
    /// Names that were sent.
    pub put: u64,
    /// Names that went.
    pub gone: u64,
    /// Names that would not hold still: the standby keeps their former version.
    pub unsettled: u64,
    /// One of them, for the operator.
    pub unsettled_name: Option<String>,
    /// The changes came from events, not from a scan.
    pub by_events: bool,
    /// Changes found.
    pub found: u64,
    /// Names of the standby's that were not what its last cut says.
    pub strange: u64,
}

struct Sending<'a, 't> {
    tree: Tree,
    base: Reader,
    writer: Writer<'t>,
    incoming: &'a mut Incoming,
    outgoing: &'a mut Outgoing,
    chunker: Chunker,
    held: bool,
    /// Everything is sent literally: the standby could not follow a reference.
    literal: bool,
    sent: Sent,
    progress: Progress,
    report: &'a mut dyn FnMut(&Progress),
}

/// Waits for the next record, which must not be a refusal.
fn next<'a>(incoming: &'a mut Incoming) -> io::Result<Message<'a>> {
    let (kind, payload) = incoming.next(PATIENCE)?;
    match Message::decode(kind, payload)? {
        Message::Refused { reason } => Err(refusal(reason)),
        message => Ok(message),
    }
}

fn refusal(reason: &[u8]) -> io::Error {
    io::Error::other(format!("the standby refused: {}", String::from_utf8_lossy(reason).escape_debug()))
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "mirror link: an answer out of turn")
}

/// Runs one cycle.
///
/// # Errors
///
/// What the link or the file system says, or the standby's reason. The standby keeps its cut then.
pub fn cycle(
    side: &Side,
    order: &Order<'_>,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    report: &mut dyn FnMut(&Progress),
) -> io::Result<Sent> {
    let done = try_cycle(side, order, incoming, outgoing, report);
    if let Err(e) = &done
        && e.kind() == io::ErrorKind::BrokenPipe
    {
        // The standby has closed the stream; what it said before tells more.
        while let Ok((kind, payload)) = incoming.next(PARTING) {
            if let Ok(Message::Refused { reason }) = Message::decode(kind, payload) {
                return Err(refusal(reason));
            }
        }
    }
    done
}

fn try_cycle(
    side: &Side,
    order: &Order<'_>,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    report: &mut dyn FnMut(&Progress),
) -> io::Result<Sent> {
    let mut tree = side.tree()?;
    let root = identity(&tree)?;
    begin(side, order.verify, outgoing)?;
    let tx = side.index.begin(false)?;
    let mut writer = Writer::new(&tx)?;
    writer.forget_held()?;
    let (standing, held) = standing(incoming, &mut writer)?;
    let former = writer.cut()?;
    if former.generation.term > order.generation.term || standing.generation.term > order.generation.term {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a newer generation has been served: not a source",
        ));
    }
    if standing.cut != former.id {
        reconcile(side, &mut writer, incoming, outgoing)?;
        writer.set_cut(&Cut { id: standing.cut, ..former.clone() })?;
    }
    drop(writer);
    Index::commit(tx)?;

    let base = side.index.reader()?;
    let tx = side.index.begin(true)?;
    let mut writer = Writer::new(&tx)?;
    let mut changes = Changes::create(&side.store.path("changes"))?;
    let by_events = find(side, order, &mut tree, &base, &mut writer, &mut changes)?;
    if Tree::open(&side.root)?.identity() != tree.identity() {
        return Err(io::Error::other(format!("{} was replaced while it was read", side.root.display())));
    }
    // A source that was never in sync with a copy that has seen service is another disk, or none.
    let never_met = former.id == CutId::default() && standing.generation != Generation::default();
    let plan = Plan {
        before: standing.names,
        gone: changes.gone,
        set_aside: standing.unsent,
        found: if by_events { base.count()?.saturating_sub(changes.gone) } else { changes.found },
        same_root: !never_met && (former.root == (0, 0) || former.root == root),
    };
    let found = changes.gone + changes.look;
    let sent = Sent { by_events, found, strange: standing.unsent, ..Sent::default() };
    if let Err(block) = guard::check(&plan, side.settings.max_delete, order.confirmed) {
        Message::Cancel.put(outgoing)?;
        outgoing.flush()?;
        return Ok(Sent { blocked: Some(block), ..sent });
    }
    let progress = Progress { files_total: changes.look, bytes_total: changes.bytes, ..Progress::default() };
    let mut sending = Sending {
        tree,
        base,
        writer,
        incoming,
        outgoing,
        chunker: Chunker::default(),
        held,
        literal: false,
        sent,
        progress,
        report,
    };
    sending.send(&mut changes)?;
    let mut cut = Cut { id: standing.cut, generation: order.generation, root, unix_s: order.unix_s };
    if sending.sent.put + sending.sent.gone > 0 || cut.id == CutId::default() || former.generation != order.generation {
        random(&mut cut.id)?;
    }
    sending.commit(cut.id)?;
    fault::step();
    let sent = sending.finish(&cut)?;
    fault::step();
    Index::commit(tx)?;
    fault::step();
    Ok(sent)
}

fn begin(side: &Side, verify: bool, outgoing: &mut Outgoing) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = side.settings.tree.as_os_str().as_bytes();
    Message::Begin { tree: path, single: side.is_single(), verify }.put(outgoing)?;
    outgoing.flush()
}

/// How the tree stands over there, and what it has staged.
fn standing(incoming: &mut Incoming, writer: &mut Writer<'_>) -> io::Result<(Standing, bool)> {
    let mut held = false;
    loop {
        match next(incoming)? {
            Message::Have { name, mut offset, chunks } => {
                held = true;
                for chunk in chunks {
                    if let Some(hash) = &chunk.hash {
                        writer.set_held(hash, &name, offset)?;
                    }
                    offset = offset.saturating_add(chunk.len);
                }
            }
            Message::State(standing) => return Ok((standing, held)),
            _ => return Err(unexpected()),
        }
    }
}

/// Makes the index what the standby has. What is the same keeps what is known of it here.
fn reconcile(side: &Side, writer: &mut Writer<'_>, incoming: &mut Incoming, outgoing: &mut Outgoing) -> io::Result<()> {
    let base = side.index.reader()?;
    Message::Ranges.put(outgoing)?;
    outgoing.flush()?;
    let mut after: Option<Vec<u8>> = None;
    let mut differ = Vec::new();
    loop {
        match next(incoming)? {
            Message::Range { last, digest: theirs } => {
                if digest(&base, after.as_deref(), last)? != theirs {
                    differ.push((after.clone(), last.to_vec()));
                }
                after = Some(last.to_vec());
            }
            Message::RangesEnd => break,
            _ => return Err(unexpected()),
        }
    }
    for (after, last) in differ {
        Message::Fetch { after: after.as_deref().unwrap_or_default(), last: &last }.put(outgoing)?;
        outgoing.flush()?;
        adopt(&base, after.as_deref(), &last, writer, incoming)?;
    }
    Ok(())
}

/// Takes the rows of one range as they come.
fn adopt(
    base: &Reader,
    after: Option<&[u8]>,
    last: &[u8],
    writer: &mut Writer<'_>,
    incoming: &mut Incoming,
) -> io::Result<()> {
    let mut ours = rows_between(base, after, last)?.peekable();
    // The blocks of a row come before it: they wait here. A row of more chunks than this is read anew instead.
    let mut blocks: Vec<Vec<Chunk>> = Vec::new();
    loop {
        match next(incoming)? {
            Message::Block { chunks } => blocks.push(chunks),
            Message::Row { key, entry } => {
                let mut same = None;
                while let Some((at, row)) = next_if(&mut ours, |at| at <= key)? {
                    if at == key && row.entry == entry {
                        same = Some(row);
                    } else {
                        writer.remove(&at)?;
                    }
                }
                if same.is_none() {
                    put_row(writer, key, &entry, &blocks)?;
                }
                blocks.clear();
            }
            Message::RowsEnd => break,
            _ => return Err(unexpected()),
        }
    }
    while let Some((at, _)) = next_if(&mut ours, |_| true)? {
        writer.remove(&at)?;
    }
    Ok(())
}

fn next_if<I: Iterator<Item = io::Result<(Vec<u8>, Row)>>>(
    rows: &mut std::iter::Peekable<I>,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<(Vec<u8>, Row)>> {
    rows.next_if(|row| row.as_ref().map_or(true, |(key, _)| wanted(key))).transpose()
}

fn put_row(writer: &mut Writer<'_>, key: &[u8], entry: &Entry, blocks: &[Vec<Chunk>]) -> io::Result<()> {
    let mut listing = Listing::default();
    for chunk in blocks.iter().flatten() {
        listing.add(*chunk, |n, at, chunks| writer.put_block(key, n, at, chunks))?;
    }
    let (_, short) = listing.finish(|n, at, chunks| writer.put_block(key, n, at, chunks))?;
    writer.put(key, entry, Local::default(), short.as_deref())
}

/// Notes what differs from the index. True: by the events alone.
fn find(
    side: &Side,
    order: &Order<'_>,
    tree: &mut Tree,
    base: &Reader,
    writer: &mut Writer<'_>,
    changes: &mut Changes,
) -> io::Result<bool> {
    let mut done: Option<&[u8]> = None;
    let mut enough = order.events.is_some() && !order.verify;
    for key in order.events.filter(|_| enough).unwrap_or_default() {
        if done.is_some_and(|above| key == above || name::is_below(key, above)) {
            continue; // its directory was walked whole
        }
        match examine(tree, &side.filter, base, writer, changes, key)? {
            Examined::Name => {}
            Examined::Below => done = Some(key),
            Examined::Unclear => {
                enough = false;
                break;
            }
        }
    }
    if enough {
        return Ok(true);
    }
    *changes = Changes::create(&side.store.path("changes"))?;
    scan(tree, &side.filter, base, writer, changes, order.verify)?;
    Ok(false)
}

impl Sending<'_, '_> {
    fn send(&mut self, changes: &mut Changes) -> io::Result<()> {
        changes.each(|change, key| if change == Change::Gone { self.gone(key) } else { Ok(()) })?;
        changes.each(|change, key| if change == Change::Look { self.look(key) } else { Ok(()) })
    }

    /// The cut is complete: the standby publishes it, or asks for names again.
    fn commit(&mut self, cut: CutId) -> io::Result<()> {
        loop {
            Message::Commit { cut }.put(self.outgoing)?;
            self.outgoing.flush()?;
            let mut again = Vec::new();
            loop {
                // Staged files are synced meanwhile: the link's own sign of life keeps the wait alive.
                match next(self.incoming)? {
                    Message::Resend { key } => again.push(key.to_vec()),
                    Message::Again => break,
                    Message::Published { cut: theirs } if theirs == cut => return Ok(()),
                    _ => return Err(unexpected()),
                }
            }
            self.literal = true;
            for key in again {
                self.look(&key)?;
            }
        }
    }

    /// The standby has the cut: so has the index.
    fn finish(mut self, cut: &Cut) -> io::Result<Sent> {
        self.sent.names = self.writer.count()?;
        self.writer.set_cut(cut)?;
        self.writer.forget_unsent()?;
        self.writer.forget_held()?;
        Ok(self.sent)
    }

    fn gone(&mut self, key: &[u8]) -> io::Result<()> {
        if self.writer.remove(key)?.is_some() {
            Message::Gone { key }.put(self.outgoing)?;
            self.sent.gone += 1;
        }
        Ok(())
    }

    /// A name vanished after it had been listed: it goes, and what was below it.
    fn vanished(&mut self, key: &[u8]) -> io::Result<()> {
        let below: Vec<Vec<u8>> = self
            .base
            .rows(key)?
            .map_while(Result::ok)
            .map(|(at, _)| at)
            .take_while(|at| at == key || name::is_below(at, key))
            .collect();
        below.iter().try_for_each(|key| self.gone(key))
    }

    fn look(&mut self, key: &[u8]) -> io::Result<()> {
        self.progress.files += 1;
        for _ in 0..ATTEMPTS {
            if self.attempt(key)? {
                (self.report)(&self.progress);
                return Ok(());
            }
        }
        self.restore(key)?;
        self.sent.unsettled += 1;
        self.sent.unsettled_name = Some(name::shown(key));
        Ok(())
    }

    /// The standby keeps its version, and the index what it says of it.
    fn restore(&mut self, key: &[u8]) -> io::Result<()> {
        self.writer.remove(key)?;
        if let Some(mut row) = self.base.row(key)? {
            row.local = Local::default(); // look again next time
            let short = copy_list(&self.base, key, &row, &mut self.writer, key)?;
            self.writer.put(key, &row.entry, row.local, short.as_deref())?;
        }
        Ok(())
    }

    /// False: it did not hold still.
    fn attempt(&mut self, key: &[u8]) -> io::Result<bool> {
        let Some(stat) = self.tree.stat(key)? else {
            self.vanished(key)?;
            return Ok(true);
        };
        if tree::is_linked(&stat) {
            match self.writer.first_of(stat.st_ino)? {
                Some(first) if first != key => return self.link(key, first, &stat),
                Some(_) => {}
                None => self.writer.set_first(stat.st_ino, key)?,
            }
        }
        if tree::format(&stat) == libc::S_IFREG {
            return self.file(key);
        }
        match read(&mut self.tree, key, |_, _, _| Err(changed()))? {
            Found::Settled(entry, local) => {
                if self.base.row(key)?.is_none_or(|row| row.entry != entry) || self.literal {
                    self.put(key, &entry, None)?;
                }
                self.writer.remove(key)?;
                self.writer.put(key, &entry, local, Some(&[]))?;
                Ok(true)
            }
            Found::Unsettled => Ok(false),
            Found::Nothing => {
                self.vanished(key)?;
                Ok(true)
            }
        }
    }

    fn put(&mut self, key: &[u8], entry: &Entry, same: Option<&[u8]>) -> io::Result<()> {
        Message::Put { key, entry: entry.clone(), same }.put(self.outgoing)?;
        self.sent.put += 1;
        Ok(())
    }

    /// Another name of a file. It is said again even if it was so before: the file may be another now.
    fn link(&mut self, key: &[u8], first: Vec<u8>, stat: &FileStat) -> io::Result<bool> {
        let known = self.writer.row(&first)?.is_some_and(|row| !matches!(row.entry.kind, Kind::Link { .. }));
        if !known {
            return Ok(false); // its first name did not make it into the cut
        }
        let entry = Entry::link(first);
        self.put(key, &entry, None)?;
        self.writer.remove(key)?;
        self.writer.put(key, &entry, tree::local(stat), Some(&[]))?;
        Ok(true)
    }

    fn file(&mut self, key: &[u8]) -> io::Result<bool> {
        let former = self.base.row(key)?.filter(|row| matches!(row.entry.kind, Kind::File { .. }));
        let former = match former {
            Some(row) => Some((key.to_vec(), row)),
            None => self.renamed(key)?,
        };
        self.writer.remove(key)?;
        let done = match former {
            Some((from, row)) if !self.literal => self.file_along(key, &from, &row),
            _ => self.file_anew(key),
        };
        match done? {
            Some(true) => Ok(true),
            Some(false) => Ok(false),
            None => {
                self.restore(key)?;
                self.vanished(key)?;
                Ok(true)
            }
        }
    }

    /// The name under which the standby has the inode that `key` names now.
    fn renamed(&mut self, key: &[u8]) -> io::Result<Option<(Vec<u8>, Row)>> {
        let Some(stat) = self.tree.stat(key)? else { return Ok(None) };
        let Some(from) = self.base.name_of(stat.st_ino)? else { return Ok(None) };
        let row = self.base.row(&from)?;
        Ok(row.filter(|row| matches!(row.entry.kind, Kind::File { .. })).map(|row| (from, row)))
    }

    /// A file without a past: read once, sent as it is read. `None`: it is not there.
    fn file_anew(&mut self, key: &[u8]) -> io::Result<Option<bool>> {
        let Self { tree, base, writer, outgoing, chunker, progress, .. } = self;
        let (held, literal) = (self.held, self.literal);
        let (mut begun, mut list) = (false, None);
        let found = read(tree, key, |file, entry, stat| {
            Message::Put { key, entry: entry.clone(), same: None }.put(outgoing)?;
            begun = true;
            let mut listing = Listing::default();
            let sparse = is_sparse(stat);
            chunker.cut(file, entry.size(), sparse, &mut NoFormer, &mut |piece| {
                progress.bytes += piece.chunk.len;
                let source = if literal { None } else { reference(base, writer, held, &piece.chunk)? };
                put_chunk(outgoing, &piece.chunk, source, piece.data)?;
                listing.add(piece.chunk, |n, at, chunks| writer.put_block(key, n, at, chunks))
            })?;
            let (hash, short) = listing.finish(|n, at, chunks| writer.put_block(key, n, at, chunks))?;
            list = short;
            Ok(hash)
        });
        match found {
            Ok(Found::Settled(entry, local)) => {
                let Kind::File { content, .. } = entry.kind else { return Err(unexpected()) };
                Message::End { content }.put(self.outgoing)?;
                self.sent.put += 1;
                self.writer.put(key, &entry, local, list.as_deref())?;
                Ok(Some(true))
            }
            Ok(other) => {
                if begun {
                    Message::Abandon.put(self.outgoing)?;
                }
                self.forget_list(key)?;
                Ok((other == Found::Unsettled).then_some(false))
            }
            Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", name::shown(key)))),
        }
    }

    /// A list was begun whose name has no row.
    fn forget_list(&mut self, key: &[u8]) -> io::Result<()> {
        let nothing = Entry { kind: Kind::Fifo, ..Entry::link(Vec::new()) };
        self.writer.put(key, &nothing, Local::default(), None)?;
        self.writer.remove(key)?; // and the blocks of the list with it
        Ok(())
    }

    /// A file with a past: read along its former list first; what the standby lacks is read again and sent. `None`: it
    /// is not there.
    fn file_along(&mut self, key: &[u8], from: &[u8], former: &Row) -> io::Result<Option<bool>> {
        let Self { tree, base, writer, chunker, progress, .. } = self;
        // A directory was renamed above it: the inode is as it was, its content need not be read.
        if key != from
            && let Some(stat) = tree.stat(key)?
            && tree::is_unchanged(&stat, &former.entry, former.local)
        {
            let list = copy_list(base, from, former, writer, key)?;
            self.writer.put(key, &former.entry, former.local, list.as_deref())?;
            self.put(key, &former.entry, Some(from))?;
            return Ok(Some(true));
        }
        let mut list = None;
        let found = read(tree, key, |file, entry, stat| {
            let mut listing = Listing::default();
            let mut along = FormerList::new(base, from, former)?;
            chunker.cut(file, entry.size(), is_sparse(stat), &mut along, &mut |piece| {
                progress.bytes += piece.chunk.len;
                listing.add(piece.chunk, |n, at, chunks| writer.put_block(key, n, at, chunks))
            })?;
            let (hash, short) = listing.finish(|n, at, chunks| writer.put_block(key, n, at, chunks))?;
            list = short;
            Ok(hash)
        })?;
        let (entry, local) = match found {
            Found::Settled(entry, local) => (entry, local),
            other => {
                self.forget_list(key)?;
                return Ok((other == Found::Unsettled).then_some(false));
            }
        };
        self.writer.put(key, &entry, local, list.as_deref())?;
        if entry.kind == former.entry.kind {
            if key != from || entry != former.entry {
                self.put(key, &entry, Some(from))?;
            }
            return Ok(Some(true));
        }
        let row = self.writer.row(key)?.ok_or_else(unexpected)?;
        let file = match self.tree.file(key) {
            Ok(file) => file,
            Err(_) => return Ok(Some(false)),
        };
        if tree::local(&fstat(&file)?).inode != local.inode && local.inode != 0 {
            return Ok(Some(false)); // replaced since it was read
        }
        self.put(key, &entry, None)?;
        let in_place = if key == from { former.entry.size() } else { 0 };
        if self.send_along(key, &row, file.as_fd(), in_place)? {
            let Kind::File { content, .. } = entry.kind else { return Err(unexpected()) };
            Message::End { content }.put(self.outgoing)?;
            return Ok(Some(true));
        }
        Message::Abandon.put(self.outgoing)?;
        self.sent.put -= 1;
        Ok(Some(false))
    }

    /// Sends the content that the list of `row` describes. False: the file has other content by now.
    fn send_along(&mut self, key: &[u8], row: &Row, file: BorrowedFd<'_>, in_place: u64) -> io::Result<bool> {
        let unknown = self.unknown(key, row, in_place)?;
        let sums = self.ask_sums(key, &unknown)?;
        let mut patches = Patches { unknown: &unknown, sums: &sums };
        let Self { base, writer, outgoing, held, .. } = self;
        let (mut offset, mut same, mut data) = (0, true, Vec::new());
        let mut run: Option<(Vec<u8>, u64, u64, u64)> = None;
        each_chunk(&*writer, key, row, |_, chunk| {
            let begin = offset;
            offset += chunk.len;
            if !same {
                return Ok(());
            }
            let source = match chunk.hash {
                Some(hash) => base.place(&hash)?.map(|place| (place.key, place.number, place.offset)),
                None => None,
            };
            if let (Some((key, number, count, _)), Some((k, n, _))) = (&mut run, &source)
                && key == k
                && *number + *count == *n
            {
                *count += 1;
                return Ok(());
            }
            put_run(outgoing, run.take())?;
            if let Some((key, number, at)) = source {
                run = Some((key, number, 1, at));
                return Ok(());
            }
            let Some(hash) = chunk.hash else { return Message::Hole { len: chunk.len }.put(outgoing) };
            if let Some(Reference::Staged { old, name, offset }) = staged(writer, *held, &hash, key)? {
                return Message::Staged { old, name, offset, len: chunk.len, hash }.put(outgoing);
            }
            data.resize(chunk.len as usize, 0);
            if read_at(file, &mut data, begin)? as u64 != chunk.len || *blake3::hash(&data).as_bytes() != hash {
                same = false;
                return Ok(());
            }
            match patches.of(begin, chunk.len, &data) {
                Some((literal, data)) => {
                    Message::Patch { hash, len: chunk.len, literal: &literal, data: &data }.put(outgoing)
                }
                None => Message::Chunk { data: &data }.put(outgoing),
            }
        })?;
        put_run(self.outgoing, run)?;
        Ok(same)
    }

    /// Stretches that the standby lacks and over which it has former content of the same file.
    fn unknown(&mut self, key: &[u8], row: &Row, in_place: u64) -> io::Result<Vec<(u64, u64)>> {
        let (mut unknown, mut offset) = (Vec::new(), 0);
        if in_place == 0 {
            return Ok(unknown);
        }
        each_chunk(&self.writer, key, row, |_, chunk| {
            let begin = offset;
            offset += chunk.len;
            let Some(hash) = chunk.hash.filter(|_| begin < in_place && chunk.len > PAGE) else { return Ok(()) };
            if unknown.len() < ASK_IN_ALL && self.base.place(&hash)?.is_none() {
                unknown.push((begin, chunk.len));
            }
            Ok(())
        })?;
        Ok(unknown)
    }

    fn ask_sums(&mut self, key: &[u8], unknown: &[(u64, u64)]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        for stretches in unknown.chunks(ASK) {
            Message::AskSums { key, stretches: stretches.to_vec() }.put(self.outgoing)?;
            self.outgoing.flush()?;
            let wanted: usize = stretches.iter().map(|&(at, len)| pages(at, len).count() * 8).sum();
            match next(self.incoming)? {
                Message::Sums { sums } if sums.len() == wanted => all.extend_from_slice(sums),
                _ => return Err(unexpected()),
            }
        }
        Ok(all)
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the name became a file")
}

/// Sums of the standby's pages, taken along in the order in which they were asked for.
struct Patches<'a> {
    unknown: &'a [(u64, u64)],
    sums: &'a [u8],
}

impl Patches<'_> {
    /// The chunk as pages over the former content: which are literal, and those. `None`: literal as a whole is shorter.
    fn of(&mut self, begin: u64, len: u64, data: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        while let Some(&(at, n)) = self.unknown.first() {
            if at > begin {
                return None;
            }
            let count = pages(at, n).count() * 8;
            let (sums, rest) = self.sums.split_at_checked(count)?;
            self.unknown = &self.unknown[1..];
            self.sums = rest;
            if at < begin {
                continue;
            }
            let mut literal = vec![0; (count / 8).div_ceil(8)];
            let mut differing = Vec::new();
            for (number, (at, n)) in pages(begin, len).enumerate() {
                let page = &data[(at - begin) as usize..(at - begin + n) as usize];
                if sum(page) != sums[8 * number..8 * number + 8] {
                    literal[number / 8] |= 1 << (number % 8);
                    differing.extend_from_slice(page);
                }
            }
            return ((differing.len() as u64) < len).then_some((literal, differing));
        }
        None
    }
}

/// Where the standby has a chunk.
enum Reference {
    /// In a file of its cut.
    Run { key: Vec<u8>, number: u64, offset: u64 },
    /// In a staged file.
    Staged { old: bool, name: [u8; 16], offset: u64 },
}

fn reference(base: &Reader, writer: &Writer<'_>, held: bool, chunk: &Chunk) -> io::Result<Option<Reference>> {
    let Some(hash) = &chunk.hash else { return Ok(None) };
    if let Some(place) = base.place(hash)? {
        return Ok(Some(Reference::Run { key: place.key, number: place.number, offset: place.offset }));
    }
    staged(writer, held, hash, b"")
}

/// A chunk that this cycle or a broken one brought. `own`: the name that is being sent, whose rows are written already
/// though its content is not there yet.
fn staged(writer: &Writer<'_>, held: bool, hash: &Hash, own: &[u8]) -> io::Result<Option<Reference>> {
    if held && let Some((name, offset)) = writer.held(hash)? {
        return Ok(Some(Reference::Staged { old: true, name, offset }));
    }
    let place = writer.place(hash)?.filter(|place| own.is_empty() || place.key != own);
    Ok(place.map(|place| Reference::Staged { old: false, name: stage_name(&place.key), offset: place.offset }))
}

fn put_chunk(outgoing: &mut Outgoing, chunk: &Chunk, source: Option<Reference>, data: &[u8]) -> io::Result<()> {
    let Some(hash) = chunk.hash else { return Message::Hole { len: chunk.len }.put(outgoing) };
    match source {
        Some(Reference::Run { key, number, offset }) => put_run(outgoing, Some((key, number, 1, offset))),
        Some(Reference::Staged { old, name, offset }) => {
            Message::Staged { old, name, offset, len: chunk.len, hash }.put(outgoing)
        }
        None => Message::Chunk { data }.put(outgoing),
    }
}

fn put_run(outgoing: &mut Outgoing, run: Option<(Vec<u8>, u64, u64, u64)>) -> io::Result<()> {
    match run {
        Some((key, number, count, offset)) => Message::Run { key: &key, number, count, offset }.put(outgoing),
        None => Ok(()),
    }
}
