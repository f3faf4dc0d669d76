//! Bytes to values and back, pure: no socket, no clock, no allocation.

pub mod arp;
pub mod heartbeat;
pub mod neighbor;
pub mod pair;

/// A hardware address of Ethernet.
pub type Mac = [u8; 6];
