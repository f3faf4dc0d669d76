//! What comes in: heartbeats with their grants and votes, the drivers' reports, the panic text.

use super::peer::Received;
use super::planted::Fault;
use super::settings::{self, FIRST_REFLECTED};
use super::{Holder, Node, Note, PANIC_AGE, PanicSeen, Promise, VoteIn};
use crate::time::{Duration, Instant};
use crate::wire::heartbeat::{Heartbeat, Reject};
use crate::wire::pair::{Data, Role, Term};

impl Node {
    pub(super) fn heartbeat(&mut self, now: Instant, path: u8, f: &Heartbeat) {
        let received = self.peer.receive(&self.s, now, path, f);
        if path >= FIRST_REFLECTED && self.peer.paths.get(usize::from(path)).is_some_and(|p| p.heard_at == Some(now)) {
            // Whether a frame is the newest of its path decides that the witness carried it; what it says may be older than
            // what a faster path has brought since it was sent.
            self.rounds.reflected(now, path - FIRST_REFLECTED);
        }
        let applied = matches!(received, Received::Applied { .. });
        // Of a life that is not known a frame counts that is newer than those before.
        let unknown = matches!(received, Received::Rejected(Reject::UnknownBoot)) && self.peer.any_at() == Some(now);
        let heard_now = applied || unknown;
        if heard_now && !self.s.planted.has(Fault::FarewellForgotten) {
            // The peer is back: what it can promise from here on it promises anew.
            self.farewell_until = self.farewell_until.min(now + self.s.lease);
        }
        // The operator spoke of a silent peer.
        self.force_wanted &= !heard_now;
        if !applied {
            if heard_now && self.peer.rival_at() == Some(now) && !self.s.planted.has(Fault::ForcedForEver) {
                // A life of the peer that could serve, and has not heard us yet: we may have been stopped while it came up.
                self.forced = false;
            }
            return;
        }
        if received == (Received::Applied { new_boot: true }) {
            self.vote_in = None;
            self.vote_out = None;
            self.panic = None;
            // The former life is dead: what was promised to it binds no more, what was promised to this one does. That may be
            // among what was promised to others than the one that said hello last.
            let hello = self.promise_hello.take();
            let to_this_one = |p: Promise| if p.to == f.boot { p.until } else { p.others };
            self.promise = hello.map_or(Instant::BOOT, to_this_one);
            self.promise_hello = hello.filter(|p| p.to != f.boot).map(|p| Promise { others: Instant::BOOT, ..p });
            self.note(Note::PeerBoot);
        }
        self.met = true;
        let alike = f.digest == self.s.digest;
        self.rounds.compare_configuration(alike);
        if !self.s.planted.has(Fault::ForcedForEver) {
            self.forced = false;
        }
        self.panic = None;
        self.note_holder(now, f.role);
        self.take_grant(now, f);
        self.want.newest = if f.role == Role::Active && !self.serving() {
            // What is served is what counts: a newer lineage of ours is set aside when we become a copy.
            f.data.generation
        } else if self.role == Role::Active {
            self.want.newest
        } else {
            self.want.newest.max(f.data.generation)
        };
        if self.peer.in_touch(&self.s, now) {
            self.rounds.compare(&self.s, now, f.reached, f.heard);
            self.want.proven = self.rounds.proven();
            self.want.proven_digest = if alike { self.s.digest } else { !self.s.digest };
            self.want.farewell &= self.leaving;
        }
    }

    /// The outage of a hand-over begins when the peer begins to give the service up, not when it has.
    fn note_holder(&mut self, now: Instant, role: Role) {
        let yields = role == Role::Yielding;
        if role == Role::Active || (yields && !self.holder.is_some_and(|holder| holder.yields)) {
            self.holder = Some(Holder { at: now, yields });
        }
    }

    /// Lease, vote and farewell of an applied frame.
    pub(super) fn take_grant(&mut self, now: Instant, f: &Heartbeat) {
        let passive = f.role.is_passive()
            || (self.s.planted.has(Fault::GrantsInYielding) && f.role == Role::Yielding)
            || (self.s.planted.has(Fault::GrantsInClaiming) && f.role == Role::Claiming);
        let echo = f.echo.filter(|e| e.boot == self.s.boot && passive);
        self.vote_in = None;
        if let (Some(vote), Some(echo), true) = (f.vote, f.echo, self.s.planted.has(Fault::VotesInAnyRole))
            && (vote.candidate, echo.boot) == (self.s.boot, self.s.boot)
        {
            self.vote_in = Some(VoteIn { term: vote.term, until: echo.sent_at + self.s.lease });
        }
        // A grant or a vote for what we said before our fence bound grew is one under the bound that is no more.
        let Some(echo) = echo.filter(|e| e.sent_at >= self.lease_floor) else { return };
        // A life that is over may have frames on their way when the next one has spoken: it has nothing to promise.
        let present = self.peer.other_boot_at().is_none_or(|other| echo.sent_at > other);
        let from = if self.s.planted.has(Fault::LeaseFromReceipt) { now } else { echo.sent_at };
        self.lease = self.lease.max(from + self.s.lease);
        if f.farewell && present && echo.sent_at + self.s.lease > now {
            self.farewell_until = Instant::NEVER;
        }
        if let Some(vote) = f.vote
            && vote.candidate == self.s.boot
        {
            self.vote_in = Some(VoteIn { term: vote.term, until: echo.sent_at + self.s.lease });
        }
    }

    pub(super) fn take_data(&mut self, now: Instant, data: Data, newest: Term) {
        if !self.s.planted.has(Fault::IgnoresCopies) {
            // The record may be another one than that of the box which wrote them: a new disk, a backup. A source whose term
            // is not above its copies' is none.
            self.burnt = self.burnt.max(newest);
        }
        self.copies_unread = false;
        self.stale_trees = data.stale_trees;
        // While the peer is silent nothing can get newer: what counts is how the copy stood at the last contact.
        let frozen = self.met && !self.peer.in_touch(&self.s, now) && self.role != Role::Active;
        if frozen {
            self.data.generation = data.generation;
        } else if self.serving() {
            self.data = Data { generation: self.data.generation, ..data };
        } else {
            self.data = data;
        }
        self.want.own = self.data.generation;
        self.want.newest = self.want.newest.max(self.data.generation);
    }

    pub(super) fn take_fence_bound(&mut self, now: Instant, bound: Option<Duration>) {
        let grows = match (self.fence_bound, bound) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(old), Some(new)) => new > old,
        };
        self.fence_bound = bound;
        if grows && !self.s.planted.has(Fault::FenceGrowthKeepsLease) {
            // The peer waits for the bound that it was told. What it promised under the smaller one is worth nothing now.
            self.lease = Instant::BOOT;
            self.lease_floor = now;
            self.farewell_until = Instant::BOOT;
            self.vote_in = None;
            self.rounds.forget(now);
            self.hurry(now);
            self.expire(now);
        }
    }

    pub(super) fn take_down(&mut self, order: u32) {
        if order == self.order && self.role != Role::Active {
            self.down = true;
        }
    }

    pub(super) fn take_panic_text(&mut self, now: Instant, began: Instant) {
        if !self.s.panic_text {
            return;
        }
        let line = &self.peer.paths[settings::NULL_MODEM as usize];
        let Some(heard) = line.heard_at else { return };
        let after_frame = |at: Option<Instant>| at.is_some_and(|at| at >= heard);
        let old = began.since(heard) > PANIC_AGE || began < heard;
        if (old || after_frame(self.late_at) || after_frame(self.peer.other_boot_at()))
            && !self.s.planted.has(Fault::PanicWithoutAge)
        {
            return;
        }
        self.panic = Some(PanicSeen { at: now });
    }

    /// The peer's kernel answers for the address as long as its right and its fence bound last, also when its daemon is dead.
    /// Only an answer to a probe that was sent after that shows that fencing failed.
    pub(super) fn take_conflict(&mut self, now: Instant) {
        if self.peer_panicked(now) || self.probed_at >= self.peer_fenced_at() {
            self.conflict_at = Some(now);
        }
    }

    pub(super) fn take_persisted(&mut self, now: Instant, ticket: u32, durable: bool) {
        let Some(writing) = self.writing else { return };
        if writing.ticket != ticket {
            return;
        }
        self.writing = None;
        self.wrote_at = now;
        self.disk_fails = !durable;
        if durable {
            self.disk = writing.record;
            return;
        }
        if let Some(claim) = &mut self.claim
            && claim.term.is_some_and(|term| term > self.disk.reserved)
        {
            // The term is burnt.
            claim.failed = true;
        }
    }
}
