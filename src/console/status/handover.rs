//! A hand-over in the status: what it cost, where the time went, and how many there were.

use serde::{Deserialize, Serialize};

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
