//! A disk that writes down what reaches it: every write and every flush, in their order.
//!
//! A file with its bytes in memory, served by FUSE, under a loop device: the kernel sends each write of the file system on
//! that device, and an fsync for each flush of the device's cache (Linux drivers/block/loop.c, `lo_req_flush`). From the
//! log comes every state in which a power loss can leave such a disk: all that was written before a flush is there, and
//! of what came after it any part.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::mutate::Random;

/// What happened to the disk.
#[derive(Clone)]
pub enum Event {
    Write { at: usize, bytes: Vec<u8> },
    Flush,
}

/// The bytes as the device shows them, and how they came about since the log was begun.
struct Medium {
    first: Vec<u8>,
    now: Vec<u8>,
    events: Vec<Event>,
}

/// A disk that is served until it is dropped.
pub struct LoggedDisk {
    medium: Arc<Mutex<Medium>>,
    folder: PathBuf,
    session: Option<BackgroundSession>,
}

const NAME: &str = "disk";
const DISK: INodeNo = INodeNo(2);
/// Nothing but the kernel's own writes changes the file.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

impl LoggedDisk {
    /// Serves a disk with these bytes as a file in `folder`, which is made.
    pub fn serve(folder: &Path, bytes: Vec<u8>) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let medium = Arc::new(Mutex::new(Medium { first: bytes.clone(), now: bytes, events: Vec::new() }));
        let session = fuser::spawn_mount(Served(medium.clone()), folder, &Config::default()).unwrap();
        LoggedDisk { medium, folder: folder.to_owned(), session: Some(session) }
    }

    /// The file that stands for the disk.
    pub fn file(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// Begins the log with the disk as it is now.
    pub fn begin(&self) {
        let mut medium = self.medium.lock().unwrap();
        medium.first = medium.now.clone();
        medium.events.clear();
    }

    /// What happened since.
    pub fn log(&self) -> Log {
        let medium = self.medium.lock().unwrap();
        Log { first: medium.first.clone(), events: medium.events.clone() }
    }
}

impl Drop for LoggedDisk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

/// What happened to a disk since it held `first`.
pub struct Log {
    first: Vec<u8>,
    pub events: Vec<Event>,
}

impl Log {
    /// Positions in the log at which a flush was asked for; the log's end is one more.
    pub fn flushes(&self) -> Vec<usize> {
        let flush = |(at, event): (usize, &Event)| matches!(event, Event::Flush).then_some(at);
        self.events.iter().enumerate().filter_map(flush).chain([self.events.len()]).collect()
    }

    /// The disk after a power loss just before the flush at `end`: all that was written before the flush ahead of it, and
    /// of what was written since either nothing or what chance takes, each write whole.
    pub fn after_power_loss(&self, end: usize, chance: Option<&mut Random>) -> Vec<u8> {
        let mut disk = self.first.clone();
        let durable = self.events[..end].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let mut apply = |event: &Event| {
            if let Event::Write { at, bytes } = event {
                disk[*at..*at + bytes.len()].copy_from_slice(bytes);
            }
        };
        self.events[..durable].iter().for_each(&mut apply);
        if let Some(chance) = chance {
            self.events[durable..end].iter().filter(|_| chance.below(2) == 0).for_each(&mut apply);
        }
        disk
    }
}

/// The file system that serves the disk.
struct Served(Arc<Mutex<Medium>>);

impl Served {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o755, 0),
            DISK => (FileType::RegularFile, 0o600, self.0.lock().unwrap().now.len() as u64),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(DISK).filter(|_| parent == INodeNo::ROOT && name == NAME) {
            Some(found) => reply.entry(&FOR_EVER, &found, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(found) => reply.attr(&FOR_EVER, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let medium = self.0.lock().unwrap();
        let at = (offset as usize).min(medium.now.len());
        reply.data(&medium.now[at..medium.now.len().min(at + size as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut medium = self.0.lock().unwrap();
        let at = offset as usize;
        let Some(place) = medium.now.get_mut(at..at + data.len()) else { return reply.error(Errno::ENOSPC) };
        place.copy_from_slice(data);
        medium.events.push(Event::Write { at, bytes: data.to_vec() });
        reply.written(data.len() as u32);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.lock().unwrap().events.push(Event::Flush);
        reply.ok();
    }
}
