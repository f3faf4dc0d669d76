//! What the threads of the daemon tell each other.

use std::net::IpAddr;

use crate::node;
use crate::service;
use crate::takeover::ADDRESSES;
use crate::wire::pair::{Data, Term};
use crate::wire::side::Kind;

/// What the loop hears from the other threads.
#[derive(Clone, Copy, Debug)]
pub(super) enum ToLoop {
    /// An operator's order.
    Order(Order),
    /// Health of all services together.
    Services {
        /// None fails.
        healthy: bool,
    },
    /// Nothing of the services that run on the Active node only is left, since the order with this number.
    ServicesStopped {
        /// Number of the surrender.
        surrender: u32,
    },
    /// State of the mirrored data, once every copy has been read.
    Data {
        /// As it is told to the peer.
        data: Data,
        /// Term of the newest lineage that any copy is of.
        newest: Term,
    },
    /// The egress gate was verified.
    Gate {
        /// It is in order.
        holds: bool,
    },
    /// An own address is on its interface.
    OwnAddress(IpAddr),
    /// Another interface has come in the place of one that service addresses leave by.
    Moved {
        /// The indexes of all of them by now, and zeros: the gate is on these, or counts no more.
        gated: [u32; ADDRESSES],
    },
    /// Somebody wants to know how things stand.
    Snapshot,
}

/// An order without the term, which the loop adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Hand over to the peer.
    Switchover,
    /// Stay up, never take over.
    Hold,
    /// End of a hold.
    Release,
    /// Serve although the peer is silent.
    Force,
    /// Leave in order.
    Leave,
}

/// What the helper hears from the loop.
#[derive(Clone, Copy, Debug)]
pub(super) enum ToHelper {
    /// Tell all services; a surrender's number comes back with [`ToLoop::ServicesStopped`].
    Services {
        /// What to tell them.
        order: service::Order,
        /// Number of the surrender, if it is one.
        surrender: u32,
    },
    /// The node's answer to an order.
    Answer(node::Order, node::Answer),
    /// Something happened that belongs into the history.
    Note(node::Note),
    /// What is served is of another lineage: the mirror is to be told.
    Lineage,
    /// The peer has a message of the side channel whole.
    Told(Kind),
    /// The first turn is over, the addresses are confirmed down.
    Ready,
    /// The loop has ended.
    End,
}
