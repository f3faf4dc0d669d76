//! The transmit queue behind the egress gate: what is in it now, and how long a packet can stay there.
//!
//! What passed the gate and waits in the interface's queueing discipline still leaves, whatever the clock says by then. So
//! before a vote the backlog is read as zero, and the gate's promise includes the longest stay.

use std::io;

use crate::netlink::{self, Attributes, QueueBody, Request, Socket};
use crate::time::Duration;

/// TC_H_ROOT (linux/pkt_sched.h).
const ROOT: u32 = u32::MAX;
/// TCA_KIND, TCA_OPTIONS, TCA_STATS2 (linux/rtnetlink.h), TCA_STATS_QUEUE (linux/gen_stats.h).
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
/// TCA_FQ_CODEL_MEMORY_LIMIT (linux/pkt_sched.h): bytes.
const TCA_FQ_CODEL_MEMORY_LIMIT: u16 = 9;

/// What one "packet" in a queue may hold: the kernel hands 64 KiB at once to a card that segments by itself.
const SEGMENT_MAX: u64 = 65_536;
/// What a card's own ring may hold besides: 1024 descriptors of one full frame each, with preamble and gap.
const RING_BYTES: u64 = 1024 * 1538;
/// Limit of [`shorten`]: enough for two of the largest segments; 2.1 ms at 1 Gbit/s.
const SHORT_BYTES: u32 = 256 * 1024;

/// The queueing disciplines of one interface, as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Kind of the root; empty if the interface has none (it is down).
    pub kind: heapless::String<15>,
    /// Packets waiting.
    pub packets: u32,
    /// Bytes waiting.
    pub bytes: u32,
    /// Most bytes that may wait; `None` if a kind among them delays on purpose or is not known here.
    pub capacity: Option<u64>,
}

/// `struct gnet_stats_queue` (linux/gen_stats.h), its first half.
#[derive(Clone, Copy, zerocopy::FromBytes)]
#[repr(C)]
struct QueueStatistics {
    packets: u32,
    bytes: u32,
}

impl Queue {
    /// Nothing waits.
    #[must_use]
    pub const fn drained(&self) -> bool {
        self.packets == 0 && self.bytes == 0
    }

    /// The longest time that a packet stays in the queue and the card's ring, at `megabits` per second. Zero for an interface
    /// without a queue (veth, bridge). `None`: not bounded, or the speed is not known. Ethernet pause frames are not
    /// reckoned with: switch them off on the LAN interface.
    #[must_use]
    pub fn longest_stay(&self, megabits: Option<u32>) -> Option<Duration> {
        if self.kind == "noqueue" {
            return Some(Duration::ZERO);
        }
        let bits = (self.capacity?.checked_add(RING_BYTES)?).checked_mul(8)?;
        let per_second = u64::from(megabits.filter(|&m| m > 0)?) * 1_000_000;
        Some(Duration::from_nanos(u64::try_from(u128::from(bits) * 1_000_000_000 / u128::from(per_second)).ok()?))
    }
}

/// Reads the queue of interface `index`; `transmit_queue_length` is the interface's own (for pfifo_fast).
///
/// # Errors
///
/// The kernel's: nothing is known then, and nothing counts as drained.
pub fn read(socket: &mut Socket, index: u32, transmit_queue_length: u32) -> io::Result<Queue> {
    let body = QueueBody { index: index.cast_signed(), ..QueueBody::default() };
    let fresh = || Queue { capacity: Some(0), ..Queue::default() };
    let mut queue = fresh();
    let mut request = Request::new(libc::RTM_GETQDISC, 0, &body);
    socket.dump(
        &mut request,
        &mut queue,
        |queue| *queue = fresh(),
        |queue, kind, payload| {
            if kind == libc::RTM_NEWQDISC
                && let Some((body, attributes)) = netlink::body::<QueueBody>(payload)
                && body.index == index.cast_signed()
            {
                queue.add(body.parent == ROOT, attributes, transmit_queue_length);
            }
        },
    )?;
    Ok(queue)
}

impl Queue {
    fn add(&mut self, root: bool, attributes: Attributes<'_>, transmit_queue_length: u32) {
        let kind = attributes.get(TCA_KIND).unwrap_or(&[]);
        let kind = core::str::from_utf8(kind.strip_suffix(&[0]).unwrap_or(kind)).unwrap_or("");
        if root {
            // The root's figures include those of its children.
            self.kind = heapless::String::try_from(kind).unwrap_or_default();
            let statistics = Attributes::new(attributes.get(TCA_STATS2).unwrap_or(&[]));
            if let Some(waiting) = netlink::attribute::<QueueStatistics>(statistics.get(TCA_STATS_QUEUE)) {
                (self.packets, self.bytes) = (waiting.packets, waiting.bytes);
            }
        }
        let more = capacity(kind, attributes.get(TCA_OPTIONS), transmit_queue_length);
        self.capacity = self.capacity.zip(more).and_then(|(sum, more)| sum.checked_add(more));
    }
}

/// Most bytes that one discipline itself may hold.
fn capacity(kind: &str, options: Option<&[u8]>, transmit_queue_length: u32) -> Option<u64> {
    let limit = || netlink::attribute::<u32>(options).map(u64::from);
    match kind {
        // Hang other disciplines below themselves, or none; an ingress hook holds nothing.
        "noqueue" | "mq" | "clsact" | "ingress" => Some(0),
        "pfifo" => limit()?.checked_mul(SEGMENT_MAX),
        "bfifo" => limit(),
        // Three bands of the interface's length each.
        "pfifo_fast" => Some(3 * u64::from(transmit_queue_length) * SEGMENT_MAX),
        "fq_codel" => {
            let nested = Attributes::new(options.unwrap_or(&[]));
            netlink::attribute::<u32>(nested.get(TCA_FQ_CODEL_MEMORY_LIMIT)).map(u64::from)
        }
        _ => None,
    }
}

/// Gives interface `index` a short root queue: first in first out, 256 KiB. For the LAN interface of a box of ours, where the
/// kernel's default would hold back a second's worth of packets behind the gate.
///
/// # Errors
///
/// The kernel's.
pub fn shorten(socket: &mut Socket, index: u32) -> io::Result<()> {
    let body = QueueBody { index: index.cast_signed(), parent: ROOT, ..QueueBody::default() };
    let mut request = Request::new(libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &body);
    request.text(TCA_KIND, "bfifo").attribute(TCA_OPTIONS, &SHORT_BYTES.to_ne_bytes());
    socket.change(&mut request)
}

/// Takes away what [`shorten`] gave: the kernel puts its default there.
///
/// # Errors
///
/// The kernel's.
pub fn restore(socket: &mut Socket, index: u32) -> io::Result<()> {
    let body = QueueBody { index: index.cast_signed(), parent: ROOT, ..QueueBody::default() };
    socket.change(&mut Request::new(libc::RTM_DELQDISC, 0, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(kind: &str, capacity: Option<u64>) -> Queue {
        Queue { kind: heapless::String::try_from(kind).unwrap(), capacity, ..Queue::default() }
    }

    #[test]
    fn the_longest_stay_is_what_fits_over_the_speed() {
        assert_eq!(queue("noqueue", Some(0)).longest_stay(None), Some(Duration::ZERO));
        let short = queue("bfifo", Some(u64::from(SHORT_BYTES)));
        assert_eq!(short.longest_stay(Some(1000)), Some(Duration::from_nanos(14_696_448)));
        assert_eq!(short.longest_stay(None), None);
        assert_eq!(short.longest_stay(Some(0)), None);
        assert_eq!(queue("tbf", None).longest_stay(Some(1000)), None);
    }

    #[test]
    fn capacities_are_known_for_what_does_not_delay_on_purpose() {
        let five = 5u32.to_ne_bytes();
        assert_eq!(capacity("pfifo", Some(&five), 1000), Some(5 * SEGMENT_MAX));
        assert_eq!(capacity("bfifo", Some(&five), 1000), Some(5));
        assert_eq!(capacity("pfifo", None, 1000), None);
        assert_eq!(capacity("pfifo_fast", None, 100), Some(300 * SEGMENT_MAX));
        assert_eq!(capacity("tbf", Some(&five), 1000), None);
        assert_eq!(capacity("netem", Some(&five), 1000), None);
        assert!(Queue::default().drained());
        assert!(!Queue { packets: 1, ..Queue::default() }.drained());
    }
}
