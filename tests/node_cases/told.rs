//! What a node tells: alarms, what would stop it, what it says to the peer and how often.

use super::script::{MS, Script, TICK, settings};
use twobox::node::settings::{LAN, Settings};
use twobox::node::status::{Alarm, Blocker};
use twobox::node::{Action, Answer, Input, Memory, Node, Note, Order, Record};
use twobox::time::{Duration, Instant};
use twobox::wire::pair::{BootId, Data, Generation, Role};

const MOMENT: Duration = Duration::from_nanos(1);

fn alarms(s: &Script) -> Vec<Alarm> {
    s.node.status(s.now).alarms.iter().collect()
}

fn blocked(s: &Script, blocker: Blocker) -> bool {
    s.node.status(s.now).blockers.has(blocker)
}

#[test]
fn an_alarm_is_told_when_it_begins_and_when_it_ends() {
    let mut s = Script::standby();
    s.run(200);
    assert!(alarms(&s).is_empty());
    s.did.clear();
    for digest in [2, 1] {
        s.peer.frame.digest = digest;
        s.run(200);
    }
    let notes: Vec<Action> = s.did.iter().filter(|a| matches!(a, Action::Note(_))).copied().collect();
    let alarm = Alarm::ConfigDiffers;
    assert_eq!(notes, [Action::Note(Note::Raised(alarm)), Action::Note(Note::Cleared(alarm))], "once each");
}

#[test]
fn what_the_peer_says_of_itself_is_compared() {
    let mut s = Script::standby();
    s.peer.frame.digest = 2;
    s.peer.frame.fence = None;
    s.run(100);
    assert_eq!(alarms(&s), [Alarm::ConfigDiffers, Alarm::PeerUnfenced]);
    let status = s.node.status(s.now);
    assert!(!status.config_matches && status.claim_wait.is_none() && status.peer_fence == Some(None));
    assert!(blocked(&s, Blocker::PeerUnfenced));
    s.peer.frame.digest = 1;
    s.peer.frame.fence = Some(MS * 1000);
    s.run(100);
    assert!(alarms(&s).is_empty() && s.node.status(s.now).config_matches && !blocked(&s, Blocker::PeerUnfenced));
}

#[test]
fn only_who_serves_can_serve_stale_data_or_by_force() {
    let stale = Data { generation: Generation::default(), lag_s: 9, stale_trees: 1 };
    let mut s = Script::with(Settings { mirrored: true, ..settings() }, Memory::Fresh);
    s.input(Input::Data { data: stale, newest: 0 });
    s.run(1000);
    assert_eq!((s.role(), alarms(&s)), (Role::Standby, vec![]));
    s.active();
    assert!(alarms(&s).is_empty());
    s.input(Input::Data { data: stale, newest: 0 });
    s.run(20);
    assert_eq!(alarms(&s), [Alarm::ServesStale]);

    let mut s = Script::standby();
    s.peer.speaks = false;
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.run(2000);
    assert_eq!((s.role(), alarms(&s)), (Role::Active, vec![Alarm::PeerSilent, Alarm::Forced]));
}

/// More than half of the configured witnesses, or half with the first: the record says which were proven, if the configuration
/// is still that one.
#[test]
fn too_few_proven_witnesses_are_told() {
    for witnesses in 0..=8u8 {
        for proven in 0..=u8::MAX {
            for (proven_digest, require_reflection) in [(1, true), (2, true), (1, false), (2, false)] {
                let s = Settings { witnesses, require_reflection, ..settings() };
                let record = Record { proven, proven_digest, ..Record::default() };
                let counted = if proven_digest == 1 { proven & s.witness_mask() } else { 0 };
                let status = Node::new(s, Instant::BOOT, Memory::Known(record), false).status(Instant::BOOT);
                assert_eq!(status.proven, counted);
                let (twice, all) = (2 * counted.count_ones(), u32::from(witnesses));
                let enough = twice > all || (twice == all && counted & 1 != 0);
                // Whom the operator vouches for counts unless the configuration was changed since the last contact.
                let unproven = witnesses > 0 && (require_reflection || proven_digest == 2) && !enough;
                assert_eq!(status.blockers.has(Blocker::Unproven), unproven, "{witnesses} {proven:08b}");
                assert_eq!(status.blockers.has(Blocker::NoWitness), witnesses == 0);
                assert_eq!(status.blockers.has(Blocker::NoQuorum), witnesses > 0);
            }
        }
    }
    // It is an alarm after a fair chance: of a second, or two leases.
    for (lease, fair) in [(500, 1000), (800, 1600)] {
        let settings = Settings { require_reflection: true, lease: MS * lease, ..settings() };
        let mut s = Script::with(settings, Memory::Fresh);
        s.peer.speaks = false;
        s.run(fair - TICK);
        assert!(alarms(&s).is_empty(), "{:?}", alarms(&s));
        s.run(TICK);
        // The witness answers: that it makes no quorum is no trouble of its own.
        assert_eq!(alarms(&s), [Alarm::PeerSilent, Alarm::Unproven]);
        let blockers = s.node.status(s.now).blockers;
        assert!(blockers.has(Blocker::Unproven) && !blockers.has(Blocker::NoQuorum));
        s.witness = false;
        s.run(3000);
        assert_eq!(alarms(&s), [Alarm::PeerSilent, Alarm::Unproven, Alarm::NoQuorum]);
    }
    let mut s = Script::with(Settings { witnesses: 0, require_reflection: true, ..settings() }, Memory::Fresh);
    s.peer.speaks = false;
    s.run(3000);
    assert_eq!(alarms(&s), [Alarm::PeerSilent], "there is none that could be missed");
}

#[test]
fn what_would_stop_a_takeover_is_told_as_long_as_it_would() {
    let mut s = Script::standby();
    s.run(1000);
    let blockers = |s: &Script, at| s.node.status(at).blockers.iter().collect::<Vec<_>>();
    assert_eq!(blockers(&s, s.now), [Blocker::PeerServes]);
    s.peer.speaks = false;
    let until = s.node.status(s.now).peer_heard_at.expect("heard") + settings().lease;
    assert_eq!(blockers(&s, until)[..1], [Blocker::PeerServes]);
    assert!(!blockers(&s, until + MOMENT).contains(&Blocker::PeerServes));
    s.witness = false;
    s.run(1000);
    assert_eq!(blockers(&s, s.now), [Blocker::NoQuorum]);
    let term = s.node.known_term();
    s.order(Order::Hold { term });
    s.run(20);
    assert_eq!(blockers(&s, s.now), [Blocker::NoQuorum, Blocker::Held]);

    // The boot wait ends by itself, or with the first contact.
    let mut s = Script::new();
    s.peer.speaks = false;
    let until = s.now + settings().boot_wait;
    s.run(1000);
    assert!(blockers(&s, until - MOMENT).contains(&Blocker::BootWait));
    assert!(!blockers(&s, until).contains(&Blocker::BootWait));
    s.peer.speaks = true;
    s.run(500);
    assert!(!blocked(&s, Blocker::BootWait));

    let mut s = Script::with(Settings { mirrored: true, ..settings() }, Memory::Fresh);
    assert!(blocked(&s, Blocker::CopiesUnread));
    s.data(Generation::default(), 0);
    assert!(!blocked(&s, Blocker::CopiesUnread));
    s.peer.frame.interval = MS * 200;
    s.run(500);
    assert!(blocked(&s, Blocker::Timings));
    s.peer.frame.interval = MS * 50;
    s.run(500);
    assert!(!blocked(&s, Blocker::Timings));
}

/// Its term may be on disk: nothing is claimed for a lease, so that the peer hears of it first.
#[test]
fn after_a_claim_that_was_given_up_there_is_a_pause_of_a_lease() {
    let mut s = Script::with(Settings { terms_ahead: 0, ..settings() }, Memory::Fresh);
    s.run(1000);
    s.disk = None;
    // Not eligible, so that no vote of ours stands in the way.
    s.peer.frame.role = Role::Standby;
    s.peer_votes(2);
    s.until(Role::Claiming, 200);
    assert!(!blocked(&s, Blocker::Burnt));
    s.peer.frame.vote = None;
    s.run(100);
    assert_eq!(s.role(), Role::Standby);
    let until = s.node.status(s.now).since + settings().lease;
    assert!(s.node.status(until - MOMENT).blockers.has(Blocker::Burnt));
    assert!(!s.node.status(until).blockers.has(Blocker::Burnt));
    // A vote for another term is there at once, and waits, too.
    s.disk = Some(true);
    s.input(Input::Persisted { ticket: s.ticket(), durable: true });
    s.peer_votes(4);
    s.until(Role::Active, 3000);
    assert!(s.now >= until && s.now <= until + MS * 100, "{:?}", s.now.since(until));
}

#[test]
fn a_hold_is_done_when_it_is_on_disk() {
    let durable = |s: &Script| s.node.status(s.now).hold_is_durable;
    let mut s = Script::standby();
    let term = s.node.known_term();
    s.disk = None;
    assert!(durable(&s));
    s.order(Order::Hold { term });
    s.run(50);
    assert_eq!((s.role(), durable(&s)), (Role::Held, false));
    let ticket = s.ticket();
    s.input(Input::Persisted { ticket: ticket + 1, durable: true });
    assert!(!durable(&s), "another write");
    s.disk = Some(true);
    s.input(Input::Persisted { ticket, durable: true });
    s.run(50);
    assert!(durable(&s));
    // Ordered while it surrenders anyway.
    let mut s = Script::new();
    s.active();
    assert_eq!(s.order(Order::Switchover { term: 2 }), Some(Answer::Accepted));
    s.input(Input::Turn);
    assert_eq!((s.role(), s.order(Order::Hold { term: 2 })), (Role::Yielding, Some(Answer::Accepted)));
    assert!(!durable(&s));
    s.run(100);
    assert_eq!((s.role(), durable(&s)), (Role::Held, true));
}

/// Direct heartbeats at the interval of their path; the witnesses four times a second in peace, and forty times as soon as
/// something is late in either direction.
#[test]
fn each_path_has_its_pace() {
    let mut s = Script::standby();
    s.run(1000);
    let pace = |s: &mut Script, ms: u32| {
        let (mut direct, mut pings) = (vec![], 0);
        for _ in 0..ms / TICK {
            s.did.clear();
            s.said = None;
            s.run(TICK);
            direct.extend(s.said.map(|h| h.path));
            pings += s.did.iter().filter(|a| matches!(a, Action::Ping { .. })).count();
        }
        (direct.len(), pings)
    };
    // The script sees the last heartbeat of each turn: those of the null modem go out together with one of the LAN.
    let (direct, pings) = pace(&mut s, 2000);
    assert!((36..=48).contains(&direct) && (7..=9).contains(&pings), "{direct} {pings}");
    // The peer is there, and hears us no more: after half a lease and some.
    let heard = s.peer.heard;
    let deaf = s.now;
    let mut asked = vec![];
    while s.now < deaf + MS * 1000 {
        s.peer.heard = heard;
        s.did.clear();
        s.run(TICK);
        if s.did.iter().any(|a| matches!(a, Action::Ping { .. })) {
            asked.push(s.now.since(deaf));
        }
    }
    let full = asked.windows(2).find(|two| two[1] - two[0] == settings().round).map(|two| two[0]);
    assert!(full.is_some_and(|after| after >= MS * 150 && after <= MS * 210), "{full:?} of {asked:?}");
}

/// Each witness has a path of its own, and every one is pinged beside the heartbeat that it reflects.
#[test]
fn every_witness_has_its_path() {
    let mut s = Script::with(Settings { witnesses: 3, ..settings() }, Memory::Fresh);
    s.now = s.now + MS;
    s.node.handle(s.now, Input::Turn);
    let actions: Vec<Action> = std::iter::from_fn(|| s.node.next_action()).collect();
    let sent: Vec<u8> =
        actions.iter().filter_map(|a| if let Action::Send(h) = a { Some(h.path) } else { None }).collect();
    let pinged: Vec<u8> = actions
        .iter()
        .filter_map(|a| if let Action::Ping { witness, .. } = a { Some(*witness) } else { None })
        .collect();
    assert_eq!((sent, pinged), (vec![0, 2, 3, 4, 5], vec![0, 1, 2]));
}

/// Neither the hello of a life that is not known nor the life that is starves the other.
#[test]
fn every_second_heartbeat_of_a_path_echoes_a_hello() {
    let mut s = Script::standby();
    let present = s.peer.frame.boot;
    let hello = BootId::new(12).expect("not zero");
    let mut echoed = vec![];
    for _ in 0..400 / TICK {
        let known = s.peer.frame;
        s.reboot_peer(12);
        let f = s.frame(LAN);
        s.deliver(&f);
        s.peer.frame = twobox::wire::heartbeat::Heartbeat { path_sequence: f.path_sequence, ..known };
        s.said = None;
        s.run(TICK);
        echoed.extend(s.said.filter(|h| h.path == LAN).and_then(|h| h.echo).map(|e| e.boot));
    }
    assert!(echoed.len() >= 4, "{echoed:?}");
    assert!(echoed.windows(2).all(|two| two[0] != two[1]), "{echoed:?}");
    assert!(echoed.contains(&present) && echoed.contains(&hello));
}

#[test]
fn what_is_known_can_be_asked_for() {
    let mut s = Script::new();
    assert_eq!((s.node.peer_boot(), s.node.dropped_notes()), (None, 0));
    s.run(1000);
    assert_eq!(s.node.peer_boot(), BootId::new(11));
    assert_eq!(s.node.witness_rtt(0), Duration::ZERO);
    s.witness = false;
    s.did.clear();
    s.run(500);
    let (witness, round) = s
        .did
        .iter()
        .rev()
        .find_map(|a| if let Action::Ping { witness, round } = a { Some((*witness, *round)) } else { None })
        .expect("it asks");
    s.now = s.now + MS * 7;
    s.input(Input::Pong { witness, round });
    assert!(s.node.witness_rtt(0) >= MS * 7 && s.node.witness_rtt(0) <= MS * 260);
    assert_eq!(s.node.status(s.now).peer_boot, BootId::new(11));
}

/// Notes leave room for what must be done, and are counted when they do not fit.
#[test]
fn notes_that_do_not_fit_are_counted() {
    let mut s = Script::standby();
    while s.node.next_action().is_some() {}
    for life in 20..60u64 {
        s.reboot_peer(life);
        s.peer.heard = Some(s.now);
        let f = s.frame(LAN);
        s.node.handle(s.now, Input::Heartbeat { path: LAN, heartbeat: &f });
    }
    let notes = std::iter::from_fn(|| s.node.next_action()).filter(|a| matches!(a, Action::Note(_))).count();
    assert_eq!((notes, s.node.dropped_notes()), (24, 16));
}
