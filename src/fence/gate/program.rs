//! The gate's two programs, built for a list of service addresses. Pure.
//!
//! Both read the frame itself, never the socket's word for its protocol, and unwrap up to two VLAN tags inside it (a tag
//! in the socket buffer's metadata needs no unwrapping). Guarded is, on egress, what speaks *as* a service address: IPv4
//! source, ARP and RARP sender, IPv6 source, target of a Neighbour Advertisement (also behind extension headers), a
//! virtual MAC as source. On ingress what makes this box work *for* a service address: IPv4 and IPv6 destination, the
//! target of somebody else's ARP request or Neighbour Solicitation, a virtual MAC as destination. The owner's own
//! announcements come in (they name the address as sender and target), so that a standby's neighbour entries stay true.
//!
//! A third one is for other interfaces than those of the addresses: it judges what leaves by them and began on this box. What another
//! has sent, and this box only carries on, goes by whatever address it names.
//!
//! A guarded frame passes while `bpf_ktime_get_boot_ns()` is below the expiry. Everything else passes always. A frame
//! whose headers end early or are stacked deeper than is read counts as guarded.

use core::net::IpAddr;

use super::assembler::{Assembler, Condition, Error, Label, Register, Register::*, Width};
use super::layout::{self, Direction, SLOT_PROBE, SLOT_UNREADABLE, SLOT_VIRTUAL_MAC};

/// What the gate guards.
#[derive(Clone, Copy, Debug)]
pub struct Guarded<'a> {
    /// Service addresses, at most [`layout::ADDRESSES`]; the drop counters have the same order.
    pub addresses: &'a [IpAddr],
    /// Virtual MACs, at most [`layout::VIRTUAL_MACS`].
    pub virtual_macs: &'a [[u8; 6]],
}

/// An IPv4 address that is never on a wire (240.0.0.0/4 is reserved, RFC 1112): frames with it are the gate's own probes.
pub const PROBE_ADDRESS: [u8; 4] = [247, 211, 199, 251];

/// Verdict "drop": TC_ACT_SHOT and TCX_DROP.
pub const DROP: i32 = 2;
/// Verdict "not our business, ask the next": TC_ACT_UNSPEC and TCX_NEXT.
pub const NEXT: i32 = -1;

/// `struct __sk_buff` (linux/bpf.h): the interface by which the frame came in; 0 for one that began on this box.
const INGRESS_INTERFACE: i16 = 36;

const HELPER_LOAD_BYTES: i32 = 26; // bpf_skb_load_bytes, since 4.5; unlike direct access it reads paged data too
const HELPER_BOOT_TIME: i32 = 125; // bpf_ktime_get_boot_ns, since 5.8

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const TYPE_RARP: u16 = 0x8035;
const TYPE_IPV6: u16 = 0x86dd;
const TAG_TYPES: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const TAGS: usize = 2;
const EXTENSIONS: usize = 4;

const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const ICMPV6: u32 = 58;
const DESTINATION_OPTIONS: u32 = 60;
const NEIGHBOUR_SOLICITATION: u32 = 135;
const NEIGHBOUR_ADVERTISEMENT: u32 = 136;

// Stack: the Ethernet header is placed so that its fields are aligned, which the verifier demands.
const ETHERNET: i16 = -18;
const SCRATCH: i16 = -64;

// Kept over calls: the context, the offset of the network header, the offset of the slot's drop counter.
const CONTEXT: Register = R6;
const NETWORK: Register = R7;
const SLOT: Register = R8;

/// The program for one direction. `map` is the descriptor of the open map whose value it reads and counts in.
///
/// # Errors
/// Does not happen for lists within the limits.
///
/// # Panics
/// On more addresses or MACs than the limits: the caller checks.
pub fn build(direction: Direction, guarded: Guarded, map: i32) -> Result<Vec<u64>, Error> {
    assemble(direction, guarded, map, false)
}

/// The program for other interfaces, where frames leave that may have passed the egress program already, on the same map. It counts
/// what it drops; what passes is counted there.
///
/// # Errors
/// Does not happen for lists within the limits.
///
/// # Panics
/// As [`build`].
pub fn build_others(guarded: Guarded, map: i32) -> Result<Vec<u64>, Error> {
    assemble(Direction::Egress, guarded, map, true)
}

fn assemble(direction: Direction, guarded: Guarded, map: i32, others: bool) -> Result<Vec<u64>, Error> {
    assert!(guarded.addresses.len() <= layout::ADDRESSES && guarded.virtual_macs.len() <= layout::VIRTUAL_MACS);
    let mut a = Assembler::default();
    let labels = Labels { check: a.label(), next: a.label(), unreadable: a.label() };
    let parse = Parse { direction, guarded, labels };

    a.copy(CONTEXT, R1);
    if others {
        a.load(Width::Word, R2, CONTEXT, INGRESS_INTERFACE);
        a.jump_if(R2, Condition::NotEqual, 0, labels.next);
    }
    parse.ethernet(&mut a);

    a.bind(labels.unreadable);
    a.set(SLOT, slot_offset(SLOT_UNREADABLE));
    a.bind(labels.check);
    check(&mut a, direction, map, others);
    a.bind(labels.next);
    a.set(R0, NEXT);
    a.exit();
    a.finish()
}

/// Guarded frame, its slot in `SLOT`: compares the clock with the expiry, counts, ends.
fn check(a: &mut Assembler, direction: Direction, map: i32, others: bool) {
    let (open, done) = (a.label(), a.label());
    a.call(HELPER_BOOT_TIME);
    a.set_map_value(R9, map, 0);
    a.load(Width::Double, R1, R9, word_offset(layout::EXPIRY));
    a.jump_if_register(R0, Condition::Less, R1, open);
    a.set(R1, 1);
    a.add_register(R9, SLOT);
    a.atomic_add(R9, word_offset(direction.drops()), R1);
    a.set(R0, DROP);
    a.exit();

    a.bind(open);
    a.jump_if(SLOT, Condition::Equal, slot_offset(SLOT_PROBE), done);
    a.store(Width::Double, R9, word_offset(direction.last_pass()), R0);
    if !others {
        a.set(R1, 1);
        a.atomic_add(R9, word_offset(direction.passes()), R1);
    }
    a.bind(done);
    a.set(R0, NEXT);
    a.exit();
}

#[derive(Clone, Copy)]
struct Labels {
    check: Label,
    next: Label,
    unreadable: Label,
}

struct Parse<'a> {
    direction: Direction,
    guarded: Guarded<'a>,
    labels: Labels,
}

impl Parse<'_> {
    fn ethernet(&self, a: &mut Assembler) {
        a.set(NETWORK, 0);
        self.load_bytes(a, 0, ETHERNET, 14);
        self.virtual_macs(a);
        a.load(Width::Half, R2, R10, ETHERNET + 12);
        a.set(NETWORK, 14);

        let (ipv4, arp, ipv6) = (a.label(), a.label(), a.label());
        for depth in 0..=TAGS {
            for (kind, to) in [(TYPE_IPV4, ipv4), (TYPE_ARP, arp), (TYPE_IPV6, ipv6), (TYPE_RARP, arp)] {
                a.jump_if(R2, Condition::Equal, in_memory(kind), to);
            }
            let tagged = a.label();
            for kind in TAG_TYPES {
                a.jump_if(R2, Condition::Equal, in_memory(kind), tagged);
            }
            a.jump(self.labels.next);
            a.bind(tagged);
            if depth < TAGS {
                self.load_bytes(a, 0, SCRATCH, 4);
                a.load(Width::Half, R2, R10, SCRATCH + 2);
                a.add(NETWORK, 4);
            }
        }
        a.jump(self.labels.unreadable);

        a.bind(ipv4);
        self.ipv4(a);
        a.bind(arp);
        self.arp(a);
        a.bind(ipv6);
        self.ipv6(a);
    }

    fn virtual_macs(&self, a: &mut Assembler) {
        if self.guarded.virtual_macs.is_empty() {
            return;
        }
        a.set(SLOT, slot_offset(SLOT_VIRTUAL_MAC));
        // Both halves of each place are aligned: destination at -18 as 2 + 4 bytes, source at -12 as 4 + 2.
        let (half, word) = match self.direction {
            Direction::Egress => (4, 0),
            Direction::Ingress => (0, 2),
        };
        let place = ETHERNET + if self.direction == Direction::Egress { 6 } else { 0 };
        a.load(Width::Half, R2, R10, place + half);
        a.load(Width::Word, R3, R10, place + word);
        for mac in self.guarded.virtual_macs {
            let other = a.label();
            let (half, word) = (half as usize, word as usize);
            a.jump_if(R2, Condition::NotEqual, u16::from_ne_bytes([mac[half], mac[half + 1]]).into(), other);
            let word = u32::from_ne_bytes([mac[word], mac[word + 1], mac[word + 2], mac[word + 3]]);
            a.jump_if_word(R3, Condition::Equal, word, self.labels.check);
            a.bind(other);
        }
    }

    fn ipv4(&self, a: &mut Assembler) {
        let field = if self.direction == Direction::Egress { 12 } else { 16 };
        self.load_bytes(a, field, SCRATCH, 4);
        a.load(Width::Word, R2, R10, SCRATCH);
        self.match_ipv4(a);
        a.set(SLOT, slot_offset(SLOT_PROBE));
        a.jump_if_word(R2, Condition::Equal, u32::from_ne_bytes(PROBE_ADDRESS), self.labels.check);
        a.jump(self.labels.next);
    }

    fn arp(&self, a: &mut Assembler) {
        self.load_bytes(a, 14, SCRATCH, 4);
        if self.direction == Direction::Egress {
            a.load(Width::Word, R2, R10, SCRATCH);
        } else {
            self.load_bytes(a, 24, SCRATCH + 4, 4);
            a.load(Width::Word, R1, R10, SCRATCH);
            a.load(Width::Word, R2, R10, SCRATCH + 4);
            a.jump_if_register(R1, Condition::Equal, R2, self.labels.next);
        }
        self.match_ipv4(a);
        a.jump(self.labels.next);
    }

    fn ipv6(&self, a: &mut Assembler) {
        self.load_bytes(a, 0, SCRATCH, 40);
        let field = if self.direction == Direction::Egress { 8 } else { 24 };
        a.load(Width::Double, R3, R10, SCRATCH + field);
        a.load(Width::Double, R4, R10, SCRATCH + field + 8);
        self.match_ipv6(a);
        a.load(Width::Byte, R2, R10, SCRATCH + 6);
        a.add(NETWORK, 40);

        // Extension headers: RFC 8200 section 4. R2 is always the kind of the header at NETWORK.
        let icmp = a.label();
        for depth in 0..=EXTENSIONS {
            let (options, fragment, done) = (a.label(), a.label(), a.label());
            a.jump_if(R2, Condition::Equal, ICMPV6.cast_signed(), icmp);
            for kind in [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS] {
                a.jump_if(R2, Condition::Equal, kind.cast_signed(), options);
            }
            a.jump_if(R2, Condition::Equal, FRAGMENT.cast_signed(), fragment);
            a.jump(self.labels.next);
            if depth == EXTENSIONS {
                a.bind(options);
                a.bind(fragment);
                a.bind(done);
                a.jump(self.labels.unreadable);
                break;
            }
            a.bind(fragment);
            self.load_bytes(a, 0, SCRATCH, 4);
            // A later fragment has no header to read; Neighbour Discovery is never fragmented (RFC 6980).
            a.load(Width::Half, R2, R10, SCRATCH + 2);
            a.jump_if(R2, Condition::AnyBit, in_memory(0xfff8), self.labels.next);
            a.load(Width::Byte, R2, R10, SCRATCH);
            a.add(NETWORK, 8);
            a.jump(done);
            a.bind(options);
            self.load_bytes(a, 0, SCRATCH, 2);
            a.load(Width::Byte, R1, R10, SCRATCH + 1);
            a.load(Width::Byte, R2, R10, SCRATCH);
            a.shift_left(R1, 3);
            a.add(NETWORK, 8);
            a.add_register(NETWORK, R1);
            a.bind(done);
        }

        a.bind(icmp);
        self.load_bytes(a, 0, SCRATCH, 1);
        a.load(Width::Byte, R2, R10, SCRATCH);
        let kind = match self.direction {
            Direction::Egress => NEIGHBOUR_ADVERTISEMENT,
            Direction::Ingress => NEIGHBOUR_SOLICITATION,
        };
        a.jump_if(R2, Condition::NotEqual, kind.cast_signed(), self.labels.next);
        self.load_bytes(a, 8, SCRATCH, 16);
        a.load(Width::Double, R3, R10, SCRATCH);
        a.load(Width::Double, R4, R10, SCRATCH + 8);
        self.match_ipv6(a);
        a.jump(self.labels.next);
    }

    /// Leaves for `check` if R2 is one of the IPv4 addresses.
    fn match_ipv4(&self, a: &mut Assembler) {
        for (slot, address) in self.guarded.addresses.iter().enumerate() {
            if let IpAddr::V4(address) = address {
                a.set(SLOT, slot_offset(slot));
                a.jump_if_word(R2, Condition::Equal, u32::from_ne_bytes(address.octets()), self.labels.check);
            }
        }
    }

    /// Leaves for `check` if R3 and R4 are one of the IPv6 addresses. Uses R1.
    fn match_ipv6(&self, a: &mut Assembler) {
        for (slot, address) in self.guarded.addresses.iter().enumerate() {
            if let IpAddr::V6(address) = address {
                let bytes = address.octets();
                let half = |at: usize| u64::from_ne_bytes(core::array::from_fn(|i| bytes[at + i]));
                let other = a.label();
                a.set(SLOT, slot_offset(slot));
                a.set_double(R1, half(0));
                a.jump_if_register(R3, Condition::NotEqual, R1, other);
                a.set_double(R1, half(8));
                a.jump_if_register(R4, Condition::Equal, R1, self.labels.check);
                a.bind(other);
            }
        }
    }

    /// `count` bytes of the frame from `NETWORK + offset` to the stack at `to`; leaves for `unreadable` if they are not
    /// there. R0 to R5 are lost.
    fn load_bytes(&self, a: &mut Assembler, offset: i32, to: i16, count: i32) {
        a.copy(R1, CONTEXT);
        a.copy(R2, NETWORK);
        if offset != 0 {
            a.add(R2, offset);
        }
        a.copy(R3, R10);
        a.add(R3, to.into());
        a.set(R4, count);
        a.call(HELPER_LOAD_BYTES);
        a.jump_if(R0, Condition::NotEqual, 0, self.labels.unreadable);
    }
}

/// A 16-bit field in network order as a load sees it.
fn in_memory(value: u16) -> i32 {
    u16::from_ne_bytes(value.to_be_bytes()).into()
}

fn word_offset(word: usize) -> i16 {
    i16::try_from(word * 8).expect("the value is small")
}

fn slot_offset(slot: usize) -> i32 {
    i32::try_from(slot * 8).expect("there are few slots")
}

/// A frame that the program of `direction` treats as guarded and that nothing else on earth does: the gate's probe.
#[must_use]
pub fn probe_frame(direction: Direction) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[12..14].copy_from_slice(&TYPE_IPV4.to_be_bytes());
    frame[14] = 0x45; // version 4, header of 5 words
    frame[17] = 46; // total length
    let at = if direction == Direction::Egress { 26 } else { 30 };
    frame[at..at + 4].copy_from_slice(&PROBE_ADDRESS);
    frame
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// Older kernels refuse programs of more than 4,096 instructions to all but the privileged.
    #[test]
    fn the_fullest_gate_is_small_enough() {
        let addresses: Vec<IpAddr> =
            (0..16).map(|i| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, i))).collect();
        let virtual_macs: Vec<[u8; 6]> = (0..16).map(|i| [2, 0, 0, 0, 0, i]).collect();
        for direction in Direction::ALL {
            let guarded = Guarded { addresses: &addresses, virtual_macs: &virtual_macs };
            let code = build(direction, guarded, 3).unwrap();
            assert!(code.len() < 600, "{} instructions", code.len());
        }
    }

    #[test]
    fn every_address_is_in_the_program() {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        let guarded = Guarded { addresses: &[address], virtual_macs: &[] };
        let without = build(Direction::Egress, Guarded { addresses: &[], virtual_macs: &[] }, 3).unwrap();
        let with = build(Direction::Egress, guarded, 3).unwrap();
        // Once as an IPv4 source and once as an ARP sender: a slot and a comparison each.
        assert_eq!(with.len(), without.len() + 4);
    }

    #[test]
    fn the_probe_carries_its_address_where_the_direction_looks() {
        assert_eq!(probe_frame(Direction::Egress)[26..30], PROBE_ADDRESS);
        assert_eq!(probe_frame(Direction::Ingress)[30..34], PROBE_ADDRESS);
    }
}
