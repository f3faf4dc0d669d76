//! What is known of the peer, by itself: which of its lives counts, what the word of another one is worth, and how long a
//! word lasts.

use super::script::{MS, Script, settings};
use twobox::node::peer::{Peer, Received};
use twobox::node::settings::{CROSSOVER, LAN, PATHS};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Echo, Heartbeat, Reject};
use twobox::wire::pair::{BootId, Role};

const REPLAY: Received = Received::Rejected(Reject::Replay);
const UNKNOWN: Received = Received::Rejected(Reject::UnknownBoot);
const NEW_LIFE: Received = Received::Applied { new_boot: true };
const APPLIED: Received = Received::Applied { new_boot: false };

/// A moment so many milliseconds after a fixed one.
fn at(ms: u32) -> Instant {
    Instant::from_nanos(1_000_000_000) + MS * ms
}

fn boot(id: u64) -> BootId {
    BootId::new(id).expect("not zero")
}

/// Frame `n` of a life of the peer on the LAN: an Active one that has heard what we sent at `echoes`.
fn frame(life: u64, n: u64, echoes: Option<Instant>) -> Heartbeat {
    Heartbeat {
        boot: boot(life),
        path_sequence: n,
        content_sequence: n,
        sent_at: at(u32::try_from(n).expect("small")),
        echo: echoes.map(|sent_at| Echo { boot: settings().boot, sent_at }),
        ..Script::new().peer.frame
    }
}

fn hear(peer: &mut Peer, now: Instant, f: &Heartbeat) -> Received {
    peer.receive(&settings(), now, f.path, f)
}

/// Life 11 of the peer is known, and was heard at 100 ms.
fn known() -> Peer {
    let mut peer = Peer::new();
    assert_eq!(hear(&mut peer, at(100), &frame(11, 1, Some(at(90)))), NEW_LIFE);
    peer
}

#[test]
fn a_frame_counts_only_on_the_path_that_it_was_sent_by() {
    for played_on in [CROSSOVER, u8::try_from(PATHS).expect("few"), u8::MAX] {
        let mut peer = Peer::new();
        let f = frame(11, 1, Some(at(90)));
        assert_eq!(peer.receive(&settings(), at(100), played_on, &f), REPLAY);
        let f = Heartbeat { path: played_on, ..f };
        assert_eq!(peer.receive(&settings(), at(100), LAN, &f), REPLAY);
        assert_eq!(peer.any_at(), None);
    }
    let nowhere = Heartbeat { path: u8::MAX, ..frame(11, 1, Some(at(90))) };
    assert_eq!(hear(&mut Peer::new(), at(100), &nowhere), REPLAY);
}

#[test]
fn a_life_is_known_once_it_has_heard_ours() {
    let mut peer = Peer::new();
    let somebody_else = Heartbeat { echo: Some(Echo { boot: boot(77), sent_at: at(90) }), ..frame(11, 1, None) };
    assert_eq!(hear(&mut peer, at(100), &frame(11, 1, None)), UNKNOWN);
    assert_eq!(hear(&mut peer, at(100), &somebody_else), UNKNOWN);
    assert_eq!((peer.boot(), peer.last(), peer.heard_at(), peer.any_at()), (None, None, None, Some(at(100))));
    assert_eq!(hear(&mut peer, at(110), &frame(11, 2, Some(at(90)))), NEW_LIFE);
    assert_eq!((peer.boot(), peer.heard_at(), peer.echoed()), (Some(boot(11)), Some(at(110)), Some(at(90))));
}

/// Else the recording of a life that heard us long ago would take the place of the present one.
#[test]
fn the_next_life_must_have_heard_us_after_the_former_was_heard() {
    let mut peer = known();
    assert_eq!(hear(&mut peer, at(200), &frame(12, 1, None)), UNKNOWN);
    assert_eq!(hear(&mut peer, at(200), &frame(12, 2, Some(at(99)))), UNKNOWN);
    assert_eq!(peer.other_boot_at(), Some(at(200)));
    assert_eq!(hear(&mut peer, at(210), &frame(12, 3, Some(at(100)))), NEW_LIFE);
}

#[test]
fn a_life_that_has_ended_is_never_believed_again() {
    let mut peer = known();
    assert_eq!(hear(&mut peer, at(200), &frame(12, 1, Some(at(150)))), NEW_LIFE);
    assert_eq!(hear(&mut peer, at(300), &frame(11, 2, Some(at(250)))), REPLAY);
    assert_eq!((peer.boot(), peer.any_at(), peer.other_boot_at()), (Some(boot(12)), Some(at(200)), Some(at(200))));
}

#[test]
fn eight_ended_lives_are_remembered() {
    let mut peer = known();
    for life in 12..=20u32 {
        assert_eq!(hear(&mut peer, at(life * 100), &frame(life.into(), 1, Some(at(life * 100 - 1)))), NEW_LIFE);
    }
    for (life, expected) in [(11, UNKNOWN), (12, REPLAY), (19, REPLAY)] {
        assert_eq!(hear(&mut peer, at(3000), &frame(life, 5, None)), expected, "life {life}");
    }
}

#[test]
fn nothing_older_than_what_came_is_believed_on_any_path() {
    let mut peer = known();
    let newest = Heartbeat { served: 5, top: 5, ..frame(11, 5, Some(at(100))) };
    assert_eq!(hear(&mut peer, at(110), &newest), APPLIED);
    assert_eq!(hear(&mut peer, at(120), &newest), REPLAY);
    // Its path is alive, what it says is known.
    let slower = Heartbeat { path: CROSSOVER, path_sequence: 3, ..frame(11, 4, Some(at(100))) };
    assert_eq!(hear(&mut peer, at(130), &slower), REPLAY);
    assert_eq!(peer.paths[usize::from(CROSSOVER)].heard_at, Some(at(130)));
    assert_eq!((peer.heard_at(), peer.last().map(|f| f.served)), (Some(at(110)), Some(5)));
    let same = Heartbeat { path: CROSSOVER, path_sequence: 4, ..newest };
    assert_eq!(hear(&mut peer, at(140), &same), REPLAY);
    assert_eq!(peer.heard_at(), Some(at(110)));
}

/// It was sent before we listened.
#[test]
fn what_was_sent_before_the_first_frame_of_a_path_is_not_lost() {
    let mut peer = Peer::new();
    assert_eq!(hear(&mut peer, at(100), &frame(11, 10, Some(at(90)))), NEW_LIFE);
    assert_eq!(peer.paths[usize::from(LAN)].lost, 0);
    assert_eq!(hear(&mut peer, at(110), &frame(11, 13, Some(at(90)))), APPLIED);
    assert_eq!(peer.paths[usize::from(LAN)].lost, 2);
    // A new life numbers its frames anew, and silence between two lives is no lateness.
    assert_eq!(hear(&mut peer, at(9000), &frame(12, 4, Some(at(8990)))), NEW_LIFE);
    let path = peer.paths[usize::from(LAN)];
    assert_eq!((path.lost, path.late, path.heard), (2, 0, 3));
}

/// Every second heartbeat hands back the hello of a life that is not known yet: neither starves the other.
#[test]
fn what_is_known_and_who_says_hello_are_echoed_in_turn() {
    let echo = |peer: &Peer, now, turn| peer.to_echo(&settings(), now, turn).map(|h| (h.boot.get(), h.sent_at));
    let mut peer = known();
    assert_eq!((echo(&peer, at(100), false), echo(&peer, at(100), true)), (Some((11, at(1))), Some((11, at(1)))));
    hear(&mut peer, at(200), &frame(12, 7, None));
    assert_eq!((echo(&peer, at(200), false), echo(&peer, at(200), true)), (Some((11, at(1))), Some((12, at(7)))));
    // The newest hello of a life counts: a recorded one does not set it back.
    hear(&mut peer, at(210), &frame(12, 6, None));
    assert_eq!(peer.to_echo(&settings(), at(210), true).map(|h| h.received), Some(at(200)));
    hear(&mut peer, at(220), &frame(12, 7, None));
    assert_eq!(peer.to_echo(&settings(), at(220), true).map(|h| h.received), Some(at(200)));
    hear(&mut peer, at(230), &frame(12, 8, None));
    assert_eq!(echo(&peer, at(230), true), Some((12, at(8))));
    // That of another life does, whatever its clock says.
    hear(&mut peer, at(240), &frame(13, 2, None));
    assert_eq!(echo(&peer, at(240), true), Some((13, at(2))));
    // For a lease.
    let lease = settings().lease;
    assert_eq!(echo(&peer, at(240) + lease, true), Some((13, at(2))));
    assert_eq!(echo(&peer, at(240) + lease + Duration::from_nanos(1), true), Some((11, at(1))));
    // A hello that has become known is none any more.
    assert_eq!(hear(&mut peer, at(1000), &frame(13, 20, Some(at(990)))), NEW_LIFE);
    assert_eq!(echo(&peer, at(1000), true), Some((13, at(20))));
    assert_eq!(Peer::new().to_echo(&settings(), at(0), false), None);
}

#[test]
fn a_rival_is_who_serves_claims_yields_or_could_claim() {
    use Role::{Active, Claiming, Held, Joining, Standby, Yielding};
    for (role, quorum, rival) in [
        (Active, false, true),
        (Yielding, false, true),
        (Claiming, false, true),
        (Standby, true, true),
        (Joining, true, true),
        (Standby, false, false),
        (Joining, false, false),
        (Held, true, false),
        (Held, false, false),
    ] {
        // Of a known life and of one that has not heard us yet.
        for (life, echoes) in [(11, Some(at(150))), (12, None)] {
            let mut peer = Peer::new();
            let quiet = Heartbeat { role: Held, ..frame(11, 1, Some(at(90))) };
            assert_eq!(hear(&mut peer, at(100), &quiet), NEW_LIFE);
            hear(&mut peer, at(200), &Heartbeat { role, quorum, ..frame(life, 2, echoes) });
            let blocks = rival && echoes.is_none();
            assert_eq!(peer.rival_at(), rival.then(|| at(200)), "{role:?} {quorum} of life {life}");
            assert_eq!(peer.blocked_at(), blocks.then(|| at(200)), "{role:?} {quorum} of life {life}");
        }
    }
}

/// A rival that heard us within a lease leaves our quorum right alone.
#[test]
fn an_echo_is_fresh_for_a_lease() {
    for (late, blocks) in [(Duration::ZERO, true), (Duration::from_nanos(1), false)] {
        let mut peer = known();
        hear(&mut peer, at(100) + settings().lease - late, &frame(11, 2, Some(at(100))));
        assert_eq!(peer.blocked_at().is_some(), blocks);
    }
}

/// The wait for a rival is reckoned with what it told last.
#[test]
fn a_rival_is_waited_for_with_its_own_bounds() {
    let s = settings();
    let wait = |fence| s.claim_wait(s.lease, Some(fence)).expect("bounded");
    let with = |fence, f| Heartbeat { fence: Some(fence), ..f };
    let (short, long) = (MS * 1000, MS * 4000);
    let mut peer = known();
    assert_eq!(peer.rival_until(), at(100) + wait(short));
    hear(&mut peer, at(200), &with(long, frame(11, 2, Some(at(100)))));
    assert_eq!(peer.rival_until(), at(200) + wait(long));
    // The bound of one life says what all of that life can still do; a life that is not known does not speak for it.
    let held = |f| Heartbeat { role: Role::Held, ..f };
    hear(&mut peer, at(300), &held(frame(12, 1, None)));
    assert_eq!(peer.rival_until(), at(200) + wait(long));
    hear(&mut peer, at(300), &held(with(short, frame(11, 3, Some(at(100))))));
    assert_eq!(peer.rival_until(), at(300) + wait(short));
    // Whoever is no rival does not make the wait longer.
    hear(&mut peer, at(400), &held(with(long, frame(11, 4, Some(at(100))))));
    assert_eq!(peer.rival_until(), at(300) + wait(short));
}

/// Its life is not known: perhaps it is a recording, perhaps the present one. The longest wait counts.
#[test]
fn a_rival_that_has_not_heard_us_is_waited_for_until_its_life_is_known() {
    let s = settings();
    let wait = |fence| s.claim_wait(s.lease, fence).expect("bounded");
    let mut peer = Peer::new();
    hear(&mut peer, at(100), &Heartbeat { fence: Some(MS * 9000), ..frame(11, 1, None) });
    hear(&mut peer, at(200), &frame(11, 2, None));
    assert_eq!(peer.rival_until(), at(100) + wait(Some(MS * 9000)));
    // It says anew what bounds it has.
    hear(&mut peer, at(300), &frame(11, 3, Some(at(250))));
    assert_eq!(peer.rival_until(), at(300) + wait(s.fence));

    // Another life than the one that said hello is known first: the other one may be alive.
    let mut peer = Peer::new();
    hear(&mut peer, at(100), &Heartbeat { fence: Some(MS * 9000), ..frame(11, 1, None) });
    hear(&mut peer, at(300), &frame(12, 3, Some(at(250))));
    assert_eq!(peer.rival_until(), at(100) + wait(Some(MS * 9000)));
    // The life after it knows that both are over.
    hear(&mut peer, at(400), &frame(13, 1, Some(at(350))));
    assert_eq!(peer.rival_until(), at(400) + wait(s.fence));
}

/// While we were away it may have spoken.
#[test]
fn silence_has_to_be_heard_anew_after_being_away() {
    let s = settings();
    let mut peer = known();
    let wait = peer.claim_wait(&s).expect("bounded");
    peer.restart_silence(&s, at(300));
    assert_eq!((peer.rival_at(), peer.rival_until()), (Some(at(300)), at(300) + wait));
    let mut peer = Peer::new();
    peer.restart_silence(&s, at(300));
    assert_eq!((peer.rival_at(), peer.rival_until()), (None, Instant::BOOT));
}

/// With a gap of more than a lease between the last word and the quorum the told bound may be that of a former life.
#[test]
fn the_told_bound_holds_if_the_quorum_goes_back_to_the_last_contact() {
    let s = settings();
    let peer = known();
    let told = s.claim_wait(s.lease, s.fence);
    // Its last word was sent after what it echoes.
    assert_eq!(peer.quorum_wait(&s, at(90) + s.lease), told);
    assert_eq!(peer.quorum_wait(&s, at(90) + s.lease + Duration::from_nanos(1)), Some(s.longest_wait));
    // However late it was read.
    let mut late = known();
    hear(&mut late, at(20_000), &frame(11, 2, Some(at(95))));
    assert_eq!(late.quorum_wait(&s, at(20_000)), Some(s.longest_wait));
    assert_eq!(Peer::new().quorum_wait(&s, at(0)), Some(s.longest_wait));
    // Never shorter than what was told, nor finite if that was without end.
    for (fence, expected) in [(Some(MS * 9000), s.claim_wait(s.lease, Some(MS * 9000))), (None, None)] {
        let mut peer = known();
        hear(&mut peer, at(200), &Heartbeat { fence, ..frame(11, 2, Some(at(150))) });
        assert_eq!(peer.quorum_wait(&s, at(9000)), expected);
    }
}

#[test]
fn touch_lasts_for_a_lease_after_what_was_heard_and_after_what_was_echoed() {
    let (s, moment) = (settings(), Duration::from_nanos(1));
    // Heard at 100 ms, echoing 90 ms.
    let peer = known();
    assert!(peer.heard_within(at(100) + s.lease - moment, s.lease) && !peer.heard_within(at(100) + s.lease, s.lease));
    assert!(peer.in_touch(&s, at(90) + s.lease - moment) && !peer.in_touch(&s, at(90) + s.lease));
    // Heard again, without an echo of ours: what it had heard of us stands until it is old.
    let mut peer = known();
    hear(&mut peer, at(400), &frame(11, 2, None));
    assert_eq!(peer.echoed(), Some(at(90)));
    assert!(peer.in_touch(&s, at(90) + s.lease - moment) && !peer.in_touch(&s, at(90) + s.lease));
}

/// One recording would else end the right of a box that serves alone again and again.
#[test]
fn a_frame_of_a_life_that_is_not_known_counts_once() {
    let mut peer = Peer::new();
    assert_eq!(hear(&mut peer, at(100), &frame(11, 5, None)), UNKNOWN);
    assert_eq!(hear(&mut peer, at(110), &frame(12, 5, None)), UNKNOWN);
    for (now, life, n) in [(200, 11, 5), (210, 12, 5), (220, 11, 4), (230, 12, 5)] {
        assert_eq!(hear(&mut peer, at(now), &frame(life, n, None)), UNKNOWN);
        let counted = (peer.any_at(), peer.rival_at(), peer.blocked_at());
        assert_eq!(counted, (Some(at(110)), Some(at(110)), Some(at(110))), "frame {n} of life {life} at {now}");
    }
    // Whoever is there says something new.
    hear(&mut peer, at(300), &frame(11, 6, None));
    assert_eq!((peer.any_at(), peer.rival_at(), peer.blocked_at()), (Some(at(300)), Some(at(300)), Some(at(300))));
    hear(&mut peer, at(310), &frame(11, 5, None));
    assert_eq!(peer.blocked_at(), Some(at(300)));
}
