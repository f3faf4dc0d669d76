//! Per-interface settings of the kernel under /proc/sys/net, recorded so that they can be put back.
//!
//! What is set on an interface with service addresses, and why (Documentation/networking/ip-sysctl.rst):
//!
//! - `arp_ignore = 1`: answer ARP only for addresses of the interface that heard the request. Otherwise a box answers for an
//!   address that is on any of its interfaces, and with a virtual MAC the parent would answer beside the macvlan, with the
//!   wrong hardware address.
//! - `arp_announce = 2`: our own ARP requests name an own address of the interface as their sender, never the service
//!   address that the packet happens to come from. Such a request would be an announcement that nobody ordered: with a
//!   virtual MAC, of the wrong one; and the closed egress gate would drop it, so that the box's neighbours stay unresolved.
//! - `promote_secondaries = 1`: where no own address was there when the service address came, one that comes later in the same
//!   network is its secondary, and would go with it.
//! - On a macvlan besides: `rp_filter = 2` (answers leave by the parent, so a strict filter would drop the requests);
//!   IPv6 `accept_ra`, `autoconf` and `router_solicitations` = 0 (it has the service address and nothing else).
//!
//! A Standby has no service address on any interface, so with these the kernel neither answers for one nor takes its packets.

use std::io;
use std::path::PathBuf;

/// For an interface that carries service addresses, and for the parent of a macvlan that does.
pub const PARENT: &[(&str, &str)] =
    &[("ipv4/conf/*/arp_ignore", "1"), ("ipv4/conf/*/arp_announce", "2"), ("ipv4/conf/*/promote_secondaries", "1")];

/// For a macvlan.
pub const MACVLAN: &[(&str, &str)] = &[
    ("ipv4/conf/*/arp_ignore", "1"),
    ("ipv4/conf/*/arp_announce", "2"),
    ("ipv4/conf/*/rp_filter", "2"),
    ("ipv6/conf/*/accept_ra", "0"),
    ("ipv6/conf/*/autoconf", "0"),
    ("ipv6/conf/*/router_solicitations", "0"),
];

/// What was there before. Putting it back is explicit: a fence must not stop for it.
#[derive(Debug, Default)]
pub struct Sysctls {
    before: Vec<(PathBuf, String)>,
}

impl Sysctls {
    /// Writes `settings` (path under /proc/sys/net with `*` for the interface, value) for `interface`.
    ///
    /// # Errors
    ///
    /// Names the file and says what it wanted. A file of IPv6 that is missing (IPv6 is switched off) is no error.
    pub fn set(&mut self, interface: &str, settings: &[(&str, &str)]) -> io::Result<()> {
        for (path, value) in settings {
            let path = PathBuf::from("/proc/sys/net").join(path.replace('*', interface));
            let explain = |e: io::Error| io::Error::new(e.kind(), format!("{} = {value}: {e}", path.display()));
            let before = match std::fs::read_to_string(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && path.starts_with("/proc/sys/net/ipv6") => continue,
                other => other.map_err(explain)?,
            };
            if before.trim() == *value {
                continue;
            }
            std::fs::write(&path, value).map_err(explain)?;
            self.before.push((path, before));
        }
        Ok(())
    }

    /// Puts everything back, the last change first. Interfaces that are gone are skipped.
    ///
    /// # Errors
    ///
    /// The first that occurred; the others were tried all the same.
    pub fn restore(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for (path, value) in self.before.drain(..).rev() {
            match std::fs::write(&path, value.trim()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    result = result.and(Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))));
                }
                _ => {}
            }
        }
        result
    }
}
