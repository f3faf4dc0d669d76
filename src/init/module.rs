//! Kernel modules: the image lists them in loading order, this loads them (finit_module(2)).

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// Where the image keeps modules, their order, and the devices they drive.
const DIRECTORY: &str = "/lib/modules";

/// What became of the list.
#[derive(Debug, Default)]
pub struct Loaded {
    /// How many are in the kernel now.
    pub count: usize,
    /// Those that the kernel refused, and why.
    pub refused: Vec<String>,
}

/// Loads the modules of `lib/modules/order`. One that is refused does not stop the others: a box without its watchdog
/// runs UNFENCED and says so, a box without its disk is held by the step that misses the disk.
///
/// # Errors
///
/// When the image has no list.
pub fn load_listed() -> io::Result<Loaded> {
    let order = fs::read_to_string(Path::new(DIRECTORY).join("order"))?;
    Ok(load(order.lines()))
}

/// Loads modules of `lib/modules/order` until `device` is there, and no further. One that the list does not bring is
/// the caller's to miss.
///
/// # Errors
///
/// When the image has no list.
pub fn load_until(device: &Path) -> io::Result<()> {
    let order = fs::read_to_string(Path::new(DIRECTORY).join("order"))?;
    for name in order.lines() {
        if device.exists() {
            break;
        }
        // A watchdog that cannot be stopped: whoever closes its file, a fault of ours included, leaves it running. A
        // module that has no such parameter ignores it. What is refused, the step that loads them all says.
        let _ = load_one(name, c"nowayout=1");
    }
    Ok(())
}

/// Loads the modules of the list whose aliases match a device that is plugged in, with what they depend on.
///
/// # Errors
///
/// When the image has no lists.
pub fn load_for_hardware() -> io::Result<Loaded> {
    let aliases = fs::read_to_string(Path::new(DIRECTORY).join("aliases"))?;
    if aliases.is_empty() {
        return Ok(Loaded::default());
    }
    let needs = fs::read_to_string(Path::new(DIRECTORY).join("needs"))?;
    let devices = device_aliases()?;
    let wanted: Vec<&str> = aliases
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(pattern, _)| devices.iter().any(|device| matches(pattern, device)))
        .map(|(_, module)| module)
        .collect();
    let names = needs
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| wanted.contains(name))
        .flat_map(|(_, chain)| chain.split_ascii_whitespace());
    Ok(load(names))
}

fn load<'a>(names: impl Iterator<Item = &'a str>) -> Loaded {
    let mut loaded = Loaded::default();
    for name in names {
        match load_one(name, c"") {
            Ok(()) => loaded.count += 1,
            Err(error) => loaded.refused.push(format!("{name}: {error}")),
        }
    }
    loaded
}

fn load_one(name: &str, parameters: &CStr) -> io::Result<()> {
    let file = File::open(Path::new(DIRECTORY).join(format!("{name}.ko")))?;
    match finit_module(&file, parameters, ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// `modalias` of every device in sysfs (kernel Documentation/ABI/testing/sysfs-bus-*).
fn device_aliases() -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for bus in fs::read_dir("/sys/bus")? {
        let Ok(devices) = fs::read_dir(bus?.path().join("devices")) else { continue };
        for device in devices {
            if let Ok(alias) = fs::read_to_string(device?.path().join("modalias")) {
                found.push(alias.trim_end().to_owned());
            }
        }
    }
    Ok(found)
}

/// Whether a module's alias pattern (`*`, `?`, `[...]` as in fnmatch(3)) covers `text`.
fn matches(pattern: &str, text: &str) -> bool {
    fn at(p: &[u8], t: &[u8]) -> bool {
        match p.first() {
            None => t.is_empty(),
            Some(b'*') => (0..=t.len()).any(|skip| at(&p[1..], &t[skip..])),
            Some(b'?') => !t.is_empty() && at(&p[1..], &t[1..]),
            Some(b'[') => {
                let Some(close) = p.iter().position(|&b| b == b']') else { return false };
                t.first().is_some_and(|b| in_set(&p[1..close], *b)) && at(&p[close + 1..], &t[1..])
            }
            Some(b) => t.first() == Some(b) && at(&p[1..], &t[1..]),
        }
    }
    fn in_set(set: &[u8], b: u8) -> bool {
        match set {
            [low, b'-', high, rest @ ..] => (*low..=*high).contains(&b) || in_set(rest, b),
            [one, rest @ ..] => *one == b || in_set(rest, b),
            [] => false,
        }
    }
    at(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_match_as_the_kernel_means_them() {
        let e1000 = "pci:v00008086d0000100Esv*sd*bc*sc*i*";
        assert!(matches(e1000, "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"));
        assert!(!matches(e1000, "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00"));
        assert!(matches("usb:v0BDAp815[23]d*", "usb:v0BDAp8153d3000"));
        assert!(matches("acpi*:QEMU000[0-3]:*", "acpi:QEMU0002:"));
        assert!(!matches("acpi*:QEMU000[0-3", "acpi:QEMU0002:"));
    }
}
