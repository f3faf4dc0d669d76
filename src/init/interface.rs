//! Network interfaces: which one is plugged in where, and bringing it up.
#![allow(unsafe_code)] // two ioctls of netdevice(7)

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::config::board::Interface;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// An interface that the kernel found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The kernel's name for it.
    pub name: String,
    /// Hardware address, lower case with colons.
    pub mac: String,
    /// Bus path as udev's `ID_PATH` writes it (`pci-0000:00:04.0`); empty for one that is on no bus.
    pub path: String,
}

/// All interfaces that sit on a bus, by bus path: the order does not change with the drivers' speed.
///
/// # Errors
///
/// When sysfs cannot be read.
pub fn list() -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let Ok(device) = fs::canonicalize(entry.path().join("device")) else { continue };
        let mac = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        let name = entry.file_name().to_string_lossy().into_owned();
        found.push(Found { name, mac: mac.trim().to_lowercase(), path: bus_path(&device) });
    }
    found.sort_by(|x, y| x.path.cmp(&y.path));
    Ok(found)
}

/// The bus path of a device folder of sysfs: the last PCI function on the way, and the USB port behind it.
fn bus_path(device: &Path) -> String {
    let mut path = String::new();
    for part in device.iter().filter_map(|part| part.to_str()) {
        let usb = part
            .split_once('-')
            .filter(|(bus, port)| !bus.is_empty() && bus.bytes().all(|b| b.is_ascii_digit()) && port.contains(':'));
        if is_pci_function(part) {
            path = format!("pci-{part}");
        } else if let Some((_, port)) = usb {
            path = format!("{path}-usb-0:{port}");
        }
    }
    path
}

/// `0000:00:04.0`
fn is_pci_function(part: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_hexdigit());
    let mut fields = part.split([':', '.']);
    let [domain, bus, device, function] = core::array::from_fn(|_| fields.next().unwrap_or(""));
    fields.next().is_none() && digits(domain, 4) && digits(bus, 2) && digits(device, 2) && digits(function, 1)
}

/// The one that the board means: every key that is given must match. A name or an address that two of them bear means
/// the first by bus path.
#[must_use]
pub fn choose<'f>(wanted: &Interface, found: &'f [Found]) -> Option<&'f Found> {
    let mac = wanted.mac.map(|mac| mac.map(|b| format!("{b:02x}")).join(":"));
    let given = |key: &Option<String>, has: &str| key.as_deref().is_none_or(|key| key == has);
    found.iter().enumerate().map(|(index, found)| (index + 1, found)).find_map(|(position, found)| {
        let all = given(&wanted.path, &found.path)
            && given(&mac, &found.mac)
            && given(&wanted.name, &found.name)
            && wanted.position.is_none_or(|wanted| wanted == position);
        all.then_some(found)
    })
}

/// Switches the interface on. Its carrier comes when the other end is there; nobody waits for it here.
///
/// # Errors
///
/// What the kernel said.
pub fn bring_up(name: &str) -> io::Result<()> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is a plain C structure of numbers, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    let room = request.ifr_name.len() - 1; // the last byte stays zero
    if name.len() > room {
        return Err(io::Error::other(format!("{name}: an interface's name has at most {room} bytes")));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: SIOCGIFFLAGS reads the name from and writes the flags to the ifreq that `request` is.
    nix::errno::Errno::result(unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    // SAFETY: the call before made `ifru_flags` the field in use.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as i16 };
    // SAFETY: SIOCSIFFLAGS reads name and flags from the ifreq that `request` is.
    nix::errno::Errno::result(unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_paths_are_those_of_udev() {
        let path = |text: &str| bus_path(Path::new(text));
        assert_eq!(path("/sys/devices/pci0000:00/0000:00:04.0/virtio1"), "pci-0000:00:04.0");
        assert_eq!(path("/sys/devices/pci0000:00/0000:00:1c.5/0000:03:00.0"), "pci-0000:03:00.0");
        assert_eq!(
            path("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0"),
            "pci-0000:00:14.0-usb-0:1.2:1.0"
        );
        assert_eq!(path("/sys/devices/virtual/net/lo"), "");
    }

    #[test]
    fn interfaces_are_chosen_by_path_address_name_or_place() {
        let found = |name: &str, path: &str, last: u8| Found {
            name: name.into(),
            path: path.into(),
            mac: format!("52:54:00:00:00:{last:02x}"),
        };
        let found = [found("eth1", "pci-0000:00:04.0", 1), found("eth0", "pci-0000:00:05.0", 2)];
        let any = Interface { role: "lan".into(), path: None, mac: None, name: None, position: None };
        let name = |wanted: Interface| choose(&wanted, &found).map(|found| found.name.as_str());
        assert_eq!(name(Interface { path: Some("pci-0000:00:05.0".into()), ..any.clone() }), Some("eth0"));
        assert_eq!(name(Interface { mac: Some([0x52, 0x54, 0, 0, 0, 1]), ..any.clone() }), Some("eth1"));
        assert_eq!(name(Interface { position: Some(2), ..any.clone() }), Some("eth0"));
        assert_eq!(name(Interface { position: Some(3), ..any.clone() }), None);
        assert_eq!(name(Interface { name: Some("eth0".into()), position: Some(1), ..any }), None);
    }

    #[test]
    fn the_loopback_interface_goes_up_and_a_missing_one_is_an_error() {
        assert!(bring_up("lo").is_ok());
        assert!(bring_up("no-such-if").is_err());
        assert!(bring_up("a-name-that-is-too-long").is_err());
    }
}
