//! The /init of the guest of `tests/bond.rs`: the egress gate on a bond, line by line. Nothing is judged here.

#![allow(clippy::disallowed_methods)] // a test program: it sleeps

#[allow(dead_code)] // the test of the gate uses the rest
#[path = "../gate/frames.rs"]
mod frames;
#[allow(dead_code)] // the test of the gate uses the rest
#[path = "../gate/lab.rs"]
mod lab;

use std::ffi::CString;
use std::fs::{self, File};
use std::thread::sleep;
use std::time::Duration;

use frames::{arp, ipv4};
use lab::{FAR, SERVICE, SERVICE6, Wire, arrives};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use twobox::clock;
use twobox::fence::beneath;
use twobox::fence::gate::layout::Direction;
use twobox::fence::gate::{Gate, Settings};
use twobox::netlink::{InterfaceBody, Request, Socket};
use twobox::takeover::address::{self, ServiceAddress};
use twobox::takeover::interface;
use twobox::time::Instant;

/// In the order in which one needs the other; as the test outside has them.
const MODULES: [&str; 10] = ["tls", "bonding", "veth", "llc", "stp", "garp", "mrp", "8021q", "sch_ingress", "cls_bpf"];
/// Modes of a bond (linux/if_bonding.h).
const ACTIVE_BACKUP: u8 = 1;
const BALANCE_ALB: u8 = 6;
/// IFLA_BOND_MODE, IFLA_BOND_MIIMON, VETH_INFO_PEER, IFLA_VLAN_ID (linux/if_link.h, linux/veth.h).
const BOND_MODE: u16 = 1;
const BOND_MIIMON: u16 = 3;
const VETH_PEER: u16 = 1;
const VLAN_ID: u16 = 1;
/// The kernel sees that often whether a port of a bond has a link.
const LOOK: Duration = Duration::from_millis(20);

fn main() {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(at).expect("the initramfs can be written");
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>).expect("the kernel has this file system");
    }
    for module in MODULES {
        let file = File::open(format!("/{module}.ko")).expect("the module is in the initramfs");
        let parameters = if module == "bonding" { c"max_bonds=0".to_owned() } else { CString::default() };
        finit_module(file, &parameters, ModuleInitFlags::empty()).expect("the module fits the kernel");
    }
    active_backup();
    balance_alb();
    println!("guest: done");
    loop {
        sleep(Duration::from_secs(1));
    }
}

fn soon() -> Instant {
    clock::now() + Duration::from_secs(600)
}

fn index(name: &str) -> u32 {
    if_nametoindex(name).expect("the interface is there")
}

/// Makes an interface of this kind, on `parent`; `data` is what this kind is told.
fn make(kind: &str, name: &str, parent: Option<&str>, data: &[(u16, Vec<u8>)]) {
    let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &InterfaceBody::default());
    request.text(libc::IFLA_IFNAME, name);
    if let Some(parent) = parent {
        request.attribute(libc::IFLA_LINK, &index(parent).to_ne_bytes());
    }
    let info = request.open(libc::IFLA_LINKINFO);
    request.text(libc::IFLA_INFO_KIND, kind);
    let nest = request.open(libc::IFLA_INFO_DATA);
    for (kind, value) in data {
        request.attribute(*kind, value);
    }
    request.close(nest).close(info);
    Socket::open().and_then(|mut socket| socket.change(&mut request)).expect("the kernel makes it");
}

/// A cable.
fn veth(near: &str, far: &str) {
    // struct ifinfomsg, then the name.
    let mut peer = vec![0; 16];
    let name = [far.as_bytes(), &[0]].concat();
    peer.extend(u16::try_from(4 + name.len()).expect("a short name").to_ne_bytes());
    peer.extend(libc::IFLA_IFNAME.to_ne_bytes());
    peer.extend(&name);
    peer.resize(peer.len().next_multiple_of(4), 0);
    make("veth", near, None, &[(VETH_PEER, peer)]);
    set_up(far, true);
}

fn set_up(name: &str, up: bool) {
    let index = index(name);
    Socket::open().and_then(|mut socket| interface::set_up(&mut socket, index, up)).expect("it goes up and down");
}

fn enslave(port: &str, bond: &str) {
    let body = InterfaceBody { index: index(port).cast_signed(), ..InterfaceBody::default() };
    let mut request = Request::new(libc::RTM_SETLINK, 0, &body);
    request.attribute(libc::IFLA_MASTER, &index(bond).to_ne_bytes());
    Socket::open().and_then(|mut socket| socket.change(&mut request)).expect("the bond takes it");
}

fn bond(name: &str, mode: u8, ports: &[&str]) {
    let every = u32::try_from(LOOK.as_millis()).expect("it is short").to_ne_bytes().to_vec();
    make("bond", name, None, &[(BOND_MODE, vec![mode]), (BOND_MIIMON, every)]);
    for port in ports {
        enslave(port, name);
    }
    set_up(name, true);
}

/// The port that an active-backup bond uses, once it is one of these.
fn await_port(bond: &str, ports: &[&str]) -> String {
    loop {
        let path = format!("/sys/class/net/{bond}/bonding/active_slave");
        let port = fs::read_to_string(path).expect("the bond tells").trim().to_owned();
        if ports.contains(&port.as_str()) {
            return port;
        }
        sleep(LOOK);
    }
}

fn install(on: &[&str]) -> Gate {
    let interfaces = on.iter().map(|name| index(name)).collect();
    let addresses = vec![SERVICE.parse().expect("an address"), SERVICE6.parse().expect("an address")];
    Gate::install(Settings { interfaces, addresses, virtual_macs: Vec::new(), hook: None }).expect("a gate")
}

fn guard(gate: &Gate, bond: &str) {
    let others = beneath::others(&mut Socket::open().expect("a socket"), &[index(bond)]).expect("a dump");
    let told = gate.guard_others(&others);
    if !told.touched.is_empty() || !told.unguarded.is_empty() {
        println!("guest: {told:?}");
    }
}

/// What arrives with the gate closed and open.
fn tell(what: &str, gate: &Gate, near: &str, far: &str) {
    let (near, far) = (Wire::sender(near), Wire::open(far));
    let claims = [ipv4(SERVICE, FAR), arp(1, SERVICE, SERVICE)];
    let arrive = |open: bool| {
        gate.open_until(if open { soon() } else { Instant::BOOT });
        claims.iter().map(|claim| arrives(&near, &far, claim)).collect::<Vec<_>>()
    };
    println!("guest: {what}: closed {:?}, open {:?}", arrive(false), arrive(true));
}

fn active_backup() {
    for (port, far) in [("p0", "q0"), ("p1", "q1"), ("p2", "q2")] {
        veth(port, far);
    }
    bond("bond0", ACTIVE_BACKUP, &["p0", "p1"]);
    make("vlan", "bond0.5", Some("bond0"), &[(VLAN_ID, 5u16.to_ne_bytes().to_vec())]);
    set_up("bond0.5", true);
    await_port("bond0", &["p0"]);
    let gate = install(&["bond0"]);
    gate.arm();
    println!("guest: hook {:?}", gate.hook());
    tell("on the bond", &gate, "bond0", "q0");
    tell("on its port, before", &gate, "p0", "q0");
    guard(&gate, "bond0");
    tell("on the port in use", &gate, "p0", "q0");
    tell("on the other port", &gate, "p1", "q1");
    tell("on a VLAN", &gate, "bond0.5", "q0");
    let before = gate.counters(Direction::Egress);
    tell("once more on the bond", &gate, "bond0", "q0");
    let after = gate.counters(Direction::Egress);
    println!("guest: counted {} {}", after.passes - before.passes, after.drops[0] - before.drops[0]);
    set_up("q0", false);
    await_port("bond0", &["p1"]);
    tell("after its port failed", &gate, "bond0", "q1");
    enslave("p2", "bond0");
    guard(&gate, "bond0");
    set_up("q1", false);
    await_port("bond0", &["p2"]);
    tell("by a port that joined", &gate, "bond0", "q2");
    tell("on the port that joined", &gate, "p2", "q2");
    let faults = gate.verify();
    gate.remove().expect("it goes");

    // The address on the VLAN: the gate is there, and below it are the bond and its ports.
    let gate = install(&["bond0.5"]);
    gate.arm();
    guard(&gate, "bond0.5");
    tell("address on the VLAN", &gate, "bond0.5", "q2");
    tell("on the port below it", &gate, "p2", "q2");
    println!("guest: faults {faults:?}");
    gate.remove().expect("it goes");
}

/// A bond of this mode tells its clients by itself, from its ports, by which of them each has to send: in the name of whatever
/// address they have asked for, as long as it lives.
fn balance_alb() {
    for (port, far) in [("r0", "s0"), ("r1", "s1")] {
        veth(port, far);
    }
    bond("bond1", BALANCE_ALB, &["r0", "r1"]);
    let service = ServiceAddress { ip: SERVICE.parse().expect("an address"), prefix: 24 };
    Socket::open().and_then(|mut s| address::keep(&mut s, index("bond1"), service)).expect("it has the address");
    let ends = ["s0", "s1"].map(Wire::open);
    let gate = install(&["bond1"]);
    let claims = || {
        let is_claim =
            |frame: &lab::Captured| frame.bytes[12..14] == [8, 6] && frame.bytes.get(28..32) == Some(&[10, 77, 0, 100]);
        // The first word of a socket whose interface was down is that it was.
        (0..2).flat_map(|_| ends.iter().flat_map(Wire::drain)).filter(is_claim).count()
    };
    for guarded in [false, true] {
        if guarded {
            guard(&gate, "bond1");
        }
        gate.arm();
        gate.open_until(soon());
        claims();
        // Until the client has had its answer.
        loop {
            ends.iter().for_each(|end| end.send(&arp(1, FAR, SERVICE)));
            sleep(LOOK * 10);
            if claims() > 0 {
                break;
            }
        }
        gate.close();
        sleep(LOOK * 50);
        claims();
        for far in ["s0", "s1"] {
            set_up(far, false);
            sleep(LOOK * 50);
            set_up(far, true);
            sleep(LOOK * 50);
        }
        println!("guest: balance-alb, guarded {guarded}: claims {}", claims() > 0);
    }
}
