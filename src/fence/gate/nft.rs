//! The second belt: nf_tables rules on netdev egress for raw senders, which may bypass the queueing layer and with it the
//! gate (PACKET_QDISC_BYPASS, packet(7)).
//!
//! nf_tables cannot compare with the boot clock, and runs before the gate for ordinary frames too. So the belt does not
//! know the right at all: it drops, always, a frame that claims a service address and was sent by a packet socket. Such a
//! frame has an owning socket of a program and no route; the kernel's own ARP has no socket, its Neighbour Discovery and
//! everything from UDP, TCP, ICMP or forwarding has a route. Our own announcements carry [`MARK`] (SO_MARK) and go through
//! the gate. Nothing has to be renewed, and it outlives the daemon. The price: other programs that send raw frames from
//! a service address (a DHCP server, `arping -s`) are not heard while the belt is on.
//!
//! Spoken over netlink, because an appliance has no `nft` program. Kernel: 5.16 for netdev egress, 5.17 and later also asks
//! it about bypassing frames; CONFIG_NETFILTER_EGRESS. Without it there is no belt, which is reported and no more.
//! Formats: Linux include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h.

use core::net::IpAddr;
use std::io;

use super::nfnetlink::{APPEND, CREATE, DUMP, Message, Socket, attributes, find};
use super::program::Guarded;

/// Socket mark of our own announcements ("2box").
pub const MARK: u32 = 0x3262_6f78;

const TABLE: &str = "twobox_gate";
const CHAIN: &str = "egress";
const FAMILY_NETDEV: u8 = 5;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const HOOK_EGRESS: u32 = 1;
const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;
const REGISTER: u32 = 1;
const META_MARK: u32 = 3;
const META_SOCKET_USER: u32 = 10;
const META_ROUTE_CLASS: u32 = 13;
const EQUAL: u32 = 0;

/// The tags in front of the type: none, one, two.
const TAGS: [&[u16]; 5] = [&[], &[0x8100], &[0x88a8], &[0x8100, 0x8100], &[0x88a8, 0x8100]];

/// A piece of a frame, counted from its first byte, and what it must be.
type Match = (u32, Vec<u8>);

/// The installed rules. They stay when this is dropped.
#[derive(Debug)]
pub struct Belt {
    interfaces: Vec<String>,
    rules: usize,
}

impl Belt {
    /// Installs the belt on the interfaces named, in place of a former one, in one transaction.
    ///
    /// # Errors
    /// The kernel's: EOPNOTSUPP, ENOENT or EPROTONOSUPPORT where it has no nf_tables or no egress hook.
    pub fn install(interfaces: &[&str], guarded: Guarded) -> io::Result<Belt> {
        let mut messages = vec![edge(BATCH_BEGIN)];
        // The first makes sure that there is something to delete.
        for kind in [NEW_TABLE, DELETE_TABLE, NEW_TABLE] {
            messages.push(table(kind));
        }
        messages.push(chain(interfaces));
        messages.push(rule(|e| {
            expression(e, "meta", |m| load_meta(m, META_ROUTE_CLASS));
            verdict(e, VERDICT_ACCEPT);
        }));
        messages.push(rule(|e| {
            expression(e, "meta", |m| load_meta(m, META_MARK));
            compare(e, &MARK.to_ne_bytes());
            verdict(e, VERDICT_ACCEPT);
        }));
        let matches = matches(guarded);
        let rules = matches.len() + 2;
        for parts in matches {
            messages.push(rule(|e| drop_raw(e, &parts)));
        }
        if let Some(last) = messages.last_mut() {
            last.acknowledged();
        }
        messages.push(edge(BATCH_END));
        Socket::open()?.batch(messages)?;
        Ok(Belt { interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(), rules })
    }

    /// All rules are there, on all of these interfaces, by the names that they have now. The kernel keeps the names that a
    /// belt was installed with, whoever has them by now, so one that was installed with others does not count.
    ///
    /// # Errors
    /// The kernel's.
    pub fn verify(&self, interfaces: &[&str]) -> io::Result<bool> {
        let mut hooked = hooked()?;
        hooked.sort();
        let mut interfaces = interfaces.to_vec();
        interfaces.sort_unstable();
        let mut named: Vec<&str> = self.interfaces.iter().map(String::as_str).collect();
        named.sort_unstable();
        Ok(named == interfaces && hooked == interfaces && read()?.len() == self.rules)
    }

    /// Frames that it dropped.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drops(&self) -> io::Result<u64> {
        Ok(read()?.iter().sum())
    }

    /// Takes the belt away.
    ///
    /// # Errors
    /// ENOENT if somebody else did already.
    pub fn remove(self) -> io::Result<()> {
        remove()
    }
}

/// Takes away the belt of whoever installed it in this network namespace.
///
/// # Errors
/// ENOENT if there is none.
pub fn remove() -> io::Result<()> {
    let mut delete = table(DELETE_TABLE);
    delete.acknowledged();
    Socket::open()?.batch(vec![edge(BATCH_BEGIN), delete, edge(BATCH_END)])
}

/// The frames that claim to come from something guarded, as pieces to compare.
fn matches(guarded: Guarded) -> Vec<Vec<Match>> {
    let mut all: Vec<Vec<Match>> = guarded.virtual_macs.iter().map(|mac| vec![(6, mac.to_vec())]).collect();
    for tags in TAGS {
        for address in guarded.addresses {
            let mut parts: Vec<Match> =
                (12..).step_by(4).zip(tags).map(|(at, tag)| (at, tag.to_be_bytes().to_vec())).collect();
            let kind = 12 + 4 * parts.len() as u32;
            let network = kind + 2;
            match address {
                IpAddr::V4(address) => {
                    let address = address.octets().to_vec();
                    let mut with = |more: Vec<Match>| all.push([parts.clone(), more].concat());
                    with(vec![(kind, vec![0x08, 0x00]), (network + 12, address.clone())]);
                    with(vec![(kind, vec![0x08, 0x06]), (network + 14, address)]);
                }
                IpAddr::V6(address) => {
                    let address = address.octets().to_vec();
                    parts.push((kind, vec![0x86, 0xdd]));
                    let mut with = |more: Vec<Match>| all.push([parts.clone(), more].concat());
                    with(vec![(network + 8, address.clone())]);
                    with(vec![(network + 6, vec![58]), (network + 40, vec![136]), (network + 48, address)]);
                }
            }
        }
    }
    all
}

fn edge(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0, &[0, 0, high, low])
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags, &[FAMILY_NETDEV, 0, 0, 0])
}

fn table(kind: u16) -> Message {
    let mut message = message(kind, if kind == NEW_TABLE { CREATE } else { 0 });
    message.text(1, TABLE);
    message
}

fn chain(interfaces: &[&str]) -> Message {
    let mut message = message(NEW_CHAIN, CREATE);
    message.text(1, TABLE).text(3, CHAIN);
    message.nest(4, |hook| {
        hook.attribute(1, &HOOK_EGRESS.to_be_bytes()).attribute(2, &0u32.to_be_bytes());
        hook.nest(4, |devices| {
            for interface in interfaces {
                devices.text(1, interface);
            }
        });
    });
    message.attribute(5, &VERDICT_ACCEPT.to_be_bytes()).text(7, "filter");
    message
}

fn rule(expressions: impl FnOnce(&mut Message)) -> Message {
    let mut message = message(NEW_RULE, CREATE | APPEND);
    message.text(1, TABLE).text(2, CHAIN).nest(4, expressions);
    message
}

fn drop_raw(e: &mut Message, parts: &[Match]) {
    for (offset, value) in parts {
        expression(e, "payload", |p| {
            p.attribute(1, &REGISTER.to_be_bytes()).attribute(2, &0u32.to_be_bytes()); // from the link-layer header
            p.attribute(3, &offset.to_be_bytes()).attribute(4, &(value.len() as u32).to_be_bytes());
        });
        compare(e, value);
    }
    // Ends the rule for a frame without a socket of a program.
    expression(e, "meta", |m| load_meta(m, META_SOCKET_USER));
    expression(e, "counter", |_| {});
    verdict(e, VERDICT_DROP);
}

fn expression(e: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    e.nest(1, |element| {
        element.text(1, name).nest(2, fill);
    });
}

fn load_meta(m: &mut Message, key: u32) {
    m.attribute(1, &REGISTER.to_be_bytes()).attribute(2, &key.to_be_bytes());
}

fn compare(e: &mut Message, value: &[u8]) {
    expression(e, "cmp", |c| {
        c.attribute(1, &REGISTER.to_be_bytes()).attribute(2, &EQUAL.to_be_bytes());
        c.nest(3, |data| {
            data.attribute(1, value);
        });
    });
}

fn verdict(e: &mut Message, code: u32) {
    expression(e, "immediate", |i| {
        i.attribute(1, &0u32.to_be_bytes()); // the verdict's register
        i.nest(2, |data| {
            data.nest(2, |verdict| {
                verdict.attribute(1, &code.to_be_bytes());
            });
        });
    });
}

/// What each rule of ours counted; zero for one without a counter.
fn read() -> io::Result<Vec<u64>> {
    let mut question = message(GET_RULE, DUMP);
    question.text(1, TABLE).text(2, CHAIN);
    let mut counted = Vec::new();
    let result = Socket::open()?.dump(question, |kind, body| {
        if kind == NEW_RULE {
            counted.push(body.get(4..).and_then(|rest| find(rest, 4)).and_then(packets).unwrap_or(0));
        }
    });
    match result {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(e) => Err(e),
        Ok(()) => Ok(counted),
    }
}

/// The interfaces on which the chain is.
fn hooked() -> io::Result<Vec<String>> {
    let mut question = message(GET_CHAIN, DUMP);
    question.text(1, TABLE);
    let mut names = Vec::new();
    Socket::open()?.dump(question, |kind, body| {
        let Some(chain) = body.get(4..).filter(|_| kind == NEW_CHAIN) else { return };
        let text =
            |of: &[u8], kind: u16| find(of, kind).map(|bytes| bytes.strip_suffix(&[0]).unwrap_or(bytes).to_vec());
        // A dump of chains is one of every table.
        if text(chain, 1).as_deref() == Some(TABLE.as_bytes())
            && let Some(devices) = find(chain, 4).and_then(|hook| find(hook, 4))
        {
            let name =
                |(_, name): (u16, &[u8])| String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
            names.extend(attributes(devices).map(name));
        }
    })?;
    Ok(names)
}

fn packets(expressions: &[u8]) -> Option<u64> {
    let counter = attributes(expressions).find(|(_, e)| find(e, 1) == Some(b"counter\0"))?.1;
    let packets = find(find(counter, 2)?, 2)?;
    Some(u64::from_be_bytes(packets.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_looked_for_behind_every_number_of_tags() {
        let addresses = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let all = matches(Guarded { addresses: &addresses, virtual_macs: &[[2, 0, 0, 0, 0, 1]] });
        assert_eq!(all.len(), 1 + TAGS.len() * 4);
        assert_eq!(all[1], [(12, vec![8, 0]), (26, vec![192, 0, 2, 7])]);
        let tagged_arp = vec![(12, vec![0x81, 0]), (16, vec![8, 6]), (32, vec![192, 0, 2, 7])];
        assert!(all.contains(&tagged_arp), "{all:?}");
    }
}
