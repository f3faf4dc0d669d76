//! Learning of changes from the kernel: fanotify on the whole file system, directories by handle, names as they come.
//!
//! Events say only "this name may have changed"; what has become of it is looked up. A lost event (queue overflow), a
//! directory that cannot be resolved in any other way than having gone, or more names than are kept mean "look at
//! everything". A directory is found where it is when its events are read: what happens in one that is elsewhere for a while
//! is noted there, or nowhere. So one that was renamed is looked at with all that is in it. Source: fanotify(7),
//! fanotify_init(2), fanotify_mark(2), name_to_handle_at(2).
#![allow(unsafe_code)] // nix drops the records behind an event's metadata; handles have no wrappers

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use super::name;

/// Directory handle and name with every event (Linux 5.9).
const REPORT_DFID_NAME: u32 = 0x400 | 0x800; // FAN_REPORT_DIR_FID, FAN_REPORT_NAME
/// Both names of a rename in one event (Linux 5.17).
const RENAME: u64 = 0x1000_0000; // FAN_RENAME

/// Names that are kept; with more a scan is cheaper.
const NAMES: usize = 8192;
/// Bytes of them.
const NAME_BYTES: usize = 1 << 20;
/// Bytes of events that are read at once: more than the kernel's queue holds. Whoever makes them faster than they are read
/// must not hold up a cycle.
const AT_ONCE: usize = 16 << 20;

/// Length of `struct fanotify_event_metadata`.
const METADATA: usize = 24;
/// Records that carry a directory's handle and a name (fanotify.h: FAN_EVENT_INFO_TYPE_DFID_NAME, OLD_, NEW_).
const WITH_NAME: [u8; 3] = [2, 10, 12];
/// The name before and the name after a rename.
const RENAMED: [u8; 2] = [10, 12];
/// A directory's handle alone.
const DFID: u8 = 3;

/// What has changed below a tree since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Keys of names that may have changed.
    pub names: BTreeSet<Vec<u8>>,
    /// Those of them that a directory has had since a rename: what is below may have changed as well.
    pub moved: BTreeSet<Vec<u8>>,
    /// Those of them that were closed after writing without a word of what was written: through memory perhaps, which moves
    /// no time of a page that was written to before.
    pub closed: BTreeSet<Vec<u8>>,
    /// Events were lost or not understood: everything may have changed.
    pub all: bool,
}

/// An event's directory and name, as the kernel wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// `struct file_handle`: length, type, bytes.
    pub handle: &'a [u8],
    /// The name in that directory; empty or `.` for the directory itself.
    pub name: &'a [u8],
    /// A directory was made under it, or renamed from or to it. A made one may have the number of one that has just gone, of
    /// which the events can be found nowhere any more.
    pub is_moved: bool,
    /// It was closed after writing, and the event tells of no write.
    pub is_closed: bool,
}

/// Takes the events of one read apart. `None` among the names: the queue overflowed.
///
/// Every length is checked: the kernel is trusted to be right, this code is not trusted to have understood it.
pub fn parse(mut events: &[u8], each: &mut dyn FnMut(Option<Named<'_>>)) {
    const OVERFLOW: u64 = 0x4000; // FAN_Q_OVERFLOW
    const DIRECTORY: u64 = 0x4000_0000; // FAN_ONDIR
    const CREATE: u64 = 0x100; // FAN_CREATE
    const MODIFY: u64 = 0x2; // FAN_MODIFY
    const CLOSE_WRITE: u64 = 0x8; // FAN_CLOSE_WRITE
    while events.len() >= METADATA {
        let len = u32::from_ne_bytes([events[0], events[1], events[2], events[3]]) as usize;
        let head = usize::from(u16::from_ne_bytes([events[6], events[7]]));
        let Some((event, rest)) = events.split_at_checked(len.max(METADATA)) else { return each(None) };
        events = rest;
        let mask = u64::from_ne_bytes(event[8..16].try_into().unwrap_or_default());
        if mask & OVERFLOW != 0 {
            each(None);
            continue;
        }
        let mut records = event.get(head..).unwrap_or_default();
        let mut any = false;
        while records.len() >= 4 {
            let (kind, len) = (records[0], usize::from(u16::from_ne_bytes([records[2], records[3]])));
            let Some((record, rest)) = records.split_at_checked(len.max(4)) else { break };
            records = rest;
            // Behind the header: fsid (8), then struct file_handle: bytes (u32), type (i32), the handle.
            let Some(body) = record.get(12..).filter(|body| body.len() >= 8) else { continue };
            let bytes = u32::from_ne_bytes([body[0], body[1], body[2], body[3]]) as usize;
            let Some((handle, name)) = body.split_at_checked(8 + bytes) else { continue };
            if WITH_NAME.contains(&kind) {
                any = true;
                let is_moved = mask & DIRECTORY != 0 && (mask & CREATE != 0 || RENAMED.contains(&kind));
                let is_closed = mask & (CLOSE_WRITE | MODIFY) == CLOSE_WRITE;
                let name = name.split(|&b| b == 0).next().unwrap_or_default();
                each(Some(Named { handle, name, is_moved, is_closed }));
            } else if kind == DFID {
                any = true;
                each(Some(Named { handle, name: b"", is_moved: false, is_closed: false }));
            }
        }
        if !any {
            each(None);
        }
    }
}

/// A tree that is watched.
#[derive(Debug)]
pub struct Watch {
    group: Fanotify,
    mount: OwnedFd,
    root: PathBuf,
    state: Mutex<State>,
    /// The loop has been told, and has not heard it yet.
    told: AtomicBool,
}

/// Where a directory is.
#[derive(Debug)]
enum Place {
    /// Below the root, under this key.
    Inside(Vec<u8>),
    /// Not below the root.
    Outside(PathBuf),
    /// Nowhere: its parent's event says so.
    Gone,
    /// Nobody can tell.
    Unknown,
}

#[derive(Debug, Default)]
struct State {
    dirty: Dirty,
    /// Something was noted since this was last asked.
    touched: bool,
    /// Bytes of the names.
    bytes: usize,
    /// The directory that was resolved last: events come in runs.
    last: Option<(Vec<u8>, Place)>,
    /// Keys whose events are our own doing or not ours to follow.
    ignored: Vec<Vec<u8>>,
}

impl Watch {
    /// Watches the file system that holds `root`. `ignored`: keys below which nothing is noted.
    ///
    /// # Errors
    ///
    /// `EPERM` without CAP_SYS_ADMIN, `EXDEV`, `ENODEV` or `EOPNOTSUPP` on file systems without handles, `EINVAL` on
    /// kernels before 5.17: then scans have to do.
    pub fn new(root: &Path, ignored: Vec<Vec<u8>>) -> io::Result<Self> {
        let root = std::fs::canonicalize(root)?;
        let mount = super::system::open_directory(&root)?;
        let flags = InitFlags::from_bits_retain(REPORT_DFID_NAME)
            | InitFlags::FAN_CLASS_NOTIF
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK;
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?;
        let mask = MaskFlags::FAN_CREATE
            | MaskFlags::FAN_DELETE
            | MaskFlags::FAN_MODIFY
            | MaskFlags::FAN_CLOSE_WRITE // what was written through mmap(2) is told by nothing else
            | MaskFlags::FAN_ATTRIB
            | MaskFlags::FAN_ONDIR
            | MaskFlags::from_bits_retain(RENAME);
        group.mark(MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM, mask, &mount, None::<&Path>)?;
        let state = Mutex::new(State { ignored, ..State::default() });
        Ok(Watch { group, mount, root, state, told: AtomicBool::new(false) })
    }

    /// Something has changed: is it new to the loop?
    #[must_use]
    pub fn is_to_be_told(&self) -> bool {
        !self.told.swap(true, Ordering::AcqRel)
    }

    /// The loop knows.
    pub fn heard(&self) {
        self.told.store(false, Ordering::Release);
    }

    /// Readable when events wait.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// Reads what waits. True: among it was something of the tree. What else happens on the file system says nothing about
    /// whether the tree is at rest.
    ///
    /// # Errors
    ///
    /// What read(2) says.
    pub fn drain(&self) -> io::Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = vec![0; 64 * 1024];
        let mut read = 0;
        loop {
            if read > AT_ONCE {
                (state.dirty.all, state.touched) = (true, true);
                break;
            }
            let n = match nix::unistd::read(self.group.as_fd(), &mut buffer) {
                Ok(n) => n,
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::EINTR) => continue,
                Err(e) => {
                    (state.dirty.all, state.touched) = (true, true);
                    return Err(e.into());
                }
            };
            read += n;
            parse(&buffer[..n], &mut |event| self.note(&mut state, event));
        }
        state.last = None;
        Ok(std::mem::take(&mut state.touched))
    }

    /// What is dirty, and from now on clean.
    ///
    /// # Errors
    ///
    /// As [`Watch::drain`].
    pub fn take(&self) -> io::Result<Dirty> {
        self.drain()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes = 0;
        Ok(std::mem::take(&mut state.dirty))
    }

    fn note(&self, state: &mut State, event: Option<Named<'_>>) {
        let Some(Named { handle, name: last, is_moved, is_closed }) = event else {
            (state.dirty.all, state.touched) = (true, true);
            return;
        };
        if state.dirty.all {
            return;
        }
        if state.last.as_ref().is_none_or(|(known, _)| known != handle) {
            state.last = Some((handle.to_vec(), self.find(handle)));
        }
        let directory = match &state.last {
            Some((_, Place::Inside(directory))) => directory,
            Some((_, Place::Unknown)) => {
                (state.dirty.all, state.touched) = (true, true);
                return;
            }
            // What the tree is in was moved away, or back: meanwhile everything in it was outside.
            Some((_, Place::Outside(path)))
                if is_moved && self.root.starts_with(path.join(super::system::path_of(last))) =>
            {
                (state.dirty.all, state.touched) = (true, true);
                return;
            }
            _ => return,
        };
        let mut key = directory.clone();
        if !last.is_empty() && last != b"." {
            name::push(&mut key, last);
        }
        if state.ignored.iter().any(|at| &key == at || name::is_below(&key, at)) {
            return;
        }
        state.touched = true;
        let (bytes, above) = (key.len(), directory.len());
        if state.dirty.names.insert(directory.clone()) {
            state.bytes += above; // its time has moved, too
        }
        if is_moved && state.dirty.moved.insert(key.clone()) {
            state.bytes += bytes;
        }
        if is_closed && state.dirty.closed.insert(key.clone()) {
            state.bytes += bytes;
        }
        if state.dirty.names.insert(key) {
            state.bytes += bytes;
        }
        if state.dirty.names.len() > NAMES || state.bytes > NAME_BYTES {
            state.dirty = Dirty { all: true, ..Dirty::default() };
            state.bytes = 0;
        }
    }

    /// Where the directory of a handle is now.
    fn find(&self, handle: &[u8]) -> Place {
        let path = match self.path_of(handle) {
            Ok(path) => path,
            Err(e) if matches!(e.raw_os_error(), Some(libc::ESTALE | libc::ENOENT)) => return Place::Gone,
            Err(_) => return Place::Unknown,
        };
        // The kernel appends " (deleted)" to what has gone.
        if path.as_os_str().as_bytes().ends_with(b" (deleted)") && !path.exists() {
            return Place::Gone;
        }
        match path.strip_prefix(&self.root) {
            Err(_) => Place::Outside(path),
            Ok(below) if below.as_os_str().is_empty() => Place::Inside(Vec::new()),
            Ok(below) => name::from_path(below).map_or(Place::Unknown, Place::Inside),
        }
    }

    /// The path of the directory of a handle.
    fn path_of(&self, handle: &[u8]) -> io::Result<PathBuf> {
        let mut aligned = vec![0u64; handle.len().div_ceil(8)];
        // SAFETY: both are plain bytes; `aligned` is at least as long as `handle`.
        unsafe { std::ptr::copy_nonoverlapping(handle.as_ptr(), aligned.as_mut_ptr().cast(), handle.len()) };
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
        // SAFETY: `aligned` holds a struct file_handle as the kernel wrote it, followed by as many bytes as it says.
        let fd = unsafe {
            libc::syscall(libc::SYS_open_by_handle_at, self.mount.as_raw_fd(), aligned.as_ptr(), flags.bits())
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call returned a new descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            parse(&bytes, &mut |_| {});
        }
    }

    #[test]
    fn an_event_with_two_names_and_an_overflow() {
        let record = |kind: u8, name: &[u8]| {
            let mut body = vec![0u8; 8];
            body.extend_from_slice(&8u32.to_ne_bytes());
            body.extend_from_slice(&1i32.to_ne_bytes());
            body.extend_from_slice(b"handle!!");
            body.extend_from_slice(name);
            body.push(0);
            let mut record = vec![kind, 0];
            record.extend_from_slice(&(body.len() as u16 + 4).to_ne_bytes());
            record.extend(body);
            record
        };
        let event = |mask: u64, records: &[u8]| {
            let mut event = (24 + records.len() as u32).to_ne_bytes().to_vec();
            event.extend_from_slice(&[3, 0]);
            event.extend_from_slice(&24u16.to_ne_bytes());
            event.extend_from_slice(&mask.to_ne_bytes());
            event.extend_from_slice(&[0; 8]);
            event.extend_from_slice(records);
            event
        };
        let renamed = event(RENAME, &[record(10, b"old"), record(12, b"new")].concat());
        let bytes = [renamed, event(0x4000, &[])].concat();
        let mut seen = Vec::new();
        parse(&bytes, &mut |event| seen.push(event.map(|named| named.name.to_vec())));
        assert_eq!(seen, [Some(b"old".to_vec()), Some(b"new".to_vec()), None]);
    }
}
