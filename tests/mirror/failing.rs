//! Disks and indexes that fail: what a box loses with its power, files that cannot be read, an index that is damaged.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use twobox::mirror::control::Generation;
use twobox::mirror::diverged;
use twobox::mirror::guard::Block;

use crate::basic::noise;
use crate::compare::{assert_equal, describe};
use crate::disk::{Disk, in_own_mounts, run};
use crate::rig::{Pair, TERM_1};

const TERM_2: Generation = Generation { term: 2, boot: 0xb };
const TERM_3: Generation = Generation { term: 3, boot: 0xa };

fn home(name: &str) -> PathBuf {
    let home = PathBuf::from("/dev/shm").join(format!("tbmr-{name}-{}", std::process::id()));
    fs::create_dir_all(&home).unwrap();
    home
}

/// Side b is the active box. A page that it wrote last was read and sent, but is not on its disk when the power fails, though
/// the inode's times are: to them the file looks as it did at the last cut.
fn with_a_lost_page(name: &'static str, what: impl FnOnce(&Pair) + Send + 'static) {
    in_own_mounts(move || {
        let home = home(name);
        let disk = Disk::new(&home, "disk", "ext4", 64);
        let pair = Pair::new().with_b_in(&disk.mounted);
        let database = pair.b().join("database");
        fs::write(&database, noise(4 << 20, 1)).unwrap();
        run("sync", &["-f", database.to_str().unwrap()]);
        let old = fs::read(&database).unwrap();
        let sync = || assert_eq!(pair.try_sync("b", "a", TERM_1, false).unwrap().0.blocked, None);
        sync();
        let file = fs::File::options().write(true).open(&database).unwrap();
        file.write_all_at(&[7; 4096], 2 << 20).unwrap();
        drop(file);
        sync();
        assert_equal(&pair.b(), &pair.a());
        let ctime = |path: &Path| fs::metadata(path).map(|m| (m.ctime(), m.ctime_nsec())).unwrap();
        let sent = ctime(&database);
        // Any other program's fsync writes the journal, and in it the times of all inodes.
        let other = fs::File::create(disk.mounted.join("other")).unwrap();
        other.write_all_at(b"x", 0).unwrap();
        other.sync_all().unwrap();
        drop(other);
        // What the disk holds at this moment.
        let image = home.join("image");
        run("cp", &["--sparse=always", disk.image.to_str().unwrap(), image.to_str().unwrap()]);
        let mounted = disk.mounted.clone();
        drop(disk);
        let disk = Disk { image, mounted };
        disk.mount();
        assert!(fs::read(&database).unwrap() == old, "the page was written");
        assert_eq!(ctime(&database), sent, "the times were lost, too");
        what(&pair);
        drop((pair, disk));
        fs::remove_dir_all(&home).unwrap();
    });
}

#[test]
fn a_page_that_the_returning_box_lost_with_its_power_is_sent_to_it() {
    with_a_lost_page("lost", |pair| {
        let file = fs::File::options().write(true).open(pair.a().join("database")).unwrap();
        file.write_all_at(&[8; 4096], 3 << 20).unwrap();
        pair.try_sync("a", "b", TERM_2, false).unwrap();
        assert_equal(&pair.a(), &pair.b());
    });
}

#[test]
fn a_page_that_the_active_box_lost_with_its_power_is_not_kept_by_its_copy() {
    with_a_lost_page("again", |pair| {
        pair.try_sync("b", "a", TERM_3, false).unwrap();
        assert_equal(&pair.b(), &pair.a());
    });
}

/// A file in many pieces, so that the list of its places is a block of its own.
fn in_pieces(path: &Path) {
    let file = fs::File::create(path).unwrap();
    for n in 0..40 {
        file.write_all_at(&noise(4096, n + 1), n * 12_288).unwrap();
    }
}

/// Overwrites that block on side b's disk: the file can be found and not be read.
fn break_file(disk: Disk) -> Disk {
    let (image, mounted) = (disk.image.clone(), disk.mounted.clone());
    let kept = image.with_extension("kept");
    run("umount", &[mounted.to_str().unwrap()]);
    fs::rename(&image, &kept).unwrap();
    drop(disk);
    let stat = run("debugfs", &["-R", "stat /b/tree/broken", kept.to_str().unwrap()]);
    let block = stat.split("(ETB0):").nth(1).expect("one block of extents");
    let block: u64 = block.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    let size: u64 = stat_of(&kept, "Block size:").parse().unwrap();
    fs::File::options().write(true).open(&kept).unwrap().write_all_at(&[0x5a; 512], block * size).unwrap();
    let disk = Disk { image: kept, mounted };
    disk.mount();
    assert!(fs::read(disk.mounted.join("b/tree/broken")).is_err());
    disk
}

fn stat_of(image: &Path, word: &str) -> String {
    let all = run("dumpe2fs", &["-h", image.to_str().unwrap()]);
    all.lines().find_map(|line| line.strip_prefix(word)).unwrap().trim().to_owned()
}

#[test]
fn a_file_that_cannot_be_read_holds_up_no_other() {
    in_own_mounts(|| {
        let home = home("unreadable");
        let disk = Disk::new(&home, "disk", "ext4", 48);
        let pair = Pair::new().with_b_in(&disk.mounted);
        in_pieces(&pair.b().join("broken"));
        fs::write(pair.b().join("other"), b"0").unwrap();
        pair.try_sync("b", "a", TERM_1, false).unwrap();
        let former = fs::read(pair.a().join("broken")).unwrap();
        let disk = break_file(disk);
        fs::write(pair.b().join("other"), b"1").unwrap();
        fs::set_permissions(pair.b().join("broken"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        for _ in 0..2 {
            let (sent, _) = pair.try_sync("b", "a", TERM_1, false).unwrap();
            assert_eq!((sent.blocked, sent.unsettled), (None, 1));
            assert_eq!(sent.unsettled_name.as_deref(), Some("broken"));
            assert_eq!(fs::read(pair.a().join("other")).unwrap(), b"1");
            assert_eq!(fs::read(pair.a().join("broken")).unwrap(), former);
        }
        drop((pair, disk));
        fs::remove_dir_all(&home).unwrap();
    });
}

#[test]
fn a_copy_that_cannot_be_read_is_sent_anew() {
    in_own_mounts(|| {
        let home = home("anew");
        let disk = Disk::new(&home, "disk", "ext4", 48);
        let pair = Pair::new().with_b_in(&disk.mounted);
        in_pieces(&pair.a().join("broken"));
        pair.sync();
        let disk = break_file(disk);
        let file = fs::File::options().write(true).open(pair.a().join("broken")).unwrap();
        file.write_all_at(b"changed", 20_000).unwrap();
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
        drop((pair, disk));
        fs::remove_dir_all(&home).unwrap();
    });
}

fn index(pair: &Pair, side: &str) -> PathBuf {
    let trees = fs::read_dir(pair.place(side).join(".twobox/trees")).unwrap();
    trees.map(|tree| tree.unwrap().path().join("index")).next().unwrap()
}

#[test]
fn a_damaged_index_is_made_anew_and_nothing_is_deleted_for_it() {
    let damages: [fn(Vec<u8>) -> Vec<u8>; 3] = [
        |bytes| bytes[..bytes.len() / 3].to_vec(),
        |bytes| vec![0x5a; bytes.len()],
        |mut bytes| {
            bytes[..512].fill(0);
            bytes
        },
    ];
    for damage in damages {
        let pair = Pair::new();
        for n in 0..40 {
            fs::write(pair.a().join(format!("f{n}")), noise(1000 + n, n as u64 + 1)).unwrap();
        }
        pair.sync();
        let copy = describe(&pair.b());
        let path = index(&pair, "b");
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
        assert!(diverged::list(&pair.place("b").join(".twobox")).unwrap().is_empty());
        assert!(path.with_file_name("index.damaged").exists(), "the damaged one is kept for who wants to know");
        // The source's: it cannot tell any more what it has deleted, and leaves that to the operator.
        let path = index(&pair, "a");
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        for _ in 0..3 {
            let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
            assert_eq!(sent.blocked, Some(Block::RootReplaced));
            assert_eq!(describe(&pair.b()), copy);
        }
        pair.try_sync("a", "b", TERM_1, true).unwrap();
        assert_equal(&pair.a(), &pair.b());
    }
}

#[test]
fn an_empty_source_that_has_never_been_copied_does_not_empty_what_the_standby_has() {
    let pair = Pair::new();
    for n in 0..20 {
        fs::write(pair.b().join(format!("f{n}")), b"from before there was a pair").unwrap();
    }
    let before = describe(&pair.b());
    for _ in 0..3 {
        let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
        assert_eq!(sent.blocked, Some(Block::RootEmptied { names: 21 }));
        assert_eq!(describe(&pair.b()), before);
    }
}
