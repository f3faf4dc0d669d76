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

/// All interfaces that sit on a bus, by bus path: the order does not change with the drivers' speed. Ports of one PCI function, and
/// those on a bus that has no paths, go by the number of the port and by hardware address.
///
/// # Errors
///
/// When sysfs cannot be read.
pub fn list() -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let Ok(device) = fs::canonicalize(entry.path().join("device")) else { continue };
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default().trim().to_lowercase();
        let port: u32 = read("dev_port").parse().unwrap_or(0);
        let name = entry.file_name().to_string_lossy().into_owned();
        found.push((port, Found { name, mac: read("address"), path: bus_path(&device) }));
    }
    Ok(in_order(found))
}

fn in_order(mut found: Vec<(u32, Found)>) -> Vec<Found> {
    found.sort_by(|(port, one), (other_port, other)| {
        (&one.path, port, &one.mac).cmp(&(&other.path, other_port, &other.mac))
    });
    found.into_iter().map(|(_, found)| found).collect()
}

/// Whether nothing has to be waited for before the board's interfaces with a role that `is_meant` are chosen. Places count from the
/// first port of all: one that comes late moves the others, so a place is known when every place that the board names is there.
#[must_use]
pub fn are_there(board: &[Interface], is_meant: impl Fn(&str) -> bool, found: &[Found]) -> bool {
    let by_place = board.iter().any(|wanted| is_meant(&wanted.role) && wanted.position.is_some());
    let counts = |wanted: &Interface| is_meant(&wanted.role) || (by_place && wanted.position.is_some());
    board.iter().filter(|wanted| counts(wanted)).all(|wanted| choose(wanted, found).is_some())
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
    fn a_port_that_comes_late_does_not_take_another_one_s_place() {
        let any = Interface { role: "lan".into(), path: None, mac: None, name: None, position: None };
        let board = [
            Interface { position: Some(1), ..any.clone() },
            Interface { role: "crossover".into(), position: Some(2), ..any.clone() },
        ];
        let found = |name: &str, path: &str| Found { name: name.into(), path: path.into(), mac: String::new() };
        let (first, second) = (found("eth1", "pci-0000:02:00.0"), found("eth0", "pci-0000:03:00.0"));
        let is_lan = |role: &str| role == "lan";
        // Only the crossover's port is there: it is the first one now.
        assert_eq!(choose(&board[0], std::slice::from_ref(&second)), Some(&second));
        assert!(!are_there(&board, is_lan, std::slice::from_ref(&second)));
        assert!(are_there(&board, is_lan, &[first, second.clone()]));
        // Where the port is named it does not wait for others.
        let named = [Interface { path: Some("pci-0000:03:00.0".into()), ..any }, board[1].clone()];
        assert!(are_there(&named, is_lan, std::slice::from_ref(&second)));
        assert!(!are_there(&named, |role| role == "crossover", &[second]));
    }

    #[test]
    fn ports_of_one_card_have_an_order_of_their_own() {
        let found = |mac: &str, path: &str| Found { name: String::new(), mac: mac.into(), path: path.into() };
        let two = [(1, found("02:aa", "pci-0000:02:00.0")), (0, found("02:bb", "pci-0000:02:00.0"))];
        let none = [(0, found("02:dd", "")), (0, found("02:cc", ""))];
        for shuffled in [[two.clone(), none.clone()].concat(), [none, two].concat()] {
            let macs: Vec<String> = in_order(shuffled).into_iter().map(|found| found.mac).collect();
            assert_eq!(macs, ["02:cc", "02:dd", "02:bb", "02:aa"]);
        }
    }

    #[test]
    fn the_loopback_interface_goes_up_and_a_missing_one_is_an_error() {
        assert!(bring_up("lo").is_ok());
        assert!(bring_up("no-such-if").is_err());
        assert!(bring_up("a-name-that-is-too-long").is_err());
    }
}
