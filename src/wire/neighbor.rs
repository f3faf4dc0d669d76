//! Neighbour discovery over Ethernet (RFC 4861, RFC 4862): unsolicited advertisements, solicitations, probes.

use core::net::Ipv6Addr;

use etherparse::checksum::Sum16BitWords;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Mac;

/// Length of an advertisement, and of a solicitation with its option.
pub const FRAME: usize = size_of::<Frame>();
/// Length of a probe: no option.
pub const PROBE: usize = FRAME - OPTION;
/// The EtherType of IPv6.
pub const ETHER_TYPE: u16 = 0x86dd;
/// ICMPv6's number in IPv6's next header.
pub const NEXT_HEADER: u8 = 58;
/// ICMPv6 type of a neighbour solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;

const OPTION: usize = 8;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The frame as it is on the wire.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    destination: Mac,
    source: Mac,
    ether_type: [u8; 2],
    version_class_flow: [u8; 4],
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source_ip: [u8; 16],
    destination_ip: [u8; 16],
    icmp_type: u8,
    icmp_code: u8,
    checksum: [u8; 2],
    flags: u8,
    reserved: [u8; 3],
    target: [u8; 16],
    option: u8,
    option_length: u8,
    option_mac: Mac,
}

/// What a solicitation or an advertisement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// [`SOLICITATION`] or [`ADVERTISEMENT`].
    pub kind: u8,
    /// Who speaks: the hardware address in the option, else the frame's source.
    pub mac: Mac,
    /// The packet's source address.
    pub source: Ipv6Addr,
    /// About which address.
    pub target: Ipv6Addr,
    /// An advertisement that answers a solicitation.
    pub solicited: bool,
}

/// An unsolicited advertisement to all nodes by which `mac` claims `ip`. Override, or clients would keep what they have
/// (RFC 4861 section 7.2.5).
#[must_use]
pub fn announcement(mac: Mac, ip: Ipv6Addr) -> [u8; FRAME] {
    let mut frame = blank(multicast_mac(ALL_NODES), mac, ip, ALL_NODES, ip);
    frame.icmp_type = ADVERTISEMENT;
    frame.flags = FLAG_OVERRIDE;
    frame.option = TARGET_LINK_LAYER;
    seal(frame)
}

/// A solicitation from `mac`, owner of `source`, straight to `destination`, who owns `target`: its option updates the entry
/// for `source` (RFC 4861 section 7.2.3), and the answer confirms the way.
#[must_use]
pub fn solicitation(destination: Mac, mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> [u8; FRAME] {
    seal(blank(destination, mac, source, target, target))
}

/// An advertisement by `source` that tells `destination`, who has `asker`, that `target` is at `mac`: on behalf of a neighbour
/// that does not answer itself (RFC 4861 section 7.2.5; solicited, so that the entry becomes reachable).
#[must_use]
pub fn answer_for(destination: Mac, source: Mac, (mac, target): (Mac, Ipv6Addr), asker: Ipv6Addr) -> [u8; FRAME] {
    let mut frame = blank(destination, mac, target, asker, target);
    frame.source = source;
    frame.icmp_type = ADVERTISEMENT;
    frame.flags = FLAG_SOLICITED | FLAG_OVERRIDE;
    frame.option = TARGET_LINK_LAYER;
    seal(frame)
}

/// Asks the group of `target` for its hardware address, as `source` with `mac` (RFC 4861 section 7.2.2).
#[must_use]
pub fn resolution(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> [u8; FRAME] {
    let group = solicited_node(target);
    seal(blank(multicast_mac(group), mac, source, group, target))
}

/// Asks whether anybody owns `ip`, without claiming it: the solicitation of duplicate address detection (RFC 4862 section
/// 5.4.2). It is answered to all nodes, by an advertisement that cannot be told from an unsolicited one.
#[must_use]
pub fn probe(mac: Mac, ip: Ipv6Addr) -> [u8; PROBE] {
    let group = solicited_node(ip);
    let mut frame = blank(multicast_mac(group), mac, Ipv6Addr::UNSPECIFIED, group, ip);
    frame.payload_length = 24u16.to_be_bytes();
    (frame.option, frame.option_length, frame.option_mac) = (0, 0, [0; 6]);
    let whole = seal(frame);
    let mut probe = [0; PROBE];
    probe.copy_from_slice(&whole[..PROBE]);
    probe
}

/// Reads a frame from its destination address on; `None` if it is no valid solicitation or advertisement (RFC 4861 section 7.1:
/// hop limit 255, code 0, checksum).
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Neighbor> {
    let mut padded = [0; FRAME];
    let length = bytes.len().min(FRAME);
    padded[..length].copy_from_slice(&bytes[..length]);
    let frame: Frame = zerocopy::transmute!(padded);
    let payload = usize::from(u16::from_be_bytes(frame.payload_length));
    let icmp = bytes.get(54..54 + payload)?;
    let valid = frame.ether_type == ETHER_TYPE.to_be_bytes()
        && frame.version_class_flow[0] >> 4 == 6
        && frame.next_header == NEXT_HEADER
        && frame.hop_limit == 255
        && frame.icmp_code == 0
        && payload >= 24
        && matches!(frame.icmp_type, SOLICITATION | ADVERTISEMENT)
        && checksum(frame.source_ip, frame.destination_ip, icmp) == 0;
    if !valid {
        return None;
    }
    let wanted = if frame.icmp_type == ADVERTISEMENT { TARGET_LINK_LAYER } else { SOURCE_LINK_LAYER };
    let has_option = payload >= 32 && (frame.option, frame.option_length) == (wanted, 1);
    Some(Neighbor {
        kind: frame.icmp_type,
        mac: if has_option { frame.option_mac } else { frame.source },
        source: frame.source_ip.into(),
        target: frame.target.into(),
        solicited: frame.icmp_type == ADVERTISEMENT && frame.flags & FLAG_SOLICITED != 0,
    })
}

/// A solicitation with its option, checksum still open.
fn blank(destination: Mac, mac: Mac, source: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Frame {
    Frame {
        destination,
        source: mac,
        ether_type: ETHER_TYPE.to_be_bytes(),
        version_class_flow: [0x60, 0, 0, 0],
        payload_length: 32u16.to_be_bytes(),
        next_header: NEXT_HEADER,
        hop_limit: 255,
        source_ip: source.octets(),
        destination_ip: to.octets(),
        icmp_type: SOLICITATION,
        icmp_code: 0,
        checksum: [0; 2],
        flags: 0,
        reserved: [0; 3],
        target: target.octets(),
        option: SOURCE_LINK_LAYER,
        option_length: 1,
        option_mac: mac,
    }
}

fn seal(mut frame: Frame) -> [u8; FRAME] {
    let payload = usize::from(u16::from_be_bytes(frame.payload_length));
    frame.checksum = checksum(frame.source_ip, frame.destination_ip, &frame.as_bytes()[54..54 + payload]).to_ne_bytes();
    zerocopy::transmute!(frame)
}

/// The ICMPv6 checksum (RFC 4443 section 2.3), in wire order; zero over a message that holds its own.
fn checksum(source: [u8; 16], destination: [u8; 16], icmp: &[u8]) -> u16 {
    Sum16BitWords::new()
        .add_16bytes(source)
        .add_16bytes(destination)
        .add_4bytes((icmp.len() as u32).to_be_bytes())
        .add_2bytes([0, NEXT_HEADER])
        .add_slice(icmp)
        .ones_complement()
}

/// The group in which the owner of `ip` listens (RFC 4291 section 2.7.1).
fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let o = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15]])
}

/// The Ethernet address of an IPv6 group (RFC 2464 section 7).
fn multicast_mac(group: Ipv6Addr) -> Mac {
    let o = group.octets();
    [0x33, 0x33, o[12], o[13], o[14], o[15]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
    const IP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

    /// The sum by the book (RFC 1071), independent of the one above.
    fn book_sum(frame: &[u8]) -> u16 {
        let icmp = &frame[54..];
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend_from_slice(&(icmp.len() as u32).to_be_bytes());
        pseudo.extend_from_slice(&[0, 0, 0, 58]);
        pseudo.extend_from_slice(icmp);
        let sum: u32 = pseudo.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        ((folded & 0xffff) + (folded >> 16)) as u16
    }

    #[test]
    fn checksums_are_right_by_the_book() {
        let client = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfffe);
        assert_eq!(book_sum(&announcement(MAC, IP)), 0xffff);
        assert_eq!(book_sum(&solicitation([2; 6], MAC, IP, client)), 0xffff);
        assert_eq!(book_sum(&probe(MAC, IP)), 0xffff);
    }

    #[test]
    fn an_announcement_overrides_and_names_the_new_hardware_address() {
        let frame = announcement(MAC, IP);
        assert_eq!(&frame[..6], &[0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(frame[54], ADVERTISEMENT);
        assert_eq!(frame[58], FLAG_OVERRIDE);
        let read = parse(&frame).unwrap();
        assert_eq!((read.target, read.mac, read.solicited), (IP, MAC, false));
    }

    #[test]
    fn a_resolution_asks_the_targets_group_and_says_who_asks() {
        let target = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
        let frame = resolution(MAC, IP, target);
        assert_eq!(&frame[..6], &[0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(book_sum(&frame), 0xffff);
        let read = parse(&frame).unwrap();
        assert_eq!((read.kind, read.mac, read.source, read.target), (SOLICITATION, MAC, IP, target));
    }

    #[test]
    fn a_probe_claims_nothing_and_goes_to_the_owners_group() {
        let frame = probe(MAC, IP);
        assert_eq!(&frame[..6], &[0x33, 0x33, 0xff, 0, 0, 0x10]);
        let read = parse(&frame).unwrap();
        assert_eq!((read.source, read.target, read.kind), (Ipv6Addr::UNSPECIFIED, IP, SOLICITATION));
    }

    #[test]
    fn damaged_frames_are_refused() {
        let good = announcement(MAC, IP);
        for length in 0..FRAME {
            assert_eq!(parse(&good[..length]), None, "{length} bytes");
        }
        // Everything from the IPv6 header on, except class and flow label and the parts of the payload length and version
        // that have tests of their own, is under the checksum or checked by itself.
        for at in 20..FRAME {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(parse(&bad), None, "byte {at}");
        }
        let mut long = good;
        long[19] = 33;
        assert_eq!(parse(&long), None);
    }
}
