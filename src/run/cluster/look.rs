//! What the loop looks at once a second, and what the network's thread has found.

use super::super::disk::ToDisk;
use super::super::network::{Addresses, Answer, Look, Renewed};
use super::super::sources::Source;
use super::{Cluster, Parts};
use crate::clock;
use crate::node::Input;
use crate::time::{Duration, Instant};

/// How often slow things are looked at: addresses still down, carriers, clients, queues.
const LOOK: Duration = Duration::from_secs(1);
/// How often the clients are learned from the neighbour tables.
const LEARN: Duration = Duration::from_secs(5);

impl Cluster {
    /// Slow looks, once a second.
    pub(super) fn look_around(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK;
        self.parts.belts.look_at_watchdog(now);
        self.look_at_bound(now);
        let carriers = self.parts.links.look_after(now);
        if let Some(port) = self.parts.links.unplugged() {
            self.parts.network.close(port);
        }
        if self.parts.links.lan_is_back() {
            self.parts.takeover.announce_again(now);
        }
        self.parts.node.handle(now, Input::Carriers(carriers));
        self.keep_neighbor();
        self.complete_addresses(now);
        let learn = now >= self.learn_at;
        let confirmed = self.confirmed_down.then_some(self.confirmations);
        let (gated, port) = (self.gated, self.parts.links.lacks_port());
        let asked = self.parts.network.look(Look { confirmed, gated, learn, port });
        if learn && asked {
            self.learn_at = now + LEARN;
        }
        self.act(now);
    }

    /// What the network's thread has found out or done.
    pub(super) fn hear_of_network(&mut self, now: Instant, answer: Answer, asked_at: Option<Instant>) {
        match answer {
            Answer::Renewed(Renewed::All) => self.parts.belts.lease_renewed(asked_at.unwrap_or(now)),
            // Due again with the next right, if there is one.
            Answer::Renewed(Renewed::NotAllowed) => {}
            Answer::Renewed(Renewed::Failed(why)) => {
                let until = self.parts.network.allowed_until();
                if clock::now() < until {
                    log::error!("a service address was gone ({why}), putting it up again");
                    self.take_up(until);
                }
            }
            Answer::Looked => self.hear_of_look(now),
        }
    }

    fn hear_of_look(&mut self, now: Instant) {
        let Parts { network, links, takeover, belts, side, .. } = &mut self.parts;
        let Some(mut found) = network.findings() else { return };
        links.bound(found.bound);
        if let Some(port) = found.port.take().and_then(|port| links.plug_in(port))
            && let Err(error) = self.sources.add(port, Source::NullModem)
        {
            log::warn!("the null modem is read in the loop's own turns only: {error}");
        }
        for settled in &found.settled {
            if let Err(error) = takeover.settle(now, *settled) {
                log::error!("claims of service address {} are not heard: {error}", settled.number);
            }
        }
        if found.learned {
            takeover.know_clients(found.clients.all());
            side.offer_clients(now, takeover);
        }
        belts.set_behind(&found.behind);
        let addresses = found.addresses;
        drop(found);
        self.look_at_bound(now);
        let Some((number, addresses)) = addresses else { return };
        if !self.confirmed_down || number != self.confirmations || addresses == Addresses::Down {
            return;
        }
        match addresses {
            Addresses::Unknown(why) => log::error!("nobody knows whether a service address is up on this box: {why}"),
            _ => log::error!("a service address is up on this box, and we did not put it there"),
        }
        self.confirmed_down = false;
        self.parts.belts.allow_feeds(Instant::BOOT);
        self.parts.node.handle(now, Input::NotDown);
    }

    /// Puts up what could not be put up with the others, as long as there is a right.
    fn complete_addresses(&mut self, now: Instant) {
        let until = self.parts.network.allowed_until();
        if self.parts.takeover.complete(now, || clock::now() < until) {
            log::info!("every service address is up now");
        }
    }

    /// Has the peer's hardware address written when it is new; in a second again if the disk hangs.
    fn keep_neighbor(&mut self) {
        let mac = self.parts.links.peer_mac();
        if mac != self.kept_mac
            && let Some(new) = mac
            && self.parts.to_disk.send(ToDisk::Neighbor(new)).is_ok()
        {
            self.kept_mac = mac;
        }
    }

    /// Tells the node when a belt was gained or lost.
    pub(super) fn look_at_bound(&mut self, now: Instant) {
        let bound = self.parts.belts.bound();
        if bound != self.bound {
            self.bound = bound;
            log::warn!("fence bound is now {:?} by {}", bound.0, bound.1.name());
            self.parts.node.handle(now, Input::FenceBound(bound.0));
        }
    }
}
