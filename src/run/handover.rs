//! Accounts of hand-overs. Whoever takes the service over has the account of it, and tells it to the other box, so that both
//! tell the same outage; whoever gave it up and is not told measures for himself.

use std::rc::Rc;

use super::helper::Helper;
use super::snapshot::Snapshot;
use super::{history, report};
use crate::clock;
use crate::console::status::{Handover, HandoverKind};
use crate::node::decision::SURRENDER;
use crate::observe::control::Event;
use crate::time::{Duration, Instant};
use crate::wire::pair::Role;

/// How long after its own end as the serving box the peer is expected to serve.
const SUCCESSION: Duration = Duration::from_secs(30);
/// How long the peer that is heard to serve may take to tell its account.
const ACCOUNT: Duration = Duration::from_secs(5);
/// How often is looked whether the peer is there to be told: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

impl Helper {
    /// This box serves now: writes down how it came to it, and tells the peer as soon as that hears.
    pub(super) fn took_over(self: &Rc<Self>, account: Handover) {
        self.handovers.borrow_mut().add(&account);
        let at = clock::now();
        self.handed_over(at, account.clone());
        self.executor.spawn(self.clone().tell_account(account, at)).detach();
    }

    /// This box serves again what it had given up itself: an outage without a hand-over between the boxes is counted and told as
    /// one to itself.
    pub(super) fn took_again(self: &Rc<Self>, s: &Snapshot) {
        if s.node.role != Role::Active {
            return; // it has gone on meanwhile: `since` is not when the service was taken
        }
        let Some((why, at)) = self.gave_up.take() else { return };
        let told = format!("{}; it took the service again itself", in_words(why));
        self.took_over(report::taken_again(self.options.node, s, kind_of(why), told, at));
    }

    async fn tell_account(self: Rc<Self>, account: Handover, at: Instant) {
        let is_newest = || self.last_handover.borrow().as_ref().is_some_and(|(noted, _)| *noted == Some(at));
        let mut pause = LOOK.0;
        while is_newest() {
            if self.snapshot().await.is_some_and(|s| s.node.in_touch) {
                let ago_ms = u64::try_from(clock::now().since(at).as_millis()).unwrap_or(u64::MAX);
                // Told while out of touch, it was given up, not taken.
                if self.peer.tell_handover(&Handover { ago_ms: Some(ago_ms), ..account.clone() }).await
                    && self.snapshot().await.is_some_and(|s| s.node.in_touch)
                {
                    return;
                }
            }
            smol::Timer::after(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// What the peer tells of a hand-over to it. Why the service was given up is known here, if this is still that life.
    pub(super) fn learn(&self, account: Handover) {
        let known = self.last_handover.borrow().as_ref().map_or(0, |(_, known)| known.term);
        if account.to != self.options.node.peer().name() || account.term <= known {
            return;
        }
        let ago = Duration::from_millis(account.ago_ms.unwrap_or(0));
        let at = Instant::BOOT + clock::now().since(Instant::BOOT + ago);
        let own = self.gave_up.take().map(|(why, _)| in_words(why));
        // "The peer" is us in its words.
        let reason = own.unwrap_or_else(|| format!("as {} tells it: {}", account.to, account.reason));
        self.handed_over(at, Handover { reason, ..account });
    }

    /// This box began to give the service up at `at`.
    pub(super) fn gave_the_service_up(self: &Rc<Self>, why: &'static str, at: Instant) {
        self.gave_up.set(Some((why, at)));
        self.executor.spawn(self.clone().watch_succession(why, at)).detach();
    }

    /// Notes to whom the service went, if the peer is heard to serve before long.
    async fn watch_succession(self: Rc<Self>, why: &'static str, at: Instant) {
        let mut heard_to_serve = None;
        while clock::now().since(at) < SUCCESSION {
            // Often at first: the outage is told in milliseconds.
            smol::Timer::after(Duration::from_millis(2).max(clock::now().since(at) / 16)).await;
            if self.gave_up.get() != Some((why, at)) {
                return; // told by the peer, taken again, or given up anew
            }
            let Some(s) = self.snapshot().await else { continue };
            let heard = s.node.peer_heard_at.filter(|heard| *heard >= at && s.node.peer_role == Some(Role::Active));
            heard_to_serve = heard_to_serve.or(heard);
            if let Some(heard) = heard_to_serve.filter(|heard| clock::now().since(*heard) >= ACCOUNT) {
                self.gave_up.set(None);
                let own_account = Handover {
                    kind: kind_of(why),
                    reason: in_words(why),
                    detect_ms: 0,
                    fence_wait_ms: 0,
                    total_ms: u64::try_from(heard.since(at).as_millis()).unwrap_or(u64::MAX),
                    ago_ms: Some(0),
                    term: s.node.top,
                    to: self.options.node.peer().name().to_owned(),
                    steps: Vec::new(),
                };
                self.handed_over(heard, own_account);
                return;
            }
        }
        self.remember_alarm(&format!("gave the service up ({why}); the peer was not heard to take it over"));
    }

    fn handed_over(&self, at: Instant, account: Handover) {
        *self.last_handover.borrow_mut() = Some((Some(at), account.clone()));
        self.tell_observer(Event::Handover { handover: account.clone() });
        let ago_s = clock::now().since(at).as_secs();
        let unix_s = history::wall_clock().map(|now| now.saturating_sub(ago_s));
        self.remember(history::of_handover(self.present, at, unix_s, account));
    }

    fn remember_alarm(&self, text: &str) {
        self.remember(history::of_alarm(self.present, clock::now(), history::wall_clock(), text));
    }
}

fn kind_of(why: &str) -> HandoverKind {
    if why == SURRENDER { HandoverKind::Switchover } else { HandoverKind::Failover }
}

fn in_words(why: &str) -> String {
    if why == SURRENDER { "surrendered in order".to_owned() } else { why.to_owned() }
}
