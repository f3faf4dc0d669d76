//! Witness rounds: who answers, whether that makes a quorum, since when without a break, and through whom we are heard.
//!
//! A round is a ping and a reflected heartbeat to every witness, back to back. It is good if the witnesses that answered its
//! ping within `L / 8` of sending form a quorum. Two nodes that both see three good of four consecutive rounds have a good
//! round in common in time, and so have heard each other through a witness that is in both quorums.

use super::planted::Fault;
use super::settings::{Settings, WITNESSES};
use super::timing;
use crate::time::{Duration, Instant};

/// Rounds remembered: four to judge, and as many as are sent while an answer may still come (`L / 8`), which are four where
/// they are sent as fast as `config` allows (every `L / 32`).
const KEPT: usize = 8;
/// Consecutive rounds that are judged together.
const WINDOW: usize = 4;
/// Good ones among them that make a quorum.
const GOOD: usize = 3;
/// A witness is reached while an answer came within this many idle rounds: one may be lost.
const REACHED_ROUNDS: u32 = 3;
/// Reflection is seen while a reflected heartbeat came within this many idle rounds.
const REFLECTED_ROUNDS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Round {
    number: u32,
    sent: Instant,
    /// Sent at full rate, one round interval after the one before.
    full: bool,
    answered: u8,
}

/// The rounds of one node.
#[derive(Clone, Debug)]
pub struct Rounds {
    recent: heapless::Deque<Round, KEPT>,
    next_number: u32,
    next_at: Instant,
    last_full: bool,
    /// Quorum has been unbroken since then.
    unbroken_since: Instant,
    /// The quorum right ends then.
    right_until: Instant,
    reached_at: [Instant; WITNESSES],
    reflected_at: [Instant; WITNESSES],
    rtt: [Duration; WITNESSES],
    proven: u8,
    /// The peer was told the same as we, as far as we know: what the operator vouches for is the same for both.
    alike: bool,
}

impl Rounds {
    /// No round sent yet; `proven` witnesses were proven at the last contact.
    #[must_use]
    pub fn new(now: Instant, proven: u8) -> Rounds {
        Rounds {
            recent: heapless::Deque::new(),
            next_number: 1,
            next_at: now,
            last_full: false,
            unbroken_since: now,
            right_until: Instant::BOOT,
            reached_at: [Instant::BOOT; WITNESSES],
            reflected_at: [Instant::BOOT; WITNESSES],
            rtt: [Duration::ZERO; WITNESSES],
            proven,
            alike: true,
        }
    }

    /// When the next round is due.
    #[must_use]
    pub fn next_at(&self) -> Instant {
        self.next_at
    }

    /// The rate just went up: do not sit out the rest of an idle interval.
    pub fn hurry(&mut self, s: &Settings, now: Instant) {
        let rested = self.recent.back().map_or(now, |r| r.sent + s.round);
        self.next_at = self.next_at.min(rested.max(now));
    }

    /// Starts a round and returns its number.
    pub fn start(&mut self, s: &Settings, now: Instant, full: bool) -> u32 {
        if self.recent.is_full() {
            self.forget_oldest(s, now);
        }
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        // The first round at full rate follows an idle gap: it may be in no window with those before it. Nor may one that
        // a late loop sent long after the round before.
        let gap = self.recent.back().is_none_or(|r| now.since(r.sent) > timing::late_limit(s.lease));
        let late = gap && !s.planted.has(Fault::LateKeepsClocks);
        let unbroken = full && self.last_full && !late;
        self.recent.push_back(Round { number, sent: now, full: unbroken, answered: 0 }).expect("room was made above");
        self.last_full = full;
        if !unbroken {
            self.unbroken_since = now;
        }
        self.next_at = now + if full { s.round } else { s.round_idle };
        number
    }

    /// Makes room. What cannot be judged counts as a break: a round is forgotten without its answers before the last window
    /// that it is in has been looked at, because rounds are too fast for the time that an answer is waited for.
    fn forget_oldest(&mut self, s: &Settings, now: Instant) {
        let limit = timing::answer_limit(s.lease);
        let judged = self.recent.iter().nth(WINDOW - 1).is_some_and(|r| now.since(r.sent) > limit)
            || s.planted.has(Fault::UnjudgedIsGood);
        if self.recent.pop_front().is_some_and(|oldest| !judged && !self.counts(s, oldest.answered)) {
            self.unbroken_since = now;
        }
    }

    /// Witness `witness` answered round `number`.
    pub fn pong(&mut self, s: &Settings, now: Instant, witness: u8, number: u32) {
        if witness >= s.witnesses {
            return;
        }
        let limit = timing::answer_limit(s.lease);
        let Some(round) = self.recent.iter_mut().find(|r| r.number == number) else { return };
        let w = witness as usize;
        self.reached_at[w] = now;
        self.rtt[w] = now.since(round.sent);
        if now.since(round.sent) <= limit {
            round.answered |= 1 << witness;
        }
        self.extend_right(s);
    }

    /// A heartbeat of the peer came through witness `witness`.
    pub fn reflected(&mut self, now: Instant, witness: u8) {
        if let Some(at) = self.reflected_at.get_mut(witness as usize) {
            *at = now;
        }
    }

    /// Forgets every round: what was promised before `now` no longer holds.
    pub fn forget(&mut self, now: Instant) {
        self.recent.clear();
        self.last_full = false;
        self.right_until = Instant::BOOT;
        self.unbroken_since = now;
    }

    /// We were away: the clock of unbroken quorum starts again.
    pub fn restart_clock(&mut self, now: Instant) {
        self.unbroken_since = now;
    }

    /// Looks for a break: two bad rounds of any four consecutive ones. Every window is looked at that ends with a round whose
    /// outcome became known since `last`, the look before: more than one may have, if the loop was a little late.
    pub fn expire(&mut self, s: &Settings, now: Instant, last: Instant) {
        let limit = timing::answer_limit(s.lease);
        let known = self.recent.iter().filter(|r| now.since(r.sent) > limit).count();
        let before = self.recent.iter().filter(|r| last.since(r.sent) > limit).count();
        for end in (before + 1).min(known)..=known {
            let window = self.recent.iter().take(end).skip(end.saturating_sub(WINDOW));
            let bad = window.filter(|r| !self.counts(s, r.answered)).count();
            if bad > WINDOW - GOOD && !(s.planted.has(Fault::QuorumByMean) && bad < WINDOW) {
                self.unbroken_since = now;
                return;
            }
        }
    }

    /// Three of the last four rounds whose outcome is known were good.
    #[must_use]
    pub fn quorum(&self, s: &Settings, now: Instant) -> bool {
        let limit = timing::answer_limit(s.lease);
        let mut known = 0;
        let mut good = 0;
        for r in self.recent.iter().rev() {
            let is_good = self.counts(s, r.answered);
            if !is_good && now.since(r.sent) <= limit {
                continue;
            }
            known += 1;
            good += usize::from(is_good);
            if known == WINDOW {
                break;
            }
        }
        let needed = if s.planted.has(Fault::QuorumByMean) { 1 } else { GOOD };
        known == WINDOW
            && good >= needed
            && self.recent.back().is_some_and(|r| now.since(r.sent) <= s.round_idle + limit)
    }

    /// Since when the quorum has been unbroken, at full rate.
    #[must_use]
    pub fn unbroken_since(&self) -> Instant {
        self.unbroken_since
    }

    /// End of the quorum right; in the past if there is none.
    #[must_use]
    pub fn right_until(&self) -> Instant {
        self.right_until
    }

    fn extend_right(&mut self, s: &Settings) {
        let rounds = self.recent.as_slices();
        let at = |i: usize| if i < rounds.0.len() { rounds.0[i] } else { rounds.1[i - rounds.0.len()] };
        for first in 0..self.recent.len().saturating_sub(GOOD - 1) {
            let window = first..self.recent.len().min(first + WINDOW);
            // Rounds after the first must have followed it at full rate, else a heartbeat had no chance in between.
            let full = window.clone().skip(1).all(|i| at(i).full);
            let good = window.filter(|&i| self.counts(s, at(i).answered)).count();
            let needed = if s.planted.has(Fault::QuorumByMean) { 1 } else { GOOD };
            if full && good >= needed {
                self.right_until = self.right_until.max(at(first).sent + s.lease / 2);
            }
        }
    }

    /// These witnesses answered a round, and they make a quorum.
    fn counts(&self, s: &Settings, answered: u8) -> bool {
        suffice(s, if self.needs_proof(s) { answered & self.proven } else { answered })
    }

    /// Too few witnesses are proven for any quorum.
    #[must_use]
    pub fn unproven(&self, s: &Settings) -> bool {
        s.witnesses > 0 && self.needs_proof(s) && !suffice(s, self.proven)
    }

    /// There is no quorum, and more is wrong than that too few of the witnesses that answer are proven.
    #[must_use]
    pub fn unanswered(&self, s: &Settings, now: Instant) -> bool {
        let is_explained = self.unproven(s) && suffice(s, self.reached(s, now));
        s.witnesses > 0 && !is_explained && !self.quorum(s, now)
    }

    /// Only proven witnesses count: by the operator's will, or because the boxes may not even ask the same ones.
    #[must_use]
    pub fn needs_proof(&self, s: &Settings) -> bool {
        (s.require_reflection && !s.planted.has(Fault::UnprovenCounts))
            || (!self.alike && !s.planted.has(Fault::VouchesAlone))
    }

    /// Whether the peer's configuration is ours, by its last word, or by the record.
    pub fn compare_configuration(&mut self, alike: bool) {
        self.alike = alike;
    }

    /// Bits of the witnesses that answer.
    #[must_use]
    pub fn reached(&self, s: &Settings, now: Instant) -> u8 {
        self.seen(s, now, &self.reached_at, s.round_idle * REACHED_ROUNDS)
    }

    /// Bits of the witnesses through which the peer's heartbeats come.
    #[must_use]
    pub fn heard(&self, s: &Settings, now: Instant) -> u8 {
        self.seen(s, now, &self.reflected_at, s.round_idle * REFLECTED_ROUNDS)
    }

    fn seen(&self, s: &Settings, now: Instant, at: &[Instant; WITNESSES], within: Duration) -> u8 {
        let mut bits = 0;
        for (w, &at) in at.iter().enumerate().take(s.witnesses as usize) {
            if at > Instant::BOOT && now.since(at) <= within {
                bits |= 1 << w;
            }
        }
        bits
    }

    /// The peer, in touch, says through whom it hears us and whom it reaches. A witness is proven when both sides hear each
    /// other through it, and no longer when both reach it and one of them does not. While the configurations differ, who does
    /// not reach it may not even ask it: then only what both hear through now is proven.
    pub fn compare(&mut self, s: &Settings, now: Instant, peer_reached: u8, peer_heard: u8) {
        let heard = self.heard(s, now);
        let both = self.reached(s, now) & peer_reached;
        let reflects = heard & peer_heard;
        let asked = if self.alike || s.planted.has(Fault::ProvenForOne) { both } else { s.witness_mask() };
        self.proven = (self.proven | reflects) & !(asked & !reflects);
        self.proven &= s.witness_mask();
    }

    /// Bits of the proven witnesses.
    #[must_use]
    pub fn proven(&self) -> u8 {
        self.proven
    }

    /// Every remembered round and what its answers and rate come to, for the model checker.
    #[cfg(feature = "planted-faults")]
    pub(super) fn canonical_rounds(&self) -> impl Iterator<Item = (Instant, u64)> + '_ {
        self.recent.iter().map(|r| (r.sent, u64::from(r.answered) | u64::from(r.full) << 8))
    }

    /// Every moment that matters besides, for the model checker.
    #[cfg(feature = "planted-faults")]
    pub(super) fn canonical_times(&self) -> impl Iterator<Item = Instant> + '_ {
        [self.next_at, self.unbroken_since, self.right_until]
            .into_iter()
            .chain(self.reached_at)
            .chain(self.reflected_at)
    }

    /// Last round-trip time of a witness; zero if it never answered.
    #[must_use]
    pub fn rtt(&self, witness: u8) -> Duration {
        self.rtt.get(witness as usize).copied().unwrap_or_default()
    }
}

/// More than half of the configured witnesses, or half with the first-listed one among them: any two quorums share one.
fn suffice(s: &Settings, witnesses: u8) -> bool {
    let n = u32::from(s.witnesses);
    let have = (witnesses & s.witness_mask()).count_ones();
    n > 0 && (2 * have > n || (2 * have == n && witnesses & 1 != 0))
}
