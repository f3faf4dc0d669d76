//! Which of the kernel's interfaces the board file means.

use crate::config::board::Interface;
use crate::init;
use crate::netlink::Socket;
use crate::takeover::interface::{self, Interface as Found};

/// The kernel's name of the interface that the board file means. By name and hardware address it is looked for by netlink,
/// which shows this network namespace (and interfaces on no bus); /sys may show another one.
///
/// # Errors
///
/// One text: what was looked for, and what there is.
pub fn find(wanted: &Interface) -> Result<String, String> {
    if wanted.path.is_some() || wanted.position.is_some() {
        let found = init::interface::list().map_err(|e| format!("/sys/class/net: {e}"))?;
        let chosen = init::interface::choose(wanted, &found).map(|found| found.name.clone());
        let list = || found.iter().map(|f| format!("{} at {}", f.name, f.path)).collect::<Vec<_>>().join(", ");
        return chosen.ok_or_else(|| format!("none matches; there are {}", list()));
    }
    let all = Socket::open().and_then(|mut socket| interface::list(&mut socket)).map_err(|e| e.to_string())?;
    let matches = |found: &&Found| {
        wanted.name.as_deref().is_none_or(|name| name == found.name) && wanted.mac.is_none_or(|mac| mac == found.mac)
    };
    let chosen = all.iter().find(matches).map(|found| found.name.to_string());
    let list = || all.iter().map(|found| found.name.as_str()).collect::<Vec<_>>().join(", ");
    chosen.ok_or_else(|| format!("none matches; there are {}", list()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_said_must_match_and_a_miss_names_what_there_is() {
        let wanted = |name: Option<&str>, mac: Option<[u8; 6]>, path: Option<&str>| Interface {
            role: "lan".into(),
            path: path.map(Into::into),
            mac,
            name: name.map(Into::into),
            position: None,
        };
        assert_eq!(find(&wanted(Some("lo"), None, None)).unwrap(), "lo");
        assert_eq!(find(&wanted(Some("lo"), Some([0; 6]), None)).unwrap(), "lo");
        assert!(find(&wanted(Some("lo"), Some([2; 6]), None)).unwrap_err().contains("there are lo"));
        assert!(find(&wanted(Some("lo"), None, Some("pci-0000:00:02.0"))).is_err());
    }
}
