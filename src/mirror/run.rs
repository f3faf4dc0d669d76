//! The mirror's loop: takes orders, keeps the connection, runs the cycles that are due, serves those of the peer.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};

use super::bounds::Ground;
use super::channel::{Channel, Incoming, Outgoing};
use super::control::{Cause, Generation, Link, LinkKey, Order, Report, Role, Settings, TreeSettings};
use super::current::Current;
use super::diverged;
use super::index::Lookup;
use super::links::{Acceptor, connect};
use super::publish::replay;
use super::report::Reporter;
use super::schedule::Schedule;
use super::side::Side;
use super::store::{self, Store};
use super::trouble::explain;
use super::watch::Watch;
use crate::clock;
use crate::time::{Duration, Instant};

/// What the loop waits for.
#[derive(Debug)]
pub enum Event {
    /// An order of the daemon.
    Order(Order),
    /// The daemon has gone.
    Gone,
    /// A sender has come, and knows the key.
    Sender(Channel),
    /// Something of a tree has changed.
    Changed(usize),
}

/// Between two attempts to connect.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// One tree, and what is known of it in this role.
pub(super) struct Tree {
    pub(super) settings: TreeSettings,
    pub(super) side: Option<Side>,
    pub(super) watch: Option<Arc<Watch>>,
    pub(super) schedule: Schedule,
    pub(super) scanned: Option<Instant>,
    pub(super) refreshed: bool,
}

/// What somebody asked for and waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) number: Option<u64>,
    pub(super) confirmed: bool,
    pub(super) verify: bool,
}

/// The loop and all that it knows.
pub struct Mirror {
    pub(super) events: Receiver<Event>,
    pub(super) sender: Sender<Event>,
    pub(super) reporter: Reporter,
    pub(super) current: Current,
    pub(super) key: LinkKey,
    pub(super) settings: Option<Settings>,
    pub(super) trees: Vec<Tree>,
    pub(super) role: Role,
    pub(super) generation: Generation,
    pub(super) links: Vec<Link>,
    pub(super) link: Option<(Outgoing, Incoming)>,
    pub(super) acceptor: Option<Acceptor>,
    pub(super) retry: Instant,
    /// A cut that was being published could not be finished: a tree is between two cuts, and nobody may serve it.
    pub(super) torn: bool,
    /// Why there is no connection; said when it changes.
    pub(super) unreachable: Option<String>,
    /// Starts the thread that waits for a watch's events.
    pub(super) follow: fn(usize, Arc<Watch>, Sender<Event>) -> io::Result<()>,
    /// What the process is confined to.
    pub(super) ground: Ground,
    over: bool,
}

/// Wall time in seconds since 1970: shown to the operator, never compared.
pub(super) fn unix_s() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or(0))
}

impl Mirror {
    /// A loop that has no orders yet.
    #[must_use]
    pub fn new(
        events: Receiver<Event>,
        sender: Sender<Event>,
        reporter: Reporter,
        current: Current,
        follow: fn(usize, Arc<Watch>, Sender<Event>) -> io::Result<()>,
        ground: Ground,
    ) -> Self {
        Mirror {
            events,
            sender,
            reporter,
            current,
            key: LinkKey::default(),
            settings: None,
            trees: Vec::new(),
            role: Role::Idle,
            generation: Generation::default(),
            links: Vec::new(),
            link: None,
            acceptor: None,
            retry: Instant::BOOT,
            torn: false,
            unreachable: None,
            follow,
            ground,
            over: false,
        }
    }

    /// A tree's directory is not the one that this process was confined to: it was mounted, replaced or made since.
    pub(super) fn stand(&mut self) -> io::Result<()> {
        self.over |= self.ground.has_moved();
        let moved = || io::Error::other("a tree's directory is another one than at the start: starting anew");
        if self.over { Err(moved()) } else { Ok(()) }
    }

    /// Runs until the daemon has gone, or the trees lie elsewhere than where this process may reach: then the daemon
    /// starts another.
    pub fn run(&mut self) {
        while !self.over {
            let event = if self.link.is_some() && self.role == Role::Receive {
                self.events.try_recv().ok()
            } else {
                match self.events.recv_timeout(self.next().until(clock::now()).min(Duration::from_secs(60))) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            match event {
                Some(Event::Gone) => return,
                Some(Event::Order(order)) => self.order(order),
                Some(Event::Changed(number)) => {
                    let tree = &mut self.trees[number];
                    if let Some(watch) = &tree.watch {
                        watch.heard();
                    }
                    tree.schedule.changed(clock::now());
                    let since = tree.schedule.waiting_since();
                    self.reporter.update(number, |figures| {
                        figures.behind_since = figures.behind_since.or(since);
                    });
                }
                Some(Event::Sender(channel)) => self.welcome(channel),
                None => self.work(),
            }
        }
    }

    /// When there is something to do without being asked.
    fn next(&self) -> Instant {
        match self.role {
            Role::Send if self.torn || self.link.is_none() => self.retry,
            Role::Send => self.trees.iter().map(|tree| tree.schedule.due()).min().unwrap_or(Instant::NEVER),
            Role::Receive | Role::Idle => Instant::NEVER,
        }
    }

    fn work(&mut self) {
        match self.role {
            Role::Send if self.torn => self.settle(),
            Role::Send => {
                if !self.is_connected() {
                    return;
                }
                let now = clock::now();
                for number in 0..self.trees.len() {
                    if self.trees[number].schedule.due() <= now {
                        let _ = self.cycle(number, Request::default()); // said by its figures
                    }
                }
            }
            Role::Receive => self.serve(),
            Role::Idle => {}
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Configure { settings } => self.configure(settings),
            Order::Role { role, generation, links } => self.take_role(role, generation, links),
            Order::Sync { request, tree, confirm_delete } => {
                let wanted = Request { number: Some(request), confirmed: confirm_delete, verify: false };
                self.requested(tree.as_deref(), wanted);
            }
            Order::Drain { request } => self.requested(None, Request { number: Some(request), ..Request::default() }),
            Order::Verify { request, tree } => {
                let wanted = Request { number: Some(request), confirmed: false, verify: true };
                self.requested(tree.as_deref(), wanted);
            }
            Order::DivergedList { request } => self.answer(request, |mirror| mirror.diverged_list(request)),
            Order::DivergedShow { request, name } => {
                self.answer(request, |mirror| {
                    mirror.in_home(&name, |home, _| mirror.diverged_show(request, home, &name))
                });
            }
            Order::DivergedRestore { request, name, path } => self.answer(request, |mirror| {
                mirror.in_home(&name, |home, root| {
                    let files = diverged::restore(home, &name, root, path.as_deref().map(Path::new))?;
                    Ok(format!("{files} files put back into {}", root.display()))
                })
            }),
            Order::DivergedDrop { request, name } => self.answer(request, |mirror| {
                mirror.in_home(&name, |home, _| {
                    diverged::drop_set(home, &name)?;
                    Ok(format!("{name} deleted"))
                })
            }),
        }
        self.count_diverged();
    }

    fn configure(&mut self, settings: Settings) {
        self.key = settings.key.clone();
        self.trees = settings
            .trees
            .iter()
            .map(|tree| Tree {
                settings: tree.clone(),
                side: None,
                watch: None,
                schedule: Schedule::new(tree.when),
                scanned: None,
                refreshed: false,
            })
            .collect();
        self.settings = Some(settings);
        for number in 0..self.trees.len() {
            let tree = &self.trees[number];
            self.reporter.update(number, |figures| {
                figures.plain.tree.clone_from(&tree.settings.tree);
                figures.plain.period_ms = tree.schedule.period_ms();
            });
            // What stands against it is told with the role: it depends on that whether the operator is needed.
            if let Err(e) = self.open(number, None) {
                log::info!("mirror: {}", self.trouble(number, &e).1);
            }
        }
        self.count_diverged();
        self.reporter.complete();
    }

    /// Opens a tree's side and finishes a cut that was being published when the box went down.
    pub(super) fn open(&mut self, number: usize, single: Option<bool>) -> io::Result<&Side> {
        let all = self.settings.as_ref().map(|settings| settings.trees.as_slice()).unwrap_or_default();
        let tree = &mut self.trees[number];
        if tree.side.as_ref().is_some_and(Side::has_other_type) {
            (tree.side, tree.watch, tree.scanned, tree.refreshed) = (None, None, None, false);
        }
        if tree.side.is_none() {
            let side = Side::open(&tree.settings, all, single)?;
            replay(&side, unix_s())?;
            // A log that a former process has removed must not come back; see `replay`.
            nix::unistd::fsync(side.store.descriptor())?;
            let reader = side.index.reader()?;
            // What was written while this box served alone is in no cut, and newer than the last one.
            let generation = reader.cut()?.generation.max(reader.served()?);
            let files = reader.files()?;
            self.reporter.update(number, |figures| {
                figures.plain.generation = generation;
                figures.plain.files = files;
            });
            tree.side = Some(side);
        }
        tree.side.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn take_role(&mut self, role: Role, generation: Generation, links: Vec<Link>) {
        self.drop_link();
        self.current.end_change();
        self.acceptor = None;
        (self.role, self.generation, self.links) = (role, generation, links);
        self.retry = Instant::BOOT;
        self.torn = false;
        for number in 0..self.trees.len() {
            self.reporter.update(number, |figures| {
                figures.plain.role = role;
                figures.behind_since = None; // changes of another role
            });
            let tree = &mut self.trees[number];
            tree.watch = None;
            tree.scanned = None;
            tree.refreshed = false;
            tree.schedule = Schedule::new(tree.settings.when);
        }
        if role == Role::Receive {
            let (sender, current) = (self.sender.clone(), self.current.clone());
            let port = self.settings.as_ref().map_or(0, |settings| settings.port);
            let acceptor = Acceptor::start(self.links.clone(), port, self.key.0, move |channel| {
                current.break_off(); // the sender has come again: its former connection is dead
                let _ = sender.send(Event::Sender(channel)); // the loop has ended
            });
            self.acceptor = acceptor.inspect_err(|e| log::error!("mirror: {e}")).ok();
        }
        self.settle();
    }

    /// Finishes in every tree what was cut off while publishing, and says that the role is taken: services wait for that. A
    /// log that is followed later would undo what they had written by then, so they wait until none is left.
    fn settle(&mut self) {
        let mut torn = false;
        for number in 0..self.trees.len() {
            if let Err(e) = self.finish(number) {
                self.cannot_open(number, &e);
                torn |= self.has_log(number);
            } else if self.torn {
                self.reporter.alarm(number, None);
            }
            let tree = &self.trees[number];
            if self.role == Role::Send && tree.side.is_some() && tree.watch.is_none() {
                self.watch(number);
            }
        }
        if torn && self.role == Role::Send {
            if !self.torn {
                log::error!("mirror: a cut is half published and cannot be finished: services wait until it can be");
            }
            self.torn = true;
            self.retry = clock::now() + RETRY;
            return;
        }
        self.torn = false;
        self.reporter.say(&Report::Settled { role: self.role, generation: self.generation });
        if self.role == Role::Send {
            self.note_served();
        }
    }

    /// Without a log this does nothing.
    fn finish(&mut self, number: usize) -> io::Result<()> {
        replay(self.open(number, None)?, unix_s()).map(drop)
    }

    /// A cut is being published, as far as can be seen.
    fn has_log(&self, number: usize) -> bool {
        let TreeSettings { tree, store: above, .. } = &self.trees[number].settings;
        Store::open_for(tree, store::anchor(tree), above.as_deref()).is_ok_and(|store| store.path("redo").exists())
    }

    /// The trees are of this generation from here on, also where no standby takes a cut of it. Written after the services may
    /// start: they wait for no disk.
    fn note_served(&self) {
        for (number, tree) in self.trees.iter().enumerate() {
            let Some(side) = &tree.side else { continue };
            match side.index.note_served(self.generation) {
                Ok(()) => self.reporter.update(number, |figures| figures.plain.generation = self.generation),
                Err(e) => log::error!("mirror: {}: {e}", side.root.display()),
            }
        }
    }

    /// A copy that is not there yet is made by its first cycle, if what it lies in is there.
    fn cannot_open(&self, number: usize, e: &io::Error) {
        let is_made = self.trees[number].settings.tree.parent().is_some_and(Path::is_dir);
        if self.role == Role::Receive && is_made && self.trouble(number, e).0 == Cause::Missing {
            return self.reporter.alarm(number, None);
        }
        self.failed(number, e);
    }

    fn watch(&mut self, number: usize) {
        let tree = &mut self.trees[number];
        let Some(side) = &tree.side else { return };
        let watch = Watch::new(&side.root, side.filter.others.clone()).map(Arc::new);
        let followed = watch.and_then(|watch| {
            (self.follow)(number, Arc::clone(&watch), self.sender.clone())?;
            Ok(watch)
        });
        match followed {
            Ok(watch) => {
                tree.schedule.set_watched(true);
                tree.watch = Some(watch);
            }
            Err(e) => log::warn!("mirror: {}: no events ({e}), changes are found by scans", side.root.display()),
        }
    }

    pub(super) fn drop_link(&mut self) {
        if self.link.take().is_some() {
            self.reporter.say(&Report::Connected { peer: None });
        }
        self.current.break_off();
    }

    pub(super) fn is_connected(&mut self) -> bool {
        if self.link.is_some() {
            return true;
        }
        if clock::now() < self.retry {
            return false;
        }
        let Some(settings) = &self.settings else { return false };
        let made = connect(&self.links, settings.port, &self.key.0).and_then(|(channel, link)| {
            let (peer, breaker) = (channel.peer()?, channel.breaker()?);
            let limit = match link {
                Link::Interface(_) => settings.bytes_per_second,
                Link::Address(_) => settings.lan_bytes_per_second,
            };
            let link = channel.start(Some(self.generation), limit)?;
            Ok((peer, breaker, link))
        });
        match made {
            Ok((peer, breaker, link)) => {
                self.current.set(breaker);
                self.link = Some(link);
                self.unreachable = None;
                self.reporter.say(&Report::Connected { peer: Some(peer.to_string()) });
                true
            }
            Err(e) => {
                let why = explain(&e);
                if self.unreachable.as_ref() != Some(&why) {
                    log::info!("mirror: no connection to the standby's mirror yet: {why}");
                    self.unreachable = Some(why);
                }
                self.retry = clock::now() + RETRY;
                false
            }
        }
    }
}

/// What could not be done, and what to do then.
pub(super) fn refused(request: u64, e: &io::Error, remedy: &str) -> Report {
    Report::Refused { request, reason: explain(e), remedy: remedy.into() }
}
