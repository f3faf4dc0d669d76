//! The standby's part: a sender comes, and its cycles are taken.

use std::io;
use std::os::unix::ffi::OsStrExt;

use super::channel::{Channel, Incoming, Outgoing};
use super::control::{Generation, Report, Role, State};
use super::message::Message;
use super::publish::replay;
use super::receiver;
use super::refresh::refresh;
use super::run::{Mirror, unix_s};
use super::system;
use super::trouble::explain;
use crate::clock;
use crate::time::Duration;

/// How long a receiver waits for the peer before it looks after its orders.
const TURN: Duration = Duration::from_millis(100);
/// A sender that was refused is listened to for so long, so that it reads why before the connection goes.
const PARTING: Duration = Duration::from_secs(1);

impl Mirror {
    /// A sender has come: it takes the place of the one before.
    pub(super) fn welcome(&mut self, channel: Channel) {
        if self.role != Role::Receive {
            return;
        }
        self.drop_link();
        let started = channel.breaker().and_then(|breaker| {
            let peer = channel.peer()?;
            Ok((peer, breaker, channel.start(None, None)?))
        });
        match started {
            Ok((peer, breaker, link)) => {
                self.current.set(breaker);
                self.link = Some(link);
                self.reporter.say(&Report::Connected { peer: Some(peer.to_string()) });
            }
            Err(e) => log::warn!("mirror: {e}"),
        }
    }

    /// Takes the peer's next cycle, if it begins one now.
    pub(super) fn serve(&mut self) {
        let Some((mut outgoing, mut incoming)) = self.link.take() else { return };
        let Err(e) = self.try_serve(&mut outgoing, &mut incoming) else {
            self.link = Some((outgoing, incoming));
            return;
        };
        if e.kind() != io::ErrorKind::UnexpectedEof {
            let reason = explain(&e);
            log::warn!("mirror: {reason}");
            let told =
                Message::Refused { reason: reason.as_bytes() }.put(&mut outgoing).and_then(|()| outgoing.flush());
            drop(outgoing); // what has been put still goes out
            let until = clock::now() + PARTING;
            while told.is_ok() && clock::now() < until && incoming.next(PARTING).is_ok() {}
        }
        self.reporter.say(&Report::Connected { peer: None });
        self.current.break_off();
    }

    fn try_serve(&mut self, outgoing: &mut Outgoing, incoming: &mut Incoming) -> io::Result<()> {
        let (kind, payload) = match incoming.next(TURN) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            other => other?,
        };
        let Message::Begin { tree, single, verify } = Message::decode(kind, payload)? else {
            return Err(super::codec::Malformed.into());
        };
        let path = system::path_of(tree).to_path_buf();
        let generation = incoming.generation();
        if generation.term < self.generation.term {
            let text = format!("a sender of term {}, but term {} is known", generation.term, self.generation.term);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let number =
            self.trees.iter().position(|tree| tree.settings.tree.as_os_str().as_bytes() == path.as_os_str().as_bytes());
        let number = number.ok_or_else(|| io::Error::other(format!("{} is not configured here", path.display())))?;
        let begin = clock::now();
        self.reporter.update(number, |figures| figures.plain.state = State::Running);
        let done = self.receive(number, single, verify, generation, outgoing, incoming);
        let now = clock::now();
        match &done {
            Ok(received) => {
                self.reporter.alarm(number, None);
                self.reporter.update(number, |figures| {
                    if received.cut.is_some() {
                        figures.cut_at = Some(begin);
                        figures.plain.generation = generation;
                        figures.plain.cycle_ms = u64::try_from(now.since(begin).as_millis()).unwrap_or(u64::MAX);
                    }
                });
                if received.put + received.gone > 0 {
                    self.count_diverged();
                }
            }
            Err(e) => self.failed(number, e),
        }
        self.reporter.figures();
        done.map(|_| ())
    }

    fn receive(
        &mut self,
        number: usize,
        single: bool,
        verify: bool,
        generation: Generation,
        outgoing: &mut Outgoing,
        incoming: &mut Incoming,
    ) -> io::Result<receiver::Received> {
        self.stand()?;
        let root = &self.trees[number].settings.tree;
        if !single && !root.exists() {
            std::fs::create_dir(root)?; // only the last component: what should be mounted above must be there
        }
        self.open(number, Some(single))?;
        let tree = &mut self.trees[number];
        let Some(side) = &tree.side else { return Err(io::ErrorKind::NotFound.into()) };
        if side.is_single() != single {
            let (here, there) = if single { ("a directory", "one file") } else { ("one file", "a directory") };
            let text =
                format!("{} is {here} on this box and {there} on the one that serves", side.settings.tree.display());
            return Err(io::Error::other(text));
        }
        if replay(side, unix_s())?.is_some_and(|published| published.doubtful) {
            tree.refreshed = false;
        }
        if !tree.refreshed || verify {
            refresh(side, verify, incoming.stop())?;
            tree.refreshed = true;
        }
        let received = receiver::cycle(side, generation, incoming, outgoing, unix_s())?;
        tree.refreshed &= !received.doubtful; // the next cycle looks what is there
        let files = side.index.reader()?.files()?;
        self.reporter.update(number, |figures| figures.plain.files = files);
        let _ = self.stand(); // a tree that has just been made: between two cycles is the time to start anew
        Ok(received)
    }
}
