//! A tree's directory, held open: every name is reached beneath it, never through a symbolic link, never across a mount.
#![allow(unsafe_code)] // getdents64 and the xattr calls have no wrappers in nix

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};

use super::entry::{Entry, Kind, Local, Stamp, XATTRS};
use super::name;
use super::still::Grain;

/// What one openat2(2) may walk at once; longer keys are walked in pieces (PATH_MAX is 4096, with the zero byte).
const PIECE: usize = 4000;

/// A directory that is held open, and the last parent that was looked up below it.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    device: u64,
    inode: u64,
    grain: Grain,
    parent: Option<(Vec<u8>, OwnedFd)>,
}

/// How files are opened: beneath, through no link of any sort, on this mount only.
fn beneath(flags: OFlag, mode: Mode) -> OpenHow {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).mode(mode).resolve(resolve)
}

fn directory_below(from: BorrowedFd<'_>, key: &[u8]) -> io::Result<OwnedFd> {
    let how = beneath(OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty());
    if key.is_empty() {
        return Ok(openat2(from, c".", how)?);
    }
    let mut held: Option<OwnedFd> = None;
    let mut rest = key;
    loop {
        let at = if rest.len() <= PIECE { rest.len() } else { cut(rest) };
        let at_fd = held.as_ref().map_or(from, AsFd::as_fd);
        let fd = openat2(at_fd, name::to_path(&rest[..at]).as_path(), how)?;
        if at == rest.len() {
            return Ok(fd);
        }
        rest = &rest[at + 1..];
        held = Some(fd);
    }
}

/// The last separator that leaves a piece short enough. Names are at most 255 bytes, so there is one.
fn cut(key: &[u8]) -> usize {
    key[..PIECE].iter().rposition(|&b| b == 0).unwrap_or(PIECE)
}

/// A name as system calls want it.
///
/// # Errors
///
/// `EINVAL` for a zero byte, which no valid key has in a component.
pub fn c_name(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

impl Tree {
    /// Opens the directory at `path`. Links on the way to it are followed: the operator put them there.
    ///
    /// # Errors
    ///
    /// What open(2) says; `ENOTDIR` for anything but a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let stat = fstat(&root)?;
        Ok(Tree { root, device: stat.st_dev, inode: stat.st_ino, grain: Grain::Coarse, parent: None })
    }

    /// With what is known of the file system's time stamps.
    #[must_use]
    pub fn with_grain(self, grain: Grain) -> Self {
        Tree { grain, ..self }
    }

    /// How finely its file system tells changes apart.
    #[must_use]
    pub fn grain(&self) -> Grain {
        self.grain
    }

    /// The root's descriptor.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Device and inode of the root.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// The directory that holds `key`, and the name in it; for the root itself the root and `.`.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `ENOTDIR` when it is not there, `ELOOP` for a symbolic link, `EXDEV` for another mount on the way.
    pub fn parent(&mut self, key: &[u8]) -> io::Result<(BorrowedFd<'_>, CString)> {
        let Some((directory, name)) = name::split(key) else { return Ok((self.root.as_fd(), c".".to_owned())) };
        let name = c_name(name)?;
        if directory.is_empty() {
            return Ok((self.root.as_fd(), name));
        }
        if self.parent.as_ref().is_none_or(|(known, _)| known != directory) {
            self.parent = None;
            let fd = directory_below(self.root.as_fd(), directory)?;
            self.parent = Some((directory.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        Ok((fd.as_fd(), name))
    }

    /// Makes the directories above `key` that are not there, with mode 0700.
    ///
    /// # Errors
    ///
    /// As [`Tree::parent`], and what mkdir(2) says.
    pub fn make_parents(&mut self, key: &[u8]) -> io::Result<()> {
        let Some((directory, _)) = name::split(key).filter(|(directory, _)| !directory.is_empty()) else {
            return Ok(());
        };
        let mut held: Option<OwnedFd> = None;
        // Step by step, and by no recursion: there may be thousands of them.
        for name in directory.split(|&b| b == 0) {
            let (at, name) = (held.as_ref().map_or(self.root.as_fd(), AsFd::as_fd), c_name(name)?);
            match mkdirat(at, name.as_c_str(), Mode::S_IRWXU) {
                Ok(()) | Err(nix::Error::EEXIST) => {}
                Err(e) => return Err(e.into()),
            }
            held = Some(openat2(at, name.as_c_str(), beneath(OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()))?);
        }
        Ok(())
    }

    /// Forgets the parent that was looked up last: after directories were moved or removed.
    pub fn forget(&mut self) {
        self.parent = None;
    }

    /// Opens a directory for listing.
    ///
    /// # Errors
    ///
    /// As [`Tree::parent`].
    pub fn directory(&self, key: &[u8]) -> io::Result<OwnedFd> {
        directory_below(self.root.as_fd(), key)
    }

    /// Opens a file for reading, without waiting for the other end of a pipe.
    ///
    /// # Errors
    ///
    /// As [`Tree::parent`], and what open(2) says.
    pub fn file(&mut self, key: &[u8]) -> io::Result<OwnedFd> {
        let (parent, name) = self.parent(key)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        Ok(openat2(parent, name.as_c_str(), beneath(flags, Mode::empty()))?)
    }

    /// What `key` names; `None` when there is nothing.
    ///
    /// # Errors
    ///
    /// What stat(2) says, but for the name's absence.
    pub fn stat(&mut self, key: &[u8]) -> io::Result<Option<FileStat>> {
        let found = self.parent(key).and_then(|(parent, name)| stat_at(parent, &name));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// lstat(2) relative to a directory.
///
/// # Errors
///
/// What the kernel says.
pub fn stat_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<FileStat> {
    Ok(fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// What of a stat tells one state of an inode from another.
#[must_use]
pub fn local(stat: &FileStat) -> Local {
    Local { inode: stat.st_ino, ctime: stamp(stat.st_ctime, stat.st_ctime_nsec), linked: is_linked(stat) }
}

/// A file with more than one name.
#[must_use]
pub fn is_linked(stat: &FileStat) -> bool {
    format(stat) != libc::S_IFDIR && stat.st_nlink > 1
}

/// The file type bits of a stat.
#[must_use]
pub fn format(stat: &FileStat) -> libc::mode_t {
    stat.st_mode & libc::S_IFMT
}

fn stamp(seconds: i64, nanos: i64) -> Stamp {
    Stamp { seconds, nanos: u32::try_from(nanos).unwrap_or(0) }
}

/// The time of the last change of content.
#[must_use]
pub fn mtime(stat: &FileStat) -> Stamp {
    stamp(stat.st_mtime, stat.st_mtime_nsec)
}

/// The inode is in the very state that it was in when `entry` was made of it.
#[must_use]
pub fn is_unchanged(stat: &FileStat, entry: &Entry, seen: Local) -> bool {
    seen.inode != 0
        && local(stat) == seen
        && mtime(stat) == entry.mtime
        && match entry.kind {
            Kind::File { size, .. } => format(stat) == libc::S_IFREG && stat.st_size as u64 == size,
            Kind::Directory => format(stat) == libc::S_IFDIR,
            _ => true,
        }
}

/// The entry of an inode, its content left blank: for a regular file size and hash are filled in by who reads it.
///
/// `attributes` is the inode's own descriptor for files and directories; without it they are read by name.
///
/// # Errors
///
/// What the kernel says; `ENOTSUP` for a type that does not exist on Linux, `E2BIG` for more attributes than
/// [`XATTRS`].
pub fn entry(
    directory: BorrowedFd<'_>,
    name: &CStr,
    stat: &FileStat,
    own: Option<BorrowedFd<'_>>,
) -> io::Result<Entry> {
    let kind = match format(stat) {
        libc::S_IFREG => Kind::File { size: stat.st_size as u64, content: [0; 32] },
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => {
            let target = nix::fcntl::readlinkat(directory, name)?;
            Kind::Symlink(target.as_bytes().to_vec())
        }
        libc::S_IFIFO => Kind::Fifo,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFBLK => Kind::Device { block: true, number: stat.st_rdev },
        libc::S_IFCHR => Kind::Device { block: false, number: stat.st_rdev },
        _ => return Err(io::Error::from_raw_os_error(libc::ENOTSUP)),
    };
    let xattrs = match own {
        Some(fd) => Attributes::Descriptor(fd).read()?,
        None => Attributes::Name(by_descriptor(directory, name)?).read()?,
    };
    Ok(Entry { kind, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime: mtime(stat), xattrs })
}

/// A path that names `name` inside an open directory, for the calls that take no descriptor. The last component is not
/// followed by the `l*xattr` calls.
fn by_descriptor(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    c_name(&path)
}

/// Where extended attributes are read and written.
#[derive(Debug)]
pub enum Attributes<'a> {
    /// Of an open file or directory.
    Descriptor(BorrowedFd<'a>),
    /// Of what a path names, links not followed.
    Name(CString),
}

impl Attributes<'_> {
    /// Of `name` in `directory`, links not followed.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a zero byte in the name.
    pub fn at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        Ok(Attributes::Name(by_descriptor(directory, name)?))
    }

    fn list(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (at, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the buffer is writable for `len` bytes; the path is a C string.
        let n = unsafe {
            match self {
                Attributes::Descriptor(fd) => libc::flistxattr(fd.as_raw_fd(), at, len),
                Attributes::Name(path) => libc::llistxattr(path.as_ptr(), at, len),
            }
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    fn get(&self, name: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
        let (at, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: as in `list`.
        let n = unsafe {
            match self {
                Attributes::Descriptor(fd) => libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), at, len),
                Attributes::Name(path) => libc::lgetxattr(path.as_ptr(), name.as_ptr(), at, len),
            }
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// Sets one attribute.
    ///
    /// # Errors
    ///
    /// What the kernel says: `ENOTSUP` where the file system has none, `ENOSPC` where it is too long for it.
    pub fn set(&self, name: &[u8], value: &[u8]) -> io::Result<()> {
        let name = c_name(name)?;
        let (at, len) = (value.as_ptr().cast(), value.len());
        // SAFETY: `value` is readable for `len` bytes; names are C strings.
        let n = unsafe {
            match self {
                Attributes::Descriptor(fd) => libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), at, len, 0),
                Attributes::Name(path) => libc::lsetxattr(path.as_ptr(), name.as_ptr(), at, len, 0),
            }
        };
        if n == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Removes one attribute.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        let name = c_name(name)?;
        // SAFETY: names are C strings.
        let n = unsafe {
            match self {
                Attributes::Descriptor(fd) => libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()),
                Attributes::Name(path) => libc::lremovexattr(path.as_ptr(), name.as_ptr()),
            }
        };
        if n == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// All of them, sorted by name.
    ///
    /// # Errors
    ///
    /// What the kernel says; `E2BIG` for more than [`XATTRS`] bytes.
    pub fn read(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut small = [0; 1024];
        let names: Vec<u8> = match self.list(&mut small) {
            Ok(n) => small[..n].to_vec(),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTSUP | libc::ENODATA)) => Vec::new(),
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) => {
                let mut large = vec![0; 64 * 1024]; // XATTR_LIST_MAX
                let n = self.list(&mut large)?;
                large.truncate(n);
                large
            }
            Err(e) => return Err(e),
        };
        let mut all = Vec::new();
        let mut total = 0;
        for name in names.split_inclusive(|&b| b == 0) {
            let Ok(c) = CStr::from_bytes_with_nul(name) else { continue };
            let value = match self.get(c, &mut small) {
                Ok(n) => small[..n].to_vec(),
                Err(e) if e.raw_os_error() == Some(libc::ERANGE) => {
                    let mut large = vec![0; 64 * 1024]; // XATTR_SIZE_MAX
                    let n = self.get(c, &mut large)?;
                    large.truncate(n);
                    large
                }
                Err(e) if e.raw_os_error() == Some(libc::ENODATA) => continue, // removed since it was listed
                Err(e) => return Err(e),
            };
            total += name.len() + value.len();
            if total > XATTRS {
                return Err(io::Error::from_raw_os_error(libc::E2BIG));
            }
            all.push((c.to_bytes().to_vec(), value));
        }
        all.sort();
        Ok(all)
    }

    /// Makes them `wanted`: sets what is missing or different, removes what is not in it.
    ///
    /// # Errors
    ///
    /// What the kernel says to a set. What it refuses to remove (a security module's label) stays.
    pub fn write(&self, wanted: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
        let present = self.read()?;
        for (name, _) in &present {
            if wanted.binary_search_by(|(w, _)| w.cmp(name)).is_err() {
                let _ = self.remove(name);
            }
        }
        for (name, value) in wanted {
            if present.binary_search_by(|(p, _)| p.cmp(name)).is_ok_and(|at| &present[at].1 == value) {
                continue;
            }
            self.set(name, value)?;
        }
        Ok(())
    }
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
