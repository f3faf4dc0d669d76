//! Names, links and metadata at their limits; nested entries; wild clocks.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use twobox::mirror::control::{Generation, TreeSettings};
use twobox::mirror::diverged;
use twobox::mirror::filter::Filter;
use twobox::mirror::side::Side;

use crate::basic::{noise, sh};
use crate::compare::{assert_equal, describe};
use crate::rig::Pair;

#[test]
fn names_of_any_byte_and_of_the_greatest_length() {
    let pair = Pair::new();
    for byte in (1..=255u8).filter(|byte| *byte != b'/' && *byte != b'.') {
        fs::write(pair.a().join(OsStr::from_bytes(&[byte])), [byte]).unwrap();
        fs::create_dir(pair.a().join(OsStr::from_bytes(&[b'd', byte]))).unwrap();
        fs::write(pair.a().join(OsStr::from_bytes(&[b'd', byte, b'/', byte, b'.'])), b"").unwrap();
    }
    fs::write(pair.a().join(OsStr::from_bytes(&[0xff; 255])), b"longest").unwrap();
    fs::write(pair.a().join("..."), b"no parent").unwrap();
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    fs::rename(pair.a().join(OsStr::from_bytes(b"\n")), pair.a().join(OsStr::from_bytes(b"\r\n"))).unwrap();
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
}

/// Whoever configures `/mnt/data` where `/mnt` is a link to `/var/mnt` means one place. The store lies in that place, at its mount
/// point, and belongs to no copy; nor does one that another tree has left here.
#[test]
fn a_tree_reached_through_a_link_leaves_out_stores_and_other_trees() {
    let pair = Pair::new();
    let real = pair.place("a");
    let link = pair.home.join("link");
    symlink(&real, &link).unwrap();
    for directory in [".twobox/other", "tree/.twobox/other", "tree/nested", "tree/deep/.twobox"] {
        fs::create_dir_all(real.join(directory)).unwrap();
    }
    let settings = |tree: &str| TreeSettings {
        tree: link.join(tree),
        store: Some(link.join("tree")),
        ..pair.side("a").settings.clone()
    };
    let (own, nested) = (settings("tree"), TreeSettings { tree: real.join("tree/nested"), ..settings("tree") });
    let side = Side::open(&own, &[own.clone(), nested], None).unwrap();
    for (key, is_out) in [
        (&b".twobox"[..], true),
        (b".twobox\0index", true),
        (b"nested", true),
        (b"nested\0file", true),
        (b"deep\0.twobox", true),
        (b"deep", false),
        (b"deep\0twobox", false),
    ] {
        assert_eq!(side.filter.leaves_out_path(key), is_out, "{key:?}");
    }
}

/// The path of the deepest file, and a symbolic link whose target is as long as the kernel takes.
#[test]
fn paths_of_4096_bytes_and_more() {
    let pair = Pair::new();
    let mut at = nix::fcntl::open(&pair.a(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    let name = "n".repeat(255);
    let mut length = 0;
    while length < 5000 {
        mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
        let file = openat(&at, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
        nix::unistd::write(&file, length.to_string().as_bytes()).unwrap();
        at = openat(&at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        length += name.len() + 1;
    }
    symlink("t".repeat(4095), pair.a().join("link")).unwrap();
    let (first, _) = pair.sync();
    assert!(first.put > 2 * 20, "directories, files and the link");
    assert_eq!(fs::read_link(pair.b().join("link")).unwrap().as_os_str().len(), 4095);
    // Down the copy, step by step: no call takes such a path.
    let mut at = nix::fcntl::open(&pair.b(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    let mut length = 0;
    while length < 5000 {
        let file = openat(&at, "f", OFlag::O_RDONLY, Mode::empty()).unwrap();
        let mut text = [0; 16];
        let n = nix::unistd::read(&file, &mut text).unwrap();
        assert_eq!(text[..n], *length.to_string().as_bytes());
        at = openat(&at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        length += name.len() + 1;
    }
    assert_eq!(pair.sync().0.put, 0);
}

#[test]
fn groups_of_hard_links_split_and_join() {
    let pair = Pair::new();
    let (a, b) = (pair.a(), pair.b());
    fs::create_dir(a.join("d")).unwrap();
    let join = |from: &str, to: &str| fs::hard_link(a.join(from), a.join(to)).unwrap();
    fs::write(a.join("m"), noise(5000, 1)).unwrap();
    join("m", "n");
    join("m", "d/o");
    join("m", "a");
    pair.sync();
    assert_equal(&a, &b);
    // One leaves the group with new content; the first name goes; two groups become one; one becomes two.
    let split = |name: &str, seed: u64| {
        fs::remove_file(a.join(name)).unwrap();
        fs::write(a.join(name), noise(5000, seed)).unwrap();
    };
    split("n", 2);
    pair.sync();
    assert_equal(&a, &b);
    fs::remove_file(a.join("a")).unwrap();
    pair.sync();
    assert_equal(&a, &b);
    join("n", "p");
    fs::remove_file(a.join("d/o")).unwrap();
    join("p", "d/o");
    pair.sync();
    assert_equal(&a, &b);
    assert_eq!(fs::metadata(b.join("n")).unwrap().nlink(), 3);
    // The content of all names changes through one of them.
    fs::write(a.join("d/o"), noise(7000, 3)).unwrap();
    pair.sync();
    assert_equal(&a, &b);
    fs::remove_file(a.join("m")).unwrap();
    join("n", "m");
    split("p", 4);
    pair.sync();
    assert_equal(&a, &b);
    // Of a group only one name is left: a file like any other.
    for name in ["n", "d/o"] {
        fs::remove_file(a.join(name)).unwrap();
    }
    pair.sync();
    assert_equal(&a, &b);
    assert_eq!(pair.sync().0.put, 0);
}

#[test]
fn attributes_and_access_lists_at_their_limits() {
    let pair = Pair::new();
    fs::write(pair.a().join("f"), b"x").unwrap();
    fs::create_dir(pair.a().join("d")).unwrap();
    // 60,000 bytes in one value (the kernel takes 65,536), one hundred small ones, a name of 255 bytes.
    let value = "v".repeat(60_000);
    let mut python = String::from("import os\n");
    python += &format!("os.setxattr('f', 'user.large', b'{value}')\n");
    python += "for n in range(100): os.setxattr('d', f'user.n{n}', bytes([n]))\n";
    python += &format!("os.setxattr('d', 'user.{}', b'')\n", "n".repeat(250));
    python += "os.setxattr('d', 'trusted.t', bytes(range(256)))\n";
    // An access list of 1,000 users: version 2, then tag, permissions, id.
    python += "import struct\nacl = struct.pack('<I', 2)\nacl += struct.pack('<HHI', 1, 6, 0xffffffff)\n\
               for u in range(1000): acl += struct.pack('<HHI', 2, u % 8, 5000 + u)\n\
               acl += struct.pack('<HHI', 4, 4, 0xffffffff)\nacl += struct.pack('<HHI', 16, 7, 0xffffffff)\n\
               acl += struct.pack('<HHI', 32, 0, 0xffffffff)\n\
               os.setxattr('f', 'system.posix_acl_access', acl)\n\
               os.setxattr('d', 'system.posix_acl_default', acl)\n";
    fs::write(pair.home.join("set.py"), python).unwrap();
    sh(&format!("cd {}; python3 {}", pair.a().display(), pair.home.join("set.py").display()));
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    assert_eq!(pair.sync().0.put, 0);
    sh(&format!("cd {}; setfattr -x user.large f; setfattr -x user.n50 d; setfacl -b f", pair.a().display()));
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn clocks_that_are_years_off_decide_nothing() {
    let pair = Pair::new();
    let years = |n: i64| {
        let by = Duration::from_secs(n.unsigned_abs() * 31_557_600);
        if n < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    };
    let set = |path: &Path, n: i64| fs::File::options().write(true).open(path).unwrap().set_modified(years(n)).unwrap();
    for n in [-60, -20, 0, 20, 60] {
        let path = pair.a().join(format!("from {n}"));
        fs::write(&path, noise(1000, 9)).unwrap();
        set(&path, n);
    }
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    // The standby's version claims to be decades newer, and bigger; the active one's replaces it all the same.
    let path = pair.b().join("from 0");
    fs::write(&path, noise(9000, 10)).unwrap();
    set(&path, 80);
    let path = pair.a().join("from 0");
    fs::write(&path, b"older by its time, true by its role").unwrap();
    set(&path, -80);
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
    assert_eq!(diverged::list(&pair.home.join("b/.twobox")).unwrap().len(), 1, "and what was there is set aside");
    // The box with the time of the future comes back with the lower generation: refused.
    let past = Generation { term: 0, boot: 1 };
    assert!(pair.try_sync("b", "a", past, false).is_err());
}

#[test]
fn of_nested_entries_the_most_specific_one_rules() {
    let mut pair = Pair::new();
    for path in ["mail/new", "mail/archive/2020", "web"] {
        fs::create_dir_all(pair.a().join(path)).unwrap();
        fs::write(pair.a().join(path).join("f"), path.as_bytes()).unwrap();
    }
    let entry = |below: &str| {
        let mut settings = pair.settings("a");
        settings.tree = pair.a().join(below);
        settings
    };
    let all = [pair.settings("a"), entry("mail"), entry("mail/archive/2020/f")];
    let ruled = |number: usize| -> Filter { Side::open(&all[number], &all, None).unwrap().filter };
    let (outer, inner, single) = (ruled(0), ruled(1), ruled(2));
    assert!(outer.leaves_out_path(b"mail") && outer.leaves_out_path(b"mail\0new\0f"));
    assert!(!outer.leaves_out_path(b"web\0f"));
    assert!(!inner.leaves_out_path(b"new\0f") && inner.leaves_out_path(b"archive\x002020\0f"));
    assert!(!single.leaves_out_path(b"f") && single.leaves_out_path(b"g"));
    pair.nested = vec!["mail".into()];
    // Copied by the outer entry alone, the inner part is not touched on the standby.
    fs::create_dir(pair.b().join("mail")).unwrap();
    fs::write(pair.b().join("mail/own"), b"of the inner entry's last cut").unwrap();
    pair.sync();
    assert!(pair.b().join("web/f").exists() && pair.b().join("mail/own").exists());
    assert!(!pair.b().join("mail/new").exists());
    // A file that leaves the outer part for the inner one is gone from the outer part's copy.
    fs::rename(pair.a().join("web/f"), pair.a().join("mail/f")).unwrap();
    pair.sync();
    assert!(!pair.b().join("web/f").exists() && !pair.b().join("mail/f").exists());
}

/// Somebody with rights on the standby swaps a directory for a link to a place outside, again and again, while the
/// receiver works there.
#[test]
fn a_link_that_is_swapped_in_while_the_receiver_works_leads_nowhere() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let pair = Pair::new();
    let outside = pair.home.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f1"), b"canary").unwrap();
    fs::create_dir(pair.a().join("d")).unwrap();
    for n in 0..30 {
        fs::write(pair.a().join(format!("d/f{n}")), noise(3000, n + 1)).unwrap();
    }
    pair.sync();
    let canary = describe(&outside);
    symlink(&outside, pair.home.join("b/swap")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (stop, d, link) = (Arc::clone(&stop), pair.b().join("d"), pair.home.join("b/swap"));
        std::thread::spawn(move || {
            let mut swaps = 0u64;
            while !stop.load(Ordering::Relaxed) || swaps % 2 == 1 {
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let here = nix::fcntl::AT_FDCWD;
                // The receiver may have put a directory of its own there meanwhile, or be about to.
                if nix::fcntl::renameat2(here, &d, here, &link, exchange).is_ok() {
                    swaps += 1;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            swaps
        })
    };
    for cycle in 0..40u64 {
        for n in 0..30 {
            fs::write(pair.a().join(format!("d/f{n}")), noise(3000, n + 100 * cycle)).unwrap();
        }
        if cycle % 3 == 0 {
            let _ = fs::remove_file(pair.a().join("d/f1"));
        }
        // It may fail, for its directory comes and goes; it must not go astray.
        let _ = pair.try_sync("a", "b", crate::rig::TERM_1, true);
        assert_eq!(describe(&outside), canary, "cycle {cycle}: something outside the root was touched");
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapper.join().unwrap();
    assert!(swaps > 10, "only {swaps} swaps");
    assert_eq!(describe(&outside), canary);
}

#[test]
fn a_link_to_a_directory_is_no_tree() {
    let pair = Pair::new();
    let mut settings = pair.settings("a");
    settings.tree = pair.home.join("link");
    std::os::unix::fs::symlink(pair.a(), &settings.tree).unwrap();
    let error = Side::open(&settings, std::slice::from_ref(&settings), None).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    // A link to a file is one itself, as /etc/localtime is.
    fs::write(pair.a().join("f"), b"f").unwrap();
    fs::remove_file(&settings.tree).unwrap();
    std::os::unix::fs::symlink(pair.a().join("f"), &settings.tree).unwrap();
    assert!(Side::open(&settings, std::slice::from_ref(&settings), None).unwrap().is_single());
}
