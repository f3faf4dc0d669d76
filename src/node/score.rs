//! Arbitration in touch: who sees fewer surrenders, and who is better when nobody serves.

use super::Node;
use super::facts::stale_trees;
use super::settings::StaleData;
use crate::time::{Duration, Instant};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::pair::{Data, Role, Score, Side};

/// Bounds that differ by less are equally good, in nanoseconds. Coarser than the wire's microsecond, so that both boxes see the
/// same order: what one knows to the nanosecond the other hears rounded up.
const FENCE_CLASS: u128 = 100_000_000;

/// What fails on both boxes moves the pair again after so many hold-downs at the most, as a power of two: some minutes.
const LONGEST_PAUSE: u8 = 4;
/// Services that have been well for so many hold-downs had not been broken everywhere.
const STEADY: u32 = 4;

impl Node {
    /// Own score.
    pub(super) fn score(&self, now: Instant) -> Score {
        let mut links = 0u8;
        for (i, interval) in self.s.intervals.iter().enumerate() {
            if interval.is_some() && self.carriers & (1 << i) != 0 {
                links += 1;
            }
        }
        Score {
            services: u8::from(self.services_healthy),
            witnesses: u8::try_from(self.rounds.reached(&self.s, now).count_ones()).expect("at most 8"),
            carriers: links,
        }
    }

    /// As Active: surrender when the peer has been fitter for `settle`, or is preferred, fit and in sync.
    pub(super) fn arbitrate(&mut self, now: Instant) {
        let peer = self.peer.last().copied().filter(|f| {
            self.role == Role::Active
                && self.surrender.is_none()
                && self.peer.in_touch(&self.s, now)
                && self.lease > now
                && self.peer_eligible(now)
                && self.timings_fit()
                && self.data_permits(f)
        });
        self.forget_failures(now);
        let own = self.score(now);
        let own = if now < self.services_count_after { Score { services: 1, ..own } } else { own };
        let outscored = peer.is_some_and(|f| f.score > own);
        let preferred =
            peer.is_some_and(|f| self.preferred(&f) == Some(f.node) && f.score >= own && self.peer_data_current(&f));
        since(&mut self.outscored_since, now, outscored);
        since(&mut self.preferred_since, now, preferred);
        if now < self.arbitrate_after {
            return;
        }
        if self.outscored_since.is_some_and(|at| now.since(at) >= self.s.settle) {
            self.surrender = Some("the peer is fitter");
            let failed = u8::from(!self.services_healthy);
            self.gave_up_for_services = (self.gave_up_for_services + failed).min(LONGEST_PAUSE);
        } else if self.preferred_since.is_some_and(|at| now.since(at) >= self.s.hold_down) {
            self.surrender = Some("the peer is preferred");
        }
    }

    /// This box serves now. A box that does not serve runs no service and cannot know whether it would work there, so one
    /// that is broken on both would send the pair to and fro for ever, and with it all that works. Whoever gets the service
    /// back bears its own broken services twice as long as the time before.
    pub(super) fn bear_services(&mut self, now: Instant) {
        let again = self.gave_up_for_services > 0;
        let pause = self.s.hold_down * (1 << self.gave_up_for_services);
        self.services_count_after = if again { now + pause } else { Instant::BOOT };
    }

    fn forget_failures(&mut self, now: Instant) {
        let well_since = self.service_failed_at.map_or(self.since, |at| at.max(self.since));
        if self.role == Role::Active && self.services_healthy && now.since(well_since) >= self.s.hold_down * STEADY {
            self.gave_up_for_services = 0;
            self.services_count_after = Instant::BOOT;
        }
    }

    fn data_permits(&self, f: &Heartbeat) -> bool {
        self.peer_data_current(f) || !self.services_healthy || self.s.stale_data == StaleData::Serve
    }

    /// Who should serve, where both are known to have been told the same: each would otherwise hand over to the other, or
    /// wait for the other's vote, for ever.
    fn preferred(&self, f: &Heartbeat) -> Option<Side> {
        self.s.prefer.filter(|_| f.digest == self.s.digest)
    }

    /// Neither serves: newest lineage, then fresher data, then healthier, then fenced faster, then preferred, then the
    /// lower name is better. Both boxes must come to the same answer, so what they may have been told differently counts only
    /// while their configurations are the same.
    pub(super) fn peer_is_better(&self, f: &Heartbeat) -> bool {
        let compared = self.s.mirrored || f.digest != self.s.digest;
        let data = |side: Side, data: &Data| {
            if compared { (data.generation.term, u8::MAX - stale_trees(side, data)) } else { (0, 0) }
        };
        let (ours, theirs) = (data(self.s.node, &self.told_data()), data(f.node, &f.data));
        // Scores of a node that has just booted say little: only whether its services work counts here.
        let (our_health, their_health) = (u8::from(self.services_healthy), f.score.services);
        let rank = |side: Side| (self.preferred(f) == Some(side), side == Side::A);
        let fenced = |bound: Option<Duration>| {
            core::cmp::Reverse(bound.map_or(u128::MAX, |b| b.as_nanos().div_ceil(FENCE_CLASS)))
        };
        let (our_fence, their_fence) = (fenced(self.fence_bound), fenced(f.fence));
        (theirs, their_health, their_fence, rank(f.node)) > (ours, our_health, our_fence, rank(self.s.node))
    }
}

fn since(mark: &mut Option<Instant>, now: Instant, on: bool) {
    match (on, *mark) {
        (true, None) => *mark = Some(now),
        (false, _) => *mark = None,
        (true, Some(_)) => {}
    }
}
