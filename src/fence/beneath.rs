//! The interfaces below an interface: a frame that has passed the gate of a bond, a bridge, or a VLAN waits once more, in the
//! queue of the card by which it leaves.

use std::io;

use crate::netlink::{self, Attributes, InterfaceBody, Request, Socket};

/// Kinds that hand their frames to one other interface, which IFLA_LINK names. (That of a veth is its other end.)
const ON_ONE: [&[u8]; 7] = [b"vlan\0", b"macvlan\0", b"macvtap\0", b"ipvlan\0", b"ipvtap\0", b"macsec\0", b"dsa\0"];
/// Kinds that send by themselves, or by what has them as master. A card has no kind. Of any other (a tunnel, a switch in software)
/// nobody knows here by which card its frames leave.
const BY_ITSELF: [&[u8]; 8] = [b"", b"veth\0", b"dummy\0", b"ifb\0", TO_A_PROGRAM, b"bridge\0", b"bond\0", b"team\0"];
/// A port of a virtual machine on this box: what waits in it does not wait for a cable.
const TO_A_PROGRAM: &[u8] = b"tun\0";
/// A card to whoever is in a namespace by himself. With a master it leads to a container of this box.
const CABLE: &[u8] = b"veth\0";
/// IFLA_LINK_NETNSID (linux/if_link.h): the other interface is in another network namespace.
const IFLA_LINK_NETNSID: u16 = 37;
/// Deeper is nothing that anybody builds.
const DEPTH: u8 = 8;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beneath {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// 1 for those right below.
    pub depth: u8,
}

struct Link {
    index: u32,
    name: String,
    /// What it hands its frames to; `None` within: that cannot be seen from here.
    on: Option<Option<u32>>,
    master: Option<u32>,
    is_port: bool,
    is_card: bool,
}

/// All interfaces below number `index`, in the order of their depth. `None`: not all of them can be seen from here. Allocates.
///
/// # Errors
///
/// The kernel's.
pub fn beneath(socket: &mut Socket, index: u32) -> io::Result<Option<Vec<Beneath>>> {
    Ok(below(&links(socket)?, index))
}

/// All interfaces by which a frame may leave besides those numbered `tops`: what is below them, as far as it can be seen from here,
/// and then every card of the box. Allocates.
///
/// # Errors
///
/// The kernel's.
pub fn others(socket: &mut Socket, tops: &[u32]) -> io::Result<Vec<u32>> {
    let links = links(socket)?;
    Ok(besides(&links, tops))
}

fn links(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    let mut request = Request::new(libc::RTM_GETLINK, 0, &InterfaceBody::default());
    socket.dump(&mut request, &mut links, Vec::clear, |links, kind, payload| {
        if kind == libc::RTM_NEWLINK {
            links.extend(read(payload));
        }
    })?;
    Ok(links)
}

fn besides(links: &[Link], tops: &[u32]) -> Vec<u32> {
    let below = tops.iter().filter_map(|top| below(links, *top)).flatten().map(|below| below.index);
    let cards = links.iter().filter(|link| link.is_card).map(|link| link.index);
    let mut all: Vec<u32> = Vec::new();
    for index in below.chain(cards) {
        if !tops.contains(&index) && !all.contains(&index) {
            all.push(index);
        }
    }
    all
}

fn read(payload: &[u8]) -> Option<Link> {
    let (body, attributes) = netlink::body::<InterfaceBody>(payload)?;
    let name = attributes.get(libc::IFLA_IFNAME)?;
    let name = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
    let info = Attributes::new(attributes.get(libc::IFLA_LINKINFO).unwrap_or(&[]));
    let kind = info.get(libc::IFLA_INFO_KIND).unwrap_or(&[]);
    let number = |kind: u16| netlink::attribute::<u32>(attributes.get(kind));
    let elsewhere = attributes.get(IFLA_LINK_NETNSID).is_some();
    let has_master = number(libc::IFLA_MASTER).is_some();
    Some(Link {
        index: u32::try_from(body.index).ok()?,
        name,
        on: on(kind, number(libc::IFLA_LINK).filter(|_| !elsewhere)),
        master: number(libc::IFLA_MASTER),
        is_port: kind != TO_A_PROGRAM,
        is_card: body.hardware == libc::ARPHRD_ETHER && (kind.is_empty() || (kind == CABLE && !has_master)),
    })
}

fn on(kind: &[u8], link: Option<u32>) -> Option<Option<u32>> {
    if BY_ITSELF.contains(&kind) {
        return None;
    }
    Some(link.filter(|_| ON_ONE.contains(&kind)))
}

fn below(links: &[Link], top: u32) -> Option<Vec<Beneath>> {
    let mut found: Vec<Beneath> = Vec::new();
    let mut level = vec![top];
    for depth in 1..=DEPTH {
        let mut next = Vec::new();
        for above in level {
            let on = links.iter().find(|link| link.index == above).and_then(|link| link.on);
            let on = match on {
                Some(None) => return None,
                Some(on) => on,
                None => None,
            };
            let is_below = |link: &&Link| on == Some(link.index) || (link.master == Some(above) && link.is_port);
            next.extend(links.iter().filter(is_below));
        }
        next.retain(|link| link.index != top && found.iter().all(|known| known.index != link.index));
        level = next.iter().map(|link| link.index).collect();
        found.extend(next.iter().map(|link| Beneath { index: link.index, name: link.name.clone(), depth }));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, on: Option<Option<u32>>, master: Option<u32>) -> Link {
        Link { index, name: format!("i{index}"), on, master, is_port: true, is_card: false }
    }

    fn found(links: &[Link], top: u32) -> Option<Vec<(u32, u8)>> {
        below(links, top).map(|all| all.iter().map(|one| (one.index, one.depth)).collect())
    }

    #[test]
    fn a_vlan_on_a_bond_of_two_cards_waits_in_the_queues_of_both() {
        let links = [
            link(1, Some(Some(2)), None),
            link(2, None, None),
            link(3, None, Some(2)),
            link(4, None, Some(2)),
            link(5, None, None),
        ];
        assert_eq!(found(&links, 1), Some(vec![(2, 1), (3, 2), (4, 2)]));
        assert_eq!(found(&links, 2), Some(vec![(3, 1), (4, 1)]));
        assert_eq!(found(&links, 3), Some(vec![]), "a card");
    }

    #[test]
    fn what_is_in_another_namespace_is_not_known_and_a_machines_port_does_not_count() {
        assert_eq!(found(&[link(1, Some(None), None)], 1), None);
        let port = Link { is_port: false, ..link(2, None, Some(1)) };
        assert_eq!(found(&[link(1, None, None), port], 1), Some(vec![]));
    }

    #[test]
    fn of_a_kind_that_is_not_known_nobody_knows_what_is_below() {
        for kind in ["", "veth\0", "bridge\0", "bond\0", "tun\0"] {
            assert_eq!(on(kind.as_bytes(), Some(7)), None, "{kind}");
        }
        assert_eq!(on(b"vlan\0", Some(7)), Some(Some(7)));
        assert_eq!(on(b"vlan\0", None), Some(None));
        for kind in ["vxlan\0", "geneve\0", "openvswitch\0", "batadv\0", "gretap\0", "vrf\0", "of tomorrow\0"] {
            assert_eq!(on(kind.as_bytes(), Some(7)), Some(None), "{kind}");
        }
        // Nor of a bridge that has such a port.
        let port = Link { master: Some(1), ..link(2, Some(None), None) };
        assert_eq!(found(&[link(1, None, None), port], 1), None);
    }

    #[test]
    fn a_frame_may_leave_by_what_is_below_and_by_every_card() {
        let card = |index| Link { is_card: true, ..link(index, None, None) };
        // A VLAN on a bond of two cards, and a third card; something in software; a tunnel, below which nobody sees.
        let links = [
            link(1, Some(Some(2)), None),
            link(2, None, None),
            Link { master: Some(2), ..card(3) },
            Link { master: Some(2), ..card(4) },
            card(5),
            link(6, None, None),
            link(7, Some(None), None),
        ];
        assert_eq!(besides(&links, &[1]), [2, 3, 4, 5]);
        assert_eq!(besides(&links, &[1, 2]), [3, 4, 5]);
        assert_eq!(besides(&links, &[5]), [3, 4]);
        assert_eq!(besides(&links, &[7]), [3, 4, 5]);
    }

    #[test]
    fn a_ring_ends() {
        let ring = [link(1, Some(Some(2)), None), link(2, Some(Some(1)), None)];
        assert_eq!(found(&ring, 1), Some(vec![(2, 1)]));
    }
}
