//! A mirrored tree in the status: which way it is copied, how old the copy is, and why it does not get on.

use serde::{Deserialize, Serialize};

pub use crate::mirror::control::Cause;

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
    /// Age of the last cut that the standby has whole; `null`: it has none.
    pub last_cut_ms_ago: Option<u64>,
    /// How much a failover now would lose: age of the oldest change that the standby lacks; on a standby whose copy is not
    /// current, all since its cut; `null`: everything, for there is no cut.
    pub lag_ms: Option<u64>,
    /// What is going on.
    pub state: TreeState,
    /// Names in the last cut that are no directories; every name of a hard-linked file counts.
    pub files: u64,
    /// Bytes that the last cycle put on the link, headers included.
    pub bytes_sent: u64,
    /// Sets of changes that were set aside and wait for the operator.
    pub diverged: u64,
    /// The standby's cut is young enough to serve.
    pub current: bool,
    /// Why it is blocked, or what the last cycle could not do; `null`: nothing.
    pub reason: Option<String>,
    /// The kind of that; `null` where it is not blocked.
    #[serde(default)]
    pub cause: Option<Cause>,
}
