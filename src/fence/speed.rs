//! The speed of an interface's line, from the kernel's ethtool family (linux/ethtool_netlink.h).
//!
//! By the interface's index: by a name one may meet another card, after a renaming or where /sys shows another network namespace.
//! And not from /sys at all: before Linux 6.15 whoever reads a speed there while another has the lock of the network's configuration
//! tries again and again (`restart_syscall`), a real-time thread without end.

use std::io;

use crate::netlink::{self, Attributes, GenericBody, Request, Socket};

/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID and CTRL_ATTR_FAMILY_NAME (linux/genetlink.h).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// ETHTOOL_MSG_LINKMODES_GET, ETHTOOL_A_LINKMODES_HEADER, ETHTOOL_A_LINKMODES_SPEED.
const LINKMODES_GET: u8 = 4;
const LINKMODES_HEADER: u16 = 1;
const LINKMODES_SPEED: u16 = 5;
/// ETHTOOL_A_HEADER_DEV_INDEX, ETHTOOL_A_HEADER_FLAGS, ETHTOOL_FLAG_COMPACT_BITSETS.
const HEADER_INDEX: u16 = 1;
const HEADER_FLAGS: u16 = 3;
const COMPACT: u32 = 1;
/// NLA_F_NESTED (linux/netlink.h), which this family insists on.
const NESTED: u16 = 1 << 15;
/// SPEED_UNKNOWN (linux/ethtool.h).
const UNKNOWN: u32 = u32::MAX;

/// Whoever tells speeds.
pub struct Speeds {
    socket: Socket,
    /// The number that the kernel gave the family; `None` where it has none.
    family: Option<u16>,
}

impl Speeds {
    /// Looks for the family.
    ///
    /// # Errors
    ///
    /// The kernel's; that it does not have the family is none.
    pub fn open() -> io::Result<Speeds> {
        let mut socket = Socket::open_generic()?;
        let mut request = Request::new(CONTROL, 0, &GenericBody { command: GET_FAMILY, version: 1, reserved: 0 });
        request.text(FAMILY_NAME, "ethtool");
        let mut family = None;
        let asked = socket.get(&mut request, &mut family, |family, _, payload| {
            *family = number(payload, FAMILY_ID);
        });
        match asked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log::warn!(
                    "this kernel tells no speed of a line (CONFIG_ETHTOOL_NETLINK): where packets may wait, the gate bounds nothing"
                );
            }
            other => other?,
        }
        Ok(Speeds { socket, family })
    }

    /// Speed of interface `index` in Mbit/s. `None`: it has none, or tells none, as a card without a link.
    ///
    /// # Errors
    ///
    /// The kernel's, where it could not be asked.
    pub fn read(&mut self, index: u32) -> io::Result<Option<u32>> {
        let Some(family) = self.family else { return Ok(None) };
        let mut request = Request::new(family, 0, &GenericBody { command: LINKMODES_GET, version: 1, reserved: 0 });
        let header = request.open(LINKMODES_HEADER | NESTED);
        request.attribute(HEADER_INDEX, &index.to_ne_bytes()).attribute(HEADER_FLAGS, &COMPACT.to_ne_bytes());
        request.close(header);
        let mut speed = None;
        let asked = self.socket.get(&mut request, &mut speed, |speed, _, payload| {
            *speed = number(payload, LINKMODES_SPEED);
        });
        match asked {
            // No cable at all, as the loopback; gone; or its driver does not tell now.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENODEV | libc::EINVAL)) => Ok(None),
            other => other.map(|()| speed.filter(|&speed| speed != UNKNOWN)),
        }
    }
}

fn number<T: zerocopy::FromBytes>(payload: &[u8], kind: u16) -> Option<T> {
    let (_, attributes): (GenericBody, Attributes<'_>) = netlink::body(payload)?;
    netlink::attribute(attributes.get(kind))
}
