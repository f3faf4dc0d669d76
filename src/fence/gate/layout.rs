//! What gate and daemon share: the words of the map's one value. Pure.
//!
//! The expiry has a cache line of its own, so that counting does not slow down the comparing.

/// Most service addresses of one gate.
pub const ADDRESSES: usize = 16;
/// Most virtual MACs of one gate.
pub const VIRTUAL_MACS: usize = 16;
/// Drop counter of frames that carry a virtual MAC.
pub const SLOT_VIRTUAL_MAC: usize = ADDRESSES;
/// Drop counter of frames whose headers cannot be read to the end (cut short, too many tags or extension headers).
pub const SLOT_UNREADABLE: usize = ADDRESSES + 1;
/// Drop counter of the gate's own probe.
pub const SLOT_PROBE: usize = ADDRESSES + 2;
/// Drop counters in one direction.
pub const SLOTS: usize = ADDRESSES + 3;

/// Word of the expiry: boot clock, nanoseconds; 0 is closed.
pub const EXPIRY: usize = 0;
/// Words in the value.
pub const WORDS: usize = 64;

/// Which way frames go through a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Frames that leave.
    Egress,
    /// Frames that come in.
    Ingress,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Egress, Direction::Ingress];

    /// Name of the program in the kernel (at most 15 bytes); by it a later instance knows its predecessor's.
    #[must_use]
    pub const fn program_name(self) -> &'static str {
        match self {
            Direction::Egress => "twobox_egress",
            Direction::Ingress => "twobox_ingress",
        }
    }

    /// Word of the time of the last guarded frame that passed.
    #[must_use]
    pub const fn last_pass(self) -> usize {
        match self {
            Direction::Egress => 8,
            Direction::Ingress => 36,
        }
    }

    /// Word of the number of guarded frames that passed.
    #[must_use]
    pub const fn passes(self) -> usize {
        self.last_pass() + 1
    }

    /// First word of the drop counters, one for each slot.
    #[must_use]
    pub const fn drops(self) -> usize {
        self.last_pass() + 2
    }
}

const _: () = assert!(Direction::Egress.drops() + SLOTS <= Direction::Ingress.last_pass());
const _: () = assert!(Direction::Ingress.drops() + SLOTS <= WORDS);
