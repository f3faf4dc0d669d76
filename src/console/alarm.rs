//! Every alarm, reason and blocker in words, with what to do about it.
//!
//! The node knows them as sets of small numbers; the operator reads these. docs/manual.md shows the same rows (a test
//! compares them).

use crate::node::status::{Alarm, Blocker, Hold};

/// An alarm as the operator meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the status, for programs.
    pub name: &'static str,
    /// What is wrong.
    pub text: &'static str,
    /// What to do next.
    pub remedy: &'static str,
}

const fn entry(name: &'static str, text: &'static str, remedy: &'static str) -> Entry {
    Entry { name, text, remedy }
}

/// Every alarm, in the order of the manual.
pub const CATALOGUE: &[Entry] = &[
    entry(
        "peer-silent",
        "the peer is not heard on any link",
        "look at its power and its cables; `status` shows each link",
    ),
    entry(
        "config-differs",
        "the site files of the two boxes differ",
        "compare them with `check` on both boxes, copy the right one over, restart that box while it stands by",
    ),
    entry(
        "timings-break",
        "the timings of the two boxes do not fit together: no automatic takeover",
        "give both boxes the same [timing] section",
    ),
    entry(
        "unfenced",
        "UNFENCED: no watchdog and no gate stops this box if it hangs",
        "name the hardware watchdog in the board file, or run a kernel with BPF; until then switch a hung box off by hand",
    ),
    entry(
        "peer-unfenced",
        "the peer has no belt at all: it is never taken over in silence",
        "look at the peer's `status`; `activate --force` when it is surely off",
    ),
    entry(
        "unproven",
        "too few witnesses are proven to reflect: no takeover in silence",
        "start the other box too: it takes both, with their LAN, to prove a witness; if `status` then still says DOES NOT REFLECT, choose another witness",
    ),
    entry(
        "no-quorum",
        "the witnesses make no quorum",
        "look at this box's LAN cable and at the witnesses; a ping from here must be answered",
    ),
    entry(
        "fencing-failed",
        "the peer answers for a service address although it must be fenced",
        "switch the peer off by hand, then `activate --force`; look for the reason in its log",
    ),
    entry(
        "serves-stale",
        "this box serves data that are perhaps not the newest",
        "bring the peer up: what it has and this box lacks is set aside there, see `mirror diverged` on it",
    ),
    entry(
        "forced",
        "this box serves by an operator's force, without lease or quorum",
        "bring the peer up; the force ends with its first heartbeat",
    ),
    entry(
        "two-active",
        "both boxes were active and heard each other: this one has fenced itself",
        "keep the logs of both boxes; check clocks, watchdog and gate before `release`",
    ),
    entry(
        "not-down",
        "the service addresses cannot be confirmed down",
        "the box resets itself; if it comes again, look for another program that sets addresses",
    ),
    entry(
        "disk",
        "term and generation cannot be written, or the disk does not answer",
        "look at the disk of the state directory: full, read-only, broken? `log` has the error, and none while the disk hangs",
    ),
    entry(
        "memory",
        "the record of term and generation was damaged",
        "make sure that the peer serves, then `release` this box",
    ),
    entry(
        "strikes",
        "three self-fences or failed starts within ten minutes",
        "look at `history` and `log` for the reason, repair it, then `release`",
    ),
    entry(
        "service",
        "a local service fails",
        "`status` names it and `log` has its output; it is started again by itself, and the peer takes over if it is fit",
    ),
    entry(
        "carrier",
        "the LAN interface has no carrier, or had none a moment ago",
        "plug the cable in; look at the switch",
    ),
    entry(
        "peer-panicked",
        "the peer's kernel panicked",
        "nothing now; its panic text is in `log`, and in its own `status` after the reboot",
    ),
    entry(
        "address-conflict",
        "another device claims a service address",
        "find it by the hardware address that `status` shows and take the address from it",
    ),
    entry(
        "own-address-conflict",
        "another device has an own address of this box",
        "find it by the hardware address that is shown; is another box set up as this node?",
    ),
    entry(
        "gate-lost",
        "the egress gate could not be verified, or the speed of its interface is not known: the fence bound falls back to the next belt",
        "plug the LAN's cable in if it was out since the start; else look in `log` for what was found and find the program that changes this interface's filters; the gate is put back at every look, and counts when it was left alone for 10 s",
    ),
    entry(
        "gate-touched",
        "somebody changed the egress gate; it was put back at once",
        "look in `log` for what was found in its place, and keep that program off the interface's filters",
    ),
    entry(
        "watchdog-late",
        "the watchdog was fed later than three fifths of its time-out",
        "find what keeps the machine busy; raise [watchdog] timeout if the machine is that slow",
    ),
    entry(
        "watchdog-missing",
        "the watchdog that the board file names is not armed: a hung kernel is not ended by hardware",
        "look in `log` for why it cannot be opened: its module, its name in the board file, another program that holds it; then restart the daemon",
    ),
    entry(
        "not-realtime",
        "the loop runs without real-time priority: heartbeats may be late under load",
        "start the daemon with CAP_SYS_NICE and CAP_IPC_LOCK, or use longer leases",
    ),
    entry(
        "clock-slewed",
        "a time daemon turns the kernel's clock faster than it should: waits are reckoned with 10 %",
        "let the time daemon step at boot and slew gently; if this began after the start, restart this daemon while the peer serves",
    ),
    entry(
        "witness-limits",
        "a witness answers only some of our pings",
        "lift its limit for pings from these boxes, raise [timing] witness, or choose another witness",
    ),
    entry(
        "mirror-blocked",
        "the mirror stopped a cycle that would do harm",
        "`mirror status` says why: look at the tree, then repair it or `mirror sync --confirm-delete`",
    ),
    entry(
        "mirror-missing",
        "a mirrored tree is not there",
        "mount its file system or make the directory; the copy on the standby stays as it is",
    ),
    entry(
        "mirror-failed",
        "a cycle of the mirror failed; it is tried again by itself",
        "`mirror status` says why: room, rights or the disk of the box that it names",
    ),
    entry(
        "mirror-late",
        "the standby's copy is older than its schedule allows",
        "`mirror status` shows the tree; look at the crossover and at the standby's disk",
    ),
    entry(
        "mirror-diverged",
        "changes that the peer never received were set aside on this box",
        "`mirror diverged list` and `show`; wanted: `switchover` to this box, then `mirror diverged restore`; else `drop`",
    ),
    entry(
        "mirror-down",
        "the mirror's process has ended and is started again",
        "look in `log` for its last words; the pair serves on, but the copy grows old",
    ),
    entry(
        "same-node",
        "the other box has the same name as this one",
        "give the other box the other node: `twobox.node=` on its kernel command line, or `run --node`",
    ),
    entry(
        "wrong-key",
        "frames of this pair's name come with another key",
        "copy the key file from one box to the other, or give the other pair another name",
    ),
    entry(
        "newer-version",
        "the peer's heartbeats are of a newer version than this program knows",
        "update this box to the peer's version, or take the peer's image back",
    ),
    entry(
        "loop-plug",
        "our own heartbeats come back on a link",
        "take the loop plug off, or look for a switch port that mirrors",
    ),
    entry(
        "update-failed",
        "the last update did not come up and was rolled back",
        "the former version runs; look at the console of the failed boot, then update again",
    ),
    entry(
        "image-damaged",
        "an image on this box's disk is damaged",
        "another one that is whole boots next, if there is any; install the image anew with `update`, and look at the disk",
    ),
    entry(
        "log-lost",
        "the log dropped lines because nobody took them",
        "look at the console port or at the disk that takes them",
    ),
];

/// The entry with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

/// The entry's name for an alarm of the node.
#[must_use]
pub fn name_of(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::PeerSilent => "peer-silent",
        Alarm::ConfigDiffers => "config-differs",
        Alarm::TimingsBreak => "timings-break",
        Alarm::Unfenced => "unfenced",
        Alarm::PeerUnfenced => "peer-unfenced",
        Alarm::Unproven => "unproven",
        Alarm::NoQuorum => "no-quorum",
        Alarm::FencingFailed => "fencing-failed",
        Alarm::ServesStale => "serves-stale",
        Alarm::Forced => "forced",
        Alarm::TwoActive => "two-active",
        Alarm::NotDown => "not-down",
        Alarm::Disk => "disk",
        Alarm::Memory => "memory",
        Alarm::Strikes => "strikes",
        Alarm::Service => "service",
        Alarm::Carrier => "carrier",
        Alarm::PeerPanicked => "peer-panicked",
    }
}

/// An alarm of the node, in words.
#[must_use]
pub fn in_words(alarm: Alarm) -> &'static str {
    let name = name_of(alarm);
    find(name).map_or(name, |entry| entry.text)
}

/// Why a box is held, in words.
#[must_use]
pub fn hold_in_words(hold: Hold) -> &'static str {
    match hold {
        Hold::Operator => "held by the operator (`release` ends it)",
        Hold::Service => "a local service fails, or did a moment ago",
        Hold::Carrier => "its LAN interface has no carrier, or had none a moment ago",
        Hold::StaleData => "its data are not current, and stale-data = \"hold\"",
        Hold::Farewell => "it left in order and has not met its peer since",
        Hold::Strikes => "three self-fences or failed starts in ten minutes (`release` ends it)",
        Hold::Disk => "its record cannot be written, or its disk does not answer",
        Hold::Memory => "its record was damaged (`release` ends it)",
        Hold::Leaving => "it is shutting down",
    }
}

/// What stops a takeover, in words.
#[must_use]
pub fn blocker_in_words(blocker: Blocker) -> &'static str {
    match blocker {
        Blocker::PeerServes => "the peer is there and serves",
        Blocker::NoQuorum => "the witnesses make no quorum",
        Blocker::Unproven => "too few witnesses are proven to reflect (it takes both boxes to prove one)",
        Blocker::NoWitness => "no witness is configured: only a planned hand-over or force",
        Blocker::PeerUnfenced => "the peer has no belt that would stop it",
        Blocker::Timings => "the timings of the two boxes do not fit together",
        Blocker::Held => "this box is held",
        Blocker::Conflict => "the peer still answers for a service address",
        Blocker::BootWait => "this box has just booted",
        Blocker::Burnt => "a claim was given up a moment ago",
        Blocker::CopiesUnread => "there is no record of the terms served, and the mirror has not read its copies yet",
    }
}

/// Told by the box that serves: its peer has said so.
pub const PEER_NO_QUORUM: &str = "the peer sees no quorum of witnesses: only a planned hand-over or force";

/// Told by the box that serves: its peer could not know when it has stopped.
pub const NO_BELT: &str = "this box has no belt that would stop it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alarm_of_the_node_has_its_remedy() {
        for alarm in Alarm::ALL {
            assert!(find(name_of(*alarm)).is_some_and(|entry| !entry.remedy.is_empty()), "{alarm:?}");
        }
    }

    #[test]
    fn names_are_unique() {
        for (index, entry) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE[..index].iter().all(|other| other.name != entry.name), "{}", entry.name);
        }
    }
}
