//! What goes out: heartbeats when due, witness rounds, renewals, feeds; alarms and status.

use super::event::{Action, Note};
use super::planted::Fault;
use super::settings::FIRST_REFLECTED;
use super::status::{Alarm, Alarms, Blocker, Blockers, Hold, Status};
use super::{ClaimBy, Node, Promise, timing};
use crate::time::{Duration, Instant};
use crate::wire::heartbeat::{Echo, Heartbeat};
use crate::wire::pair::{BootId, Role};

/// For so long after the start, or two leases if that is longer, nothing that has not come yet is missed: the addresses have
/// to be found down, the peer to be heard, and a witness to answer four rounds.
const FAIR_CHANCE: Duration = Duration::from_secs(1);

impl Node {
    /// Rounds at full rate while joining, claiming, or as soon as a heartbeat is late in either direction.
    pub(super) fn update_rate(&mut self, now: Instant) {
        let late_after = self.late_after(now);
        let echoes_late = self.peer.echoed().is_none_or(|at| now.since(at) > late_after + self.s.lease / 4);
        let full = matches!(self.role, Role::Joining | Role::Claiming)
            || !self.peer.heard_within(now, late_after)
            || echoes_late;
        if full && !self.full_rate {
            self.rounds.hurry(&self.s, now);
        }
        self.full_rate = full;
    }

    pub(super) fn hurry(&mut self, now: Instant) {
        self.full_rate = true;
        self.rounds.hurry(&self.s, now);
    }

    /// A heartbeat is late after one and a half intervals of the fastest direct path that can carry a lease and by which the
    /// peer was heard lately; of the slowest one, where it is heard by none.
    fn late_after(&self, now: Instant) -> Duration {
        let carry = |&(_, d): &(usize, Duration)| d <= self.s.lease / 3;
        let direct = || self.s.intervals.iter().enumerate().filter_map(|(i, d)| d.map(|d| (i, d))).filter(carry);
        let lively =
            |&(i, _): &(usize, Duration)| self.peer.paths[i].heard_at.is_some_and(|at| now.since(at) <= self.s.lease);
        let fastest = direct().filter(lively).map(|(_, d)| d).min();
        fastest.or(direct().map(|(_, d)| d).max()).unwrap_or(self.s.round_idle) * 3 / 2
    }

    /// When the peer's next heartbeat is late: the witnesses are then asked at full rate, and a claim may follow.
    pub(super) fn late_heartbeat_at(&self) -> Instant {
        self.peer.heard_at().map_or(Instant::NEVER, |at| at + self.late_after(self.last_turn))
    }

    pub(super) fn renew_and_feed(&mut self, now: Instant) {
        if self.serving()
            && !self.fenced
            && let Some(until) = self.right_until_capped(now)
            && until != self.renewed
        {
            self.renewed = until;
            self.push(Action::Renew { until });
        }
        let in_order = (self.down && self.role != Role::Active)
            || self.right(now).is_some()
            || (self.s.planted.has(Fault::FeedsInYielding) && self.role == Role::Yielding);
        if in_order && now >= self.next_feed {
            self.next_feed = now + self.s.feed;
            self.push(Action::Feed);
        } else if now >= self.next_feed {
            // Not fed: look again soon, the addresses may come down any moment.
            self.next_feed = now + self.s.lease / 8;
        }
        self.probe(now);
    }

    /// Asks on the LAN who has the service addresses: during a claim in silence, above all when the peer is fenced by its own
    /// word and the margin is still to come; and while it answered, so that the alarm lasts as long as its reason.
    fn probe(&mut self, now: Instant) {
        let claiming = self.claim.is_some_and(|claim| claim.by == ClaimBy::Silence);
        let unfenced = self.role.is_passive() && self.conflict(now) && self.unrivalled(now);
        let fenced_at = self.peer_fenced_at();
        let due = now.since(self.probed_at) >= self.s.lease / 2 || (self.probed_at < fenced_at && fenced_at <= now);
        if due && (claiming || unfenced) {
            self.probed_at = now;
            self.push(Action::Probe);
        }
    }

    /// A box that was away for longer than its right may find that the peer has taken over. What it would say at once answers
    /// nothing that the peer has said since, as the words of one that does not hear do, and would cost the peer its quorum right.
    /// So it says nothing before it has heard the peer anew, for half a lease at most. What it finds in its sockets when it
    /// wakes up is from before. To others it was away until then, and so its clocks start again.
    fn is_mute(&mut self, now: Instant) -> bool {
        let Some(since) = self.mute_since else { return false };
        let heard = self.peer.heard_at().is_some_and(|at| at >= since + timing::answer_limit(self.s.lease));
        if heard || now >= timing::mute_until(since, self.s.lease) {
            self.mute_since = None;
            self.restart_clocks(now);
        }
        self.mute_since.is_some()
    }

    /// Sends what is due. Until the addresses are known to be down, nothing: a frame with our boot id says that whatever
    /// ran here before is gone.
    pub(super) fn speak(&mut self, now: Instant) {
        if !self.down && self.role == Role::Joining && !self.s.planted.has(Fault::SpeaksBeforeDown) {
            return;
        }
        if self.is_mute(now) {
            return;
        }
        for path in 0..FIRST_REFLECTED {
            let i = path as usize;
            let Some(interval) = self.s.intervals[i] else { continue };
            if now >= self.next_send[i] {
                self.next_send[i] = now + interval;
                self.send(now, path);
            }
        }
        if self.s.witnesses > 0 && now >= self.rounds.next_at() {
            let round = self.rounds.start(&self.s, now, self.full_rate);
            for witness in 0..self.s.witnesses {
                self.push(Action::Ping { witness, round });
                self.send(now, FIRST_REFLECTED + witness);
            }
        }
    }

    fn send(&mut self, now: Instant, path: u8) {
        let i = path as usize;
        self.turns[i] = !self.turns[i];
        let echoed = self.peer.to_echo(&self.s, now, self.turns[i]);
        let grants = self.role.is_passive()
            || (self.s.planted.has(Fault::GrantsInYielding) && self.role == Role::Yielding)
            || (self.s.planted.has(Fault::GrantsInClaiming) && self.role == Role::Claiming);
        if grants && let Some(e) = echoed {
            self.promise_until(e.boot, timing::after(e.received, self.s.claim_wait(e.lease, e.fence)));
        }
        self.sequences[i] += 1;
        self.content += 1;
        let heartbeat = Heartbeat {
            node: self.s.node,
            boot: self.s.boot,
            path,
            path_sequence: self.sequences[i],
            content_sequence: self.content,
            sent_at: now,
            role: self.role,
            quorum: self.rounds.quorum(&self.s, now),
            intent: self.has_intent(now),
            eligible: self.eligible(),
            farewell: self.says_farewell(),
            lease: self.s.lease,
            fence: self.fence_bound,
            interval: self.s.fastest(),
            served: self.want.served,
            top: self.told_top(),
            vote: self.vote_out,
            echo: echoed.map(|e| Echo { boot: e.boot, sent_at: e.sent_at }),
            reached: self.rounds.reached(&self.s, now),
            heard: self.rounds.heard(&self.s, now),
            score: self.score(now),
            data: self.told_data(),
            digest: self.s.digest,
        };
        self.push(Action::Send(heartbeat));
    }

    /// Promises the life `to` not to claim in silence before `until`. What it says last of its bounds holds for all that it
    /// was granted: its rights end no later than those of its newest frame.
    fn promise_until(&mut self, to: BootId, until: Instant) {
        if self.peer.boot() == Some(to) {
            self.promise = until;
            return;
        }
        let others =
            self.promise_hello.map_or(Instant::BOOT, |p| if p.to == to { p.others } else { p.others.max(p.until) });
        self.promise_hello = Some(Promise { to, until, others });
    }

    /// We would serve if we were voted for.
    fn eligible(&self) -> bool {
        matches!(self.role, Role::Joining | Role::Standby | Role::Claiming)
            && self.down
            && !self.copies_unread
            && self.holds.is_empty()
            && self.services_healthy
    }

    pub(super) fn update_alarms(&mut self, now: Instant) {
        let mut alarms = Alarms::NONE;
        let peer = self.peer.last();
        // What was not heard yet is missed when it had a fair chance.
        let fair = now.since(self.booted) >= FAIR_CHANCE.max(self.s.lease * 2);
        alarms.set(Alarm::PeerSilent, fair && !self.peer.heard_within(now, self.s.lease));
        alarms.set(Alarm::ConfigDiffers, peer.is_some_and(|f| f.digest != self.s.digest));
        alarms.set(Alarm::TimingsBreak, !self.timings_fit());
        alarms.set(Alarm::Unfenced, self.fence_bound.is_none());
        alarms.set(Alarm::PeerUnfenced, peer.is_some_and(|f| f.fence.is_none()));
        alarms.set(Alarm::NoQuorum, fair && self.rounds.unanswered(&self.s, now));
        alarms.set(Alarm::Unproven, fair && self.rounds.unproven(&self.s));
        alarms.set(Alarm::FencingFailed, self.conflict(now));
        alarms.set(Alarm::ServesStale, self.role == Role::Active && !self.data_current());
        alarms.set(Alarm::Forced, self.role == Role::Active && self.forced);
        alarms.set(Alarm::TwoActive, self.two_active);
        alarms.set(Alarm::NotDown, fair && !self.down && !self.serving());
        alarms.set(Alarm::Disk, !self.disk_works(now));
        alarms.set(Alarm::Memory, self.memory_damaged);
        alarms.set(Alarm::Strikes, self.holds.has(Hold::Strikes));
        alarms.set(Alarm::Service, !self.services_healthy);
        alarms.set(Alarm::Carrier, self.holds.has(Hold::Carrier));
        alarms.set(Alarm::PeerPanicked, self.panic.is_some());
        for &alarm in Alarm::ALL {
            match (self.alarms.has(alarm), alarms.has(alarm)) {
                (false, true) => self.note(Note::Raised(alarm)),
                (true, false) => self.note(Note::Cleared(alarm)),
                _ => {}
            }
        }
        self.alarms = alarms;
    }

    fn blockers(&self, now: Instant) -> Blockers {
        let mut blockers = Blockers::NONE;
        blockers.set(Blocker::PeerServes, self.peer.rival_at().is_some_and(|at| at + self.s.lease >= now));
        blockers.set(Blocker::NoWitness, self.s.witnesses == 0);
        blockers.set(Blocker::NoQuorum, self.rounds.unanswered(&self.s, now));
        blockers.set(Blocker::Unproven, self.rounds.unproven(&self.s));
        blockers.set(Blocker::PeerUnfenced, self.claim_wait().is_none());
        blockers.set(Blocker::Timings, !self.timings_fit());
        blockers.set(Blocker::Held, !self.holds.is_empty());
        blockers.set(Blocker::Conflict, self.conflict(now));
        blockers.set(Blocker::BootWait, now < self.boot_wait_ends());
        blockers.set(Blocker::Burnt, now < self.no_claim_until);
        blockers.set(Blocker::CopiesUnread, self.copies_unread);
        blockers
    }

    /// The state of the node, copied out.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let peer = self.peer.last();
        Status {
            role: self.role,
            since: self.since,
            why: self.why,
            served: self.want.served,
            top: self.top(),
            right: self.right(now),
            fence: self.fence_bound,
            holds: self.holds,
            hold_is_durable: self.disk.held == self.want.held && !self.hold_after_yield,
            blockers: self.blockers(now),
            alarms: self.alarms,
            peer_boot: self.peer.boot(),
            peer_role: peer.map(|f| f.role),
            peer_quorum: peer.map(|f| f.quorum),
            peer_heard_at: self.peer.heard_at(),
            in_touch: self.peer.in_touch(&self.s, now),
            peer_eligible: self.peer_eligible(now),
            peer_blocked: self.peer_blocked(now),
            config_matches: peer.is_none_or(|f| f.digest == self.s.digest),
            peer_fence: peer.map(|f| f.fence),
            claim_wait: self.claim_wait(),
            score: self.score(now),
            data: self.data,
            data_current: self.data_current(),
            reached: self.rounds.reached(&self.s, now),
            heard: self.rounds.heard(&self.s, now),
            proven: self.rounds.proven(),
            quorum: self.rounds.quorum(&self.s, now),
            handover: self.handover,
        }
    }
}
