//! What stands behind the gate: the interface's root queueing discipline.
//!
//! A frame that has passed the gate may wait there and leave late. `noqueue` keeps nothing; the short ones keep frames only
//! while the card's own ring is full; a shaper keeps them on purpose.

use std::io;

use nix::sys::socket::SockProtocol;

use super::classifier::head;
use super::netlink::{DUMP, Message, Socket, find, number};

const NEW_QDISC: u16 = 36;
const GET_QDISC: u16 = 38;
const KIND: u16 = 1;
const STATS2: u16 = 7;
const STATS_QUEUE: u16 = 3;
const PARENT_ROOT: u32 = 0xffff_ffff;

/// The root discipline of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its kind, as tc(8) names it; empty if the kernel tells of none.
    pub kind: String,
    /// Frames in it now.
    pub frames: u32,
    /// Bytes in it now.
    pub bytes: u32,
}

impl Queue {
    /// Sends as fast as the card takes frames: nothing waits but for a full ring.
    #[must_use]
    pub fn keeps_nothing_on_purpose(&self) -> bool {
        const WORK_CONSERVING: [&str; 6] = ["noqueue", "pfifo", "bfifo", "pfifo_fast", "fq_codel", "mq"];
        WORK_CONSERVING.contains(&self.kind.as_str())
    }
}

/// The root discipline of interface `index`.
///
/// # Errors
/// Those of netlink.
pub fn root(index: u32) -> io::Result<Queue> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let mut queue = Queue { kind: String::new(), frames: 0, bytes: 0 };
    // The kernel gives those of all interfaces.
    socket.dump(Message::new(GET_QDISC, DUMP, &head(index, 0, 0, 0)), |kind, body| {
        if kind == NEW_QDISC
            && let Some(found) = read(body, index)
        {
            queue = found;
        }
    })?;
    Ok(queue)
}

fn read(body: &[u8], index: u32) -> Option<Queue> {
    let (found, parent) = (number(body.get(4..8)?)?, number(body.get(12..16)?)?);
    if found != index || parent != PARENT_ROOT {
        return None;
    }
    let rest = body.get(20..)?;
    let name = find(rest, KIND)?;
    let stats = find(rest, STATS2).and_then(|stats| find(stats, STATS_QUEUE));
    Some(Queue {
        kind: String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned(),
        frames: stats.and_then(number).unwrap_or(0),
        bytes: stats.and_then(|s| number(s.get(4..)?)).unwrap_or(0),
    })
}
