//! One turn after the other: sleep, drain every input, read the clock, decide, act.

mod hear;
mod look;

use std::io;
use std::sync::Arc;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::belts::Belts;
use super::claims::Claims;
use super::disk::{self, ToDisk};
use super::lateness::Lateness;
use super::letters::{ToHelper, ToLoop};
use super::links::Links;
use super::mailbox::Mailbox;
use super::network::Network;
use super::quiet::until_quiet;
use super::side::{Letters, Side};
use super::snapshot::{Dog, Shared, Snapshot};
use super::sources::{Source, Sources};
use super::steps::Watch;
use crate::clock;
use crate::fence::bound::BoundBy;
use crate::fence::reset::Reset;
use crate::node::settings::{PATHS, WITNESSES};
use crate::node::{self, Input, Node};
use crate::takeover::{ADDRESSES, Takeover};
use crate::time::{Duration, Instant};
use crate::wire::Mac;
use crate::wire::heartbeat::Seal;

/// How long a foreign claim is shown.
const CONFLICT_SHOWN: Duration = Duration::from_secs(60);
/// Decisions a turn may follow up on by itself: a surrender whose addresses came down at once, say.
const FOLLOW_UPS: usize = 4;
/// A yield or a fence that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surrender {
    /// The node's number of it.
    pub order: u32,
    /// Services have ended; until then a yield keeps the addresses.
    pub services_ended: bool,
}

/// What the loop is made of.
pub(super) struct Parts {
    pub node: Node,
    pub seal: Seal,
    pub links: Links,
    pub takeover: Takeover,
    pub belts: Belts,
    pub reset: Reset,
    pub surrender_waits: bool,
    /// All service addresses are on the interface that the board calls `lan`.
    pub addresses_on_lan: bool,
    pub to_loop: Arc<Mailbox<ToLoop>>,
    pub to_helper: Arc<Mailbox<ToHelper>>,
    pub to_disk: Arc<Mailbox<ToDisk>>,
    pub from_disk: Arc<disk::Answers>,
    pub network: Network,
    pub snapshot: Arc<Shared>,
    pub side: Side,
    /// The helper's words for the peer.
    pub to_peer: Arc<Letters>,
    /// The peer's words for the helper.
    pub from_peer: Arc<Letters>,
}

/// The loop's state besides the node's.
pub(super) struct Cluster {
    pub(super) parts: Parts,
    sources: Sources,
    timer: TimerFd,
    /// Addresses to be confirmed down for this order.
    pub(super) surrender: Option<Surrender>,
    /// The node was told that the addresses are down, and nothing was ordered up since.
    pub(super) confirmed_down: bool,
    /// How often that was so.
    confirmations: u32,
    /// The interfaces on which the gate was put after another one had come in the place of one of them.
    gated: [u32; ADDRESSES],
    /// A write that the disk's thread did not take.
    pub(super) unwritten: Option<u32>,
    /// The hardware address of the peer that the next life will find.
    kept_mac: Option<Mac>,
    bound: (Option<Duration>, BoundBy),
    /// Foreign claims in the log.
    claims: Claims,
    look_at: Instant,
    learn_at: Instant,
    speak_at: Option<Instant>,
    pub(super) left: bool,
    turns: u64,
    lateness: Lateness,
    said_ready: bool,
    /// Where the time of the last takeover went.
    pub(super) watch: Watch,
}

impl Cluster {
    /// Opens the loop's own descriptors and registers all of them.
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let mut sources = Sources::new()?;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        sources.add(&timer, Source::Timer)?;
        sources.add(&*parts.to_loop, Source::ToLoop)?;
        sources.add(&*parts.from_disk, Source::FromDisk)?;
        sources.add(&parts.network, Source::Network)?;
        sources.add(&*parts.to_peer, Source::ToPeer)?;
        for descriptor in parts.takeover.descriptors() {
            sources.add(descriptor, Source::Claims)?;
        }
        for (source, descriptor) in parts.links.descriptors() {
            sources.add(descriptor, source)?;
        }
        let bound = parts.belts.bound();
        let now = clock::now();
        Ok(Self {
            parts,
            sources,
            timer,
            // What a former life left is down already; that is confirmed like any surrender.
            surrender: Some(Surrender { order: 0, services_ended: true }),
            confirmed_down: false,
            confirmations: 0,
            gated: [0; ADDRESSES],
            unwritten: None,
            kept_mac: None,
            bound,
            claims: Claims::default(),
            look_at: now,
            learn_at: now,
            speak_at: None,
            left: false,
            turns: 0,
            lateness: Lateness::new(),
            said_ready: false,
            watch: Watch::default(),
        })
    }

    /// Turns until the node has left.
    pub(super) fn run(&mut self) -> io::Result<()> {
        while !self.left {
            self.turn()?;
            self.sleep()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.turns += 1;
        let now = until_quiet(self.too_long(), clock::now, || self.drain());
        self.lateness.decides(now);
        self.look_around(now);
        self.decide(now);
        self.parts.takeover.announce(now);
        self.speak(now);
        if !self.said_ready && self.confirmed_down {
            self.said_ready = true;
            let _ = self.parts.to_helper.send(ToHelper::Ready); // only a hanging helper takes none
        }
        Ok(())
    }

    /// Whatever takes longer than this within a turn makes its clock too old to decide by.
    fn too_long(&self) -> Duration {
        node::timing::late_limit(self.parts.node.settings().lease) / 2
    }

    /// Hands over the turn and does what the node wants, again as long as that brings something new by itself.
    fn decide(&mut self, now: Instant) {
        for _ in 0..FOLLOW_UPS {
            self.parts.node.handle(now, Input::Turn);
            self.act(now);
            // The kernel may have taken its time: then the next turn hears first what has come meanwhile.
            if !self.confirm_down(now) || clock::now().since(now) > self.too_long() {
                break;
            }
        }
        self.watch.look(now, self.parts.belts.frames_in());
    }

    /// The side channel, after everything that matters more.
    fn speak(&mut self, now: Instant) {
        let Parts { node, links, side, to_helper, .. } = &mut self.parts;
        side.channel.set_peer(node.peer_boot());
        self.speak_at = side.speak(now, node, links, |kind| {
            let _ = to_helper.send(ToHelper::Told(kind)); // a hanging helper is not waited for
        });
    }

    fn act(&mut self, now: Instant) {
        while let Some(action) = self.parts.node.next_action() {
            self.carry_out(now, action);
        }
    }

    /// Takes the addresses down for the surrender under way, once its services have ended, and tells the node when that is
    /// confirmed by the kernel. True if it was told.
    fn confirm_down(&mut self, now: Instant) -> bool {
        let Some(surrender) = self.surrender.filter(|s| s.services_ended) else { return false };
        self.parts.network.forbid();
        let Parts { takeover, belts, .. } = &mut self.parts;
        let down = takeover.take_down();
        belts.close();
        match down.and_then(|_| belts.behind().drained(takeover.netlink())) {
            Ok(true) => {
                self.surrender = None;
                self.confirmed_down = true;
                self.confirmations = self.confirmations.wrapping_add(1);
                self.parts.belts.allow_feeds(Instant::NEVER);
                self.parts.node.handle(now, Input::Down { order: surrender.order });
                self.act(now);
                true
            }
            Ok(false) => false, // looked at again in the next turn
            Err(error) => {
                log::error!("service addresses cannot be confirmed down: {error}");
                false
            }
        }
    }

    fn sleep(&mut self) -> io::Result<()> {
        let mut deadline = self.parts.node.next_deadline().min(self.look_at);
        if let Some(announcement) = self.parts.takeover.next_deadline() {
            deadline = deadline.min(announcement);
        }
        if let Some(fragment) = self.speak_at {
            deadline = deadline.min(fragment);
        }
        if let Some(look) = self.watch.next_look(clock::now()) {
            deadline = deadline.min(look);
        }
        if self.surrender.is_some_and(|s| s.services_ended) {
            deadline = deadline.min(clock::now() + Duration::from_millis(1));
        }
        if deadline != self.lateness.due() {
            self.lateness.set(deadline);
            // A time of zero would disarm the timer.
            let at = TimeSpec::from_duration(Duration::from_nanos(deadline.as_nanos().max(1)));
            self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        }
        self.sources.wait()
    }

    fn snapshot(&mut self, now: Instant) -> Snapshot {
        let Parts { node, takeover, links, belts, .. } = &mut self.parts;
        let mut rtt = [Duration::ZERO; WITNESSES];
        for (witness, rtt) in (0u8..).zip(&mut rtt) {
            *rtt = node.witness_rtt(witness);
        }
        let mut held = [false; ADDRESSES];
        let mut conflicts = [None; ADDRESSES];
        for (address, (held, conflict)) in held.iter_mut().zip(&mut conflicts).enumerate() {
            *held = takeover.held(address);
            *conflict = takeover.conflict(now, address, CONFLICT_SHOWN);
        }
        let mut seen = [super::links::Seen::default(); PATHS];
        for (path, seen) in (0u8..).zip(&mut seen) {
            *seen = links.seen(now, path);
        }
        Snapshot {
            at: now,
            node: node.status(now),
            paths: *node.paths(),
            links: seen,
            rtt,
            held,
            conflicts,
            bound: self.bound,
            gate_expiry: belts.gate_expiry(),
            witness_limits: links.witness_limits(),
            watchdog: belts.watchdog().map(|dog| Dog {
                timeout: dog.timeout(),
                late_at: belts.fed_late_at(),
                is_belt: dog.weakness().is_none(),
            }),
            turns: self.turns,
            worst_lateness: self.lateness.take(),
            steps: self.watch.steps(),
        }
    }

    /// Feeds the watchdog of a program that ends, if its addresses are confirmed down and it is not late.
    pub(super) fn feed_until(&mut self, until: Instant) {
        let now = clock::now();
        if self.confirmed_down && now < until {
            self.parts.belts.feed();
        }
    }

    /// The end of the program, after the node has left: the addresses are confirmed down, so the belts may come off.
    pub(super) fn close(mut self: Box<Self>) {
        let confirmed = self.confirmed_down;
        let mut tools = self.parts.network.end();
        let netlink = self.parts.takeover.netlink();
        if let Some(lines) = tools.as_mut().map(|tools| &mut tools.lines).filter(|_| confirmed) {
            lines.restore(netlink);
        }
        if let Some(Err(error)) = tools.map(|tools| tools.placement.close(netlink)) {
            log::warn!("interfaces cannot be put back as they were: {error}");
        }
        if confirmed {
            self.parts.belts.release();
        } else {
            log::error!("leaving without confirmed addresses: gate and watchdog stay");
        }
    }
}
