//! The thread's end: it may wait, for the kernel and between two attempts.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::opener::Opener;
use super::{Addresses, Answer, Ask, Findings, Look, ROOM, Renewed, Right, Tools};
use crate::netlink::Socket;
use crate::realtime;
use crate::run::lines::Behind;
use crate::run::mailbox::Mailbox;
use crate::takeover::interface::{self, Interface};
use crate::takeover::{Renewal, address};
use crate::time::Duration;

/// So often something is read before it counts as not known: the kernel breaks off a reading during which too much has changed,
/// and for want of memory.
const READINGS: usize = 4;
/// Between two readings.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Worker {
    pub netlink: Socket,
    pub tools: Tools,
    pub asked: Arc<Mailbox<Ask, ROOM>>,
    pub answers: Arc<Mailbox<Answer, ROOM>>,
    pub right: Arc<Right>,
    pub findings: Arc<Mutex<Findings>>,
    pub opener: Opener,
}

impl Worker {
    pub(super) fn work(mut self) -> Tools {
        // Without permission it is an ordinary thread; the loop has warned already.
        let _ = realtime::prioritize(realtime::Thread::Network);
        loop {
            self.asked.hush();
            while let Some(asked) = self.asked.receive() {
                match asked {
                    Ask::Renew(renewal) => self.renew(&renewal),
                    Ask::Look(look) => self.look(&look),
                    Ask::Close(_) => {}
                    Ask::End => return self.tools,
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
        let findings = self.findings.clone();
        let mut found = findings.lock().unwrap_or_else(PoisonError::into_inner);
        found.addresses = look.confirmed.map(|number| (number, self.addresses()));
        found.settled.clear();
        found.bound = Default::default();
        found.behind.stay = None;
        match again(|| interface::list(&mut self.netlink)) {
            Ok(all) => {
                self.switch_on(&all);
                self.look_behind(&all, &mut found.behind);
                self.find_interfaces(&all, &look.gated, &mut found);
            }
            Err(error) => log::warn!("the interfaces cannot be read: {error}"),
        }
        if look.port {
            found.port = self.opener.find();
        }
        found.learned = look.learn;
        if look.learn {
            self.learn_clients(&mut found);
        }
        drop(found); // before the loop is told
        self.answer(Answer::Looked);
    }

    fn addresses(&mut self) -> Addresses {
        let Worker { netlink, tools, .. } = self;
        match again(|| address::assigned(netlink, &tools.addresses)) {
            Ok(up) if up.is_empty() => Addresses::Down,
            Ok(_) => Addresses::Up,
            Err(error) => Addresses::Unknown(error.kind()),
        }
    }

    fn look_behind(&mut self, all: &[Interface], behind: &mut Behind) {
        let Worker { netlink, tools, .. } = self;
        match again(|| tools.lines.look(netlink, all)) {
            Ok(()) => *behind = tools.lines.behind(),
            Err(error) => log::warn!("what waits behind the gate cannot be read: {error}"),
        }
    }

    /// Takes the interfaces that have come in the place of others, and those with another hardware address.
    fn find_interfaces(&mut self, all: &[Interface], gated: &[u32], found: &mut Findings) {
        let Worker { netlink, tools, .. } = self;
        for (binder, bound) in tools.binders.iter_mut().zip(&mut found.bound) {
            let Some(binder) = binder else { continue };
            let lost = binder.is_lost();
            let wanted = |new: &&Interface| {
                if lost { new.name == binder.name() } else { new.index == binder.index() && new.mac != binder.mac() }
            };
            if let Some(new) = all.iter().find(wanted)
                && binder.bind(new.index, new.mac).is_ok()
            {
                *bound = Some((new.index, new.mac));
            } // else it is not there yet: tried again in a second
        }
        if let Err(error) = tools.placement.follow(netlink, all, gated, &mut found.settled) {
            log::error!("service addresses: {error}; tried again");
        }
    }

    /// A card that comes back is switched off, and on a box that is all ours nobody else switches it on.
    fn switch_on(&mut self, all: &[Interface]) {
        for (name, index) in &mut self.tools.ours {
            let Some(new) = interface::replacement(all, name, *index) else { continue };
            match interface::set_up(&mut self.netlink, new.index, true) {
                Ok(()) => {
                    log::info!("interface {name} is back, and switched on");
                    *index = new.index;
                }
                Err(error) => log::error!("interface {name} is back and cannot be switched on: {error}"),
            }
        }
    }

    fn learn_clients(&mut self, found: &mut Findings) {
        found.clients.clear();
        for index in self.tools.placement.parents() {
            if let Err(error) = found.clients.read_neighbors(&mut self.netlink, index) {
                log::debug!("the neighbour tables cannot be read: {error}");
            }
        }
    }

    fn answer(&self, answer: Answer) {
        if self.answers.send(answer).is_err() {
            log::error!("the loop does not take what was found out about the network");
        }
    }
}

/// Reads once more what could not be read.
fn again<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut result = read();
    for _ in 1..READINGS {
        if result.is_ok() {
            break;
        }
        #[allow(clippy::disallowed_methods)] // nobody else waits for this thread
        std::thread::sleep(PAUSE);
        result = read();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::AtomicU64;

    use crate::fence::address_lease;
    use crate::run::belts::Way;
    use crate::run::lines::Lines;
    use crate::run::network::STACK;
    use crate::takeover::{ADDRESSES, Settings, SettingsAddress, Takeover, address::ServiceAddress};
    use crate::time::Instant;

    /// In a network of its own, with an address that is not on its loopback.
    fn worker() -> io::Result<(Worker, Takeover)> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        let lifetime = address_lease::lifetime(Duration::from_millis(500));
        let address = ServiceAddress { ip: "2001:db8::77".parse().unwrap(), prefix: 128 };
        let addresses = vec![SettingsAddress { address, interface: "lo".into(), virtual_mac: false }];
        let settings = Settings { pair: "stack".into(), addresses, lifetime, lease: lifetime, mark: 0 };
        let (mut takeover, _) = Takeover::open(&settings)?;
        interface::set_up(takeover.netlink(), 1, true)?;
        let lines = Lines::open(takeover.netlink(), &[Way { name: "lo".into(), index: 1 }])?;
        let placement = takeover.placement().unwrap();
        let tools = Tools { addresses: vec![address], placement, lines, binders: [const { None }; 3], ours: vec![] };
        let worker = Worker {
            netlink: Socket::open()?,
            tools,
            asked: Arc::new(Mailbox::new()?),
            answers: Arc::new(Mailbox::new()?),
            right: Arc::new(Right(AtomicU64::new(Instant::NEVER.as_nanos()))),
            findings: Arc::default(),
            opener: Opener::new(None),
        };
        Ok((worker, takeover))
    }

    #[test]
    fn half_of_its_stack_is_enough() {
        let (worker, takeover) = match worker() {
            Ok(both) => both,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return println!("skipped: {error}"),
            Err(error) => panic!("{error}"),
        };
        let (asked, answers, findings) = (worker.asked.clone(), worker.answers.clone(), worker.findings.clone());
        let mut renewal = takeover.renewal();
        let up = crate::takeover::renewal::Up { index: 1, address: worker.tools.addresses[0], covered: true };
        renewal.up.push(up).unwrap();
        let small = std::thread::Builder::new().stack_size(STACK / 2).spawn(move || worker.work()).unwrap();
        let look = Look { confirmed: Some(7), gated: [0; ADDRESSES], learn: true, port: true };
        for ask in [Ask::Look(look), Ask::Renew(renewal), Ask::End] {
            assert!(asked.send(ask).is_ok());
        }
        small.join().unwrap();
        assert!(matches!(answers.receive(), Some(Answer::Looked)));
        assert!(matches!(answers.receive(), Some(Answer::Renewed(Renewed::Failed(io::ErrorKind::NotFound)))));
        let found = findings.lock().unwrap();
        assert_eq!(found.addresses, Some((7, Addresses::Down)));
        assert!(found.learned);
        assert_eq!((found.behind.stay, &*found.behind.queues), (Some(Duration::ZERO), &[1][..]));
    }

    #[test]
    fn what_cannot_be_read_is_read_again_and_not_for_ever() {
        let mut readings = 0;
        let mut fails = |times: usize| {
            readings = 0;
            again(|| {
                readings += 1;
                if readings <= times { Err(io::Error::from(io::ErrorKind::Interrupted)) } else { Ok(readings) }
            })
        };
        assert_eq!(fails(0).unwrap(), 1);
        assert_eq!(fails(READINGS - 1).unwrap(), READINGS);
        assert_eq!(fails(READINGS).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
