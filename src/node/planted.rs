//! Safety rules that a test can undo one at a time, to see that the simulator or the model notices.
//!
//! The shipped binary is built without the feature `planted-faults`: there [`Planted`] has no size and [`Planted::has`]
//! is the constant `false`, so no rule can be undone in it.

/// One rule, undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// A voter forgets that it must never serve a term it voted for or below.
    NoVoteFloor,
    /// A node that is yielding grants and votes as if it were passive.
    GrantsInYielding,
    /// A node that is claiming goes on granting.
    GrantsInClaiming,
    /// A frame of any boot is taken for the peer's present one.
    AcceptsAnyBoot,
    /// Every heartbeat echoes the hello as long as there is one, so that the path starves.
    HelloStarves,
    /// Quorum by the share of answered pings in the mean, not by whole rounds.
    QuorumByMean,
    /// A round that is forgotten before it could be judged is no break of the quorum.
    UnjudgedIsGood,
    /// The claim wait is taken with the claimer's own fence bound.
    OwnFenceBound,
    /// Drift is reckoned for the lease only.
    DriftOnLeaseOnly,
    /// The watchdog is fed while yielding, whether there is a right or not.
    FeedsInYielding,
    /// Any frame without a fresh echo blocks the quorum right, whether its sender could claim or not.
    UnheardBlocks,
    /// Both nodes draw terms from one sequence.
    NoParity,
    /// After a late wake-up the node acts before it looks at its right.
    SpeaksBeforeLooking,
    /// After a late wake-up the clocks of silence and quorum go on, and the first word is said at once.
    LateKeepsClocks,
    /// A vote counts although its lease has expired.
    StaleVote,
    /// Operator's orders are carried out whatever term they were given in.
    OrderWithoutTerm,
    /// A claim in silence does not wait for the peer's fence.
    NoFenceWait,
    /// A claim in silence does not wait out its own last promise.
    NoPromise,
    /// A claim in silence does not need unbroken quorum.
    NoQuorumWait,
    /// Frames that came before are applied again.
    AcceptsReplay,
    /// Serves before its term is on disk.
    NotPersisted,
    /// After persisting, the conditions are not looked at again.
    NoRecheck,
    /// A term counts as durable as soon as its write has been ordered.
    OrderedIsDurable,
    /// After a reboot the terms count as used that were served, not all that were reserved.
    ForgetsReserved,
    /// A reserved term of an aborted claim may be used again.
    NotBurnt,
    /// Votes for a peer whose data are older, and claims with stale data where the policy says hold.
    StaleSource,
    /// The kernel's panic text counts however old the last heartbeat on that line is.
    PanicWithoutAge,
    /// A rival's claim wait is not restarted by its frames.
    RivalIgnored,
    /// A lease is granted from the moment of receipt of the grant, not of what it echoes.
    LeaseFromReceipt,
    /// A fence bound that grows keeps the leases granted under the smaller one.
    FenceGrowthKeepsLease,
    /// A Claiming or Active node votes, and is believed.
    VotesInAnyRole,
    /// Votes while its addresses may still be up.
    VotesBeforeDown,
    /// Speaks with a new boot id before its addresses are confirmed down.
    SpeaksBeforeDown,
    /// A witness that never reflected counts for the quorum.
    UnprovenCounts,
    /// The forced right outlives a frame of the peer.
    ForcedForEver,
    /// The farewell right outlives a frame of the peer, and the farewell mark is not looked at.
    FarewellForgotten,
    /// A rival frame without a fresh echo does not end the quorum right.
    NeverBlocked,
    /// Boot alone does not wait for the peer to appear.
    NoBootWait,
    /// The bounds that the peer told last hold however long it has not been heard, and ours stand in where it never was.
    ToldBoundForEver,
    /// All paths share one sequence: what another path brought faster counts as not come at all.
    OneSequence,
    /// Only a peer that serves is a rival, not one that claims or could.
    ClaimantIsNoRival,
    /// The top that is told to the peer is the highest term served, whatever was reserved or voted.
    TopIsServed,
    /// A node without a quorum is held.
    HeldWithoutQuorum,
    /// Terms count as used that are on record, whatever term the copies on the box are of.
    IgnoresCopies,
    /// A write that has not come back is waited for, however long that takes.
    WaitsForTheDisk,
    /// A frame is as new as the moment in which it was read.
    HeardWhenRead,
    /// Witnesses that the operator vouches for count also while the configurations differ.
    VouchesAlone,
    /// While the configurations differ, a witness that one box does not ask stays proven.
    ProvenForOne,
}

#[cfg(feature = "planted-faults")]
impl Fault {
    /// All of them.
    pub const ALL: [Fault; 48] = [
        Fault::NoVoteFloor,
        Fault::GrantsInYielding,
        Fault::GrantsInClaiming,
        Fault::AcceptsAnyBoot,
        Fault::HelloStarves,
        Fault::QuorumByMean,
        Fault::UnjudgedIsGood,
        Fault::OwnFenceBound,
        Fault::DriftOnLeaseOnly,
        Fault::FeedsInYielding,
        Fault::UnheardBlocks,
        Fault::NoParity,
        Fault::SpeaksBeforeLooking,
        Fault::LateKeepsClocks,
        Fault::StaleVote,
        Fault::OrderWithoutTerm,
        Fault::NoFenceWait,
        Fault::NoPromise,
        Fault::NoQuorumWait,
        Fault::AcceptsReplay,
        Fault::NotPersisted,
        Fault::NoRecheck,
        Fault::OrderedIsDurable,
        Fault::ForgetsReserved,
        Fault::NotBurnt,
        Fault::StaleSource,
        Fault::PanicWithoutAge,
        Fault::RivalIgnored,
        Fault::LeaseFromReceipt,
        Fault::FenceGrowthKeepsLease,
        Fault::VotesInAnyRole,
        Fault::VotesBeforeDown,
        Fault::SpeaksBeforeDown,
        Fault::UnprovenCounts,
        Fault::ForcedForEver,
        Fault::FarewellForgotten,
        Fault::NeverBlocked,
        Fault::NoBootWait,
        Fault::ToldBoundForEver,
        Fault::OneSequence,
        Fault::ClaimantIsNoRival,
        Fault::TopIsServed,
        Fault::HeldWithoutQuorum,
        Fault::IgnoresCopies,
        Fault::WaitsForTheDisk,
        Fault::HeardWhenRead,
        Fault::VouchesAlone,
        Fault::ProvenForOne,
    ];
}

/// The set of rules that are undone: empty, unless a test fills it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Planted {
    #[cfg(feature = "planted-faults")]
    bits: u64,
}

impl Planted {
    /// Nothing is undone.
    pub const NONE: Planted = Planted {
        #[cfg(feature = "planted-faults")]
        bits: 0,
    };

    /// The set with `fault` undone as well.
    #[cfg(feature = "planted-faults")]
    #[must_use]
    pub const fn with(self, fault: Fault) -> Planted {
        Planted { bits: self.bits | 1 << fault as u8 }
    }

    /// Whether `fault` is undone.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, fault: Fault) -> bool {
        #[cfg(feature = "planted-faults")]
        {
            self.bits & (1 << fault as u8) != 0
        }
        #[cfg(not(feature = "planted-faults"))]
        {
            let _ = fault;
            false
        }
    }
}
