//! The state directory is lost and the data are kept: a new disk, a new system beside the old trees. What the copies say of the
//! terms that were served goes on holding.

use crate::stage::{A, B, EVER, Stage, setup};
use crate::world::Setup;
use crate::world::clock::{MS, SECOND};
use crate::world::fault::{Fault, Word};
use twobox::wire::pair::Role;

fn mirrored() -> Setup {
    let mut setup = setup(1);
    for s in &mut setup.settings {
        s.mirrored = true;
        // The proof that the witness reflects goes with the record, and without it a box alone does not serve at all.
        s.require_reflection = false;
    }
    setup
}

/// A pair that has served some terms; A serves.
fn used() -> Stage {
    let mut stage = Stage::settled(mirrored());
    for round in 0..4 {
        let from = round % 2;
        stage.does(Fault::Order { side: from, word: Word::Switchover, delay: 0 });
        stage.until_serves(1 - from, 1_000);
        stage.run(10); // hold-down and settle
    }
    stage.only(A);
    stage
}

/// Neither has a record, and each of the two votes at once. The mirror may still be reading.
#[test]
fn of_both_boxes() {
    for seed in 1..20 {
        let mut stage = used();
        let before = stage.world.judge.highest;
        for side in [A, B] {
            stage.does(Fault::StateLoss { side, length: SECOND + seed * 50 * MS });
        }
        stage.run_ms(1);
        stage.until_served(20_000);
        assert!(stage.world.judge.highest > before, "{}", stage.told());
        stage.run(10);
        assert!(stage.serves(A) != stage.serves(B), "{}", stage.told());
    }
}

/// Nobody can tell it what it served itself.
#[test]
fn of_a_box_that_is_alone() {
    let mut stage = used();
    let before = stage.world.judge.highest;
    stage.does(Fault::PowerLoss { side: B, length: EVER });
    stage.does(Fault::StateLoss { side: A, length: SECOND });
    stage.run_ms(1);
    stage.until_serves(A, 30_000);
    assert!(stage.world.judge.highest > before, "{}", stage.told());
}

/// It served alone, so its peer knows nothing of that, and votes for it by what it knows.
#[test]
fn of_a_box_whose_peer_missed_the_last_terms() {
    let mut stage = used();
    let together = stage.world.now + 90 * SECOND;
    stage.does(Fault::PowerLoss { side: B, length: 90 * SECOND });
    for _ in 0..3 {
        stage.does(Fault::PowerLoss { side: A, length: SECOND });
        stage.run_ms(1);
        stage.until_serves(A, 30_000);
        stage.run(2); // no write under way is torn
    }
    let before = stage.world.judge.highest;
    let length = together - stage.world.now;
    stage.does(Fault::StateLoss { side: A, length });
    stage.run_ms(1);
    stage.until_served(120_000);
    stage.only(A);
    assert!(stage.world.judge.highest > before, "{}", stage.told());
    stage.run(20);
    assert!(stage.serves(A) != stage.serves(B), "{}", stage.told());
}

/// What is lost is the spare's: nothing moves, and it is a spare again.
#[test]
fn of_the_standby() {
    let mut stage = used();
    let takeovers = stage.takeovers();
    stage.does(Fault::StateLoss { side: B, length: SECOND });
    for _ in 0..200 {
        stage.run_ms(100);
        stage.only(A);
    }
    stage.role(B, Role::Standby);
    assert_eq!(stage.takeovers(), takeovers, "{}", stage.told());
    stage.does(Fault::PowerLoss { side: A, length: EVER });
    stage.until_serves(B, 5_000);
}
