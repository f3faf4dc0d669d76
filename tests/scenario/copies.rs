//! Copies of mirrored data. The state directory is lost and the data are kept: a new disk, a new system beside the old trees. What
//! the copies say of the terms that were served goes on holding. And of two boxes whose data bear one name, the one that wrote them
//! has the newer ones.

use crate::stage::{A, B, BOTH, EVER, Stage, setup};
use crate::world::Setup;
use crate::world::clock::{MS, SECOND};
use crate::world::fault::{Fault, Word};
use twobox::node::settings::{CROSSOVER, LAN, StaleData};
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

/// B serves, its copy on A is half a minute old, and then the power goes. Either box may be the first to boot.
#[test]
fn that_are_old_are_not_served_while_their_source_is_there() {
    for stale_data in [StaleData::Serve, StaleData::Hold] {
        for lengths in [[20, 20], [20, 25], [25, 20]] {
            let mut setup = mirrored();
            for s in &mut setup.settings {
                s.stale_data = stale_data;
            }
            let mut stage = Stage::settled(setup);
            stage.does(Fault::Order { side: A, word: Word::Switchover, delay: 0 });
            stage.until_serves(B, 1_000);
            stage.run(10);
            // The mirror goes by these two; the null modem and the witness stay.
            for path in [CROSSOVER, LAN] {
                stage.does(Fault::Cut { path, ways: BOTH, length: 45 * SECOND });
            }
            stage.run(30);
            stage.only(B);
            for (side, length) in [A, B].into_iter().zip(lengths) {
                stage.does(Fault::PowerLoss { side, length: length * SECOND });
            }
            stage.run_ms(1);
            stage.until_served(60_000);
            stage.only(B);
            stage.run(20);
            stage.only(B);
            stage.role(A, Role::Standby);
        }
    }
}

/// The last that a copy knew was that it is current; what was served since, unheard, is not in it.
#[test]
fn that_were_current_at_the_last_contact_are_older_than_what_was_served_since() {
    let mut stage = Stage::settled(mirrored());
    stage.does(Fault::Order { side: A, word: Word::Switchover, delay: 0 });
    stage.until_serves(B, 1_000);
    stage.run(10);
    for path in 0..3 {
        stage.does(Fault::Cut { path, ways: BOTH, length: 30 * SECOND });
    }
    stage.does(Fault::LegCut { side: A, witness: 0, ways: BOTH, length: 30 * SECOND });
    stage.run(30);
    stage.only(B);
    stage.does(Fault::PowerLoss { side: B, length: 100 * MS });
    stage.run_ms(1);
    stage.until_served(20_000);
    stage.only(B);
}

/// First A serves alone for two boots, then B for one, and then they meet: what was served last counts, although its term is lower.
#[test]
fn of_boxes_that_served_alone_one_after_the_other() {
    let mut stage = Stage::settled(mirrored());
    stage.run(3);
    stage.does(Fault::PowerLoss { side: B, length: EVER });
    for length in [SECOND, SECOND] {
        stage.does(Fault::PowerLoss { side: A, length });
        stage.run_ms(1);
        stage.until_serves(A, 30_000);
        stage.run(3); // no write under way is torn
    }
    let first = stage.world.boxes[A].copy;
    stage.does(Fault::PowerLoss { side: A, length: EVER });
    stage.world.power_on(B);
    stage.until_serves(B, 30_000);
    assert!(stage.world.boxes[B].copy.term < first.term, "{}", stage.told());
    stage.run(30);
    stage.world.power_on(A);
    stage.run(20);
    stage.only(B);
    let copies = [A, B].map(|side| stage.world.boxes[side].copy);
    assert!(copies[A] == copies[B] && copies[B].term > first.term, "{copies:?}\n{}", stage.told());
    // The next move does not bring the former data back.
    stage.does(Fault::PowerLoss { side: B, length: EVER });
    stage.until_serves(A, 5_000);
}
