//! The state directory: one writer, and files that are replaced whole.
//!
//! Replaced by rename, not kept in two alternating slots: with slots, rot in the newest one looks exactly like a torn
//! write of it, and falling back to the older one would forget a promise that was already given (a term on disk, a
//! mark). With rename a torn write stays under its temporary name; what stands under the real name was synced before it
//! got there, so a seal that does not match always means damage, and is told as that.

use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::Mode;

use super::sealed::{self, Damage, PAYLOAD_MAX};

/// Longest file read, in bytes: anything longer is damage and is not loaded into memory.
const READ_MAX: u64 = PAYLOAD_MAX as u64 + 64;

/// What stands under a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// No such file: this box never served, or its state partition is new.
    Nothing,
    /// The payload that was written last.
    Payload(Vec<u8>),
    /// A file whose content cannot be trusted.
    Damaged(Damage),
}

/// The directory of `--state`, opened once: a path that is mounted over later does not divert a write.
pub struct Directory {
    path: PathBuf,
    /// Locked as long as we live (flock(2)): two daemons must not share one memory.
    lock: Flock<File>,
}

impl Directory {
    /// Opens `path`, makes it (mode 0700) when it is missing, and locks it against a second daemon.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when another process holds the directory; otherwise what the system said.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_DIRECTORY.bits() | OFlag::O_CLOEXEC.bits())
            .open(path)?;
        let lock = Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => {
                io::Error::new(io::ErrorKind::WouldBlock, format!("{} is in use by another daemon", path.display()))
            }
            other => io::Error::from(other),
        })?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the sealed file `name`.
    ///
    /// # Errors
    ///
    /// What the system said; a damaged file is no error but [`Found::Damaged`].
    pub fn read(&self, name: &str) -> io::Result<Found> {
        let file = match openat(&*self.lock, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(Found::Nothing),
            other => File::from(other?),
        };
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes)?;
        Ok(match sealed::open(&bytes) {
            Ok(payload) => Found::Payload(payload.to_vec()),
            Err(damage) => Found::Damaged(damage),
        })
    }

    /// Replaces the sealed file `name`; when this returns, a power loss no longer undoes it.
    ///
    /// The order is the one that survives a crash at any point: new file written and synced, renamed over the old one,
    /// directory synced (fsync(2), NOTES).
    ///
    /// # Errors
    ///
    /// What the system said. Whether the old or the new content is on the disk is unknown then, never a mixture.
    pub fn write(&self, name: &str, payload: &[u8]) -> io::Result<()> {
        self.replace(name, &sealed::seal(payload))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = CString::new(format!("{name}.new")).map_err(io::Error::other)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd: OwnedFd = openat(&*self.lock, new.as_c_str(), flags, Mode::from_bits_truncate(0o600))?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        file.sync_all()?;
        renameat(&*self.lock, new.as_c_str(), &*self.lock, name)?;
        self.lock.sync_all()
    }
}

impl Directory {
    /// Appends a line to the plain file `name` and syncs it. Past `limit` bytes its older half goes, at a line's end.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn append(&self, name: &str, line: &str, limit: u64) -> io::Result<()> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let mut file = File::from(openat(&*self.lock, name, flags, Mode::from_bits_truncate(0o600))?);
        // One write, so that a torn line is at the end and nowhere else: also behind one that a full disk has torn.
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        let before = if last == [b'\n'] { "" } else { "\n" };
        file.write_all(format!("{before}{line}\n").as_bytes())?;
        file.sync_data()?;
        if file.metadata()?.len() <= limit {
            return Ok(());
        }
        let text = std::fs::read(self.path.join(name))?;
        let half = text.len() / 2;
        let from = text[half..].iter().position(|byte| *byte == b'\n').map_or(half, |at| half + at + 1);
        self.replace(name, &text[from..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_keeps_its_newest_lines() {
        let path = scratch("history");
        let directory = Directory::open(&path).unwrap();
        for number in 0..1000 {
            directory.append("history", &format!("event {number}"), 1024).unwrap();
        }
        let text = std::fs::read_to_string(path.join("history")).unwrap();
        assert!(text.len() <= 1024 && text.len() > 256, "{}", text.len());
        assert!(text.starts_with("event ") && text.ends_with("event 998\nevent 999\n"), "{text}");
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_torn_line_takes_no_other_one_with_it() {
        let path = scratch("torn-line");
        let directory = Directory::open(&path).unwrap();
        directory.append("history", "first", 1024).unwrap();
        std::fs::write(path.join("history"), "first\nsec").unwrap();
        directory.append("history", "third", 1024).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("history")).unwrap(), "first\nsec\nthird\n");
        std::fs::remove_dir_all(&path).unwrap();
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("twobox-state-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn what_was_written_last_is_read_back_and_a_second_daemon_is_refused() {
        let path = scratch("last");
        let directory = Directory::open(&path).unwrap();
        assert_eq!(directory.read("node").unwrap(), Found::Nothing);
        directory.write("node", b"first").unwrap();
        directory.write("node", b"second").unwrap();
        assert_eq!(directory.read("node").unwrap(), Found::Payload(b"second".to_vec()));
        assert_eq!(Directory::open(&path).err().map(|e| e.kind()), Some(io::ErrorKind::WouldBlock));
        drop(directory);
        assert!(Directory::open(&path).is_ok());
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_former_content() {
        let path = scratch("torn");
        let directory = Directory::open(&path).unwrap();
        directory.write("node", b"promised").unwrap();
        let next = sealed::seal(b"not yet promised");
        for end in 0..=next.len() {
            // A power loss before the rename leaves any part of the new file under its temporary name.
            std::fs::write(path.join("node.new"), &next[..end]).unwrap();
            assert_eq!(directory.read("node").unwrap(), Found::Payload(b"promised".to_vec()), "cut at {end}");
        }
        directory.write("node", b"and on").unwrap();
        assert_eq!(directory.read("node").unwrap(), Found::Payload(b"and on".to_vec()));
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn damage_under_the_real_name_is_told_and_not_guessed() {
        let path = scratch("damage");
        let directory = Directory::open(&path).unwrap();
        directory.write("node", b"promised").unwrap();
        let whole = std::fs::read(path.join("node")).unwrap();
        for end in 0..whole.len() {
            std::fs::write(path.join("node"), &whole[..end]).unwrap();
            assert_eq!(directory.read("node").unwrap(), Found::Damaged(Damage::Truncated), "cut at {end}");
        }
        std::fs::write(path.join("node"), vec![0; 1 << 20]).unwrap();
        assert_eq!(directory.read("node").unwrap(), Found::Damaged(Damage::Foreign));
        std::fs::remove_dir_all(&path).unwrap();
    }
}
