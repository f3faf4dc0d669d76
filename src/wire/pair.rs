//! The words that both boxes use about each other: node, boot, role, term, generation.

/// One of the two boxes. `A` serves odd terms, `B` even ones, so that no term is ever served by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The box called `a`.
    A,
    /// The box called `b`.
    B,
}

impl Side {
    /// The other box.
    #[must_use]
    pub const fn peer(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    /// The name used in files, commands and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Side::A => "a",
            Side::B => "b",
        }
    }
}

/// A random number drawn at every start of the program: names one life of a node. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(core::num::NonZeroU64);

impl BootId {
    /// `None` for zero, which on the wire means "no boot".
    #[must_use]
    pub const fn new(id: u64) -> Option<BootId> {
        match core::num::NonZeroU64::new(id) {
            Some(id) => Some(BootId(id)),
            None => None,
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// Number of a period of service. Grows with every takeover and is on disk before anything is served. Zero: never served.
pub type Term = u64;

/// Names a lineage of the data: the term in which it was written and the life of the node that wrote it.
///
/// The order is by term; terms are unique by parity, the boot id only tells a re-used disk apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// Term of the writer; zero for data that no pair has written yet.
    pub term: Term,
    /// Boot id of the writer; zero with term zero.
    pub boot: u64,
}

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Just booted and not yet in touch.
    Joining = 0,
    /// Healthy spare.
    Standby = 1,
    /// Takes part, grants and votes, but never takes over: by the operator or by a fault of its own.
    Held = 2,
    /// Has stopped granting; waits until the peer is surely fenced, or for its term to be on disk.
    Claiming = 3,
    /// Serves.
    Active = 4,
    /// Is giving up service; addresses perhaps still up.
    Yielding = 5,
}

impl Role {
    /// All roles, for tables and tests.
    pub const ALL: [Role; 6] = [Role::Joining, Role::Standby, Role::Held, Role::Claiming, Role::Active, Role::Yielding];

    /// Joining, Standby and Held grant and vote; the others do neither.
    #[must_use]
    pub const fn is_passive(self) -> bool {
        matches!(self, Role::Joining | Role::Standby | Role::Held)
    }

    /// The word used in status and on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Joining => "joining",
            Role::Standby => "standby",
            Role::Held => "held",
            Role::Claiming => "claiming",
            Role::Active => "active",
            Role::Yielding => "yielding",
        }
    }

    /// The role with this number on the wire.
    #[must_use]
    pub const fn from_number(n: u8) -> Option<Role> {
        if (n as usize) < Role::ALL.len() { Some(Role::ALL[n as usize]) } else { None }
    }
}

/// How fit a node is to serve. Compared from the first field to the last: more is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score {
    /// 1 if every local service that should be healthy is, 0 if not.
    pub services: u8,
    /// Number of witnesses that answer.
    pub witnesses: u8,
    /// Number of links with carrier.
    pub carriers: u8,
}

/// State of the mirrored data on one box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Data {
    /// Lineage of what is on this box.
    pub generation: Generation,
    /// Age of the oldest last cut of any tree, in seconds.
    pub lag_s: u32,
    /// Number of trees whose last cut is too old or of an older lineage; zero means current.
    pub stale_trees: u8,
}
