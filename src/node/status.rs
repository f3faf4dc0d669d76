//! What a node says of itself: read by the loop for status, alarms and history.

use crate::time::{Duration, Instant};
use crate::wire::pair::{BootId, Data, Role, Score, Term};

/// What permits an Active node to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RightKind {
    /// The peer's heartbeats grant it.
    Lease,
    /// The witnesses show that the peer could not claim unheard.
    Quorum,
    /// The peer left in order and will not serve until it is in touch again.
    Farewell,
    /// The operator's word.
    Forced,
}

/// A right with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RightNow {
    /// Its kind.
    pub kind: RightKind,
    /// Its end; [`Instant::NEVER`] for farewell and forced.
    pub until: Instant,
}

macro_rules! set_of {
    ($(#[$meta:meta])* $name:ident, $(#[$setmeta:meta])* $set:ident { $($(#[$vmeta:meta])* $variant:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant),* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
        }

        $(#[$setmeta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $set(u32);

        impl $set {
            /// The empty set.
            pub const NONE: $set = $set(0);
            /// Adds or removes one.
            pub fn set(&mut self, one: $name, on: bool) {
                if on { self.0 |= 1 << one as u8 } else { self.0 &= !(1 << one as u8) }
            }
            /// Whether `one` is in it.
            #[must_use]
            pub const fn has(self, one: $name) -> bool { self.0 & (1 << one as u8) != 0 }
            /// Whether nothing is in it.
            #[must_use]
            pub const fn is_empty(self) -> bool { self.0 == 0 }
            /// Those in it, in order.
            pub fn iter(self) -> impl Iterator<Item = $name> {
                $name::ALL.iter().copied().filter(move |&one| self.has(one))
            }
        }
    };
}

set_of!(
    /// Why a node is held.
    Hold,
    /// A set of [`Hold`].
    Holds {
        /// The operator's order.
        Operator,
        /// A local service fails, or did within the hold-down.
        Service,
        /// The LAN interface has no carrier, or lost it within the hold-down.
        Carrier,
        /// The data are not current, and the policy is to hold.
        StaleData,
        /// The node left in order and has not been in touch since.
        Farewell,
        /// Three self-fences or failed starts in ten minutes.
        Strikes,
        /// The record cannot be written.
        Disk,
        /// The record was damaged.
        Memory,
        /// The node is leaving.
        Leaving,
    }
);

set_of!(
    /// What would stop a takeover in silence now.
    Blocker,
    /// A set of [`Blocker`].
    Blockers {
        /// A lease of ours or a rival's frames: the peer is there and serves.
        PeerServes,
        /// The witnesses make no quorum.
        NoQuorum,
        /// Too few witnesses are proven to reflect.
        Unproven,
        /// No witness is configured.
        NoWitness,
        /// The peer has no fence bound: only a vote or force helps.
        PeerUnfenced,
        /// Timings of the two boxes break an inequality.
        Timings,
        /// Held, see the reasons.
        Held,
        /// A conflict probe was answered by the peer.
        Conflict,
        /// Just booted: the boot wait is not over.
        BootWait,
        /// A claim was given up a moment ago.
        Burnt,
        /// There is no record, and which terms are used is not known before the copies have been read.
        CopiesUnread,
    }
);

set_of!(
    /// Something that the operator should know.
    Alarm,
    /// A set of [`Alarm`].
    Alarms {
        /// The peer is not heard.
        PeerSilent,
        /// The configurations differ.
        ConfigDiffers,
        /// The configurations differ so that no automatic takeover is safe.
        TimingsBreak,
        /// This node has no fence bound.
        Unfenced,
        /// The peer has no fence bound.
        PeerUnfenced,
        /// Not enough witnesses are proven: no takeover in silence.
        Unproven,
        /// The witnesses make no quorum.
        NoQuorum,
        /// A conflict probe was answered by the peer's hardware: fencing failed.
        FencingFailed,
        /// Serving data that are perhaps not the newest.
        ServesStale,
        /// Serving by the operator's force.
        Forced,
        /// Both nodes were Active: this one fenced itself.
        TwoActive,
        /// Addresses cannot be confirmed down.
        NotDown,
        /// The record cannot be written.
        Disk,
        /// The record was damaged.
        Memory,
        /// Three self-fences or failed starts in ten minutes.
        Strikes,
        /// A local service fails.
        Service,
        /// The LAN interface has no carrier.
        Carrier,
        /// The null modem brought the kernel's panic text of the peer.
        PeerPanicked,
    }
);

/// Why the peer could not take over by our vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerBlocked {
    /// No frame of it came since we started.
    NeverHeard,
    /// Its last frame is older than half a lease.
    NotHeard,
    /// It serves, or is about to give that up.
    Serves,
    /// It is held, or says itself that it cannot.
    NotReady,
    /// It gave the service up a few leases ago.
    JustSurrendered,
}

impl PeerBlocked {
    /// All of them.
    pub const ALL: [PeerBlocked; 5] =
        [Self::NeverHeard, Self::NotHeard, Self::Serves, Self::NotReady, Self::JustSurrendered];

    /// As an operator is told it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverHeard => "the peer was never heard",
            Self::NotHeard => "the peer is not heard",
            Self::Serves => "the peer serves",
            Self::NotReady => "the peer is held or not ready",
            Self::JustSurrendered => "the peer has just surrendered",
        }
    }
}

/// The last hand-over as this node saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// When this node became Active.
    pub at: Instant,
    /// By the vote of a peer that surrendered in order: a switchover. Anything else is a failover.
    pub planned: bool,
    /// Label of why the claim began.
    pub why: &'static str,
    /// A planned one: from the peer's first word that it gives the service up to the beginning of the claim.
    pub surrender: Duration,
    /// An unplanned one: from the last sign of the peer as the one who serves to the beginning of the claim.
    pub detect: Duration,
    /// From the beginning of the claim to the order to write its term.
    pub wait: Duration,
    /// From that order to the order to serve.
    pub persist: Duration,
}

/// The state of a node, copied out.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// Since when.
    pub since: Instant,
    /// Why it became that.
    pub why: &'static str,
    /// Term served now or last.
    pub served: Term,
    /// Highest known term.
    pub top: Term,
    /// What permits it to serve, also while it does not.
    pub right: Option<RightNow>,
    /// Own fence bound.
    pub fence: Option<Duration>,
    /// Reasons to be held.
    pub holds: Holds,
    /// The operator's hold, or its end, is on disk.
    pub hold_is_durable: bool,
    /// What would stop a takeover in silence.
    pub blockers: Blockers,
    /// What the operator should know.
    pub alarms: Alarms,
    /// Present life of the peer.
    pub peer_boot: Option<BootId>,
    /// Role in its newest frame.
    pub peer_role: Option<Role>,
    /// By its newest frame it sees a quorum of witnesses.
    pub peer_quorum: Option<bool>,
    /// When that came.
    pub peer_heard_at: Option<Instant>,
    /// Both ways, lately.
    pub in_touch: bool,
    /// The peer could take over by a vote now.
    pub peer_eligible: bool,
    /// If not, why.
    pub peer_blocked: Option<PeerBlocked>,
    /// Its configuration is ours.
    pub config_matches: bool,
    /// Its fence bound; outer `None`: never heard.
    pub peer_fence: Option<Option<Duration>>,
    /// How long a claim in silence waits after the last word of a rival; `None`: for ever.
    pub claim_wait: Option<Duration>,
    /// Own score.
    pub score: Score,
    /// Own data.
    pub data: Data,
    /// Own data are current.
    pub data_current: bool,
    /// Witnesses that answer.
    pub reached: u8,
    /// Witnesses through which the peer is heard.
    pub heard: u8,
    /// Witnesses whose reflection is proven.
    pub proven: u8,
    /// The witnesses make a quorum.
    pub quorum: bool,
    /// How the service came from the peer to this node, last; `None` if it did not, as at the first start.
    pub handover: Option<Handover>,
}
