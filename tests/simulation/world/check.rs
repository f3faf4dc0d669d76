//! What is looked at once a second: whether somebody serves who should, and whether all is well again.

use super::World;
use super::clock::{SECOND, Time, ns};
use super::judge::seconds;
use super::machine::Power;
use twobox::node::timing;
use twobox::time::Duration;
use twobox::wire::pair::Role;

impl World {
    pub(super) fn second(&mut self) {
        self.mirror();
        for i in 0..2 {
            if self.boxes[i].runs(self.now) && self.boxes[i].wake == super::NEVER {
                let name = Self::name(i);
                self.judge.found(self.now, format!("{name}'s loop would never wake again"));
            }
        }
        self.serving_continues();
    }

    /// V: a healthy box with a quorum serves when the surroundings have been the same for long enough, or its peer does.
    fn serving_continues(&mut self) {
        if self.boxes.iter().any(|m| m.emits(self.now)) {
            return;
        }
        if self.judge.steady_from.is_some_and(|from| self.now >= from) {
            self.judge.found(self.now, "noise and recorded frames interrupt the service".into());
        }
        for i in 0..2 {
            let since = self.changed_at.max(self.guarded_until);
            let bound = self.settling_time();
            if self.now >= since + bound && self.could_serve(i) {
                let text = format!(
                    "nobody serves, although nothing has changed for {} and {} is fit and has a quorum",
                    seconds(self.now - since),
                    Self::name(i)
                );
                self.judge.found(self.now, text);
            }
        }
    }

    /// Fit, not held, with clean legs to witnesses that form a quorum, and a peer that is surely fenced some time.
    fn could_serve(&self, i: usize) -> bool {
        let m = &self.boxes[i];
        let bounded = (0..2).all(|side| self.boxes[side].belts.bound().is_some());
        let Some(node) = m.program.as_ref().filter(|_| m.runs(self.now) && bounded) else { return false };
        let local = m.clock.local(self.now);
        let status = node.status(local);
        let settings = node.settings();
        let mut reached = 0u8;
        for w in 0..settings.witnesses {
            let witness = &self.network.witnesses[w as usize];
            let clean = witness.legs[i].iter().all(|leg| self.now >= leg.cut_until);
            let quick = 2 * witness.latency + 5_000_000 < ns(timing::answer_limit(settings.lease));
            let vouched = !settings.require_reflection && status.config_matches;
            let counts = vouched || status.proven & (1 << w) != 0;
            if self.now >= witness.down_until && clean && quick && counts {
                reached |= 1 << w;
            }
        }
        let n = u32::from(settings.witnesses);
        let have = reached.count_ones();
        let quorum = n > 0 && (2 * have > n || (2 * have == n && reached & 1 != 0));
        quorum && status.holds.is_empty()
    }

    /// After so long with nothing new, whoever can serve must.
    pub fn settling_time(&self) -> Time {
        let s = &self.setup.settings;
        let claim = self.claim_wait(0).max(self.claim_wait(1));
        let lease = ns(s[0].lease.max(s[1].lease));
        let hold = ns(s[0].hold_down.max(s[1].hold_down)) + ns(s[0].settle.max(s[1].settle));
        ns(s[0].boot_wait.max(s[1].boot_wait)) + 2 * claim + 5 * lease + hold + self.setup.boot_time.1 + 5 * SECOND
    }

    /// Everything is well: one box serves, the other one follows and has its data.
    pub fn settled(&self) -> bool {
        let mirrored = self.setup.settings.iter().all(|s| s.mirrored);
        if mirrored && self.boxes[0].copy != self.boxes[1].copy {
            return false;
        }
        let emits = [0, 1].map(|i| self.boxes[i].emits(self.now));
        let role = [0, 1].map(|i| self.role(i));
        let follows = [0, 1].map(|i| {
            let m = &self.boxes[i];
            role[i] == Some(Role::Standby)
                && m.program.as_ref().is_some_and(|n| n.status(m.clock.local(self.now)).in_touch)
        });
        (emits[0] && role[0] == Some(Role::Active) && follows[1])
            || (emits[1] && role[1] == Some(Role::Active) && follows[0])
    }

    /// What the node of a box is, if its program runs.
    pub fn role(&self, i: usize) -> Option<Role> {
        let m = &self.boxes[i];
        let local = if m.power == Power::On { m.clock.local(self.now) } else { return None };
        m.program.as_ref().map(|node| node.status(local).role)
    }

    /// Both run, hear each other directly, and nothing at all is wrong.
    pub(super) fn peaceful(&self) -> bool {
        let now = self.now;
        let lines = self.network.lines.iter().flatten().filter(|l| l.present);
        let lines = lines.clone().all(|l| now >= l.cut_until && now >= l.loss.1 && now >= l.delay.1);
        let legs = self.network.witnesses.iter().flat_map(|w| w.legs.iter().flatten());
        let legs = legs.clone().all(|l| now >= l.cut_until && now >= l.loss.1 && now >= l.delay.1);
        let boxes = self.boxes.iter().all(|m| {
            let quiet =
                now >= m.late.1 && now >= m.disk_slow.1 && now >= m.disk_fails_until && now >= m.disk_hangs_until;
            let steady = m.stop_in_turn.is_none() && now >= m.belt_lost_until && now >= m.stuck_until;
            let grace = Duration::from_secs(3);
            m.runs(now)
                && quiet
                && steady
                && m.program.as_ref().is_some_and(|node| {
                    let local = m.clock.local(now);
                    let status = node.status(local);
                    status.in_touch && local.since(status.since) > grace
                })
        });
        lines && legs && boxes && now >= self.changed_at + 3 * SECOND
    }

    /// Runs until all is well for some seconds, or says why not.
    pub fn await_recovery(&mut self) {
        let began = self.now;
        let end = began + self.settling_time();
        let mut well = 0;
        while self.now < end && well < 5 && self.judge.violation.is_none() {
            self.run_until(self.now + SECOND);
            well = if self.settled() { well + 1 } else { 0 };
        }
        if well < 5 && self.judge.violation.is_none() {
            let say = |i: usize| {
                let m = &self.boxes[i];
                let status = m.program.as_ref().map(|n| n.status(m.clock.local(self.now)));
                status.map_or("off".into(), |s| {
                    let holds: Vec<_> = s.holds.iter().collect();
                    let blockers: Vec<_> = s.blockers.iter().collect();
                    format!(
                        "{} ({}), term of its copy {}, holds {holds:?}, blockers {blockers:?}, in touch {}, peer blocked {:?}",
                        s.role.name(),
                        s.why,
                        m.copy.term,
                        s.in_touch,
                        s.peer_blocked
                    )
                })
            };
            let text = format!("{} after everything healed: A {}; B {}", seconds(self.now - began), say(0), say(1));
            self.judge.found(self.now, text);
        }
    }
}
