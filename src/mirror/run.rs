//! The mirror's loop: takes orders, keeps the connection, runs the cycles that are due, serves those of the peer.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use super::channel::{Breaker, Channel, Incoming, Outgoing, link_key};
use super::control::{Generation, Link, Order, Report, Role, Settings, State, TreeSettings};
use super::diverged;
use super::index::Lookup;
use super::links::{Acceptor, connect};
use super::message::Message;
use super::publish::replay;
use super::receiver;
use super::refresh::refresh;
use super::report::Reporter;
use super::schedule::Schedule;
use super::sender::{self, Progress, Sent};
use super::side::Side;
use super::tree;
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

/// The connection of the moment, for whoever must end it: the thread that reads orders, the one that accepts.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<Mutex<Option<Breaker>>>);

impl Current {
    /// Ends it.
    pub fn break_off(&self) {
        if let Some(breaker) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            breaker.break_off();
        }
    }

    fn set(&self, breaker: Option<Breaker>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = breaker;
    }
}

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// How long a receiver waits for the peer before it looks after its orders.
const TURN: Duration = Duration::from_millis(100);
/// Events are trusted for so long, then a scan looks whether they missed something.
const TRUST: Duration = Duration::from_secs(24 * 3600);
/// A sender that was refused is listened to for so long, so that it reads why before the connection goes.
const PARTING: Duration = Duration::from_secs(1);
/// Progress is told so often.
const TELL: Duration = Duration::from_millis(250);

struct Tree {
    settings: TreeSettings,
    side: Option<Side>,
    watch: Option<Arc<Watch>>,
    schedule: Schedule,
    scanned: Option<Instant>,
    refreshed: bool,
}

/// What somebody asked for and waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Request {
    number: Option<u64>,
    confirmed: bool,
    verify: bool,
}

/// The loop and all that it knows.
pub struct Mirror {
    events: Receiver<Event>,
    sender: Sender<Event>,
    reporter: Reporter,
    current: Current,
    key: [u8; 32],
    settings: Option<Settings>,
    trees: Vec<Tree>,
    role: Role,
    generation: Generation,
    links: Vec<Link>,
    link: Option<(Outgoing, Incoming)>,
    acceptor: Option<Acceptor>,
    retry: Instant,
    /// Starts the thread that waits for a watch's events.
    follow: fn(usize, Arc<Watch>, Sender<Event>) -> io::Result<()>,
}

/// Wall time in seconds since 1970: shown to the operator, never compared.
fn unix_s() -> u64 {
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
    ) -> Self {
        Mirror {
            events,
            sender,
            reporter,
            current,
            key: [0; 32],
            settings: None,
            trees: Vec::new(),
            role: Role::Idle,
            generation: Generation::default(),
            links: Vec::new(),
            link: None,
            acceptor: None,
            retry: Instant::BOOT,
            follow,
        }
    }

    /// Runs until the daemon has gone.
    pub fn run(&mut self) {
        loop {
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
            Role::Send if self.link.is_none() => self.retry,
            Role::Send => self.trees.iter().map(|tree| tree.schedule.due()).min().unwrap_or(Instant::NEVER),
            Role::Receive | Role::Idle => Instant::NEVER,
        }
    }

    fn work(&mut self) {
        match self.role {
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

    fn answer(&self, request: u64, what: impl FnOnce(&Self) -> io::Result<String>) {
        let report = match what(self) {
            Ok(text) => Report::Done { request, text },
            Err(e) => refused(request, &e, "look at `mirror diverged list`"),
        };
        self.reporter.say(&report);
    }

    fn homes(&self) -> Vec<&Path> {
        let mut homes: Vec<&Path> =
            self.trees.iter().filter_map(|tree| tree.side.as_ref()).map(|side| side.store.home.as_path()).collect();
        homes.sort();
        homes.dedup();
        homes
    }

    fn diverged_list(&self, request: u64) -> io::Result<String> {
        let mut count = 0;
        for home in self.homes() {
            for set in diverged::list(home)? {
                count += 1;
                let text = format!("{}  {}  {} files, {} bytes", set.name, set.tree.display(), set.files, set.bytes);
                self.reporter.say(&Report::Line { request, text });
            }
        }
        Ok(if count == 0 { "nothing was set aside".into() } else { String::new() })
    }

    fn diverged_show(&self, request: u64, home: &Path, name: &str) -> io::Result<String> {
        diverged::show(home, name, |path, bytes| {
            let text = format!("{bytes:>12}  {}", path.display().to_string().escape_debug());
            self.reporter.say(&Report::Line { request, text });
        })?;
        Ok(String::new())
    }

    /// Calls with the `.twobox` that holds the set of this name, and the root of the tree that it is from.
    fn in_home(&self, name: &str, what: impl Fn(&Path, &Path) -> io::Result<String>) -> io::Result<String> {
        for tree in self.trees.iter().filter_map(|tree| tree.side.as_ref()) {
            let known = diverged::list(&tree.store.home)?;
            if known.iter().any(|set| set.name == name && set.tree == tree.settings.tree) {
                return what(&tree.store.home, &tree.root);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("nothing was set aside under the name {name}")))
    }

    fn count_diverged(&self) {
        for (number, tree) in self.trees.iter().enumerate() {
            let Some(side) = &tree.side else { continue };
            let sets = diverged::list(&side.store.home).unwrap_or_default();
            let count = sets.iter().filter(|set| set.tree == tree.settings.tree).count() as u64;
            self.reporter.update(number, |figures| figures.plain.diverged = count);
        }
    }

    fn configure(&mut self, settings: Settings) {
        self.key = link_key(settings.key.as_bytes());
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
            if let Err(e) = self.open(number, None) {
                self.reporter.alarm(number, Some(e.to_string()));
            }
        }
        self.count_diverged();
    }

    /// Opens a tree's side and finishes a cut that was being published when the box went down.
    fn open(&mut self, number: usize, single: Option<bool>) -> io::Result<&Side> {
        let all = self.settings.as_ref().map(|settings| settings.trees.as_slice()).unwrap_or_default();
        let tree = &mut self.trees[number];
        if tree.side.is_none() {
            let side = Side::open(&tree.settings, all, single)?;
            replay(&side, unix_s())?;
            let reader = side.index.reader()?;
            let (cut, names) = (reader.cut()?, reader.count()?);
            self.reporter.update(number, |figures| {
                figures.plain.generation = cut.generation;
                figures.plain.files = names;
            });
            tree.side = Some(side);
        }
        tree.side.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn take_role(&mut self, role: Role, generation: Generation, links: Vec<Link>) {
        self.drop_link();
        self.acceptor = None;
        (self.role, self.generation, self.links) = (role, generation, links);
        self.retry = Instant::BOOT;
        for number in 0..self.trees.len() {
            self.reporter.update(number, |figures| figures.plain.role = role);
            let tree = &mut self.trees[number];
            tree.watch = None;
            tree.scanned = None;
            tree.refreshed = false;
            tree.schedule = Schedule::new(tree.settings.when);
            if let Err(e) = self.open(number, None) {
                self.reporter.alarm(number, Some(e.to_string()));
                continue;
            }
            let tree = &mut self.trees[number];
            // What was cut off while publishing is finished here; without a log this does nothing.
            if let Some(side) = &tree.side
                && let Err(e) = replay(side, unix_s())
            {
                self.reporter.alarm(number, Some(e.to_string()));
            }
            if role == Role::Send {
                self.watch(number);
            }
        }
        if role == Role::Receive {
            let (sender, current) = (self.sender.clone(), self.current.clone());
            let port = self.settings.as_ref().map_or(0, |settings| settings.port);
            let acceptor = Acceptor::start(self.links.clone(), port, self.key, move |channel| {
                current.break_off(); // the sender has come again: its former connection is dead
                let _ = sender.send(Event::Sender(channel)); // the loop has ended
            });
            self.acceptor = acceptor.inspect_err(|e| log::error!("mirror: {e}")).ok();
        }
        self.reporter.say(&Report::Settled { role, generation });
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

    fn drop_link(&mut self) {
        if self.link.take().is_some() {
            self.reporter.say(&Report::Connected { peer: None });
        }
        self.current.break_off();
    }

    fn is_connected(&mut self) -> bool {
        if self.link.is_some() {
            return true;
        }
        if clock::now() < self.retry {
            return false;
        }
        let Some(settings) = &self.settings else { return false };
        let made = connect(&self.links, settings.port, &self.key).and_then(|channel| {
            let (peer, breaker) = (channel.peer()?, channel.breaker()?);
            let link = channel.start(Some(self.generation), settings.bytes_per_second)?;
            Ok((peer, breaker, link))
        });
        match made {
            Ok((peer, breaker, link)) => {
                self.current.set(Some(breaker));
                self.link = Some(link);
                self.reporter.say(&Report::Connected { peer: Some(peer.to_string()) });
                true
            }
            Err(e) => {
                log::info!("mirror: {e}");
                self.retry = clock::now() + RETRY;
                false
            }
        }
    }

    /// Somebody asked for a cycle of one tree or of all.
    fn requested(&mut self, tree: Option<&Path>, wanted: Request) {
        let Some(request) = wanted.number else { return };
        let numbers: Vec<usize> =
            (0..self.trees.len()).filter(|&n| tree.is_none_or(|tree| self.trees[n].settings.tree == tree)).collect();
        let problem = if self.role != Role::Send {
            Some(("this node does not send", "ask the active node"))
        } else if numbers.is_empty() {
            Some(("there is no such tree", "look at `mirror status`"))
        } else {
            self.retry = Instant::BOOT;
            (!self.is_connected()).then_some(("the standby's mirror cannot be reached", "look at the crossover"))
        };
        if let Some((reason, remedy)) = problem {
            let report = Report::Refused { request, reason: reason.into(), remedy: remedy.into() };
            return self.reporter.say(&report);
        }
        let mut total = Sent::default();
        let mut bytes = 0;
        let begin = clock::now();
        for number in numbers {
            let remedy = "if it is meant: `mirror sync --confirm-delete`";
            match self.cycle(number, wanted) {
                Err(e) => return self.reporter.say(&refused(request, &e, "it is tried again by itself")),
                Ok((Sent { blocked: Some(block), .. }, _)) => {
                    return self.reporter.say(&refused(request, &io::Error::other(block.to_string()), remedy));
                }
                Ok((sent, on_link)) => {
                    total.names += sent.names;
                    total.put += sent.put;
                    total.gone += sent.gone;
                    total.unsettled += sent.unsettled;
                    total.strange += sent.strange;
                    bytes += on_link;
                }
            }
        }
        let text = format!(
            "{} names, {} sent, {} deleted, {} unsettled, {} strange; {bytes} bytes in {:.3} s",
            total.names,
            total.put,
            total.gone,
            total.unsettled,
            total.strange,
            clock::now().since(begin).as_secs_f64()
        );
        self.reporter.say(&Report::Done { request, text });
    }

    /// One cycle of one tree: what it did, and bytes on the link.
    fn cycle(&mut self, number: usize, request: Request) -> io::Result<(Sent, u64)> {
        let begin = clock::now();
        let done = self.try_cycle(number, request, begin);
        let now = clock::now();
        self.trees[number].schedule.end();
        match &done {
            Ok((sent, bytes)) => {
                self.reporter.update(number, |figures| {
                    figures.plain.state = State::Idle;
                    figures.plain.cycle_ms = u64::try_from(now.since(begin).as_millis()).unwrap_or(u64::MAX);
                    figures.plain.bytes_sent = *bytes;
                    figures.plain.unsettled = sent.unsettled;
                    (figures.plain.found_by_events, figures.plain.found_by_scan) =
                        if sent.by_events { (sent.found, 0) } else { (0, sent.found) };
                    if sent.blocked.is_none() {
                        figures.plain.files = sent.names;
                        figures.plain.generation = self.generation;
                        figures.cut_at = Some(begin);
                        figures.behind_since = (sent.unsettled > 0).then_some(begin);
                    }
                });
                if sent.blocked.is_some() || sent.unsettled > 0 {
                    self.trees[number].scanned = None; // events of this cycle are used up
                }
                self.reporter.alarm(number, sent.blocked.map(|block| format!("blocked: {block}")));
            }
            Err(e) => {
                self.trees[number].scanned = None;
                log::warn!("mirror: {}: {e}", self.trees[number].settings.tree.display());
                self.reporter.alarm(number, Some(e.to_string()));
                // The stream is in the middle of something: only a new connection has a beginning.
                self.drop_link();
                self.retry = now + RETRY;
            }
        }
        self.reporter.figures();
        done
    }

    fn try_cycle(&mut self, number: usize, request: Request, begin: Instant) -> io::Result<(Sent, u64)> {
        self.open(number, None)?;
        let tree = &mut self.trees[number];
        tree.schedule.start(begin);
        let (side, (outgoing, incoming)) = match (&tree.side, &mut self.link) {
            (Some(side), Some(link)) => (side, (&mut link.0, &mut link.1)),
            _ => return Err(io::ErrorKind::NotConnected.into()),
        };
        let dirty = tree.watch.as_ref().map(|watch| watch.take()).transpose()?;
        let trusted = tree.scanned.is_some_and(|scanned| begin.since(scanned) < TRUST);
        let events: Option<Vec<Vec<u8>>> =
            dirty.filter(|dirty| trusted && !dirty.all).map(|dirty| dirty.names.into_iter().collect());
        let order = sender::Order {
            events: events.as_deref(),
            confirmed: request.confirmed,
            verify: request.verify,
            generation: self.generation,
            unix_s: unix_s(),
        };
        self.reporter.update(number, |figures| figures.plain.state = State::Running);
        let before = outgoing.counters().sent.load(Ordering::Relaxed);
        let (reporter, mut told) = (self.reporter.clone(), begin);
        let path = tree.settings.tree.clone();
        let sent = sender::cycle(side, &order, incoming, outgoing, &mut |progress| {
            let now = clock::now();
            if let Some(number) = request.number
                && now.since(told) >= TELL
            {
                told = now;
                reporter.say(&tell(number, &path, progress, now.since(begin)));
            }
        })?;
        if !sent.by_events {
            tree.scanned = Some(begin);
        }
        Ok((sent, outgoing.counters().sent.load(Ordering::Relaxed) - before))
    }

    /// A sender has come: it takes the place of the one before.
    fn welcome(&mut self, channel: Channel) {
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
                self.current.set(Some(breaker));
                self.link = Some(link);
                self.reporter.say(&Report::Connected { peer: Some(peer.to_string()) });
            }
            Err(e) => log::warn!("mirror: {e}"),
        }
    }

    /// Takes the peer's next cycle, if it begins one now.
    fn serve(&mut self) {
        let Some((mut outgoing, mut incoming)) = self.link.take() else { return };
        let Err(e) = self.try_serve(&mut outgoing, &mut incoming) else {
            self.link = Some((outgoing, incoming));
            return;
        };
        if e.kind() != io::ErrorKind::UnexpectedEof {
            log::warn!("mirror: {e}");
            let reason = e.to_string();
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
        let path = tree::path_of(tree).to_path_buf();
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
            Err(e) => self.reporter.alarm(number, Some(e.to_string())),
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
        let root = &self.trees[number].settings.tree;
        if !single && !root.exists() {
            std::fs::create_dir(root)?; // only the last component: what should be mounted above must be there
        }
        self.open(number, Some(single))?;
        let tree = &mut self.trees[number];
        let Some(side) = &tree.side else { return Err(io::ErrorKind::NotFound.into()) };
        replay(side, unix_s())?;
        if !tree.refreshed || verify {
            refresh(side, verify)?;
            tree.refreshed = true;
        }
        let received = receiver::cycle(side, generation, incoming, outgoing, unix_s())?;
        let names = side.index.reader()?.count()?;
        self.reporter.update(number, |figures| figures.plain.files = names);
        Ok(received)
    }
}

fn refused(request: u64, e: &io::Error, remedy: &str) -> Report {
    Report::Refused { request, reason: e.to_string(), remedy: remedy.into() }
}

fn tell(request: u64, tree: &Path, progress: &Progress, since: Duration) -> Report {
    let seconds = since.as_secs_f64().max(0.001);
    let rate = (progress.bytes as f64 / seconds) as u64;
    let left = progress.bytes_total.saturating_sub(progress.bytes).saturating_mul(1000).checked_div(rate);
    Report::Progress {
        request,
        tree: tree.to_path_buf(),
        files: progress.files,
        files_total: progress.files_total,
        bytes: progress.bytes,
        bytes_total: progress.bytes_total,
        rate,
        left_ms: left,
    }
}
