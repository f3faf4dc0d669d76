//! What the rules say to the letter: cases in which one comparison more or less is all the difference, and which random worlds
//! hardly ever meet.

use super::*;
use twobox::node::{Action, Record};
use twobox::wire::pair::Generation;

fn mirrored() -> Settings {
    Settings { mirrored: true, stale_data: StaleData::Hold, ..settings() }
}

fn lineage(term: u64) -> Generation {
    Generation { term, boot: 7 }
}

/// Three heartbeats of each must fit into a lease of the other.
#[test]
fn timings_that_do_not_fit_forbid_a_claim_in_silence() {
    let edge = (MS * 166, MS * 150);
    for (interval, lease, fits) in [(edge.0, edge.1, true), (MS * 167, edge.1, false), (edge.0, MS * 149, false)] {
        let mut s = Script::new();
        s.peer.frame.interval = interval;
        s.peer.frame.lease = lease;
        s.run(1000);
        assert_eq!(s.node.status(s.now).alarms.has(Alarm::TimingsBreak), !fits, "{interval:?} {lease:?}");
        s.peer.speaks = false;
        s.run(20_000);
        assert_eq!(s.role() == Role::Active, fits, "{interval:?} {lease:?}");
    }
}

/// The write of its term failed: perhaps it is on disk all the same. The peer has not heard yet, and goes on voting for it.
#[test]
fn a_term_that_was_given_up_is_not_taken_by_the_vote_that_still_stands() {
    let mut s = Script::with(Settings { terms_ahead: 0, ..settings() }, Memory::Fresh);
    s.run(1000);
    s.disk = Some(false);
    // Not eligible, so that no vote of ours forbids the term before its being given up does.
    s.peer.frame.role = Role::Standby;
    s.peer_votes(2);
    s.run(200);
    s.disk = Some(true);
    s.run(1500);
    assert!(s.node.status(s.now).holds.is_empty());
    s.never(Role::Active, 3_000);
    s.peer_votes(4);
    s.run(200);
    assert_eq!(s.role(), Role::Active);
    assert_eq!(s.node.known_term(), 4);
}

#[test]
fn a_term_that_was_served_is_not_served_again_by_a_vote() {
    let mut s = Script::new();
    s.active();
    assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
    s.run(100);
    assert_eq!(s.role(), Role::Standby);
    s.peer.frame.eligible = false;
    s.peer_votes(2);
    s.never(Role::Active, 5_000);
    s.peer_votes(4);
    s.run(200);
    assert_eq!(s.role(), Role::Active);
    // Nor after a fence, when no vote of this box for the peer has used it up besides.
    (s.peer.speaks, s.witness) = (false, false);
    s.run(2000);
    assert_eq!(s.role(), Role::Standby);
    s.peer.speaks = true;
    for _ in 0..5_000 / TICK {
        s.run(TICK);
        assert_eq!(s.role(), Role::Standby);
    }
    s.peer_votes(6);
    s.run(200);
    assert_eq!(s.role(), Role::Active);
}

/// More terms are being written when the peer dies, and the disk hangs: those that are there are enough, or they are not.
#[test]
fn a_claim_waits_for_a_write_only_if_no_term_is_left() {
    for (top, is_left) in [(6, true), (9, false)] {
        let mut s = Script::standby();
        s.disk = None;
        s.peer.frame.top = top;
        s.run(1500);
        s.peer.speaks = false;
        s.run(5_000);
        let expected = if is_left { Role::Active } else { Role::Held };
        assert_eq!(s.role(), expected, "the peer's top is {top}: {}", s.node.status(s.now).why);
    }
}

#[test]
fn a_preferred_peer_is_handed_over_to_only_if_its_data_are_current() {
    for (term, stale_trees, current) in [(1, 0, false), (2, 1, false), (1, 1, false), (2, 0, true)] {
        let mut s = Script::with(Settings { prefer: Some(Side::A), ..mirrored() }, Memory::Fresh);
        s.data(Generation::default(), 0);
        s.active();
        let boot = settings().boot.get();
        s.peer.frame.data = Data { generation: Generation { term, boot }, lag_s: 0, stale_trees };
        s.run(10_000);
        assert_eq!(s.role() != Role::Active, current, "generation {term}, {stale_trees} stale");
    }
}

#[test]
fn only_a_peer_that_could_take_over_is_handed_over_to() {
    for (role, eligible) in [(Role::Standby, false), (Role::Held, true), (Role::Held, false)] {
        let mut s = Script::new();
        s.active();
        (s.peer.frame.role, s.peer.frame.eligible) = (role, eligible);
        s.run(100);
        assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::PeerNotEligible), "{role:?} {eligible}");
    }
    // Nor one that was not heard for half a lease, although its last grant still lasts.
    let mut s = Script::new();
    s.active();
    s.peer.speaks = false;
    s.run(300);
    assert_eq!(s.role(), Role::Active);
    assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::PeerNotEligible));
}

/// Nobody else can serve yet: ending the farewell at once would interrupt the service for nothing.
#[test]
fn a_farewell_ends_a_lease_after_the_first_word_of_the_next_life() {
    let mut s = Script::new();
    s.run(1000);
    s.peer.frame.role = Role::Held;
    s.peer.frame.farewell = true;
    s.peer_votes(2);
    s.run(200);
    s.peer.speaks = false;
    s.witness = false;
    s.run(5_000);
    assert_eq!(s.role(), Role::Active);
    s.reboot_peer(12);
    s.peer.frame.vote = None;
    let hello = s.frame(LAN);
    s.deliver(&hello);
    s.run(450);
    assert_eq!(s.role(), Role::Active);
    s.run(200);
    assert_ne!(s.role(), Role::Active);
}

#[test]
fn the_mark_of_a_farewell_goes_when_the_peer_is_heard_and_hears() {
    let mut s = Script::with(settings(), Memory::Known(Record { farewell: true, ..Record::default() }));
    s.peer.speaks = false;
    s.run(2000);
    assert_eq!(s.role(), Role::Held);
    s.never(Role::Standby, 20_000);
    assert_eq!(s.role(), Role::Held);
    s.peer.speaks = true;
    s.run(1000);
    assert_eq!(s.role(), Role::Standby);
}

/// What is served is what counts, also if this box has something newer: that is set aside when it becomes a copy.
#[test]
fn data_of_the_lineage_that_is_served_are_current() {
    let memory = Memory::Known(Record { newest: lineage(9), own: lineage(9), ..Record::default() });
    let mut s = Script::with(mirrored(), memory);
    s.peer.frame.data.generation = lineage(3);
    s.run(1000);
    s.data(lineage(3), 0);
    assert!(s.node.status(s.now).data_current);
    // Whoever serves nothing does not say what counts.
    s.peer.frame.role = Role::Held;
    s.peer.frame.data.generation = lineage(2);
    s.run(100);
    assert!(s.node.status(s.now).data_current);
    s.data(lineage(2), 0);
    assert!(!s.node.status(s.now).data_current);
    s.data(lineage(3), 0);
    s.peer.frame.data.generation = lineage(5);
    s.run(100);
    assert!(!s.node.status(s.now).data_current);
    // Where nothing is mirrored there is nothing that could be old.
    let mut s = Script::with(Settings { mirrored: false, ..mirrored() }, Memory::Fresh);
    s.peer.frame.data.generation = lineage(5);
    s.run(1000);
    assert!(s.node.status(s.now).data_current);
}

#[test]
fn whoever_serves_has_the_current_data_whatever_the_copy_says() {
    let mut s = Script::with(mirrored(), Memory::Fresh);
    s.data(Generation::default(), 0);
    s.active();
    s.data(lineage(1), 0);
    let status = s.node.status(s.now);
    assert!(status.data_current && status.data.generation.term == 2, "{:?}", status.data);
}

/// The mirror takes nothing from who serves a lower term than that of the copy.
#[test]
fn a_peer_with_data_of_a_higher_term_is_outnumbered() {
    let lineages = |s: &Script| -> Vec<u64> {
        s.did.iter().filter_map(|a| if let Action::Lineage(g) = a { Some(g.term) } else { None }).collect()
    };
    let active = |settings: Settings| {
        let mut s = Script::with(settings, Memory::Fresh);
        s.data(Generation::default(), 0);
        s.active();
        s
    };
    let mut s = active(mirrored());
    s.peer.frame.data.generation = s.node.status(s.now).data.generation;
    s.run(1000);
    assert!(lineages(&s).is_empty(), "the peer has our own");
    s.peer.frame.data.generation = lineage(7);
    s.run(1000);
    let status = s.node.status(s.now);
    assert_eq!((lineages(&s), status.served, status.data.generation.term), (vec![8], 8, 8));
    assert_eq!(s.said.map(|f| (f.role, f.served, f.data.generation.term)), Some((Role::Active, 8, 8)));
    // What it served is what counts too; what was copied of it may be older.
    (s.peer.frame.served, s.peer.frame.top) = (9, 13);
    s.run(1000);
    assert_eq!(lineages(&s), [8, 14]);
    // Not before the term is on disk.
    s.disk = None;
    s.peer.frame.data.generation = lineage(99);
    s.run(3000);
    assert_eq!(lineages(&s), [8, 14]);
    let ticket = s.ticket();
    s.input(Input::Persisted { ticket, durable: true });
    s.disk = Some(true);
    s.run(3000);
    assert_eq!(lineages(&s), [8, 14, 100]);
    // Nobody else's business.
    let mut s = active(settings());
    s.peer.frame.data.generation = lineage(7);
    s.run(1000);
    assert!(lineages(&s).is_empty(), "nothing is mirrored");
}

/// A copy cannot get newer while its source is silent, and is not called stale for that.
#[test]
fn a_copy_grows_stale_only_while_its_source_is_there() {
    for (in_touch, held) in [(false, false), (true, true)] {
        let mut s = Script::with(mirrored(), Memory::Fresh);
        s.data(Generation::default(), 0);
        s.run(1000);
        s.peer.speaks = in_touch;
        s.run(600);
        s.data(lineage(1), 1);
        s.run(20);
        assert_eq!(s.role() == Role::Held, held, "in touch: {in_touch}");
    }
    // Who was never in touch cannot know how old its copy is.
    let mut s = Script::with(mirrored(), Memory::Fresh);
    s.peer.speaks = false;
    s.data(lineage(1), 1);
    s.run(2000);
    assert_eq!(s.role(), Role::Held);
    // What it wrote itself, or nobody has written, is no copy.
    for term in [0, 2] {
        let mut s = Script::with(mirrored(), Memory::Fresh);
        s.peer.speaks = false;
        s.data(lineage(term), 1);
        s.run(2000);
        assert_ne!(s.role(), Role::Held, "of term {term}");
    }
}

#[test]
fn addresses_count_as_down_only_for_the_order_that_was_given_last() {
    let mut s = Script::new();
    s.active();
    assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
    s.input(Input::Turn);
    assert_eq!(s.role(), Role::Yielding);
    s.input(Input::Down { order: 0 });
    s.input(Input::Turn);
    assert_eq!(s.role(), Role::Yielding);
    s.run(20);
    assert_eq!(s.role(), Role::Standby);
}

#[test]
fn an_order_that_cannot_be_carried_out_says_why() {
    let term = 2;
    let mut s = Script::standby();
    let known = s.node.known_term();
    assert_eq!(s.order(Order::Switchover { term: known }), Some(Answer::NotActive));
    assert_eq!(s.order(Order::Force), Some(Answer::PeerNotSilent));
    s.disk = Some(false);
    s.peer.frame.top = 20;
    s.run(1500);
    s.peer.speaks = false;
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::NotReady), "the disk fails");
    let mut s = Script::new();
    s.active();
    assert_eq!(s.order(Order::Force), Some(Answer::Serving));
    assert_eq!(s.order(Order::Hold { term: term + 1 }), Some(Answer::OtherTerm));
}

#[test]
fn a_hold_of_the_active_is_a_hand_over_and_then_a_hold() {
    let mut s = Script::new();
    s.active();
    s.peer.frame.eligible = false;
    s.run(100);
    assert_eq!(s.order(Order::Hold { term: 2 }), Some(Answer::PeerNotEligible));
    s.peer.frame.eligible = true;
    s.run(100);
    // What was refused is not carried out with the next order.
    assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
    s.run(100);
    assert_eq!(s.role(), Role::Standby);

    let mut s = Script::new();
    s.active();
    assert_eq!(s.order(Order::Hold { term: 2 }), Some(Answer::Accepted));
    s.run(100);
    assert_eq!(s.role(), Role::Held);
}

#[test]
fn a_box_that_boots_alone_serves_after_the_boot_wait_and_no_sooner() {
    let mut s = Script::new();
    s.peer.speaks = false;
    s.never(Role::Active, 9_900);
    s.run(700);
    assert_eq!(s.role(), Role::Active);
}

/// Where nothing is mirrored there are no data that could be older.
#[test]
fn a_preferred_peer_without_mirrored_data_is_handed_over_to() {
    let mut s = Script::with(Settings { prefer: Some(Side::A), ..settings() }, Memory::Fresh);
    s.active();
    s.run(10_000);
    assert_ne!(s.role(), Role::Active);
}
