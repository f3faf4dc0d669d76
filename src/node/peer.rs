//! What is known of the peer: which of its lives is the present one, what it said last, and by which paths it comes.

use super::planted::Fault;
use super::settings::{FIRST_REFLECTED, PATHS, Settings};
use super::timing;
use crate::time::{Duration, Instant};
use crate::wire::heartbeat::{Heartbeat, Reject};
use crate::wire::pair::{BootId, Role};

/// Ended lives of the peer that are remembered; a recording of an older one can at most delay, never claim.
const SUPERSEDED: usize = 8;

/// Lives that are not known to be the present one, of which the newest frame is remembered.
const UNKNOWN: usize = 8;

/// A frame that we may echo, with what its sender must be granted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Heard {
    /// Whose frame.
    pub boot: BootId,
    /// Its `sent_at`.
    pub sent_at: Instant,
    /// When we received it.
    pub received: Instant,
    /// The sender's lease length in that very frame.
    pub lease: Duration,
    /// The sender's fence bound in that very frame.
    pub fence: Option<Duration>,
}

/// One way by which heartbeats come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path {
    /// Sequence of the newest frame of the peer's present life on this path.
    sequence: u64,
    /// When the newest one came.
    pub heard_at: Option<Instant>,
    /// Frames that came.
    pub heard: u64,
    /// Frames missing in the sequence.
    pub lost: u64,
    /// Frames that came more than half an interval after they were due, counted from the one before. Frames lost in between
    /// are not late; a peer that was stopped is.
    pub late: u64,
    /// Frames not applied, by reason.
    pub rejected: [u32; Reject::ALL.len()],
}

/// The peer, as heard.
#[derive(Clone, Debug)]
pub struct Peer {
    boot: Option<BootId>,
    last: Option<Heartbeat>,
    heard_at: Instant,
    content: u64,
    echo: Option<Heard>,
    hello: Option<Heard>,
    /// Newest `sent_at` of ours that a frame of the present life echoed.
    echoed: Option<Instant>,
    /// When the newest rival frame came.
    rival_at: Option<Instant>,
    /// Until then a rival may still be serving: its newest frame plus the claim wait with its own bounds.
    rival_until: Instant,
    /// The same for rivals of a life that is not known to be the present one.
    hello_rival_until: Instant,
    /// When the newest rival frame without a fresh echo of us came.
    blocked_at: Option<Instant>,
    /// Anything authentic came after this, accepted or not.
    any_at: Option<Instant>,
    /// When a frame of another life than the present one came last.
    other_boot_at: Option<Instant>,
    /// Lives of the peer that ended while we looked: whatever comes of them was recorded, and is worth nothing.
    superseded: heapless::Deque<BootId, SUPERSEDED>,
    /// The newest `sent_at` of each life that was heard and is not known: what is not newer was recorded.
    unknown: heapless::Deque<(BootId, Instant), UNKNOWN>,
    /// What came by which way.
    pub paths: [Path; PATHS],
}

/// What a frame meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Applied: it is the newest content of the peer's present life.
    Applied {
        /// It made a new life of the peer known.
        new_boot: bool,
    },
    /// Not applied.
    Rejected(Reject),
}

impl Peer {
    /// Nobody heard yet.
    #[must_use]
    pub fn new() -> Peer {
        Peer {
            boot: None,
            last: None,
            heard_at: Instant::BOOT,
            content: 0,
            echo: None,
            hello: None,
            echoed: None,
            rival_at: None,
            rival_until: Instant::BOOT,
            hello_rival_until: Instant::BOOT,
            blocked_at: None,
            any_at: None,
            other_boot_at: None,
            superseded: heapless::Deque::new(),
            unknown: heapless::Deque::new(),
            paths: [Path::default(); PATHS],
        }
    }

    /// Takes in one authentic frame that came by `path`.
    pub fn receive(&mut self, s: &Settings, now: Instant, path: u8, f: &Heartbeat) -> Received {
        let heard_before = self.paths.get(path as usize).map(|path| path.heard);
        let is_second = self.is_second_copy(path, f);
        let received = self.judge(s, now, path, f);
        // A content that another path was faster with was heard here all the same: nothing is wrong with this one.
        let counts = |path: &&mut Path| heard_before == Some(path.heard) && !is_second;
        if let (Received::Rejected(reason), Some(path)) = (received, self.paths.get_mut(path as usize).filter(counts)) {
            path.rejected[reason as usize] = path.rejected[reason as usize].saturating_add(1);
        }
        received
    }

    /// A witness that answers and routes carries every heartbeat by both ways: one of the two comes second, and nobody has
    /// played it again.
    fn is_second_copy(&self, path: u8, f: &Heartbeat) -> bool {
        path >= FIRST_REFLECTED
            && self.boot == Some(f.boot)
            && self.paths.get(path as usize).is_some_and(|known| known.sequence == f.path_sequence)
    }

    fn judge(&mut self, s: &Settings, now: Instant, path: u8, f: &Heartbeat) -> Received {
        if path as usize >= PATHS || f.path != path {
            // Recorded on another path and played here: the sequences are kept per path.
            return Received::Rejected(Reject::Replay);
        }
        let mine = f.echo.is_some_and(|e| e.boot == s.boot);
        let echoed = f.echo.filter(|_| mine).map(|e| e.sent_at);
        let fresh = echoed.is_some_and(|at| at + s.lease > now);
        let mut new_boot = false;
        if self.superseded.iter().any(|&b| b == f.boot) && !s.planted.has(Fault::AcceptsAnyBoot) {
            return Received::Rejected(Reject::Replay);
        }
        if self.boot != Some(f.boot) {
            self.other_boot_at = Some(now);
            let follows = self.boot.is_none() || echoed.is_some_and(|at| at >= self.heard_at);
            if !(mine && follows || s.planted.has(Fault::AcceptsAnyBoot)) {
                // Only the newest hello of a life counts, so that a recorded one can neither set it back nor block us again.
                if self.is_newest(f) {
                    self.any_at = Some(now);
                    self.hello = Some(heard(f, now));
                    self.note_rival(s, now, f, fresh);
                }
                return Received::Rejected(Reject::UnknownBoot);
            }
            new_boot = true;
            if self.boot.is_some() || self.hello.is_none_or(|h| h.boot == f.boot) {
                // Nobody else has spoken, or whoever spoke is dead. This life says anew what bounds it has.
                self.hello_rival_until = Instant::BOOT;
            }
            self.rival_until = Instant::BOOT;
            if let Some(former) = self.boot.replace(f.boot) {
                if self.superseded.is_full() {
                    self.superseded.pop_front();
                }
                self.superseded.push_back(former).expect("room was made above");
            }
            // From here on its own sequences say what is new of it.
            for _ in 0..self.unknown.len() {
                let kept = self.unknown.pop_front().filter(|(boot, _)| *boot != f.boot);
                if let Some(one) = kept {
                    self.unknown.push_back(one).expect("one was taken out");
                }
            }
            self.echo = None;
            self.echoed = None;
            self.hello = None;
            self.last = None;
            self.content = 0;
            for p in &mut self.paths {
                p.sequence = 0;
            }
        }
        if s.planted.has(Fault::OneSequence) && f.content_sequence <= self.content {
            return Received::Rejected(Reject::Replay);
        }
        let p = &mut self.paths[path as usize];
        if f.path_sequence <= p.sequence && !s.planted.has(Fault::AcceptsReplay) {
            return Received::Rejected(Reject::Replay);
        }
        if p.sequence > 0 {
            let steps = f.path_sequence.saturating_sub(p.sequence);
            p.lost = p.lost.saturating_add(steps.saturating_sub(1));
            // Rounds come at one of two rates, and nobody tells which: at the slow one they are in time.
            let interval = s.intervals.get(usize::from(path)).copied().flatten().unwrap_or(s.round_idle);
            let due = interval.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX)).saturating_add(interval / 2);
            p.late = p.late.saturating_add(u64::from(p.heard_at.is_some_and(|at| now.since(at) > due)));
        }
        p.sequence = f.path_sequence;
        p.heard_at = Some(now);
        p.heard = p.heard.saturating_add(1);
        if f.content_sequence <= self.content && !s.planted.has(Fault::AcceptsReplay) {
            // Another path was faster. The path is alive, the content is known; its echo may still be the newest.
            return Received::Rejected(Reject::Replay);
        }
        self.content = f.content_sequence;
        self.heard_at = now;
        self.any_at = Some(now);
        self.last = Some(*f);
        // A frame that echoes somebody else's hello does not say that its sender no longer hears us: what it echoed before
        // stands until it is old.
        self.echoed = self.echoed.max(echoed);
        self.echo = Some(heard(f, now));
        self.note_rival(s, now, f, fresh);
        Received::Applied { new_boot }
    }

    /// A frame of a life that is not known is newer than what came of that life before; the next one has to be newer than this.
    fn is_newest(&mut self, f: &Heartbeat) -> bool {
        if let Some((_, newest)) = self.unknown.iter_mut().find(|(boot, _)| *boot == f.boot) {
            let newer = f.sent_at > *newest;
            *newest = f.sent_at.max(*newest);
            return newer;
        }
        if self.unknown.is_full() {
            self.unknown.pop_front();
        }
        self.unknown.push_back((f.boot, f.sent_at)).expect("room was made above");
        true
    }

    fn note_rival(&mut self, s: &Settings, now: Instant, f: &Heartbeat, fresh: bool) {
        let serves = matches!(f.role, Role::Active | Role::Yielding);
        let could_claim = f.role == Role::Claiming || (matches!(f.role, Role::Standby | Role::Joining) && f.quorum);
        let could_claim = could_claim && !s.planted.has(Fault::ClaimantIsNoRival);
        if !(serves || could_claim) {
            if s.planted.has(Fault::UnheardBlocks) && !fresh {
                self.blocked_at = Some(now);
            }
            if self.boot == Some(f.boot) {
                self.rival_until = self.rival_until.min(timing::after(now, s.claim_wait(f.lease, f.fence)));
            }
            return;
        }
        if !s.planted.has(Fault::RivalIgnored) {
            self.rival_at = Some(now);
            let until = timing::after(now, s.claim_wait(f.lease, f.fence));
            if self.boot == Some(f.boot) {
                // What a life says last of its bounds holds for whatever it said before.
                self.rival_until = until;
            } else {
                self.hello_rival_until = self.hello_rival_until.max(until);
            }
        }
        if !fresh {
            self.blocked_at = Some(now);
        }
    }

    /// We were away: silence has to be heard anew.
    pub fn restart_silence(&mut self, s: &Settings, now: Instant) {
        if self.rival_at.is_some() {
            self.rival_at = Some(now);
            self.rival_until = self.rival_until.max(timing::after(now, self.claim_wait(s)));
        }
    }

    /// C with the bounds that the peer's present life told last. While none is known they are not known either, and ours say
    /// nothing about them: the longest ones stand in. What a hello tells may be a recording of a life with other bounds.
    #[must_use]
    pub fn claim_wait(&self, s: &Settings) -> Option<Duration> {
        match self.echo {
            Some(e) => s.claim_wait(e.lease, e.fence),
            None if s.planted.has(Fault::ToldBoundForEver) => s.claim_wait(s.lease, s.fence),
            None => Some(s.longest_wait),
        }
    }

    /// How long a quorum unbroken since `unbroken_since` must have lasted before the peer is surely fenced, heard or not.
    ///
    /// What it told holds if the quorum has been unbroken since we lost touch: to serve with other bounds it would have had to
    /// wait, and to be heard. Where there is a gap it may have lost a belt, or booted without one, and serve since. How old its
    /// last word is does not show by when it was read: it was sent after what it has echoed.
    #[must_use]
    pub fn quorum_wait(&self, s: &Settings, unbroken_since: Instant) -> Option<Duration> {
        let told = self.claim_wait(s);
        let last_word = if s.planted.has(Fault::HeardWhenRead) { self.heard_at() } else { self.echoed };
        let gap = last_word.is_none_or(|at| unbroken_since > at + s.lease);
        if gap && !s.planted.has(Fault::ToldBoundForEver) { told.map(|told| told.max(s.longest_wait)) } else { told }
    }

    /// What the next heartbeat echoes. `turn` alternates from frame to frame of a path: every second one on every path
    /// echoes the hello of a life that is not known yet, so that neither starves the other.
    #[must_use]
    pub fn to_echo(&self, s: &Settings, now: Instant, turn: bool) -> Option<Heard> {
        let hello = self.hello.filter(|h| now.since(h.received) <= s.lease);
        match (self.echo, hello) {
            (Some(e), Some(h)) => Some(if turn || s.planted.has(Fault::HelloStarves) { h } else { e }),
            (e, h) => e.or(h),
        }
    }

    /// Newest content applied, and newest sequence by path, for the model checker.
    #[cfg(feature = "planted-faults")]
    pub(super) fn canonical_sequences(&self) -> (u64, impl Iterator<Item = u64> + '_) {
        (self.content, self.paths.iter().map(|p| p.sequence))
    }

    /// What may be echoed, for the model checker.
    #[cfg(feature = "planted-faults")]
    pub(super) fn canonical_heard(&self) -> [Option<Heard>; 2] {
        [self.echo, self.hello]
    }

    /// What was heard of lives that are not known, for the model checker.
    #[cfg(feature = "planted-faults")]
    pub(super) fn canonical_unknown(&self) -> impl Iterator<Item = (BootId, Instant)> + '_ {
        self.unknown.iter().copied()
    }

    /// The peer's present life, once known.
    #[must_use]
    pub fn boot(&self) -> Option<BootId> {
        self.boot
    }

    /// The newest applied frame.
    #[must_use]
    pub fn last(&self) -> Option<&Heartbeat> {
        self.last.as_ref()
    }

    /// When the newest applied frame came; `None` before the first one.
    #[must_use]
    pub fn heard_at(&self) -> Option<Instant> {
        self.last.map(|_| self.heard_at)
    }

    /// Heard within `within`.
    #[must_use]
    pub fn heard_within(&self, now: Instant, within: Duration) -> bool {
        self.heard_at().is_some_and(|at| now.since(at) < within)
    }

    /// In touch: the newest frame is fresh and shows that the peer heard us freshly.
    #[must_use]
    pub fn in_touch(&self, s: &Settings, now: Instant) -> bool {
        self.heard_within(now, s.lease) && self.echoed.is_some_and(|at| at + s.lease > now)
    }

    /// `sent_at` of our frame that the peer's newest frame echoes.
    #[must_use]
    pub fn echoed(&self) -> Option<Instant> {
        self.echoed
    }

    /// When the newest rival frame came.
    #[must_use]
    pub fn rival_at(&self) -> Option<Instant> {
        self.rival_at
    }

    /// Until then a rival that we heard may still be serving.
    #[must_use]
    pub fn rival_until(&self) -> Instant {
        self.rival_until.max(self.hello_rival_until)
    }

    /// When the newest rival frame without a fresh echo of us came.
    #[must_use]
    pub fn blocked_at(&self) -> Option<Instant> {
        self.blocked_at
    }

    /// When anything authentic of the peer came last, of whatever life.
    #[must_use]
    pub fn any_at(&self) -> Option<Instant> {
        self.any_at
    }

    /// When a frame of another life than the present one came last.
    #[must_use]
    pub fn other_boot_at(&self) -> Option<Instant> {
        self.other_boot_at
    }
}

impl Default for Peer {
    fn default() -> Self {
        Peer::new()
    }
}

fn heard(f: &Heartbeat, now: Instant) -> Heard {
    Heard { boot: f.boot, sent_at: f.sent_at, received: now, lease: f.lease, fence: f.fence }
}
