//! Kernel modules: the image lists them in loading order, this loads them (finit_module(2)).

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::clock;
use crate::time::Duration;

/// Where the image keeps modules, their order, and the devices they drive.
const DIRECTORY: &str = "/lib/modules";

/// A watchdog that cannot be stopped: whoever closes its file, a fault of ours included, leaves it running. A module that has
/// no such parameter ignores it.
pub const NO_WAY_OUT: &str = "nowayout=1 ";

/// What became of the list.
#[derive(Debug, Default)]
pub struct Loaded {
    /// How many are in the kernel now.
    pub count: usize,
    /// Those that the kernel refused, and why.
    pub refused: Vec<String>,
    /// The one that took longest.
    pub slowest: Option<(String, Duration)>,
}

impl Loaded {
    /// For the log: how many, and where the time went.
    #[must_use]
    pub fn told(&self) -> String {
        let slowest =
            self.slowest.as_ref().map(|(name, took)| format!(", {name} in {:.0} ms", took.as_secs_f64() * 1e3));
        format!("{} loaded{}", self.count, slowest.unwrap_or_default())
    }
}

/// Loads the modules of `lib/modules/order`. One that is refused does not stop the others: a box without its watchdog
/// runs UNFENCED and says so, a box without its disk is held by the step that misses the disk.
///
/// # Errors
///
/// When the image has no list.
pub fn load_listed() -> io::Result<Loaded> {
    let order = fs::read_to_string(Path::new(DIRECTORY).join("order"))?;
    Ok(load(order.lines(), ""))
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
        // What is refused, the step that loads them all says.
        let _ = load_one(name, NO_WAY_OUT);
    }
    Ok(())
}

/// Loads the modules whose aliases match a device that is plugged in, with what they depend on. A driver may bring new
/// devices (a bus behind a controller), so this goes on until nothing new is wanted. Each is given `parameters` and those of
/// the command line.
///
/// # Errors
///
/// When the image has no lists.
pub fn load_for_hardware(parameters: &str) -> io::Result<Loaded> {
    let aliases = fs::read_to_string(Path::new(DIRECTORY).join("aliases"))?;
    let needs = fs::read_to_string(Path::new(DIRECTORY).join("needs"))?;
    let mut asked: Vec<&str> = Vec::new();
    let mut loaded = Loaded::default();
    loop {
        let devices = if aliases.is_empty() { Vec::new() } else { device_aliases()? };
        let wanted = wanted(&aliases, &devices);
        let new: Vec<&str> = wanted.into_iter().filter(|name| !asked.contains(name)).collect();
        if new.is_empty() {
            return Ok(loaded);
        }
        let chains = needs.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| new.contains(name));
        let more = load(chains.flat_map(|(_, chain)| chain.split_ascii_whitespace()), parameters);
        asked.extend(new);
        loaded.count += more.count;
        loaded.refused.extend(more.refused);
    }
}

/// Loads one module of the image, with what it depends on, whether or not a device asks for it.
///
/// # Errors
///
/// When the image does not have it, or the kernel refuses it.
pub fn load_by_name(name: &str) -> io::Result<()> {
    let needs = fs::read_to_string(Path::new(DIRECTORY).join("needs"))?;
    let chain = needs.lines().filter_map(|line| line.split_once(':')).find(|(module, _)| *module == name);
    let (_, chain) = chain.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    chain.split_ascii_whitespace().try_for_each(|name| load_one(name, NO_WAY_OUT))
}

/// The modules of `aliases` ("PATTERN MODULE" a line) that drive one of the devices, in the order of the list.
fn wanted<'a>(aliases: &'a str, devices: &[String]) -> Vec<&'a str> {
    let mut wanted: Vec<&str> = Vec::new();
    for (pattern, module) in aliases.lines().filter_map(|line| line.rsplit_once(' ')) {
        if !wanted.contains(&module) && devices.iter().any(|device| matches(pattern, device)) {
            wanted.push(module);
        }
    }
    wanted
}

fn load<'a>(names: impl Iterator<Item = &'a str>, always: &str) -> Loaded {
    let mut loaded = Loaded::default();
    for name in names {
        let before = clock::now();
        match load_one(name, always) {
            Ok(()) => loaded.count += 1,
            Err(error) => loaded.refused.push(format!("{name}: {error}")),
        }
        let took = clock::now().since(before);
        if loaded.slowest.as_ref().is_none_or(|(_, longest)| took > *longest) {
            loaded.slowest = Some((name.to_owned(), took));
        }
    }
    loaded
}

fn load_one(name: &str, always: &str) -> io::Result<()> {
    let file = File::open(Path::new(DIRECTORY).join(format!("{name}.ko")))?;
    let command_line = fs::read_to_string("/proc/cmdline")?;
    let parameters = CString::new(format!("{always}{}", parameters_of(name, &command_line)))?;
    match finit_module(&file, &parameters, ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What the kernel's command line says to a module as `NAME.PARAMETER=VALUE`: the kernel obeys that for what is built in
/// and leaves the rest to whoever loads modules (kernel Documentation/admin-guide/kernel-parameters.rst).
fn parameters_of(module: &str, command_line: &str) -> String {
    let own = |word: &str| {
        let (name, parameter) = word.split_once('.')?;
        (name.replace('-', "_") == module).then(|| format!("{parameter} "))
    };
    command_line.split_ascii_whitespace().filter_map(own).collect()
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
    fn parameters_come_from_the_command_line_as_for_what_is_built_in() {
        let line = "console=ttyS1 ramoops.mem_size=0x1000 md-mod.start_ro=1 ramoops.ecc=1 xramoops.a=b ramoopsx.a=b";
        assert_eq!(parameters_of("ramoops", line), "mem_size=0x1000 ecc=1 ");
        assert_eq!(parameters_of("md_mod", line), "start_ro=1 ");
        assert_eq!(parameters_of("ext4", line), "");
    }

    #[test]
    fn aliases_match_as_the_kernel_means_them() {
        let e1000 = "pci:v00008086d0000100Esv*sd*bc*sc*i*";
        assert!(matches(e1000, "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"));
        assert!(!matches(e1000, "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00"));
        assert!(matches("usb:v0BDAp815[23]d*", "usb:v0BDAp8153d3000"));
        assert!(matches("acpi*:QEMU000[0-3]:*", "acpi:QEMU0002:"));
        assert!(!matches("acpi*:QEMU000[0-3", "acpi:QEMU0002:"));
        let list = "usb:v1* uas\npci:v8086d*sv* e1000e\npci:v8086d10D3* e1000e\n";
        assert_eq!(wanted(list, &["pci:v8086d10D3sv1".into(), "acpi:X:".into()]), ["e1000e"]);
    }
}
