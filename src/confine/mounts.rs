//! A view of the mounts of its own for a process that changes files: no device can be opened in it, and nothing be changed on the
//! file systems that hold none of its directories.
//!
//! A copy of a tree holds the device nodes that the tree holds, and one of a disk or of the watchdog must not be a way out for
//! whoever has taken the process over. And landlock(7) knows no right to change a mode, an owner, an attribute or a time: with
//! root's capabilities they can be changed by name, of the pair's key too, and of every program, unless its mount is read-only.
//!
//! What is unmounted outside must go away in the view as well. So it is taken only where the mounts of these directories say so to
//! each other ("shared", as systemd and the appliance make them; mount_namespaces(7)), and mounts of whose end nobody would tell are
//! not in it. What is mounted outside later comes as it is.
#![allow(unsafe_code)] // mount_setattr(2) has no wrapper

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::mount_table::{Mount, Table};

/// Linux 5.12; the same number on every machine, which C libraries do not all name.
const MOUNT_SETATTR: libc::c_long = 442;

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// `MOUNT_ATTR_RDONLY`.
const READ_ONLY: u64 = 1;
/// `MOUNT_ATTR_NODEV`.
const NO_DEVICES: u64 = 4;

/// What the view keeps from the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// No device node below the process's directories can be opened.
    pub devices: bool,
    /// Nothing can be changed on file systems that hold none of them.
    pub elsewhere: bool,
}

/// Takes such a view for a process that changes files below these paths; those that are not there are passed over. Returns what
/// could be had: the other measures stand without it. The process must have one thread.
///
/// # Errors
///
/// One of the paths was unmounted at this moment, and the process could not do its work. Another one finds the mounts as they are then.
pub fn narrow(paths: &[PathBuf]) -> io::Result<View> {
    let there: Vec<&Path> = paths.iter().map(PathBuf::as_path).filter(|path| path.exists()).collect();
    if !there.is_empty() && can_follow(&there).unwrap_or(false) {
        take(&there)?;
    }
    let devices = there.iter().all(|path| statvfs(*path).is_ok_and(|found| found.flags().contains(FsFlags::ST_NODEV)));
    Ok(View { devices, elsewhere: is_frozen_but_for(&there).unwrap_or(false) })
}

/// Takes a view for this process in which it hears of what is mounted and unmounted outside, and tells nobody of its own.
///
/// # Errors
///
/// What unshare(2) and mount(2) say.
pub fn copy() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

/// Leaves nothing that can be changed in the calling process's view, which must be its own.
///
/// # Errors
///
/// What mount_setattr(2) says; nothing has changed then.
pub fn freeze() -> io::Result<()> {
    set_on_all(READ_ONLY)
}

/// All at once, by no name: whoever names a mount of a server that is gone waits for it.
fn set_on_all(set: u64) -> io::Result<()> {
    change(libc::AT_FDCWD, c"/", Attributes { set, ..KEEP }, libc::AT_RECURSIVE)
}

/// The mounts of these paths go away in a copy when they do so outside; and none is read-only, which a copy would stay when it is
/// made writable outside.
fn can_follow(paths: &[&Path]) -> io::Result<bool> {
    let table = Table::read()?;
    let is_good = |number| table.is_told(number) && table.get(number).is_some_and(|mount| !mount.is_read_only);
    Ok(numbers(paths)?.into_iter().all(is_good))
}

fn take(paths: &[&Path]) -> io::Result<()> {
    // Until the last line nothing is missing in the view that the process needs.
    let Ok(told) = Table::read() else { return Ok(()) };
    let Ok(kept) = copy().and_then(|()| held(paths, &told)) else { return Ok(()) };
    if set_on_all(READ_ONLY | NO_DEVICES).is_err() {
        return Ok(());
    }
    kept.iter().try_for_each(|place| {
        change(place.as_raw_fd(), c"", Attributes { clear: READ_ONLY, ..KEEP }, libc::AT_EMPTY_PATH)
    })
}

/// The mounts of these paths in the calling process's view, held by their own number, whatever has been mounted above them. Mounts of
/// whose end nobody is told go: what is unmounted outside would live on here. `told`: the mounts when it was seen which are shared.
fn held(paths: &[&Path], told: &Table) -> io::Result<Vec<File>> {
    let (numbers, table) = (numbers(paths)?, Table::read()?);
    let kept: Vec<&Mount> = table.iter().filter(|mount| numbers.contains(&mount.number)).collect();
    for mount in told.untold().filter(|mount| !kept.iter().any(|kept| kept.at.starts_with(&mount.at))) {
        // By no look at it, as above. It goes with all that is on it; perhaps it went with what it was on.
        let _ = umount2(&mount.at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    let hold = |mount: &&Mount| {
        let place = place(&mount.at)?;
        if number(&place)? == mount.number { Ok(place) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
    };
    kept.iter().map(hold).collect()
}

const KEEP: Attributes = Attributes { set: 0, clear: 0, propagation: 0, user_namespace: 0 };

fn change(at: libc::c_int, name: &CStr, attributes: Attributes, flags: libc::c_int) -> io::Result<()> {
    let size = size_of::<Attributes>();
    // SAFETY: the name is a C string, the structure is as the kernel wants it, and both live until the call returns.
    let outcome = unsafe { libc::syscall(MOUNT_SETATTR, at, name.as_ptr(), flags, &raw const attributes, size) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Nothing can be changed but on the mounts of these paths.
fn is_frozen_but_for(paths: &[&Path]) -> io::Result<bool> {
    let (kept, table) = (numbers(paths)?, Table::read()?);
    Ok(table.iter().all(|mount| mount.is_read_only || kept.contains(&mount.number)))
}

/// The numbers of the mounts that these paths are on.
fn numbers(paths: &[&Path]) -> io::Result<Vec<u64>> {
    paths.iter().map(|path| number(&place(path)?)).collect()
}

fn place(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)
}

/// As in /proc/self/mountinfo.
fn number(place: &File) -> io::Result<u64> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd()))?;
    let number = about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
