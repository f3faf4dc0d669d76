//! What would stop the publishing of a cut in its middle, found before the cut is decided: a tree between two cuts is of no
//! use to anybody, and one that nobody can finish holds up a takeover.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::codec::Malformed;
use super::entry::Kind;
use super::index::{Lookup, Reader, failed};
use super::index_writer::Writer;
use super::name::{self, shown};
use super::redo::{self, Source, Step};
use super::scan::at;
use super::side::Side;
use super::system;
use super::tree::{self, Tree};
use redb::ReadableTable;

/// Files are moved from the stage into the tree, so both must be on one mount of one file system.
///
/// # Errors
///
/// When they are not.
pub(super) fn check_place(tree: &Tree, stage: BorrowedFd<'_>) -> io::Result<()> {
    let of = |directory| {
        let found = system::statx(directory, c"", libc::STATX_BASIC_STATS | libc::STATX_MNT_ID)?;
        let mount = if found.stx_mask & libc::STATX_MNT_ID == 0 { 0 } else { found.stx_mnt_id };
        io::Result::Ok((found.stx_dev_major, found.stx_dev_minor, mount))
    };
    if of(tree.root())? == of(stage)? {
        return Ok(());
    }
    let text = "the store is on another file system, mount or subvolume than the tree: no file can be moved from it into place";
    Err(io::Error::new(io::ErrorKind::CrossesDevices, text))
}

/// Whether a log that is complete can be followed to its end.
///
/// # Errors
///
/// What stands in its way.
pub(super) fn check(side: &Side, log: &Path) -> io::Result<()> {
    let tx = side.index.begin(false)?; // nothing of it is kept
    let mut firsts = Writer::new(&tx)?;
    let mut any_link = false;
    let mut flags = Flags { tree: side.tree()?, absent: None, parent: None };
    redo::each(log, |step| {
        if let Step::Put { entry, source: Source::Link, .. } = &step
            && let Kind::Link { first } = &entry.kind
        {
            any_link = true;
            firsts.set_gone(first)?;
        }
        match step {
            Step::Gone { key } => flags.check(key),
            Step::Put { key, source, .. } if source != Source::Keep => flags.check(key),
            _ => Ok(()),
        }
    })?;
    if any_link { check_firsts(&side.index.reader()?, &mut firsts, log) } else { Ok(()) }
}

/// Every group has its first name in the cut.
fn check_firsts(base: &Reader, firsts: &mut Writer<'_>, log: &Path) -> io::Result<()> {
    redo::each(log, |step| match step {
        Step::Gone { key } if firsts.is_gone(&key)? => Err(Malformed.into()),
        Step::Put { key, entry, .. } if firsts.is_gone(&key)? => match entry.kind {
            Kind::Link { .. } | Kind::Directory => Err(Malformed.into()),
            _ => firsts.take_gone(&key).map(drop),
        },
        _ => Ok(()),
    })?;
    for row in firsts.gone.iter().map_err(failed)? {
        let (key, put) = row.map_err(failed)?;
        let known = base.row(key.value())?.map(|row| row.entry.kind);
        if put.value().is_empty() && known.is_none_or(|kind| matches!(kind, Kind::Link { .. } | Kind::Directory)) {
            let text = format!("{}: other names are to be links to it, and it is not in the cut", shown(key.value()));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(())
}

/// Nobody, root neither, may change or rename what bears one of these flags, or make names in such a directory.
const FLAGS: u64 = (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND) as u64;
/// Nor rename or remove what something is mounted on. Linux 5.8 tells it.
const MOUNTED: u64 = libc::STATX_ATTR_MOUNT_ROOT as u64;

/// Attributes of an inode (statx(2)). `None`: there is nothing of this name.
fn attributes(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<u64>> {
    match system::statx(directory, name, 0) {
        Ok(found) => Ok(Some(found.stx_attributes)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The topmost name above `key` that is there and no directory.
///
/// # Errors
///
/// What stat(2) says.
pub(super) fn in_the_way(tree: &mut Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    for (end, _) in key.iter().enumerate().filter(|(_, byte)| **byte == 0) {
        match tree.stat(&key[..end])? {
            Some(stat) if tree::format(&stat) == libc::S_IFDIR => {}
            Some(_) => return Ok(Some(key[..end].to_vec())),
            None => break,
        }
    }
    Ok(None)
}

/// What the names of a log and their directories forbid.
struct Flags {
    tree: Tree,
    /// There is nothing of this name, and so of those below it.
    absent: Option<Vec<u8>>,
    /// The directory that was looked at last.
    parent: Option<Vec<u8>>,
}

impl Flags {
    fn check(&mut self, key: Vec<u8>) -> io::Result<()> {
        let fixed = |key: &[u8]| {
            let text = format!("{}: its flags forbid every change of the copy (lsattr; chattr -i -a)", shown(key));
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        };
        if self.absent.as_ref().is_some_and(|above| name::is_below(&key, above)) {
            return Ok(());
        }
        let above = name::split(&key).map_or(&[][..], |(above, _)| above);
        let (directory, name) = match self.tree.parent(&key) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
                if let Some(top) = in_the_way(&mut self.tree, &key)? {
                    self.check(top)?; // it will be set aside
                }
                self.absent = Some(above.to_vec());
                return Ok(());
            }
            other => other?,
        };
        if self.parent.as_deref() != Some(above) {
            if attributes(directory, c"")?.is_some_and(|found| found & FLAGS != 0) {
                return Err(fixed(above));
            }
            self.parent = Some(above.to_vec());
        }
        // A name that this file system does not take is told here, too.
        match attributes(directory, &name).map_err(at(&key))? {
            Some(found) if found & FLAGS != 0 => return Err(fixed(&key)),
            // The root may be one of its own.
            Some(found) if found & MOUNTED != 0 && !key.is_empty() => {
                let text = format!("{}: something is mounted on it in the copy", shown(&key));
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            Some(_) => {}
            None => self.absent = Some(key),
        }
        Ok(())
    }
}
