//! Whether a file holds still while it is read.
//!
//! A write(2) sets the inode's times when it begins, and then moves its bytes page by page, holding the inode's lock.
//! So equal times before and after a reading prove that no write *began* meanwhile, not that none was *going on*: a long
//! one, or one whose process was preempted in its middle, would be copied half done. Therefore, between the first look
//! and the first byte, whoever holds the lock is waited for:
//!
//! ```text
//! look at the times - wait for the lock - read - wait for the lock - look again: equal?
//! ```
//!
//! What was being written at the first look has ended before the first byte is read. What begins later moves the times
//! before it moves a byte, and the second look sees that, as long as two changes in a row cannot have the same time; see
//! [`Grain`].
//!
//! A file that never holds still for that long is read between two digests of the same bytes ([`digest`]): if they are
//! equal, nothing of what was read changed between them, and the file had this content at the moment between. That is
//! how a log is copied that somebody appends to all the time.
//!
//! Not covered: stores through mmap(2), whose times move later, and asynchronous direct writes, which drop the lock
//! before they are done.
#![allow(unsafe_code)] // fremovexattr has no wrapper in nix
#![allow(clippy::disallowed_methods)] // waits for the kernel's clock to move on

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Whence, lseek};

use super::chunk::{data_from, read_at};
use super::entry::{Hash, Local};
use super::tree::local;
use crate::clock;
use crate::time::Duration;

/// Where time stamps are coarse they move with the timer tick, 10 ms at most: a change within the same tick as the one
/// before leaves no trace.
const TICK: Duration = Duration::from_millis(20);

/// How finely the file system tells two changes of an inode apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grain {
    /// By the timer tick: times that are fresh say nothing. Linux before 6.13, and some file systems for ever.
    #[default]
    Coarse,
    /// Any change after a look has another time than the one that was seen (multigrain time stamps, Linux 6.13).
    Fine,
}

impl Grain {
    /// Tries it out on a file of its own in `directory`. In doubt it is coarse.
    #[must_use]
    pub fn probe(directory: BorrowedFd<'_>) -> Self {
        let name = c"grain";
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let Ok(file) = openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) else { return Grain::Coarse };
        let fine = (0..8).find_map(|_| is_fine(file.as_fd()).ok().flatten());
        let _ = nix::unistd::unlinkat(directory, name, nix::unistd::UnlinkatFlags::NoRemoveDir); // the next probe's then
        if fine == Some(true) { Grain::Fine } else { Grain::Coarse }
    }
}

/// `None`: it took so long that the tick may have moved on more than once.
fn is_fine(file: BorrowedFd<'_>) -> io::Result<Option<bool>> {
    let begin = clock::now();
    let mut times = Vec::with_capacity(4);
    for _ in 0..4 {
        nix::sys::uio::pwrite(file, b"x", 0)?;
        times.push(local(&fstat(file)?).ctime);
    }
    // Ticks are 1 ms apart at least, so coarse times are of at most two sorts.
    let quick = clock::now().since(begin) < Duration::from_millis(1);
    Ok(quick.then(|| times.windows(2).all(|pair| pair[0] != pair[1])))
}

/// Is the inode's last change so fresh that another one could hide behind it?
#[must_use]
pub fn is_fresh(seen: Local) -> bool {
    let Ok(now) = clock_gettime(ClockId::CLOCK_REALTIME) else { return true };
    let now = i128::from(now.tv_sec()) * 1_000_000_000 + i128::from(now.tv_nsec());
    let then = i128::from(seen.ctime.seconds) * 1_000_000_000 + i128::from(seen.ctime.nanos);
    (now - then).unsigned_abs() < TICK.as_nanos()
}

/// Looks at a file that is about to be read, and waits until no write to it is going on. False: its times are fresh all
/// the time, and too coarse to tell whether it changes from now on.
///
/// # Errors
///
/// What fstat(2) says.
pub fn first_look(file: BorrowedFd<'_>, grain: Grain) -> io::Result<(FileStat, bool)> {
    let mut stat = fstat(file)?;
    if grain == Grain::Coarse && is_fresh(local(&stat)) {
        std::thread::sleep(TICK);
        stat = fstat(file)?;
    }
    let telling = grain == Grain::Fine || !is_fresh(local(&stat));
    wait_for_writers(file);
    Ok((stat, telling))
}

/// Waits until no write(2) to the file is going on: takes the inode's lock, as every writer does, and lets it go.
///
/// The call that does this and nothing else is the removal of an attribute in a namespace that does not exist: the
/// kernel takes the lock for writing, asks who is responsible for such a name, and finds nobody. On a read-only mount,
/// where it refuses before that, the search for a hole takes the lock for reading.
pub fn wait_for_writers(file: BorrowedFd<'_>) {
    // SAFETY: the name is a C string.
    let answer = unsafe { libc::fremovexattr(file.as_raw_fd(), c"twobox.none".as_ptr()) };
    if answer != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EROFS) {
        let _ = lseek(file, 0, Whence::SeekHole); // ENXIO: the file is empty
    }
}

/// Digest of the first `size` bytes; holes are passed over.
///
/// # Errors
///
/// What reading says; `UnexpectedEof` when there are fewer.
pub fn digest(file: BorrowedFd<'_>, size: u64) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    while let Some((begin, end)) = data_from(file, at, size)? {
        hasher.update(&begin.to_le_bytes());
        at = begin;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(buffer.len()).min(buffer.len());
            let n = read_at(file, &mut buffer[..most], at)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&buffer[..n]);
            at += n as u64;
        }
    }
    if (fstat(file)?.st_size as u64) < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(*hasher.finalize().as_bytes())
}
