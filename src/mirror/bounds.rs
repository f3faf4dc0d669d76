//! What the mirror's process keeps of root's powers: it reads and writes every file of its trees whoever owns it, makes
//! nodes, watches file systems, and talks to the peer. See [`crate::confine`].

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use super::control::TreeSettings;
use super::store::{anchor, home_of, mount_of};
use crate::confine::{Bounds, Capability, Confinement, Group, confine};

/// Both directions need them: the role may change at any time, and must not cost a new process then.
const CAPABILITIES: &[Capability] = &[
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::SysAdmin,
    Capability::SysResource,
    Capability::Mknod,
    Capability::Setfcap,
];

const CALLS: &[Group] = &[Group::Base, Group::Read, Group::Write, Group::Watch, Group::Internet];

/// A directory that the process may reach, and which it was: device and inode, and the mount that it is on.
type Place = (PathBuf, Option<((u64, u64), u64)>);

/// The directories of all trees and their stores. A directory that is mounted or made at one of these paths later is
/// another one, which the process cannot reach; or the same one by another mount, which is not bounded as the former was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ground {
    trees: Vec<TreeSettings>,
    places: Vec<Place>,
    is_bound: bool,
}

fn places(trees: &[TreeSettings]) -> Vec<Place> {
    let identity = |path: &PathBuf| {
        let metadata = path.metadata().ok()?;
        Some(((metadata.dev(), metadata.ino()), mount_of(path).ok()?))
    };
    let both = trees.iter().flat_map(|tree| {
        let anchor = anchor(&tree.tree);
        [Some(anchor.to_path_buf()), home_of(anchor, tree.store.as_deref()).ok()]
    });
    both.flatten().map(|path| (identity(&path), path)).map(|(identity, path)| (path, identity)).collect()
}

impl Ground {
    /// Makes the stores of these trees and confines the process to them and to the trees. A tree that is not there yet
    /// leaves the directory above it open, until it is there and the process has been started anew.
    ///
    /// # Errors
    ///
    /// As [`confine`]; that a directory has become another one meanwhile.
    pub fn confine(trees: &[TreeSettings]) -> io::Result<(Self, Confinement)> {
        for tree in trees {
            if let Ok(home) = home_of(anchor(&tree.tree), tree.store.as_deref()) {
                // What stands against it is told when the tree is opened.
                let _ = DirBuilder::new().recursive(true).mode(0o700).create(home);
            }
        }
        let named = places(trees);
        let whole = named.iter().map(|(path, _)| path.clone()).collect();
        let confinement = confine(&Bounds { capabilities: CAPABILITIES, whole, readable: Vec::new(), calls: CALLS })?;
        let places = places(trees); // in a view of its own the mounts have other numbers
        let directories = |places: &[Place]| -> Vec<_> {
            places.iter().map(|(path, identity)| (path.clone(), identity.map(|(directory, _)| directory))).collect()
        };
        if directories(&places) != directories(&named) {
            return Err(io::Error::other("a tree's directory has just become another one"));
        }
        let is_bound = confinement.files.is_some() || confinement.elsewhere;
        Ok((Ground { trees: trees.to_vec(), places, is_bound }, confinement))
    }

    /// The directories, or their mounts, are not those that they were. Never, where the kernel does not confine files.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.is_bound && places(&self.trees) != self.places
    }
}
