//! Start, check, stop and kill the served programs.
//!
//! Each service is a small async program ([`supervise`]) on the daemon's helper thread. What it starts is cut off from
//! the daemon in every respect ([`spawn`]): session, signals, scheduling, descriptors. Whatever it starts in turn is
//! found again ([`group`]) and reaped ([`reaper`]), also after this daemon died and was started anew.

pub mod allowance;
mod backoff;
pub mod group;
pub mod lines;
pub mod reaper;
pub mod spawn;
pub mod supervise;

use core::time::Duration;
use std::path::PathBuf;

use nix::sys::signal::Signal;

pub use backoff::Backoff;
pub use reaper::Reaper;
pub use supervise::Supervisor;

/// On which node a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// On the Active node only.
    Active,
    /// On both: kept warm on the standby.
    Both,
}

/// All settings of one service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name: letters, digits and dashes.
    pub name: String,
    /// A root file system to run it in (chroot(2)).
    pub root: Option<PathBuf>,
    /// Program and arguments. It stays in the foreground.
    pub start: Vec<String>,
    /// Program and arguments of the check: exit code 0 means that the service works. Without one it works while it runs.
    pub check: Option<Vec<String>>,
    /// Pause between two checks.
    pub check_interval: Duration,
    /// How long a check may take before it counts as failed.
    pub check_timeout: Duration,
    /// How long the checks may fail after the start before the start counts as failed.
    pub start_timeout: Duration,
    /// What asks it to end.
    pub stop_signal: Signal,
    /// How long it may take to end after that before all of it is killed.
    pub stop_timeout: Duration,
    /// Where it runs.
    pub run: Run,
}

/// What the loop tells all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// This node is Active: start what is not running.
    Serve,
    /// Surrender: end what runs on the Active node only, in order.
    Stop,
    /// Fence: end that at once.
    Kill,
    /// The daemon leaves: end everything in order.
    Leave,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not wanted here, and nothing of it is left.
    Stopped,
    /// Started, not ready yet.
    Starting,
    /// Ready: its check succeeds.
    Running,
    /// Wanted, but it ended, never got ready or its check fails. It is tried again.
    Failed,
    /// On its way to `Stopped`.
    Stopping,
}

/// A change of a service, for the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its place in the configuration.
    pub index: usize,
    /// What it does now.
    pub state: State,
    /// Starts after failures since the box became Active.
    pub restarts: u32,
}
