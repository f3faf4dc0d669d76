//! What a comparison finds and says, what is listed before it is deleted, and what the figures count.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use twobox::mirror::control::MaxDelete;
use twobox::mirror::entry::Stamp;
use twobox::mirror::guard::Block;
use twobox::mirror::index::{Index, Lookup};
use twobox::mirror::index_writer::Writer;
use twobox::mirror::outcome::{Deletions, What};
use twobox::mirror::sender::Progress;

use crate::basic::noise;
use crate::compare::{assert_equal, describe};
use crate::rig::{Pair, Way};

/// A tree with large and small files, one that was overwritten in place, one that grew, and one with holes.
fn filled() -> Pair {
    let pair = Pair::new();
    let a = pair.a();
    fs::create_dir_all(a.join("d/e")).unwrap();
    for n in 0..30 {
        fs::write(a.join(format!("d/f{n}")), noise(1000 * n + 1, n as u64 + 1)).unwrap();
    }
    fs::write(a.join("large"), noise(3 << 20, 77)).unwrap();
    fs::write(a.join("log"), noise(500_000, 78)).unwrap();
    symlink("d/f1", a.join("link")).unwrap();
    fs::hard_link(a.join("d/f2"), a.join("twin")).unwrap();
    let sparse = fs::File::create(a.join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    sparse.write_at(b"island", 20 << 20).unwrap();
    drop(sparse);
    pair.sync();
    let large = fs::File::options().write(true).open(a.join("large")).unwrap();
    for at in [0, 65_536, 1_000_000, 2_500_000] {
        large.write_at(&noise(5000, at + 3), at).unwrap();
    }
    drop(large);
    let grown = [noise(500_000, 78), noise(300_000, 79)].concat();
    fs::write(a.join("log"), grown).unwrap();
    pair.sync();
    assert_equal(&a, &pair.b());
    pair
}

/// Writes over a file and puts its times back: what a bad disk does, but for ctime.
fn rot(path: &Path) {
    let times = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_at(b"rotten", 5).unwrap();
    file.set_modified(times).unwrap();
}

#[test]
fn equal_sides_are_said_to_be_equal_and_what_was_compared() {
    let pair = filled();
    let files = describe(&pair.a()).len() as u64;
    let verdict = pair.verify();
    assert_eq!((verdict.different, verdict.changed_since, verdict.unhealed), (0, 0, 0), "{verdict:?}");
    let bytes: u64 = (0..30).map(|n| 1000 * n + 1).sum::<u64>() + (3 << 20) + 800_000 + (40 << 20);
    assert_eq!(verdict.bytes_compared, bytes);
    // The root, two directories, a link, and the second name of a file are no files that are read.
    assert_eq!(verdict.files_compared, files - 5);
}

#[test]
fn what_differs_is_named_counted_healed_and_not_found_again() {
    let pair = filled();
    let b = pair.b();
    rot(&b.join("d/f20"));
    rot(&b.join("large"));
    fs::remove_file(b.join("d/f3")).unwrap();
    fs::write(b.join("d/stray"), b"only here").unwrap();
    fs::set_permissions(b.join("d/f5"), fs::Permissions::from_mode(0o600)).unwrap();
    // Both directories may have changed within one tick of the clock: then their times are equal by chance.
    fs::File::open(b.join("d")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    // What has merely changed here since the last cut is no finding.
    fs::write(pair.a().join("d/f7"), b"newer").unwrap();
    fs::remove_file(pair.a().join("d/f8")).unwrap();
    let verdict = pair.verify();
    let found: Vec<(&str, What)> = verdict.differences.iter().map(|one| (one.path.as_str(), one.what)).collect();
    let wanted = [
        ("d/stray", What::Extra),
        ("d", What::Metadata),
        ("d/f20", What::Content),
        ("d/f3", What::Missing),
        ("d/f5", What::Metadata),
        ("large", What::Content),
    ];
    assert_eq!(found, wanted, "{verdict:?}");
    assert_eq!((verdict.different, verdict.unhealed, verdict.healed), (6, 0, true));
    assert_eq!(verdict.changed_since, 2, "{verdict:?}");
    assert_equal(&pair.a(), &b);
    assert_eq!(pair.verify().different, 0);
}

#[test]
fn a_file_that_has_changed_here_without_a_trace_is_named_as_such() {
    let pair = filled();
    // The index takes the file for the one it was: as if a disk had changed it behind the kernel's back.
    let path = pair.a().join("d/f9");
    rot(&path);
    let stat = fs::metadata(&path).unwrap();
    let side = pair.side("a");
    let tx = side.index.begin(true).unwrap();
    let mut writer = Writer::new(&tx).unwrap();
    let mut row = writer.row(b"d\0f9").unwrap().unwrap();
    row.local.ctime = Stamp { seconds: stat.ctime(), nanos: u32::try_from(stat.ctime_nsec()).unwrap() };
    writer.put_again(b"d\0f9", &row).unwrap();
    drop(writer);
    Index::commit(tx).unwrap();
    drop(side);
    let (sent, _) = pair.sync();
    assert_eq!(sent.put, 0, "an ordinary cycle trusts the time stamps");
    let verdict = pair.verify();
    assert_eq!(verdict.different, 1, "{verdict:?}");
    assert_eq!(verdict.differences[0].what, What::ChangedHere);
}

#[test]
fn more_differences_than_a_line_holds_are_counted_all() {
    let pair = Pair::new();
    for n in 0..400 {
        fs::write(pair.a().join(format!("{n:0200}")), b"content").unwrap();
    }
    pair.sync();
    for n in 0..400 {
        rot(&pair.b().join(format!("{n:0200}")));
    }
    let verdict = pair.verify();
    assert_eq!(verdict.different, 400);
    assert_eq!(verdict.differences.len(), 100);
}

#[test]
fn deletions_are_listed_before_they_wait_and_before_they_happen() {
    let mut pair = Pair::new();
    pair.max_delete = MaxDelete::Percent(10);
    for n in 0..300 {
        fs::write(pair.a().join(format!("f{n:03}")), b"x").unwrap();
    }
    pair.sync();
    for n in 0..200 {
        fs::remove_file(pair.a().join(format!("f{n:03}"))).unwrap();
    }
    for confirmed in [false, true] {
        let listed = RefCell::new(Vec::<Deletions>::new());
        let hear = |deletions: &Deletions| {
            assert_eq!(fs::read_dir(pair.b()).unwrap().count(), 300, "nothing has gone before it was listed");
            listed.borrow_mut().push(deletions.clone());
        };
        let way = Way { confirmed, deletions: &hear, ..Way::default() };
        let (sent, _) = pair.cycle("a", "b", &way, &mut |_| {}).unwrap();
        let listed = listed.into_inner();
        assert_eq!(listed.len(), 1);
        let of = &listed[0];
        assert_eq!((of.confirmed, of.count, of.of, of.first.len()), (confirmed, 200, 301, 100));
        assert_eq!(of.first[0], "f000");
        let all = fs::read_to_string(&of.file).unwrap();
        assert_eq!(all.lines().collect::<Vec<_>>(), (0..200).map(|n| format!("f{n:03}")).collect::<Vec<_>>());
        assert_eq!(sent.blocked.is_none(), confirmed);
    }
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn a_tree_that_is_emptied_while_it_is_read_leaves_the_copy() {
    let mut pair = Pair::new();
    pair.max_delete = MaxDelete::Percent(25);
    for n in 0..100 {
        fs::write(pair.a().join(format!("f{n:02}")), noise(1000, n + 1)).unwrap();
    }
    pair.sync();
    let copy = describe(&pair.b());
    // A comparison looks at every name: the first one is read, then somebody deletes them all.
    let a = pair.a();
    let mut empty = |progress: &Progress| {
        for n in 0..100 {
            let _ = if progress.bytes > 0 { fs::remove_file(a.join(format!("f{n:02}"))) } else { Ok(()) };
        }
    };
    let way = Way { verify: true, ..Way::default() };
    let (sent, _) = pair.cycle("a", "b", &way, &mut empty).unwrap();
    assert!(matches!(sent.blocked, Some(Block::TooManyDeletions { .. } | Block::RootEmptied { .. })), "{sent:?}");
    assert_eq!(describe(&pair.b()), copy);
}

#[test]
fn files_are_what_is_no_directory() {
    let pair = filled();
    let count = |tree: &Path| {
        let find = std::process::Command::new("find").arg(tree).args(["!", "-type", "d"]).output().unwrap();
        find.stdout.iter().filter(|byte| **byte == b'\n').count() as u64
    };
    let check = |pair: &Pair, sent: u64| {
        assert_eq!(sent, count(&pair.a()));
        for side in ["a", "b"] {
            assert_eq!(pair.side(side).index.reader().unwrap().files().unwrap(), sent, "{side}");
        }
    };
    check(&pair, pair.sync().0.files);
    // Directories come and go, files become directories and back, names are renamed and linked.
    let a = pair.a();
    fs::rename(a.join("d"), a.join("dd")).unwrap();
    fs::remove_file(a.join("log")).unwrap();
    fs::create_dir_all(a.join("log/below")).unwrap();
    fs::remove_dir(a.join("dd/e")).unwrap();
    fs::write(a.join("dd/e"), b"a file now").unwrap();
    fs::hard_link(a.join("large"), a.join("dd/large")).unwrap();
    check(&pair, pair.sync().0.files);
    fs::remove_dir_all(a.join("dd")).unwrap();
    check(&pair, pair.sync().0.files);
    // The other way round the copy is the source.
    fs::write(pair.b().join("more"), b"more").unwrap();
    let (sent, _) = pair.try_sync("b", "a", twobox::mirror::control::Generation { term: 2, boot: 0xb }, false).unwrap();
    check(&pair, sent.files);
}

#[test]
fn a_large_file_tells_how_far_it_is_while_it_is_read() {
    let pair = Pair::new();
    fs::write(pair.a().join("large"), noise(8 << 20, 5)).unwrap();
    let mut told = Vec::new();
    let (sent, _) = pair.cycle("a", "b", &Way::default(), &mut |progress| told.push(*progress)).unwrap();
    assert_eq!((told[0].files_total, told[0].bytes), (0, 0), "something is told before anything is known");
    assert_eq!((told[1].files_total, told[1].bytes), (2, 0), "and before anything is read");
    assert!(told.iter().filter(|one| (1..8 << 20).contains(&one.bytes)).count() > 20, "{}", told.len());
    assert_eq!(sent.bytes_read, 8 << 20);
    assert!(sent.chunks >= 32, "{}", sent.chunks);
}
