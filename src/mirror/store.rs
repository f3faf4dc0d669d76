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
#![allow(unsafe_code)] // statx(2) has no wrapper in nix

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::system;
use super::xattr::Attributes;

/// The store of one tree.
#[derive(Debug)]
pub struct Store {
    /// `.twobox` itself.
    pub home: PathBuf,
    /// This tree's part of it.
    pub directory: PathBuf,
    descriptor: OwnedFd,
}

/// The mount point above `path`.
///
/// # Errors
///
/// When `path` does not exist.
pub fn mount_point(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    let own = mount_of(&path)?;
    let mut point = path.as_path();
    while let Some(above) = point.parent() {
        if mount_of(above)? != own {
            break;
        }
        point = above;
    }
    Ok(point.to_path_buf())
}

/// What tells mounts apart: the mount's number, which is no other mount's later (Linux 6.8), the one that may be (5.8), before that
/// the device's.
///
/// # Errors
///
/// What statx(2) says.
pub(super) fn mount_of(path: &Path) -> io::Result<u64> {
    const NUMBER: libc::c_uint = libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE;
    let path = system::c_name(path.as_os_str().as_bytes())?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    // SAFETY: all zeroes are a value of this structure of numbers.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string, and the kernel fills in the structure.
    if unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, NUMBER, &raw mut found) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
    Ok(if found.stx_mask & NUMBER == 0 { device } else { found.stx_mnt_id })
}

/// The `.twobox` of trees whose anchor this is.
///
/// # Errors
///
/// As [`mount_point`].
pub fn home_of(anchor: &Path, above: Option<&Path>) -> io::Result<PathBuf> {
    let above = match above {
        Some(above) => above.to_path_buf(),
        None => mount_point(anchor)?,
    };
    Ok(above.join(".twobox"))
}

/// The directory that a tree is in, or is: what is there of it now.
#[must_use]
pub fn anchor(tree: &Path) -> &Path {
    if tree.is_dir() { tree } else { tree.parent().unwrap_or(Path::new("/")) }
}

impl Store {
    /// Opens the store of a tree, makes it if there is none. `anchor`: a directory that is there and on the same mount.
    /// `above`: the directory that holds `.twobox`, by default the mount point above the anchor.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn open_for(tree: &Path, anchor: &Path, above: Option<&Path>) -> io::Result<Self> {
        let home = home_of(anchor, above)?;
        let id = &blake3::hash(tree.as_os_str().as_bytes()).to_hex()[..16];
        let directory = home.join("trees").join(id);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let path = directory.join("path");
        if !path.exists() {
            File::create(&path)?.write_all(tree.as_os_str().as_bytes())?;
        }
        let descriptor = system::open_directory(&directory)?;
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
        let directory = system::open_directory(&path)?;
        disinherit(&directory)?;
        Ok(directory)
    }
}

/// What is made in a directory takes its group, if it bears the bit for that, and its default access list. Ours has neither:
/// what is staged there gets what its source has, and nothing else.
fn disinherit(directory: &OwnedFd) -> io::Result<()> {
    let stat = nix::sys::stat::fstat(directory)?;
    if (stat.st_uid, stat.st_gid) != (0, 0) && nix::unistd::geteuid().is_root() {
        nix::unistd::fchown(directory, Some(0.into()), Some(0.into()))?;
    }
    let attributes = Attributes::Descriptor(directory.as_fd());
    for (name, _) in attributes.read()?.iter().filter(|(name, _)| name.starts_with(b"system.posix_acl_")) {
        attributes.remove(name)?;
    }
    if stat.st_mode & 0o7777 != 0o700 {
        nix::sys::stat::fchmod(directory, nix::sys::stat::Mode::S_IRWXU)?;
    }
    Ok(())
}

/// Opens a file of the store to be written anew. One that is empty is not emptied again: that is a write, and two boxes at rest
/// come by here every few seconds, for years.
///
/// # Errors
///
/// What the file system says.
pub(super) fn anew(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_point_above_a_path_is_its_own() {
        assert_eq!(mount_point(Path::new("/")).unwrap(), Path::new("/"));
        assert_eq!(mount_point(Path::new("/proc/self")).unwrap(), Path::new("/proc"));
        assert_eq!(mount_point(Path::new("/proc/sys/kernel")).unwrap(), Path::new("/proc"));
        assert!(mount_point(Path::new("/nowhere")).is_err());
    }
}
