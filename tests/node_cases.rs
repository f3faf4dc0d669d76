//! One node and a peer made of hand-written frames: cases that once went wrong, one test each.

#[path = "node_cases/accounts.rs"]
mod accounts;
#[path = "node_cases/arbitration.rs"]
mod arbitration;
#[path = "node_cases/carried_out.rs"]
mod carried_out;
#[path = "node_cases/force.rs"]
mod force;
#[path = "node_cases/peer.rs"]
mod peer;
#[path = "node_cases/right.rs"]
mod right;
#[path = "node_cases/rounds.rs"]
mod rounds;
#[path = "node_cases/rules.rs"]
mod rules;
#[path = "node_cases/script.rs"]
mod script;
#[path = "node_cases/silence.rs"]
mod silence;
#[path = "node_cases/told.rs"]
mod told;

use script::{MS, Script, TICK, settings};
use twobox::node::settings::{FIRST_REFLECTED, LAN, Settings, StaleData};
use twobox::node::status::{Alarm, Blocker};
use twobox::node::{Answer, Input, Memory, Node, Order};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Echo, Heartbeat, Vote};
use twobox::wire::pair::{BootId, Data, Role, Side};

#[test]
fn a_standby_claims_after_a_silent_peer() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.run(1450);
    assert_eq!(s.role(), Role::Claiming);
    s.run(1000);
    assert_eq!(s.role(), Role::Active);
}

/// A dead daemon's kernel may answer for the address until its fence bound is over.
#[test]
fn an_answer_to_a_probe_before_the_fence_bound_is_over_stops_no_claim() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.answers = true;
    s.run(1450);
    s.answers = false;
    assert_eq!(s.role(), Role::Claiming);
    s.run(1000);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_peer_that_answers_although_it_must_be_fenced_is_not_replaced_and_that_is_told() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.answers = true;
    let mut told = 0;
    for _ in 0..20_000 / TICK {
        s.run(TICK);
        assert_ne!(s.role(), Role::Active);
        told += u32::from(s.node.status(s.now).alarms.has(Alarm::FencingFailed));
    }
    // From the end of the wait on, and without a gap: the alarm lasts as long as its reason.
    assert!(told > 17_000 / TICK, "told for {} ms", told * TICK);
    assert!(s.node.status(s.now).blockers.has(Blocker::Conflict));
    s.answers = false;
    s.run(5_000);
    assert_eq!(s.role(), Role::Active);
    assert!(!s.node.status(s.now).alarms.has(Alarm::FencingFailed));
}

/// Its heartbeats were lost for a moment: whoever is heard again answers for its address by right.
#[test]
fn a_peer_that_is_heard_again_is_not_accused() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.answers = true;
    s.run(700);
    assert_eq!(s.role(), Role::Claiming);
    s.peer.speaks = true;
    for _ in 0..3_000 / TICK {
        s.run(TICK);
        assert!(!s.node.status(s.now).alarms.has(Alarm::FencingFailed));
    }
    assert_eq!(s.role(), Role::Standby);
}

#[test]
fn a_farewell_does_not_stop_a_claim_in_silence() {
    let mut s = Script::standby();
    s.input(Input::Services { healthy: false });
    s.peer.frame.role = Role::Held;
    s.peer.frame.farewell = true;
    s.run(500);
    assert_eq!(s.role(), Role::Held);
    s.peer.speaks = false;
    s.input(Input::Services { healthy: true });
    s.run(10_000);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_late_farewell_of_the_former_life_does_not_outlive_the_word_of_the_next() {
    let mut s = Script::standby();
    s.peer.frame.role = Role::Held;
    s.peer.frame.farewell = true;
    s.run(200);
    let late = s.frame(LAN);
    s.peer.speaks = false;
    s.run(20);
    s.reboot_peer(12);
    let hello = s.frame(LAN);
    s.deliver(&hello);
    s.run(20);
    s.deliver(&late);
    s.run(2000);
    let right = s.node.status(s.now).right;
    assert!(right.is_none_or(|r| r.until != Instant::NEVER), "{right:?}");
}

#[test]
fn a_failed_write_that_nothing_needs_any_more_does_not_hold_for_ever() {
    let mut s = Script::standby();
    s.disk = Some(false);
    let term = s.node.known_term();
    assert_eq!(s.order(Order::Hold { term }), Some(Answer::Accepted));
    s.run(50);
    assert_eq!(s.order(Order::Release), Some(Answer::Accepted));
    s.run(50);
    s.disk = Some(true);
    s.run(3000);
    assert_eq!(s.role(), Role::Standby);
}

#[test]
fn a_peer_without_a_bound_for_a_moment_is_replaced_all_the_same() {
    let mut s = Script::standby();
    s.peer.frame.fence = None;
    s.run(200);
    s.peer.frame.fence = Some(MS * 1000);
    s.run(200);
    s.peer.speaks = false;
    s.run(3000);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_peer_without_a_bound_is_never_claimed_in_silence() {
    let mut s = Script::standby();
    s.peer.frame.fence = None;
    s.run(200);
    s.peer.speaks = false;
    s.run(100_000);
    assert_eq!(s.role(), Role::Claiming);
}

#[test]
fn a_promise_to_a_former_life_binds_no_more() {
    let mut s = Script::standby();
    s.peer.frame.fence = None;
    s.run(200);
    s.reboot_peer(12);
    s.peer.frame.fence = Some(MS * 1000);
    s.run(300);
    s.peer.speaks = false;
    s.run(5000);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn an_old_panic_text_waives_nothing() {
    let mut s = Script::standby();
    s.run(1000);
    s.witness = false;
    s.peer.speaks = false;
    s.run(20);
    let began = s.now;
    s.input(Input::PanicText { began });
    // Without quorum nothing is claimed. When it comes back, the peer may have booted and serve.
    s.run(60_000);
    assert_eq!(s.role(), Role::Standby);
    s.witness = true;
    s.run(800);
    assert_ne!(s.role(), Role::Active);
    s.run(3000);
    assert_eq!(s.role(), Role::Active);
}

/// While nobody was heard and there was no quorum either, the peer may have lost a belt and come to serve with a longer bound
/// than it told.
#[test]
fn a_told_bound_holds_only_for_a_silence_without_a_gap() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.witness = false;
    s.run(10_000);
    s.witness = true;
    // The wait for the bound that was told would be 1.55 s, the one for the longest bound is 3 s.
    s.run(2900);
    assert_ne!(s.role(), Role::Active);
    s.run(400);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_frame_that_echoes_somebody_else_does_not_end_the_touch() {
    let mut s = Script::standby();
    let mut f = s.frame(LAN);
    f.echo = Some(Echo { boot: BootId::new(77).expect("not zero"), sent_at: s.now });
    s.deliver(&f);
    assert!(s.node.status(s.now).in_touch);
    // But only until what it echoed of us before is old.
    s.peer.speaks = false;
    s.run(495);
    let mut f = s.frame(LAN);
    f.echo = Some(Echo { boot: BootId::new(77).expect("not zero"), sent_at: s.now });
    s.deliver(&f);
    assert!(!s.node.status(s.now).in_touch);
}

/// The voter's promise is for the bound that it knew.
#[test]
fn a_vote_for_what_was_said_before_the_bound_grew_is_void() {
    for grows in [false, true] {
        let mut s = Script::standby();
        s.peer.frame.role = Role::Standby;
        s.peer.frame.vote = Some(Vote { term: 2, candidate: settings().boot });
        let f = s.frame(LAN);
        s.now = s.now + MS;
        if grows {
            s.input(Input::FenceBound(Some(MS * 2000)));
        }
        s.deliver(&f);
        s.input(Input::Turn);
        assert_eq!(s.role(), if grows { Role::Standby } else { Role::Active });
    }
}

#[test]
fn a_fresh_panic_text_waives_the_wait() {
    let mut s = Script::standby();
    s.run(1000);
    s.peer.speaks = false;
    s.run(20);
    let began = s.now;
    s.input(Input::PanicText { began });
    s.run(600);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_heartbeat_is_late_half_an_interval_after_it_was_due() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    // The script numbers the frames of all paths in one row: only this one is used from here on.
    let beat = |s: &mut Script, after: u32, lost: u32| {
        for _ in 0..lost {
            s.frame(LAN);
        }
        s.run(after);
        let f = s.frame(LAN);
        s.deliver(&f);
        let path = s.node.paths()[usize::from(LAN)];
        (path.late, path.lost)
    };
    beat(&mut s, 0, 0);
    let (late, lost) = beat(&mut s, 50, 0);
    assert_eq!(beat(&mut s, 75, 0), (late, lost), "half an interval late at most");
    assert_eq!(beat(&mut s, 80, 0), (late + 1, lost));
    assert_eq!(beat(&mut s, 20, 0), (late + 1, lost));
    // What was lost on the way does not make the next one late.
    assert_eq!(beat(&mut s, 150, 2), (late + 1, lost + 2));
    assert_eq!(beat(&mut s, 180, 2), (late + 2, lost + 4));
}

/// A direct frame that is sent while a reflected one is on its way arrives before it.
#[test]
fn a_reflected_frame_that_was_overtaken_shows_that_the_witness_reflects() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    for _ in 0..30 {
        let reflected = s.frame(FIRST_REFLECTED);
        let direct = s.frame(LAN);
        s.deliver(&direct);
        s.deliver(&reflected);
        s.run(50);
    }
    assert_eq!(s.node.status(s.now).heard, 1, "heard through the witness");
}

#[test]
fn terms_are_on_disk_before_they_are_needed() {
    let mut s = Script::standby();
    s.run(2000);
    s.disk = None;
    s.peer.speaks = false;
    s.run(2600);
    assert_eq!(s.role(), Role::Active, "a disk that hangs does not stop a takeover");
}

#[test]
fn the_highest_possible_term_does_not_panic() {
    let mut s = Script::standby();
    s.peer.frame.top = u64::MAX;
    s.run(200);
    s.peer.speaks = false;
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.run(1000);
}

#[test]
fn content_that_came_by_two_paths_is_heard_on_both_and_rejected_on_none() {
    use twobox::node::settings::CROSSOVER;
    let mut s = Script::standby();
    let first = s.frame(LAN);
    s.deliver(&first);
    let before = *s.node.paths();
    // The same content, later, on the slower path.
    let second = Heartbeat { path: CROSSOVER, path_sequence: 1, ..first };
    s.deliver(&second);
    let path = s.node.paths()[CROSSOVER as usize];
    assert_eq!((path.heard, path.rejected.iter().sum::<u32>()), (1, 0));
    // The same frame once more is a replay, on either path.
    s.deliver(&second);
    s.deliver(&first);
    let rejected = |path: u8| s.node.paths()[path as usize].rejected.iter().sum::<u32>();
    assert_eq!(rejected(CROSSOVER), 1);
    assert_eq!(rejected(LAN), before[LAN as usize].rejected.iter().sum::<u32>() + 1);
}

/// A witness that answers and routes carries every heartbeat by both of its ways.
#[test]
fn the_second_copy_through_a_witness_is_rejected_by_nobody_and_a_later_one_is() {
    use twobox::node::settings::FIRST_REFLECTED;
    let mut s = Script::standby();
    let rejected = |s: &Script| s.node.paths()[FIRST_REFLECTED as usize].rejected.iter().sum::<u32>();
    let before = rejected(&s);
    let first = s.frame(FIRST_REFLECTED);
    s.deliver(&first);
    s.deliver(&first);
    let next = s.frame(FIRST_REFLECTED);
    s.deliver(&next);
    s.deliver(&next);
    assert_eq!(rejected(&s), before);
    s.deliver(&first);
    assert_eq!(rejected(&s), before + 1, "played again");
}

/// A start is no trouble: what nobody has said yet is missed when there was time to say it.
#[test]
fn nothing_is_missed_before_it_had_a_fair_chance() {
    let mut s = Script::new();
    (s.peer.speaks, s.witness) = (false, false);
    s.input(Input::Turn);
    assert!(s.node.status(s.now).alarms.is_empty());
    s.run(950);
    assert!(s.node.status(s.now).alarms.is_empty());
    s.run(100);
    let told: Vec<Alarm> = s.node.status(s.now).alarms.iter().collect();
    assert_eq!(told, [Alarm::PeerSilent, Alarm::NoQuorum]);
    // Nor are addresses that nobody has looked at yet.
    let now = Instant::BOOT + Duration::from_secs(100);
    let mut node = Node::new(settings(), now, Memory::Fresh, false);
    let alarmed = |node: &mut Node, now| {
        node.handle(now, Input::Turn);
        while node.next_action().is_some() {}
        node.status(now).alarms.has(Alarm::NotDown)
    };
    assert!(!alarmed(&mut node, now));
    assert!(alarmed(&mut node, now + Duration::from_secs(1)));
}
