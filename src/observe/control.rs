//! What daemon and child say to each other: one JSON value a line, over the socket that is the child's standard input.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::console::status::{Handover, Status};

/// Longest line either way, newline included: as long as the longest status.
pub const LINE: usize = crate::console::control::REPLY_LIMIT;

/// What the child is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where `/metrics` and `/status` are answered.
    pub listen: Vec<SocketAddr>,
    /// Where events go, and the own address that they come from.
    pub syslog: Option<(SocketAddr, SocketAddr)>,
    /// The pair's name.
    pub pair: String,
    /// This box: `a` or `b`.
    pub node: String,
}

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// The first line.
    Start {
        /// What to do.
        settings: Settings,
    },
    /// The answer to [`Said::Ask`]; `null`: the loop does not answer.
    Status {
        /// How things stand.
        status: Option<Box<Status>>,
    },
    /// Something happened.
    Event {
        /// What.
        event: Event,
        /// Wall time in microseconds since 1970, if it is known.
        unix_us: Option<u64>,
        /// Time since boot in milliseconds.
        boot_ms: u64,
    },
}

/// What is told to a syslog server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The daemon has started.
    Started {
        /// Its version.
        version: String,
    },
    /// The role changed.
    Role {
        /// Before.
        from: String,
        /// Now.
        to: String,
        /// Why.
        why: String,
        /// The highest known term.
        term: u64,
    },
    /// The service moved.
    Handover {
        /// How, and what it cost.
        handover: Handover,
    },
    /// An alarm began.
    Raised {
        /// Its name in the catalogue.
        name: String,
        /// What is wrong.
        text: String,
    },
    /// An alarm ended.
    Cleared {
        /// Its name in the catalogue.
        name: String,
        /// What was wrong.
        text: String,
    },
}

/// From the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// How this process is confined, in words; said once, before it answers anybody.
    Confined {
        /// See [`crate::confine::Confinement`].
        by: String,
    },
    /// How do things stand?
    Ask,
    /// A line for the daemon's log.
    Log {
        /// The line.
        text: String,
    },
}
