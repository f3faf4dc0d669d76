//! What follows a decision: surrenders and fences that hang, strikes, what is written and when, conditions that change while it
//! is written, and leaving.

use super::script::{MS, Script, TICK, settings};
use twobox::node::settings::{LAN, Settings};
use twobox::node::status::{Alarm, Hold};
use twobox::node::{Action, Answer, Input, Memory, Order, Record};
use twobox::wire::pair::{Data, Generation, Role, Score};

fn records(s: &Script) -> Vec<Record> {
    s.did.iter().filter_map(|a| if let Action::Persist { record, .. } = a { Some(*record) } else { None }).collect()
}

fn run_without_confirming(s: &mut Script, ms: u32) {
    for _ in 0..ms / TICK {
        s.down.clear();
        s.run(TICK);
    }
}

/// A hand-over that hangs becomes a fence, a fence that hangs a reset, and a reset is said again until it comes.
#[test]
fn addresses_that_will_not_come_down_end_in_a_reset() {
    for (lease, until_reset) in [(500, 1000), (1500, 1500)] {
        let lease = MS * lease;
        let mut s = Script::with(Settings { lease, longest_wait: MS * 9000, ..settings() }, Memory::Fresh);
        s.peer.frame.lease = lease;
        s.active();
        assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
        s.did.clear();
        run_without_confirming(&mut s, 4900);
        let orders = |s: &Script| {
            let order = |a: &Action| match a {
                Action::Yield { order } => Some((false, *order)),
                Action::Fence { order } => Some((true, *order)),
                _ => None,
            };
            s.did.iter().filter_map(order).collect::<Vec<_>>()
        };
        let resets = |s: &Script| s.did.iter().filter(|a| **a == Action::Reset).count();
        let first = orders(&s);
        assert!(matches!(first[..], [(false, _)]), "{first:?}");
        run_without_confirming(&mut s, 200);
        let both = orders(&s);
        assert_eq!(both, [(false, first[0].1), (true, first[0].1 + 1)]);
        run_without_confirming(&mut s, until_reset - 200);
        assert_eq!(resets(&s), 0);
        run_without_confirming(&mut s, 200);
        assert_eq!(resets(&s), 1);
        run_without_confirming(&mut s, 2500);
        assert_eq!((resets(&s), s.role()), (3, Role::Yielding));
        // What was ordered first is confirmed late; what counts is the fence.
        s.input(Input::Down { order: first[0].1 });
        s.input(Input::Turn);
        assert_eq!(s.role(), Role::Yielding);
        s.input(Input::Down { order: both[1].1 });
        s.input(Input::Turn);
        assert_eq!(s.role(), Role::Standby);
    }
}

/// A box whose right ended three times in ten minutes is held; being outranked is no strike.
#[test]
fn three_ends_of_a_right_hold_a_box() {
    let strikes = |s: &Script| records(s).last().expect("written").strikes;
    let mut s = Script::standby();
    for n in 1..=3 {
        s.peer.speaks = true;
        let known = s.node.known_term();
        s.peer_stands_by();
        s.peer.frame.eligible = false;
        s.peer_votes(known / 2 * 2 + 2);
        s.until(Role::Active, 3000);
        s.peer.frame.vote = None;
        (s.peer.speaks, s.witness) = (false, false);
        s.run(3000);
        assert_eq!(strikes(&s), n);
        assert_eq!(s.role() == Role::Held, n == 3);
        s.witness = true;
    }
    // For good: only the operator ends that.
    s.now = s.now + MS * 605_000;
    s.run(2000);
    assert!(s.node.status(s.now).alarms.has(Alarm::Strikes) && s.role() == Role::Held);
    assert_eq!(s.order(Order::Release), Some(Answer::Accepted));
    s.run(2000);
    assert!(s.role() != Role::Held && strikes(&s) == 0);
}

#[test]
fn two_strikes_are_forgotten_after_ten_quiet_minutes() {
    let mut s = Script::with(settings(), Memory::Known(Record { strikes: 2, ..Record::default() }));
    s.run(2000);
    s.now = s.now + MS * 590_000;
    s.run(6000);
    assert_eq!(records(&s).last().expect("written").strikes, 2);
    s.run(4000);
    assert_eq!(records(&s).last().expect("written").strikes, 0);
}

/// Half of them are left when more are written.
#[test]
fn terms_are_reserved_before_they_run_out() {
    let reserved = |s: &mut Script, top: u64| {
        s.peer.frame.top = top;
        s.run(2500);
        records(s).last().map_or(0, |r| r.reserved)
    };
    let mut s = Script::standby();
    for (top, expected) in [(1, 8), (4, 8), (5, 13), (9, 13), (10, 18)] {
        assert_eq!(reserved(&mut s, top), expected, "the peer's top is {top}");
    }
    let mut s = Script::with(Settings { terms_ahead: 0, ..settings() }, Memory::Fresh);
    assert_eq!(reserved(&mut s, 6), 0);
    // The damaged record stays until the operator has seen it.
    let mut s = Script::with(settings(), Memory::Damaged);
    assert_eq!((reserved(&mut s, 6), s.role()), (0, Role::Held));
    assert_eq!(s.order(Order::Release), Some(Answer::Accepted));
    assert_eq!((reserved(&mut s, 6), s.role()), (14, Role::Standby));
}

/// All that a claim rests on is looked at again when its term is on disk.
#[test]
fn what_changes_while_a_term_is_written_is_seen() {
    type Change = fn(&mut Script);
    let changes: [(&str, Change, bool); 3] = [
        ("nothing", |_| {}, true),
        ("the peer speaks", |s| s.peer.speaks = true, false),
        ("a copy is of a newer term", |s| s.data(Generation { term: 50, boot: 7 }, 0), false),
    ];
    for (what, change, serves) in changes {
        let mut s = Script::with(Settings { terms_ahead: 0, ..settings() }, Memory::Fresh);
        s.run(2000);
        (s.peer.speaks, s.disk) = (false, None);
        s.run(2500);
        assert_eq!(s.role(), Role::Claiming, "{what}");
        change(&mut s);
        s.run(100);
        s.input(Input::Persisted { ticket: s.ticket(), durable: true });
        s.input(Input::Turn);
        assert_eq!(s.role() == Role::Active, serves, "{what}");
        assert_eq!(s.node.known_term(), if serves { 2 } else { 1 }, "{what}");
    }
    for (next, serves) in [(Some(2), true), (Some(4), false), (None, false)] {
        let mut s = Script::with(Settings { terms_ahead: 0, ..settings() }, Memory::Fresh);
        s.run(2000);
        s.disk = None;
        s.peer.frame.role = Role::Standby;
        s.peer_votes(2);
        s.until(Role::Claiming, 200);
        // It would be voted for now, by a box that does not claim.
        s.peer.frame.eligible = true;
        s.peer.frame.vote = next.map(|term| twobox::wire::heartbeat::Vote { term, candidate: settings().boot });
        let f = s.frame(LAN);
        s.deliver(&f);
        s.input(Input::Turn);
        s.input(Input::Persisted { ticket: s.ticket(), durable: true });
        s.input(Input::Turn);
        assert_eq!(s.role() == Role::Active, serves, "it votes for {next:?}");
    }
}

/// An address that comes up by itself ends a claim, and its term with it.
#[test]
fn a_fence_during_a_claim_gives_it_up() {
    let mut s = Script::with(Settings { terms_ahead: 0, ..settings() }, Memory::Fresh);
    s.run(2000);
    s.disk = None;
    s.peer.frame.role = Role::Standby;
    s.peer_votes(2);
    s.until(Role::Claiming, 200);
    s.input(Input::NotDown);
    s.input(Input::Turn);
    assert_eq!(s.role(), Role::Yielding);
    s.disk = Some(true);
    s.input(Input::Persisted { ticket: s.ticket(), durable: true });
    // The vote stands, for a term that is used up.
    s.never(Role::Active, 3000);
    assert_eq!(s.role(), Role::Standby);
}

/// Whoever has just surrendered is no candidate, unless the peer cannot take over after all.
#[test]
fn after_a_surrender_a_box_is_no_candidate_for_a_while() {
    type Change = fn(&mut Script);
    let peers: [(&str, Change, bool); 5] = [
        ("stands by", |_| {}, true),
        ("serves", |s| (s.peer.frame.role, s.peer.frame.eligible) = (Role::Active, false), true),
        ("is held", |s| s.peer.frame.role = Role::Held, false),
        ("is not ready", |s| s.peer.frame.eligible = false, false),
        ("is gone", |s| (s.peer.speaks, s.witness) = (false, false), false),
    ];
    for (peer, change, intends) in peers {
        let mut s = Script::new();
        s.active();
        assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
        s.run(100);
        let since = s.node.status(s.now).since;
        assert!(s.said.expect("it speaks").intent && s.role() == Role::Standby);
        change(&mut s);
        s.run(1000);
        assert_eq!(s.said.expect("it speaks").intent, intends, "the peer {peer}");
        if intends {
            while s.said.expect("it speaks").intent && s.now < since + MS * 9000 {
                s.run(TICK);
            }
            let lasted = s.now.since(since);
            assert!(lasted >= MS * 2500 && lasted <= MS * 2560, "{lasted:?}");
        }
    }
}

/// Nor does it hand over again at once if the service comes back to it.
#[test]
fn nothing_is_arbitrated_for_a_while_after_a_surrender() {
    let mut s = Script::new();
    s.active();
    assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
    s.run(100);
    let since = s.node.status(s.now).since;
    s.peer.frame.eligible = false;
    s.peer_votes(4);
    s.until(Role::Active, 1000);
    s.peer_stands_by();
    s.peer.frame.vote = None;
    s.peer.frame.score = Score { services: 1, witnesses: 2, carriers: 2 };
    s.until(Role::Standby, 10_000);
    let waited = s.now.since(since);
    let pause = settings().settle + settings().hold_down;
    assert!(waited >= pause && waited <= pause + MS * 50, "{waited:?}");
}

/// Its copies may be newer than those of the peer: that is not known before they have been read, or cannot be.
#[test]
fn a_box_that_has_not_read_its_copies_does_not_compare() {
    let mut s = Script::with(Settings { mirrored: true, ..settings() }, Memory::Fresh);
    let began = s.now;
    s.peer_stands_by();
    while s.said.is_none_or(|h| h.vote.is_none()) && s.now < began + MS * 20_000 {
        s.run(TICK);
    }
    let waited = s.now.since(began);
    assert!(waited >= settings().boot_wait && waited <= settings().boot_wait + MS * 60, "{waited:?}");
    // Who is held does not compare.
    let mut s = Script::with(Settings { mirrored: true, ..settings() }, Memory::Fresh);
    s.peer_stands_by();
    s.input(Input::Services { healthy: false });
    s.run(1000);
    assert!(s.said.is_some_and(|h| h.vote.is_some()));
}

#[test]
fn a_box_without_the_lan_is_held_until_it_was_back_for_the_hold_down() {
    let mut s = Script::standby();
    for (carriers, held) in [(0b100, false), (0xff, false), (0b011, true)] {
        s.input(Input::Carriers(carriers));
        s.run(50);
        assert_eq!(s.node.status(s.now).holds.has(Hold::Carrier), held, "{carriers:03b}");
    }
    let lost = s.now;
    s.input(Input::Carriers(0b100));
    s.until(Role::Standby, 5000);
    let waited = s.now.since(lost);
    assert!(waited >= settings().hold_down && waited <= settings().hold_down + MS * 10, "{waited:?}");
    let intervals = [Some(MS * 100), Some(MS * 50), None];
    let mut s = Script::with(Settings { intervals, ..settings() }, Memory::Fresh);
    s.input(Input::Carriers(0));
    s.run(100);
    assert!(s.node.status(s.now).holds.is_empty(), "this board has no LAN");
}

/// A card that negotiates when the box has booted has lost nothing yet.
#[test]
fn a_lan_that_comes_up_for_the_first_time_serves_out_no_hold_down() {
    let mut s = Script::new();
    for (carriers, held) in [(0b011, true), (0b001, true), (0b111, false), (0b011, true), (0b111, true)] {
        s.input(Input::Carriers(carriers));
        s.run(50);
        assert_eq!(s.node.status(s.now).holds.has(Hold::Carrier), held, "{carriers:03b}");
    }
}

/// At once what something waits for, the rest once a second, and a write that failed until one succeeds.
#[test]
fn the_record_is_written_no_more_often_than_it_must() {
    let writes = |s: &mut Script, ms: u32| {
        s.did.clear();
        s.run(ms);
        records(s).len()
    };
    let mut s = Script::standby();
    s.run(3000);
    assert_eq!(writes(&mut s, 10_000), 0, "nothing is new");
    // The floor of a vote rides along.
    s.peer_stands_by();
    assert_eq!(writes(&mut s, 3000), 0);
    assert!(s.said.expect("it speaks").vote.is_some());
    // What the peer tells of its data is new in every heartbeat.
    let mut now_and_then = 0;
    for term in 1..=100 {
        s.peer.frame.data = Data { generation: Generation { term, boot: 7 }, ..Data::default() };
        now_and_then += writes(&mut s, 50);
    }
    assert!((4..=6).contains(&now_and_then), "{now_and_then} in five seconds");
    // A hold is urgent.
    let term = s.node.known_term();
    s.run(1500);
    s.peer.frame.data.generation.term += 1;
    assert_eq!(writes(&mut s, 100), 1);
    for order in [Order::Hold { term }, Order::Release] {
        s.order(order);
        assert_eq!(writes(&mut s, 20), 1, "{order:?}");
    }
    s.run(3000);
    s.disk = Some(false);
    s.order(Order::Hold { term });
    assert_eq!(writes(&mut s, 20), 1);
    s.order(Order::Release);
    // There is nothing to be written any more, and the disk has to show that it works.
    let failed = writes(&mut s, 5000);
    assert!((4..=6).contains(&failed), "{failed} in five seconds");
    assert!(s.node.status(s.now).holds.has(Hold::Disk));
    s.disk = Some(true);
    s.run(1500);
    assert_eq!(writes(&mut s, 5000), 0);
    assert!(!s.node.status(s.now).holds.has(Hold::Disk));
}

#[test]
fn a_box_that_leaves_says_farewell_when_it_is_on_disk_and_goes_when_it_was_heard() {
    let mut s = Script::standby();
    s.run(2000);
    s.disk = None;
    assert_eq!(s.order(Order::Leave), Some(Answer::Accepted));
    s.run(300);
    assert_eq!((s.role(), s.said.expect("it speaks").farewell, s.left), (Role::Held, false, false));
    assert!(records(&s).last().is_some_and(|r| r.farewell));
    // Heard before it was said does not count.
    s.peer.speaks = false;
    s.disk = Some(true);
    s.input(Input::Persisted { ticket: s.ticket(), durable: true });
    s.run(50);
    assert!(s.said.expect("it speaks").farewell && !s.left);
    s.peer.speaks = true;
    s.run(100);
    assert!(s.left);
    // Once.
    s.did.clear();
    s.run(5000);
    assert!(!s.did.contains(&Action::Leave));
}

/// For five leases, or a second if that is longer: then it goes, whatever hangs. Alone it has nothing to promise.
#[test]
fn a_box_that_leaves_waits_for_nothing_for_ever() {
    for (lease, longest) in [(500, 2500), (100, 1000)] {
        let lease = MS * lease;
        let intervals = [None, None, Some(MS * 20)];
        let mut s = Script::with(Settings { lease, intervals, ..settings() }, Memory::Fresh);
        (s.peer.frame.lease, s.peer.frame.interval) = (lease, MS * 20);
        s.run(2000);
        s.disk = None;
        s.order(Order::Leave);
        let began = s.now;
        while !s.left && s.now < began + MS * 9000 {
            s.run(TICK);
        }
        let waited = s.now.since(began);
        assert!(waited >= MS * longest && waited <= MS * (longest + 20), "{waited:?}");
    }
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.run(1500);
    s.order(Order::Leave);
    s.run(20);
    assert!(s.left && !s.said.expect("it speaks").farewell);
    assert!(!records(&s).last().is_some_and(|r| r.farewell));
}

/// In touch at once, alone after two leases.
#[test]
fn a_box_that_hears_nobody_joins_after_two_leases() {
    let mut s = Script::new();
    let began = s.now;
    (s.peer.speaks, s.witness) = (false, false);
    s.until(Role::Standby, 3000);
    assert_eq!(s.now.since(began), settings().lease * 2);
    let mut s = Script::new();
    s.run(150);
    assert_eq!(s.role(), Role::Standby);
}

/// A hand-over is told if somebody else had the service, which the data tell to who was not there.
#[test]
fn whose_data_are_the_newest_tells_who_served() {
    for (newest, served, told) in [(5, 4, true), (5, 5, false), (3, 5, false), (0, 0, false)] {
        let newest = Generation { term: newest, boot: 7 };
        let mut s = Script::with(settings(), Memory::Known(Record { newest, served, ..Record::default() }));
        s.peer.speaks = false;
        s.until(Role::Active, 20_000);
        assert_eq!(s.node.status(s.now).handover.is_some(), told, "{newest:?} {served}");
    }
}
