//! The board file: hardware as data.

use std::path::PathBuf;
use std::time::Duration;

use super::keys;
use super::reader::{Section, Source, integer};
use super::value;

/// The board file as values, every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// The board's name.
    pub name: String,
    /// Kernel modules to load at boot, in order.
    pub modules: Vec<String>,
    /// Kernel modules to load at boot for devices that are there.
    pub hardware_modules: Vec<String>,
    /// What the boot loader hands to the kernel.
    pub kernel_command_line: String,
    /// `[interface.NAME]`
    pub interfaces: Vec<Interface>,
    /// `[serial.console]`
    pub console: Option<Port>,
    /// `[serial.null-modem]`
    pub null_modem: Option<Port>,
    /// `[watchdog]`
    pub watchdog: Option<Watchdog>,
    /// `[storage] data`
    pub data: Option<Volume>,
    /// `[storage] state`
    pub state: Option<Volume>,
    /// `[storage] esp`
    pub esp: Option<Volume>,
}

impl Board {
    /// The interface with this role.
    #[must_use]
    pub fn interface(&self, role: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.role == role)
    }
}

/// A network interface and how to find it; every key given must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `lan`, `crossover`, or another name that the site file uses.
    pub role: String,
    /// Bus path, `pci-0000:00:02.0`.
    pub path: Option<String>,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// The kernel's name.
    pub name: Option<String>,
    /// Place among all interfaces by bus path, from 1.
    pub position: Option<usize>,
}

/// A serial port, 8 data bits, no parity, one stop bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Device file.
    pub device: PathBuf,
    /// Bits a second.
    pub baud: u32,
}

/// The hardware watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Device file.
    pub device: PathBuf,
    /// When it fires, in percent of the time-out set.
    pub firing_percent: u16,
    /// From firing to silence.
    pub reset_time: Duration,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// A device file.
    Device(PathBuf),
    /// The partition's name in the GPT.
    PartitionLabel(String),
    /// The partition's UUID in the GPT.
    PartitionUuid(String),
    /// The file system's label.
    Label(String),
    /// The file system's UUID.
    Uuid(String),
}

/// Speeds that termios knows (termios(3), `speed_t`) from 300 bits a second up.
pub const BAUD_RATES: [u32; 16] = [
    300, 1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600, 1_000_000, 1_500_000,
    3_000_000, 4_000_000,
];

/// Sections with fixed names below a section.
const PORTS: &[keys::Key] = &[
    keys::Key { name: "console", default: "", allowed: "a section [serial.console]", meaning: "" },
    keys::Key { name: "null-modem", default: "", allowed: "a section [serial.null-modem]", meaning: "" },
];

/// The roles of interfaces are free names.
const INTERFACES: &[keys::Key] =
    &[keys::Key { name: "INTERFACE", default: "", allowed: "a section [interface.NAME]", meaning: "" }];

/// Reads the whole file; problems are in `source` afterwards, and then the value is not to be used.
pub(super) fn read<'i>(source: &Source<'i>, tree: &toml::Spanned<toml::de::DeTable<'i>>) -> Board {
    let top = Section::top(source, tree, keys::BOARD.keys, &["interface", "serial", "watchdog", "storage"]);
    let serial = top.child("serial", PORTS);
    let storage = top.child("storage", keys::STORAGE.keys);
    let module = |text: &str| match text {
        "" => Err("an empty name".to_owned()),
        _ if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') => Ok(text.to_owned()),
        _ => Err(format!("\"{text}\" is no module name")),
    };
    let command_line = |text: &str| match text {
        _ if text.len() > 1024 => Err(format!("has {} bytes", text.len())),
        _ if text.chars().any(char::is_control) => Err("holds control characters".to_owned()),
        _ => Ok(text.to_owned()),
    };
    Board {
        name: top.required("name", value::board_name).unwrap_or_default(),
        modules: top.list("modules", 64, module).unwrap_or_default(),
        hardware_modules: top.list("hardware-modules", 64, module).unwrap_or_default(),
        kernel_command_line: top.text("kernel-command-line", command_line).unwrap_or_default(),
        interfaces: interfaces(&top),
        console: serial.as_ref().and_then(|serial| port(serial, "console")),
        null_modem: serial.as_ref().and_then(|serial| port(serial, "null-modem")),
        watchdog: top.child("watchdog", keys::BOARD_WATCHDOG.keys).and_then(|section| watchdog(&section)),
        data: storage.as_ref().and_then(|s| s.text("data", volume)),
        state: storage.as_ref().and_then(|s| s.text("state", volume)),
        esp: storage.as_ref().and_then(|s| s.text("esp", volume)),
    }
}

fn interfaces(top: &Section) -> Vec<Interface> {
    let lan_is_missing = "has no section [interface.lan]";
    let Some(all) = top.child("interface", INTERFACES) else {
        if !top.is_unsure() {
            top.refuse("interface.lan", lan_is_missing, "allowed: at least that one");
        }
        return Vec::new();
    };
    if !all.has("lan") && !all.is_unsure() {
        all.refuse("lan", lan_is_missing, "allowed: at least that one");
    }
    let mut interfaces = Vec::new();
    for role in all.names() {
        if let Err(what) = value::name(&role) {
            all.refuse(&role, what, "allowed: 1 to 32 of a-z, 0-9 and -");
        }
        let Some(section) = all.child(&role, keys::INTERFACE.keys) else { continue };
        if !["path", "mac", "name", "position"].iter().any(|key| section.has(key) || section.is_unread(key)) {
            all.refuse(
                &role,
                "says not how to find the interface",
                "allowed: path, mac, name or position, at least one",
            );
        }
        let bus_path = |text: &str| match text.split_once('-') {
            Some((bus, rest)) if !bus.is_empty() && !rest.is_empty() && !text.contains(['/', ' ']) => {
                Ok(text.to_owned())
            }
            _ => Err(format!("\"{text}\" is no bus path")),
        };
        interfaces.push(Interface {
            path: section.text("path", bus_path),
            mac: section.text("mac", value::mac),
            name: section.text("name", value::interface_name),
            position: section.value("position", |value| {
                let number =
                    value.as_integer().ok_or_else(|| format!("is of the wrong kind ({})", value.type_str()))?;
                let position = usize::from_str_radix(number.as_str(), number.radix()).ok();
                let known = position.filter(|n| (1..=16).contains(n));
                known.ok_or_else(|| format!("{} is no place among 16", number.as_str()))
            }),
            role,
        });
    }
    interfaces
}

fn port(serial: &Section, name: &str) -> Option<Port> {
    let section = serial.child(name, keys::SERIAL.keys)?;
    let baud = section.value("baud", |value| {
        let number = integer(value)?;
        let known = u32::try_from(number).ok().filter(|baud| BAUD_RATES.contains(baud));
        known.ok_or_else(|| format!("{number} is no speed of a serial port"))
    });
    Some(Port { device: section.required("device", value::path)?, baud: baud.unwrap_or(115_200) })
}

fn watchdog(section: &Section) -> Option<Watchdog> {
    let firing = section.text("firing", |text| {
        let percent = value::percent(text)?;
        if (100..=300).contains(&percent) { Ok(percent) } else { Err(format!("\"{text}\" is out of range")) }
    });
    let reset_time = section.duration("reset-time", Duration::ZERO..=Duration::from_secs(60));
    Some(Watchdog {
        device: section.required("device", value::path)?,
        firing_percent: firing.unwrap_or(110),
        reset_time: reset_time.unwrap_or(Duration::from_millis(100)),
    })
}

fn volume(text: &str) -> Result<Volume, String> {
    let Some((kind, name)) = text.split_once('=') else { return value::path(text).map(Volume::Device) };
    if name.is_empty() || name.len() > 72 || name.contains(['/', '"']) || name.chars().any(char::is_control) {
        return Err(format!("\"{text}\" names nothing"));
    }
    match kind {
        "PARTLABEL" => Ok(Volume::PartitionLabel(name.to_owned())),
        "PARTUUID" => Ok(Volume::PartitionUuid(name.to_owned())),
        "LABEL" => Ok(Volume::Label(name.to_owned())),
        "UUID" => Ok(Volume::Uuid(name.to_owned())),
        _ => Err(format!("\"{kind}=\" is unknown")),
    }
}
