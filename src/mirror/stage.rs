//! Gathering the next cut beside the tree: files with content and metadata complete, under names of their own.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag, copy_file_range, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::entry::{Entry, Kind};
use super::fault;
use super::message::StageName;
use super::stop::Stop;
use super::system;
use super::xattr::Attributes;

/// The name of a staged file in its directory.
#[must_use]
pub fn file_name(prefix: &str, name: StageName) -> CString {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Vec::with_capacity(prefix.len() + 33);
    text.extend_from_slice(prefix.as_bytes());
    for byte in name {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    CString::new(text).unwrap_or_default() // hexadecimal digits hold no zero byte
}

/// What [`file_name`] made, without a prefix.
#[must_use]
pub fn parse_file_name(text: &[u8]) -> Option<StageName> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 32 && text.is_ascii())?;
    let mut name = StageName::default();
    for (at, byte) in name.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(name)
}

/// Removes a file if it is there.
///
/// # Errors
///
/// What unlink(2) says.
pub fn remove(directory: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    match unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        // An empty one on which attributes were tried.
        Err(nix::Error::EISDIR) => Ok(unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir)?),
        Err(e) => Err(e.into()),
    }
}

/// Hands out the names in a directory of the store until `take` has taken every one out of it. However many there are,
/// few are in memory.
///
/// # Errors
///
/// What the file system says; what `take` returns.
pub fn drain(directory: BorrowedFd<'_>, mut take: impl FnMut(&CString) -> io::Result<()>) -> io::Result<()> {
    const TOGETHER: usize = 4096;
    let mut names = Vec::new();
    loop {
        // Somebody has read it to its end, or the names behind the first have moved up.
        nix::unistd::lseek(directory, 0, nix::unistd::Whence::SeekSet)?;
        system::list(directory, |name| {
            if names.len() < TOGETHER {
                names.push(system::c_name(name)?);
            }
            Ok(())
        })?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names.drain(..) {
            take(&name)?;
        }
    }
}

/// Empties a directory of the store.
///
/// # Errors
///
/// What the file system says.
pub fn empty(directory: BorrowedFd<'_>) -> io::Result<()> {
    drain(directory, |name| remove(directory, name))
}

/// Makes an empty staged file.
///
/// # Errors
///
/// What open(2) says.
pub fn create(directory: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    fault::step();
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    match openat(directory, name.as_c_str(), flags, mode) {
        Err(nix::Error::EEXIST) => {
            remove(directory, name)?;
            Ok(openat(directory, name.as_c_str(), flags, mode)?)
        }
        other => Ok(other?),
    }
}

/// Opens a staged file for reading, without waiting for the other end of a staged pipe.
///
/// # Errors
///
/// What open(2) says.
pub fn open(directory: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    Ok(openat(directory, name.as_c_str(), flags, Mode::empty())?)
}

/// Writes all of it.
///
/// # Errors
///
/// What pwrite(2) says.
pub fn write_at(file: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::sys::uio::pwrite(file, bytes, offset as i64) {
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Copies a stretch inside the kernel, sharing extents where the file system can. False: fewer bytes were there.
///
/// # Errors
///
/// What reading and writing say; when it was stopped.
pub fn copy(
    (from, from_offset): (BorrowedFd<'_>, u64),
    (to, to_offset): (BorrowedFd<'_>, u64),
    len: u64,
    stop: &Stop,
) -> io::Result<bool> {
    const AT_ONCE: usize = 16 << 20; // a slow disk takes less than a second
    let (mut source, mut target, mut left) = (from_offset as i64, to_offset as i64, len);
    while left > 0 {
        stop.check()?;
        let most = usize::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE);
        match copy_file_range(from, Some(&mut source), to, Some(&mut target), most) {
            Ok(0) => return Ok(false),
            Ok(n) => left -= n as u64,
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EXDEV | nix::Error::EOPNOTSUPP | nix::Error::EINVAL | nix::Error::ENOSYS) => {
                return copy_by_hand((from, source as u64), (to, target as u64), left, stop);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}

fn copy_by_hand(
    (from, source): (BorrowedFd<'_>, u64),
    (to, target): (BorrowedFd<'_>, u64),
    len: u64,
    stop: &Stop,
) -> io::Result<bool> {
    let mut buffer = vec![0; 128 * 1024];
    let mut done = 0;
    while done < len {
        stop.check()?;
        let most = usize::try_from(len - done).unwrap_or(buffer.len()).min(buffer.len());
        let n = super::chunk::read_at(from, &mut buffer[..most], source + done)?;
        if n == 0 {
            return Ok(false);
        }
        write_at(to, &buffer[..n], target + done)?;
        done += n as u64;
    }
    Ok(true)
}

/// Makes a staged symbolic link, pipe, socket name or device node.
///
/// # Errors
///
/// What the kernel says.
pub fn make_special(directory: BorrowedFd<'_>, name: &CString, entry: &Entry) -> io::Result<()> {
    fault::step();
    remove(directory, name)?;
    let (kind, number) = match &entry.kind {
        Kind::Symlink(target) => {
            let target = system::c_name(target)?;
            return Ok(symlinkat(target.as_c_str(), directory, name.as_c_str())?);
        }
        Kind::Fifo => (SFlag::S_IFIFO, 0),
        Kind::Socket => (SFlag::S_IFSOCK, 0),
        Kind::Device { block, number } => (if *block { SFlag::S_IFBLK } else { SFlag::S_IFCHR }, *number),
        Kind::File { .. } | Kind::Directory | Kind::Link { .. } => return Err(super::codec::Malformed.into()),
    };
    Ok(mknodat(directory, name.as_c_str(), kind, Mode::S_IRUSR | Mode::S_IWUSR, number)?)
}

/// Finds out whether the file system can hold a directory's attributes: they are given to the directory itself when the cut has
/// been decided, and must not fail then.
///
/// # Errors
///
/// What the kernel says.
pub fn try_attributes(stage: BorrowedFd<'_>, name: &CString, entry: &Entry) -> io::Result<()> {
    remove(stage, name)?;
    nix::sys::stat::mkdirat(stage, name.as_c_str(), Mode::S_IRWXU)?;
    let own = open_directory(stage, name)?;
    let tried = set_metadata(stage, name, entry, Some(own.as_fd()), true);
    remove(stage, name)?;
    tried
}

/// Gives a name all of its metadata, time last. Attributes come after the owner, whose change would drop file
/// capabilities, and after the mode, which an ACL refines.
///
/// # Errors
///
/// What the kernel says.
pub fn set_metadata(
    directory: BorrowedFd<'_>,
    name: &CString,
    entry: &Entry,
    own: Option<BorrowedFd<'_>>,
    is_new: bool,
) -> io::Result<()> {
    fault::step();
    if !is_new || entry.uid != 0 || entry.gid != 0 {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        match own {
            Some(fd) => nix::unistd::fchown(fd, Some(uid), Some(gid))?,
            None => fchownat(directory, name.as_c_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?,
        }
    }
    let mode = Mode::from_bits_truncate(entry.mode as libc::mode_t);
    if let Some(fd) = own {
        nix::sys::stat::fchmod(fd, mode)?;
    } else if !matches!(entry.kind, Kind::Symlink(_)) {
        // Never a link: it was made here under a name of our own.
        fchmodat(directory, name.as_c_str(), mode, FchmodatFlags::FollowSymlink)?;
    }
    if !is_new || !entry.xattrs.is_empty() {
        let attributes = match own {
            Some(fd) => Attributes::Descriptor(fd),
            None => Attributes::at(directory, name)?,
        };
        attributes.write(&entry.xattrs)?;
    }
    set_time(directory, name, entry, own)
}

/// Sets the time of the last change of content.
///
/// # Errors
///
/// What utimensat(2) says.
pub fn set_time(
    directory: BorrowedFd<'_>,
    name: &CString,
    entry: &Entry,
    own: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let omit = TimeSpec::new(0, libc::UTIME_OMIT);
    let time = TimeSpec::new(entry.mtime.seconds, i64::from(entry.mtime.nanos));
    match own {
        Some(fd) => nix::sys::stat::futimens(fd, &omit, &time)?,
        None => utimensat(directory, name.as_c_str(), &omit, &time, UtimensatFlags::NoFollowSymlink)?,
    }
    Ok(())
}

/// Opens a directory that lies in another for its metadata to be set.
///
/// # Errors
///
/// What open(2) says.
pub fn open_directory(directory: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory.as_fd(), name.as_c_str(), flags, Mode::empty())?)
}
