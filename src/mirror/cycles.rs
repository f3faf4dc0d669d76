//! The active box's cycles: those that are due and those that somebody waits for.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::channel::is_broken;
use super::control::{Cause, Report, Role, State};
use super::guard::Block;
use super::outcome::{Deletions, FoundBy, TreeOutcome};
use super::pace::Pace;
use super::run::{Mirror, RETRY, Request, unix_s};
use super::sender::{self, Sent};
use super::trouble::{explain, remedy};
use crate::clock;
use crate::time::{Duration, Instant};

/// Events are trusted for so long, then a scan looks whether they missed something.
const TRUST: Duration = Duration::from_secs(24 * 3600);

/// A cycle that somebody waits for begins so often, if its connection breaks.
const ATTEMPTS: usize = 3;

/// Sums over all trees of a request.
#[derive(Default)]
struct Total {
    files: u64,
    sent: u64,
    deleted: u64,
    unsettled: u64,
    changed_in_copy: u64,
    bytes_sent: u64,
    /// Differences and those of them that stay, when both sides were compared.
    found: Option<(u64, u64)>,
}

impl Total {
    fn add(&mut self, outcome: &TreeOutcome) {
        self.files += outcome.files;
        self.sent += outcome.names_sent;
        self.deleted += outcome.names_deleted;
        self.unsettled += outcome.unsettled;
        self.changed_in_copy += outcome.changed_in_copy;
        self.bytes_sent += outcome.bytes_sent;
        if let Some(verdict) = &outcome.verdict {
            let (different, unhealed) = self.found.unwrap_or_default();
            self.found = Some((different + verdict.different, unhealed + verdict.unhealed));
        }
    }

    /// The whole in one sentence.
    fn text(&self, took: Duration) -> String {
        let head = match self.found {
            None => "the standby is equal".to_owned(),
            Some((0, _)) => "both sides are equal".to_owned(),
            Some((1, 0)) => "1 name differed, and is healed".to_owned(),
            Some((different, 0)) => format!("{different} names differed, and are healed"),
            Some((different, unhealed)) => format!("{different} names differed, {unhealed} of them still do"),
        };
        let Total { files, sent, deleted, bytes_sent, .. } = self;
        let seconds = took.as_secs_f64();
        let mut text =
            format!("{head}: {files} files; {sent} names sent, {deleted} deleted, {bytes_sent} bytes, {seconds:.3} s");
        if self.unsettled > 0 {
            text.push_str(&format!("; {} would not hold still and stay as they were in the copy", self.unsettled));
        }
        if self.changed_in_copy > 0 {
            text.push_str(&format!("; {} had been changed in the copy, see `mirror diverged`", self.changed_in_copy));
        }
        text
    }
}

impl Mirror {
    /// Somebody asked for a cycle of one tree or of all.
    pub(super) fn requested(&mut self, tree: Option<&Path>, wanted: Request) {
        let Some(request) = wanted.number else { return };
        let refuse = |mirror: &Self, reason: String, remedy: &str| {
            mirror.reporter.say(&Report::Refused { request, reason, remedy: remedy.into() });
        };
        let numbers: Vec<usize> =
            (0..self.trees.len()).filter(|&n| tree.is_none_or(|tree| self.trees[n].settings.tree == tree)).collect();
        if self.role != Role::Send {
            return refuse(self, "this box does not serve: its trees are the copy".into(), "ask the box that serves");
        }
        if numbers.is_empty() {
            return refuse(self, "there is no such tree".into(), "look at `mirror status`");
        }
        self.retry = Instant::BOOT;
        if !self.is_connected() {
            let why = self.unreachable.as_ref().map_or(String::new(), |why| format!(": {why}"));
            let reason = format!("the standby's mirror cannot be reached{why}");
            return refuse(self, reason, "look at the crossover, and at `status` of the standby");
        }
        let mut total = Total::default();
        let begin = clock::now();
        for number in numbers {
            let name = self.trees[number].settings.tree.display().to_string();
            let began = clock::now();
            match self.awaited(number, wanted) {
                Err(e) => {
                    let (_, reason) = self.trouble(number, &e);
                    return refuse(self, format!("{name}: {reason}"), remedy(&e));
                }
                Ok((Sent { blocked: Some(block), .. }, _)) => {
                    return refuse(self, format!("{name}: {block}"), way_on(block));
                }
                Ok((sent, bytes_sent)) => {
                    let tree = self.trees[number].settings.tree.clone();
                    let elapsed_us = u64::try_from(clock::now().since(began).as_micros()).unwrap_or(u64::MAX);
                    let outcome = outcome(sent, TreeOutcome { tree, bytes_sent, elapsed_us, ..TreeOutcome::default() });
                    total.add(&outcome);
                    self.reporter.say(&Report::Outcome { request, outcome });
                }
            }
        }
        let text = total.text(clock::now().since(begin));
        self.reporter.say(&Report::Done { request, text });
    }

    /// A cycle that somebody waits for. The connection that it finds may have died without a word, which only using it shows,
    /// and a standby that has just begun to be one drops those of its former role: then the cycle begins again, on a new one.
    fn awaited(&mut self, number: usize, wanted: Request) -> io::Result<(Sent, u64)> {
        let mut done = self.cycle(number, wanted);
        for _ in 1..ATTEMPTS {
            if !done.as_ref().is_err_and(is_broken) || self.current.is_changing() {
                break;
            }
            self.retry = Instant::BOOT;
            if !self.is_connected() {
                break;
            }
            done = self.cycle(number, wanted);
        }
        done
    }

    /// What an error of a cycle means for its tree, and in words.
    pub(super) fn trouble(&self, number: usize, e: &io::Error) -> (Cause, String) {
        let tree = &self.trees[number].settings.tree;
        if e.kind() == io::ErrorKind::NotFound && !is_broken(e) && !tree.exists() {
            return (Cause::Missing, format!("{} is not there", tree.display()));
        }
        (Cause::Failed, explain(e))
    }

    /// Says what an error of a cycle or of opening means for the tree.
    pub(super) fn failed(&self, number: usize, e: &io::Error) {
        if is_broken(e) {
            self.reporter.cut_off(number);
        } else {
            self.reporter.alarm(number, Some(self.trouble(number, e)));
        }
    }

    /// One cycle of one tree: what it did, and bytes on the link.
    pub(super) fn cycle(&mut self, number: usize, request: Request) -> io::Result<(Sent, u64)> {
        let begin = clock::now();
        let done = self.try_cycle(number, request, begin);
        let now = clock::now();
        match &done {
            Err(e) if is_broken(e) => self.trees[number].schedule.cut_off(now),
            _ => self.trees[number].schedule.end(),
        }
        match &done {
            Ok((sent, bytes)) => {
                self.reporter.update(number, |figures| {
                    figures.plain.state = State::Idle;
                    figures.plain.cycle_ms = u64::try_from(now.since(begin).as_millis()).unwrap_or(u64::MAX);
                    figures.plain.bytes_sent = *bytes;
                    figures.plain.unsettled = sent.unsettled;
                    (figures.plain.found_by_events, figures.plain.found_by_scan) =
                        if sent.by_events { (sent.found, 0) } else { (0, sent.found) };
                    if sent.blocked.is_none() {
                        figures.plain.files = sent.files;
                        figures.plain.generation = self.generation;
                        figures.cut_at = Some(begin);
                        figures.behind_since = (sent.unsettled > 0).then_some(begin);
                    }
                });
                if sent.blocked.is_some() || sent.unsettled > 0 {
                    self.trees[number].scanned = None; // events of this cycle are used up
                }
                self.reporter.alarm(number, sent.blocked.map(|block| (Cause::Guard, block.to_string())));
            }
            Err(e) => {
                self.trees[number].scanned = None;
                log::warn!("mirror: {}: {}", self.trees[number].settings.tree.display(), self.trouble(number, e).1);
                self.failed(number, e);
                // The stream is in the middle of something: only a new connection has a beginning.
                self.drop_link();
                self.retry = now + RETRY;
            }
        }
        self.reporter.figures();
        done
    }

    fn try_cycle(&mut self, number: usize, request: Request, begin: Instant) -> io::Result<(Sent, u64)> {
        self.stand()?;
        if self.torn {
            return Err(io::Error::other(
                "a cut is half published on this box: nothing is copied from it before that is finished",
            ));
        }
        self.open(number, None)?;
        let tree = &mut self.trees[number];
        tree.schedule.start(begin);
        let (side, (outgoing, incoming)) = match (&tree.side, &mut self.link) {
            (Some(side), Some(link)) => (side, (&mut link.0, &mut link.1)),
            _ => return Err(io::ErrorKind::NotConnected.into()),
        };
        let dirty = tree.watch.as_ref().map(|watch| watch.take()).transpose()?;
        let trusted = tree.scanned.is_some_and(|scanned| begin.since(scanned) < TRUST);
        let events = dirty.filter(|dirty| trusted && !dirty.all);
        let reporter = self.reporter.clone();
        let list = |deletions: &Deletions| {
            if let Some(request) = request.number {
                reporter.say(&Report::Deletions { request, deletions: deletions.clone() });
            }
        };
        let order = sender::Order {
            events: events.as_ref(),
            confirmed: request.confirmed,
            verify: request.verify,
            generation: self.generation,
            unix_s: unix_s(),
            deletions: &list,
        };
        self.reporter.update(number, |figures| figures.plain.state = State::Running);
        let before = outgoing.counters().sent.load(Ordering::Relaxed);
        let mut pace = Pace::default();
        let path = tree.settings.tree.clone();
        let sent = sender::cycle(side, &order, incoming, outgoing, &mut |progress| {
            if let Some(number) = request.number
                && let Some(told) = pace.tell(progress, clock::now())
            {
                reporter.say(&told.report(number, &path));
            }
        })?;
        if !sent.by_events {
            tree.scanned = Some(begin);
        }
        Ok((sent, outgoing.counters().sent.load(Ordering::Relaxed) - before))
    }
}

/// What the operator can do about a cycle that a guard has stopped.
fn way_on(block: Block) -> &'static str {
    match block {
        Block::RootReplaced => "is the right file system mounted? If the tree is meant: `mirror sync --confirm-delete`",
        Block::RootEmptied { .. } | Block::TooManyDeletions { .. } => {
            "look at what would go; if it is meant: `mirror sync --confirm-delete`"
        }
    }
}

fn outcome(sent: Sent, known: TreeOutcome) -> TreeOutcome {
    TreeOutcome {
        files: sent.files,
        names: sent.names,
        bytes_read: sent.bytes_read,
        chunks_sent: sent.chunks,
        names_sent: sent.put,
        names_deleted: sent.gone,
        unsettled: sent.unsettled,
        changed_in_copy: sent.strange,
        found_by: if sent.by_events { FoundBy::Events } else { FoundBy::Scan },
        verdict: sent.verdict,
        ..known
    }
}
