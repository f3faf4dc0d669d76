//! The active box's end: finds what changed since the cut that the standby has, reads it, and sends what it lacks.
//!
//! The sender's index is the standby's last cut, so it knows by itself which chunks the standby has and where; nothing
//! is asked for but sums of pages. Rows of the next cut are written as the files are read and committed when the
//! standby has published it.

use std::collections::BTreeSet;
use std::io;

use super::channel::{Incoming, Outgoing, PATIENCE};
use super::chunk::Chunker;
use super::control::Generation;
use super::fault;
use super::guard::{self, Block, Plan};
use super::hints::Recent;
use super::index::{Index, Lookup, Reader};
use super::index_writer::Writer;
use super::judge::Judge;
use super::message::{Message, Standing};
use super::name;
use super::outcome::{Deletions, Verdict};
use super::read::Manner;
use super::reconcile::reconcile;
use super::refresh::random;
use super::row::{Cut, CutId};
use super::scan::{Changes, Examined, RECOVERED, Trust, examine, scan};
use super::send::Sending;
use super::side::{Side, identity, identity_by_statfs};
use super::stop::Stop;
use super::tree::Tree;
use super::watch::Dirty;

/// A standby that has closed the stream said why no longer ago than this.
const PARTING: crate::time::Duration = crate::time::Duration::from_millis(300);

/// How a cycle is to be run.
pub struct Order<'a> {
    /// What may have changed; `None`: look at everything.
    pub events: Option<&'a Dirty>,
    /// The operator has confirmed the deletions.
    pub confirmed: bool,
    /// Both sides read everything again and trust no time stamp.
    pub verify: bool,
    /// What is served.
    pub generation: Generation,
    /// Wall time, shown to the operator only.
    pub unix_s: u64,
    /// Hears what is deleted before it is, when the operator has released it, and what would be, when a guard stops it.
    pub deletions: &'a dyn Fn(&Deletions),
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
    /// Names in the cut that are no directories.
    pub files: u64,
    /// Names that were sent.
    pub put: u64,
    /// Bytes of content that were read.
    pub bytes_read: u64,
    /// Chunks whose content was sent, whole or in part.
    pub chunks: u64,
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
    /// What the comparison found, if both sides were compared.
    pub verdict: Option<Verdict>,
}

/// Waits for the next record, which must not be a refusal.
pub(super) fn next<'a>(incoming: &'a mut Incoming) -> io::Result<Message<'a>> {
    let (kind, payload) = incoming.next(PATIENCE)?;
    match Message::decode(kind, payload)? {
        Message::Refused { reason } => Err(refusal(reason)),
        message => Ok(message),
    }
}

fn refusal(reason: &[u8]) -> io::Error {
    io::Error::other(format!("the standby refused: {}", String::from_utf8_lossy(reason).escape_debug()))
}

pub(super) fn unexpected() -> io::Error {
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
    let unwritten = side.index.reader()?.unwritten_since()?;
    let judge = if order.verify { Some(Judge::new(side.index.reader()?)) } else { None };
    report(&Progress::default()); // both sides look first, the standby at everything if it is to compare
    let Met { standing, held, former, first, next_id, prepared } = meet(side, order, incoming, outgoing)?;

    let base = side.index.reader()?;
    let tx = side.index.begin(true)?;
    let mut writer = Writer::hinting(&tx, &side.store.directory)?;
    let mut changes = Changes::create(&side.store.path("changes"))?;
    // In a new generation this box may have been without power since its last cut.
    let trust = match unwritten.filter(|_| former.generation != order.generation) {
        _ if order.verify => Trust::None,
        Some(moment) => Trust::Before(moment),
        None => Trust::All,
    };
    // Events tell of this box's names; where the copy was not what was thought, its own names count too.
    let told = Order { events: order.events.filter(|_| standing.cut == former.id), ..*order };
    let by_events = find(side, (&told, trust, incoming.stop()), &mut tree, &base, &mut writer, &mut changes)?;
    if Tree::open(&side.root)?.identity() != tree.identity() {
        return Err(io::Error::other(format!("{} was replaced while it was read", side.root.display())));
    }
    // A source that was never in sync with a copy that has seen service is another disk, or none.
    let never_met = first && standing.generation != Generation::default();
    let plan = Plan {
        before: standing.names,
        gone: changes.gone,
        set_aside: standing.unsent.min(changes.unseen), // what it changed and we still have excuses no deletion of others
        found: if by_events { found_by_events(side, &mut tree, &base, &changes)? } else { changes.found },
        same_root: !never_met && [(0, 0), root, identity_by_statfs(&tree)?].contains(&former.root),
        first,
    };
    let found = changes.gone + changes.look;
    let sent = Sent { by_events, found, strange: standing.unsent, ..Sent::default() };
    let check = |plan: &Plan| guard::check(plan, side.settings.max_delete, order.confirmed).err();
    let blocked = check(&plan);
    if changes.gone > 0 && (order.confirmed || blocked.is_some()) {
        tell_deletions(side, order, &mut changes, standing.names, blocked.is_none())?;
    }
    if blocked.is_some() {
        cancel(outgoing)?;
        return Ok(Sent { blocked, ..sent });
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
        recent: Recent::default(),
        away: None,
        homeless: Vec::new(),
        literal: false,
        manner: Manner::Still,
        sent,
        progress,
        report,
        judge,
    };
    (sending.report)(&sending.progress);
    sending.send(&mut changes)?;
    // What vanished while it was read counts too: a tree that is being emptied is as suspect as an empty one.
    let vanished = sending.sent.gone.saturating_sub(changes.gone);
    let plan = Plan { gone: plan.gone + vanished, found: plan.found.saturating_sub(vanished), ..plan };
    let blocked = if vanished > 0 { check(&plan) } else { None };
    if blocked.is_some() {
        cancel(sending.outgoing)?;
        return Ok(Sent { blocked, ..sending.sent });
    }
    let mut cut = Cut { id: standing.cut, generation: order.generation, root, unix_s: order.unix_s };
    // Both boxes are to know the generation that they are of, also where nothing is to be sent.
    let is_of_this = [former.generation, standing.generation].iter().all(|of| *of == order.generation);
    if sending.sent.put + sending.sent.gone > 0 || cut.id == CutId::default() || !is_of_this {
        cut.id = next_id;
    }
    sending.commit(cut.id)?;
    fault::step();
    let (sent, changed) = sending.finish(&cut)?;
    fault::step();
    // What was prepared is not on the disk before this.
    if prepared || changed {
        Index::commit(tx)?;
    }
    fault::step();
    Ok(sent)
}

/// What both sides know of a tree before anybody looks for changes.
struct Met {
    /// How it stands over there.
    standing: Standing,
    /// Something is staged there.
    held: bool,
    /// This side's last cut.
    former: Cut,
    /// There was none.
    first: bool,
    /// What the next cut will be called.
    next_id: CutId,
    /// The index has changed for it.
    prepared: bool,
}

/// Hears how the tree stands on the standby, and makes this side's index that of the standby's cut.
fn meet(side: &Side, order: &Order<'_>, incoming: &mut Incoming, outgoing: &mut Outgoing) -> io::Result<Met> {
    begin(side, order.verify, outgoing)?;
    let tx = side.index.begin(false)?;
    let mut writer = Writer::hinting(&tx, &side.store.directory)?;
    writer.forget_held()?;
    let (standing, held) = standing(incoming, &mut writer)?;
    let mut former = writer.cut()?;
    if former.generation.term > order.generation.term || standing.generation.term > order.generation.term {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a newer generation has been served: not a source",
        ));
    }
    if standing.cut != former.id {
        reconcile(side, &mut writer, incoming, outgoing)?;
        if former.generation == Generation::default() && writer.is_offered(&standing.cut)? {
            former.generation = standing.generation; // our first cut, whose acknowledgement was lost
        }
        writer.set_cut(&Cut { id: standing.cut, ..former.clone() })?;
    }
    // Cuts alone set the generation. The id is the standby's as soon as the two were compared, whatever a guard says then.
    let first = former.generation == Generation::default();
    let mut next_id = CutId::default();
    random(&mut next_id)?;
    if first {
        writer.set_offered(&next_id)?;
    }
    writer.write_hints()?;
    let prepared = writer.has_changed();
    drop(writer);
    if prepared {
        Index::commit(tx)?;
    } else {
        drop(tx);
    }
    if first {
        side.index.harden()?;
    }
    Ok(Met { standing, held, former, first, next_id, prepared })
}

/// Tells the operator what goes now, if he has released it, or what a guard keeps of the copy's `before` names.
fn tell_deletions(
    side: &Side,
    order: &Order<'_>,
    changes: &mut Changes,
    before: u64,
    confirmed: bool,
) -> io::Result<()> {
    let listed = Deletions::list(changes, &side.store.path("deletions"))?;
    (order.deletions)(&Deletions { tree: side.settings.tree.clone(), confirmed, of: before, ..listed });
    Ok(())
}

/// The standby keeps what it has.
fn cancel(outgoing: &mut Outgoing) -> io::Result<()> {
    Message::Cancel.put(outgoing)?;
    outgoing.flush()
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

/// How many names are there: those that were and are not gone, and those that events told of. The root counts as little as in a
/// scan. A name may count twice: it matters whether there are any.
fn found_by_events(side: &Side, tree: &mut Tree, base: &Reader, changes: &Changes) -> io::Result<u64> {
    let has_recovered = base.row(RECOVERED)?.is_some() && tree.stat(RECOVERED)?.is_some();
    let not_counted = changes.gone + u64::from(!side.is_single()) + u64::from(has_recovered);
    Ok(base.count()?.saturating_sub(not_counted) + changes.found)
}

/// Notes what differs from the index. True: by the events alone.
fn find(
    side: &Side,
    (order, trust, stop): (&Order<'_>, Trust, &Stop),
    tree: &mut Tree,
    base: &Reader,
    writer: &mut Writer<'_>,
    changes: &mut Changes,
) -> io::Result<bool> {
    let mut done: Option<&[u8]> = None;
    let mut enough = order.events.is_some_and(|dirty| !dirty.all) && trust == Trust::All;
    for key in order.events.filter(|_| enough).iter().flat_map(|dirty| &dirty.names) {
        if done.is_some_and(|above| key == above || name::is_below(key, above)) {
            continue; // its directory was walked whole
        }
        let is_among = |names: fn(&Dirty) -> &BTreeSet<Vec<u8>>| order.events.is_some_and(|it| names(it).contains(key));
        let (moved, doubted) = (is_among(|dirty| &dirty.moved), is_among(|dirty| &dirty.closed));
        match examine(tree, &side.filter, base, writer, changes, (key, moved, doubted))? {
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
    scan(tree, &side.filter, base, writer, changes, trust, stop)?;
    Ok(false)
}
