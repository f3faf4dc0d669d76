//! What hurt others: every way in which a mirror has lost somebody's data, tried here.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use twobox::mirror::control::{Generation, MaxDelete};
use twobox::mirror::diverged;
use twobox::mirror::guard::Block;
use twobox::mirror::watch::Dirty;

use crate::basic::noise;
use crate::compare::{assert_equal, describe};
use crate::disk::{Disk, in_own_mounts, run};
use crate::rig::{Pair, TERM_1, Way};

const TERM_2: Generation = Generation { term: 2, boot: 0xb };
const TERM_3: Generation = Generation { term: 3, boot: 0xa };

fn filled() -> Pair {
    let pair = Pair::new();
    for n in 0..40 {
        fs::write(pair.a().join(format!("f{n}")), noise(1000 + n, n as u64 + 1)).unwrap();
    }
    pair.sync();
    pair
}

#[test]
fn an_emptied_a_replaced_and_a_missing_source_leave_the_copy() {
    let pair = filled();
    let copy = describe(&pair.b());
    for n in 0..40 {
        fs::remove_file(pair.a().join(format!("f{n}"))).unwrap();
    }
    let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
    assert_eq!(sent.blocked, Some(Block::RootEmptied { names: 41 }));
    assert_eq!(describe(&pair.b()), copy);

    fs::rename(pair.a(), pair.home.join("a/away")).unwrap();
    assert!(pair.try_sync("a", "b", TERM_1, false).is_err(), "no tree at all");
    fs::create_dir(pair.a()).unwrap();
    fs::write(pair.a().join("stray"), b"on the directory below the mount point").unwrap();
    let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
    assert_eq!(sent.blocked, Some(Block::RootReplaced));
    assert_eq!(describe(&pair.b()), copy);

    // A disk that has never been part of the pair, index and all.
    fs::remove_dir_all(pair.home.join("a/.twobox")).unwrap();
    for _ in 0..3 {
        let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
        assert_eq!(sent.blocked, Some(Block::RootReplaced));
        assert_eq!(describe(&pair.b()), copy);
    }

    // The operator means it.
    let (sent, _) = pair.try_sync("a", "b", TERM_1, true).unwrap();
    assert_eq!(sent.blocked, None);
    assert_equal(&pair.a(), &pair.b());
}

/// The standby has the first cut, the box that sent it does not know: it is no stranger to the copy for that.
#[test]
fn a_source_whose_first_acknowledgement_was_lost_goes_on() {
    let pair = Pair::new();
    for n in 0..40 {
        fs::write(pair.a().join(format!("f{n}")), noise(1000 + n, n as u64 + 1)).unwrap();
    }
    let (store, then) = (pair.place("a").join(".twobox"), pair.home.join("then"));
    let copy = |from: &Path, to: &Path| run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
    pair.cycle("a", "b", &Way::default(), &mut |progress| {
        if progress.files > 0 && !then.exists() {
            copy(&store, &then); // what the disk holds if the power fails now
        }
    })
    .unwrap();
    for round in 0..2 {
        fs::remove_dir_all(&store).unwrap();
        copy(&then, &store);
        fs::write(pair.a().join("f1"), format!("{round}")).unwrap();
        fs::remove_file(pair.a().join(format!("f{}", 30 + round))).unwrap();
        if round == 0 {
            pair.sync();
            assert_equal(&pair.a(), &pair.b());
        } else {
            // That was another cut: what is here now is a disk as it was long ago.
            let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
            assert_eq!(sent.blocked, Some(Block::RootReplaced));
        }
    }
}

/// So few that no percentage counts them, and found by events, which name only what has gone.
fn deletes_everything(pair: &Pair) {
    let names: Vec<String> = (0..8).map(|n| format!("vm{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        fs::write(pair.a().join(name), noise(1000, n as u64 + 1)).unwrap();
    }
    pair.sync();
    let copy = describe(&pair.b());
    for name in &names {
        fs::remove_file(pair.a().join(name)).unwrap();
    }
    let mut dirty = Dirty::default();
    dirty.names.insert(Vec::new()); // the root's time has moved
    dirty.names.extend(names.into_iter().map(String::into_bytes));
    for events in [Some(&dirty), None] {
        let (sent, _) = pair.cycle("a", "b", &Way { events, ..Way::default() }, &mut |_| {}).unwrap();
        assert_eq!(sent.by_events, events.is_some());
        assert!(matches!(sent.blocked, Some(Block::RootEmptied { .. })), "{:?}", sent.blocked);
        assert_eq!(describe(&pair.b()), copy);
    }
    // One that is left, and changed: an ordinary day.
    fs::write(pair.a().join("vm3"), b"new").unwrap();
    assert!(pair.sync_by(Some(&dirty)).by_events);
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn an_emptied_source_of_few_names_leaves_the_copy_when_events_tell_of_it() {
    deletes_everything(&Pair::new());
}

/// The root of such a file system is never empty: it has a directory for what fsck finds.
#[test]
fn an_emptied_file_system_leaves_the_copy() {
    in_own_mounts(|| {
        let pair = Pair::new();
        let disk = Disk::new(&pair.place("a"), "tree", "ext4", 32);
        assert!(pair.a().join("lost+found").is_dir());
        deletes_everything(&pair);
        drop(disk);
    });
}

#[test]
fn too_many_deletions_wait_for_the_operator() {
    let mut pair = filled();
    pair.max_delete = MaxDelete::Percent(25);
    for n in 0..11 {
        fs::remove_file(pair.a().join(format!("f{n}"))).unwrap();
    }
    let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
    assert_eq!(sent.blocked, Some(Block::TooManyDeletions { gone: 11, before: 41 }));
    assert_eq!(fs::read_dir(pair.b()).unwrap().count(), 40);
    pair.try_sync("a", "b", TERM_1, true).unwrap();
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn what_only_the_returning_box_has_is_set_aside_and_can_be_restored() {
    let pair = filled();
    // Box a writes after its last cut and dies; b serves, and changes things itself.
    fs::write(pair.a().join("f1"), b"written by a, never sent").unwrap();
    fs::create_dir(pair.a().join("new")).unwrap();
    fs::write(pair.a().join("new/only-here"), b"precious").unwrap();
    fs::remove_file(pair.a().join("f2")).unwrap();
    fs::write(pair.b().join("f3"), b"written by b").unwrap();
    let (sent, _) = pair.try_sync("b", "a", TERM_2, false).unwrap();
    assert_eq!(sent.blocked, None);
    assert_equal(&pair.b(), &pair.a());

    let home = pair.home.join("a/.twobox");
    let sets = diverged::list(&home).unwrap();
    assert_eq!(sets.len(), 1);
    let mut files = Vec::new();
    diverged::show(&home, &sets[0].name, |path, _| files.push(path.display().to_string())).unwrap();
    assert_eq!(files, ["f1", "new/only-here"]);

    assert_eq!(diverged::restore(&home, &sets[0].name, &pair.a(), Some("new".as_ref())).unwrap(), 1);
    assert_eq!(fs::read(pair.a().join("new/only-here")).unwrap(), b"precious");
    assert!(diverged::drop_set(&home, "../trees").is_err());
    diverged::drop_set(&home, &sets[0].name).unwrap();
    assert!(diverged::list(&home).unwrap().is_empty());
}

/// Names in the one set that box a has.
fn set_aside(pair: &Pair) -> Vec<String> {
    let home = pair.place("a").join(".twobox");
    let sets = diverged::list(&home).unwrap();
    let mut files = Vec::new();
    for set in sets {
        diverged::show(&home, &set.name, |path, _| files.push(path.display().to_string())).unwrap();
    }
    files
}

#[test]
fn what_only_the_returning_box_has_is_set_aside_though_its_peer_writes_to_it_all_the_time() {
    let pair = filled();
    fs::write(pair.a().join("f1"), b"written by a, never sent").unwrap();
    for side in ["a", "b"] {
        fs::write(pair.tree(side).join("f2"), b"the same on both").unwrap();
    }
    let (f1, mut n) = (fs::File::options().write(true).open(pair.b().join("f1")).unwrap(), 0u64);
    let way = Way { generation: TERM_2, ..Way::default() };
    let (sent, _) = pair
        .cycle("b", "a", &way, &mut |_| {
            n += 1;
            f1.write_all_at(&n.to_be_bytes(), 0).unwrap(); // also while it is read
        })
        .unwrap();
    assert_eq!((sent.blocked, sent.unsettled_name.as_deref()), (None, Some("f1")));
    assert_eq!(fs::read(pair.a().join("f1")).unwrap(), b"written by a, never sent");
    // Now it holds still; and what both had alike is nothing that only one had.
    fs::write(pair.b().join("f2"), b"written by b").unwrap();
    pair.cycle("b", "a", &way, &mut |_| {}).unwrap();
    assert_equal(&pair.b(), &pair.a());
    assert_eq!(set_aside(&pair), ["f1"]);
    // After that both are of one mind.
    for round in 0..2 {
        fs::write(pair.b().join("f1"), format!("{round}, written by b")).unwrap();
        let (sent, _) = pair.cycle("b", "a", &way, &mut |_| {}).unwrap();
        assert_eq!(sent.strange, 0);
    }
    assert_eq!(set_aside(&pair), ["f1"]);
}

#[test]
fn a_file_of_two_names_that_only_the_returning_box_changed_is_replaced_under_both() {
    let pair = Pair::new();
    fs::write(pair.a().join("one"), "agreed").unwrap();
    fs::hard_link(pair.a().join("one"), pair.a().join("two")).unwrap();
    pair.sync();
    fs::write(pair.b().join("one"), "written while it served, and never sent").unwrap();
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    assert_eq!(diverged::list(&pair.home.join("b/.twobox")).unwrap().len(), 1, "what it wrote is kept");
}

#[test]
fn a_copy_that_has_changed_is_healed_though_no_event_tells_of_it() {
    let pair = filled();
    fs::write(pair.b().join("f3"), b"written by b").unwrap();
    fs::remove_file(pair.b().join("f4")).unwrap();
    pair.sync_by(Some(&Dirty::default()));
    assert_equal(&pair.a(), &pair.b());
}

/// The cut keeps the former version of a file that changes all the time while it is read; its other name is looked at a
/// moment later, when it has changed for the last time.
#[test]
fn a_file_of_two_names_that_did_not_hold_still_is_sent_under_both_later() {
    let pair = Pair::new();
    let one = pair.a().join("one");
    for round in 0..40u8 {
        let _ = fs::remove_file(pair.a().join("two"));
        fs::write(&one, vec![round; 4 << 20]).unwrap();
        fs::hard_link(&one, pair.a().join("two")).unwrap();
        pair.sync();
        let file = fs::OpenOptions::new().write(true).open(&one).unwrap();
        let end = Instant::now() + Duration::from_micros(500 * u64::from(round));
        let writer = thread::spawn(move || {
            while Instant::now() < end {
                file.write_at(b"not still", 0).unwrap();
            }
        });
        pair.try_sync("a", "b", TERM_1, false).unwrap();
        writer.join().unwrap();
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
    }
}

#[test]
fn a_stale_box_is_never_a_source() {
    let pair = filled();
    fs::write(pair.b().join("f5"), b"newer").unwrap();
    pair.try_sync("b", "a", TERM_2, false).unwrap();
    fs::write(pair.a().join("f5"), b"from the past").unwrap();
    let refused = pair.try_sync("a", "b", TERM_1, false).unwrap_err();
    assert!(refused.to_string().contains("term"), "{refused}");
    assert_eq!(fs::read(pair.b().join("f5")).unwrap(), b"newer");
    // With a right of its own the box is a source again: the direction comes from nothing else.
    pair.try_sync("a", "b", TERM_3, false).unwrap();
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn a_change_of_the_same_size_in_the_same_second_is_seen() {
    let pair = filled();
    let path = pair.a().join("f7");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let bytes = noise(1007, 4711);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_at(&bytes, 0).unwrap();
    file.set_modified(time).unwrap();
    drop(file);
    pair.sync();
    assert_eq!(fs::read(pair.b().join("f7")).unwrap(), bytes);
    assert_equal(&pair.a(), &pair.b());
}

/// Bytes of one write to the restless file.
const PIECE: usize = 64 << 10;

#[test]
fn a_file_that_never_holds_still_is_never_torn_within_a_write() {
    let pair = filled();
    let path = pair.a().join("restless");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            let file = fs::File::create(path).unwrap();
            for n in 0.. {
                // In pieces: one long write(2) has the time of its beginning, see the limits in docs/mirror.md.
                for piece in 0..64 {
                    file.write_at(&[n as u8; PIECE], piece * PIECE as u64).unwrap();
                }
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        })
    };
    while fs::metadata(&path).map_or(0, |m| m.len()) < 4 << 20 {
        thread::yield_now();
    }
    for _ in 0..3 {
        let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
        let copy = pair.b().join("restless");
        assert!(sent.unsettled > 0 || copy.exists());
        if let Ok(bytes) = fs::read(copy) {
            for piece in bytes.chunks(PIECE) {
                assert!(piece.iter().all(|b| *b == piece[0]), "torn");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn a_link_in_the_copy_leads_nowhere() {
    let pair = filled();
    let outside = pair.home.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(pair.a().join("d")).unwrap();
    fs::write(pair.a().join("d/x"), b"1").unwrap();
    pair.sync();
    // Somebody swaps a directory of the copy for a link to a place outside.
    fs::rename(pair.b().join("d"), pair.home.join("moved")).unwrap();
    symlink(&outside, pair.b().join("d")).unwrap();
    fs::write(pair.a().join("d/x"), b"2").unwrap();
    fs::write(pair.a().join("d/y"), b"3").unwrap();
    pair.sync();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was written outside the root");
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn deep_paths_and_a_sparse_tebibyte() {
    let pair = Pair::new();
    let mut tree = nix::fcntl::open(&pair.a(), nix::fcntl::OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty()).unwrap();
    let name = "d".repeat(200);
    for _ in 0..30 {
        nix::sys::stat::mkdirat(&tree, name.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        tree = nix::fcntl::openat(&tree, name.as_str(), nix::fcntl::OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty())
            .unwrap();
    }
    let file = fs::File::create(pair.a().join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    for at in [0u64, 1 << 33, (1 << 40) - 6] {
        file.write_at(b"island", at).unwrap();
    }
    drop(file);
    let (_, bytes) = pair.sync();
    assert!(bytes < 200_000, "the names alone are 90,000 bytes: {bytes}");
    let copy = fs::File::open(pair.b().join("sparse")).unwrap();
    let metadata = copy.metadata().unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) < 1000, "the holes were filled");
    let mut island = [0; 6];
    copy.read_at(&mut island, 1 << 33).unwrap();
    assert_eq!(&island, b"island");
    let (sent, _) = pair.sync();
    assert_eq!(sent.put, 0, "6,000 bytes deep, and known again");
}

/// The standby finds while the cycle runs that its copy is not what it was, and asks for the file again: the other names of
/// the file were said before.
#[test]
fn other_names_of_a_file_that_is_sent_again_stay_its_names() {
    let pair = filled();
    let (first, second) = (pair.a().join("first"), pair.a().join("second"));
    fs::write(&first, noise(1 << 20, 77)).unwrap();
    fs::hard_link(&first, &second).unwrap();
    pair.sync();
    fs::File::options().write(true).open(&first).unwrap().write_at(b"changed", 500_000).unwrap();
    let mut is_damaged = false;
    pair.cycle("a", "b", &Way::default(), &mut |_| {
        if !std::mem::replace(&mut is_damaged, true) {
            // The standby has looked at its tree already.
            fs::File::options().write(true).open(pair.b().join("first")).unwrap().write_at(b"damage", 9).unwrap();
        }
    })
    .unwrap();
    assert_equal(&pair.a(), &pair.b());
}

/// That a standby has changed names of its own excuses no deletion of others.
#[test]
fn names_that_the_standby_changed_excuse_no_deletions() {
    let mut pair = filled();
    pair.max_delete = MaxDelete::Percent(25);
    for n in 0..11 {
        fs::remove_file(pair.a().join(format!("f{n}"))).unwrap();
        fs::write(pair.b().join(format!("f{}", n + 20)), b"changed on the standby").unwrap();
    }
    let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
    assert_eq!(sent.blocked, Some(Block::TooManyDeletions { gone: 11, before: 41 }));
    assert_eq!(fs::read_dir(pair.b()).unwrap().count(), 40);
}
