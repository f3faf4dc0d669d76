//! The helper's thread: everything slower than the loop, as small async programs on one executor.

mod ask;
mod services;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;

use async_signal::{Signal, Signals};
use smol::channel::Sender;
use smol::stream::StreamExt;
use smol::{Async, LocalExecutor, future};

use self::ask::Asking;
use super::alarms::{self, Standing};
use super::belts::Way;
use super::disk::ToDisk;
use super::gatekeeper::{Gatekeeper, Told};
use super::letters::{Order, ToHelper, ToLoop};
use super::mailbox::Mailbox;
use super::mirror::Mirror;
use super::observe::Observe;
use super::peer::{self, Peer};
use super::side::Letters;
use super::snapshot::Shared;
use super::update::Update;
use super::{Options, settings, slots, trial};
use super::{child, history, interface, operator, own_address, ready, report, single_instance};
use crate::clock;
use crate::config::Config;
use crate::console::status::{Handover, Handovers, ResetCause};
use crate::console::{self, server};
use crate::fence::gate::Gate;
use crate::fence::gate::nft::Belt;
use crate::init::terminal::Terminal;
use crate::journal;
use crate::node::Note;
use crate::node::status::Alarm;
use crate::observe::control::Event;
use crate::service::{self, Reaper, Report, State, Supervisor};
use crate::takeover::own::Stands;
use crate::time::{Duration, Instant};
use crate::update::demand;
use crate::wire::pair::Role;

/// Stack of the thread: its programs hold snapshots by value, a build without optimisation needs several hundred KiB, and only
/// what is touched is ever locked in memory.
const STACK: usize = 1024 * 1024;
/// How long services may take to end after the loop has ended, on top of their own time-outs.
pub(super) const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// An alarm of the node goes to the history and the syslog server when it has stood for this long.
const STANDS: Duration = Duration::from_secs(1);

/// What the thread needs.
pub(super) struct Start {
    pub options: Options,
    pub config: Config,
    pub listener: UnixListener,
    /// What keeps other daemons off the LAN's interface.
    pub sole: Option<UnixListener>,
    pub letters: Arc<Mailbox<ToHelper>>,
    pub to_loop: Arc<Mailbox<ToLoop>>,
    pub snapshot: Arc<Shared>,
    pub to_peer: Arc<Letters>,
    pub from_peer: Arc<Letters>,
    pub to_disk: Arc<Mailbox<ToDisk>>,
    /// This life, for the history.
    pub present: history::Present,
    /// The gate and the belt to look after, and where they are.
    pub gate: Option<Arc<Gate>>,
    pub raw_belt: Option<Belt>,
    pub ways: Vec<Way>,
    /// Why the operator held this box in a former life, if that was said and it has not been released.
    pub hold_reason: Option<String>,
    /// What worked under the former image.
    pub demand: demand::Equipment,
    /// Why this box was reset last.
    pub last_reset: ResetCause,
    /// What the watchdog's driver calls itself.
    pub watchdog: String,
}

/// Starts the thread.
///
/// # Errors
///
/// When the kernel gives no thread.
pub(super) fn start(start: Start) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("twobox-helper".into()).stack_size(STACK).spawn(move || {
        let executor = Rc::new(LocalExecutor::new());
        if let Err(error) = smol::block_on(executor.run(live(executor.clone(), start))) {
            // Without it nobody can be told and no service can be stopped: better dead, so that the peer takes over.
            panic!("the helper's thread failed: {error}");
        }
    })
}

/// A bell of a mailbox or of the snapshots, to wait on.
pub(super) struct Bell<T>(pub Arc<T>);

impl<T: AsFd> AsFd for Bell<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the helper's programs share.
pub(super) struct Helper {
    pub options: Options,
    pub config: Config,
    pub to_loop: Arc<Mailbox<ToLoop>>,
    asking: Asking,
    /// How each service stands.
    pub services: RefCell<Vec<Report>>,
    /// Services that failed and have not been ready since: trying again is not health.
    pub failing: RefCell<Vec<bool>>,
    /// How the gate stands.
    pub gate: Rc<RefCell<Told>>,
    /// Since when each alarm of the node stands.
    pub alarms: RefCell<Vec<(Alarm, Instant)>>,
    /// A surrender that waits for services to end.
    surrender: RefCell<Option<u32>>,
    /// Why the latest surrender had no last cut of what is mirrored.
    pub no_last_cut: RefCell<Option<String>>,
    /// No service may start: what is mirrored is no whole cut after all the time that this may take.
    unsettled: Cell<bool>,
    told_healthy: Cell<Option<bool>>,
    /// The side channel to the other box.
    pub peer: Peer,
    pub to_disk: Arc<Mailbox<ToDisk>>,
    /// This life, for the history.
    pub present: history::Present,
    /// Alarms that the history has had lately.
    pub lately: RefCell<history::Lately>,
    /// The mirror, if anything is mirrored.
    pub mirror: Option<Rc<Mirror>>,
    /// The watching process, if anybody watches.
    pub observe: Option<Rc<Observe>>,
    /// What confines the process on the console port, while one runs and says so.
    pub console_confinement: Rc<RefCell<Option<String>>>,
    /// What is wrong beside the node's own alarms.
    pub standing: RefCell<Vec<Standing>>,
    /// Hand-overs to this box in this life of the daemon, and outages after which it took the service again itself.
    pub handovers: RefCell<Handovers>,
    /// The last hand-over to or from this box, and when; `None`: before this life of the daemon.
    pub last_handover: RefCell<Option<(Option<Instant>, Handover)>>,
    /// Why the operator holds this box, if that was said.
    pub hold_reason: RefCell<Option<String>>,
    /// Why this box was reset last.
    pub last_reset: ResetCause,
    /// What the watchdog's driver calls itself.
    pub watchdog: String,
    /// Why and since when this box has given the service up, until it is known what became of it.
    pub gave_up: Cell<Option<(&'static str, Instant)>>,
    /// How far this life has come, of what is told once: held, and then in its place.
    arrived: Cell<Option<Role>>,
    /// The surrender or fence under way: why, and since when.
    yielding: Cell<Option<(&'static str, Instant)>>,
    /// The loop's worst lateness since the last status.
    pub worst_lateness: Cell<Duration>,
    pub executor: Rc<LocalExecutor<'static>>,
    /// Where the ends of children are told.
    pub reaper: Rc<Reaper>,
    /// An update of this box.
    pub update: Update,
    /// How this box's own addresses stand, where it looks after them itself.
    pub own_addresses: RefCell<Vec<Stands>>,
}

async fn live(executor: Rc<LocalExecutor<'static>>, start: Start) -> io::Result<()> {
    let Start {
        options, config, listener, sole, letters, to_loop, snapshot, to_peer, from_peer, to_disk, present, ..
    } = start;
    let Start { gate, raw_belt, ways, hold_reason, demand, last_reset, watchdog, .. } = start;
    let reaper = Rc::new(Reaper::new()?);
    let services = settings::of_services(&config.site);
    // Of a former life something may be left: stopped is what says so itself.
    let unknown = |index| Report { index, state: State::Stopping, restarts: 0 };
    let instance = instance(&options)?;
    let crossover = config.board.interface("crossover").and_then(|wanted| interface::find(wanted).ok());
    let mirror = Mirror::new(&config, options.node, crossover.as_deref());
    let last_handover = history::read(&options.state, present, usize::MAX).into_iter().rev().find_map(|e| e.handover);
    let last_handover = last_handover.map(|handover| (None, handover));
    let observe = Observe::new(&config.site, options.node);
    let boot_hold = options.appliance.as_ref().and_then(|appliance| appliance.hold.clone());
    let helper = Rc::new(Helper {
        options,
        config,
        asking: Asking::new(to_loop.clone(), snapshot),
        to_loop,
        services: RefCell::new((0..services.len()).map(unknown).collect()),
        failing: RefCell::new(vec![false; services.len()]),
        gate: Rc::default(),
        alarms: RefCell::default(),
        surrender: RefCell::default(),
        no_last_cut: RefCell::default(),
        unsettled: Cell::default(),
        told_healthy: Cell::default(),
        peer: Peer::new(to_peer),
        to_disk,
        present,
        lately: RefCell::default(),
        mirror,
        observe,
        console_confinement: Rc::default(),
        standing: RefCell::default(),
        handovers: RefCell::default(),
        last_handover: RefCell::new(last_handover),
        hold_reason: RefCell::new(boot_hold.or(hold_reason)),
        last_reset,
        watchdog,
        gave_up: Cell::default(),
        arrived: Cell::default(),
        yielding: Cell::default(),
        worst_lateness: Cell::default(),
        executor: executor.clone(),
        reaper: reaper.clone(),
        update: Update::of(demand),
        own_addresses: RefCell::default(),
    });
    if helper.options.appliance.is_some() {
        executor.spawn(own_address::keep(helper.clone())).detach();
    }
    if let Some(mirror) = helper.mirror.clone() {
        let (reaper, telling) = (reaper.clone(), helper.clone());
        let tell = move |data, newest| {
            telling.tell_loop(ToLoop::Data { data, newest });
        };
        executor.spawn(mirror.keep(reaper, tell)).detach();
    }
    if let Some(observe) = helper.observe.clone() {
        observe.tell(Event::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
        executor.spawn(observe.keep(helper.clone(), reaper.clone())).detach();
    }
    let reaping = reaper.clone();
    executor.spawn(async move { reaping.run().await }).detach();
    executor.spawn(copy_log()).detach();
    if let Some(socket) = sole {
        executor.spawn(single_instance::hold(socket)).detach();
    }
    if let Some(words) = child::console(&helper.config, &helper.options.socket) {
        executor.spawn(child::keep(reaper.clone(), words, helper.console_confinement.clone())).detach();
    }
    let (told, to_loop) = (helper.gate.clone(), helper.to_loop.clone());
    executor.spawn(Gatekeeper { gate, raw_belt, ways, to_loop, told, unguarded: Vec::new() }.watch()).detach();
    executor.spawn(trial::watch(helper.clone())).detach();
    executor.spawn(slots::watch(helper.clone())).detach();
    let hearing = helper.clone();
    executor.spawn(async move { hearing.hear_snapshots().await }).detach();
    executor.spawn(alarms::watch(helper.clone())).detach();
    let leaving = helper.clone();
    executor.spawn(async move { leaving.leave_on_signal().await }).detach();
    executor.spawn(peer::listen(helper.clone(), executor.clone(), from_peer)).detach();
    let (calls, called) = smol::channel::bounded(16);
    executor.spawn(server::serve(executor.clone(), Async::new(listener)?, calls)).detach();
    let (answering, runner) = (helper.clone(), executor.clone());
    executor
        .spawn(async move {
            while let Ok(call) = called.recv().await {
                runner.spawn(operator::answer(answering.clone(), call)).detach();
            }
        })
        .detach();
    let reporting = helper.clone();
    let supervisor = Rc::new(Supervisor::start(&executor, &reaper, &instance, services, move |report| {
        reporting.clone().service_changed(report);
    }));
    let (orders, ordered) = smol::channel::unbounded();
    let (passing, told) = (helper.clone(), supervisor.clone());
    executor.spawn(async move { passing.pass_orders(&ordered, &told).await }).detach();
    helper.read_letters(&letters, &orders, &supervisor).await
}

/// By what the services of this daemon are known again after its death: the state directory, which no two daemons share.
fn instance(options: &Options) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let directory = std::fs::metadata(&options.state)?;
    Ok(format!("{:x}-{:x}", directory.dev(), directory.ino()))
}

/// Lines of the log to where they go.
async fn copy_log() -> io::Result<()> {
    let Some(wake) = journal::wake() else { return Ok(()) };
    let wake = Async::new(wake)?;
    loop {
        wake.readable().await?;
        journal::drain();
    }
}

impl Helper {
    /// What the loop says, until it ends.
    async fn read_letters(
        self: &Rc<Self>,
        letters: &Arc<Mailbox<ToHelper>>,
        orders: &Sender<(service::Order, u32)>,
        supervisor: &Supervisor,
    ) -> io::Result<()> {
        let bell = Async::new(Bell(letters.clone()))?;
        loop {
            letters.hush();
            while let Some(letter) = letters.receive() {
                match letter {
                    ToHelper::Services { order, surrender } => {
                        let _ = orders.try_send((order, surrender)); // unbounded, closed only at the end
                    }
                    ToHelper::Answer(order, answer) => self.answered(order, answer),
                    ToHelper::Note(note) => {
                        self.noted(note);
                        if let Note::Role { from, to, why, term } = note {
                            self.clone().role_changed(from, to, why, term).await;
                        }
                    }
                    ToHelper::Lineage => self.lineage_changed().await,
                    ToHelper::Told(kind) => self.peer.told(kind),
                    ToHelper::Ready => ready::say(),
                    ToHelper::End => {
                        self.end_services(supervisor).await;
                        return Ok(());
                    }
                }
            }
            bell.readable().await?;
        }
    }

    fn noted(self: &Rc<Self>, note: Note) {
        match note {
            Note::Raised(alarm) => {
                let at = clock::now();
                self.alarms.borrow_mut().push((alarm, at));
                self.executor.spawn(self.clone().remember_if_it_stands(alarm, at)).detach();
            }
            Note::Cleared(alarm) => {
                let mut alarms = self.alarms.borrow_mut();
                let told = alarms.iter().any(|(stands, at)| *stands == alarm && clock::now().since(*at) >= STANDS);
                alarms.retain(|(stands, _)| *stands != alarm);
                drop(alarms);
                if told {
                    self.cleared(console::alarm::name_of(alarm), console::alarm::in_words(alarm).to_owned());
                }
            }
            _ => {}
        }
    }

    /// What passes in a moment, as at every start, is in the log and worth no line of the history.
    async fn remember_if_it_stands(self: Rc<Self>, alarm: Alarm, at: Instant) {
        smol::Timer::after(STANDS).await;
        if self.alarms.borrow().contains(&(alarm, at)) {
            self.raised(console::alarm::name_of(alarm), console::alarm::in_words(alarm).to_owned());
        }
    }

    /// For the syslog server, if there is one.
    pub(super) fn tell_observer(&self, event: Event) {
        if let Some(observe) = &self.observe {
            observe.tell(event);
        }
    }

    /// The mirror sends on under another name.
    async fn lineage_changed(&self) {
        if let (Some(mirror), Some(snapshot)) = (&self.mirror, self.snapshot().await) {
            mirror.set_role(snapshot.node.role, snapshot.node.data.generation);
        }
    }

    /// The mirror turns with the role, and whoever took or gave up the service writes that into the history.
    async fn role_changed(self: Rc<Self>, from: Role, to: Role, why: &'static str, term: u64) {
        self.tell_arrival(to);
        let (was, is) = (from.name().to_owned(), to.name().to_owned());
        self.tell_observer(Event::Role { from: was, to: is, why: why.to_owned(), term });
        let Some(snapshot) = self.snapshot().await else { return };
        if let Some(mirror) = &self.mirror {
            mirror.set_role(to, snapshot.node.data.generation);
        }
        match to {
            Role::Active => {
                match report::to_this_box(&self, &snapshot) {
                    Some(account) => {
                        self.gave_up.set(None); // whoever had it meanwhile was not heard
                        self.took_over(account);
                    }
                    None => self.took_again(&snapshot),
                }
            }
            // A fence of one who did not serve is nobody's outage, and a surrender that becomes a fence has begun already.
            Role::Yielding if from == Role::Active => self.yielding.set(Some((why, clock::now()))),
            Role::Yielding => {}
            _ => {
                if let Some((why, at)) = self.yielding.take() {
                    self.gave_the_service_up(why, at);
                }
            }
        }
    }

    /// Says on the appliance how long the way was from /init to a place in the pair.
    fn tell_arrival(&self, role: Role) {
        let Some(appliance) = &self.options.appliance else { return };
        let told = match (self.arrived.get(), role) {
            (None, Role::Held) | (None | Some(Role::Held), Role::Standby | Role::Active) => Some(role),
            _ => return,
        };
        self.arrived.set(told);
        let said = format!("{} {:.2} s after /init", role.name(), clock::now().since(appliance.began).as_secs_f64());
        log::info!("{said}");
        if let Some(port) = &self.config.board.console
            && let Err(error) = Terminal::say_beside_prompt(&port.device, &said)
        {
            log::debug!("{}: {error}", port.device.display());
        }
    }

    pub(super) fn remember(&self, line: Box<str>) {
        if self.to_disk.send(ToDisk::Remember(line)).is_err() {
            log::warn!("the disk hangs: an event is missing in the history");
        }
    }

    /// Why the operator holds this box, for the status of this life and the next one. `None`: he does not any more.
    /// Returns the former one.
    pub(super) fn keep_hold_reason(&self, reason: Option<String>) -> Option<String> {
        let words = reason.clone().unwrap_or_default().into();
        let former = self.hold_reason.replace(reason);
        if self.to_disk.send(ToDisk::HoldReason(words)).is_err() {
            log::warn!("the disk hangs: the reason for the hold will be forgotten at the next start");
        }
        former
    }

    /// SIGTERM and SIGINT: surrender, farewell, end. SIGHUP, by which others read their configuration anew, is no reason to go.
    async fn leave_on_signal(&self) -> io::Result<()> {
        let mut signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])?;
        while let Some(signal) = signals.next().await {
            let longest = operator::leave_patience(&self.config.site);
            let name = match signal? {
                Signal::Hup => {
                    log::warn!(
                        "SIGHUP: the files are read at the start only; restart the daemon for what is new in them"
                    );
                    continue;
                }
                Signal::Int => "SIGINT",
                _ => "SIGTERM",
            };
            log::info!("{name}: leaving in order, which may take up to {longest:.1?}");
            self.tell_loop(ToLoop::Order(Order::Leave));
        }
        Ok(())
    }
}

/// The result of `work`, or `None` when it takes longer than `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        smol::Timer::after(limit).await;
        None
    };
    future::or(async { Some(work.await) }, late).await
}
