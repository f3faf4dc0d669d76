//! Links and legs that are cut, one way or both.

use crate::stage::{A, B, BOTH, EVER, Stage, setup};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::Fault;
use twobox::wire::pair::Role;

mod one_link {
    use super::*;

    fn cut(path: u8, ways: u8) {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Cut { path, ways, length: EVER });
        for _ in 0..100 {
            stage.run_ms(100);
            stage.only(A);
        }
        stage.role(B, Role::Standby);
    }

    #[test]
    fn null_modem() {
        cut(0, BOTH);
    }

    #[test]
    fn crossover() {
        cut(1, BOTH);
    }

    #[test]
    fn lan() {
        cut(2, BOTH);
    }
}

mod one_way {
    use super::*;

    #[test]
    fn lan_only() {
        for ways in [1, 2] {
            let mut stage = Stage::settled(setup(1));
            stage.does(Fault::Cut { path: 2, ways, length: EVER });
            stage.run(20);
            stage.only(A);
        }
    }

    /// The standby hears nothing and still sends; the witness shows both that the other one lives.
    #[test]
    fn standby_is_deaf_but_sends() {
        let mut stage = Stage::settled(setup(1));
        stage.cut_all(1);
        stage.does(Fault::LegCut { side: B, witness: 0, ways: 2, length: EVER });
        for _ in 0..300 {
            stage.run_ms(100);
            stage.only(A);
        }
    }

    #[test]
    fn active_is_deaf_but_sends() {
        let mut stage = Stage::settled(setup(1));
        stage.cut_all(2);
        stage.does(Fault::LegCut { side: A, witness: 0, ways: 2, length: EVER });
        stage.run(30);
        assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
    }

    #[test]
    fn towards_a_peer_without_quorum() {
        let mut stage = Stage::settled(setup(1));
        stage.cut_all(1);
        stage.does(Fault::LegCut { side: B, witness: 0, ways: BOTH, length: EVER });
        for _ in 0..300 {
            stage.run_ms(100);
            stage.only(A);
        }
    }
}

mod all_links {
    use super::*;

    #[test]
    fn with_a_witness_moves_nothing() {
        let mut stage = Stage::settled(setup(1));
        stage.cut_all(BOTH);
        for _ in 0..300 {
            stage.run_ms(100);
            stage.only(A);
        }
    }

    #[test]
    fn and_the_witness_leaves_nobody() {
        let mut stage = Stage::settled(setup(1));
        stage.cut_all(BOTH);
        stage.does(Fault::WitnessDown { witness: 0, length: EVER });
        stage.run(30);
        stage.nobody();
        stage.world.heal();
        stage.run(5);
        assert!(stage.serves(A) || stage.serves(B), "{}", stage.told());
    }

    #[test]
    fn without_a_witness_leaves_nobody() {
        let mut stage = Stage::settled(setup(0));
        stage.cut_all(BOTH);
        stage.run(30);
        stage.nobody();
    }

    #[test]
    fn and_the_active_cut_off_from_the_witness() {
        let mut stage = Stage::settled(setup(1));
        stage.cut_all(BOTH);
        stage.does(Fault::LegCut { side: A, witness: 0, ways: BOTH, length: EVER });
        stage.until_serves(B, 1_500);
        stage.run(20);
        stage.only(B);
    }
}

mod split_lan {
    use super::*;

    #[test]
    fn with_a_witness_on_each_side_keeps_the_first_listed_one() {
        let mut stage = Stage::settled(setup(2));
        for path in 0..2 {
            stage.does(Fault::Cut { path, ways: BOTH, length: EVER });
        }
        stage.does(Fault::Split { with_a: 0b10, length: EVER });
        stage.run(20);
        stage.only(B);
    }

    #[test]
    fn with_two_of_three_witnesses() {
        let mut stage = Stage::settled(setup(3));
        for path in 0..2 {
            stage.does(Fault::Cut { path, ways: BOTH, length: EVER });
        }
        stage.does(Fault::Split { with_a: 0b001, length: EVER });
        stage.run(20);
        stage.only(B);
    }
}

mod interface {
    use super::*;

    #[test]
    fn of_the_active_moves_service_over_the_null_modem() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Cut { path: 1, ways: BOTH, length: EVER });
        stage.does(Fault::Nic { side: A, length: EVER });
        stage.until_serves(B, 4_000);
        stage.run(20);
        stage.only(B);
        stage.role(A, Role::Held);
    }

    #[test]
    fn of_the_standby_moves_nothing() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::Nic { side: B, length: EVER });
        stage.run(20);
        stage.only(A);
        assert_eq!(stage.takeovers(), 1);
    }

    #[test]
    fn flapping_does_not_play_ping_pong() {
        let mut stage = Stage::settled(setup(1));
        let before = stage.takeovers();
        for n in 0..30 {
            stage.does(Fault::Nic { side: n % 2, length: SECOND });
            stage.run(2);
        }
        // 60 s, and at most one move per settle and hold-down (7 s).
        assert!(stage.takeovers() - before <= 9, "{} moves\n{}", stage.takeovers() - before, stage.told());
    }
}

mod loss {
    use super::*;

    fn of(permille: u16) {
        let mut stage = Stage::settled(setup(1));
        for path in 0..3 {
            stage.does(Fault::Loss { path, ways: BOTH, permille, length: EVER });
        }
        for _ in 0..300 {
            stage.run_ms(100);
            stage.only(A);
        }
    }

    #[test]
    fn of_20_percent() {
        of(200);
    }

    #[test]
    fn of_50_percent() {
        of(500);
    }

    /// What a slow network costs: the dead standby is noticed late, and service goes on by quorum all the same.
    #[test]
    fn slow_network_in_which_the_standby_dies() {
        let mut stage = Stage::settled(setup(1));
        for path in 1..3 {
            stage.does(Fault::Delay { path, ways: BOTH, up_to: 200 * MS, length: EVER });
        }
        stage.run(3);
        stage.does(Fault::PowerLoss { side: B, length: EVER });
        let mut dark = 0;
        for _ in 0..2_000 {
            stage.run_ms(10);
            dark += u64::from(!stage.serves(A)) * 10;
        }
        println!("without service for {dark} ms");
        stage.only(A);
        assert!(dark <= 1_500, "{dark} ms\n{}", stage.told());
    }
}

mod attacker {
    use super::*;

    #[test]
    fn replayed_frames_move_nothing() {
        let mut stage = Stage::settled(setup(1));
        stage.does(Fault::PowerLoss { side: B, length: SECOND });
        stage.run(8);
        for _ in 0..20 {
            for to in [A, B] {
                stage.does(Fault::Replay { to, count: 200, every: 3 * MS });
            }
            stage.run(1);
            stage.only(A);
        }
    }

    #[test]
    fn flipped_bits_move_nothing() {
        let mut stage = Stage::settled(setup(1));
        for path in 0..3 {
            stage.does(Fault::Noise { path, ways: BOTH, length: EVER });
        }
        for _ in 0..200 {
            stage.run_ms(100);
            stage.only(A);
        }
    }
}
