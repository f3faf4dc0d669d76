//! Everything that can go wrong, as values: a schedule of them is a run, and dropping one is a smaller run.

use super::clock::Time;

/// Which directions of a path: bit 0 from A to B, bit 1 from B to A.
pub type Ways = u8;

/// What the operator says, without the term: that is read when the fault begins and may be old when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Switchover,
    Hold,
    Release,
    Force,
}

/// How a disk misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Every write takes up to this long.
    Slow(Time),
    /// Writes fail; what stands on the disk afterwards is the old record or the new one.
    Fails,
    /// Writes do not come back while it lasts.
    Hangs,
}

/// One fault. Those with a length end by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A direct path passes nothing.
    Cut { path: u8, ways: Ways, length: Time },
    /// A direct path loses so many of a thousand frames, each by itself.
    Loss { path: u8, ways: Ways, permille: u16, length: Time },
    /// Frames of a direct path take up to this long, each by itself: reordering too.
    Delay { path: u8, ways: Ways, up_to: Time, length: Time },
    /// Frames of a direct path come twice or with a flipped bit.
    Noise { path: u8, ways: Ways, length: Time },
    /// A leg to a witness passes nothing: bit 0 towards it, bit 1 from it.
    LegCut { side: usize, witness: u8, ways: Ways, length: Time },
    /// A leg to a witness fails and recovers, never for less than a round: what crosses it meanwhile shares its fate.
    LegLoss { side: usize, witness: u8, ways: Ways, permille: u16, length: Time },
    /// Everything that crosses the leg is late by `by`.
    LegDelay { side: usize, witness: u8, ways: Ways, by: Time, length: Time },
    /// The LAN interface of a box is dead: LAN path, all legs, carrier.
    Nic { side: usize, length: Time },
    /// The LAN falls apart: witnesses in `with_a` stay with A, the others with B.
    Split { with_a: u8, length: Time },
    /// A witness is off.
    WitnessDown { witness: u8, length: Time },
    /// A witness answers, but relays no more. Only while all is well and stays well for some seconds.
    StopsReflecting { witness: u8, length: Time },
    /// Recorded frames of either box are sent to the other one.
    Replay { to: usize, count: u8, every: Time },
    /// What was recorded of a box's first life comes to the other one again, in order and `pace` times as fast, again and
    /// again.
    Playback { to: usize, length: Time, pace: u8 },
    /// Off, and on again after `length`.
    PowerLoss { side: usize, length: Time },
    /// Off, with another state directory when it is on again after `length`; its data are what they were. Only where they are
    /// mirrored: without copies nothing says which terms are used (A8).
    StateLoss { side: usize, length: Time },
    /// Kernel panic: dead at once, the text on the null modem, reboot after `length`.
    Panic { side: usize, length: Time },
    /// The text of a panic from a box that lives and is heard: a log printed to the wrong line.
    FalsePanicText { side: usize },
    /// The text of an earlier panic, read from a log to the null modem, more than a second after the last heartbeat there.
    OldPanicText { side: usize },
    /// The whole kernel stands still; only the watchdog runs.
    KernelHang { side: usize, length: Time },
    /// The program is stopped; the kernel goes on answering.
    Stop { side: usize, length: Time },
    /// The program is stopped in its next turn, after deciding and before all is done.
    StopInTurn { side: usize, length: Time },
    /// As above, and once more for `again` as soon as the rest of that turn is done.
    StopTwice { side: usize, length: Time, again: Time },
    /// Every wake-up of the loop is late by up to `by`.
    Late { side: usize, by: Time, length: Time },
    /// The program dies and is started again.
    Kill { side: usize, restart: Time },
    /// The disk misbehaves.
    Disk { side: usize, fault: DiskFault, length: Time },
    /// The operator says something, which arrives `delay` later.
    Order { side: usize, word: Word, delay: Time },
    /// The operator switches the box off in order; it comes back after `length`.
    Leave { side: usize, length: Time },
    /// The operator forces the box, knowing that the other one is off.
    Force { side: usize, stays_off: bool },
    /// The services of a box fail.
    Services { side: usize, length: Time },
    /// Services take so long to stop.
    StopsSlowly { side: usize, by: Time, length: Time },
    /// A direct path of a box has no carrier.
    Carrier { side: usize, path: u8, length: Time },
    /// The best belt of a box is gone.
    BeltLoss { side: usize, length: Time },
    /// Addresses cannot be taken down.
    Stuck { side: usize, length: Time },
}
