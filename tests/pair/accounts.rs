//! Hand-overs as both boxes tell them: one account, whoever took the service over and whoever gave it up.

use twobox::console::control::{Reply, Request};
use twobox::console::status::{Handover, HandoverKind, Handovers, RightKind, Role};
use twobox::time::Duration;

use crate::rig::{Rig, other, wait};
use crate::{CUT, DEFAULT, LEASE, WHOLE};

/// What the two boxes may tell differently: how long ago it was, and why, seen from their side.
fn outage(handover: &Handover) -> (HandoverKind, u64, u64, u64, u64, String) {
    let Handover { kind, detect_ms, fence_wait_ms, total_ms, term, to, .. } = handover.clone();
    (kind, detect_ms, fence_wait_ms, total_ms, term, to)
}

fn newest_in_history(rig: &Rig, node: &str) -> Option<Handover> {
    let replies = rig.ask(node, &Request::History { count: 100 });
    let mut handovers = replies.into_iter().filter_map(|reply| match reply {
        Reply::Event(event) => event.handover,
        _ => None,
    });
    handovers.next_back()
}

/// Both boxes tell the same of the last hand-over, in `status` and in `history`.
fn agreed(rig: &Rig, kind: HandoverKind, to: &str) -> Handover {
    wait(&format!("both tell of the {} to {to}", kind.word()), || {
        ["a", "b"].iter().all(|node| {
            let told = [rig.status(node).and_then(|s| s.last_handover), newest_in_history(rig, node)];
            told.iter().all(|told| told.as_ref().is_some_and(|told| told.kind == kind && told.to == to))
        })
    });
    let of_taker = rig.status(to).unwrap().last_handover.unwrap();
    let of_giver = rig.status(other(to)).unwrap().last_handover.unwrap();
    assert_eq!(outage(&of_giver), outage(&of_taker));
    for node in ["a", "b"] {
        assert_eq!(outage(&newest_in_history(rig, node).unwrap()), outage(&of_taker), "history of {node}");
    }
    of_taker
}

#[test]
fn giver_and_taker_tell_the_same_outage_of_every_hand_over() {
    let mut rig = Rig::new("account", DEFAULT);
    let first = rig.start_both();
    let second = other(first);
    // Planned: from the first word of the surrender on.
    rig.order(first, &Request::Switchover { lose_changes: false }).unwrap();
    let told = agreed(&rig, HandoverKind::Switchover, second);
    let steps: Vec<&str> = told.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps[..4], ["surrender", "detect", "wait", "claim"], "{told:?}");
    assert!(told.steps[0].us > 0 && (told.detect_ms, told.fence_wait_ms) == (0, 0), "{told:?}");
    // Killed: whoever is started again learns what happened meanwhile.
    rig.await_touch();
    rig.kill(second);
    rig.client.await_answer_from(first);
    rig.launch(second);
    let told = agreed(&rig, HandoverKind::Failover, first);
    assert!(Duration::from_millis(told.total_ms) >= LEASE, "{told:?}");
    // Cut off for a while: it has fenced itself, and hears of the rest when the cables are back. Not its own guess, which
    // would end only then.
    rig.await_touch();
    rig.null_modem.set(CUT);
    rig.ip(first, "link set cross down");
    rig.ip("lan", &format!("link set dev {first} down"));
    rig.client.await_answer_from(second);
    let short = rig.status(second).unwrap().last_handover.unwrap();
    std::thread::sleep(LEASE * 4);
    rig.null_modem.set(WHOLE);
    rig.ip(first, "link set cross up");
    rig.ip("lan", &format!("link set dev {first} up"));
    let told = agreed(&rig, HandoverKind::Failover, second);
    assert_eq!(outage(&told), outage(&short));
    let reason = rig.status(first).unwrap().last_handover.unwrap().reason;
    assert_eq!(reason, "the right is over", "why it gave the service up is known to itself");
}

/// Nobody else had it meanwhile: for the clients it was away all the same.
#[test]
fn a_box_that_takes_the_service_again_itself_tells_and_counts_that_outage() {
    let mut rig = Rig::new("itself", DEFAULT);
    let alone = rig.start_both();
    rig.kill(other(alone));
    wait("it serves by the quorum", || rig.status(alone).is_some_and(|s| s.right.kind == RightKind::Quorum));
    assert_eq!(rig.status(alone).unwrap().handovers, Handovers::default());
    rig.ip("witness", "link set lan down");
    wait("it has given up", || rig.role(alone).is_some_and(|role| role != Role::Active));
    std::thread::sleep(LEASE);
    rig.ip("witness", "link set lan up");
    wait("it serves again", || rig.role(alone) == Some(Role::Active));
    wait("it is counted", || rig.status(alone).is_some_and(|s| s.handovers != Handovers::default()));
    let status = rig.status(alone).unwrap();
    let told = status.last_handover.unwrap();
    assert_eq!((told.kind, told.to.as_str(), told.term), (HandoverKind::Failover, alone, status.term), "{told:?}");
    assert_eq!(told.reason, "the right is over; it took the service again itself");
    assert!(Duration::from_millis(told.total_ms) >= LEASE, "{told:?}");
    let counted = status.handovers.failovers;
    assert_eq!((counted.count, counted.outage_ms), (1, told.total_ms));
    wait("it is in the history", || newest_in_history(&rig, alone).is_some());
    assert_eq!(outage(&newest_in_history(&rig, alone).unwrap()), outage(&told));
    assert_eq!(rig.capture.owners(), [alone]);
}

/// For five leases nobody votes for it, but it is no worse a spare for that.
#[test]
fn a_box_that_has_just_surrendered_would_take_over_in_silence_and_says_so() {
    let mut rig = Rig::new("surrendered", DEFAULT);
    let first = rig.start_both();
    let second = other(first);
    wait("no young quorum", || rig.status(first).is_some_and(|s| s.quorum));
    rig.order(first, &Request::Switchover { lose_changes: false }).unwrap();
    for node in ["a", "b"] {
        let takeover = rig.status(node).unwrap().takeover;
        assert!(takeover.blocked_by.iter().all(|why| !why.contains("surrendered")), "{node}: {takeover:?}");
    }
    // And so it does.
    rig.kill(second);
    rig.client.await_answer_from(first);
    assert_eq!(rig.capture.owners(), [first, second, first]);
}

/// That a hand-over would work says nothing of a takeover: the box that serves tells what it knows of its peer's side.
#[test]
fn the_box_that_serves_does_not_promise_a_takeover_that_cannot_be() {
    let mut rig = Rig::new("promise", DEFAULT);
    let active = rig.start_both();
    let blocked = |rig: &Rig, node: &str| rig.status(node).map(|s| s.takeover.blocked_by).unwrap_or_default();
    let of_peer = "the peer sees no quorum of witnesses: only a planned hand-over or force";
    rig.ip("witness", "link set lan down");
    wait("both tell it", || {
        blocked(&rig, active) == [of_peer]
            && blocked(&rig, other(active)).contains(&"the witnesses make no quorum".to_owned())
    });
    rig.order(active, &Request::Switchover { lose_changes: false }).expect("a planned one needs no witness");
    rig.client.await_answer_from(other(active));
    rig.ip("witness", "link set lan up");
    rig.await_touch();
}

#[test]
fn a_pair_without_a_witness_promises_no_takeover() {
    let mut rig = Rig::new("none", DEFAULT);
    rig.edit_sites("[[witness]]\nip = \"10.77.0.1\"\n", "");
    rig.launch("a");
    rig.launch("b");
    let blocked = |rig: &Rig, node: &str| rig.status(node).map(|s| s.takeover.blocked_by).unwrap_or_default();
    let without = "no witness is configured: only a planned hand-over or force".to_owned();
    wait("one serves, and both tell it", || {
        rig.active().is_some() && ["a", "b"].iter().all(|node| blocked(&rig, node) == [without.clone()])
    });
}
