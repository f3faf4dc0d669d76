//! The active box's cycles: those that are due and those that somebody waits for.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::control::{Report, Role, State};
use super::run::{Mirror, RETRY, Request, refused, unix_s};
use super::sender::{self, Progress, Sent};
use crate::clock;
use crate::time::{Duration, Instant};

/// Events are trusted for so long, then a scan looks whether they missed something.
const TRUST: Duration = Duration::from_secs(24 * 3600);
/// Progress is told so often.
const TELL: Duration = Duration::from_millis(250);

impl Mirror {
    /// Somebody asked for a cycle of one tree or of all.
    pub(super) fn requested(&mut self, tree: Option<&Path>, wanted: Request) {
        let Some(request) = wanted.number else { return };
        let numbers: Vec<usize> =
            (0..self.trees.len()).filter(|&n| tree.is_none_or(|tree| self.trees[n].settings.tree == tree)).collect();
        let problem = if self.role != Role::Send {
            Some(("this box does not serve: its trees are the copy", "ask the box that serves"))
        } else if numbers.is_empty() {
            Some(("there is no such tree", "look at `mirror status`"))
        } else {
            self.retry = Instant::BOOT;
            (!self.is_connected()).then_some(("the standby's mirror cannot be reached", "look at the crossover"))
        };
        if let Some((reason, remedy)) = problem {
            let report = Report::Refused { request, reason: reason.into(), remedy: remedy.into() };
            return self.reporter.say(&report);
        }
        let mut total = Sent::default();
        let mut bytes = 0;
        let begin = clock::now();
        for number in numbers {
            let remedy = "if it is meant: `mirror sync --confirm-delete`";
            match self.cycle(number, wanted) {
                Err(e) => return self.reporter.say(&refused(request, &e, "it is tried again by itself")),
                Ok((Sent { blocked: Some(block), .. }, _)) => {
                    return self.reporter.say(&refused(request, &io::Error::other(block.to_string()), remedy));
                }
                Ok((sent, on_link)) => {
                    total.names += sent.names;
                    total.put += sent.put;
                    total.gone += sent.gone;
                    total.unsettled += sent.unsettled;
                    total.strange += sent.strange;
                    bytes += on_link;
                }
            }
        }
        let text = format!(
            "{} names, {} sent, {} deleted, {} unsettled, {} strange; {bytes} bytes in {:.3} s",
            total.names,
            total.put,
            total.gone,
            total.unsettled,
            total.strange,
            clock::now().since(begin).as_secs_f64()
        );
        self.reporter.say(&Report::Done { request, text });
    }

    /// One cycle of one tree: what it did, and bytes on the link.
    pub(super) fn cycle(&mut self, number: usize, request: Request) -> io::Result<(Sent, u64)> {
        let begin = clock::now();
        let done = self.try_cycle(number, request, begin);
        let now = clock::now();
        self.trees[number].schedule.end();
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
                        figures.plain.files = sent.names;
                        figures.plain.generation = self.generation;
                        figures.cut_at = Some(begin);
                        figures.behind_since = (sent.unsettled > 0).then_some(begin);
                    }
                });
                if sent.blocked.is_some() || sent.unsettled > 0 {
                    self.trees[number].scanned = None; // events of this cycle are used up
                }
                self.reporter.alarm(number, sent.blocked.map(|block| format!("blocked: {block}")));
            }
            Err(e) => {
                self.trees[number].scanned = None;
                log::warn!("mirror: {}: {e}", self.trees[number].settings.tree.display());
                self.reporter.failed(number, e);
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
        self.open(number, None)?;
        let tree = &mut self.trees[number];
        tree.schedule.start(begin);
        let (side, (outgoing, incoming)) = match (&tree.side, &mut self.link) {
            (Some(side), Some(link)) => (side, (&mut link.0, &mut link.1)),
            _ => return Err(io::ErrorKind::NotConnected.into()),
        };
        let dirty = tree.watch.as_ref().map(|watch| watch.take()).transpose()?;
        let trusted = tree.scanned.is_some_and(|scanned| begin.since(scanned) < TRUST);
        let events: Option<Vec<Vec<u8>>> =
            dirty.filter(|dirty| trusted && !dirty.all).map(|dirty| dirty.names.into_iter().collect());
        let order = sender::Order {
            events: events.as_deref(),
            confirmed: request.confirmed,
            verify: request.verify,
            generation: self.generation,
            unix_s: unix_s(),
        };
        self.reporter.update(number, |figures| figures.plain.state = State::Running);
        let before = outgoing.counters().sent.load(Ordering::Relaxed);
        let (reporter, mut told) = (self.reporter.clone(), begin);
        let path = tree.settings.tree.clone();
        let sent = sender::cycle(side, &order, incoming, outgoing, &mut |progress| {
            let now = clock::now();
            if let Some(number) = request.number
                && now.since(told) >= TELL
            {
                told = now;
                reporter.say(&tell(number, &path, progress, now.since(begin)));
            }
        })?;
        if !sent.by_events {
            tree.scanned = Some(begin);
        }
        Ok((sent, outgoing.counters().sent.load(Ordering::Relaxed) - before))
    }
}

fn tell(request: u64, tree: &Path, progress: &Progress, since: Duration) -> Report {
    let seconds = since.as_secs_f64().max(0.001);
    let rate = (progress.bytes as f64 / seconds) as u64;
    let left = progress.bytes_total.saturating_sub(progress.bytes).saturating_mul(1000).checked_div(rate);
    Report::Progress {
        request,
        tree: tree.to_path_buf(),
        files: progress.files,
        files_total: progress.files_total,
        bytes: progress.bytes,
        bytes_total: progress.bytes_total,
        rate,
        left_ms: left,
    }
}
