//! ICMP echo over Ethernet, IPv4 (RFC 792) and IPv6 (RFC 4443): pings of the witnesses, and heartbeats that they carry.

use core::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Mac;
use super::heartbeat;

/// The EtherType of IPv4.
pub const ETHER_TYPE_V4: u16 = 0x0800;
/// The EtherType of IPv6.
pub const ETHER_TYPE_V6: u16 = 0x86dd;
/// ICMP's number in IPv4's protocol field.
pub const PROTOCOL_V4: u8 = 1;
/// ICMPv6's number in IPv6's next header field.
pub const PROTOCOL_V6: u8 = 58;
/// ICMP type of an echo request.
pub const REQUEST_V4: u8 = 8;
/// ICMP type of an echo reply.
pub const REPLY_V4: u8 = 0;
/// ICMPv6 type of an echo request.
pub const REQUEST_V6: u8 = 128;
/// ICMPv6 type of an echo reply.
pub const REPLY_V6: u8 = 129;

/// Longest payload written: nothing that the pair sends through a witness is longer than a heartbeat.
pub const PAYLOAD_MAX: usize = heartbeat::MAX_SIZE;
/// Longest frame written.
pub const FRAME_MAX: usize = ETHERNET + V6 + ECHO + PAYLOAD_MAX;

const ETHERNET: usize = size_of::<Ethernet>();
const V4: usize = size_of::<Ipv4>();
const V6: usize = size_of::<Ipv6>();
const ECHO: usize = size_of::<EchoHeader>();
/// Hops that a frame may take when it is sent. A witness that routes takes one of them.
pub const HOP_LIMIT: u8 = 64;
const DONT_FRAGMENT: u8 = 0x40;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ethernet {
    destination: Mac,
    source: Mac,
    ether_type: [u8; 2],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv4 {
    version_length: u8,
    service: u8,
    total_length: [u8; 2],
    identification: [u8; 2],
    fragment: [u8; 2],
    ttl: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv6 {
    version_class_flow: [u8; 4],
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EchoHeader {
    icmp_type: u8,
    code: u8,
    checksum: [u8; 2],
    identifier: [u8; 2],
    sequence: [u8; 2],
}

/// An echo request to be written, from its Ethernet header on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Ethernet destination.
    pub to: Mac,
    /// Ethernet source.
    pub from: Mac,
    /// Where the answer goes.
    pub source: IpAddr,
    /// Who is asked; of the family of `source`.
    pub destination: IpAddr,
    /// Told apart by the asker; comes back.
    pub identifier: u16,
    /// Counted by the asker; comes back.
    pub sequence: u16,
    /// Comes back too; at most [`PAYLOAD_MAX`] bytes.
    pub payload: &'a [u8],
}

/// An echo request or reply as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Ethernet source: the last hop.
    pub from: Mac,
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// Hops left: [`HOP_LIMIT`] less the routers on the way, when the sender is one of us.
    pub hops: u8,
    /// A reply, else a request.
    pub reply: bool,
    /// See [`Request::identifier`].
    pub identifier: u16,
    /// See [`Request::sequence`].
    pub sequence: u16,
    /// See [`Request::payload`].
    pub payload: &'a [u8],
}

impl Request<'_> {
    /// The frame, in `out`; `None` if the payload is too long or the two addresses are of different families.
    #[must_use]
    pub fn write<'o>(&self, out: &'o mut [u8; FRAME_MAX]) -> Option<&'o [u8]> {
        if self.payload.len() > PAYLOAD_MAX {
            return None;
        }
        // At most ECHO + PAYLOAD_MAX, which fits 16 bits many times.
        let icmp_length = (ECHO + self.payload.len()) as u16;
        let (ether_type, ip, icmp_type) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4 {
                    version_length: 0x45,
                    service: 0,
                    total_length: (V4 as u16 + icmp_length).to_be_bytes(),
                    identification: [0; 2],
                    fragment: [DONT_FRAGMENT, 0],
                    ttl: HOP_LIMIT,
                    protocol: PROTOCOL_V4,
                    checksum: [0; 2],
                    source: source.octets(),
                    destination: destination.octets(),
                };
                header.checksum = Sum16BitWords::new().add_slice(header.as_bytes()).ones_complement().to_ne_bytes();
                out[ETHERNET..ETHERNET + V4].copy_from_slice(header.as_bytes());
                (ETHER_TYPE_V4, V4, REQUEST_V4)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6 {
                    version_class_flow: [0x60, 0, 0, 0],
                    payload_length: icmp_length.to_be_bytes(),
                    next_header: PROTOCOL_V6,
                    hop_limit: HOP_LIMIT,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                out[ETHERNET..ETHERNET + V6].copy_from_slice(header.as_bytes());
                (ETHER_TYPE_V6, V6, REQUEST_V6)
            }
            _ => return None,
        };
        let ethernet = Ethernet { destination: self.to, source: self.from, ether_type: ether_type.to_be_bytes() };
        out[..ETHERNET].copy_from_slice(ethernet.as_bytes());
        let echo = EchoHeader {
            icmp_type,
            code: 0,
            checksum: [0; 2],
            identifier: self.identifier.to_be_bytes(),
            sequence: self.sequence.to_be_bytes(),
        };
        let start = ETHERNET + ip;
        let end = start + ECHO + self.payload.len();
        out[start..start + ECHO].copy_from_slice(echo.as_bytes());
        out[start + ECHO..end].copy_from_slice(self.payload);
        let sum = checksum(self.source, self.destination, &out[start..end]).to_ne_bytes();
        out[start + 2..start + 4].copy_from_slice(&sum);
        Some(&out[..end])
    }
}

/// Reads a frame from its destination address on; `None` if it is no whole and sound echo request or reply. Padding behind
/// the packet is allowed, fragments and IPv6 extension headers are not.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Echo<'_>> {
    let (ethernet, packet) = Ethernet::ref_from_prefix(frame).ok()?;
    let (source, destination, hops, icmp) = match u16::from_be_bytes(ethernet.ether_type) {
        ETHER_TYPE_V4 => parse_v4(packet)?,
        ETHER_TYPE_V6 => parse_v6(packet)?,
        _ => return None,
    };
    let (header, payload) = EchoHeader::ref_from_prefix(icmp).ok()?;
    let reply = match (source, header.icmp_type) {
        (IpAddr::V4(_), REPLY_V4) | (IpAddr::V6(_), REPLY_V6) => true,
        (IpAddr::V4(_), REQUEST_V4) | (IpAddr::V6(_), REQUEST_V6) => false,
        _ => return None,
    };
    if header.code != 0 || checksum(source, destination, icmp) != 0 {
        return None;
    }
    Some(Echo {
        from: ethernet.source,
        source,
        destination,
        hops,
        reply,
        identifier: u16::from_be_bytes(header.identifier),
        sequence: u16::from_be_bytes(header.sequence),
        payload,
    })
}

fn parse_v4(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
    let length = usize::from(header.version_length & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes(header.total_length));
    let whole = packet.get(..total)?;
    let (ip, icmp) = whole.split_at_checked(length)?;
    let fragment = u16::from_be_bytes(header.fragment) & 0x3fff;
    let sound = header.version_length >> 4 == 4
        && length >= V4
        && header.protocol == PROTOCOL_V4
        && fragment == 0
        && Sum16BitWords::new().add_slice(ip).ones_complement() == 0;
    sound.then_some((IpAddr::V4(header.source.into()), IpAddr::V4(header.destination.into()), header.ttl, icmp))
}

fn parse_v6(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let (header, rest) = Ipv6::ref_from_prefix(packet).ok()?;
    let icmp = rest.get(..usize::from(u16::from_be_bytes(header.payload_length)))?;
    let sound = header.version_class_flow[0] >> 4 == 6 && header.next_header == PROTOCOL_V6;
    sound.then_some((IpAddr::V6(header.source.into()), IpAddr::V6(header.destination.into()), header.hop_limit, icmp))
}

/// In wire order; zero over a message that holds its own. IPv4's is over the message alone, IPv6's has a pseudo header
/// (RFC 4443 section 2.3).
fn checksum(source: IpAddr, destination: IpAddr, icmp: &[u8]) -> u16 {
    let sum = match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => Sum16BitWords::new()
            .add_16bytes(source.octets())
            .add_16bytes(destination.octets())
            .add_4bytes((icmp.len() as u32).to_be_bytes())
            .add_2bytes([0, PROTOCOL_V6]),
        _ => Sum16BitWords::new(),
    };
    sum.add_slice(icmp).ones_complement()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W: Mac = [2, 0, 0, 0, 0, 9];
    const A: Mac = [2, 0, 0, 0, 0, 1];

    fn v4<'a>(payload: &'a [u8]) -> Request<'a> {
        let (source, destination) = (IpAddr::from([192, 0, 2, 3]), IpAddr::from([192, 0, 2, 1]));
        Request { to: W, from: A, source, destination, identifier: 0x1234, sequence: 7, payload }
    }

    #[test]
    fn a_request_of_ipv4_byte_by_byte() {
        let mut out = [0; FRAME_MAX];
        let expected = [
            2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
            0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 1, 0xb6, 0xda, 192, 0, 2, 3, 192, 0, 2, 1, // IPv4
            8, 0, 0xb3, 0x62, 0x12, 0x34, 0, 7, // echo
            b'2', b'b',
        ];
        assert_eq!(v4(b"2b").write(&mut out).unwrap(), expected);
    }

    #[test]
    fn a_request_of_ipv6_byte_by_byte() {
        let (source, destination) = ("2001:db8::3".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let request = Request { source, destination, ..v4(b"2b") };
        let mut out = [0; FRAME_MAX];
        let mut expected = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 10, 58, 64];
        expected.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        expected.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([128, 0, 0xdf, 0xa7, 0x12, 0x34, 0, 7, b'2', b'b']);
        assert_eq!(request.write(&mut out).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut out = [0; FRAME_MAX];
        assert!(v4(&[1; PAYLOAD_MAX]).write(&mut out).is_some());
        assert!(v4(&[1; PAYLOAD_MAX + 1]).write(&mut out).is_none());
        assert!(Request { source: "::1".parse().unwrap(), ..v4(b"") }.write(&mut out).is_none());
    }

    #[test]
    fn fragments_are_not_taken_for_whole_packets() {
        let mut out = [0; FRAME_MAX];
        let mut frame = v4(b"2b").write(&mut out).unwrap().to_vec();
        frame[20] = 0x20; // more fragments; the header checksum changes by as much
        let sum = u16::from_be_bytes([frame[24], frame[25]]) + 0x2000;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&frame), None);
    }

    fn address() -> impl Strategy<Value = (IpAddr, IpAddr)> {
        prop_oneof![
            any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (source, destination) in address(),
            (identifier, sequence) in any::<(u16, u16)>(),
            payload in proptest::collection::vec(any::<u8>(), 0..=PAYLOAD_MAX),
            padding in 0usize..8,
        ) {
            let request = Request { source, destination, identifier, sequence, payload: &payload, ..v4(b"") };
            let mut out = [0; FRAME_MAX];
            let mut frame = request.write(&mut out).unwrap().to_vec();
            frame.resize(frame.len() + padding, 0);
            let read = parse(&frame).unwrap();
            let echo = Echo { from: A, source, destination, hops: 64, reply: false, identifier, sequence, payload: &payload };
            prop_assert_eq!(read, echo);
        }

        #[test]
        fn one_flipped_bit_is_seen(payload in proptest::collection::vec(any::<u8>(), 0..32), at in 14usize..10_000) {
            let mut out = [0; FRAME_MAX];
            let mut frame = v4(&payload).write(&mut out).unwrap().to_vec();
            let at = 14 + (at - 14) % (frame.len() - 14);
            frame[at] ^= 0x10;
            prop_assert_eq!(parse(&frame), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut frame in proptest::collection::vec(any::<u8>(), 0..400), v6: bool) {
            let _ = parse(&frame);
            // Deeper: past the checks on the EtherType and on the version.
            if frame.len() > 15 {
                let kind = if v6 { ETHER_TYPE_V6 } else { ETHER_TYPE_V4 };
                frame[12..14].copy_from_slice(&kind.to_be_bytes());
                frame[14] = if v6 { 0x60 } else { 0x40 | frame[14] & 0x0f };
                let _ = parse(&frame);
            }
        }
    }
}
