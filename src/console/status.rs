//! The state of the pair as one value: exactly the JSON of `status --json`.
//!
//! Outside programs read it, so fields are added and never renamed. Every `*_ms` is an age or a duration in
//! milliseconds, `null` means "never" or "without end"; every word is lower case.

use serde::{Deserialize, Serialize};

pub use crate::mirror::control::Cause;

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
    /// What the mirror's process must do without, in words; null while it has not said so.
    #[serde(default)]
    pub mirror_confinement: Option<String>,
    /// The same of the process on the console port; null where the daemon runs none.
    #[serde(default)]
    pub console_confinement: Option<String>,
    /// The same of the process of `[observe]`.
    #[serde(default)]
    pub observe_confinement: Option<String>,
    /// The witnesses make a quorum, seen from this box.
    #[serde(default)]
    pub quorum: bool,
    /// Would a takeover by the standby work now?
    pub takeover: Takeover,
    /// The last hand-over that this box took part in.
    pub last_handover: Option<Handover>,
    /// Hand-overs to this box since its daemon started.
    #[serde(default)]
    pub handovers: Handovers,
    /// What is wrong and has not gone away.
    pub alarms: Vec<Alarm>,
    /// The image that an appliance runs; `null` elsewhere.
    #[serde(default)]
    pub image: Option<Image>,
    /// Text of the kernel panic that ended the boot before, where the kernel could keep it.
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
    /// Slot of a newer image that was tried and not confirmed.
    pub rolled_back: Option<u32>,
    /// How far an update of this box is.
    pub update: UpdateState,
    /// Why the last one failed.
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
    /// Longest time by which it woke up too late since the last status.
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
    /// How long it lasts if nothing renews it; `null`: without end.
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

/// The belts that keep a box without a right from serving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The hardware watchdog; `null` when the board has none.
    pub watchdog: Option<Watchdog>,
    /// The kernel's gate in front of the service addresses.
    pub egress_gate: Gate,
    /// F: from the end of the right to the certainty that nothing more is sent; `null`: no bound is known.
    pub bound_ms: Option<u64>,
    /// Which belt gives that bound.
    pub bound_by: BoundBy,
    /// False means UNFENCED: neither gate nor watchdog stands behind the pair's promise.
    pub fenced: bool,
    /// How often the gate was put back after somebody had changed it.
    #[serde(default)]
    pub gate_repairs: u32,
    /// The belt against raw senders that pass by the gate stands.
    #[serde(default)]
    pub raw_belt: bool,
}

/// The hardware watchdog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// Its device file.
    pub device: String,
    /// Its time-out as read back from the driver.
    pub timeout_ms: u64,
    /// Why the box was last reset.
    pub last_reset: ResetCause,
}

/// Why a box started anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResetCause {
    /// The watchdog fired.
    Watchdog,
    /// The kernel panicked.
    Panic,
    /// The power came back, or a button was pressed: anything else would have left a trace.
    Power,
    /// The daemon had left in order before.
    Ordered,
    /// Nothing tells.
    #[default]
    Unknown,
}

impl ResetCause {
    /// The word that the status shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ResetCause::Watchdog => "watchdog",
            ResetCause::Panic => "panic",
            ResetCause::Power => "power",
            ResetCause::Ordered => "ordered",
            ResetCause::Unknown => "unknown",
        }
    }
}

/// The egress gate's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Drops whatever leaves from a service address.
    Closed,
    /// Lets it pass until the right ends.
    Open,
    /// Not installed, or it could not be verified.
    Absent,
}

impl Gate {
    /// The word that the status shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Gate::Closed => "closed",
            Gate::Open => "open",
            Gate::Absent => "absent",
        }
    }
}

/// The belt that gives the fence bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundBy {
    /// The egress gate.
    Gate,
    /// The hardware watchdog.
    Watchdog,
    /// The kernel lifetime of the service addresses.
    AddressLease,
    /// Nothing: the peer then never claims in silence.
    None,
}

impl BoundBy {
    /// The word that the status shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            BoundBy::Gate => "gate",
            BoundBy::Watchdog => "watchdog",
            BoundBy::AddressLease => "address-lease",
            BoundBy::None => "none",
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
    /// Age of its newest heartbeat.
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
    /// Age of its newest good heartbeat.
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
    /// What seems to be wrong with it, in words: `login prompt`, `loop plug`, `wrong baud rate`, `no carrier`.
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
    /// Its last round trip in microseconds.
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
    /// The hardware address of a third party that claims it too.
    pub conflict: Option<String>,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Started and its check succeeds.
    Running,
    /// Not wanted on this box now.
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

/// Which way a tree is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From here to the peer.
    Send,
    /// From the peer to here.
    Receive,
}

/// What the mirror does with a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TreeState {
    /// Waits for its next cycle.
    Idle,
    /// A cycle is running.
    Running,
    /// Its cycles do not get through; `cause` and `reason` say why.
    Blocked,
    /// The mirror's process has not said anything of it yet.
    Starting,
}

impl Cause {
    /// What a person reads before the reason.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Cause::Guard => "BLOCKED",
            Cause::Missing => "MISSING",
            Cause::Failed => "FAILED",
        }
    }
}

impl TreeState {
    /// The word that the status shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            TreeState::Idle => "idle",
            TreeState::Running => "running",
            TreeState::Blocked => "blocked",
            TreeState::Starting => "starting",
        }
    }
}

/// One mirrored tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Its path.
    pub tree: String,
    /// Which way it is copied now.
    pub direction: Direction,
    /// Age of the last cut that the standby has whole.
    pub last_cut_ms_ago: Option<u64>,
    /// How much a failover now would lose: age of the oldest change that the standby lacks.
    pub lag_ms: Option<u64>,
    /// What is going on.
    pub state: TreeState,
    /// Names in the last cut that are no directories; every name of a hard-linked file counts.
    pub files: u64,
    /// Bytes that the last cycle sent.
    pub bytes_sent: u64,
    /// Sets of changes that were set aside and wait for the operator.
    pub diverged: u64,
    /// The standby's cut is young enough to serve.
    pub current: bool,
    /// Why it is blocked.
    pub reason: Option<String>,
    /// The kind of that.
    #[serde(default)]
    pub cause: Option<Cause>,
}

/// Would a takeover by the standby work now?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// It would.
    pub ready: bool,
    /// If not: why, in words.
    pub blocked_by: Vec<String>,
}

/// Planned or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandoverKind {
    /// Planned: the active box surrendered in order.
    Switchover,
    /// Unplanned: the active box was lost.
    Failover,
}

impl HandoverKind {
    /// The word that the status shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            HandoverKind::Switchover => "switchover",
            HandoverKind::Failover => "failover",
        }
    }
}

/// One hand-over and what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Planned or not.
    pub kind: HandoverKind,
    /// Why it happened, in words.
    pub reason: String,
    /// From the last sign of the peer to the decision to claim.
    pub detect_ms: u64,
    /// Waited until the peer was surely fenced.
    pub fence_wait_ms: u64,
    /// From the last sign of the former holder to the first announcement of the new one.
    pub total_ms: u64,
    /// How long ago it was; `null` when it was before this start of the daemon.
    #[serde(default)]
    pub ago_ms: Option<u64>,
    /// The term that it began.
    #[serde(default)]
    pub term: u64,
    /// The box that serves since then: `a` or `b`.
    #[serde(default)]
    pub to: String,
    /// Where the time went, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// Hand-overs by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handovers {
    /// Planned ones.
    pub switchovers: Counted,
    /// Unplanned ones.
    pub failovers: Counted,
}

impl Handovers {
    /// Counts one more.
    pub fn add(&mut self, handover: &Handover) {
        let counted = match handover.kind {
            HandoverKind::Switchover => &mut self.switchovers,
            HandoverKind::Failover => &mut self.failovers,
        };
        counted.count += 1;
        counted.outage_ms = counted.outage_ms.saturating_add(handover.total_ms);
    }
}

/// Hand-overs of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many.
    pub count: u64,
    /// What they took together.
    pub outage_ms: u64,
}

/// One step of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was done: `surrender` (planned ones), `detect`, `wait`, `claim`, `address`, `announce`, `first-frame`.
    pub name: String,
    /// How long it took, in microseconds.
    pub us: u64,
}

/// Something that is wrong and has not gone away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// For how long.
    pub since_ms: u64,
    /// What, in words, with the numbers behind it.
    pub text: String,
    /// Its name in the catalogue ([`crate::console::alarm`]), which knows the remedy.
    #[serde(default)]
    pub name: String,
}
