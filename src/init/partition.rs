//! Partitions: found by what they are called, looked at before they are mounted.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::config::board::Volume;

/// Start of the ext4 superblock, in bytes (kernel Documentation/filesystems/ext4/super.rst).
const SUPERBLOCK: u64 = 1024;

/// What the superblock says before anything is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Unmounted in order.
    Clean,
    /// The journal will be replayed by the mount: power was cut, nothing is wrong.
    NeedsReplay,
    /// The kernel noted errors in it.
    HasErrors,
    /// No ext4 at all.
    Foreign,
}

/// The block device that `volume` means; `None` while there is none.
///
/// # Errors
///
/// More than one partition of that name: which one is meant is not for a program to guess.
pub fn find(volume: &Volume) -> io::Result<Option<PathBuf>> {
    if let Volume::Device(path) = volume {
        return Ok(path.exists().then(|| path.clone()));
    }
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/class/block")? {
        let entry = entry?;
        let device = Path::new("/dev").join(entry.file_name());
        if is_called(volume, &device, &entry.path()) {
            found.push(device);
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        more => {
            let names: Vec<_> = more.iter().map(|p| p.display().to_string()).collect();
            Err(io::Error::other(format!(
                "{} bear the same name: pull all but one of these disks",
                names.join(" and ")
            )))
        }
    }
}

fn is_called(volume: &Volume, device: &Path, sysfs: &Path) -> bool {
    // The kernel tells the names of the GPT in the partition's uevent file.
    let uevent = |key: &str, wanted: &str| {
        let text = fs::read_to_string(sysfs.join("uevent")).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once('=')).any(|(k, v)| k == key && v.eq_ignore_ascii_case(wanted))
    };
    match volume {
        Volume::Device(path) => path == device,
        Volume::PartitionLabel(label) => uevent("PARTNAME", label),
        Volume::PartitionUuid(uuid) => uevent("PARTUUID", uuid),
        Volume::Label(wanted) => superblock(device).is_ok_and(|block| label(&block).as_ref() == Some(wanted)),
        Volume::Uuid(wanted) => superblock(device).is_ok_and(|block| uuid(&block).eq_ignore_ascii_case(wanted)),
    }
}

/// The volume as the board file writes it.
#[must_use]
pub fn name(volume: &Volume) -> String {
    match volume {
        Volume::Device(path) => path.display().to_string(),
        Volume::PartitionLabel(label) => format!("PARTLABEL={label}"),
        Volume::PartitionUuid(uuid) => format!("PARTUUID={uuid}"),
        Volume::Label(label) => format!("LABEL={label}"),
        Volume::Uuid(uuid) => format!("UUID={uuid}"),
    }
}

/// Reads the superblock of `device` and says in which condition the file system is.
///
/// # Errors
///
/// What the disk said.
pub fn look(device: &Path) -> io::Result<Condition> {
    Ok(condition(&superblock(device)?))
}

fn superblock(device: &Path) -> io::Result<[u8; 1024]> {
    let mut block = [0; 1024];
    File::open(device)?.read_exact_at(&mut block, SUPERBLOCK)?;
    Ok(block)
}

/// What this superblock says.
#[must_use]
pub fn condition(block: &[u8; 1024]) -> Condition {
    const MAGIC: u16 = 0xef53;
    const STATE_ERRORS: u16 = 2;
    const INCOMPAT_RECOVER: u32 = 4;
    let state = u16::from_le_bytes([block[0x3a], block[0x3b]]);
    let incompat = u32::from_le_bytes([block[0x60], block[0x61], block[0x62], block[0x63]]);
    if u16::from_le_bytes([block[0x38], block[0x39]]) != MAGIC {
        Condition::Foreign
    } else if state & STATE_ERRORS != 0 {
        Condition::HasErrors
    } else if incompat & INCOMPAT_RECOVER != 0 {
        Condition::NeedsReplay
    } else {
        Condition::Clean
    }
}

/// The file system's name, if it has one.
#[must_use]
pub fn label(block: &[u8; 1024]) -> Option<String> {
    let bytes = &block[0x78..0x88];
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).ok().filter(|text| !text.is_empty())
}

/// The file system's own number, as blkid(8) shows it.
#[must_use]
pub fn uuid(block: &[u8; 1024]) -> String {
    let hex: Vec<String> = block[0x68..0x78].iter().map(|b| format!("{b:02x}")).collect();
    [&hex[0..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..16]].map(<[String]>::concat).join("-")
}

/// Mounts `device` at `at`, made when missing. A journal is replayed by the kernel.
///
/// # Errors
///
/// A file system that is damaged or none (see [`look`]), and what mount(2) said.
pub fn mount_checked(device: &Path, at: &Path) -> io::Result<Condition> {
    let condition = look(device).map_err(|e| io::Error::other(format!("{} cannot be read: {e}", device.display())))?;
    let refused = |why: &str| Err(io::Error::other(format!("{} {why}", device.display())));
    match condition {
        Condition::Foreign => return refused("holds no ext4 file system"),
        Condition::HasErrors => return refused("has errors: repair it with `e2fsck -f` on another machine"),
        Condition::Clean | Condition::NeedsReplay => {}
    }
    fs::create_dir_all(at)?;
    // An error found later makes it read-only: the service's check fails then, and the peer takes over.
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV;
    mount(Some(device), at, Some("ext4"), flags, Some("errors=remount-ro")).map_err(|errno| match errno {
        // EACCES of a device that is write-protected, EROFS of one that turned so.
        Errno::EACCES | Errno::EROFS => io::Error::other(format!("{} can only be read", device.display())),
        errno => io::Error::other(format!("{} at {}: {errno}", device.display(), at.display())),
    })?;
    Ok(condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(magic: u16, state: u8, incompat: u8) -> [u8; 1024] {
        let mut block = [0; 1024];
        block[0x38..0x3a].copy_from_slice(&magic.to_le_bytes());
        block[0x3a] = state;
        block[0x60] = incompat;
        block[0x78..0x7c].copy_from_slice(b"data");
        block[0x68] = 0xab;
        block
    }

    #[test]
    fn the_superblock_tells_a_power_cut_from_damage() {
        assert_eq!(condition(&block(0xef53, 1, 0x42)), Condition::Clean);
        assert_eq!(condition(&block(0xef53, 1, 0x46)), Condition::NeedsReplay);
        assert_eq!(condition(&block(0xef53, 3, 0x46)), Condition::HasErrors);
        assert_eq!(condition(&block(0, 1, 0)), Condition::Foreign);
    }

    #[test]
    fn label_and_uuid_are_read_as_blkid_shows_them() {
        let block = block(0xef53, 1, 0);
        assert_eq!(label(&block).as_deref(), Some("data"));
        assert_eq!(uuid(&block), "ab000000-0000-0000-0000-000000000000");
        assert_eq!(label(&[0; 1024]), None);
    }

    #[test]
    fn a_real_ext4_is_recognised() {
        let path = std::env::temp_dir().join(format!("twobox-ext4-{}", std::process::id()));
        File::create(&path).unwrap().set_len(4 << 20).unwrap();
        #[allow(clippy::disallowed_methods)] // mkfs.ext4(8) is the judge here
        let made = std::process::Command::new("mkfs.ext4").args(["-q", "-L", "twobox"]).arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(look(&path).unwrap(), Condition::Clean);
        assert_eq!(label(&superblock(&path).unwrap()).as_deref(), Some("twobox"));
        fs::remove_file(&path).unwrap();
    }
}
