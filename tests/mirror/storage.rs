//! Full, read-only, replaced and vanishing file systems, and other kinds of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use twobox::mirror::guard::Block;

use crate::basic::noise;
use crate::compare::{assert_equal, describe};
use crate::disk::{Disk, Loop, in_own_mounts, mount_memory, resize_memory, run, set_read_only, unmount};
use crate::mutate::{Random, mutate};
use crate::rig::{Pair, TERM_1, Way};

/// A pair whose sides are file systems in memory.
fn on_small_disks(a: &str, b: &str) -> Pair {
    let pair = Pair::new();
    for (side, size) in [("a", a), ("b", b)] {
        mount_memory(&pair.home.join(side), size);
        fs::create_dir(pair.tree(side)).unwrap();
    }
    pair
}

fn fill(pair: &Pair) {
    for n in 0..20 {
        fs::write(pair.a().join(format!("f{n}")), noise(20_000, n + 1)).unwrap();
    }
}

#[test]
fn a_full_standby_keeps_its_cut_and_heals_when_there_is_room() {
    in_own_mounts(|| {
        let pair = on_small_disks("64m", "8m");
        fill(&pair);
        pair.sync();
        let before = describe(&pair.b());
        fs::write(pair.a().join("large"), noise(12 << 20, 7)).unwrap();
        fs::write(pair.a().join("f3"), b"changed").unwrap();
        for _ in 0..3 {
            let error = pair.try_sync("a", "b", TERM_1, false).unwrap_err();
            assert!(error.to_string().contains("No space"), "{error}");
            assert_eq!(describe(&pair.b()), before);
        }
        resize_memory(&pair.home.join("b"), "64m");
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
    });
}

/// The chunks of a broken cycle are kept for the next one, which gathers the cut beside them: with room for the cut but not for
/// both, it is gathered anew.
#[test]
fn what_a_broken_cycle_left_is_not_in_the_way_for_ever() {
    in_own_mounts(|| {
        let pair = on_small_disks("64m", "64m");
        fs::write(pair.a().join("large"), noise(36 << 20, 7)).unwrap();
        pair.sync_until(32 << 20);
        let synced = (0..3).any(|_| pair.try_sync("a", "b", TERM_1, false).is_ok());
        assert!(synced, "there is room for the tree");
        assert_equal(&pair.a(), &pair.b());
    });
}

#[test]
fn a_full_source_loses_nothing_on_the_standby() {
    in_own_mounts(|| {
        let pair = on_small_disks("8m", "64m");
        fill(&pair);
        pair.sync();
        let before = describe(&pair.b());
        fs::write(pair.a().join("f4"), b"changed").unwrap();
        // Fills the disk to the last block: no index can be written any more.
        let ballast = pair.home.join("a/ballast");
        let mut room = 8 << 20;
        let mut file = fs::File::create(&ballast).unwrap();
        while room > 0 {
            if std::io::Write::write_all(&mut file, &vec![1; room]).is_err() {
                room /= 2;
            }
        }
        drop(file);
        match pair.try_sync("a", "b", TERM_1, false) {
            Ok(_) => assert_equal(&pair.a(), &pair.b()),
            Err(_) => assert_eq!(describe(&pair.b()), before),
        }
        fs::remove_file(ballast).unwrap();
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
    });
}

#[test]
fn a_read_only_side_is_an_error_and_no_loss() {
    in_own_mounts(|| {
        let pair = on_small_disks("32m", "32m");
        fill(&pair);
        pair.sync();
        let before = describe(&pair.b());
        fs::remove_file(pair.a().join("f5")).unwrap();
        for side in ["a", "b"] {
            set_read_only(&pair.home.join(side), true);
            assert!(pair.try_sync("a", "b", TERM_1, false).is_err(), "{side} is read-only");
            assert_eq!(describe(&pair.b()), before);
            set_read_only(&pair.home.join(side), false);
        }
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
    });
}

#[test]
fn an_unmounted_source_and_a_fresh_file_system_in_its_place_leave_the_copy() {
    in_own_mounts(|| {
        let pair = Pair::new();
        mount_memory(&pair.a(), "32m");
        fill(&pair);
        pair.sync();
        let before = describe(&pair.b());
        unmount(&pair.a());
        let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
        assert_eq!(sent.blocked, Some(Block::RootReplaced), "the directory below the mount point");
        mount_memory(&pair.a(), "32m");
        let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
        assert_eq!(sent.blocked, Some(Block::RootReplaced), "a fresh file system");
        fs::write(pair.a().join("new"), b"so that it is not empty").unwrap();
        let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
        assert_eq!(sent.blocked, Some(Block::RootReplaced));
        assert_eq!(describe(&pair.b()), before);
    });
}

/// xfs says the device's number where others say an id of their own: disks have other numbers after a reboot.
#[test]
fn an_xfs_is_known_whatever_number_its_device_has() {
    in_own_mounts(|| {
        let pair = Pair::new();
        let (image, other) = (pair.home.join("image"), pair.home.join("other"));
        for image in [&image, &other] {
            fs::File::create(image).unwrap().set_len(320 << 20).unwrap();
        }
        let root = pair.a();
        let mount = |device: &Loop| {
            run("mount", &[&device.0, root.to_str().unwrap()]);
            let metadata = fs::metadata(&root).unwrap();
            (metadata.dev(), metadata.ino())
        };
        let device = Loop::new(&image);
        run("mkfs.xfs", &["-q", &device.0]);
        let before = mount(&device);
        fill(&pair);
        pair.sync();
        run("umount", &[root.to_str().unwrap()]);
        drop(device);
        let (_former, device) = (Loop::new(&other), Loop::new(&image));
        let now = mount(&device);
        assert!(now.0 != before.0 && now.1 == before.1, "another number, the same root: {before:?} {now:?}");
        pair.sync();
        let copy = describe(&pair.b());
        // A fresh one on the very same device.
        run("umount", &[root.to_str().unwrap()]);
        run("mkfs.xfs", &["-q", "-f", &device.0]);
        assert_eq!(mount(&device), now);
        fs::write(root.join("new"), b"so that it is not empty").unwrap();
        let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
        assert_eq!(sent.blocked, Some(Block::RootReplaced));
        assert_eq!(describe(&pair.b()), copy);
        run("umount", &[root.to_str().unwrap()]);
    });
}

#[test]
fn a_root_that_is_unmounted_in_mid_cycle_leaves_a_whole_cut() {
    in_own_mounts(|| {
        for at in [0, 1, 7, 15] {
            let pair = Pair::new();
            mount_memory(&pair.a(), "32m");
            fill(&pair);
            pair.sync();
            let before = describe(&pair.b());
            for n in 0..20 {
                fs::write(pair.a().join(format!("f{n}")), noise(30_000, n + 100)).unwrap();
            }
            let after = describe(&pair.a());
            let root = pair.a();
            let mut mounted = true;
            let way = Way::default();
            let outcome = pair.cycle("a", "b", &way, &mut |progress| {
                if progress.files > at && mounted {
                    unmount(&root);
                    mounted = false;
                }
            });
            let now = describe(&pair.b());
            match outcome {
                Ok(_) => assert!(now == after || now == before, "a mixture"),
                Err(_) => assert_eq!(now, before),
            }
            if !mounted {
                let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
                assert_eq!(sent.blocked, Some(Block::RootReplaced));
                assert_eq!(describe(&pair.b()), now);
            }
        }
    });
}

/// What a tree of this kind of file system goes through: random changes, followed exactly.
fn follow_on(kind: &'static str, mebibytes: u64) {
    in_own_mounts(move || {
        let home = PathBuf::from("/dev/shm").join(format!("tbmr-{kind}-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        {
            let (a, b) = (Disk::new(&home, "a", kind, mebibytes), Disk::new(&home, "b", kind, mebibytes));
            let pair = Pair::in_directory(&a.mounted).with_b_in(&b.mounted);
            let mut r = Random(kind.len() as u64);
            for cycle in 0..6 {
                for _ in 0..12 {
                    mutate(&pair.a(), &mut r);
                }
                let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
                assert_eq!((sent.blocked, sent.unsettled), (None, 0), "cycle {cycle}");
                assert_equal(&pair.a(), &pair.b());
            }
            let (sent, _) = pair.sync();
            assert_eq!((sent.put, sent.gone), (0, 0));
        }
        fs::remove_dir_all(&home).unwrap();
    });
}

#[test]
fn trees_on_xfs_are_followed() {
    follow_on("xfs", 320);
}

#[test]
fn trees_on_ext4_are_followed() {
    follow_on("ext4", 64);
}
