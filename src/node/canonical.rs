//! The node's state as a list of numbers in which equal futures look equal: what the model checker compares.
//!
//! Times are told relative to `now` and cut off beyond `horizon`, which must be longer than every duration in the settings;
//! sequence numbers relative to the sender's. Compiled for tests only.

use super::record::Record;
use super::{ClaimBy, Node};
use crate::time::{Duration, Instant};
use crate::wire::heartbeat::Heartbeat;

/// Sequence numbers further apart than this are all the same to a receiver.
const FAR: u64 = 64;

/// Collects the numbers.
pub struct Canonical<'a> {
    now: Instant,
    horizon: Duration,
    out: &'a mut Vec<u64>,
}

impl<'a> Canonical<'a> {
    /// Numbers go to `out`.
    pub fn new(now: Instant, horizon: Duration, out: &'a mut Vec<u64>) -> Canonical<'a> {
        Canonical { now, horizon, out }
    }

    /// A number as it is.
    pub fn number(&mut self, n: u64) {
        self.out.push(n);
    }

    /// A moment, relative to now.
    pub fn time(&mut self, at: Instant) {
        let past = self.now.since(at).min(self.horizon);
        let future = if at == Instant::NEVER { Duration::MAX } else { at.since(self.now).min(self.horizon) };
        let future = u64::try_from(future.as_nanos()).unwrap_or(u64::MAX);
        let past = u64::try_from(past.as_nanos()).unwrap_or(u64::MAX);
        self.out.push(future.wrapping_sub(past));
    }

    /// A moment that may never have been.
    pub fn maybe(&mut self, at: Option<Instant>) {
        self.out.push(at.is_some().into());
        self.time(at.unwrap_or(Instant::BOOT));
    }

    /// How far `n` is behind `newest`.
    pub fn behind(&mut self, newest: u64, n: u64) {
        self.out.push(newest.wrapping_sub(n).wrapping_add(FAR).min(2 * FAR));
    }

    /// A frame on its way, from a sender whose newest content is `newest`.
    pub fn frame(&mut self, f: &Heartbeat, newest_content: u64, newest_path: u64) {
        self.behind(newest_content, f.content_sequence);
        self.behind(newest_path, f.path_sequence);
        self.known_frame(f);
    }

    fn known_frame(&mut self, f: &Heartbeat) {
        self.number(f.boot.get());
        self.number(u64::from(f.path) | (f.role as u64) << 8 | u64::from(f.quorum) << 16 | u64::from(f.intent) << 17);
        self.number(
            u64::from(f.eligible) | u64::from(f.farewell) << 1 | u64::from(f.reached) << 8 | u64::from(f.heard) << 16,
        );
        self.time(f.sent_at);
        self.number(f.served);
        self.number(f.top);
        self.number(f.vote.map_or(0, |v| v.term << 8 | v.candidate.get()));
        self.number(f.echo.map_or(0, |e| e.boot.get()));
        self.maybe(f.echo.map(|e| e.sent_at));
        self.number(f.data.generation.term);
        self.number(
            u64::from(f.score.witnesses) | u64::from(f.score.carriers) << 8 | u64::from(f.score.services) << 16,
        );
    }

    fn record(&mut self, r: &Record) {
        self.number(r.served);
        self.number(r.reserved);
        self.number(r.newest.term);
        self.number(
            u64::from(r.farewell) << 1 | u64::from(r.held) << 2 | u64::from(r.proven) << 8 | u64::from(r.strikes) << 16,
        );
    }
}

impl Node {
    /// Adds this node to `c`. `peer`: the other node if it is up, for its sequence numbers.
    pub fn canonical(&self, c: &mut Canonical<'_>, peer: Option<&Node>) {
        c.number(
            self.role as u64 | u64::from(self.down) << 8 | u64::from(self.fenced) << 9 | u64::from(self.forced) << 10,
        );
        c.number(
            u64::from(self.met)
                | u64::from(self.leaving) << 1
                | u64::from(self.left) << 2
                | u64::from(self.full_rate) << 3
                | u64::from(self.hold_after_yield) << 4
                | u64::from(self.surrender.is_some()) << 5
                | u64::from(self.force_wanted) << 6
                | u64::from(self.disk_fails) << 7,
        );
        for at in [self.booted, self.last_turn, self.lease, self.lease_floor, self.farewell_until, self.promise] {
            c.time(at);
        }
        for at in [self.no_claim_until, self.intent_until, self.overdue_at, self.arbitrate_after, self.leave_at] {
            c.time(at);
        }
        c.number(self.gave_up_for_services.into());
        c.time(self.services_count_after);
        for at in [
            self.outscored_since,
            self.preferred_since,
            self.farewell_said_at,
            self.conflict_at,
            self.late_at,
            self.mute_since,
        ] {
            c.maybe(at);
        }
        for at in self.next_send {
            c.time(at);
        }
        c.record(&self.want);
        c.record(&self.disk);
        c.number(self.promise_hello.map_or(0, |p| p.to.get()));
        c.maybe(self.promise_hello.map(|p| p.until.max(p.others)));
        c.number(u64::from(self.writing.is_some()));
        if let Some(w) = &self.writing {
            c.record(&w.record);
        }
        c.number(self.vote_in.map_or(0, |v| v.term));
        c.maybe(self.vote_in.map(|v| v.until));
        c.number(self.vote_out.map_or(0, |v| v.term << 8 | v.candidate.get()));
        c.number(self.floor);
        c.number(self.burnt);
        c.number(self.copies_unread.into());
        c.number(self.claimed);
        c.number(self.claim.map_or(0, |claim| {
            let by = match claim.by {
                ClaimBy::Vote => 1,
                ClaimBy::Silence => 2,
                ClaimBy::Force => 3,
            };
            by | claim.term.map_or(0, |t| t + 1) << 8 | u64::from(claim.failed) << 4
        }));
        c.maybe(self.claim.map(|claim| claim.began));
        let turns = self.turns.iter().fold(0, |bits, &t| bits << 1 | u64::from(t));
        c.number(turns);
        self.rounds.canonical(c);
        self.peer
            .canonical(c, peer.filter(|p| Some(p.s.boot) == self.peer.boot()).map(|p| (p.content, &p.sequences[..])));
    }

    /// Newest content sequence and the sequence of `path`, for frames on their way.
    #[must_use]
    pub fn sequences(&self, path: u8) -> (u64, u64) {
        (self.content, self.sequences.get(path as usize).copied().unwrap_or(0))
    }
}

impl super::witness::Rounds {
    fn canonical(&self, c: &mut Canonical<'_>) {
        for (sent, bits) in self.canonical_rounds() {
            c.time(sent);
            c.number(bits);
        }
        for at in self.canonical_times() {
            c.time(at);
        }
        c.number(u64::from(self.proven()));
    }
}

impl super::peer::Peer {
    fn canonical(&self, c: &mut Canonical<'_>, sender: Option<(u64, &[u64])>) {
        c.number(self.boot().map_or(0, |b| b.get()));
        let (content, sequences) = self.canonical_sequences();
        if let Some((newest, paths)) = sender {
            c.behind(newest, content);
            for (&newest, known) in paths.iter().zip(sequences) {
                c.behind(newest, known);
            }
        }
        if let Some(f) = self.last() {
            c.known_frame(f);
        }
        for heard in self.canonical_heard() {
            c.number(heard.map_or(0, |h| h.boot.get()));
            c.maybe(heard.map(|h| h.sent_at));
            c.maybe(heard.map(|h| h.received));
        }
        for (boot, newest) in self.canonical_unknown() {
            c.number(boot.get());
            c.time(newest);
        }
        c.time(self.rival_until());
        for at in
            [self.heard_at(), self.echoed(), self.rival_at(), self.blocked_at(), self.any_at(), self.other_boot_at()]
        {
            c.maybe(at);
        }
    }
}
