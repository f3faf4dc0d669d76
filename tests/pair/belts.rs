//! The belts of a running pair in the hands of others: programs on the gate's hook, its map, senders that pass it by.

use twobox::console::status::{BoundBy, Gate, Role};
use twobox::fence::gate::assembler::{Assembler, Register};
use twobox::fence::gate::bpf;
use twobox::fence::gate::layout::Direction;
use twobox::time::Duration;
use twobox::wire::arp;

use crate::fencing::steal_gate;
use crate::map::overwrite;
use crate::rig::wire::send_raw;
use crate::rig::{Rig, SERVICE, other, wait};
use crate::{DEFAULT, LEASE};

fn programs(rig: &Rig, node: &str, direction: Direction) -> Vec<u32> {
    rig.inside(node, || bpf::attached(nix::net::if_::if_nametoindex("lan").unwrap(), direction).unwrap())
}

fn repairs(rig: &Rig, node: &str) -> u32 {
    rig.status(node).map_or(0, |s| s.fence.gate_repairs)
}

/// Once is put back and costs nothing; a second time soon after ends the trust in it, and with it the right that rests on its
/// bound: the peer is whole and takes over.
#[test]
fn a_gate_that_is_taken_away_is_put_back_and_a_second_time_it_counts_no_more() {
    let mut rig = Rig::new("gate", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let before = rig.status(active).unwrap();
    assert_eq!(before.fence.bound_by, BoundBy::Gate);
    steal_gate(&rig, active);
    wait("the gate is put back", || repairs(&rig, active) == 1);
    let status = rig.status(active).unwrap();
    assert_eq!((status.role, status.term, status.fence.bound_by), (Role::Active, before.term, BoundBy::Gate));
    assert!(!programs(&rig, active, Direction::Egress).is_empty());
    wait("that is told", || rig.alarmed(active, "gate-touched"));
    assert!(rig.log(active).contains("Missing"), "what was found is in the log: {}", rig.log(active));
    assert_eq!(rig.capture.owners(), [active]);

    steal_gate(&rig, active);
    wait("the bound falls back", || rig.status(active).is_some_and(|s| s.fence.bound_by != BoundBy::Gate));
    let status = rig.status(active).unwrap();
    assert!(status.fence.bound_ms > before.fence.bound_ms);
    assert_eq!(status.fence.egress_gate, Gate::Absent);
    wait("that is told too", || rig.alarmed(active, "gate-lost"));
    rig.client.await_answer_from(standby);
    wait("left alone, it counts again", || rig.status(active).is_some_and(|s| s.fence.bound_by == BoundBy::Gate));
    wait("and the alarm is over", || !rig.alarmed(active, "gate-lost"));
    assert_eq!(rig.capture.owners(), [active, standby]);
}

#[test]
fn a_foreign_program_before_the_gate_is_noticed_and_put_behind_it() {
    let mut rig = Rig::new("hook", DEFAULT);
    let active = rig.start_both();
    // It lets everything by: behind it there is no gate.
    let foreign = {
        let mut code = Assembler::default();
        code.set(Register::R0, 0);
        code.exit();
        bpf::Program::load("foreign", &code.finish().unwrap()).unwrap()
    };
    rig.inside(active, || {
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        bpf::attach_first(index, Direction::Egress, &foreign).unwrap();
    });
    wait("the gate is first again", || repairs(&rig, active) == 1);
    let order = programs(&rig, active, Direction::Egress);
    assert_eq!((order.len(), order[1]), (2, foreign.id()));
    assert!(rig.log(active).contains("Preceded"), "{}", rig.log(active));
    assert_eq!(rig.role(active), Some(Role::Active));
}

#[test]
fn an_open_time_that_another_writes_into_the_map_is_noticed_and_taken_back() {
    let mut rig = Rig::new("map", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let map = bpf::Program::open(programs(&rig, standby, Direction::Egress)[0]).unwrap().describe().unwrap().maps[0];
    overwrite(map, u64::MAX);
    wait("the gate is closed again", || repairs(&rig, standby) == 1);
    assert_eq!(rig.status(standby).unwrap().fence.egress_gate, Gate::Closed);
    assert!(rig.log(standby).contains("Expiry"), "{}", rig.log(standby));
    // On the active box the next renewal does it, and nothing else happens.
    let map = bpf::Program::open(programs(&rig, active, Direction::Egress)[0]).unwrap().describe().unwrap().maps[0];
    overwrite(map, u64::MAX);
    std::thread::sleep(LEASE * 4);
    assert_eq!(rig.role(active), Some(Role::Active));
    assert_eq!(rig.capture.owners(), [active]);
}

/// Whether the kernel has what the second belt needs; says that the test is skipped where it has not.
fn has_raw_belt(rig: &Rig, node: &str) -> bool {
    let has = rig.status(node).unwrap().fence.raw_belt;
    if !has {
        println!("skipped: this kernel has no nf_tables egress hook: {}", rig.log(node));
    }
    has
}

/// Claims the service address by a packet socket that passes the gate by.
fn claim_raw(rig: &Rig, node: &str, interface: &str) {
    let frame = arp::announcement([2, 0, 0, 0, 0, 0x77], SERVICE.parse().unwrap());
    for _ in 0..5 {
        send_raw(&rig.name, node, interface, &frame, true);
    }
    std::thread::sleep(Duration::from_millis(100));
}

/// A program on the standby that claims the service address by a packet socket that passes the gate by.
#[test]
fn a_raw_sender_that_passes_the_gate_by_meets_the_second_belt() {
    let mut rig = Rig::new("raw", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    if !has_raw_belt(&rig, standby) {
        return;
    }
    let claim = |rig: &Rig| claim_raw(rig, standby, "lan");
    claim(&rig);
    assert_eq!(rig.capture.owners(), [active]);
    // Our own announcements carry a mark, or the takeover would not be heard of.
    rig.order(active, &twobox::console::control::Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(standby);
    let announced = |f: &crate::rig::wire::Frame| f.from == standby && f.claim == crate::rig::wire::Claim::Announcement;
    assert!(rig.capture.frames().iter().any(announced));
    rig.await_touch();
    rig.order(standby, &twobox::console::control::Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(active);
    rig.await_touch();

    rig.run_in(standby, "nft delete table netdev twobox_gate");
    wait("the belt is put back", || rig.log(standby).contains("raw senders was gone: it was put back"));
    claim(&rig);
    assert_eq!(rig.capture.owners(), [active, standby, active]);
    // The frame is what it seems: after the daemon has left in order it passes.
    rig.signal(standby, nix::sys::signal::Signal::SIGTERM);
    rig.end_of(standby);
    assert!(!rig.run_in(standby, "nft list tables").contains("twobox"));
    assert!(Direction::ALL.iter().all(|direction| programs(&rig, standby, *direction).is_empty()));
    let before = rig.capture.owners().len();
    claim(&rig);
    // Whoever serves may have spoken since.
    assert_eq!(rig.capture.owners().get(before), Some(&standby));
}

/// The belt is on interfaces by their names. One that gets another name keeps it, and one that takes the former name gets none; the
/// belt that somebody takes away comes back on the interface on which it was.
#[test]
fn the_second_belt_follows_an_interface_to_another_name() {
    let mut rig = Rig::new("rawname", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    if !has_raw_belt(&rig, standby) {
        return;
    }
    let claim = |rig: &Rig| claim_raw(rig, standby, "lan0");
    let devices = |rig: &Rig| rig.run_in(standby, "nft list table netdev twobox_gate");
    let other_card = "link add lan type veth peer name lan1";
    for step in ["link set lan down", "link set lan name lan0", "link set lan0 up", other_card, "link set lan up"] {
        rig.ip(standby, step);
    }
    wait("it is on the renamed one", || devices(&rig).contains("\"lan0\"") || devices(&rig).contains(" lan0 "));
    claim(&rig);
    assert_eq!(rig.capture.owners(), [active]);
    rig.run_in(standby, "nft delete table netdev twobox_gate");
    let tables = |rig: &Rig| rig.run_in(standby, "nft list tables");
    wait("it is put back", || tables(&rig).contains("twobox_gate"));
    claim(&rig);
    assert_eq!(rig.capture.owners(), [active]);
    assert!(rig.status(standby).unwrap().fence.raw_belt);
}

/// The LAN of both boxes is a bridge `br0`, and the card `lan` is its port.
fn put_on_bridges(rig: &Rig) {
    for (node, number) in [("a", "2"), ("b", "3")] {
        rig.ip(node, "link add br0 type bridge");
        rig.ip(node, "addr flush dev lan");
        rig.ip(node, "link set lan master br0");
        rig.ip(node, "link set br0 up");
        rig.ip(node, &format!("addr add 10.77.0.{number}/24 dev br0"));
        let board = rig.path(node, "board.toml");
        let text = std::fs::read_to_string(&board).unwrap();
        std::fs::write(&board, text.replace("name = \"lan\"", "name = \"br0\"")).unwrap();
    }
}

/// The address is on a bridge. A program with a packet socket on its port meets the gate, too, and on a card that is put in later.
#[test]
fn a_raw_sender_on_a_port_of_a_bridge_meets_the_gate() {
    let mut rig = Rig::new("port", DEFAULT);
    put_on_bridges(&rig);
    let active = rig.start_both();
    let standby = other(active);
    let frame = arp::announcement([2, 0, 0, 0, 0, 0x77], SERVICE.parse().unwrap());
    let claim = |rig: &Rig| {
        for _ in 0..5 {
            send_raw(&rig.name, standby, "lan", &frame, false);
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    claim(&rig);
    assert_eq!(rig.capture.owners(), [active]);
    steal_gate(&rig, standby);
    wait("it is put back", || repairs(&rig, standby) == 1);
    claim(&rig);
    assert_eq!(rig.capture.owners(), [active]);
    rig.ip(standby, "link add later type veth peer name elsewhere");
    let guarded = |rig: &Rig, card: &str| {
        rig.inside(standby, || {
            let index = nix::net::if_::if_nametoindex(card).unwrap();
            Direction::ALL.iter().any(|direction| !bpf::attached(index, *direction).unwrap().is_empty())
        })
    };
    wait("it is guarded", || guarded(&rig, "later"));
    let fence = rig.status(standby).unwrap().fence;
    assert_eq!((fence.bound_by, fence.gate_repairs), (BoundBy::Gate, 1));
    // The frame is what it seems: after the daemon has left in order it passes.
    rig.signal(standby, nix::sys::signal::Signal::SIGTERM);
    rig.end_of(standby);
    for card in ["br0", "lan", "later"] {
        assert!(!guarded(&rig, card), "the gate stays on {card}");
    }
    let before = rig.capture.owners().len();
    claim(&rig);
    // Whoever serves may have spoken since.
    assert_eq!(rig.capture.owners().get(before), Some(&standby));
}

/// The gate is on a bridge, and what has passed it waits in the queue of the card below: that is reckoned with, made short, and
/// put back in the end.
#[test]
fn a_queue_below_the_interface_of_the_gate_counts() {
    let mut rig = Rig::new("below", DEFAULT);
    put_on_bridges(&rig);
    rig.run_in("a", "tc qdisc add dev lan root pfifo limit 1000");
    let queue = |rig: &Rig| rig.run_in("a", "tc qdisc show dev lan root");
    rig.start_both();
    let bound = |node: &str| rig.status(node).map(|s| (s.fence.bound_by, s.fence.bound_ms)).unwrap();
    assert_eq!(bound("b"), (BoundBy::Gate, Some(1)), "its card has no queue");
    // At the 10 Gbit/s that a pair of veth tells.
    assert_eq!(bound("a"), (BoundBy::Gate, Some(3)));
    assert!(queue(&rig).contains("bfifo"), "{}", queue(&rig));
    // One that comes later is seen, too, and one that nobody can reckon with.
    rig.run_in("b", "tc qdisc add dev lan root pfifo limit 1000");
    wait("the other one has seen it", || bound("b") == (BoundBy::Gate, Some(55)));
    // One that holds packets for longer than the other box ever waits.
    rig.run_in("b", "tc qdisc replace dev lan root pfifo limit 200000");
    wait("nobody can be told how long", || bound("b") == (BoundBy::None, None));
    rig.run_in("b", "tc qdisc replace dev lan root tbf rate 1gbit burst 100kb latency 1s");
    wait("nobody knows", || bound("b").0 == BoundBy::AddressLease);
    rig.signal("a", nix::sys::signal::Signal::SIGTERM);
    rig.end_of("a");
    assert!(!queue(&rig).contains("bfifo"), "{}", queue(&rig));
}

/// The gate is on a tunnel: by which card its frames leave, and what waits there, nobody sees.
#[test]
fn a_gate_on_a_tunnel_bounds_nothing() {
    let mut rig = Rig::new("tunnel", DEFAULT);
    rig.run_in("a", "tc qdisc add dev lan root pfifo limit 1000");
    rig.ip("a", "link add tunnel type vxlan id 7 group 239.7.7.7 dstport 4789 dev lan");
    rig.ip("a", "addr flush dev lan");
    rig.ip("a", "addr add 10.77.9.2/24 dev lan");
    rig.ip("a", "link set tunnel up");
    rig.ip("a", "addr add 10.77.0.2/24 dev tunnel");
    let board = rig.path("a", "board.toml");
    let text = std::fs::read_to_string(&board).unwrap();
    std::fs::write(&board, text.replace("name = \"lan\"", "name = \"tunnel\"")).unwrap();
    rig.launch("a");
    wait("it tells its bound", || rig.status("a").is_some());
    let fence = rig.status("a").unwrap().fence;
    assert_eq!((fence.egress_gate, fence.bound_by), (Gate::Closed, BoundBy::AddressLease));
}

/// As on a kernel without BPF: the next belt is the lifetime of the addresses, and whoever takes over waits for that one.
#[test]
fn a_box_without_a_gate_says_so_and_is_waited_for_by_its_own_bound() {
    let mut rig = Rig::new("nobpf", DEFAULT);
    rig.started_by = ["setpriv", "--bounding-set", "-bpf,-sys_admin,-perfmon"].map(str::to_owned).to_vec();
    let active = rig.start_both();
    let standby = other(active);
    for node in ["a", "b"] {
        let fence = rig.status(node).unwrap().fence;
        assert_eq!((fence.egress_gate, fence.bound_by, fence.fenced), (Gate::Absent, BoundBy::AddressLease, false));
        wait("it is told", || rig.alarmed(node, "unfenced"));
        assert!(rig.log(node).contains("no egress gate"), "{}", rig.log(node));
    }
    let bound = crate::fence_bound(&rig, active);
    let off = rig.power_off(active);
    rig.client.await_answer_from(standby);
    let took = rig.client.longest_outage(off);
    assert!(took >= bound, "{took:?} is less than the bound of {bound:?}: the former holder could still have served");
    assert_eq!(rig.capture.owners(), [active, standby]);
}
