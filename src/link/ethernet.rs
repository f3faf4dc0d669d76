//! Raw frames between the nodes, over a crossover cable or the LAN: no addresses needed, no firewall in the way.
//!
//! ```text
//! group 6 | own MAC 6 | EtherType 2 | length of the payload 2 | payload
//! ```
//!
//! The length is told because an Ethernet frame shorter than 60 bytes comes padded.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};

use super::packet::Packet;
use super::{Binder, Carrier, Counters, Sent, filter};
use crate::wire::{Mac, heartbeat, side};

/// IEEE 802 local experimental EtherType 1 (IEEE 802-2014 clause 9.2.4): reserved for private use, so no other protocol has
/// it, and nothing has to be registered.
pub const ETHER_TYPE: u16 = 0x88b5;
/// Where frames go: a group address of local significance, so that on a LAN only members are bothered, and nobody's
/// hardware address needs to be learned before the first heartbeat.
pub const GROUP: Mac = *b"\x03tbox\x01";

const HEADER: usize = 16;
/// Frames of the wrong format that are skipped in one call.
const SKIPPED: usize = 16;

/// One interface.
pub struct Ethernet {
    packet: Packet,
    source: Mac,
}

impl Ethernet {
    /// Opens the interface. Takes about 10 ms.
    ///
    /// # Errors
    /// No such interface, no CAP_NET_RAW, or what packet(7) says.
    pub fn open(interface: &str) -> io::Result<Ethernet> {
        let filter = filter::ethernet(GROUP, HEADER as u32, &[heartbeat::MAGIC, side::MAGIC]);
        Ok(Ethernet { packet: Packet::open(interface, ETHER_TYPE, &filter, Some(GROUP))?, source: [0; 6] })
    }

    /// Takes one payload into `buffer` and returns its length; `None` when nothing is there. A payload longer than `buffer`
    /// is no frame of ours and is counted as an error. The socket lives on when the interface goes down and comes up again.
    ///
    /// # Errors
    /// What packet(7) says; the next call may succeed.
    pub fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        for _ in 0..SKIPPED {
            let mut header = [0; HEADER];
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
            let Some(length) = self.packet.recv(&mut parts)? else { return Ok(None) };
            let payload = usize::from(u16::from_be_bytes([header[14], header[15]]));
            if payload <= length.saturating_sub(HEADER) {
                self.source.copy_from_slice(&header[6..12]);
                self.packet.counters.frames_in += 1;
                self.packet.counters.bytes_in += payload as u64;
                return Ok(Some(payload));
            }
            self.packet.counters.errors += 1;
        }
        Ok(None)
    }

    /// Sends one payload to the other node. What cannot go at once is dropped.
    ///
    /// # Errors
    /// What packet(7) says, other than that there is no room or that the interface is down or gone.
    pub fn send(&mut self, payload: &[u8]) -> io::Result<Sent> {
        let length = u16::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut header = [0; HEADER];
        header[..6].copy_from_slice(&GROUP);
        header[6..12].copy_from_slice(&self.packet.mac());
        header[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
        header[14..].copy_from_slice(&length.to_be_bytes());
        self.packet.send(&[IoSlice::new(&header), IoSlice::new(payload)], payload.len())
    }

    /// State of the interface: two quick system calls, no lock of the network's configuration.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.packet.carrier()
    }

    /// For whoever looks after the interface, on a thread that may wait.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn binder(&self) -> io::Result<Binder> {
        self.packet.binder()
    }

    /// The [`Binder`] has taken interface `index`, which has this hardware address.
    pub fn bound(&mut self, index: u32, mac: Mac) {
        self.packet.bound(index, mac);
    }

    /// Hardware address that the frame taken last came from; zero before the first one.
    #[must_use]
    pub fn source(&self) -> Mac {
        self.source
    }

    /// Hardware address of the interface.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.packet.mac()
    }

    /// What happened so far.
    pub fn counters(&mut self) -> Counters {
        self.packet.counters()
    }
}

impl AsFd for Ethernet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packet.as_fd()
    }
}
