//! What the packer must know of ELF files (elf(5)), 64-bit and little-endian ones.

const PT_INTERP: usize = 3;

/// The number of `size` bytes at `at`.
fn number(elf: &[u8], at: usize, size: usize) -> Option<usize> {
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(elf.get(at..at.checked_add(size)?)?);
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF\x02\x01")
}

/// Whether a program can be started by a kernel alone. One with an interpreter is started by a dynamic linker.
pub fn is_static(program: &[u8]) -> bool {
    let headers = || Some((number(program, 0x20, 8)?, number(program, 0x36, 2)?, number(program, 0x38, 2)?));
    let Some((start, size, count)) = headers().filter(|_| is_elf(program)) else { return false };
    let kind = |index: usize| number(program, start.checked_add(index * size)?, 4);
    (0..count).all(|index| kind(index).is_some_and(|kind| kind != PT_INTERP))
}

/// The section `name`.
pub fn section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    is_elf(elf).then_some(())?;
    let (headers, size) = (number(elf, 0x28, 8)?, number(elf, 0x3a, 2)?);
    let (count, names) = (number(elf, 0x3c, 2)?, number(elf, 0x3e, 2)?);
    let header = |index: usize| headers.checked_add(index * size);
    let body = |index: usize| {
        let header = header(index)?;
        let start = number(elf, header.checked_add(0x18)?, 8)?;
        elf.get(start..start.checked_add(number(elf, header.checked_add(0x20)?, 8)?)?)
    };
    let names = body(names)?;
    (0..count).find_map(|index| {
        let at = number(elf, header(index)?, 4)?;
        let found = names.get(at..)?.split(|&b| b == 0).next()?;
        (found == name.as_bytes()).then(|| body(index)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_program_that_wants_a_dynamic_linker_is_not_static() {
        // The headers of a program of two segments, the second of a kind of choice.
        let program = |kind: u8| {
            let mut elf = vec![0; 64 + 2 * 56];
            elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
            (elf[0x20], elf[0x36], elf[0x38]) = (64, 56, 2);
            (elf[64], elf[64 + 56]) = (1, kind);
            elf
        };
        assert!(
            is_static(&program(1)) && is_static(&program(2)),
            "PT_DYNAMIC alone is a static program that can be moved"
        );
        assert!(!is_static(&program(3)));
        assert!(!is_static(b"#!/bin/sh\n") && !is_static(&[]) && !is_static(&program(1)[..100]));
        // Debian's shell is a dynamic program.
        assert!(!is_static(&fs::read("/bin/sh").unwrap()));
    }

    #[test]
    fn a_section_is_found_and_a_damaged_file_is_no_panic() {
        let elf = fs::read("/proc/self/exe").unwrap();
        assert!(section(&elf, ".shstrtab").unwrap().windows(9).any(|w| w == b".shstrtab"));
        assert_eq!(section(&elf, ".no-such-section"), None);
        for end in (0..elf.len().min(4096)).step_by(7) {
            assert_eq!(section(&elf[..end], ".shstrtab"), None);
        }
    }
}
