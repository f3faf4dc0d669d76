//! What the node wants, done: flat, one arm an action.

use super::cluster::{Cluster, Parts, Surrender};
use super::disk::ToDisk;
use super::letters::ToHelper;
use crate::clock;
use crate::console::alarm::in_words;
use crate::node::{Action, Note};
use crate::service;
use crate::time::Instant;

impl Cluster {
    pub(super) fn carry_out(&mut self, now: Instant, action: Action) {
        match action {
            Action::Send(heartbeat) => {
                let parts = &mut self.parts;
                parts.links.send(now, &parts.seal, &heartbeat);
            }
            Action::Ping { witness, round } => self.parts.links.ping(now, witness, round),
            Action::Persist { ticket, record } => {
                if self.parts.to_disk.send(ToDisk::Write { ticket, record }).is_err() {
                    log::error!("the disk's thread takes no more: the record is not written");
                    // Nobody else will say so, and the node waits for an answer.
                    self.unwritten = Some(ticket);
                }
            }
            Action::Activate { until, .. } => {
                self.surrender = None;
                self.confirmed_down = false;
                self.watch.begin(clock::now(), self.parts.belts.frames_in());
                self.parts.belts.open_until(until, true);
                self.parts.belts.allow_feeds(until);
                self.parts.network.allow(until);
                self.take_up(until);
                self.tell_services(service::Order::Serve, 0);
            }
            Action::Lineage(generation) => {
                log::info!("the peer has served a higher term: serving on in term {}", generation.term);
                self.tell_helper(ToHelper::Lineage);
            }
            Action::Renew { until } => self.renew(until),
            Action::Yield { order } => {
                self.surrender = Some(Surrender { order, services_ended: !self.parts.surrender_waits });
                self.tell_services(service::Order::Stop, order);
            }
            Action::Fence { order } => {
                self.parts.belts.close();
                self.parts.belts.allow_feeds(Instant::BOOT);
                self.parts.network.forbid();
                // Nothing waits for a fence: the services are killed beside it.
                self.surrender = Some(Surrender { order, services_ended: true });
                self.tell_services(service::Order::Kill, order);
            }
            Action::Feed => self.parts.belts.feed(),
            Action::Probe => self.parts.takeover.probe(now),
            Action::Reset => {
                log::error!("the service addresses will not come down: resetting this box");
                let Err(error) = self.parts.reset.now();
                log::error!("no reset: {error}; the gate stays closed and the watchdog is not fed");
            }
            Action::Leave => self.left = true,
            Action::Note(note) => {
                write_note(&note);
                self.tell_helper(ToHelper::Note(note));
            }
            Action::Answer(order, answer) => self.tell_helper(ToHelper::Answer(order, answer)),
        }
    }

    /// Puts the addresses up, if the right has not ended since the decision.
    pub(super) fn take_up(&mut self, until: Instant) {
        let now = clock::now();
        if now >= until {
            return; // the node fences in the next turn
        }
        match self.parts.takeover.take_up(now, || clock::now() < until) {
            Ok(()) => {}
            Err(error) => log::error!("a service address cannot be put up: {error}; tried again every second"),
        }
        // Those that are up are renewed, whatever became of the others.
        self.parts.belts.lease_renewed(now);
        let up = clock::now();
        if up >= until {
            return; // the kernel took its time, and nobody is to be told any more: the node fences in the next turn
        }
        self.parts.takeover.announce(up);
        self.watch.took_up(up, clock::now());
    }

    /// The gate first, it compares with an absolute time; then the addresses, whose lifetime is relative: who renews them looks
    /// at the right and the clock in the moment before.
    fn renew(&mut self, until: Instant) {
        self.parts.belts.open_until(until, false);
        self.parts.belts.allow_feeds(until);
        if self.surrender.is_some_and(|s| s.services_ended) {
            return;
        }
        let Parts { network, belts, takeover, .. } = &mut self.parts;
        network.allow(until);
        let now = clock::now();
        if now < until && belts.lease_due(now) {
            network.renew(now, || takeover.renewal());
        }
    }

    fn tell_services(&mut self, order: service::Order, surrender: u32) {
        self.tell_helper(ToHelper::Services { order, surrender });
    }

    fn tell_helper(&mut self, letter: ToHelper) {
        if self.parts.to_helper.send(letter).is_err() {
            log::error!("the helper's thread hangs: {letter:?} is lost");
        }
    }
}

/// Every role change is one line with its reason.
fn write_note(note: &Note) {
    match note {
        Note::Role { from, to, why, term } => log::info!("{} -> {}: {why} (term {term})", from.name(), to.name()),
        Note::PeerBoot => log::info!("the peer's present life is known"),
        Note::Rejected { path, reason } => log::debug!("path {path}: frame not applied: {}", reason.name()),
        Note::Raised(alarm) => log::warn!("alarm: {}", in_words(*alarm)),
        Note::Cleared(alarm) => log::info!("alarm over: {}", in_words(*alarm)),
    }
}
