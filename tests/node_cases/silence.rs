//! What a claim in silence waits for, to the moment, and what breaks it.

use super::script::{MS, Script, TICK, settings};
use twobox::node::settings::{LAN, Settings};
use twobox::node::status::{Alarm, Blocker};
use twobox::node::{Action, Answer, Input, Memory, Node, Order};
use twobox::time::{Duration, Instant};
use twobox::wire::pair::{Role, Side};

const MOMENT: Duration = Duration::from_nanos(1);

/// The claim wait of this pair: (L + F)(1 + rho) + margin.
const WAIT: Duration = Duration::from_micros(1_551_500);

/// A node that is woken when it asked for it, and never else.
fn sleep_until(s: &mut Script, end: Instant) {
    while s.node.next_deadline() < end {
        let deadline = s.node.next_deadline();
        assert!(deadline > s.now, "it asks to be woken at once, for ever");
        s.now = deadline;
        s.input(Input::Turn);
    }
}

/// A Standby whose Active peer heard nothing any more, so that the witnesses have been asked at full rate for long, and died
/// then. What remains is what the peer's last word, as `role`, gives rise to.
fn after_a_deaf_peer(role: Role, fence: Duration) -> Script {
    let mut s = Script::standby();
    for _ in 0..4000 / TICK {
        s.peer.heard = None;
        s.run(TICK);
    }
    assert_eq!(s.role(), Role::Standby);
    (s.peer.frame.role, s.peer.frame.fence) = (role, Some(fence));
    s.peer.heard = None;
    let f = s.frame(LAN);
    s.deliver(&f);
    s.peer.speaks = false;
    s
}

/// When the peer was heard last.
fn heard_at(s: &Script) -> Instant {
    s.node.status(s.now).peer_heard_at.expect("heard")
}

/// The witnesses are asked when the peer's heartbeat is half an interval late, and the quorum has to last from there. The loop
/// sleeps in between, and is woken for each of these.
#[test]
fn a_claim_is_decided_in_the_moment_in_which_its_wait_ends() {
    let mut s = Script::standby();
    s.run(3000);
    s.peer.speaks = false;
    let heard = heard_at(&s);
    sleep_until(&mut s, heard + MS * 10_000);
    let late = MS * 75;
    assert_eq!((s.role(), s.node.status(s.now).since), (Role::Active, heard + late + WAIT));
    assert_eq!(s.node.status(s.now).claim_wait, Some(WAIT));
}

/// Of the direct paths that can carry a lease, the fastest by which the peer was heard lately; the slowest, if by none.
#[test]
fn a_heartbeat_is_missed_by_the_interval_of_the_path_that_it_comes_by() {
    let ms = |ms: u32| Some(MS * ms);
    for (intervals, heard_by, late) in [
        ([ms(100), None, ms(50)], LAN, 75),
        ([ms(100), None, ms(50)], 0, 150),
        ([ms(166), None, ms(50)], 0, 249),
        // It comes too seldom to carry a lease of 500 ms, and says nothing about lateness.
        ([ms(167), None, ms(50)], 0, 75),
        ([ms(167), None, ms(50)], LAN, 75),
        ([None, ms(20), ms(50)], 3, 75),
        ([None, None, None], 3, 375),
    ] {
        let mut s = Script::with(Settings { intervals, ..settings() }, Memory::Fresh);
        s.peer.speaks = false;
        for _ in 0..30 {
            let f = s.frame(heard_by);
            s.deliver(&f);
            s.run(20);
        }
        let heard = heard_at(&s);
        let mut asked: Vec<Duration> = vec![];
        while s.now < heard + MS * 450 {
            s.did.clear();
            s.now = s.node.next_deadline();
            s.input(Input::Turn);
            if s.did.iter().any(|a| matches!(a, Action::Ping { .. })) {
                asked.push(s.now.since(heard));
            }
        }
        // At full rate from the first round on that another one follows by 25 ms.
        let asked = asked.windows(2).find(|two| two[1] - two[0] == settings().round).map(|two| two[0]);
        assert_eq!(asked, Some(MS * late), "{intervals:?} heard by {heard_by}");
    }
}

/// A box that stands still may have missed a word, and rounds that a rival would have been seen in. The bounds that were told
/// before say nothing any more.
#[test]
fn a_late_wake_up_waits_anew() {
    let limit = settings().lease / 4;
    for (away, anew) in [(limit, false), (limit + MOMENT, true)] {
        let mut s = Script::standby();
        s.run(3000);
        s.peer.speaks = false;
        let heard = heard_at(&s);
        sleep_until(&mut s, heard + MS * 1000);
        assert_eq!(s.role(), Role::Claiming);
        // The last turn was the last moment before that at which it asked to be woken.
        let last_turn = s.now;
        s.now = last_turn + away;
        s.input(Input::Turn);
        let back = s.now;
        assert_eq!(s.role(), if anew { Role::Standby } else { Role::Claiming });
        sleep_until(&mut s, heard + MS * 10_000);
        let expected = if anew { back + settings().longest_wait } else { heard + MS * 75 + WAIT };
        assert_eq!(s.role(), Role::Active);
        let since = s.node.status(s.now).since;
        assert!(
            since >= expected && since <= expected + MS * 25,
            "{:?} {:?}",
            since.since(heard),
            expected.since(heard)
        );
    }
}

/// Somebody else may take over from a peer that was granted a lease, only when the lease and the fence are over.
#[test]
fn a_promise_binds_where_nothing_else_does() {
    // A box that is held is no rival, and has heard nothing of us that it could grant for.
    let mut s = after_a_deaf_peer(Role::Active, MS * 1000);
    s.run(100);
    s.peer.frame.role = Role::Held;
    s.peer.heard = None;
    let f = s.frame(LAN);
    s.deliver(&f);
    let heard = heard_at(&s);
    s.run(1545);
    assert_ne!(s.role(), Role::Active);
    s.run(20);
    assert_eq!(s.role(), Role::Active);
    assert!(s.node.status(s.now).since >= heard + WAIT);
}

/// The same for a life that never heard us: perhaps it is the present one, and hears all that we grant.
#[test]
fn a_promise_to_a_life_that_only_said_hello_binds_too() {
    let mut s = after_a_deaf_peer(Role::Active, MS * 1000);
    s.run(100);
    s.reboot_peer(12);
    (s.peer.frame.role, s.peer.frame.fence) = (Role::Held, Some(MS * 2000));
    let f = s.frame(LAN);
    s.deliver(&f);
    let heard = s.now;
    let wait = settings().claim_wait(settings().lease, Some(MS * 2000)).expect("bounded");
    s.run(2545);
    assert_ne!(s.role(), Role::Active);
    s.run(20);
    assert_eq!(s.role(), Role::Active);
    assert!(s.node.status(s.now).since >= heard + wait);
}

/// Of several that said hello any may be the present one: the longest promise counts, also when others have said hello since.
#[test]
fn promises_to_several_lives_that_only_said_hello_all_bind() {
    let mut s = after_a_deaf_peer(Role::Active, MS * 1000);
    s.run(100);
    let mut heard = s.now;
    for (life, fence) in [(12, 2000), (13, 1000)] {
        s.reboot_peer(life);
        (s.peer.frame.role, s.peer.frame.fence) = (Role::Held, Some(MS * fence));
        let f = s.frame(LAN);
        s.deliver(&f);
        heard = heard.min(s.now);
        // Some heartbeats, each of which promises anew.
        s.run(200);
    }
    let wait = settings().claim_wait(settings().lease, Some(MS * 2000)).expect("bounded");
    s.run(5000);
    assert_eq!(s.role(), Role::Active);
    assert!(s.node.status(s.now).since >= heard + wait, "{:?}", s.node.status(s.now).since.since(heard));
}

/// Its last word was that of a rival, and nothing was promised to it: whoever claims or serves is granted nothing.
#[test]
fn a_rival_is_waited_for_where_nothing_was_promised() {
    let mut s = after_a_deaf_peer(Role::Active, MS * 1000);
    let heard = heard_at(&s);
    s.run(1600);
    assert_eq!(s.role(), Role::Active);
    assert!(s.node.status(s.now).since >= heard + WAIT);
}

/// The peer is fenced by its own word, and answers all the same. What is left of the wait is for the probe of that moment.
#[test]
fn the_margin_of_a_claim_is_for_a_probe() {
    let mut s = after_a_deaf_peer(Role::Active, MS * 1000);
    s.answers = true;
    s.never(Role::Active, 5000);
    assert!(s.node.status(s.now).alarms.has(Alarm::FencingFailed));
    // Probes are sent in the claim twice a lease, and once more when the peer must be fenced.
    let mut s = after_a_deaf_peer(Role::Active, MS * 1100);
    let heard = heard_at(&s);
    s.did.clear();
    let mut probed = vec![];
    while s.role() != Role::Active && s.now < heard + MS * 5000 {
        s.run(TICK);
        if s.did.contains(&Action::Probe) {
            probed.push(s.now.since(heard).as_millis());
        }
        s.did.clear();
    }
    assert_eq!(probed.len(), 6, "{probed:?}");
    assert!(probed[0] > 500 && probed[0] <= 510, "{probed:?}");
    let wait = settings().claim_wait(settings().lease, Some(MS * 1100)).expect("bounded");
    let fenced = (wait - settings().margin).as_millis();
    assert!(probed[5] >= fenced && probed[5] <= fenced + 2 * u128::from(TICK), "{probed:?}");
    assert!(probed[..5].windows(2).all(|two| (250..=260).contains(&(two[1] - two[0]))), "{probed:?}");
}

/// A peer that is held and does not hear speaks for ever: whoever claims promises it nothing more.
#[test]
fn a_claim_is_not_held_up_by_who_is_held_and_deaf() {
    let mut s = after_a_deaf_peer(Role::Active, MS * 1000);
    s.peer.frame.role = Role::Held;
    s.peer.speaks = true;
    for _ in 0..3000 / TICK {
        s.peer.heard = None;
        s.run(TICK);
    }
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_grant_breaks_a_claim_in_silence() {
    let mut s = after_a_deaf_peer(Role::Active, MS * 1000);
    s.run(700);
    assert_eq!(s.role(), Role::Claiming);
    // Held, it is no rival; but it answers.
    s.peer.frame.role = Role::Held;
    s.peer.heard = s.said.map(|said| said.sent_at);
    let f = s.frame(LAN);
    s.deliver(&f);
    s.input(Input::Turn);
    assert_eq!(s.role(), Role::Standby);
}

/// A silence that was no longer than a lease is none: the peer may hold a right by our last word.
#[test]
fn a_claim_begins_when_the_last_word_is_older_than_a_lease() {
    let mut s = after_a_deaf_peer(Role::Active, MS * 1000);
    let heard = heard_at(&s);
    s.until(Role::Claiming, 1000);
    let began = s.node.status(s.now).since;
    assert!(began > heard + settings().lease && began <= heard + settings().lease + MS * (2 * TICK));
}

/// The kernel says that it has stopped the other processors. Nothing was heard on the null modem before that for a second, or a
/// life has begun since, or we were away: then the text may be an old one.
#[test]
fn a_panic_text_counts_if_it_began_within_a_second_of_the_last_frame() {
    let text = |wait: Duration, before: Duration| {
        let mut s = Script::standby();
        s.run(1000);
        s.peer.speaks = false;
        let heard = heard_at(&s);
        while s.now + MS * TICK < heard + wait {
            s.run(TICK);
        }
        s.now = heard + wait;
        s.input(Input::PanicText { began: s.now - before });
        s.input(Input::Turn);
        s.node.status(s.now).alarms.has(Alarm::PeerPanicked)
    };
    let second = MS * 1000;
    assert!(text(Duration::ZERO, Duration::ZERO) && text(second, Duration::ZERO));
    assert!(!text(second + MOMENT, Duration::ZERO), "too long after the last frame");
    assert!(text(MS * 100, MS * 100) && !text(MS * 100, MS * 100 + MOMENT), "before the last frame");
}

#[test]
fn a_panic_text_after_another_life_or_a_late_wake_up_counts_for_nothing() {
    for (life, away, counts) in [(false, false, true), (true, false, false), (false, true, false)] {
        let mut s = Script::standby();
        s.run(1000);
        s.peer.speaks = false;
        s.run(20);
        if life {
            let present = s.peer.frame;
            s.reboot_peer(12);
            let f = s.frame(LAN);
            s.deliver(&f);
            s.peer.frame = present;
        }
        if away {
            s.now = s.now + MS * 200;
            s.input(Input::Turn);
        }
        s.input(Input::PanicText { began: s.now });
        s.input(Input::Turn);
        assert_eq!(s.node.status(s.now).alarms.has(Alarm::PeerPanicked), counts, "{life} {away}");
    }
    let mut s = Script::with(Settings { panic_text: false, ..settings() }, Memory::Fresh);
    s.run(1000);
    s.input(Input::PanicText { began: s.now });
    s.input(Input::Turn);
    assert!(!s.node.status(s.now).alarms.has(Alarm::PeerPanicked), "not wanted");
}

/// For three heartbeats nothing follows the text: it is true then, for a second or two leases.
#[test]
fn a_panic_text_proves_a_death_between_three_heartbeats_and_two_leases() {
    for (lease, after, proves) in [
        (500, MS * 150 - MOMENT, false),
        (500, MS * 150, true),
        (500, MS * 1150, true),
        (500, MS * 1150 + MOMENT, false),
        (800, MS * 1750, true),
        (800, MS * 1750 + MOMENT, false),
    ] {
        let lease = MS * lease;
        let mut s = Script::with(Settings { lease, longest_wait: MS * 9000, ..settings() }, Memory::Fresh);
        (s.peer.frame.lease, s.peer.frame.fence) = (lease, Some(MS * 8000));
        s.run(1000);
        // Without a quorum it is not acted upon, and stays.
        (s.peer.speaks, s.witness) = (false, false);
        s.input(Input::PanicText { began: s.now });
        let seen = s.now;
        s.run(u32::try_from(after.as_millis()).expect("short") / TICK * TICK);
        s.now = seen + after;
        // Whoever is dead does not answer; if something does, fencing has failed.
        s.input(Input::Conflict);
        assert_eq!(s.node.status(s.now).blockers.has(Blocker::Conflict), proves, "{lease:?} {after:?}");
    }
}

/// The write failed: the operator's claim is over, and may be ordered again.
#[test]
fn a_forced_claim_ends_with_the_write_that_fails() {
    let mut s = Script::with(Settings { terms_ahead: 0, ..settings() }, Memory::Fresh);
    s.run(1000);
    (s.peer.speaks, s.disk) = (false, None);
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.run(2000);
    assert_eq!(s.role(), Role::Claiming);
    let ticket = s.ticket();
    s.input(Input::Persisted { ticket, durable: false });
    s.input(Input::Turn);
    assert_ne!(s.role(), Role::Claiming);
    s.never(Role::Active, 5000);
}

/// At least eight times a lease, however little there is to do: a longer gap would be lateness.
#[test]
fn the_loop_is_woken_eight_times_a_lease() {
    let (slow, lease) = (MS * 60_000, settings().lease);
    for (witnesses, expected) in [(0, lease / 8), (1, MS * 25)] {
        let now = Instant::BOOT + MS * 100_000;
        let sparse = Settings {
            intervals: [None, None, Some(slow)],
            round_idle: slow,
            feed: slow,
            witnesses,
            node: Side::A,
            ..settings()
        };
        let mut node = Node::new(sparse, now, Memory::Fresh, false);
        node.handle(now, Input::Down { order: 0 });
        node.handle(now, Input::Turn);
        while node.next_action().is_some() {}
        assert_eq!(node.next_deadline(), now + expected, "{witnesses} witnesses");
    }
}
