//! Bytes to values and back, pure: no socket, no clock, no allocation.

pub mod heartbeat;
pub mod pair;
