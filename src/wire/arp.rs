//! ARP over Ethernet for IPv4 (RFC 826, RFC 5227): announcements, requests, probes.

use core::net::Ipv4Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Mac;

/// Length of an ARP frame, without the padding that the network card adds.
pub const FRAME: usize = size_of::<Frame>();
/// The EtherType of ARP.
pub const ETHER_TYPE: u16 = 0x0806;
/// Operation "request".
pub const REQUEST: u16 = 1;
/// Operation "reply".
pub const REPLY: u16 = 2;

const BROADCAST: Mac = [0xff; 6];
const NOBODY: Mac = [0; 6];

/// The frame as it is on the wire; numbers in network order.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    destination: Mac,
    source: Mac,
    ether_type: [u8; 2],
    hardware: [u8; 2],
    protocol: [u8; 2],
    hardware_length: u8,
    protocol_length: u8,
    operation: [u8; 2],
    sender_mac: Mac,
    sender_ip: [u8; 4],
    target_mac: Mac,
    target_ip: [u8; 4],
}

/// What an ARP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// Who speaks.
    pub sender_mac: Mac,
    /// For which address; unspecified in a probe.
    pub sender_ip: Ipv4Addr,
    /// To whom; zero in a request.
    pub target_mac: Mac,
    /// About which address.
    pub target_ip: Ipv4Addr,
}

/// A request by which `mac` announces itself as the owner of `ip` (RFC 5227 section 2.3). Linux takes it into an entry of any
/// age, where it ignores a reply within its locktime.
#[must_use]
pub fn announcement(mac: Mac, ip: Ipv4Addr) -> [u8; FRAME] {
    request(BROADCAST, mac, ip, ip)
}

/// A request from `mac`, owner of `sender`, straight to `destination`, who owns `target`: updates its entry for `sender`, and
/// its answer confirms the way.
#[must_use]
pub fn request(destination: Mac, mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME] {
    let frame = Frame {
        destination,
        source: mac,
        ether_type: ETHER_TYPE.to_be_bytes(),
        hardware: [0, 1],
        protocol: [0x08, 0],
        hardware_length: 6,
        protocol_length: 4,
        operation: REQUEST.to_be_bytes(),
        sender_mac: mac,
        sender_ip: sender.octets(),
        target_mac: NOBODY,
        target_ip: target.octets(),
    };
    zerocopy::transmute!(frame)
}

/// A reply by `source` that tells `destination`, who has `target`, that `sender` is at `mac`: on behalf of a neighbour that
/// does not answer itself. Sent to one station, Linux takes it for an answer and calls the entry reachable.
#[must_use]
pub fn answer_for(destination: Mac, source: Mac, (mac, sender): (Mac, Ipv4Addr), target: Ipv4Addr) -> [u8; FRAME] {
    let mut frame: Frame = zerocopy::transmute!(request(destination, mac, sender, target));
    frame.source = source;
    frame.operation = REPLY.to_be_bytes();
    frame.target_mac = destination;
    zerocopy::transmute!(frame)
}

/// Asks whether anybody owns `ip`, without claiming it (RFC 5227 section 2.1.1).
#[must_use]
pub fn probe(mac: Mac, ip: Ipv4Addr) -> [u8; FRAME] {
    request(BROADCAST, mac, Ipv4Addr::UNSPECIFIED, ip)
}

/// Reads a frame from its destination address on; `None` if it is no ARP of IPv4 over Ethernet.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Arp> {
    let (frame, _) = Frame::read_from_prefix(frame).ok()?;
    let kind = (frame.ether_type, frame.hardware, frame.protocol, frame.hardware_length, frame.protocol_length);
    if kind != (ETHER_TYPE.to_be_bytes(), [0, 1], [0x08, 0], 6, 4) {
        return None;
    }
    Some(Arp {
        operation: u16::from_be_bytes(frame.operation),
        sender_mac: frame.sender_mac,
        sender_ip: frame.sender_ip.into(),
        target_mac: frame.target_mac,
        target_ip: frame.target_ip.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
    const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    #[test]
    fn an_announcement_byte_by_byte() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // request, IPv4 over Ethernet
            2, 0x11, 0x22, 0x33, 0x44, 0x55, 192, 0, 2, 10, // sender
            0, 0, 0, 0, 0, 0, 192, 0, 2, 10, // target
        ];
        assert_eq!(announcement(MAC, IP), expected);
    }

    #[test]
    fn a_probe_claims_nothing() {
        let arp = parse(&probe(MAC, IP)).unwrap();
        assert_eq!((arp.sender_ip, arp.target_ip, arp.operation), (Ipv4Addr::UNSPECIFIED, IP, REQUEST));
    }

    #[test]
    fn an_answer_for_a_neighbour_names_the_neighbour_and_comes_from_us() {
        let (witness, ours, asked) = ([6; 6], [8; 6], Ipv4Addr::new(192, 0, 2, 1));
        let frame = answer_for(witness, ours, (MAC, IP), asked);
        assert_eq!((&frame[..6], &frame[6..12]), (&witness[..], &ours[..]));
        let told = Arp { operation: REPLY, sender_mac: MAC, sender_ip: IP, target_mac: witness, target_ip: asked };
        assert_eq!(parse(&frame), Some(told));
    }

    #[test]
    fn other_frames_are_no_arp() {
        let good = request([2; 6], MAC, IP, Ipv4Addr::new(192, 0, 2, 77));
        assert!(parse(&good).is_some());
        for length in 0..FRAME {
            assert_eq!(parse(&good[..length]), None);
        }
        for at in [12, 14, 16, 18, 19] {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(parse(&bad), None, "byte {at}");
        }
    }
}
