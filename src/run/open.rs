//! Everything that the loop works with, opened in the order in which one needs the other; then the threads are started.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::belts::{Belts, Way};
use super::cluster::{self, Cluster};
use super::letters::{Order, ToHelper, ToLoop};
use super::life::{self, Life};
use super::lines::Lines;
use super::mailbox::Mailbox;
use super::neighbor::{self, Neighbor};
use super::network::{self, Network};
use super::{Options, disk, helper, history, interface, links, record, settings, side, single_instance, snapshot};
use crate::clock;
use crate::config::Config;
use crate::console::server;
use crate::fence::reset::Reset;
use crate::fence::watchdog::{Watchdog, Weakness};
use crate::node::{Memory, Node};
use crate::realtime;
use crate::state::{Directory, Found};
use crate::takeover::{self, Takeover};
use crate::update::demand;
use crate::wire::heartbeat::Seal;
use crate::wire::pair::BootId;

/// What runs once everything is open.
pub(super) struct Opened {
    pub cluster: Box<Cluster>,
    pub helper: JoinHandle<()>,
    pub disk: JoinHandle<()>,
    pub to_helper: Arc<Mailbox<ToHelper>>,
    pub to_disk: Arc<Mailbox<disk::ToDisk>>,
    pub life: Life,
}

/// Opens everything and starts the threads.
pub(super) fn open(options: &Options, config: Config) -> Result<Opened, String> {
    let directory =
        single_instance::take(|| Directory::open(&options.state), |e| e.kind() == io::ErrorKind::WouldBlock)
            .map_err(|e| not_opened(&options.state, &e))?;
    let memory = remember(&directory)?;
    let known_neighbor = neighbor::read(&directory);
    let hold_reason = reason_to_hold(&directory);
    let demand = demanded(&directory);
    let (listener, sole) = listen(options)?;
    let to_loop = mailbox()?;
    let to_loop_first = to_loop.clone();
    let to_helper = mailbox()?;
    let (to_disk, from_disk) = (mailbox()?, mailbox()?);
    let (to_peer, from_peer) = (mailbox()?, mailbox()?);
    let boot =
        BootId::new(getrandom::u64().map_err(|e| format!("no random boot id: {e}"))? | 1).expect("an odd number");

    let (mut takeover, takeover_settings) = open_takeover(&config)?;
    let now = clock::now();
    let ways = ways(&takeover_settings)?;
    let virtual_macs = (0..takeover_settings.addresses.len())
        .filter(|at| takeover_settings.addresses[*at].virtual_mac)
        .filter_map(|at| takeover.mac(at))
        .collect();
    let lines = Lines::open(takeover.netlink(), &ways).map_err(|e| format!("fence: {e}"))?;
    let mut belts = Belts::open(&config, &ways, virtual_macs, lines.behind(), now)
        .map_err(|e| format!("the watchdog's thread: {e}"))?;
    let (fence, _) = belts.bound();
    let (gate, raw_belt) = belts.share();
    let node_settings = settings::of_node(&config, options.node, boot, fence, realtime::clock_is_slewed());
    let seal = Seal::new(options.node, boot, &config.site.pair.name, config.key.bytes());
    let side = side::Side::new(options.node, boot, seal.pair, config.key.bytes());
    // On a host its administrator has put them on; on the appliance we do it, once nobody else has them.
    let own_is_ours = options.appliance.is_none();
    let known_neighbor = Neighbor::new(known_neighbor, now);
    let links =
        links::Links::open(&config, options.node, known_neighbor, own_is_ours, &|role| interface_of(&config, role))?;
    let network = start_network(options, &config, &mut takeover, lines, &links)
        .map_err(|e| format!("the network's thread: {e}"))?;
    let watchdog = belts.watchdog().map_or(String::new(), |dog| dog.identity().trim().to_owned());
    let (life, unclean) = life_of(&directory, options, &belts);
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
        demand,
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

/// The control socket, and this daemon's claim to be the only one in its network namespace.
fn listen(options: &Options) -> Result<(UnixListener, Option<UnixListener>), String> {
    let is_taken = |e: &io::Error| e.kind() == io::ErrorKind::AddrInUse;
    let listener = single_instance::take(|| server::bind(&options.socket), is_taken).map_err(|e| {
        let remedy = match e.kind() {
            io::ErrorKind::NotFound => "make its directory first, or name another path with --socket",
            io::ErrorKind::PermissionDenied => "run this as root, or name another path with --socket",
            io::ErrorKind::InvalidInput => "name a path of at most 107 bytes with --socket",
            _ => "stop that one, remove what lies there, or name another path with --socket",
        };
        format!("control socket {}: {e}; {remedy}", options.socket.display())
    })?;
    // Before anything is removed that a former daemon has left: it may be a living one's.
    let claim = || single_instance::claim(single_instance::NAME);
    let sole = single_instance::take(claim, |_| true).inspect_err(|_| {
        let _ = std::fs::remove_file(&options.socket); // nobody will listen there
    })?;
    Ok((listener, sole))
}

/// The service addresses, all down: what a former daemon left is removed.
fn open_takeover(config: &Config) -> Result<(Takeover, takeover::Settings), String> {
    let mut unknown = None;
    let settings = settings::of_takeover(&config.site, |role| {
        interface_of(config, role).unwrap_or_else(|error| {
            unknown = Some(error);
            String::new()
        })
    });
    if let Some(error) = unknown {
        return Err(error);
    }
    let (takeover, leftovers) = Takeover::open(&settings)
        .map_err(|e| format!("service addresses: {e}; run this as root, or give it CAP_NET_ADMIN and CAP_NET_RAW"))?;
    if leftovers.addresses + leftovers.macvlans > 0 {
        log::warn!(
            "removed what a former daemon left: {} service addresses, {} macvlans",
            leftovers.addresses,
            leftovers.macvlans
        );
    }
    Ok((takeover, settings))
}

/// This life as the state directory knows it, and whether the watchdog ended the former one.
fn life_of(directory: &Directory, options: &Options, belts: &Belts) -> (Life, bool) {
    let by_watchdog = belts.watchdog().is_some_and(Watchdog::reset_by_watchdog);
    let traces = life::Traces {
        panicked: options.appliance.as_ref().is_some_and(|appliance| appliance.panic.is_some()),
        by_watchdog,
        would_tell: belts.watchdog().is_some_and(|dog| dog.weakness() != Some(Weakness::Software))
            && life::last_words_are_kept(),
    };
    let life::Known { life, new_boot, .. } = life::begin(directory, traces);
    // Its mark stays as long as the kernel runs: a daemon that is only started again was not reset once more.
    (life, by_watchdog && new_boot)
}

fn start_network(
    options: &Options,
    config: &Config,
    takeover: &mut Takeover,
    lines: Lines,
    links: &links::Links,
) -> io::Result<Network> {
    let null_modem = config.board.null_modem.as_ref();
    let null_modem = null_modem.map(|port| (port.device.display().to_string(), port.baud));
    let placement = takeover.placement().expect("the takeover was just opened");
    let addresses = takeover.addresses().to_vec();
    let ours = if options.appliance.is_some() { present(config) } else { Vec::new() };
    let tools = network::Tools { addresses, placement, lines, binders: links.binders()?, ours };
    Network::start(tools, null_modem)
}

/// The board's interfaces that are there, by name and index.
fn present(config: &Config) -> Vec<(String, u32)> {
    let names = config.board.interfaces.iter().filter_map(|wanted| interface::find(wanted).ok());
    names.filter_map(|name| Some((name.clone(), nix::net::if_::if_nametoindex(name.as_str()).ok()?))).collect()
}

fn not_opened(state: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => format!("{error}; stop that one, or name another directory with --state"),
        _ => format!("state directory {}: {error}; name a directory that can be written with --state", state.display()),
    }
}

fn mailbox<T, const N: usize>() -> Result<Arc<Mailbox<T, N>>, String> {
    Mailbox::new().map(Arc::new).map_err(|e| format!("no eventfd: {e}"))
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

/// What worked under the former image before this one was installed.
fn demanded(directory: &Directory) -> demand::Equipment {
    match directory.read(disk::DEMAND) {
        Ok(Found::Payload(bytes)) => demand::Equipment::decode(&bytes),
        _ => demand::Equipment::default(),
    }
}

fn interface_of(config: &Config, role: &str) -> Result<String, String> {
    let wanted = config.board.interface(role).ok_or_else(|| format!("the board file has no [interface.{role}]"))?;
    interface::find(wanted)
        .map_err(|e| format!("interface {role}: {e}; see [interface.{role}] in the board file, and `ip link`"))
}

fn ways(settings: &takeover::Settings) -> Result<Vec<Way>, String> {
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
