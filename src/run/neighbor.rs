//! Where the peer is on the LAN: its hardware address, kept for the time when it cannot say so itself.
//!
//! Kept on disk too: after a power cut of both boxes the one that comes back alone needs its witnesses, which look in vain for
//! the other one ([`crate::link::reflected::Reflected::vouch`]).

use crate::state::{Directory, Found};
use crate::time::{Duration, Instant};
use crate::wire::Mac;

/// Name of its file in the state directory.
pub(super) const FILE: &str = "neighbor";
/// After so long without a word on the LAN the peer does not answer for itself. Witnesses forget a neighbour later.
const SILENT: Duration = Duration::from_secs(1);

/// The peer on the LAN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbor {
    mac: Option<Mac>,
    heard_at: Instant,
}

impl Neighbor {
    /// What is known at the start, `now`.
    pub(super) fn new(mac: Option<Mac>, now: Instant) -> Self {
        Self { mac, heard_at: now }
    }

    /// An authentic heartbeat came from `mac`.
    pub(super) fn heard(&mut self, now: Instant, mac: Mac) {
        *self = Self { mac: Some(mac), heard_at: now };
    }

    /// Its hardware address, once known.
    pub(super) fn mac(&self) -> Option<Mac> {
        self.mac
    }

    /// Its hardware address if it does not answer for itself.
    pub(super) fn silent(&self, now: Instant) -> Option<Mac> {
        self.mac.filter(|_| now.since(self.heard_at) >= SILENT)
    }
}

/// What a former life knew. Damage means that it has to be learned again.
pub(super) fn read(directory: &Directory) -> Option<Mac> {
    match directory.read(FILE) {
        Ok(Found::Payload(bytes)) => Mac::try_from(bytes.as_slice()).ok(),
        Ok(Found::Nothing | Found::Damaged(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_silent_peer_is_spoken_for() {
        let start = Instant::BOOT + Duration::from_secs(5);
        let mut neighbor = Neighbor::new(None, start);
        assert_eq!(neighbor.silent(start + SILENT), None);
        neighbor.heard(start, [2; 6]);
        assert_eq!(neighbor.silent(start + SILENT - Duration::from_nanos(1)), None);
        assert_eq!(neighbor.silent(start + SILENT), Some([2; 6]));
    }
}
