//! Extended attributes: listed, compared, set and removed.
#![allow(unsafe_code)] // the xattr calls have no wrappers in nix

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::entry::XATTRS;
use super::system::c_name;

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

/// A path that names `name` inside an open directory, for the calls that take no descriptor. The last component is not
/// followed by the `l*xattr` calls.
fn by_descriptor(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    c_name(&path)
}
