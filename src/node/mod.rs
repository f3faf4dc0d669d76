//! The decisions, pure: no heap, no clock, no randomness, no I/O.
//!
//! The loop hands over what happened with [`Node::handle`], takes every [`Node::next_action`], and sleeps until
//! [`Node::next_deadline`]. Once a turn, after all inputs, it hands over [`Input::Turn`]: only then is anything claimed,
//! voted or sent. What has expired is acted upon at *every* call before the input is looked at, so a box that was paused
//! fences itself before it speaks.
//!
//! The rules and their proof are in docs/safety.md.

#[cfg(feature = "planted-faults")]
pub mod canonical;
pub mod decision;
pub mod event;
mod facts;
mod intake;
mod order;
pub mod peer;
pub mod planted;
pub mod record;
mod score;
mod send;
pub mod settings;
pub mod status;
pub mod timing;
mod transition;
mod view;
pub mod witness;

pub use event::{Action, Answer, Input, Note, Order};
pub use record::Record;
pub use settings::Settings;

use crate::time::{Duration, Instant};
use crate::wire::heartbeat::Vote;
use crate::wire::pair::{BootId, Data, Generation, Role, Term};
use decision::Decision;
use peer::Peer;
use planted::Fault;
use settings::{FIRST_REFLECTED, PATHS};
use status::{Alarms, Handover, Holds};
use witness::Rounds;

/// Actions that one call may leave behind: 3 direct heartbeats, 8 pings and 8 reflected ones, a write, an order (yield,
/// fence, reset or activate, at most 4 transitions), a lineage, a renewal, a feed, a probe, a leave, an answer: 31. The rest
/// is room for notes, which are dropped and counted when it is used up. A test drives it to the bound.
pub const ACTIONS: usize = 64;
/// Actions that must always fit: notes leave this much room.
const ACTIONS_RESERVED: usize = 40;
/// Decisions in one turn: no chain of rows is longer (joined, claiming, term taken, serving).
const DECISIONS: usize = 4;
/// After a surrender a node is no candidate for so many leases.
pub const INTENT_LEASES: u32 = 5;
/// Quiet time after which strikes are forgotten, and number of strikes that hold a node.
const STRIKES_FORGOTTEN: Duration = Duration::from_secs(600);
const STRIKES: u8 = 3;
/// A fence that is not confirmed after this long (or a lease, if longer) is enforced by a reset.
const FENCE_TIMEOUT: Duration = Duration::from_secs(1);
/// A failed write is tried again after this, and writes that nothing waits for are not more frequent.
const WRITE_PAUSE: Duration = Duration::from_secs(1);
/// A write that has not come back after this does not work, whatever becomes of it: the box is held until it has come back.
/// Longer than a flash disk tidies up, shorter than the kernel takes to give a broken disk up.
const WRITE_STALLS: Duration = Duration::from_secs(5);
/// The null modem must have brought an accepted frame this shortly before a panic text.
const PANIC_AGE: Duration = Duration::from_secs(1);

/// What was found on disk at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing: a new box.
    Fresh,
    /// A good record.
    Known(Record),
    /// Something that is no record. Held until the operator releases it.
    Damaged,
}

/// A claim under way.
#[derive(Clone, Copy, Debug)]
struct Claim {
    by: ClaimBy,
    why: &'static str,
    began: Instant,
    /// Taken for it, once the wait is over.
    term: Option<Term>,
    reserved_at: Instant,
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimBy {
    Vote,
    Silence,
    Force,
}

/// A usable or used vote of the peer.
#[derive(Clone, Copy, Debug)]
struct VoteIn {
    term: Term,
    until: Instant,
}

/// A promise not to claim in silence, to a life that is not known to be the present one.
#[derive(Clone, Copy, Debug)]
struct Promise {
    to: BootId,
    until: Instant,
    /// The longest one to any other such life before.
    others: Instant,
}

/// A write under way.
#[derive(Clone, Copy, Debug)]
struct Writing {
    ticket: u32,
    began: Instant,
    record: Record,
}

/// The peer as the one who serves, for the account of a hand-over from it. Nothing is decided by it.
#[derive(Clone, Copy, Debug)]
struct Holder {
    /// When it was heard to serve last, or to begin with giving that up.
    at: Instant,
    yields: bool,
}

/// The panic text, seen and plausible when it came.
#[derive(Clone, Copy, Debug)]
struct PanicSeen {
    at: Instant,
}

/// The state machine of one box.
#[derive(Clone)]
pub struct Node {
    s: Settings,
    booted: Instant,
    last_turn: Instant,
    /// When the loop was late last; `None`: never.
    late_at: Option<Instant>,
    /// Since then nothing is said: we were away for so long that our right was over.
    mute_since: Option<Instant>,
    role: Role,
    since: Instant,
    why: &'static str,
    peer: Peer,
    rounds: Rounds,

    want: Record,
    disk: Record,
    writing: Option<Writing>,
    next_ticket: u32,
    wrote_at: Instant,
    disk_fails: bool,
    memory_damaged: bool,

    fence_bound: Option<Duration>,
    services_healthy: bool,
    carriers: u8,
    /// The LAN's carrier was told once in this life: what never was there has not failed.
    carrier_seen: bool,
    data: Data,
    /// Trees that are stale by the mirror's last word, also while that is not looked at: what the peer is told.
    stale_trees: u8,
    service_failed_at: Option<Instant>,
    carrier_failed_at: Option<Instant>,

    /// Addresses confirmed down after order `order`.
    down: bool,
    order: u32,
    fenced: bool,
    overdue_at: Instant,

    lease: Instant,
    /// Leases count only for frames that we sent at or after this.
    lease_floor: Instant,
    forced: bool,
    farewell_until: Instant,
    /// Until then no claim in silence, for what the peer's present life was granted.
    promise: Instant,
    /// The same for lives that are not known to be the present one.
    promise_hello: Option<Promise>,
    vote_in: Option<VoteIn>,
    vote_out: Option<Vote>,
    floor: Term,
    /// No term up to this one is served by us: perhaps it was, by us or by the peer.
    burnt: Term,
    /// A box without a record learns from its copies which terms are used, and claims nothing before.
    copies_unread: bool,
    /// Highest term that a claim of this life has taken, of those that the record reserves.
    claimed: Term,
    no_claim_until: Instant,
    claim: Option<Claim>,
    conflict_at: Option<Instant>,
    panic: Option<PanicSeen>,
    /// When the last conflict probe was sent.
    probed_at: Instant,

    surrender: Option<&'static str>,
    intent_until: Instant,
    force_wanted: bool,
    hold_after_yield: bool,
    leaving: bool,
    leave_at: Instant,
    farewell_said_at: Option<Instant>,
    left: bool,
    outscored_since: Option<Instant>,
    preferred_since: Option<Instant>,
    arbitrate_after: Instant,
    /// How often in a row this box has given the service up because local services failed.
    gave_up_for_services: u8,
    /// Before that, failing services are no reason to give the service up.
    services_count_after: Instant,
    strike_at: Instant,
    met: bool,
    two_active: bool,

    content: u64,
    sequences: [u64; PATHS],
    turns: [bool; PATHS],
    next_send: [Instant; FIRST_REFLECTED as usize],
    full_rate: bool,
    next_feed: Instant,
    renewed: Instant,

    holds: Holds,
    alarms: Alarms,
    holder: Option<Holder>,
    handover: Option<Handover>,
    dropped_notes: u32,
    actions: heapless::Deque<Action, ACTIONS>,
}

impl Node {
    /// A node that starts at `now`. `unclean`: the former life ended in a watchdog's or a panic's reset.
    #[must_use]
    pub fn new(s: Settings, now: Instant, memory: Memory, unclean: bool) -> Node {
        let record = match memory {
            Memory::Known(record) => record,
            Memory::Fresh | Memory::Damaged => Record::default(),
        };
        let mut want = record;
        if unclean {
            want.strikes = want.strikes.saturating_add(1);
        }
        let mut rounds = Rounds::new(now, record.proven_under(&s));
        rounds.compare_configuration(record.alike(&s));
        let fence_bound = s.fence;
        // Perhaps they were served: which of them were is written down later than that.
        let burnt = if s.planted.has(Fault::ForgetsReserved) { record.served } else { record.reserved };
        let burnt = if s.planted.has(Fault::IgnoresCopies) { burnt } else { burnt.max(record.newest.term) };
        let recorded = matches!(memory, Memory::Known(_)) || s.planted.has(Fault::IgnoresCopies);
        let copies_unread = s.mirrored && !recorded;
        // How old a copy is is not known before the mirror of this life has taken a cut.
        let stale_trees = u8::from(s.mirrored && !record::is_source(s.node, record.own.term));
        Node {
            booted: now,
            last_turn: now,
            late_at: None,
            mute_since: None,
            role: Role::Joining,
            since: now,
            why: "started",
            peer: Peer::new(),
            rounds,
            want,
            disk: record,
            writing: None,
            next_ticket: 1,
            wrote_at: Instant::BOOT,
            disk_fails: false,
            memory_damaged: memory == Memory::Damaged,
            fence_bound,
            services_healthy: true,
            carriers: 0xff,
            carrier_seen: false,
            data: Data { generation: record.own, stale_trees, ..Data::default() },
            stale_trees,
            service_failed_at: None,
            carrier_failed_at: None,
            down: false,
            order: 0,
            fenced: false,
            overdue_at: Instant::NEVER,
            lease: Instant::BOOT,
            lease_floor: now,
            forced: false,
            farewell_until: Instant::BOOT,
            promise: Instant::BOOT,
            promise_hello: None,
            vote_in: None,
            vote_out: None,
            floor: record.voted,
            burnt,
            copies_unread,
            claimed: 0,
            no_claim_until: Instant::BOOT,
            claim: None,
            conflict_at: None,
            panic: None,
            probed_at: Instant::BOOT,
            surrender: None,
            intent_until: Instant::BOOT,
            force_wanted: false,
            hold_after_yield: false,
            leaving: false,
            leave_at: Instant::NEVER,
            farewell_said_at: None,
            left: false,
            outscored_since: None,
            preferred_since: None,
            arbitrate_after: now,
            gave_up_for_services: 0,
            services_count_after: Instant::BOOT,
            strike_at: now,
            met: false,
            two_active: false,
            content: 0,
            sequences: [0; PATHS],
            turns: [false; PATHS],
            next_send: [now; FIRST_REFLECTED as usize],
            full_rate: true,
            next_feed: now,
            renewed: Instant::BOOT,
            holds: Holds::NONE,
            alarms: Alarms::NONE,
            holder: None,
            handover: None,
            dropped_notes: 0,
            actions: heapless::Deque::new(),
            s,
        }
    }

    /// Takes in one input. `now` never goes back. Take every [`Node::next_action`] before the next call.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.notice_lateness(now);
        if !(self.s.planted.has(Fault::SpeaksBeforeLooking) && self.late_at == Some(now)) {
            self.expire(now);
        }
        match input {
            Input::Heartbeat { path, heartbeat } => self.heartbeat(now, path, heartbeat),
            Input::Pong { witness, round } => self.rounds.pong(&self.s, now, witness, round),
            Input::Carriers(bits) => self.take_carriers(bits),
            Input::Services { healthy } => self.services_healthy = healthy,
            Input::Data { data, newest } => self.take_data(now, data, newest),
            Input::FenceBound(bound) => self.take_fence_bound(now, bound),
            Input::Down { order } => self.take_down(order),
            Input::NotDown => {
                if self.role != Role::Active {
                    self.down = false;
                }
            }
            Input::Persisted { ticket, durable } => self.take_persisted(now, ticket, durable),
            Input::Order(order) => self.take_order(now, order),
            Input::PanicText { began } => self.take_panic_text(now, began),
            Input::Conflict => self.take_conflict(now),
            Input::Turn => self.turn(now),
        }
    }

    /// What is to be done next, in this order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Turn`] is due at the latest. Never further away than a fraction of the lease: longer gaps are
    /// lateness.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let mut at = self.last_turn + self.s.lease / 8;
        at = at.min(self.next_feed).min(self.leave_at);
        match self.mute_since {
            Some(since) => at = at.min(timing::mute_until(since, self.s.lease)),
            None => {
                let due = self.next_send.iter().zip(&self.s.intervals).filter(|(_, interval)| interval.is_some());
                at = due.fold(at, |at, (next, _)| at.min(*next));
                if self.s.witnesses > 0 {
                    at = at.min(self.rounds.next_at());
                }
            }
        }
        // What a takeover waits for is acted upon when it comes, not at the next turn.
        let awaited = if self.role == Role::Claiming { self.silence_until() } else { self.late_heartbeat_at() };
        if awaited > self.last_turn {
            at = at.min(awaited);
        }
        if matches!(self.role, Role::Active | Role::Yielding)
            && let Some(right) = self.right(self.last_turn)
        {
            at = at.min(right.until);
        }
        if self.role == Role::Yielding {
            at = at.min(self.overdue_at);
        }
        at.max(self.last_turn)
    }

    /// Notes that did not fit and were dropped.
    #[must_use]
    pub fn dropped_notes(&self) -> u32 {
        self.dropped_notes
    }

    /// The settings that the node runs by.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.s
    }

    /// The peer's present life, if it is known.
    #[must_use]
    pub fn peer_boot(&self) -> Option<crate::wire::pair::BootId> {
        self.peer.boot()
    }

    /// What came by which path, with counters.
    #[must_use]
    pub fn paths(&self) -> &[peer::Path; PATHS] {
        &self.peer.paths
    }

    /// Last round-trip time of a witness; zero if it never answered.
    #[must_use]
    pub fn witness_rtt(&self, witness: u8) -> Duration {
        self.rounds.rtt(witness)
    }

    /// One turn of the loop: decide, then act, then speak.
    fn turn(&mut self, now: Instant) {
        if self.s.planted.has(Fault::SpeaksBeforeLooking) && self.late_at == Some(now) && self.role == Role::Active {
            self.push(Action::Renew { until: now + self.s.lease });
        }
        self.rounds.expire(&self.s, now, self.last_turn);
        self.update_rate(now);
        self.update_memory(now);
        self.update_holds(now);
        self.arbitrate(now);
        for _ in 0..DECISIONS {
            if !self.decide_once(now) {
                break;
            }
            self.update_holds(now);
        }
        self.outnumber(now);
        self.update_intent(now);
        self.cast_vote(now);
        self.farewell(now);
        self.flush(now);
        self.renew_and_feed(now);
        self.speak(now);
        self.update_alarms(now);
        self.last_turn = now;
    }

    /// Acts upon what has expired, whatever else is going on.
    fn expire(&mut self, now: Instant) {
        if self.serves_without_right(now) {
            self.decide_once(now);
        }
    }

    fn serves_without_right(&self, now: Instant) -> bool {
        let serves = self.role == Role::Active || (self.role == Role::Yielding && !self.fenced);
        serves && self.right(now).is_none()
    }

    /// Being away means not having heard: silence and quorum have to last anew.
    fn notice_lateness(&mut self, now: Instant) {
        if now.since(self.last_turn) > timing::late_limit(self.s.lease) && self.late_at != Some(now) {
            self.late_at = Some(now);
            self.panic = None;
            if !self.s.planted.has(Fault::LateKeepsClocks) {
                self.mute_since = self.serves_without_right(now).then_some(now).or(self.mute_since);
                self.restart_clocks(now);
            }
        }
    }

    fn restart_clocks(&mut self, now: Instant) {
        self.rounds.restart_clock(now);
        self.peer.restart_silence(&self.s, now);
    }

    fn decide_once(&mut self, now: Instant) -> bool {
        let row = decision::decide(self.view(now));
        if row.decision != Decision::Stay {
            self.carry_out(now, row.decision, row.name);
        }
        row.decision != Decision::Stay
    }

    fn push(&mut self, action: Action) {
        self.actions.push_back(action).expect("ACTIONS bounds what one call leaves behind; the loop takes them all");
    }

    fn note(&mut self, note: Note) {
        if self.actions.len() < ACTIONS - ACTIONS_RESERVED {
            self.push(Action::Note(note));
        } else {
            self.dropped_notes = self.dropped_notes.saturating_add(1);
        }
    }

    fn serving(&self) -> bool {
        matches!(self.role, Role::Active | Role::Yielding)
    }

    fn lineage(&self) -> Generation {
        Generation { term: self.want.served, boot: self.s.boot.get() }
    }
}
