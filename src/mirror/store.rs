//! Where the mirror keeps what is its own: `.twobox/` at the root of the file system that holds the tree, so that a
//! rename moves a staged file into the tree and one syncfs(2) covers both.
//!
//! ```text
//! .twobox/trees/ID/path        which tree this is
//! .twobox/trees/ID/index       what the last cut was
//! .twobox/trees/ID/changes     what the scan found
//! .twobox/trees/ID/stage/      the next cut, being gathered
//! .twobox/trees/ID/old/        what a broken cycle left of it
//! .twobox/trees/ID/redo        the next cut, being published
//! .twobox/diverged/TERM-BOOT/  what was set aside
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::tree;

/// The store of one tree.
#[derive(Debug)]
pub struct Store {
    /// `.twobox` itself.
    pub home: PathBuf,
    /// This tree's part of it.
    pub directory: PathBuf,
    descriptor: OwnedFd,
}

/// The mount point above `path`, from mountinfo as in proc_pid_mountinfo(5).
///
/// # Errors
///
/// When `path` does not exist or /proc is not there.
pub fn mount_point(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    Ok(mount_point_in(&fs::read("/proc/self/mountinfo")?, &path))
}

fn mount_point_in(mounts: &[u8], path: &Path) -> PathBuf {
    let points = mounts.split(|&b| b == b'\n').filter_map(|line| line.split(|&b| b == b' ').nth(4)).map(unescaped);
    points
        .filter(|point| path.starts_with(point))
        .max_by_key(|point| point.as_os_str().len())
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// Blank, tab, newline and backslash stand in octal in mountinfo.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

impl Store {
    /// Opens the store of a tree, makes it if there is none. `anchor`: a directory that is there and on the same mount.
    /// `above`: the directory that holds `.twobox`, by default the mount point above the anchor.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn open_for(tree: &Path, anchor: &Path, above: Option<&Path>) -> io::Result<Self> {
        let above = match above {
            Some(above) => above.to_path_buf(),
            None => mount_point(anchor)?,
        };
        let home = above.join(".twobox");
        let id = &blake3::hash(tree.as_os_str().as_bytes()).to_hex()[..16];
        let directory = home.join("trees").join(id);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let path = directory.join("path");
        if !path.exists() {
            File::create(&path)?.write_all(tree.as_os_str().as_bytes())?;
        }
        let descriptor = tree::open_directory(&directory)?;
        Ok(Store { home, directory, descriptor })
    }

    /// The tree's part of the store.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// A path in the tree's part.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a directory in the tree's part and opens it.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn subdirectory(&self, name: &str) -> io::Result<OwnedFd> {
        let path = self.path(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        tree::open_directory(&path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_above_a_path_is_its_own() {
        let mounts =
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /data rw - ext4 /dev/b rw\n3 1 8:3 / /a\\040b rw - x y z\n";
        assert_eq!(mount_point_in(mounts, Path::new("/data/mail")), Path::new("/data"));
        assert_eq!(mount_point_in(mounts, Path::new("/database")), Path::new("/"));
        assert_eq!(mount_point_in(mounts, Path::new("/a b/c")), Path::new("/a b"));
    }
}
