//! What the loop hears: every source drained, each input with the time after its receipt.

use super::super::disk;
use super::super::letters::{Order, ToLoop};
use super::super::links::Received;
use super::super::side::Letter;
use super::super::sources::{Ready, Source};
use super::{Cluster, Parts};
use crate::clock;
use crate::node::{self, Input};
use crate::takeover::Heard;
use crate::takeover::conflict::Finding;
use crate::time::Instant;

/// Frames that claim a service address which one turn reads: more than a socket holds, and a flood of them, whatever they mean,
/// does not hold the loop.
const CLAIMS: usize = 1024;

impl Cluster {
    /// Every input that has come so far, each with the time after its receipt: what is promised from a receipt on lasts too
    /// short if its time is too early. Whoever has nothing when the pass begins is not asked.
    pub(super) fn drain(&mut self) {
        let ready = self.sources.look();
        if ready.has(Source::Timer) && self.timer.wait().is_ok() {
            self.lateness.fired();
        }
        self.drain_links(ready);
        if ready.has(Source::ToPeer) {
            self.parts.to_peer.hush();
        }
        while let Some(Letter { kind, bytes }) = self.parts.to_peer.receive() {
            let now = clock::now();
            if self.parts.side.channel.offer(now, kind, &bytes).is_err() {
                log::debug!("no peer to be told"); // whoever asked gives up after a while
            }
        }
        // Only on the LAN is the peer's hardware address known.
        let peer = self.parts.links.peer_mac().filter(|_| self.parts.addresses_on_lan);
        let claims = if ready.has(Source::Claims) { CLAIMS } else { 0 };
        for _ in 0..claims {
            let Some(heard) = self.parts.takeover.receive(clock::now(), peer) else { break };
            let Some(heard) = heard else { continue };
            let now = clock::now();
            match heard.finding {
                Finding::PeerAnswered => self.parts.node.handle(now, Input::Conflict),
                Finding::Usual => {}
                finding => self.say_claim(now, &heard, finding),
            }
            self.act(now);
        }
        if let Some(ticket) = self.unwritten.take() {
            let now = clock::now();
            self.parts.node.handle(now, Input::Persisted { ticket, durable: false });
            self.act(now);
        }
        if ready.has(Source::FromDisk) {
            self.parts.from_disk.hush();
        }
        while let Some(disk::Persisted { ticket, durable }) = self.parts.from_disk.receive() {
            let now = clock::now();
            self.parts.node.handle(now, Input::Persisted { ticket, durable });
            self.act(now);
        }
        if ready.has(Source::Network) {
            self.parts.network.hush();
        }
        while let Some((answer, asked_at)) = self.parts.network.receive() {
            let now = clock::now();
            self.hear_of_network(now, answer, asked_at);
            self.act(now);
        }
        if ready.has(Source::ToLoop) {
            self.parts.to_loop.hush();
        }
        while let Some(letter) = self.parts.to_loop.receive() {
            let now = clock::now();
            self.read(now, letter);
            self.act(now);
        }
    }

    fn say_claim(&mut self, now: Instant, heard: &Heard, finding: Finding) {
        let Some(unsaid) = self.claims.heard(now, heard.address) else { return };
        let [a, b, c, d, e, f] = heard.mac;
        let who = format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        log::warn!("service address {} is claimed by {who} ({finding:?})", heard.address);
        if unsaid > 0 {
            log::warn!("{unsaid} claims of it before that were not told");
        }
    }

    fn drain_links(&mut self, ready: Ready) {
        let Parts { links, node, seal, side, takeover, from_peer, .. } = &mut self.parts;
        links.set_peer(node.peer_boot());
        // The actions of an input wait until the drain is over: nothing is decided on half of what has come. Only what
        // has expired acts at once, and that is a fence.
        links.drain(ready, seal, |now, received| match received {
            Received::Heartbeat { path, heartbeat } => node.handle(now, Input::Heartbeat { path, heartbeat }),
            Received::Pong { witness, round } => node.handle(now, Input::Pong { witness, round }),
            Received::Fragment(bytes) => side.receive(now, bytes, takeover, from_peer),
            Received::PanicText { began } => node.handle(now, Input::PanicText { began }),
        });
        self.act(clock::now());
    }

    fn read(&mut self, now: Instant, letter: ToLoop) {
        let node = &mut self.parts.node;
        match letter {
            ToLoop::Services { healthy } => node.handle(now, Input::Services { healthy }),
            ToLoop::Data { data, newest } => node.handle(now, Input::Data { data, newest }),
            ToLoop::Order(order) => {
                let term = node.known_term();
                let order = match order {
                    Order::Switchover => node::Order::Switchover { term },
                    Order::Hold => node::Order::Hold { term },
                    Order::Release => node::Order::Release,
                    Order::Force => node::Order::Force,
                    Order::Leave => node::Order::Leave,
                };
                node.handle(now, Input::Order(order));
            }
            ToLoop::ServicesStopped { surrender } => {
                if let Some(under_way) = self.surrender.as_mut().filter(|s| s.order == surrender) {
                    under_way.services_ended = true;
                }
            }
            ToLoop::OwnAddress(ip) => self.parts.links.take_own(ip),
            ToLoop::Gate { holds } => {
                self.parts.belts.gate_holds(holds);
                self.look_at_bound(now);
            }
            ToLoop::Moved { gated } => {
                self.gated = gated;
                self.look_at = now;
            }
            ToLoop::Snapshot => {
                let snapshot = self.snapshot(now);
                self.parts.snapshot.publish(snapshot);
            }
        }
    }
}
