//! Power, boots and crashes.

use crate::stage::{A, B, EVER, Stage, setup, watchdog_only};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::Fault;
use twobox::wire::pair::Role;

mod loss {
    use super::*;

    #[test]
    fn of_the_active() {
        let setup = setup(1);
        let wait = Stage::claim_wait(&setup);
        let mut stage = Stage::settled(setup);
        stage.does(Fault::PowerLoss { side: A, length: EVER });
        let took = stage.until_serves(B, wait + 700);
        assert!(took >= wait - 60, "{took} ms is too early");
        stage.run(30);
        stage.only(B);
    }

    #[test]
    fn of_the_active_with_a_watchdog_only() {
        let setup = watchdog_only(1);
        let wait = Stage::claim_wait(&setup);
        let mut stage = Stage::settled(setup);
        stage.does(Fault::PowerLoss { side: A, length: EVER });
        let took = stage.until_serves(B, wait + 700);
        assert!(took >= wait - 60, "{took} ms is too early");
    }

    #[test]
    fn of_the_standby() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::PowerLoss { side: B, length: EVER });
        for _ in 0..300 {
            stage.run_ms(100);
            stage.only(A);
        }
    }

    #[test]
    fn of_both_and_both_come_back() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::PowerLoss { side: A, length: 5 * SECOND });
        stage.does(Fault::PowerLoss { side: B, length: 5 * SECOND });
        stage.run(20);
        assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
    }

    #[test]
    fn of_both_and_one_comes_back_alone() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::PowerLoss { side: A, length: EVER });
        stage.does(Fault::PowerLoss { side: B, length: SECOND });
        stage.run(6);
        stage.nobody();
        stage.until_serves(B, 20_000);
    }
}

mod program {
    use super::*;

    #[test]
    fn killed_and_started_again_at_once() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Kill { side: A, restart: 50 * MS });
        stage.run(5);
        assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
        assert_eq!(stage.takeovers(), 2, "{}", stage.told());
    }

    #[test]
    fn killed_for_good_ends_in_a_reset_and_the_other_serves() {
        let mut stage = Stage::settled(watchdog_only(1));
        stage.does(Fault::Kill { side: A, restart: EVER });
        stage.run(3);
        stage.until_served(3_000);
        stage.run(10);
        assert_eq!(stage.takeovers(), 2, "{}", stage.told());
    }

    #[test]
    fn start_interrupted_again_and_again() {
        let mut stage = Stage::settled(setup(1));
        for _ in 0..10 {
            stage.does(Fault::Kill { side: B, restart: 30 * MS });
            stage.run_ms(45);
            stage.only(A);
        }
        stage.run(5);
        stage.only(A);
        stage.role(B, Role::Standby);
    }
}

/// The newer program reads the older one's heartbeats, and not the other way round.
#[test]
fn version_skew_by_one_during_an_upgrade_keeps_the_service() {
    let mut stage = Stage::settled(setup(1));
    stage.does(Fault::Kill { side: B, restart: 50 * MS });
    stage.world.newer = Some(B);
    for _ in 0..200 {
        stage.run_ms(100);
        stage.only(A);
    }
    // Now the other one.
    stage.does(Fault::Kill { side: A, restart: 50 * MS });
    stage.world.newer = None;
    stage.until_served(3_000);
    stage.run(10);
    assert!(stage.serves(A) != stage.serves(B), "{}", stage.told());
}

#[test]
fn both_boot_while_the_witness_is_dead() {
    let mut setup = setup(1);
    setup.network.witnesses[0].down_until = EVER;
    let mut stage = Stage::settled(setup);
    stage.run(5);
    stage.only(A);
}

#[test]
fn fenced_node_is_back_before_the_peers_wait_ends() {
    let mut stage = Stage::settled(watchdog_only(1));
    stage.does(Fault::PowerLoss { side: A, length: MS });
    // It boots faster than B may claim: its new life is the proof that the old one is over, and nobody waits longer.
    stage.run_ms(1);
    let took = stage.until_served(2_500);
    assert!(took > 900, "{took} ms is faster than it boots");
}

#[test]
fn panic_text_saves_the_wait() {
    let setup = watchdog_only(1);
    let wait = Stage::claim_wait(&setup);
    let mut stage = Stage::settled(setup);
    stage.does(Fault::Panic { side: A, length: EVER });
    let took = stage.until_serves(B, wait);
    assert!(took < 2_000, "{took} ms\n{}", stage.told());
}

#[test]
fn old_panic_text_after_a_late_wake_up_proves_nothing() {
    let setup = watchdog_only(1);
    let mut stage = Stage::settled(setup);
    stage.does(Fault::Stop { side: B, length: 1_500 * MS });
    stage.run_ms(50);
    stage.does(Fault::Panic { side: A, length: EVER });
    stage.run_ms(3_500);
    stage.nobody();
    stage.until_serves(B, 5_000);
}

#[test]
fn reboot_storm_of_the_standby_moves_nothing() {
    let mut stage = Stage::settled(setup(1));
    for _ in 0..20 {
        stage.does(Fault::PowerLoss { side: B, length: 100 * MS });
        stage.run_ms(2_700);
        stage.only(A);
    }
    assert_eq!(stage.takeovers(), 1);
}
