//! What permits serving, when it ends, and what is done in that very moment.

use super::script::{MS, Script, TICK, settings};
use twobox::node::settings::{LAN, NULL_MODEM, Settings};
use twobox::node::status::RightKind;
use twobox::node::{Action, Answer, Input, Memory, Node, Order, Record};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Echo, Heartbeat};
use twobox::wire::pair::{BootId, Role, Side};

const MOMENT: Duration = Duration::from_nanos(1);

/// Active by the vote of a peer that has died since: the witness is all there is.
fn alone() -> Script {
    let mut s = Script::new();
    s.active();
    s.peer.speaks = false;
    s.run(1000);
    assert_eq!((s.role(), s.right()), (Role::Active, Some(RightKind::Quorum)));
    s
}

fn fences(s: &Script) -> usize {
    s.did.iter().filter(|a| matches!(a, Action::Fence { .. })).count()
}

#[test]
fn a_right_is_over_in_the_moment_of_its_end() {
    let mut s = Script::new();
    s.active();
    let right = s.node.status(s.now).right.expect("it serves");
    assert_eq!(right.kind, RightKind::Lease);
    assert_eq!(right.until, s.peer.frame.echo.expect("it echoes").sent_at + settings().lease);
    assert!(s.node.status(right.until).right.is_none());
    let mut s = alone();
    let until = s.node.status(s.now).right.expect("it serves").until;
    assert!(s.node.status(until - MOMENT).right.is_some() && s.node.status(until).right.is_none());
    // Whatever is told next, in time or not, the fence comes first.
    s.now = until;
    s.did.clear();
    s.input(Input::Carriers(0xff));
    assert_eq!((s.role(), fences(&s)), (Role::Yielding, 1));
    // Once: nothing is gained by ordering it again.
    s.now = s.now + MS * 100;
    s.input(Input::Carriers(0xff));
    s.input(Input::Turn);
    assert_eq!((s.role(), fences(&s)), (Role::Yielding, 1));
}

#[test]
fn a_surrender_whose_right_ends_becomes_a_fence_at_once() {
    let mut s = Script::new();
    s.active();
    assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
    s.input(Input::Turn);
    assert_eq!((s.role(), fences(&s)), (Role::Yielding, 0));
    s.down.clear();
    (s.peer.speaks, s.witness) = (false, false);
    s.run(400);
    assert_eq!((s.role(), fences(&s)), (Role::Yielding, 0));
    s.now = s.now + MS * 100;
    s.input(Input::Carriers(0xff));
    assert_eq!((s.role(), fences(&s)), (Role::Yielding, 1));
}

/// Who says that it serves, claims or yields grants nothing, nor does who answers somebody else.
#[test]
fn only_a_passive_peer_that_answers_us_grants_a_lease_and_a_vote() {
    let ours = settings().boot;
    for (role, grants) in [
        (Role::Joining, true),
        (Role::Standby, true),
        (Role::Held, true),
        (Role::Claiming, false),
        (Role::Yielding, false),
        (Role::Active, false),
    ] {
        for (boot, expected) in [(ours, grants), (BootId::new(77).expect("not zero"), false)] {
            let mut s = Script::standby();
            s.peer_votes(2);
            s.peer.frame.role = role;
            let mut f = s.frame(LAN);
            f.echo = f.echo.map(|e| Echo { boot, ..e });
            s.deliver(&f);
            assert_eq!(s.right(), expected.then_some(RightKind::Lease), "{role:?}");
            s.input(Input::Turn);
            assert_eq!(s.role() == Role::Active, expected, "{role:?}");
        }
    }
}

/// All that arrives in a turn is heard before anything is claimed.
#[test]
fn nothing_is_claimed_before_the_turn() {
    let mut s = Script::standby();
    s.peer_stands_by();
    s.peer_votes(2);
    let f = s.frame(LAN);
    s.deliver(&f);
    assert_eq!(s.role(), Role::Standby);
    s.input(Input::Turn);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_vote_stands_for_a_lease_after_what_it_answers() {
    for (late, stands) in [(Duration::ZERO, false), (MOMENT, true)] {
        let mut s = Script::standby();
        s.peer_stands_by();
        s.peer_votes(2);
        let f = s.frame(LAN);
        s.now = f.echo.expect("it echoes").sent_at + settings().lease - late;
        s.deliver(&f);
        s.input(Input::Turn);
        assert_eq!(s.role() == Role::Active, stands);
    }
}

/// It may see a quorum of its own: without an answer to us there is no telling that it holds still.
#[test]
fn a_rival_that_does_not_answer_ends_a_quorum_right_for_a_lease() {
    for (role, quorum, ends) in
        [(Role::Standby, true, true), (Role::Claiming, false, true), (Role::Standby, false, false)]
    {
        let mut s = alone();
        s.reboot_peer(12);
        (s.peer.frame.role, s.peer.frame.quorum) = (role, quorum);
        let f = s.frame(LAN);
        s.deliver(&f);
        assert_eq!(s.right().is_none(), ends, "{role:?} {quorum}");
        s.input(Input::Turn);
        assert_eq!(s.role() == Role::Yielding, ends, "{role:?} {quorum}");
    }
    // For exactly so long.
    let mut s = alone();
    s.reboot_peer(12);
    s.peer.frame.role = Role::Active;
    let f = s.frame(LAN);
    s.deliver(&f);
    let heard = s.now;
    s.run(500 - TICK);
    let end = heard + settings().lease;
    assert!(s.node.status(end - MOMENT).right.is_none());
    assert_eq!(s.node.status(end).right.map(|r| r.kind), Some(RightKind::Quorum));
}

#[test]
fn a_bound_that_grows_voids_every_right_and_one_that_does_not_voids_none() {
    let bound = settings().fence.expect("bounded");
    for (new, voids) in
        [(Some(bound), false), (Some(bound - MOMENT), false), (Some(bound + MOMENT), true), (None, true)]
    {
        let mut s = Script::new();
        s.active();
        s.input(Input::FenceBound(new));
        assert_eq!(s.right().is_none(), voids, "{new:?}");
        assert_eq!(s.role() == Role::Yielding, voids, "{new:?}");
    }
}

/// The operator spoke of a silent peer. A recording is no word of it, and a life that cannot serve is no danger.
#[test]
fn a_forced_right_ends_with_the_word_of_a_life_that_could_serve() {
    let forced = || {
        let mut s = Script::standby();
        s.peer.speaks = false;
        s.run(600);
        s.witness = false;
        assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
        s.run(3000);
        assert_eq!(s.right(), Some(RightKind::Forced));
        s
    };
    for (role, ends) in [(Role::Held, false), (Role::Active, true)] {
        let mut s = forced();
        let recorded = s.peer.frame;
        s.deliver(&recorded);
        assert_eq!(s.right(), Some(RightKind::Forced));
        s.reboot_peer(12);
        s.peer.frame.role = role;
        let f = s.frame(LAN);
        s.deliver(&f);
        assert_eq!(s.right().is_none(), ends, "{role:?}");
    }
    // Its known life has heard us: what it grants counts from now on.
    let mut s = forced();
    s.peer_stands_by();
    let f = s.frame(LAN);
    s.deliver(&f);
    assert_eq!(s.right(), Some(RightKind::Lease));
}

/// Neither the frame that said it, played once more, nor that of a life that ended before.
#[test]
fn a_recording_does_not_end_a_farewell() {
    let mut s = Script::standby();
    let former = s.frame(LAN);
    s.peer.speaks = false;
    s.run(1000);
    s.reboot_peer(12);
    s.peer.frame.role = Role::Joining;
    s.peer.speaks = true;
    s.run(500);
    s.peer.frame.role = Role::Held;
    s.peer.frame.farewell = true;
    s.peer_votes(2);
    s.run(300);
    assert_eq!((s.role(), s.right()), (Role::Active, Some(RightKind::Farewell)));
    s.peer.speaks = false;
    let recorded = s.peer.frame;
    for f in [former, recorded] {
        s.deliver(&f);
        s.witness = false;
        s.run(2000);
        assert_eq!((s.role(), s.right()), (Role::Active, Some(RightKind::Farewell)));
    }
}

/// Fed while the addresses are confirmed down, or while there is a right; never in between.
#[test]
fn the_watchdog_is_fed_only_in_order() {
    let feeds = |s: &Script| s.did.iter().filter(|a| **a == Action::Feed).count();
    let mut s = Script::standby();
    let fed = |s: &mut Script, ms: u32| {
        s.did.clear();
        for _ in 0..ms / TICK {
            s.down.clear();
            s.run(TICK);
        }
        feeds(s)
    };
    // Every 400 ms.
    assert!((10..=11).contains(&fed(&mut s, 4000)));
    s.active();
    assert!((10..=11).contains(&fed(&mut s, 4000)));
    // A surrender that hangs is fed while the right lasts.
    assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
    assert!((4..=6).contains(&fed(&mut s, 2000)));
    assert_eq!(s.role(), Role::Yielding);
    (s.peer.speaks, s.witness) = (false, false);
    fed(&mut s, 500);
    assert_eq!(fed(&mut s, 20_000), 0);
    assert!(s.node.next_deadline() > s.now, "it asks to be woken at once, for ever");
    assert_eq!((s.role(), s.right()), (Role::Yielding, None));
    let mut s = Script::standby();
    s.input(Input::NotDown);
    assert_eq!(fed(&mut s, 5000), 0, "an address came up by itself");
    assert_eq!(s.role(), Role::Yielding);
}

#[test]
fn an_address_that_comes_up_by_itself_is_fenced_unless_it_is_served() {
    let mut s = Script::standby();
    s.did.clear();
    s.input(Input::NotDown);
    s.input(Input::Turn);
    assert_eq!((s.role(), fences(&s)), (Role::Yielding, 1));
    s.run(50);
    assert_eq!(s.role(), Role::Standby);
    s.active();
    s.input(Input::NotDown);
    s.run(50);
    assert_eq!((s.role(), fences(&s)), (Role::Active, 1));
}

/// A frame with a new boot id says that whatever ran here before is gone.
#[test]
fn no_word_and_no_vote_before_the_addresses_are_down() {
    let now = Instant::BOOT + Duration::from_secs(100);
    let mut s = Script::new();
    s.node = Node::new(settings(), now, Memory::Fresh, false);
    s.peer_stands_by();
    (s.said, s.did) = (None, vec![]);
    s.run(2000);
    assert_eq!((s.said, s.role()), (None, Role::Joining));
    assert!(!s.did.iter().any(|a| matches!(a, Action::Ping { .. } | Action::Feed)), "{:?}", s.did);
    s.input(Input::Down { order: 0 });
    s.run(50);
    assert!(s.said.is_some());
}

/// Two Active boxes hear each other, whatever made them so: the lower term goes, and at the same term b does.
#[test]
fn the_lower_of_two_that_serve_goes() {
    for (node, served, goes) in
        [(Side::A, 1, false), (Side::A, 2, false), (Side::A, 3, true), (Side::B, 2, false), (Side::B, 3, true)]
    {
        let mut s = Script::new();
        s.active();
        s.peer.frame.node = node;
        s.peer.frame.role = Role::Active;
        s.peer.frame.vote = None;
        (s.peer.frame.served, s.peer.frame.top) = (served, served);
        let f = s.frame(LAN);
        s.deliver(&f);
        s.input(Input::Turn);
        assert_eq!(s.role() == Role::Yielding, goes, "{node:?} with term {served}");
        assert_eq!(s.node.status(s.now).alarms.has(twobox::node::status::Alarm::TwoActive), goes);
    }
    // Who served a higher term once, by force, and stands by now, outranks nobody.
    let mut s = Script::new();
    s.active();
    (s.peer.frame.served, s.peer.frame.top) = (3, 3);
    s.run(500);
    assert_eq!(s.role(), Role::Active);
}

/// What is open is open for a lease at most: when nobody renews it, it closes by itself.
#[test]
fn a_right_without_an_end_is_renewed_by_the_lease() {
    let mut s = Script::standby();
    s.peer.frame.role = Role::Held;
    s.peer.frame.farewell = true;
    s.peer_votes(2);
    s.run(200);
    assert_eq!(s.right(), Some(RightKind::Farewell));
    s.did.clear();
    s.run(TICK);
    assert!(s.did.contains(&Action::Renew { until: s.now + settings().lease }), "{:?}", s.did);
    // A lease is told once for each that is new.
    let mut s = Script::new();
    s.active();
    s.peer.speaks = false;
    s.run(TICK);
    let until = s.node.status(s.now).right.expect("it serves").until;
    s.did.clear();
    s.witness = false;
    s.run(20);
    assert_eq!(s.node.status(s.now).right.expect("it serves").until, until);
    assert!(!s.did.iter().any(|a| matches!(a, Action::Renew { .. })), "{:?}", s.did);
    let f = s.frame(NULL_MODEM);
    s.deliver(&f);
    s.input(Input::Turn);
    let until = s.node.status(s.now).right.expect("it serves").until;
    assert!(s.did.contains(&Action::Renew { until }), "{:?}", s.did);
}

/// The gate is for who serves, whatever is granted to a spare.
#[test]
fn a_spare_renews_nothing_and_asks_nobody_for_the_addresses() {
    let mut s = Script::standby();
    s.peer.frame.role = Role::Held;
    s.run(100);
    s.did.clear();
    s.run(3000);
    assert_eq!((s.role(), s.right()), (Role::Standby, Some(RightKind::Lease)));
    let active = |a: &Action| matches!(a, Action::Renew { .. } | Action::Probe | Action::Activate { .. });
    assert!(!s.did.iter().any(active), "{:?}", s.did);
    // Nor when it hears nobody and may not claim.
    (s.peer.speaks, s.witness) = (false, false);
    s.run(3000);
    assert!(s.role() == Role::Standby && !s.did.iter().any(active), "{:?}", s.did);
    // Nor does who serves ask who has them.
    let mut s = alone();
    s.did.clear();
    s.run(3000);
    assert!(s.role() == Role::Active && !s.did.contains(&Action::Probe));
}

/// Terms of the copies count as used, whatever the record says, and so do those that the record reserved.
#[test]
fn a_claim_takes_a_term_above_all_that_may_have_been_served() {
    for (reserved, copies, top, expected) in
        [(0, 0, 1, 2), (40, 0, 1, 42), (0, 50, 1, 52), (0, 51, 1, 52), (0, 0, 60, 62)]
    {
        let settings = Settings { mirrored: true, ..settings() };
        let mut s = Script::with(settings, Memory::Known(Record { reserved, ..Record::default() }));
        let data = twobox::wire::pair::Data::default();
        s.input(Input::Data { data, newest: copies });
        s.peer.frame.top = top;
        s.run(1000);
        s.peer.speaks = false;
        s.run(5000);
        assert_eq!((s.role(), s.node.known_term()), (Role::Active, expected), "{reserved} {copies} {top}");
    }
}

/// A box that serves alone has not met the peer in this life: it cannot tell a recording from a peer that does not hear it. But it
/// can tell that it has heard it before.
#[test]
fn a_recorded_frame_of_a_life_that_was_never_met_ends_the_service_once() {
    let mut s = Script::new();
    s.peer.speaks = false;
    s.peer.frame.echo = None;
    let recorded = s.peer.frame;
    let recorded = Heartbeat { path_sequence: 7, content_sequence: 7, sent_at: recorded.sent_at + MS * 70, ..recorded };
    s.until(Role::Active, 30_000);
    s.deliver(&recorded);
    s.run(20);
    assert_ne!(s.role(), Role::Active);
    for _ in 0..3 {
        s.until(Role::Active, 30_000);
        s.run(1000);
        s.deliver(&recorded);
        s.run(1000);
        assert_eq!(s.role(), Role::Active, "{}", s.node.status(s.now).why);
    }
}
