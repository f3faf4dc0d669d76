//! The heartbeat: one authenticated frame of fixed size, the same on every link.
//!
//! ```text
//! magic 2 | version | node | pair tag 8 | boot 8 | path, role, flags, 0 | path sequence 8 | content sequence 8 |
//! sent at 8 | lease, fence, interval, lag 4 each | served 8 | top 8 | vote term 8, candidate 8 |
//! echo boot 8, echo sent at 8 | reached, heard, stale trees, score 3, 0 0 | generation 16 | digest 8 | tag 16
//! ```
//!
//! All numbers are little endian. The tag is keyed BLAKE3 (github.com/BLAKE3-team/BLAKE3-specs), cut to 128 bits, over
//! everything before it. It stands at the end of a frame of any version, so "a version ahead of ours" is believed only
//! from somebody who has the key.

use super::pair::{BootId, Data, Generation, Role, Score, Side, Term};
use crate::time::{Duration, Instant};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a heartbeat on the wire.
pub const SIZE: usize = core::mem::size_of::<Layout>();
/// No frame of any version is longer: it has to fit a 115200 line a few times within a lease.
pub const MAX_SIZE: usize = 224;
const _: () = assert!(SIZE <= MAX_SIZE);

/// First two bytes of every frame.
pub const MAGIC: [u8; 2] = *b"2b";
/// Format version that this program speaks.
pub const VERSION: u8 = 1;
/// Bytes of the tag at the end of a frame.
pub const TAG_SIZE: usize = 16;
/// Shortest frame of any version: up to and with the pair tag, and the authentication tag.
const MIN_SIZE: usize = 12 + TAG_SIZE;
/// On the wire: no fence bound at all.
const FENCE_NONE: u32 = u32::MAX;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 2],
    version: u8,
    node: u8,
    pair: U64,
    boot: U64,
    path: u8,
    role: u8,
    flags: u8,
    reserved: u8,
    path_sequence: U64,
    content_sequence: U64,
    sent_at: U64,
    lease_us: U32,
    fence_us: U32,
    interval_us: U32,
    lag_s: U32,
    served: U64,
    top: U64,
    vote_term: U64,
    vote_candidate: U64,
    echo_boot: U64,
    echo_sent_at: U64,
    reached: u8,
    heard: u8,
    stale_trees: u8,
    score_services: u8,
    score_witnesses: u8,
    score_carriers: u8,
    reserved_2: [u8; 2],
    generation_term: U64,
    generation_boot: U64,
    digest: U64,
    tag: [u8; TAG_SIZE],
}

const FLAG_QUORUM: u8 = 1;
const FLAG_INTENT: u8 = 2;
const FLAG_ELIGIBLE: u8 = 4;
const FLAG_FAREWELL: u8 = 8;
const FLAGS: u8 = FLAG_QUORUM | FLAG_INTENT | FLAG_ELIGIBLE | FLAG_FAREWELL;

/// A vote: the voter will never serve `term` or less, and `candidate` may serve `term`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vote {
    /// The term voted for; of the candidate's parity.
    pub term: Term,
    /// The life of the node that the vote is for.
    pub candidate: BootId,
}

/// What the sender last heard from the other side, handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo {
    /// Whose frame is echoed.
    pub boot: BootId,
    /// `sent_at` of the newest frame heard, on the clock of its sender.
    pub sent_at: Instant,
}

/// One heartbeat as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    /// Sender.
    pub node: Side,
    /// Life of the sender.
    pub boot: BootId,
    /// The way this frame was sent: index of a path, the same on both boxes.
    pub path: u8,
    /// Counts the frames of this life on this path.
    pub path_sequence: u64,
    /// Counts all frames of this life: larger means newer content.
    pub content_sequence: u64,
    /// When it was sent, on the sender's clock.
    pub sent_at: Instant,
    /// What the sender is.
    pub role: Role,
    /// The sender sees a quorum of witnesses.
    pub quorum: bool,
    /// The sender has surrendered lately and is no candidate.
    pub intent: bool,
    /// The sender would serve if it were voted for.
    pub eligible: bool,
    /// The sender leaves in order and will not serve until it is in touch again.
    pub farewell: bool,
    /// The sender's lease length, at most 71 minutes.
    pub lease: Duration,
    /// The sender's fence bound; `None`: it cannot fence itself at all.
    pub fence: Option<Duration>,
    /// The shortest heartbeat interval of the sender.
    pub interval: Duration,
    /// Highest term that the sender has served.
    pub served: Term,
    /// Highest term that the sender has served, reserved on disk or voted.
    pub top: Term,
    /// Standing vote.
    pub vote: Option<Vote>,
    /// Newest thing heard.
    pub echo: Option<Echo>,
    /// Bit i: witness i answers the sender's ping.
    pub reached: u8,
    /// Bit i: the sender hears the receiver's heartbeats through witness i.
    pub heard: u8,
    /// How fit the sender is.
    pub score: Score,
    /// State of the sender's data.
    pub data: Data,
    /// Digest of the configuration that both boxes must share.
    pub digest: u64,
}

/// Why a frame was not believed. Each has a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reject {
    /// Shorter than any frame, or than its version says.
    Truncated = 0,
    /// Longer than its version says.
    Oversized = 1,
    /// Does not start like a heartbeat.
    NotOurs = 2,
    /// A heartbeat of another pair.
    ForeignPair = 3,
    /// Our pair's name, another key, or bits that changed on the way.
    BadTag = 4,
    /// Our own frame came back: a loop plug, or a hub that reflects.
    OwnFrame = 5,
    /// Another box that calls itself by our own name.
    SameNode = 6,
    /// Authentic, from a newer program.
    VersionAhead = 7,
    /// Authentic, but a field has no meaning: a bug of the sender.
    Malformed = 8,
    /// Authentic, but not newer than what came this way before: late, doubled or replayed.
    Replay = 9,
    /// Authentic, from a life of the peer that is not known (yet) to be its present one.
    UnknownBoot = 10,
}

impl Reject {
    /// All reasons, in the order of their counters.
    pub const ALL: [Reject; 11] = [
        Reject::Truncated,
        Reject::Oversized,
        Reject::NotOurs,
        Reject::ForeignPair,
        Reject::BadTag,
        Reject::OwnFrame,
        Reject::SameNode,
        Reject::VersionAhead,
        Reject::Malformed,
        Reject::Replay,
        Reject::UnknownBoot,
    ];

    /// The words used in status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Reject::Truncated => "truncated",
            Reject::Oversized => "oversized",
            Reject::NotOurs => "not a heartbeat",
            Reject::ForeignPair => "foreign pair",
            Reject::BadTag => "bad tag",
            Reject::OwnFrame => "own frame came back",
            Reject::SameNode => "another box with our name",
            Reject::VersionAhead => "newer version",
            Reject::Malformed => "malformed",
            Reject::Replay => "old or replayed",
            Reject::UnknownBoot => "unknown boot",
        }
    }
}

/// What seals and opens the frames of one box: who it is and the pair's key.
#[derive(Clone)]
pub struct Seal {
    /// Our own name.
    pub node: Side,
    /// Our present life.
    pub boot: BootId,
    /// Tag of the pair, derived from its name: tells pairs on one LAN apart before any cryptography.
    pub pair: u64,
    /// The pair's key.
    pub key: [u8; 32],
}

impl Seal {
    /// Seal for the pair called `pair_name`. The frame key is derived (BLAKE3 `derive_key`), so that the same secret may
    /// serve other purposes under other contexts.
    #[must_use]
    pub fn new(node: Side, boot: BootId, pair_name: &str, secret: &[u8; 32]) -> Seal {
        let name = blake3::hash(pair_name.as_bytes());
        let mut pair = [0u8; 8];
        pair.copy_from_slice(&name.as_bytes()[..8]);
        let key = blake3::derive_key("twobox 2026 heartbeat tag", secret);
        Seal { node, boot, pair: u64::from_le_bytes(pair), key }
    }

    fn tag(&self, bytes: &[u8]) -> [u8; TAG_SIZE] {
        let mut tag = [0u8; TAG_SIZE];
        tag.copy_from_slice(&blake3::keyed_hash(&self.key, bytes).as_bytes()[..TAG_SIZE]);
        tag
    }

    /// Writes `heartbeat` into `out` and returns the bytes to send.
    pub fn encode<'a>(&self, heartbeat: &Heartbeat, out: &'a mut [u8; SIZE]) -> &'a [u8] {
        let mut layout = layout(heartbeat);
        layout.pair = self.pair.into();
        out.copy_from_slice(layout.as_bytes());
        let (body, tag) = out.split_at_mut(SIZE - TAG_SIZE);
        tag.copy_from_slice(&self.tag(body));
        out
    }

    /// The heartbeat in `bytes`, which must be exactly one frame, or why it is not believed.
    ///
    /// # Errors
    /// The first reason found; the cheap checks come before the cryptography, so a flood of foreign frames costs little.
    pub fn decode(&self, bytes: &[u8]) -> Result<Heartbeat, Reject> {
        if bytes.len() < MIN_SIZE {
            return Err(Reject::Truncated);
        }
        if bytes.len() > MAX_SIZE {
            return Err(Reject::Oversized);
        }
        if bytes[..2] != MAGIC {
            return Err(Reject::NotOurs);
        }
        if bytes[4..12] != self.pair.to_le_bytes() {
            return Err(Reject::ForeignPair);
        }
        if bytes[2] <= VERSION && bytes.len() != SIZE {
            return Err(if bytes.len() < SIZE { Reject::Truncated } else { Reject::Oversized });
        }
        let (body, tag) = bytes.split_at(bytes.len() - TAG_SIZE);
        let tag: [u8; TAG_SIZE] = tag.try_into().map_err(|_| Reject::Truncated)?;
        // blake3's Hash compares in constant time; the cut tag is compared by folding, for the same reason.
        let expected = self.tag(body);
        if tag.iter().zip(expected).fold(0, |acc, (a, b)| acc | (a ^ b)) != 0 {
            return Err(Reject::BadTag);
        }
        if bytes[2] > VERSION {
            return Err(Reject::VersionAhead);
        }
        let layout = Layout::ref_from_bytes(bytes).map_err(|_| Reject::Malformed)?;
        let heartbeat = value(layout).ok_or(Reject::Malformed)?;
        if heartbeat.boot == self.boot {
            return Err(Reject::OwnFrame);
        }
        if heartbeat.node == self.node {
            return Err(Reject::SameNode);
        }
        Ok(heartbeat)
    }
}

/// Rounded up: a bound that the peer waits for may be told too long, never too short.
fn micros(d: Duration) -> u32 {
    u32::try_from(d.as_nanos().div_ceil(1000)).unwrap_or(FENCE_NONE - 1).min(FENCE_NONE - 1)
}

fn layout(h: &Heartbeat) -> Layout {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    Layout {
        magic: MAGIC,
        version: VERSION,
        node: h.node as u8,
        pair: 0.into(),
        boot: h.boot.get().into(),
        path: h.path,
        role: h.role as u8,
        flags: flag(h.quorum, FLAG_QUORUM)
            | flag(h.intent, FLAG_INTENT)
            | flag(h.eligible, FLAG_ELIGIBLE)
            | flag(h.farewell, FLAG_FAREWELL),
        reserved: 0,
        path_sequence: h.path_sequence.into(),
        content_sequence: h.content_sequence.into(),
        sent_at: h.sent_at.as_nanos().into(),
        lease_us: micros(h.lease).into(),
        fence_us: h.fence.map_or(FENCE_NONE, micros).into(),
        interval_us: micros(h.interval).into(),
        lag_s: h.data.lag_s.into(),
        served: h.served.into(),
        top: h.top.into(),
        vote_term: h.vote.map_or(0, |v| v.term).into(),
        vote_candidate: h.vote.map_or(0, |v| v.candidate.get()).into(),
        echo_boot: h.echo.map_or(0, |e| e.boot.get()).into(),
        echo_sent_at: h.echo.map_or(0, |e| e.sent_at.as_nanos()).into(),
        reached: h.reached,
        heard: h.heard,
        stale_trees: h.data.stale_trees,
        score_services: h.score.services,
        score_witnesses: h.score.witnesses,
        score_carriers: h.score.carriers,
        reserved_2: [0; 2],
        generation_term: h.data.generation.term.into(),
        generation_boot: h.data.generation.boot.into(),
        digest: h.digest.into(),
        tag: [0; TAG_SIZE],
    }
}

fn value(l: &Layout) -> Option<Heartbeat> {
    let node = match l.node {
        0 => Side::A,
        1 => Side::B,
        _ => return None,
    };
    // Newer versions are refused before this; there was none before the first.
    if l.version != VERSION || l.flags & !FLAGS != 0 || l.reserved != 0 || l.reserved_2 != [0; 2] {
        return None;
    }
    let vote = match (l.vote_term.get(), BootId::new(l.vote_candidate.get())) {
        (0, None) => None,
        (term, Some(candidate)) if term > 0 => Some(Vote { term, candidate }),
        _ => return None,
    };
    let echo = match (BootId::new(l.echo_boot.get()), l.echo_sent_at.get()) {
        (None, 0) => None,
        (Some(boot), ns) => Some(Echo { boot, sent_at: Instant::from_nanos(ns) }),
        _ => return None,
    };
    let served = l.served.get();
    let top = l.top.get();
    // Only a fence bound can be none.
    let endless = [l.lease_us.get(), l.interval_us.get()].contains(&FENCE_NONE);
    if served > top || l.lease_us.get() == 0 || endless {
        return None;
    }
    Some(Heartbeat {
        node,
        boot: BootId::new(l.boot.get())?,
        path: l.path,
        path_sequence: l.path_sequence.get(),
        content_sequence: l.content_sequence.get(),
        sent_at: Instant::from_nanos(l.sent_at.get()),
        role: Role::from_number(l.role)?,
        quorum: l.flags & FLAG_QUORUM != 0,
        intent: l.flags & FLAG_INTENT != 0,
        eligible: l.flags & FLAG_ELIGIBLE != 0,
        farewell: l.flags & FLAG_FAREWELL != 0,
        lease: Duration::from_micros(l.lease_us.get().into()),
        fence: (l.fence_us.get() != FENCE_NONE).then(|| Duration::from_micros(l.fence_us.get().into())),
        interval: Duration::from_micros(l.interval_us.get().into()),
        served,
        top,
        vote,
        echo,
        reached: l.reached,
        heard: l.heard,
        score: Score { services: l.score_services, witnesses: l.score_witnesses, carriers: l.score_carriers },
        data: Data {
            generation: Generation { term: l.generation_term.get(), boot: l.generation_boot.get() },
            lag_s: l.lag_s.get(),
            stale_trees: l.stale_trees,
        },
        digest: l.digest.get(),
    })
}
