//! Room for what the publishing of a cut takes up by itself: the files are staged before, but new directories, longer lists
//! of names and the index need blocks of the disk too, and a cut that is decided has to be finished.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::side::Side;

/// What the index and the lists of names may grow by, in sizes of the log.
const PER_LOG: u64 = 2;
/// In any case: the index writes whole pages.
const LEAST: u64 = 64 * 1024;

/// Sets room aside for a cut with this log and so many new directories, until [`release`].
///
/// # Errors
///
/// `StorageFull` when there is not so much; what else the file system says.
pub fn keep(side: &Side, log: &Path, directories: u64) -> io::Result<()> {
    let block = nix::sys::statvfs::fstatvfs(side.store.descriptor())?.fragment_size();
    let size = (fs::metadata(log)?.len() * PER_LOG).max(LEAST) + directories * block;
    let size = i64::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let path = side.store.path("reserve");
    let file = File::create(&path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, size) {
        // A file system that cannot promise room: it is tried without.
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => {
            fs::remove_file(&path)?;
            let e = io::Error::from(errno);
            let text = format!("the standby has no room for {size} bytes of names and directories: {e}");
            Err(io::Error::new(e.kind(), text))
        }
    }
}

/// Gives the room back, for what it was kept for.
///
/// # Errors
///
/// What unlink(2) says.
pub fn release(side: &Side) -> io::Result<()> {
    match fs::remove_file(side.store.path("reserve")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
