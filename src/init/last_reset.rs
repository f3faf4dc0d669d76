//! Why the box was reset: the watchdog's boot status, and what the kernel of the former boot left in pstore.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// Where the kernel shows the records of the former boot (kernel Documentation/ABI/testing/pstore).
const PSTORE: &str = "/sys/fs/pstore";

/// The cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// The watchdog fired.
    Watchdog,
    /// The kernel panicked, with its text.
    Panic(String),
    /// Neither left a trace: power, a button, or an ordered reboot.
    #[default]
    Unknown,
}

impl Cause {
    /// The kernel's text, if it was a panic.
    #[must_use]
    pub fn panic_text(&self) -> Option<&str> {
        match self {
            Cause::Panic(text) => Some(text),
            Cause::Watchdog | Cause::Unknown => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Panic(text) => write!(out, "a panic: {text}"),
            Cause::Watchdog => out.write_str("the watchdog"),
            Cause::Unknown => out.write_str("unknown"),
        }
    }
}

/// Finds the cause and takes the kernel's records out of pstore, so that the next panic has room.
///
/// # Errors
///
/// When pstore cannot be listed. That it is not there is none.
pub fn find(reset_by_watchdog: bool) -> io::Result<Cause> {
    find_in(Path::new(PSTORE), reset_by_watchdog)
}

fn find_in(folder: &Path, reset_by_watchdog: bool) -> io::Result<Cause> {
    let mut panic = None;
    let records = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(of(reset_by_watchdog, None)),
        other => other?,
    };
    for record in records {
        let path = record?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dmesg-")) {
            // One that cannot be read (rot in a variable of the firmware) goes like the others: they would fill the room.
            let text = fs::read(&path).unwrap_or_default();
            panic = panic.or_else(|| panic_line(&String::from_utf8_lossy(&text)));
        }
        let _ = fs::remove_file(&path); // it stays then, and is told again at the next boot
    }
    Ok(of(reset_by_watchdog, panic))
}

/// A panic's text says more than the watchdog that fired behind it.
fn of(reset_by_watchdog: bool, panic: Option<String>) -> Cause {
    match panic {
        Some(text) => Cause::Panic(text),
        None if reset_by_watchdog => Cause::Watchdog,
        None => Cause::Unknown,
    }
}

/// The line that says why, without the time stamp before it.
#[must_use]
pub fn panic_line(record: &str) -> Option<String> {
    const WORDS: &str = "Kernel panic - not syncing: ";
    let line = record.lines().find(|line| line.contains(WORDS))?;
    line.split_once(WORDS).map(|(_, why)| why.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_keeps_no_other_one_from_being_told_and_removed() {
        let folder = std::env::temp_dir().join(format!("twobox-pstore-{}", std::process::id()));
        // A folder cannot be read as a file.
        for unreadable in ["dmesg-efi-1", "dmesg-efi-9"] {
            fs::create_dir_all(folder.join(unreadable)).unwrap();
        }
        for record in ["dmesg-efi-0", "dmesg-efi-5", "console-efi-5"] {
            fs::write(folder.join(record), "<0>[ 1.0] Kernel panic - not syncing: of the former boot\n").unwrap();
        }
        assert_eq!(find_in(&folder, false).unwrap(), Cause::Panic("of the former boot".into()));
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|record| record.unwrap().path()).collect();
        assert!(left.iter().all(|path| path.is_dir()), "{left:?}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_panic_is_found_in_the_record() {
        let record = "Panic#1 Part1\n<4>[  1.0] x\n<0>[    3.141592] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n<4>[ 3.2] CPU: 0\n";
        let found = of(true, panic_line(record));
        assert_eq!(found, Cause::Panic("Attempted to kill init! exitcode=0x0000000b".into()));
        assert!(found.panic_text().is_some_and(|text| text.starts_with("Attempted")));
        assert_eq!(of(true, panic_line("Oops#1 Part1\n<4> nothing\n")), Cause::Watchdog);
        assert_eq!(of(false, None), Cause::Unknown);
    }
}
