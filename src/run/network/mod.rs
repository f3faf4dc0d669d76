//! What the loop wants of the network's configuration again and again, done by a thread of its own.
//!
//! To change that configuration, and to read most of it, takes the kernel's one lock for it (`rtnl_mutex`, net/core/rtnetlink.c),
//! and whoever has it may keep it: for a tenth of a second and more where some hundred interfaces are deleted together, for
//! seconds where a driver resets its card. The loop has heartbeats to send meanwhile. So the renewals of the addresses'
//! lifetimes and the looks once a second are asked for here. Their answers come when they come: while a look waits for the
//! lock, nobody but its holder can change what it is about.
//!
//! A renewal is a right's work, and the right may end while it waits: "Renewal" in docs/safety.md.

mod opener;
mod worker;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};

use super::lines::{Behind, Lines};
use super::links::PORTS;
use super::mailbox::Mailbox;
use crate::clock;
use crate::link::Binder;
use crate::link::serial::Port;
use crate::netlink::Socket;
use crate::takeover::clients::Clients;
use crate::takeover::{ADDRESSES, Placement, Renewal, ServiceAddress, Settled};
use crate::time::Instant;
use crate::wire::Mac;
use opener::Opener;
use worker::Worker;

/// A renewal, a look, a port to close and the end.
const ROOM: usize = 4;
/// Stack of the thread: half of it is enough for a build with little optimisation (`half_of_its_stack_is_enough`), and only what is
/// touched is ever locked in memory.
const STACK: usize = 128 * 1024;

/// What is asked for.
#[allow(clippy::large_enum_variant)] // the loop frees nothing, so nothing comes in a box
enum Ask {
    Renew(Renewal),
    Look(Look),
    Close(#[expect(dead_code, reason = "dropping it is all")] Port),
    End,
}

/// What is to be looked at, besides the queues behind the gate and the interfaces of the ports.
pub(super) struct Look {
    /// Number of the last time that the addresses were confirmed down, if they still should be.
    pub confirmed: Option<u32>,
    /// The gate is on these interfaces, some of which have come in the place of others: service addresses may go there.
    pub gated: [u32; ADDRESSES],
    /// The neighbours, who are the clients, are read.
    pub learn: bool,
    /// The null modem has no port.
    pub port: bool,
}

/// What comes back.
pub(super) enum Answer {
    /// The renewal is over.
    Renewed(Renewed),
    /// The look is over: [`Network::findings`].
    Looked,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    /// Every address has another lifetime.
    All,
    /// There was no right any more, at least not for all of them.
    NotAllowed,
    /// An address was gone, or the kernel refused.
    Failed(io::ErrorKind),
}

/// What a look has found. In one place, and not in a letter: the thread writes it while a look is under way, the loop reads it when
/// the look is over.
#[derive(Default)]
pub(super) struct Findings {
    /// What can wait behind the gate.
    pub behind: Behind,
    /// Whether the addresses are down that should be since the confirmation of this number.
    pub addresses: Option<(u32, Addresses)>,
    /// Where service addresses go from now on.
    pub settled: heapless::Vec<Settled, ADDRESSES>,
    /// The interfaces, index and hardware address, that have come in the place of those that the ports had, or have got another
    /// hardware address.
    pub bound: [Option<(u32, Mac)>; PORTS],
    /// A port for the null modem.
    pub port: Option<Port>,
    /// The clients, if they were read.
    pub clients: Clients,
    /// They were.
    pub learned: bool,
}

/// How service addresses stand that should be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    /// They are.
    Down,
    /// One is up.
    Up,
    /// The kernel does not tell.
    Unknown(io::ErrorKind),
}

/// Until when there is a right, as the loop saw it last. Only the loop writes.
struct Right(AtomicU64);

impl Right {
    fn lasts(&self) -> bool {
        // In this order: a right that has ended meanwhile is not looked at with a clock from before.
        let until = Instant::from_nanos(self.0.load(Ordering::SeqCst));
        clock::now() < until
    }
}

/// What the thread works with, and gives back in the end.
pub(super) struct Tools {
    /// The addresses of the pair.
    pub addresses: Vec<ServiceAddress>,
    /// Where they go.
    pub placement: Placement,
    /// What is behind the gate.
    pub lines: Lines,
    /// For the ports on interfaces, in their order.
    pub binders: [Option<Binder>; PORTS],
    /// The interfaces that nobody else looks after, by name, and their indexes: on a box that is all ours.
    pub ours: Vec<(String, u32)>,
}

/// The loop's end.
pub(super) struct Network {
    asked: Arc<Mailbox<Ask, ROOM>>,
    answers: Arc<Mailbox<Answer, ROOM>>,
    right: Arc<Right>,
    findings: Arc<Mutex<Findings>>,
    /// When the renewal under way was asked for.
    renewing: Option<Instant>,
    looking: bool,
    thread: Option<JoinHandle<Tools>>,
}

impl Network {
    /// Starts the thread. `null_modem`: its port, and its speed.
    ///
    /// # Errors
    ///
    /// When the kernel gives no eventfd, no netlink socket, or no thread.
    pub(super) fn start(tools: Tools, null_modem: Option<(String, u32)>) -> io::Result<Network> {
        let (asked, answers) = (Arc::new(Mailbox::new()?), Arc::new(Mailbox::new()?));
        let right = Arc::new(Right(AtomicU64::new(0)));
        let findings = Arc::new(Mutex::new(Findings::default()));
        let worker = Worker {
            netlink: Socket::open()?,
            tools,
            asked: asked.clone(),
            answers: answers.clone(),
            right: right.clone(),
            findings: findings.clone(),
            opener: Opener::new(null_modem),
        };
        let thread = Builder::new().name("twobox-network".into()).stack_size(STACK).spawn(move || worker.work())?;
        Ok(Network { asked, answers, right, findings, renewing: None, looking: false, thread: Some(thread) })
    }

    /// From now on there is a right until `until`, and renewals are its work.
    pub(super) fn allow(&self, until: Instant) {
        self.right.0.store(until.as_nanos(), Ordering::SeqCst);
    }

    /// No renewal begins from now on.
    pub(super) fn forbid(&self) {
        self.right.0.store(0, Ordering::SeqCst);
    }

    /// Until when renewals are allowed; in the past: not at all.
    pub(super) fn allowed_until(&self) -> Instant {
        Instant::from_nanos(self.right.0.load(Ordering::SeqCst))
    }

    /// Asks for a renewal, unless one is under way.
    pub(super) fn renew(&mut self, now: Instant, renewal: impl FnOnce() -> Renewal) {
        if self.renewing.is_none() && self.asked.send(Ask::Renew(renewal())).is_ok() {
            self.renewing = Some(now);
        }
    }

    /// Asks for a look, unless one is under way. Whether it was asked for.
    pub(super) fn look(&mut self, look: Look) -> bool {
        let asks = !self.looking && self.asked.send(Ask::Look(look)).is_ok();
        self.looking |= asks;
        asks
    }

    /// Closes a port that was unplugged.
    pub(super) fn close(&self, port: Port) {
        // One before the other is closed would have to be plugged in first, and that takes a look.
        drop(self.asked.send(Ask::Close(port)));
    }

    /// Silences the bell.
    pub(super) fn hush(&self) {
        self.answers.hush();
    }

    /// The next answer, and when what it answers was asked for, if it is a renewal.
    pub(super) fn receive(&mut self) -> Option<(Answer, Option<Instant>)> {
        let answer = self.answers.receive()?;
        let asked_at = match answer {
            Answer::Renewed(_) => self.renewing.take(),
            Answer::Looked => {
                self.looking = false;
                None
            }
        };
        Some((answer, asked_at))
    }

    /// What the look that is over has found. Nobody else has them before the next one is asked for; if somebody has, the loop does
    /// not wait for him.
    pub(super) fn findings(&self) -> Option<MutexGuard<'_, Findings>> {
        self.findings.try_lock().ok()
    }

    /// Ends the thread, and gives back what it worked with. Waits for the kernel if the thread does.
    pub(super) fn end(&mut self) -> Option<Tools> {
        self.forbid();
        let _ = self.asked.send(Ask::End); // there is room for it
        self.thread.take()?.join().ok()
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answers.as_fd()
    }
}
