//! What a node hears and what it wants done: plain values, so that the loop, the simulator and the model drive the same code.

use super::record::Record;
use crate::time::Instant;
use crate::wire::heartbeat::{Heartbeat, Reject};
use crate::wire::pair::{Data, Generation, Role, Term};

/// Something that happened. Times are given beside it, to [`super::Node::handle`].
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A frame with a good tag came on `path`.
    Heartbeat {
        /// The way it came by; the frame says which way it was sent, and both must agree.
        path: u8,
        /// The frame.
        heartbeat: &'a Heartbeat,
    },
    /// Witness `witness` answered the ping of round `round`.
    Pong {
        /// Index of the witness.
        witness: u8,
        /// The number that [`Action::Ping`] gave.
        round: u32,
    },
    /// Carrier of the direct paths: bit = path index. The null modem counts while bytes of the peer arrive.
    Carriers(u8),
    /// Whether every local service that should be healthy is.
    Services {
        /// All of them are healthy.
        healthy: bool,
    },
    /// State of the mirrored data. Comes for the first time when every copy on this box has been read.
    Data {
        /// As it is told to the peer.
        data: Data,
        /// Term of the newest lineage that any copy on this box is of.
        newest: Term,
    },
    /// The fence bound changed: a belt was gained or lost. `None`: no belt at all.
    FenceBound(Option<crate::time::Duration>),
    /// Read back: service addresses are down, the gate is closed, transmit queues are drained, after the order with this
    /// number; 0: as found and cleaned at the start.
    Down {
        /// The number that [`Action::Yield`] or [`Action::Fence`] gave.
        order: u32,
    },
    /// Addresses cannot be confirmed down: a dump failed, or one is still there.
    NotDown,
    /// The record of ticket `ticket` is on disk, or could not be brought there.
    Persisted {
        /// The number that [`Action::Persist`] gave.
        ticket: u32,
        /// It is durable.
        durable: bool,
    },
    /// The operator wants something.
    Order(Order),
    /// On the null modem: the kernel's panic text has come to the line that is printed when the other CPUs are stopped.
    PanicText {
        /// When the first line of the text began to arrive.
        began: Instant,
    },
    /// A conflict probe was answered with the peer's hardware address. If the peer must be fenced by now, fencing failed.
    Conflict,
    /// All inputs of this turn have been handed over: decide and act.
    Turn,
}

/// An operator's order. Those that depend on who serves carry the term in which they were given and are void after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Planned hand-over to the peer. Only an Active node can; the loop hands it on to the peer otherwise.
    Switchover {
        /// Term in which it was given.
        term: Term,
    },
    /// Stay up, never take over. An Active node surrenders first.
    Hold {
        /// Term in which it was given.
        term: Term,
    },
    /// End a hold, whoever caused it, and forget the strikes.
    Release,
    /// Serve although the peer is silent; typed and confirmed.
    Force,
    /// Leave in order: surrender, farewell, and never serve again in this life.
    Leave,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or under way.
    Accepted,
    /// It was given in another term than the present one.
    OtherTerm,
    /// Only the Active node can do that.
    NotActive,
    /// The peer cannot take over; [`super::status::Status::peer_blocked`] says why.
    PeerNotEligible,
    /// The peer is not silent; a switchover is what is wanted.
    PeerNotSilent,
    /// We are serving already, or just about to.
    Serving,
    /// Addresses are not confirmed down, the disk fails, or which terms are used is not known yet.
    NotReady,
}

/// Something to do. The loop does all of them before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this heartbeat on its path. What does not fit is dropped.
    Send(Heartbeat),
    /// Ping witness `witness`; the answer comes back with `round`. The reflected heartbeat follows at once, as a `Send`.
    Ping {
        /// Index of the witness.
        witness: u8,
        /// Number of the round.
        round: u32,
    },
    /// Bring this record to disk, durably, then answer with the ticket.
    Persist {
        /// Number of the request; only one is ever under way.
        ticket: u32,
        /// The whole state to write.
        record: Record,
    },
    /// Serve: gate open until then, addresses up, announced, services started.
    Activate {
        /// The term served.
        term: Term,
        /// End of the right.
        until: Instant,
    },
    /// What is served is of this lineage from now on, on this box and where it is copied to. Comes while Active only; what
    /// [`Action::Activate`] begins is of the lineage of its term and this life.
    Lineage(Generation),
    /// The right now ends at `until` (absolute): write it to the gate, renew the addresses' lifetime. Never called without
    /// a right, and always looked at after the clock.
    Renew {
        /// End of the right.
        until: Instant,
    },
    /// Give up in order: stop services, addresses down, close the gate, drain; then [`Input::Down`].
    Yield {
        /// Number to confirm with.
        order: u32,
    },
    /// Now: close the gate, addresses down and read back, kill services; then [`Input::Down`].
    Fence {
        /// Number to confirm with.
        order: u32,
    },
    /// Feed the watchdog.
    Feed,
    /// Probe for the service addresses (we are about to claim them).
    Probe,
    /// Reset the machine: it could not be made sure that the addresses are down.
    Reset,
    /// The farewell has been said, or nobody is there to hear it: the program may end.
    Leave,
    /// For the log.
    Note(Note),
    /// Answer to an order.
    Answer(Order, Answer),
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The role changed.
    Role {
        /// Before.
        from: Role,
        /// Now.
        to: Role,
        /// Name of the row of the decision table, or of the event.
        why: &'static str,
        /// Highest known term.
        term: Term,
    },
    /// The peer's present life became known.
    PeerBoot,
    /// An authentic frame was not applied; only the first of a kind in a row is noted, all are counted.
    Rejected {
        /// Path it came by.
        path: u8,
        /// Why.
        reason: Reject,
    },
    /// An alarm began.
    Raised(super::status::Alarm),
    /// An alarm ended.
    Cleared(super::status::Alarm),
}
