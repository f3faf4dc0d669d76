//! What the boot loader says of this boot by a variable of the firmware: the one account of a trial that an image can read
//! which cannot read the boot partition.

use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::slot::Slot;

/// Where the kernel shows the firmware's variables.
const AT: &str = "/sys/firmware/efi/efivars";
/// Path of the image, its try counted (systemd-boot(7)). Set if its tries are counted, and gone with the next reset.
const VARIABLE: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The slot that was booted, if its tries are counted. `None` too where there is no such firmware, or no driver for it.
#[must_use]
pub fn counted() -> Option<Slot> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("efivarfs"), AT, Some("efivarfs"), flags, None::<&str>).ok()?;
    let variable = fs::read(Path::new(AT).join(VARIABLE));
    let _ = umount2(AT, MntFlags::empty()); // it can only be read
    slot_of(&variable.ok()?)
}

/// Four bytes of attributes, then UTF-16 with a zero at its end (kernel Documentation/filesystems/efivarfs.rst).
#[must_use]
pub fn slot_of(variable: &[u8]) -> Option<Slot> {
    let (_, text) = variable.split_at_checked(4)?;
    let units = text.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let path: String = char::decode_utf16(units.take_while(|unit| *unit != 0)).collect::<Result<_, _>>().ok()?;
    Slot::parse(path.rsplit('\\').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(path: &str) -> Vec<u8> {
        let units = path.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        [6, 0, 0, 0].into_iter().chain(units).collect()
    }

    #[test]
    fn the_variable_names_the_slot() {
        let slot = slot_of(&variable("\\EFI\\Linux\\twobox-7+0-1.efi")).unwrap();
        assert_eq!(slot.to_string(), "twobox-7+0-1.efi");
        assert!(slot.has_way_back());
        for other in ["\\EFI\\Linux\\arch+2-1.efi", "\\EFI\\Linux\\", ""] {
            assert_eq!(slot_of(&variable(other)), None, "{other}");
        }
        for short in [&[][..], &[6, 0, 0], &[6, 0, 0, 0], &[6, 0, 0, 0, b't']] {
            assert_eq!(slot_of(short), None, "{short:?}");
        }
        assert_eq!(slot_of(&[6, 0, 0, 0, 0, 0xd8, 0, 0]), None, "half a character");
    }
}
