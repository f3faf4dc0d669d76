//! Changes that the kernel's events name, and what happens when it names them badly or not at all. Counters prove which
//! way was taken.
#![allow(unsafe_code)] // mmap(2)

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use twobox::mirror::sender::Sent;
use twobox::mirror::watch::Watch;

use crate::basic::noise;
use crate::compare::assert_equal;
use crate::disk::{Disk, in_own_mounts, mount_memory};
use crate::mutate::{Random, mutate};
use crate::rig::Pair;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Calls with pairs on a file system of their own: events of other tests would fill the queue.
fn on_quiet_ground(what: impl FnOnce([Pair; 2]) + Send + 'static) {
    let n = NUMBER.fetch_add(1, Ordering::Relaxed);
    let ground = std::env::temp_dir().join(format!("tbmr-events-{}-{n}", std::process::id()));
    let inside = ground.clone();
    in_own_mounts(move || {
        mount_memory(&inside, "512m");
        what([Pair::in_directory(&inside), Pair::in_directory(&inside)]);
    });
    fs::remove_dir(ground).unwrap();
}

fn watch(pair: &Pair) -> Watch {
    Watch::new(&pair.a(), pair.side("a").filter.others.clone()).expect("fanotify: Linux 5.17 and root")
}

/// A cycle that is told what the watch has seen, as the mirror's loop does.
fn by_events(pair: &Pair, watch: &Watch) -> Sent {
    let dirty = watch.take().unwrap();
    pair.sync_by((!dirty.all).then_some(&dirty))
}

#[test]
fn events_alone_and_scans_alone_find_the_same() {
    on_quiet_ground(|[events, scans]| {
        let mut watch_it = watch(&events);
        for (pair, seed) in [(&events, 42), (&scans, 42)] {
            let mut r = Random(seed);
            (0..20).for_each(|_| mutate(&pair.a(), &mut r));
            pair.sync();
        }
        watch_it.take().unwrap();
        let (mut found_by_events, mut r, mut s) = (0, Random(43), Random(43));
        for _ in 0..40 {
            (0..4).for_each(|_| mutate(&events.a(), &mut r));
            let sent = by_events(&events, &watch_it);
            found_by_events += if sent.by_events { sent.found } else { 0 };
            assert_equal(&events.a(), &events.b());
            if !sent.by_events {
                watch_it = watch(&events); // hard links: a scan, and a new beginning
            }
            (0..4).for_each(|_| mutate(&scans.a(), &mut s));
            let (sent, _) = scans.sync();
            assert!(!sent.by_events);
            assert_equal(&scans.a(), &scans.b());
        }
        assert!(found_by_events > 20, "{found_by_events} changes were found by events");
    });
}

#[test]
fn nothing_changed_costs_no_look_at_the_tree() {
    on_quiet_ground(|[pair, _]| {
        (0..200).for_each(|n| fs::write(pair.a().join(format!("f{n}")), b"x").unwrap());
        pair.sync();
        let watch = watch(&pair);
        let sent = by_events(&pair, &watch);
        assert_eq!((sent.by_events, sent.found, sent.put), (true, 0, 0));
        fs::write(pair.a().join("f7"), b"y").unwrap();
        let sent = by_events(&pair, &watch);
        assert_eq!((sent.by_events, sent.put), (true, 1), "{sent:?}");
        assert_equal(&pair.a(), &pair.b());
    });
}

/// A Maildir: created in tmp, moved to new, moved to cur, deleted, all between two cycles.
#[test]
fn what_is_made_moved_and_deleted_between_two_cycles_leaves_no_ghost() {
    on_quiet_ground(|[pair, _]| {
        for directory in ["tmp", "new", "cur"] {
            fs::create_dir(pair.a().join(directory)).unwrap();
        }
        pair.sync();
        let watch = watch(&pair);
        for n in 0..100u64 {
            let at = |directory: &str| pair.a().join(directory).join(format!("mail{n}"));
            fs::write(at("tmp"), noise(500, n + 1)).unwrap();
            fs::rename(at("tmp"), at("new")).unwrap();
            if n % 2 == 0 {
                fs::rename(at("new"), at("cur")).unwrap();
            }
            if n % 3 == 0 {
                fs::remove_file(at(if n % 2 == 0 { "cur" } else { "new" })).unwrap();
            }
            if n % 10 == 9 {
                assert!(by_events(&pair, &watch).by_events);
                assert_equal(&pair.a(), &pair.b());
            }
        }
        // A directory that is made, filled, renamed and removed; another that takes its name.
        fs::create_dir(pair.a().join("box")).unwrap();
        fs::write(pair.a().join("box/1"), b"1").unwrap();
        fs::rename(pair.a().join("box"), pair.a().join("box2")).unwrap();
        fs::create_dir(pair.a().join("box")).unwrap();
        fs::write(pair.a().join("box/2"), b"2").unwrap();
        fs::remove_dir_all(pair.a().join("box2")).unwrap();
        assert!(by_events(&pair, &watch).by_events);
        assert_equal(&pair.a(), &pair.b());
    });
}

/// A directory that is removed and made again may get the same number, and what was in it has no place any more when its
/// events are read. Memory file systems give every directory a number of its own, ext4 gives the last one out again.
#[test]
fn a_directory_made_again_with_the_same_number_leaves_no_ghost() {
    let home = PathBuf::from("/dev/shm").join(format!("tbmr-again-{}", std::process::id()));
    in_own_mounts(move || {
        fs::create_dir_all(&home).unwrap();
        let disk = Disk::new(&home, "disk", "ext4", 64);
        let pair = Pair::in_directory(&disk.mounted);
        let cache = pair.a().join("cache");
        fs::create_dir(&cache).unwrap();
        (0..20).for_each(|n| fs::write(cache.join(format!("f{n}")), b"old").unwrap());
        pair.sync();
        let number = |path: &Path| fs::metadata(path).unwrap().ino();
        let former = number(&cache);
        let watch = watch(&pair);
        let again = |_: &i32| {
            fs::remove_dir_all(&cache).unwrap();
            fs::create_dir(&cache).unwrap();
            number(&cache) == former
        };
        assert!((0..100).any(|n| again(&n)), "this file system gives no number out again");
        fs::write(cache.join("new"), b"new").unwrap();
        assert!(by_events(&pair, &watch).by_events);
        assert_equal(&pair.a(), &pair.b());
        drop(pair);
        drop(watch);
        drop(disk);
        fs::remove_dir_all(&home).unwrap();
    });
}

#[test]
fn an_overflow_of_the_kernels_queue_means_a_scan() {
    on_quiet_ground(|[pair, _]| {
        let most: usize =
            fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap().trim().parse().unwrap();
        assert!(most <= 100_000, "the queue is too long to be filled by a test: {most}");
        pair.sync();
        let watch = watch(&pair);
        for n in 0..=most {
            fs::write(pair.a().join(format!("f{n}")), b"").unwrap();
        }
        fs::write(pair.a().join("last"), b"after the overflow").unwrap();
        let dirty = watch.take().unwrap();
        assert!(dirty.all, "{} names of {most} events", dirty.names.len());
        let sent = pair.sync_by(None);
        assert!(!sent.by_events && sent.found as usize > most);
        assert_equal(&pair.a(), &pair.b());
    });
}

/// What happens in a directory is noted where it is then, and later it may be elsewhere: here it comes back to where the copy
/// knows it, as the same directory.
#[test]
fn what_changed_in_a_directory_while_it_was_elsewhere_is_found_when_it_is_back() {
    on_quiet_ground(|[pair, _]| {
        let (inside, within) = (pair.a().join("inside"), pair.a().join("elsewhere"));
        let (outside, above) = (pair.place("a").join("outside"), pair.home.join("above"));
        fs::create_dir_all(inside.join("deep")).unwrap();
        fs::write(inside.join("deep/file"), b"first").unwrap();
        pair.sync();
        for (from, to) in [(&inside, &within), (&inside, &outside), (&pair.place("a"), &above)] {
            let watch = watch(&pair);
            assert!(by_events(&pair, &watch).by_events);
            let file = inside.join("deep/file");
            let file = to.join(file.strip_prefix(from).unwrap());
            fs::rename(from, to).unwrap();
            fs::write(file, format!("written in {}", to.display())).unwrap();
            watch.drain().unwrap(); // the loop reads events as they come
            fs::rename(to, from).unwrap();
            by_events(&pair, &watch);
            assert_equal(&pair.a(), &pair.b());
        }
    });
}

/// The kernel tells nothing of such a write but that the file was closed by somebody who could write.
#[test]
fn a_file_that_is_written_through_memory_is_looked_at() {
    on_quiet_ground(|[pair, _]| {
        fs::write(pair.a().join("file"), b"first").unwrap();
        pair.sync();
        let watch = watch(&pair);
        let file = fs::File::options().read(true).write(true).open(pair.a().join("file")).unwrap();
        let (len, access) = (5, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: the mapping is this test's own, as long as the file, and written to only as long as it is there.
        unsafe {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
            let at = libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd, 0);
            assert_ne!(at, libc::MAP_FAILED);
            at.cast::<u8>().write(b'F');
            // Copied between two writes to the same page: the second one moves no time.
            let long_ago = std::time::SystemTime::now() - Duration::from_secs(100);
            // Both times: the kernel takes a change of this one alone for a write.
            file.set_times(fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago)).unwrap();
            pair.sync();
            assert_equal(&pair.a(), &pair.b());
            at.cast::<u8>().write(b'W');
            assert_eq!(libc::munmap(at, len), 0);
        }
        drop(file);
        assert_eq!(fs::read(pair.a().join("file")).unwrap(), b"Wirst");
        let sent = by_events(&pair, &watch);
        assert!(sent.by_events);
        assert_equal(&pair.a(), &pair.b());
    });
}

/// The kernel names no path of more than 4,096 bytes: then everything is looked at.
#[test]
fn a_change_too_deep_to_be_named_means_a_scan() {
    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::{Mode, mkdirat};
    on_quiet_ground(|[pair, _]| {
        let name = "d".repeat(200);
        let mut deepest = nix::fcntl::open(&pair.a(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..30 {
            mkdirat(&deepest, name.as_str(), Mode::S_IRWXU).unwrap();
            deepest = openat(&deepest, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        let watch = watch(&pair);
        assert!(!watch.take().unwrap().all);
        openat(&deepest, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
        assert!(watch.take().unwrap().all);
    });
}

/// Of the directory that holds the one file, nothing is in the tree.
#[test]
fn events_of_a_tree_that_is_one_file_are_those_of_the_file() {
    on_quiet_ground(|[pair, _]| {
        for tree in [pair.a(), pair.b()] {
            fs::remove_dir(&tree).unwrap();
        }
        fs::write(pair.a(), b"first").unwrap();
        fs::write(pair.b(), b"first").unwrap();
        pair.sync();
        let watch = Watch::new(&pair.place("a"), pair.side("a").filter.others.clone()).unwrap();
        fs::write(pair.a(), b"second").unwrap();
        fs::write(pair.place("a").join("another"), b"of no concern").unwrap();
        assert_eq!((by_events(&pair, &watch).put, fs::read(pair.b()).unwrap()), (1, b"second".to_vec()));
    });
}

/// Somebody writes a file anew beside the old one and renames it into place without an fsync, as many programs do.
#[test]
fn a_rename_without_fsync_never_shows_an_empty_file() {
    on_quiet_ground(|[pair, _]| {
        fs::write(pair.a().join("state"), noise(5000, 1)).unwrap();
        pair.sync();
        let watch = watch(&pair);
        let a = pair.a();
        let end = Instant::now() + Duration::from_secs(2);
        let writer = std::thread::spawn(move || {
            let mut n = 1;
            while Instant::now() < end {
                n += 1;
                fs::write(a.join("state.new"), noise(5000, n)).unwrap();
                fs::rename(a.join("state.new"), a.join("state")).unwrap();
            }
        });
        while Instant::now() < end {
            by_events(&pair, &watch);
            assert_eq!(fs::metadata(pair.b().join("state")).unwrap().len(), 5000);
        }
        writer.join().unwrap();
        by_events(&pair, &watch);
        assert_equal(&pair.a(), &pair.b());
    });
}

/// Whether a tree is at rest is not decided by what happens beside it.
#[test]
fn events_beside_the_tree_say_nothing_of_the_tree() {
    on_quiet_ground(|[pair, _]| {
        let beside = pair.a().parent().unwrap().join("beside");
        let watch = watch(&pair);
        fs::write(pair.a().join("inside"), "one").unwrap();
        assert!(watch.drain().unwrap());
        // It is dirty still, but nothing new has come.
        fs::write(&beside, "two").unwrap();
        assert!(!watch.drain().unwrap());
        fs::write(pair.a().join("inside"), "three").unwrap();
        assert!(watch.drain().unwrap());
        assert!(watch.take().unwrap().names.iter().any(|name| name == b"inside"));
    });
}

/// What is kept of the names is bounded by their bytes, too: few of them may be long.
#[test]
fn very_long_names_mean_a_scan() {
    on_quiet_ground(|[pair, _]| {
        pair.sync();
        let watch = watch(&pair);
        let long = |n: u32| format!("{n:0>250}");
        (0..100).for_each(|n| fs::write(pair.a().join(long(n)), b"x").unwrap());
        assert!(!watch.take().unwrap().all);
        (0..5000).for_each(|n| fs::write(pair.a().join(long(n)), b"y").unwrap());
        assert!(watch.take().unwrap().all);
    });
}

/// The loop is told once of what it has not heard yet: it may be busy for hours.
#[test]
fn what_has_been_told_is_not_told_again_before_it_was_heard() {
    on_quiet_ground(|[pair, _]| {
        let watch = watch(&pair);
        assert!(watch.is_to_be_told() && !watch.is_to_be_told());
        watch.heard();
        assert!(watch.is_to_be_told());
    });
}
