//! From all that is known to the small [`View`] that the table decides on.

use super::decision::{Fact, View};
use super::planted::Fault;
use super::{Claim, ClaimBy, Node};
use crate::time::Instant;
use crate::wire::pair::{Role, Term};

impl Node {
    pub(super) fn view(&self, now: Instant) -> View {
        let forced_claim = self.claim.is_some_and(|c| c.by == ClaimBy::Force);
        let view = View::new(self.role)
            .with(Fact::Right, self.right(now).is_some() || forced_claim)
            .with(Fact::Down, self.down)
            .with(Fact::Hold, !self.holds.is_empty() && !forced_claim)
            .with(Fact::Surrender, self.surrender.is_some())
            .with(Fact::Outranked, self.outranked(now))
            .with(Fact::Fenced, self.fenced)
            .with(Fact::Overdue, now >= self.overdue_at);
        if self.serving() {
            return view;
        }
        let view = view
            .with(Fact::Vote, self.usable_vote(now).is_some() && self.may_claim())
            .with(Fact::Silent, self.role == Role::Standby && self.may_claim() && self.silent(now))
            .with(Fact::Joined, self.peer.in_touch(&self.s, now) || now.since(self.booted) >= self.s.lease * 2)
            .with(Fact::Force, self.force_wanted);
        let Some(claim) = self.claim else { return view };
        let written = claim.term.is_some_and(|v| self.durable() >= v) || self.served_unpersisted(&claim);
        view.with(Fact::Writing, claim.term.is_some() && !written)
            .with(Fact::Written, written)
            .with(Fact::Broken, self.claim_broken(now, &claim))
            .with(Fact::Ready, self.claim_ready(now, &claim))
    }

    /// Highest term that is on disk for us to serve.
    fn durable(&self) -> Term {
        if self.s.planted.has(Fault::OrderedIsDurable) { self.want.reserved } else { self.disk.reserved }
    }

    fn served_unpersisted(&self, claim: &Claim) -> bool {
        self.s.planted.has(Fault::NotPersisted) && claim.term.is_some()
    }

    /// Which terms are used is known, and no write would have to be waited for.
    fn may_claim(&self) -> bool {
        !self.copies_unread && self.writing_of_claim_over()
    }

    /// No write is under way that a claim would have to wait for: one that brings terms, when none is left.
    fn writing_of_claim_over(&self) -> bool {
        self.writing.is_none_or(|w| w.record.reserved <= self.disk.reserved) || self.reserved_ahead()
    }

    fn claim_broken(&self, now: Instant, claim: &Claim) -> bool {
        let unwritten = claim.term.is_some_and(|term| term > self.disk.reserved);
        if claim.failed || (unwritten && self.write_stalls(now)) {
            return true;
        }
        if claim.term.is_some() && self.s.planted.has(Fault::NoRecheck) {
            return false;
        }
        match claim.by {
            ClaimBy::Silence => self.silence_broken(now, claim.began),
            ClaimBy::Vote => {
                claim.term.is_some_and(|v| self.vote_in.is_none_or(|vote| vote.term != v))
                    || self.usable_vote(now).is_none()
            }
            ClaimBy::Force => self.peer.any_at().is_some_and(|at| at >= claim.began),
        }
    }

    fn claim_ready(&self, now: Instant, claim: &Claim) -> bool {
        if claim.term.is_some() && self.s.planted.has(Fault::NoRecheck) {
            return true;
        }
        let may = claim.term.is_none_or(|v| self.may_serve(v));
        may && match claim.by {
            ClaimBy::Silence => self.data_serveable() && self.silence_lasted(now),
            ClaimBy::Vote | ClaimBy::Force => true,
        }
    }

    /// Two Active nodes hear each other: the lower (term, node) goes.
    fn outranked(&self, now: Instant) -> bool {
        let Some(f) = self.peer.last() else { return false };
        self.role == Role::Active
            && f.role == Role::Active
            && self.peer.heard_within(now, self.s.lease)
            && (f.served, f.node) > (self.want.served, self.s.node)
    }
}
