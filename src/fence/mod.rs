//! The belts: hardware watchdog, address lease, egress gate, reset. They do what they are told and report.
//!
//! Each is independent of the others, all are on at once, and [`bound`] says what they promise together: how long after
//! the end of its right a box may still send as holder of the service addresses.

pub mod address_lease;
pub mod beneath;
pub mod bound;
pub mod gate;
pub mod queue;
pub mod reset;
pub mod speed;
pub mod watchdog;
