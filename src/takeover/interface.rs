//! Network interfaces by netlink: find, read, up and down, and the macvlan that carries a virtual MAC.

use std::io;

use crate::netlink::{self, Attributes, InterfaceBody, Request, Socket};
use crate::wire::Mac;

/// Names of the macvlans that this program makes begin so; whatever has such a name at the start is a leftover.
pub const MACVLAN_PREFIX: &str = "twobox-";

/// IN6_ADDR_GEN_MODE_NONE (linux/if_link.h): the kernel makes no link-local address on this interface.
const ADDR_GEN_MODE_NONE: u8 = 1;
/// IFLA_INET6_ADDR_GEN_MODE (linux/if_link.h).
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// IFF_LOWER_UP (linux/if.h).
const IFF_LOWER_UP: u32 = 1 << 16;
/// IFLA_MACVLAN_MODE and MACVLAN_MODE_BRIDGE (linux/if_link.h).
const IFLA_MACVLAN_MODE: u16 = 1;
const MACVLAN_MODE_BRIDGE: u32 = 4;

/// Length of a transmit queue in packets, of an interface that does not tell its own: the kernel's default (DEFAULT_TX_QUEUE_LEN).
pub const TRANSMIT_QUEUE_LENGTH: u32 = 1000;

/// What the kernel says of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Interface index.
    pub index: u32,
    /// Its name.
    pub name: heapless::String<15>,
    /// Its hardware address; zero where it has none of six bytes.
    pub mac: Mac,
    /// Administratively up (IFF_UP).
    pub up: bool,
    /// The other end of the cable is there.
    pub carrier: bool,
    /// It is a macvlan.
    pub macvlan: bool,
    /// How often the other end of the cable has come and gone.
    pub carrier_changes: u32,
    /// Packets that its queue may hold, where that is not said by the queueing discipline.
    pub transmit_queue_length: u32,
}

impl Interface {
    /// Of a message of the kernel's (RTM_NEWLINK).
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Interface> {
        let (body, attributes) = netlink::body::<InterfaceBody>(payload)?;
        let name = attributes.get(libc::IFLA_IFNAME)?;
        let name = core::str::from_utf8(name.strip_suffix(&[0]).unwrap_or(name)).ok()?;
        let link = Attributes::new(attributes.get(libc::IFLA_LINKINFO).unwrap_or(&[]));
        Some(Interface {
            index: u32::try_from(body.index).ok()?,
            name: heapless::String::try_from(name).ok()?,
            mac: attributes.get(libc::IFLA_ADDRESS).and_then(|a| a.try_into().ok()).unwrap_or_default(),
            up: body.flags & libc::IFF_UP as u32 != 0,
            carrier: body.flags & IFF_LOWER_UP != 0,
            macvlan: link.get(libc::IFLA_INFO_KIND).is_some_and(|kind| kind.starts_with(b"macvlan\0")),
            carrier_changes: netlink::attribute(attributes.get(libc::IFLA_CARRIER_CHANGES)).unwrap_or(0),
            transmit_queue_length: netlink::attribute(attributes.get(libc::IFLA_TXQLEN))
                .unwrap_or(TRANSMIT_QUEUE_LENGTH),
        })
    }
}

/// All interfaces. Allocates: for the start.
///
/// # Errors
///
/// The kernel's.
pub fn list(socket: &mut Socket) -> io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    let mut request = Request::new(libc::RTM_GETLINK, 0, &InterfaceBody::default());
    socket.dump(&mut request, &mut found, Vec::clear, |found, kind, payload| {
        if kind == libc::RTM_NEWLINK {
            found.extend(Interface::read(payload));
        }
    })?;
    Ok(found)
}

/// The interface of this name. Allocates: for the start.
///
/// # Errors
///
/// `NotFound` with the name; the kernel's.
pub fn find(socket: &mut Socket, name: &str) -> io::Result<Interface> {
    list(socket)?
        .into_iter()
        .find(|i| i.name == name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no network interface {name}")))
}

/// The interface of `all` that has come in the place of number `index`, which was called `name`: `None` while that one is there,
/// by whatever name, and while nothing has its name.
#[must_use]
pub fn replacement<'a>(all: &'a [Interface], name: &str, index: u32) -> Option<&'a Interface> {
    let is_there = all.iter().any(|interface| interface.index == index);
    all.iter().find(|interface| !is_there && interface.name == name)
}

/// Brings an interface up or down.
///
/// # Errors
///
/// The kernel's.
pub fn set_up(socket: &mut Socket, index: u32, up: bool) -> io::Result<()> {
    let flag = libc::IFF_UP as u32;
    let body = InterfaceBody {
        index: index.cast_signed(),
        flags: if up { flag } else { 0 },
        change: flag,
        ..InterfaceBody::default()
    };
    socket.change(&mut Request::new(libc::RTM_SETLINK, 0, &body))
}

/// Makes a macvlan `name` with hardware address `mac` on `parent`, down, without address generation, and gives its index.
/// Bridge mode, so that two service addresses with a virtual MAC each reach one another on one box.
///
/// # Errors
///
/// The kernel's; `EOPNOTSUPP` where it has no macvlan.
pub fn create_macvlan(socket: &mut Socket, parent: u32, name: &str, mac: Mac) -> io::Result<u32> {
    let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &InterfaceBody::default());
    request.text(libc::IFLA_IFNAME, name).attribute(libc::IFLA_ADDRESS, &mac);
    request.attribute(libc::IFLA_LINK, &parent.to_ne_bytes());
    let info = request.open(libc::IFLA_LINKINFO);
    request.text(libc::IFLA_INFO_KIND, "macvlan");
    let data = request.open(libc::IFLA_INFO_DATA);
    request.attribute(IFLA_MACVLAN_MODE, &MACVLAN_MODE_BRIDGE.to_ne_bytes());
    request.close(data).close(info);
    socket.change(&mut request)?;
    let index = find(socket, name)?.index;
    // The kernel ignores address families in the request that creates a link (rtnetlink.c), so a second one.
    let body = InterfaceBody { index: index.cast_signed(), ..InterfaceBody::default() };
    let mut request = Request::new(libc::RTM_SETLINK, 0, &body);
    let families = request.open(libc::IFLA_AF_SPEC);
    let inet6 = request.open(libc::AF_INET6 as u16);
    request.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
    request.close(inet6).close(families);
    match socket.change(&mut request) {
        // IPv6 is not there or switched off: then it makes no address either.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP)) => {}
        other => other?,
    }
    Ok(index)
}

/// Deletes an interface.
///
/// # Errors
///
/// The kernel's.
pub fn delete(socket: &mut Socket, index: u32) -> io::Result<()> {
    let body = InterfaceBody { index: index.cast_signed(), ..InterfaceBody::default() };
    socket.change(&mut Request::new(libc::RTM_DELLINK, 0, &body))
}

/// Deletes the macvlans of a former instance, and gives their number.
///
/// # Errors
///
/// The kernel's.
pub fn delete_leftovers(socket: &mut Socket) -> io::Result<usize> {
    let leftovers: Vec<_> =
        list(socket)?.into_iter().filter(|i| i.macvlan && i.name.starts_with(MACVLAN_PREFIX)).collect();
    for leftover in &leftovers {
        delete(socket, leftover.index)?;
    }
    Ok(leftovers.len())
}
