//! The program or the kernel stands still.

use crate::stage::{A, B, BOTH, EVER, Stage, setup, watchdog_only};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::{Fault, Word};
use crate::world::machine::Belts;
use twobox::wire::pair::Role;

mod program {
    use super::*;

    #[test]
    fn for_less_than_the_lease_moves_nothing() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Stop { side: A, length: 150 * MS });
        for _ in 0..50 {
            stage.run_ms(100);
        }
        stage.only(A);
        assert_eq!(stage.takeovers(), 1);
    }

    #[test]
    fn for_about_the_lease_leaves_one_serving() {
        for length in [450, 480, 500, 520, 560, 620] {
            let mut stage = Stage::settled(setup(1));
            stage.does(Fault::Stop { side: A, length: length * MS });
            stage.run(12);
            assert!(stage.serves(A) || stage.serves(B), "{length} ms\n{}", stage.told());
        }
    }

    #[test]
    fn for_more_than_the_lease_lets_the_other_serve() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Stop { side: A, length: 1_500 * MS });
        stage.until_serves(B, 1_400);
        stage.run(10);
        stage.only(B);
        stage.role(A, Role::Standby);
    }

    /// It comes to again beside the one that has taken over: that one goes on, and no connection is cut a second time.
    #[test]
    fn for_more_than_the_lease_interrupts_the_other_one_never() {
        for witnesses in 1..4 {
            for length in [650, 810, 1_030, 1_530, 3_530, 8_030] {
                for kernel in [false, true] {
                    let length = length * MS;
                    let mut stage = Stage::settled(setup(witnesses));
                    let stop = Fault::Stop { side: A, length };
                    stage.does(if kernel { Fault::KernelHang { side: A, length } } else { stop });
                    stage.run(15);
                    stage.only(B);
                    assert_eq!(stage.takeovers(), 2, "{length} ms, kernel: {kernel}\n{}", stage.told());
                }
            }
        }
    }

    /// What it finds in its sockets was said long ago: the peer has lost its gate since, and serves with a longer bound.
    #[test]
    fn that_reads_old_frames_when_it_wakes_up_waits_for_the_longest_bound() {
        let mut setup = setup(1);
        setup.belts[B] = Belts { gate: true, watchdog: None, lifetime: None };
        let mut stage = Stage::settled(setup);
        stage.does(Fault::Stop { side: B, length: 25 * SECOND });
        stage.run_ms(200);
        stage.cut_all(BOTH);
        stage.does(Fault::LegCut { side: B, witness: 0, ways: BOTH, length: 25 * SECOND });
        stage.run(1);
        stage.does(Fault::BeltLoss { side: A, length: EVER });
        stage.run_ms(23_790);
        stage.only(A);
        // A stands still as B wakes up, and its leg to the witness goes as that of B is back.
        stage.does(Fault::Stop { side: A, length: EVER });
        stage.does(Fault::LegCut { side: A, witness: 0, ways: BOTH, length: EVER });
        let took = stage.until_serves(B, 9_000);
        assert!(took > 6_000, "{took} ms\n{}", stage.told());
    }

    #[test]
    fn between_deciding_and_doing() {
        for length in [100, 600, 1_500, 4_000, 9_000] {
            let mut stage = Stage::settled(watchdog_only(1));
            stage.does(Fault::StopInTurn { side: A, length: length * MS });
            stage.run(20);
            assert!(stage.serves(A) || stage.serves(B), "{length} ms\n{}", stage.told());
        }
    }
}

#[test]
fn kernel_that_hangs_for_ever_is_reset_by_the_watchdog() {
    let mut stage = Stage::settled(watchdog_only(1));
    stage.does(Fault::KernelHang { side: A, length: EVER });
    stage.run(3);
    stage.until_served(3_000);
    assert_eq!(stage.takeovers(), 2, "{}", stage.told());
    stage.run(10);
    assert!(stage.serves(A) != stage.serves(B), "{}", stage.told());
}

#[test]
fn fence_while_a_yield_hangs_in_a_service_stop() {
    let mut stage = Stage::settled(setup(1));
    stage.does(Fault::StopsSlowly { side: A, by: 60 * SECOND, length: EVER });
    stage.does(Fault::Order { side: A, word: Word::Switchover, delay: 0 });
    stage.run(1);
    stage.role(A, Role::Yielding);
    // It gives up on the services and fences itself; then the other one serves.
    stage.until_serves(B, 7_000);
    stage.only(B);
}

#[test]
fn renewal_that_comes_after_the_address_has_expired() {
    // Only a watchdog or a gate covers that, as they do here: the address comes back and nothing leaves with it for long.
    let mut stage = Stage::settled(setup(1));
    stage.does(Fault::StopInTurn { side: A, length: 1_900 * MS });
    stage.run(8);
    assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
}

#[test]
fn three_self_fences_in_ten_minutes_hold_a_box_and_not_its_peer() {
    let mut stage = Stage::settled(setup(1));
    let order = |side, word| Fault::Order { side, word, delay: 0 };
    stage.does(order(B, Word::Hold));
    for n in 0..3 {
        stage.run(5);
        stage.only(A);
        assert_eq!(stage.takeovers(), n + 1, "{}", stage.told());
        // A loses its right, and gets it again by B's vote.
        for path in 0..3 {
            stage.does(Fault::Cut { path, ways: BOTH, length: SECOND });
        }
        stage.does(Fault::WitnessDown { witness: 0, length: SECOND });
    }
    stage.run(5);
    stage.role(A, Role::Held);
    stage.nobody();
    stage.does(order(B, Word::Release));
    stage.until_serves(B, 1_000);
    stage.does(order(A, Word::Release));
    stage.run(5);
    stage.only(B);
    stage.role(A, Role::Standby);
}

#[test]
fn three_resets_in_ten_minutes_hold_a_box_until_it_is_released() {
    let mut stage = Stage::settled(watchdog_only(1));
    for _ in 0..3 {
        stage.does(Fault::KernelHang { side: B, length: EVER });
        stage.run(12);
    }
    stage.role(B, Role::Held);
    stage.only(A);
    stage.does(Fault::Order { side: B, word: Word::Release, delay: 0 });
    stage.run(1);
    stage.role(B, Role::Standby);
}
