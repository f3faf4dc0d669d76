//! Watching from outside: metrics and status by HTTP, events by syslog. A process of its own, read-only.
//!
//! ```text
//! daemon (helper's thread) == a private socket ==> child: last Status, events
//!                                                    |-- exposition <- metrics(Status)   GET /metrics
//!                                                    |-- JSON of the Status              GET /status
//!                                                    `-- datagram(event)                 syslog, RFC 5424
//! ```
//!
//! What parses bytes from the network must not be able to command the pair: the child gets no control socket, only a
//! line of its own by which it can ask for nothing but the status. It gives up root as soon as its sockets are open.
//! Everything about it is bounded: connections, the size of a request, the time of one.

pub mod child;
pub mod control;
pub mod exposition;
pub mod http;
pub mod metrics;
mod syslog;
