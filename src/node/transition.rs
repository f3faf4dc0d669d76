//! Carrying out a decision. [`Node::become_role`] is the one place where the role changes.

use super::decision::Decision;
use super::event::{Action, Note};
use super::planted::Fault;
use super::record::next_term;
use super::settings::LAN;
use super::status::{Handover, Hold};
use super::{Claim, ClaimBy, FENCE_TIMEOUT, INTENT_LEASES, Node, STRIKES, STRIKES_FORGOTTEN, WRITE_PAUSE, Writing};
use crate::time::{Duration, Instant};
use crate::wire::heartbeat::Vote;
use crate::wire::pair::{Role, Term};

/// The LAN in [`Input::Carriers`](super::Input).
const LAN_BIT: u8 = 1 << LAN;

impl Node {
    pub(super) fn carry_out(&mut self, now: Instant, decision: Decision, why: &'static str) {
        match decision {
            Decision::Stay => {}
            Decision::Hold => self.become_role(now, Role::Held, why),
            Decision::StandBy => self.stand_by(now, why),
            Decision::ClaimByVote => {
                let term = self.usable_vote(now);
                self.claim(now, ClaimBy::Vote, why);
                self.reserve(now, term);
            }
            Decision::ClaimInSilence => self.claim(now, ClaimBy::Silence, why),
            Decision::ClaimByForce => {
                self.force_wanted = false;
                self.claim(now, ClaimBy::Force, why);
                let term = next_term(self.s.node, self.claim_floor().saturating_add(1));
                self.reserve(now, Some(term));
            }
            Decision::Reserve => {
                let term = next_term(self.s.node, self.claim_floor());
                self.reserve(now, Some(term));
            }
            Decision::Abort => self.abort(now, why),
            Decision::Serve => self.serve(now),
            Decision::Yield => {
                self.begin_yield(now, why);
                self.order += 1;
                self.push(Action::Yield { order: self.order });
            }
            Decision::Fence => self.begin_fence(now, why),
            Decision::Reset => {
                self.push(Action::Reset);
                // Said once more, should the reset not come.
                self.overdue_at = now + FENCE_TIMEOUT;
            }
        }
    }

    fn become_role(&mut self, now: Instant, role: Role, why: &'static str) {
        self.note(Note::Role { from: self.role, to: role, why, term: self.top() });
        self.role = role;
        self.since = now;
        self.why = why;
        // Whoever hears us should know at once: a vote, a grant or a surrender waits for it.
        self.next_send.fill(now);
    }

    fn claim(&mut self, now: Instant, by: ClaimBy, why: &'static str) {
        self.claim = Some(Claim { by, why, began: now, term: None, reserved_at: now, failed: false });
        self.become_role(now, Role::Claiming, why);
    }

    pub(super) fn claim_floor(&self) -> Term {
        self.top().max(self.peer.last().map_or(0, |f| f.top))
    }

    fn reserve(&mut self, now: Instant, term: Option<Term>) {
        let parityless = self.claim_floor().saturating_add(1);
        let term = term.map(|t| if self.s.planted.has(Fault::NoParity) { parityless } else { t });
        let Some(claim) = &mut self.claim else { return };
        claim.term = term;
        claim.reserved_at = now;
        claim.failed = term.is_none();
        self.claimed = self.claimed.max(term.unwrap_or(0));
        self.want.reserved = self.want.reserved.max(self.claimed);
    }

    /// Reserves terms before they are needed. Every term served is on disk before, as one of those reserved: after a reboot
    /// all of them count as used.
    fn reserve_ahead(&mut self) {
        let (floor, ahead) = (self.claim_floor(), Term::from(self.s.terms_ahead));
        // A damaged record stays until the operator has seen it.
        let wanted = ahead > 0 && !self.memory_damaged && !self.s.planted.has(Fault::NotPersisted);
        if wanted && self.disk.reserved < floor.saturating_add(ahead / 2) {
            self.want.reserved = self.want.reserved.max(floor.saturating_add(ahead));
        }
    }

    fn abort(&mut self, now: Instant, why: &'static str) {
        if let Some(term) = self.claim.take().and_then(|c| c.term) {
            self.burnt = self.burnt.max(term);
            self.no_claim_until = now + self.s.lease;
        }
        self.become_role(now, Role::Standby, why);
    }

    fn serve(&mut self, now: Instant) {
        let claim = self.claim.take().expect("only a claim leads to serving");
        let term = claim.term.expect("a claim serves the term that it reserved");
        assert!(self.may_serve(term) || self.s.planted != super::planted::Planted::NONE);
        self.handover = self.handover_by(now, &claim);
        if claim.by == ClaimBy::Vote && self.peer.last().is_some_and(|f| f.intent) {
            self.arbitrate_after = now + self.s.settle + self.s.hold_down;
        }
        self.bear_services(now);
        self.forced = claim.by == ClaimBy::Force;
        self.want.served = term;
        self.data.generation = self.lineage();
        self.data.stale_trees = 0;
        self.stale_trees = 0;
        self.data.lag_s = 0;
        self.want.own = self.data.generation;
        self.want.newest = self.data.generation;
        self.vote_in = None;
        self.vote_out = None;
        self.panic = None;
        self.intent_until = Instant::BOOT;
        self.outscored_since = None;
        self.preferred_since = None;
        self.down = false;
        self.fenced = false;
        self.order += 1;
        self.become_role(now, Role::Active, claim.why);
        let until = self.right_until_capped(now).unwrap_or(now);
        self.renewed = until;
        self.push(Action::Activate { term, until });
    }

    /// The peer comes with data of a higher term than the one that is served: it has served alone, and this box has since or before.
    /// What is served counts, and no mirror takes it under the lower term: it is served on under a higher one. Nobody's right
    /// rests on that.
    pub(super) fn outnumber(&mut self, now: Instant) {
        let in_touch = self.role == Role::Active && self.s.mirrored && self.peer.in_touch(&self.s, now);
        let peer = self.peer.last().filter(|_| in_touch && !self.memory_damaged);
        let Some(known) = peer.map(|f| f.served.max(f.data.generation.term)).filter(|&known| known > self.want.served)
        else {
            return;
        };
        let term = next_term(self.s.node, self.claim_floor().max(known));
        if self.disk.reserved < term {
            self.want.reserved = self.want.reserved.max(term);
            return;
        }
        self.claimed = self.claimed.max(term);
        self.want.served = term;
        self.data.generation = self.lineage();
        self.want.own = self.data.generation;
        self.want.newest = self.data.generation;
        self.push(Action::Lineage(self.data.generation));
    }

    /// How the service came from the peer to us. `None` when nobody had it before, as at the first start, or we had.
    fn handover_by(&mut self, now: Instant, claim: &Claim) -> Option<Handover> {
        let holder = self.holder.take();
        // Who boots beside a dead peer never heard it serve, but knows whose data are the newest.
        let succeeds = claim.by != ClaimBy::Vote && self.want.newest.term > self.want.served;
        if holder.is_none() && !succeeds {
            return None;
        }
        let planned = claim.by == ClaimBy::Vote && self.peer.last().is_some_and(|f| f.intent);
        let last_sign = holder.filter(|_| claim.by == ClaimBy::Vote).map(|holder| holder.at).or(self.peer.heard_at());
        let took = last_sign.map_or(Duration::ZERO, |at| claim.began.since(at));
        Some(Handover {
            at: now,
            planned,
            why: claim.why,
            surrender: if planned { took } else { Duration::ZERO },
            detect: if planned { Duration::ZERO } else { took },
            wait: claim.reserved_at.since(claim.began),
            persist: now.since(claim.reserved_at),
        })
    }

    fn begin_yield(&mut self, now: Instant, why: &'static str) {
        self.overdue_at = now + self.s.stop_timeout;
        self.fenced = false;
        self.down = false;
        self.become_role(now, Role::Yielding, why);
    }

    fn begin_fence(&mut self, now: Instant, why: &'static str) {
        if self.role == Role::Claiming {
            self.abort(now, why);
        }
        if self.role == Role::Active {
            let over = self.right(now).is_none();
            self.two_active |= !over;
            if over {
                self.strike(now);
            }
        }
        self.begin_yield(now, why);
        self.overdue_at = now + FENCE_TIMEOUT.max(self.s.lease);
        self.fenced = true;
        self.forced = false;
        self.order += 1;
        self.push(Action::Fence { order: self.order });
    }

    fn strike(&mut self, now: Instant) {
        self.want.strikes = self.want.strikes.saturating_add(1);
        self.strike_at = now;
    }

    fn stand_by(&mut self, now: Instant, why: &'static str) {
        if self.role == Role::Yielding {
            if self.surrender.take().is_some() {
                self.intent_until = now + self.s.lease * INTENT_LEASES;
                self.arbitrate_after = now + self.s.settle + self.s.hold_down;
            }
            self.want.held |= self.hold_after_yield;
            self.hold_after_yield = false;
            self.fenced = false;
            self.forced = false;
            self.overdue_at = Instant::NEVER;
        }
        self.become_role(now, Role::Standby, why);
    }

    /// Right's end as drivers get it: never further away than a lease, so that what is open for ever closes by itself when
    /// nobody renews it.
    pub(super) fn right_until_capped(&self, now: Instant) -> Option<Instant> {
        self.right(now).map(|r| r.until.min(now + self.s.lease))
    }

    /// After a surrender the node is no candidate for a while, unless the peer cannot take over after all.
    pub(super) fn update_intent(&mut self, now: Instant) {
        let peer_could = self.peer.last().is_some_and(|f| {
            self.peer.heard_within(now, self.s.lease) && (!f.role.is_passive() || (f.eligible && f.role != Role::Held))
        });
        if !peer_could && self.role.is_passive() {
            self.intent_until = Instant::BOOT;
        }
    }

    pub(super) fn has_intent(&self, now: Instant) -> bool {
        now < self.intent_until
    }

    /// A vote stands as long as its reasons do. It is cast only when nothing of ours can answer for the addresses.
    pub(super) fn cast_vote(&mut self, now: Instant) {
        let planted = &self.s.planted;
        let passive = self.role.is_passive()
            || (planted.has(Fault::GrantsInYielding) && self.role == Role::Yielding)
            || planted.has(Fault::VotesInAnyRole);
        let down = self.down || planted.has(Fault::VotesBeforeDown) || planted.has(Fault::GrantsInYielding);
        let candidate = self.peer.last().filter(|_| passive && down && self.peer_eligible(now)).copied();
        // Whose data are newer is not known before our own have been read; a mirror that cannot read them is not waited for.
        let unread = self.copies_unread && now.since(self.booted) < self.s.boot_wait;
        let Some(f) = candidate.filter(|f| {
            self.role == Role::Held
                || self.has_intent(now)
                || (self.peer_is_better(f) && !unread)
                || planted.has(Fault::VotesInAnyRole)
        }) else {
            self.vote_out = None;
            return;
        };
        // A term that the candidate has reserved, voted or served meanwhile is outrun: only a new one can be used.
        let vote = match self.vote_out {
            Some(v) if v.candidate == f.boot && v.term > f.top => v,
            _ => Vote { term: next_term(f.node, self.top().max(f.top)), candidate: f.boot },
        };
        if self.vote_out != Some(vote) {
            self.next_send.fill(now);
        }
        self.vote_out = Some(vote);
        if !planted.has(Fault::NoVoteFloor) {
            self.floor = self.floor.max(vote.term);
            self.want.voted = self.want.voted.max(vote.term);
        }
    }

    /// Bit N: path N has a carrier.
    pub(super) fn take_carriers(&mut self, bits: u8) {
        self.carriers = bits;
        self.carrier_seen |= bits & LAN_BIT != 0;
    }

    /// Reasons to be held, looked at once a turn and after every transition.
    pub(super) fn update_holds(&mut self, now: Instant) {
        let no_carrier = self.s.intervals[super::settings::LAN as usize].is_some() && self.carriers & LAN_BIT == 0;
        if no_carrier && self.carrier_seen {
            self.carrier_failed_at = Some(now);
        }
        if !self.services_healthy {
            self.service_failed_at = Some(now);
        }
        let within = |at: Option<Instant>| at.is_some_and(|at| at == now || at + self.s.hold_down > now);
        let (service, carrier) = (within(self.service_failed_at), no_carrier || within(self.carrier_failed_at));
        self.holds.set(Hold::Service, service);
        self.holds.set(Hold::Carrier, carrier);
        self.holds.set(Hold::Operator, self.want.held);
        self.holds.set(Hold::StaleData, !self.data_serveable());
        self.holds.set(Hold::Farewell, self.want.farewell && !self.s.planted.has(Fault::FarewellForgotten));
        self.holds.set(Hold::Strikes, self.want.strikes >= STRIKES);
        self.holds.set(Hold::Disk, !self.disk_works(now));
        self.holds.set(Hold::Memory, self.memory_damaged);
        self.holds.set(Hold::Leaving, self.leaving);
        if self.s.planted.has(Fault::HeldWithoutQuorum) && self.s.witnesses > 0 {
            self.holds.set(Hold::Memory, self.memory_damaged || !self.rounds.quorum(&self.s, now));
        }
    }

    /// Marks that follow from where we stand.
    pub(super) fn update_memory(&mut self, now: Instant) {
        self.reserve_ahead();
        if now.since(self.strike_at) >= STRIKES_FORGOTTEN && self.want.strikes < STRIKES {
            self.want.strikes = 0;
        }
    }

    /// Writes the record if it differs from what is on disk: at once what something waits for, the rest now and then.
    pub(super) fn flush(&mut self, now: Instant) {
        // A vote's floor rides along; it need not survive by itself.
        let same = super::Record { voted: self.want.voted, ..self.disk } == self.want;
        // A write that failed is tried again even if its reason has gone: the disk has to show that it works.
        if self.writing.is_some() || (same && !self.disk_fails) {
            return;
        }
        let urgent = self.claimed > self.disk.reserved
            || self.want.farewell != self.disk.farewell
            || self.want.held != self.disk.held;
        let rested = now.since(self.wrote_at) >= WRITE_PAUSE || self.wrote_at == Instant::BOOT;
        if rested || (urgent && !self.disk_fails) {
            let ticket = self.next_ticket;
            self.next_ticket = self.next_ticket.wrapping_add(1);
            self.writing = Some(Writing { ticket, began: now, record: self.want });
            self.push(Action::Persist { ticket, record: self.want });
        }
    }

    /// Leaving in order: surrendered, then the mark on disk, then the farewell said and heard, then gone.
    pub(super) fn farewell(&mut self, now: Instant) {
        if !self.leaving || self.left || self.role != Role::Held {
            return;
        }
        if self.farewell_said_at.is_none() && self.leave_at == Instant::NEVER {
            // Only a peer that hears us may be granted without limit; without one there is nothing to promise.
            self.want.farewell |= self.peer.in_touch(&self.s, now);
            self.leave_at = now + (self.s.lease * INTENT_LEASES).max(Duration::from_secs(1));
        }
        if self.want.farewell && self.disk.farewell && self.farewell_said_at.is_none() {
            self.farewell_said_at = Some(now);
            self.next_send.fill(now);
        }
        let heard = self.farewell_said_at.is_some_and(|said| self.peer.echoed().is_some_and(|at| at >= said));
        let nobody = !self.want.farewell;
        if heard || nobody || now >= self.leave_at {
            self.left = true;
            self.leave_at = Instant::NEVER;
            self.push(Action::Leave);
        }
    }

    /// The farewell has been written: heartbeats may say it.
    pub(super) fn says_farewell(&self) -> bool {
        self.farewell_said_at.is_some()
    }
}
