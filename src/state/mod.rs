//! What a node must remember: one small sealed file, replaced whole and synced before anybody acts on it.
//!
//! [`sealed`] is pure (bytes with a checksum); [`directory`] writes. What the bytes mean is the node's affair.

pub mod directory;
pub mod sealed;

pub use directory::{Directory, Found};
pub use sealed::Damage;
