//! The loop: the one room that knows all sides.
//!
//! ```text
//!            frames                        Actions
//!   links ----------> +---------------+ -----------> links, takeover, belts
//!   takeover -------> | cluster loop  |
//!                     | one thread    | --ToDisk--> disk thread (record, fsync) --+
//!        +----------> | real-time     | <--Persisted-----------------------------+
//!        |            +---------------+ --ToHelper--> helper thread (smol LocalExecutor):
//!        +--------ToLoop--------------------------------- services, control socket, log, signals
//! ```
//!
//! A turn of the loop drains every input, each with the time after its receipt, then reads the clock, hands over
//! [`crate::node::Input::Turn`], and carries out what the node wants. Nothing on that thread allocates, waits for a disk, or
//! takes a lock that another thread holds for long.

mod alarms;
mod belts;
mod child;
mod claims;
mod cluster;
mod copy_first;
mod disk;
mod drill;
mod entropy;
mod figures;
mod gatekeeper;
mod handover;
mod helper;
mod history;
mod interface;
mod lateness;
mod life;
mod lines;
mod links;
mod mailbox;
mod mirror;
mod neighbor;
mod network;
mod null_modem;
mod observe;
mod operator;
mod own_address;
mod peer;
mod quiet;
pub mod record;
mod report;
mod route;
mod said;
pub mod settings;
mod side;
mod snapshot;
mod sole;
mod sources;
mod steps;
mod tally;
mod update;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use crate::clock;
use crate::config::{self, Config};
use crate::console::exit::Exit;
use crate::console::server;
use crate::fence::reset::Reset;
use crate::fence::watchdog::Weakness;
use crate::journal::{self, Levels, Sink};
use crate::node::{self, Memory, Node};
use crate::oom;
use crate::realtime;
use crate::service;
use crate::state::{Directory, Found};
use crate::takeover::{ADDRESSES, Takeover};
use crate::wire::heartbeat::Seal;
use crate::wire::pair::{BootId, Data, Side, Term};
use crate::wire::side::Kind;
use belts::{Belts, Way};
use cluster::Cluster;
use lines::Lines;
use mailbox::Mailbox;
use neighbor::Neighbor;

/// How often is looked whether what still runs has ended: well below every time-out of a watchdog.
const ENDING: crate::time::Duration = crate::time::Duration::from_millis(50);

/// Stack of the disk's thread: what it needs several times over, and little to lock in memory.
const STACK: usize = 256 * 1024;

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The board file.
    pub board: PathBuf,
    /// The site file.
    pub site: PathBuf,
    /// Which box this is.
    pub node: Side,
    /// State directory.
    pub state: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Levels of the log; the site file's when absent.
    pub levels: Option<Levels>,
    /// The machine is ours: log to the kernel, run the console, reset the box when the addresses will not come down.
    pub appliance: Option<Appliance>,
}

/// What PID 1 tells the daemon about the machine, and the daemon tells PID 1.
#[derive(Clone, Debug)]
pub struct Appliance {
    /// Lines about the boot, for the log.
    pub report: Vec<String>,
    /// Why this box must come up held.
    pub hold: Option<String>,
    /// The panic that ended the former boot.
    pub panic: Option<String>,
    /// The slot that was booted; `None` where there are none.
    pub image: Option<crate::update::esp::Booted>,
    /// When the kernel started PID 1.
    pub began: crate::time::Instant,
    /// Set when the box shall stay off after it has left; otherwise it is reset.
    pub power_off: Arc<AtomicBool>,
}

/// What the loop hears from the other threads.
#[derive(Clone, Copy, Debug)]
pub enum ToLoop {
    /// An operator's order.
    Order(Order),
    /// Health of all services together.
    Services {
        /// None fails.
        healthy: bool,
    },
    /// Nothing of the services that run on the Active node only is left, since the order with this number.
    ServicesStopped {
        /// Number of the surrender.
        surrender: u32,
    },
    /// State of the mirrored data, once every copy has been read.
    Data {
        /// As it is told to the peer.
        data: Data,
        /// Term of the newest lineage that any copy is of.
        newest: Term,
    },
    /// The egress gate was verified.
    Gate {
        /// It is in order.
        holds: bool,
    },
    /// An own address is on its interface.
    OwnAddress(std::net::IpAddr),
    /// Another interface has come in the place of one that service addresses leave by.
    Moved {
        /// The indexes of all of them by now, and zeros: the gate is on these, or counts no more.
        gated: [u32; ADDRESSES],
    },
    /// Somebody wants to know how things stand.
    Snapshot,
}

/// An order without the term, which the loop adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hand over to the peer.
    Switchover,
    /// Stay up, never take over.
    Hold,
    /// End of a hold.
    Release,
    /// Serve although the peer is silent.
    Force,
    /// Leave in order.
    Leave,
}

/// What the helper hears from the loop.
#[derive(Clone, Copy, Debug)]
pub enum ToHelper {
    /// Tell all services; a surrender's number comes back with [`ToLoop::ServicesStopped`].
    Services {
        /// What to tell them.
        order: service::Order,
        /// Number of the surrender, if it is one.
        surrender: u32,
    },
    /// The node's answer to an order.
    Answer(node::Order, node::Answer),
    /// Something happened that belongs into the history.
    Note(node::Note),
    /// What is served is of another lineage: the mirror is to be told.
    Lineage,
    /// The peer has a message of the side channel whole.
    Told(Kind),
    /// The first turn is over, the addresses are confirmed down.
    Ready,
    /// The loop has ended.
    End,
}

/// Why the daemon does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the operator: what is wrong and what to do.
    pub text: String,
    /// How the program ends.
    pub exit: Exit,
}

impl Failure {
    /// As it stands on standard error. What is wrong with a file begins with the file's name and line.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.exit == Exit::Refused { format!("twobox: {}", self.text) } else { self.text.clone() }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, exit: Exit::Refused }
    }
}

/// Runs the pair on this box until it has left in order.
///
/// # Errors
///
/// What is wrong and what to do. Nothing serves then, and the addresses are down.
pub fn run(options: &Options) -> Result<(), Failure> {
    // The pair's key will be in this process: no core dump and no debugger but root's shows it.
    nix::sys::prctl::set_dumpable(false).map_err(|e| format!("prctl: {e}"))?;
    let config = aside(|| config::load(&options.site, &options.board)).map_err(|problems| Failure {
        text: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        exit: Exit::WrongUse,
    })?;
    let done = serve(options, config);
    journal::drain();
    Ok(done?)
}

fn serve(options: &Options, mut config: Config) -> Result<(), String> {
    aside(|| start_log(options, &config))?;
    config.site.watchdog.nowayout |= options.appliance.is_some();
    let ending_patience = settings::end_timeout(&config.site) + helper::LEAVE_PATIENCE * 2;
    await_random_numbers()?;
    if let Err(error) = oom::protect() {
        log::warn!(
            "the kernel may end this daemon when memory is short ({error}): give CAP_SYS_RESOURCE, or OOMScoreAdjust=-1000 where systemd starts it"
        );
    }
    // Before any thread starts: their stacks are then locked as far as they are used, and not whole.
    if let Err(error) = realtime::lock_memory(options.appliance.is_some()) {
        log::warn!("memory is not locked ({error}): the loop may be late when memory is short; give CAP_IPC_LOCK");
    }
    let Opened { mut cluster, helper, disk, to_helper, to_disk, life } = aside(|| open(options, config))?;
    prepare_thread();
    if let Err(error) = cluster.run() {
        // Services, addresses and watchdog are as they were a moment ago: a program that ends in order would leave them so. It
        // ends like any that is broken: on the appliance by the kernel's panic, which the peer hears.
        panic!("the loop: {error}");
    }

    log::info!("left the pair; what still runs of the services ends now");
    let _ = to_disk.send(disk::ToDisk::Left(life.left()));
    let _ = to_disk.send(disk::ToDisk::End);
    let _ = to_helper.send(ToHelper::End);
    // Services that run on both boxes end only now. The addresses are down, so the watchdog is fed meanwhile; whoever takes
    // longer than his own time-out hangs, and is left to it.
    let until = clock::now() + ending_patience;
    while !(disk.is_finished() && helper.is_finished()) {
        cluster.feed_until(until);
        #[allow(clippy::disallowed_methods)] // the loop has ended: nothing is decided any more
        std::thread::sleep(ENDING);
    }
    let _ = disk.join();
    let _ = helper.join();
    cluster.close();
    log::info!("left in order: nothing of the pair runs on this box");
    let _ = std::fs::remove_file(&options.socket); // gone already: somebody tidied up
    Ok(())
}

fn await_random_numbers() -> Result<(), String> {
    let tell = || {
        log::warn!("the kernel has no random numbers yet: waits for them, at most {:?}", entropy::LIMIT);
        journal::drain();
    };
    let ask = || getrandom::u64().map(drop).map_err(std::io::Error::from);
    entropy::wait(entropy::LIMIT, entropy::is_there, tell, ask).map_err(|e| {
        format!("no random numbers: {e}; this kernel gathers no noise: give it a source (a hardware generator's driver) and start this again")
    })
}

/// What runs once everything is open.
struct Opened {
    cluster: Box<Cluster>,
    helper: JoinHandle<()>,
    disk: JoinHandle<()>,
    to_helper: Arc<Mailbox<ToHelper>>,
    to_disk: Arc<Mailbox<disk::ToDisk>>,
    life: life::Life,
}

/// Does `work` on a stack that is given back afterwards: the loop's stays locked, as deep as it was ever used.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Opens everything and starts the threads.
fn open(options: &Options, config: Config) -> Result<Opened, String> {
    let directory = Directory::open(&options.state).map_err(|e| not_opened(&options.state, &e))?;
    let memory = remember(&directory)?;
    let known_neighbor = neighbor::read(&directory);
    let hold_reason = reason_to_hold(&directory);
    let listener = server::bind(&options.socket).map_err(|e| {
        let remedy = match e.kind() {
            std::io::ErrorKind::NotFound => "make its directory first, or name another path with --socket",
            std::io::ErrorKind::PermissionDenied => "run this as root, or name another path with --socket",
            std::io::ErrorKind::InvalidInput => "name a path of at most 107 bytes with --socket",
            _ => "stop that one, remove what lies there, or name another path with --socket",
        };
        format!("control socket {}: {e}; {remedy}", options.socket.display())
    })?;
    // Before anything is removed that a former daemon has left: it may be a living one's.
    let sole = sole::claim(sole::NAME).inspect_err(|_| {
        let _ = std::fs::remove_file(&options.socket); // nobody will listen there
    })?;
    let to_loop = mailbox()?;
    let to_loop_first = to_loop.clone();
    let to_helper = mailbox()?;
    let (to_disk, from_disk) = (mailbox()?, mailbox()?);
    let (to_peer, from_peer) = (mailbox()?, mailbox()?);
    let boot =
        BootId::new(getrandom::u64().map_err(|e| format!("no random boot id: {e}"))? | 1).expect("an odd number");

    let name = |role: &str| interface_of(&config, role);
    let mut unknown = None;
    let takeover_settings = settings::of_takeover(&config.site, |role| {
        name(role).unwrap_or_else(|error| {
            unknown = Some(error);
            String::new()
        })
    });
    if let Some(error) = unknown {
        return Err(error);
    }
    let (mut takeover, leftovers) = Takeover::open(&takeover_settings)
        .map_err(|e| format!("service addresses: {e}; run this as root, or give it CAP_NET_ADMIN and CAP_NET_RAW"))?;
    if leftovers.addresses + leftovers.macvlans > 0 {
        log::warn!(
            "removed what a former daemon left: {} service addresses, {} macvlans",
            leftovers.addresses,
            leftovers.macvlans
        );
    }
    let now = clock::now();
    let ways = ways(&takeover_settings)?;
    let virtual_macs = (0..takeover_settings.addresses.len())
        .filter(|at| takeover_settings.addresses[*at].virtual_mac)
        .filter_map(|at| takeover.mac(at))
        .collect();
    let lines = Lines::open(takeover.netlink(), &ways).map_err(|e| format!("fence: {e}"))?;
    let mut belts = Belts::open(&config, &ways, virtual_macs, lines.behind(), now);
    let (fence, _) = belts.bound();
    let (gate, raw_belt) = belts.share();
    let node_settings = settings::of_node(&config, options.node, boot, fence, realtime::clock_is_slewed());
    let seal = Seal::new(options.node, boot, &config.site.pair.name, config.key.bytes());
    let side = side::Side::new(options.node, boot, seal.pair, config.key.bytes());
    // On a host its administrator has put them on; on the appliance we do it, once nobody else has them.
    let own_is_ours = options.appliance.is_none();
    let known_neighbor = Neighbor::new(known_neighbor, now);
    let links = links::Links::open(&config, options.node, known_neighbor, own_is_ours, &name)?;
    let network =
        start_network(&config, &mut takeover, lines, &links).map_err(|e| format!("the network's thread: {e}"))?;
    let by_watchdog = belts.watchdog().is_some_and(crate::fence::watchdog::Watchdog::reset_by_watchdog);
    let traces = life::Traces {
        panicked: options.appliance.as_ref().is_some_and(|appliance| appliance.panic.is_some()),
        by_watchdog,
        would_tell: belts.watchdog().is_some_and(|dog| dog.weakness() != Some(Weakness::Software))
            && life::last_words_are_kept(),
    };
    let watchdog = belts.watchdog().map_or(String::new(), |dog| dog.identity().trim().to_owned());
    let life::Known { life, new_boot, .. } = life::begin(&directory, traces);
    // Its mark stays as long as the kernel runs: a daemon that is only started again was not reset once more.
    let unclean = by_watchdog && new_boot;
    let node = Node::new(node_settings, now, memory, unclean);
    let snapshot = Arc::new(snapshot::Shared::new().map_err(|e| format!("no eventfd: {e}"))?);

    let helper = helper::start(helper::Start {
        options: options.clone(),
        config: config.clone(),
        listener,
        sole,
        letters: to_helper.clone(),
        to_loop: to_loop.clone(),
        snapshot: snapshot.clone(),
        to_peer: to_peer.clone(),
        from_peer: from_peer.clone(),
        to_disk: to_disk.clone(),
        present: history::Present { boot, start: life.start() },
        gate,
        raw_belt,
        ways,
        hold_reason,
        last_reset: life.reset(),
        watchdog,
    })
    .map_err(|e| format!("the helper's thread: {e}"))?;
    let disk =
        disk::start(directory, to_disk.clone(), from_disk.clone()).map_err(|e| format!("the disk's thread: {e}"))?;
    let reset = if options.appliance.is_some() { Reset::arm() } else { Reset::disabled() };
    // A surrender without services to stop and trees to cut does not ask the helper.
    let surrender_waits = config.site.services.iter().any(|service| !service.warm) || !config.site.trees.is_empty();
    let addresses_on_lan = config.site.addresses.iter().all(|address| address.interface == "lan");
    let cluster = Cluster::new(cluster::Parts {
        node,
        seal,
        links,
        takeover,
        belts,
        reset,
        surrender_waits,
        addresses_on_lan,
        to_loop,
        to_helper: to_helper.clone(),
        to_disk: to_disk.clone(),
        from_disk,
        network,
        snapshot,
        side,
        to_peer,
        from_peer,
    })
    .map_err(|e| format!("the loop: {e}"))?;
    if let Some(reason) = options.appliance.as_ref().and_then(|appliance| appliance.hold.as_ref()) {
        log::error!("held: {reason}");
        // In the mailbox before the first turn: the node is never anything else.
        to_loop_first
            .send(ToLoop::Order(Order::Hold))
            .map_err(|_| "the mailbox is full before the start".to_owned())?;
    }
    Ok(Opened { cluster: Box::new(cluster), helper, disk, to_helper, to_disk, life })
}

fn start_network(
    config: &Config,
    takeover: &mut Takeover,
    lines: Lines,
    links: &links::Links,
) -> std::io::Result<network::Network> {
    let null_modem = config.board.null_modem.as_ref();
    let null_modem = null_modem.map(|port| (port.device.display().to_string(), port.baud));
    let placement = takeover.placement().expect("the takeover was just opened");
    let addresses = takeover.addresses().to_vec();
    network::Network::start(network::Tools { addresses, placement, lines, null_modem, binders: links.binders()? })
}

fn not_opened(state: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::WouldBlock => format!("{error}; stop that one, or name another directory with --state"),
        _ => format!("state directory {}: {error}; name a directory that can be written with --state", state.display()),
    }
}

fn mailbox<T, const N: usize>() -> Result<Arc<Mailbox<T, N>>, String> {
    Mailbox::new().map(Arc::new).map_err(|e| format!("no eventfd: {e}"))
}

fn start_log(options: &Options, config: &Config) -> Result<(), String> {
    let sink =
        if options.appliance.is_some() { Sink::kmsg().unwrap_or_else(|_| Sink::stderr()) } else { Sink::stderr() };
    let levels = options.levels.clone().unwrap_or_else(|| Levels::of_modules(&config.site.log));
    journal::start(levels, sink).map_err(|e| format!("the log: {e}"))?;
    for line in options.appliance.iter().flat_map(|appliance| &appliance.report) {
        log::info!("boot: {line}");
        journal::drain();
    }
    Ok(())
}

fn remember(directory: &Directory) -> Result<Memory, String> {
    let damaged = |what: &str| {
        log::error!("{}/{}: {what}; held until `release`", directory.path().display(), disk::RECORD);
        Memory::Damaged
    };
    let found = directory.read(disk::RECORD).map_err(|e| format!("{}: {e}", directory.path().display()))?;
    Ok(match found {
        Found::Nothing => Memory::Fresh,
        Found::Payload(bytes) => record::decode(&bytes).map_or_else(|| damaged("no record"), Memory::Known),
        Found::Damaged(damage) => damaged(&damage.to_string()),
    })
}

/// What the operator said when he held this box, in a former life. It only explains: damaged, it is left out.
fn reason_to_hold(directory: &Directory) -> Option<String> {
    let Ok(Found::Payload(bytes)) = directory.read(disk::HOLD_REASON) else { return None };
    String::from_utf8(bytes.to_vec()).ok().filter(|reason| !reason.is_empty())
}

fn interface_of(config: &Config, role: &str) -> Result<String, String> {
    let wanted = config.board.interface(role).ok_or_else(|| format!("the board file has no [interface.{role}]"))?;
    interface::find(wanted)
        .map_err(|e| format!("interface {role}: {e}; see [interface.{role}] in the board file, and `ip link`"))
}

fn ways(settings: &crate::takeover::Settings) -> Result<Vec<Way>, String> {
    let mut ways: Vec<Way> = Vec::new();
    for address in &settings.addresses {
        if ways.iter().all(|way| way.name != address.interface) {
            let index = nix::net::if_::if_nametoindex(address.interface.as_str())
                .map_err(|e| format!("interface {}: {e}; see `ip link`", address.interface))?;
            ways.push(Way { name: address.interface.clone(), index });
        }
    }
    Ok(ways)
}

/// Makes this thread the loop's. The helper and the disk's thread are running already: they inherit nothing of it.
fn prepare_thread() {
    realtime::touch_stack();
    if let Err(error) = realtime::prioritize(realtime::Thread::Loop) {
        log::warn!("no real-time priority ({error}): the loop is late when the machine is busy; give CAP_SYS_NICE");
    }
}
