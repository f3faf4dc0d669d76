//! The state of the pair as one value: exactly the JSON of `status --json`.
//!
//! Outside programs read it, so fields are added and never renamed. Every `*_ms` is an age or a duration in
//! milliseconds, `null` means "never" or "without end"; every word is lower case.

mod fence;
mod handover;
mod tree;

use serde::{Deserialize, Serialize};

pub use fence::{BoundBy, Fence, Gate, ResetCause, Watchdog};
pub use handover::{Counted, Handover, HandoverKind, Handovers, Step};
pub use tree::{Cause, Direction, Tree, TreeState};

/// What `twobox status --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program that answers.
    pub version: String,
    /// The pair's name from the site file.
    pub pair: String,
    /// Which of the two boxes answers: `a` or `b`.
    pub node: String,
    /// What it is doing.
    pub role: Role,
    /// How long it has had this role.
    pub since_ms: u64,
    /// Why a held box is held; empty otherwise.
    #[serde(default)]
    pub held_by: Vec<String>,
    /// Its highest term, served or voted.
    pub term: u64,
    /// What lets it serve at this instant.
    pub right: Right,
    /// What stops it when it has no right.
    pub fence: Fence,
    /// Why the box was reset last, as far as that can be known; with or without a watchdog.
    #[serde(default)]
    pub last_reset: ResetCause,
    /// The other box, as far as it has been heard.
    pub peer: Peer,
    /// Every way by which heartbeats travel.
    pub links: Vec<Link>,
    /// Every configured witness.
    pub witnesses: Vec<Witness>,
    /// Every service address.
    pub addresses: Vec<Address>,
    /// Every configured service.
    pub services: Vec<Service>,
    /// Every mirrored tree.
    pub mirror: Vec<Tree>,
    /// What the mirror's process must do without, in words; `null` while it has not said so, and where nothing is mirrored.
    #[serde(default)]
    pub mirror_confinement: Option<String>,
    /// What the process on the console port must do without; `null` while it has not said so, and where there is none.
    #[serde(default)]
    pub console_confinement: Option<String>,
    /// What the process of `[observe]` must do without; `null` while it has not said so, and where there is none.
    #[serde(default)]
    pub observe_confinement: Option<String>,
    /// What the process that did the last update's work had to do without; `null` while there was none in this life of the
    /// daemon.
    #[serde(default)]
    pub update_confinement: Option<String>,
    /// The witnesses make a quorum, seen from this box.
    #[serde(default)]
    pub quorum: bool,
    /// Would a takeover by the standby work now?
    pub takeover: Takeover,
    /// The last hand-over that this box took part in; `null` when none is known.
    pub last_handover: Option<Handover>,
    /// Hand-overs to this box since its daemon started, and outages after which it took the service again itself.
    #[serde(default)]
    pub handovers: Handovers,
    /// What is wrong and has not gone away.
    pub alarms: Vec<Alarm>,
    /// The image that an appliance runs; `null` elsewhere.
    #[serde(default)]
    pub image: Option<Image>,
    /// Text of the kernel panic that ended the boot before; `null` when there was none, or the kernel could not keep it.
    #[serde(default)]
    pub last_panic: Option<String>,
    /// The cluster loop's own figures.
    #[serde(default)]
    pub cluster_loop: ClusterLoop,
}

/// The image that runs, and an update of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Number of its slot.
    pub slot: u32,
    /// What it is called.
    pub hash: String,
    /// It is the one that boots; false while it is on trial.
    pub confirmed: bool,
    /// Slot of a newer image that was tried and not confirmed; `null` when there is none.
    pub rolled_back: Option<u32>,
    /// How far an update of this box is.
    pub update: UpdateState,
    /// Why the last one failed; `null` when it did not.
    pub failure: Option<String>,
}

/// How far an update of a box is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateState {
    /// There is none.
    None,
    /// The other slot is being written.
    Writing,
    /// It could not be written.
    Failed,
    /// The new image is about to start.
    Restarting,
}

/// How the cluster loop does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLoop {
    /// Turns since the start.
    pub turns: u64,
    /// Longest time by which it came too late to what was due, since the last status: woken late, or held up while it heard.
    pub worst_lateness_us: u64,
}

/// What a box does in the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Just booted; claims nothing yet.
    Joining,
    /// Healthy spare.
    Standby,
    /// Waits until the peer is surely fenced, or writes its term.
    Claiming,
    /// Serves.
    Active,
    /// Is giving up the service.
    Yielding,
    /// Takes part and never takes over: by order or by a fault of its own.
    Held,
    /// The peer's role while the peer is silent.
    Unknown,
}

impl Role {
    /// The word that the status shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Joining => "joining",
            Role::Standby => "standby",
            Role::Claiming => "claiming",
            Role::Active => "active",
            Role::Yielding => "yielding",
            Role::Held => "held",
            Role::Unknown => "unknown",
        }
    }
}

/// The right to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// Where it comes from.
    pub kind: RightKind,
    /// How long it lasts if nothing renews it; `null`: without end; 0 where there is none.
    pub remaining_ms: Option<u64>,
}

/// Where a right comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RightKind {
    /// The peer's heartbeats grant it.
    Lease,
    /// The witnesses answer and no rival was heard.
    Quorum,
    /// The peer left in order and will not serve until in touch again.
    Farewell,
    /// An operator's `activate --force`.
    Forced,
    /// There is none.
    None,
}

impl RightKind {
    /// The word that the status shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            RightKind::Lease => "lease",
            RightKind::Quorum => "quorum",
            RightKind::Farewell => "farewell",
            RightKind::Forced => "forced",
            RightKind::None => "none",
        }
    }
}

/// The other box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// `a` or `b`.
    pub node: String,
    /// Its role as last heard; `unknown` if it was never heard.
    pub role: Role,
    /// Age of its newest heartbeat; `null`: never heard.
    pub heard_ms_ago: Option<u64>,
    /// Its configuration digest equals ours; `null` until it was heard.
    pub config_matches: Option<bool>,
}

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A null modem.
    Serial,
    /// Raw frames on the crossover or the LAN.
    Ethernet,
    /// Through a witness.
    Reflected,
}

/// One way by which heartbeats travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// `null-modem`, `crossover`, `lan`, or `reflected:IP`.
    pub name: String,
    /// What carries it.
    pub kind: LinkKind,
    /// The peer is heard on it.
    pub up: bool,
    /// Age of its newest good heartbeat; `null`: none came.
    pub heard_ms_ago: Option<u64>,
    /// Heartbeats that never came.
    pub lost: u64,
    /// Heartbeats that came more than half an interval after they were due, by the time of their receipt.
    #[serde(default)]
    pub late: u64,
    /// Frames refused, whatever the reason.
    pub rejected: u64,
    /// Good heartbeats that came.
    #[serde(default)]
    pub heard: u64,
    /// Frames sent.
    #[serde(default)]
    pub sent: u64,
    /// Frames that could not be sent at once and were dropped.
    #[serde(default)]
    pub dropped: u64,
    /// What seems to be wrong with it, in words: `login prompt`, `loop plug`, `wrong baud rate`, `no carrier`; `null`:
    /// nothing.
    #[serde(default)]
    pub finding: Option<String>,
}

/// One witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Its address.
    pub ip: String,
    /// It answers our ping.
    pub reachable: bool,
    /// Both boxes were seen to hear each other through it.
    pub reflects: bool,
    /// Its last round trip; `null`: it never answered.
    pub rtt_us: Option<u64>,
    /// It answers only some of our pings when they come at the full rate.
    #[serde(default)]
    pub limits: bool,
}

/// One service address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address with its prefix length.
    pub ip: String,
    /// This box holds it now.
    pub held: bool,
    /// The hardware address of a third party that claims it too; `null`: nobody does.
    pub conflict: Option<String>,
    /// Frames from this address that the gate dropped on their way out.
    #[serde(default)]
    pub dropped_out: u64,
    /// Frames to this address that the gate dropped on their way in.
    #[serde(default)]
    pub dropped_in: u64,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Started and its check succeeds.
    Running,
    /// Not wanted on this box now, or it is starting and has not been well yet.
    Stopped,
    /// Wanted, and it does not run or its check fails.
    Failed,
}

impl ServiceState {
    /// The word that the status shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ServiceState::Running => "running",
            ServiceState::Stopped => "stopped",
            ServiceState::Failed => "failed",
        }
    }
}

/// One configured service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name in the site file.
    pub name: String,
    /// What it is doing.
    pub state: ServiceState,
    /// How often it was started again since the box became Active.
    pub restarts: u32,
}

/// Would a takeover by the standby work now?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// It would.
    pub ready: bool,
    /// If not: why, in words; the first one is what the status answers with.
    pub blocked_by: Vec<String>,
}

/// Something that is wrong and has not gone away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// For how long.
    pub since_ms: u64,
    /// What, in words, with the numbers behind it.
    pub text: String,
    /// Its name in the manual's table of alarms, which has the remedy.
    #[serde(default)]
    pub name: String,
}
