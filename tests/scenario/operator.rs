//! Orders, scores and data.

use crate::stage::{A, B, BOTH, EVER, Stage, setup, watchdog_only};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::{DiskFault, Fault, Word};
use twobox::node::settings::StaleData;
use twobox::node::{Answer, Order};
use twobox::wire::pair::Role;

fn order(stage: &mut Stage, side: usize, word: Word) -> Answer {
    stage.does(Fault::Order { side, word, delay: 0 });
    stage.run_ms(2);
    stage.world.answers.last().expect("it was answered").2
}

mod switchover {
    use super::*;

    #[test]
    fn and_back() {
        let mut stage = Stage::settled(setup(1));
        for (from, to) in [(A, B), (B, A)] {
            assert_eq!(order(&mut stage, from, Word::Switchover), Answer::Accepted);
            stage.until_serves(to, 500);
            stage.run(5);
            stage.only(to);
            stage.role(from, Role::Standby);
        }
    }

    #[test]
    fn while_the_peer_dies_at_each_step() {
        for delay in (0..120).step_by(5) {
            let mut stage = Stage::settled(setup(1));
            order(&mut stage, A, Word::Switchover);
            stage.run_ms(delay);
            stage.does(Fault::PowerLoss { side: B, length: EVER });
            stage.run(10);
            stage.only(A);
        }
    }

    #[test]
    fn ordered_on_both_at_once() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Order { side: A, word: Word::Switchover, delay: 0 });
        stage.does(Fault::Order { side: B, word: Word::Switchover, delay: 0 });
        stage.run(5);
        stage.only(B);
        assert_eq!(stage.takeovers(), 2);
    }

    #[test]
    fn that_comes_too_late_is_void() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Order { side: B, word: Word::Switchover, delay: 5 * SECOND });
        order(&mut stage, A, Word::Switchover);
        stage.run(10);
        stage.only(B);
        assert!(matches!(stage.world.answers.last(), Some((B, Order::Switchover { .. }, Answer::OtherTerm))));
    }
}

#[test]
fn hold_on_both_keeps_one_serving() {
    let mut stage = Stage::settled(setup(1));
    order(&mut stage, B, Word::Hold);
    assert_eq!(order(&mut stage, A, Word::Hold), Answer::PeerNotEligible);
    stage.run(10);
    stage.only(A);
    stage.role(B, Role::Held);
}

mod farewell {
    use super::*;

    /// Without a witness a pair would stop when its standby is switched off; not after a farewell.
    #[test]
    fn standby_switched_off_in_order() {
        let mut stage = Stage::settled(setup(0));
        stage.does(Fault::Leave { side: B, length: EVER });
        for _ in 0..300 {
            stage.run_ms(100);
            stage.only(A);
        }
    }

    #[test]
    fn returns_alone_and_cut_off_and_does_not_serve() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Leave { side: B, length: 10 * SECOND });
        stage.run(5);
        stage.cut_all(BOTH);
        stage.does(Fault::LegCut { side: B, witness: 0, ways: BOTH, length: 8 * SECOND });
        stage.run(60);
        assert!(!stage.serves(B), "{}", stage.told());
    }

    #[test]
    fn torn_record_holds_the_box() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Disk { side: B, fault: DiskFault::Slow(3 * SECOND), length: EVER });
        stage.does(Fault::Leave { side: B, length: EVER });
        stage.run_ms(100);
        stage.does(Fault::PowerLoss { side: B, length: SECOND });
        stage.run(30);
        stage.only(A);
    }
}

mod service {
    use super::*;

    #[test]
    fn that_fails_moves_once() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Services { side: A, length: EVER });
        stage.until_serves(B, 4_000);
        stage.run(60);
        stage.only(B);
        assert_eq!(stage.takeovers(), 2);
    }

    /// A service of the active box alone is none on the standby: it fails wherever it runs, and nowhere else.
    fn broken_everywhere(stage: &mut Stage, seconds: u64) {
        for _ in 0..seconds * 10 {
            for side in [A, B] {
                if stage.serves(side) {
                    stage.does(Fault::Services { side, length: 200 * MS });
                }
            }
            stage.run_ms(100);
        }
    }

    #[test]
    fn that_is_broken_wherever_it_runs_moves_ever_less_often() {
        let mut stage = Stage::settled(setup(1));
        broken_everywhere(&mut stage, 120);
        let at_first = stage.takeovers();
        assert!(at_first >= 3, "it is tried on both: {at_first}\n{}", stage.told());
        broken_everywhere(&mut stage, 600);
        let later = stage.takeovers() - at_first;
        assert!((2..=10).contains(&later), "{later} moves in ten minutes\n{}", stage.told());
    }

    /// The pause is for services only: whoever loses the LAN gives the service up as ever.
    #[test]
    fn that_is_broken_wherever_it_runs_keeps_no_box_from_moving_for_another_reason() {
        let mut stage = Stage::settled(setup(1));
        broken_everywhere(&mut stage, 300);
        let active = if stage.serves(A) { A } else { B };
        let before = stage.takeovers();
        // In the midst of the pause.
        while stage.takeovers() == before {
            broken_everywhere(&mut stage, 1);
        }
        broken_everywhere(&mut stage, 12);
        assert_eq!(stage.takeovers(), before + 1, "it bears it\n{}", stage.told());
        stage.does(Fault::LegCut { side: 1 - active, witness: 0, ways: BOTH, length: EVER });
        for _ in 0..80 {
            stage.does(Fault::Services { side: 1 - active, length: 200 * MS });
            stage.run_ms(100);
            if stage.serves(active) {
                return;
            }
        }
        panic!("it kept the service without a witness\n{}", stage.told());
    }

    #[test]
    fn that_was_repaired_moves_as_quickly_as_ever() {
        let mut stage = Stage::settled(setup(1));
        broken_everywhere(&mut stage, 300);
        stage.run(60);
        let (active, other) = if stage.serves(A) { (A, B) } else { (B, A) };
        stage.does(Fault::Services { side: active, length: EVER });
        stage.until_serves(other, 4_000);
    }

    #[test]
    fn that_fails_on_both_does_not_play_ping_pong() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Services { side: A, length: EVER });
        stage.does(Fault::Services { side: B, length: EVER });
        stage.run(60);
        stage.only(A);
        assert_eq!(stage.takeovers(), 1);
    }
}

#[test]
fn box_with_older_data_comes_up_first_and_waits_if_so_ordered() {
    let mut setup = setup(1);
    for s in &mut setup.settings {
        s.mirrored = true;
        s.stale_data = StaleData::Hold;
    }
    let mut stage = Stage::settled(setup);
    stage.does(Fault::Kill { side: A, restart: 50 * MS });
    stage.run(5);
    stage.does(Fault::PowerLoss { side: A, length: 30 * SECOND });
    stage.does(Fault::PowerLoss { side: B, length: SECOND });
    stage.run(60);
    assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
}

#[test]
fn crossing_votes_elect_one() {
    for seed in 0..40 {
        let mut setup = setup(1);
        setup.seed = seed;
        setup.boot_time = (SECOND, SECOND + MS);
        let mut stage = Stage::settled(setup);
        stage.does(Fault::PowerLoss { side: A, length: SECOND });
        stage.does(Fault::PowerLoss { side: B, length: SECOND });
        stage.run(6);
        assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
    }
}

#[test]
fn clocks_drifting_at_the_bound() {
    for drift in [[0, 1_000_000], [1_000_000, 0], [-999_000, 0], [0, -999_000]] {
        let mut setup = watchdog_only(1);
        setup.drift = drift;
        let mut stage = Stage::settled(setup);
        // Its addresses stay up until the watchdog resets it; B's wait must end no sooner.
        stage.does(Fault::Stop { side: A, length: EVER });
        stage.run(10);
        assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
        assert_eq!(stage.takeovers(), 2, "{}", stage.told());
    }
}

#[test]
fn force_while_the_other_lives_unseen_and_is_down() {
    let mut stage = Stage::settled(setup(0));
    stage.cut_all(BOTH);
    stage.run(5);
    stage.nobody();
    stage.does(Fault::Order { side: B, word: Word::Force, delay: 0 });
    stage.until_serves(B, 500);
    stage.run(5);
    stage.only(B);
    // With the first word of the other one the forced right is over. If that word shows that it has heard us, its lease takes
    // the place; otherwise we give up, and one of the two is voted for.
    stage.world.heal();
    stage.run(5);
    let (serves, follows) = if stage.serves(B) { (B, A) } else { (A, B) };
    stage.only(serves);
    stage.role(follows, Role::Standby);
}

/// What the operator confirmed is wrong: the other one serves. That ends with the first frame: the forced one
/// gives way, whatever its term.
#[test]
fn force_while_the_other_lives_unseen_and_serves() {
    let mut stage = Stage::settled(setup(1));
    stage.cut_all(BOTH);
    stage.does(Fault::LegCut { side: B, witness: 0, ways: BOTH, length: EVER });
    stage.run(5);
    stage.only(A);
    stage.world.judge.operator_answers = true;
    stage.does(Fault::Order { side: B, word: Word::Force, delay: 0 });
    stage.until_serves(B, 500);
    assert!(stage.serves(A));
    stage.world.heal();
    stage.run_ms(300);
    stage.only(A);
    stage.world.judge.operator_answers = false;
    stage.run(5);
    stage.only(A);
    stage.role(B, Role::Standby);
}

#[test]
fn force_while_the_other_is_off_ends_when_it_returns() {
    let mut stage = Stage::settled(setup(0));
    stage.does(Fault::PowerLoss { side: A, length: EVER });
    stage.run(5);
    stage.nobody();
    stage.does(Fault::Force { side: B, stays_off: true });
    stage.until_serves(B, 5_000);
    stage.world.heal();
    stage.run(10);
    stage.only(B);
    stage.role(A, Role::Standby);
}
