//! What stops a box that has no right to serve, in the status, and why a box was reset.

use serde::{Deserialize, Serialize};

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
    /// How long ago the gate last let a frame from a service address out; `null`: never, or there is no gate.
    #[serde(default)]
    pub last_pass_ms_ago: Option<u64>,
}

/// The hardware watchdog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// Its device file.
    pub device: String,
    /// What its driver calls itself: tells a real one from the kernel's own timer.
    #[serde(default)]
    pub identity: String,
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
