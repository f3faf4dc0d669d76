//! Walking a tree in the order of its keys, and what has changed since the last cut.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::FileStat;

use super::codec::put_number;
use super::entry::{Entry, Kind};
use super::filter::Filter;
use super::index::{Lookup, Reader, Rows};
use super::index_writer::Writer;
use super::name;
use super::row::Row;
use super::stop::Stop;
use super::store;
use super::system;
use super::tree::{self, Tree};

/// The directory that some file systems have in their root, however empty they are: nobody put it there.
pub(super) const RECOVERED: &[u8] = b"lost+found";

/// The names of one directory, sorted: one block of bytes and where each begins.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    begins: Vec<u32>,
    next: usize,
}

impl Names {
    fn read(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mut names = Names::default();
        system::list(directory, |name| {
            let at = u32::try_from(names.bytes.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
            names.begins.push(at);
            names.bytes.extend_from_slice(name);
            names.bytes.push(0);
            Ok(())
        })?;
        names.bytes.shrink_to_fit();
        let bytes = &names.bytes;
        // The zero byte behind each name sorts before every other, as the end of a string does.
        names.begins.sort_unstable_by(|&a, &b| bytes[a as usize..].cmp(&bytes[b as usize..]));
        // A directory that changes while it is listed may name something twice.
        let name = |at: u32| bytes[at as usize..].split(|&b| b == 0).next();
        names.begins.dedup_by(|a, b| name(*a) == name(*b));
        Ok(names)
    }

    fn next(&mut self) -> Option<&[u8]> {
        let begin = *self.begins.get(self.next)? as usize;
        self.next += 1;
        self.bytes[begin..].split(|&b| b == 0).next()
    }
}

/// What a walk calls.
pub trait Visit {
    /// A name, in the order of the keys.
    ///
    /// # Errors
    ///
    /// Ends the walk.
    fn visit(&mut self, key: &[u8], stat: &FileStat) -> io::Result<()>;
}

impl<F: FnMut(&[u8], &FileStat) -> io::Result<()>> Visit for F {
    fn visit(&mut self, key: &[u8], stat: &FileStat) -> io::Result<()> {
        self(key, stat)
    }
}

/// Says at which name it happened.
pub(super) fn at(key: &[u8]) -> impl Fn(io::Error) -> io::Error + '_ {
    move |e| io::Error::new(e.kind(), format!("{}: {e}", name::shown(key)))
}

/// Something that was there a moment ago has gone.
fn vanished(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ESTALE))
}

/// Visits `from` and everything below it that the filter lets through. What vanishes on the way is passed over; every
/// other error ends the walk, for half a list must not be taken for a whole one.
///
/// # Errors
///
/// What the kernel says, with the name; `EXDEV` where another file system is mounted.
pub fn walk(tree: &mut Tree, from: &[u8], filter: &Filter, visit: &mut impl Visit) -> io::Result<()> {
    let Some(stat) = tree.stat(from).map_err(at(from))? else { return Ok(()) };
    if !filter.leaves_out(from) {
        visit.visit(from, &stat)?;
    }
    if tree::format(&stat) != libc::S_IFDIR {
        return Ok(());
    }
    let (device, _) = tree.identity();
    let top = match tree.directory(from) {
        Err(e) if vanished(&e) && !from.is_empty() => return Ok(()),
        other => other.map_err(at(from))?,
    };
    let names = Names::read(top.as_fd()).map_err(at(from))?;
    let mut key = from.to_vec();
    let mut stack: Vec<(OwnedFd, usize, Names)> = vec![(top, key.len(), names)];
    while let Some((directory, len, names)) = stack.last_mut() {
        key.truncate(*len);
        let Some(name) = names.next() else {
            stack.pop();
            continue;
        };
        let c = CString::new(name)?;
        name::push(&mut key, name);
        if filter.leaves_out(&key) {
            continue;
        }
        if key.len() > name::KEY {
            return Err(at(&key)(io::Error::from_raw_os_error(libc::ENAMETOOLONG)));
        }
        let stat = match tree::stat_at(directory.as_fd(), &c) {
            Err(e) if vanished(&e) => continue,
            other => other.map_err(at(&key))?,
        };
        if stat.st_dev != device {
            let text = format!(
                "{}: another file system is mounted here; exclude it or give it an entry of its own",
                name::shown(&key)
            );
            return Err(io::Error::new(io::ErrorKind::CrossesDevices, text));
        }
        visit.visit(&key, &stat)?;
        if tree::format(&stat) == libc::S_IFDIR {
            match open_directory(directory.as_fd(), &c) {
                Err(e) if vanished(&e) => {}
                Err(e) => return Err(at(&key)(e)),
                Ok(below) => {
                    let names = Names::read(below.as_fd()).map_err(at(&key))?;
                    stack.push((below, key.len(), names));
                }
            }
        }
    }
    Ok(())
}

fn open_directory(parent: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, openat};
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, name.as_c_str(), flags, nix::sys::stat::Mode::empty())?)
}

/// What may have become of a name since the last cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not there any more.
    Gone,
    /// It is new or its inode looks different: read it.
    Look,
}

/// Names that have changed, sorted, in a file: there may be more than memory holds.
#[derive(Debug)]
pub struct Changes {
    file: BufWriter<File>,
    /// Names that are gone.
    pub gone: u64,
    /// Of these, names that were never seen here: the standby made or changed them, or they did not hold still.
    pub unseen: u64,
    /// Names to be read.
    pub look: u64,
    /// Sizes of the files among them, in bytes.
    pub bytes: u64,
    /// Names that the walk came by, but for the root and what every file system has in it.
    pub found: u64,
}

impl Changes {
    /// Begins an empty list in a file that is written anew.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = store::anew(path)?;
        Ok(Changes { file: BufWriter::with_capacity(32 * 1024, file), gone: 0, unseen: 0, look: 0, bytes: 0, found: 0 })
    }

    /// Adds a name.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn add(&mut self, change: Change, key: &[u8], size: u64) -> io::Result<()> {
        let mut head = vec![change as u8];
        put_number(&mut head, key.len() as u64);
        self.file.write_all(&head)?;
        self.file.write_all(key)?;
        match change {
            Change::Gone => self.gone += 1,
            Change::Look => {
                self.look += 1;
                self.bytes += size;
            }
        }
        Ok(())
    }

    /// Every name in the order in which they were added.
    ///
    /// # Errors
    ///
    /// What the file system says; what `each` returns.
    pub fn each(&mut self, mut each: impl FnMut(Change, &[u8]) -> io::Result<()>) -> io::Result<()> {
        self.file.flush()?;
        let mut file = self.file.get_ref();
        file.rewind()?;
        let mut file = BufReader::with_capacity(32 * 1024, file);
        let mut key = Vec::new();
        while !file.fill_buf()?.is_empty() {
            let mut kind = [0];
            file.read_exact(&mut kind)?;
            let (mut len, mut shift) = (0, 0);
            loop {
                let mut byte = [0];
                file.read_exact(&mut byte)?;
                len |= usize::from(byte[0] & 0x7f) << shift;
                shift += 7;
                if byte[0] < 0x80 {
                    break;
                }
            }
            key.resize(len, 0);
            file.read_exact(&mut key)?;
            each(if kind[0] == Change::Gone as u8 { Change::Gone } else { Change::Look }, &key)?;
        }
        Ok(())
    }
}

/// Compares a walk with the index's rows as both go along.
struct Compare<'a, 't> {
    index: &'a Reader,
    rows: std::iter::Peekable<Rows>,
    writer: &'a mut Writer<'t>,
    changes: &'a mut Changes,
    /// Rows beyond this are not looked at.
    within: &'a [u8],
    trust: Trust,
    stop: &'a Stop,
}

impl Compare<'_, '_> {
    /// Takes the rows before `key` (all that are left without one): they are gone.
    fn pass(&mut self, key: Option<&[u8]>) -> io::Result<Option<Row>> {
        loop {
            match self.rows.peek() {
                None => return Ok(None),
                Some(Err(_)) => {}
                Some(Ok((at, _))) if at != self.within && !name::is_below(at, self.within) => return Ok(None),
                Some(Ok((at, _))) => {
                    if let Some(key) = key
                        && at.as_slice() > key
                    {
                        return Ok(None);
                    }
                }
            }
            let Some((at, row)) = self.rows.next().transpose()? else { return Ok(None) };
            if key == Some(&at) {
                return Ok(Some(row));
            }
            self.changes.unseen += u64::from(row.local.inode == 0);
            self.changes.add(Change::Gone, &at, 0)?;
        }
    }
}

impl Visit for Compare<'_, '_> {
    fn visit(&mut self, key: &[u8], stat: &FileStat) -> io::Result<()> {
        self.stop.check()?;
        self.changes.found += u64::from(!key.is_empty() && key != RECOVERED);
        let row = self.pass(Some(key))?;
        let mut first = None;
        if tree::is_linked(stat) {
            first = self.writer.first_of(stat.st_ino)?;
            if first.is_none() {
                self.writer.set_first(stat.st_ino, key)?;
            }
        }
        let same = match (&row, &first) {
            (Some(Row { entry: Entry { kind: Kind::Link { first: known }, .. }, local, .. }), Some(first)) => {
                // The file stands in the row of its first name. Where that is read again, the copy makes another file of
                // it, and a name that was not said again would stay one of the former file.
                let is_known = |row: Row| tree::is_unchanged(stat, &row.entry, row.local);
                known == first && tree::local(stat) == *local && self.index.row(first)?.is_some_and(is_known)
            }
            (Some(Row { entry: Entry { kind: Kind::Link { .. }, .. }, .. }), None) | (_, Some(_)) | (None, _) => false,
            (Some(row), None) => tree::is_unchanged(stat, &row.entry, row.local),
        };
        let doubted = match self.trust {
            Trust::All => false,
            Trust::None => true,
            Trust::Before(moment) => tree::format(stat) == libc::S_IFREG && stat.st_ctime >= moment,
        };
        if !same || doubted {
            let size = if tree::format(stat) == libc::S_IFREG { stat.st_size as u64 } else { 0 };
            self.changes.add(Change::Look, key, size)?;
        }
        Ok(())
    }
}

/// Which names are taken for unchanged because their inodes look so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// All of them.
    All,
    /// Files that have not changed since this moment, in seconds since 1970; see [`Reader::unwritten_since`].
    Before(i64),
    /// None: everything is read.
    None,
}

/// Compares the whole tree with the index and notes what differs, and what is not to be trusted.
///
/// # Errors
///
/// As [`walk`]; when it was stopped.
pub fn scan(
    tree: &mut Tree,
    filter: &Filter,
    index: &Reader,
    writer: &mut Writer<'_>,
    changes: &mut Changes,
    trust: Trust,
    stop: &Stop,
) -> io::Result<()> {
    writer.forget_groups()?;
    let mut compare = Compare { index, rows: index.rows(b"")?.peekable(), writer, changes, within: b"", trust, stop };
    walk(tree, b"", filter, &mut compare)?;
    compare.pass(None)?;
    Ok(())
}

/// How far [`examine`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Examined {
    /// The name alone.
    Name,
    /// The name and everything below it.
    Below,
    /// It takes a scan to tell: hard links.
    Unclear,
}

/// Compares one name with the index, and what is below it if it has become or ceased to be a directory, or was `moved` here:
/// then events of what is below it may have named it elsewhere. What is `doubted` is looked into whatever its times say.
///
/// # Errors
///
/// As [`walk`].
pub fn examine(
    tree: &mut Tree,
    filter: &Filter,
    index: &Reader,
    writer: &mut Writer<'_>,
    changes: &mut Changes,
    (key, moved, doubted): (&[u8], bool, bool),
) -> io::Result<Examined> {
    if key.is_empty() && filter.only.is_some() {
        return Ok(Examined::Name); // the directory that holds the one file is no part of the tree
    }
    let row = index.row(key)?;
    let stat = if filter.leaves_out_path(key) { None } else { tree.stat(key).map_err(at(key))? };
    let is_group = |row: &Row| row.local.linked || matches!(row.entry.kind, Kind::Link { .. });
    if row.as_ref().is_some_and(is_group) || stat.as_ref().is_some_and(tree::is_linked) {
        return Ok(Examined::Unclear);
    }
    let was = row.as_ref().is_some_and(|row| row.entry.is_directory());
    let is = stat.as_ref().is_some_and(|stat| tree::format(stat) == libc::S_IFDIR);
    if let (true, true, Some(stat), Some(row)) = (was, is, &stat, &row)
        && row.local.inode == stat.st_ino
        && !moved
    {
        // The same directory: its names come as events of their own.
        if !tree::is_unchanged(stat, &row.entry, row.local) {
            changes.add(Change::Look, key, 0)?;
        }
        return Ok(Examined::Name);
    }
    let mut grouped = false;
    let (rows, stop) = (index.rows(key)?.peekable(), &Stop::default());
    let trust = if doubted { Trust::None } else { Trust::All };
    let mut compare = Compare { index, rows, writer, changes, within: key, trust, stop };
    if stat.is_some() {
        let mut watch = |at: &[u8], stat: &FileStat| {
            grouped |= tree::is_linked(stat);
            compare.visit(at, stat)
        };
        walk(tree, key, filter, &mut watch)?;
    }
    compare.pass(None)?;
    Ok(if grouped { Examined::Unclear } else { Examined::Below })
}
