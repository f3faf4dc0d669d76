//! What a node is told once, at its start.

use super::planted::{Fault, Planted};
use super::timing;
use crate::time::Duration;
use crate::wire::pair::{BootId, Side};

/// Witnesses at most: one bit each in a heartbeat.
pub const WITNESSES: usize = 8;
/// Paths at most: null modem, crossover, LAN and one reflected path a witness.
pub const PATHS: usize = FIRST_REFLECTED as usize + WITNESSES;
/// Path of the serial null modem.
pub const NULL_MODEM: u8 = 0;
/// Path of the crossover cable.
pub const CROSSOVER: u8 = 1;
/// Path of raw frames over the LAN.
pub const LAN: u8 = 2;
/// Path through witness 0; witness i has `FIRST_REFLECTED + i`.
pub const FIRST_REFLECTED: u8 = 3;

/// Whether a box may serve data that are perhaps not the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StaleData {
    /// Serve, with an alarm.
    Serve,
    /// Stay held.
    Hold,
}

/// All settings of a node. `config` makes them and has checked every inequality between them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which box we are.
    pub node: Side,
    /// Random, new at every start.
    pub boot: BootId,
    /// Length of the leases that we need: L.
    pub lease: Duration,
    /// Our fence bound at the start: F. `None` until a belt is known to hold.
    pub fence: Option<Duration>,
    /// Clock drift reckoned with, parts per million.
    pub drift_ppm: u32,
    /// Added to every claim wait: at least the worst lateness of the loop.
    pub margin: Duration,
    /// Heartbeat interval of each direct path, `None` where the board has no such path.
    pub intervals: [Option<Duration>; FIRST_REFLECTED as usize],
    /// Number of witnesses configured. The first listed one decides a tie.
    pub witnesses: u8,
    /// Interval of witness rounds at full rate: p.
    pub round: Duration,
    /// Interval of witness rounds in peace.
    pub round_idle: Duration,
    /// Witnesses count for a quorum only while reflection through them is proven.
    pub require_reflection: bool,
    /// How long a difference of scores must last before the Active node surrenders.
    pub settle: Duration,
    /// How long a fault must be gone before the node is a candidate again; also the pause between moves.
    pub hold_down: Duration,
    /// Silence at boot before a node that never met its peer claims. At least `longest_wait`.
    pub boot_wait: Duration,
    /// The claim wait with the longest bounds that a box of this pair can be left with.
    pub longest_wait: Duration,
    /// The node that should serve when both are fit.
    pub prefer: Option<Side>,
    /// Whether stale data may be served.
    pub stale_data: StaleData,
    /// Mirrored trees are configured; without any the data are always current.
    pub mirrored: bool,
    /// The kernel's panic text on the null modem counts as proof of death.
    pub panic_text: bool,
    /// How often the watchdog wants to be fed.
    pub feed: Duration,
    /// How long an orderly surrender may take before it becomes a fence.
    pub stop_timeout: Duration,
    /// Terms reserved on disk ahead of need, and again when half of them are used: a takeover then waits for no disk. 0: every
    /// claim writes its term first.
    pub terms_ahead: u8,
    /// Digest of the configuration that both boxes must share.
    pub digest: u64,
    /// Rules undone by a test; always [`Planted::NONE`] in the shipped program.
    pub planted: Planted,
}

impl Settings {
    /// The shortest interval at which we send on any direct path; the round's where there is none.
    #[must_use]
    pub fn fastest(&self) -> Duration {
        self.intervals.iter().flatten().copied().min().unwrap_or(self.round)
    }

    /// C for a peer that told the lease `lease` and the fence bound `fence`; `None`: never.
    #[must_use]
    pub fn claim_wait(&self, lease: Duration, fence: Option<Duration>) -> Option<Duration> {
        let fence = if self.planted.has(Fault::OwnFenceBound) { self.fence.or(fence) } else { fence };
        let fence = if self.planted.has(Fault::NoFenceWait) { Some(Duration::ZERO) } else { fence };
        if self.planted.has(Fault::DriftOnLeaseOnly) {
            return timing::claim_wait(lease, Some(Duration::ZERO), self.drift_ppm, self.margin)?.checked_add(fence?);
        }
        timing::claim_wait(lease, fence, self.drift_ppm, self.margin)
    }

    /// Bits of the configured witnesses.
    #[must_use]
    pub fn witness_mask(&self) -> u8 {
        assert!(self.witnesses as usize <= WITNESSES);
        if self.witnesses >= 8 { 0xff } else { (1u8 << self.witnesses) - 1 }
    }
}
