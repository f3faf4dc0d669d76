//! What happens to cables, ports and interfaces, and what is at the other end of them.

use nix::sys::signal::Signal;
use twobox::console::control::Request;
use twobox::console::status::{BoundBy, HandoverKind, Role, Status};
use twobox::time::Duration;

use crate::card::Card;
use crate::rig::null_modem::{Line, Wiring};
use crate::rig::{Rig, index, must, other, plug_in, wait};
use crate::{CUT, DEFAULT, LEASE, WHOLE, WRONG_BAUD, has_service_address};

const HEARTBEATS: &str = "ether type 0x88b5";
/// The default profile, but a box is eligible again soon after its LAN was gone.
const SHORT_HOLD: &str = "profile = \"default\"\nhold-down = \"1s\"";

fn link(status: &Status, name: &str) -> (bool, String) {
    let link = status.links.iter().find(|link| link.name == name).unwrap();
    (link.up, link.finding.clone().unwrap_or_default())
}

/// Nothing of the active box's own frames arrives; through the witness it is heard.
#[test]
fn one_way_loss_on_every_cable_moves_nothing_while_reflection_carries() {
    let mut rig = Rig::new("oneway", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let before = rig.status(active).unwrap();
    rig.drop_frames("lan", "ingress", active, HEARTBEATS);
    rig.drop_frames(active, "egress", "cross", HEARTBEATS);
    rig.null_modem.wire(Wiring::Only(standby));
    wait("the standby hears by reflection alone", || {
        rig.status(standby).is_some_and(|s| s.links.iter().all(|link| link.up == link.name.starts_with("reflected")))
    });
    std::thread::sleep(LEASE * 6);
    let status = rig.status(active).unwrap();
    assert_eq!((status.role, status.term), (Role::Active, before.term));
    assert!(status.links.iter().all(|link| link.up), "the other way is whole: {:?}", status.links);
    assert_eq!(rig.capture.owners(), [active]);
}

/// Not one frame of the active box arrives anywhere, but it hears everything: it must stop, the other must serve.
#[test]
fn a_mute_box_that_hears_all_stops_before_the_other_serves() {
    let mut rig = Rig::new("mute", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    // Seen on the port before it is dropped: what it sends as holder is judged all the same.
    rig.drop_frames("lan", "ingress", active, "");
    rig.drop_frames(active, "egress", "cross", "");
    rig.null_modem.wire(Wiring::Only(standby));
    rig.client.await_answer_from(standby);
    assert_ne!(rig.role(active), Some(Role::Active));
    assert!(!has_service_address(&rig, active));
    assert_eq!(rig.capture.owners(), [active, standby]);
    rig.pass_frames("lan", "ingress", active);
    rig.pass_frames(active, "egress", "cross");
    rig.null_modem.wire(Wiring::Crossed);
    wait("it is a spare again", || rig.role(active) == Some(Role::Standby));
    rig.await_touch();
    assert_eq!(rig.capture.owners(), [active, standby]);
}

#[test]
fn a_null_modem_that_is_unplugged_and_put_back_is_used_again() {
    let mut rig = Rig::new("unplug", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let term = rig.status(active).unwrap().term;
    rig.null_modem.unplug(standby);
    let line = |node: &str| rig.status(node).map(|s| link(&s, "null-modem"));
    let gone = |node: &str| format!("its port is not there: {}", rig.path(node, "tty").display());
    wait("the port is missed", || line(standby).is_some_and(|(up, finding)| !up && finding == gone(standby)));
    wait("the other end is silent", || line(active).is_some_and(|(up, finding)| !up && finding == "silence"));
    rig.null_modem.plug(standby);
    wait("both ends hear again", || ["a", "b"].iter().all(|node| line(node) == Some((true, String::new()))));
    let status = rig.status(active).unwrap();
    assert_eq!((status.role, status.term), (Role::Active, term));
    // It carries again: what cuts the rest leaves it alone.
    rig.ip("a", "link set cross down");
    for node in ["a", "b"] {
        rig.drop_frames("lan", "ingress", node, HEARTBEATS);
    }
    wait("only the null modem and reflection are left", || {
        rig.status(active).is_some_and(|s| s.links.iter().all(|l| l.up == (l.name != "lan" && l.name != "crossover")))
    });
    std::thread::sleep(LEASE * 2);
    assert_eq!(rig.role(active), Some(Role::Active));
}

/// A box may be started before its USB adapter is there.
#[test]
fn a_null_modem_that_is_not_there_at_the_start_is_waited_for() {
    let mut rig = Rig::new("later", DEFAULT);
    rig.null_modem.unplug("b");
    rig.launch("a");
    rig.launch("b");
    let gone = format!("its port is not there: {}", rig.path("b", "tty").display());
    wait("b says what is missing", || rig.status("b").is_some_and(|s| link(&s, "null-modem").1 == gone));
    rig.null_modem.plug("b");
    rig.await_touch();
}

#[test]
fn what_is_at_the_other_end_of_the_line_is_named() {
    let mut rig = Rig::new("line", DEFAULT);
    let active = rig.start_both();
    let finding = || rig.status(active).map(|s| link(&s, "null-modem").1).unwrap_or_default();
    let cases: [(Line, Wiring, &str); 4] = [
        (CUT, Wiring::Crossed, "silence"),
        (WRONG_BAUD, Wiring::Crossed, "garbage (wrong baud rate)"),
        (WHOLE, Wiring::LoopPlug, "our own frames (loop plug or echo)"),
        (WHOLE, Wiring::Login, "a login prompt"),
    ];
    for (line, wiring, words) in cases {
        rig.null_modem.set(line);
        rig.null_modem.wire(wiring);
        wait(words, || finding() == words);
        if wiring == Wiring::LoopPlug {
            wait("an alarm", || rig.alarmed(active, "loop-plug"));
        }
        rig.null_modem.set(WHOLE);
        rig.null_modem.wire(Wiring::Crossed);
        wait("the line is well again", || finding().is_empty());
    }
    assert_eq!(rig.capture.owners(), [active]);
}

/// The LAN card is taken out and another one put in: address, gate, probes and pings go by the new one.
#[test]
fn an_interface_that_is_taken_out_and_put_in_again_is_used_again() {
    let mut rig = Rig::new("card", SHORT_HOLD);
    let active = rig.start_both();
    let standby = other(active);
    let name = rig.name.clone();
    rig.ip(standby, "link del lan");
    wait("it is missed", || {
        rig.status(standby).is_some_and(|s| link(&s, "lan") == (false, "the interface is gone".into()))
    });
    wait("nobody counts on that box", || rig.status(active).is_some_and(|s| !s.takeover.ready));
    plug_in(&name, standby);
    rig.await_touch();
    wait("its gate holds", || rig.status(standby).is_some_and(|s| s.fence.bound_by == BoundBy::Gate));
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(standby);
    assert!(has_service_address(&rig, standby));
    assert_eq!(rig.capture.owners(), [active, standby]);
    // The gate on the new one is real: with the daemon stopped nothing leaves after the right.
    rig.await_touch();
    let bound = crate::fence_bound(&rig, standby);
    let stopped = twobox::clock::now();
    rig.signal(standby, Signal::SIGSTOP);
    rig.client.await_answer_from(active);
    let last = rig.capture.frames().iter().rev().find(|f| f.from == standby).unwrap().at;
    assert!(last <= stopped + LEASE + bound + Duration::from_millis(100));
    rig.signal(standby, Signal::SIGCONT);
    assert_eq!(rig.capture.owners(), [active, standby, active]);
}

/// The index that it had is no sign that it is the one that was there.
#[test]
fn an_interface_that_comes_back_with_its_former_index_is_used_again() {
    let mut rig = Rig::new("same", SHORT_HOLD);
    let active = rig.start_both();
    let standby = other(active);
    let index = rig.ip(standby, "-o link show lan").split(':').next().unwrap().to_owned();
    let name = rig.name.clone();
    rig.ip(standby, "link del lan");
    must(&format!(
        "ip link add lan index {index} netns {name}-{standby} type veth peer name {standby} netns {name}-lan"
    ));
    rig.ip("lan", &format!("link set dev {standby} master bridge up"));
    let number = if standby == "a" { 2 } else { 3 };
    rig.ip(standby, &format!("addr add 10.77.0.{number}/24 dev lan"));
    rig.ip(standby, "link set lan up");
    assert!(rig.ip(standby, "-o link show lan").starts_with(&format!("{index}:")));
    let ignores = |rig: &Rig| rig.run_in(standby, "cat /proc/sys/net/ipv4/conf/lan/arp_ignore");
    wait("it is set up as the one before was", || ignores(&rig).trim() == "1");
    rig.await_touch();
    wait("its gate holds", || rig.status(standby).is_some_and(|s| s.fence.bound_by == BoundBy::Gate));
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(standby);
    assert_eq!(rig.capture.owners(), [active, standby]);
}

#[test]
fn an_interface_that_gets_another_name_is_the_same_one() {
    let mut rig = Rig::new("rename", SHORT_HOLD);
    let active = rig.start_both();
    let standby = other(active);
    for (from, to) in [("lan", "lan9"), ("lan9", "lan")] {
        for words in [format!("{from} down"), format!("{from} name {to}"), format!("{to} up")] {
            must(&format!("ip -n {}-{standby} link set {words}", rig.name));
        }
        rig.await_touch();
    }
    must(&format!("ip -n {}-{standby} link set lan down", rig.name));
    must(&format!("ip -n {}-{standby} link set lan name lan9", rig.name));
    must(&format!("ip -n {}-{standby} link set lan9 up", rig.name));
    rig.await_touch();
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(standby);
    assert_eq!(rig.status(standby).unwrap().fence.bound_by, BoundBy::Gate);
    assert_eq!(rig.capture.owners(), [active, standby]);
}

/// The speed of its line stays what it is, and so does the bound.
#[test]
fn a_renamed_interface_with_a_queue_keeps_its_bound() {
    let mut rig = Rig::new("speed", SHORT_HOLD);
    for node in ["a", "b"] {
        rig.run_in(node, "tc qdisc add dev lan root bfifo limit 20000000");
    }
    let active = rig.start_both();
    let fence = |node: &str| rig.status(node).map(|s| (s.fence.bound_by, s.fence.bound_ms)).unwrap();
    let before = fence(active);
    assert_eq!(before, (BoundBy::Gate, Some(19)), "20 MB and the ring at the 10 Gbit/s that a pair of veth tells");
    for node in ["a", "b"] {
        let words = |words: &str| must(&format!("ip -n {}-{node} link {words}", rig.name));
        words("set lan down");
        words("set lan name lan9");
        words("set lan9 up");
        // Another line takes the name.
        words("add lan type veth peer name nowhere");
    }
    rig.await_touch();
    std::thread::sleep(LEASE * 4);
    for node in ["a", "b"] {
        assert_eq!(fence(node), before, "{}", rig.log(node));
        assert!(!rig.log(node).contains("fence bound is now"), "{}", rig.log(node));
    }
}

/// What everybody tries first. A card tells no speed without a link, which is no reason to fence.
#[test]
fn a_box_whose_lan_cable_is_pulled_surrenders_in_order() {
    let mut rig = Rig::new("pulled", DEFAULT);
    let cards = ["a", "b"].map(|node| Card::put_in(&rig, node));
    let active = rig.start_both();
    let standby = other(active);
    let fence = |node: &str| rig.status(node).map(|s| (s.fence.bound_by, s.fence.bound_ms)).unwrap();
    let before = fence(active);
    assert_eq!(before.0, BoundBy::Gate, "{}", rig.log(active));
    cards[index(active)].pull(&rig);
    rig.client.await_answer_from(standby);
    wait("it was planned, as both tell", || {
        ["a", "b"].iter().all(|node| {
            let told = rig.status(node).and_then(|s| s.last_handover);
            told.is_some_and(|told| told.kind == HandoverKind::Switchover && told.to == standby)
        })
    });
    assert_eq!(fence(active), before, "a cable that is pulled is no longer bound");
    assert!(!rig.log(active).contains("fence bound is now"), "{}", rig.log(active));
    assert_eq!(rig.capture.owners(), [active, standby]);
}

/// A witness that answers a few pings a second is well in peace, and no help when it counts: that is told.
#[test]
fn a_witness_that_limits_its_answers_is_told() {
    let mut rig = Rig::new("limit", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    rig.run_in("witness", "nft add table ip stingy");
    rig.run_in("witness", "nft add chain ip stingy c { type filter hook input priority 0 ; }");
    // Four rounds a second of both boxes pass; forty of one do not.
    rig.run_in(
        "witness",
        "nft add rule ip stingy c icmp type echo-request limit rate over 20/second burst 5 packets drop",
    );
    std::thread::sleep(LEASE * 4);
    assert!(!rig.alarmed(standby, "witness-limits"), "in peace it keeps up");
    rig.kill(active);
    wait("the limit is told", || rig.alarmed(standby, "witness-limits"));
    assert!(rig.status(standby).unwrap().witnesses[0].limits);
    assert_eq!(rig.capture.owners(), [active], "no quorum, no takeover");
    rig.run_in("witness", "nft delete table ip stingy");
    rig.client.await_answer_from(standby);
    wait("the alarm is over", || !rig.alarmed(standby, "witness-limits"));
}

/// The sender was stopped for three intervals: nothing is lost, and the next heartbeat of every cable is late.
#[test]
fn a_heartbeat_that_comes_late_is_counted_as_late() {
    let mut rig = Rig::new("late", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    rig.await_touch();
    let counted = || rig.status(active).unwrap().links.iter().map(|link| link.late).collect::<Vec<_>>();
    let before = counted();
    rig.signal(standby, Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(200)); // less than the lease
    rig.signal(standby, Signal::SIGCONT);
    let direct = 3;
    wait("they are counted", || counted().iter().zip(&before).take(direct).all(|(now, before)| now > before));
    assert_eq!(rig.capture.owners(), [active]);
}
