//! A tree's directory, held open: every name is reached beneath it, never through a symbolic link, never across a mount.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};

use super::entry::{Entry, Kind, Local, Stamp};
use super::name;
use super::still::Grain;
use super::system::c_name;
use super::xattr::Attributes;

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
        None => Attributes::at(directory, name)?.read()?,
    };
    Ok(Entry { kind, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime: mtime(stat), xattrs })
}
