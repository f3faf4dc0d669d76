//! The egress gate on a real kernel: two network namespaces, what leaves is seen at the other end of the cable.
#![allow(unsafe_code)] // fork has no safe form

#[path = "gate/cost.rs"]
mod cost;
#[path = "gate/frames.rs"]
mod frames;
#[path = "gate/lab.rs"]
mod lab;
#[path = "gate/map.rs"]
mod map;
#[path = "gate/others.rs"]
mod others;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use frames::*;
use lab::*;
use map::overwrite;
use twobox::clock;
use twobox::fence::gate::assembler::{Assembler, Register};
use twobox::fence::gate::layout::Direction;
use twobox::fence::gate::nft::{self, Belt};
use twobox::fence::gate::program::Guarded;
use twobox::fence::gate::{Fault, Gate, Hook, Settings, bpf};
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
        assert_eq!(gate.verify(), []);
        gate.remove().unwrap();
        assert!(arrives(&near, &far, &ipv4(SERVICE, FAR)), "{hook:?}, removed");
    }
}

fn contains(frame: &Captured, needle: &[u8]) -> bool {
    frame.bytes.windows(needle.len()).any(|window| window == needle)
}

fn speaks_as(address: &str, frames: &[Captured]) -> bool {
    let octets = match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    frames.iter().any(|frame| contains(frame, &octets))
}

fn send_udp(from: &str, to: &str) {
    let bind: SocketAddr = (from.parse::<IpAddr>().unwrap(), 0).into();
    let to: SocketAddr = (to.parse::<IpAddr>().unwrap(), 9).into();
    let _ = UdpSocket::bind(bind).unwrap().send_to(b"twobox", to);
}

/// A TCP connection attempt from `from`; only the first segment matters.
fn send_syn(from: &str, to: &str) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    bind(fd.as_raw_fd(), &format!("{from}:0").parse::<SockaddrIn>().unwrap()).unwrap();
    let _ = connect(fd.as_raw_fd(), &format!("{to}:9").parse::<SockaddrIn>().unwrap());
    wait(Duration::from_millis(5));
}

/// Its name, the address that it speaks as, the act.
type Act<'a> = (&'a str, &'a str, Box<dyn Fn() + 'a>);

/// What the kernel itself sends as holder of the address, each by an act of its own.
#[test]
fn the_kernels_own_frames_pass_only_while_open() {
    for hook in HOOKS {
        let lab = Lab::new();
        let far = lab.wire(&lab.far, "b0");
        let gate = Gate::install(settings(&lab, hook)).unwrap();
        // The inbound gate would keep the questions from the kernel, and with them its answers: take that one away.
        drop_ingress(&lab, hook);
        let asked = lab.wire(&lab.far, "b0");
        let strangers = Cell::new(50);
        let unknown = || format!("10.77.0.{}", strangers.replace(strangers.get() + 1));
        let to_box = |mut frame: Vec<u8>| {
            frame[..6].copy_from_slice(&NEAR_MAC);
            frame
        };
        let acts: Vec<Act> = vec![
            ("UDP", SERVICE, Box::new(|| send_udp(SERVICE, FAR))),
            ("UDP over IPv6", SERVICE6, Box::new(|| send_udp(SERVICE6, FAR6))),
            ("TCP", SERVICE, Box::new(|| send_syn(SERVICE, FAR))),
            ("ARP request", SERVICE, Box::new(|| send_udp(SERVICE, &unknown()))),
            ("ARP reply", SERVICE, Box::new(|| asked.send(&arp(1, FAR, SERVICE)))),
            ("ICMP answer", SERVICE, Box::new(|| asked.send(&to_box(echo_request(FAR, SERVICE))))),
            ("advertisement", SERVICE6, Box::new(|| asked.send(&to_box(solicitation(FAR6, SERVICE6))))),
            ("lying protocol", SERVICE, Box::new(|| Wire::send_datagram("a0", 0x0800, &packet4(SERVICE, FAR)))),
        ];
        for (name, address, act) in &acts {
            for open in [false, true] {
                gate.arm();
                gate.open_until(if open { soon() } else { Instant::BOOT });
                far.drain();
                act();
                let seen: Vec<Captured> = far.settle();
                assert_eq!(speaks_as(address, &seen), open, "{hook:?}, open {open}: {name}");
            }
        }
    }
}

fn drop_ingress(lab: &Lab, hook: Hook) {
    match hook {
        Hook::Tcx => {
            let id = bpf::attached(lab.index, Direction::Ingress).unwrap()[0];
            bpf::detach(lab.index, Direction::Ingress, &bpf::Program::open(id).unwrap()).unwrap();
        }
        Hook::Classifier => drop(run("tc filter del dev a0 ingress")),
    }
}

#[test]
fn forwarded_frames_and_children_of_macvlan_meet_the_gate() {
    for hook in HOOKS {
        let lab = Lab::new();
        let far = lab.wire(&lab.far, "b0");
        run("ip link add link a0 name child type macvlan mode bridge");
        run("ip link set child address 02:00:5e:77:00:01");
        run("ip link set child up");
        run("ip link add inner type veth peer name outer");
        run("ip link set inner address 02:00:00:00:00:0c up");
        run("ip link set outer up");
        run("ip address add 10.78.0.1/24 dev inner");
        for line in ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.inner.rp_filter=0"] {
            run(&format!("sysctl -qw {line}"));
        }
        // Not the box's own any more, or the kernel would refuse to forward from it.
        run(&format!("ip address del {SERVICE}/24 dev a0"));
        let (outer, child) = (lab.wire(&lab.box_, "outer"), lab.wire(&lab.box_, "child"));
        let gate = Gate::install(settings(&lab, hook)).unwrap();
        gate.arm();
        for open in [false, true] {
            gate.open_until(if open { soon() } else { Instant::BOOT });
            far.drain();
            let mut frame = ipv4(SERVICE, FAR);
            frame[..6].copy_from_slice(&INNER_MAC);
            outer.send(&frame);
            assert_eq!(speaks_as(SERVICE, &far.settle()), open, "{hook:?}, forwarded");
            assert_eq!(arrives(&child, &far, &arp(1, SERVICE, SERVICE)), open, "{hook:?}, child");
            let mut frame = ipv4(OWN, FAR);
            frame[6..12].copy_from_slice(&VIRTUAL_MAC);
            assert_eq!(arrives(&child, &far, &frame), open, "{hook:?}, child's virtual MAC");
        }
    }
}

/// Inbound: the kernel must not see what asks a service address, a packet socket must.
#[test]
fn questions_to_a_service_address_are_dropped_when_closed() {
    for hook in HOOKS {
        let lab = Lab::new();
        let (near, far) = (lab.wire(&lab.box_, "a0"), lab.wire(&lab.far, "b0"));
        let gate = Gate::install(settings(&lab, hook)).unwrap();
        gate.arm();
        let dropped = || gate.counters(Direction::Ingress).drops.iter().sum::<u64>();
        let mut to_virtual_mac = ipv4(FAR, OWN);
        to_virtual_mac[..6].copy_from_slice(&VIRTUAL_MAC);
        for (name, frame, guarded) in [
            ("IPv4", ipv4(FAR, SERVICE), true),
            ("own IPv4", ipv4(FAR, OWN), false),
            ("IPv6", ipv6(FAR6, SERVICE6), true),
            ("own IPv6", ipv6(FAR6, OWN6), false),
            ("ARP request", arp(1, FAR, SERVICE), true),
            ("owner's announcement", arp(1, SERVICE, SERVICE), false),
            ("ARP answer to a probe", arp(2, SERVICE, "0.0.0.0"), false),
            ("solicitation", solicitation(FAR6, SERVICE6), true),
            ("owner's advertisement", ipv6_chain(FAR6, OWN6, &[], 58, &neighbour(136, SERVICE6)), false),
            ("tagged", tagged(&tagged(&ipv4(FAR, SERVICE), 0x8100), 0x88a8), true),
        ] {
            for open in [false, true] {
                gate.open_until(if open { soon() } else { Instant::BOOT });
                let before = dropped();
                assert!(arrives(&far, &near, &frame), "{hook:?}: a packet socket hears before the gate: {name}");
                assert_eq!(dropped() - before, u64::from(guarded && !open), "{hook:?}, open {open}: {name}");
            }
        }
        gate.open_until(Instant::BOOT);
        far.send(&to_virtual_mac);
        wait(Duration::from_millis(10));
        assert_eq!(gate.counters(Direction::Ingress).drops_virtual_mac, 1);

        // And the kernel answers or not accordingly.
        for open in [false, true] {
            gate.open_until(if open { soon() } else { Instant::BOOT });
            far.drain();
            far.send(&arp(1, FAR, SERVICE));
            assert_eq!(speaks_as(SERVICE, &far.settle()), open, "{hook:?}");
        }
    }
}

#[test]
fn the_belt_catches_senders_that_bypass_the_gate() {
    let lab = Lab::new();
    let far = lab.wire(&lab.far, "b0");
    let settings = settings(&lab, Hook::Tcx);
    let gate = Gate::install(settings.clone()).unwrap();
    let bypass = lab.wire(&lab.box_, "a0").bypass();
    assert!(arrives(&bypass, &far, &ipv4(SERVICE, FAR)), "the gate alone does not see it");

    let guarded = Guarded { addresses: &settings.addresses, virtual_macs: &settings.virtual_macs };
    let belt = match Belt::install(&["a0"], guarded) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)) => {
            println!("skipped: this kernel has no nf_tables egress hook: {e}");
            return;
        }
        other => other.unwrap(),
    };
    assert!(belt.verify(&["a0"]).unwrap());
    // The belt reads neither extension headers, third tags, RARP nor cut frames.
    let beyond = ["RARP", "behind", "fragment", "three", "cut"];
    let mut dropped = 0;
    for (name, frame, guarded) in outgoing() {
        let caught = guarded && !beyond.iter().any(|word| name.contains(word));
        assert_eq!(arrives(&bypass, &far, &frame), !caught, "{name}");
        dropped += u64::from(caught);
    }
    assert_eq!(belt.drops().unwrap(), dropped);

    // Our own announcements carry the mark and go through the gate; everything of the kernel's does too.
    gate.arm();
    let announcer = lab.wire(&lab.box_, "a0").mark(nft::MARK);
    for open in [false, true] {
        gate.open_until(if open { soon() } else { Instant::BOOT });
        assert_eq!(arrives(&announcer, &far, &arp(1, SERVICE, SERVICE)), open);
        send_udp(SERVICE, FAR);
        assert_eq!(speaks_as(SERVICE, &far.settle()), open, "UDP");
        send_udp(SERVICE6, FAR6);
        assert_eq!(speaks_as(SERVICE6, &far.settle()), open, "UDP over IPv6");
        far.send(&arp(1, FAR, SERVICE));
        assert_eq!(speaks_as(SERVICE, &far.settle()), open, "the kernel's ARP reply");
    }

    // A second instance replaces the first, and a hand that takes it away is noticed.
    let belt = Belt::install(&["a0"], guarded).unwrap();
    assert!(belt.verify(&["a0"]).unwrap());
    assert!(!belt.verify(&["a0", "a1"]).unwrap(), "the interface has another name by now");
    run("nft delete table netdev twobox_gate");
    assert!(!belt.verify(&["a0"]).unwrap());
    assert!(belt.remove().is_err());
    Belt::install(&["a0"], guarded).unwrap().remove().unwrap();
    assert!(arrives(&bypass, &far, &ipv4(SERVICE, FAR)), "removed");
}

#[test]
fn what_is_done_to_the_gate_is_noticed_and_repaired() {
    let lab = Lab::new();
    let (near, far) = (lab.wire(&lab.box_, "a0"), lab.wire(&lab.far, "b0"));
    let interface = lab.index;
    for hook in HOOKS {
        let gate = Gate::install(settings(&lab, hook)).unwrap();

        drop_ingress(&lab, hook);
        assert_eq!(gate.verify(), [Fault::Missing { interface, direction: Direction::Ingress }], "{hook:?}");
        gate.repair(&[interface]).unwrap();
        assert_eq!(gate.verify(), []);

        // A foreign program that runs first, on either way, and lets everything by.
        let let_by = {
            let mut a = Assembler::default();
            a.set(Register::R0, 0);
            a.exit();
            bpf::Program::load("foreign", &a.finish().unwrap()).unwrap()
        };
        bpf::attach_first(lab.index, Direction::Egress, &let_by).unwrap();
        let preceded = Fault::Preceded { interface, direction: Direction::Egress, by: Some(let_by.id()) };
        assert_eq!(gate.verify(), [preceded], "{hook:?}");
        if hook == Hook::Tcx {
            assert!(arrives(&near, &far, &ipv4(SERVICE, FAR)), "the fault is real");
            gate.repair(&[interface]).unwrap();
            assert_eq!(gate.verify(), []);
            assert!(!arrives(&near, &far, &ipv4(SERVICE, FAR)));
        }
        bpf::detach(lab.index, Direction::Egress, &let_by).unwrap();
        assert_eq!(gate.verify(), []);

        // Another hand writes a later time: the map is the kernel's, and can be reached by its number.
        overwrite(gate.map_id(), u64::MAX);
        assert!(matches!(gate.verify()[..], [Fault::Expiry { written: 0, found: u64::MAX }]), "{hook:?}");
        gate.repair(&[interface]).unwrap();
        assert_eq!((gate.verify(), gate.expiry()), (vec![], Instant::BOOT), "{hook:?}");
        overwrite(gate.map_id(), u64::MAX);
        gate.close();
        assert_eq!(gate.verify(), []);

        if hook == Hook::Classifier {
            run("tc qdisc del dev a0 clsact");
            assert_eq!(gate.verify().len(), 2);
            gate.repair(&[interface]).unwrap();
            assert_eq!(gate.verify(), []);
        }
        gate.remove().unwrap();
    }
    let gate = Gate::install(settings(&lab, Hook::Tcx)).unwrap();
    run("ip link del a0");
    assert_eq!(gate.verify().len(), 2, "the interface is gone");
    // Another one comes in its place: closed from the moment of the repair.
    run(&format!("ip link add a0 type veth peer name b1 netns {}", lab.far));
    run("ip link set a0 up");
    run(&format!("ip -n {} link set b1 up", lab.far));
    let index = nix::net::if_::if_nametoindex("a0").unwrap();
    gate.repair(&[index]).unwrap();
    assert_eq!(gate.verify(), []);
    let (near, far) = (lab.wire(&lab.box_, "a0"), lab.wire(&lab.far, "b1"));
    assert!(!arrives(&near, &far, &ipv4(SERVICE, FAR)));
    gate.remove().unwrap();
    assert!(arrives(&near, &far, &ipv4(SERVICE, FAR)));
}

#[test]
fn a_closed_gate_opens_only_when_armed() {
    let lab = Lab::new();
    let gate = Gate::install(settings(&lab, Hook::Tcx)).unwrap();
    assert!(!gate.open_until(soon()));
    assert_eq!(gate.expiry(), Instant::BOOT);
    gate.arm();
    assert_eq!(gate.expiry(), Instant::BOOT);
    assert!(gate.open_until(soon()));
    assert!(gate.expiry() > clock::now());
    assert_eq!(gate.verify(), [], "the probe passes an open gate");
    assert_eq!(gate.counters(Direction::Egress).passes, 0, "and is not counted");
    gate.close();
    assert!(!gate.open_until(soon()), "a renewal after the fence");
    assert_eq!(gate.expiry(), Instant::BOOT);
    let many = (0..17).map(|i| Ipv4Addr::new(10, 0, 0, i).into()).collect();
    let error = Gate::install(Settings { addresses: many, ..settings(&lab, Hook::Tcx) }).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

/// A process of its own, killed when this is dropped.
struct Process(Pid);

impl Process {
    fn start(work: impl FnOnce()) -> Process {
        // SAFETY: the child runs `work` and ends; it takes no lock that another thread of this process may have held, but
        // the allocator's, which the C library renews in the child.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Process(child),
            ForkResult::Child => {
                work();
                // SAFETY: ends the process at once, without the parent's clean-up.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Sends from the service address as fast as it can.
fn flood() {
    let socket = UdpSocket::bind((SERVICE, 0)).unwrap();
    loop {
        let _ = socket.send_to(b"twobox", (FAR, 9));
    }
}

/// A daemon that holds its right for ever: renews for `RIGHT` every quarter of it.
const RIGHT: Duration = Duration::from_millis(8);

fn renew(gate: &Gate) -> ! {
    gate.arm();
    loop {
        gate.open_until(clock::now() + RIGHT);
        wait(RIGHT / 4);
    }
}

/// Received frames that speak as the service address: how many, and when the last one was.
fn last_seen(far: &Wire) -> (usize, u64) {
    let frames = far.drain();
    let claims: Vec<u64> =
        frames.iter().filter(|f| f.bytes.get(26..30) == Some(&[10, 77, 0, 100])).map(|f| f.at).collect();
    (claims.len(), claims.into_iter().max().unwrap_or(0))
}

fn trials() -> usize {
    if std::env::var_os("TWOBOX_FULL").is_some() { 3000 } else { 150 }
}

/// The daemon is stopped at any moment, while another program floods: nothing may be received later than the expiry that
/// stood in the map by then, and a millisecond.
#[test]
fn a_stopped_daemon_lets_nothing_out_after_its_right() {
    for hook in HOOKS {
        let lab = Lab::new();
        let far = lab.wire(&lab.far, "b0");
        let gate = Gate::install(settings(&lab, hook)).unwrap();
        let _flood = Process::start(flood);
        let daemon = Process::start(|| renew(&gate));
        let (mut worst, mut frames, mut done) = (i64::MIN, 0, 0);
        // A trial in which the flood was not scheduled shows nothing and does not count.
        for trial in 0..trials() * 4 {
            wait(RIGHT + Duration::from_micros(trial as u64 * 37 % 2000));
            kill(daemon.0, Signal::SIGSTOP).unwrap();
            waitpid(daemon.0, Some(WaitPidFlag::WUNTRACED)).unwrap();
            let expiry = gate.expiry();
            wait(expiry.until(clock::now()) + Duration::from_millis(3));
            let (count, last) = last_seen(&far);
            wait(Duration::from_millis(2));
            assert_eq!(last_seen(&far).0, 0, "{hook:?}: frames long after the expiry");
            assert!(gate.counters(Direction::Egress).last_pass < expiry, "{hook:?}: by the gate's own clock");
            if count > 0 {
                let late = last.cast_signed() - expiry.as_nanos().cast_signed();
                assert!(late < 1_000_000, "{hook:?}: a frame {late} ns after the expiry");
                (worst, frames, done) = (worst.max(late), frames + count, done + 1);
            }
            if done == trials() {
                break;
            }
            kill(daemon.0, Signal::SIGCONT).unwrap();
        }
        assert_eq!(done, trials(), "{hook:?}: too many trials without traffic");
        println!("{hook:?}: {done} trials, {frames} frames, the latest {worst} ns after the expiry");
    }
}

/// The process that installed the gate is killed: it closes by the clock, and the next instance takes over from it.
#[test]
fn a_killed_daemon_leaves_a_gate_that_closes() {
    for hook in HOOKS {
        let lab = Lab::new();
        let far = lab.wire(&lab.far, "b0");
        let _flood = Process::start(flood);
        let daemon = Process::start(|| renew(&Gate::install(settings(&lab, hook)).unwrap()));
        wait(Duration::from_millis(300));
        far.drain();
        wait(Duration::from_millis(20));
        assert!(last_seen(&far).0 > 0, "{hook:?}: it serves");
        drop(daemon); // SIGKILL
        let killed = clock::now();
        wait(RIGHT + Duration::from_millis(3));
        let (_, last) = last_seen(&far);
        assert!(last < (killed + RIGHT + Duration::from_millis(1)).as_nanos(), "{hook:?}");
        wait(Duration::from_millis(20));
        assert_eq!(last_seen(&far).0, 0, "{hook:?}: closed without anybody");

        // Again and again a new instance takes the place of one that may be open or closed: never an open moment.
        for round in 0..20 {
            let next = Gate::install(settings(&lab, hook)).unwrap();
            wait(Duration::from_millis(1));
            if round > 0 {
                assert_eq!(last_seen(&far).0, 0, "{hook:?}: an open moment in a replacement");
            }
            let places = bpf::attached(lab.index, Direction::Egress).unwrap().len();
            assert_eq!(places, usize::from(hook == Hook::Tcx), "{hook:?}: nothing of the former instances is left");
            drop(next);
        }
    }
}

/// A gate that moves from one way of the kernel to the other takes the old one with it.
#[test]
fn an_instance_replaces_one_on_the_other_hook() {
    let lab = Lab::new();
    let (near, far) = (lab.wire(&lab.box_, "a0"), lab.wire(&lab.far, "b0"));
    for hook in [Hook::Classifier, Hook::Tcx, Hook::Classifier] {
        let gate = Gate::install(settings(&lab, hook)).unwrap();
        assert_eq!(gate.verify(), []);
        gate.arm();
        gate.open_until(soon());
        assert!(arrives(&near, &far, &ipv4(SERVICE, FAR)), "{hook:?}: an old closed gate is in the way");
    }
}
