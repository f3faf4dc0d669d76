//! The daemon's side of the mirror's process: started, told its role, asked, and started again when it ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;

use smol::channel::{Receiver, Sender, unbounded};
use smol::io::{AsyncWriteExt, BufReader};
use smol::{Async, Timer, future};
use zeroize::Zeroizing;

use super::child_stderr::Words;
use super::operator::{Outcome, Refusal, refuse};
use super::voice::Voice;
use super::{child, child_lines, figures, replies};
use crate::clock;
use crate::config::Config;
use crate::config::site::{self, Schedule, Site};
use crate::console::control::{MirrorRequest, Progress, Reply};
use crate::console::status;
use crate::mirror::channel::link_key;
use crate::mirror::control::{
    Generation, LINE, Link, LinkKey, MaxDelete, Order, Report, Role, Settings, TreeFigures, TreeSettings, When,
};
use crate::service::{Backoff, Reaper};
use crate::time::{Duration, Instant};
use crate::wire::pair::{self, Data, Side, Term};

/// Requests of operators under way, each with replies that wait. Whoever hangs up leaves his behind until it has ended.
const REQUESTS: usize = 16;
/// Pauses before the process is started again: the first, and the longest. Services wait for it after a change of the role.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// Where the replies of one request go, and its end.
struct Asked {
    replies: Option<replies::Giving>,
    end: Sender<Result<String, (String, String)>>,
    began: Instant,
}

/// The mirror as the helper sees it.
pub(super) struct Mirror {
    side: Side,
    settings: Settings,
    links: [Vec<Link>; 2],
    lines: (Sender<Order>, Receiver<Order>),
    ordered: RefCell<Option<(Role, Generation)>>,
    settled: RefCell<Option<(Role, Generation)>>,
    asked: RefCell<HashMap<u64, Asked>>,
    next_request: Cell<u64>,
    /// How the trees stand, and when that was told.
    figures: RefCell<(Instant, Vec<TreeFigures>)>,
    /// The process has said that it takes orders.
    is_ready: Cell<bool>,
    /// When the process ended last by itself.
    fell_at: Cell<Option<Instant>>,
    /// How its process is confined.
    confinement: RefCell<Option<String>>,
    voice: Voice,
}

impl Mirror {
    /// `None` when nothing is mirrored. `crossover` is the kernel's name of that interface, if there is one.
    pub(super) fn new(config: &Config, side: Side, crossover: Option<&str>) -> Option<Rc<Self>> {
        let site = &config.site;
        if site.trees.is_empty() {
            return None;
        }
        // The text, as in the key's file, is what both boxes derive the link's key from.
        // With room for all of it: a text that grows leaves copies of its beginning behind.
        let mut hex = Zeroizing::new(String::with_capacity(64));
        for byte in config.key.bytes() {
            hex.extend([byte >> 4, byte & 15].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16)));
        }
        let settings = Settings {
            key: LinkKey(link_key(hex.as_bytes())),
            port: site.mirror_link.port,
            trees: site.trees.iter().map(tree).collect(),
            bytes_per_second: site.mirror_link.crossover_limit,
            lan_bytes_per_second: site.mirror_link.lan_limit,
        };
        let links = |role: Role| {
            let whose = if role == Role::Send { side.peer() } else { side };
            let mut links: Vec<Link> = crossover.map(|name| Link::Interface(name.to_owned())).into_iter().collect();
            if site.mirror_link.over_lan {
                links.extend(
                    lan_address(site, whose).map(|ip| Link::Address(SocketAddr::new(ip, site.mirror_link.port))),
                );
            }
            links
        };
        Some(Rc::new(Self {
            side,
            settings,
            links: [links(Role::Send), links(Role::Receive)],
            lines: unbounded(),
            ordered: RefCell::default(),
            settled: RefCell::default(),
            asked: RefCell::default(),
            next_request: Cell::new(1),
            figures: RefCell::default(),
            is_ready: Cell::default(),
            fell_at: Cell::default(),
            confinement: RefCell::default(),
            voice: Voice::of("mirror"),
        }))
    }

    /// Keeps the process running for as long as the daemon lives. `data` hears how the trees stand.
    pub(super) async fn keep(self: Rc<Self>, reaper: Rc<Reaper>, data: impl Fn(Data, Term)) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let started = clock::now();
            let ended = self.live(&reaper, &data).await;
            *self.settled.borrow_mut() = None;
            self.is_ready.set(false);
            for (_, asked) in self.asked.borrow_mut().drain() {
                let why = ("the mirror's process ended".to_owned(), "try again; see `log`".to_owned());
                let _ = asked.end.try_send(Err(why)); // gave up
            }
            self.fell_at.set(Some(clock::now()));
            let pause = backoff.after_failure(clock::now().since(started));
            log::error!("the mirror's process ended: {ended:?}; started again in {pause:?}");
            Timer::after(pause).await;
        }
    }

    /// One life of the process.
    async fn live(&self, reaper: &Reaper, data: &impl Fn(Data, Term)) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        #[allow(clippy::disallowed_methods)] // the one place that starts the mirror
        let mut child = Command::new("/proc/self/exe")
            .arg("mirror-child")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut words = Words::of(&self.voice, &mut child)?;
        let end = reaper.end_of(child.id());
        let stream = Async::new(ours)?;
        while self.lines.1.try_recv().is_ok() {} // meant for a former life
        let writing = async {
            while let Ok(order) = self.lines.1.recv().await {
                let mut line = Zeroizing::new(serde_json::to_vec(&order)?);
                line.push(b'\n');
                (&stream).write_all(&line).await?;
            }
            Ok(())
        };
        let reading = async {
            let mut lines = BufReader::with_capacity(4096, &stream);
            let mut line = Vec::new();
            loop {
                let report = child_lines::next(&mut lines, &mut line, LINE).await?;
                self.take(report, line.len(), data)?;
            }
        };
        let result = future::or(future::or(writing, reading), words.copy()).await;
        *self.confinement.borrow_mut() = None;
        drop(stream); // end of file ends it
        child::see_off(child.id(), &end).await;
        words.copy_rest().await;
        result
    }

    /// Takes a report that came in a line of `size` bytes. An error: the process speaks of what cannot be.
    fn take(&self, report: Report, size: usize, data: &impl Fn(Data, Term)) -> io::Result<()> {
        match report {
            Report::Ready => {
                self.is_ready.set(true);
                self.tell(Order::Configure { settings: self.settings.clone() });
                let ordered = *self.ordered.borrow();
                if let Some((role, generation)) = ordered {
                    self.tell(self.role_order(role, generation));
                }
            }
            Report::Confined { by } => {
                if self.voice.admits() {
                    log::info!("the mirror's process is confined: {by}");
                }
                *self.confinement.borrow_mut() = Some(by);
            }
            Report::Settled { role, generation } => *self.settled.borrow_mut() = Some((role, generation)),
            Report::Connected { .. } if !self.voice.admits() => {}
            Report::Connected { peer: Some(peer) } => log::info!("the mirror is connected to {peer}"),
            Report::Connected { peer: None } => log::info!("the mirror has no connection"),
            Report::Trees { trees } => {
                let ordered = self.ordered.borrow().map_or(0, |(_, generation)| generation.term);
                let trees = figures::believed(trees, &self.settings.trees, ordered)?;
                data(figures::of_trees(&trees), figures::newest(&trees));
                *self.figures.borrow_mut() = (clock::now(), trees);
            }
            // The tree's figures say the same, and whoever looks for alarms reads them.
            Report::Alarm { .. } => {}
            Report::Progress { request, tree, bytes, bytes_total, files, files_total, rate, .. } => {
                self.reply(request, size, |began| {
                    Reply::Progress(Progress {
                        elapsed_us: u64::try_from(clock::now().since(began).as_micros()).unwrap_or(u64::MAX),
                        text: tree.display().to_string(),
                        done: Some(bytes),
                        total: Some(bytes_total),
                        files: Some(files),
                        files_total: Some(files_total),
                        rate: Some(rate),
                        unit: "bytes".into(),
                    })
                });
            }
            Report::Deletions { request, deletions } => {
                self.reply(request, size, |_| Reply::Deletions(deletions));
            }
            Report::Outcome { request, outcome } => {
                self.reply(request, size, |_| Reply::Tree(Box::new(outcome)));
            }
            Report::Line { request, text } => self.reply(request, size, |_| Reply::Line { text }),
            Report::Done { request, text } => self.end(request, Ok(text)),
            Report::Refused { request, reason, remedy } => self.end(request, Err((reason, remedy))),
        }
        Ok(())
    }

    /// Nothing may come before the settings: a process that is not ready is told its role with them.
    fn tell(&self, order: Order) {
        if self.is_ready.get() {
            let _ = self.lines.0.try_send(order); // unbounded, never closed
        }
    }

    /// Hands on a reply that came in a line of `size` bytes.
    fn reply(&self, request: u64, size: usize, reply: impl FnOnce(Instant) -> Reply) {
        if let Some(Asked { replies: Some(replies), began, .. }) = self.asked.borrow().get(&request) {
            replies.put(reply(*began), size);
        }
    }

    fn end(&self, request: u64, result: Result<String, (String, String)>) {
        if let Some(asked) = self.asked.borrow_mut().remove(&request) {
            let _ = asked.end.try_send(result); // gave up
        }
    }

    fn role_order(&self, role: Role, generation: Generation) -> Order {
        let links = match role {
            Role::Idle => Vec::new(),
            Role::Send => self.links[0].clone(),
            Role::Receive => self.links[1].clone(),
        };
        Order::Role { role, generation, links }
    }

    /// The node's role and the generation of its data.
    pub(super) fn set_role(&self, role: pair::Role, generation: pair::Generation) {
        let ordered = (role_of(role), Generation { term: generation.term, boot: generation.boot });
        if self.ordered.replace(Some(ordered)) != Some(ordered) {
            self.tell(self.role_order(ordered.0, ordered.1));
        }
    }

    /// The same, looked at now and then, if the mirror has another one: whoever told it was not answered by a loop that hung.
    pub(super) fn correct_role(&self, role: pair::Role, generation: pair::Generation) {
        let ordered = self.ordered.borrow().map(|(role, _)| role);
        if role != pair::Role::Joining && ordered != Some(role_of(role)) {
            self.set_role(role, generation);
        }
    }

    /// Waits until every tree is a whole cut of a box that serves: before that no service may start.
    pub(super) async fn settle(&self) {
        while !self.is_settled() {
            Timer::after(Duration::from_millis(1)).await;
        }
    }

    /// Under the role that was ordered last: a moment before the services', or later ([`Mirror::correct_role`]).
    fn is_settled(&self) -> bool {
        let ordered = *self.ordered.borrow();
        ordered.is_some_and(|(role, _)| role == Role::Send) && *self.settled.borrow() == ordered
    }

    /// The last cut before a planned hand-over; why there is none.
    pub(super) async fn drain(&self) -> Result<(), String> {
        match self.ask(|request| Order::Drain { request }, None).await {
            Ok(text) => {
                log::info!("last cut before the hand-over: {text}");
                Ok(())
            }
            Err(Refusal { reason, .. }) => {
                log::warn!("no last cut before the hand-over: {reason}");
                Err(reason)
            }
        }
    }

    /// Its process runs, and sends.
    pub(super) fn is_source(&self) -> bool {
        self.is_ready.get() && self.ordered.borrow().is_some_and(|(role, _)| role == Role::Send)
    }

    /// For the status.
    pub(super) fn trees(&self, now: Instant) -> Vec<status::Tree> {
        let (told, trees) = &*self.figures.borrow();
        let role = self.ordered.borrow().map(|(role, _)| role);
        if trees.is_empty() {
            let configured = self.settings.trees.iter().map(|tree| tree.tree.display().to_string());
            return configured.map(|tree| figures::starting(tree, role)).collect();
        }
        let since = u64::try_from(now.since(*told).as_millis()).unwrap_or(u64::MAX);
        trees.iter().map(|tree| figures::shown(tree, since, role)).collect()
    }

    /// The process ended by itself within this time.
    pub(super) fn fell_within(&self, now: Instant, time: Duration) -> bool {
        self.fell_at.get().is_some_and(|at| now.since(at) <= time)
    }

    /// For the status.
    pub(super) fn confinement(&self) -> Option<String> {
        self.confinement.borrow().clone()
    }

    /// Carries out an operator's request.
    pub(super) async fn request(&self, request: MirrorRequest, replies: &Sender<Reply>) -> Outcome {
        let command = match request {
            MirrorRequest::Sync { .. } => Some("sync"),
            MirrorRequest::Verify { .. } => Some("verify"),
            _ => None,
        };
        let is_copy = self.ordered.borrow().is_none_or(|(role, _)| role != Role::Send);
        if let Some(command) = command.filter(|_| is_copy) {
            return Err(Refusal {
                reason: "this box does not serve: its trees are the copy, and cycles begin at the source".into(),
                remedy: format!("on box {}, if it serves: `twobox mirror {command}`", self.side.peer().name()),
            });
        }
        if self.asked.borrow().len() >= REQUESTS {
            return Err(refuse("too many requests to the mirror are under way", "wait until one of them has ended"));
        }
        let path = |tree: Option<String>| tree.map(Into::into);
        let order = |request_number: u64| match request {
            MirrorRequest::Sync { tree, confirm_delete } => {
                Order::Sync { request: request_number, tree: path(tree), confirm_delete }
            }
            MirrorRequest::Verify { tree } => Order::Verify { request: request_number, tree: path(tree) },
            MirrorRequest::DivergedList => Order::DivergedList { request: request_number },
            MirrorRequest::DivergedShow { name } => Order::DivergedShow { request: request_number, name },
            MirrorRequest::DivergedRestore { name, path } => {
                Order::DivergedRestore { request: request_number, name, path }
            }
            MirrorRequest::DivergedDrop { name } => Order::DivergedDrop { request: request_number, name },
        };
        self.ask(order, Some(replies.clone())).await
    }

    async fn ask(&self, order: impl FnOnce(u64) -> Order, replies: Option<Sender<Reply>>) -> Outcome {
        if !self.is_ready.get() {
            return Err(refuse("the mirror's process is starting", "try again in a moment"));
        }
        let request = self.next_request.get();
        self.next_request.set(request + 1);
        let (end, ended) = smol::channel::bounded(1);
        let (giving, taking) = replies::way();
        let giving = replies.is_some().then_some(giving);
        let asked = Asked { replies: giving, end, began: clock::now() };
        self.asked.borrow_mut().insert(request, asked);
        self.tell(order(request));
        // The queue closes with the request's end: everything in it is handed on before.
        if let Some(replies) = replies {
            while let Some(reply) = taking.next().await {
                if replies.send(reply).await.is_err() {
                    break; // the client has gone; the request goes on
                }
            }
            if taking.left_out() > 0 {
                let text = format!("{} lines were left out: they came faster than they were read", taking.left_out());
                let _ = replies.send(Reply::Line { text }).await; // the client has gone
            }
        }
        match ended.recv().await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err((reason, remedy))) => Err(Refusal { reason, remedy }),
            Err(_) => Err(Refusal { reason: "the mirror gave up".into(), remedy: "try again; see `log`".into() }),
        }
    }
}

fn role_of(role: pair::Role) -> Role {
    match role {
        pair::Role::Active | pair::Role::Yielding => Role::Send,
        _ => Role::Receive,
    }
}

fn tree(tree: &site::Tree) -> TreeSettings {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    TreeSettings {
        tree: tree.path.clone(),
        when: match tree.schedule {
            Schedule::Every(period) => When::EveryMs(ms(period)),
            Schedule::OnChange(settle) => When::OnChangeMs(ms(settle)),
        },
        exclude: tree.exclude.clone(),
        max_delete: match tree.max_delete {
            site::MaxDelete::Percent(percent) => MaxDelete::Percent(percent),
            site::MaxDelete::Entries(entries) => MaxDelete::Entries(entries),
        },
        store: tree.store.clone(),
    }
}

/// A box's own address on the LAN.
pub(super) fn lan_address(site: &Site, side: Side) -> Option<IpAddr> {
    site.nodes[side as usize].iter().find(|own| own.interface == "lan").map(|own| own.prefix.ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror() -> Mirror {
        let (key, trees, bytes_per_second, lan_bytes_per_second) = (LinkKey::default(), Vec::new(), None, None);
        Mirror {
            side: Side::A,
            settings: Settings { key, port: 0, trees, bytes_per_second, lan_bytes_per_second },
            links: [Vec::new(), Vec::new()],
            lines: unbounded(),
            ordered: RefCell::default(),
            settled: RefCell::default(),
            asked: RefCell::default(),
            next_request: Cell::new(1),
            figures: RefCell::default(),
            is_ready: Cell::new(true),
            fell_at: Cell::default(),
            confinement: RefCell::default(),
            voice: Voice::of("mirror"),
        }
    }

    fn generation(term: Term) -> pair::Generation {
        pair::Generation { term, boot: 1 }
    }

    #[test]
    fn nothing_is_a_whole_cut_of_a_box_that_serves_before_the_mirror_knows_that_it_serves() {
        let mirror = mirror();
        assert!(!mirror.is_settled());
        mirror.set_role(pair::Role::Standby, generation(1));
        mirror.settled.replace(*mirror.ordered.borrow());
        assert!(!mirror.is_settled());
        mirror.set_role(pair::Role::Active, generation(2));
        assert!(!mirror.is_settled());
        mirror.settled.replace(*mirror.ordered.borrow());
        assert!(mirror.is_settled());
    }

    #[test]
    fn a_role_that_was_not_told_is_told_later_and_nothing_else() {
        let mirror = mirror();
        let told = || {
            let role = |order| if let Order::Role { role, .. } = order { Some(role) } else { None };
            core::iter::from_fn(|| mirror.lines.1.try_recv().ok()).filter_map(role).collect::<Vec<_>>()
        };
        mirror.correct_role(pair::Role::Joining, generation(1));
        assert_eq!(told(), []);
        mirror.correct_role(pair::Role::Standby, generation(1));
        assert_eq!(told(), [Role::Receive]);
        mirror.correct_role(pair::Role::Standby, generation(2)); // a cut has come: no reason to begin anew
        assert_eq!(told(), []);
        mirror.correct_role(pair::Role::Active, generation(3));
        mirror.correct_role(pair::Role::Yielding, generation(3));
        assert_eq!(told(), [Role::Send]);
    }

    #[test]
    fn who_orders_and_hangs_up_again_and_again_is_refused() {
        let mirror = mirror();
        let (replies, _heard) = smol::channel::bounded(1);
        let list = || mirror.request(MirrorRequest::DivergedList, &replies);
        for _ in 0..1000 {
            let mut asked = Box::pin(list());
            let _ = smol::block_on(future::poll_once(asked.as_mut()));
        }
        assert_eq!((mirror.asked.borrow().len(), mirror.lines.1.len()), (REQUESTS, REQUESTS));
        mirror.end(1, Ok(String::new()));
        assert!(smol::block_on(future::poll_once(Box::pin(list()).as_mut())).is_none(), "there is room for one");
    }
}
