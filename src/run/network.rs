//! What the loop wants of the network's configuration again and again, done by a thread of its own.
//!
//! To change that configuration, and to read most of it, takes the kernel's one lock for it (`rtnl_mutex`, net/core/rtnetlink.c),
//! and whoever has it may keep it: for a tenth of a second and more where some hundred interfaces are deleted together, for
//! seconds where a driver resets its card. The loop has heartbeats to send meanwhile. So the renewals of the addresses'
//! lifetimes and the looks once a second are asked for here. Their answers come when they come: while a look waits for the
//! lock, nobody but its holder can change what it is about.
//!
//! A renewal is a right's work, and the right may end while it waits: "Renewal" in docs/safety.md.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::mailbox::Mailbox;
use crate::clock;
use crate::fence::queue::{self, Queue};
use crate::netlink::Socket;
use crate::realtime;
use crate::takeover::clients::Clients;
use crate::takeover::{ADDRESSES, Client, Renewal, ServiceAddress, address};
use crate::time::Instant;

/// Known clients in one answer.
const CLIENTS: usize = 32;
/// Answers that may wait: all clients of one look, its end, and a renewal.
const ANSWERS: usize = 16;
const _: () = assert!(crate::takeover::CLIENTS / CLIENTS + 2 <= ANSWERS);
/// A renewal, a look and the end.
const ASKED: usize = 4;

/// One of each for every interface that frames with a service address pass.
pub(super) type OfLines<T> = heapless::Vec<T, 32>;

/// What is asked for.
enum Ask {
    Renew(Renewal),
    Look(Look),
    End,
}

/// What is to be looked at.
pub(super) struct Look {
    /// Index and length of the transmit queue of each interface whose queues are read.
    pub lines: OfLines<(u32, u32)>,
    /// Number of the last time that the addresses were confirmed down, if they still should be.
    pub confirmed: Option<u32>,
    /// Interfaces whose neighbours are read.
    pub neighbors: heapless::Vec<u32, ADDRESSES>,
}

/// What comes back.
#[allow(clippy::large_enum_variant)] // the loop frees nothing, so nothing comes in a box
pub(super) enum Answer {
    /// The renewal is over.
    Renewed(Renewed),
    /// Clients of the look under way.
    Clients(heapless::Vec<Client, CLIENTS>),
    /// The look is over.
    Looked {
        /// What was read of the interface of this index; `None`: nothing is known.
        queues: OfLines<(u32, Option<Queue>)>,
        /// A service address is up although they should all be down since the confirmation of this number, or that could not
        /// be read.
        up: Option<u32>,
    },
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

/// Until when there is a right, as the loop saw it last. Only the loop writes.
struct Right(AtomicU64);

impl Right {
    fn lasts(&self) -> bool {
        // In this order: a right that has ended meanwhile is not looked at with a clock from before.
        let until = Instant::from_nanos(self.0.load(Ordering::SeqCst));
        clock::now() < until
    }
}

/// The loop's end.
pub(super) struct Network {
    asked: Arc<Mailbox<Ask, ASKED>>,
    answers: Arc<Mailbox<Answer, ANSWERS>>,
    right: Arc<Right>,
    /// When the renewal under way was asked for.
    renewing: Option<Instant>,
    looking: bool,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Starts the thread. `addresses` are those of the pair.
    ///
    /// # Errors
    ///
    /// When the kernel gives no eventfd, no netlink socket, or no thread.
    pub(super) fn start(addresses: &[ServiceAddress]) -> io::Result<Network> {
        let (asked, answers) = (Arc::new(Mailbox::new()?), Arc::new(Mailbox::new()?));
        let right = Arc::new(Right(AtomicU64::new(0)));
        let mut worker = Worker {
            netlink: Socket::open()?,
            addresses: addresses.to_vec(),
            clients: Clients::default(),
            asked: asked.clone(),
            answers: answers.clone(),
            right: right.clone(),
        };
        let thread =
            Builder::new().name("twobox-network".into()).stack_size(super::STACK).spawn(move || worker.work())?;
        Ok(Network { asked, answers, right, renewing: None, looking: false, thread: Some(thread) })
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
    pub(super) fn look(&mut self, look: impl FnOnce() -> Look) -> bool {
        let asks = !self.looking && self.asked.send(Ask::Look(look())).is_ok();
        self.looking |= asks;
        asks
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
            Answer::Looked { .. } => {
                self.looking = false;
                None
            }
            Answer::Clients(_) => None,
        };
        Some((answer, asked_at))
    }

    /// Ends the thread. Waits for the kernel if it does.
    pub(super) fn end(&mut self) {
        self.forbid();
        let _ = self.asked.send(Ask::End); // there is room for it
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answers.as_fd()
    }
}

/// The thread's end.
struct Worker {
    netlink: Socket,
    addresses: Vec<ServiceAddress>,
    clients: Clients,
    asked: Arc<Mailbox<Ask, ASKED>>,
    answers: Arc<Mailbox<Answer, ANSWERS>>,
    right: Arc<Right>,
}

impl Worker {
    fn work(&mut self) {
        // Without permission it is an ordinary thread; the loop has warned already.
        let _ = realtime::prioritize(realtime::Thread::Network);
        loop {
            self.asked.hush();
            while let Some(asked) = self.asked.receive() {
                match asked {
                    Ask::Renew(renewal) => self.renew(&renewal),
                    Ask::Look(look) => self.look(&look),
                    Ask::End => return,
                }
            }
            let mut bell = [PollFd::new(self.asked.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut bell, PollTimeout::NONE); // EINTR: look again
        }
    }

    fn renew(&mut self, renewal: &Renewal) {
        let right = self.right.clone();
        let renewed = match renewal.carry_out(&mut self.netlink, || right.lasts()) {
            Ok(true) => Renewed::All,
            Ok(false) => Renewed::NotAllowed,
            Err(error) => Renewed::Failed(error.kind()),
        };
        self.answer(Answer::Renewed(renewed));
    }

    fn look(&mut self, look: &Look) {
        let mut queues = OfLines::new();
        for (index, transmit_queue_length) in &look.lines {
            let queue = queue::read(&mut self.netlink, *index, *transmit_queue_length);
            let _ = queues.push((*index, queue.ok())); // as many as lines
        }
        let is_down = |netlink: &mut Socket, addresses: &[ServiceAddress]| {
            address::assigned(netlink, addresses).is_ok_and(|up| up.is_empty())
        };
        let up = look.confirmed.filter(|_| !is_down(&mut self.netlink, &self.addresses));
        if !look.neighbors.is_empty() {
            self.learn_clients(&look.neighbors);
        }
        self.answer(Answer::Looked { queues, up });
    }

    fn learn_clients(&mut self, interfaces: &[u32]) {
        self.clients = Clients::default();
        for index in interfaces {
            if let Err(error) = self.clients.read_neighbors(&mut self.netlink, *index) {
                log::debug!("the neighbour tables cannot be read: {error}");
            }
        }
        for some in self.clients.all().chunks(CLIENTS) {
            if let Ok(some) = heapless::Vec::from_slice(some) {
                self.answer(Answer::Clients(some));
            }
        }
    }

    fn answer(&self, answer: Answer) {
        if self.answers.send(answer).is_err() {
            log::error!("the loop does not take what was found out about the network");
        }
    }
}
