//! What an image says of itself, and the seal at its end.
//!
//! ```text
//! unified kernel image (PE) | magic 16 | BLAKE3 of everything before the magic 32
//! ```
//!
//! The seal finds what a bad cable or a bad disk did; it proves no author: whoever may order an update is root.

use std::io;

/// Marks the seal.
const MAGIC: [u8; 16] = *b"twobox image v1\n";
/// Length of the seal.
pub const SEAL: usize = MAGIC.len() + blake3::OUT_LEN;
/// As much of the image's beginning as holds all its headers.
pub const HEAD: usize = 4096;
/// Longest description that is read.
const DESCRIPTION_MAX: u32 = 4096;
/// The section with the description: what os-release(5) is for a system.
const SECTION: &[u8; 8] = b".osrel\0\0";

/// The seal of an image whose bytes went into `hash`.
#[must_use]
pub fn seal(hash: &blake3::Hasher) -> [u8; SEAL] {
    let mut seal = [0; SEAL];
    seal[..MAGIC.len()].copy_from_slice(&MAGIC);
    seal[MAGIC.len()..].copy_from_slice(hash.finalize().as_bytes());
    seal
}

/// Looks at an image of known length as it goes by.
#[derive(Debug)]
pub struct Check {
    hash: blake3::Hasher,
    body: u64,
    seal: Vec<u8>,
}

impl Check {
    /// For an image of so many bytes, its seal included.
    ///
    /// # Errors
    ///
    /// It is shorter than its seal.
    pub fn new(length: u64) -> Result<Check, &'static str> {
        let body = length.checked_sub(SEAL as u64).ok_or("too short for an image")?;
        Ok(Check { hash: blake3::Hasher::new(), body, seal: Vec::with_capacity(SEAL) })
    }

    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let body = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
        let (of_body, of_seal) = bytes.split_at(body);
        self.hash.update(of_body);
        self.body -= body as u64;
        self.seal.extend_from_slice(&of_seal[..of_seal.len().min(SEAL + 1 - self.seal.len())]);
    }

    /// All bytes went by.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn end(self) -> Result<(), &'static str> {
        if self.body > 0 || self.seal.len() != SEAL {
            Err("not whole")
        } else if self.seal[..MAGIC.len()] != MAGIC {
            Err("no image of twobox: its seal is missing")
        } else if self.seal != seal(&self.hash) {
            Err("damaged: its content is not what its seal says")
        } else {
            Ok(())
        }
    }
}

/// Who an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The board that it is made for.
    pub board: String,
    /// What the kernel's command line calls it (`twobox.image=`).
    pub hash: String,
}

/// Bytes of the table for each section.
const SECTION_HEADER: usize = 40;

/// A section as the table of a PE file describes it.
struct Section<'a> {
    name: &'a [u8],
    /// In memory: from `address` on, `length` bytes.
    address: u32,
    length: u32,
    /// In the file: from `offset` on, `raw` bytes.
    offset: u32,
    raw: u32,
}

/// The sections, and the size of the memory that all of them are loaded into. `None`: these are no headers, or not whole.
fn headers(head: &[u8]) -> Option<(Vec<Section<'_>>, u32)> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(head.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?));
    // Microsoft's PE format: e_lfanew, signature, COFF header of 20 bytes, optional header, section table.
    let pe = usize::try_from(u32_at(0x3c)?).ok()?;
    if head.get(..2)? != b"MZ" || head.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let (count, optional) = (u16_at(pe + 6)?, u16_at(pe + 20)?);
    let table = pe + 24 + usize::from(optional);
    let size_of_image = u32_at(pe + 24 + 56)?;
    let section = |at: usize| {
        head.get(at..at + SECTION_HEADER)?;
        let (length, address, raw, offset) = (u32_at(at + 8)?, u32_at(at + 12)?, u32_at(at + 16)?, u32_at(at + 20)?);
        Some(Section { name: head.get(at..at + 8)?, address, length, offset, raw })
    };
    let sections: Option<Vec<_>> =
        (0..usize::from(count)).map(|index| section(table + index * SECTION_HEADER)).collect();
    Some((sections?, size_of_image))
}

/// Where the description lies in the file, by the first [`HEAD`] bytes of it. `None`: no such image.
#[must_use]
pub fn description(head: &[u8]) -> Option<(u64, u32)> {
    let (sections, _) = headers(head)?;
    let found = sections.iter().find(|section| section.name == SECTION)?;
    Some((u64::from(found.offset), found.length.min(found.raw).min(DESCRIPTION_MAX)))
}

/// Refuses what firmware refuses, or loads wrongly: a section that lies outside the image's memory, or on another one. This
/// is what comes of a section that is put below the image base of its stub, of which objcopy(1) only warns.
///
/// # Errors
///
/// What is wrong with the headers, which are in the first [`HEAD`] bytes.
pub fn loads(head: &[u8]) -> Result<(), &'static str> {
    let (mut sections, size_of_image) = headers(head).ok_or("no image of twobox: its headers are not those of one")?;
    sections.sort_by_key(|section| section.address);
    let mut free_from = 0;
    for section in &sections {
        if u64::from(section.address) < free_from {
            return Err("no image that firmware can load: its sections overlap");
        }
        free_from = u64::from(section.address) + u64::from(section.length);
    }
    if free_from > u64::from(size_of_image) {
        return Err("no image that firmware can load: a section lies outside of it");
    }
    Ok(())
}

/// Reads the description: `KEY=VALUE` lines.
#[must_use]
pub fn identity(description: &[u8]) -> Option<Identity> {
    let text = str::from_utf8(description).ok()?.trim_end_matches('\0');
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let plain = found.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        (plain && !found.is_empty()).then(|| found.to_owned())
    };
    (value("ID")? == "twobox").then_some(())?;
    Some(Identity { board: value("IMAGE_BOARD")?, hash: value("IMAGE_HASH")? })
}

/// The first [`HEAD`] bytes of `file`, or all that it has.
///
/// # Errors
///
/// What the system said.
pub fn head(file: &std::fs::File) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut head = vec![0; HEAD];
    let length = file.read_at(&mut head, 0)?;
    head.truncate(length);
    Ok(head)
}

/// Reads who the image in `file` is.
///
/// # Errors
///
/// What the system said; `InvalidData` when it is none of ours.
pub fn identify(file: &std::fs::File) -> io::Result<Identity> {
    use std::os::unix::fs::FileExt;
    let none = || io::Error::new(io::ErrorKind::InvalidData, "no image of twobox");
    let (offset, length) = description(&head(file)?).ok_or_else(none)?;
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, offset)?;
    identity(&text).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8], step: usize) -> Result<(), &'static str> {
        let mut check = Check::new(bytes.len() as u64)?;
        bytes.chunks(step).for_each(|part| check.add(part));
        check.end()
    }

    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut hash = blake3::Hasher::new();
        hash.update(body);
        [body, &seal(&hash)].concat()
    }

    const OPTIONAL: usize = 0x40;
    const SIZE_OF_IMAGE: usize = 0x80 + 24 + 56;
    const FIRST: usize = 0x80 + 24 + OPTIONAL;

    fn put(file: &mut [u8], at: usize, number: u32) {
        file[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }

    /// The headers of a PE file with two sections, the second of which is the description.
    fn with_headers(text: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 0x200];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c..0x40].copy_from_slice(&0x80u32.to_le_bytes());
        file[0x80..0x84].copy_from_slice(b"PE\0\0");
        file[0x86..0x88].copy_from_slice(&2u16.to_le_bytes());
        file[0x94..0x96].copy_from_slice(&(OPTIONAL as u16).to_le_bytes());
        put(&mut file, SIZE_OF_IMAGE, 0x3000);
        put(&mut file, FIRST + 8, 0x800);
        put(&mut file, FIRST + 12, 0x1000);
        let second = FIRST + 40;
        file[second..second + 8].copy_from_slice(SECTION);
        for (at, number) in [(8, text.len() as u32), (12, 0x2000), (16, 512), (20, 0x200)] {
            put(&mut file, second + at, number);
        }
        file.extend_from_slice(text);
        file
    }

    #[test]
    fn a_sealed_image_is_whole_and_every_flipped_byte_is_found() {
        let good = sealed(&[7; 300]);
        for step in [1, 7, 64, 1000] {
            assert_eq!(check(&good, step), Ok(()));
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(check(&bad, 64).is_err(), "byte {at}");
            assert!(check(&good[..at], 64).is_err(), "cut at {at}");
        }
        assert!(check(&[good, vec![0]].concat(), 64).is_err());
    }

    #[test]
    fn the_description_is_found_and_read() {
        let text = b"ID=twobox\nNAME=Twobox\nIMAGE_HASH=12ab\nIMAGE_BOARD=qemu-q35-uefi\n";
        let file = with_headers(text);
        let (offset, length) = description(&file).unwrap();
        let found = identity(&file[offset as usize..][..length as usize]).unwrap();
        assert_eq!(found, Identity { board: "qemu-q35-uefi".into(), hash: "12ab".into() });
        assert_eq!(identity(b"ID=debian\nIMAGE_HASH=1\nIMAGE_BOARD=2\n"), None);
        assert_eq!(identity(b"ID=twobox\nIMAGE_HASH=1\n"), None);
        assert_eq!(identity(b"ID=twobox\nIMAGE_HASH=a b\nIMAGE_BOARD=2\n"), None);
    }

    #[test]
    fn what_firmware_cannot_load_is_refused() {
        let good = with_headers(b"ID=twobox\n");
        assert_eq!(loads(&good), Ok(()));
        let (address, length) = (12, 8);
        let second = FIRST + 40;
        let changed = |changes: &[(usize, u32)]| {
            let mut file = good.clone();
            changes.iter().for_each(|(at, number)| put(&mut file, *at, *number));
            loads(&file)
        };
        let outside = Err("no image that firmware can load: a section lies outside of it");
        // 0x20000 in a stub whose image base is 0x14df90000.
        assert_eq!(changed(&[(second + address, 0xb209_0000)]), outside);
        assert_eq!(changed(&[(FIRST + address, u32::MAX), (FIRST + length, u32::MAX)]), outside);
        assert_eq!(changed(&[(SIZE_OF_IMAGE, 0x2009)]), outside);
        assert_eq!(changed(&[(SIZE_OF_IMAGE, 0x200a)]), Ok(()));
        let overlap = Err("no image that firmware can load: its sections overlap");
        assert_eq!(changed(&[(FIRST + length, 0x1001)]), overlap);
        assert_eq!(changed(&[(FIRST + length, 0x1000)]), Ok(()));
        assert_eq!(changed(&[(second + address, 0x17ff)]), overlap);
        assert_eq!(changed(&[(second + address, 0)]), Ok(()), "their order in the table is another matter");
        for end in 0..second + 40 {
            assert!(loads(&good[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), honest: bool) {
            if honest && bytes.len() > 0x100 {
                bytes[..2].copy_from_slice(b"MZ");
                bytes[0x3c..0x40].copy_from_slice(&0x40u32.to_le_bytes());
                bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
            }
            let _ = description(&bytes);
            let _ = loads(&bytes);
            let _ = identity(&bytes);
            let _ = check(&bytes, 50);
        }
    }
}
