//! Witnesses that die, are slow or lossy, or do not reflect.

use crate::stage::{A, B, BOTH, EVER, Stage, setup};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::Fault;
use crate::world::network::Witness;
use twobox::time::Duration;
use twobox::wire::pair::Role;

fn nothing_moves(stage: &mut Stage) {
    for _ in 0..200 {
        stage.run_ms(100);
        stage.only(A);
    }
    stage.role(B, Role::Standby);
    assert_eq!(stage.takeovers(), 1);
}

#[test]
fn dead() {
    let mut stage = Stage::settled(setup(1));
    stage.does(Fault::WitnessDown { witness: 0, length: EVER });
    nothing_moves(&mut stage);
}

#[test]
fn slow() {
    let mut stage = Stage::settled(setup(1));
    for side in [A, B] {
        stage.does(Fault::LegDelay { side, witness: 0, ways: BOTH, by: 300 * MS, length: EVER });
    }
    nothing_moves(&mut stage);
}

#[test]
fn lossy() {
    let mut stage = Stage::settled(setup(1));
    for side in [A, B] {
        stage.does(Fault::LegLoss { side, witness: 0, ways: BOTH, permille: 400, length: EVER });
    }
    nothing_moves(&mut stage);
}

#[test]
fn legs_of_both_flap_in_turn() {
    let mut stage = Stage::settled(setup(1));
    stage.cut_all(BOTH);
    for n in 0..40 {
        stage.does(Fault::LegCut { side: n % 2, witness: 0, ways: BOTH, length: 300 * MS });
        stage.run_ms(600);
    }
}

/// A leg that was down starts the clock of unbroken quorum anew when it is back, however short the rounds are beside the time
/// that an answer is waited for.
#[test]
fn back_after_a_break_is_waited_for_as_long_as_any_other() {
    for round_ms in [25, 16, 10, 8, 5] {
        let mut setup = setup(1);
        for s in &mut setup.settings {
            s.round = Duration::from_millis(round_ms);
        }
        let wait = Stage::claim_wait(&setup);
        let mut stage = Stage::settled(setup);
        stage.cut_all(BOTH);
        stage.does(Fault::LegCut { side: B, witness: 0, ways: BOTH, length: 5 * SECOND });
        stage.run_ms(4_999);
        stage.only(A);
        // A serves on by the answers that it has, while B hears the first ones.
        stage.does(Fault::LegCut { side: A, witness: 0, ways: BOTH, length: EVER });
        stage.run_ms(1);
        let took = stage.until_serves(B, 10_000);
        assert!(took >= wait, "rounds of {round_ms} ms: after {took} ms instead of {wait} ms\n{}", stage.told());
    }
}

mod reflection {
    use super::*;

    #[test]
    fn proven_then_lost_gives_no_quorum() {
        let mut stage = Stage::settled(setup(1));
        stage.run(5);
        stage.does(Fault::StopsReflecting { witness: 0, length: EVER });
        stage.run(7);
        stage.only(A);
        stage.cut_all(BOTH);
        stage.run(30);
        stage.nobody();
    }

    #[test]
    fn never_proven_gives_no_quorum() {
        let mut setup = setup(1);
        setup.network.witnesses[0] = Witness { reflects: [false, false], ..setup.network.witnesses[0] };
        let mut stage = Stage::settled(setup);
        stage.cut_all(BOTH);
        stage.run(30);
        stage.nobody();
    }

    #[test]
    fn never_proven_and_alone_waits_for_the_operator() {
        let mut setup = setup(1);
        setup.network.witnesses[0] = Witness { reflects: [false, false], ..setup.network.witnesses[0] };
        let mut stage = Stage::settled(setup);
        stage.does(Fault::PowerLoss { side: A, length: EVER });
        stage.run(40);
        stage.nobody();
        stage.does(Fault::Force { side: B, stays_off: true });
        stage.until_serves(B, 5_000);
    }

    #[test]
    fn proof_survives_a_reboot() {
        let mut stage = Stage::settled(setup(1));
        stage.run(5);
        stage.does(Fault::PowerLoss { side: A, length: EVER });
        stage.does(Fault::PowerLoss { side: B, length: SECOND });
        stage.until_serves(B, 20_000);
    }
}
