//! Names below a tree: the components of a path, joined by zero bytes.
//!
//! No file name contains a zero byte, so any name a file system accepts fits, and byte order of these keys is the order
//! of a depth-first walk with sorted directories: a directory comes first, everything below it next, before any sibling
//! (`a`, `a/b`, `a-b`). The tree's root is the empty key.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest name of one file (NAME_MAX, limits.h).
pub const NAME: usize = 255;

/// Longest key that is accepted. PATH_MAX bounds what one system call takes, not how deep a tree goes.
pub const KEY: usize = 32 * 1024;

/// A key that names something below the root: no empty component, no `.` or `..`, no `/`, nothing too long.
#[must_use]
pub fn is_valid(key: &[u8]) -> bool {
    key.is_empty()
        || (key.len() <= KEY
            && key.split(|&b| b == 0).all(|name| {
                !name.is_empty() && name.len() <= NAME && name != b"." && name != b".." && !name.contains(&b'/')
            }))
}

/// The key of the directory that holds `key`, and the last component. `None` for the root.
#[must_use]
pub fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    if key.is_empty() {
        return None;
    }
    Some(key.iter().rposition(|&b| b == 0).map_or((&[][..], key), |at| (&key[..at], &key[at + 1..])))
}

/// `below` lies somewhere below `directory` (and is not the directory itself).
#[must_use]
pub fn is_below(below: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !below.is_empty();
    }
    below.len() > directory.len() && below.starts_with(directory) && below[directory.len()] == 0
}

/// Makes `key` name `name` inside the directory it names now.
pub fn push(key: &mut Vec<u8>, name: &[u8]) {
    if !key.is_empty() {
        key.push(0);
    }
    key.extend_from_slice(name);
}

/// The key as a relative path.
#[must_use]
pub fn to_path(key: &[u8]) -> PathBuf {
    let bytes: Vec<u8> = key.iter().map(|&b| if b == 0 { b'/' } else { b }).collect();
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// A relative path as a key; `None` when it is no name below the root.
#[must_use]
pub fn from_path(path: &Path) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    for name in path.as_os_str().as_bytes().split(|&b| b == b'/') {
        push(&mut key, name);
    }
    (!path.as_os_str().is_empty() && is_valid(&key)).then_some(key)
}

/// The key for the operator's eyes: `/` between names, other control characters escaped.
#[must_use]
pub fn shown(key: &[u8]) -> String {
    if key.is_empty() { ".".into() } else { to_path(key).to_string_lossy().escape_debug().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_a_walk_goes() {
        let mut keys: Vec<&[u8]> = vec![b"a-b", b"a\0c", b"a", b"", b"a\0b\0z", b"a\0b"];
        keys.sort();
        assert_eq!(keys, [&b""[..], b"a", b"a\0b", b"a\0b\0z", b"a\0c", b"a-b"]);
    }

    #[test]
    fn what_leaves_the_root_is_no_key() {
        for bad in [&b".."[..], b"a\0..", b"a\0\0b", b"a/b", b"\0", b"a\0", b"."] {
            assert!(!is_valid(bad), "{bad:?}");
        }
        assert!(is_valid(b"") && is_valid(b"a\0b") && is_valid(b"\xff\n"));
        assert!(!is_valid(&[b'x'; NAME + 1]));
        assert_eq!(from_path(Path::new("../x")), None);
        assert_eq!(from_path(Path::new("a/b")), Some(b"a\0b".to_vec()));
    }

    #[test]
    fn a_sibling_with_a_longer_name_is_not_below() {
        assert!(is_below(b"a\0b", b"a") && is_below(b"a", b"") && !is_below(b"ab", b"a") && !is_below(b"a", b"a"));
        assert_eq!(split(b"a\0b"), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(split(b"a"), Some((&b""[..], &b"a"[..])));
    }
}
