//! What the gate costs: nanoseconds that a raw frame needs through a veth, with and without it. `cargo test --test gate cost -- --nocapture`
//! prints it; TWOBOX_FULL=1 takes more turns.
//!
//! All cases take turns, so that a busy machine disturbs them alike; the best and the median turn are printed. Frames go through a
//! packet socket, one system call each, and nobody listens at the other end.
#![allow(clippy::disallowed_methods)] // it measures time

use std::net::IpAddr;
use std::time::Instant;

use super::frames::{self, ethernet, ipv4, ipv6};
use super::lab::{FAR, FAR6, Lab, OWN, OWN6, Wire};
use twobox::fence::gate::layout::Direction;
use twobox::fence::gate::nft::Belt;
use twobox::fence::gate::program::Guarded;
use twobox::fence::gate::{Gate, Hook, Settings, bpf};
use twobox::time::Duration;

const FRAMES: u32 = 60_000;

fn turns() -> usize {
    if std::env::var_os("TWOBOX_FULL").is_some() { 15 } else { 1 }
}

/// One way to set up the box and one frame to send.
struct Case {
    name: &'static str,
    hook: Option<Hook>,
    addresses: usize,
    belt: bool,
    frame: Vec<u8>,
    turns: Vec<f64>,
}

fn addresses(count: usize) -> Vec<IpAddr> {
    (0..count)
        .map(|i| if i % 2 == 0 { format!("10.77.0.{}", 100 + i) } else { format!("fd77::{i}:100") })
        .map(|a| a.parse().unwrap())
        .collect()
}

fn turn(near: &Wire, frame: &[u8]) -> f64 {
    let start = Instant::now();
    for _ in 0..FRAMES {
        near.send(frame);
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(FRAMES)
}

/// The bound is generous: what it holds is that nobody makes the programs walk through something long.
#[test]
fn the_cost_of_a_guarded_frame_is_small() {
    let lab = Lab::new();
    let near = Wire::sender("a0");
    let last4 = ipv4("10.77.0.114", FAR);
    let last6 = ipv6("fd77::15:100", FAR6);
    let case = |name, hook, addresses, belt, frame: &[u8]| Case {
        name,
        hook,
        addresses,
        belt,
        frame: frame.to_vec(),
        turns: Vec::new(),
    };
    let other = ethernet([0xff; 6], frames::MAC, 0x88b5, &[]);
    let (tcx, filter) = (Some(Hook::Tcx), Some(Hook::Classifier));
    let mut cases = [
        case("no gate, IPv4", None, 0, false, &ipv4(OWN, FAR)),
        case("no gate, IPv6", None, 0, false, &last6),
        case("tcx, own IPv4, 1 address", tcx, 1, false, &ipv4(OWN, FAR)),
        case("tcx, own IPv4, 16 addresses", tcx, 16, false, &ipv4(OWN, FAR)),
        case("tcx, guarded IPv4, 1 address", tcx, 1, false, &ipv4("10.77.0.100", FAR)),
        case("tcx, guarded IPv4, the last of 16", tcx, 16, false, &last4),
        case("tcx, guarded IPv6, the last of 16", tcx, 16, false, &last6),
        case("cls_bpf, own IPv4, 1 address", filter, 1, false, &ipv4(OWN, FAR)),
        case("cls_bpf, guarded IPv4, 1 address", filter, 1, false, &ipv4("10.77.0.100", FAR)),
        case("belt alone, 16 addresses, own raw IPv4", None, 16, true, &ipv4(OWN, FAR)),
    ];
    for _ in 0..turns() {
        for case in &mut cases {
            let guarded = addresses(case.addresses);
            let settings = Settings {
                interfaces: vec![lab.index],
                addresses: guarded.clone(),
                virtual_macs: Vec::new(),
                hook: case.hook,
            };
            let gate = case.hook.map(|_| Gate::install(settings).unwrap());
            let belt =
                case.belt.then(|| Belt::install(&["a0"], Guarded { addresses: &guarded, virtual_macs: &[] }).unwrap());
            if let Some(gate) = &gate {
                gate.arm();
                gate.open_until(twobox::clock::now() + Duration::from_secs(3600));
            }
            case.turns.push(turn(&near, &case.frame));
            gate.as_ref().map(Gate::remove).transpose().unwrap();
            belt.map(Belt::remove).transpose().unwrap();
        }
    }
    println!("{:42} {:>8} {:>8} {:>10}", "on the wire", "best ns", "median", "frames/s");
    for case in &mut cases {
        case.turns.sort_by(f64::total_cmp);
        let (best, median) = (case.turns[0], case.turns[case.turns.len() / 2]);
        println!("{:42} {best:8.0} {median:8.0} {:10.0}", case.name, 1e9 / best);
    }
    let gate = Gate::install(Settings { interfaces: vec![lab.index], addresses: addresses(16), ..Settings::default() })
        .unwrap();
    gate.arm();
    let id = bpf::attached(lab.index, Direction::Egress).unwrap()[0];
    let program = bpf::Program::open(id).unwrap();
    gate.open_until(twobox::clock::now() + Duration::from_secs(3600));
    println!("{:42} {:>8}", "the program alone, 16 addresses", "best ns");
    for (name, frame) in [
        ("neither IP nor ARP", &other),
        ("own IPv4", &ipv4(OWN, FAR)),
        ("own IPv6", &ipv6(OWN6, FAR6)),
        ("guarded IPv4, the first", &ipv4("10.77.0.100", FAR)),
        ("guarded IPv4, the last", &last4),
        ("guarded IPv6, the last", &last6),
    ] {
        let best = (0..200).map(|_| program.test(frame, 5000).unwrap().1).min().unwrap();
        println!("{name:42} {best:8}");
        assert!(best < 5000, "{name}: {best} ns");
    }
    let time = |count: u32, mut work: Box<dyn FnMut() + '_>| {
        let start = Instant::now();
        (0..count).for_each(|_| work());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
    };
    let renewal = time(1_000_000, Box::new(|| assert!(gate.open_until(twobox::time::Instant::from_nanos(1)))));
    let verify = time(200, Box::new(|| assert!(gate.verify().is_empty())));
    println!("renewal {renewal:.0} ns, verify() of one interface {:.0} us", verify / 1000.0);
}
