//! The judge: describes a tree by its own means, so that two descriptions can be compared word by word.
#![allow(unsafe_code)] // the xattr calls

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Path below the root -> everything that must be equal.
pub type Description = BTreeMap<PathBuf, String>;

fn xattrs(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let c = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0u8; 65536];
    // SAFETY: the buffer is writable for its length, the path a C string.
    let n = unsafe { libc::llistxattr(c.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    if n <= 0 {
        return Vec::new();
    }
    let mut all = Vec::new();
    for name in names[..n as usize].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 65536];
        let cname = CString::new(name).unwrap();
        // SAFETY: as above.
        let n = unsafe { libc::lgetxattr(c.as_ptr(), cname.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(n.max(0) as usize);
        all.push((std::ffi::OsStr::from_bytes(name).to_os_string(), value));
    }
    all.sort();
    all
}

/// Describes everything below `root` (and `root` itself), but the mirror's own store.
pub fn describe(root: &Path) -> Description {
    let mut description = Description::new();
    let mut groups: HashMap<u64, PathBuf> = HashMap::new();
    visit(root, Path::new(""), &mut description, &mut groups);
    description
}

fn visit(root: &Path, below: &Path, description: &mut Description, groups: &mut HashMap<u64, PathBuf>) {
    let path = if below.as_os_str().is_empty() { root.to_path_buf() } else { root.join(below) };
    let m = fs::symlink_metadata(&path).unwrap();
    let kind = m.file_type();
    let mut text = format!(
        "mode {:o} owner {}:{} mtime {}.{:09} xattrs {:?}",
        m.mode(),
        m.uid(),
        m.gid(),
        m.mtime(),
        m.mtime_nsec(),
        xattrs(&path)
    );
    if kind.is_file() {
        let content = if m.len() > 1 << 30 { vec![] } else { fs::read(&path).unwrap() };
        text += &format!(" file {} {}", m.len(), blake3::hash(&content));
    } else if kind.is_symlink() {
        text += &format!(" link to {:?}", fs::read_link(&path).unwrap());
    } else if kind.is_block_device() || kind.is_char_device() {
        text += &format!(" device {:x}", m.rdev());
    }
    if !kind.is_dir() && m.nlink() > 1 {
        let first = groups.entry(m.ino()).or_insert_with(|| below.to_path_buf());
        text += &format!(" group of {first:?}");
    }
    description.insert(below.to_path_buf(), text);
    if kind.is_dir() {
        let mut names: Vec<OsString> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            if name != ".twobox" {
                visit(root, &below.join(name), description, groups);
            }
        }
    }
}

/// Where two descriptions differ, in words.
pub fn differences(a: &Description, b: &Description) -> Vec<String> {
    let mut all = Vec::new();
    for (path, text) in a {
        match b.get(path) {
            None => all.push(format!("missing: {path:?}: {text}")),
            Some(other) if other != text => all.push(format!("differs: {path:?}:\n  {text}\n  {other}")),
            Some(_) => {}
        }
    }
    all.extend(b.keys().filter(|path| !a.contains_key(*path)).map(|path| format!("too much: {path:?}")));
    all
}

#[track_caller]
pub fn assert_equal(a: &Path, b: &Path) {
    let found = differences(&describe(a), &describe(b));
    assert!(found.is_empty(), "{}", found[..found.len().min(10)].join("\n"));
}
