//! Power loss at any step: what the disk holds is what had been written to it, not what the kernel still had in memory.
//!
//! The receiver's tree lies on ext4 on a disk in a file. When the receiver dies at a step, the file is copied: it holds
//! what ext4 has sent to its disk, and nothing else. The copy is mounted as the box would mount it after the power came
//! back, the mirror's next start finishes or forgets what it was doing, and the tree must be cut N or cut N+1. A sync
//! that is missing between staging, the decision and the end of the log shows here, and nowhere in tests that only kill.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::compare::{assert_equal, describe, differences};
use crate::crash::Children;
use crate::disk::{Disk, in_own_mounts, run};
use crate::mutate::{Random, mutate};
use crate::rig::Pair;

#[test]
fn after_a_power_loss_at_any_step_the_tree_is_a_whole_cut() {
    let wanted = std::env::var("TWOBOX_CUTS").map_or(25, |n| n.parse().unwrap());
    in_own_mounts(move || {
        let home = std::path::PathBuf::from("/dev/shm").join(format!("tbmr-power-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let (mut cuts, mut old_cuts, mut new_cuts) = (0, 0, 0);
        for round in 0.. {
            if cuts >= wanted {
                break;
            }
            let mut r = Random(round + 31);
            let disk = Disk::new(&home, &format!("disk{round}"), "ext4", 48);
            let pair = Pair::new().with_b_in(&disk.mounted);
            let children = Children::new(&pair);
            (0..30).for_each(|_| mutate(&pair.a(), &mut r));
            assert!(children.cycle(&[]).1);
            let before = describe(&pair.b());
            (0..6).for_each(|_| mutate(&pair.a(), &mut r));
            let after = describe(&pair.a());
            let mut step = 1 + r.below(4);
            loop {
                let (died, done) = children.cycle(&["--abort-at", &step.to_string()]);
                if !died {
                    assert!(done, "round {round} step {step}: not killed, but failed");
                    break;
                }
                cuts += 1;
                thread::sleep(Duration::from_millis(20)); // what the dead process had asked for is on its way
                let image = home.join("image");
                run("cp", &["--sparse=always", disk.image.to_str().unwrap(), image.to_str().unwrap()]);
                let copy = Disk { image, mounted: home.join("copy") };
                fs::create_dir_all(&copy.mounted).unwrap();
                copy.mount();
                let dead = Children::of_copy(&pair, &copy.mounted);
                dead.restart();
                let now = describe(&copy.mounted.join("b/tree"));
                let (old, new) = (differences(&before, &now), differences(&after, &now));
                assert!(
                    old.is_empty() || new.is_empty(),
                    "round {round} step {step}: a mixture\n{}\n---\n{}",
                    old.join("\n"),
                    new.join("\n")
                );
                old_cuts += u32::from(old.is_empty());
                new_cuts += u32::from(new.is_empty());
                drop(copy);
                children.restart();
                if differences(&after, &describe(&pair.b())).is_empty() {
                    break; // the decision had been made
                }
                step += 1 + r.below(6);
            }
            assert!(children.cycle(&[]).1);
            assert_equal(&pair.a(), &pair.b());
        }
        fs::remove_dir_all(&home).unwrap();
        assert!(old_cuts > 0 && new_cuts > 0, "{old_cuts} old, {new_cuts} new");
        println!("{cuts} power losses: {old_cuts} times the old cut, {new_cuts} times the new one");
    });
}
