//! Device nodes that can be made but not opened: a copy of a tree holds those that the tree holds, and one of a disk or
//! of the watchdog must not be a way out for whoever has taken the process over.
//!
//! Where a file system is mounted without devices (`nodev`) there is nothing to do. Else the process gets a view of the
//! mounts of its own in which none has devices. What is unmounted outside must go away in that view as well, so it is
//! taken only where the mounts say so to each other ("shared", as systemd makes them all; mount_namespaces(7)).
#![allow(unsafe_code)] // mount_setattr(2) has no wrapper

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

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

/// `MOUNT_ATTR_NODEV`.
const NO_DEVICES: u64 = 4;

/// No device node below these paths can be opened by this process from now on. False: it can. Paths that are not there
/// are passed over. The process must have one thread.
#[must_use]
pub fn shut(paths: &[PathBuf]) -> bool {
    let there: Vec<&Path> = paths.iter().map(PathBuf::as_path).filter(|path| path.exists()).collect();
    are_shut(&there)
        || are_shared(&there).is_ok_and(|shared| shared)
            && unshare(CloneFlags::CLONE_NEWNS).is_ok()
            && follow().is_ok()
            && set_no_devices().is_ok()
            && are_shut(&there)
}

fn are_shut(paths: &[&Path]) -> bool {
    paths.iter().all(|path| statvfs(*path).is_ok_and(|found| found.flags().contains(FsFlags::ST_NODEV)))
}

/// Takes over what is mounted and unmounted outside, and tells nobody of its own.
fn follow() -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
}

fn set_no_devices() -> io::Result<()> {
    let attributes = Attributes { set: NO_DEVICES, clear: 0, propagation: 0, user_namespace: 0 };
    let size = size_of::<Attributes>();
    // SAFETY: the path is a C string, the structure is as the kernel wants it, and both live until the call returns.
    let outcome = unsafe {
        libc::syscall(MOUNT_SETATTR, libc::AT_FDCWD, c"/".as_ptr(), libc::AT_RECURSIVE, &raw const attributes, size)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn are_shared(paths: &[&Path]) -> io::Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    for path in paths {
        if !is_shared(&mount_of(path)?, &mounts) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The number of the mount that `path` is on, as in /proc/self/mountinfo.
fn mount_of(path: &Path) -> io::Result<String> {
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd()))?;
    let number = about.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    number.map(|number| number.trim().to_owned()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What is mounted on this mount, on those above it, and in their place, is told to their copies. `mounts` as
/// /proc/self/mountinfo (proc_pid_mountinfo(5)): number, number of the mount above, four more fields, then optional ones
/// up to a hyphen.
fn is_shared(number: &str, mounts: &str) -> bool {
    let find = |number: &str| mounts.lines().find(|line| line.split(' ').next() == Some(number));
    let mut at = find(number);
    let mut is_shared = at.is_some();
    while let (true, Some(line)) = (is_shared, at) {
        let mut fields = line.split(' ').skip(1);
        let above = fields.next().unwrap_or_default();
        is_shared = fields.skip(4).take_while(|field| *field != "-").any(|field| field.starts_with("shared:"));
        at = find(above).filter(|up| *up != line); // of the topmost mount nothing is seen above
    }
    is_shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_mounts_says_what_is_shared() {
        let mounts = "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                      31 28 0:27 / /data rw,nodev - xfs /dev/vdb shared:9\n\
                      32 28 0:28 / /copy rw master:1 - xfs /dev/vdc rw\n\
                      33 28 0:29 / /both rw shared:4 master:1 - xfs /dev/vdd rw\n\
                      34 33 0:30 / /both/below rw shared:5 - xfs /dev/vde rw\n\
                      35 31 0:31 / /data/below rw shared:6 - xfs /dev/vdf rw\n";
        let shared = |number| is_shared(number, mounts);
        assert!(shared("28") && shared("33") && shared("34"));
        assert!(!shared("31") && !shared("32") && !shared("2") && !shared("36"));
        assert!(!shared("35"), "what is above it is private");
    }
}
