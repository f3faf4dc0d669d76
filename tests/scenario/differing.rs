//! Boxes with site files that differ. An alarm says so; until somebody acts, the two must still come to one decision.

use crate::stage::{A, B, BOTH, EVER, Stage, setup};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::Fault;
use crate::world::{Setup, World};
use twobox::wire::pair::Side;

/// Both boxes on, with digests that differ.
fn started(mut setup: Setup) -> Stage {
    setup.settings[B].digest = setup.settings[A].digest + 1;
    let mut stage = Stage { world: World::new(setup, true) };
    stage.world.power_on(A);
    stage.world.power_on(B);
    stage
}

fn preferring(of_a: Side, of_b: Side) -> Stage {
    let mut setup = setup(1);
    setup.settings[A].prefer = Some(of_a);
    setup.settings[B].prefer = Some(of_b);
    started(setup)
}

#[test]
fn each_prefers_the_other() {
    let mut stage = preferring(Side::B, Side::A);
    stage.run(60);
    assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
    assert_eq!(stage.takeovers(), 1, "{}", stage.told());
}

#[test]
fn each_prefers_itself() {
    let mut stage = preferring(Side::A, Side::B);
    stage.until_served(10_000);
    stage.run(60);
    assert_eq!(stage.takeovers(), 1, "{}", stage.told());
}

/// A has the newer data and B, which mirrors nothing, is fenced faster.
#[test]
fn one_mirrors_and_the_other_does_not() {
    let mut setup = setup(1);
    setup.settings[A].mirrored = true;
    setup.belts[A].gate = false;
    let mut stage = started(setup);
    stage.until_served(10_000);
    stage.run(5);
    stage.does(Fault::PowerLoss { side: B, length: EVER });
    stage.until_serves(A, 30_000);
    stage.run(5);
    stage.does(Fault::PowerLoss { side: A, length: SECOND });
    stage.world.heal();
    stage.run(1);
    stage.until_served(10_000);
}

/// Both vouch for their witnesses, of which B asks more.
fn vouching() -> Stage {
    let mut setup = setup(3);
    for s in &mut setup.settings {
        s.require_reflection = false;
    }
    setup.settings[A].witnesses = 1;
    started(setup)
}

/// No cable is left, and no witness that both reach.
fn each_with_his_own_witnesses(stage: &mut Stage) {
    stage.cut_all(BOTH);
    for (side, witness) in [(A, 1), (A, 2), (B, 0)] {
        stage.does(Fault::LegCut { side, witness, ways: BOTH, length: EVER });
    }
}

/// Whoever vouches for his witnesses does so for those that both boxes ask.
#[test]
fn witnesses_that_only_one_box_has_make_no_quorum() {
    let mut stage = vouching();
    // B reaches more of them and serves.
    stage.run(20);
    stage.only(B);
    each_with_his_own_witnesses(&mut stage);
    stage.run(30);
    stage.only(A);
}

/// That the lists differ is not forgotten with the life that was told so.
#[test]
fn nor_after_both_were_started_anew() {
    let mut stage = vouching();
    stage.run(20);
    each_with_his_own_witnesses(&mut stage);
    for side in [A, B] {
        stage.does(Fault::PowerLoss { side, length: SECOND });
    }
    stage.run(60);
}

/// Nor does a list count that was changed while the boxes do not hear each other: the peer asks those of the former one.
#[test]
fn a_list_that_was_changed_in_a_partition_makes_no_quorum() {
    let mut setup = setup(3);
    for s in &mut setup.settings {
        s.require_reflection = false;
    }
    let mut stage = Stage::settled(setup);
    stage.cut_all(BOTH);
    for (side, witness) in [(A, 0), (B, 1), (B, 2)] {
        stage.does(Fault::LegCut { side, witness, ways: BOTH, length: EVER });
    }
    let template = &mut stage.world.boxes[B].template;
    (template.witnesses, template.digest) = (1, 2);
    stage.does(Fault::Kill { side: B, restart: 50 * MS });
    stage.run(60);
    stage.only(A);
}

/// A box that was set up alone, or is left alone with what both were told, still serves by whom the operator vouches for.
#[test]
fn who_is_vouched_for_counts_where_nothing_speaks_against_it() {
    let vouched = || {
        let mut setup = setup(1);
        setup.settings.iter_mut().for_each(|s| s.require_reflection = false);
        setup.network.witnesses[0].reflects = [false; 2];
        setup
    };
    let mut alone = Stage { world: World::new(vouched(), true) };
    alone.world.power_on(A);
    alone.until_serves(A, 20_000);
    let mut left = Stage::settled(vouched());
    left.does(Fault::PowerLoss { side: B, length: EVER });
    left.run(5);
    left.does(Fault::PowerLoss { side: A, length: SECOND });
    left.run(2);
    left.until_serves(A, 30_000);
}

/// The list was made shorter, and one box told so. The other one has the proof of those that nobody else asks any more.
#[test]
fn a_witness_that_one_box_asks_no_more_is_proven_no_more() {
    let mut stage = Stage::settled(setup(3));
    let template = &mut stage.world.boxes[B].template;
    (template.witnesses, template.digest) = (1, 2);
    stage.does(Fault::Kill { side: B, restart: 50 * MS });
    stage.run(10);
    stage.only(A);
    stage.cut_all(BOTH);
    for (side, witness) in [(A, 0), (B, 1), (B, 2)] {
        stage.does(Fault::LegCut { side, witness, ways: BOTH, length: EVER });
    }
    stage.run(30);
    stage.only(B);
}
