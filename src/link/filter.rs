//! Classic BPF programs (linux/Documentation/networking/filter.rst), put together: the kernel throws away what is not ours
//! before it wakes us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::sock_filter;

use crate::wire::Mac;

/// Frames that the kernel itself strips of a VLAN tag belong to another LAN, but for those of no VLAN: a tag may have a priority only
/// (IEEE 802.1Q, VLAN 0).
const VLAN_TAG_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;
const VLAN_TAG: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32;
const VLAN: u32 = 0x0fff;
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
/// From this packet type on (PACKET_OTHERHOST, PACKET_OUTGOING; linux/if_packet.h) a frame is not for this box.
const NOT_FOR_US: u32 = libc::PACKET_OTHERHOST as u32;

const ETHER_TYPE: u32 = 12;
const ARP_SENDER: u32 = 28;
const V4_FRAGMENT: u32 = 20;
const V4_PROTOCOL: u32 = 23;
const V4_SOURCE: u32 = 26;
const V4_DESTINATION: u32 = 30;
const V6_NEXT_HEADER: u32 = 20;
const V6_SOURCE: u32 = 22;
const V6_DESTINATION: u32 = 38;
const V6_ICMP: u32 = 54;
/// Where a neighbour advertisement's target stands.
const V6_TARGET: u32 = V6_ICMP + 8;

/// A program under construction. Allocates: for the start.
pub(super) struct Program {
    code: Vec<sock_filter>,
}

impl Program {
    /// Lets through what is for this box and in no VLAN.
    fn new() -> Program {
        let mut program = Program { code: Vec::new() };
        program.load(libc::BPF_W, VLAN_TAG_PRESENT);
        // Where there is none, some kernels have the one there that a frame had before.
        program.when(1, |p| {
            p.load(libc::BPF_W, VLAN_TAG);
            p.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, VLAN);
            p.require(0);
        });
        program.load(libc::BPF_W, PACKET_TYPE);
        program.push(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, NOT_FOR_US);
        program.reject();
        program
    }

    /// The instructions.
    pub(super) fn code(&self) -> &[sock_filter] {
        &self.code
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) {
        self.code.push(sock_filter { code: code as u16, jt, jf, k });
    }

    fn load(&mut self, size: u32, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_ABS | size, 0, 0, offset);
    }

    /// As [`Program::load`], but behind the IPv4 header, whose length was put into X.
    fn load_behind(&mut self, size: u32, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_IND | size, 0, 0, offset);
    }

    fn accept(&mut self) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX);
    }

    fn reject(&mut self) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, 0);
    }

    /// Rejects unless what was loaded is `value`.
    fn require(&mut self, value: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, value);
        self.reject();
    }

    /// Rejects unless what was loaded is one of `values`; at most 255.
    fn require_any(&mut self, values: &[u32]) {
        for (i, &value) in values.iter().enumerate() {
            self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (values.len() - i) as u8, 0, value);
        }
        self.reject();
    }

    /// Does `body` if what was loaded is `value`.
    fn when(&mut self, value: u32, body: impl FnOnce(&mut Program)) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, value);
        let over = self.code.len();
        self.push(libc::BPF_JMP | libc::BPF_JA, 0, 0, 0);
        body(self);
        self.code[over].k = (self.code.len() - over - 1) as u32;
    }

    /// Does `body` if the four words from `offset` on are `ip`.
    fn when_v6(&mut self, offset: u32, ip: Ipv6Addr, body: impl FnOnce(&mut Program)) {
        let words = words(ip);
        self.load(libc::BPF_W, offset);
        self.when(words[0], |p| {
            p.load(libc::BPF_W, offset + 4);
            p.when(words[1], |p| {
                p.load(libc::BPF_W, offset + 8);
                p.when(words[2], |p| {
                    p.load(libc::BPF_W, offset + 12);
                    p.when(words[3], body);
                });
            });
        });
    }
}

fn words(ip: Ipv6Addr) -> [u32; 4] {
    let bits = ip.to_bits();
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
}

fn magic(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_be_bytes(bytes))
}

/// For raw frames of `ether_type` (which the socket's protocol has chosen): to `group` or to all, at least `shortest` long,
/// payload at `payload_at` beginning with one of `magics`.
pub(super) fn ethernet(group: Mac, payload_at: u32, magics: &[[u8; 2]]) -> Program {
    let mut program = Program::new();
    let [a, b, c, d, e, f] = group;
    let high = u32::from_be_bytes([a, b, c, d]);
    // Whether it is the broadcast address or the group: first the four high bytes, then the two low ones.
    program.load(libc::BPF_W, 0);
    program.require_any(&[high, u32::MAX]);
    program.load(libc::BPF_H, 4);
    program.require_any(&[magic([e, f]), 0xffff]);
    // A load behind the end of a frame rejects it.
    program.load(libc::BPF_H, payload_at);
    program.require_any(&magics.iter().map(|&m| magic(m)).collect::<Vec<_>>());
    program.accept();
    program
}

/// What [`reflected`] lets through.
pub(super) struct Reflection<'a> {
    pub(super) own: &'a [IpAddr],
    pub(super) peer: &'a [IpAddr],
    pub(super) witnesses: &'a [IpAddr],
    /// Whose hardware addresses are wanted.
    pub(super) neighbors: &'a [IpAddr],
    /// First bytes of what may come in an echo.
    pub(super) magics: &'a [[u8; 2]],
}

/// For an Ethernet socket that hears everything: ARP and neighbour advertisements of the neighbours; echo replies of the
/// witnesses, and requests of the peer that a witness routed, to our own address and with one of our magics.
pub(super) fn reflected(r: &Reflection<'_>) -> Program {
    let mut program = Program::new();
    program.load(libc::BPF_H, ETHER_TYPE);
    program.when(u32::from(crate::wire::arp::ETHER_TYPE), |p| {
        p.load(libc::BPF_W, ARP_SENDER);
        p.require_any(&v4(r.neighbors));
        p.accept();
    });
    program.when(u32::from(crate::wire::icmp::ETHER_TYPE_V4), |p| reflected_v4(p, r));
    program.when(u32::from(crate::wire::icmp::ETHER_TYPE_V6), |p| reflected_v6(p, r));
    program.reject();
    program
}

fn v4(addresses: &[IpAddr]) -> Vec<u32> {
    addresses
        .iter()
        .filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(Ipv4Addr::to_bits(*ip)) } else { None })
        .collect()
}

fn v6(addresses: &[IpAddr]) -> Vec<Ipv6Addr> {
    addresses.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }).collect()
}

fn reflected_v4(p: &mut Program, r: &Reflection<'_>) {
    use crate::wire::icmp::{PROTOCOL_V4, REPLY_V4, REQUEST_V4};
    let magics: Vec<u32> = r.magics.iter().map(|&m| magic(m)).collect();
    p.load(libc::BPF_B, V4_PROTOCOL);
    p.require(u32::from(PROTOCOL_V4));
    p.load(libc::BPF_H, V4_FRAGMENT);
    p.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, 0x3fff);
    p.reject();
    p.load(libc::BPF_W, V4_DESTINATION);
    p.require_any(&v4(r.own));
    p.push(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 14);
    p.load_behind(libc::BPF_H, 14 + 8);
    p.require_any(&magics);
    p.load_behind(libc::BPF_B, 14);
    for (kind, sources) in [(REPLY_V4, v4(r.witnesses)), (REQUEST_V4, v4(r.peer))] {
        p.when(u32::from(kind), |p| {
            p.load(libc::BPF_W, V4_SOURCE);
            p.require_any(&sources);
            p.accept();
        });
    }
    p.reject();
}

fn reflected_v6(p: &mut Program, r: &Reflection<'_>) {
    use crate::wire::icmp::{PROTOCOL_V6, REPLY_V6, REQUEST_V6};
    let magics: Vec<u32> = r.magics.iter().map(|&m| magic(m)).collect();
    p.load(libc::BPF_B, V6_NEXT_HEADER);
    p.require(u32::from(PROTOCOL_V6));
    p.load(libc::BPF_B, V6_ICMP);
    p.when(u32::from(crate::wire::neighbor::ADVERTISEMENT), |p| {
        for neighbor in v6(r.neighbors) {
            p.when_v6(V6_TARGET, neighbor, Program::accept);
        }
        p.reject();
    });
    for (kind, sources) in [(REPLY_V6, v6(r.witnesses)), (REQUEST_V6, v6(r.peer))] {
        p.when(u32::from(kind), |p| {
            p.load(libc::BPF_H, V6_ICMP + 8);
            p.require_any(&magics);
            for own in v6(r.own) {
                p.when_v6(V6_DESTINATION, own, |p| {
                    for source in &sources {
                        p.when_v6(V6_SOURCE, *source, Program::accept);
                    }
                });
            }
            p.reject();
        });
    }
    p.reject();
}
