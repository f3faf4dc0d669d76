//! Facts derived from what is known: right, votes that may be used, who is eligible, whether the data may be served.

use super::planted::Fault;
use super::record::{is_source, next_term};
use super::settings::StaleData;
use super::status::{PeerBlocked, RightKind, RightNow};
use super::{Node, WRITE_STALLS, timing};
use crate::time::{Duration, Instant};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::pair::{Data, Role, Side, Term};

/// The panic text proves the peer dead for so long (or two leases, if longer): enough for the silence and the write of a
/// claim, less than it takes to boot and to wait for a claim. Kept for longer it would speak of a life before the present.
const PANIC_PROOF: Duration = Duration::from_secs(1);

impl Node {
    /// What permits serving at `now`, the longest-lasting kind.
    pub(super) fn right(&self, now: Instant) -> Option<RightNow> {
        let blocked = !self.s.planted.has(Fault::NeverBlocked)
            && self.peer.blocked_at().is_some_and(|at| at + self.s.lease > now);
        let quorum = if blocked { Instant::BOOT } else { self.rounds.right_until() };
        let forced = if self.forced { Instant::NEVER } else { Instant::BOOT };
        [
            (RightKind::Lease, self.lease),
            (RightKind::Quorum, quorum),
            (RightKind::Farewell, self.farewell_until),
            (RightKind::Forced, forced),
        ]
        .into_iter()
        .max_by_key(|&(_, until)| until)
        .filter(|&(_, until)| until > now)
        .map(|(kind, until)| RightNow { kind, until })
    }

    /// Highest term known: ours and the peer's.
    #[must_use]
    pub fn known_term(&self) -> Term {
        let peer = self.peer.last().map_or(0, |f| f.served);
        self.want.served.max(peer)
    }

    /// Highest term that we served, claimed or voted. What is reserved beyond that on disk is not used yet.
    pub(super) fn top(&self) -> Term {
        self.want.served.max(self.claimed).max(self.want.voted).max(self.floor).max(self.burnt)
    }

    /// The same, as it is told to the peer: without the term of a claim under way, so that the vote for it stands.
    pub(super) fn told_top(&self) -> Term {
        if self.s.planted.has(Fault::TopIsServed) {
            return self.want.served;
        }
        self.want.served.max(self.floor).max(self.burnt)
    }

    /// The next claim finds its term on disk already.
    pub(super) fn reserved_ahead(&self) -> bool {
        self.disk.reserved >= next_term(self.s.node, self.claim_floor())
    }

    /// The last write came back and was durable, and the one under way may still be.
    pub(super) fn disk_works(&self, now: Instant) -> bool {
        !self.disk_fails && !self.write_stalls(now)
    }

    /// The write under way should have come back long ago. It still may.
    pub(super) fn write_stalls(&self, now: Instant) -> bool {
        !self.s.planted.has(Fault::WaitsForTheDisk) && self.writing.is_some_and(|w| now.since(w.began) >= WRITE_STALLS)
    }

    /// Whether we may serve `term` at all.
    pub(super) fn may_serve(&self, term: Term) -> bool {
        let above_floor = term > self.floor || self.s.planted.has(Fault::NoVoteFloor);
        let not_burnt = term > self.burnt || self.s.planted.has(Fault::NotBurnt);
        term > self.want.served && above_floor && not_burnt
    }

    /// The term of a vote that could be used now.
    pub(super) fn usable_vote(&self, now: Instant) -> Option<Term> {
        let vote = self.vote_in?;
        let standing = vote.until > now || self.s.planted.has(Fault::StaleVote);
        (standing && self.may_serve(vote.term) && now >= self.no_claim_until).then_some(vote.term)
    }

    /// The peer could take over by our vote, and would.
    pub(super) fn peer_eligible(&self, now: Instant) -> bool {
        self.peer_blocked(now).is_none()
    }

    /// Why the peer could not take over by our vote; `None` if it could.
    pub(super) fn peer_blocked(&self, now: Instant) -> Option<PeerBlocked> {
        let Some(f) = self.peer.last() else { return Some(PeerBlocked::NeverHeard) };
        if !self.peer.heard_within(now, self.s.lease / 2) {
            Some(PeerBlocked::NotHeard)
        } else if matches!(f.role, Role::Active | Role::Yielding) {
            Some(PeerBlocked::Serves)
        } else if f.role == Role::Held || !f.eligible {
            Some(PeerBlocked::NotReady)
        } else if f.intent {
            Some(PeerBlocked::JustSurrendered)
        } else {
            None
        }
    }

    /// Whether timings of the two boxes fit together. Heartbeats carry L and F, so different values are safe as long as
    /// each side's lease survives the other's heartbeat interval.
    pub(super) fn timings_fit(&self) -> bool {
        let Some(f) = self.peer.last() else { return true };
        self.s.lease >= f.interval * 3 && f.lease >= self.s.fastest() * 3
    }

    /// Our data are of the newest known lineage, and recent.
    pub(super) fn data_current(&self) -> bool {
        !self.s.mirrored
            || self.s.planted.has(Fault::StaleSource)
            || (self.own_stale_trees() == 0 && self.data.generation >= self.want.newest)
    }

    /// Trees of ours that may lack something of their lineage. Whoever wrote a lineage lacks nothing of it, however long nobody
    /// has taken a cut of it; and what is served is told as the mirror says.
    fn own_stale_trees(&self) -> u8 {
        if self.role == Role::Active { self.data.stale_trees } else { stale_trees(self.s.node, &self.data) }
    }

    /// Our data as the peer is told of them. It decides by that while it hears us, and knows what was written while it did not.
    pub(super) fn told_data(&self) -> Data {
        Data { stale_trees: self.stale_trees, ..self.data }
    }

    /// Our data may be served if need be.
    pub(super) fn data_serveable(&self) -> bool {
        self.data_current() || self.s.stale_data == StaleData::Serve
    }

    /// While we serve: the peer's data, as it told last, are those that we serve, and recent.
    pub(super) fn peer_data_current(&self, f: &Heartbeat) -> bool {
        !self.s.mirrored
            || self.s.planted.has(Fault::StaleSource)
            || (stale_trees(f.node, &f.data) == 0 && f.data.generation == self.want.newest)
    }

    /// C: how long a claim in silence waits after the last word of a rival.
    pub(super) fn claim_wait(&self) -> Option<Duration> {
        self.peer.claim_wait(&self.s)
    }

    /// The kernel's panic text has proven the peer dead: nothing was accepted since, for three heartbeats.
    pub(super) fn peer_panicked(&self, now: Instant) -> bool {
        let quiet = self.s.fastest() * 3;
        let valid = quiet + (self.s.lease * 2).max(PANIC_PROOF);
        self.panic.is_some_and(|p| now.since(p.at) >= quiet && now.since(p.at) <= valid)
    }

    /// No rival frame, nobody who grants or holds a right by us, quorum, data: a claim may begin.
    pub(super) fn silent(&self, now: Instant) -> bool {
        self.unrivalled(now)
            && self.rounds.quorum(&self.s, now)
            && self.data_serveable()
            && self.timings_fit()
            && now >= self.no_claim_until
            && !self.conflict(now)
    }

    pub(super) fn unrivalled(&self, now: Instant) -> bool {
        let rival_quiet = self.peer.rival_at().is_none_or(|at| at + self.s.lease < now);
        // A farewell is no reason to wait: whoever said it will not serve.
        rival_quiet && self.lease <= now
    }

    /// A conflict probe was answered with the peer's address within a claim wait.
    pub(super) fn conflict(&self, now: Instant) -> bool {
        let wait = self.claim_wait().unwrap_or(self.s.lease);
        self.conflict_at.is_some_and(|at| at + wait > now)
    }

    /// When the peer, by all that it told and was promised, is fenced: the waits of a claim, without their margin.
    pub(super) fn peer_fenced_at(&self) -> Instant {
        self.promised_until().max(self.peer.rival_until()) - self.s.margin
    }

    /// Our own last promise.
    fn promised_until(&self) -> Instant {
        self.promise.max(self.promise_hello.map_or(Instant::BOOT, |p| p.until.max(p.others)))
    }

    /// When every wait of a claim in silence will be over, as things stand now: a deadline, not a decision.
    pub(super) fn silence_until(&self) -> Instant {
        let unbroken = self.rounds.unbroken_since();
        let quorum = timing::after(unbroken, self.peer.quorum_wait(&self.s, unbroken));
        self.promised_until().max(self.peer.rival_until()).max(quorum).max(self.boot_wait_ends())
    }

    /// Every wait of a claim in silence is over.
    pub(super) fn silence_lasted(&self, now: Instant) -> bool {
        let planted = &self.s.planted;
        let proven_dead = self.peer_panicked(now);
        let promise = proven_dead || now >= self.promised_until() || planted.has(Fault::NoPromise);
        let rival = proven_dead || now >= self.peer.rival_until();
        let unbroken = self.rounds.unbroken_since();
        let quorum = proven_dead
            || now >= timing::after(unbroken, self.peer.quorum_wait(&self.s, unbroken))
            || planted.has(Fault::NoQuorumWait);
        promise && rival && quorum && now >= self.boot_wait_ends()
    }

    /// A node that has not met its peer since it booted gives it time to appear. Once met, the other waits say enough.
    pub(super) fn boot_wait_ends(&self) -> Instant {
        if self.met || self.s.planted.has(Fault::NoBootWait) { self.booted } else { self.booted + self.s.boot_wait }
    }

    /// Something rival or granting was heard since `began`: the silence is broken.
    pub(super) fn silence_broken(&self, now: Instant, began: Instant) -> bool {
        self.peer.rival_at().is_some_and(|at| at >= began)
            || self.lease > now
            || self.usable_vote(now).is_some()
            || !self.rounds.quorum(&self.s, now)
            || !self.timings_fit()
            || self.conflict(now)
    }
}

/// Trees of `side`, which tells `data`, that may lack something of their lineage.
pub(super) fn stale_trees(side: Side, data: &Data) -> u8 {
    if is_source(side, data.generation.term) { 0 } else { data.stale_trees }
}
