//! The mounts that this process sees, as /proc/self/mountinfo tells them (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, in one view of the mounts.
    pub number: u64,
    /// Number of the mount that it is on.
    pub above: u64,
    /// Where it is. Another mount may lie there by now, or above it.
    pub at: PathBuf,
    /// Nothing can be changed by way of it; of its file system that says nothing.
    pub is_read_only: bool,
    /// What is mounted and unmounted on it is told to its copies in other views.
    pub is_shared: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(Vec<Mount>);

impl Table {
    /// Of the calling process.
    ///
    /// # Errors
    ///
    /// Without /proc.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read("/proc/self/mountinfo")?))
    }

    /// A line each: number, number of the mount above, device, root, mount point, options, optional fields up to a hyphen, and more.
    /// Other lines are none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Table(text.split(|byte| *byte == b'\n').filter_map(mount).collect())
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// The one of this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Mount> {
        self.iter().find(|mount| mount.number == number)
    }

    fn above(&self, mount: &Mount) -> Option<&Mount> {
        self.get(mount.above).filter(|above| above.number != mount.number) // of the topmost nothing is seen above
    }

    /// What is mounted on this mount, on those above it, and in their place, is told to their copies.
    #[must_use]
    pub fn is_told(&self, number: u64) -> bool {
        let mut at = self.get(number);
        let mut is_told = at.is_some();
        // No more steps than there are mounts: what is no tree has no end.
        for _ in 0..self.0.len() {
            let Some(mount) = at else { break };
            is_told &= mount.is_shared;
            at = self.above(mount);
        }
        is_told && at.is_none()
    }

    /// Mounts of whose end their copies are not told.
    pub fn untold(&self) -> impl Iterator<Item = &Mount> {
        self.iter().filter(|mount| self.above(mount).is_some_and(|above| !above.is_shared))
    }
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || str::from_utf8(fields.next()?).ok()?.parse::<u64>().ok();
    let (number, above) = (number()?, number()?);
    let at = unescaped(fields.nth(2)?);
    let is_read_only = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro");
    let is_shared = fields.take_while(|field| *field != b"-").any(|field| field.starts_with(b"shared:"));
    Some(Mount { number, above, at, is_read_only, is_shared })
}

/// The kernel writes space, tab, newline and backslash as three octal digits behind a backslash.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|b| (b'0'..b'8').contains(b)));
        let byte = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                            31 28 0:27 / /data rw,nodev - xfs /dev/vdb shared:9\n\
                            32 28 0:28 / /copy ro,nosuid master:1 - xfs /dev/vdc rw\n\
                            33 28 0:29 / /both rw shared:4 master:1 - xfs /dev/vdd rw\n\
                            34 33 0:30 / /both/be\\040low\\134\xff rw shared:5 - xfs /dev/vde ro\n\
                            35 31 0:31 / /data/below rw shared:6 - xfs /dev/vdf rw\n";

    #[test]
    fn it_says_what_is_told_to_copies() {
        let table = Table::parse(MOUNTS);
        let told: Vec<u64> = table.iter().map(|mount| mount.number).filter(|number| table.is_told(*number)).collect();
        assert_eq!(told, [28, 33, 34], "what is above 35 is private");
        assert!(!table.is_told(2) && !table.is_told(36), "they are not there");
        let untold: Vec<u64> = table.untold().map(|mount| mount.number).collect();
        assert_eq!(untold, [35], "of the others the end is told");
    }

    #[test]
    fn it_says_where_they_are_and_which_are_read_only() {
        let table = Table::parse(MOUNTS);
        assert_eq!(table.iter().count(), 6);
        let copy = table.get(32).unwrap();
        assert_eq!((copy.at.to_str(), copy.above, copy.is_read_only), (Some("/copy"), 28, true));
        let below = table.get(34).unwrap();
        assert_eq!(below.at, PathBuf::from(OsString::from_vec(b"/both/be low\\\xff".to_vec())));
        assert!(!below.is_read_only, "the file system is, the mount is not");
        assert_eq!(unescaped(b"\\04"), PathBuf::from("\\04"));
        assert_eq!(unescaped(b"a\\999b"), PathBuf::from("a\\999b"));
        assert_eq!(Table::parse(b"\n7 8\nx 1 0:1 / / rw -\n"), Table::default());
    }

    #[test]
    fn what_is_no_tree_is_borne() {
        let table =
            Table::parse(b"1 2 0:1 / /a rw shared:1 -\n2 1 0:2 / /b rw shared:2 -\n3 3 0:3 / /c rw shared:3 -\n");
        assert!(!table.is_told(1) && !table.is_told(2), "one on the other for ever");
        assert!(table.is_told(3), "on itself: the topmost");
    }
}
