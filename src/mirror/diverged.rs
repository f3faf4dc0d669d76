//! Changes that only this box has: set aside when the peer's cut replaces them, listed, shown, put back or dropped by
//! the operator, and never by themselves.
//!
//! ```text
//! .twobox/diverged/TERM-BOOT-TREE/tree      path of the tree
//! .twobox/diverged/TERM-BOOT-TREE/files/    what was set aside, under its path in the tree
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::renameat;
use nix::sys::stat::FileStat;

use super::fault;
use super::filter::Filter;
use super::index::Lookup;
use super::name;
use super::scan::walk;
use super::side::Side;
use super::system;
use super::tree::{self, Tree};

/// Where what this box alone has goes. Made when the first file needs it.
#[derive(Debug)]
pub struct SetAside {
    directory: PathBuf,
    tree: PathBuf,
    files: Option<Tree>,
}

impl SetAside {
    /// The place for changes since the side's last cut: it bears that cut's generation.
    ///
    /// # Errors
    ///
    /// What the index says.
    pub fn new(side: &Side) -> io::Result<Self> {
        let generation = side.index.reader()?.cut()?.generation;
        let id = side.store.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let directory =
            side.store.home.join("diverged").join(format!("{}-{:x}-{id}", generation.term, generation.boot));
        Ok(SetAside { directory, tree: side.settings.tree.clone(), files: None })
    }

    fn files(&mut self) -> io::Result<&mut Tree> {
        if self.files.is_none() {
            let files = self.directory.join("files");
            DirBuilder::new().recursive(true).mode(0o700).create(&files)?;
            let mut tree = File::create(self.directory.join("tree"))?;
            tree.write_all(self.tree.as_os_str().as_bytes())?;
            tree.sync_all()?; // before the first file is moved: a set of no tree cannot be restored by command
            self.files = Some(Tree::open(&files)?);
        }
        self.files.as_mut().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Moves what `key` names out of the tree. A name that was set aside before keeps its place, the newer one gets a
    /// number.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn take(&mut self, from: &mut Tree, key: &[u8]) -> io::Result<()> {
        let files = self.files()?;
        let target = free_key(files, key, b"")?;
        files.make_parents(&target)?;
        let (old_parent, old) = from.parent(key)?;
        let (new_parent, new) = files.parent(&target)?;
        fault::step();
        renameat(old_parent, old.as_c_str(), new_parent, new.as_c_str())?;
        from.forget();
        Ok(())
    }
}

/// A key for what is to be set aside: `key` with `ending` at its end if that is free, else with a number. Where something that
/// is no directory has the name of one that it lies in, that name gets a number as well.
fn free_key(files: &mut Tree, key: &[u8], ending: &[u8]) -> io::Result<Vec<u8>> {
    let mut target: Vec<u8> = Vec::with_capacity(key.len() + 8);
    let mut names = key.split(|&b| b == 0).peekable();
    while let Some(component) = names.next() {
        let (above, is_last) = (target.len(), names.peek().is_none());
        let ending = if is_last { ending } else { b"" };
        for number in 0u64.. {
            let number = if number == 0 { String::new() } else { format!(".{number}") };
            let ending = [ending, number.as_bytes()].concat();
            let kept = component.len().min(name::NAME - ending.len());
            target.truncate(above);
            name::push(&mut target, &[&component[..kept], &ending].concat());
            let found = files.stat(&target)?;
            if found.is_none_or(|stat| !is_last && tree::format(&stat) == libc::S_IFDIR) {
                break;
            }
        }
    }
    Ok(target)
}

/// A set of changes that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name for commands.
    pub name: String,
    /// The tree that it is from.
    pub tree: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Their sizes, in bytes.
    pub bytes: u64,
}

/// Every file below a directory: its path from there and its size. Paths may be longer than a system call takes.
fn walk_files(directory: &Path, each: &mut impl FnMut(&Path, u64) -> io::Result<()>) -> io::Result<()> {
    let mut files = match Tree::open(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    walk(&mut files, b"", &Filter::default(), &mut |key: &[u8], stat: &FileStat| {
        if tree::format(stat) == libc::S_IFDIR { Ok(()) } else { each(&name::to_path(key), stat.st_size as u64) }
    })
}

/// The trees that the sets below a `.twobox` are from, and the sets' names.
fn each_set(home: &Path, mut each: impl FnMut(PathBuf, String) -> io::Result<()>) -> io::Result<()> {
    let directory = home.join("diverged");
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(tree) = fs::read(entry.path().join("tree")) else { continue };
        each(system::path_of(&tree).to_path_buf(), entry.file_name().to_string_lossy().into_owned())?;
    }
    Ok(())
}

/// How many sets of a tree there are. What is in them is not looked at.
///
/// # Errors
///
/// What the file system says.
pub fn count(home: &Path, tree: &Path) -> io::Result<u64> {
    let mut count = 0;
    each_set(home, |of, _| {
        count += u64::from(of == tree);
        Ok(())
    })?;
    Ok(count)
}

/// The sets below a `.twobox`.
///
/// # Errors
///
/// What the file system says.
pub fn list(home: &Path) -> io::Result<Vec<Set>> {
    let mut sets = Vec::new();
    each_set(home, |tree, name| {
        let mut set = Set { name, tree, files: 0, bytes: 0 };
        walk_files(&home.join("diverged").join(&set.name).join("files"), &mut |_, size| {
            set.files += 1;
            set.bytes += size;
            Ok(())
        })?;
        sets.push(set);
        Ok(())
    })?;
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sets)
}

/// The set of this name, or the only one whose name begins so: names are long, and typed by hand on a serial console.
#[must_use]
pub fn named<'s>(sets: &'s [Set], typed: &str) -> Option<&'s Set> {
    let mut beginning = sets.iter().filter(|set| !typed.is_empty() && set.name.starts_with(typed));
    let first = beginning.next();
    sets.iter().find(|set| set.name == typed).or(first.filter(|_| beginning.next().is_none()))
}

/// The set of this name, nothing else: a name with a `/` in it is none.
fn find(home: &Path, name: &str) -> io::Result<PathBuf> {
    let sets = list(home)?;
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("nothing was set aside under the name {name}"));
    named(&sets, name).map(|set| home.join("diverged").join(&set.name)).ok_or_else(missing)
}

/// Every file of a set: its path below the tree and its size.
///
/// # Errors
///
/// `NotFound` for a name that is no set; what the file system says.
pub fn show(home: &Path, name: &str, mut each: impl FnMut(&Path, u64)) -> io::Result<()> {
    walk_files(&find(home, name)?.join("files"), &mut |path, size| {
        each(path, size);
        Ok(())
    })
}

/// What a restored file replaced bears this at the end of its name, and a number if there are several.
const REPLACED: &[u8] = b".replaced";

fn was_replaced(path: &Path) -> bool {
    let name = path.as_os_str().as_bytes();
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let stem = if digits > 0 { name[..name.len() - digits].strip_suffix(b".") } else { None };
    stem.unwrap_or(name).ends_with(REPLACED)
}

/// Puts files of a set back into `root`, all or those at or below `only`. What stands there now is set aside in turn
/// under its name with `.replaced` at the end, in the same set.
///
/// # Errors
///
/// As [`show`].
pub fn restore(home: &Path, name: &str, root: &Path, only: Option<&Path>) -> io::Result<u64> {
    let files = find(home, name)?.join("files");
    let mut chosen = Vec::new();
    walk_files(&files, &mut |path, _| {
        if only.is_none_or(|only| path.starts_with(only)) && !was_replaced(path) {
            chosen.push(path.to_path_buf());
        }
        Ok(())
    })?;
    let (mut from, mut to) = (Tree::open(&files)?, Tree::open(root)?);
    for path in &chosen {
        let Some(key) = name::from_path(path) else { continue };
        to.make_parents(&key)?;
        if to.stat(&key)?.is_some() {
            let kept = free_key(&mut from, &key, REPLACED)?;
            from.make_parents(&kept)?;
            let (parent, now) = to.parent(&key)?;
            let (aside, target) = from.parent(&kept)?;
            renameat(parent, now.as_c_str(), aside, target.as_c_str())?;
        }
        let (source, file) = from.parent(&key)?;
        let (target, name) = to.parent(&key)?;
        renameat(source, file.as_c_str(), target, name.as_c_str())?;
    }
    Ok(chosen.len() as u64)
}

/// Deletes a set.
///
/// # Errors
///
/// As [`show`].
pub fn drop_set(home: &Path, name: &str) -> io::Result<()> {
    fs::remove_dir_all(find(home, name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_known_by_the_only_beginning_of_its_name() {
        let set = |name: &str| Set { name: name.into(), tree: PathBuf::new(), files: 0, bytes: 0 };
        let sets = [set("7-ab-1"), set("7-ab-12"), set("8-cd-3")];
        let found = |typed: &str| named(&sets, typed).map(|set| set.name.as_str());
        assert_eq!(found("8"), Some("8-cd-3"));
        assert_eq!(found("7-ab-1"), Some("7-ab-1"), "a whole name is meant as it stands");
        assert_eq!([found("7"), found(""), found("9"), found("../trees")], [None; 4]);
    }
}
