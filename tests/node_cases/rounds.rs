//! The witness rounds by themselves: what makes a quorum, what a right by it is worth, and what breaks it.

use super::script::{MS, settings};
use twobox::node::settings::Settings;
use twobox::node::witness::Rounds;
use twobox::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_nanos(1);

/// A moment so many milliseconds after a fixed one.
fn at(ms: u32) -> Instant {
    Instant::from_nanos(1_000_000_000) + MS * ms
}

fn witnesses(witnesses: u8) -> Settings {
    Settings { witnesses, ..settings() }
}

/// One round at full rate every 25 ms from 0 on; of each, the witnesses that answer it a millisecond later.
fn rounds(s: &Settings, proven: u8, answers: &[u8]) -> Rounds {
    let mut rounds = Rounds::new(at(0), proven);
    for (n, &answers) in (0..).zip(answers) {
        let number = rounds.start(s, at(25 * n), true);
        for witness in (0..8).filter(|w| answers & 1 << w != 0) {
            rounds.pong(s, at(25 * n + 1), witness, number);
        }
    }
    rounds
}

/// More than half, or half with the first-listed one among them: any two quorums have a witness in common.
#[test]
fn a_round_is_good_by_a_majority_or_by_half_with_the_first() {
    for n in 1..=8u8 {
        let s = witnesses(n);
        for answered in 0..=u8::MAX {
            let counted = answered & s.witness_mask();
            let (have, half) = (2 * counted.count_ones(), u32::from(n));
            let good = have > half || (have == half && counted & 1 != 0);
            let rounds = rounds(&s, 0, &[answered; 4]);
            assert_eq!(rounds.quorum(&s, at(76)), good, "{n} witnesses, {answered:08b} answered");
            let right = if good { at(25) + s.lease / 2 } else { Instant::BOOT };
            assert_eq!(rounds.right_until(), right, "{n} witnesses, {answered:08b} answered");
        }
    }
    let s = witnesses(0);
    assert!(!rounds(&s, 0, &[0xff; 4]).quorum(&s, at(76)), "without a witness there is no quorum");
}

#[test]
fn who_is_not_proven_to_reflect_answers_in_vain() {
    let s = Settings { require_reflection: true, ..witnesses(3) };
    for (proven, good) in [(0b000, false), (0b001, false), (0b011, true), (0b110, true), (0b111, true)] {
        assert_eq!(rounds(&s, proven, &[0b111; 4]).quorum(&s, at(76)), good, "{proven:03b}");
        assert!(rounds(&witnesses(3), proven, &[0b111; 4]).quorum(&s, at(76)) == good);
    }
}

#[test]
fn three_good_rounds_of_the_last_four_make_a_quorum() {
    let s = witnesses(1);
    for pattern in 0..16u32 {
        let answers: Vec<u8> = (0..4).map(|n| u8::from(pattern & 1 << n != 0)).collect();
        let rounds = rounds(&s, 0, &answers);
        // When every outcome is known.
        assert_eq!(rounds.quorum(&s, at(75 + 63)), pattern.count_ones() >= 3, "{pattern:04b}");
    }
    assert!(!rounds(&s, 0, &[1; 3]).quorum(&s, at(51)), "three rounds are none of four");
    // What came before the last four is forgotten.
    assert!(rounds(&s, 0, &[0, 0, 1, 0, 1, 1]).quorum(&s, at(125 + 63)));
    assert!(!rounds(&s, 0, &[1, 1, 1, 0, 0, 1]).quorum(&s, at(125 + 63)));
}

/// An eighth of a lease: until then an answer may still come, and the rounds before decide.
#[test]
fn a_round_without_an_answer_is_bad_when_none_can_come_any_more() {
    let s = witnesses(1);
    let rounds = rounds(&s, 0, &[1, 1, 0, 1, 1, 0]);
    let limit = s.lease / 8;
    assert!(rounds.quorum(&s, at(125) + limit));
    assert!(!rounds.quorum(&s, at(125) + limit + MOMENT));
}

#[test]
fn a_quorum_is_as_old_as_its_newest_round() {
    let s = witnesses(1);
    let rounds = rounds(&s, 0, &[1; 4]);
    let until = at(75) + s.round_idle + s.lease / 8;
    assert!(rounds.quorum(&s, until) && !rounds.quorum(&s, until + MOMENT));
}

#[test]
fn a_late_answer_shows_that_the_witness_lives_and_makes_no_round_good() {
    let s = witnesses(1);
    let limit = s.lease / 8;
    for (after, good) in [(limit, true), (limit + MOMENT, false)] {
        let mut rounds = Rounds::new(at(0), 0);
        let numbers: Vec<u32> = (0..4).map(|n| rounds.start(&s, at(25 * n), true)).collect();
        for (n, &number) in (0..).zip(&numbers) {
            rounds.pong(&s, at(25 * n) + after, 0, number);
        }
        let now = at(75) + after;
        assert_eq!(rounds.quorum(&s, now), good);
        assert_eq!((rounds.reached(&s, now), rounds.rtt(0)), (1, after));
    }
}

#[test]
fn an_answer_to_nothing_that_was_asked_counts_for_nothing() {
    let s = witnesses(2);
    let mut rounds = rounds(&s, 0, &[0; 9]);
    // The first of nine is too old to be remembered, the tenth was never asked, nor was a third witness.
    for (witness, number) in [(0, 1), (0, 10), (2, 9), (7, 9), (200, 9)] {
        rounds.pong(&s, at(201), witness, number);
    }
    assert_eq!((rounds.reached(&s, at(201)), rounds.rtt(0), rounds.rtt(200)), (0, Duration::ZERO, Duration::ZERO));
    rounds.pong(&s, at(202), 1, 2);
    assert_eq!((rounds.reached(&s, at(202)), rounds.rtt(1)), (0b10, MS * 177));
}

/// The right ends half a lease after the sending of the oldest of four, or of the three that are good already.
#[test]
fn a_quorum_right_counts_from_the_oldest_round_of_its_window() {
    let s = witnesses(1);
    let half = s.lease / 2;
    for (answers, oldest) in [
        (&[1, 1, 1][..], Some(0)),
        (&[1, 1, 0][..], None),
        (&[1, 1, 0, 1][..], Some(0)),
        (&[0, 1, 1, 1][..], Some(25)),
        (&[1, 1, 1, 0][..], Some(0)),
        (&[1, 1, 1, 1, 0, 0, 0, 0][..], Some(25)),
        (&[0, 0, 0, 0, 0, 1, 1, 1][..], Some(125)),
        (&[1, 0, 1, 0, 1, 0, 1, 0][..], None),
    ] {
        let expected = oldest.map_or(Instant::BOOT, |ms| at(ms) + half);
        assert_eq!(rounds(&s, 0, answers).right_until(), expected, "{answers:?}");
    }
    // More than eight rounds, of which the first are forgotten: the remembered ones lie in two pieces.
    for n in 9..=20u32 {
        let answers: Vec<u8> = (0..n).map(|_| 1).collect();
        assert_eq!(rounds(&s, 0, &answers).right_until(), at(25 * (n - 3)) + half);
    }
}

/// A heartbeat of the other box had no chance to get through in an idle gap.
#[test]
fn rounds_across_a_gap_give_no_right() {
    let s = witnesses(1);
    let limit = s.lease / 4;
    let gap = |gap: Duration, full: bool| {
        let mut rounds = Rounds::new(at(0), 0);
        let mut now = at(0);
        for (full, after) in [(true, MS * 25), (full, gap), (true, MS * 25), (true, MS * 25)] {
            let number = rounds.start(&s, now, full);
            rounds.pong(&s, now + MS, 0, number);
            now = now + after;
        }
        rounds
    };
    // Rounds 1, 2 and 3 have no gap between them, nor have 2, 3 and 4 where the second came at full rate.
    assert_eq!(gap(MS * 25, true).right_until(), at(25) + s.lease / 2);
    assert_eq!(gap(limit, true).right_until(), at(25) + s.lease / 2);
    assert_eq!(gap(limit + MOMENT, true).right_until(), Instant::BOOT);
    assert_eq!(gap(MS * 25, false).right_until(), Instant::BOOT);
    // The clock of unbroken quorum starts again with the round after the gap, or with the first of a rate.
    assert_eq!(gap(MS * 25, true).unbroken_since(), at(0));
    assert_eq!(gap(limit, true).unbroken_since(), at(0));
    assert_eq!(gap(limit + MOMENT, true).unbroken_since(), at(25) + limit + MOMENT);
    assert_eq!(gap(MS * 25, false).unbroken_since(), at(50));
}

#[test]
fn two_bad_rounds_of_four_break_a_quorum() {
    let s = witnesses(1);
    let known = s.lease / 8 + MOMENT;
    for (answers, breaks) in [
        (&[1, 1, 1, 1, 1, 1][..], false),
        (&[1, 0, 1, 1, 1, 0, 1][..], false),
        (&[1, 0, 1, 1, 0, 1][..], true),
        (&[1, 1, 1, 0, 0][..], true),
        (&[0, 0][..], true),
        (&[0][..], false),
    ] {
        // Every round is looked at when its outcome is known, or all of them by a loop that was a little late.
        for late in [false, true] {
            let mut rounds = rounds(&s, 0, answers);
            let last = u32::try_from(answers.len()).expect("few") - 1;
            let mut before = at(0);
            for n in if late { last..=last } else { 0..=last } {
                let now = at(25 * n) + known;
                rounds.expire(&s, now, before);
                before = now;
            }
            assert_eq!(rounds.unbroken_since() != at(0), breaks, "{answers:?}, late: {late}");
        }
    }
    // A round that can still be answered breaks nothing.
    let mut open = rounds(&s, 0, &[1, 1, 1, 0, 0]);
    open.expire(&s, at(100) + s.lease / 8, at(0));
    assert_eq!(open.unbroken_since(), at(0));
    // A break is told once, when it becomes known.
    let mut rounds = rounds(&s, 0, &[1, 0, 0, 1, 1, 1, 1]);
    rounds.expire(&s, at(50) + known, at(25) + known);
    assert_eq!(rounds.unbroken_since(), at(50) + known);
    rounds.expire(&s, at(150) + known, at(125) + known);
    assert_eq!(rounds.unbroken_since(), at(50) + known);
}

#[test]
fn the_next_round_follows_at_its_rate_or_at_once_when_it_rises() {
    let s = witnesses(1);
    let mut rounds = Rounds::new(at(0), 0);
    assert_eq!(rounds.next_at(), at(0));
    let first = rounds.start(&s, at(10), false);
    assert_eq!(rounds.next_at(), at(10) + s.round_idle);
    // Not before the interval of the full rate is over.
    rounds.hurry(&s, at(15));
    assert_eq!(rounds.next_at(), at(10) + s.round);
    let second = rounds.start(&s, at(40), false);
    rounds.hurry(&s, at(200));
    assert_eq!(rounds.next_at(), at(200));
    let third = rounds.start(&s, at(200), true);
    assert_eq!(rounds.next_at(), at(200) + s.round);
    rounds.hurry(&s, at(220));
    assert_eq!(rounds.next_at(), at(200) + s.round);
    assert_eq!([first, second, third], [1, 2, 3]);
    let mut rounds = Rounds::new(at(100), 0);
    rounds.hurry(&s, at(50));
    assert_eq!(rounds.next_at(), at(50));
}

/// What was promised under a smaller fence bound holds no more.
#[test]
fn forgotten_rounds_are_worth_nothing() {
    let s = witnesses(1);
    let mut rounds = rounds(&s, 0, &[1; 6]);
    rounds.forget(at(130));
    assert_eq!((rounds.right_until(), rounds.unbroken_since()), (Instant::BOOT, at(130)));
    assert!(!rounds.quorum(&s, at(130)));
    rounds.pong(&s, at(131), 0, 6);
    assert_eq!((rounds.right_until(), rounds.reached(&s, at(131))), (Instant::BOOT, 1));
    // Nor is there a rate that would be kept up.
    rounds.start(&s, at(140), true);
    rounds.start(&s, at(165), true);
    assert_eq!(rounds.unbroken_since(), at(140));
    rounds.restart_clock(at(170));
    assert_eq!(rounds.unbroken_since(), at(170));
}

#[test]
fn a_witness_is_reached_for_three_idle_rounds_and_heard_through_for_five() {
    let s = witnesses(2);
    let mut rounds = Rounds::new(at(0), 0);
    assert_eq!((rounds.reached(&s, at(0)), rounds.heard(&s, at(0))), (0, 0));
    let number = rounds.start(&s, at(0), false);
    rounds.pong(&s, at(5), 1, number);
    rounds.reflected(at(7), 0);
    rounds.reflected(at(7), 2);
    rounds.reflected(at(7), 8);
    let (reached, heard) = (at(5) + s.round_idle * 3, at(7) + s.round_idle * 5);
    assert_eq!((rounds.reached(&s, reached), rounds.reached(&s, reached + MOMENT)), (0b10, 0));
    assert_eq!((rounds.heard(&s, heard), rounds.heard(&s, heard + MOMENT)), (0b01, 0));
}

/// Proven when both boxes hear each other through it, and no longer when both reach it and one of them does not.
#[test]
fn a_witness_is_proven_by_both_boxes_and_by_both_only() {
    let s = witnesses(1);
    for bits in 0..32u8 {
        let [before, reached, heard, peer_reached, peer_heard] = [0, 1, 2, 3, 4].map(|n| bits >> n & 1);
        let mut rounds = Rounds::new(at(0), before);
        let number = rounds.start(&s, at(0), false);
        if reached != 0 {
            rounds.pong(&s, at(1), 0, number);
        }
        if heard != 0 {
            rounds.reflected(at(1), 0);
        }
        rounds.compare(&s, at(2), peer_reached, peer_heard);
        let expected = match (heard & peer_heard, reached & peer_reached) {
            (1, _) => 1,
            (_, 1) => 0,
            _ => before,
        };
        assert_eq!(rounds.proven(), expected, "{bits:05b}");
    }
    // One that is not configured here is none, whatever the peer says or a record said.
    let mut rounds = Rounds::new(at(0), 0b10);
    rounds.compare(&s, at(2), 0xff, 0xff);
    assert_eq!(rounds.proven(), 0);
    // Whoever was told something else may not even ask it: that is no missing answer.
    for (alike, expected) in [(true, 1), (false, 0)] {
        let mut rounds = Rounds::new(at(0), 1);
        rounds.compare_configuration(alike);
        rounds.compare(&s, at(2), 0, 0);
        assert_eq!(rounds.proven(), expected);
        assert_eq!(rounds.needs_proof(&Settings { require_reflection: false, ..s.clone() }), !alike);
        assert!(rounds.needs_proof(&Settings { require_reflection: true, ..s.clone() }));
    }
}
