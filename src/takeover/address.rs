//! Service addresses by netlink: add, renew, remove, read back.
//!
//! Every service address has a kernel lifetime (`valid_lft`, whole seconds), so it goes away by itself when this program is
//! dead or stopped. Lifetimes are *relative*: a request that is made late, after a stop between the look at the right and the
//! request, prolongs the address from the moment the kernel sees it. Two things bound that:
//!
//! - [`renew`] cannot bring back an address that is gone. Leaving out NLM_F_CREATE is not enough: the kernel adds the address
//!   all the same ("userspace already relies on not having to provide this", `inet_rtm_newaddr` and `inet6_rtm_newaddr`;
//!   seen on 6.1 and 6.18, both families). But the flag IFA_F_MCAUTOJOIN is looked at only where an address is *inserted*, and
//!   is refused there for a unicast address; where one is *replaced* it changes nothing that matters. A renewal carries
//!   that flag: for an address that is there it is a renewal, for one that has expired it is EINVAL, in one step under
//!   the kernel's own lock.
//! - So a late renewal prolongs by at most the lifetime, and only as long as the kernel has not removed the address: the bound
//!   of the belt is twice the lifetime and the kernel's delay (the fence's `address_lease`).
//!
//! How an address is put on, and why:
//!
//! - Prefix length: 32 or 128, whatever is configured, where another address of the interface or a route covers the configured
//!   network.
//!   With the network's own length the kernel chains IPv4 addresses of one network as primary and secondaries, and removing
//!   the primary removes the others: a box whose own address was added later (by DHCP, say) would lose it with the service
//!   address. A host address is chained to nothing, makes no route of its own, and IPv4 does not choose it as a source.
//!   Where nothing else covers the network, the configured length and its route are needed to answer neighbours.
//! - IPv6: no duplicate address detection (IFA_F_NODAD: it would take a second, and a probe went before), and deprecated from
//!   the start (preferred lifetime zero), so that the box's own connections never choose it as their source (RFC 6724 rule 3).
//! - IFA_F_NOPREFIXROUTE with a host prefix: an IPv6 route with a lifetime would be merged into the own address's route, or into the
//!   router's where the own address is one by DHCPv6, which has no network (RFC 8415), and be deleted with the service address.

use std::io;
use std::net::IpAddr;

use crate::netlink::{self, AddressBody, AddressLifetime, Request, RouteBody, Socket};
use crate::time::Duration;

/// At most this many service addresses.
pub const ADDRESSES: usize = 16;
/// IFA_F_MCAUTOJOIN (linux/if_addr.h): see above for what it does here.
const IFA_F_MCAUTOJOIN: u32 = 0x400;
/// IFA_F_NODAD and IFA_F_NOPREFIXROUTE (linux/if_addr.h).
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
/// RTM_F_FIB_MATCH (linux/rtnetlink.h): the route that fits, and not what it means for this one address.
const RTM_F_FIB_MATCH: u32 = 0x2000;
/// A gateway of another family (linux/rtnetlink.h).
const RTA_VIA: u16 = 18;

/// A service address as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Length of the network's prefix, in bits.
    pub prefix: u8,
}

/// An address that is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length it was put on with.
    pub prefix: u8,
    /// Interface index.
    pub index: u32,
    /// Seconds until the kernel removes it; `None` for never.
    pub valid: Option<u32>,
}

impl Assigned {
    /// Of a message of the kernel's (RTM_NEWADDR).
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Assigned> {
        let (body, attributes) = netlink::body::<AddressBody>(payload)?;
        // IFA_LOCAL is the address itself where there is a peer address (IPv4 always has it).
        let bytes = attributes.get(libc::IFA_LOCAL).or_else(|| attributes.get(libc::IFA_ADDRESS))?;
        let ip = match i32::from(body.family) {
            libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
            _ => return None,
        };
        let lifetime: Option<AddressLifetime> = netlink::attribute(attributes.get(libc::IFA_CACHEINFO));
        let valid = lifetime.map(|l| l.valid).filter(|&v| v != u32::MAX);
        Some(Assigned { ip, prefix: body.prefix, index: body.index, valid })
    }
}

/// Puts `address` on interface `index` for `lifetime` (rounded up to whole seconds); replaces its lifetime if it is there.
/// `covered`: another address of the interface covers the network ([`covered`]).
///
/// # Errors
///
/// The kernel's.
pub fn add(
    socket: &mut Socket,
    index: u32,
    address: ServiceAddress,
    covered: bool,
    lifetime: Duration,
) -> io::Result<()> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    socket.change(&mut request(libc::RTM_NEWADDR, flags, index, address, covered, Some((lifetime, 0))))
}

/// Puts `address` on interface `index` for good, as a box's own: with its network, and as a source of its connections. What
/// looked for duplicates has gone before.
///
/// # Errors
///
/// The kernel's.
pub fn keep(socket: &mut Socket, index: u32, address: ServiceAddress) -> io::Result<()> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let mut request = request(libc::RTM_NEWADDR, flags, index, address, false, None);
    if address.ip.is_ipv6() {
        request.attribute(libc::IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
    }
    socket.change(&mut request)
}

/// Gives `address` on interface `index` another `lifetime` from now on, if it is still there.
///
/// # Errors
///
/// `NotFound` if the address is not there any more (it has expired, or somebody removed it): nothing was changed. Other
/// errors are the kernel's.
pub fn renew(
    socket: &mut Socket,
    index: u32,
    address: ServiceAddress,
    covered: bool,
    lifetime: Duration,
) -> io::Result<()> {
    let lifetime = Some((lifetime, IFA_F_MCAUTOJOIN));
    let renewed =
        socket.change(&mut request(libc::RTM_NEWADDR, libc::NLM_F_REPLACE, index, address, covered, lifetime));
    match renewed {
        // EINVAL: refused as an insertion. EOPNOTSUPP: the same without CONFIG_IP_MULTICAST. ENODEV: interface gone.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENODEV)) => {
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
        other => other,
    }
}

/// Takes `assigned` off its interface. One that is gone already is no error.
///
/// # Errors
///
/// The kernel's.
pub fn remove(socket: &mut Socket, assigned: Assigned) -> io::Result<()> {
    let address = ServiceAddress { ip: assigned.ip, prefix: assigned.prefix };
    match socket.change(&mut request(libc::RTM_DELADDR, 0, assigned.index, address, false, None)) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

/// Those of `addresses` that any interface of this box has now, as the kernel says.
///
/// # Errors
///
/// The kernel's; nothing is known then. `OutOfMemory` if one address is on so many interfaces that the list is full.
pub fn assigned(
    socket: &mut Socket,
    addresses: &[ServiceAddress],
) -> io::Result<heapless::Vec<Assigned, { 2 * ADDRESSES }>> {
    let mut found = (heapless::Vec::new(), true);
    dump(
        socket,
        &mut found,
        |found| *found = (heapless::Vec::new(), true),
        |found, a| {
            if addresses.iter().any(|s| s.ip == a.ip) {
                found.1 &= found.0.push(a).is_ok();
            }
        },
    )?;
    if found.1 { Ok(found.0) } else { Err(io::Error::from(io::ErrorKind::OutOfMemory)) }
}

/// Whether interface `index` has an address other than the service `addresses` that covers the network of `address`.
///
/// # Errors
///
/// The kernel's.
pub fn covered(
    socket: &mut Socket,
    index: u32,
    address: ServiceAddress,
    addresses: &[ServiceAddress],
) -> io::Result<bool> {
    let mut found = false;
    dump(
        socket,
        &mut found,
        |found| *found = false,
        |found, a| {
            let own = a.index == index && !addresses.iter().any(|s| s.ip == a.ip);
            *found |= own && a.prefix <= address.prefix && same_network(a.ip, address.ip, a.prefix);
        },
    )?;
    Ok(found)
}

/// How an address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is one of this box's.
    Local,
    /// Without a router, by the interface that was asked for; so is all that has as many bits in common with it.
    OnLink(u8),
    /// Otherwise, or not at all.
    Elsewhere,
}

/// How `ip` is reached by interface `index`. What the kernel does not tell counts as elsewhere.
pub fn reach(socket: &mut Socket, index: u32, ip: IpAddr) -> Reach {
    let (family, host) = family(ip);
    let body = RouteBody { family, destination_length: host, flags: RTM_F_FIB_MATCH, ..RouteBody::default() };
    let mut request = Request::new(libc::RTM_GETROUTE, 0, &body);
    match ip {
        IpAddr::V4(v4) => request.attribute(libc::RTA_DST, &v4.octets()),
        IpAddr::V6(v6) => request.attribute(libc::RTA_DST, &v6.octets()),
    };
    request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
    let mut reach = Reach::Elsewhere;
    let asked = socket.get(&mut request, &mut reach, |reach, kind, payload| {
        let Some((body, attributes)) = netlink::body::<RouteBody>(payload).filter(|_| kind == libc::RTM_NEWROUTE)
        else {
            return;
        };
        let routed = [libc::RTA_GATEWAY, RTA_VIA, libc::RTA_MULTIPATH].iter().any(|&a| attributes.get(a).is_some());
        let by = netlink::attribute(attributes.get(libc::RTA_OIF));
        *reach = match body.kind {
            libc::RTN_LOCAL => Reach::Local,
            libc::RTN_UNICAST if by == Some(index) && !routed => Reach::OnLink(body.destination_length),
            _ => Reach::Elsewhere,
        };
    });
    if asked.is_ok() { reach } else { Reach::Elsewhere }
}

/// The kernel's number of the family of `ip`, and the prefix length of a host in it.
fn family(ip: IpAddr) -> (u8, u8) {
    match ip {
        IpAddr::V4(_) => (libc::AF_INET as u8, 32),
        IpAddr::V6(_) => (libc::AF_INET6 as u8, 128),
    }
}

/// Whether two addresses of one family agree in their first `prefix` bits.
fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let differing = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(prefix)
}

fn dump<C>(
    socket: &mut Socket,
    collected: &mut C,
    restart: impl Fn(&mut C),
    mut each: impl FnMut(&mut C, Assigned),
) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_GETADDR, 0, &AddressBody::default());
    socket.dump(&mut request, collected, restart, |collected, kind, payload| {
        if kind == libc::RTM_NEWADDR
            && let Some(assigned) = Assigned::read(payload)
        {
            each(collected, assigned);
        }
    })
}

/// `lifetime`: how long, and further IFA_F_* flags.
fn request(
    kind: u16,
    flags: libc::c_int,
    index: u32,
    address: ServiceAddress,
    covered: bool,
    lifetime: Option<(Duration, u32)>,
) -> Request {
    let (family, host) = family(address.ip);
    let prefix = if covered { host } else { address.prefix };
    let body = AddressBody { family, prefix, index, ..AddressBody::default() };
    let mut request = Request::new(kind, flags, &body);
    match address.ip {
        IpAddr::V4(v4) => {
            request.attribute(libc::IFA_LOCAL, &v4.octets());
            // The other end's, where it is one of a point-to-point link: that is removed, too, and must not be looked for.
            if kind != libc::RTM_DELADDR {
                request.attribute(libc::IFA_ADDRESS, &v4.octets());
            }
        }
        IpAddr::V6(v6) => {
            request.attribute(libc::IFA_LOCAL, &v6.octets());
        }
    }
    if let Some((lifetime, more)) = lifetime {
        let mut ifa_flags = more;
        if address.ip.is_ipv6() {
            ifa_flags |= IFA_F_NODAD;
        }
        if covered {
            ifa_flags |= IFA_F_NOPREFIXROUTE;
        }
        request.attribute(libc::IFA_FLAGS, &ifa_flags.to_ne_bytes());
        let valid = whole_seconds(lifetime);
        let preferred = if address.ip.is_ipv4() { valid } else { 0 };
        let cache = AddressLifetime { preferred, valid, created: 0, updated: 0 };
        request.attribute(libc::IFA_CACHEINFO, zerocopy::IntoBytes::as_bytes(&cache));
    }
    request
}

/// The kernel counts in whole seconds: up, at least one, and never "for ever".
fn whole_seconds(lifetime: Duration) -> u32 {
    let seconds = lifetime.as_secs().saturating_add(u64::from(lifetime.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX).clamp(1, u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_round_up_to_what_the_kernel_can_count() {
        for (ms, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (2000, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms} ms");
        }
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX - 1);
    }

    #[test]
    fn networks_are_compared_by_their_prefix_and_family() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(same_network(at("192.0.2.2"), at("192.0.2.10"), 24));
        assert!(!same_network(at("192.0.2.2"), at("192.0.3.10"), 24));
        assert!(same_network(at("192.0.2.2"), at("198.51.100.1"), 0));
        assert!(same_network(at("2001:db8::1"), at("2001:db8::ffff"), 64));
        assert!(!same_network(at("2001:db8::1"), at("2001:db8::3"), 127));
        assert!(!same_network(at("192.0.2.2"), at("2001:db8::1"), 0));
        assert!(same_network(at("192.0.2.2"), at("192.0.2.2"), 32));
    }
}
