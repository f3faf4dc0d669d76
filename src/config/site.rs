//! The site file: what the pair serves. The same file lies on both boxes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::timing::Timing;
use super::value::Prefix;
use crate::wire::pair::Side;

/// Witnesses at most.
pub const WITNESS_LIMIT: usize = 8;
/// Service addresses at most.
pub const ADDRESS_LIMIT: usize = 16;
/// Services at most.
pub const SERVICE_LIMIT: usize = 32;
/// Mirrored trees at most.
pub const TREE_LIMIT: usize = 64;

/// The site file as values, every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// `[pair]`
    pub pair: Pair,
    /// `[timing]`
    pub timing: Timing,
    /// `[node.a]` and `[node.b]`: own addresses by interface of the board.
    pub nodes: [Vec<OwnAddress>; 2],
    /// `[[address]]`
    pub addresses: Vec<ServiceAddress>,
    /// `[[witness]]`
    pub witnesses: Vec<IpAddr>,
    /// `[[service]]`
    pub services: Vec<Service>,
    /// `[[mirror]]`
    pub trees: Vec<Tree>,
    /// `[mirror-link]`
    pub mirror_link: MirrorLink,
    /// `[watchdog]`
    pub watchdog: Watchdog,
    /// `[console]`
    pub console: Console,
    /// `[observe]`
    pub observe: Observe,
    /// `[log]`
    pub log: Vec<(String, log::LevelFilter)>,
}

/// `[pair]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The pair's name.
    pub name: String,
    /// The file with the pair's secret.
    pub key_file: PathBuf,
    /// The box that should serve when both are fit.
    pub prefer: Option<Side>,
    /// Silence at boot before a box that never met its peer serves.
    pub boot_wait: Duration,
    /// A box alone serves data that may be old.
    pub serve_stale_data: bool,
    /// Witnesses count only while reflection through them is proven.
    pub require_reflection: bool,
    /// The kernel's panic text on the null modem counts as proof of death.
    pub panic_text: bool,
}

/// An own address of a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The board's name of the interface.
    pub interface: String,
    /// The address.
    pub prefix: Prefix,
}

/// `[[address]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The address that clients use.
    pub prefix: Prefix,
    /// The board's name of the interface.
    pub interface: String,
    /// It has a hardware address of its own that moves with it.
    pub virtual_mac: bool,
}

/// `[[service]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Root file system to run it in.
    pub root: Option<PathBuf>,
    /// Program and arguments.
    pub start: Vec<String>,
    /// Program and arguments that exit 0 while it is well.
    pub check: Option<Vec<String>>,
    /// How often it is checked.
    pub check_interval: Duration,
    /// A check that takes longer has failed.
    pub check_timeout: Duration,
    /// How long until the first good check.
    pub start_timeout: Duration,
    /// How long to stop before it is killed.
    pub stop_timeout: Duration,
    /// What asks it to stop.
    pub stop_signal: Signal,
    /// Kept running on the standby too.
    pub warm: bool,
}

/// When cuts of a tree are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At this interval.
    Every(Duration),
    /// When it has been quiet for this long after a change.
    OnChange(Duration),
}

/// `[[mirror]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// A directory or one file.
    pub path: PathBuf,
    /// When cuts are taken.
    pub schedule: Schedule,
    /// Patterns of names that are not copied.
    pub exclude: Vec<String>,
    /// A cycle that would delete more waits for the operator.
    pub max_delete: MaxDelete,
    /// The directory that holds `.twobox`; absent: the root of the tree's file system.
    pub store: Option<PathBuf>,
}

/// How much of a tree one cycle may delete without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxDelete {
    /// So many percent of the entries of the last cut, at most 100.
    Percent(u8),
    /// So many entries.
    Entries(u64),
}

/// `[mirror-link]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorLink {
    /// TCP port on both boxes.
    pub port: u16,
    /// Use the LAN while the crossover is down.
    pub over_lan: bool,
    /// Bytes a second on the crossover.
    pub crossover_limit: Option<u64>,
    /// Bytes a second on the LAN.
    pub lan_limit: Option<u64>,
}

/// `[watchdog]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Without a feed for this long the box is reset: W, whole seconds.
    pub timeout: Duration,
    /// No watchdog of either box bounds its fence later than this.
    pub longest_bound: Duration,
    /// It goes on when the daemon ends in order.
    pub nowayout: bool,
}

/// `[console]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// The file with the password's hash.
    pub password_file: Option<PathBuf>,
    /// Log out after this much silence.
    pub idle_timeout: Option<Duration>,
}

/// `[observe]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observe {
    /// Where metrics are served: all own addresses of each box (`None`) or this one, which is one of a box's own, and the
    /// port.
    pub listen: Vec<(Option<IpAddr>, u16)>,
    /// Where events go.
    pub syslog: Option<SocketAddr>,
}
