//! The gate on other interfaces than the one with the address: on what is below it (here a bridge; `tests/bond.rs` has a bond), and on
//! another card.

use nix::net::if_::if_nametoindex;
use twobox::fence::beneath;
use twobox::netlink::Socket;

use super::*;

/// Ports of the bridge `br0` in the box, with a cable each to the far end.
const PORTS: [(&str, &str); 2] = [("p0", "q0"), ("p1", "q1")];

fn cable(lab: &Lab, near: &str, far: &str) {
    run(&format!("ip link add {near} type veth peer name {far} netns {}", lab.far));
    run(&format!("ip -n {} link set {far} up", lab.far));
    run(&format!("ip link set {near} up"));
}

fn bridge(lab: &Lab) -> u32 {
    run("ip link add br0 type bridge");
    for (near, far) in PORTS {
        cable(lab, near, far);
        run(&format!("ip link set {near} master br0"));
    }
    run("ip link set br0 up");
    if_nametoindex("br0").unwrap()
}

fn others(top: u32) -> Vec<u32> {
    beneath::others(&mut Socket::open().unwrap(), &[top]).unwrap()
}

/// Nothing was amiss with the other interfaces, and all are guarded.
fn guard(gate: &Gate, top: u32) {
    let told = gate.guard_others(&others(top));
    assert!(told.touched.is_empty() && told.unguarded.is_empty(), "{told:?}");
}

#[test]
fn what_begins_below_meets_the_gate_and_what_is_carried_on_does_not() {
    for hook in HOOKS {
        let lab = Lab::new();
        let bridge = bridge(&lab);
        let [port, above] = ["p0", "br0"].map(|name| lab.wire(&lab.box_, name));
        let [far, other] = ["q0", "q1"].map(|name| lab.wire(&lab.far, name));
        let gate = Gate::install(Settings { interfaces: vec![bridge], ..settings(&lab, hook) }).unwrap();
        assert!(arrives(&port, &far, &ipv4(SERVICE, FAR)), "{hook:?}: the gate above does not see it");
        guard(&gate, bridge);
        gate.arm();
        for (name, frame, guarded) in outgoing() {
            for open in [false, true] {
                gate.open_until(if open { soon() } else { Instant::BOOT });
                assert_eq!(arrives(&port, &far, &frame), open || !guarded, "{hook:?}, open {open}: {name}");
            }
        }
        gate.open_until(Instant::BOOT);
        for (name, frame) in [("ARP", arp(1, SERVICE, SERVICE)), ("IPv4", ipv4(SERVICE, FAR))] {
            far.drain();
            other.send(&frame); // the bridge may cut off the padding
            assert!(speaks_as(SERVICE, &far.settle()), "{hook:?}: what another sends is carried on: {name}");
        }

        // What passes both is counted once.
        let counted = || {
            let counters = gate.counters(Direction::Egress);
            (counters.passes, counters.drops[0])
        };
        for open in [false, true] {
            gate.open_until(if open { soon() } else { Instant::BOOT });
            let before = counted();
            assert_eq!(arrives(&above, &far, &ipv4(SERVICE, FAR)), open, "{hook:?}");
            let after = counted();
            let one = (u64::from(open), u64::from(!open));
            assert_eq!((after.0 - before.0, after.1 - before.1), one, "{hook:?}, open {open}");
        }

        gate.open_until(Instant::BOOT);
        cable(&lab, "p2", "q2");
        run("ip link set p2 master br0");
        let (joining, joined) = (lab.wire(&lab.box_, "p2"), lab.wire(&lab.far, "q2"));
        assert!(arrives(&joining, &joined, &ipv4(SERVICE, FAR)), "{hook:?}: it has just joined");
        assert!(!arrives(&above, &joined, &ipv4(SERVICE, FAR)), "{hook:?}: what comes from above is judged there");
        guard(&gate, bridge);
        assert!(!arrives(&joining, &joined, &ipv4(SERVICE, FAR)), "{hook:?}");
        // To containers of this box, say: no more a way out.
        run("ip link add br9 type bridge");
        run("ip link set p2 master br9");
        guard(&gate, bridge);
        assert!(arrives(&joining, &joined, &ipv4(SERVICE, FAR)), "{hook:?}: no more");
        run("ip link del p1");
        guard(&gate, bridge);
        assert_eq!(gate.verify(), [], "{hook:?}");
        assert!(!arrives(&port, &far, &ipv4(SERVICE, FAR)), "{hook:?}");

        gate.remove().unwrap();
        assert!(arrives(&port, &far, &ipv4(SERVICE, FAR)), "{hook:?}: removed");
    }
}

/// A box with a second card, and a client behind it: that is where the kernel sends the answers of a program that is bound to the
/// service address.
#[test]
fn what_a_route_leads_out_by_another_card_meets_the_gate() {
    for hook in HOOKS {
        let lab = Lab::new();
        cable(&lab, "c0", "d0");
        run("ip address add 10.79.0.1/24 dev c0");
        run("ip neighbor replace 10.79.0.2 lladdr 02:00:00:00:00:0d dev c0 nud permanent");
        let far = lab.wire(&lab.far, "d0");
        let gate = Gate::install(settings(&lab, hook)).unwrap();
        let speaks = || {
            far.drain();
            send_udp(SERVICE, "10.79.0.2");
            speaks_as(SERVICE, &far.settle())
        };
        assert!(speaks(), "{hook:?}: the gate of the LAN does not see it");
        guard(&gate, lab.index);
        assert!(!speaks(), "{hook:?}");
        far.drain();
        send_udp("10.79.0.1", "10.79.0.2");
        assert!(speaks_as("10.79.0.1", &far.settle()), "{hook:?}: as itself it speaks");
        gate.arm();
        gate.open_until(soon());
        assert!(speaks(), "{hook:?}: under a right");
        gate.close();
        assert!(!speaks(), "{hook:?}: and no more");
    }
}

#[test]
fn what_is_done_to_the_gate_elsewhere_is_noticed_and_put_back() {
    for hook in HOOKS {
        let lab = Lab::new();
        let bridge = bridge(&lab);
        let (port, far) = (lab.wire(&lab.box_, "p0"), lab.wire(&lab.far, "q0"));
        let index = if_nametoindex("p0").unwrap();
        let settings = Settings { interfaces: vec![bridge], ..settings(&lab, hook) };
        let claim = ipv4(SERVICE, FAR);
        let programs = || bpf::attached(index, Direction::Egress).unwrap();
        let gate = Gate::install(settings.clone()).unwrap();
        guard(&gate, bridge);
        guard(&gate, bridge);
        match hook {
            Hook::Tcx => bpf::detach(index, Direction::Egress, &bpf::Program::open(programs()[0]).unwrap()).unwrap(),
            Hook::Classifier => drop(run("tc filter del dev p0 egress")),
        }
        assert!(arrives(&port, &far, &claim), "{hook:?}: the fault is real");
        let told = gate.guard_others(&others(bridge));
        assert_eq!((told.touched, told.unguarded.len()), (vec![index], 0), "{hook:?}");
        assert!(!arrives(&port, &far, &claim), "{hook:?}");
        guard(&gate, bridge);

        // Before a program of tcx only another one of tcx can be put.
        let let_by = {
            let mut a = Assembler::default();
            a.set(Register::R0, 0);
            a.exit();
            bpf::Program::load("foreign", &a.finish().unwrap()).unwrap()
        };
        bpf::attach_first(index, Direction::Egress, &let_by).unwrap();
        assert!(arrives(&port, &far, &claim), "{hook:?}: the fault is real");
        let told = gate.guard_others(&others(bridge));
        let unguarded: Vec<u32> = told.unguarded.iter().map(|(index, _)| *index).collect();
        assert_eq!(told.touched, [index], "{hook:?}");
        assert_eq!(unguarded, if hook == Hook::Tcx { vec![] } else { vec![index] }, "{hook:?}");
        assert_eq!(arrives(&port, &far, &claim), hook == Hook::Classifier, "{hook:?}");
        bpf::detach(index, Direction::Egress, &let_by).unwrap();
        guard(&gate, bridge);

        // Killed, it leaves what closes by the clock; the next one puts its own there, and takes the former ones off.
        drop(gate);
        assert!(!arrives(&port, &far, &claim), "{hook:?}");
        let gate = Gate::install(settings).unwrap();
        guard(&gate, bridge);
        assert_eq!(programs().len(), usize::from(hook == Hook::Tcx), "{hook:?}");
        assert!(!arrives(&port, &far, &claim), "{hook:?}");
        gate.arm();
        gate.open_until(soon());
        assert!(arrives(&port, &far, &claim), "{hook:?}");
    }
}
