//! One box's side of a tree: where it is, what belongs to it, what the last cut was.
#![allow(unsafe_code)] // nix has no wrapper for FS_IOC_GETFSUUID

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::control::TreeSettings;
use super::filter::Filter;
use super::index::{Index, Lookup};
use super::name;
use super::still::Grain;
use super::store::{self, Store};
use super::tree::Tree;

/// A tree on this box.
#[derive(Debug)]
pub struct Side {
    /// As configured.
    pub settings: TreeSettings,
    /// The directory that keys start from: the tree, or the directory of the one file.
    pub root: PathBuf,
    /// What belongs to it.
    pub filter: Filter,
    /// The mirror's own files.
    pub store: Store,
    /// What the last cut was.
    pub index: Index,
    /// How finely the file system tells changes apart.
    grain: Grain,
}

/// The keys of other entries' trees and of the store, as seen from `root`.
///
/// Compared as the places that they are: a path of the configuration may lead through a symbolic link, and the store's is
/// found, not configured.
fn others(root: &Path, own: &Path, all: &[TreeSettings], home: &Path) -> Vec<Vec<u8>> {
    let place = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let root = place(root);
    let trees = all.iter().map(|other| other.tree.as_path()).filter(|other| *other != own);
    trees.chain([home]).filter_map(|path| name::from_path(place(path).strip_prefix(&root).ok()?)).collect()
}

/// Opens the index. A damaged one is put away, and the next cycle makes another from what both boxes have: by content on a
/// standby; a source waits for the operator, for it cannot tell any more what it has deleted.
fn open_index(store: &Store) -> io::Result<Index> {
    let path = store.path("index");
    match Index::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let kept = store.path("index.damaged");
            log::error!("mirror: {}: {e}: it is made anew, and kept as {}", path.display(), kept.display());
            fs::rename(&path, kept)?;
            Index::open(&path)
        }
        other => other,
    }
}

impl Side {
    /// Opens a tree's side. `single`: what the peer says it is, when there is nothing here yet.
    ///
    /// # Errors
    ///
    /// When the tree is not there and `single` is not known, or its store cannot be opened.
    pub fn open(settings: &TreeSettings, all: &[TreeSettings], single: Option<bool>) -> io::Result<Self> {
        let path = &settings.tree;
        let above = path.parent().unwrap_or(Path::new("/"));
        let store = Store::open_for(path, store::anchor(path), settings.store.as_deref())?;
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) && path.is_dir() {
            let text = format!("{} is a symbolic link to a directory: configure what it leads to", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let index = open_index(&store)?;
        let reader = index.reader()?;
        let known = if reader.count()? == 0 { None } else { Some(reader.row(b"")?.is_none()) };
        let single = match fs::symlink_metadata(path) {
            Ok(metadata) => Some(!metadata.is_dir()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => single.or(known),
            Err(e) => return Err(e),
        };
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()));
        let single = single.ok_or_else(missing)?;
        let root = if single { above.to_path_buf() } else { path.clone() };
        let only = single.then(|| path.file_name().unwrap_or(OsStr::new("")).as_bytes().to_vec());
        let filter = Filter::new(&settings.exclude, only, others(&root, path, all, &store.home));
        let grain = Grain::probe(store.descriptor());
        Ok(Side { settings: settings.clone(), root, filter, store, index, grain })
    }

    /// The tree is one file.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.filter.only.is_some()
    }

    /// The tree was one file and is a directory now, or the other way round: it has to be opened anew.
    #[must_use]
    pub fn has_other_type(&self) -> bool {
        fs::symlink_metadata(&self.settings.tree).is_ok_and(|metadata| metadata.is_dir() == self.is_single())
    }

    /// Opens the tree's directory as it is now.
    ///
    /// # Errors
    ///
    /// What open(2) says.
    pub fn tree(&self) -> io::Result<Tree> {
        Ok(Tree::open(&self.root)?.with_grain(self.grain))
    }
}

/// What tells one root from another: its inode, and what its file system is called. That outlives a reboot, where the device's
/// number may not.
///
/// # Errors
///
/// What statvfs(3) says.
pub fn identity(tree: &Tree) -> io::Result<(u64, u64)> {
    let (inode, id) = identity_by_statfs(tree)?;
    if id != encoded(tree.identity().0) {
        return Ok((inode, id));
    }
    // xfs says the device's number for its id.
    Ok((inode, uuid(tree).map_or(id, |(a, b)| a ^ b)))
}

/// What [`identity`] said before, and says where a file system does not tell its UUID (Linux before 6.9).
///
/// # Errors
///
/// As [`identity`].
pub fn identity_by_statfs(tree: &Tree) -> io::Result<(u64, u64)> {
    let fs = nix::sys::statvfs::fstatvfs(tree.root())?;
    Ok((tree.identity().1, fs.filesystem_id() as u64))
}

/// The kernel's form of a device's number (`new_encode_dev`).
fn encoded(device: u64) -> u64 {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// The UUID of the file system, both halves of it (FS_IOC_GETFSUUID, Linux 6.9).
fn uuid(tree: &Tree) -> Option<(u64, u64)> {
    const GET_UUID: u64 = 0x8011_1500;
    let mut found = [0u8; 17]; // struct fsuuid2: its length, and itself
    // SAFETY: the kernel writes at most 17 bytes.
    let done = unsafe { libc::ioctl(tree.root().as_raw_fd(), GET_UUID as _, found.as_mut_ptr()) };
    let half = |at: usize| Some(u64::from_le_bytes(found[at..at + 8].try_into().ok()?));
    if done == 0 && found[0] == 16 { Some((half(1)?, half(9)?)) } else { None }
}
