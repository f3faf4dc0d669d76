//! The archive format the kernel unpacks at boot: cpio "newc" (kernel Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Owner, time and inode numbers are fixed, so the same entries give the same bytes.

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file and its content.
    File(Vec<u8>),
    /// A character device with its major and minor number.
    Device(u32, u32),
}

/// One entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path without the leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;

/// The archive of `entries`, in their order, closed by the trailer.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, entry) in (1u32..).zip(entries) {
        let (kind, data, device): (u32, &[u8], (u32, u32)) = match &entry.kind {
            Kind::Directory => (S_IFDIR, &[], (0, 0)),
            Kind::File(content) => (S_IFREG, content, (0, 0)),
            Kind::Device(major, minor) => (S_IFCHR, &[], (*major, *minor)),
        };
        member(&mut out, number, kind | entry.mode, device, &entry.path, data);
    }
    member(&mut out, 0, 0, (0, 0), "TRAILER!!!", &[]);
    out
}

fn member(out: &mut Vec<u8>, number: u32, mode: u32, device: (u32, u32), path: &str, data: &[u8]) {
    let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
    let size = u32::try_from(data.len()).expect("a file of the image is far below 4 GiB");
    let name_size = u32::try_from(path.len() + 1).expect("a path of the image is short");
    out.extend_from_slice(b"070701");
    // inode, mode, owner, group, links, time, size, device of the file (2), device it names (2), name's size, checksum
    for field in [number, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    #[allow(clippy::disallowed_methods)] // runs cpio(1), which is the judge here
    fn cpio_lists_what_was_packed() {
        let entries = [
            Entry { path: "dev".into(), mode: 0o755, kind: Kind::Directory },
            Entry { path: "dev/console".into(), mode: 0o600, kind: Kind::Device(5, 1) },
            Entry { path: "init".into(), mode: 0o755, kind: Kind::File(b"12345".to_vec()) },
        ];
        let mut cpio = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cpio is installed");
        cpio.stdin.take().unwrap().write_all(&archive(&entries)).unwrap();
        let listed = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let listed: Vec<String> =
            listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            listed,
            [
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
                "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
                "-rwxr-xr-x 1 0 0 5 Jan 1 1970 init",
            ]
        );
    }
}
