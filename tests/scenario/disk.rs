//! A disk that takes what is to be written and does not answer.

use crate::stage::{A, B, EVER, Stage, setup};
use crate::world::clock::{SECOND, Time};
use crate::world::fault::{DiskFault, Fault, Word};
use crate::world::{Setup, World};
use twobox::node::status::{Alarm, Hold, Status};
use twobox::wire::pair::Role;

fn hangs(side: usize, length: Time) -> Fault {
    Fault::Disk { side, fault: DiskFault::Hangs, length }
}

fn status(stage: &Stage, side: usize) -> Status {
    let m = &stage.world.boxes[side];
    m.program.as_ref().expect("it runs").status(m.clock.local(stage.world.now))
}

#[track_caller]
fn held_by_its_disk(stage: &Stage, side: usize, on: bool) {
    let s = status(stage, side);
    assert_eq!((s.holds.has(Hold::Disk), s.alarms.has(Alarm::Disk)), (on, on), "{}", stage.told());
}

/// Every claim waits for the disk.
fn nothing_ahead() -> Setup {
    let mut setup = setup(1);
    for s in &mut setup.settings {
        s.terms_ahead = 0;
    }
    setup
}

/// It would be elected, and has never had a term on disk.
#[test]
fn of_the_better_box_when_both_boot_leaves_the_other_one_serving() {
    let mut stage = Stage { world: World::new(setup(1), true) };
    stage.does(hangs(A, 40 * SECOND));
    stage.world.power_on(A);
    stage.world.power_on(B);
    stage.until_serves(B, 12_000);
    stage.run(5);
    stage.only(B);
    stage.role(A, Role::Held);
    held_by_its_disk(&stage, A, true);
    // What has come back after all counts.
    stage.run(35);
    stage.role(A, Role::Standby);
    held_by_its_disk(&stage, A, false);
    stage.does(Fault::PowerLoss { side: B, length: EVER });
    stage.until_serves(A, 2_000);
}

#[test]
fn of_the_box_that_is_handed_over_to_gives_the_service_back() {
    let mut stage = Stage::settled(nothing_ahead());
    let switchover = |side| Fault::Order { side, word: Word::Switchover, delay: 0 };
    stage.does(switchover(A));
    stage.run(8);
    stage.only(B);
    stage.does(hangs(A, 60 * SECOND));
    stage.does(switchover(B));
    stage.run_ms(200);
    stage.role(A, Role::Claiming);
    stage.until_serves(B, 8_000);
    stage.role(A, Role::Held);
    held_by_its_disk(&stage, A, true);
    stage.run(60);
    stage.only(B);
    stage.role(A, Role::Standby);
}

/// Alone it does not serve what it could not prove to have served, says why, and serves when the write has come back.
#[test]
fn of_the_one_that_is_left_is_told_and_waited_for() {
    let mut stage = Stage::settled(nothing_ahead());
    stage.does(hangs(B, 20 * SECOND));
    stage.does(Fault::PowerLoss { side: A, length: EVER });
    stage.run(4);
    stage.role(B, Role::Claiming);
    stage.run(4);
    stage.role(B, Role::Held);
    held_by_its_disk(&stage, B, true);
    stage.nobody();
    stage.run(12);
    stage.until_serves(B, 2_000);
    held_by_its_disk(&stage, B, false);
}

/// Terms that are on disk already are served while the write of more hangs, if it has not hung for long.
#[test]
fn of_the_one_that_is_left_stops_nothing_where_terms_are_left() {
    let mut stage = Stage::settled(setup(1));
    stage.does(hangs(B, 60 * SECOND));
    stage.does(Fault::PowerLoss { side: A, length: EVER });
    stage.until_serves(B, 2_000);
    stage.run(30);
    stage.only(B);
}
