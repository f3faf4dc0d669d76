//! The kernel's own file systems, mounted where every program expects them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// One mount.
struct Mount {
    kind: &'static str,
    at: &'static str,
    data: &'static str,
    /// The pair cannot run without it; of the others the log says that they are missing.
    needed: bool,
}

const fn needed(kind: &'static str, at: &'static str, data: &'static str) -> Mount {
    Mount { kind, at, data, needed: true }
}

const fn wanted(kind: &'static str, at: &'static str, data: &'static str) -> Mount {
    Mount { kind, at, data, needed: false }
}

/// In order. `/dev/pts` and `/dev/shm` are for the services, cgroup for their groups, bpf for the gate, pstore for the
/// text of a former panic.
const MOUNTS: &[Mount] = &[
    needed("proc", "/proc", ""),
    needed("sysfs", "/sys", ""),
    needed("devtmpfs", "/dev", "mode=0755"),
    needed("tmpfs", "/run", "mode=0755,size=8m"),
    needed("tmpfs", "/tmp", "mode=1777,size=16m"),
    wanted("devpts", "/dev/pts", "mode=0620,ptmxmode=0666"),
    wanted("tmpfs", "/dev/shm", "mode=1777,size=16m"),
    wanted("cgroup2", "/sys/fs/cgroup", ""),
    wanted("bpf", "/sys/fs/bpf", "mode=0700"),
    wanted("pstore", "/sys/fs/pstore", ""),
];

/// Mounts all of them. What is mounted already stays as it is. Says which of the optional ones the kernel lacks.
///
/// # Errors
///
/// The first of the needed ones that the kernel refused.
pub fn mount_all() -> io::Result<String> {
    let mut missing = Vec::new();
    for Mount { kind, at, data, needed } in MOUNTS {
        // sysfs has its mount points ready and does not let anyone make one: the error that counts is mount's.
        let _ = fs::create_dir_all(at);
        let devices = matches!(*kind, "devtmpfs" | "devpts");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        let flags = if devices { flags } else { flags | MsFlags::MS_NODEV };
        match mount(Some(*kind), Path::new(at), Some(*kind), flags, Some(*data)) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) if *needed => return Err(io::Error::other(format!("{kind} at {at}: {errno}"))),
            Err(_) => missing.push(*kind),
        }
    }
    // What is mounted and unmounted is told to those who have a view of the mounts of their own, as under systemd.
    if mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>).is_err() {
        missing.push("shared mounts");
    }
    Ok(if missing.is_empty() { String::new() } else { format!("without {}", missing.join(", ")) })
}

/// Gives each service's root the kernel's file systems at the places that it has for them. Roots on the same device
/// twice, or mounted already, stay as they are.
///
/// # Errors
///
/// The mounts that the kernel refused, after all others are made.
pub fn furnish(roots: &[PathBuf]) -> io::Result<String> {
    let mut refused = Vec::new();
    let mut furnished = Vec::new();
    for root in roots {
        if root == Path::new("/") || furnished.contains(&root) {
            continue;
        }
        for (kind, place) in [("devtmpfs", "dev"), ("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "run")] {
            let at = root.join(place);
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
            if at.is_dir()
                && let Err(errno) = mount(Some(kind), &at, Some(kind), flags, None::<&str>)
            {
                refused.push(format!("{}: {errno}", at.display()));
            }
        }
        furnished.push(root);
    }
    if refused.is_empty() { Ok(format!("{}", furnished.len())) } else { Err(io::Error::other(refused.join(", "))) }
}
