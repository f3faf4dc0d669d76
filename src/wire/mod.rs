//! Bytes to values and back, pure: no socket, no clock, no allocation.

pub mod arp;
pub mod heartbeat;
pub mod icmp;
pub mod known_clients;
pub mod line;
pub mod neighbor;
pub mod pair;
pub mod panic_text;
pub mod serial;
pub mod side;

/// A hardware address of Ethernet.
pub type Mac = [u8; 6];
