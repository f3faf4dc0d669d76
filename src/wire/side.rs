//! The side channel: what does not fit a heartbeat, between beats, on the same links.
//!
//! ```text
//! magic 2 | version | node | pair 8 | sender's boot 8 | receiver's boot 8 | message 4 | kind | index | length 2 |
//! at most 172 bytes of the message | tag 16
//! ```
//!
//! All numbers are little endian; the tag is keyed BLAKE3 cut to 128 bits, as in a heartbeat, under a key of its own. A
//! fragment is no longer than a heartbeat, so it never delays one by more than a frame. It names the lives of both ends, so
//! one recorded in another life is refused; within a life messages of a kind are numbered and an older one is never taken
//! again, so a replayed fragment changes nothing.
//!
//! Of each kind one message is under way at a time; a newer one takes its place. Fragments are repeated until the other end
//! has acknowledged them. When and on which links a fragment is sent is the caller's affair.

use super::heartbeat::{Reject, TAG_SIZE};
use super::pair::{BootId, Side};
use crate::time::{Duration, Instant};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Longest fragment.
pub const FRAGMENT_MAX: usize = super::heartbeat::MAX_SIZE;
/// Longest message.
pub const MESSAGE_MAX: usize = 4096;
/// First two bytes of every fragment.
pub const MAGIC: [u8; 2] = *b"2s";
/// Format version that this program speaks.
pub const VERSION: u8 = 1;
/// Pause before the fragments that were not acknowledged are sent again.
pub const RETRY: Duration = Duration::from_millis(300);
/// A message of which nothing was acknowledged for so long is given up.
pub const GIVE_UP: Duration = Duration::from_secs(30);

const HEADER: usize = size_of::<Header>();
/// Bytes of the message in each fragment but the last.
const SHARE: usize = FRAGMENT_MAX - HEADER - TAG_SIZE;
const KINDS: usize = 5;
/// On the wire: not a message but an acknowledgement.
const ACKNOWLEDGEMENT: u8 = 0;
const _: () = assert!(MESSAGE_MAX.div_ceil(SHARE) <= 32, "fragments are counted in 32 bits");

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The operator's words to the peer.
    Words = 1,
    /// The answer to them.
    Answer = 2,
    /// Known clients ([`super::known_clients`]).
    Clients = 3,
    /// Figures of each mirrored tree.
    Figures = 4,
    /// How the service came to the sender, by its account.
    Handover = 5,
}

impl Kind {
    /// All kinds, the most urgent first.
    pub const ALL: [Kind; KINDS] = [Kind::Words, Kind::Answer, Kind::Handover, Kind::Clients, Kind::Figures];

    const fn from_number(n: u8) -> Option<Kind> {
        match n {
            1 => Some(Kind::Words),
            2 => Some(Kind::Answer),
            3 => Some(Kind::Clients),
            4 => Some(Kind::Figures),
            5 => Some(Kind::Handover),
            _ => None,
        }
    }

    const fn slot(self) -> usize {
        self as usize - 1
    }
}

/// Why a message was not taken for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Longer than [`MESSAGE_MAX`].
    TooLong,
    /// The peer's present life is not known.
    NoPeer,
}

/// A message that has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is about.
    pub kind: Kind,
    /// What it says.
    pub bytes: &'a [u8],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 2],
    version: u8,
    node: u8,
    pair: U64,
    sender: U64,
    receiver: U64,
    message: U32,
    kind: u8,
    index: u8,
    length: U16,
}

/// What an acknowledgement holds behind the header, whose `message` it acknowledges.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Acknowledged {
    kind: u8,
    fragments: U32,
}

#[derive(Clone, Debug, Default)]
struct Outgoing {
    /// Zero: none under way.
    message: u32,
    bytes: heapless::Vec<u8, MESSAGE_MAX>,
    /// Bit i: fragment i is not acknowledged.
    missing: u32,
    /// The next fragment of this pass.
    next: u32,
    /// When the next pass may begin.
    again_at: Instant,
    progress_at: Instant,
}

#[derive(Clone, Debug)]
struct Incoming {
    /// The newest message begun.
    message: u32,
    length: u16,
    bytes: [u8; MESSAGE_MAX],
    /// Bit i: fragment i is here.
    here: u32,
    /// To be acknowledged: message and fragments.
    owed: Option<(u32, u32)>,
}

/// One end of the channel. 33 KiB, all of them inside: make it once, at the start.
#[derive(Clone, Debug)]
pub struct Channel {
    node: Side,
    boot: BootId,
    pair: u64,
    key: [u8; 32],
    peer: Option<BootId>,
    last_message: u32,
    outgoing: [Outgoing; KINDS],
    incoming: [Incoming; KINDS],
    given_up: u32,
}

impl Channel {
    /// Our end, in our present life. `pair` is the tag of the pair that its heartbeats carry (`Seal::pair`); the key is
    /// derived from the pair's secret.
    #[must_use]
    pub fn new(node: Side, boot: BootId, pair: u64, secret: &[u8; 32]) -> Channel {
        let incoming = Incoming { message: 0, length: 0, bytes: [0; MESSAGE_MAX], here: 0, owed: None };
        Channel {
            node,
            boot,
            pair,
            key: blake3::derive_key("twobox 2026 side channel tag", secret),
            peer: None,
            last_message: 0,
            outgoing: core::array::from_fn(|_| Outgoing::default()),
            incoming: core::array::from_fn(|_| incoming.clone()),
            given_up: 0,
        }
    }

    /// The peer's present life, as the heartbeats prove it. Another one than before ends every message under way: it was
    /// meant for somebody who is gone.
    pub fn set_peer(&mut self, peer: Option<BootId>) {
        if self.peer == peer {
            return;
        }
        self.peer = peer;
        for outgoing in &mut self.outgoing {
            outgoing.message = 0;
        }
        for incoming in &mut self.incoming {
            (incoming.message, incoming.here, incoming.owed) = (0, 0, None);
        }
    }

    /// Takes `bytes` for sending, in place of what is under way of this kind.
    ///
    /// # Errors
    /// Why it is not taken; what is under way stays.
    pub fn offer(&mut self, now: Instant, kind: Kind, bytes: &[u8]) -> Result<(), Refused> {
        if self.peer.is_none() {
            return Err(Refused::NoPeer);
        }
        let bytes = heapless::Vec::from_slice(bytes).map_err(|_| Refused::TooLong)?;
        self.last_message += 1; // a message every microsecond for an hour
        let missing = all(fragments(bytes.len()));
        self.outgoing[kind.slot()] =
            Outgoing { message: self.last_message, bytes, missing, next: 0, again_at: now, progress_at: now };
        Ok(())
    }

    /// A message of this kind is under way and not yet acknowledged whole.
    #[must_use]
    pub fn pending(&self, kind: Kind) -> bool {
        self.outgoing[kind.slot()].message != 0
    }

    /// Messages given up so far, because the other end acknowledged nothing for [`GIVE_UP`].
    #[must_use]
    pub fn given_up(&self) -> u32 {
        self.given_up
    }

    /// Writes the next fragment to send at `now`, if there is one: acknowledgements first, then the most urgent message.
    pub fn next<'o>(&mut self, now: Instant, out: &'o mut [u8; FRAGMENT_MAX]) -> Option<&'o [u8]> {
        let peer = self.peer?;
        for kind in Kind::ALL {
            if let Some((message, here)) = self.incoming[kind.slot()].owed.take() {
                let payload = Acknowledged { kind: kind as u8, fragments: here.into() };
                let length = size_of::<Acknowledged>() as u16;
                return Some(self.write(peer, message, ACKNOWLEDGEMENT, 0, length, payload.as_bytes(), out));
            }
        }
        for kind in Kind::ALL {
            if let Some(index) = self.due(now, kind) {
                let outgoing = &self.outgoing[kind.slot()];
                let start = index * SHARE;
                let payload = &outgoing.bytes[start..outgoing.bytes.len().min(start + SHARE)];
                // A message is at most MESSAGE_MAX long and so has at most 32 fragments.
                let (index, length) = (index as u8, outgoing.bytes.len() as u16);
                return Some(self.write(peer, outgoing.message, kind as u8, index, length, payload, out));
            }
        }
        None
    }

    /// The fragment of `kind` to send now.
    fn due(&mut self, now: Instant, kind: Kind) -> Option<usize> {
        let outgoing = &mut self.outgoing[kind.slot()];
        if outgoing.message == 0 {
            return None;
        }
        if now.since(outgoing.progress_at) > GIVE_UP {
            outgoing.message = 0;
            self.given_up = self.given_up.saturating_add(1);
            return None;
        }
        if outgoing.next == 0 && now < outgoing.again_at {
            return None;
        }
        // Not empty: with the last fragment acknowledged the message is over.
        let left = outgoing.missing & u32::MAX << outgoing.next;
        let index = left.trailing_zeros().min(31);
        outgoing.next = index + 1;
        if left == 0 || outgoing.missing >> index == 1 {
            (outgoing.next, outgoing.again_at) = (0, now + RETRY);
        }
        (left != 0).then_some(index as usize)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a fragment, each used once")]
    fn write<'o>(
        &self,
        peer: BootId,
        message: u32,
        kind: u8,
        index: u8,
        length: u16,
        payload: &[u8],
        out: &'o mut [u8; FRAGMENT_MAX],
    ) -> &'o [u8] {
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            node: self.node as u8,
            pair: self.pair.into(),
            sender: self.boot.get().into(),
            receiver: peer.get().into(),
            message: message.into(),
            kind,
            index,
            length: length.into(),
        };
        let end = HEADER + payload.len();
        out[..HEADER].copy_from_slice(header.as_bytes());
        out[HEADER..end].copy_from_slice(payload);
        let tag = tag(&self.key, &out[..end]);
        out[end..end + TAG_SIZE].copy_from_slice(&tag);
        &out[..end + TAG_SIZE]
    }

    /// Takes one fragment that came at `now`; the message that it completes, if it does.
    ///
    /// # Errors
    /// Why the fragment is not believed. One that came twice is no error.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<Option<Message<'_>>, Reject> {
        let (header, payload) = self.open(bytes)?;
        let message = header.message.get();
        if header.kind == ACKNOWLEDGEMENT {
            let acknowledged = Acknowledged::ref_from_bytes(payload).map_err(|_| Reject::Malformed)?;
            let kind = Kind::from_number(acknowledged.kind).ok_or(Reject::Malformed)?;
            self.acknowledged(now, kind, message, acknowledged.fragments.get());
            return Ok(None);
        }
        let kind = Kind::from_number(header.kind).ok_or(Reject::Malformed)?;
        let (index, length) = (usize::from(header.index), usize::from(header.length.get()));
        let start = index * SHARE;
        if length > MESSAGE_MAX || index >= fragments(length) || payload.len() != (length - start).min(SHARE) {
            return Err(Reject::Malformed);
        }
        let incoming = &mut self.incoming[kind.slot()];
        if message < incoming.message {
            return Err(Reject::Replay);
        }
        if message > incoming.message {
            (incoming.message, incoming.length, incoming.here) = (message, header.length.get(), 0);
        }
        if incoming.length != header.length.get() {
            return Err(Reject::Malformed);
        }
        let whole = all(fragments(length));
        let was_whole = incoming.here == whole;
        incoming.here |= 1 << index;
        incoming.owed = Some((message, incoming.here));
        if was_whole {
            return Ok(None);
        }
        incoming.bytes[start..start + payload.len()].copy_from_slice(payload);
        Ok((incoming.here == whole).then_some(Message { kind, bytes: &incoming.bytes[..length] }))
    }

    /// Header and payload of a fragment that the peer's present life made for ours.
    fn open<'a>(&self, bytes: &'a [u8]) -> Result<(&'a Header, &'a [u8]), Reject> {
        if bytes.len() < HEADER + TAG_SIZE {
            return Err(Reject::Truncated);
        }
        if bytes.len() > FRAGMENT_MAX {
            return Err(Reject::Oversized);
        }
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| Reject::Truncated)?;
        if header.magic != MAGIC {
            return Err(Reject::NotOurs);
        }
        if header.pair.get() != self.pair {
            return Err(Reject::ForeignPair);
        }
        let (body, found) = bytes.split_at(bytes.len() - TAG_SIZE);
        // In constant time, as in a heartbeat.
        if found.iter().zip(tag(&self.key, body)).fold(0, |acc, (a, b)| acc | (a ^ b)) != 0 {
            return Err(Reject::BadTag);
        }
        if header.version != VERSION {
            return Err(Reject::VersionAhead);
        }
        if header.sender.get() == self.boot.get() {
            return Err(Reject::OwnFrame);
        }
        if header.node == self.node as u8 {
            return Err(Reject::SameNode);
        }
        if self.peer.is_none_or(|peer| peer.get() != header.sender.get()) {
            return Err(Reject::UnknownBoot);
        }
        if header.receiver.get() != self.boot.get() {
            return Err(Reject::Replay);
        }
        Ok((header, &body[HEADER..]))
    }

    fn acknowledged(&mut self, now: Instant, kind: Kind, message: u32, fragments: u32) {
        let outgoing = &mut self.outgoing[kind.slot()];
        if outgoing.message == 0 || outgoing.message != message {
            return;
        }
        if outgoing.missing & fragments != 0 {
            outgoing.progress_at = now;
        }
        outgoing.missing &= !fragments;
        if outgoing.missing == 0 {
            outgoing.message = 0;
        }
    }
}

fn tag(key: &[u8; 32], body: &[u8]) -> [u8; TAG_SIZE] {
    let mut tag = [0; TAG_SIZE];
    tag.copy_from_slice(&blake3::keyed_hash(key, body).as_bytes()[..TAG_SIZE]);
    tag
}

/// Number of fragments of a message; an empty one has one.
const fn fragments(length: usize) -> usize {
    if length == 0 { 1 } else { length.div_ceil(SHARE) }
}

/// A bit for each of `n` fragments, 1 to 32.
const fn all(n: usize) -> u32 {
    u32::MAX >> (32 - n)
}

#[cfg(test)]
mod tests;
