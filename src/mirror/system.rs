//! Calls of the kernel for files, and names and paths as bytes.
#![allow(unsafe_code)] // getdents64, statx, renameat2 and FICLONE have no wrappers in nix

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::entry::Stamp;

/// A name as system calls want it.
///
/// # Errors
///
/// `EINVAL` for a zero byte, which no valid key has in a component.
pub fn c_name(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// When the file was made that `name` is, if it is this inode and the file system knows.
///
/// # Errors
///
/// What statx(2) says.
pub fn born(directory: BorrowedFd<'_>, name: &CStr, inode: u64) -> io::Result<Option<Stamp>> {
    let found = statx(directory, name, libc::STATX_BTIME | libc::STATX_INO)?;
    let known = found.stx_mask & libc::STATX_BTIME != 0 && found.stx_ino == inode;
    Ok(known.then_some(Stamp { seconds: found.stx_btime.tv_sec, nanos: found.stx_btime.tv_nsec }))
}

/// statx(2) of `name`, links not followed; of the directory itself for an empty name.
///
/// # Errors
///
/// What the kernel says.
pub fn statx(directory: BorrowedFd<'_>, name: &CStr, mask: libc::c_uint) -> io::Result<libc::statx> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
    // SAFETY: all zeroes are a value of this structure of numbers.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the name is a C string, and the kernel fills in the structure.
    match unsafe { libc::statx(directory.as_raw_fd(), name.as_ptr(), flags, mask, &raw mut found) } {
        0 => Ok(found),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Renames, unless the new name is there (renameat2(2), which nix has for glibc only).
///
/// # Errors
///
/// What the kernel says.
pub fn rename_new(from: BorrowedFd<'_>, old: &CStr, to: BorrowedFd<'_>, new: &CStr) -> io::Result<()> {
    const NO_REPLACE: libc::c_uint = 1; // RENAME_NOREPLACE
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both names are C strings that live until the call returns.
    match unsafe { libc::syscall(libc::SYS_renameat2, from, old.as_ptr(), to, new.as_ptr(), NO_REPLACE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads a directory's names, `.` and `..` left out, in the kernel's order.
///
/// # Errors
///
/// What getdents64(2) says; what `each` returns.
pub fn list(directory: BorrowedFd<'_>, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    const HEADER: usize = 19; // d_ino 8, d_off 8, d_reclen 2, d_type 1
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        // SAFETY: the kernel writes at most `len` bytes into the buffer.
        let n =
            unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..n];
        while rest.len() > HEADER {
            let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let Some((record, tail)) = rest.split_at_checked(len.max(HEADER)) else { break };
            let name = record[HEADER..].split(|&b| b == 0).next().unwrap_or_default();
            if name != b"." && name != b".." && !name.is_empty() {
                each(name)?;
            }
            rest = tail;
        }
    }
}

/// Shares extents of `from` with `to` over their whole length, where the file system can (ioctl_ficlone(2)).
#[must_use]
pub fn clone_whole(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    // SAFETY: FICLONE takes a descriptor by value.
    unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) == 0 }
}

/// A directory's descriptor opened for a path made of bytes.
///
/// # Errors
///
/// What open(2) says.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Bytes as a path.
#[must_use]
pub fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
