//! The egress gate on a real kernel: two network namespaces, what leaves is seen at the other end of the cable.

#[path = "gate/frames.rs"]
mod frames;
#[path = "gate/lab.rs"]
mod lab;

use std::time::Duration;

use frames::*;
use lab::*;
use twobox::clock;
use twobox::fence::gate::layout::Direction;
use twobox::fence::gate::{Gate, Hook, Settings};
use twobox::time::Instant;

const HOOKS: [Hook; 2] = [Hook::Tcx, Hook::Classifier];

fn settings(lab: &Lab, hook: Hook) -> Settings {
    Settings {
        interfaces: vec![lab.index],
        addresses: vec![SERVICE.parse().unwrap(), SERVICE6.parse().unwrap()],
        virtual_macs: vec![VIRTUAL_MAC],
        hook: Some(hook),
    }
}

fn soon() -> Instant {
    clock::now() + Duration::from_secs(60)
}

/// Sends `frame` into the box's interface and tells whether it came out of the cable's other end.
fn arrives(near: &Wire, far: &Wire, frame: &[u8]) -> bool {
    const MARKER: u16 = 0x88b5; // local experimental
    far.drain();
    // The receiving kernel takes the first tag out of the frame.
    let untagged = [&frame[..12], frame.get(16..).unwrap_or(&[])].concat();
    let same = |captured: &Captured| captured.bytes == frame || captured.bytes == untagged;
    near.send(frame);
    near.send(&ethernet([0xff; 6], MAC, MARKER, &[]));
    let (mut found, mut marked) = (false, false);
    for _ in 0..200 {
        for captured in far.drain() {
            found |= same(&captured);
            marked |= captured.bytes[12..14] == MARKER.to_be_bytes();
        }
        if marked {
            break;
        }
        wait(Duration::from_millis(1));
    }
    assert!(marked, "the cable is dead");
    found || far.drain().iter().any(same)
}

fn options(length: u8) -> Vec<u8> {
    let mut header = vec![0; usize::from(length + 1) * 8];
    header[1] = length;
    header
}

/// Name, frame, and whether it speaks as a service address.
fn outgoing() -> Vec<(&'static str, Vec<u8>, bool)> {
    let advertisement = neighbour(136, SERVICE6);
    let chain = |before: &[(u8, Vec<u8>)]| ipv6_chain(OWN6, FAR6, before, 58, &advertisement);
    let mut from_virtual_mac = ipv4(OWN, FAR);
    from_virtual_mac[6..12].copy_from_slice(&VIRTUAL_MAC);
    let mut near_virtual_mac = from_virtual_mac.clone();
    near_virtual_mac[11] ^= 1;
    let mut first_fragment = options(0);
    first_fragment[3] = 1;
    let mut later_fragment = options(0);
    later_fragment[2] = 1;
    let mut cut_short = ethernet([0xff; 6], MAC, 0x0800, &[]);
    cut_short.truncate(24);
    let request = arp(1, SERVICE, SERVICE);
    vec![
        ("IPv4 source", ipv4(SERVICE, FAR), true),
        ("own IPv4 source", ipv4(OWN, FAR), false),
        ("IPv4 to the address", ipv4(OWN, SERVICE), false),
        ("ARP announcement", request.clone(), true),
        ("ARP reply", arp(2, SERVICE, FAR), true),
        ("ARP probe", arp(1, "0.0.0.0", SERVICE), false),
        ("own ARP request", arp(1, OWN, FAR), false),
        ("RARP sender", ethernet([0xff; 6], MAC, 0x8035, &arp_body(3, SERVICE, FAR)), true),
        ("IPv6 source", ipv6(SERVICE6, FAR6), true),
        ("own IPv6 source", ipv6(OWN6, FAR6), false),
        ("IPv6 source, half the same", ipv6("fd77::101", FAR6), false),
        ("advertisement", chain(&[]), true),
        ("advertisement of another", ipv6_chain(OWN6, FAR6, &[], 58, &neighbour(136, OWN6)), false),
        ("solicitation", ipv6_chain(OWN6, FAR6, &[], 58, &neighbour(135, SERVICE6)), false),
        ("behind hop-by-hop", chain(&[(0, options(0))]), true),
        ("behind long options", chain(&[(0, options(2)), (60, options(1))]), true),
        ("in a first fragment", chain(&[(44, first_fragment)]), true),
        ("in a later fragment", chain(&[(44, later_fragment)]), false),
        ("behind four headers", chain(&[(0, options(0)), (43, options(0)), (60, options(0)), (60, options(0))]), true),
        (
            "behind five headers",
            chain(&[(0, options(0)), (43, options(0)), (60, options(0)), (60, options(0)), (60, options(0))]),
            true,
        ),
        ("virtual MAC", from_virtual_mac, true),
        ("MAC beside it", near_virtual_mac, false),
        ("802.1Q, IPv4", tagged(&ipv4(SERVICE, FAR), 0x8100), true),
        ("802.1Q, own IPv4", tagged(&ipv4(OWN, FAR), 0x8100), false),
        ("802.1Q, ARP", tagged(&request, 0x8100), true),
        ("802.1Q, IPv6", tagged(&ipv6(SERVICE6, FAR6), 0x8100), true),
        ("802.1ad", tagged(&request, 0x88a8), true),
        ("QinQ, ARP", tagged(&tagged(&request, 0x8100), 0x88a8), true),
        ("QinQ, advertisement", tagged(&tagged(&chain(&[]), 0x8100), 0x8100), true),
        ("QinQ, own IPv4", tagged(&tagged(&ipv4(OWN, FAR), 0x8100), 0x88a8), false),
        ("three tags", tagged(&tagged(&tagged(&ipv4(OWN, FAR), 0x8100), 0x8100), 0x88a8), true),
        ("cut short", cut_short, true),
        ("neither IP nor ARP", ethernet([0xff; 6], MAC, 0x88cc, &[1; 60]), false),
    ]
}

#[test]
fn raw_frames_pass_only_while_open() {
    for hook in HOOKS {
        let lab = Lab::new();
        let (near, far) = (lab.wire(&lab.box_, "a0"), lab.wire(&lab.far, "b0"));
        let gate = Gate::install(settings(&lab, hook)).unwrap();
        assert_eq!(gate.hook(), hook);
        gate.arm();
        for (name, frame, guarded) in outgoing() {
            assert_eq!(arrives(&near, &far, &frame), !guarded, "{hook:?}, closed: {name}");
            assert!(gate.open_until(soon()));
            assert!(arrives(&near, &far, &frame), "{hook:?}, open: {name}");
            assert!(gate.open_until(clock::now()));
            assert_eq!(arrives(&near, &far, &frame), !guarded, "{hook:?}, run out: {name}");
        }
        let counters = gate.counters(Direction::Egress);
        let guarded = outgoing().iter().filter(|(_, _, guarded)| *guarded).count() as u64;
        let dropped = counters.drops.iter().sum::<u64>() + counters.drops_virtual_mac + counters.drops_unreadable;
        assert!(dropped >= 2 * guarded, "{counters:?}");
        assert_eq!(counters.drops_virtual_mac, 2);
        assert_eq!(counters.drops_unreadable, 2 * 3, "five headers, three tags, cut short: {counters:?}");
        assert!(counters.passes >= guarded && counters.last_pass > Instant::BOOT);
        assert_eq!(gate.verify().faults, []);
        gate.remove().unwrap();
        assert!(arrives(&near, &far, &ipv4(SERVICE, FAR)), "{hook:?}, removed");
    }
}
