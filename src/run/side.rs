//! The side channel's pace: fragments only between beats, on a link where the peer is heard.

use super::links::Links;
use super::mailbox::Mailbox;
use crate::node::Node;
use crate::node::settings::{CROSSOVER, FIRST_REFLECTED, LAN, NULL_MODEM, PATHS};
use crate::takeover::Takeover;
use crate::time::{Duration, Instant};
use crate::wire::known_clients;
use crate::wire::pair::{self, BootId};
use crate::wire::side::{Channel, FRAGMENT_MAX, Kind, MESSAGE_MAX};

/// Pause between two fragments on the network: a flood of words must never be one of frames.
const PAUSE: Duration = Duration::from_millis(2);
/// Line time of a fragment and of a heartbeat at 115200, generously: a fragment starts this long after a beat, and ends
/// this long before the next.
const LINE_TIME: Duration = Duration::from_millis(30);
/// A path on which nothing was heard for this long, or for a lease if that is longer, carries no words.
const DEAF: Duration = Duration::from_millis(500);

/// The service address whose clients the boxes tell each other: the message does not say which interface they are on.
const TOLD: usize = 0;

/// A message to or from the peer, for the helper.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub kind: Kind,
    pub bytes: heapless::Vec<u8, MESSAGE_MAX>,
}

/// One way between the loop and the helper: a message is long, and few are under way.
pub(super) type Letters = Mailbox<Letter, 8>;

/// The channel and when it may speak again.
pub(super) struct Side {
    pub channel: Box<Channel>,
    next_at: Instant,
    turn: usize,
    /// The messages whose arrival is told that were under way in the last turn.
    under_way: [bool; 3],
}

impl Side {
    /// The channel is large, and goes from here to the heap: whoever calls has no room for it on a stack that stays locked.
    #[inline(never)]
    pub(super) fn new(node: pair::Side, boot: BootId, pair: u64, secret: &[u8; 32]) -> Self {
        Self {
            channel: Box::new(Channel::new(node, boot, pair, secret)),
            next_at: Instant::BOOT,
            turn: 0,
            under_way: [false; 3],
        }
    }

    /// Takes one fragment. What it completes is either ours (known clients) or the helper's.
    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8], takeover: &mut Takeover, helper: &Letters) {
        let message = match self.channel.receive(now, bytes) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(reason) => {
                log::debug!("side channel: {}", reason.name());
                return;
            }
        };
        if message.kind == Kind::Clients {
            for (ip, mac) in known_clients::decode(message.bytes).into_iter().flatten() {
                takeover.insert_client(TOLD, ip.into(), mac);
            }
            return;
        }
        let letter = Letter {
            kind: message.kind,
            bytes: heapless::Vec::from_slice(message.bytes).expect("a message is at most MESSAGE_MAX long"),
        };
        if helper.send(letter).is_err() {
            log::warn!("the helper's thread takes no more of the peer's words");
        }
    }

    /// Tells the peer whom we know on the LAN.
    pub(super) fn offer_clients(&mut self, now: Instant, takeover: &Takeover) {
        let v4 = takeover.clients(TOLD).filter_map(|client| match client.ip {
            std::net::IpAddr::V4(ip) => Some((ip, client.mac)),
            std::net::IpAddr::V6(_) => None,
        });
        let mut out = [0; MESSAGE_MAX];
        let bytes = known_clients::encode(v4, &mut out);
        if !bytes.is_empty() {
            let _ = self.channel.offer(now, Kind::Clients, bytes); // no peer yet: told in a few seconds
        }
    }

    /// Sends what is due, and says when to come again. `told` hears of each message of words or hand-overs that the
    /// peer has whole.
    pub(super) fn speak(
        &mut self,
        now: Instant,
        node: &Node,
        links: &mut Links,
        mut told: impl FnMut(Kind),
    ) -> Option<Instant> {
        for (under_way, kind) in self.under_way.iter_mut().zip([Kind::Words, Kind::Answer, Kind::Handover]) {
            let pending = self.channel.pending(kind);
            if std::mem::replace(under_way, pending) && !pending {
                told(kind);
            }
        }
        if now < self.next_at {
            return Some(self.next_at);
        }
        let path = self.path(now, node)?;
        if path == NULL_MODEM
            && let Some(at) = between_beats(now, links.last_serial_beat(), node)
        {
            return Some(at);
        }
        let mut out = [0; FRAGMENT_MAX];
        let Some(fragment) = self.channel.next(now, &mut out) else {
            // Whatever waits for its acknowledgement is looked at again soon.
            return Kind::ALL.iter().any(|kind| self.channel.pending(*kind)).then_some(now + PAUSE * 10);
        };
        links.send_bytes(path, fragment);
        self.next_at = now + if path == NULL_MODEM { LINE_TIME } else { PAUSE };
        Some(self.next_at)
    }

    /// The paths on which the peer is heard take turns; the null modem only when it is alone.
    fn path(&mut self, now: Instant, node: &Node) -> Option<u8> {
        let deaf = DEAF.max(node.settings().lease);
        let live = |path: u8| {
            node.paths()[usize::from(path)].heard_at.is_some_and(|at| now.since(at) <= deaf)
                && path < FIRST_REFLECTED + node.settings().witnesses
        };
        self.turn = self.turn.wrapping_add(1);
        let direct = [CROSSOVER, LAN];
        let start = self.turn % direct.len();
        let first = direct[start..].iter().chain(&direct[..start]).copied().find(|path| live(*path));
        let count = u8::try_from(PATHS).unwrap_or(FIRST_REFLECTED);
        first.or_else(|| live(NULL_MODEM).then_some(NULL_MODEM)).or_else(|| (FIRST_REFLECTED..count).find(|p| live(*p)))
    }
}

/// `None`: there is room on the line now; else when there will be.
fn between_beats(now: Instant, last_beat: Instant, node: &Node) -> Option<Instant> {
    let interval = node.settings().intervals[usize::from(NULL_MODEM)]?;
    let (from, until) = (last_beat + LINE_TIME, last_beat + interval - LINE_TIME);
    if now < from {
        Some(from)
    } else if now > until {
        Some(last_beat + interval + LINE_TIME)
    } else {
        None
    }
}
