//! Where the peer is on the LAN: its hardware address, kept for the time when it cannot say so itself.
//!
//! Kept on disk too: after a power cut of both boxes the one that comes back alone needs its witnesses, which look in vain for
//! the other one ([`crate::link::reflected::Reflected::vouch`]).

use crate::state::{Directory, Found};
use crate::time::{Duration, Instant};
use crate::wire::Mac;
use crate::wire::pair::BootId;

/// Name of its file in the state directory.
pub(super) const FILE: &str = "neighbor";
/// After so long without a word on the LAN the peer does not answer for itself. Witnesses forget a neighbour later.
const SILENT: Duration = Duration::from_secs(1);

/// The peer on the LAN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbor {
    mac: Option<Mac>,
    heard_at: Instant,
    /// The peer's present life, and its newest frame on the LAN.
    boot: Option<BootId>,
    sequence: u64,
}

impl Neighbor {
    /// What is known at the start, `now`.
    pub(super) fn new(mac: Option<Mac>, now: Instant) -> Self {
        Self { mac, heard_at: now, boot: None, sequence: 0 }
    }

    /// The peer's present life, as far as it is known.
    pub(super) fn set_peer(&mut self, boot: Option<BootId>) {
        if self.boot != boot {
            (self.boot, self.sequence) = (boot, 0);
        }
    }

    /// An authentic heartbeat came from `mac`. A recording of one, played by anybody, says nothing about the peer.
    pub(super) fn heard(&mut self, now: Instant, mac: Mac, boot: BootId, sequence: u64) {
        if self.boot == Some(boot) && sequence > self.sequence {
            *self = Self { mac: Some(mac), heard_at: now, boot: self.boot, sequence };
        }
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
        neighbor.set_peer(BootId::new(5));
        neighbor.heard(start, [2; 6], BootId::new(5).unwrap(), 1);
        assert_eq!(neighbor.silent(start + SILENT - Duration::from_nanos(1)), None);
        assert_eq!(neighbor.silent(start + SILENT), Some([2; 6]));
    }

    #[test]
    fn a_recording_says_nothing() {
        let [former, present] = [4, 5].map(|boot| BootId::new(boot).unwrap());
        let mut neighbor = Neighbor::new(None, Instant::BOOT);
        neighbor.heard(Instant::BOOT, [6; 6], present, 1);
        assert_eq!(neighbor.mac(), None, "nobody knows that life yet");
        neighbor.set_peer(Some(present));
        neighbor.heard(Instant::BOOT, [2; 6], present, 7);
        neighbor.heard(Instant::BOOT, [6; 6], present, 7);
        neighbor.heard(Instant::BOOT, [6; 6], former, 8);
        assert_eq!(neighbor.mac(), Some([2; 6]));
        neighbor.heard(Instant::BOOT, [3; 6], present, 8);
        assert_eq!(neighbor.mac(), Some([3; 6]), "a card may be changed");
    }
}
