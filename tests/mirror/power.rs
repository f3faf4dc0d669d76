//! Power loss at any step: what the disk holds is what had been written to it, not what the kernel still had in memory.
//!
//! The receiver's tree lies on ext4 on a disk in a file. When the receiver dies at a step, the file is copied: it holds
//! what ext4 has sent to its disk, and nothing else. The copy is mounted as the box would mount it after the power came
//! back, the mirror's next start finishes or forgets what it was doing, and the tree must be cut N or cut N+1. A sync
//! that is missing between staging, the decision and the end of the log shows here, and nowhere in tests that only kill.

use std::fs;
use std::io::{BufRead, BufReader};
use std::thread;
use std::time::{Duration, Instant};

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

/// A box that takes over in the middle of publishing a cut, and cannot finish it: services wait for its word.
#[test]
fn a_cut_that_cannot_be_finished_is_not_served() {
    in_own_mounts(|| {
        let home = std::path::PathBuf::from("/dev/shm").join(format!("tbmr-torn-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let disk = Disk::new(&home, "disk", "ext4", 48);
        let pair = Pair::new().with_b_in(&disk.mounted);
        let children = Children::new(&pair);
        (0..8).for_each(|n| fs::write(pair.a().join(format!("f{n}")), [1; 100]).unwrap());
        assert!(children.cycle(&[]).1);
        (0..8).for_each(|n| fs::write(pair.a().join(format!("f{n}")), [2; 200]).unwrap());
        let trees = pair.place("b").join(".twobox/trees");
        let log = || fs::read_dir(&trees).unwrap().any(|tree| tree.unwrap().path().join("redo").exists());
        let mut step = 1;
        while !log() {
            assert!(children.cycle(&["--abort-at", &step.to_string()]).0, "no step leaves a log");
            step += 1;
        }
        let immutable = |switch: &str| run("chattr", &[switch, pair.b().to_str().unwrap()]);
        immutable("+i");
        let mut sender = children.start("b", "send", &[]);
        let (to, lines) = std::sync::mpsc::channel();
        let said = BufReader::new(sender.stdout.take().unwrap());
        thread::spawn(move || said.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        let settled = |limit: Duration| {
            let end = Instant::now() + limit;
            let next = || lines.recv_timeout(end.saturating_duration_since(Instant::now())).ok();
            std::iter::from_fn(next).any(|line| line.contains("\"settled\""))
        };
        assert!(!settled(Duration::from_secs(3)), "a tree between two cuts may be served");
        immutable("-i");
        assert!(settled(Duration::from_secs(30)), "it is not finished when it can be");
        assert!(!log());
        assert_equal(&pair.a(), &pair.b());
        sender.kill().unwrap();
        sender.wait().unwrap();
        drop((pair, disk));
        fs::remove_dir_all(&home).unwrap();
    });
}
