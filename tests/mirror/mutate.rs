//! Random trees and random changes to them, from a seed.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

use crate::basic::noise;

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn all(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut directories, mut files) = (vec![root.to_path_buf()], Vec::new());
    let mut next = 0;
    while next < directories.len() {
        let mut names: Vec<_> = fs::read_dir(&directories[next]).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        for path in names {
            if fs::symlink_metadata(&path).unwrap().is_dir() { directories.push(path) } else { files.push(path) }
        }
        next += 1;
    }
    (directories, files)
}

/// A name out of few, so that the same one comes back as something else; some of them unprintable.
fn name(r: &mut Random) -> OsString {
    let n = r.below(12);
    if n == 0 { OsString::from_vec(vec![b'x', 0xff, b'\n', b'\\']) } else { OsString::from(format!("n{n}")) }
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn is_regular(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

/// One random change below `root`.
pub fn mutate(root: &Path, r: &mut Random) {
    let (directories, files) = all(root);
    let directory = directories[r.below(directories.len())].clone();
    let fresh = directory.join(name(r));
    let some = (!files.is_empty()).then(|| files[r.below(files.len())].clone());
    let regular = some.clone().filter(|path| is_regular(path));
    match r.below(18) {
        0..=3 => {
            let len = [0, 1, 700, 5000, 70_000, 400_000][r.below(6)];
            remove(&fresh);
            fs::write(&fresh, noise(len, r.next() | 1)).unwrap();
        }
        4 => {
            remove(&fresh);
            fs::create_dir(&fresh).unwrap();
        }
        5 => {
            if let Some(path) = regular {
                let file = fs::File::options().write(true).open(path).unwrap();
                let len = file.metadata().unwrap().len().max(1);
                file.write_at(&noise(4096, r.next() | 1), r.next() % len / 4096 * 4096).unwrap();
            }
        }
        6 => {
            if let Some(path) = regular {
                let mut bytes = fs::read(&path).unwrap();
                let at = r.below(bytes.len() + 1);
                bytes.splice(at..at, noise(300, r.next() | 1));
                fs::write(&path, bytes).unwrap();
            }
        }
        7 => {
            if let Some(path) = regular {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_len(r.next() % 500_000).unwrap();
            }
        }
        8 => {
            if let Some(path) = some {
                remove(&path);
            }
        }
        9 => {
            if let Some(path) = some
                && path != fresh
            {
                remove(&fresh);
                if path.exists() || path.symlink_metadata().is_ok() {
                    fs::rename(path, fresh).unwrap();
                }
            }
        }
        10 => {
            let from = directories[r.below(directories.len())].clone();
            if from != root && !fresh.starts_with(&from) && !from.starts_with(&fresh) {
                remove(&fresh);
                fs::rename(from, fresh).unwrap();
            }
        }
        11 => {
            if directory != root {
                remove(&directory);
            }
        }
        12 => {
            remove(&fresh);
            symlink(["/etc/passwd", "..", "nowhere", "n1"][r.below(4)], fresh).unwrap();
        }
        13 => {
            if let Some(path) = some
                && path != fresh
            {
                remove(&fresh);
                if path.symlink_metadata().is_ok() {
                    fs::hard_link(path, fresh).unwrap();
                }
            }
        }
        14 => {
            if let Some(path) = regular {
                let mode = [0o600, 0o644, 0o4755, 0o1000, 0o777][r.below(5)];
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        15 => {
            if let Some(path) = some {
                std::os::unix::fs::lchown(path, Some(r.below(3) as u32), Some(r.below(3) as u32)).unwrap();
            }
        }
        16 => {
            remove(&fresh);
            if r.below(2) == 0 {
                mkfifo(&fresh, Mode::S_IRUSR).unwrap();
            } else {
                mknod(&fresh, SFlag::S_IFCHR, Mode::S_IRUSR, 0x103).unwrap();
            }
        }
        _ => {
            remove(&fresh);
            let file = fs::File::create(&fresh).unwrap();
            file.write_at(b"island", 1 << 20).unwrap();
            file.set_len(3 << 20).unwrap();
        }
    }
}
