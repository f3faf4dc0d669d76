//! What could stand in the way of a cut after its decision. A tree between two cuts can be neither served nor healed, so
//! whatever might stop the publishing is found before, or gets out of the way.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::FallocateFlags;
use twobox::mirror::{diverged, publish};

use crate::basic::noise;
use crate::compare::{assert_equal, describe};
use crate::disk::{Disk, in_own_mounts, mount_memory, run, unmount};
use crate::rig::{Pair, TERM_1, Way};

/// Side b lies on ext4.
fn on_ext4(name: &str, what: impl FnOnce(Pair) + Send + 'static) {
    let home = PathBuf::from("/dev/shm").join(format!("tbmr-{name}-{}", std::process::id()));
    in_own_mounts(move || {
        fs::create_dir_all(&home).unwrap();
        let disk = Disk::new(&home, "disk", "ext4", 48);
        what(Pair::new().with_b_in(&disk.mounted));
        drop(disk);
        fs::remove_dir_all(&home).unwrap();
    });
}

/// A cycle fails with a word about `name`, and the copy is what it was.
#[track_caller]
fn refuses(pair: &Pair, name: &str) {
    let before = describe(&pair.b());
    let error = pair.try_sync("a", "b", TERM_1, false).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    assert_eq!(describe(&pair.b()), before);
    assert_eq!(publish::replay(&pair.side("b"), 0).unwrap(), None, "nothing had been decided");
}

#[test]
fn attributes_of_a_directory_that_the_standby_cannot_hold() {
    on_ext4("attributes", |pair| {
        fs::create_dir(pair.a().join("d")).unwrap();
        fs::write(pair.a().join("f"), b"one").unwrap();
        pair.sync();
        let directory = pair.a().join("d");
        let directory = directory.to_str().unwrap();
        // In memory an attribute may have 64 KiB; on ext4 all of them share a block.
        run("setfattr", &["-n", "user.large", "-v", &"x".repeat(10_000), directory]);
        fs::write(pair.a().join("f"), b"two").unwrap();
        refuses(&pair, "d: ");
        run("setfattr", &["-x", "user.large", directory]);
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
    });
}

#[test]
fn copies_that_nobody_may_change() {
    on_ext4("immutable", |pair| {
        fs::create_dir(pair.a().join("d")).unwrap();
        for n in 0..6 {
            fs::write(pair.a().join(format!("f{n}")), noise(3000, n + 1)).unwrap();
        }
        pair.sync();
        for (flag, name) in [("i", "f4"), ("a", "f4"), ("i", "d")] {
            let copy = pair.b().join(name);
            run("chattr", &[&format!("+{flag}"), copy.to_str().unwrap()]);
            for n in 0..6 {
                fs::write(pair.a().join(format!("f{n}")), noise(3001, n + 7)).unwrap();
            }
            fs::write(pair.a().join("d/new"), flag).unwrap();
            refuses(&pair, name);
            run("chattr", &[&format!("-{flag}"), copy.to_str().unwrap()]);
            pair.sync();
            assert_equal(&pair.a(), &pair.b());
            fs::remove_file(pair.a().join("d/new")).unwrap();
            pair.sync();
        }
    });
}

#[test]
fn a_store_on_another_file_system_than_the_tree() {
    in_own_mounts(|| {
        let pair = Pair::new();
        mount_memory(&pair.b(), "16m");
        fs::write(pair.a().join("f"), b"one").unwrap();
        refuses(&pair, "store");
    });
}

#[test]
fn a_directory_below_which_another_tree_lies() {
    let mut pair = Pair::new();
    pair.nested = vec!["d/inner".into()];
    for path in ["d/x", "other"] {
        fs::create_dir_all(pair.a().join(path).parent().unwrap()).unwrap();
        fs::write(pair.a().join(path), path).unwrap();
    }
    fs::create_dir_all(pair.b().join("d/inner")).unwrap();
    let own = pair.b().join("d/inner/own");
    fs::write(&own, b"of the inner tree's last cut").unwrap();
    pair.sync();
    fs::remove_dir_all(pair.a().join("d")).unwrap();
    pair.sync();
    assert!(own.exists() && !pair.b().join("d/x").exists());
    assert!(!pair.place("b").join(".twobox/diverged").exists(), "it was moved out of its place");
    fs::write(pair.a().join("d"), b"where the inner tree was").unwrap();
    refuses(&pair, "d: ");
    assert!(own.exists());
}

fn contents(pair: &Pair) -> Vec<String> {
    let home = pair.place("b").join(".twobox");
    let sets = diverged::list(&home).unwrap();
    assert_eq!(sets.len(), 1);
    let files = home.join("diverged").join(&sets[0].name).join("files");
    let mut all = Vec::new();
    diverged::show(&home, &sets[0].name, |path, _| all.push(fs::read_to_string(files.join(path)).unwrap())).unwrap();
    all.sort();
    all
}

#[test]
fn what_is_set_aside_finds_room_whatever_was_set_aside_before() {
    let pair = Pair::new();
    let (longest, d) = ("n".repeat(255), "d");
    fs::write(pair.a().join(&longest), "0").unwrap();
    fs::write(pair.a().join(d), "0").unwrap();
    pair.sync();
    for round in 1..4 {
        fs::write(pair.b().join(&longest), format!("edited {round}")).unwrap();
        fs::write(pair.a().join(&longest), round.to_string()).unwrap();
        pair.sync();
    }
    // A file, and then a directory of the same name.
    fs::write(pair.b().join(d), "edited file").unwrap();
    fs::write(pair.a().join(d), "1").unwrap();
    pair.sync();
    fs::remove_file(pair.a().join(d)).unwrap();
    fs::create_dir(pair.a().join(d)).unwrap();
    fs::write(pair.a().join("d/x"), "0").unwrap();
    pair.sync();
    fs::write(pair.b().join("d/x"), "edited below").unwrap();
    fs::write(pair.a().join("d/x"), "1").unwrap();
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    assert_eq!(contents(&pair), ["edited 1", "edited 2", "edited 3", "edited below", "edited file"]);
}

#[test]
fn what_a_restored_file_replaces_is_kept_every_time() {
    let pair = Pair::new();
    let name = "n".repeat(250);
    fs::write(pair.a().join(&name), "0").unwrap();
    pair.sync();
    for round in 1..4 {
        fs::write(pair.b().join(&name), format!("edited {round}")).unwrap();
        fs::write(pair.a().join(&name), format!("sent {round}")).unwrap();
        pair.sync();
        let home = pair.place("b").join(".twobox");
        let set = &diverged::list(&home).unwrap()[0].name;
        diverged::restore(&home, set, &pair.b(), Some(name.as_ref())).unwrap();
        assert_eq!(fs::read_to_string(pair.b().join(&name)).unwrap(), format!("edited {round}"));
    }
    assert_eq!(contents(&pair), ["sent 1", "sent 2", "sent 3"]);
}

/// The directory that holds the store may hand its group and its access list down to what is made in it.
#[test]
fn what_the_store_lies_in_gives_nothing_to_the_copies() {
    let pair = Pair::new();
    let place = pair.place("b");
    std::os::unix::fs::chown(&place, None, Some(12_345)).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o2775)).unwrap();
    run("setfacl", &["-d", "-m", "u:1000:rwx", place.to_str().unwrap()]);
    fs::write(pair.a().join("f"), b"f").unwrap();
    fs::create_dir(pair.a().join("d")).unwrap();
    fs::write(pair.a().join("d/g"), b"g").unwrap();
    symlink("f", pair.a().join("l")).unwrap();
    run("mkfifo", &[pair.a().join("p").to_str().unwrap()]);
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    fs::set_permissions(pair.a().join("f"), fs::Permissions::from_mode(0o640)).unwrap();
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
}

/// Source and copy hold their breath while `what` happens at the report of this many names.
fn cycle_with(pair: &Pair, mut what: impl FnMut(u64, u64)) {
    let (sent, _) =
        pair.cycle("a", "b", &Way::default(), &mut |progress| what(progress.files, progress.bytes)).unwrap();
    assert_eq!(sent.blocked, None);
}

#[test]
fn a_directory_that_is_away_for_a_moment_comes_back_whole() {
    let pair = Pair::new();
    fs::create_dir(pair.a().join("d")).unwrap();
    for name in ["a", "d/x", "d/y"] {
        fs::write(pair.a().join(name), name).unwrap();
    }
    pair.sync();
    // Another directory with the same content takes its place, as a deployment does.
    let (d, away) = (pair.a().join("d"), pair.a().join("z"));
    run("cp", &["-a", d.to_str().unwrap(), away.to_str().unwrap()]);
    fs::remove_dir_all(&d).unwrap();
    fs::rename(&away, &d).unwrap();
    fs::write(pair.a().join("a"), b"changed").unwrap();
    // The root, `a`, `d`, and then what is in it.
    cycle_with(&pair, |files, _| match files {
        2 if d.exists() => fs::rename(&d, &away).unwrap(),
        3 if away.exists() => fs::rename(&away, &d).unwrap(),
        _ => {}
    });
    assert!(d.exists());
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn an_edit_of_the_copy_outlives_a_new_mode() {
    let pair = Pair::new();
    fs::write(pair.a().join("a"), b"0").unwrap();
    fs::write(pair.a().join("f"), b"agreed").unwrap();
    pair.sync();
    fs::write(pair.a().join("a"), b"1").unwrap();
    fs::set_permissions(pair.a().join("f"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut edited = false;
    cycle_with(&pair, |files, _| {
        if files > 0 && !std::mem::replace(&mut edited, true) {
            fs::write(pair.b().join("f"), b"edited").unwrap();
        }
    });
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    assert_eq!(contents(&pair), ["edited"]);
}

#[test]
fn a_copy_that_is_edited_while_it_is_renamed_is_healed() {
    let pair = Pair::new();
    fs::create_dir(pair.a().join("m")).unwrap();
    fs::write(pair.a().join("m/old"), noise(1000, 3)).unwrap();
    fs::write(pair.a().join("zz"), b"0").unwrap();
    pair.sync();
    fs::rename(pair.a().join("m/old"), pair.a().join("z")).unwrap();
    fs::write(pair.a().join("zz"), noise(8 << 20, 5)).unwrap();
    let mut edited = false;
    cycle_with(&pair, |files, bytes| {
        // What is behind has been sent by now, and the standby has taken the rename for one.
        if files == 4 && bytes > 4 << 20 && !std::mem::replace(&mut edited, true) {
            std::thread::sleep(std::time::Duration::from_millis(500));
            fs::write(pair.b().join("m/old"), "edited").unwrap();
        }
    });
    assert!(edited);
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    assert_eq!(contents(&pair), ["edited"]);
}

/// After the standby has looked at its copy, and before the cut is decided, a directory of the copy goes, and something else may take
/// its place.
#[test]
fn what_takes_a_directorys_place_in_the_copy_is_set_aside() {
    let link = |at: &Path| symlink("elsewhere", at).unwrap();
    let file = |at: &Path| fs::write(at, "a file").unwrap();
    type Taker<'a> = Option<&'a dyn Fn(&Path)>;
    let takers: [Taker<'_>; 3] = [Some(&link), Some(&file), None];
    for taker in takers {
        for place in ["d", "d/e"] {
            let pair = Pair::new();
            fs::create_dir_all(pair.a().join("d/e/f")).unwrap();
            for name in ["a", "d/e/f/x", "d/e/y", "d/z"] {
                fs::write(pair.a().join(name), name).unwrap();
            }
            pair.sync();
            fs::write(pair.a().join("a"), b"changed").unwrap();
            fs::write(pair.a().join("d/e/f/x"), b"changed").unwrap();
            let (place, mut taken) = (pair.b().join(place), false);
            cycle_with(&pair, |files, _| {
                if files > 0 && !std::mem::replace(&mut taken, true) {
                    fs::rename(&place, pair.home.join("away")).unwrap();
                    taker.inspect(|take| take(&place));
                }
            });
            assert!(taken);
            assert_eq!(fs::read(pair.b().join("d/e/f/x")).unwrap(), b"changed");
            pair.sync();
            assert_equal(&pair.a(), &pair.b());
            let home = pair.place("b").join(".twobox/diverged");
            if taker.is_none() {
                assert!(!home.exists(), "there was nothing to set aside");
                continue;
            }
            let set = fs::read_dir(home).unwrap().next().unwrap().unwrap().path().join("files");
            let kept = set.join(place.strip_prefix(pair.b()).unwrap());
            assert!(!fs::symlink_metadata(kept).unwrap().is_dir(), "what took its place is kept");
        }
    }
}

#[test]
fn what_takes_a_directorys_place_and_cannot_be_moved() {
    on_ext4("taken", |pair| {
        fs::create_dir(pair.a().join("d")).unwrap();
        fs::write(pair.a().join("d/x"), "0").unwrap();
        pair.sync();
        fs::write(pair.a().join("d/x"), "1").unwrap();
        let (place, away, mut taken) = (pair.b().join("d"), pair.place("b").join("away"), false);
        let error = pair
            .cycle("a", "b", &Way::default(), &mut |progress| {
                if progress.files > 0 && !std::mem::replace(&mut taken, true) {
                    fs::rename(&place, &away).unwrap();
                    fs::write(&place, "a file").unwrap();
                    run("chattr", &["+i", place.to_str().unwrap()]);
                }
            })
            .unwrap_err();
        assert!(error.to_string().contains("d: its flags"), "{error}");
        assert_eq!(publish::replay(&pair.side("b"), 0).unwrap(), None, "nothing had been decided");
        run("chattr", &["-i", place.to_str().unwrap()]);
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
    });
}

#[test]
fn a_mount_in_the_copy() {
    in_own_mounts(|| {
        for (name, replace) in [("d", false), ("f", false), ("f", true)] {
            let pair = Pair::new();
            fs::create_dir(pair.a().join("d")).unwrap();
            for name in ["a", "d/x", "f"] {
                fs::write(pair.a().join(name), "0").unwrap();
            }
            pair.sync();
            fs::write(pair.a().join("a"), "1").unwrap();
            match name {
                "d" => fs::remove_dir_all(pair.a().join("d")).unwrap(),
                _ if replace => fs::write(pair.a().join("f"), "1").unwrap(),
                _ => fs::remove_file(pair.a().join("f")).unwrap(),
            }
            let (place, mut mounted) = (pair.b().join(name), false);
            let error = pair
                .cycle("a", "b", &Way::default(), &mut |progress| {
                    if progress.files > 0 && !std::mem::replace(&mut mounted, true) {
                        if name == "d" {
                            mount_memory(&place, "1m");
                        } else {
                            run("mount", &["--bind", "/dev/null", place.to_str().unwrap()]);
                        }
                    }
                })
                .unwrap_err();
            assert!(error.to_string().contains(&format!("{name}: ")), "{error}");
            assert_eq!(publish::replay(&pair.side("b"), 0).unwrap(), None, "nothing had been decided");
            assert_eq!(fs::read_to_string(pair.b().join("a")).unwrap(), "0");
            unmount(&place);
            pair.sync();
            assert_equal(&pair.a(), &pair.b());
        }
    });
}

/// What is set aside below a path that no system call takes is listed, counted and put back as well.
#[test]
fn paths_of_any_length_are_listed_and_restored() {
    let pair = Pair::new();
    let name = "n".repeat(255);
    let within = |side: &str, what: &str| {
        let script = format!("for n in range(20):\n os.makedirs('{name}', exist_ok=True)\n os.chdir('{name}')\n{what}");
        run("python3", &["-c", &format!("import os\nos.chdir('{}')\n{script}", pair.tree(side).display())]);
    };
    within("a", "open('f', 'w').write('0')");
    pair.sync();
    within("b", "open('f', 'w').write('edited')");
    within("a", "open('f', 'w').write('sent')");
    pair.sync();
    let home = pair.place("b").join(".twobox");
    let sets = diverged::list(&home).unwrap();
    assert_eq!((sets.len(), sets[0].files, sets[0].bytes), (1, 1, 6));
    assert_eq!(diverged::restore(&home, &sets[0].name, &pair.b(), None).unwrap(), 1);
    within("b", "assert open('f').read() == 'edited'");
}

/// Directories are made when the cut is decided, and each takes a block: that they fit is known before.
#[test]
fn more_new_directories_than_the_standby_has_room_for() {
    on_ext4("directories", |pair| {
        fs::write(pair.a().join("f"), b"one").unwrap();
        pair.sync();
        // All there is, but for 600 KiB: blocks of this small file system have 1 KiB.
        let ballast = fs::File::create(pair.place("b").join("ballast")).unwrap();
        let takes = |kib: i64| nix::fcntl::fallocate(&ballast, FallocateFlags::empty(), 0, kib << 10).is_ok();
        let all = (1..48 * 1024).rev().step_by(50).find(|kib| takes(*kib)).unwrap();
        ballast.set_len((all - 600).cast_unsigned() << 10).unwrap();
        (0..1_000).for_each(|n| fs::create_dir(pair.a().join(format!("d{n}"))).unwrap());
        fs::write(pair.a().join("f"), b"two").unwrap();
        refuses(&pair, "no room for");
        fs::remove_file(pair.place("b").join("ballast")).unwrap();
        drop(ballast);
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
        assert!(!pair.side("b").store.path("reserve").exists());
    });
}
