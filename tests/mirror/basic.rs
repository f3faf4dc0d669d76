//! What a cycle must get across.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::compare::assert_equal;
use crate::rig::Pair;

pub fn noise(n: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(n + 8);
    while bytes.len() < n {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(n);
    bytes
}

pub fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_tree_of_every_type_is_copied_exactly_and_then_costs_nothing() {
    let pair = Pair::new();
    let a = pair.a();
    fs::create_dir_all(a.join("d/e/empty")).unwrap();
    fs::write(a.join("small"), b"hello").unwrap();
    fs::write(a.join("nothing"), b"").unwrap();
    fs::write(a.join("d/large"), noise(3 << 20, 1)).unwrap();
    symlink("../elsewhere", a.join("d/link")).unwrap();
    fs::hard_link(a.join("small"), a.join("d/same")).unwrap();
    fs::hard_link(a.join("small"), a.join("zzz")).unwrap();
    fs::set_permissions(a.join("small"), fs::Permissions::from_mode(0o4711)).unwrap();
    sh(&format!(
        "cd {}; mkfifo p; mknod c c 1 3; mknod b b 7 200; chown 12:34 d/large d/e; chown -h 5:6 d/link
         setfattr -n user.x -v y d/large; setfattr -n user.dir -v z d/e; setfacl -m u:77:rw d/large
         setfacl -d -m g:78:rx d/e; chmod 1770 d/e/empty; touch -d @-5.123456789 small; touch -h -d @77.5 d/link
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'
         printf x > \"$(printf 'n\\n\\377')\"",
        a.display()
    ));
    pair.sync();
    assert_equal(&a, &pair.b());
    let (sent, bytes) = pair.sync();
    assert_eq!((sent.put, sent.gone), (0, 0));
    assert!(bytes < 1000, "{bytes}");
}

#[test]
fn changes_of_every_sort_are_followed() {
    let pair = Pair::new();
    let (a, b) = (pair.a(), pair.b());
    for n in 0..50 {
        fs::create_dir_all(a.join(format!("d{}", n % 5))).unwrap();
        fs::write(a.join(format!("d{}/f{n}", n % 5)), noise(n * 1000, n as u64 + 1)).unwrap();
    }
    fs::write(a.join("big"), noise(8 << 20, 99)).unwrap();
    pair.sync();
    assert_equal(&a, &b);

    // A directory becomes a file, a file a directory; two files swap names; one is renamed, one removed.
    fs::remove_dir_all(a.join("d1")).unwrap();
    fs::write(a.join("d1"), b"now a file").unwrap();
    fs::remove_file(a.join("d0/f5")).unwrap();
    fs::create_dir_all(a.join("d0/f5/deep")).unwrap();
    fs::write(a.join("d0/f5/deep/x"), b"x").unwrap();
    sh(&format!("cd {}; mv d2/f7 t; mv d2/f12 d2/f7; mv t d2/f12; mv d3/f8 d4/renamed; rm d3/f13", a.display()));
    pair.sync();
    assert_equal(&a, &b);

    // A page overwritten in place, bytes inserted, bytes appended.
    let mut big = fs::read(a.join("big")).unwrap();
    big[4 << 20..(4 << 20) + 4096].copy_from_slice(&noise(4096, 7));
    let mut file = fs::File::options().write(true).open(a.join("big")).unwrap();
    std::io::Write::write_all(&mut file, &big).unwrap();
    drop(file);
    let (_, bytes) = pair.sync();
    assert_equal(&a, &b);
    assert!(bytes < 12_000, "a page cost {bytes}");
    big.splice(1_000_000..1_000_000, noise(5000, 8));
    fs::write(a.join("big"), &big).unwrap();
    let (_, bytes) = pair.sync();
    assert_equal(&a, &b);
    assert!(bytes < 400_000, "an insertion cost {bytes}");
    big.extend(noise(100_000, 9));
    fs::write(a.join("big"), &big).unwrap();
    let (_, bytes) = pair.sync();
    assert_equal(&a, &b);
    assert!(bytes < 500_000, "an append cost {bytes}");

    // A directory is renamed, a file copied: next to nothing is sent.
    fs::create_dir(a.join("e")).unwrap();
    fs::write(a.join("e/large"), noise(6 << 20, 11)).unwrap();
    pair.sync();
    fs::rename(a.join("e"), a.join("f")).unwrap();
    fs::copy(a.join("f/large"), a.join("copy")).unwrap();
    let (_, bytes) = pair.sync();
    assert_equal(&a, &b);
    assert!(bytes < 10_000, "a rename and a copy cost {bytes}");
}
