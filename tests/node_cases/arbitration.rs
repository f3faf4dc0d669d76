//! Who serves when both could: when an Active box surrenders, whom a passive one votes for, and who is fit to be voted for.

use super::script::{MS, Script, settings};
use twobox::node::settings::{Settings, StaleData};
use twobox::node::{Input, Memory, Order, Record};
use twobox::time::Duration;
use twobox::wire::pair::{Data, Generation, Role, Score, Side};

/// Active beside a spare that reaches one witness more.
fn beside_a_fitter_peer(settings: Settings) -> Script {
    let mut s = Script::with(settings, Memory::Fresh);
    s.data(Generation::default(), 0);
    s.active();
    s.peer.frame.data.generation = s.node.status(s.now).data.generation;
    s.peer.frame.score = Score { services: 1, witnesses: 2, carriers: 2 };
    s
}

fn surrenders(s: &mut Script, within: u32) -> bool {
    s.run(within);
    s.role() != Role::Active
}

#[test]
fn a_fitter_peer_is_handed_over_to_after_it_was_fitter_for_a_while() {
    // The pause after a takeover that nobody ordered is none.
    let mut s = beside_a_fitter_peer(settings());
    assert!(!surrenders(&mut s, 1900));
    assert!(surrenders(&mut s, 200));
    assert_eq!(s.node.status(s.now).why, "addresses are down");
    // As fit is not fitter, and a moment of less starts the wait anew.
    let mut s = beside_a_fitter_peer(settings());
    s.run(1500);
    s.peer.frame.score = Score { services: 1, witnesses: 1, carriers: 2 };
    assert!(!surrenders(&mut s, 5000));
    s.peer.frame.score.carriers = 3;
    assert!(!surrenders(&mut s, 1900));
    assert!(surrenders(&mut s, 200));
}

#[test]
fn a_fitter_peer_is_not_handed_over_to_if_it_could_not_serve() {
    type Change = fn(&mut Script);
    let unless: [(&str, Change); 6] = [
        ("it is not ready", |s| s.peer.frame.eligible = false),
        ("it has just surrendered", |s| s.peer.frame.intent = true),
        ("timings do not fit", |s| s.peer.frame.interval = MS * 200),
        ("it is less fit", |s| s.peer.frame.score.services = 0),
        ("it answers somebody else", |s| s.peer.heard = None),
        ("it is not heard", |s| s.peer.speaks = false),
    ];
    for (why, change) in unless {
        let mut s = beside_a_fitter_peer(settings());
        for _ in 0..8000 / 5 {
            change(&mut s);
            s.run(5);
        }
        assert_eq!(s.role(), Role::Active, "{why}");
    }
}

/// Older data are served only if that is allowed, or if what is served now does not work.
#[test]
fn a_fitter_peer_with_older_data_is_handed_over_to_only_if_that_is_allowed() {
    for (stale_data, healthy, current, moves) in [
        (StaleData::Hold, true, true, true),
        (StaleData::Hold, true, false, false),
        (StaleData::Hold, false, false, true),
        (StaleData::Serve, true, false, true),
    ] {
        let mut s = beside_a_fitter_peer(Settings { mirrored: true, stale_data, ..settings() });
        s.peer.frame.data.stale_trees = u8::from(!current);
        s.input(Input::Services { healthy });
        assert_eq!(surrenders(&mut s, 3000), moves, "{stale_data:?}, healthy: {healthy}, current: {current}");
    }
}

/// What was compared before it served says nothing.
#[test]
fn a_box_that_stands_by_has_nothing_to_surrender() {
    let mut s = Script::standby();
    s.peer_stands_by();
    s.peer.frame.score = Score { services: 1, witnesses: 2, carriers: 2 };
    s.run(4000);
    assert_eq!(s.role(), Role::Standby);
    s.peer.frame.score = Score { services: 1, witnesses: 1, carriers: 2 };
    s.peer.frame.eligible = false;
    s.peer_votes(20);
    s.until(Role::Active, 500);
    assert!(!surrenders(&mut s, 3000));
}

#[test]
fn a_preferred_peer_is_handed_over_to_when_it_is_as_fit_for_the_hold_down() {
    let beside = |prefer, witnesses| {
        let mut s = Script::with(Settings { prefer, ..settings() }, Memory::Fresh);
        s.active();
        // What this box has: its services, the witness, and both of its links.
        s.peer.frame.score = Score { services: 1, witnesses, carriers: 2 };
        s
    };
    let mut s = beside(Some(Side::A), 1);
    assert!(!surrenders(&mut s, 2700));
    assert!(surrenders(&mut s, 400));
    assert!(!surrenders(&mut beside(Some(Side::A), 0), 10_000), "it is less fit");
    assert!(!surrenders(&mut beside(Some(Side::B), 1), 10_000), "this box is preferred");
    assert!(!surrenders(&mut beside(None, 1), 10_000), "none is preferred");
}

/// Else two boxes that differ in opinion would hand the service to and fro.
#[test]
fn nothing_is_arbitrated_for_a_while_after_a_hand_over() {
    let mut s = Script::new();
    s.run(1000);
    s.peer_stands_by();
    s.peer.frame.intent = true;
    s.peer_votes(2);
    s.run(200);
    assert_eq!(s.role(), Role::Active);
    let since = s.node.status(s.now).since;
    (s.peer.frame.vote, s.peer.frame.intent) = (None, false);
    s.peer.frame.score.witnesses = 2;
    s.until(Role::Standby, 10_000);
    let served = s.now.since(since);
    let pause = settings().settle + settings().hold_down;
    assert!(served >= pause && served <= pause + MS * 20, "{served:?}");
}

/// Newer data, then fresher ones, then services, then how fast it is fenced, then preference, then the name.
#[test]
fn the_better_of_two_that_stand_by_is_voted_for() {
    type Change = fn(&mut Script);
    // Of two that are equal, a is the better one, and this one is b.
    let cases: [(&str, Option<Side>, Change, bool); 16] = [
        ("equal", None, |_| {}, true),
        ("b is preferred", Some(Side::B), |_| {}, false),
        ("a is preferred", Some(Side::A), |_| {}, true),
        ("b is fenced faster", None, |s| s.peer.frame.fence = Some(MS * 1101), false),
        (
            "as fast but for less than 0.1 s",
            None,
            |s| s.peer.frame.fence = Some(MS * 1000 - Duration::from_nanos(1)),
            true,
        ),
        ("b is fenced at all", None, |s| s.peer.frame.fence = None, false),
        ("a is fenced faster", Some(Side::B), |s| s.peer.frame.fence = Some(MS * 900), true),
        ("services of a fail", None, |s| s.peer.frame.score.services = 0, false),
        (
            "services of a fail, b is not fenced",
            None,
            |s| {
                s.peer.frame.score.services = 0;
                s.input(Input::FenceBound(None));
            },
            false,
        ),
        ("data of a are older", None, |s| s.peer.frame.data.generation.term = 3, false),
        ("data of a are newer", Some(Side::B), |s| s.peer.frame.data.generation.term = 5, true),
        ("data of a are less fresh", None, |s| s.peer.frame.data.stale_trees = 2, false),
        (
            "data of b are less fresh",
            Some(Side::B),
            |s| {
                s.peer.frame.data = Data { generation: Generation { term: 3, boot: 7 }, lag_s: 0, stale_trees: 3 };
                s.data(Generation { term: 3, boot: 7 }, 2);
            },
            true,
        ),
        ("b is where they come from", None, |s| s.data(Generation { term: 4, boot: 7 }, 2), true),
        (
            "b is where they come from, and data of a are less fresh",
            Some(Side::A),
            |s| {
                s.peer.frame.data.stale_trees = 1;
                s.data(Generation { term: 4, boot: 7 }, 2);
            },
            false,
        ),
        (
            "data of b are less fresh and newer",
            None,
            |s| {
                s.peer.frame.data.generation.term = 3;
                s.data(Generation { term: 4, boot: 7 }, 2);
            },
            false,
        ),
    ];
    for (what, prefer, change, votes) in cases {
        let mut s = Script::with(Settings { prefer, mirrored: true, ..settings() }, Memory::Fresh);
        s.data(Generation { term: 4, boot: 7 }, 0);
        s.peer_stands_by();
        s.peer.frame.data = Data { generation: Generation { term: 4, boot: 7 }, ..Data::default() };
        change(&mut s);
        s.run(1000);
        assert_eq!(s.role(), Role::Standby, "{what}");
        let vote = s.said.expect("it speaks").vote;
        assert_eq!(vote.is_some(), votes, "{what}");
        assert!(vote.is_none_or(|v| v.candidate == s.peer.frame.boot && v.term == 5), "{what}: {vote:?}");
    }
    // Without a mirror there are no data that could be newer.
    let mut s = Script::with(Settings { prefer: Some(Side::B), ..settings() }, Memory::Fresh);
    s.peer_stands_by();
    s.peer.frame.data.generation.term = 5;
    s.run(1000);
    assert_eq!(s.said.expect("it speaks").vote, None);
}

/// A vote stands as long as its term can be used; one that the candidate has left behind is replaced.
#[test]
fn a_vote_is_for_a_term_above_all_that_both_have_used() {
    let mut s = Script::with(settings(), Memory::Known(Record { voted: 7, ..Record::default() }));
    s.peer_stands_by();
    s.run(500);
    let vote = |s: &Script| s.said.expect("it speaks").vote.map(|v| v.term);
    assert_eq!(vote(&s), Some(9));
    // It is said at once, and then at the pace of all that is said.
    let before = s.said.expect("it speaks").content_sequence;
    s.run(1000);
    let said = s.said.expect("it speaks").content_sequence - before;
    assert!((30..=36).contains(&said), "{said} heartbeats in a second");
    // It is used up when the candidate says so.
    s.peer.frame.top = 8;
    s.run(100);
    assert_eq!(vote(&s), Some(9));
    s.peer.frame.top = 9;
    s.run(100);
    assert_eq!(vote(&s), Some(11));
    s.peer.frame.top = 20;
    s.run(100);
    assert_eq!(vote(&s), Some(21));
    // What was voted for is not served by this box.
    assert_eq!(s.said.expect("it speaks").top, 21);
    s.peer.frame.eligible = false;
    s.peer_votes(20);
    s.never(Role::Active, 1000);
    s.never(Role::Claiming, 1000);
    s.peer_votes(22);
    s.run(200);
    assert_eq!(s.role(), Role::Active);
    // Whoever serves votes for nobody.
    s.peer_stands_by();
    s.run(100);
    assert_eq!(vote(&s), None);
}

/// A box says that it would serve only if it would.
#[test]
fn a_box_is_eligible_if_nothing_holds_it() {
    let eligible = |s: &Script| s.said.expect("it speaks").eligible;
    let mut s = Script::standby();
    assert!(eligible(&s));
    s.input(Input::Services { healthy: false });
    s.run(100);
    assert!(!eligible(&s) && s.role() == Role::Held);
    s.input(Input::Services { healthy: true });
    s.run(2900);
    assert!(!eligible(&s), "it is held until the hold-down is over");
    s.run(300);
    assert!(eligible(&s));
    let term = s.node.known_term();
    s.order(Order::Hold { term });
    s.run(100);
    assert!(!eligible(&s));
    s.order(Order::Release);
    s.run(100);
    assert!(eligible(&s));
    s.active();
    assert!(!eligible(&s));
    // Which terms are used is not known before the copies have been read.
    let mut s = Script::with(Settings { mirrored: true, ..settings() }, Memory::Fresh);
    s.run(1000);
    assert!(!eligible(&s) && s.role() == Role::Standby);
    s.data(Generation::default(), 0);
    s.run(100);
    assert!(eligible(&s));
    // A claimant still is.
    s.peer.speaks = false;
    s.run(700);
    assert!(eligible(&s) && s.role() == Role::Claiming);
}

/// Services, witnesses that answer, and links of this board that have a carrier.
#[test]
fn the_score_is_what_works() {
    let score = |s: &mut Script| {
        s.run(100);
        s.said.expect("it speaks").score
    };
    let mut s = Script::standby();
    // The board has a null modem and the LAN, no crossover.
    for (carriers, links) in [(0b111, 2), (0b101, 2), (0b100, 1), (0b001, 1), (0b010, 0), (0b1111_1010, 0)] {
        s.input(Input::Carriers(carriers));
        assert_eq!(score(&mut s), Score { services: 1, witnesses: 1, carriers: links }, "{carriers:03b}");
    }
    s.witness = false;
    s.run(1000);
    s.input(Input::Services { healthy: false });
    assert_eq!(score(&mut s), Score { services: 0, witnesses: 0, carriers: 0 });
}
