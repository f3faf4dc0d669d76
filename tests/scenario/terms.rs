//! Terms are reserved on disk before they are needed: what becomes of those that are never used, and of those that are used
//! and lost. No term is ever served twice; the world looks at that and at the disk of whoever serves.

use crate::stage::{A, B, EVER, Stage, setup};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::{DiskFault, Fault, Word};
use twobox::node::{Memory, Record};
use twobox::wire::pair::{Role, Term};

impl Stage {
    fn record(&self, side: usize) -> Record {
        match self.world.boxes[side].memory {
            Memory::Known(record) => record,
            other => panic!("{other:?}\n{}", self.told()),
        }
    }

    fn served(&self) -> Term {
        self.world.judge.highest
    }

    /// Hands over to the other box and waits until it serves.
    #[track_caller]
    fn switch_over(&mut self, from: usize) {
        self.does(Fault::Order { side: from, word: Word::Switchover, delay: 0 });
        self.until_serves(1 - from, 1_000);
        self.run(10); // hold-down and settle
    }
}

/// Both records name the same numbers; each box uses those of its parity.
#[test]
fn both_boxes_reserve_the_same_numbers() {
    let mut stage = Stage::settled(setup(1));
    for round in 0..6 {
        let [a, b] = [A, B].map(|side| stage.record(side));
        assert!(a.reserved > stage.served() && b.reserved > stage.served(), "{a:?} {b:?}");
        stage.switch_over(round % 2);
    }
    assert_eq!(stage.takeovers(), 7, "{}", stage.told());
}

#[test]
fn reserved_and_never_used_they_are_gone_after_a_reboot() {
    let mut stage = Stage::settled(setup(1));
    let reserved = stage.record(B).reserved;
    stage.does(Fault::PowerLoss { side: B, length: SECOND });
    stage.run(10);
    stage.only(A);
    stage.does(Fault::PowerLoss { side: A, length: EVER });
    stage.until_serves(B, 3_000);
    assert!(stage.served() > reserved, "{} is one of those up to {reserved}", stage.served());
}

/// The takeover waits for no disk, so the power may fail before anything says that the term is used.
#[test]
fn used_and_never_written_down_they_are_not_used_again() {
    let mut stage = Stage::settled(setup(1));
    let reserved = stage.record(B).reserved;
    stage.does(Fault::Disk { side: B, fault: DiskFault::Hangs, length: 60 * SECOND });
    stage.does(Fault::PowerLoss { side: A, length: EVER });
    stage.until_serves(B, 3_000);
    let lost = stage.served();
    assert!(lost <= reserved && stage.record(B).served < lost, "{:?}", stage.record(B));
    stage.does(Fault::PowerLoss { side: B, length: SECOND });
    stage.does(Fault::Disk { side: B, fault: DiskFault::Slow(MS), length: 0 });
    stage.world.boxes[B].disk_hangs_until = 0;
    stage.run(2);
    stage.until_serves(B, 30_000);
    assert!(stage.served() > reserved, "{} is one of those up to {reserved}", stage.served());
}

/// A claim that finds none left waits for its write, and the power fails meanwhile: old record, new one or none that can
/// be read, nothing was served in that term.
#[test]
fn the_power_fails_while_a_claim_waits_for_its_term() {
    for seed in 1..20 {
        let mut setup = setup(1);
        setup.seed = seed;
        setup.settings[B].terms_ahead = 0;
        let mut stage = Stage::settled(setup);
        stage.does(Fault::Disk { side: B, fault: DiskFault::Hangs, length: 5 * SECOND });
        stage.does(Fault::PowerLoss { side: A, length: EVER });
        stage.run(4);
        stage.nobody();
        stage.role(B, Role::Claiming);
        stage.does(Fault::PowerLoss { side: B, length: SECOND });
        if stage.world.boxes[B].memory == Memory::Damaged {
            // With the record went the proof that the witness reflects: alone it serves no more, whatever the operator says.
            stage.run(2);
            stage.does(Fault::Order { side: B, word: Word::Release, delay: 0 });
            stage.run(30);
            stage.nobody();
            continue;
        }
        stage.run(2);
        stage.until_serves(B, 30_000);
    }
}

/// A record that cannot be read is no record: the box holds, and once released it learns from its peer which terms are used.
#[test]
fn a_torn_reservation_holds_the_box() {
    let mut stage = Stage::settled(setup(1));
    for round in 0..4 {
        stage.switch_over(round % 2);
    }
    stage.does(Fault::PowerLoss { side: B, length: SECOND });
    stage.world.boxes[B].memory = Memory::Damaged;
    stage.run(10);
    stage.only(A);
    stage.role(B, Role::Held);
    stage.does(Fault::Order { side: B, word: Word::Release, delay: 0 });
    stage.run(10);
    stage.role(B, Role::Standby);
    let before = stage.served();
    stage.switch_over(A);
    assert!(stage.served() > before);
    assert!(stage.record(B).reserved > before);
}
